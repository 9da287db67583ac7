//! `mtor worker`: serves a realm from this machine, over one outbound connection.

mod backends;
mod engine;
pub(super) mod parent;
mod prices;

use std::io::{BufRead, Read};
use std::path::PathBuf;

use clap::Args;
use mtor_types::{Price, worker};
use mtor_worker::{ExecutorOptions, Status, WorkerError, WorkerOptions};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::realm::RealmArgument;
use super::{Context, Log, block_on, data_dir, input, stop_signal};
use crate::failure::Failure;
use crate::keyring::{Secret, read_secret};
use crate::printer::Printer;
use crate::words::count;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    realm: RealmArgument,
    /// A file with the realm's enrolment token, mode 0600; - reads it from standard input.
    /// Needed once
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The enrolment token itself: every user of this machine can see it while this runs
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file", value_parser = input::said)]
    token: Option<String>,
    /// What people call this worker; the machine's name if it is not given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where the worker's key is kept
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    backends: backends::Backends,
    #[command(flatten)]
    engine: engine::EngineArguments,
    /// A price in place of the list price, such as chat=100000/1000000 (base units / units)
    #[arg(long, value_name = "INTENT=AMOUNT/PER", value_parser = prices::price)]
    price: Vec<(String, Price)>,
    /// Do not serve fft
    #[arg(long)]
    no_fft: bool,
    /// Do not serve echo
    #[arg(long)]
    no_echo: bool,
    /// Threads for fft and for each model file; all cores, and half of them, if it is not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// The log on standard error, as FORMAT/LEVEL
    #[arg(long, value_name = "FORMAT/LEVEL", default_value_t)]
    log: Log,
    /// Started by `mtor up`: the token is the first line of standard input, what to serve are
    /// the others; low priority, ends with its parent
    #[arg(long, hide = true)]
    embedded: bool,
    /// A variable of the environment that the program of --exec finds, beside the usual ones
    /// (paths, languages, accelerators); may be given several times
    #[arg(long, value_name = "NAME", requires = "exec")]
    exec_env: Vec<String>,
    /// A program of your own that speaks one event a line. It takes all that follows, so it
    /// stands last
    #[arg(long, value_name = "PROGRAM [ARGS]", num_args = 1.., allow_hyphen_values = true)]
    pub(super) exec: Vec<String>,
}

/// The embedded worker's niceness: the realm itself comes first.
const NICENESS: i32 = 10;
/// The file of the worker's key; the realm looks for its embedded worker's by this name.
const IDENTITY: &str = "identity";
/// An enrolment token.
const TOKEN_BYTES_MAX: u64 = 4 * 1024;

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    if arguments.embedded {
        // Before there is any other thread: a thread inherits it from the one that starts it.
        // Without it everything works, only less politely.
        let _ = rustix::process::nice(NICENESS);
    }
    arguments.log.start();
    prices::check_offered(&arguments)?;
    arguments.backends.check()?;
    let client = arguments.realm.client(context)?;
    let asked = arguments.price.clone();
    let (printer, printing) = Printer::start(context.out);
    let options = options(arguments, context, printer)?;
    let done = block_on(Box::pin(async {
        let (end, ended) = oneshot::channel::<()>();
        let stop = stop_signal(move || drop(end))?;
        let work = async {
            prices::check_units(&asked, &client, context.out).await?;
            mtor_worker::run(options, stop).await.map_err(failure)
        };
        tokio::select! {
            done = work => done,
            // The agent is dropped and not only left: the programs that it started end with it.
            _ = ended => Err(Failure::failed("stopped at once: what it had goes to other workers, if there are any")),
        }
    }));
    printing.finish();
    done
}

