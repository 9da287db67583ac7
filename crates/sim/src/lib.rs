//! Realms, workers and clients under a seed, with faults: the core of the product run on simulated
//! disks, networks and clocks, so that a failure is a seed and not a story.
//!
//! One seed decides everything: a run has virtual time only, no threads and no sleeps, and the same
//! seed gives the same trace. A realm is played whole or with its services apart; its edge, workers
//! and clients do what the real ones do, and now and then what they must not. After every step the
//! invariants of the node are checked (in a large run each 1,000 steps and after each crash), and an oracle with books of its own judges what was synced,
//! what left, and what clients were told. Absent on purpose: sockets, real files, payloads, and any
//! knowledge of how a service decides.
//!
//! What it finds was tried with bugs planted one at a time, each over 300 seeds and three topologies:
//! a lease renewed by nobody that lasts twice its time (found in 17 runs), a cancel that pays the
//! figure of an earlier attempt (16), a retry on the worker that failed it (252), adoption at any
//! price (all).

mod client;
mod disk;
mod edge;
mod event;
mod network;
mod nodes;
mod oracle;
mod process;
mod rng;
mod scenario;
mod shell;
mod storm;
mod worker;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mtor_types::AccountId;

pub use scenario::{Scenario, Topology};
use world::World;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub seed: u64,
    /// Events that happened.
    pub steps: u64,
    /// Of everything that happened, in order.
    pub trace_hash: u64,
    /// Submissions by how they ended.
    pub ends: BTreeMap<&'static str, u64>,
    /// Every stretch of work that was served: from, until (virtual milliseconds), for whom.
    pub service: Vec<(u64, u64, AccountId)>,
}

/// Something that must never happen, and the seed under which it did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed} ({}), step {step}: {what}\nreplay: {}", scenario.topology.name(), replay_command(scenario, *seed))]
pub struct Violation {
    pub scenario: Scenario,
    pub seed: u64,
    pub step: u64,
    pub what: String,
}

/// Plays a scenario under a seed.
///
/// # Errors
/// The first invariant that did not hold.
pub fn run(scenario: &Scenario, seed: u64) -> Result<Report, Violation> {
    play(World::new(scenario, seed, None), seed)
}

/// The same, telling everything that happens: virtual milliseconds and words.
///
/// # Errors
/// The first invariant that did not hold.
pub fn narrate(
    scenario: &Scenario,
    seed: u64,
    narrator: &mut dyn FnMut(u64, &str),
) -> Result<Report, Violation> {
    play(World::new(scenario, seed, Some(narrator)), seed)
}

fn play(mut world: World<'_>, seed: u64) -> Result<Report, Violation> {
    // An assertion of the product that fails is a violation like any other, and has its seed.
    let played = catch_unwind(AssertUnwindSafe(|| world.run(seed)));
    let played = played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", text.unwrap_or("without words")))
    });
    match played {
        Ok(()) => Ok(Report {
            seed,
            steps: world.steps,
            trace_hash: world.trace.hash(),
            ends: world.oracle.ends,
            service: world.oracle.service,
        }),
        Err(what) => Err(Violation { scenario: world.scenario, seed, step: world.steps, what }),
    }
}

/// What plays that run again.
pub fn replay_command(scenario: &Scenario, seed: u64) -> String {
    let Scenario { topology, accounts, workers, intents, faults, storm_ms, fault_ms, .. } =
        *scenario;
    let steady = if scenario.steady { " --steady" } else { "" };
    let blocks = if scenario.blocks { " --blocks" } else { "" };
    format!(
        "mtor sim --topology {} --accounts {accounts} --workers {workers} --intents {intents} \
         --faults {faults} --storm-ms {storm_ms} --fault-ms {fault_ms}{steady}{blocks} --seed {seed}",
        topology.name()
    )
}

/// The fewest faults of a failing seed that still fail, found by halving: faults are independent
/// streams, so leaving the last ones out leaves the others as they were.
pub fn shrink(violation: Violation) -> Violation {
    let mut least = violation;
    let mut holds = 0;
    while holds < least.scenario.faults {
        let faults = holds.midpoint(least.scenario.faults);
        match run(&Scenario { faults, ..least.scenario }, least.seed) {
            Err(smaller) => least = smaller,
            Ok(_) => holds = faults.saturating_add(1),
        }
    }
    least
}
