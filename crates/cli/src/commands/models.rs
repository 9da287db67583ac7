//! `mtor models`: fetches the small models, or says which are here.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mtor_types::Code;
use serde_json::json;

use super::Context;
use crate::failure::Failure;
use crate::models;

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
    /// Fetch what is missing, about 160 MB
    Pull,
    /// What is here (if nothing is said)
    Status,
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let Arguments { dir, action } = arguments;
    let dir = dir.or_else(|| context.environment.models_dir()).ok_or_else(|| {
        Failure::configuration("no place for models: neither MTOR_MODELS is set nor HOME")
            .with_remedy("name one with --dir DIR")
    })?;
    match action.unwrap_or(Action::Status) {
        Action::Pull => pull(&dir, context),
        Action::Status => status(&dir, context),
    }
}

fn pull(dir: &std::path::Path, context: &Context) -> Result<(), Failure> {
    let told = &mut |progress: models::Progress| {
        let object = match &progress {
            models::Progress::Present { file, bytes } => {
                json!({"event": "present", "file": file, "bytes": bytes})
            }
            models::Progress::Skipped { file, target } => {
                json!({"event": "skipped", "file": file, "target": target})
            }
            models::Progress::Preparing => json!({"event": "preparing"}),
            models::Progress::Fetching { package, version } => {
                json!({"event": "fetching", "package": package, "version": version})
            }
            models::Progress::Received { package, bytes } => {
                json!({"event": "received", "package": package, "bytes": bytes})
            }
            models::Progress::Placed { file, bytes } => {
                json!({"event": "placed", "file": file, "bytes": bytes})
            }
        };
        context.out.show(&object, progress);
    };
    models::pull(dir, told).map_err(|error| {
        Failure::failed(format!("{error:#}"))
            .with_code(Code::ModelUnavailable.text())
            .with_remedy("what is whole stays; run `mtor models pull` again")
    })?;
    let dir = dir.display();
    context.out.show(&json!({"event": "done", "dir": dir.to_string()}), format!("models in {dir}"));
    Ok(())
}

fn status(dir: &std::path::Path, context: &Context) -> Result<(), Failure> {
    let status = models::status(dir).map_err(|error| Failure::failed(format!("{error:#}")))?;
    context.out.words(format_args!("models folder {}", dir.display()));
    let mut complete = true;
    for models::Status { model, missing } in status {
        let ready = missing.is_empty();
        complete &= ready;
        let object = json!({
            "model": model.name, "intent": model.intent, "licence": model.licence,
            "bytes": model.bytes, "ready": ready, "missing": missing,
        });
        let state =
            if ready { "here".to_owned() } else { format!("missing {}", missing.join(", ")) };
        context.out.show(&object, format_args!("{:<24} {:<6} {state}", model.name, model.intent));
    }
    if !complete {
        context.out.words("`mtor models pull` fetches what is missing");
    }
    Ok(())
}
