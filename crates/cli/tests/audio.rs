//! OpenAI's audio routes, with a worker that says what the test says.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::common::http::{Guest, Reply, open};
use crate::common::socket::Hand;
use crate::common::worker::Worker;
use crate::common::{Place, Realm, eventually};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Two sentences, ten seconds.
const SPOKEN: &[u8] = include_bytes!("../../models/tests/exec/data/spoken.ogg");
const FORM: &str = "multipart/form-data; boundary=\"--a b\"";
const SPEECH: &str = "/v1/audio/speech";
const PAGE: &str = include_str!("../../../docs/voice.md");

/// A realm with one worker by hand.
struct Stage {
    guest: Guest,
    hand: Hand,
    realm: Realm,
    place: Place,
}

impl Stage {
    fn new() -> Self {
        let place = Place::new();
        let realm = Realm::start(&place, &["--no-worker"]);
        let hand = Hand::join(&realm, 1, &offers());
        let guest = Guest::new(&realm.url);
        eventually(|| guest.ask("GET", "/v1/models", "").body.contains("mouth"));
        Self { guest, hand, realm, place }
    }

    /// Asks while the worker does its part; gives the answer.
    fn during(
        &mut self,
        path: &str,
        kind: &str,
        body: &[u8],
        work: impl FnOnce(&mut Hand),
    ) -> Flow {
        let flow = Flow::ask(&self.guest, path, kind, body);
        work(&mut self.hand);
        flow.headed()
    }

    /// What its worker says first is no answer: another gives it, and is paid alone.
    fn lied_to(
        &mut self,
        (path, kind, body): (&str, &str, &[u8]),
        lie: impl FnOnce(&mut Hand, &Value),
        right: impl FnOnce(&mut Hand, &Value),
    ) -> Reply {
        let (before, _) = self.guest.grant();
        let flow = Flow::ask(&self.guest, path, kind, body);
        let assign = self.hand.assigned();
        lie(&mut self.hand, &assign);
        self.hand.wait_revoked(&assign);
        let mut other = Hand::join(&self.realm, 2, &offers());
        let again = other.assigned();
        assert_eq!(again["intent"], assign["intent"]);
        right(&mut other, &again);
        let reply = flow.headed().reply();
        // As much as one has, and its second of sound.
        eventually(|| self.guest.grant() == (before - 20, 0));
        drop(other);
        eventually(|| !self.guest.ask("GET", "/v1/pools", "").body.contains("\"slots\":8"));
        reply
    }
}

fn offers() -> Value {
    json!([
        {"intent": "transcribe", "model": "ear", "slots": 4},
        {"intent": "speak", "model": "mouth", "slots": 4},
    ])
}

/// An answer as its bytes come.
struct Flow {
    stream: BufReader<TcpStream>,
    status: u16,
    head: String,
}

impl Flow {
    fn ask(guest: &Guest, path: &str, kind: &str, body: &[u8]) -> Self {
        Self::ask_with(guest, path, &[("content-type", kind)], body)
    }

    fn ask_with(guest: &Guest, path: &str, more: &[(&str, &str)], body: &[u8]) -> Self {
        let bearer = format!("Bearer {}", guest.key);
        let headers = [&[("authorization", bearer.as_str())], more].concat();
        let stream = BufReader::new(open(&guest.url, "POST", path, &headers, body));
        Self { stream, status: 0, head: String::new() }
    }

    /// Waits for the head.
    fn headed(mut self) -> Self {
        while !self.head.ends_with("\r\n\r\n") {
            assert_ne!(self.stream.read_line(&mut self.head).unwrap(), 0, "no head: {}", self.head);
        }
        self.status = self.head.split(' ').nth(1).unwrap().parse().unwrap();
        self
    }

    fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = lines.filter(|(known, _)| *known == name).map(|(_, value)| value);
        values.next().unwrap_or_default()
    }

    /// The next bytes, or `None` at the end; an error where the answer breaks off.
    fn next(&mut self) -> Result<Option<Vec<u8>>, std::io::Error> {
        let mut size = String::new();
        let ended = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        if self.stream.read_line(&mut size)? == 0 {
            return Err(ended());
        }
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| ended())?;
        let mut bytes = vec![0; size + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(size);
        Ok((size > 0).then_some(bytes))
    }

    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        while let Some(bytes) = self.next().unwrap() {
            rest.extend(bytes);
        }
        rest
    }

    /// What came whole.
    fn reply(mut self) -> Reply {
        let mut body = String::new();
        if self.header("transfer-encoding") == "chunked" {
            body = String::from_utf8(self.rest()).unwrap();
        } else {
            self.stream.read_to_string(&mut body).unwrap();
        }
        Reply { status: self.status, body }
    }

    /// The data of all events.
    fn events(mut self) -> Vec<Value> {
        assert_eq!(self.header("content-type"), "text/event-stream; charset=utf-8");
        let text = String::from_utf8(self.rest()).unwrap();
        let events = text.split_terminator("\n\n").map(|event| event.strip_prefix("data: "));
        events.map(|event| serde_json::from_str(event.unwrap()).unwrap()).collect()
    }
}

fn form(file: &[u8], fields: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let head = format!("----a b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend([head.as_bytes(), value.as_bytes(), b"\r\n"].concat());
    }
    let head = "----a b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"x.mp3\"\r\n\
                content-type: audio/mpeg\r\n\r\n";
    body.extend([head.as_bytes(), file, b"\r\n----a b--\r\n"].concat());
    body
}

fn heard() -> Value {
    let first = json!({"start_ms": 180, "end_ms": 1_900, "text": "The worst is over."});
    let second = json!({"start_ms": 4_000, "end_ms": 9_000, "text": "It is quiet."});
    json!({
        "text": "The worst is over. It is quiet.", "language": "en", "duration_ms": 10_000,
        "segments": [first, second],
    })
}

#[test]
fn a_sound_comes_back_in_every_shape() {
    let mut stage = Stage::new();
    let mut written = |fields: &[(&str, &str)], kind: &str| {
        let flow = stage.during("/v1/audio/transcriptions", FORM, &form(SPOKEN, fields), |hand| {
            let assign = hand.assigned();
            assert_eq!(assign["data"]["audio"], STANDARD.encode(SPOKEN));
            assert_eq!((&assign["stream"], &assign["model"]), (&json!(false), &json!("ear")));
            assert_eq!(assign["limit"], 10_000);
            hand.complete_with(&assign, 10_000, &heard());
        });
        assert_eq!((flow.status, flow.header("content-type")), (200, kind));
        assert!(!flow.header("mtor-intent").is_empty());
        flow.reply()
    };
    let said = "The worst is over. It is quiet.";
    let json = written(&[("model", "ear"), ("language", "en")], "application/json").json();
    let usage = json!({"type": "duration", "seconds": 10});
    assert_eq!(json, json!({"text": said, "usage": usage}));
    let plain = "text/plain; charset=utf-8";
    assert_eq!(written(&[("response_format", "text")], plain).body, format!("{said}\n"));
    let srt = "1\n00:00:00,180 --> 00:00:01,900\nThe worst is over.\n\n\
               2\n00:00:04,000 --> 00:00:09,000\nIt is quiet.\n\n";
    assert_eq!(written(&[("response_format", "srt")], plain).body, srt);
    let vtt = written(&[("response_format", "vtt")], "text/vtt; charset=utf-8").body;
    assert!(vtt.starts_with("WEBVTT\n\n00:00:00.180 --> 00:00:01.900\nThe worst"), "{vtt}");
    let fields = [("response_format", "verbose_json"), ("timestamp_granularities[]", "segment")];
    let verbose = written(&fields, "application/json").json();
    assert_eq!((&verbose["text"], &verbose["duration"]), (&json!(said), &json!(10.0)));
    assert_eq!(verbose["segments"][1]["start"], 4.0);
}

