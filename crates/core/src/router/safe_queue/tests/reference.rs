//! A naive reference of the same rules: absolute tags, flat maps, linear scans, no ordered sets, no
//! links between seats, forgetting by fixpoint. Slow and plain on purpose.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

/// Keys from the branch down; empty for the root.
type Name = Vec<[u8; 16]>;
type Place = (Name, u32);

#[derive(Clone, Default)]
struct Spot {
    start: u128,
    clock: u128,
    late: u128,
    newcomer: bool,
    epoch: u64,
    queued: u64,
    refs: u64,
    fifo: VecDeque<Item>,
    turn: u128,
}

#[derive(Clone)]
struct Share {
    place: Place,
    weight: u32,
    capped: bool,
    epoch: u64,
    wanted: u128,
    absorbed: u128,
    added: u128,
}

pub(super) struct Ticket {
    home: Place,
    shares: Vec<Share>,
    pool_weight: u32,
    turn: u128,
}

#[derive(Default)]
pub(super) struct Reference {
    horizon: u128,
    spots: BTreeMap<Place, Spot>,
    /// Age and turn clock of each node that exists.
    ages: BTreeMap<Name, (u64, u128)>,
    next_age: u64,
    pub(super) weights: BTreeMap<Name, u32>,
    pub(super) pool_weights: BTreeMap<u32, u32>,
    pub(super) workers: BTreeMap<u64, Vec<u32>>,
    domains: BTreeMap<u32, u32>,
    dispatched: usize,
    tickets: Vec<Option<Ticket>>,
}

fn virtual_cost(cost: u64, weight: u32) -> u128 {
    (u128::from(cost) << 32) / u128::from(weight)
}

fn up(place: &Place) -> Option<Place> {
    let (_, above) = place.0.split_last()?;
    Some((above.to_vec(), place.1))
}

fn names(flow: &FlowPath) -> Vec<Name> {
    let class = if flow.class == Class::Interactive { [0; 16] } else { [1; 16] };
    let full = [flow.branch.0, flow.account.0, class];
    (0..=3).map(|n| full[..n].to_vec()).collect()
}

impl Reference {
    pub(super) fn new(horizon: u64) -> Self {
        Self { horizon: u128::from(horizon) << 32, ..Self::default() }
    }

    fn weight(&self, name: &Name) -> u32 {
        match (name.len(), name.last()) {
            (3, Some([0, ..])) => 4,
            (3, _) => 1,
            _ => self.weights.get(name).copied().unwrap_or(1),
        }
    }

    fn domain(&self, pool: u32) -> u32 {
        self.domains.get(&pool).copied().unwrap_or(pool)
    }

    fn spots_of(&self, name: &Name) -> Vec<Place> {
        self.spots.keys().filter(|p| p.0 == *name).cloned().collect()
    }

    fn clock_above(&self, place: &Place) -> u128 {
        up(place).map_or(0, |u| self.spots[&u].clock)
    }

    fn children(&self, place: &Place) -> Vec<Place> {
        self.spots.keys().filter(|p| up(p).as_ref() == Some(place)).cloned().collect()
    }

    fn forget(&mut self) {
        while let Some(place) = self.spots.iter().find_map(|(place, s)| {
            let busy = s.queued > 0 || s.refs > 0 || !self.children(place).is_empty();
            let debt = !place.0.is_empty() && s.start > self.clock_above(place);
            (!busy && !debt).then(|| place.clone())
        }) {
            self.spots.remove(&place);
        }
        let live: BTreeSet<Name> = self.spots.keys().map(|p| p.0.clone()).collect();
        self.ages.retain(|name, _| live.contains(name));
    }

    fn end_busy_periods(&mut self) {
        self.forget();
        for depth in [2, 1, 0] {
            let names: BTreeSet<Name> =
                self.spots.keys().filter(|p| p.0.len() == depth).map(|p| p.0.clone()).collect();
            for name in names {
                let spots = self.spots_of(&name);
                let domains: BTreeSet<u32> = spots.iter().map(|p| self.domain(p.1)).collect();
                for domain in domains {
                    let own: Vec<&Place> =
                        spots.iter().filter(|p| self.domain(p.1) == domain).collect();
                    let idle = |p: &&Place| self.spots[*p].queued == 0 && self.spots[*p].refs == 0;
                    if !own.iter().all(idle) {
                        continue;
                    }
                    for place in own {
                        let kids = self.children(place);
                        let most = kids.iter().map(|k| self.spots[k].start).max().unwrap_or(0);
                        self.advance(place, most);
                    }
                }
            }
            self.forget();
        }
    }

