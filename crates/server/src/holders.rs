//! Holders of many small things, each by a number: what is the same for all things of one holder stands
//! here once, as long as it has one.
//!
//! Knows no bound and not what the things are.

use std::collections::{BTreeMap, BTreeSet};

use mtor_core::share::{Holder, Rank};
use mtor_types::AccountId;
use mtor_types::fact::NetworkKey;

pub(crate) struct Holders<T> {
    slots: Vec<Option<Slot<T>>>,
    free: Vec<u32>,
    by_account: BTreeMap<Key, u32>,
    by_network: BTreeSet<(NetworkKey, u32)>,
}

struct Slot<T> {
    holder: Holder,
    things: u64,
    value: T,
}

type Key = (Option<AccountId>, Option<NetworkKey>, u8);

fn key(holder: &Holder) -> Key {
    let rank = match holder.rank {
        Rank::Guest => 0,
        Rank::Member => 1,
        Rank::Weighted => 2,
        Rank::Realm => 3,
    };
    (holder.account, holder.network, rank)
}

impl<T> Default for Holders<T> {
    fn default() -> Self {
        let (slots, free) = (Vec::new(), Vec::new());
        Self { slots, free, by_account: BTreeMap::new(), by_network: BTreeSet::new() }
    }
}

impl<T> Holders<T> {
    /// It has one thing more; `new` makes what it has as long as it has any.
    pub(crate) fn enter(&mut self, holder: Holder, new: impl FnOnce() -> T) -> u32 {
        let key = key(&holder);
        if let Some(&number) = self.by_account.get(&key) {
            if let Some(slot) = self.slot(number) {
                slot.things += 1;
            }
            return number;
        }
        let slot = Some(Slot { holder, things: 1, value: new() });
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.slots.get_mut(number as usize) {
            *place = slot;
        }
        self.by_account.insert(key, number);
        self.by_network.extend(holder.network.map(|network| (network, number)));
        number
    }

    /// It has one thing less.
    pub(crate) fn leave(&mut self, number: u32) {
        let Some(place) = self.slots.get_mut(number as usize) else { return };
        let Some(slot) = place else { return };
        slot.things -= 1;
        if slot.things > 0 {
            return;
        }
        let holder = slot.holder;
        *place = None;
        self.free.push(number);
        self.by_account.remove(&key(&holder));
        if let Some(network) = holder.network {
            self.by_network.remove(&(network, number));
        }
    }

    pub(crate) fn get(&mut self, number: u32) -> Option<&mut T> {
        self.slot(number).map(|slot| &mut slot.value)
    }

    pub(crate) fn holder(&self, number: u32) -> Option<Holder> {
        self.slots.get(number as usize)?.as_ref().map(|slot| slot.holder)
    }

    pub(crate) fn of_account(&self, account: Option<AccountId>) -> impl Iterator<Item = u32> {
        let from = (account, None, 0);
        let of = move |(key, _): &(&Key, &u32)| key.0 == account;
        self.by_account.range(from..).take_while(of).map(|(_, number)| *number)
    }

    pub(crate) fn of_network(&self, network: NetworkKey) -> impl Iterator<Item = u32> {
        self.by_network.range((network, 0)..=(network, u32::MAX)).map(|(_, number)| *number)
    }

    fn slot(&mut self, number: u32) -> Option<&mut Slot<T>> {
        self.slots.get_mut(number as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_there_as_long_as_it_has_something() {
        let mut holders = Holders::default();
        let [a, b] = [1, 2].map(|n| Some(AccountId([n; 32])));
        let [n, m] = [3, 4].map(|n| Some(NetworkKey([n; 16])));
        let holder = |account, network| Holder { account, network, rank: Rank::Guest };
        let mut enter = |account, network| holders.enter(holder(account, network), || 7);
        let (first, again) = (enter(a, n), enter(a, n));
        let (roaming, other) = (enter(a, m), enter(b, n));
        assert_eq!(first, again);
        assert_eq!(holders.of_account(a).collect::<Vec<_>>(), [first, roaming]);
        let network = NetworkKey([3; 16]);
        assert_eq!(holders.of_network(network).collect::<Vec<_>>(), [first, other]);
        holders.leave(first);
        assert_eq!(holders.holder(first), Some(holder(a, n)));
        assert_eq!(holders.get(first), Some(&mut 7));
        holders.leave(first);
        assert_eq!(holders.holder(first), None);
        assert_eq!(holders.get(first), None);
        assert_eq!(holders.of_network(network).collect::<Vec<_>>(), [other]);
        assert_eq!(holders.enter(holder(b, m), || 8), first, "its number is given again");
        assert_eq!(holders.slots.len(), 3);
    }
}
