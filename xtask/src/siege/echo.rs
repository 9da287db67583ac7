//! A program behind `mtor worker --exec` that echoes, with as many slots as it is told: the built-in
//! worker has always the same number of them.

use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::Error;

/// How soon a revoked one is noticed.
const LOOK_MS: u64 = 50;

type Revoked = Arc<Mutex<BTreeSet<String>>>;

pub(super) fn run(slots: u32) -> Result<(), Error> {
    say("offer", &json!({"offers": [{"intent": "echo", "slots": slots}]}))?;
    let revoked = Revoked::default();
    for line in std::io::stdin().lock().lines() {
        let mut event: Value = serde_json::from_str(&line?)?;
        let data = event["data"].take();
        match event["type"].as_str() {
            Some("mtor.worker.assign.v1") => assign(data, &revoked)?,
            Some("mtor.worker.revoke.v1") => {
                let id = data["intent"].as_str().unwrap_or_default().to_owned();
                revoked.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
            }
            _ => {}
        }
    }
    Ok(())
}

fn assign(mut assign: Value, revoked: &Revoked) -> Result<(), Error> {
    let data = assign["data"].take();
    let wish = |name: &str| data.get(name).and_then(Value::as_u64).unwrap_or_default();
    let (chunks, delay) = (wish("chunks"), wish("delayms"));
    if chunks == 0 && delay == 0 {
        return say("complete", &done(&assign, data));
    }
    let revoked = Arc::clone(revoked);
    std::thread::Builder::new().stack_size(128 * 1024).spawn(move || {
        let _ = slowly(&assign, data, (chunks, delay), &revoked);
    })?;
    Ok(())
}

fn slowly(
    assign: &Value,
    data: Value,
    (chunks, delay): (u64, u64),
    revoked: &Revoked,
) -> Result<(), Error> {
    let id = assign["intent"].as_str().unwrap_or_default();
    for seq in 0..chunks.max(1) {
        let mut left = delay;
        while left > 0 {
            let step = left.min(LOOK_MS);
            std::thread::sleep(Duration::from_millis(step));
            left -= step;
            if revoked.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
                return Ok(());
            }
        }
        if chunks > 0 && assign["stream"] == true {
            let (intent, attempt) = (&assign["intent"], &assign["attempt"]);
            let piece = json!({
                "intent": intent, "attempt": attempt, "seq": seq, "count": 1, "piece": data,
            });
            say("chunk", &piece)?;
        }
    }
    say("complete", &done(assign, data))
}

fn done(assign: &Value, data: Value) -> Value {
    json!({
        "intent": assign["intent"], "attempt": assign["attempt"],
        "usage": {"units": 1, "input": 0, "output": 0}, "result": data,
    })
}

fn say(kind: &str, data: &Value) -> Result<(), Error> {
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "/siege",
        "type": format!("mtor.worker.{kind}.v1"), "data": data,
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{event}")?;
    out.flush()?;
    Ok(())
}
