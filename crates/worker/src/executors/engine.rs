//! A model file (GGUF) for `chat`, on llama.cpp's own server as a child process.
//!
//! The server comes prebuilt as a Python extension; `python3 -I` runs a few lines of ours around it
//! ([`LAUNCHER`]). It listens on loopback alone, wants a key that is new at each start, and is
//! bounded in memory before it loads anything. It ends with this executor, also when this process
//! is killed: its standard input closes then. When it dies the jobs in it fail at once, because
//! their connections break, and it is started again with back-off. For the rest it is one more
//! OpenAI-compatible server. Absences: nothing is compiled, fetched or unpacked here.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use super::exec::Group;
use super::openai::{self, OpenAi};
use super::{AbortOnDrop, Announcer, Job, Output};
use crate::connect::Backoff;
use crate::leases::End;
use crate::limits;
use crate::memory::{fits_memory, memory_free, memory_needed};
use crate::options::{EngineOptions, OpenAiOptions};

const LAUNCHER: &str = include_str!("engine/launch.py");

/// One model and the server that runs it.
#[derive(Default)]
pub(crate) struct Engine {
    /// `None` while it starts.
    server: Mutex<Option<Arc<OpenAi>>>,
}

/// What the launcher is told, over its standard input: a key in its arguments could be read by
/// every user of this machine.
#[derive(Serialize)]
struct Settings<'a> {
    engine: &'a Path,
    file: &'a Path,
    name: &'a str,
    key: &'a str,
    slots: u32,
    context: u32,
    threads: u32,
    cache_mib: u64,
    memory: u64,
}

/// What it says when its model is loaded.
#[derive(Deserialize)]
struct Ready {
    address: String,
}

impl Engine {
    // A poisoned lock means a panic beside one whole assignment.
    fn set(&self, server: Option<Arc<OpenAi>>) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }

    pub(crate) async fn run(&self, job: Job, output: Output) -> End {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match server {
            Some(server) => server.run(job, output).await,
            None => End::backend("the engine of this model is being started again"),
        }
    }
}

/// Keeps the server going until the agent is gone.
pub(crate) async fn keep(engine: Arc<Engine>, options: EngineOptions, announcer: Announcer) {
    let mut backoff = Backoff::default();
    loop {
        let started = Instant::now();
        let reason = live(&engine, &options, &announcer).await;
        engine.set(None);
        tracing::warn!(model = %options.name, %reason, "engine ended");
        if !announcer.down(reason).await {
            return;
        }
        if started.elapsed() > Duration::from_millis(limits::BACKOFF_RESET_MS) {
            backoff = Backoff::default();
        }
        sleep(backoff.next()).await;
    }
}

/// One life of the server; gives why it ended, or could not begin.
async fn live(engine: &Engine, options: &EngineOptions, announcer: &Announcer) -> String {
    let begun = match begin(options).await {
        Ok(begun) => begun,
        Err(reason) => return reason,
    };
    let Begun { mut child, group: _group, address, key, words, .. } = begun;
    let backend = OpenAiOptions { key: Some(key), ..OpenAiOptions::new(address, options.slots) };
    let server = match OpenAi::new(backend) {
        Ok(server) => Arc::new(server),
        Err(error) => return error.to_string(),
    };
    engine.set(Some(Arc::clone(&server)));
    tokio::select! {
        status = child.wait() => match status {
            Ok(status) => words.after(&format!("ended: {status}")),
            Err(error) => format!("ended: {error}"),
        },
        () = openai::discover(server, announcer.clone()) => "the agent has gone".into(),
    }
}

/// A server that has loaded its model. Dropping it ends the process.
struct Begun {
    child: Child,
    group: Group,
    address: String,
    key: String,
    words: Words,
    /// The server ends when this closes.
    _stdin: tokio::process::ChildStdin,
}

