//! What workers are called: for events that say who serves.

use std::sync::Arc;

use mtor_types::WorkerId;

#[derive(Debug, Default)]
pub struct Names {
    by_worker: papaya::HashMap<WorkerId, Arc<str>>,
}

impl Names {
    pub fn set(&self, worker: WorkerId, name: &str) {
        self.by_worker.pin().insert(worker, name.into());
    }

    pub fn forget(&self, worker: WorkerId) {
        self.by_worker.pin().remove(&worker);
    }

    /// Empty for a worker that was removed.
    pub fn of(&self, worker: WorkerId) -> Arc<str> {
        self.by_worker.pin().get(&worker).map_or_else(|| "".into(), Arc::clone)
    }
}
