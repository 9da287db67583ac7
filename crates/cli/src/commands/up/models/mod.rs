//! The models that a realm serves by itself. They arrive behind the running realm: chosen by what
//! was asked for and what the machine has, fetched one after another, started by the embedded
//! worker, and told to the page and the console all the way.

mod choice;
mod fetcher;
mod rate;
mod shelf;
mod weights;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use mtor_server::Teller;
use mtor_worker::{memory_free, memory_free_beside};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{interval, timeout};

use super::find_models_program;
use super::news::News;
use crate::commands::Context;
use crate::commands::worker::parent::{Serve, Wishes};
use crate::environment::{Environment, Purpose};
use crate::failure::Failure;
use crate::models::{self, Model};
use crate::output::Out;
use crate::printer::Printer;
use crate::words::megabytes;
use choice::{Chosen, Machine};
use fetcher::{Arrival, Fetch};
use shelf::{Shelf, Stock, program_of};

/// For a fetch to stop when the realm does.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(500);

#[derive(Args, Default)]
pub(in crate::commands) struct ModelArguments {
    /// A model to serve: good, small, tiny, or a name of `mtor models`; may stand several times.
    /// What the machine has room for if it is not given
    #[arg(long, value_name = "NAME", conflicts_with_all = ["no_worker", "no_models"])]
    model: Vec<String>,
    /// Serve no model by itself, and fetch none
    #[arg(long)]
    no_models: bool,
    /// Whether to hear and to speak, where the machine has room for it if this is not given; its
    /// models come after all others
    #[arg(long, value_name = "on|off")]
    voice: Option<Voice>,
}