    pub(super) fn insert(&mut self, item: Item, front: bool) {
        let pool = no(item.pool);
        for name in names(&item.flow) {
            if !name.is_empty() && !self.ages.contains_key(&name) {
                self.next_age += 1;
                self.ages.insert(name.clone(), (self.next_age, 0));
            }
            let place = (name.clone(), pool);
            let spot = self.spots.entry(place.clone()).or_default();
            spot.queued += 1;
            if spot.queued == 1 {
                self.wake(&place, item.cost_estimate.max(1));
            }
        }
        let leaf = (names(&item.flow).pop().unwrap(), pool);
        let spot = self.spots.get_mut(&leaf).unwrap();
        if front { spot.fifo.push_front(item) } else { spot.fifo.push_back(item) }
    }

    fn advance(&mut self, place: &Place, to: u128) {
        let spot = self.spots.get_mut(place).unwrap();
        spot.clock = spot.clock.max(to);
        spot.late = spot.late.max(spot.clock);
    }

    fn wake(&mut self, place: &Place, cost: u64) {
        let mine = self.domain(place.1);
        let others: Vec<Place> = self
            .spots_of(&place.0)
            .into_iter()
            .filter(|p| p != place && self.domain(p.1) == mine)
            .collect();
        let known = self.spots[place].refs > 0 || self.spots[place].start > self.clock_above(place);
        let start = up(place).map(|up| {
            let up = &self.spots[&up];
            let own = virtual_cost(cost, self.weight(&place.0));
            self.start_of(place, &others).max(up.late.min(up.clock + own))
        });
        let latest = others.iter().map(|p| self.spots[p].clock).max().unwrap_or(0);
        let late = others.iter().chain([place]).map(|p| self.spots[p].late).max().unwrap_or(0);
        self.advance(place, latest);
        let turn_clock = self.ages.get(&place.0).map_or(0, |a| a.1);
        let spot = self.spots.get_mut(place).unwrap();
        spot.late = spot.late.max(late);
        spot.turn = spot.turn.max(turn_clock);
        if let Some(start) = start {
            spot.newcomer = !known || start > spot.start;
            if start > spot.start {
                spot.epoch += 1;
            }
            spot.start = start;
        }
        // Its children exist only if they were there before; the one that wakes it comes later.
        self.forget();
    }

    fn start_of(&self, place: &Place, others: &[Place]) -> u128 {
        let spot = &self.spots[place];
        let clock = self.clock_above(place);
        if spot.refs > 0 || spot.start > clock {
            return spot.start;
        }
        let indebted: Vec<(u128, u128)> = others
            .iter()
            .map(|p| (p, &self.spots[p]))
            .filter(|(p, s)| s.queued > 0 || s.refs > 0 || s.start > self.clock_above(p))
            .map(|(p, s)| (s.start, s.start.saturating_sub(self.clock_above(p))))
            .collect();
        let most = indebted.iter().map(|i| i.0).max().unwrap_or(0);
        let lag = indebted.iter().map(|i| i.1).min().unwrap_or(0);
        clock.max(most.min(clock + self.horizon + lag))
    }

    pub(super) fn remove(&mut self, item: &Item) {
        self.take(item);
        self.end_busy_periods();
    }

    fn take(&mut self, item: &Item) {
        for name in names(&item.flow) {
            let spot = self.spots.get_mut(&(name, no(item.pool))).unwrap();
            spot.queued -= 1;
            spot.fifo.retain(|i| i.id != item.id);
        }
    }

