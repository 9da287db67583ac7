//! `mtor up`: a realm here, with a worker of its own.

mod embedded;
mod lan;
mod manifests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use mtor_client::Client;
use mtor_server::{ModelAbout, ModelsTold, OpenError, Realm, RealmOptions};
use mtor_types::Code;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::sync::oneshot;

use super::{Context, Log, block_on, data_dir, end_at_once, stop_signal};
use crate::environment::{Environment, is_program};
use crate::failure::Failure;
use crate::models;
use crate::printer::Printer;
use embedded::Embedded;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where the realm keeps everything; the user's data folder if it is not given
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9000", value_parser = listen)]
    listen: SocketAddr,
    #[command(flatten)]
    lan: lan::Wish,
    /// Start no worker beside the realm
    #[arg(long)]
    no_worker: bool,
    /// Do not serve with Ollama, llama-server, LM Studio or vLLM where they answer on this machine
    #[arg(long, conflicts_with = "no_worker")]
    no_discover: bool,
    /// Threads that the worker may use for each kind of work
    #[arg(long, value_name = "N", conflicts_with = "no_worker", value_parser = clap::value_parser!(u16).range(1..=256))]
    worker_threads: Option<u16>,
    /// The realm's share of what workers earn, in 1/100 per cent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=10_000))]
    fee_basis_points: Option<u16>,
    /// The log on standard error, as FORMAT/LEVEL
    #[arg(long, value_name = "FORMAT/LEVEL", default_value_t)]
    log: Log,
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected IP:PORT, such as 127.0.0.1:9000 or [::]:9000".into())
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let data = data_dir(arguments.data.clone(), context.environment.data_dir())?;
    arguments.log.start();
    block_on(Box::pin(up(arguments, data, context)))
}

/// Connections and spilled answers each take a file: as many as this process may have.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the number of open files stays limited");
    }
}

async fn up(arguments: Arguments, data: PathBuf, context: &Context) -> Result<(), Failure> {
    raise_open_files();
    let mut options = RealmOptions::new(data.clone(), arguments.listen);
    options.embedded_worker = !arguments.no_worker;
    options.fee_basis_points = arguments.fee_basis_points.unwrap_or(options.fee_basis_points);
    let lan = lan::agreed(&arguments.lan, &data, arguments.listen.port(), context.out)?;
    options.also = lan::also(lan.as_ref());
    // Before the realm opens: a signal that comes meanwhile stops it in order, too.
    let stop = stop_signal(end_at_once)?;
    let realm = Realm::open(options).await.map_err(|error| refused(&error))?;
    let models = context.environment.models_dir().map(Models::look);
    let models = models.filter(|_| !arguments.no_worker);
    if let Some(models) = &models {
        let about = models.about.clone();
        realm.tell_models(ModelsTold { about, ..ModelsTold::default() });
    }
    tell(&realm, &data, models.as_ref(), context);
    if let Some(lan) = &lan {
        lan.tell(realm.port(), context.out);
    }
    let worker = if arguments.no_worker {
        None
    } else {
        let program = std::env::current_exe().map_err(|error| Failure::caused(&error))?;
        let url = realm.url().to_owned();
        let models = models.filter(|models| !models.names.is_empty());
        let models = models
            .and_then(|models| Some((find_models_program(&context.environment)?, models.dir)));
        let client = Client::new(&url)?;
        let embedded = Embedded {
            program,
            realm: url,
            data: data.join("worker"),
            token: realm.embedded_worker_token().map(str::to_owned),
            threads: arguments.worker_threads,
            models,
            discover: !arguments.no_discover,
            log: arguments.log,
        };
        let (stop, stopped) = oneshot::channel();
        let (printer, printing) = Printer::start(context.out);
        let worker = tokio::spawn(embedded::keep(embedded, client, printer, stopped));
        Some((stop, worker, printing))
    };
    realm.run_with(stop, manifests::relay(context.out)).await;
    let mut is_read = true;
    if let Some((stop, worker, printing)) = worker {
        drop(stop);
        // A supervisor that panicked took its child along.
        let _ = worker.await;
        is_read = printing.finish();
    }
    // An output that nobody reads would keep this process.
    if is_read {
        context.out.show(&json!({"event": "stopped"}), "stopped");
    }
    Ok(())
}

