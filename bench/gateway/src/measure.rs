//! The run: realm and ceiling in turn, round by round, so that what else the machine does falls
//! on both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;

use crate::answers::{BURST, MODEL, MODEL_BURST, PIECES};
use crate::client;
use crate::load::{self, Plan, Rate, Sample};
use crate::machine::Machine;
use crate::nginx::Nginx;
use crate::process::{self, Process};
use crate::realm::{Guests, Realm};
use crate::report::{Bursts, Footprint, Latency, Report, Throughput, median};
use crate::worker::Worker;

const PATH: &str = "/v1/chat/completions";
const CONNECTIONS: usize = 64;
const KIB: usize = 1024;
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub program: PathBuf,
    /// Where data directories are made; on a disk, or syncs cost nothing.
    pub folder: PathBuf,
    pub realm_core: usize,
    pub smoke: bool,
}

impl Settings {
    pub(crate) fn rounds(&self) -> usize {
        if self.smoke { 1 } else { 3 }
    }

    fn time(&self, full: u64) -> Duration {
        if self.smoke { Duration::from_secs(1) } else { Duration::from_secs(full) }
    }
}

struct Bench {
    settings: Settings,
    realm: Realm,
    guests: Guests,
    direct: (Process, SocketAddr),
    nginx: Option<Nginx>,
    requests: u64,
    errors: u64,
    first_error: Option<String>,
}

/// One kind of request at one rate.
struct Case {
    what: String,
    body: String,
    connections: usize,
    rate: Rate,
    events: usize,
}

pub(crate) async fn run(settings: &Settings) -> Result<Report> {
    let machine = Machine::here(&settings.folder);
    let data = settings.folder.join("realm");
    let realm = Realm::start(settings.realm_core, &settings.program, &data).await?;
    tokio::time::sleep(SETTLE).await;
    let idle = realm.resident_kib()?;
    let guests = realm.guests().await?;
    let (_, worker) = realm.worker().await?;
    let direct = direct(settings.realm_core)?;
    let nginx = Nginx::start(settings.realm_core, direct.1, &settings.folder)?;
    let mut bench = Bench {
        settings: settings.clone(),
        realm,
        guests,
        direct,
        nginx,
        requests: 0,
        errors: 0,
        first_error: None,
    };
    let report = bench.measure(machine, idle, &worker).await?;
    worker.stop()?;
    bench.realm.process.end("TERM")?;
    Ok(report)
}

/// This program again, as the ceiling's server.
fn direct(core: usize) -> Result<(Process, SocketAddr)> {
    let program = std::env::current_exe()?;
    let mut process = Process::spawn(core, &program, &["direct"], Stdio::inherit())?;
    let address = process.first_line()?.parse().context("the direct mock's address")?;
    Ok((process, address))
}

impl Bench {
    async fn measure(
        &mut self,
        machine: Machine,
        idle_kib: u64,
        worker: &Worker,
    ) -> Result<Report> {
        self.warm_up().await?;
        let (log, served) = (self.realm.log_bytes(), worker.answered());
        let written = process::written_bytes(self.realm.process.id())?;
        let throughput = self.throughput().await?;
        let intents = (worker.answered() - served).max(1) as f64;
        let log_bytes = self.realm.log_bytes().saturating_sub(log) as f64 / intents;
        let written = process::written_bytes(self.realm.process.id())?.saturating_sub(written);
        let mut latency = Vec::new();
        for case in self.cases() {
            latency.push(self.latency(&case).await?);
        }
        let bursts = self.bursts().await?;
        let loaded = self.realm.resident_kib()?;
        let of = |target: &str| {
            throughput.iter().find(|row| row.target == target).map_or(0.0, |row| row.per_second)
        };
        Ok(Report {
            machine,
            smoke: self.settings.smoke,
            rounds: self.settings.rounds(),
            ratio: of("realm") / of("direct").max(1.0),
            throughput,
            latency,
            bursts,
            realm: Footprint {
                start_to_200_ms: self.realm.healthy_after.as_secs_f64() * 1e3,
                start_to_ready_ms: self.realm.ready_after.as_secs_f64() * 1e3,
                idle_mib: idle_kib as f64 / 1024.0,
                loaded_mib: loaded as f64 / 1024.0,
                log_bytes,
                written_bytes: written as f64 / intents,
                guests: self.guests.keys.len(),
            },
            requests: self.requests,
            errors: self.errors,
            first_error: self.first_error.clone(),
        })
    }