#[test]
fn a_transcript_streams_as_it_is_heard() {
    let mut stage = Stage::new();
    let body = form(SPOKEN, &[("stream", "true")]);
    let segments = heard()["segments"].clone();
    let path = "/v1/audio/transcriptions";
    let events = stage.during(path, FORM, &body, |hand| {
        let assign = hand.assigned();
        assert_eq!(assign["stream"], true);
        hand.chunk(&assign, 0, 5_000, &segments[0]);
        hand.chunk(&assign, 1, 10_000, &segments[1]);
        hand.complete_with(&assign, 10_000, &heard());
    });
    let events = events.events();
    let delta = |text: &str| json!({"type": "transcript.text.delta", "delta": text});
    assert_eq!(events[..2], [delta("The worst is over."), delta(" It is quiet.")]);
    assert_eq!(events[2]["type"], "transcript.text.done");
    assert_eq!(events[2]["text"], "The worst is over. It is quiet.");
    assert_eq!(events.len(), 3);
    // A worker without pieces, and one that fails in the middle.
    let whole = stage.during(path, FORM, &body, |hand| {
        let assign = hand.assigned();
        hand.complete_with(&assign, 10_000, &heard());
    });
    assert_eq!(whole.events()[0], delta("The worst is over. It is quiet."));
    let broken = stage.during(path, FORM, &body, |hand| {
        let assign = hand.assigned();
        hand.chunk(&assign, 0, 5_000, &segments[0]);
        hand.fail(&assign, "backend", "the model fell silent");
    });
    let last = broken.events().pop().unwrap();
    assert_eq!(last["error"]["code"], "MT0025", "{last}");
}

#[test]
fn what_cannot_be_heard_is_refused_by_name_and_free() {
    let stage = Stage::new();
    let before = stage.guest.grant();
    let path = "/v1/audio/transcriptions";
    let refused = |kind: &str, body: &[u8]| {
        let reply = Flow::ask(&stage.guest, path, kind, body).headed().reply();
        let error = reply.json()["error"].clone();
        (reply.status, error["code"].as_str().unwrap().to_owned(), error["param"].clone())
    };
    let of = |status, code: &str, param: Value| (status, code.to_owned(), param);
    for (file, fields, told) in [
        (
            SPOKEN,
            vec![("response_format", "diarized_json")],
            of(400, "MT0002", json!("response_format")),
        ),
        (SPOKEN, vec![("prompt", "names")], of(400, "MT0002", json!("prompt"))),
        (SPOKEN, vec![("temperature", "1")], of(400, "MT0002", json!("temperature"))),
        (SPOKEN, vec![("best_of", "1")], of(400, "MT0003", json!("best_of"))),
        (SPOKEN, vec![("model", "whisper-1")], of(404, "MT0007", json!("model"))),
        (b"no sound", vec![], of(400, "MT0002", json!("file"))),
        (&SPOKEN[..40], vec![], of(400, "MT0002", json!("file"))),
        (b"", vec![], of(400, "MT0002", json!("file"))),
    ] {
        assert_eq!(refused(FORM, &form(file, &fields)), told, "{fields:?}");
    }
    let whole = form(SPOKEN, &[]);
    assert_eq!(refused(FORM, &whole[..whole.len() - 40]), of(400, "MT0002", Value::Null));
    assert_eq!(refused("application/json", b"{}"), of(415, "MT0032", Value::Null));
    let large = form(&vec![0; 10_000_001], &[]);
    assert_eq!(refused(FORM, &large), of(413, "MT0004", json!("file")));
    let nobody = Guest { url: stage.guest.url.clone(), key: "wrong".into() };
    let reply = Flow::ask(&nobody, path, FORM, &form(SPOKEN, &[])).headed().reply();
    assert_eq!(reply.refusal(), (401, "MT0008".to_owned()));
    assert_eq!(stage.guest.grant(), before);
}

#[test]
fn a_worker_that_refuses_or_lies_is_told_by_code() {
    let mut stage = Stage::new();
    let body = form(SPOKEN, &[("language", "fr")]);
    let path = "/v1/audio/transcriptions";
    let mut answered = |work: fn(&mut Hand, &Value)| {
        let flow = stage.during(path, FORM, &body, |hand| {
            let assign = hand.assigned();
            assert_eq!(assign["data"]["language"], "fr");
            work(hand, &assign);
        });
        let reply = flow.reply();
        let (status, code) = reply.refusal();
        let error = reply.json()["error"].clone();
        (status, code, [error["message"].clone(), error["param"].clone()])
    };
    let words = "field `language`: en alone";
    let (status, code, told) =
        answered(|hand, assign| hand.fail(assign, "unsupported", "field `language`: en alone"));
    assert_eq!((status, code.as_str(), told), (400, "MT0029", [words, "language"].map(Into::into)));
    // What a worker calls the sound is the form's file.
    let (status, code, told) =
        answered(|hand, assign| hand.fail(assign, "bad_request", "audio: it is broken"));
    let words = "file: it is broken";
    assert_eq!((status, code.as_str(), told), (400, "MT0002", [words, "file"].map(Into::into)));
    let lies: [fn(&mut Hand, &Value); 2] = [
        |hand, assign| hand.complete_with(assign, 1, &json!({"text": 7, "segments": []})),
        |hand, assign| {
            let result = json!({"text": "x", "segments": [{"start_ms": -1}]});
            hand.complete_with(assign, 1, &result);
        },
    ];
    for lie in lies {
        let reply = stage.lied_to((path, FORM, &body), lie, |hand, assign| {
            let segment = json!({"start_ms": 0, "end_ms": 900, "text": "Hello."});
            hand.complete_with(assign, 1_000, &json!({"text": "Hello.", "segments": [segment]}));
        });
        assert_eq!((reply.status, &reply.json()["text"]), (200, &json!("Hello.")));
    }
}

