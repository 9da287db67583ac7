//! Drives the real binary over its pipes. A missing model fails the test: it never skips it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longer than any step takes on a busy machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

#[expect(clippy::disallowed_methods, reason = "tests have no cli that could pass it down")]
pub(crate) fn models_dir() -> PathBuf {
    let dir = std::env::var_os("MTOR_MODELS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.models"),
        PathBuf::from,
    );
    let (embed, transcribe) =
        (mtor_models::files::embed(&dir), mtor_models::files::transcribe(&dir));
    let all = embed.is_some() && transcribe.is_some() && mtor_models::files::speak(&dir).is_some();
    assert!(all, "models missing: run `make models`");
    dir
}

pub(crate) struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
    /// Read while waiting for another intent.
    kept: VecDeque<Value>,
    pub(crate) offers: Value,
}

fn pump(stream: impl Read + Send + 'static) -> Receiver<String> {
    // More lines than any test makes: the program is never held up by its test.
    let (tx, rx) = sync_channel(65_536);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            if tx.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    rx
}

impl Program {
    pub(crate) fn start() -> Self {
        Self::serving(&["embed", "transcribe"])
    }

    /// Kokoro speaks, however slow the machine is.
    pub(crate) fn serving(intents: &[&str]) -> Self {
        Self::spoken_by("kokoro-82m", intents)
    }

    pub(crate) fn spoken_by(speaker: &str, intents: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mtor-models"))
            .arg("--models")
            .arg(models_dir())
            .args(["--speaker", speaker])
            .args(intents.iter().flat_map(|intent| ["--serve", intent]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = pump(child.stdout.take().unwrap());
        let errors = pump(child.stderr.take().unwrap());
        let stdin = child.stdin.take();
        let kept = VecDeque::new();
        let mut program = Self { child, stdin, lines, errors, kept, offers: Value::Null };
        let first = program.line(PATIENCE).unwrap();
        assert_eq!(first["type"], "mtor.worker.offer.v1");
        program.offers = first["data"]["offers"].clone();
        program
    }

    pub(crate) fn raw(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).unwrap();
        stdin.write_all(b"\n").unwrap();
        stdin.flush().unwrap();
    }

    pub(crate) fn send(&mut self, kind: &str, data: &Value) {
        let event = json!({"specversion": "1.0", "id": "1", "source": "/agent", "time": "any",
            "type": format!("mtor.worker.{kind}.v1"), "data": data});
        self.raw(&event.to_string());
    }

    /// Assigns with defaults that `extra` may replace.
    pub(crate) fn assign(&mut self, intent: &str, name: &str, body: &Value, extra: &Value) {
        let mut data = json!({"intent": intent, "attempt": 1, "name": name, "model": null,
            "stream": true, "limit": null, "deadline_ms": 120_000, "data": body});
        for (field, value) in extra.as_object().into_iter().flatten() {
            data[field] = value.clone();
        }
        self.send("assign", &data);
    }

    fn line(&mut self, patience: Duration) -> Option<Value> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => {
                let event: Value = serde_json::from_str(&line).expect("stdout holds protocol only");
                assert_eq!(
                    (&event["specversion"], &event["source"]),
                    (&json!("1.0"), &json!("/exec"))
                );
                Some(event)
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the program ended"),
        }
    }

    /// The next event of one intent; others are kept.
    pub(crate) fn next_of(&mut self, intent: &str) -> Value {
        let of = |event: &Value| event["data"]["intent"] == intent;
        if let Some(at) = self.kept.iter().position(of) {
            return self.kept.remove(at).unwrap();
        }
        loop {
            let event = self.line(PATIENCE).expect("no event in time");
            if of(&event) {
                return event;
            }
            self.kept.push_back(event);
        }
    }

    /// The end of one intent.
    pub(crate) fn answer(&mut self, intent: &str) -> Answer {
        let event = self.next_of(intent);
        let end = event["data"].clone();
        match event["type"].as_str().unwrap() {
            "mtor.worker.complete.v1" => Answer { end, failed: false },
            "mtor.worker.fail.v1" => Answer { end, failed: true },
            other => panic!("unexpected {other}"),
        }
    }

    pub(crate) fn ask(&mut self, intent: &str, name: &str, body: &Value, extra: &Value) -> Answer {
        self.assign(intent, name, body, extra);
        self.answer(intent)
    }

    pub(crate) fn error_line(&mut self) -> String {
        self.errors.recv_timeout(PATIENCE).unwrap()
    }

    /// Closes stdin; gives the exit status and how long the end took.
    pub(crate) fn close(mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        drop(self.stdin.take());
        (self.child.wait().unwrap(), start.elapsed())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone is as good.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) end: Value,
    pub(crate) failed: bool,
}

impl Answer {
    pub(crate) fn usage(&self, name: &str) -> u64 {
        self.end["usage"][name].as_u64().unwrap()
    }

    pub(crate) fn code(&self) -> &str {
        assert!(self.failed, "did not fail: {:?}", self.end);
        self.end["code"].as_str().unwrap()
    }

    pub(crate) fn message(&self) -> &str {
        self.end["message"].as_str().unwrap()
    }
}
