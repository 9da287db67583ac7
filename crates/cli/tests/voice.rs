//! The voice on the command line: recordings that are written down, answers that are read aloud.
//! Who hears is real; who speaks is a program of the test's own, so that every byte is known.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::http::{Guest, send};
use crate::common::terminal::Terminal;
use crate::common::worker::{Owner, Worker};
use crate::common::{Done, Place, Realm, eventually, models_dir, signal};
use serde_json::Value;

const SPOKEN: &[u8] = include_bytes!("../../models/tests/exec/data/spoken.ogg");

/// Answers a question in two sentences, and says each text as its characters and some silence: a
/// few bytes are no second of sound, whatever is claimed.
const PROGRAM: &str = r#"
import base64, json, sys
def say(kind, data):
    print(json.dumps({"specversion": "1.0", "id": "1", "source": "test", "type": kind, "data": data}), flush=True)
offers = [{"intent": "chat", "model": "talker", "slots": 1}, {"intent": "speak", "model": "mouth", "slots": 1}]
offers = [offer for offer in offers if offer["intent"].upper() in sys.argv] or offers
say("mtor.worker.offer.v1", {"offers": offers})
for line in sys.stdin:
    event = json.loads(line)
    if event["type"] != "mtor.worker.assign.v1":
        continue
    job = event["data"]
    key = {"intent": job["intent"], "attempt": job["attempt"]}
    if job["name"] == "chat":
        for seq, text in enumerate(["One sentence. ", "And ", "another."]):
            piece = {"choices": [{"index": 0, "delta": {"content": text}}]}
            say("mtor.worker.chunk.v1", {**key, "seq": seq, "count": 1, "piece": piece})
        result = {"choices": [{"index": 0, "message": {"content": "One sentence. And another."}}]}
        say("mtor.worker.complete.v1", {**key, "usage": {"units": 3, "input": 1, "output": 2}, "result": result})
        continue
    body = job["data"]
    if not body["input"].isascii() and "WORDLESS" in sys.argv:
        say("mtor.worker.fail.v1", {**key, "code": "unsupported", "message": "no voice can say this text", "retry": False})
        continue
    if not body["input"].isascii() and "SAYS" not in sys.argv:
        # A voice alone is asked for: nothing is said, nothing is to be paid.
        if body["voice"] == "nobody":
            say("mtor.worker.fail.v1", {**key, "code": "unsupported", "message": "voice must be somebody", "retry": False})
        else:
            result = {"response_format": "pcm", "duration_ms": 0, "segments": []}
            say("mtor.worker.complete.v1", {**key, "usage": {"units": 0, "input": 0, "output": 0}, "result": result})
        continue
    open("asked", "a").write(body["input"] + "\n")
    sound = base64.b64encode(body["input"].encode() + b"\n" + bytes(800)).decode()
    piece = {"audio": sound, "text": body["input"], "start_ms": 0, "end_ms": 10}
    say("mtor.worker.chunk.v1", {**key, "seq": 0, "count": 1000, "piece": piece})
    if "BREAKS" in sys.argv and "another" in body["input"]:
        say("mtor.worker.fail.v1", {**key, "code": "backend", "message": "it fell silent", "retry": False})
        continue
    if "ENDLESS" in sys.argv:
        continue
    result = {"response_format": "pcm", "duration_ms": 10, "segments": []}
    say("mtor.worker.complete.v1", {**key, "usage": {"units": 1000, "input": 1000, "output": 0}, "result": result})
"#;

fn worker(place: &Place, realm: &Realm, model: &str, program: &[&str]) -> Worker {
    joined(place, realm, model, &realm.token(), program)
}

fn joined(place: &Place, realm: &Realm, model: &str, token: &str, program: &[&str]) -> Worker {
    let with = [&["--exec"], program].concat();
    let worker = Worker::joined(place, &realm.url, token, model, &with);
    eventually(|| {
        let models = send(&realm.url, "GET", "/v1/models", &[], b"").json();
        let is_it = |one: &Value| one["id"].as_str().is_some_and(|id| id.starts_with(model));
        models["data"].as_array().unwrap().iter().any(is_it)
    });
    worker
}

