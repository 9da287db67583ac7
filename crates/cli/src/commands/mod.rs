//! The commands: one file each. This one knows their names, and what they share.

mod account;
mod doctor;
mod models;
mod realm;
mod receipt;
mod sim;
mod submit;
mod sysop;
mod up;
mod worker;

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind as ClapError;
use clap::{Parser, Subcommand};
use serde_json::value::RawValue;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::output::Out;

/// The grid's one program: run a realm, work for one, or ask one for work.
#[derive(Parser)]
#[command(name = "mtor", version, arg_required_else_help = true)]
struct Line {
    /// One JSON object a line on standard output, for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a realm here, with a worker of its own
    Up(up::Arguments),
    /// Work for a realm and earn
    Worker(worker::Arguments),
    /// Send work to a realm and get the result
    Submit(submit::Arguments),
    /// Your account at a realm: balance, keys, transfers
    Account(account::Arguments),
    /// Get a receipt, or check one
    Receipt(receipt::Arguments),
    /// The small models that a realm can run by itself
    Models(models::Arguments),
    /// Look after a realm (needs its sysop secret)
    Sysop(sysop::Arguments),
    /// Play the realm under a seed, with faults, and check what must always hold
    Sim(sim::Arguments),
    /// See whether this machine is ready for `mtor up`
    Doctor(doctor::Arguments),
}

/// What every command is given.
pub(crate) struct Context {
    pub(crate) environment: Environment,
    pub(crate) out: Out,
}

pub(crate) fn main() -> ExitCode {
    let Line { json, command } = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return misread(&error),
    };
    let context = Context { environment: Environment::read(), out: Out::new(json) };
    let done = match command {
        Command::Up(arguments) => up::run(arguments, &context),
        Command::Worker(arguments) => worker::run(arguments, &context),
        Command::Submit(arguments) => submit::run(arguments, &context),
        Command::Account(arguments) => account::run(arguments, &context),
        Command::Receipt(arguments) => receipt::run(arguments, &context),
        Command::Models(arguments) => models::run(arguments, &context),
        Command::Sysop(arguments) => sysop::run(arguments, &context),
        Command::Sim(arguments) => sim::run(&arguments, &context),
        Command::Doctor(arguments) => doctor::run(arguments, &context),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            context.out.failure(&failure);
            failure.exit_code()
        }
    }
}

/// The help and the version that were asked for, or what is wrong with the command line.
fn misread(error: &clap::Error) -> ExitCode {
    let for_programs = std::env::args_os().any(|argument| argument == "--json");
    let asked = matches!(error.kind(), ClapError::DisplayHelp | ClapError::DisplayVersion);
    if asked || !for_programs {
        // It goes to where clap says: nobody is left to be told of a failure.
        let _ = error.print();
    } else {
        let message = error.to_string();
        let message = message.lines().next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        Out::new(true).failure(&Failure::usage(message).with_remedy("see mtor --help"));
    }
    if asked { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// For what blocks when a command is done.
const SHUTDOWN_PATIENCE: Duration = Duration::from_millis(300);

/// Runs a command's asynchronous part.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::caused(&error))?;
    let done = runtime.block_on(work);
    // Tasks are dropped before this returns, and with them the programs that they started. What
    // still blocks, such as a read of standard input, must not keep the process.
    runtime.shutdown_timeout(SHUTDOWN_PATIENCE);
    done
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on they do not end the process by themselves.
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::caused(&error));
        let interrupt = listen(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Passes over those that come within that time.
    async fn pass(&mut self, time: Duration) {
        let over = tokio::time::sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                () = self.next() => {}
            }
        }
    }
}

/// Signals within this long are one: `timeout` and supervisors send theirs to a process and, at
/// once, to its group.
const TOGETHER: Duration = Duration::from_millis(100);

/// Resolves at the first SIGINT or SIGTERM. The second one does what it is given; should that not
/// end the process, the third does.
fn stop_signal(
    second: impl FnOnce() + Send + 'static,
) -> Result<impl Future<Output = ()>, Failure> {
    let mut signals = Signals::listen()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        signals.next().await;
        drop(stop);
        signals.pass(TOGETHER).await;
        signals.next().await;
        second();
        signals.next().await;
        end_at_once();
    });
    Ok(async move {
        // Dropped is the signal.
        let _ = stopped.await;
    })
}

/// Nothing is lost but what was under way.
fn end_at_once() {
    std::process::exit(1);
}

