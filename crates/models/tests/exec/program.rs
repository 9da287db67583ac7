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
    let chat = mtor_models::files::chat(&dir).is_some();
    assert!(chat && mtor_models::files::embed(&dir).is_some(), "models missing: run `make models`");
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
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mtor-models"))
            .arg("--models")
            .arg(models_dir())
            .args(arguments)
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

    /// A program with only as much memory as small tests need.
    pub(crate) fn small() -> Self {
        Self::start(&["--chat-context", "1024"])
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

    pub(crate) fn revoke(&mut self, intent: &str) {
        self.send("revoke", &json!({"intent": intent, "attempt": 1}));
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

    /// The next event, whosever it is.
    pub(crate) fn next(&mut self) -> Value {
        let kept = self.kept.pop_front();
        kept.or_else(|| self.line(PATIENCE)).expect("no event in time")
    }

    /// Events that come within a time; for showing that none do.
    pub(crate) fn within(&mut self, time: Duration) -> Vec<Value> {
        let end = Instant::now() + time;
        let mut seen: Vec<Value> = self.kept.drain(..).collect();
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            seen.extend(self.line(left));
        }
        seen
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

    /// All events of one intent up to its end.
    pub(crate) fn answer(&mut self, intent: &str) -> Answer {
        self.answer_from(intent, 0)
    }

    /// As `answer`, when the first `seen` chunks were read already.
    pub(crate) fn answer_from(&mut self, intent: &str, seen: usize) -> Answer {
        let mut chunks = Vec::new();
        loop {
            let event = self.next_of(intent);
            let data = event["data"].clone();
            match event["type"].as_str().unwrap() {
                "mtor.worker.chunk.v1" => {
                    assert_eq!(data["seq"], seen + chunks.len(), "sequence numbers have no gap");
                    chunks.push(data);
                }
                "mtor.worker.complete.v1" => return Answer { chunks, end: data, failed: false },
                "mtor.worker.fail.v1" => return Answer { chunks, end: data, failed: true },
                other => panic!("unexpected {other}"),
            }
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
    pub(crate) chunks: Vec<Value>,
    pub(crate) end: Value,
    pub(crate) failed: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        let delta = |chunk: &Value| {
            chunk["piece"]["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
        };
        self.chunks.iter().map(delta).collect()
    }

    pub(crate) fn finish_reason(&self) -> &str {
        let reason = |chunk: &'_ Value| chunk["piece"]["choices"][0]["finish_reason"].is_string();
        let last = self.chunks.iter().find(|chunk| reason(chunk)).expect("a finish reason");
        last["piece"]["choices"][0]["finish_reason"].as_str().unwrap()
    }

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

pub(crate) fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}
