//! Model files that this worker serves itself: `--gguf NAME=FILE` with `--engine FILE`.

use std::path::PathBuf;

use clap::Args;
use mtor_worker::{EngineOptions, ExecutorOptions};

use crate::failure::Failure;

#[derive(Args)]
pub(super) struct EngineArguments {
    /// A model file (GGUF) to serve chat with, under the name that clients use for it
    #[arg(long, value_name = "NAME=FILE", value_parser = model, requires = "engine")]
    gguf: Vec<(String, PathBuf)>,
    /// What runs model files: xllamacpp.abi3.so of the Python package xllamacpp, or its folder.
    /// `mtor models pull` fetches it
    #[arg(long, value_name = "PATH")]
    engine: Option<PathBuf>,
}

impl EngineArguments {
    pub(super) fn offers_chat(&self) -> bool {
        !self.gguf.is_empty()
    }

    /// One executor, and one process of its own, a model.
    pub(super) fn executors(
        self,
        slots: u32,
        threads: Option<u32>,
    ) -> Result<Vec<ExecutorOptions>, Failure> {
        let Some(engine) = self.engine.filter(|_| !self.gguf.is_empty()) else {
            return Ok(Vec::new());
        };
        if !engine.exists() {
            let message = format!("--engine: {} is not there", engine.display());
            return Err(Failure::usage(message).with_remedy("`mtor models pull` fetches it"));
        }
        let threads = threads.unwrap_or_else(default_threads);
        let mut executors = Vec::with_capacity(self.gguf.len());
        for (name, file) in self.gguf {
            if !file.is_file() {
                let message = format!("--gguf: {} is not there", file.display());
                return Err(Failure::usage(message).with_remedy("see `mtor models`"));
            }
            let engine = engine.clone();
            let options = EngineOptions { name, file, engine, slots, threads };
            executors.push(ExecutorOptions::Engine(options));
        }
        Ok(executors)
    }
}

/// llama.cpp's threads wait for each other by spinning, hundreds of times a token: one that has
/// lost its core to another program holds up all. So half of the cores, and few where they are
/// many.
pub(super) fn default_threads() -> u32 {
    const THREADS_MAX: usize = 8;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from((cores / 2).clamp(1, THREADS_MAX)).unwrap_or(1)
}

fn model(text: &str) -> Result<(String, PathBuf), String> {
    text.split_once('=')
        .filter(|(name, file)| !name.is_empty() && !file.is_empty())
        .map(|(name, file)| (name.to_owned(), file.into()))
        .ok_or_else(|| "expected NAME=FILE, such as tiny=smollm2-135m-instruct.q4_1.gguf".into())
}