/// How the log is written, as in `json/info`. The log goes to standard error.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    json: bool,
    level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { json: false, level: "warn".into() }
    }
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", if self.json { "json" } else { "text" }, self.level)
    }
}

impl std::str::FromStr for Log {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected FORMAT/LEVEL: text or json, and error, warn, info, debug or trace";
        let (format, level) = text.split_once('/').ok_or(expected)?;
        let json = match format {
            "text" => false,
            "json" => true,
            _ => return Err(expected.into()),
        };
        EnvFilter::builder().parse(level).map_err(|_| expected)?;
        if level.is_empty() {
            return Err(expected.into());
        }
        Ok(Self { json, level: level.to_owned() })
    }
}

impl Log {
    fn start(&self) {
        // Below `info` libraries write what passes through them: payloads and keys.
        let is_ours = |metadata: &tracing::Metadata<'_>| {
            metadata.target().starts_with("mtor") || *metadata.level() <= tracing::Level::INFO
        };
        let filter = EnvFilter::new(&self.level).and(filter_fn(is_ours));
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        let layer = if self.json { layer.json().boxed() } else { layer.boxed() };
        tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    }
}

/// The folder that was named, or the one for those who name none.
fn data_dir(given: Option<PathBuf>, default: Option<PathBuf>) -> Result<PathBuf, Failure> {
    given.or(default).ok_or_else(|| {
        Failure::configuration("no place for data: neither HOME is set nor XDG_DATA_HOME")
            .with_remedy("name one with --data DIR")
    })
}

/// What `--data` may hold at most; the realm has its own bounds below it.
const DATA_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// JSON as it stands in the argument, in the file after `@`, or on standard input for `-`.
fn read_data(argument: &str) -> Result<Box<RawValue>, Failure> {
    let (text, place) = match (argument, argument.strip_prefix('@')) {
        ("-", _) => (
            read_bounded(&mut std::io::stdin().lock(), "--data: standard input")?,
            "standard input".to_owned(),
        ),
        (_, Some(path)) => (read_file(Path::new(path), "--data")?, path.to_owned()),
        (text, None) => (text.to_owned(), "--data".to_owned()),
    };
    serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::usage(format!("{place} is not JSON: look at line {line}, column {column}"))
            .with_remedy("give JSON, @FILE or - (standard input) to --data")
    })
}

/// A file that `named` in the command line names.
fn read_file(path: &Path, named: &str) -> Result<String, Failure> {
    let place = path.display().to_string();
    let mut file = std::fs::File::open(path).map_err(|error| {
        let is_missing = error.kind() == ErrorKind::NotFound;
        let why = if is_missing { "there is no such file".into() } else { error.to_string() };
        Failure::usage(format!("{named}: {place}: {why}"))
    })?;
    read_bounded(&mut file, &format!("{named}: {place}"))
}

fn read_bounded(from: &mut dyn Read, place: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = from.take(DATA_BYTES_MAX.saturating_add(1)).read_to_string(&mut text);
    let bytes = read.map_err(|error| Failure::usage(format!("{place}: {error}")))?;
    if u64::try_from(bytes).unwrap_or(u64::MAX) > DATA_BYTES_MAX {
        let message = format!("{place} is longer than {DATA_BYTES_MAX} bytes");
        return Err(Failure::usage(message));
    }
    Ok(text)
}

/// An enrolment token, alone on standard output so that it can go into a file.
fn show_token(token: &mtor_client::WorkerToken, client: &mtor_client::Client, context: &Context) {
    context.out.show(token, &token.token);
    let realm = client.address();
    context.out.note(format_args!(
        "shown once, for one worker: mtor worker --realm {realm} --token-file FILE"
    ));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Line::command().debug_assert();
    }

    #[test]
    fn a_program_of_ones_own_gets_all_that_follows() {
        let words = "mtor worker --threads 2 --exec mtor-models --models d --threads 4 --json";
        let line = Line::try_parse_from(words.split(' ')).unwrap();
        assert!(!line.json);
        let Command::Worker(arguments) = line.command else { panic!("not a worker") };
        assert_eq!(arguments.exec, ["mtor-models", "--models", "d", "--threads", "4", "--json"]);
    }

    #[test]
    fn a_log_has_a_format_and_a_level() {
        for good in ["text/warn", "json/info,mtor_worker=debug"] {
            assert_eq!(good.parse::<Log>().unwrap().to_string(), good);
        }
        for wrong in ["", "info", "xml/info", "text/", "text/=="] {
            assert!(wrong.parse::<Log>().is_err(), "{wrong}");
        }
    }
}
