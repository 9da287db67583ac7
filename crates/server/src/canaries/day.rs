//! What was tried today, and what more may be: money in all and for each network, and how often anybody.
//! Counted in memory: a start of the realm begins anew, though not with what its account was granted.

use std::collections::BTreeMap;

use mtor_types::fact::NetworkKey;
use mtor_types::mutant;
use mtor_types::standing::KindName;
use mtor_types::{Time, WorkerId};

/// Of one worker and kind: so long apart, and so many a day. Half of what proves it, and a little.
const APART_MS: u64 = 60_000;
pub(super) const A_DAY: u32 = 12;
/// Who is proven by canaries is looked at again, so often a day.
pub(super) const PROVEN_A_DAY: u32 = 1;
/// Workers of one network share this part of a day's budget.
const OF_A_NETWORK: u64 = 4;
/// (worker, kind) that are remembered for a day; more are not tried.
const REMEMBERED_MAX: usize = 65_536;

/// One canary, as it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Try {
    pub(super) worker: WorkerId,
    pub(super) kind: KindName,
    pub(super) network: NetworkKey,
    /// At most, in base units.
    pub(super) cost: u64,
}

pub(super) struct Day {
    budget: u64,
    day: u64,
    /// How often, and when next.
    tried: BTreeMap<(WorkerId, KindName), (u32, Time)>,
    spent: u64,
    of_network: BTreeMap<NetworkKey, u64>,
    /// One at a time for each, at its cost.
    asking: BTreeMap<NetworkKey, u64>,
}

impl Day {
    pub(super) fn new(budget: u64) -> Self {
        let (day, spent) = (0, 0);
        let (tried, of_network, asking) = Default::default();
        Self { budget, day, tried, spent, of_network, asking }
    }

    /// A new day begins with nothing but what is still asked.
    pub(super) fn begin(&mut self, now: Time) {
        if self.day != now.day() {
            let asking = std::mem::take(&mut self.asking);
            *self = Self { day: now.day(), asking, ..Self::new(self.budget) };
        }
    }

    pub(super) fn is_asking(&self, network: NetworkKey) -> bool {
        self.asking.contains_key(&network)
    }

    /// There is no money left for anybody.
    pub(super) fn is_spent(&self) -> bool {
        self.spent >= self.budget
    }

    /// What is asked just now costs at most.
    pub(super) fn outstanding(&self) -> u64 {
        self.asking.values().fold(0, |sum, cost| sum.saturating_add(*cost))
    }

    /// Takes what it costs, and its turn; or says that it is not its turn, or that there is no money.
    pub(super) fn take(&mut self, one: &Try, most_a_day: u32, now: Time) -> bool {
        let key = (one.worker, one.kind.clone());
        let (count, next) = self.tried.get(&key).copied().unwrap_or_default();
        let is_full = self.tried.len() >= REMEMBERED_MAX && !self.tried.contains_key(&key);
        if is_full || self.is_asking(one.network) || count >= most_a_day || now < next {
            return false;
        }
        let of_network = self.of_network.get(&one.network).copied().unwrap_or_default();
        let (spent, of_network) =
            (self.spent.saturating_add(one.cost), of_network.saturating_add(one.cost));
        if spent > self.budget && !mutant!("canaries-have-no-budget")
            || of_network > self.budget / OF_A_NETWORK
        {
            return false;
        }
        self.spent = spent;
        self.of_network.insert(one.network, of_network);
        self.asking.insert(one.network, one.cost);
        self.tried.insert(key, (count.saturating_add(1), now.after_ms(APART_MS)));
        true
    }

    /// It is over. One that came to nobody is given back, but for the time until the next.
    pub(super) fn over(&mut self, one: &Try, was_asked: bool) {
        self.asking.remove(&one.network);
        if was_asked {
            return;
        }
        if let Some((count, _)) = self.tried.get_mut(&(one.worker, one.kind.clone())) {
            *count = count.saturating_sub(1);
            self.spent = self.spent.saturating_sub(one.cost);
            if let Some(spent) = self.of_network.get_mut(&one.network) {
                *spent = spent.saturating_sub(one.cost);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    fn one(worker: u8, network: u8, cost: u64) -> Try {
        let kind = KindName { intent: "echo".into(), model: None };
        let (worker, network) = (WorkerId([worker; 32]), NetworkKey([network; 16]));
        Try { worker, kind, network, cost }
    }

    /// Begins at a minute of the first day; asks, and is answered if it was its turn.
    fn ask(day: &mut Day, minute: u64, one: &Try) -> bool {
        let now = Time(DAY_MS + minute * APART_MS);
        day.begin(now);
        let may = day.take(one, A_DAY, now);
        if may {
            day.over(one, true);
        }
        may
    }

    #[test]
    fn one_worker_is_tried_so_often_and_so_far_apart() {
        let mut day = Day::new(1_000);
        let minutes = (0..100).filter(|minute| ask(&mut day, *minute, &one(1, 1, 1)));
        assert_eq!(minutes.count(), 12);
        assert!(!ask(&mut day, 200, &one(1, 1, 1)));
        assert!(ask(&mut day, 24 * 60, &one(1, 1, 1)), "the next day begins anew");
        assert!(!ask(&mut day, 24 * 60, &one(1, 1, 1)), "but not twice in a minute");
    }

    #[test]
    fn workers_of_one_network_share_a_quarter_and_all_share_the_budget() {
        let mut day = Day::new(100);
        let of_one = (0..100).filter(|n| ask(&mut day, 0, &one(*n, 1, 5))).count();
        assert_eq!(of_one, 5, "however many there are");
        let of_all = (0..100).filter(|n| ask(&mut day, 0, &one(*n, *n, 5))).count();
        assert_eq!(of_all, 15, "all of the rest");
        assert!(day.is_spent());
        day.begin(Time(2 * DAY_MS));
        assert!(!day.is_spent(), "the next day begins anew");
    }

    #[test]
    fn who_keeps_silent_holds_up_its_own_network_alone() {
        let mut day = Day::new(1_000);
        let now = Time(DAY_MS);
        day.begin(now);
        assert!(day.take(&one(1, 1, 1), A_DAY, now));
        assert!(!day.take(&one(2, 1, 1), A_DAY, now) && day.take(&one(3, 2, 1), A_DAY, now));
        // Over midnight, too.
        day.begin(Time(2 * DAY_MS));
        assert!(day.is_asking(NetworkKey([1; 16])));
        day.over(&one(1, 1, 1), true);
        assert!(!day.is_asking(NetworkKey([1; 16])));
    }

    #[test]
    fn what_came_to_nobody_costs_nothing_but_a_minute() {
        let mut day = Day::new(100);
        for minute in 0..1_000 {
            let now = Time(DAY_MS + minute * APART_MS);
            day.begin(now);
            assert!(day.take(&one(1, 1, 20), A_DAY, now), "{minute}");
            day.over(&one(1, 1, 20), false);
            assert!(!day.take(&one(1, 1, 20), A_DAY, now));
        }
        assert_eq!((day.spent, day.of_network.values().sum::<u64>()), (0, 0));
    }
}
