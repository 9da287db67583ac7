//! When those that were refused as hopeless may come back: each is told a time of its own, and who
//! keeps it finds room.
//!
//! A branch of the flow tree has at most one place in the line of its kind, which moves at a part of
//! the rate at which the kind serves. What more of the branch is refused comes after its own last
//! place, as far apart as its share of that part takes: so whoever asks again and again moves only its
//! own times, and a line is no longer than there are branches. Nobody is told another's place, and
//! nobody waits for those who do not come: a place is no slot, only the right to be judged by the wait
//! itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mtor_types::Time;

use super::safe_queue::FlowKey;
use crate::limits;

#[derive(Clone, Copy, Debug)]
struct Place {
    at: Time,
    bucket: u8,
    cost: u64,
}

#[derive(Debug, Default)]
pub(super) struct Returns {
    /// When the next place in line is.
    line: Time,
    places: BTreeMap<FlowKey, VecDeque<Place>>,
    /// Whose last place is when.
    last: BTreeSet<(Time, FlowKey)>,
    count: usize,
}

/// What is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub(super) branch: FlowKey,
    pub(super) bucket: u8,
    pub(super) cost: u64,
    /// Not before its own flow has got through what it has queued.
    pub(super) first: Time,
    /// What the kind's slots, and the flow's share of them, take for it.
    pub(super) line_ms: u64,
    pub(super) share_ms: u64,
    /// Of the intent's own.
    pub(super) random: u64,
}

impl Returns {
    const FORGOTTEN_AT_ONCE: usize = 4;
    /// Places of a branch that one request looks at.
    const LOOKS: usize = 32;

    /// Gives out a place, and says when it is.
    pub(super) fn book(&mut self, now: Time, refused: &Refused) -> Time {
        self.forget(now);
        let own = self.places.get(&refused.branch).and_then(|places| places.back()).copied();
        let line = self.line.max(now).after_ms(refused.line_ms);
        let (from, spread) = match own {
            Some(last) => {
                (refused.first.max(last.at.after_ms(refused.share_ms)), refused.share_ms / 4)
            }
            None => {
                let from = refused.first.max(line);
                (from, from.since_ms(now) / 16)
            }
        };
        let at = from.after_ms(refused.random.checked_rem(spread.max(1)).unwrap_or(0));
        let most = now.after_ms(limits::RETURN_MAX_MS);
        let held = self.places.get(&refused.branch).map_or(0, VecDeque::len);
        let full = self.count >= limits::RETURNS_MAX || held >= limits::RETURNS_PER_BRANCH_MAX;
        if at > most || full {
            let spread = refused.random.checked_rem((limits::RETURN_MAX_MS / 4).max(1));
            return at.min(now.after_ms(limits::RETURN_MAX_MS.saturating_sub(spread.unwrap_or(0))));
        }
        // Only a place that is given out moves the line.
        if own.is_none() {
            self.line = line;
        }
        if let Some(last) = own {
            self.last.remove(&(last.at, refused.branch));
        }
        self.last.insert((at, refused.branch));
        let Refused { branch, bucket, cost, .. } = *refused;
        self.places.entry(branch).or_default().push_back(Place { at, bucket, cost });
        self.count = self.count.saturating_add(1);
        at
    }

    /// Whether work of this branch and size has a place now; it is used up.
    pub(super) fn take(&mut self, now: Time, branch: FlowKey, bucket: u8) -> bool {
        self.forget_of(now, branch);
        let soon = now.after_ms(limits::RETURN_EARLY_MS);
        let Some(places) = self.places.get_mut(&branch) else { return false };
        let due = places.iter().take(Self::LOOKS).take_while(|place| place.at <= soon);
        let Some(index) = due.map(|place| place.bucket).position(|of| of == bucket) else {
            return false;
        };
        let last = places.back().map(|place| place.at);
        places.remove(index);
        self.count = self.count.saturating_sub(1);
        self.moved(branch, last);
        true
    }

    /// Work of this branch that comes back before then, as far as it is looked at.
    pub(super) fn before(&self, branch: FlowKey, until: Time) -> u64 {
        let places = self.places.get(&branch).into_iter().flatten().take(Self::LOOKS);
        let due = places.take_while(|place| place.at <= until);
        due.fold(0, |sum, place| sum.saturating_add(place.cost))
    }

