//! What is played: where services live, who there is, what is asked, what breaks. Every bound and
//! constant of the simulator stands here.

use std::collections::BTreeMap;

use mtor_types::message::Service;
use mtor_types::{Amount, NodeId, Price};

use crate::rng::Rng;

/// Virtual time at which a run begins: 2026-01-01, so that days and wall clocks look real.
pub(crate) const START_MS: u64 = 1_767_225_600_000;
/// After the storm everything must have ended within this long: the longest deadline, a lease, the
/// hold's grace, and room.
pub(crate) const CALM_MS: u64 = 120_000;
/// A realm is quiet when nothing is open for longer than every repetition.
pub(crate) const QUIET_MS: u64 = 12_000;
/// How often the quiet is looked for.
pub(crate) const CHECK_MS: u64 = 1_000;
/// After this long without faults, nobody may need the hold's own expiry any more.
pub(crate) const HEALED_MS: u64 = 60_000;
/// Steps of one run at most: a run that needs more is a livelock.
pub(crate) const STEPS_MAX: u64 = 20_000_000;
/// A lost worker's work must be given up this long after its last sign of life, in a healthy node.
pub(crate) const LEASE_LATE_MS: u64 = 200;
/// A worker's word must have been handled so soon by a node that holds its edge and its registry.
pub(crate) const HEARD_LATE_MS: u64 = 200;
/// A key is forgotten this long after its time, in a healthy node.
pub(crate) const KEY_LATE_MS: u64 = 200;
/// What one chunk may bill at most: the edge's own bound.
pub(crate) const UNITS_PER_CHUNK: u64 = 2;
/// Batches that wait for their sync; beyond it new work is refused.
pub(crate) const UNSYNCED_MAX: u64 = 64;
/// A failed append is tried again after this long.
pub(crate) const APPEND_REPEAT_MS: u64 = 100;
/// How long an edge waits for an answer to an `Attach` before it asks again.
pub(crate) const ATTACH_REPEAT_MS: u64 = 700;
/// An edge far from its router tells a session again after so many signs of life.
pub(crate) const REATTACH_HEARTBEATS: u32 = 3;
/// A client that lost its connection asks again after about this long.
pub(crate) const CLIENT_RETRY_MS: u64 = 1_500;
/// The realm's share of what is captured.
pub(crate) const FEE_BASIS_POINTS: u16 = 1_000;
/// In blocks, the next account comes after this long.
pub(crate) const BLOCK_MS: u64 = 1_000;
/// One worker in so many is the realm's own; the first is.
pub(crate) const REALMS_ONE_IN: usize = 8;
/// The list price of everything.
pub(crate) const LIST: Price = Price { amount: Amount::from_u64(1), per: 1 };
/// The longest deadline a client gives.
pub(crate) const DEADLINE_MS: u64 = 40_000;
/// Snapshots a disk keeps, so that recovery from an older one is tried too.
pub(crate) const SNAPSHOTS_MAX: usize = 4;
/// Above so many workers or intents a run is large: what looks at everything is done each
/// [`WHOLE_STEPS`] and after each crash, not at each step.
const LARGE_WORKERS: u32 = 32;
const LARGE_INTENTS: u32 = 400;
const WHOLE_STEPS: u64 = 1_000;

/// Where the four services live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One node, as `mtor up` runs it.
    Whole,
    /// Each service a node of its own.
    Split,
    /// Event Processor with Accountant, Router with Registry.
    Pairs,
}

impl Topology {
    pub const ALL: [Self; 3] = [Self::Whole, Self::Split, Self::Pairs];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Split => "split",
            Self::Pairs => "pairs",
        }
    }

    pub(crate) fn places(self) -> BTreeMap<Service, NodeId> {
        let nodes = match self {
            Self::Whole => [0, 0, 0, 0],
            Self::Split => [0, 1, 2, 3],
            Self::Pairs => [0, 0, 1, 1],
        };
        Service::ALL.into_iter().zip(nodes.map(NodeId)).collect()
    }

    pub(crate) fn nodes(self) -> u16 {
        match self {
            Self::Whole => 1,
            Self::Split => 4,
            Self::Pairs => 2,
        }
    }
}