/// A sentence of a sound.
fn sentence(bytes: &[u8]) -> Value {
    json!({"audio": STANDARD.encode(bytes), "start_ms": 0, "end_ms": 100, "text": "Hello."})
}

const HEADER: &[u8] = b"RIFF\xff\xff\xff\xffWAVEfmt ";

/// As many bytes as a second has at least: a few are no second, whatever is claimed.
fn second(begin: &[u8]) -> Vec<u8> {
    [begin, &[0; 800]].concat()
}

#[test]
fn speech_comes_sentence_by_sentence_as_one_file() {
    let mut stage = Stage::new();
    // Not even the data can have it otherwise, and nothing of it is lost.
    let data =
        r#"{"model":"mouth","voice":"alloy","input":"Hello. World.","stream":false,"x":[1.50]}"#;
    let mut assign = Value::Null;
    let mut flow = stage.during(SPEECH, "application/json", data.as_bytes(), |hand| {
        assign = hand.assigned();
        hand.chunk(&assign, 0, 1_000, &sentence(&second(HEADER)));
    });
    assert_eq!((flow.status, flow.header("content-type")), (200, "audio/wav"));
    assert!(!flow.header("mtor-intent").is_empty());
    assert_eq!(assign["stream"], true);
    assert_eq!(assign["data"], serde_json::from_str::<Value>(data).unwrap());
    // The first is there before there is a second.
    assert_eq!(flow.next().unwrap().unwrap(), second(HEADER));
    stage.hand.chunk(&assign, 1, 2_000, &sentence(&second(b"more")));
    assert_eq!(flow.next().unwrap().unwrap(), second(b"more"));
    stage.hand.complete_with(&assign, 2_000, &json!({"duration_ms": 2_000, "segments": []}));
    assert_eq!(flow.next().unwrap(), None);
    // Forty base units of two seconds.
    eventually(|| stage.guest.grant() == (1_000_000 - 40, 0));
    // Whole, from a worker that knows no pieces.
    let data = br#"{"input":"Hello.","response_format":"opus"}"#;
    let mut flow = stage.during(SPEECH, "application/json", data, |hand| {
        let assign = hand.assigned();
        hand.complete_with(&assign, 500, &sentence(b"OggS, all of it"));
    });
    assert_eq!(flow.header("content-type"), "audio/ogg");
    assert_eq!(flow.rest(), b"OggS, all of it");
}

