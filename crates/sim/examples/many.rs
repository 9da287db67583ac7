//! Plays many seeds over every topology: `many [first] [count] [topology] [faults]`.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use mtor_sim::{Scenario, Topology, run};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number =
        |otherwise: u64| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (first, count) = (number(0), number(300));
    let topology = number(9);
    let faults = number(99);
    let mut failed = 0_u64;
    for seed in first..first.saturating_add(count) {
        for (index, topology) in Topology::ALL
            .into_iter()
            .enumerate()
            .filter(|(i, _)| topology > 3 || u64::try_from(*i) == Ok(topology))
        {
            let _ = index;
            let mut scenario = Scenario::of_seed(topology, seed);
            if faults < 99 {
                scenario.faults = u32::try_from(faults).unwrap_or_default();
            }
            let played = if count == 1 {
                mtor_sim::narrate(&scenario, seed, &mut |at, words| println!("{at} {words}"))
            } else {
                run(&scenario, seed)
            };
            match played {
                Ok(report) => {
                    if count == 1 {
                        println!(
                            "{} steps {} trace {:x} {:?}",
                            topology.name(),
                            report.steps,
                            report.trace_hash,
                            report.ends
                        );
                    }
                }
                Err(violation) => {
                    failed = failed.saturating_add(1);
                    println!("{violation}");
                }
            }
        }
    }
    println!("{failed} of {count} seeds over the topologies failed");
}
