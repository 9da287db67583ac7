//! A small grid: slots that serve sets of pools, flows that refill, costs that differ from their
//! estimates. It keeps its own books of corrected service, from which fairness is judged.

use std::collections::BTreeMap;

use super::*;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Who {
    Realm(u64),
    Account(u64, u64),
    Leaf(u64, u64, Class),
}

/// A leaf that always keeps `depth` items queued in each of its pools.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    pub(super) branch: u64,
    pub(super) account: u64,
    pub(super) class: Class,
    pub(super) pools: Vec<u32>,
    /// Actual costs are drawn from here, slot-milliseconds.
    pub(super) cost: (u64, u64),
}

struct Out {
    charge: Charge,
    feed: usize,
    charged: u64,
    actual: u64,
}

pub(super) struct Sim {
    pub(super) q: SafeQueue,
    pub(super) feeds: Vec<Feed>,
    /// Estimates are off by up to this factor, either way.
    pub(super) wrong: u64,
    pub(super) dice: Dice,
    out: Vec<Out>,
    feed_of: BTreeMap<ItemId, (usize, u64)>,
    queued: BTreeMap<(usize, u32), u64>,
    next: u64,
    pub(super) service: BTreeMap<Who, i128>,
    pub(super) largest: BTreeMap<Who, u64>,
    /// Items dispatched, per feed.
    pub(super) served: Vec<u64>,
}

impl Sim {
    pub(super) fn new(q: SafeQueue, feeds: Vec<Feed>, wrong: u64, seed: u64) -> Self {
        let served = vec![0; feeds.len()];
        Self {
            q,
            feeds,
            wrong,
            dice: Dice(seed),
            out: Vec::new(),
            feed_of: BTreeMap::new(),
            queued: BTreeMap::new(),
            next: 0,
            service: BTreeMap::new(),
            largest: BTreeMap::new(),
            served,
        }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.out.len()
    }

    pub(super) fn put(&mut self, feed: usize, pool: u32) {
        let f = self.feeds[feed].clone();
        let actual = self.dice.range(f.cost.0, f.cost.1);
        let off = self.dice.range(1, self.wrong);
        let estimate = if self.dice.chance(50) { actual * off } else { (actual / off).max(1) };
        let path = FlowPath { branch: key(f.branch), account: key(f.account), class: f.class };
        self.next += 1;
        self.q.enqueue(item(self.next, pool, path, estimate)).unwrap();
        self.feed_of.insert(id(self.next), (feed, actual));
        *self.queued.entry((feed, pool)).or_insert(0) += 1;
    }

    /// Every feed holds `depth` items in each of its pools again.
    pub(super) fn refill(&mut self, depth: u64) {
        for feed in 0..self.feeds.len() {
            for pool in self.feeds[feed].pools.clone() {
                while self.queued.get(&(feed, pool)).copied().unwrap_or(0) < depth {
                    self.put(feed, pool);
                }
            }
        }
    }

    /// Every feed holds at least `depth` items, in pools of its own drawn at random: it enters and
    /// leaves pools all the time while it is never idle.
    pub(super) fn refill_somewhere(&mut self, depth: u64) {
        for feed in 0..self.feeds.len() {
            let pools = self.feeds[feed].pools.clone();
            let held = |s: &Self| -> u64 {
                pools.iter().map(|p| s.queued.get(&(feed, *p)).copied().unwrap_or(0)).sum()
            };
            while held(self) < depth {
                let n = self.dice.range(0, pools.len() as u64 - 1) as usize;
                self.put(feed, pools[n]);
            }
        }
    }

    fn book(&mut self, feed: usize, was: u64, is: u64) {
        let f = &self.feeds[feed];
        let whos = [
            Who::Realm(f.branch),
            Who::Account(f.branch, f.account),
            Who::Leaf(f.branch, f.account, f.class),
        ];
        for who in whos {
            *self.service.entry(who).or_insert(0) += i128::from(is) - i128::from(was);
            let l = self.largest.entry(who).or_insert(0);
            *l = (*l).max(is);
        }
    }

    /// A free slot that serves these pools. Returns the feed that got it.
    pub(super) fn dispatch(&mut self, pools: &[u32]) -> Option<usize> {
        let pools: Vec<PoolId> = pools.iter().copied().map(lone).collect();
        let got = self.q.dispatch(&pools)?;
        let (feed, actual) = self.feed_of.remove(&got.item.id).unwrap();
        *self.queued.get_mut(&(feed, no(got.item.pool))).unwrap() -= 1;
        self.served[feed] += 1;
        let charged = got.item.cost_estimate;
        self.book(feed, 0, charged);
        self.out.push(Out { charge: got.charge, feed, charged, actual });
        Some(feed)
    }

    /// Some outstanding dispatch reports its cost so far (not always a rising one).
    pub(super) fn meter(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let n = self.dice.range(0, self.out.len() as u64 - 1) as usize;
        let so_far = self.dice.range(0, self.out[n].actual);
        let (feed, was) = (self.out[n].feed, self.out[n].charged);
        assert!(self.q.correct(self.out[n].charge, so_far));
        self.book(feed, was, so_far);
        self.out[n].charged = so_far;
    }

    /// Some outstanding dispatch completes.
    pub(super) fn complete(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let n = self.dice.range(0, self.out.len() as u64 - 1) as usize;
        let out = self.out.swap_remove(n);
        assert!(self.q.finish(out.charge, out.actual));
        self.book(out.feed, out.charged, out.actual);
    }

    pub(super) fn service(&self, who: Who) -> i128 {
        self.service.get(&who).copied().unwrap_or(0)
    }
}

/// Follows `W_f/w_f − W_g/w_g` of two siblings; the spread of that series is the largest difference
/// over any interval.
pub(super) struct Pair {
    pub(super) f: (Who, u32),
    pub(super) g: (Who, u32),
    low: i128,
    high: i128,
}

impl Pair {
    pub(super) fn new(f: (Who, u32), g: (Who, u32)) -> Self {
        Self { f, g, low: 0, high: 0 }
    }

    /// Both sides multiplied by `w_f · w_g`, to stay in integers.
    pub(super) fn look(&mut self, sim: &Sim) {
        let x = sim.service(self.f.0) * i128::from(self.g.1)
            - sim.service(self.g.0) * i128::from(self.f.1);
        self.low = self.low.min(x);
        self.high = self.high.max(x);
    }

    pub(super) fn check(&self, sim: &Sim, slots: u64) {
        self.check_with(sim, slots, 0);
    }

    /// `memory`: what pools may remember of each other on top, for weight 1.
    pub(super) fn check_with(&self, sim: &Sim, slots: u64, memory: u64) {
        let l = |who| i128::from(sim.largest.get(&who).copied().unwrap_or(0));
        let (wf, wg) = (i128::from(self.f.1), i128::from(self.g.1));
        let bound = i128::from(slots + 1) * (l(self.f.0) * wg + l(self.g.0) * wf);
        // A division rounded down per charge is less than a unit in all.
        let slack = wf * wg * (1 + i128::from(memory));
        let worst = self.high - self.low;
        assert!(worst <= bound + slack, "{:?}, {:?}: {worst} > {bound}", self.f, self.g);
    }
}
