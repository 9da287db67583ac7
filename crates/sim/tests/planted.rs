//! Seeds against whatever bug is planted; `cargo run -p xtask -- mutants` runs it for each.
#![cfg(mtor_mutants)]
#![allow(clippy::disallowed_methods, reason = "only the runner of mutants says how many")]

use mtor_sim::{Scenario, Topology, run};

/// The first seed that finds it ends this.
#[test]
fn seeds_hold() {
    let count = std::env::var("MTOR_SEEDS").ok().and_then(|count| count.parse().ok());
    let count: u64 = count.unwrap_or(200);
    // What is decided is the same where services are apart, and that is slower to play.
    let apart = (0..count / 5).flat_map(|seed| [(Topology::Pairs, seed), (Topology::Split, seed)]);
    for (topology, seed) in (0..count).map(|seed| (Topology::Whole, seed)).chain(apart) {
        if let Err(violation) = run(&Scenario::of_seed(topology, seed), seed) {
            panic!("{violation}");
        }
    }
}
