//! What one account and one network may hold of a bound of the realm.
//!
//! A bound alone lets whoever comes first take all of it. A [`Share`] goes with it: a taking is refused
//! by which an account would hold more than an eighth of what is then free, or its network more than a
//! quarter. So who is alone may hold a ninth, or a fifth; each further network finds four fifths of what
//! the one before it found, and against ten that take all they can a tenth of everything stays free. Of
//! the last sixteenth only who holds nothing takes anything, and only one small thing.
//!
//! Guests, who cost nothing to make, share one half by the same rule: what is free is then what is free
//! of that half. An account to which the sysop gave a weight leaves the last sixteenth alone and is bound
//! by nothing else; the realm's own account and the sysop by the capacity only. This machine's own
//! connections are of no network.
//!
//! Invariants: what is held is the sum of the parts that were not given back; an entry is gone at zero;
//! nothing here decides what becomes of what is refused. A command's cost grows with the logarithm of
//! the holders. What is held after a restart is told by [`Share::keep`], which refuses nothing: a smaller
//! capacity lets nobody take more, and takes nothing away.
//!
//! Absent on purpose: time, what is counted, and slots that run, which are the queue's.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use mtor_types::Rejection;
use mtor_types::fact::NetworkKey;
use mtor_types::id::AccountId;
use mtor_types::mutant;
pub use mtor_types::rejection::{Limited, Whose};

/// A share may be one part in so many of what is free and of what the holder has of it.
const ACCOUNT: u64 = 9;
const NETWORK: u64 = 5;
/// One part in so many is for those who hold nothing.
const LAST: u64 = 16;
/// One part in so many is the guests'.
const GUESTS: u64 = 2;

/// How an account stands to the realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    Guest,
    Member,
    /// The sysop gave it a weight.
    Weighted,
    /// The realm's own account, or the sysop.
    Realm,
}

/// Who takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// None before it is known.
    pub account: Option<AccountId>,
    /// None on this machine, and where accounts are branches of their own.
    pub network: Option<NetworkKey>,
    pub rank: Rank,
}

/// What is held of a bound, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// All there is, and what of it is a small thing: one, or so many bytes.
    capacity: u64,
    small: u64,
    all: Pot,
    guests: Pot,
    accounts: BTreeMap<AccountId, u64>,
}

/// The whole, or the guests' half of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pot {
    held: u64,
    networks: BTreeMap<NetworkKey, u64>,
}

/// So much, taken by somebody: to be given back. Cloned only together with its share.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "what is not given back is held for ever"]
pub struct Part {
    holder: Holder,
    size: u64,
}

impl Part {
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn holder(&self) -> &Holder {
        &self.holder
    }
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub whose: Whose,
    /// What is held by it, and what it may hold just now.
    pub held: u64,
    pub may: u64,
}

impl Refused {
    pub fn of(self, what: Limited) -> Rejection {
        let Self { whose, held, may } = self;
        Rejection::ShareUsed { what, whose, held, may }
    }
}

impl Share {
    /// Of `capacity` things or bytes, of which up to `small` are little enough for who holds nothing.
    pub fn new(capacity: u64, small: u64) -> Self {
        Self {
            capacity,
            small,
            all: Pot::default(),
            guests: Pot::default(),
            accounts: BTreeMap::new(),
        }
    }

    /// # Errors
    /// Whose share is used up, if that would be more than `holder` may have.
    pub fn take(&mut self, holder: Holder, size: u64) -> Result<Part, Refused> {
        self.check(&holder, size)?;
        Ok(self.keep(holder, size))
    }

    /// As much more for a part that is held.
    ///
    /// # Errors
    /// As [`Share::take`]; the part stays as it was.
    pub fn grow(&mut self, part: &mut Part, more: u64) -> Result<(), Refused> {
        self.check(&part.holder, more)?;
        self.add(part, more);
        Ok(())
    }

    /// Counts what is held already, whatever may be held: after a restart.
    pub fn keep(&mut self, holder: Holder, size: u64) -> Part {
        self.count(&holder, size, u64::saturating_add);
        Part { holder, size }
    }

    /// As much more for a part, whatever may be held.
    pub fn add(&mut self, part: &mut Part, more: u64) {
        let grown = self.keep(part.holder, more);
        part.size = part.size.saturating_add(grown.size);
    }

    pub fn give_back(&mut self, part: Part) {
        self.count(&part.holder, part.size, u64::saturating_sub);
    }

    /// Gives back some of a part.
    pub fn shrink(&mut self, part: &mut Part, less: u64) {
        let less = less.min(part.size);
        self.count(&part.holder, less, u64::saturating_sub);
        part.size = part.size.saturating_sub(less);
    }

    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    pub fn held(&self) -> u64 {
        self.all.held
    }

    /// The most that it could have of it, were there nobody else.
    pub fn most_of(&self, holder: &Holder) -> u64 {
        let part = |of: u64, parts: u64| of.checked_div(parts).unwrap_or_default();
        let parts = match (holder.account, holder.network) {
            (Some(_), _) => ACCOUNT,
            (None, Some(_)) => NETWORK,
            (None, None) => 1,
        };
        let most = match holder.rank {
            Rank::Guest => part(part(self.capacity, GUESTS), parts),
            Rank::Member => part(self.capacity, parts),
            Rank::Weighted => self.capacity.saturating_sub(part(self.capacity, LAST)),
            Rank::Realm => self.capacity,
        };
        most.max(self.small.min(self.capacity))
    }

