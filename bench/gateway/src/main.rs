//! What a realm adds to a request.
//!
//! A realm runs on one core; on another one a load generator and a mock worker share this process.
//! Everything between them is real: keys, holds, the fair queue, the log with its syncs. Beside
//! it, in turns, the same load goes straight to a minimal server that gives the same answers.
//! Absent on purpose: any model, any network but loopback, any gate on a figure that depends on
//! the machine.

mod answers;
mod client;
mod direct;
mod histogram;
mod load;
mod machine;
mod measure;
mod nginx;
mod process;
mod realm;
mod report;
mod response;
mod restart;
mod worker;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::measure::{Folder, Settings};

/// A burst must reach the client without a stall of delayed acknowledgements (40 ms).
const GAP_MS_MAX: f64 = 35.0;
/// History does not live in memory: a realm with one takes hardly more than a fresh one.
const GROWTH_MIB_MAX: f64 = 20.0;

#[derive(Parser)]
#[command(about = "What a realm adds to a request")]
struct Cli {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Throughput, latency, streams and footprint beside the direct ceiling
    Run(Common),
    /// Restart time and memory after many echo intents
    Restart {
        #[command(flatten)]
        common: Common,
        /// Echo intents before the restart; default 1000000, with --smoke 60000
        #[arg(long)]
        intents: Option<u64>,
        /// Kill instead of TERM: recovery without the last snapshot
        #[arg(long)]
        crash: bool,
    },
    /// The ceiling's own server (the other modes start it)
    Direct {
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

#[derive(Args)]
struct Common {
    /// The realm's binary
    #[arg(long, default_value = "target/release/mtor")]
    mtor: PathBuf,
    /// Where the run keeps its data meanwhile; on a disk, or syncs cost nothing
    #[arg(long, default_value = "target")]
    folder: PathBuf,
    /// The core of the realm and of the ceiling; the first that this process may use
    #[arg(long)]
    realm_core: Option<usize>,
    /// The core of load and mock worker; the second, if there is one
    #[arg(long)]
    load_core: Option<usize>,
    /// Short, and fails if there is an error, a gap in a stream, or history in memory
    #[arg(long)]
    smoke: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Also write the table here
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> Result<()> {
    let command = Cli::parse().command;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            What::Run(common) => run(common).await,
            What::Restart { common, intents, crash } => restart(common, intents, crash).await,
            What::Direct { listen } => direct::main(listen).await,
        }
    })
}

async fn run(common: Common) -> Result<()> {
    let (settings, _folder) = common.settle()?;
    let report = Box::pin(measure::run(&settings)).await?;
    ensure!(report.errors == 0, "{} errors: {}", report.errors, report.table());
    common.publish(&report, &report.table())?;
    let gap = report.bursts.median_of_3;
    ensure!(!common.smoke || gap < GAP_MS_MAX, "a gap of {gap:.1} ms within a burst");
    Ok(())
}

async fn restart(common: Common, intents: Option<u64>, crash: bool) -> Result<()> {
    let (settings, _folder) = common.settle()?;
    let intents = intents.unwrap_or(if common.smoke { 60_000 } else { 1_000_000 });
    let signal = if crash { "KILL" } else { "TERM" };
    let report = Box::pin(restart::run(&settings, intents, signal)).await?;
    ensure!(report.errors == 0, "{} errors: {}", report.errors, report.table());
    common.publish(&report, &report.table())?;
    let growth = report.again.resident_mib - report.fresh.resident_mib;
    ensure!(!common.smoke || growth < GROWTH_MIB_MAX, "{growth:.1} MiB more after a restart");
    Ok(())
}

impl Common {
    fn settle(&self) -> Result<(Settings, Folder)> {
        let program = self.mtor.canonicalize();
        let program = program.with_context(|| format!("no {}", self.mtor.display()))?;
        let cores = process::cores()?;
        let first = *cores.first().context("no core at all")?;
        let second = cores.get(1).copied().unwrap_or(first);
        process::settle(self.load_core.unwrap_or(second))?;
        let folder = Folder::new(&self.folder)?;
        let settings = Settings {
            program,
            folder: folder.0.clone(),
            realm_core: self.realm_core.unwrap_or(first),
            smoke: self.smoke,
        };
        Ok((settings, folder))
    }

    fn publish(&self, report: &impl Serialize, table: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(report)?)?;
        } else {
            writeln!(out, "{table}")?;
        }
        match &self.out {
            Some(path) => write_table(path, table),
            None => Ok(()),
        }
    }
}

fn write_table(path: &Path, table: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, table).with_context(|| path.display().to_string())
}
