//! onnxruntime: one environment for all models of this process.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use ort::environment::Environment;
use ort::session::Session;

pub fn start(library: &Path) -> anyhow::Result<Environment> {
    ort::init_from(library)
        .map_err(|error| anyhow!("onnxruntime did not load: {error}"))?
        .with_telemetry(false)
        .build()
        .context("onnxruntime did not start")
}

/// One model, to be run on so many threads.
pub fn session(
    environment: &Environment,
    weights: &Path,
    threads: usize,
) -> anyhow::Result<Session> {
    let name = weights.file_name().unwrap_or_default().to_string_lossy();
    let session = || -> Result<Session, ort::Error> {
        Session::builder(environment)?
            .with_intra_threads(threads.max(1))?
            // Waiting threads sleep: the cores belong to chat too.
            .with_intra_op_spinning(false)?
            .commit_from_file(weights)
    };
    session().with_context(|| format!("{name} did not load; run `make models`"))
}
