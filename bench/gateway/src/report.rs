//! The figures, as a table for people and as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::machine::Machine;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub machine: Machine,
    pub smoke: bool,
    /// Rounds whose medians the figures are.
    pub rounds: usize,
    pub throughput: Vec<Throughput>,
    /// Realm's requests a second by the ceiling's.
    pub ratio: f64,
    pub latency: Vec<Latency>,
    pub bursts: Bursts,
    pub realm: Footprint,
    pub requests: u64,
    pub errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
}

/// As many requests as 64 connections take.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Throughput {
    pub target: &'static str,
    pub per_second: f64,
    /// Processor time of the target's process for one request.
    pub cpu_micros: f64,
    /// The same of this process, the mock worker included: far from a second in all, or else the
    /// load is what limits.
    pub load_cpu_micros: f64,
}

/// One kind of request at one rate; microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latency {
    pub what: String,
    pub direct_p50: f64,
    pub direct_p99: f64,
    pub realm_p50: f64,
    pub realm_p99: f64,
    pub added_p50: f64,
    pub added_p99: f64,
}

/// The largest gap between two of the 64 chunks that a client saw; milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bursts {
    pub in_a_round: u64,
    pub median_of_3: f64,
    pub max: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Footprint {
    pub start_to_200_ms: f64,
    pub start_to_ready_ms: f64,
    pub idle_mib: f64,
    pub loaded_mib: f64,
    /// Growth of the log's files for one intent.
    pub log_bytes: f64,
    /// All bytes the process had written to storage for one intent.
    pub written_bytes: f64,
    pub guests: usize,
}

impl Report {
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "# What a realm adds to a request\n\n{}\n", self.machine.line())?;
        writeln!(
            out,
            "Realm on one core, load and mock worker on the other; medians of {} rounds{}.\n",
            self.rounds,
            if self.smoke { " (smoke: short, not for comparison)" } else { "" }
        )?;
        self.write_throughput(out)?;
        self.write_latency(out)?;
        let Bursts { in_a_round, median_of_3, max } = self.bursts;
        writeln!(
            out,
            "\nLargest gap in a burst of 64 chunks ({in_a_round} bursts a round): median of 3 \
             rounds {median_of_3:.2} ms, max {max:.2} ms.\n"
        )?;
        self.write_footprint(out)?;
        writeln!(out, "\n{} requests, {} errors.", self.requests, self.errors)?;
        match &self.first_error {
            Some(error) => writeln!(out, "First error: {error}"),
            None => Ok(()),
        }
    }

    fn write_throughput(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "| 64 connections, 1 KB | requests/s | CPU us a request | load's CPU us |")?;
        writeln!(out, "|---|---|---|---|")?;
        for Throughput { target, per_second, cpu_micros, load_cpu_micros } in &self.throughput {
            writeln!(
                out,
                "| {target} | {per_second:.0} | {cpu_micros:.1} | {load_cpu_micros:.1} |"
            )?;
        }
        writeln!(out, "\nRealm by ceiling: {:.3}\n", self.ratio)?;
        // A core that is busy all the time gives no more: the target could.
        for Throughput { target, per_second, load_cpu_micros, .. } in &self.throughput {
            if load_cpu_micros * per_second > 0.9 * 1e6 {
                writeln!(out, "The load generator's core was full at {target}: it can do more.\n")?;
            }
        }
        Ok(())
    }

    fn write_latency(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "| microseconds | direct p50 | p99 | realm p50 | p99 | added p50 | p99 |")?;
        writeln!(out, "|---|---|---|---|---|---|---|")?;
        for row in &self.latency {
            writeln!(
                out,
                "| {} | {:.0} | {:.0} | {:.0} | {:.0} | **{:.0}** | **{:.0}** |",
                row.what,
                row.direct_p50,
                row.direct_p99,
                row.realm_p50,
                row.realm_p99,
                row.added_p50,
                row.added_p99
            )?;
        }
        Ok(())
    }

    fn write_footprint(&self, out: &mut String) -> std::fmt::Result {
        let realm = &self.realm;
        writeln!(out, "| realm | |\n|---|---|")?;
        writeln!(out, "| start to first 200 of /healthz | {:.0} ms |", realm.start_to_200_ms)?;
        writeln!(out, "| start to ready | {:.0} ms |", realm.start_to_ready_ms)?;
        writeln!(out, "| resident, idle | {:.1} MiB |", realm.idle_mib)?;
        writeln!(out, "| resident, after the load | {:.1} MiB |", realm.loaded_mib)?;
        writeln!(out, "| log's growth an intent | {:.0} bytes |", realm.log_bytes)?;
        writeln!(out, "| written to storage an intent | {:.0} bytes |", realm.written_bytes)?;
        writeln!(out, "| guests that paid | {} |", realm.guests)
    }
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.len() % 2, values.get(middle)) {
        (_, None) => 0.0,
        (1, Some(value)) => *value,
        (_, Some(value)) => (value + values.get(middle - 1).unwrap_or(value)) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([]).to_bits(), 0.0_f64.to_bits());
        assert_eq!(median([3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median([4.0, 1.0]).to_bits(), 2.5_f64.to_bits());
    }
}