    pub(super) fn dispatch(&mut self, pools: &BTreeSet<u32>) -> Option<(Item, usize)> {
        let mut groups: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for pool in pools {
            groups.entry(self.domain(*pool)).or_default().insert(*pool);
        }
        let groups: Vec<&BTreeSet<u32>> = groups.values().collect();
        let first = self.dispatched.checked_rem(groups.len()).unwrap_or(0);
        let in_turn = groups.iter().cycle().skip(first).take(groups.len());
        let found = in_turn.copied().find_map(|pools| self.dispatch_in(pools));
        self.dispatched += usize::from(found.is_some());
        found
    }

    fn dispatch_in(&mut self, pools: &BTreeSet<u32>) -> Option<(Item, usize)> {
        let mut steps = Vec::new();
        let item = self.walk(&Vec::new(), pools, &mut steps)?;
        let home = (names(&item.flow).pop().unwrap(), no(item.pool));
        let turn = self.spots[&home].turn;
        let age = self.ages.get_mut(&home.0).unwrap();
        age.1 = age.1.max(turn);
        let mut ticket = Ticket {
            home,
            shares: Vec::new(),
            pool_weight: self.pool_weights.get(&no(item.pool)).copied().unwrap_or(1),
            turn: 0,
        };
        let domain = self.domain(no(item.pool));
        for (name, ..) in &steps {
            for place in self.spots_of(name) {
                if self.domain(place.1) != domain {
                    continue;
                }
                let spot = self.spots.get_mut(&place).unwrap();
                spot.refs += 1;
                let capped = !pools.contains(&place.1);
                let epoch = spot.epoch;
                spot.newcomer = false;
                let weight = self.weight(name);
                ticket.shares.push(Share {
                    place,
                    weight,
                    capped,
                    epoch,
                    wanted: 0,
                    absorbed: 0,
                    added: 0,
                });
            }
        }
        self.hold_roots(&ticket, 1);
        self.charge(&mut ticket, item.cost_estimate.max(1));
        self.take(&item);
        for (name, start, waiting, known) in &steps {
            let above = name[..name.len() - 1].to_vec();
            for pool in pools {
                let place = (above.clone(), *pool);
                if self.spots.contains_key(&place) {
                    self.advance(&place, *start);
                    let spot = self.spots.get_mut(&place).unwrap();
                    if *known {
                        spot.late = spot.clock;
                    }
                    spot.late += virtual_cost(item.cost_estimate.max(1), *waiting);
                }
            }
            self.forget();
        }
        self.tickets.push(Some(ticket));
        Some((item, self.tickets.len() - 1))
    }

    fn walk(
        &mut self,
        name: &Name,
        pools: &BTreeSet<u32>,
        steps: &mut Vec<(Name, u128, u32, bool)>,
    ) -> Option<Item> {
        let own: Vec<Place> =
            self.spots_of(name).into_iter().filter(|p| pools.contains(&p.1)).collect();
        if name.len() == 3 {
            return self.look(&own);
        }
        let latest = own.iter().map(|p| self.spots[p].clock).max().unwrap_or(0);
        for place in &own {
            let least = latest.saturating_sub(self.horizon);
            let by = least.saturating_sub(self.spots[place].clock);
            self.shift(place, by);
        }
        let mut waiting = 0;
        let mut ranks: BTreeMap<Name, (u128, u32)> = BTreeMap::new();
        for kid in own.iter().flat_map(|p| self.children(p)) {
            let spot = &self.spots[&kid];
            if spot.queued > 0 {
                waiting += self.weight(&kid.0);
                let rank = ranks.entry(kid.0).or_insert((u128::MAX, 0));
                *rank = (*rank).min((spot.start, kid.1));
            }
        }
        let order = ranks.into_iter().map(|(n, (s, pool))| (s, self.ages[&n].0, n, pool));
        let (start, _, kid, pool) = order.min()?;
        let known = !self.spots[&(kid.clone(), pool)].newcomer;
        let item = self.walk(&kid, pools, steps)?;
        steps.push((kid, start, waiting, known));
        Some(item)
    }

    fn look(&self, own: &[Place]) -> Option<Item> {
        let queued = own.iter().filter(|p| self.spots[p].queued > 0);
        let turn = queued.min_by_key(|p| (self.spots[*p].turn, p.1))?;
        self.spots[turn].fifo.front().copied()
    }