/// The size and the roughness of a run. What exactly happens follows from the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    pub topology: Topology,
    pub accounts: u32,
    pub workers: u32,
    pub intents: u32,
    /// Only this many of the seed's faults happen; fewer shrink a failure.
    pub faults: u32,
    /// Faults and new work happen within this long; then all is mended.
    pub storm_ms: u64,
    /// The longest a fault lasts: most are shorter.
    pub fault_ms: u64,
    /// Everybody is well behaved, and all work comes at once: to measure fairness.
    pub steady: bool,
    /// Accounts come one after the other, while the others are served.
    pub blocks: bool,
}

impl Scenario {
    /// Everything that can go wrong.
    pub const fn stormy(topology: Topology) -> Self {
        let (storm_ms, fault_ms, steady, blocks) = (30_000, 12_000, false, false);
        let (accounts, workers, intents, faults) = (5, 4, 70, 14);
        Self { topology, accounts, workers, intents, faults, storm_ms, fault_ms, steady, blocks }
    }

    /// Bad workers and impatient clients, but nothing breaks.
    pub const fn calm(topology: Topology) -> Self {
        Self { faults: 0, ..Self::stormy(topology) }
    }

    /// Faults that outlast every memory, such as the accountant's of how an intent ended.
    pub const fn long(topology: Topology) -> Self {
        let (storm_ms, fault_ms) = (200_000, 100_000);
        Self { storm_ms, fault_ms, intents: 150, ..Self::stormy(topology) }
    }

    /// Hundreds of workers with models, groups of slots and prices, and accounts that keep them busy.
    pub const fn crowded(topology: Topology) -> Self {
        let (accounts, workers, intents, faults) = (30, 200, 1_200, 20);
        let (storm_ms, fault_ms) = (15_000, 8_000);
        let stormy = Self::stormy(topology);
        Self { accounts, workers, intents, faults, storm_ms, fault_ms, ..stormy }
    }

    /// What a seed plays where nothing else is said: mostly storms, some of them of hundreds of
    /// workers; every fifth without faults, so that a bug of the everyday is not taken for one of the
    /// storm.
    pub const fn of_seed(topology: Topology, seed: u64) -> Self {
        match seed % 10 {
            0 | 5 => Self::calm(topology),
            1 | 6 => Self::long(topology),
            2 => Self { blocks: seed % 20 == 2, ..Self::steady(topology) },
            7 => Self::crowded(topology),
            _ => Self::stormy(topology),
        }
    }

    /// Steps between two looks at everything.
    pub(crate) const fn whole_steps(&self) -> u64 {
        if self.workers > LARGE_WORKERS || self.intents > LARGE_INTENTS { WHOLE_STEPS } else { 1 }
    }

    /// What an account begins with. So little that a part of what is asked is refused, in storms.
    pub(crate) fn grant(&self) -> u64 {
        let each = u64::from(self.intents).checked_div(self.accounts.into()).unwrap_or_default();
        if self.steady { 100_000 } else { each.saturating_mul(12).max(250) }
    }