#[test]
fn speech_that_fails_never_looks_whole() {
    let mut stage = Stage::new();
    let data = br#"{"input":"Hello. World."}"#;
    let kind = "application/json";
    // Before the first byte it has a status of its own.
    let mut early = |work: fn(&mut Hand, &Value)| {
        let flow = stage.during(SPEECH, kind, data, |hand| {
            let assign = hand.assigned();
            work(hand, &assign);
        });
        assert_eq!(flow.header("content-type"), "application/json");
        let reply = flow.reply();
        let (status, code) = reply.refusal();
        (status, code, reply.json()["error"]["param"].clone())
    };
    let refused = |code: &str, param: &str| (400, code.to_owned(), json!(param));
    let voice =
        |hand: &mut Hand, assign: &Value| hand.fail(assign, "unsupported", "field `voice`: no");
    assert_eq!(early(voice), refused("MT0029", "voice"));
    let format = |hand: &mut Hand, assign: &Value| {
        hand.fail(assign, "unsupported", "response_format must be wav, pcm or opus, or absent");
    };
    assert_eq!(early(format), refused("MT0029", "response_format"));
    let lies: [fn(&mut Hand, &Value); 3] = [
        |hand, assign| hand.chunk(assign, 0, 1, &sentence(b"OggS")),
        |hand, assign| hand.chunk(assign, 0, 1, &json!({"audio": "*"})),
        |hand, assign| hand.chunk(assign, 0, 1, &json!("RIFF")),
    ];
    for lie in lies {
        let reply = stage.lied_to((SPEECH, kind, data), lie, |hand, assign| {
            hand.complete_with(assign, 1_000, &sentence(&second(b"RIFF0000WAVEfmt ")));
        });
        assert_eq!(reply.status, 200);
        assert!(reply.body.starts_with("RIFF"));
    }
    // After it the connection breaks off.
    let late: [fn(&mut Hand, &Value); 2] = [
        |hand, assign| hand.fail(assign, "backend", "the model fell silent"),
        |hand, assign| hand.chunk(assign, 1, 2, &json!({"audio": 7})),
    ];
    for work in late {
        let mut assign = Value::Null;
        let mut flow = stage.during(SPEECH, kind, data, |hand| {
            assign = hand.assigned();
            hand.chunk(&assign, 0, 1, &sentence(HEADER));
        });
        assert_eq!((flow.status, flow.next().unwrap().unwrap().as_slice()), (200, HEADER));
        let free = stage.guest.grant();
        work(&mut stage.hand, &assign);
        flow.next().unwrap_err();
        // Nor is it paid.
        let is_void = || stage.guest.grant() == (free.0 + free.1, 0);
        eventually(is_void);
    }
    // What is wrong with the body is told by name.
    for (data, told) in [
        (r#"{"input":"x","response_format":"midi"}"#, (400, "MT0002", json!("response_format"))),
        (r#"{"input":"x","stream_format":"x"}"#, (400, "MT0002", json!("stream_format"))),
        (r#"{"voice":"alloy"}"#, (400, "MT0002", json!("input"))),
        (&json!({"input": "x".repeat(5_012)}).to_string(), (400, "MT0002", json!("input"))),
        ("{", (400, "MT0001", Value::Null)),
        (r#"{"input":"x","model":"tts-1"}"#, (404, "MT0007", json!("model"))),
    ] {
        let reply = stage.guest.ask("POST", SPEECH, data);
        let error = reply.json()["error"].clone();
        assert_eq!(
            (reply.status, &error["code"], &error["param"]),
            (told.0, &json!(told.1), &told.2)
        );
        let message = error["message"].as_str().unwrap();
        if data.len() > 5_000 {
            assert!(message.contains("a text of 1 to 4096 characters, not 5012"), "{message}");
        }
        assert!(!message.contains("`/"), "{message}");
    }
}

/// What a client that writes every field sends.
#[test]
fn a_format_of_null_is_none() {
    let mut stage = Stage::new();
    let data = br#"{"input":"Hello.","response_format":null,"speed":null,"voice":null}"#;
    let mut flow = stage.during(SPEECH, "application/json", data, |hand| {
        let assign = hand.assigned();
        assert_eq!(assign["data"], serde_json::from_slice::<Value>(data).unwrap());
        hand.chunk(&assign, 0, 1_000, &sentence(HEADER));
        hand.complete_with(&assign, 1_000, &json!({"duration_ms": 1_000}));
    });
    assert_eq!((flow.status, flow.header("content-type")), (200, "audio/wav"));
    assert_eq!(flow.rest(), HEADER);
}

#[test]
fn who_goes_away_pays_for_what_was_spoken_and_gets_the_rest_back() {
    let mut stage = Stage::new();
    let kind = "application/json";
    let mut left = 1_000_000;
    for (format, first) in [("wav", HEADER), ("mp3", &[0xff, 0xfb, 0x90, 0x64]), ("pcm", b"ab")] {
        let data = json!({"input": "Hello. ".repeat(100), "response_format": format});
        let mut assign = Value::Null;
        let mut flow = stage.during(SPEECH, kind, data.to_string().as_bytes(), |hand| {
            assign = hand.assigned();
            hand.chunk(&assign, 0, 1_000, &sentence(&second(first)));
        });
        assert_eq!(flow.next().unwrap().unwrap(), second(first), "{format}");
        // 700 characters of two seconds, 20 base units each.
        assert_eq!(stage.guest.grant().1, 28_000, "{format}");
        drop(flow);
        stage.hand.wait_revoked(&assign);
        // What is said to nobody is nobody's to pay.
        stage.hand.chunk(&assign, 1, 60_000, &sentence(b"more"));
        left -= 20;
        eventually(|| stage.guest.grant() == (left, 0));
    }
}

/// The events route lets an answer begin anew and tells so; who joins from a route that cannot is not
/// given what was discarded.
#[test]
fn a_joined_answer_that_begins_anew_never_holds_its_discarded_beginning() {
    let offers = json!([
        {"intent": "speak", "model": "mouth", "slots": 4},
        {"intent": "chat", "model": "talker", "slots": 4},
    ]);
    let said = |text: &str| json!({"choices": [{"index": 0, "delta": {"content": text}}]});
    for (intent, route, data, pieces) in [
        (
            "speak",
            SPEECH,
            r#"{"input":"Hello. World."}"#,
            [sentence(HEADER), sentence(b"RIFFanewWAVE")],
        ),
        (
            "chat",
            "/v1/chat/completions",
            r#"{"model":"talker","messages":[{"role":"user","content":"x"}],"stream":true}"#,
            [said("discarded"), said("anew")],
        ),
    ] {
        let place = Place::new();
        let realm = Realm::start(&place, &["--no-worker"]);
        let guest = Guest::new(&realm.url);
        let slots = || {
            let pools = guest.ask("GET", "/v1/pools", "").json()["items"].clone();
            let all = pools.as_array().unwrap().iter().filter(|pool| pool["intent"] == intent);
            all.filter_map(|pool| pool["slots"].as_u64()).sum::<u64>()
        };
        let mut first = Hand::join(&realm, 1, &offers);
        eventually(|| slots() == 4);
        let key = ("idempotency-key", intent);
        let body = format!(r#"{{"intent":"{intent}","restart":true,"stream":true,"data":{data}}}"#);
        let json = ("content-type", "application/json");
        let stream = [json, key, ("accept", "text/event-stream")];
        let opened = Flow::ask_with(&guest, "/v1/intents", &stream, body.as_bytes());
        let assign = first.assigned();
        let mut joined = Flow::ask_with(&guest, route, &[json, key], data.as_bytes());
        first.chunk(&assign, 0, 1, &pieces[0]);
        joined = joined.headed();
        assert_eq!(joined.status, 200, "{intent}");
        let begun = joined.next().unwrap().unwrap();
        let mut second = Hand::join(&realm, 2, &offers);
        eventually(|| slots() == 8);
        let fail = json!({
            "intent": assign["intent"], "attempt": assign["attempt"], "code": "backend",
            "message": "it broke", "retry": true,
        });
        first.socket.say("mtor.worker.fail.v1", &fail);
        let assign = second.assigned();
        if intent == "speak" {
            assert_eq!(begun, HEADER);
            joined.next().unwrap_err();
        } else {
            let rest = String::from_utf8(joined.rest()).unwrap();
            assert!(rest.contains("MT0025") && rest.contains("anew"), "{rest}");
            assert!(!rest.contains("[DONE]"), "{rest}");
        }
        // Who joins from now on gets the new one alone.
        let joined = Flow::ask_with(&guest, route, &[json, key], data.as_bytes());
        second.chunk(&assign, 0, 1, &pieces[1]);
        second.complete_with(&assign, 1, &json!({"duration_ms": 1, "segments": []}));
        let rest = String::from_utf8(joined.headed().rest()).unwrap();
        assert!(rest.contains("anew") && !rest.contains("discarded"), "{rest}");
        assert!(!rest.contains("MT0025") && !rest.contains('\u{fffd}'), "{rest}");
        drop(opened);
    }
}

#[test]
fn speech_streams_as_events_and_ends_with_its_client() {
    let mut stage = Stage::new();
    let data = br#"{"input":"Hello.","response_format":"pcm","stream_format":"sse"}"#;
    let kind = "application/json";
    let flow = stage.during(SPEECH, kind, data, |hand| {
        let assign = hand.assigned();
        hand.chunk(&assign, 0, 500, &sentence(b"ab"));
        hand.chunk(&assign, 1, 1_000, &sentence(b"cd"));
        hand.complete_with(&assign, 1_000, &json!({"duration_ms": 1_000}));
    });
    let delta = |bytes| json!({"type": "speech.audio.delta", "audio": STANDARD.encode(bytes)});
    let usage = json!({"type": "duration", "seconds": 1});
    let done = json!({"type": "speech.audio.done", "usage": usage});
    assert_eq!(flow.events(), [delta("ab"), delta("cd"), done]);
    let broken = stage.during(SPEECH, kind, data, |hand| {
        let assign = hand.assigned();
        hand.chunk(&assign, 0, 500, &sentence(b"ab"));
        hand.fail(&assign, "backend", "the model fell silent");
    });
    let events = broken.events();
    assert_eq!((&events[0], &events[1]["error"]["code"]), (&delta("ab"), &json!("MT0025")));
    // Nobody listens any more: nobody speaks.
    let mut assign = Value::Null;
    let flow = stage.during(SPEECH, kind, br#"{"input":"Hello."}"#, |hand| {
        assign = hand.assigned();
        hand.chunk(&assign, 0, 1_000, &sentence(HEADER));
    });
    drop(flow);
    stage.hand.wait_revoked(&assign);
    eventually(|| stage.guest.grant().1 == 0);
}

/// A second of a tone as it is streamed: its length is not known when it begins.
fn tone() -> Vec<u8> {
    let format = [1_u16.to_le_bytes(), 1_u16.to_le_bytes()].concat();
    let rates = [24_000_u32.to_le_bytes(), 48_000_u32.to_le_bytes()].concat();
    let unknown = u32::MAX.to_le_bytes();
    let head = [b"RIFF".as_slice(), &unknown, b"WAVEfmt ", &16_u32.to_le_bytes(), &format, &rates];
    let tail = [&[2_u8, 0, 16, 0], b"data".as_slice(), &unknown, &[0, 16, 0, 240].repeat(12_000)];
    [head.concat(), tail.concat()].concat()
}

/// Answers whatever comes.
fn serve(hand: &mut Hand, assign: &Value) {
    let data = &assign["data"];
    let silent = "the model fell silent";
    if assign["name"] == "transcribe" {
        if data["language"] == "fr" {
            return hand.fail(assign, "unsupported", "field `language`: en alone");
        }
        if assign["stream"] == true {
            hand.chunk(assign, 0, 500, &heard()["segments"][0]);
            if data["language"] == "late" {
                return hand.fail(assign, "backend", silent);
            }
            hand.chunk(assign, 1, 1_000, &heard()["segments"][1]);
        }
        return hand.complete_with(assign, 1_000, &heard());
    }
    if data["input"] == "early" {
        return hand.fail(assign, "unsupported", "field `voice`: not among the voices here");
    }
    hand.chunk(assign, 0, 500, &sentence(&tone()));
    if data["input"] == "late" {
        return hand.fail(assign, "backend", silent);
    }
    hand.chunk(assign, 1, 1_000, &sentence(&[0; 4_800]));
    hand.complete_with(assign, 1_000, &json!({"duration_ms": 1_000, "segments": []}));
}

#[test]
fn the_official_clients_need_no_change() {
    let Stage { guest, hand, realm: _realm, place } = Stage::new();
    std::thread::spawn(move || hand.serve(serve));
    std::fs::write(place.path().join("spoken.ogg"), SPOKEN).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    assert!(root.join(".venv").exists(), "no client for Python: run `make python`");
    assert!(root.join("scripts/node/node_modules").exists(), "none for JavaScript: `make node`");
    let python = root.join(".venv/bin/python");
    for (program, script) in [
        (python.to_str().unwrap(), "scripts/python/openai_audio.py"),
        ("node", "scripts/node/openai_audio.mjs"),
    ] {
        let mut command = Command::new(program);
        command.arg(root.join(script)).args([&guest.url, &guest.key]).arg("spoken.ogg");
        is_ok(command.current_dir(place.path()));
    }
}

#[track_caller]
fn is_ok(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim() == "ok", "{command:?}: {said}{errors}");
}

/// The real models of a worker, and the official client: what is spoken is understood.
#[test]
fn what_a_realm_says_it_understands() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let serve = ["--serve", "transcribe", "--serve", "speak", "--speaker", "kokoro-82m"];
    let _worker = Worker::voice(&place, &realm, &serve);
    // One sentence has to be spoken and understood before either is offered.
    let began = std::time::Instant::now();
    while !guest.ask("GET", "/v1/models", "").body.contains("kokoro-82m") {
        assert!(began.elapsed().as_secs() < 120, "nobody speaks");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let mut command = Command::new(root.join(".venv/bin/python"));
    command.arg(root.join("scripts/python/openai_voice.py")).args([&guest.url, &guest.key]);
    is_ok(&mut command);
}

#[test]
fn the_commands_of_the_page_do_what_it_says() {
    let Stage { guest, hand, realm: _realm, place } = Stage::new();
    let commands: Vec<&str> = PAGE.split("```sh\n").skip(1).collect();
    let commands = commands.iter().flat_map(|block| block.split("\n```").next().unwrap().lines());
    let lines: Vec<&str> = commands.filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(lines.len(), 5, "{lines:#?}");
    std::thread::spawn(move || hand.serve(serve));
    let run = |line: &str| {
        let mut command = Command::new("bash");
        command.args(["--norc", "-o", "pipefail", "-ec", line]).current_dir(place.path());
        command.env("REALM", &guest.url).env("MTOR_API_KEY", &guest.key);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said: Vec<String> = lines.into_iter().map(run).collect();
    assert!(said[1].starts_with(r#"{"text":"The worst is over."#), "{said:?}");
    assert!(said[3].contains("transcript.text.done"), "{said:?}");
    let file = |name: &str| std::fs::read(place.path().join(name)).unwrap();
    let whole = [tone(), vec![0; 4_800]].concat();
    assert_eq!((file("harbor.wav"), file("ships.wav")), (whole.clone(), whole));
    assert!(String::from_utf8(file("harbor.srt")).unwrap().starts_with("1\n00:00:00,180 --> "));
}

/// The routes of one realm serve another, whose worker knows no better than that they are OpenAI's.
#[test]
fn any_server_of_these_routes_serves_a_realm() {
    let Stage { guest: there, hand, realm: _realm, place: _there } = Stage::new();
    std::thread::spawn(move || hand.serve(serve));
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    place.write("key", &there.key, 0o600);
    let backend = format!("{}/v1,key-file=key", there.url);
    let with = ["--audio", &backend, "--served-model-name", "throat=mouth"];
    let _worker = Worker::start(&place, &realm, &with);
    let guest = Guest::new(&realm.url);
    let models = || guest.ask("GET", "/v1/models", "").body;
    eventually(|| models().contains("ear") && models().contains("throat"));

    let path = "/v1/audio/transcriptions";
    let ask = |fields| Flow::ask(&guest, path, FORM, &form(SPOKEN, fields)).headed().reply();
    let verbose = ask(&[("model", "ear"), ("response_format", "verbose_json")]).json();
    assert_eq!(verbose["text"], "The worst is over. It is quiet.");
    assert_eq!(
        (&verbose["segments"][1]["start"], &verbose["duration"]),
        (&json!(4.0), &json!(10.0))
    );
    // What it cannot it says itself.
    let refused = ask(&[("language", "fr")]);
    assert_eq!(refused.refusal(), (400, "MT0002".to_owned()));
    assert_eq!(refused.json()["error"]["message"], "field `language`: en alone");
    let data = br#"{"model":"throat","input":"Hello. World."}"#;
    let mut flow = Flow::ask(&guest, SPEECH, "application/json", data).headed();
    assert_eq!((flow.status, flow.rest()), (200, [tone(), vec![0; 4_800]].concat()));
    let mut flow = Flow::ask(&guest, SPEECH, "application/json", br#"{"input":"late"}"#).headed();
    // Whether its first sound outran its end on the way from there is chance; whole it never looks.
    if flow.status == 200 {
        let mut next = std::iter::repeat_with(|| flow.next());
        let broken = next.find(|next| !matches!(next, Ok(Some(_))));
        assert!(broken.unwrap().is_err(), "it looks whole");
    } else {
        assert_eq!(flow.status, 502);
    }
    // Ten seconds heard, and 1.1 spoken; the refused and the broken are free.
    eventually(|| guest.grant().1 == 0);
    assert!((1_000_000 - 300..1_000_000 - 200).contains(&guest.grant().0), "{:?}", guest.grant());
}
