//! How often a service looked at one of many things. So what a command costs can be asserted on any
//! machine: see `node/tests/costs.rs`.

use std::cell::Cell;

#[derive(Clone, Debug, Default)]
pub struct Steps(Cell<u64>);

impl Steps {
    pub(crate) fn one(&self) {
        self.0.set(self.0.get().wrapping_add(1));
    }

    pub fn count(&self) -> u64 {
        self.0.get()
    }
}