    /// Backlogged accounts and steady workers.
    pub const fn steady(topology: Topology) -> Self {
        let (accounts, workers, intents, faults) = (4, 3, 800, 0);
        let steady = true;
        Self { accounts, workers, intents, faults, steady, ..Self::stormy(topology) }
    }
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process ends at once; the unsynced tail is lost.
    Crash {
        node: NodeId,
        down_ms: u64,
    },
    /// The process ends right after the next sync, with only some of what waited for it released.
    CrashAfterSync {
        node: NodeId,
        down_ms: u64,
    },
    /// The process stands still, and the edge with it; connections stay open.
    Pause {
        node: NodeId,
        for_ms: u64,
    },
    /// Syncs take long.
    SlowDisk {
        node: NodeId,
        for_ms: u64,
    },
    /// Appends fail and are tried again.
    FailingDisk {
        node: NodeId,
        for_ms: u64,
    },
    /// Nothing passes between two nodes; one way if `one_way`.
    Partition {
        from: NodeId,
        to: NodeId,
        one_way: bool,
        for_ms: u64,
    },
    /// Half of everything is lost.
    Lossy {
        for_ms: u64,
    },
    /// The worker's process ends: what it held is gone.
    Kill {
        worker: usize,
        down_ms: u64,
    },
    /// The worker hangs, its connection stays open.
    Freeze {
        worker: usize,
        for_ms: u64,
    },
    /// The worker's connection breaks; it works on.
    Break {
        worker: usize,
        for_ms: u64,
    },
    Drain {
        worker: usize,
        for_ms: u64,
    },
    /// The sysop bans a worker for a while.
    Ban {
        worker: usize,
        for_ms: u64,
    },
    /// The sysop vouches for a worker, and takes it back.
    Vouch {
        worker: usize,
        for_ms: u64,
    },
    /// Some answers to the realm's own test intents are looked at.
    Judge {
        worker: usize,
        right: bool,
    },
}

/// The faults of a seed, in order of time.
pub(crate) fn faults(scenario: &Scenario, seed: u64) -> Vec<(u64, Fault)> {
    // Long waits are rare but real: they outlast memories such as the accountant's of ends.
    let long = |rng: &mut Rng| {
        let most = if rng.per_cent(15) { scenario.fault_ms } else { 3_000 };
        rng.between(50, most)
    };
    let mut faults = Vec::new();
    for number in 0..scenario.faults {
        // A stream of its own each, so that leaving one out does not change the others.
        let mut rng = Rng::new(seed, 1_000_u64.saturating_add(u64::from(number)));
        let node = NodeId(
            u16::try_from(rng.between(0, 99)).unwrap_or_default() % scenario.topology.nodes(),
        );
        let other = NodeId(
            u16::try_from(rng.between(0, 99)).unwrap_or_default() % scenario.topology.nodes(),
        );
        let worker = rng.index(usize::try_from(scenario.workers).unwrap_or(usize::MAX));
        let at = rng.between(500, scenario.storm_ms);
        let for_ms = long(&mut rng);
        let fault = match rng.between(0, 15) {
            0 | 1 => Fault::Crash { node, down_ms: for_ms },
            2 | 3 => Fault::CrashAfterSync { node, down_ms: for_ms },
            4 => Fault::SlowDisk { node, for_ms },
            5 => Fault::FailingDisk { node, for_ms },
            6 => Fault::Partition { from: node, to: other, one_way: rng.per_cent(50), for_ms },
            7 => Fault::Lossy { for_ms },
            8 => Fault::Kill { worker, down_ms: for_ms },
            9 => Fault::Freeze { worker, for_ms },
            10 | 11 => Fault::Break { worker, for_ms },
            12 => Fault::Drain { worker, for_ms },
            13 | 14 => Fault::Pause { node, for_ms },
            _ => Fault::Ban { worker, for_ms },
        };
        faults.push((at, fault));
        // Beside it, from a stream of its own, what changes how a worker stands.
        let mut rng = Rng::new(seed, 2_000_u64.saturating_add(u64::from(number)));
        let worker = rng.index(usize::try_from(scenario.workers).unwrap_or(usize::MAX));
        let (at, for_ms) = (rng.between(500, scenario.storm_ms), long(&mut rng));
        faults.push(match rng.between(0, 5) {
            0 | 1 => (at, Fault::Vouch { worker, for_ms }),
            2 => (at, Fault::Judge { worker, right: rng.per_cent(50) }),
            _ => continue,
        });
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}