    fn shift(&mut self, place: &Place, by: u128) {
        let spot = self.spots.get_mut(place).unwrap();
        spot.clock += by;
        spot.late += by;
        for kid in self.children(place) {
            self.spots.get_mut(&kid).unwrap().start += by;
        }
    }

    fn charge(&mut self, ticket: &mut Ticket, cost: u64) {
        for share in &mut ticket.shares {
            let cap = self.clock_above(&share.place) + self.horizon;
            let spot = self.spots.get_mut(&share.place).unwrap();
            if spot.epoch != share.epoch {
                share.epoch = spot.epoch;
                share.absorbed = share.absorbed.max(share.wanted);
                share.added = 0;
            }
            let target = virtual_cost(cost, share.weight);
            if target > share.wanted {
                let mut more = target.saturating_sub(share.wanted.max(share.absorbed));
                if share.capped {
                    more = more.min(cap.saturating_sub(spot.start));
                }
                share.added += more;
                spot.start += more;
            } else {
                let kept = share.added.min(target.saturating_sub(share.absorbed));
                spot.start -= share.added - kept;
                share.added = kept;
            }
            share.wanted = target;
        }
        let home = self.spots.get_mut(&ticket.home).unwrap();
        let target = virtual_cost(cost, ticket.pool_weight);
        home.turn = home.turn - ticket.turn + target;
        ticket.turn = target;
    }

    pub(super) fn correct(&mut self, n: usize, actual: u64) {
        let Some(mut ticket) = self.tickets[n].take() else { return };
        self.charge(&mut ticket, actual);
        self.tickets[n] = Some(ticket);
    }

    pub(super) fn finish(&mut self, n: usize, actual: u64) {
        self.correct(n, actual);
        let Some(ticket) = self.tickets[n].take() else { return };
        for share in &ticket.shares {
            self.spots.get_mut(&share.place).unwrap().refs -= 1;
        }
        self.hold_roots(&ticket, -1);
        self.end_busy_periods();
    }

    fn hold_roots(&mut self, ticket: &Ticket, by: i64) {
        for share in ticket.shares.iter().filter(|s| s.place.0.len() == 1) {
            let root = self.spots.get_mut(&(Vec::new(), share.place.1)).unwrap();
            root.refs = root.refs.checked_add_signed(by).unwrap();
        }
    }

    /// The domains that are, and one of these pools.
    pub(super) fn merge(&mut self, pools: Vec<u32>) {
        let workers = std::mem::take(&mut self.workers);
        let mut domains: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (pool, domain) in &self.domains {
            domains.entry(*domain).or_default().push(*pool);
        }
        self.workers = (0..).zip(domains.into_values().chain([pools])).collect();
        self.regroup();
        self.workers = workers;
    }

    /// Domains by flooding; then the lines of those that met are moved together.
    pub(super) fn regroup(&mut self) {
        let old: BTreeMap<Place, u32> =
            self.spots.keys().map(|p| (p.clone(), self.domain(p.1))).collect();
        self.domains.clear();
        for pools in self.workers.values() {
            for pool in pools {
                self.domains.insert(*pool, *pool);
            }
        }
        loop {
            let before = self.domains.clone();
            for pools in self.workers.values() {
                let least = pools.iter().map(|p| self.domains[p]).min().unwrap_or(0);
                for pool in pools {
                    self.domains.insert(*pool, least);
                }
            }
            if before == self.domains {
                break;
            }
        }
        let mut shifts = Vec::new();
        for (place, was) in &old {
            let mates = |p: &&Place| p.0 == place.0 && self.domain(p.1) == self.domain(place.1);
            let clock = |p: &Place| self.spots[p].clock;
            let all = old.keys().filter(mates).map(clock).max().unwrap_or(0);
            let own = old.keys().filter(mates).filter(|p| old[*p] == *was).map(clock).max();
            shifts.push((place.clone(), all - own.unwrap_or(0)));
        }
        for (place, by) in shifts {
            self.shift(&place, by);
        }
        self.end_busy_periods();
    }

    pub(super) fn size(&self) -> usize {
        self.spots.keys().filter(|p| !p.0.is_empty()).count()
    }
}