fn refused(error: &OpenError) -> Failure {
    let (code, failure) = (error.code(), Failure::caused(error));
    let failure = if let OpenError::Data { .. } = error {
        Failure::configuration(failure.message()).with_remedy(
            "name a folder that you may write in, or that can be made, with --data DIR",
        )
    } else if let (OpenError::Listen { .. }, Code::BadConfiguration) = (error, code) {
        Failure::configuration(failure.message())
            .with_remedy("--listen takes an address of this machine and a port that you may use")
    } else if code == Code::BadConfiguration {
        Failure::configuration(failure.message())
    } else if code == Code::DataDirectoryInUse {
        failure.with_remedy("stop that realm first, or name another folder with --data DIR")
    } else if code == Code::AddressInUse {
        failure.with_remedy("--listen 127.0.0.1:0 takes a free port")
    } else {
        failure
    };
    failure.with_code(code.text())
}

/// Says that the realm is there. With `--json` this is the first line.
fn tell(realm: &Realm, data: &Path, models: Option<&Models>, context: &Context) {
    let (out, url, id) = (context.out, realm.url(), realm.realm());
    let secret = realm.sysop_secret();
    let mut ready = json!({
        "url": url, "realm": id, "data": data.display().to_string(), "pid": std::process::id(),
        "models": models.map(|models| &models.names),
    });
    if let (Some(secret), Some(fields)) = (secret, ready.as_object_mut()) {
        fields.insert("sysop_secret".into(), secret.into());
    }
    out.event("ready", ready);
    out.words(format_args!("The realm is running.\n  page    {url}\n  realm   {id}"));
    out.words(format_args!("  data    {}", data.display()));
    if let Some(secret) = secret {
        out.words(format_args!(
            "  sysop   {secret}   (the sysop's secret, shown only this once: keep it)"
        ));
    }
    match models {
        Some(models) if !models.names.is_empty() => {
            let names = models.names.join(", ");
            out.words(format_args!("  models  {names} in {}", models.dir.display()));
        }
        Some(_) => {
            out.words("  models  none here: `mtor models pull` fetches small ones (about 200 MB)");
        }
        // Nothing here would serve them.
        None => {}
    }
    out.words("Stop it with Ctrl-C.");
}

/// The models that are here.
struct Models {
    dir: PathBuf,
    names: Vec<String>,
    /// In words, for who asks.
    about: Vec<(String, ModelAbout)>,
}

impl Models {
    /// By name and size only: `mtor doctor` reads them.
    fn look(dir: PathBuf) -> Self {
        let is_here = |file: &models::ModelFile| {
            dir.join(&file.name).metadata().is_ok_and(|found| found.len() == file.bytes)
        };
        let known = models::built_in().unwrap_or_default();
        // The others are not served by the program beside this one.
        let served =
            known.into_iter().filter(|model| model.basic && model.intent != models::ENGINE);
        let here = served.filter(|model| model.files.iter().all(is_here));
        let (mut names, mut about) = (Vec::new(), Vec::new());
        for model in here {
            let models::Model { name, title, bytes, maker, licence, note, .. } = model;
            about.push((name.clone(), ModelAbout { title, bytes, maker, licence, note }));
            names.push(name);
        }
        Self { dir, names, about }
    }
}

/// The models' program: beside this one, else in `PATH`.
pub(super) fn find_models_program(environment: &Environment) -> Option<PathBuf> {
    const NAME: &str = "mtor-models";
    let here = std::env::current_exe().ok();
    let beside = here.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path =
        environment.path.as_ref().map(|path| std::env::split_paths(path).collect::<Vec<_>>());
    let folders = beside.into_iter().chain(path.unwrap_or_default());
    folders.map(|folder| folder.join(NAME)).find(|path| is_program(path))
}
