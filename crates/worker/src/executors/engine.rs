//! A model file (GGUF) for `chat`, on llama.cpp's own server as a child process.
//!
//! The server comes prebuilt as a Python extension; `python3 -I` runs a few lines of ours around it
//! ([`LAUNCHER`]). It listens on loopback alone, wants a key that is new at each start, and is
//! bounded in memory before it loads anything. It ends with this executor, also when this process
//! is killed: its standard input closes then. When it dies the jobs in it fail at once, because
//! their connections break, and it is started again with back-off. For the rest it is one more
//! OpenAI-compatible server. Absences: nothing is compiled, fetched or unpacked here.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::exec::Group;
use super::openai::{self, OpenAi};
use super::{Announcer, Job, Output, Surroundings};
use crate::connect::Backoff;
use crate::leases::End;
use crate::limits;
use crate::memory::{fits, memory_free_beside, memory_needed_by};
use crate::options::{EngineOptions, OpenAiOptions};

/// One start at a time: the next one looks at the memory that is free once the model before it is
/// loaded.
static STARTS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Bytes of the files that engines of this process have loaded, see [`memory_free_beside`].
static MAPPED: AtomicU64 = AtomicU64::new(0);

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
        let Some(server) = server else {
            return End::backend("the engine of this model is being started again");
        };
        match server.run(job, output).await {
            End::Fail { message, .. }
                if [openai::BROKE_OFF, openai::UNREACHED].contains(&&*message) =>
            {
                End::backend("the engine of this model ended; it is being started again")
            }
            end @ (End::Complete { .. } | End::Fail { .. }) => end,
        }
    }
}

/// Keeps the server going until the agent is gone. What does not load is tried less and less often:
/// each time it would read the whole model.
pub(crate) async fn keep(
    engine: Arc<Engine>,
    options: EngineOptions,
    surroundings: Surroundings,
    announcer: Announcer,
) {
    let fresh = || Backoff::up_to(limits::ENGINE_PAUSE_MS_MAX);
    let mut backoff = fresh();
    loop {
        let Ended { reason, served } = live(&engine, &options, &surroundings, &announcer).await;
        engine.set(None);
        // Whoever hears that it is down says so aloud.
        tracing::info!(model = %options.name, %reason, "engine ended");
        if !announcer.down(reason).await {
            return;
        }
        if served > Duration::from_millis(limits::BACKOFF_RESET_MS) {
            backoff = fresh();
        }
        sleep(backoff.next()).await;
    }
}

/// Why a life of the server ended, or could not begin, and how long it had its model loaded.
struct Ended {
    reason: String,
    served: Duration,
}

impl From<String> for Ended {
    fn from(reason: String) -> Self {
        Self { reason, served: Duration::ZERO }
    }
}

/// One life of the server.
async fn live(
    engine: &Engine,
    options: &EngineOptions,
    surroundings: &Surroundings,
    announcer: &Announcer,
) -> Ended {
    let begun = match begin(options, surroundings).await {
        Ok(begun) => begun,
        Err(reason) => return reason.into(),
    };
    let loaded = Instant::now();
    let Begun { mut child, group: _group, address, key, mut words, .. } = begun;
    let backend = OpenAiOptions { key: Some(key), ..OpenAiOptions::new(address, options.slots) };
    let server = match OpenAi::new(backend) {
        Ok(server) => Arc::new(server),
        Err(error) => return error.to_string().into(),
    };
    engine.set(Some(Arc::clone(&server)));
    let reason = tokio::select! {
        status = child.wait() => match status {
            Ok(status) => {
                engine.set(None);
                words.read_out().await;
                words.after(&format!("ended: {status}"))
            }
            Err(error) => format!("ended: {error}"),
        },
        () = openai::discover(server, announcer.clone()) => "the agent has gone".into(),
    };
    Ended { reason, served: loaded.elapsed() }
}

/// A server that has loaded its model. Dropping it ends the process.
struct Begun {
    child: Child,
    group: Group,
    address: String,
    key: String,
    words: Words,
    _mapped: Mapped,
    /// The server ends when this closes.
    _stdin: tokio::process::ChildStdin,
}

/// The file of one server, as long as that lives.
struct Mapped(u64);

impl Mapped {
    fn file(bytes: u64) -> Self {
        MAPPED.fetch_add(bytes, Ordering::SeqCst);
        Self(bytes)
    }

