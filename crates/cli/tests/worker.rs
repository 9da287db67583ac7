//! `mtor worker` as a process: an output that nobody reads, and what it is told by signals.

use std::io::{BufRead, BufReader, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::events::Events;
use crate::common::http::Guest;
use crate::common::worker::Owner;
use crate::common::{Place, Realm, eventually, models_dir, signal};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Ended with its test, by its own pid.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn of(place: &Place, arguments: &[&str]) -> Self {
        Self::begin(&mut place.command(arguments))
    }

    fn begin(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// A worker of that realm; `more` is what it serves with.
    fn worker(place: &Place, owner: &impl Owner, more: &[&str]) -> Self {
        place.write("token", &owner.token(), 0o600);
        let to = ["--json", "worker", "--realm", owner.url(), "--token-file", "token"];
        Self::of(place, &[to.as_slice(), &["--data", "w", "--no-fft"], more].concat())
    }

    fn stop(&self) {
        signal(self.child.id(), Signal::TERM);
    }

    /// The next line; `None` at the end of the output.
    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let bytes = self.lines.read_line(&mut line).unwrap();
        (bytes > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    #[track_caller]
    fn wait(&mut self, status: &str) {
        while self.line().unwrap_or_else(|| panic!("no {status}"))["status"] != status {}
    }

    fn offers_tiny(&mut self) {
        while self.line().unwrap()["offers"][0]["model"] != "tiny" {}
    }

    /// Reads to the end, and gives the exit code.
    fn end(&mut self) -> Option<i32> {
        while self.line().is_some() {}
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One key in two folders: a folder that was copied, an image with the key in it.
#[test]
fn of_two_workers_with_one_key_the_first_ends_with_the_reason() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    place.write("token", &realm.token(), 0o600);
    let to = ["--json", "worker", "--realm", &realm.url, "--no-fft"];
    let enrolling = [&to[..], &["--token-file", "token", "--data", "w"]].concat();
    let mut first = Running::begin(place.command(&enrolling).stderr(Stdio::piped()));
    first.wait("connected");
    for file in ["identity", "identity.realms"] {
        place.write(
            &format!("copy/{file}"),
            &std::fs::read_to_string(place.path().join("w").join(file)).unwrap(),
            0o600,
        );
    }
    let mut second = Running::of(&place, &[&to[..], &["--data", "copy"]].concat());
    second.wait("connected");
    // Nor does it come again before it says so.
    while let Some(line) = first.line().filter(|line| line["status"] != "replaced") {
        assert_ne!(line["status"], "connected", "{line}");
    }
    let (mut words, mut stderr) = (String::new(), first.child.stderr.take().unwrap());
    assert_eq!(first.end(), Some(78));
    stderr.read_to_string(&mut words).unwrap();
    let told: Value = serde_json::from_str(words.lines().last().unwrap()).unwrap();
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("this worker's key (4409)"), "{told}");
    assert!(told["remedy"].as_str().unwrap().contains("--data DIR"), "{told}");
    // The other one has the session, and nobody takes it away: longer than a first back-off.
    std::thread::sleep(Duration::from_secs(2));
    is_served(&guest);
    let metrics = guest.ask("GET", "/metrics", "").body;
    assert!(metrics.contains("mtor_worker_sessions_replaced_total 1\n"), "{metrics}");
    second.stop();
    let mut said = Vec::new();
    while let Some(line) = second.line() {
        said.push(line["status"].clone());
    }
    assert!(!said.contains(&json!("disconnected")) && !said.contains(&json!("connected")));
    assert_eq!(second.end(), Some(0));
}

/// A connection that broke without a word is still a session to the realm when its worker comes
/// back: that is the same worker, and it goes on.
#[test]
fn a_worker_takes_its_own_session_over() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let between = Between::new(&realm.url);
    place.write("token", &realm.token(), 0o600);
    let to = ["--json", "worker", "--realm", &between.url, "--token-file", "token"];
    let mut worker = Running::of(&place, &[&to[..], &["--data", "w", "--no-fft"]].concat());
    worker.wait("connected");
    between.cut_this_side();
    worker.wait("disconnected");
    worker.wait("connected");
    is_served(&guest);
    let metrics = guest.ask("GET", "/metrics", "").body;
    assert!(metrics.contains("mtor_worker_sessions_replaced_total 1\n"), "{metrics}");
    worker.stop();
    assert_eq!(worker.end(), Some(0));
}

/// What stands between a worker and its realm.
struct Between {
    url: String,
    near: Arc<Mutex<Vec<TcpStream>>>,
}

impl Between {
    fn new(realm: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let near = Arc::new(Mutex::new(Vec::new()));
        let (realm, held) = (realm.trim_start_matches("http://").to_owned(), Arc::clone(&near));
        std::thread::spawn(move || {
            while let Ok((one, _)) = listener.accept() {
                let Ok(two) = TcpStream::connect(&realm) else { return };
                held.lock().unwrap().push(one.try_clone().unwrap());
                let (from, to) = (one.try_clone().unwrap(), two.try_clone().unwrap());
                std::thread::spawn(move || pass(from, to));
                std::thread::spawn(move || pass(two, one));
            }
        });
        Self { url, near }
    }

    /// The worker's side breaks; the realm hears nothing of it.
    fn cut_this_side(&self) {
        for stream in self.near.lock().unwrap().drain(..) {
            // Closed already is fine.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Passes on what comes, and not that it ends.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    // As long as the test: a dropped socket would be told.
    std::mem::forget((from, to));
}

fn is_served(guest: &Guest) {
    let before = guest.grant().0;
    let reply = guest.ask("POST", "/v1/intents", r#"{"intent":"echo","data":1}"#);
    assert_eq!(reply.status, 202, "{reply:?}");
    eventually(|| guest.grant() == (before - 1, 0));
}

/// More work than the lines of it that a pipe and a queue hold; all of it is done and paid.
fn work(client: &Guest) {
    let before = client.grant().0;
    let batch: Vec<_> = (0..256).map(|data| json!({"intent": "echo", "data": data})).collect();
    let batch = json!(batch).to_string();
    for done in 1..=8 {
        let reply = client.ask("POST", "/v1/intents/batch", &batch);
        assert_eq!(reply.status, 202, "{reply:?}");
        eventually(|| client.grant() == (before - done * 256, 0));
    }
}

#[test]
fn a_worker_whose_output_is_not_read_works_on() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let mut worker = Running::worker(&place, &realm, &[]);
    worker.wait("connected");
    work(&guest);
    worker.wait("left_out");
    worker.stop();
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn a_realm_whose_output_is_not_read_serves_on() {
    let place = Place::new();
    let arguments = ["--json", "up", "--listen", "127.0.0.1:0", "--data", "data"];
    let mut realm = Running::of(&place, &arguments);
    let url = realm.line().unwrap()["url"].as_str().unwrap().to_owned();
    realm.wait("ready");
    work(&Guest::new(&url));
    realm.wait("left_out");
    realm.stop();
    assert_eq!(realm.end(), Some(0));
}

#[test]
fn a_second_signal_ends_a_worker_and_all_that_its_program_started() {
    // Takes what it is given and never answers; a helper that it starts holds a connection.
    const PROGRAM: &str = r#"
import subprocess, sys
helper = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))).recv(1)"
subprocess.Popen([sys.executable, "-c", helper, sys.argv[1]], stdin=subprocess.DEVNULL)
print('{"specversion":"1.0","id":"1","source":"p","type":"mtor.worker.offer.v1",'
      '"data":{"offers":[{"intent":"echo","slots":1}]}}', flush=True)
sys.stdin.read()
"#;
    let place = Place::new();
    place.write("program.py", PROGRAM, 0o644);
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let program = ["--no-echo", "--exec", "python3", "program.py", &port];
    let mut worker = Running::worker(&place, &realm, &program);
    worker.wait("connected");
    let (mut helper, _) = listener.accept().unwrap();
    helper.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(guest.ask("POST", "/v1/intents", r#"{"intent":"echo","data":1}"#).status, 202);
    worker.wait("working");
    worker.stop();
    worker.wait("draining");
    // Those that come together are one.
    worker.stop();
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(worker.child.try_wait().unwrap(), None);
    worker.stop();
    assert_eq!(worker.end(), Some(1));
    assert_eq!(helper.read(&mut [0]).unwrap(), 0);
}

/// The state and the parent of a process; `None` if there is none.
fn process(pid: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn children(parent: u32) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| process(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// What `--gguf` and `--engine` are told for the tiny model.
fn tiny() -> (String, String) {
    let models = models_dir();
    let file = models.join("smollm2-135m-instruct.q4_1.gguf");
    let engine = models.join("xllamacpp-2026.10.11549.abi3.so");
    assert!(file.is_file() && engine.is_file(), "models missing: run `make models`");
    (format!("tiny={}", file.display()), engine.to_str().unwrap().to_owned())
}

#[test]
fn an_engine_that_dies_in_an_answer_ends_the_intent_and_its_model_comes_back() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let client = Guest::new(&realm.url);
    let (model, engine) = tiny();
    let serves = ["--no-echo", "--gguf", &model, "--engine", &engine];
    let mut worker = Running::worker(&place, &realm, &serves);
    worker.offers_tiny();
    // Told before the realm has heard it.
    let models = || client.ask("GET", "/v1/models", "").body.contains("\"tiny\"");
    eventually(models);
    let long = r#"{"intent":"chat","data":{"model":"tiny","stream":true,"max_tokens":1500,
        "messages":[{"role":"user","content":"Count to a thousand, one number a line."}]}}"#;
    let mut answer = Events::submit(&client, long);
    answer.next("chunk");
    signal(children(worker.child.id())[0], Signal::KILL);
    let failed = answer.next("failed");
    let reason = "the engine of this model ended; it is being started again";
    assert_eq!(
        (&failed["code"], &failed["reason"]),
        (&json!("MT0025"), &json!(reason)),
        "{failed}"
    );
    worker.wait("executor_down");
    worker.offers_tiny();
    eventually(models);
    let short = r#"{"model":"tiny","temperature":0,"max_tokens":24,
        "messages":[{"role":"user","content":"What is the capital of France?"}]}"#;
    let answer = client.ask("POST", "/v1/chat/completions", short).json();
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.contains("Paris"), "{answer}");
}

