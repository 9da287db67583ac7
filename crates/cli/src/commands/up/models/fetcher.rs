//! Brings one model's files, on a thread of its own: its sources are files, sockets and programs
//! that block.

use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::models::{self, Model, Progress, Sources, Stop};

/// Words that wait to be heard; of those of progress the newest may be lost.
const ARRIVALS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// So many bytes of what was missing.
    Received(u64),
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

/// Begins to fetch what is missing of `models` into `dir`.
pub(super) fn fetch(models: Vec<Model>, dir: PathBuf, source: Option<String>) -> Fetch {
    let (tx, arrivals) = mpsc::channel(ARRIVALS_MAX);
    let sources = Sources::new(source);
    let stop = sources.stop.clone();
    std::thread::spawn(move || {
        let mut whole = 0_u64;
        let done = models::bring(&models, &sources, &dir, &mut |progress| match progress {
            Progress::Received { bytes, .. } => {
                let _late = tx.try_send(Arrival::Received(whole.saturating_add(bytes)));
            }
            Progress::Placed { bytes, .. } => {
                whole = whole.saturating_add(bytes);
                let _late = tx.try_send(Arrival::Received(whole));
            }
            Progress::Refused { file, from, why } => {
                let _late =
                    tx.try_send(Arrival::Refused(format!("{file}: not from {from}: {why}")));
            }
            Progress::Present { .. }
            | Progress::Skipped { .. }
            | Progress::Waiting { .. }
            | Progress::Fetching { .. } => {}
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