impl ModelArguments {
    /// # Errors
    /// A voice where nothing serves it. That there is to be none goes with everything.
    pub(in crate::commands) fn check(&self, no_worker: bool) -> Result<(), Failure> {
        let against = match (no_worker, self.no_models) {
            (true, _) => "--no-worker",
            (false, true) => "--no-models",
            (false, false) => return Ok(()),
        };
        if self.voice != Some(Voice::On) {
            return Ok(());
        }
        let message = format!("--voice on: {against} leaves nobody to hear and to speak");
        Err(Failure::usage(message).with_remedy(format!("leave out --voice on or {against}")))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Voice {
    On,
    Off,
}

/// What is to be served, and where from.
pub(in crate::commands) struct Models {
    dir: PathBuf,
    chosen: Vec<Chosen>,
    known: Vec<Model>,
    engine: Model,
    /// The program that runs what is no model file.
    program: Option<PathBuf>,
    source: Option<String>,
}

impl Models {
    /// Looks at the machine and chooses. `None` if there is to be none.
    ///
    /// # Errors
    /// A name that no model has; no place for models although one was asked for.
    pub(in crate::commands) fn choose(
        wish: &ModelArguments,
        context: &Context,
    ) -> Result<Option<Self>, Failure> {
        let environment = &context.environment;
        if wish.no_models {
            return Ok(None);
        }
        let Some(dir) = environment.models_dir() else {
            let message = "no place for models: neither MTOR_MODELS is set nor HOME";
            if wish.model.is_empty() {
                context.out.note(message);
                return Ok(None);
            }
            return Err(Failure::configuration(message).with_remedy("set MTOR_MODELS to a folder"));
        };
        let failed = |error: anyhow::Error| Failure::configuration(format!("{error:#}"));
        let known = models::all(&dir).map_err(failed)?;
        let engine = models::engine().map_err(failed)?;
        let machine = Machine { memory: memory_free(), disk: disk_free(&dir) };
        let missing = |model: &Model| models::missing_bytes(&dir, model);
        let voice = wish.voice.map(|voice| voice == Voice::On);
        let mut chosen = choice::choose(&wish.model, voice, &known, missing, machine)
            .map_err(|error| Failure::usage(format!("--model: {error}")))?;
        let program = find_models_program(environment);
        for one in chosen.iter_mut().filter(|one| one.problem.is_none()) {
            one.problem = if one.model.intent == "chat" {
                no_engine(&engine, environment)
            } else {
                no_program(program.as_deref(), &one.model)
            };
        }
        let source = environment.model_source.clone();
        let known = known.into_iter().filter(|model| model.intent != models::ENGINE).collect();
        Ok(Some(Self { dir, chosen, known, engine, program, source }))
    }

    /// What would be served; what stands against it; the command that fetches what is not here.
    pub(in crate::commands) fn summary(&self) -> (String, Option<String>, Option<String>) {
        let missing = self.missing();
        let one = |one: &Chosen| {
            let missing = match missing(&one.model) {
                0 => "here".to_owned(),
                bytes => format!("{} MB not here yet", megabytes(bytes)),
            };
            format!("{} by {} ({missing})", one.model.intent, one.model.title)
        };
        let summary: Vec<_> = self.chosen.iter().map(one).collect();
        let problem = self.chosen.iter().find_map(|one| one.problem.clone());
        let wanting = self.chosen.iter().filter(|one| missing(&one.model) > 0);
        let names: Vec<_> = wanting.map(|one| one.model.name.as_str()).collect();
        let pull = format!("mtor models pull {}", names.join(" "));
        (summary.join(", "), problem, Some(pull).filter(|_| !names.is_empty()))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Says what was chosen, and why.
    pub(super) fn tell(&self, out: Out) {
        for one in &self.chosen {
            let Model { intent, title, short, note, bytes, .. } = &one.model;
            let short = short.as_ref().map(|short| format!("{short}, ")).unwrap_or_default();
            let note = note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
            let why = one.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let mb = megabytes(*bytes);
            out.words(format_args!("  {intent:<10} {title} ({short}{mb} MB{note}){why}"));
            if let Some(problem) = &one.problem {
                out.words(format_args!("             not served: {problem}"));
            }
        }
    }

    fn missing(&self) -> Box<dyn Fn(&Model) -> u64 + Send> {
        let (dir, engine) = (self.dir.clone(), self.engine.clone());
        Box::new(move |model| {
            let missing = |model: &Model| models::missing_bytes(&dir, model);
            let engine = if model.intent == "chat" { missing(&engine) } else { 0 };
            missing(model).saturating_add(engine)
        })
    }

    fn fetch(&self, model: Model) -> Fetch {
        let engine = (model.intent == "chat").then(|| self.engine.clone());
        // The smaller first: a pull that cannot work at all is seen sooner.
        let wanted = engine.into_iter().chain([model]).collect();
        fetcher::fetch(wanted, self.dir.clone(), self.source.clone())
    }

    fn wishes(&self, shelf: &Shelf, threads: Option<u16>) -> Wishes {
        let file = |model: &Model| Some(self.dir.join(&model.files.first()?.name));
        let engines = shelf.wanted().filter(|model| model.intent == "chat").filter_map(|model| {
            let (name, file, engine) = (model.name.clone(), file(model)?, file(&self.engine)?);
            Some(Serve::Gguf { name, file, engine })
        });
        let mut serve: Vec<_> = engines.collect();
        for name in ["embed", "voice"] {
            let its = |model: &&Model| program_of(&model.intent) == Some(name);
            let intents: Vec<_> = shelf.wanted().filter(its).map(|model| &*model.intent).collect();
            let program = self.program.clone().filter(|_| !intents.is_empty());
            serve.extend(program.map(|program| {
                let mut args = vec!["--models".to_owned(), self.dir.display().to_string()];
                args.extend(
                    intents.iter().flat_map(|intent| ["--serve", intent]).map(String::from),
                );
                args.extend(threads.iter().flat_map(|n| ["--threads".into(), n.to_string()]));
                Serve::Exec { name: name.into(), program, args }
            }));
        }
        Wishes { serve }
    }
}

/// Where what becomes of the models is told.
pub(super) struct Links {
    pub(super) teller: Teller,
    pub(super) printer: Printer,
    pub(super) wishes: watch::Sender<Wishes>,
    /// Closed when the worker's keeper has ended.
    pub(super) news: mpsc::Receiver<News>,
    /// Whether the worker looks for servers of models on this machine.
    pub(super) looks: bool,
    /// For each kind of work.
    pub(super) threads: Option<u16>,
}

/// Brings the models and keeps them told, until the worker's keeper has ended.
pub(super) async fn keep(mut models: Models, mut links: Links) {
    let stock = Stock {
        chosen: std::mem::take(&mut models.chosen),
        known: std::mem::take(&mut models.known),
        meanwhile: None,
        looks: links.looks,
    };
    let meanwhile = choice::by_short("small", &stock.known).cloned();
    let mut shelf = Shelf::new(Stock { meanwhile, ..stock }, models.missing(), Instant::now());
    let mut fetch: Option<Fetch> = None;
    let mut ticks = interval(TICK);
    loop {
        shelf.make_room(Instant::now(), memory_free_beside);
        if let Some(fetch) = fetch.as_ref().filter(|_| shelf.breaks_off()) {
            fetch.stop.now();
        }
        if fetch.is_none() {
            fetch = shelf.next_order(Instant::now()).map(|model| models.fetch(model));
        }
        tell(&mut shelf, &models, &links);
        let has_ticks = shelf.ticks();
        tokio::select! {
            news = links.news.recv() => match news {
                Some(news) => shelf.on_news(news, Instant::now()),
                None => break,
            },
            arrival = next(&mut fetch) => {
                if arrival.is_end() {
                    fetch = None;
                }
                shelf.on_arrival(arrival, Instant::now());
            }
            _ = ticks.tick(), if has_ticks => shelf.on_tick(Instant::now()),
        }
    }
    if let Some(Fetch { mut arrivals, stop }) = fetch {
        stop.now();
        // A program that it started ends with it.
        let _ended =
            timeout(STOP_PATIENCE, async { while arrivals.recv().await.is_some() {} }).await;
    }
}

async fn next(fetch: &mut Option<Fetch>) -> Arrival {
    match fetch {
        Some(fetch) => {
            let ended = || Arrival::Failed("the fetch broke down inside".into());
            fetch.arrivals.recv().await.unwrap_or_else(ended)
        }
        None => std::future::pending().await,
    }
}

fn tell(shelf: &mut Shelf, models: &Models, links: &Links) {
    // Before it is said: who hears of it may look at once.
    links.teller.tell_models(shelf.told());
    links.teller.tell_weights(weights::of(shelf.here(), &models.dir));
    for said in shelf.said() {
        links.printer.event("model", said.event);
        if let Some(words) = said.words {
            links.printer.words(words);
        }
    }
    let wishes = models.wishes(shelf, links.threads);
    links.wishes.send_if_modified(|before| {
        let changes = *before != wishes;
        if changes {
            *before = wishes;
        }
        changes
    });
}

/// What is free where the models are, or will be.
fn disk_free(dir: &Path) -> Option<u64> {
    let there = dir.ancestors().find(|path| path.exists())?;
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let found = rustix::fs::statvfs(there).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Why the engine cannot run here, with the remedy.
fn no_engine(engine: &Model, environment: &Environment) -> Option<String> {
    const FOUND: &str = "Ollama and llama-server are found by themselves where they run";
    if models::not_for(engine).is_some() {
        let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
        return Some(format!("there is no prebuilt engine for {arch}-{os}; {FOUND}"));
    }
    if !environment.can_run("python3".as_ref()) {
        return Some(format!(
            "python3 is needed to run it and is not here: install it (apt-get install python3); \
             {FOUND}"
        ));
    }
    let mut python = Purpose::Work.command("python3");
    python.args(["-I", "-c", "import sys; sys.exit(sys.version_info < (3, 10))"]);
    python.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let is_good = python.status().is_ok_and(|status| status.success());
    (!is_good).then(|| {
        format!("python3 is older than 3.10, which it needs: install a newer one; {FOUND}")
    })
}

fn no_program(program: Option<&Path>, model: &Model) -> Option<String> {
    if program.is_none() {
        return Some(
            "its program mtor-models is neither beside mtor nor in PATH: build it (cargo build \
             --release -p mtor-models) or put it there"
                .into(),
        );
    }
    let target = models::not_for(model)?;
    Some(format!("its files are for {target} only"))
}

/// For `--json`: what was chosen and what stands against it.
pub(super) fn described(models: Option<&Models>) -> serde_json::Value {
    let one = |one: &Chosen| {
        json!({"id": one.model.name, "intent": one.model.intent, "why": one.why,
               "problem": one.problem})
    };
    models.map(|models| models.chosen.iter().map(one).collect()).unwrap_or_default()
}