    /// The last place of a branch may have changed.
    fn moved(&mut self, branch: FlowKey, before: Option<Time>) {
        let after = self.places.get(&branch).and_then(|places| places.back()).map(|place| place.at);
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.last.remove(&(before, branch));
        }
        match after {
            Some(after) => {
                self.last.insert((after, branch));
            }
            None => {
                self.places.remove(&branch);
            }
        }
    }

    /// Forgets places of a branch that nobody came for.
    fn forget_of(&mut self, now: Time, branch: FlowKey) {
        let Some(places) = self.places.get_mut(&branch) else { return };
        let last = places.back().map(|place| place.at);
        for _ in 0..Self::LOOKS {
            let over = |place: &Place| place.at.after_ms(limits::RETURN_LATE_MS) < now;
            if !places.front().is_some_and(over) {
                break;
            }
            places.pop_front();
            self.count = self.count.saturating_sub(1);
        }
        self.moved(branch, last);
    }

    fn forget(&mut self, now: Time) {
        for _ in 0..Self::FORGOTTEN_AT_ONCE {
            let Some((at, branch)) = self.last.first().copied() else { return };
            if at.after_ms(limits::RETURN_LATE_MS) >= now {
                return;
            }
            self.forget_of(now, branch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: FlowKey = FlowKey([1; 16]);
    const B: FlowKey = FlowKey([2; 16]);

    fn refused(branch: FlowKey) -> Refused {
        let first = Time(5_000);
        Refused { branch, bucket: 7, cost: 100, first, line_ms: 50, share_ms: 1_000, random: 0 }
    }

    #[test]
    fn who_asks_again_and_again_moves_only_its_own_times() {
        let mut returns = Returns::default();
        let own: Vec<u64> = (0..100).map(|_| returns.book(Time(0), &refused(A)).0).collect();
        assert_eq!((own[0], own[1], own[99]), (5_000, 6_000, 104_000));
        assert_eq!(returns.book(Time(0), &refused(B)), Time(5_000));
    }

    #[test]
    fn who_is_told_no_place_moves_nobodys_time() {
        let mut returns = Returns::default();
        let mut far = refused(A);
        far.first = Time(limits::RETURN_MAX_MS * 2);
        for _ in 0..10_000 {
            returns.book(Time(0), &far);
        }
        assert_eq!((returns.count, returns.book(Time(0), &refused(B))), (0, Time(5_000)));
    }

    #[test]
    fn branches_come_one_after_the_other() {
        let mut returns = Returns::default();
        let branches = (0..200).map(|n| FlowKey([n; 16]));
        let times: Vec<Time> =
            branches.map(|branch| returns.book(Time(0), &refused(branch))).collect();
        assert_eq!((times[0], times[99], times[199]), (Time(5_000), Time(5_000), Time(10_000)));
    }

    #[test]
    fn a_place_is_for_its_time_its_branch_and_its_size_and_once() {
        let mut returns = Returns::default();
        let at = returns.book(Time(0), &refused(A));
        assert!(!returns.take(Time(at.0 - 1_000), A, 7));
        assert!(!returns.take(at, B, 7) && !returns.take(at, A, 8));
        assert_eq!((returns.before(A, at), returns.before(B, at)), (100, 0));
        assert!(returns.take(at, A, 7));
        assert!(!returns.take(at, A, 7));
        assert!(returns.places.is_empty() && returns.last.is_empty() && returns.count == 0);
    }

    #[test]
    fn places_that_nobody_came_for_are_forgotten() {
        let mut returns = Returns::default();
        for n in 0..2_000 {
            returns.book(Time(n), &refused(if n % 2 == 0 { A } else { B }));
        }
        let late = Time(limits::RETURN_MAX_MS * 2);
        for n in 0..200 {
            let mut refused = refused(FlowKey([3; 16]));
            refused.first = late.after_ms(n);
            returns.book(late.after_ms(n), &refused);
        }
        assert_eq!(returns.places.keys().copied().collect::<Vec<_>>(), [FlowKey([3; 16])]);
        assert_eq!(returns.last.len(), 1);
        assert!(returns.count <= 200, "{}", returns.count);
    }

    #[test]
    fn a_branch_holds_so_many_places_and_no_more() {
        let mut returns = Returns::default();
        let mut refused = refused(A);
        refused.share_ms = 1;
        let times = (0..5_000).map(|n| {
            refused.random = n * 7_919;
            returns.book(Time(0), &refused)
        });
        assert!(times.into_iter().all(|at| at <= Time(limits::RETURN_MAX_MS)));
        assert_eq!(returns.count, limits::RETURNS_PER_BRANCH_MAX);
    }
}