fn options(
    arguments: Arguments,
    context: &Context,
    printer: Printer,
) -> Result<WorkerOptions, Failure> {
    let client = arguments.realm.client(context)?;
    let token = token(&arguments, context)?;
    let data = data_dir(arguments.data, context.environment.worker_dir())?;
    let mut options = WorkerOptions::new(client.address(), data.join(IDENTITY));
    options.token = token;
    options.name = arguments.name.unwrap_or_else(machine_name);
    options.prices = arguments.price.into_iter().collect();
    options.surroundings =
        context.environment.surroundings(&arguments.exec_env).map_err(|name| {
            Failure::usage(format!("--exec-env: {name} is not set"))
                .with_remedy("set it, or leave it out")
        })?;
    if arguments.embedded {
        let threads = arguments.threads.unwrap_or_else(engine::default_threads);
        let slots = arguments.backends.slots();
        options.parent = Some(parent::listen(parent::Manner { slots, threads }));
    }
    // First, and so those of this machine before all else: what it has of its own is what its
    // owner chose.
    let slots = arguments.backends.slots();
    options.executors.extend(arguments.backends.executors(&context.environment)?);
    if !arguments.no_echo {
        options.executors.push(ExecutorOptions::echo());
    }
    if !arguments.no_fft {
        let slots = arguments.threads.map(|slots| ExecutorOptions::Fft { slots });
        options.executors.push(slots.unwrap_or_else(ExecutorOptions::fft));
    }
    options.executors.extend(arguments.engine.executors(slots, arguments.threads)?);
    if let Some((program, args)) = arguments.exec.split_first() {
        // A token would be used up for a worker that can never do its work.
        if !context.environment.can_run(program.as_ref()) {
            let message = format!("--exec: {program}: there is no such program that may be run");
            return Err(Failure::usage(message)
                .with_remedy("give its path, and make it executable (chmod +x)"));
        }
        let (program, args) = (program.into(), args.to_vec());
        options.executors.push(ExecutorOptions::Exec { name: None, program, args });
    }
    let json = context.out.is_json();
    options.status = Some(Box::new(move |status| {
        let (object, words) = told(status);
        if json { printer.event("worker", object) } else { printer.words(words) }
    }));
    Ok(options)
}

fn token(arguments: &Arguments, context: &Context) -> Result<Option<String>, Failure> {
    if arguments.embedded || arguments.token_file.as_deref() == Some("-".as_ref()) {
        let mut line = String::new();
        let read = std::io::stdin().lock().take(TOKEN_BYTES_MAX).read_line(&mut line);
        read.map_err(|error| Failure::failed(format!("--token-file: standard input: {error}")))?;
        let token = line.trim();
        if token.is_empty() && !arguments.embedded {
            return Err(Failure::usage("--token-file: standard input is empty: expected a token"));
        }
        return Ok(Some(token.to_owned()).filter(|token| !token.is_empty()));
    }
    if let Some(path) = &arguments.token_file {
        return read_secret(path, Secret::WorkerToken).map(Some);
    }
    if arguments.token.is_some() {
        context.out.note("every user of this machine can see --token: prefer --token-file");
    }
    Ok(arguments.token.clone())
}

fn machine_name() -> String {
    const NAME_BYTES_MAX: usize = 64;
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    let name: String = name.chars().filter(|c| c.is_ascii_graphic()).take(NAME_BYTES_MAX).collect();
    if name.is_empty() { "worker".into() } else { name }
}

