//! Queued items: a FIFO per leaf and pool, linked through one slab, and an index by id.

use std::collections::BTreeMap;

use super::slab::{NIL, Slab};
use super::tree::Tree;
use super::{Item, ItemId};

/// Ticket of the first item of an empty leaf; leaves room for retries before it.
const FIRST_TICKET: u64 = 1 << 40;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) item: Item,
    pub(super) leaf: usize,
    pub(super) prev: usize,
    pub(super) next: usize,
    /// Rises along the FIFO; the difference to the head's bounds how many are ahead.
    pub(super) ticket: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Head,
    Tail,
}

#[derive(Clone, Debug)]
pub(super) struct Items {
    pub(super) slab: Slab<Entry>,
    pub(super) index: BTreeMap<ItemId, usize>,
}

impl Items {
    pub(super) fn new() -> Self {
        Self { slab: Slab::new(), index: BTreeMap::new() }
    }

    pub(super) fn get(&self, id: ItemId) -> Option<&Entry> {
        self.slab.get(*self.index.get(&id)?)
    }

    pub(super) fn link(&mut self, tree: &mut Tree, leaf: usize, item: Item, end: End) {
        let Some(seat) = tree.seats.get_mut(leaf) else { return };
        let neighbour = if end == End::Head { seat.head } else { seat.tail };
        let ticket = match (self.slab.get(neighbour), end) {
            (None, _) => FIRST_TICKET,
            (Some(e), End::Head) => e.ticket.saturating_sub(1),
            (Some(e), End::Tail) => e.ticket.saturating_add(1),
        };
        let (prev, next) = if end == End::Head { (NIL, seat.head) } else { (seat.tail, NIL) };
        let at = self.slab.insert(Entry { item, leaf, prev, next, ticket });
        self.index.insert(item.id, at);
        match self.slab.get_mut(neighbour) {
            Some(e) if end == End::Head => e.prev = at,
            Some(e) => e.next = at,
            None => (seat.head, seat.tail) = (at, at),
        }
        if end == End::Head {
            seat.head = at;
        } else {
            seat.tail = at;
        }
    }

    pub(super) fn unlink(&mut self, tree: &mut Tree, at: usize) -> Option<Entry> {
        let entry = self.slab.remove(at)?;
        self.index.remove(&entry.item.id);
        if let Some(prev) = self.slab.get_mut(entry.prev) {
            prev.next = entry.next;
        }
        if let Some(next) = self.slab.get_mut(entry.next) {
            next.prev = entry.prev;
        }
        if let Some(seat) = tree.seats.get_mut(entry.leaf) {
            if seat.head == at {
                seat.head = entry.next;
            }
            if seat.tail == at {
                seat.tail = entry.prev;
            }
        }
        Some(entry)
    }
}
