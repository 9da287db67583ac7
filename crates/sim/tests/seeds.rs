//! Seeds over the topologies. A failure prints the seed and how to play it again; `many` among the
//! examples plays thousands.

use std::collections::BTreeMap;

use mtor_sim::{Scenario, Topology, narrate, run, shrink};

/// Plays seeds, each as [`Scenario::of_seed`] says.
fn check(topology: Topology, seeds: std::ops::Range<u64>) {
    let mut ends = BTreeMap::<&str, u64>::new();
    for seed in seeds {
        let scenario = Scenario::of_seed(topology, seed);
        match run(&scenario, seed) {
            Ok(report) => {
                for (end, count) in report.ends {
                    *ends.entry(end).or_default() += count;
                }
            }
            Err(violation) => panic!("{}", shrink(violation)),
        }
    }
    // A storm in which nothing of a kind happens tests nothing of that kind.
    for end in ["completed", "failed", "cancelled", "expired", "refused", "joined"] {
        assert!(ends.contains_key(end), "no intent {end}: {ends:?}");
    }
}

#[test]
fn whole_realms_keep_their_promises() {
    check(Topology::Whole, 0..150);
}

#[test]
fn split_realms_keep_their_promises() {
    check(Topology::Split, 0..40);
}

#[test]
fn more_split_realms_keep_their_promises() {
    check(Topology::Split, 40..80);
}

#[test]
fn paired_realms_keep_their_promises() {
    check(Topology::Pairs, 0..70);
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    for topology in Topology::ALL {
        let scenario = Scenario::stormy(topology);
        let first = run(&scenario, 7).unwrap();
        assert_eq!(run(&scenario, 7).unwrap(), first);
        // Telling what happens changes nothing of it.
        let mut told = 0_u64;
        assert_eq!(narrate(&scenario, 7, &mut |_, _| told += 1).unwrap(), first);
        assert!(told >= first.steps);
        assert_ne!(run(&scenario, 8).unwrap().trace_hash, first.trace_hash);
    }
}

/// DESIGN.md section 6, by the oracle: whether all comes at once or one account after the other. Here
/// it shows that there was enough service to tell.
#[test]
fn backlogged_accounts_are_served_alike() {
    for (seed, blocks) in (0..6).zip([false, true].into_iter().cycle()) {
        let scenario = Scenario { blocks, ..Scenario::steady(Topology::Whole) };
        let report = run(&scenario, seed).unwrap_or_else(|violation| panic!("{violation}"));
        let mut flows = BTreeMap::<_, u64>::new();
        for (from, until, account) in report.service {
            *flows.entry(account).or_default() += until - from;
        }
        assert_eq!(flows.len(), usize::try_from(scenario.accounts).unwrap());
        // Three slots; an item is thought to take a second until the first was measured.
        let bound = (3 + 1) * (1_000 + 1_000);
        assert!(flows.values().all(|served| *served > 2 * bound), "seed {seed}: {flows:?}");
        let (least, most) = (flows.values().min().unwrap(), flows.values().max().unwrap());
        assert!(*most > 3 * least, "who asks for longer work has more to be served: {flows:?}");
    }
}

/// 10,000 intents on 1,000 workers, with faults; `mtor sim` says how long it takes.
#[test]
fn a_thousand_workers_are_played() {
    let crowded = Scenario::crowded(Topology::Whole);
    let scenario =
        Scenario { workers: 1_000, accounts: 200, intents: 10_000, storm_ms: 20_000, ..crowded };
    let report = run(&scenario, 1).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(report.ends.get("completed").is_some_and(|count| *count > 4_000), "{:?}", report.ends);
}
