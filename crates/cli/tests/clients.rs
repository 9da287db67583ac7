//! The commands that ask a realm, as a person or a script uses them: prices, lists, cancellation,
//! conversations, standard input, and what Ctrl-C leaves behind.

use std::io::{Read, Write};
use std::process::{Child, Stdio};

use crate::common::http::Guest;
use crate::common::socket::Hand;
use crate::common::terminal::Terminal;
use crate::common::{Done, Place, Realm, eventually, signal};
use rustix::process::Signal;
use serde_json::{Value, json};

const SLOW: &str = r#"{"chunks":2,"delayms":60000}"#;

fn ask(place: &Place, realm: &Realm, arguments: &[&str]) -> Done {
    let mut command = place.command(arguments);
    Done::of(command.env("MTOR_REALM", &realm.url).output().unwrap())
}

fn ask_json(place: &Place, realm: &Realm, arguments: &[&str]) -> Vec<Value> {
    ask(place, realm, &[&["--json"], arguments].concat()).good().lines()
}

/// A realm whose one worker is the test, with a model for chat.
fn by_hand(place: &Place, slots: u32) -> (Realm, Hand) {
    let realm = Realm::start(place, &["--no-worker"]);
    let owner = Guest::new(&realm.url);
    let offers = json!([{"intent": "chat", "model": "by-hand", "slots": slots}]);
    let hand = Hand::join(&realm, 1, &offers);
    eventually(|| owner.ask("GET", "/v1/pools", "").json()["items"] != json!([]));
    (realm, hand)
}

fn says(hand: &mut Hand, assign: &Value, text: &str) {
    let piece = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
    hand.chunk(assign, 0, 1, &piece);
}

#[test]
fn what_can_be_asked_is_listed_for_people_and_for_programs() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let pools = ask_json(&place, &realm, &["pools"]);
    assert!(pools.iter().any(|pool| pool["intent"] == "echo"), "{pools:?}");
    let words = ask(&place, &realm, &["pools"]).good().stdout;
    let columns: Vec<&str> = words.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(columns[..3], ["INTENT", "MODEL", "PRICE"], "{words}");
    assert!(
        words
            .lines()
            .any(|line| line.starts_with("echo ") && line.contains("1 base unit per 1 intent"))
    );

    let manifests = ask_json(&place, &realm, &["manifests"]);
    assert!(manifests.iter().all(|row| row["name"].is_string() && row["price"].is_object()));
    let one = ask(&place, &realm, &["manifests", "fft"]).good().stdout;
    assert!(one.contains("deadline") && one.contains("c64 | c128"), "{one}");
    let json = ask_json(&place, &realm, &["manifests", "fft"]);
    assert_eq!((json.len(), &json[0]["name"]), (1, &"fft".into()));
    let unknown = ask(&place, &realm, &["manifests", "dream"]);
    assert_eq!(unknown.code, Some(1), "{unknown:#?}");
    assert!(unknown.stderr.contains("MT0006") && unknown.stderr.contains("echo"), "{unknown:#?}");
}

#[test]
fn the_price_is_told_before_and_nothing_is_paid() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let quote = ask_json(&place, &realm, &["quote", "echo", "--data", "1"]);
    let quote = quote.iter().find(|line| line["ceiling"].is_string()).unwrap();
    assert_eq!((&quote["ceiling"], &quote["may_be_cut"]), (&"1".into(), &false.into()));
    let words = ask(&place, &realm, &["quote", "echo", "--data", "1"]).good().stdout;
    assert!(
        words.starts_with("echo: at most 1 base unit of grant\nprice 1 base unit per 1 intent"),
        "{words}"
    );
    assert!(words.contains("it can begin at once"), "{words}");
    assert_eq!(quote["served"], true);
    let refused = ask(&place, &realm, &["quote", "echo", "--data", "1", "--ceiling", "0"]);
    assert!(refused.stderr.contains("MT0013"), "{refused:#?}");
    let none = ask(&place, &realm, &["quote", "echo"]);
    assert_eq!(none.code, Some(2), "{none:#?}");
    let account = ask_json(&place, &realm, &["account"]);
    assert_eq!(account[0]["assets"][0]["balance"], "1000000");
}