async fn begin(options: &EngineOptions) -> Result<Begun, String> {
    let engine = library(&options.engine).ok_or_else(|| {
        format!("the engine is not at {}: `mtor models pull` fetches it", options.engine.display())
    })?;
    let bytes = std::fs::metadata(&options.file);
    let bytes = bytes.map_err(|error| format!("{}: {error}", options.file.display()))?.len();
    fits_memory(bytes, memory_free())?;
    let key = key().ok_or("the system gave no randomness")?;
    let mut child = spawn()?;
    let group = Group::of(&child);
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err("cannot start: no pipes".into());
    };
    let words = Words::listen(options.name.clone(), stderr);
    let settings = Settings {
        engine: &engine,
        file: &options.file,
        name: &options.name,
        key: &key,
        slots: options.slots,
        context: limits::ENGINE_CONTEXT,
        threads: options.threads,
        cache_mib: limits::ENGINE_CACHE_MIB,
        memory: bound(bytes),
    };
    let mut line = serde_json::to_vec(&settings).map_err(|error| error.to_string())?;
    line.push(b'\n');
    // One that is dead already says so below.
    let _ = stdin.write_all(&line).await;
    let ready = timeout(Duration::from_millis(limits::ENGINE_START_MS), ready(stdout)).await;
    let address = match ready {
        Ok(Some(address)) => address,
        Ok(None) => {
            // What it had to say is read once it is gone.
            let _ = timeout(Duration::from_millis(limits::EXEC_EXIT_MS), child.wait()).await;
            return Err(words.after("did not load the model"));
        }
        Err(_) => {
            let seconds = limits::ENGINE_START_MS / 1000;
            return Err(format!("did not load the model within {seconds} s"));
        }
    };
    Ok(Begun { child, group, address, key, words, _stdin: stdin })
}

fn spawn() -> Result<Child, String> {
    // A group of its own: a terminal's interrupt ends the agent, which then drains.
    Command::new("python3")
        .args(["-I", "-c", LAUNCHER])
        // Each arena reserves address space, which is what is bounded.
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start python3 (3.10 or newer is needed): {error}"))
}

/// The address that the launcher says; `None` if it ended without.
async fn ready(stdout: ChildStdout) -> Option<String> {
    let mut line = String::new();
    let mut stdout = BufReader::new(stdout.take(limits::ENGINE_LINE_BYTES_MAX));
    stdout.read_line(&mut line).await.ok()?;
    let ready: Ready = serde_json::from_str(&line).ok()?;
    Some(ready.address).filter(|address| address.starts_with("http://127.0.0.1:"))
}

/// The one file of the wheel that matters: named itself, or in the folder that is named.
fn library(engine: &Path) -> Option<std::path::PathBuf> {
    const NAME: &str = "xllamacpp.abi3.so";
    let places = [engine.to_owned(), engine.join(NAME), engine.join("xllamacpp").join(NAME)];
    places.into_iter().find(|path| path.is_file())
}

/// The address space that it may have: libraries and stacks reserve more than they use. Measured:
/// 0.82 GB and 2.66 GB for the two above.
fn bound(bytes: u64) -> u64 {
    memory_needed(bytes).saturating_add(limits::ENGINE_RESERVE_BYTES)
}

/// 256 random bits, so that other users of this machine cannot use the port.
fn key() -> Option<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The last that the server said on its standard error.
struct Words {
    last: Arc<Mutex<String>>,
    _reader: AbortOnDrop,
}

impl Words {
    fn listen(model: String, stderr: ChildStderr) -> Self {
        let last = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&last);
        let read = super::exec::lines_of(stderr, move |line| {
            tracing::debug!(model = %model, line, "engine says");
            if !line.trim().is_empty() {
                line.clone_into(&mut kept.lock().unwrap_or_else(PoisonError::into_inner));
            }
        });
        Self { last, _reader: AbortOnDrop(tokio::spawn(read).abort_handle()) }
    }

    fn after(&self, reason: &str) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_empty() { reason.to_owned() } else { format!("{reason}: {last}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_space_is_more_than_the_memory() {
        assert!(bound(1 << 20) > memory_needed(1 << 20));
        assert_eq!(bound(u64::MAX), u64::MAX);
    }

    #[test]
    fn keys_differ() {
        let (one, two) = (key().unwrap(), key().unwrap());
        assert_eq!(one.len(), 64);
        assert_ne!(one, two);
    }
}