    async fn warm_up(&mut self) -> Result<()> {
        let duration = self.settings.time(3);
        let case = closed(duration);
        for address in [self.direct.1, self.realm.address] {
            self.run(&case, address).await?;
        }
        // A worker on probation would be served otherwise than one that is past it.
        self.realm.until_idle(Duration::from_secs(10)).await
    }

    async fn throughput(&mut self) -> Result<Vec<Throughput>> {
        let case = closed(self.settings.time(6));
        let mut targets = vec![
            ("direct", self.direct.0.id(), self.direct.1),
            ("realm", self.realm.process.id(), self.realm.address),
        ];
        if let Some(nginx) = &self.nginx {
            targets.push(("nginx", nginx.process.id(), nginx.address));
        }
        let mut rows: Vec<Vec<Throughput>> = vec![Vec::new(); targets.len()];
        for _ in 0..self.settings.rounds() {
            for ((target, id, address), rows) in targets.iter().zip(&mut rows) {
                let before =
                    (process::cpu_seconds(*id)?, process::cpu_seconds(std::process::id())?);
                let sample = self.run(&case, *address).await?;
                let micros =
                    |now: f64, before: f64| (now - before) * 1e6 / sample.answered.max(1) as f64;
                rows.push(Throughput {
                    target,
                    per_second: sample.per_second(),
                    cpu_micros: micros(process::cpu_seconds(*id)?, before.0),
                    load_cpu_micros: micros(process::cpu_seconds(std::process::id())?, before.1),
                });
            }
        }
        let figure = |rows: &[Throughput], of: fn(&Throughput) -> f64| median(rows.iter().map(of));
        let rows = targets.iter().zip(&rows).map(|((target, ..), rows)| Throughput {
            target,
            per_second: figure(rows, |row| row.per_second),
            cpu_micros: figure(rows, |row| row.cpu_micros),
            load_cpu_micros: figure(rows, |row| row.load_cpu_micros),
        });
        Ok(rows.collect())
    }

    fn cases(&self) -> Vec<Case> {
        let smoke = self.settings.smoke;
        let open = |per_second: u64, seconds: u64| {
            let per_second = if smoke { per_second.div_ceil(4) } else { per_second };
            (per_second, Rate::Open { per_second, duration: self.settings.time(seconds) })
        };
        // The hold of a large body is most of a guest's grant: one at a time for each.
        let few = self.guests.keys.len().min(8);
        let mut cases = Vec::new();
        for (size, name, per_second, seconds, connections) in [
            (KIB, "1 KB", 1_000, 6, CONNECTIONS),
            (100 * KIB, "100 KB", 100, 4, few),
            (KIB * KIB, "1 MB", 10, 4, few),
        ] {
            let (per_second, rate) = open(per_second, seconds);
            let what = format!("whole answer, {name} at {per_second}/s");
            cases.push(Case { what, body: body(MODEL, false, size), connections, rate, events: 0 });
        }
        let (body, events) = (body(MODEL, true, KIB), PIECES + 1);
        let requests = if smoke { 50 } else { 500 };
        let rate = Rate::Count { requests };
        let what = "first chunk, one by one".to_owned();
        cases.push(Case { what, body: body.clone(), connections: 1, rate, events });
        let (per_second, rate) = open(200, 5);
        let what = format!("first chunk, at {per_second}/s");
        cases.push(Case { what, body, connections: CONNECTIONS, rate, events });
        cases
    }

