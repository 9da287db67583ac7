//! What lies between two nodes: it loses, repeats, reorders and delays.

use std::collections::BTreeMap;

use mtor_types::NodeId;

use crate::rng::Rng;

#[derive(Debug, Default)]
pub(crate) struct Network {
    /// One-way cuts, by how many faults hold them.
    cuts: BTreeMap<(NodeId, NodeId), u32>,
    lossy: u32,
    /// The storm is over: nothing is lost any more.
    calm: bool,
}

impl Network {
    /// When the copies of a message arrive, after these many milliseconds; none if it is lost.
    pub(crate) fn carry(&self, from: NodeId, to: NodeId, rng: &mut Rng) -> Vec<u64> {
        if self.cuts.contains_key(&(from, to)) {
            return Vec::new();
        }
        if self.calm {
            return vec![rng.between(1, 10)];
        }
        let loss = if self.lossy > 0 { 50 } else { 3 };
        if rng.per_cent(loss) {
            return Vec::new();
        }
        let copies = if rng.per_cent(4) { 2 } else { 1 };
        let mut delays = Vec::with_capacity(2);
        for _ in 0..copies {
            // A tail long enough to overtake and be overtaken by what is sent much later.
            let most = if rng.per_cent(3) { 2_000 } else { 25 };
            delays.push(rng.between(1, most));
        }
        delays
    }

    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        let cuts = self.cuts.entry((from, to)).or_default();
        *cuts = cuts.saturating_add(1);
    }

    pub(crate) fn mend(&mut self, from: NodeId, to: NodeId) {
        if let Some(cuts) = self.cuts.get_mut(&(from, to)) {
            *cuts = cuts.saturating_sub(1);
            if *cuts == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    pub(crate) fn lose_half(&mut self) {
        self.lossy = self.lossy.saturating_add(1);
    }

    pub(crate) fn lose_less(&mut self) {
        self.lossy = self.lossy.saturating_sub(1);
    }

    pub(crate) fn calm(&mut self) {
        *self = Self { calm: true, ..Self::default() };
    }
}