#[test]
fn a_killed_worker_leaves_no_engine_behind_be_it_loading_or_loaded() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let (model, engine) = tiny();
    let serves = ["--no-echo", "--gguf", &model, "--engine", &engine];
    for (place, is_loaded) in [(Place::new(), false), (Place::new(), true)] {
        let mut worker = Running::worker(&place, &realm, &serves);
        eventually(|| children(worker.child.id()).len() == 1);
        let engine = children(worker.child.id())[0];
        if is_loaded {
            worker.offers_tiny();
        } else {
            // The library is mapped: the model comes next.
            let maps = || std::fs::read_to_string(format!("/proc/{engine}/maps")).unwrap();
            eventually(|| maps().contains("xllamacpp"));
        }
        worker.child.kill().unwrap();
        worker.child.wait().unwrap();
        // Whoever inherits it may be slow to take note of its end.
        eventually(|| process(engine).is_none_or(|(state, _)| state == "Z"));
    }
}

#[test]
fn a_price_in_other_units_than_the_realms_is_refused() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let to = ["worker", "--realm", &realm.url, "--data", "w"];
    for (price, words) in [
        ("echo=5/7", ["--price echo=5/7", "prices echo per 1 intent", "--price echo=AMOUNT/1"]),
        ("fft=5", ["--price fft=5/1", "per 1000000 points", "--price fft=AMOUNT/1000000"]),
    ] {
        let done = place.run(&[to.as_slice(), &["--price", price]].concat());
        assert_eq!(done.code, Some(2), "{done:#?}");
        assert!(words.iter().all(|word| done.stderr.contains(word)), "{done:#?}");
    }
    let unknown = [to.as_slice(), &["--price", "paint=1/1", "--exec", "true"]].concat();
    let done = place.run(&unknown);
    assert_eq!(done.code, Some(2), "{done:#?}");
    assert!(done.stderr.contains("no intent paint"), "{done:#?}");
    let mut worker = Running::worker(&place, &realm, &["--price", "echo=5/1"]);
    worker.wait("connected");
}

/// Nothing dearer is ever asked for, so who set that price learns it from the worker itself.
#[test]
fn an_offer_that_the_realm_refuses_is_told() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let owner = Guest::new(&realm.url);
    let mut worker = Running::worker(&place, &owner, &["--price", "echo=11/1"]);
    let told = loop {
        let line = worker.line().expect("it is told");
        if line["status"] == "offer_refused" {
            break line;
        }
    };
    assert_eq!((&told["intent"], &told["code"]), (&json!("echo"), &json!("MT0041")), "{told}");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("ask at most 10 base units per unit"), "{message}");
    assert_eq!(owner.ask("GET", "/v1/pools", "").json()["items"], json!([]));
}
