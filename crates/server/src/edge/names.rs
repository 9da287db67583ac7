//! What workers are called and whose they are: for events that say who serves, and for models that
//! bear their owner's name.
//!
//! Invariants: an owner is known here as long as one of its workers is enrolled, connected or not,
//! so that nobody is called by the name of one who is away.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use mtor_types::{AccountId, WorkerId, model};

/// Owners whose names begin alike that are told of: more than there will ever be.
const ALIKE_MAX: usize = 8;

#[derive(Debug, Default)]
pub struct Names {
    by_worker: papaya::HashMap<WorkerId, Arc<Known>>,
    /// By their ids as text, with how many workers each has.
    owners: RwLock<BTreeMap<String, (AccountId, u32)>>,
}

#[derive(Debug)]
struct Known {
    name: Arc<str>,
    owner: AccountId,
}

impl Names {
    pub fn set(&self, worker: WorkerId, name: &str, owner: AccountId) {
        let known = Arc::new(Known { name: name.into(), owner });
        // The newer one is counted first, so that an owner who stays is never missing.
        self.change(owner, |count| count.saturating_add(1));
        let before = self.by_worker.pin().insert(worker, known).map(|before| before.owner);
        if let Some(before) = before {
            self.change(before, |count| count.saturating_sub(1));
        }
    }

    pub fn forget(&self, worker: WorkerId) {
        let before = self.by_worker.pin().remove(&worker).map(|before| before.owner);
        if let Some(before) = before {
            self.change(before, |count| count.saturating_sub(1));
        }
    }

    /// Empty for a worker that was removed.
    pub fn of(&self, worker: WorkerId) -> Arc<str> {
        self.by_worker.pin().get(&worker).map_or_else(|| "".into(), |known| Arc::clone(&known.name))
    }

    /// Owners of workers whose ids begin so, in order.
    pub fn owners(&self, digits: &str) -> Vec<AccountId> {
        let owners = self.owners.read().unwrap_or_else(PoisonError::into_inner);
        let alike = owners.range(digits.to_owned()..);
        let alike = alike.take_while(|(id, _)| id.starts_with(digits)).take(ALIKE_MAX);
        alike.map(|(_, (owner, _))| *owner).collect()
    }

    /// As few digits of an owner's id as tell it from every other owner's, but never fewer than
    /// are usual.
    pub fn short(&self, owner: AccountId) -> String {
        let whole = owner.to_string();
        let lengths = model::OWNER_DIGITS_MIN..whole.len();
        let mut short = lengths.filter_map(|length| whole.get(..length));
        let is_alone = |digits: &&str| self.owners(digits).iter().all(|other| *other == owner);
        short.find(is_alone).map(str::to_owned).unwrap_or(whole)
    }

    /// A model as it is called here.
    pub fn owned(&self, name: &str, owner: AccountId) -> String {
        format!("{name}@{}", self.short(owner))
    }

    /// What clients read for a model of the queue's.
    pub fn shown(&self, kind: Option<&str>) -> Option<String> {
        let kind = kind?;
        let split = model::split_owner(kind);
        let owner = split.and_then(|(name, owner)| Some((name, owner.parse().ok()?)));
        Some(owner.map_or_else(|| kind.to_owned(), |(name, owner)| self.owned(name, owner)))
    }

    fn change(&self, owner: AccountId, change: impl Fn(u32) -> u32) {
        let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        let id = owner.to_string();
        let (_, count) = owners.entry(id.clone()).or_insert((owner, 0));
        *count = change(*count);
        if *count == 0 {
            owners.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ids of which eight digits are the same.
    fn alike() -> (AccountId, AccountId) {
        let mut other = [7; 32];
        other[31] = 8;
        let (one, other) = (AccountId([7; 32]), AccountId(other));
        assert_eq!(one.to_string().get(..8), other.to_string().get(..8));
        (one, other)
    }

    #[test]
    fn a_name_that_fits_two_owners_grows_until_it_fits_one() {
        let (names, (one, other)) = (Names::default(), alike());
        let worker = |number| WorkerId([number; 32]);
        names.set(worker(1), "a", one);
        assert_eq!(names.short(one).len(), 8);
        assert_eq!(names.owners(&names.short(one)), [one]);
        // Whoever comes later cannot be taken for the first, not even while that one is away.
        names.set(worker(2), "b", other);
        let (short, longer) = (names.short(one), names.short(other));
        assert!(short.len() > 8 && longer.len() > 8);
        assert_eq!((names.owners(&short), names.owners(&longer)), (vec![one], vec![other]));
        assert_eq!(names.owners(&short[..8]), [one, other]);
        let kind = model::owned("m", other);
        assert_eq!(names.shown(Some(&kind)), Some(format!("m@{longer}")));
        names.forget(worker(1));
        assert_eq!(names.owners(&short[..8]), [other]);
        assert_eq!(names.short(other).len(), 8);
        // Another owner's from now on.
        names.set(worker(2), "b", one);
        assert_eq!(names.owners(""), [one]);
        assert_eq!(names.shown(Some("m@q4_k_m")), Some("m@q4_k_m".to_owned()));
    }
}
