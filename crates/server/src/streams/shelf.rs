//! What has ended, in the order of the ends: in memory as a stream, or *packed* into one record on disk.
//!
//! Of what is packed a row stays in memory, and of any answer the same: its place, by its id. Rows leave
//! from the front, because time never goes back, or as the oldest of their holder. A row that is packed
//! holds its part of memory and disk for its holder, until it leaves.
//!
//! Knows no stream, no file and no bound.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mtor_core::share::{Holder, Whose};
use mtor_types::{IntentId, Time};

use super::Kept;
use super::spill::{Extents, Place};
use crate::holders::Holders;
use crate::shares::Portion;

/// What a row of something packed takes, about, with its part of the maps (measured over a million).
pub(super) const ROW_BYTES: u64 = 240;

pub(super) struct Shelf {
    kept: Kept,
    rows: BTreeMap<u64, Row>,
    packed: BTreeMap<IntentId, u64>,
    holders: Holders<Portions>,
    /// By holder, those that are not packed before those that are.
    of_holder: BTreeSet<(u32, bool, u64)>,
    /// Those that are not, in their turn to be; what has left stays in it until then.
    turns: VecDeque<u64>,
    next: u64,
}

pub(super) struct Row {
    pub(super) intent: IntentId,
    pub(super) at: Time,
    pub(super) packed: Option<Packed>,
    holder: u32,
}

#[derive(Clone)]
pub(super) struct Packed {
    pub(super) place: Place,
    /// Of answers that stand in more than one record.
    pub(super) more: Option<Arc<Extents>>,
}

/// Of what one holder has packed.
struct Portions {
    memory: Portion,
    disk: Portion,
}

impl Packed {
    fn bytes(&self) -> u64 {
        let more = self.more.as_ref().map_or(0, |more| more.bytes());
        u64::from(self.place.bytes) + more
    }
}

impl Shelf {
    pub(super) fn new(kept: Kept) -> Self {
        Self {
            kept,
            rows: BTreeMap::new(),
            packed: BTreeMap::new(),
            holders: Holders::default(),
            of_holder: BTreeSet::new(),
            turns: VecDeque::new(),
            next: 0,
        }
    }

    pub(super) fn ended(&mut self, at: Time, intent: IntentId, holder: Holder) {
        let kept = &self.kept;
        let none =
            || Portions { memory: kept.replay.keep(holder, 0), disk: kept.spill.keep(holder, 0) };
        let holder = self.holders.enter(holder, none);
        self.rows.insert(self.next, Row { intent, at, packed: None, holder });
        self.of_holder.insert((holder, false, self.next));
        self.turns.push_back(self.next);
        self.next += 1;
    }

    /// Packed ones.
    pub(super) fn packed_count(&self) -> usize {
        self.packed.len()
    }

    pub(super) fn find(&self, intent: IntentId) -> Option<(Packed, Holder)> {
        let row = self.rows.get(self.packed.get(&intent)?)?;
        Some((row.packed.clone()?, self.holders.holder(row.holder)?))
    }

    /// The next one that is not packed.
    pub(super) fn next_to_pack(&mut self) -> Option<(u64, IntentId)> {
        self.skip_left();
        let order = self.turns.pop_front()?;
        self.rows.get(&order).map(|row| (order, row.intent))
    }

    /// It cannot be packed just now.
    pub(super) fn later(&mut self, order: u64) {
        self.turns.push_back(order);
    }

    /// The oldest of a holder, or of its network, that are not packed.
    pub(super) fn to_pack_of(
        &self,
        holder: &Holder,
        whose: Whose,
        count: usize,
    ) -> Vec<(u64, IntentId)> {
        let Some((number, _)) = self.oldest_of(holder, whose, false) else { return Vec::new() };
        let orders = self.of_holder.range((number, false, 0)..(number, true, 0));
        let found = orders.filter_map(|(.., order)| Some((*order, self.rows.get(order)?.intent)));
        found.take(count).collect()
    }

    /// False if it has left meanwhile.
    pub(super) fn pack(&mut self, order: u64, packed: Packed) -> bool {
        let Some(row) = self.rows.get_mut(&order) else { return false };
        if let Some(portions) = self.holders.get(row.holder) {
            portions.memory.add(ROW_BYTES);
            portions.disk.add(packed.bytes());
        }
        row.packed = Some(packed);
        self.packed.insert(row.intent, order);
        self.of_holder.remove(&(row.holder, false, order));
        self.of_holder.insert((row.holder, true, order));
        true
    }

    /// Takes away the oldest, if it ended before `moment`.
    pub(super) fn pop(&mut self, is_due: impl FnOnce(Time) -> bool) -> Option<Row> {
        let order =
            self.rows.first_key_value().filter(|(_, row)| is_due(row.at)).map(|(at, _)| *at);
        self.remove(order?)
    }

    /// Takes away the oldest of a holder, or of its network, packed or not.
    pub(super) fn pop_of(&mut self, holder: &Holder, whose: Whose, packed: bool) -> Option<Row> {
        let (_, order) = self.oldest_of(holder, whose, packed)?;
        self.remove(order)
    }

    pub(super) fn remove(&mut self, order: u64) -> Option<Row> {
        let row = self.rows.remove(&order)?;
        self.of_holder.remove(&(row.holder, row.packed.is_some(), order));
        if let Some(packed) = &row.packed {
            self.packed.remove(&row.intent);
            if let Some(portions) = self.holders.get(row.holder) {
                portions.memory.shrink(ROW_BYTES);
                portions.disk.shrink(packed.bytes());
            }
        }
        self.holders.leave(row.holder);
        self.skip_left();
        Some(row)
    }

    /// Whose and which it is.
    fn oldest_of(&self, holder: &Holder, whose: Whose, packed: bool) -> Option<(u32, u64)> {
        let oldest = |number: u32| {
            let mut orders = self.of_holder.range((number, packed, 0)..=(number, packed, u64::MAX));
            orders.next().map(|(_, _, order)| (*order, number))
        };
        let found = match (whose, holder.network) {
            (Whose::Network, Some(network)) => {
                self.holders.of_network(network).filter_map(oldest).min()
            }
            (Whose::Account | Whose::Network | Whose::Everybody, _) => {
                self.holders.of_account(holder.account).filter_map(oldest).min()
            }
        };
        found.map(|(order, number)| (number, order))
    }

    fn skip_left(&mut self) {
        let is_here = |order: &u64| self.rows.get(order).is_some_and(|row| row.packed.is_none());
        while self.turns.front().is_some_and(|order| !is_here(order)) {
            self.turns.pop_front();
        }
    }
}
