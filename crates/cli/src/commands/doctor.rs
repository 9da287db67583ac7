//! `mtor doctor`: whether this machine is ready for `mtor up`. It changes nothing.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use mtor_client::Client;
use mtor_server::identity::RealmDocument;
use rustix::fs::{Access, access, statvfs};
use serde_json::json;
use tokio::time::timeout;

use super::up::find_models_program;
use super::up::models::{ModelArguments, Models};
use super::{Context, block_on, data_dir};
use crate::environment::Purpose;
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The realm's data folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The address it is to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
}

/// What a realm needs to start with, and what it should have.
const DISK_BYTES_MIN: u64 = 64 << 20;
const DISK_BYTES_GOOD: u64 = 1 << 30;

/// For what listens at the address to say that it is a realm.
const REALM_PATIENCE: Duration = Duration::from_secs(2);

enum Verdict {
    Good,
    /// A realm runs without it.
    Missing,
    Bad,
}

struct Finding {
    what: &'static str,
    verdict: Verdict,
    found: String,
    remedy: Option<String>,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Good, found: found.into(), remedy: None }
    }

    fn wanting(
        what: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { what, verdict, found: found.into(), remedy: Some(remedy.into()) }
    }
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let data = data_dir(arguments.data, context.environment.data_dir())?;
    let findings = [
        data_folder(&data),
        disk(&data),
        port(arguments.listen),
        program(context),
        models_here(context),
        python(),
    ];
    let mut bad = Vec::new();
    for finding in &findings {
        let Finding { what, verdict, found, remedy } = finding;
        let word = match verdict {
            Verdict::Good => "ok",
            Verdict::Missing => "missing",
            Verdict::Bad => {
                bad.push(*what);
                "bad"
            }
        };
        let advice = remedy.as_ref().map(|remedy| format!("\n         {remedy}"));
        context.out.show(
            &json!({"check": what, "verdict": word, "found": found, "remedy": remedy}),
            format_args!("{word:<8} {what}: {found}{}", advice.unwrap_or_default()),
        );
    }
    if bad.is_empty() {
        Ok(())
    } else {
        Err(Failure::failed(format!("not ready: {}", bad.join(", "))))
    }
}

/// The folder itself, or the nearest one above it that is there.
fn nearest(path: &Path) -> &Path {
    let there = path.ancestors().find(|path| path.exists());
    there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn data_folder(data: &Path) -> Finding {
    const WHAT: &str = "data folder";
    let (shown, there) = (data.display(), nearest(data));
    let writable = there.is_dir() && access(there, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    if writable {
        let state = if there == data { "writable" } else { "will be made" };
        return Finding::good(WHAT, format!("{shown}, {state}"));
    }
    let found = format!("{shown}: {} is not a folder that you may write in", there.display());
    Finding::wanting(WHAT, Verdict::Bad, found, "name another one with --data DIR")
}

fn disk(data: &Path) -> Finding {
    const WHAT: &str = "disk space";
    let Ok(found) = statvfs(nearest(data)) else {
        let remedy = "name another folder with --data DIR";
        return Finding::wanting(WHAT, Verdict::Bad, "it cannot be told", remedy);
    };
    let bytes = found.f_bavail.saturating_mul(found.f_frsize);
    let words = format!("{} MiB free", bytes >> 20);
    let remedy = "free at least 1 GiB, or name a folder elsewhere with --data DIR";
    match bytes {
        DISK_BYTES_GOOD.. => Finding::good(WHAT, words),
        DISK_BYTES_MIN.. => Finding::wanting(WHAT, Verdict::Missing, words, remedy),
        _ => Finding::wanting(WHAT, Verdict::Bad, words, remedy),
    }
}

fn port(listen: SocketAddr) -> Finding {
    const WHAT: &str = "address";
    match TcpListener::bind(listen) {
        Ok(_) => Finding::good(WHAT, format!("{listen} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_realm(listen) => {
            Finding::good(WHAT, format!("a realm runs at {listen} already"))
        }
        Err(error) => {
            let remedy = "end what listens there, or choose another with --listen ADDR";
            Finding::wanting(WHAT, Verdict::Bad, format!("{listen}: {error}"), remedy)
        }
    }
}

/// Whether what listens there speaks as a realm does.
fn is_realm(listen: SocketAddr) -> bool {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    let asked = block_on(async {
        let client = Client::new(&format!("http://{}", SocketAddr::new(ip, listen.port())))?;
        let document = timeout(REALM_PATIENCE, client.document()).await;
        document.map_err(|_| Failure::failed("it says nothing"))?.map_err(Failure::from)
    });
    asked.is_ok_and(|text| serde_json::from_str::<RealmDocument>(text.get()).is_ok())
}

fn program(context: &Context) -> Finding {
    const WHAT: &str = "mtor-models";
    match find_models_program(&context.environment) {
        Some(path) => Finding::good(WHAT, path.display().to_string()),
        None => Finding::wanting(
            WHAT,
            Verdict::Missing,
            "neither beside mtor nor in PATH: no embed by this machine",
            "run `make build`, or put mtor-models beside mtor",
        ),
    }
}

fn models_here(context: &Context) -> Finding {
    const WHAT: &str = "models";
    let models = match Models::choose(&ModelArguments::default(), context) {
        Ok(Some(models)) => models,
        Ok(None) => {
            let remedy = "name a folder in MTOR_MODELS";
            return Finding::wanting(WHAT, Verdict::Missing, "no place for them", remedy);
        }
        Err(failure) => {
            let remedy = "mend the models' folder, or name another one in MTOR_MODELS";
            return Finding::wanting(WHAT, Verdict::Missing, failure.message(), remedy);
        }
    };
    let (summary, problem, pull) = models.summary();
    match (problem, pull) {
        (Some(problem), _) => Finding::wanting(WHAT, Verdict::Missing, summary, problem),
        (None, Some(pull)) => {
            let remedy = format!("`mtor up` fetches it at its start, `{pull}` beforehand");
            Finding::wanting(WHAT, Verdict::Missing, summary, remedy)
        }
        (None, None) => Finding::good(WHAT, summary),
    }
}

fn python() -> Finding {
    const WHAT: &str = "python3";
    let mut venv = Purpose::Work.command("python3");
    venv.args(["-c", "import venv, ensurepip"]);
    venv.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match venv.status() {
        Ok(status) if status.success() => {
            Finding::good(WHAT, "with venv, for models that come as packages")
        }
        _ => Finding::wanting(
            WHAT,
            Verdict::Missing,
            "not found with its venv module: chat models, and those that come as packages, need it",
            "install python3 and python3-venv",
        ),
    }
}
