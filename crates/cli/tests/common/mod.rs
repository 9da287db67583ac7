//! What the black-box tests share: a folder, the binary, and a realm that runs.

pub mod backend;
pub mod events;
pub mod http;
pub mod socket;
pub mod source;
pub mod terminal;
pub mod worker;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// No single wait of a test is longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that goes with the test; it is the whole environment of the commands run in it.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mtor-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// The binary, with nothing of the tester's own environment but `PATH`. A realm fetches no
    /// model: tests of that say so.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        if arguments.contains(&"up") {
            let serves = arguments.contains(&"--model") || arguments.contains(&"--voice");
            let silent = !arguments.contains(&"--voice") && serves;
            command.args((!serves).then_some("--no-models"));
            command.args(silent.then_some(["--voice", "off"]).into_iter().flatten());
        }
        command
    }

    /// The same as it is. Packages are to be had nowhere.
    pub fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mtor"));
        command.env_clear().env("HOME", &self.0).current_dir(&self.0);
        // The tester's own servers of models are no part of a test.
        command.env("MTOR_DISCOVER_PORTS", "none").env("PIP_NO_INDEX", "1");
        #[expect(clippy::disallowed_methods, reason = "a test hands its own search path on")]
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        #[cfg(mtor_mutants)]
        #[expect(clippy::disallowed_methods, reason = "which bug is planted")]
        if let Some(planted) = std::env::var_os("MTOR_MUTANT") {
            command.env("MTOR_MUTANT", planted);
        }
        command.args(arguments).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        Done::of(self.command(arguments).output().unwrap())
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Done {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Done::of(child.wait_with_output().unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a command came to.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Every line of standard output as JSON.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The event of that name.
    #[track_caller]
    pub fn event(&self, name: &str) -> Value {
        let found = self.lines().into_iter().find(|line| line["event"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }
}

/// `mtor up`, ended with its test by its own pid.
pub struct Realm {
    child: Child,
    events: std::sync::mpsc::Receiver<Value>,
    pub ready: Value,
    pub url: String,
}

impl Realm {
    pub fn start(place: &Place, more: &[&str]) -> Self {
        Self::start_at(place, "127.0.0.1:0", more)
    }

    pub fn start_at(place: &Place, address: &str, more: &[&str]) -> Self {
        Self::of(Self::command(place, address, more))
    }

    pub fn command(place: &Place, address: &str, more: &[&str]) -> Command {
        let data = place.path().join("data");
        let mut arguments =
            vec!["up", "--json", "--listen", address, "--data", data.to_str().unwrap()];
        arguments.extend(more);
        // What comes to a worker is what a test sends, unless it asks for more.
        if !more.contains(&"--canary-budget") {
            arguments.extend(["--canary-budget", "0"]);
        }
        place.command(&arguments)
    }

    /// What that command starts.
    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let events = read_lines(child.stdout.take().unwrap());
        let ready = events.recv_timeout(PATIENCE).expect("the ready line");
        assert_eq!(ready["event"], "ready", "{ready}");
        let url = ready["url"].as_str().unwrap().to_owned();
        Self { child, events, ready, url }
    }

    /// A realm that serves the smallest real models, of the folder that `make models` fills.
    pub fn with_models(place: &Place) -> Self {
        let mut command = Self::command(place, "127.0.0.1:0", &["--model", "tiny"]);
        command.env("MTOR_MODELS", models_dir());
        let realm = Self::of(command);
        realm.serves("smollm2-135m-instruct");
        realm.serves("all-minilm-l6-v2");
        realm
    }

    /// A realm whose worker can be used.
    pub fn serving(place: &Place) -> Self {
        let realm = Self::start(place, &[]);
        realm.wait_worker("ready");
        realm
    }

    /// The next word of the embedded worker of that status.
    #[track_caller]
    pub fn wait_worker(&self, status: &str) -> Value {
        self.wait("worker", status)
    }

    /// The next event of that name and status.
    #[track_caller]
    pub fn wait(&self, name: &str, status: &str) -> Value {
        loop {
            let event =
                self.events.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {status}"));
            if event["event"] == name && event["status"] == status {
                return event;
            }
        }
    }

    /// Waits until that model can be asked for.
    #[track_caller]
    pub fn serves(&self, id: &str) {
        let list = || http::send(&self.url, "GET", "/v1/models", &[], b"").json();
        let is_it = |one: &Value| one["id"] == id;
        eventually(|| list()["data"].as_array().is_some_and(|models| models.iter().any(is_it)));
    }

    /// Its memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub fn stop(mut self) -> Option<i32> {
        signal(self.child.id(), rustix::process::Signal::TERM);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Realm {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Real models, as `make models` fetches them.
#[expect(clippy::disallowed_methods, reason = "tests have no cli that could pass it down")]
pub fn models_dir() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = std::env::var_os("MTOR_MODELS").map_or_else(|| root.join(".models"), Into::into);
    folder.canonicalize().expect("models: run `make models`")
}

pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn read_lines(stdout: ChildStdout) -> std::sync::mpsc::Receiver<Value> {
    let (tx, rx) = std::sync::mpsc::sync_channel(10_000);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(event) = serde_json::from_str(&line) else { panic!("not JSON: {line}") };
            if tx.send(event).is_err() {
                return;
            }
        }
    });
    rx
}

/// Every file in a folder and those below it. One that goes meanwhile is none.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Looks until it is so.
#[track_caller]
pub fn eventually(so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(30), "it never comes to be so");
        std::thread::sleep(Duration::from_millis(5));
    }
}