    pub fn held_by(&self, account: AccountId) -> u64 {
        self.accounts.get(&account).copied().unwrap_or_default()
    }

    pub fn held_in(&self, network: NetworkKey) -> u64 {
        self.all.of(Some(network))
    }

    /// Accounts and networks that hold something.
    pub fn holders(&self) -> usize {
        self.accounts.len().saturating_add(self.all.networks.len())
    }

    /// Whether it may take so much now.
    ///
    /// # Errors
    /// As [`Share::take`].
    pub fn check(&self, holder: &Holder, size: u64) -> Result<(), Refused> {
        let half = self.capacity.checked_div(GUESTS).unwrap_or_default();
        let left = |capacity: u64, held: u64| capacity.saturating_sub(held);
        let kept = |capacity: u64| capacity.checked_div(LAST).unwrap_or_default();
        let whole = left(self.capacity, self.all.held);
        let whole_most = whole.saturating_sub(kept(self.capacity));
        let (pot, free, most) = match holder.rank {
            Rank::Guest => {
                let free = left(half, self.guests.held).min(whole);
                (&self.guests, free, free.saturating_sub(kept(half)).min(whole_most))
            }
            Rank::Member | Rank::Weighted | Rank::Realm => (&self.all, whole, whole_most),
        };
        let own = holder.account.map_or(0, |account| self.held_by(account));
        let network = pot.of(holder.network);
        // The first small thing of who holds nothing, as long as there is one.
        let known = holder.account.is_some() || holder.network.is_some();
        if known && own == 0 && network == 0 && size <= self.small && size <= free {
            return Ok(());
        }
        let refused = |whose, held, may| Err(Refused { whose, held, may });
        let within = |held: u64, part: u64| {
            let may = free.saturating_add(held).checked_div(part).unwrap_or_default();
            (held.saturating_add(size) > may).then_some(may)
        };
        match holder.rank {
            Rank::Guest | Rank::Member => {
                if holder.account.is_some()
                    && !mutant!("accounts-have-no-share")
                    && let Some(may) = within(own, ACCOUNT)
                {
                    return refused(Whose::Account, own, may);
                }
                if holder.network.is_some()
                    && !mutant!("networks-have-no-share")
                    && let Some(may) = within(network, NETWORK)
                {
                    return refused(Whose::Network, network, may);
                }
                if size > most {
                    return refused(Whose::Everybody, own, own.saturating_add(most));
                }
            }
            Rank::Weighted if size > most => {
                return refused(Whose::Everybody, own, own.saturating_add(most));
            }
            Rank::Realm if size > free => {
                return refused(Whose::Everybody, own, own.saturating_add(free));
            }
            Rank::Weighted | Rank::Realm => {}
        }
        Ok(())
    }

    fn count(&mut self, holder: &Holder, size: u64, by: fn(u64, u64) -> u64) {
        self.all.count(holder.network, size, by);
        if matches!(holder.rank, Rank::Guest) {
            self.guests.count(holder.network, size, by);
        }
        if let Some(account) = holder.account {
            changed(&mut self.accounts, account, size, by);
        }
    }

    /// O(holders): what must be true at any time.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn check_invariants(&self) -> Result<(), String> {
        let sum = |entries: Vec<u64>| entries.into_iter().fold(0, u64::saturating_add);
        for pot in [&self.all, &self.guests] {
            let networks = sum(pot.networks.values().copied().collect());
            if networks > pot.held {
                return Err("networks hold more than there is held".to_owned());
            }
        }
        if sum(self.accounts.values().copied().collect()) > self.all.held {
            return Err("accounts hold more than there is held".to_owned());
        }
        let networks = self.all.networks.values().chain(self.guests.networks.values());
        if self.accounts.values().chain(networks).any(|held| *held == 0) {
            return Err("an entry stays at zero".to_owned());
        }
        Ok(())
    }
}

impl Pot {
    fn of(&self, network: Option<NetworkKey>) -> u64 {
        network.and_then(|network| self.networks.get(&network).copied()).unwrap_or_default()
    }

    fn count(&mut self, network: Option<NetworkKey>, size: u64, by: fn(u64, u64) -> u64) {
        self.held = by(self.held, size);
        if let Some(network) = network {
            changed(&mut self.networks, network, size, by);
        }
    }
}

fn changed<K: Ord>(entries: &mut BTreeMap<K, u64>, key: K, size: u64, by: fn(u64, u64) -> u64) {
    use std::collections::btree_map::Entry;
    match entries.entry(key) {
        Entry::Vacant(entry) => {
            let held = by(0, size);
            if held > 0 {
                entry.insert(held);
            }
        }
        Entry::Occupied(mut entry) => match by(*entry.get(), size) {
            0 => drop(entry.remove()),
            held => *entry.get_mut() = held,
        },
    }
}
