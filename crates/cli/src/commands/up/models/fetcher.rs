//! Brings one model's files, on a thread of its own: its sources are files, sockets and programs
//! that block.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::models::{self, Model, Progress, Sources, Stop};

/// Words that wait to be heard; of those of progress the newest may be lost.
const ARRIVALS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// So many bytes of what was missing.
    Received(u64),
    /// Another process fetches a file; this one waits for it.
    Waiting,
    /// A source could not give a file.
    Refused(String),
    Done,
    Failed(String),
    /// It was stopped.
    BrokenOff,
}

/// A running fetch.
pub(super) struct Fetch {
    pub(super) arrivals: mpsc::Receiver<Arrival>,
    pub(super) stop: Stop,
}

/// What has come of what was missing: not what lay there before.
struct Come {
    begun: BTreeMap<String, u64>,
    /// Of the files that are in place now.
    whole: u64,
}

impl Come {
    /// `bytes` of this file are here, those that lay there before among them.
    fn received(&mut self, file: &str, bytes: u64) -> u64 {
        let begun = self.begun.entry(file.to_owned()).or_default();
        // A source that cannot go on from there begins anew.
        *begun = bytes.min(*begun);
        self.whole.saturating_add(bytes.saturating_sub(*begun))
    }
}

/// Begins to fetch what is missing of `models` into `dir`.
pub(super) fn fetch(models: Vec<Model>, dir: PathBuf, source: Option<String>) -> Fetch {
    let (tx, arrivals) = mpsc::channel(ARRIVALS_MAX);
    let sources = Sources::new(source);
    let stop = sources.stop.clone();
    std::thread::spawn(move || {
        let mut come = Come { begun: models::begun(&dir, &models), whole: 0 };
        let done = models::bring(&models, &sources, &dir, &mut |progress| match progress {
            Progress::Received { file, bytes, .. } => {
                let _late = tx.try_send(Arrival::Received(come.received(&file, bytes)));
            }
            Progress::Placed { file, bytes } => {
                come.whole = come.received(&file, bytes);
                let _late = tx.try_send(Arrival::Received(come.whole));
            }
            Progress::Waiting { .. } => {
                let _late = tx.try_send(Arrival::Waiting);
            }
            Progress::Refused { file, from, why } => {
                let _late =
                    tx.try_send(Arrival::Refused(format!("{file}: not from {from}: {why}")));
            }
            Progress::Present { .. } | Progress::Skipped { .. } | Progress::Fetching { .. } => {}
        });
        let end = match done {
            Ok(()) => Arrival::Done,
            Err(_) if sources.stop.is_set() => Arrival::BrokenOff,
            Err(error) => Arrival::Failed(format!("{error:#}")),
        };
        // Nobody listens any more once the realm stops.
        let _gone = tx.blocking_send(end);
    });
    Fetch { arrivals, stop }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lay_there_before_has_not_come_now() {
        let begun = [("weights".into(), 700), ("words".into(), 0)].into();
        let mut come = Come { begun, whole: 0 };
        assert_eq!(come.received("weights", 700), 0);
        assert_eq!(come.received("weights", 900), 200);
        // It begins anew, and comes all.
        assert_eq!(come.received("weights", 100), 0);
        come.whole = come.received("weights", 1_000);
        assert_eq!(come.whole, 900);
        assert_eq!(come.received("words", 50), 950);
    }
}