fn talker(place: &Place, realm: &Realm, more: &[&str]) -> Worker {
    place.write("talker.py", PROGRAM, 0o644);
    worker(place, realm, "talker", &[&["python3", "talker.py"], more].concat())
}

/// `aplay` that writes down what it is given.
fn with_player(place: &Place, script: &str) -> String {
    let player = place.write("bin/aplay", &format!("#!/bin/sh\n{script}\n"), 0o755);
    player.parent().unwrap().display().to_string()
}

fn ask(place: &Place, realm: &Realm, more: &[&str]) -> Command {
    let line = ["chat", "--realm", &realm.url, "--model", "talker"];
    place.command(&[line.as_slice(), more].concat())
}

fn done(mut command: Command) -> Done {
    Done::of(command.output().unwrap())
}

#[test]
fn a_recording_is_written_down_from_a_file_and_from_a_pipe() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let program = Path::new(env!("CARGO_BIN_EXE_mtor")).with_file_name("mtor-models");
    let (program, models) = (program.to_str().unwrap(), models_dir());
    let serve = [program, "--models", models.to_str().unwrap(), "--serve", "transcribe"];
    let _worker = worker(&place, &realm, "moonshine-tiny-en", &serve);
    std::fs::write(place.path().join("spoken.ogg"), SPOKEN).unwrap();

    let line = ["transcribe", "--realm", &realm.url, "spoken.ogg"];
    let heard = place.run(&line).good();
    let lines: Vec<_> = heard.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{heard:#?}");
    assert!(lines[0].contains("worst") && lines[1].contains("quiet"), "{heard:#?}");
    assert!(heard.stderr.contains("cost 200 base units"), "{heard:#?}");

    let mut piped = place.command(&["transcribe", "--realm", &realm.url, "-", "--as", "vtt"]);
    piped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut piped = piped.spawn().unwrap();
    piped.stdin.take().unwrap().write_all(SPOKEN).unwrap();
    let heard = Done::of(piped.wait_with_output().unwrap());
    assert!(heard.stdout.starts_with("WEBVTT\n\n00:00:0"), "{heard:#?}");
    assert_eq!(heard.stdout.matches(" --> ").count(), 2, "{heard:#?}");

    std::fs::write(place.path().join("silence"), vec![0; 32_000]).unwrap();
    let silent = ["transcribe", "--realm", &realm.url, "silence", "--format", "pcm16"];
    let heard = place.run(&silent).good();
    assert_eq!(heard.stdout, "", "{heard:#?}");
    assert!(heard.stderr.contains("nobody speaks in silence"), "{heard:#?}");
    // Players refuse subtitles without their head.
    let heard = place.run(&[silent.as_slice(), &["--as", "vtt"]].concat()).good();
    assert_eq!(heard.stdout, "WEBVTT\n\n", "{heard:#?}");
    assert!(heard.stderr.contains("nobody speaks in silence"), "{heard:#?}");
}

#[test]
fn what_is_no_recording_is_refused_by_name() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    std::fs::write(place.path().join("empty"), "").unwrap();
    std::fs::write(place.path().join("long"), vec![0; 10_000_001]).unwrap();
    std::fs::write(place.path().join("text"), "no sound").unwrap();
    for (file, more, code, told) in [
        ("nowhere.wav", &[][..], 2, "there is no such file"),
        (".", &[], 2, "it is a folder"),
        ("empty", &[], 2, "empty is empty"),
        ("long", &[], 2, "longer than 10000000 bytes"),
        ("text", &[], 1, "of no kind that is taken"),
        ("text", &["--format", "midi"], 1, "format"),
    ] {
        let line = ["transcribe", "--realm", &realm.url, file];
        let done = place.run(&[line.as_slice(), more].concat());
        assert_eq!(done.code, Some(code), "{done:#?}");
        assert!(done.stderr.contains(told), "{done:#?}");
    }
}

