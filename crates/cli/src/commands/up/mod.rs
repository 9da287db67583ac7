//! `mtor up`: a realm here, with a worker of its own.

mod embedded;
mod grants;
mod lan;
mod manifests;
pub(super) mod models;
mod news;
mod room;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use mtor_client::Client;
use mtor_server::manifests::ManifestError;
use mtor_server::origin::{IpNet, network};
use mtor_server::{Networks, OpenError, Realm, RealmOptions};
use mtor_types::Code;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::worker::parent::Wishes;
use super::{Context, Log, block_on, data_dir, end_at_once, stop_signal};
use crate::environment::{Environment, is_program};
use crate::failure::Failure;
use crate::printer::{Printer, Printing};
use embedded::Embedded;
use models::{Links, Models};

/// Words of the worker that wait for the models' keeper.
const NEWS_MAX: usize = 256;

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
    /// A proxy that is believed whom it asks for, by X-Forwarded-For or Forwarded; may stand
    /// several times
    #[arg(long, value_name = "CIDR", value_parser = network)]
    trusted_proxy: Vec<IpNet>,
    /// A network whose accounts each have a share of their own, such as a school behind one
    /// address; may stand several times
    #[arg(long, value_name = "CIDR", value_parser = network)]
    home_network: Vec<IpNet>,
    #[command(flatten)]
    models: models::ModelArguments,
    /// Start no worker beside the realm
    #[arg(long)]
    no_worker: bool,
    /// Do not serve with Ollama, llama-server, LM Studio or vLLM where they answer on this machine
    #[arg(long, conflicts_with = "no_worker")]
    no_discover: bool,
    /// Offer this model of theirs although its server runs it on another machine, such as Ollama's
    /// cloud models, or has not loaded it; may stand several times
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["no_worker", "no_discover"])]
    backend_model: Vec<String>,
    /// Threads that the worker may use for each kind of work
    #[arg(long, value_name = "N", conflicts_with = "no_worker", value_parser = clap::value_parser!(u16).range(1..=256))]
    worker_threads: Option<u16>,
    /// The realm's share of what workers earn, in 1/100 per cent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=10_000))]
    fee_basis_points: Option<u16>,
    /// What the realm's own test intents, by which others' workers are proven, may cost a day, in base
    /// units of the grant asset; 0 tries nobody
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_000_000_000_000))]
    canary_budget: Option<u64>,
    #[command(flatten)]
    grants: grants::Grants,
    /// The memory that the realm may take, such as 512M or 4G; if it is not given, what the system
    /// grants, and half of that with models beside it
    #[arg(long, value_name = "BYTES", value_parser = room::memory)]
    memory: Option<u64>,
    /// The log on standard error, as FORMAT/LEVEL
    #[arg(long, value_name = "FORMAT/LEVEL", default_value_t)]
    log: Log,
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected IP:PORT, such as 127.0.0.1:9000 or [::]:9000".into())
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    arguments.models.check(arguments.no_worker)?;
    let data = data_dir(arguments.data.clone(), context.environment.data_dir())?;
    arguments.log.start();
    block_on(Box::pin(up(arguments, data, context)))
}

async fn up(arguments: Arguments, data: PathBuf, context: &Context) -> Result<(), Failure> {
    let mut options = RealmOptions::new(data.clone(), arguments.listen);
    options.embedded_worker = !arguments.no_worker;
    options.fee_basis_points = arguments.fee_basis_points.unwrap_or(options.fee_basis_points);
    options.canaries_a_day = arguments.canary_budget.unwrap_or(options.canaries_a_day);
    options.networks =
        Networks { trusted: arguments.trusted_proxy.clone(), home: arguments.home_network.clone() };
    let lan = lan::agreed(&arguments.lan, &data, arguments.listen.port(), context.out)?;
    options.also = lan::also(lan.as_ref());
    let models = match arguments.no_worker {
        true => None,
        false => Models::choose(&arguments.models, context)?,
    };
    arguments.grants.set(&mut options);
    options.room = room::of(arguments.memory, models.is_some(), &options.data);
    // Before the realm opens: a signal that comes meanwhile stops it in order, too.
    let stop = stop_signal(end_at_once)?;
    let realm = Realm::open(options).await.map_err(|error| refused(&error))?;
    tell(&realm, &data, models.as_ref(), context);
    if let Some(lan) = &lan {
        lan.tell(realm.port(), context.out);
    }
    let worker = match arguments.no_worker {
        true => None,
        false => Some(Worker::start(&realm, &arguments, data.join("worker"), models, context)?),
    };
    realm.run_with(stop, manifests::relay(context.out)).await;
    let is_read = match worker {
        Some(worker) => worker.end().await,
        None => true,
    };
    // An output that nobody reads would keep this process.
    if is_read {
        context.out.show(&json!({"event": "stopped"}), "stopped");
    }
    Ok(())
}

/// The embedded worker, and the models that it is given.
struct Worker {
    stop: oneshot::Sender<()>,
    keeping: JoinHandle<()>,
    bringing: Option<JoinHandle<()>>,
    printing: Printing,
}

impl Worker {
    fn start(
        realm: &Realm,
        arguments: &Arguments,
        data: PathBuf,
        models: Option<Models>,
        context: &Context,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::caused(&error))?;
        let url = realm.url().to_owned();
        let client = Client::new(&url)?;
        let (stop, stopped) = oneshot::channel();
        let (printer, printing) = Printer::start(context.out);
        let (wish, wishes) = watch::channel(Wishes::default());
        let (tell, news) = mpsc::channel(NEWS_MAX);
        let embedded = Embedded {
            program,
            realm: url,
            data,
            token: realm.embedded_worker_token().map(str::to_owned),
            threads: arguments.worker_threads,
            discover: !arguments.no_discover,
            backend_models: arguments.backend_model.clone(),
            log: arguments.log.clone(),
            wishes,
            news: tell,
        };
        let bringing = models.map(|models| {
            let (teller, printer) = (realm.teller(), printer.clone());
            let looks = !arguments.no_discover;
            let threads = arguments.worker_threads;
            let links = Links { teller, printer, wishes: wish, news, looks, threads };
            tokio::spawn(models::keep(models, links))
        });
        let keeping = tokio::spawn(embedded::keep(embedded, client, printer, stopped));
        Ok(Self { stop, keeping, bringing, printing })
    }

    /// True if all that it said was read.
    async fn end(self) -> bool {
        drop(self.stop);
        // A supervisor that panicked took its child along.
        let _ = self.keeping.await;
        if let Some(bringing) = self.bringing {
            let _ = bringing.await;
        }
        self.printing.finish()
    }
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
    } else if let OpenError::Manifest(_) = error {
        Failure::configuration(failure.message()).with_remedy(ManifestError::REMEDY)
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
        "models": models::described(models),
    });
    if let (Some(secret), Some(fields)) = (secret, ready.as_object_mut()) {
        fields.insert("sysop_secret".into(), secret.into());
    }
    out.event("ready", ready);
    out.words(format_args!("The realm is running.\n  page       {url}\n  realm      {id}"));
    out.words(format_args!("  data       {}", data.display()));
    if let Some(secret) = secret {
        out.words(format_args!(
            "  sysop      {secret}   (the sysop's secret, shown only this once: keep it)"
        ));
    }
    if let Some(models) = models {
        models.tell(out);
        out.words(format_args!("  in         {}", models.dir().display()));
    }
    out.words("Stop it with Ctrl-C.");
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
