//! The audio executor against a small server that records what it was asked, and lies.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod common;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use common::{Realm, Session, Worker, assignment, soon};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mtor_types::worker;
use mtor_worker::{AudioOptions, BackendNews, ExecutorOptions, ModelNames, Status};
use serde_json::{Value, json};
use tokio::net::TcpListener;

type Body = BoxBody<Bytes, std::io::Error>;

/// What the worker asks by itself.
const SENTENCE: &[u8] = include_bytes!("../src/executors/audio/sentence.wav");

#[derive(Clone)]
struct Asked {
    path: String,
    key: Option<String>,
    body: Vec<u8>,
}

impl Asked {
    fn holds(&self, part: &[u8]) -> bool {
        self.body.windows(part.len()).any(|window| window == part)
    }

    fn field(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.body);
        let (_, rest) = text.split_once(&format!("name=\"{name}\""))?;
        let (_, rest) = rest.split_once("\r\n\r\n")?;
        Some(rest.split("\r\n").next()?.to_owned())
    }
}

/// Status, content type and body.
#[derive(Clone)]
enum Answer {
    Whole(u16, &'static str, Vec<u8>),
    /// That again and again, without an end.
    Endless(&'static str, Vec<u8>),
    /// That, and then it breaks off.
    Cut(&'static str, Vec<u8>),
    /// That, and then nothing more.
    Stalled(&'static str, Vec<u8>),
}

impl Answer {
    fn json(status: u16, value: Value) -> Self {
        Self::Whole(status, "application/json", value.to_string().into())
    }

    fn respond(self) -> Response<Body> {
        let (status, kind, body) = match self {
            Self::Whole(status, kind, body) => {
                (status, kind, Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed())
            }
            Self::Endless(kind, body) => {
                let frames =
                    stream::repeat_with(move || Ok(Frame::data(Bytes::from(body.clone()))));
                (200, kind, BodyExt::boxed(StreamBody::new(frames)))
            }
            Self::Cut(kind, body) => {
                let broken = std::io::Error::other("cut");
                let frames = stream::iter([Ok(Frame::data(Bytes::from(body)))]);
                let frames = frames.chain(stream::iter([Err(broken)]));
                (200, kind, BodyExt::boxed(StreamBody::new(frames)))
            }
            Self::Stalled(kind, body) => {
                let frames = stream::iter([Ok(Frame::data(Bytes::from(body)))]);
                (200, kind, BodyExt::boxed(StreamBody::new(frames.chain(stream::pending()))))
            }
        };
        Response::builder().status(status).header("content-type", kind).body(body).unwrap()
    }
}

/// A backend that is right where the worker asks by itself.
struct Backend {
    url: String,
    /// For everything else.
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// How a backend differs from a good one.
#[derive(Clone, Copy, Default)]
struct Way {
    /// It knows no times.
    plain: bool,
    /// It wants a voice.
    voice: bool,
    /// It does not hear what is said, and says nothing.
    deaf: bool,
    /// It has no list of models.
    unlisted: bool,
}

impl Backend {
    async fn start(way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(Answer::json(500, json!({}))));
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let here = (Arc::clone(&answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let here = here.clone();
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (answer, asked) = here.clone();
                    async move {
                        let answer = respond(request, way, &answer, &asked).await;
                        Ok::<_, Infallible>(answer.respond())
                    }
                });
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, answer, asked }
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
        self.asked.lock().unwrap().clear();
    }

    /// What a job asked.
    fn asked(&self) -> Asked {
        self.asked.lock().unwrap().pop().unwrap()
    }

    fn executor(&self) -> AudioOptions {
        let names = ModelNames::new(vec![("ear".into(), "whisper-1".into())], []);
        let (url, key) = (self.url.clone(), Some("k3y".into()));
        AudioOptions { url, slots: 2, key, models: vec![], names }
    }
}

async fn respond(
    request: Request<Incoming>,
    way: Way,
    answer: &Mutex<Answer>,
    asked: &Mutex<Vec<Asked>>,
) -> Answer {
    let path = request.uri().path().to_owned();
    let key = request.headers().get("authorization");
    let key = key.map(|key| key.to_str().unwrap().to_owned());
    if path == "/v1/models" && !way.unlisted {
        let list =
            json!({"data": [{"id": "whisper-1"}, {"id": 7}, {"id": "tts-1"}, {"id": "gpt-4o"}]});
        return Answer::json(200, list);
    }
    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
    let ask = Asked { path: path.clone(), key, body };
    let is_gpt = ask.holds(b"gpt-4o");
    // Asked again and again, whatever a job does meanwhile.
    if !is_gpt {
        asked.lock().unwrap().push(ask.clone());
    }
    let refused = |field: &str| {
        let message = format!("{field}: not among what there is");
        Answer::json(400, json!({"error": {"message": message}}))
    };
    match path.as_str() {
        _ if is_gpt => Answer::json(404, json!({"detail": "no audio model"})),
        "/v1/audio/transcriptions" if ask.holds(&SENTENCE[44..]) => {
            if way.plain && ask.field("response_format").unwrap() == "verbose_json" {
                return refused("response_format");
            }
            let text =
                if way.deaf { "Thank you for watching." } else { "It was the WORST of times." };
            Answer::json(200, json!({"text": text}))
        }
        "/v1/audio/speech" if ask.holds(b"how are you") => {
            let body: Value = serde_json::from_slice(&ask.body).unwrap();
            if way.voice && body["voice"] != "alloy" {
                return refused("voice");
            }
            let sound = if way.deaf { wav(&[0; 48_000]) } else { SENTENCE.to_vec() };
            Answer::Whole(200, "audio/wav", sound)
        }
        "/v1/audio/transcriptions" | "/v1/audio/speech" => answer.lock().unwrap().clone(),
        _ => Answer::json(404, json!({})),
    }
}

/// 24,000 a second, one channel, 16 bits; its length is not said.
fn wav(samples: &[u8]) -> Vec<u8> {
    let mut wav = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    wav.extend([24_000_u32.to_le_bytes(), 48_000_u32.to_le_bytes()].concat());
    wav.extend(b"\x02\0\x10\0data\xff\xff\xff\xff");
    wav.extend(samples);
    wav
}

struct Stage {
    backend: Backend,
    worker: Worker,
    session: Session,
    number: u8,
}

/// What a job came to.
#[derive(Debug)]
struct Done {
    pieces: Vec<Value>,
    end: Value,
}

impl Done {
    fn message(&self) -> &str {
        self.end["message"].as_str().unwrap_or_else(|| panic!("no failure: {:?}", self.end))
    }

    fn sound(&self) -> Vec<u8> {
        let audio = |piece: &Value| STANDARD.decode(piece["piece"]["audio"].as_str().unwrap());
        self.pieces.iter().flat_map(|piece| audio(piece).unwrap()).collect()
    }
}

impl Stage {
    async fn new(way: Way) -> Self {
        let backend = Backend::start(way).await;
        // Everything that a backend sends is taken.
        let mut realm = Realm::start().await;
        realm.credit = 1 << 30;
        let executor = ExecutorOptions::Audio(backend.executor());
        let worker = Worker::start(&realm, vec![executor]);
        let mut session = realm.accept().await;
        assert_eq!(session.offered("speak").await, 2);
        assert_eq!(session.offered("transcribe").await, 2);
        Self { backend, worker, session, number: 0 }
    }

    async fn ask(&mut self, name: &str, stream: bool, limit: u64, data: Value) -> Done {
        self.number += 1;
        let mut assign = assignment(self.number, name, data);
        assign["stream"] = json!(stream);
        assign["limit"] = json!(limit);
        assign["model"] = json!(if name == "speak" { "tts-1" } else { "ear" });
        self.session.say(worker::ASSIGN, assign).await;
        let mut pieces = Vec::new();
        loop {
            let (kind, data) = soon(self.session.any()).await.unwrap();
            match kind.as_str() {
                worker::CHUNK => pieces.push(data),
                worker::COMPLETE | worker::FAIL => {
                    self.session.acknowledge(self.number).await;
                    return Done { pieces, end: data };
                }
                _ => {}
            }
        }
    }

    async fn hear(&mut self, stream: bool, more: Value) -> Done {
        let mut data = json!({"audio": STANDARD.encode(vec![1; 64_000]), "format": "pcm16"});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.ask("transcribe", stream, 2_000, data).await
    }

    async fn say(&mut self, stream: bool, format: &str) -> Done {
        let data = json!({"input": "Hello.", "response_format": format, "x": 1.5});
        self.ask("speak", stream, 3_600, data).await
    }
}

#[tokio::test]
async fn a_sound_is_written_down_with_its_times() {
    let mut stage = Stage::new(Way::default()).await;
    let segments = json!([
        {"start": 0.1, "end": 0.9, "text": " One."}, {"start": 1.0, "end": 1e12, "text": "Two. "},
    ]);
    let text =
        json!({"text": " One. Two.", "language": "english", "duration": -7, "segments": segments});
    stage.backend.answers(Answer::json(200, text));
    let done = stage.hear(true, json!({"language": "en\r\n--x"})).await;
    let pieces: Vec<_> = done.pieces.iter().map(|piece| piece["piece"].clone()).collect();
    let first = json!({"start_ms": 100, "end_ms": 900, "text": "One."});
    let second = json!({"start_ms": 1_000, "end_ms": 2_000, "text": "Two."});
    assert_eq!(pieces, [first, second]);
    assert_eq!(done.end["result"]["segments"], json!(pieces));
    assert_eq!(done.end["result"]["text"], "One. Two.");
    assert_eq!(
        (&done.end["result"]["language"], &done.end["usage"]["units"]),
        (&json!("english"), &json!(2_000))
    );
    let asked = stage.backend.asked();
    assert_eq!(
        (asked.path.as_str(), asked.key.as_deref()),
        ("/v1/audio/transcriptions", Some("Bearer k3y"))
    );
    // The operator's name is the backend's model; bare samples go in a file.
    assert_eq!(asked.field("model").unwrap(), "whisper-1");
    assert_eq!(asked.field("response_format").unwrap(), "verbose_json");
    assert!(asked.holds(b"filename=\"sound.wav\"") && asked.holds(&[1; 64_000]));
    // Not a field of its own.
    assert!(asked.holds(b"\r\n\r\nen\r\n--x\r\n"));
}

#[tokio::test]
async fn what_a_backend_cannot_hear_it_refuses_by_name() {
    let mut stage = Stage::new(Way { plain: true, ..Way::default() }).await;
    // Without times all of it is one stretch.
    stage.backend.answers(Answer::json(200, json!({"text": "One."})));
    let done = stage.hear(false, json!({})).await;
    let whole = json!([{"start_ms": 0, "end_ms": 2_000, "text": "One."}]);
    assert_eq!((done.pieces.len(), &done.end["result"]["segments"]), (0, &whole));
    assert_eq!(stage.backend.asked().field("response_format").unwrap(), "json");
    for (answer, code, message) in [
        (
            Answer::json(400, json!({"error": {"message": "language: fr is not known"}})),
            "bad_request",
            "language: fr",
        ),
        (Answer::json(422, json!({"detail": "audio too short"})), "bad_request", "too short"),
        (Answer::json(404, json!({"detail": "no language fr"})), "unsupported", "no language fr"),
        (Answer::Whole(415, "text/plain", b"no webm".to_vec()), "unsupported", "no webm"),
        (Answer::json(401, json!({})), "backend", "key"),
        (Answer::json(503, json!({})), "backend", "503"),
        (Answer::Whole(200, "text/plain", b"One.".to_vec()), "backend", "no transcript"),
        (Answer::json(200, json!({"words": 7})), "backend", "no transcript"),
        (Answer::Endless("application/json", vec![b' '; 65_536]), "backend", "above 4 MiB"),
        (Answer::Cut("application/json", b"{".to_vec()), "backend", "broke off"),
    ] {
        stage.backend.answers(answer);
        let done = stage.hear(false, json!({"language": "fr"})).await;
        assert_eq!(done.end["code"], code, "{done:?}");
        assert!(done.message().contains(message), "{done:?}");
    }
    let done = stage.ask("transcribe", false, 1, json!({"audio": "AAAA"})).await;
    assert!(done.message().contains("field `audio`"), "{done:?}");
}

#[tokio::test]
async fn a_text_is_spoken_in_pieces_that_are_one_file() {
    let mut stage = Stage::new(Way { voice: true, ..Way::default() }).await;
    let sound = wav(&[7; 96_001]);
    stage.backend.answers(Answer::Whole(200, "audio/wav", sound.clone()));
    let done = stage
        .ask("speak", true, 3_600, json!({"input": "Hello.", "stream": false, "x": 1.5}))
        .await;
    assert_eq!(done.sound(), sound);
    let last = &done.pieces[done.pieces.len() - 1];
    assert_eq!((&last["count"], &last["piece"]["end_ms"]), (&json!(2_001), &json!(2_001)));
    assert_eq!(done.pieces[0]["piece"]["text"], "Hello.");
    let result = &done.end["result"];
    assert_eq!((&result["rate"], &result["duration_ms"]), (&json!(24_000), &json!(2_001)));
    assert_eq!((&result["audio"], &done.end["usage"]["units"]), (&Value::Null, &json!(2_001)));
    // The voice is the one that the backend has; the rest is the client's.
    let asked: Value = serde_json::from_slice(&stage.backend.asked().body).unwrap();
    let body = json!({"input": "Hello.", "x": 1.5, "response_format": "wav", "voice": "alloy", "model": "tts-1"});
    assert_eq!(asked, body);
    // Whole, and never above the bound.
    stage.backend.answers(Answer::Whole(200, "audio/pcm", vec![7; 480_000]));
    let done = stage.say(false, "pcm").await;
    assert_eq!((done.pieces.len(), &done.end["usage"]["units"]), (0, &json!(3_600)));
    assert_eq!(done.end["result"]["audio"], STANDARD.encode(vec![7; 480_000]));
    assert_eq!(done.end["result"]["duration_ms"], 10_000);
    // Packed, counted by its packets.
    let spoken = include_bytes!("../../models/tests/exec/data/spoken.ogg");
    stage.backend.answers(Answer::Whole(200, "audio/ogg", spoken.to_vec()));
    let data = json!({"input": "Hello.", "response_format": "opus"});
    let done = stage.ask("speak", true, 60_000, data).await;
    assert_eq!((done.sound(), &done.end["usage"]["units"]), (spoken.to_vec(), &json!(10_000)));
}

/// Whoever leaves before the end pays what was counted until then.
#[tokio::test]
async fn packed_sound_is_counted_while_it_comes() {
    let mp3 = include_bytes!("../../sound/tests/data/tone.mp3").repeat(20);
    let opus = include_bytes!("../../models/tests/exec/data/spoken.ogg").to_vec();
    // The milliseconds of all of it.
    for (format, sound, all) in [("mp3", mp3, 24_000), ("opus", opus, 10_000)] {
        let mut stage = Stage::new(Way::default()).await;
        let bytes = sound.len();
        stage.backend.answers(Answer::Stalled("audio/any", sound));
        let data = json!({"input": "Hello.", "response_format": format});
        let mut assign = assignment(1, "speak", data);
        assign["stream"] = json!(true);
        assign["limit"] = json!(60_000);
        assign["model"] = json!("tts-1");
        stage.session.say(worker::ASSIGN, assign).await;
        let (mut sent, mut counts) = (0, vec![0]);
        while sent + 6 * 1024 <= bytes {
            let (kind, data) = soon(stage.session.any()).await.unwrap();
            if kind == worker::CHUNK {
                sent += STANDARD.decode(data["piece"]["audio"].as_str().unwrap()).unwrap().len();
                counts.push(data["count"].as_u64().unwrap());
                assert_eq!(data["count"], data["piece"]["end_ms"], "{format}");
            }
        }
        assert!(counts.is_sorted() && counts[1] > 0, "{format}: {counts:?}");
        // An eighth may be missing, and the packets that are not whole yet.
        let due = all * sent / bytes * 3 / 4;
        let last = usize::try_from(counts[counts.len() - 1]).unwrap();
        assert!((due..=all + all / 20).contains(&last), "{format}: {last} of {due}, {counts:?}");
    }
}

#[tokio::test]
async fn what_is_no_sound_or_has_no_end_is_a_failure() {
    let mut stage = Stage::new(Way::default()).await;
    let voice = json!({"error": {"message": "voice: nobody of that name", "code": "x"}});
    for (format, stream, answer, code, message) in [
        ("wav", true, Answer::json(400, voice), "bad_request", "voice: nobody"),
        ("aac", true, Answer::json(500, json!({})), "unsupported", "`response_format`"),
        ("wav", true, Answer::json(200, json!({"error": "no"})), "backend", "no sound"),
        (
            "wav",
            true,
            Answer::Whole(200, "audio/mpeg", vec![0xff; 9_000]),
            "backend",
            "another kind",
        ),
        ("mp3", true, Answer::Whole(200, "audio/wav", wav(&[7; 9_000])), "backend", "another kind"),
        ("opus", false, Answer::Whole(200, "audio/ogg", b"OggS".to_vec()), "backend", "ogg"),
        ("pcm", true, Answer::Whole(200, "audio/pcm", vec![]), "backend", "no sound"),
        ("pcm", true, Answer::Endless("audio/pcm", vec![7; 65_536]), "backend", "no end"),
        ("wav", false, Answer::Endless("audio/wav", wav(&[7; 65_536])), "backend", "no end"),
        (
            "flac",
            true,
            Answer::Endless("audio/flac", b"fLaC".repeat(16_384)),
            "backend",
            "too large",
        ),
        ("pcm", true, Answer::Cut("audio/pcm", vec![7; 48_000]), "backend", "broke off"),
    ] {
        stage.backend.answers(answer);
        let done = stage.say(stream, format).await;
        assert_eq!(done.end["code"], code, "{format}: {done:?}");
        assert!(done.message().contains(message), "{format}: {done:?}");
        assert!(!done.message().contains("nobody") || done.pieces.is_empty());
    }
}

#[tokio::test]
async fn only_what_hears_and_speaks_is_offered() {
    // A language model on the list is asked and left out.
    let mut stage = Stage::new(Way::default()).await;
    let names: Vec<_> =
        stage.session.offers.offers.iter().map(|offer| offer.model.clone()).collect();
    assert!(!names.contains(&Some("gpt-4o".into())), "{names:?}");
    let left_out = |model: &'static str, part: &'static str| {
        move |status: &Status| {
            matches!(status, Status::Backend(BackendNews::LeftOut { model: known, reason, .. })
                if known == model && reason.contains(part))
        }
    };
    stage.worker.until(left_out("gpt-4o", "status 404")).await;

    let backend = Backend::start(Way { deaf: true, ..Way::default() }).await;
    let realm = Realm::start().await;
    let executors =
        vec![ExecutorOptions::Echo { slots: 1 }, ExecutorOptions::Audio(backend.executor())];
    let mut worker = Worker::start(&realm, executors);
    worker.until(left_out("whisper-1", "transcribe: it does not understand")).await;
    worker.until(left_out("tts-1", "speak: it is silent")).await;
    let session = realm.accept().await;
    assert!(session.offers.offers.iter().all(|offer| offer.intent == "echo"));

    // Without a list its models have to be named, and then are what they answer to.
    let backend = Backend::start(Way { unlisted: true, ..Way::default() }).await;
    let realm = Realm::start().await;
    let executors =
        vec![ExecutorOptions::Echo { slots: 1 }, ExecutorOptions::Audio(backend.executor())];
    let mut worker = Worker::start(&realm, executors);
    let told = |status: &Status| matches!(status, Status::ExecutorDown { reason, .. } if reason.contains(",model=NAME"));
    worker.until(told).await;
    let models = vec!["both".into()];
    let named = AudioOptions { models, ..backend.executor() };
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, vec![ExecutorOptions::Audio(named)]);
    let mut session = realm.accept().await;
    assert_eq!((session.offered("speak").await, session.offered("transcribe").await), (2, 2));
}