#[test]
fn an_answer_is_read_aloud_by_the_player_that_is_here() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let _worker = talker(&place, &realm, &[]);
    let folder = with_player(&place, "exec cat > heard");
    let mut command = ask(&place, &realm, &["--speak", "Say", "something"]);
    let read = done({
        command.env("PATH", format!("{folder}:/usr/bin:/bin"));
        command
    });
    assert_eq!(read.code, Some(0), "{read:#?}");
    assert_eq!(read.stdout, "One sentence. And another.\n", "{read:#?}");
    let heard = std::fs::read_to_string(place.path().join("heard")).unwrap().replace('\0', "");
    assert_eq!(heard, "One sentence.\n And another.\n", "one part for each whole sentence");
    // Two parts of a second each.
    assert!(read.stderr.contains("read aloud for 40 base units"), "{read:#?}");
}

#[test]
fn an_answer_is_written_to_a_file_and_a_voice_that_is_not_there_is_told() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let _worker = talker(&place, &realm, &[]);
    let read = done(ask(&place, &realm, &["--speak=said.wav", "--voice", "x", "Say"]));
    assert_eq!(read.code, Some(0), "{read:#?}");
    let said = std::fs::read(place.path().join("said.wav")).unwrap();
    let said = String::from_utf8_lossy(&said).into_owned();
    let ends = said.trim_end_matches('\0').ends_with("And another.\n");
    assert!(said.starts_with("RIFF") && ends, "{said:?}");

    // Before anything is asked, paid or written.
    let before = std::fs::read_to_string(place.path().join("asked")).unwrap();
    let refused = done(ask(&place, &realm, &["--speak=other.wav", "--voice", "nobody", "Say"]));
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:#?}");
    assert!(refused.stderr.contains("--voice nobody: voice must be somebody"), "{refused:#?}");
    assert!(!refused.stderr.contains("cost"), "{refused:#?}");
    assert!(!place.path().join("other.wav").exists());
    assert_eq!(std::fs::read_to_string(place.path().join("asked")).unwrap(), before);

    for (file, told) in [("-", "standard output has the answer's text"), ("x.mp3", ".mp3 says")] {
        let wrong = done(ask(&place, &realm, &[&format!("--speak={file}"), "Say"]));
        assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""), "{wrong:#?}");
        assert!(wrong.stderr.contains(told) && wrong.stderr.contains(".wav"), "{wrong:#?}");
        assert!(!place.path().join(file).exists(), "{file}");
    }

    let no_player = done({
        let mut command = ask(&place, &realm, &["--speak", "Say"]);
        command.env("PATH", "/nowhere");
        command
    });
    assert_eq!(no_player.code, Some(1), "{no_player:#?}");
    assert!(no_player.stderr.contains("aplay") && no_player.stderr.contains("--speak=FILE"));
    let usage = done(ask(&place, &realm, &["--voice", "x", "Say"]));
    assert_eq!(usage.code, Some(2), "{usage:#?}");
}

#[test]
fn where_nobody_speaks_nothing_is_asked_or_paid() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let _worker = talker(&place, &realm, &["CHAT"]);
    for voice in [&[] as &[&str], &["--voice", "x"]] {
        let refused = done(ask(&place, &realm, &[&["--speak=a.wav", "Say"], voice].concat()));
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:#?}");
        assert!(refused.stderr.contains("--speak: no worker"), "{refused:#?}");
        assert!(refused.stderr.contains("the question was not asked"), "{refused:#?}");
        assert!(!refused.stderr.contains("read aloud"), "{refused:#?}");
    }
    assert!(!place.path().join("a.wav").exists());
}

#[test]
fn what_is_refused_before_it_is_read_keeps_its_file_and_programs_are_told_the_cost() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let _worker = talker(&place, &realm, &[]);
    place.write("keep.wav", "precious", 0o644);
    let refused = done(ask(&place, &realm, &["--speak=keep.wav", "--ceiling", "1", "Say"]));
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(!refused.stderr.contains("read aloud"), "{refused:#?}");
    assert_eq!(std::fs::read(place.path().join("keep.wav")).unwrap(), b"precious");

    let read = done(ask(&place, &realm, &["--json", "--speak=keep.wav", "Say"]));
    assert_eq!(read.code, Some(0), "{read:#?}");
    let last: Value = serde_json::from_str(read.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["cost"]), (&"read_aloud".into(), &"40".into()), "{last}");
}