    /// Of all of them.
    fn bytes() -> u64 {
        MAPPED.load(Ordering::SeqCst)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        MAPPED.fetch_sub(self.0, Ordering::SeqCst);
    }
}

async fn begin(options: &EngineOptions, around: &Surroundings) -> Result<Begun, String> {
    let engine = library(&options.engine).ok_or_else(|| {
        format!("the engine is not at {}: `mtor models pull` fetches it", options.engine.display())
    })?;
    let bytes = std::fs::metadata(&options.file);
    let bytes = bytes.map_err(|error| format!("{}: {error}", options.file.display()))?.len();
    let needed = memory_needed_by(bytes, options.slots);
    let _start = STARTS.lock().await;
    fits(needed, memory_free_beside(Mapped::bytes()))?;
    load(options, spawn(around)?, &engine, bound(needed), Mapped::file(bytes)).await
}

/// Starts the server; `memory` is what it may have, in bytes of address space.
async fn load(
    options: &EngineOptions,
    mut child: Child,
    engine: &Path,
    memory: u64,
    mapped: Mapped,
) -> Result<Begun, String> {
    let key = key().ok_or("the system gave no randomness")?;
    let group = Group::of(&child);
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err("cannot start: no pipes".into());
    };
    let mut words = Words::listen(options.name.clone(), stderr);
    let settings = Settings {
        engine,
        file: &options.file,
        name: &options.name,
        key: &key,
        slots: options.slots,
        context: limits::ENGINE_CONTEXT,
        threads: options.threads,
        cache_mib: limits::ENGINE_CACHE_MIB,
        memory,
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
            words.read_out().await;
            return Err(words.of_failed_load(memory));
        }
        Err(_) => {
            let seconds = limits::ENGINE_START_MS / 1000;
            return Err(format!("did not load the model within {seconds} s"));
        }
    };
    words.loaded();
    Ok(Begun { child, group, address, key, words, _mapped: mapped, _stdin: stdin })
}