fn failure(error: WorkerError) -> Failure {
    let failure = Failure::caused(&error);
    let message = failure.message().to_owned();
    match error {
        WorkerError::NoExecutor => Failure::usage("there is nothing that this worker could serve")
            .with_remedy(
                "leave --no-echo or --no-fft out, or add --backend, --audio, --discover, --gguf or --exec",
            ),
        WorkerError::Realm { .. }
        | WorkerError::Slots { .. }
        | WorkerError::Backend { .. }
        | WorkerError::Name => Failure::usage(message).with_remedy("see mtor worker --help"),
        WorkerError::IdentityInUse { .. } => Failure::configuration(message)
            .with_remedy("give each worker a folder of its own with --data DIR"),
        WorkerError::Replaced => Failure::configuration(message).with_remedy(
            "stop the other one, or give this one a folder and so a key of its own (--data DIR), and enrol it with a token of its own",
        ),
        WorkerError::Identity { .. } | WorkerError::IdentityFormat { .. } => {
            Failure::configuration(message)
                .with_remedy("name another folder with --data DIR, or repair this one")
        }
        WorkerError::Enrol { .. } | WorkerError::NoToken => {
            let remedy = Secret::WorkerToken.remedy();
            failure.with_remedy(format!("{remedy}, and hand it over with --token-file FILE"))
        }
        WorkerError::OtherRealm { .. } => failure.with_remedy(
            "see whether the address is right; to work for that realm, get a token of it: \
             `mtor account worker-token`, or the sysop's `mtor sysop worker-token`",
        ),
        WorkerError::Randomness(_) | WorkerError::Tls(_) | WorkerError::Thread(_) => failure,
    }
}

fn stopping(leases: usize) -> String {
    match u64::try_from(leases).unwrap_or(u64::MAX) {
        0 => "stopping".to_owned(),
        leases => {
            let intents = count(leases, "intent");
            format!("stopping: {intents} may end first; again to stop at once")
        }
    }
}

/// A status for programs and for people.
fn told(status: Status) -> (Value, String) {
    match status {
        Status::Ready { worker } => {
            (json!({"status": "started", "worker": worker}), format!("worker {worker}"))
        }
        Status::Enrolled { realm } => {
            (json!({"status": "enrolled", "realm": realm}), format!("enrolled at realm {realm}"))
        }
        Status::Connected { realm } => {
            (json!({"status": "connected", "realm": realm}), format!("connected to realm {realm}"))
        }
        Status::Offered { offers, full } => {
            let names: Vec<_> = offers
                .iter()
                .map(|offer| match &offer.model {
                    Some(model) => format!("{} ({model})", offer.intent),
                    None => offer.intent.clone(),
                })
                .collect();
            let words = match names.as_slice() {
                [] => "offers nothing yet".to_owned(),
                names => format!("offers {}", names.join(", ")),
            };
            (json!({"status": "offered", "full": full, "offers": offers}), words)
        }
        Status::Started { intent, name } => (
            json!({"status": "working", "intent": intent, "name": name}),
            format!("{intent} {name}: begun"),
        ),
        Status::Completed { intent, units } => (
            json!({"status": "completed", "intent": intent, "units": units}),
            format!("{intent}: completed, {}", count(units, "unit")),
        ),
        Status::Failed { intent, code } => (
            json!({"status": "failed", "intent": intent, "code": code}),
            format!("{intent}: failed, {}", code.name()),
        ),
        Status::OfferRefused { intent, model, code, message } => {
            let named = model.as_ref().map_or(String::new(), |model| format!(" ({model})"));
            let words =
                format!("the realm refuses to be offered {intent}{named}: {code}: {message}");
            let told = json!({
                "status": "offer_refused", "intent": intent, "model": model, "code": code,
                "message": message,
            });
            (told, words)
        }
        Status::ExecutorDown { executor, reason } => (
            json!({"status": "executor_down", "executor": executor, "reason": reason}),
            format!("{executor} cannot work now: {reason}"),
        ),
        Status::Backend(news) => backends::told(news),
        Status::Disconnected { reason, retry_after } => {
            let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
            (
                json!({"status": "disconnected", "reason": reason, "retry_after_ms": retry_after_ms}),
                format!("{reason}; next try in {retry_after_ms} ms"),
            )
        }
        Status::Replaced => (
            json!({"status": "replaced", "code": worker::CLOSE_REPLACED}),
            "another worker has opened a session with this worker's key".to_owned(),
        ),
        Status::Draining { leases } => {
            (json!({"status": "draining", "leases": leases}), stopping(leases))
        }
    }
}
