//! The commands: one file each. This one knows their names, and what they share.

mod account;
mod cancel;
mod chat;
mod completions;
mod doctor;
mod follow;
pub(crate) mod input;
mod intents;
mod lines;
mod listed;
mod manifest;
mod manifests;
mod models;
mod pools;
mod quote;
mod realm;
mod receipt;
mod sim;
mod speech;
mod submit;
mod sysop;
mod transcribe;
mod up;
mod version;
mod waiting;
mod work;
mod worker;
mod worker_table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind as ClapError;
use clap::{CommandFactory, Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::interrupts::Interrupts;
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
    Submit(Box<submit::Arguments>),
    /// Talk with a model, several turns, or ask it one question in a pipe
    Chat(chat::Arguments),
    /// Write down what is said in a recording
    Transcribe(transcribe::Arguments),
    /// What work would cost, before anything is paid
    Quote(quote::Arguments),
    /// Your intents: open and recent ones, one of them, its events
    Intents(intents::Arguments),
    /// End intents that are under way
    Cancel(cancel::Arguments),
    /// What can be asked of a realm now, at which price and wait
    Pools(pools::Arguments),
    /// The kinds of work that a realm knows: parameters, price, bounds
    Manifests(manifests::Arguments),
    /// Your account at a realm: balance, keys, transfers
    Account(account::Arguments),
    /// Get a receipt, or check one
    Receipt(receipt::Arguments),
    /// The small models that a realm can run by itself
    Models(models::Arguments),
    /// Check the manifest of an intent of your own
    Manifest(manifest::Arguments),
    /// Look after a realm (needs its sysop secret)
    Sysop(sysop::Arguments),
    /// Play the realm under a seed, with faults, and check what must always hold
    Sim(sim::Arguments),
    /// See whether this machine is ready for `mtor up`
    Doctor(doctor::Arguments),
    /// A script that completes mtor's commands and options in your shell
    Completions(completions::Arguments),
    /// The version of this program
    Version,
}

impl Command {
    /// Whether it only asks a realm or this machine, or fetches what the next one goes on with:
    /// Ctrl-C ends it with 130 at any moment. The others have their own order to end in.
    fn is_client(&self) -> bool {
        !matches!(self, Self::Up(_) | Self::Worker(_) | Self::Sim(_))
    }

    fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Up(arguments) => up::run(arguments, context),
            Self::Worker(arguments) => worker::run(arguments, context),
            Self::Submit(arguments) => submit::run(*arguments, context),
            Self::Chat(arguments) => chat::run(arguments, context),
            Self::Transcribe(arguments) => transcribe::run(arguments, context),
            Self::Quote(arguments) => quote::run(arguments, context),
            Self::Intents(arguments) => intents::run(arguments, context),
            Self::Cancel(arguments) => cancel::run(&arguments, context),
            Self::Pools(arguments) => pools::run(&arguments, context),
            Self::Manifests(arguments) => manifests::run(&arguments, context),
            Self::Account(arguments) => account::run(arguments, context),
            Self::Receipt(arguments) => receipt::run(arguments, context),
            Self::Manifest(arguments) => manifest::run(arguments, context),
            Self::Models(arguments) => models::run(arguments, context),
            Self::Sysop(arguments) => sysop::run(arguments, context),
            Self::Sim(arguments) => sim::run(&arguments, context),
            Self::Doctor(arguments) => doctor::run(arguments, context),
            Self::Completions(arguments) => completions::run(&arguments, context, Line::command()),
            Self::Version => version::run(context),
        }
    }
}

/// What every command is given.
pub(crate) struct Context {
    pub(crate) environment: Environment,
    pub(crate) out: Out,
    pub(crate) interrupts: Interrupts,
}

pub(crate) fn main() -> ExitCode {
    let Line { json, command } = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return misread(&error),
    };
    let interrupts = Interrupts::default();
    let context = Context { environment: Environment::read(), out: Out::new(json), interrupts };
    if command.is_client() {
        context.interrupts.watch(context.out);
    }
    match command.run(&context) {
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
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on they do not end the process by themselves.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::caused(&error));
        let interrupt = listen(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: listen(SignalKind::terminate())? })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Passes over those that come within that time.
    pub(crate) async fn pass(&mut self, time: Duration) {
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
        level.parse::<Targets>().map_err(|_| expected)?;
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
        // Parsed once before, so a level that is not one cannot come here.
        let level: Targets = self.level.parse().unwrap_or_default();
        let filter = level.and(filter_fn(is_ours));
        let layer =
            tracing_subscriber::fmt::layer().with_writer(crate::output::log).with_ansi(false);
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