#[test]
fn a_price_of_what_nobody_serves_says_so() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let words = ask(&place, &realm, &["quote", "echo", "--data", "1"]).good().stdout;
    assert!(words.contains("at most 1 of them; no worker serves it just now"), "{words}");
    let quote = ask_json(&place, &realm, &["quote", "echo", "--data", "1"]);
    assert_eq!(quote[0]["served"], false, "{quote:?}");
}

#[test]
fn own_intents_are_listed_shown_and_followed() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let none = ask(&place, &realm, &["intents"]);
    assert_eq!(none.code, Some(1), "no account yet: {none:#?}");
    for n in 0..5 {
        let data = n.to_string();
        ask(&place, &realm, &["submit", "echo", "--durable", "--data", &data]).good();
    }
    let all = ask_json(&place, &realm, &["intents"]);
    assert_eq!(all.len(), 5);
    assert!(all.iter().all(|row| row["status"] == "completed" && row["cost"]["amount"] == "1"));
    let placed: Vec<u64> = all.iter().map(|row| row["placed"].as_u64().unwrap()).collect();
    assert!(placed.is_sorted_by(|a, b| a >= b), "the newest first: {placed:?}");

    let transfers = ask(&place, &realm, &["account", "transfers"]).good().stdout;
    assert!(transfers.lines().next().unwrap().contains("BASE UNITS"), "{transfers}");
    let first = ask(&place, &realm, &["intents", "--limit", "2"]).good();
    assert!(first.stdout.contains("1 base unit of grant"), "{first:#?}");
    assert_eq!(first.stdout.lines().count(), 3, "{first:#?}");
    let after = first.stderr.split("--after ").nth(1).unwrap().split_whitespace().next().unwrap();
    let rest = ask_json(&place, &realm, &["intents", "--after", after]);
    assert_eq!(rest, all[2..]);
    assert_eq!(ask_json(&place, &realm, &["intents", "--open"]), Vec::<Value>::new());

    let newest = all[0]["intent"].as_str().unwrap();
    let shown = ask_json(&place, &realm, &["intents", "show", newest]);
    assert_eq!((&shown[0]["status"], &shown[0]["result"]), (&"completed".into(), &4.into()));
    let words = ask(&place, &realm, &["intents", "show", newest]).good().stdout;
    assert!(words.contains("cost      1 base unit of grant\nresult    4"), "{words}");
    let followed = ask(&place, &realm, &["--json", "intents", "follow", newest]).good();
    assert_eq!(followed.event("completed")["result"], 4);
    for wrong in [["show", "x"], ["follow", "x"]] {
        assert_eq!(ask(&place, &realm, &[&["intents"], &wrong[..]].concat()).code, Some(2));
    }
    assert_eq!(ask(&place, &realm, &["intents", "--after", "x"]).code, Some(1));
}

/// Begins work that would take minutes, and its id.
fn begin_slow(place: &Place, realm: &Realm) -> (Child, String) {
    let arguments = ["submit", "echo", "--data", SLOW];
    let mut command = place.command(&arguments);
    command.env("MTOR_REALM", &realm.url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let open = || {
        let done = ask(place, realm, &["--json", "intents", "--open"]);
        if done.code == Some(0) { done.lines() } else { Vec::new() }
    };
    eventually(|| open().iter().any(|row| row["name"] == "echo"));
    (child, open()[0]["intent"].as_str().unwrap().to_owned())
}

#[test]
fn cancel_ends_what_is_under_way_and_says_what_could_not_be_ended() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let (child, intent) = begin_slow(&place, &realm);
    let cancelled = place
        .command(&["--json", "cancel", "-"])
        .env("MTOR_REALM", &realm.url)
        .input(&format!("{intent}\n"));
    assert_eq!(cancelled.good().event("cancelled")["intent"], intent.as_str());
    let ended = Done::of(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(1), "ended by somebody else: {ended:#?}");

    let (child, second) = begin_slow(&place, &realm);
    let both = ask(&place, &realm, &["cancel", &intent, &second]);
    assert_eq!(both.code, Some(1), "{both:#?}");
    assert!(both.stdout.contains(&format!("{second} cancelled")), "{both:#?}");
    assert!(both.stderr.contains(&intent) && both.stderr.contains("MT0011"), "{both:#?}");
    assert!(both.stderr.contains("1 of 2 not cancelled"), "{both:#?}");
    child.wait_with_output().unwrap();
    assert_eq!(ask(&place, &realm, &["cancel", "x"]).code, Some(2));
    assert_eq!(ask(&place, &realm, &["cancel"]).code, Some(2));
}