/// A server of others says what the realm's own voice does not, and refuses what that takes.
#[test]
fn what_asking_for_a_voice_cost_is_counted_and_a_refused_text_is_no_refused_voice() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let worker = talker(&place, &realm, &["SAYS"]);
    let read = done(ask(&place, &realm, &["--speak=said.wav", "--voice", "x", "Say"]));
    assert_eq!(read.code, Some(0), "{read:#?}");
    assert!(read.stderr.contains("read aloud for 60 base units"), "two parts and one: {read:#?}");
    drop(worker);

    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let _worker = talker(&place, &realm, &["WORDLESS"]);
    let read = done(ask(&place, &realm, &["--speak=said.wav", "--voice", "x", "Say"]));
    assert_eq!(read.code, Some(0), "{read:#?}");
    assert!(read.stderr.contains("read aloud for 40 base units"), "{read:#?}");
}

/// Who asks the realm's own workers alone does not hand the answer to others.
#[test]
fn an_answer_is_read_on_the_terms_of_its_question() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    place.write("talker.py", PROGRAM, 0o644);
    let _own = worker(&place, &realm, "talker", &["python3", "talker.py", "CHAT"]);
    let (stranger, speaks) = (Guest::new(&realm.url), ["python3", "talker.py", "SPEAK"]);
    let _foreign = joined(&place, &realm, "mouth", &stranger.token(), &speaks);
    let asked = || std::fs::read_to_string(place.path().join("asked")).unwrap_or_default();

    let kept = ["--trust", "own", "--deadline-ms", "3000", "--speak=said.wav", "Say"];
    let kept = done(ask(&place, &realm, &kept));
    assert_eq!(kept.stdout, "One sentence. And another.\n", "{kept:#?}");
    assert_ne!(kept.code, Some(0), "nobody may read it: {kept:#?}");
    assert_eq!(asked(), "", "{kept:#?}");

    // What the answer leaves of a ceiling does not buy a part.
    let dear = done(ask(
        &place,
        &realm,
        &["--trust", "any", "--ceiling", "100", "--speak=said.wav", "Say"],
    ));
    assert_eq!(dear.stdout, "One sentence. And another.\n", "{dear:#?}");
    assert!(dear.stderr.contains("ceiling"), "{dear:#?}");
    assert_eq!(asked(), "", "{dear:#?}");

    let most = ["--trust", "any", "--ceiling", "5000", "--batch", "--durable"];
    let read = done(ask(&place, &realm, &[&most[..], &["--speak=said.wav", "Say"]].concat()));
    assert_eq!(read.code, Some(0), "{read:#?}");
    // In one part or two: the answer may be whole before its cost is told, or at once with it.
    assert_eq!(asked().replace('\n', ""), "One sentence. And another.", "it buys all of it");
}

#[test]
fn a_player_that_has_ended_is_paid_no_more() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let _worker = talker(&place, &realm, &[]);
    let folder = with_player(&place, "exit 1");
    let mut command = ask(&place, &realm, &["--speak", "Say"]);
    command.env("PATH", format!("{folder}:/usr/bin:/bin"));
    let read = done(command);
    assert_eq!(read.code, Some(1), "{read:#?}");
    assert!(read.stderr.contains("the player ended with exit status: 1"), "{read:#?}");
    let asked = std::fs::read_to_string(place.path().join("asked")).unwrap_or_default();
    assert!(asked.lines().count() <= 1, "of two parts: {asked:?}");
    let costs =
        ["read aloud for 0 base units until then", "read aloud for 20 base units until then"];
    assert!(costs.iter().any(|cost| read.stderr.contains(cost)), "{read:#?}");
}

