//! What the realm says of its manifests' folder, told where `mtor up` tells everything.

use mtor_server::manifests::ManifestError;
use mtor_server::{ManifestNews, ManifestProblem, Realm};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::output::Out;
use crate::printer::Printer;

/// Where the realm says its news; they are printed until that is dropped.
pub(super) fn relay(out: Out) -> mpsc::Sender<ManifestNews> {
    let (sender, mut news) = Realm::news();
    tokio::spawn(async move {
        let (printer, printing) = Printer::start(out);
        while let Some(news) = news.recv().await {
            let (event, words) = told(&news);
            printer.event("manifest", event);
            printer.words(words);
        }
        drop(printer);
        tokio::task::spawn_blocking(move || printing.finish());
    });
    sender
}

fn told(news: &ManifestNews) -> (Value, String) {
    match news {
        ManifestNews::Added { name, file } => (
            json!({"status": "added", "name": name, "file": file}),
            format!("Intent {name} can be asked for ({file})."),
        ),
        ManifestNews::Changed { name, file } => (
            json!({"status": "changed", "name": name, "file": file}),
            format!("Intent {name} has changed ({file})."),
        ),
        ManifestNews::Removed { name, file, built_in } => (
            json!({"status": "removed", "name": name, "file": file, "built_in": built_in}),
            if *built_in {
                format!("Intent {name} is the built-in one again ({file} is gone).")
            } else {
                format!("Intent {name} cannot be asked for any more ({file} is gone).")
            },
        ),
        ManifestNews::Broken(ManifestProblem { file, problem, keeps }) => {
            let kept = keeps.as_ref().map(|name| format!("; {name} stays as it was"));
            let kept = kept.unwrap_or_default();
            (
                json!({"status": "broken", "file": file, "problem": problem, "keeps": keeps,
                    "remedy": ManifestError::REMEDY}),
                format!(
                    "The manifest {file} cannot be used: {problem}{kept}.\n  {}",
                    ManifestError::REMEDY
                ),
            )
        }
    }
}