trait Input {
    fn input(&mut self, text: &str) -> Done;
}

impl Input for std::process::Command {
    fn input(&mut self, text: &str) -> Done {
        use std::io::Write;
        self.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        Done::of(child.wait_with_output().unwrap())
    }
}

#[test]
fn an_interrupted_submission_is_cancelled_and_ends_with_130() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    for kind in [Signal::INT, Signal::TERM] {
        let (child, intent) = begin_slow(&place, &realm);
        signal(child.id(), kind);
        let done = Done::of(child.wait_with_output().unwrap());
        assert_eq!(done.code, Some(130), "{done:#?}");
        assert!(done.stderr.contains(&intent) && done.stderr.contains("cancelled"), "{done:#?}");
        let shown = ask_json(&place, &realm, &["intents", "show", &intent]);
        assert_eq!(shown[0]["status"], "cancelled", "{shown:?}");
    }
}

#[test]
fn what_cannot_be_cancelled_is_named_with_the_command_that_follows_it() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let (child, intent) = begin_slow(&place, &realm);
    // The realm stands still: it takes no cancellation.
    signal(realm.pid(), Signal::STOP);
    signal(child.id(), Signal::INT);
    std::thread::sleep(std::time::Duration::from_millis(300));
    signal(child.id(), Signal::INT);
    let done = Done::of(child.wait_with_output().unwrap());
    signal(realm.pid(), Signal::CONT);
    assert_eq!(done.code, Some(130), "{done:#?}");
    let follow = format!("mtor intents follow {intent} --realm {}", realm.url);
    assert!(done.stderr.contains(&follow), "{done:#?}");
}

#[test]
fn a_command_that_waits_for_something_else_ends_with_130() {
    let place = Place::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    for arguments in [
        ["--json", "pools", "--realm", &url].as_slice(),
        &["submit", "echo", "--data", "-", "--realm", &url],
        &["account", "new", "--realm", &url],
    ] {
        let mut command = place.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let held = child.stdin.take();
        let caught = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() & 0b10 != 0
        };
        eventually(caught);
        signal(child.id(), Signal::INT);
        let done = Done::of(child.wait_with_output().unwrap());
        assert_eq!(done.code, Some(130), "{arguments:?}: {done:#?}");
        assert!(done.stderr.contains("interrupted"), "{done:#?}");
        assert_eq!(done.stdout, "");
        drop(held);
    }
}

#[test]
fn an_interrupted_pull_ends_with_130_and_keeps_what_has_arrived() {
    const SENT: u64 = 1 << 20;
    let place = Place::new();
    let source = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", source.local_addr().unwrap());
    // Begins the model's first file, and sends no more of it.
    std::thread::spawn(move || {
        let (mut to, _) = source.accept().unwrap();
        assert!(to.read(&mut [0; 4096]).unwrap() > 0);
        to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 22928619\r\n\r\n").unwrap();
        to.write_all(&vec![0; usize::try_from(SENT).unwrap()]).unwrap();
        std::thread::park();
    });
    let mut command = place.command(&["models", "pull", "all-minilm-l6-v2", "--dir", "models"]);
    command.env("MTOR_MODEL_SOURCE", &url).stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let arrived = || {
        let files = std::fs::read_dir(place.path().join("models")).into_iter().flatten();
        files.map(|file| file.unwrap().metadata().unwrap().len()).max().unwrap_or_default()
    };
    eventually(|| arrived() == SENT);
    signal(child.id(), Signal::INT);
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!(done.code, Some(130), "{done:#?}");
    assert!(done.stderr.contains("interrupted"), "{done:#?}");
    assert_eq!(arrived(), SENT, "what has arrived is gone");
}