fn spawn(surroundings: &Surroundings) -> Result<Child, String> {
    surroundings
        .command("python3")
        .args(["-I", "-c", LAUNCHER])
        // Each arena reserves address space, which is what is bounded.
        .env("MALLOC_ARENA_MAX", "2")
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
/// 0.82 GB for SmolLM2-135M and 2.66 GB for Qwen2.5-Coder-1.5B, with four slots.
fn bound(needed: u64) -> u64 {
    needed.saturating_add(limits::ENGINE_RESERVE_BYTES)
}

/// 256 random bits, so that other users of this machine cannot use the port.
fn key() -> Option<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What the server said on its standard error, as far as an owner is to know it.
struct Words {
    said: Arc<Mutex<Said>>,
    reader: JoinHandle<()>,
}

impl Drop for Words {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[derive(Default)]
struct Said {
    is_loaded: bool,
    /// The first error while it loads: those after it follow from it.
    error: Option<String>,
    last: String,
}

impl Said {
    /// Notes a line; whether it may be logged. Once the model is loaded a line may hold what a
    /// client asked: only a failed assertion, which is the server's own source, is kept.
    fn note(&mut self, line: &str) -> bool {
        if !self.is_loaded && self.error.is_none() && line.contains(" E ") {
            self.error = Some(line.to_owned());
        }
        let is_ours = !self.is_loaded || line.contains("GGML_ASSERT");
        if is_ours && !line.trim().is_empty() {
            line.clone_into(&mut self.last);
        }
        is_ours
    }
}

impl Words {
    fn listen(model: String, stderr: ChildStderr) -> Self {
        let said = Arc::new(Mutex::new(Said::default()));
        let kept = Arc::clone(&said);
        let read = super::exec::lines_of(stderr, move |line| {
            if kept.lock().unwrap_or_else(PoisonError::into_inner).note(line) {
                tracing::debug!(model = %model, line, "engine says");
            }
        });
        Self { said, reader: tokio::spawn(read) }
    }

    /// Reads on to the end, once the server is gone: its last words say why. A process of its own
    /// that outlives it may hold the other end, so not for ever.
    async fn read_out(&mut self) {
        if !self.reader.is_finished() {
            let patience = Duration::from_millis(limits::EXEC_EXIT_MS);
            let _ = timeout(patience, &mut self.reader).await;
        }
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loaded(&self) {
        *self.said() = Said { is_loaded: true, ..Said::default() };
    }

    fn after(&self, reason: &str) -> String {
        let said = self.said();
        let last = said.error.as_ref().unwrap_or(&said.last);
        if last.is_empty() { reason.to_owned() } else { format!("{reason}: {last}") }
    }

    /// Why no model was loaded by one that might have so many bytes.
    fn of_failed_load(&self, memory: u64) -> String {
        let reason = self.after("did not load the model");
        let lower = reason.to_ascii_lowercase();
        if !["memory", "alloc"].iter().any(|word| lower.contains(word)) {
            return reason;
        }
        format!(
            "{reason}; it does not fit into the {} MiB that a model of its size may have: fewer \
             slots need less, or serve a smaller model",
            memory / (1024 * 1024)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "tests have no cli that could pass it down")]
    fn models_dir() -> std::path::PathBuf {
        let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.models");
        std::env::var_os("MTOR_MODELS").map_or_else(here, std::path::PathBuf::from)
    }

    #[tokio::test]
    async fn a_model_that_needs_more_than_it_may_have_says_so_in_figures() {
        let models = models_dir();
        let file = models.join("smollm2-135m-instruct.q4_1.gguf");
        let engine = models.join("xllamacpp-2026.10.11549.abi3.so");
        assert!(file.is_file() && engine.is_file(), "models missing: run `make models`");
        let name = "tiny".to_owned();
        let options = EngineOptions { name, file, engine: engine.clone(), slots: 2, threads: 1 };
        let child = spawn(&Surroundings::default()).unwrap();
        let mapped = Mapped::file(1);
        let reason = load(&options, child, &engine, 300 << 20, mapped).await.err().unwrap();
        assert!(reason.starts_with("did not load the model: "), "{reason}");
        assert!(reason.contains("into the 300 MiB"), "{reason}");
        // Not the last word of it, which is about something else.
        assert!(!reason.contains("input params"), "{reason}");
    }

    #[test]
    fn what_clients_ask_is_not_among_the_words() {
        let mut said = Said::default();
        assert!(said.note("0.1 I loading") && said.note("0.2 E cannot allocate"));
        assert!(said.note("0.3 E so nothing"));
        assert_eq!(
            (said.error.as_deref(), &*said.last),
            (Some("0.2 E cannot allocate"), "0.3 E so nothing")
        );
        said = Said { is_loaded: true, ..Said::default() };
        assert!(!said.note("0.4 E got exception: last read: 'a secret'"));
        assert!(said.note("ops.cpp:1: GGML_ASSERT(n > 0) failed"));
        assert_eq!((said.error, &*said.last), (None, "ops.cpp:1: GGML_ASSERT(n > 0) failed"));
    }

    #[tokio::test]
    async fn a_start_waits_for_the_one_before_and_sees_what_that_took() {
        let folder = std::env::temp_dir().join(format!("mtor-starts-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (file, engine) = (folder.join("large.gguf"), folder.join("engine.so"));
        std::fs::write(&engine, "").unwrap();
        // More than any machine has, so that it is refused at once when its turn comes.
        std::fs::File::create(&file).unwrap().set_len(1 << 43).unwrap();
        let name = "large".to_owned();
        let options = EngineOptions { name, file, engine, slots: 1, threads: 1 };
        let other = STARTS.lock().await;
        let around = Surroundings::default();
        let mut start = std::pin::pin!(begin(&options, &around));
        tokio::select! {
            biased;
            _ = &mut start => panic!("it did not wait"),
            () = std::future::ready(()) => {}
        }
        drop(other);
        assert!(start.await.err().unwrap().contains("are free"));
        let before = Mapped::bytes();
        let loaded = Mapped::file(70);
        assert_eq!(Mapped::bytes(), before + 70);
        drop(loaded);
        assert_eq!(Mapped::bytes(), before);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn the_last_words_are_read_after_the_end() {
        let mut child = Surroundings::default()
            .command("sh")
            .args(["-c", "i=0; while [ $i -lt 2000 ]; do echo 0.1 I line >&2; i=$((i+1)); done; printf 'the reason' >&2"])
            .spawn()
            .unwrap();
        let mut words = Words::listen("m".into(), child.stderr.take().unwrap());
        child.wait().await.unwrap();
        words.read_out().await;
        assert_eq!(words.after("ended"), "ended: the reason");
    }

    #[test]
    fn keys_differ() {
        let (one, two) = (key().unwrap(), key().unwrap());
        assert_eq!(one.len(), 64);
        assert_ne!(one, two);
    }
}
