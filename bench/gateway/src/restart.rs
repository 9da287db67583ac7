//! How long a realm with a history needs to come back, and how much memory it then takes, beside
//! a fresh one.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::load::{self, Plan, Rate};
use crate::machine::Machine;
use crate::measure::Settings;
use crate::process;
use crate::realm::Realm;

const CONNECTIONS: usize = 64;
const SETTLE: Duration = Duration::from_millis(500);
const END_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub machine: Machine,
    pub intents: u64,
    pub errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    /// While they were submitted.
    pub per_second: f64,
    pub cpu_micros: f64,
    pub log_bytes: f64,
    pub loaded_mib: f64,
    pub signal: String,
    pub end_ms: f64,
    pub fresh: Start,
    pub again: Start,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Start {
    pub ready_ms: f64,
    pub resident_mib: f64,
}

impl Start {
    async fn of(realm: &Realm) -> Result<Self> {
        tokio::time::sleep(SETTLE).await;
        Ok(Self {
            ready_ms: realm.ready_after.as_secs_f64() * 1e3,
            resident_mib: realm.resident_kib()? as f64 / 1024.0,
        })
    }
}

pub(crate) async fn run(settings: &Settings, intents: u64, signal: &str) -> Result<Report> {
    let machine = Machine::here(&settings.folder);
    let data = settings.folder.join("realm");
    let realm = Realm::start(settings.realm_core, &settings.program, &data).await?;
    let fresh = Start::of(&realm).await?;
    let guests = realm.guests().await?;
    ensure!(
        guests.grant.saturating_mul(guests.keys.len() as u64) >= intents,
        "{} guests with {} base units each cannot pay for {intents} intents",
        guests.keys.len(),
        guests.grant
    );
    let (_, worker) = realm.worker().await?;
    let (log, cpu) = (realm.log_bytes(), process::cpu_seconds(realm.process.id())?);
    let body = r#"{"intent":"echo","durable":false,"data":"hello"}"#;
    let plan = Plan {
        address: realm.address,
        requests: guests.spread(CONNECTIONS, "/v1/intents", body),
        rate: Rate::Count { requests: intents },
        status: 202,
        events: 0,
    };
    let begun = Instant::now();
    let sample = load::run(plan).await?;
    realm.until_idle(END_PATIENCE).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = process::cpu_seconds(realm.process.id())? - cpu;
    let count = sample.answered.max(1) as f64;
    let log_bytes = realm.log_bytes().saturating_sub(log) as f64 / count;
    let loaded_mib = realm.resident_kib()? as f64 / 1024.0;
    worker.stop()?;
    let end = realm.process.end(signal)?;
    let realm = Realm::start(settings.realm_core, &settings.program, &data).await?;
    let again = Start::of(&realm).await?;
    realm.process.end("TERM")?;
    Ok(Report {
        machine,
        intents: sample.answered,
        errors: sample.errors,
        first_error: sample.first_error,
        per_second: count / seconds,
        cpu_micros: cpu * 1e6 / count,
        log_bytes,
        loaded_mib,
        signal: signal.to_owned(),
        end_ms: end.as_secs_f64() * 1e3,
        fresh,
        again,
    })
}

impl Report {
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Self { intents, signal, fresh, again, .. } = self;
        writeln!(out, "# A realm's restart after {intents} echo intents ({signal})\n")?;
        writeln!(out, "{}\n", self.machine.line())?;
        writeln!(out, "| | fresh | again |\n|---|---|---|")?;
        writeln!(out, "| start to ready | {:.0} ms | {:.0} ms |", fresh.ready_ms, again.ready_ms)?;
        writeln!(
            out,
            "| resident | {:.1} MiB | {:.1} MiB |",
            fresh.resident_mib, again.resident_mib
        )?;
        writeln!(
            out,
            "\nEnded in {:.0} ms. Before that: {:.0} intents/s, {:.1} us CPU and {:.0} bytes of \
             log an intent, {:.1} MiB resident. {} errors.",
            self.end_ms,
            self.per_second,
            self.cpu_micros,
            self.log_bytes,
            self.loaded_mib,
            self.errors
        )?;
        match &self.first_error {
            Some(error) => writeln!(out, "First error: {error}"),
            None => Ok(()),
        }
    }
}