#[test]
fn a_dash_is_standard_input_wherever_something_is_taken() {
    let place = Place::new();
    let (realm, mut hand) = by_hand(&place, 4);
    let ask = |arguments: &[&str], input: &str| {
        place.command(arguments).env("MTOR_REALM", &realm.url).input(input)
    };
    std::thread::scope(|scope| {
        let done = scope.spawn(|| ask(&["--json", "submit", "chat", "--prompt", "-"], "What?\n"));
        let assign = hand.assigned();
        assert_eq!(assign["data"]["messages"][0]["content"], "What?", "{assign}");
        says(&mut hand, &assign, "This.");
        hand.complete(&assign, 1);
        done.join().unwrap().good();
    });
    let empty = ask(&["submit", "chat", "--prompt", "-"], " \n");
    assert_eq!(empty.code, Some(2), "{empty:#?}");
    assert!(empty.stderr.contains("--prompt: standard input is empty"), "{empty:#?}");
    let empty = ask(&["submit", "echo", "--data", "-"], "");
    assert!(empty.stderr.contains("standard input is empty"), "{empty:#?}");
    let twice = ask(&["receipt", "verify", "-", "--document", "-"], "{}");
    assert_eq!(twice.code, Some(2), "{twice:#?}");
    let secret = realm.ready["sysop_secret"].as_str().unwrap();
    ask(&["sysop", "--secret-file", "-", "health"], secret).good();
    let quote = ask(&["quote", "chat", "--prompt", "-"], "What?");
    assert!(quote.good().stdout.starts_with("chat (by-hand): at most"));
}

#[test]
fn a_chat_goes_over_several_turns_and_keeps_what_was_said() {
    let place = Place::new();
    let (realm, mut hand) = by_hand(&place, 1);
    let mut command = place.command(&["chat", "--system", "Be brief.", "--max-tokens", "20"]);
    let (mut terminal, mut child) = Terminal::run(command.env("MTOR_REALM", &realm.url));
    terminal.wait("by-hand at");
    terminal.write("One?\n");
    let first = hand.assigned();
    terminal.wait("running on by hand");
    says(&mut hand, &first, "First answer.");
    hand.complete(&first, 1);
    terminal.wait("First answer.");
    terminal.wait("cost ");
    terminal.write("Two?\n");
    let second = hand.assigned();
    let said = |role: &str, content: &str| json!({"role": role, "content": content});
    let messages = [
        said("system", "Be brief."),
        said("user", "One?"),
        said("assistant", "First answer."),
        said("user", "Two?"),
    ];
    assert_eq!(second["data"]["messages"], json!(messages));
    assert_eq!(second["data"]["max_tokens"], 20);
    says(&mut hand, &second, "Second");
    terminal.wait("Second");
    // Stops the answer, not the conversation.
    signal(child.id(), Signal::INT);
    terminal.wait("stopped");
    terminal.write("/nonsense\n/new\nThree?\n");
    let third = hand.assigned();
    assert_eq!(
        third["data"]["messages"],
        json!([said("system", "Be brief."), said("user", "Three?")])
    );
    hand.complete(&third, 1);
    terminal.wait("no command /nonsense");
    terminal.write("/exit\n");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", terminal.shown());
    terminal.wait("all in all");
}

