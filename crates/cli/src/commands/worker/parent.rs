//! What `mtor up` says to its worker, over standard input after the token's line: one JSON object a
//! line, each with all that is to be served beside what the worker was started with. Its end is the
//! worker's end.

use std::io::{BufRead, Read};
use std::path::PathBuf;

use mtor_worker::{Change, EngineOptions, ExecutorOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// One line: dozens of models.
const LINE_BYTES_MAX: u64 = 256 * 1024;
/// Changes that wait for the worker to have time for them.
const CHANGES_MAX: usize = 64;

/// A whole line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wishes {
    pub(crate) serve: Vec<Serve>,
}

/// One thing to serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Serve {
    /// A model file, as `--gguf` and `--engine` say it.
    Gguf { name: String, file: PathBuf, engine: PathBuf },
    /// A program, as `--exec` says it, and what it is called.
    Exec { name: String, program: PathBuf, args: Vec<String> },
}

/// What the worker's own arguments say of model files.
pub(super) struct Manner {
    pub(super) slots: u32,
    pub(super) threads: u32,
}

impl Serve {
    fn executor(self, manner: &Manner) -> ExecutorOptions {
        match self {
            Self::Gguf { name, file, engine } => {
                let &Manner { slots, threads } = manner;
                ExecutorOptions::Engine(EngineOptions { name, file, engine, slots, threads })
            }
            Self::Exec { name, program, args } => {
                ExecutorOptions::Exec { name: Some(name), program, args }
            }
        }
    }
}

/// Listens on a thread of its own: a task that reads standard input would keep the runtime from
/// ending.
pub(super) fn listen(manner: Manner) -> mpsc::Receiver<Change> {
    let (tx, changes) = mpsc::channel(CHANGES_MAX);
    std::thread::spawn(move || {
        let mut served = Served::default();
        let mut stdin = std::io::stdin().lock();
        while let Some(wishes) = next(&mut stdin) {
            let Some(wishes) = wishes else { continue };
            let changes = served.wish(wishes, &manner);
            if changes.into_iter().any(|change| tx.blocking_send(change).is_err()) {
                return;
            }
        }
    });
    changes
}

/// The next line, or `Some(None)` for one that is not understood; `None` at the end.
fn next(lines: &mut impl BufRead) -> Option<Option<Wishes>> {
    let mut line = String::new();
    let read = lines.take(LINE_BYTES_MAX).read_line(&mut line).ok()?;
    if read == 0 {
        return None;
    }
    let wishes = serde_json::from_str(&line);
    if wishes.is_err() {
        tracing::warn!(bytes = read, "a line of the realm that started this worker is no wish");
    }
    Some(wishes.ok())
}

/// What was asked for last, each thing with its number.
#[derive(Default)]
struct Served {
    things: Vec<(u64, Serve)>,
    numbered: u64,
}

impl Served {
    /// What has to change for it. What stays is not touched.
    fn wish(&mut self, wishes: Wishes, manner: &Manner) -> Vec<Change> {
        let mut changes = Vec::new();
        self.things.retain(|(key, thing)| {
            let stays = wishes.serve.contains(thing);
            if !stays {
                changes.push(Change::Remove { key: *key });
            }
            stays
        });
        for wish in wishes.serve {
            if self.things.iter().all(|(_, thing)| *thing != wish) {
                let key = self.numbered;
                self.numbered += 1;
                self.things.push((key, wish.clone()));
                changes.push(Change::Add { key, executor: wish.executor(manner) });
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gguf(name: &str) -> Serve {
        Serve::Gguf { name: name.into(), file: "f".into(), engine: "e".into() }
    }

    fn changes(served: &mut Served, serve: &[Serve]) -> Vec<(char, u64)> {
        let changes =
            served.wish(Wishes { serve: serve.to_vec() }, &Manner { slots: 1, threads: 1 });
        let short = |change| match change {
            Change::Add { key, .. } => ('+', key),
            Change::Remove { key } => ('-', key),
        };
        changes.into_iter().map(short).collect()
    }

    #[test]
    fn only_what_differs_changes() {
        let mut served = Served::default();
        let (one, two) = (gguf("one"), gguf("two"));
        assert_eq!(changes(&mut served, &[one.clone(), one.clone()]), [('+', 0)]);
        assert_eq!(changes(&mut served, &[two.clone(), one.clone()]), [('+', 1)]);
        assert_eq!(changes(&mut served, std::slice::from_ref(&two)), [('-', 0)]);
        assert_eq!(changes(&mut served, &[two, one]), [('+', 2)]);
    }

    #[test]
    fn lines_are_bounded_and_what_is_no_wish_is_passed_over() {
        let long = format!("{}\n", " ".repeat(300_000));
        let good = serde_json::to_string(&Wishes { serve: vec![gguf("m")] }).unwrap();
        let text = format!("nonsense\n{long}{good}\n");
        let mut lines = text.as_bytes();
        let mut said = Vec::new();
        while let Some(wishes) = next(&mut lines) {
            said.push(wishes.map_or(0, |wishes| wishes.serve.len()));
        }
        assert_eq!(said.iter().sum::<usize>(), 1, "{said:?}");
        assert_eq!(said.last(), Some(&1));
    }
}