    async fn latency(&mut self, case: &Case) -> Result<Latency> {
        let mut all: [Vec<(f64, f64)>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..self.settings.rounds() {
            for (address, rows) in [self.direct.1, self.realm.address].into_iter().zip(&mut all) {
                let sample = self.run(case, address).await?;
                let times = if case.events > 0 { &sample.first } else { &sample.whole };
                rows.push((times.micros(0.5), times.micros(0.99)));
            }
        }
        let [direct, realm] = all.map(|rows| {
            (median(rows.iter().map(|row| row.0)), median(rows.iter().map(|row| row.1)))
        });
        Ok(Latency {
            what: case.what.clone(),
            direct_p50: direct.0,
            direct_p99: direct.1,
            realm_p50: realm.0,
            realm_p99: realm.1,
            added_p50: realm.0 - direct.0,
            added_p99: realm.1 - direct.1,
        })
    }

    async fn bursts(&mut self) -> Result<Bursts> {
        // The kernel acknowledges the first packets of a connection at once: a socket that delays
        // small writes is found only by later ones.
        let in_a_round = 20;
        let case = Case {
            what: "burst".into(),
            body: body(MODEL_BURST, true, KIB),
            connections: 1,
            rate: Rate::Count { requests: in_a_round },
            events: BURST + 1,
        };
        let mut gaps = Vec::new();
        for _ in 0..3 {
            let sample = self.run(&case, self.realm.address).await?;
            gaps.push(sample.gap.as_secs_f64() * 1e3);
        }
        let max = gaps.iter().copied().fold(0.0, f64::max);
        Ok(Bursts { in_a_round, median_of_3: median(gaps), max })
    }

    async fn run(&mut self, case: &Case, address: SocketAddr) -> Result<Sample> {
        let requests: Vec<Bytes> = if address == self.realm.address {
            self.guests.spread(case.connections, PATH, &case.body)
        } else {
            let request = Bytes::from(client::post(PATH, None, "", &case.body));
            vec![request; case.connections]
        };
        let (rate, events) = (case.rate, case.events);
        let plan = Plan { address, requests, rate, status: 200, events };
        let sample = load::run(plan).await.with_context(|| case.what.clone())?;
        self.requests += sample.answered + sample.errors;
        self.errors += sample.errors;
        if let Some(error) = &sample.first_error {
            self.first_error.get_or_insert_with(|| format!("{}: {error}", case.what));
        }
        Ok(sample)
    }
}

fn closed(duration: Duration) -> Case {
    Case {
        what: format!("{CONNECTIONS} connections"),
        body: body(MODEL, false, KIB),
        connections: CONNECTIONS,
        rate: Rate::Closed { duration },
        events: 0,
    }
}

/// A chat of about so many bytes.
fn body(model: &str, stream: bool, bytes: usize) -> String {
    let head = format!(
        r#"{{"model":"{model}","stream":{stream},"max_tokens":128,"messages":[{{"role":"user","content":""#
    );
    let tail = r#""}]}"#;
    let words = "The realm forwards what it does not need to read. ";
    let room = bytes.saturating_sub(head.len() + tail.len());
    let text: String = words.chars().cycle().take(room).collect();
    [head.as_str(), &text, tail].concat()
}

/// A new folder for one run, removed by [`Folder`]'s drop.
pub(crate) struct Folder(pub PathBuf);

impl Folder {
    pub(crate) fn new(within: &Path) -> Result<Self> {
        let place = within.join(format!("mtor-bench-{}", std::process::id()));
        std::fs::create_dir_all(&place).with_context(|| place.display().to_string())?;
        Ok(Self(place.canonicalize()?))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left there is in nobody's way.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_size_they_should() {
        for size in [KIB, 100 * KIB, KIB * KIB] {
            let text = body(MODEL, true, size);
            assert_eq!(text.len(), size);
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}
