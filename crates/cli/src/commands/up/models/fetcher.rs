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
    /// So many bytes have come of what is missing.
    Received {
        bytes: u64,
        missing: u64,
    },
    /// Another process fetches a file; this one waits for it.
    Waiting,
    /// A source could not give a file; `matters` as in [`Progress::Refused`].
    Refused {
        why: String,
        matters: bool,
    },
    Done,
    Failed(String),
    /// It was stopped.
    BrokenOff,
}

impl Arrival {
    /// Nothing comes after it.
    pub(super) fn is_end(&self) -> bool {
        match self {
            Self::Received { .. } | Self::Waiting | Self::Refused { .. } => false,
            Self::Done | Self::Failed(_) | Self::BrokenOff => true,
        }
    }
}

/// A running fetch.
pub(super) struct Fetch {
    pub(super) arrivals: mpsc::Receiver<Arrival>,
    pub(super) stop: Stop,
}

/// What has come of what was missing: not what lay there before.
struct Come(BTreeMap<String, Part>);

/// Of one file that was not in place.
#[derive(Default)]
struct Part {
    /// What lay there before, as long as the fetch goes on from there.
    begun: u64,
    missing: u64,
    come: u64,
}

impl Come {
    fn new(begun: BTreeMap<String, (u64, u64)>) -> Self {
        let part =
            |(begun, of): (u64, u64)| Part { begun, missing: of.saturating_sub(begun), come: 0 };
        Self(begun.into_iter().map(|(file, of)| (file, part(of))).collect())
    }

    /// So many bytes of a file are here, those that lay there before among them.
    fn received(&mut self, file: &str, bytes: u64, of: u64) -> Arrival {
        let part = self.0.entry(file.to_owned()).or_default();
        if bytes < part.begun {
            // A source that cannot go on from there begins anew: all of it has to come.
            part.begun = 0;
        }
        part.missing = of.saturating_sub(part.begun);
        part.come = bytes.saturating_sub(part.begun);
        self.all()
    }

    /// It is in place now, whoever brought it. One that was so from the start is none of these.
    fn placed(&mut self, file: &str) -> Arrival {
        if let Some(part) = self.0.get_mut(file) {
            part.come = part.missing;
        }
        self.all()
    }

    fn all(&self) -> Arrival {
        let sum = |of: fn(&Part) -> u64| self.0.values().map(of).sum();
        Arrival::Received { bytes: sum(|part| part.come), missing: sum(|part| part.missing) }
    }
}

/// Begins to fetch what is missing of `models` into `dir`.
pub(super) fn fetch(models: Vec<Model>, dir: PathBuf, source: Option<String>) -> Fetch {
    let (tx, arrivals) = mpsc::channel(ARRIVALS_MAX);
    let sources = Sources::new(source);
    let stop = sources.stop.clone();
    std::thread::spawn(move || {
        let mut come = Come::new(models::begun(&dir, &models));
        let done = models::bring(&models, &sources, &dir, &mut |progress| {
            let arrival = match progress {
                Progress::Received { file, bytes, of } => come.received(&file, bytes, of),
                Progress::Placed { file, .. } | Progress::Present { file, .. } => {
                    come.placed(&file)
                }
                Progress::Waiting { .. } => Arrival::Waiting,
                Progress::Refused { file, from, why, matters } => {
                    Arrival::Refused { why: format!("{file}: not from {from}: {why}"), matters }
                }
                Progress::Skipped { .. } | Progress::Fetching { .. } => return,
            };
            let _late = tx.try_send(arrival);
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

    fn come(begun: &[(&str, u64, u64)]) -> Come {
        Come::new(begun.iter().map(|(file, had, of)| ((*file).into(), (*had, *of))).collect())
    }

    fn of(bytes: u64, missing: u64) -> Arrival {
        Arrival::Received { bytes, missing }
    }

    #[test]
    fn what_lay_there_before_has_not_come_now() {
        let mut come = come(&[("weights", 700, 1_000), ("words", 0, 50)]);
        assert_eq!(come.received("weights", 700, 1_000), of(0, 350));
        assert_eq!(come.received("weights", 900, 1_000), of(200, 350));
        assert_eq!(come.placed("weights"), of(300, 350));
        assert_eq!(come.received("words", 50, 50), of(350, 350));
    }

    #[test]
    fn what_begins_anew_is_missing_as_a_whole() {
        // A source without ranges.
        let mut resumed = come(&[("weights", 700, 1_000), ("words", 0, 50)]);
        assert_eq!(resumed.received("weights", 100, 1_000), of(100, 1_050));
        assert_eq!(resumed.received("weights", 800, 1_000), of(800, 1_050));
        assert_eq!(resumed.placed("weights"), of(1_000, 1_050));
        // What came were other bytes, and what is asked for next comes from the beginning.
        let mut wrong = come(&[("weights", 700, 1_000)]);
        assert_eq!(wrong.received("weights", 1_000, 1_000), of(300, 300));
        assert_eq!(wrong.received("weights", 10, 1_000), of(10, 1_000));
    }

    #[test]
    fn what_another_process_brought_has_come_and_what_was_here_has_not() {
        let mut come = come(&[("weights", 0, 1_000), ("words", 0, 50)]);
        assert_eq!(come.received("weights", 600, 1_000), of(600, 1_050));
        // It is present when the lock is free.
        assert_eq!(come.placed("weights"), of(1_000, 1_050));
        assert_eq!(come.placed("engine"), of(1_000, 1_050), "it was here all the time");
        assert_eq!(come.received("words", 10, 50), of(1_010, 1_050));
        // Of the right size at the start, and of other bytes.
        assert_eq!(come.received("engine", 5, 20), of(1_015, 1_070));
    }
}
