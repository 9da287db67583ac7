//! Manifests that change while the realm runs.
//!
//! Open intents of one that was removed go on: what runs ends as it would have, and what waits ends
//! as work that no worker is left for. New ones are refused by name.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Edge;
use crate::manifests::{Folder, ManifestNews};

/// Between two looks. A file is taken at the second one that finds it as it was.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// News that wait to be read; more are left out, and stand in the log.
pub const NEWS_MAX: usize = 64;

impl Edge {
    /// Follows the folder until the realm stops.
    pub async fn follow_manifests(&self, mut folder: Folder, news: mpsc::Sender<ManifestNews>) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = self.stopping() => return,
            }
            let looked = tokio::task::spawn_blocking(move || {
                let found = folder.look();
                let problems = folder.problems();
                (folder, found, problems)
            });
            let Ok((back, (table, found), problems)) = looked.await else { return };
            folder = back;
            if **self.manifest_problems.load() != problems {
                self.manifest_problems.store(problems.into());
            }
            if let Some(table) = table {
                self.manifests.store(table.into());
                self.manifests_changed.send_replace(());
            }
            for one in found {
                log(&one);
                // Nobody may be there to read it.
                let _ = news.try_send(one);
            }
        }
    }
}

fn log(news: &ManifestNews) {
    match news {
        ManifestNews::Added { name, file } => tracing::info!(name, file, "manifest added"),
        ManifestNews::Changed { name, file } => tracing::info!(name, file, "manifest changed"),
        ManifestNews::Removed { name, file, built_in } => {
            tracing::info!(name, file, built_in, "manifest removed");
        }
        ManifestNews::Broken(broken) => {
            let (file, problem) = (&broken.file, &broken.problem);
            tracing::warn!(file, problem, keeps = broken.keeps, "manifest cannot be used");
        }
    }
}