#[test]
fn what_a_reading_cost_is_told_where_it_fails() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let _worker = talker(&place, &realm, &["BREAKS"]);
    let read = done(ask(&place, &realm, &["--speak=said.wav", "Say"]));
    assert_eq!(read.code, Some(1), "{read:#?}");
    assert!(read.stderr.contains("it fell silent"), "{read:#?}");
    // The part that was said; what broke is free.
    assert!(read.stderr.contains("read aloud for 20 base units until then"), "{read:#?}");
}

/// The realm goes while it speaks: what is known is told, and what is not, too.
#[test]
fn what_is_not_known_of_a_readings_cost_is_said() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let _worker = talker(&place, &realm, &["ENDLESS"]);
    let mut command = ask(&place, &realm, &["--speak=said.wav", "Say"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let said = place.path().join("said.wav");
    // The first part may be one sentence or, where the answer came at once, both.
    let begun = |said: Vec<u8>| String::from_utf8_lossy(&said).contains("One sentence.");
    eventually(|| std::fs::read(&said).is_ok_and(begun));
    realm.kill();
    let ended = Done::of(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let told = "read aloud for 0 base units, and what intent ";
    assert!(ended.stderr.contains(told) && ended.stderr.contains("until then"), "{ended:#?}");
}

#[test]
fn ctrl_c_silences_it_and_nobody_is_left() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let _worker = talker(&place, &realm, &["ENDLESS"]);
    let folder = with_player(&place, "echo $$ > pid; exec cat > heard");
    let mut command = ask(&place, &realm, &["--speak", "Say"]);
    command.env("PATH", format!("{folder}:/usr/bin:/bin"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let heard = place.path().join("heard");
    eventually(|| std::fs::read_to_string(&heard).is_ok_and(|heard| heard.starts_with("One")));
    signal(child.id(), rustix::process::Signal::INT);
    let ended = Done::of(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{ended:#?}");
    // A second of the first part.
    assert!(ended.stderr.contains("read aloud for 20 base units until then"), "{ended:#?}");
    let pid = std::fs::read_to_string(place.path().join("pid")).unwrap();
    eventually(|| !Path::new(&format!("/proc/{}", pid.trim())).exists());
    // The realm was asked to say no more.
    eventually(|| {
        let open = place.run(&["--json", "intents", "--open", "--realm", &realm.url]);
        open.stdout.trim().is_empty()
    });
}

#[test]
fn who_types_on_has_heard_enough() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let _worker = talker(&place, &realm, &["ENDLESS"]);
    let folder = with_player(&place, "echo $$ > pid; exec cat > heard");
    let mut command = ask(&place, &realm, &["--speak"]);
    let (mut terminal, mut child) =
        Terminal::run(command.env("PATH", format!("{folder}:/usr/bin:/bin")));
    let reads = || {
        eventually(|| {
            let heard = std::fs::read_to_string(place.path().join("heard"));
            heard.is_ok_and(|heard| heard.starts_with("One"))
        });
        std::fs::remove_file(place.path().join("heard")).unwrap();
        let pid = std::fs::read_to_string(place.path().join("pid")).unwrap();
        format!("/proc/{}", pid.trim())
    };
    terminal.write("One?\n");
    let first = reads();
    terminal.write("Two?\n");
    let second = reads();
    assert_ne!(first, second);
    assert!(!Path::new(&first).exists(), "the first one is silent");
    // Ctrl-C silences, and the conversation goes on.
    signal(child.id(), rustix::process::Signal::INT);
    eventually(|| !Path::new(&second).exists());
    terminal.write("Three?\n");
    let third = reads();
    signal(child.id(), rustix::process::Signal::INT);
    eventually(|| !Path::new(&third).exists());
    // Who leaves by Ctrl-C is told the sum as well, with what was silenced.
    signal(child.id(), rustix::process::Signal::INT);
    let code = child.wait().unwrap().code();
    let shown = terminal.shown();
    assert_eq!(code, Some(130), "{shown}");
    assert!(shown.contains("all in all "), "{shown}");
}
