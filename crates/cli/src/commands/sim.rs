//! `mtor sim`: plays the core under a seed. A failure names the seed that shows it again.

use clap::{Args, ValueEnum};
use mtor_sim::{Report, Scenario, Topology, Violation};
use serde_json::json;

use super::Context;
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// So many seeds, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Where the services live; each in turn if it is not said
    #[arg(long, value_enum)]
    topology: Option<Place>,
    /// Only the first so many of a seed's faults
    #[arg(long, value_name = "N")]
    faults: Option<u32>,
    /// Realms
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1))]
    realms: u32,
    /// Workers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    workers: Option<u32>,
    /// Accounts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    accounts: Option<u32>,
    /// Submissions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    intents: Option<u32>,
    /// Faults and new work happen within this long, in virtual milliseconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000..=3_600_000))]
    storm_ms: Option<u64>,
    /// The longest a fault lasts, in virtual milliseconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=600_000))]
    fault_ms: Option<u64>,
    /// Everybody is well behaved and all work comes at once
    #[arg(long)]
    steady: bool,
    /// With --steady: accounts come one after the other
    #[arg(long, requires = "steady")]
    blocks: bool,
}

impl Arguments {
    /// What is not said is as rough as it gets.
    fn scenario(&self, topology: Topology) -> Scenario {
        let usual = if self.steady { Scenario::steady } else { Scenario::stormy };
        let usual = usual(topology);
        Scenario {
            topology,
            accounts: self.accounts.unwrap_or(usual.accounts),
            workers: self.workers.unwrap_or(usual.workers),
            intents: self.intents.unwrap_or(usual.intents),
            faults: self.faults.unwrap_or(usual.faults),
            storm_ms: self.storm_ms.unwrap_or(usual.storm_ms),
            fault_ms: self.fault_ms.unwrap_or(usual.fault_ms),
            steady: self.steady,
            blocks: self.blocks,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Place {
    /// One node, as `mtor up` runs it
    Whole,
    /// Each service a node of its own
    Split,
    /// Two services a node
    Pairs,
}

pub(crate) fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let topologies = match arguments.topology {
        None => Topology::ALL.to_vec(),
        Some(Place::Whole) => vec![Topology::Whole],
        Some(Place::Split) => vec![Topology::Split],
        Some(Place::Pairs) => vec![Topology::Pairs],
    };
    let (mut runs, mut steps, mut hash) = (0_u64, 0_u64, 0_u64);
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        for topology in &topologies {
            let scenario = arguments.scenario(*topology);
            let report = mtor_sim::run(&scenario, seed).map_err(|found| broken(found, context))?;
            runs = runs.saturating_add(1);
            steps = steps.saturating_add(report.steps);
            // The order of the runs counts too.
            hash = hash.rotate_left(1) ^ report.trace_hash;
            tell(&report, *topology, context);
        }
    }
    let hash = format!("{hash:016x}");
    context.out.show(
        &json!({
            "event": "done", "verdict": "pass", "realms": arguments.realms, "seed": arguments.seed,
            "seeds": arguments.seeds, "runs": runs, "steps": steps, "trace_hash": hash,
        }),
        format_args!("{runs} runs, {steps} steps, everything held; trace {hash}"),
    );
    Ok(())
}

fn tell(report: &Report, topology: Topology, context: &Context) {
    let Report { seed, steps, ends, trace_hash, .. } = report;
    let (hash, topology) = (format!("{trace_hash:016x}"), topology.name());
    context.out.show(
        &json!({
            "event": "run", "seed": seed, "topology": topology, "steps": steps, "ends": ends,
            "trace": hash,
        }),
        format_args!("seed {seed} {topology}: {steps} steps, {ends:?}, trace {hash}"),
    );
}

fn broken(violation: Violation, context: &Context) -> Failure {
    let least = mtor_sim::shrink(violation);
    let Violation { scenario, seed, step, what } = &least;
    context.out.object(&json!({
        "event": "violation", "verdict": "fail", "seed": seed, "topology": scenario.topology.name(),
        "faults": scenario.faults, "workers": scenario.workers, "step": step, "what": what,
    }));
    Failure::failed(least.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn what_the_simulator_says_replays_a_failure_does_so() {
        for topology in Topology::ALL {
            let blocks = Scenario { blocks: true, ..Scenario::steady(topology) };
            for scenario in [Scenario::stormy(topology), Scenario::steady(topology), blocks] {
                let command = mtor_sim::replay_command(&scenario, 7);
                let words = command.strip_prefix("mtor ").unwrap().split(' ');
                let arguments = Line::try_parse_from(words).unwrap().arguments;
                assert_eq!((arguments.scenario(topology), arguments.seed), (scenario, 7));
            }
        }
    }
}
