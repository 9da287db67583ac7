//! The snapshots' own thread, so that writing a large state does not hold up the log's syncs.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use mtor_store::{Snapshot, Snapshots};

use super::store_thread::OnSnapshot;

/// Starts the thread. It ends, its last snapshot written, once what is given second is dropped.
pub fn keep(snapshots: Snapshots) -> std::io::Result<(JoinHandle<()>, OnSnapshot)> {
    // One in hand and one waiting: a disk that takes longer holds up the log, not memory.
    let (to_keep, inbox) = sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("snapshots".into())
        .spawn(move || run(&snapshots, &inbox))?;
    let keep = Box::new(move |snapshot| {
        // Refused only by a thread that is gone: the next start reads more, nothing is lost.
        let _ = to_keep.send(snapshot);
    });
    Ok((thread, keep))
}

fn run(snapshots: &Snapshots, inbox: &Receiver<Snapshot>) {
    while let Ok(snapshot) = inbox.recv() {
        if let Err(error) = snapshots.save(&snapshot) {
            // The log is whole without it; the next start only reads more.
            tracing::warn!(error = &error as &dyn std::error::Error, "snapshot not saved");
        }
    }
}