#[test]
fn a_long_chat_leaves_its_oldest_turns_out_and_says_so_once() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let owner = Guest::new(&realm.url);
    let offers = json!([{"intent": "chat", "model": "by-hand", "slots": 1, "context": 400}]);
    let mut hand = Hand::join(&realm, 1, &offers);
    eventually(|| owner.ask("GET", "/v1/pools", "").json()["items"] != json!([]));
    let mut command = place.command(&["chat", "--max-tokens", "20"]);
    let (mut terminal, mut child) = Terminal::run(command.env("MTOR_REALM", &realm.url));
    terminal.wait("by-hand at");
    // Room for 1,140 bytes: two turns of these and a question do not fit.
    for (turn, kept) in [0, 1, 1, 1].into_iter().enumerate() {
        let question = format!("{turn}{}", "x".repeat(300));
        terminal.write(&format!("{question}\n"));
        let assign = hand.assigned();
        let messages = assign["data"]["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 2 * kept + 1, "turn {turn}");
        assert_eq!(messages[2 * kept]["content"], question.as_str());
        says(&mut hand, &assign, &format!("{turn}{}", "y".repeat(200)));
        hand.complete(&assign, 1);
        terminal.wait("cost ");
    }
    terminal.write("/exit\n");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", terminal.shown());
    assert_eq!(terminal.shown().matches("oldest turns are left out").count(), 1);
}

#[test]
fn who_waits_is_told_for_what() {
    let place = Place::new();
    let (realm, mut hand) = by_hand(&place, 1);
    let other = Guest::new(&realm.url);
    let body = r#"{"intent":"chat","data":{"model":"by-hand","messages":[{"role":"user","content":"x"}]}}"#;
    other.ask("POST", "/v1/intents", body);
    let first = hand.assigned();
    let mut command = place.command(&["submit", "chat", "--prompt", "And I?"]);
    let (terminal, mut child) = Terminal::run(command.env("MTOR_REALM", &realm.url));
    terminal.wait("in the queue, about");
    hand.complete(&first, 1);
    let second = hand.assigned();
    terminal.wait("running on by hand");
    says(&mut hand, &second, "You, too.");
    hand.complete(&second, 1);
    terminal.wait("You, too.");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // The line is gone when the answer comes.
    let shown = terminal.shown();
    let answer = shown.find("You, too.").unwrap();
    assert!(!shown[answer..].contains("running on"), "{shown:?}");
}

#[test]
fn a_chat_in_a_pipe_is_one_question() {
    let place = Place::new();
    let (realm, mut hand) = by_hand(&place, 1);
    std::thread::scope(|scope| {
        let mut command = place.command(&["chat", "--temperature", "0.5"]);
        command.env("MTOR_REALM", &realm.url);
        let done = scope.spawn(move || command.input("What\nis it?\n"));
        let assign = hand.assigned();
        assert_eq!(assign["data"]["messages"][0]["content"], "What\nis it?");
        assert_eq!(assign["data"]["temperature"], 0.5);
        says(&mut hand, &assign, "It is this.");
        hand.complete(&assign, 1);
        let done = done.join().unwrap().good();
        assert_eq!(done.stdout, "It is this.\n", "the answer alone: {done:#?}");
        assert!(done.stderr.contains("cost "), "{done:#?}");
    });
    let nothing = place.command(&["chat"]).env("MTOR_REALM", &realm.url).input("");
    assert_eq!(nothing.code, Some(2), "{nothing:#?}");
}

#[test]
fn addresses_without_a_scheme_are_understood() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let bare = realm.url.strip_prefix("http://").unwrap();
    let port = bare.rsplit_once(':').unwrap().1;
    for address in [bare, &format!("//{bare}/"), &format!("localhost:{port}"), &format!(":{port}")]
    {
        place.run(&["manifests", "--realm", address]).good();
    }
    for (address, words) in [("ws://a:1", "http://a:1"), ("ftp://a", "https://a"), ("", "empty")] {
        let done = place.run(&["manifests", "--realm", address]);
        assert_eq!(done.code, Some(2), "{done:#?}");
        assert!(done.stderr.contains(words), "{address}: {done:#?}");
    }
}
