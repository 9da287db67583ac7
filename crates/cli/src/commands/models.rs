//! `mtor models`: fetches models, adds one's own, or says which are here.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use mtor_types::Code;
use serde_json::{Value, json};

use super::Context;
use crate::failure::Failure;
use crate::models::{self, Model, Origin, Progress, Sources, Status};
use crate::words::megabytes;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The models' folder; MTOR_MODELS if it is not given, else .models here, else the user's cache
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Fetch what is missing of these models; of the basic ones, about 200 MB, if none is named
    Pull {
        /// A model's name, or good, small, tiny
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// What is here (if nothing is said)
    #[command(alias = "list")]
    Status,
    /// Take a GGUF file of your own into the models' folder
    Add {
        /// What it is called from now on
        #[arg(value_name = "NAME")]
        name: String,
        /// The file, or its address
        #[arg(value_name = "FILE|URL")]
        origin: String,
        /// The hash that it must have; needed with an address
        #[arg(long, value_name = "HEX")]
        sha256: Option<String>,
    },
    /// Take a model's files away
    Remove {
        /// A model's name, or good, small, tiny
        #[arg(value_name = "NAME")]
        name: String,
    },
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let Arguments { dir, action } = arguments;
    let dir = dir.or_else(|| context.environment.models_dir()).ok_or_else(|| {
        Failure::configuration("no place for models: neither MTOR_MODELS is set nor HOME")
            .with_remedy("name one with --dir DIR")
    })?;
    match action.unwrap_or(Action::Status) {
        Action::Pull { names } => pull(&dir, &names, context),
        Action::Status => status(&dir, context),
        Action::Add { name, origin, sha256 } => {
            add(&dir, &name, &origin, sha256.as_deref(), context)
        }
        Action::Remove { name } => remove(&dir, &name, context),
    }
}

fn tell(progress: Progress, context: &Context) {
    let object = match &progress {
        Progress::Present { file, bytes } => {
            json!({"event": "present", "file": file, "bytes": bytes})
        }
        Progress::Skipped { file, target } => {
            json!({"event": "skipped", "file": file, "target": target})
        }
        Progress::Waiting { file } => json!({"event": "waiting", "file": file}),
        Progress::Fetching { file, from } => {
            json!({"event": "fetching", "file": file, "from": from})
        }
        Progress::Received { file, bytes, of } => {
            json!({"event": "received", "file": file, "bytes": bytes, "of": of})
        }
        Progress::Refused { file, from, why, .. } => {
            json!({"event": "refused", "file": file, "from": from, "why": why})
        }
        Progress::Placed { file, bytes } => {
            json!({"event": "placed", "file": file, "bytes": bytes})
        }
    };
    context.out.show(&object, progress);
}

fn pull(dir: &Path, names: &[String], context: &Context) -> Result<(), Failure> {
    let sources = Sources::new(context.environment.model_source.clone());
    let is_it =
        |name: &&String, model: &Model| model.name == **name || model.short.as_ref() == Some(*name);
    let known = models::all(dir).unwrap_or_default();
    let is_unknown = |name: &&String| !known.iter().any(|model| is_it(name, model));
    // Nothing of it could arrive: there is nothing to go on with.
    if let Some(name) = names.iter().find(is_unknown).filter(|_| !known.is_empty()) {
        let known: Vec<_> = known.iter().map(|model| model.name.as_str()).collect();
        return Err(Failure::usage(format!("there is no model `{name}`"))
            .with_code(Code::ModelUnavailable.text())
            .with_remedy(format!(
                "there are good, small, tiny, and by name {}",
                known.join(", ")
            )));
    }
    models::pull(dir, names, &sources, &mut |progress| tell(progress, context)).map_err(
        |error| {
            Failure::failed(format!("{error:#}"))
                .with_code(Code::ModelUnavailable.text())
                .with_remedy("what has arrived stays; `mtor models pull` goes on from there")
        },
    )?;
    let dir = dir.display();
    context.out.show(&json!({"event": "done", "dir": dir.to_string()}), format!("models in {dir}"));
    Ok(())
}

fn status(dir: &Path, context: &Context) -> Result<(), Failure> {
    let status = models::status(dir).map_err(|error| Failure::failed(format!("{error:#}")))?;
    context.out.words(format_args!("models folder {}", dir.display()));
    let mut complete = true;
    for Status { model, missing } in status {
        let ready = missing.is_empty();
        complete &= ready || !model.basic;
        let object = json!({
            "model": model.name, "short": model.short, "intent": model.intent,
            "title": model.title, "maker": model.maker, "licence": model.licence,
            "note": model.note, "bytes": model.bytes, "basic": model.basic, "ready": ready,
            "missing": missing,
        });
        let state = match ready {
            true => "here".to_owned(),
            false if model.basic => format!("missing {}", missing.join(", ")),
            false => "not here".to_owned(),
        };
        let (name, intent, mb) = (&model.name, &model.intent, megabytes(model.bytes));
        let short = model.short.as_deref().unwrap_or("");
        context
            .out
            .show(&object, format_args!("{name:<28} {short:<6} {intent:<6} {mb:>5} MB  {state}"));
    }
    if !complete {
        context.out.words("`mtor models pull` fetches what is missing");
    }
    Ok(())
}

fn add(
    dir: &Path,
    name: &str,
    origin: &str,
    sha256: Option<&str>,
    context: &Context,
) -> Result<(), Failure> {
    let origin = Origin::new(origin);
    if matches!(origin, Origin::Url(_)) && sha256.is_none() {
        return Err(Failure::usage("--sha256 is needed with an address")
            .with_remedy("the hash alone says that it is the right file: its publisher tells it"));
    }
    let tell = &mut |progress| tell(progress, context);
    let model = models::add(dir, name, &origin, sha256, tell).map_err(|error| {
        Failure::failed(format!("{error:#}")).with_code(Code::ModelUnavailable.text())
    })?;
    let file = model.files.first();
    let sha256 = file.map_or(Value::Null, |file| file.sha256.clone().into());
    let object =
        json!({"event": "added", "model": model.name, "bytes": model.bytes, "sha256": sha256});
    context.out.show(&object, format_args!("{name} is in {}", dir.display()));
    Ok(())
}

fn remove(dir: &Path, name: &str, context: &Context) -> Result<(), Failure> {
    let gone = models::remove(dir, name).map_err(|error| Failure::failed(format!("{error:#}")))?;
    let words = if gone.is_empty() { "nothing was here".to_owned() } else { gone.join(", ") };
    context.out.show(&json!({"event": "removed", "files": gone}), format_args!("removed {words}"));
    Ok(())
}
