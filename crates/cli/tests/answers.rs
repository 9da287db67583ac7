//! Nothing for nothing: what a worker gives that is no answer is its own failure, and what it pads
//! is not paid for.

use crate::common::events::Events;
use crate::common::http::Guest;
use crate::common::socket::{Hand, done, says};
use crate::common::{Place, Realm, eventually};
use serde_json::{Value, json};

/// A realm without a worker of its own, a client, and the owner of strangers.
struct World {
    _place: Place,
    _realm: Realm,
    client: Guest,
    owner: Guest,
}

fn world() -> World {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let (client, owner) = (Guest::new(&realm.url), Guest::new(&realm.url));
    World { _place: place, _realm: realm, client, owner }
}

impl World {
    fn slots(&self, count: u64) {
        let slots = || {
            let pools = self.client.ask("GET", "/v1/pools", "").json();
            let rows = pools["items"].as_array().unwrap().clone();
            rows.iter().filter_map(|row| row["slots"].as_u64()).max().unwrap_or(0)
        };
        eventually(|| slots() == count);
    }

    /// A worker that does all kinds of work once at a time, alone.
    fn alone(&self, secret: u8) -> Hand {
        self.slots(0);
        let hand = Hand::join(&self.owner, secret, &offers());
        self.slots(1);
        hand
    }

    /// What it says in place of an answer counts as its failure: another worker serves, and is the
    /// only one that is paid.
    #[track_caller]
    fn is_no_answer(
        &self,
        hand: &mut Hand,
        secret: u8,
        asked: &str,
        say: impl Fn(&mut Hand, &Value),
    ) {
        let ((free, _), (earned, _)) = (self.client.grant(), self.owner.grant());
        let mut events = Events::submit(&self.client, asked);
        let assign = hand.assigned();
        say(hand, &assign);
        hand.wait_revoked(&assign);
        let mut other = Hand::join(&self.owner, secret, &offers());
        let again = other.assigned();
        assert_eq!(again["intent"], assign["intent"]);
        other.complete(&again, 1);
        let completed = events.next("completed");
        assert_eq!(completed["result"], done(&again), "{completed}");
        other.socket.wait("mtor.worker.acknowledge.v1");
        let paid = completed["cost"]["amount"].as_str().unwrap().parse::<u64>().unwrap();
        assert_eq!(self.client.grant(), (free - paid, 0));
        assert!(self.owner.grant().0 <= earned + paid);
        drop(other);
        self.slots(1);
    }
}

fn offers() -> Value {
    json!(["chat", "embed", "fft", "echo", "speak", "transcribe"].map(|intent| {
        match intent {
            "fft" | "echo" => json!({"intent": intent, "slots": 1}),
            intent => json!({"intent": intent, "model": "by-hand", "slots": 1}),
        }
    }))
}

fn intent(name: &str, data: &Value) -> String {
    // Not piece by piece: Events::submit would ask for that.
    json!({"intent": name, "data": data, "trust": "any", "durable": false, "stream": false})
        .to_string()
}

fn chat(more: &Value) -> Value {
    let mut data = json!({"model": "by-hand", "messages": [{"role": "user", "content": "hi"}]});
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    data
}

fn fft() -> Value {
    json!({"dtype": "c64", "shape": [1], "data": "AAAAAAAAAAA="})
}

fn delta(content: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": content}}]})
}

#[test]
fn an_answer_that_holds_nothing_is_the_workers_failure() {
    let world = world();
    let mut hand = world.alone(1);
    let chat = intent("chat", &chat(&json!({})));
    let empty = json!({"choices": [{"message": {"role": "assistant", "content": " \n"}}]});
    let pad = "x".repeat(20_000);
    let padded = json!({"pad": pad, "choices": [{"message": {"role": pad, "content": null}}]});
    for (secret, result) in (2..).zip([json!(null), json!({}), json!("done"), empty, padded]) {
        world.is_no_answer(&mut hand, secret, &chat, |hand, assign| {
            hand.complete_with(assign, 10_041, &result);
        });
    }
    world.is_no_answer(&mut hand, 10, &chat, |hand, assign| hand.complete_bare(assign, 10_041));
    // Nor is it for nothing, where nothing at all came.
    world.is_no_answer(&mut hand, 11, &chat, |hand, assign| hand.complete_bare(assign, 0));
}

#[test]
fn what_each_kind_of_answer_must_hold_stands_in_its_manifest() {
    let world = world();
    let mut hand = world.alone(1);
    let fft = intent("fft", &fft());
    let bare = json!({"dtype": "c64", "shape": [1], "data": ""});
    world.is_no_answer(&mut hand, 2, &fft, |hand, assign| hand.complete_with(assign, 1, &bare));
    let say = intent("speak", &json!({"model": "by-hand", "input": "."}));
    let soundless = json!({"response_format": "wav", "duration_ms": 900, "segments": []});
    world.is_no_answer(&mut hand, 9, &say, |hand, assign| {
        hand.complete_with(assign, 900, &soundless);
    });
    let data = json!({"model": "by-hand", "audio": sound(), "format": "pcm16"});
    let hear = intent("transcribe", &data);
    world.is_no_answer(&mut hand, 10, &hear, |hand, assign| {
        hand.complete_with(assign, 100, &json!({"segments": []}));
    });
    let embed = intent("embed", &json!({"model": "by-hand", "input": ["a text"]}));
    let vector = |numbers: Value| json!({"index": 0, "embedding": numbers});
    for (secret, vectors) in (3..).zip([
        json!([]),
        json!([vector(json!([]))]),
        json!([vector(json!([0.5])), vector(json!([0.5]))]),
        json!([vector(json!([0.5])), {}]),
    ]) {
        world.is_no_answer(&mut hand, secret, &embed, |hand, assign| {
            hand.complete_with(assign, 30, &json!({"data": vectors}));
        });
    }
    let echo = intent("echo", &json!(null));
    world.is_no_answer(&mut hand, 8, &echo, |hand, assign| hand.complete_bare(assign, 1));

    // What is nothing elsewhere is all that there is here.
    let complete = |hand: &mut Hand, asked: &str, result: &Value, claim: u64| {
        let mut events = Events::submit(&world.client, asked);
        let assign = hand.assigned();
        hand.complete_with(&assign, claim, result);
        let completed = events.next("completed");
        hand.socket.wait("mtor.worker.acknowledge.v1");
        assert_eq!(completed["result"], *result);
        completed["cost"]["amount"].as_str().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(complete(&mut hand, &echo, &json!(null), 1), 1);
    let text = json!({"text": "", "segments": [], "duration_ms": 100});
    assert_eq!(complete(&mut hand, &hear, &text, 100), 2);
    let silence = json!({"response_format": "wav", "duration_ms": 0, "segments": []});
    assert_eq!(complete(&mut hand, &say, &silence, 0), 0);
    // A model that has nothing to say is not paid for it.
    let nothing = json!({"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]});
    assert_eq!(complete(&mut hand, &intent("chat", &chat(&json!({}))), &nothing, 0), 0);
    let two = intent("embed", &json!({"model": "by-hand", "input": ["a", "b"]}));
    let both = json!({"data": [vector(json!([0.5])), vector(json!([0.25]))]});
    assert!(complete(&mut hand, &two, &both, 1_000) > 0);
    let tokens = intent("embed", &json!({"model": "by-hand", "input": [1, 2, 3]}));
    let one = json!({"data": [vector(json!("AAAAPw=="))]});
    assert!(complete(&mut hand, &tokens, &one, 1_000) > 0);
}

/// A tenth of a second in which nobody speaks.
fn sound() -> String {
    let bytes = 16_000 / 10 * 2;
    "A".repeat(bytes / 3 * 4) + if bytes % 3 == 0 { "" } else { "AAA=" }
}

/// Well-formed, with content, and of no use to who asked: a route would have to refuse it after it was
/// paid.
#[test]
fn what_no_route_could_write_is_no_answer() {
    let world = world();
    let mut hand = world.alone(1);
    let say = intent("speak", &json!({"model": "by-hand", "input": "."}));
    let ogg = format!("T2dnUw{}", "A".repeat(1_002));
    for (secret, audio) in (2..).zip([json!(ogg), json!("*".repeat(1_000)), json!(7)]) {
        let sound = json!({"audio": audio, "duration_ms": 900, "segments": []});
        world.is_no_answer(&mut hand, secret, &say, |hand, assign| {
            hand.complete_with(assign, 900, &sound);
        });
    }
    let data = json!({"model": "by-hand", "audio": sound(), "format": "pcm16"});
    let hear = intent("transcribe", &data);
    let backwards = json!([{"start_ms": -1, "end_ms": 5, "text": "Hello."}]);
    for (secret, result) in (5..).zip([
        json!({"text": 7, "segments": []}),
        json!({"text": "Hello."}),
        json!({"text": "Hello.", "segments": backwards}),
    ]) {
        world.is_no_answer(&mut hand, secret, &hear, |hand, assign| {
            hand.complete_with(assign, 100, &result);
        });
    }
}

#[test]
fn an_answer_beyond_its_bound_is_the_workers_failure() {
    let world = world();
    let mut hand = world.alone(1);
    let long = says(&"word ".repeat(4_000));
    let short = intent("chat", &chat(&json!({"max_tokens": 8})));
    world.is_no_answer(&mut hand, 2, &short, |hand, assign| hand.complete_with(assign, 1, &long));
    let two = json!({"choices": [says("a")["choices"][0], says("b")["choices"][0]]});
    world.is_no_answer(&mut hand, 3, &short, |hand, assign| hand.complete_with(assign, 1, &two));
    let bins = json!({"dtype": "c64", "shape": [1], "data": "A".repeat(2_000)});
    let fft = intent("fft", &fft());
    world.is_no_answer(&mut hand, 4, &fft, |hand, assign| hand.complete_with(assign, 1, &bins));
    // In pieces, however little is claimed for them. Some went to the client: no other begins.
    let stream = json!({"max_tokens": 8, "stream": true});
    let body = json!({"intent": "chat", "trust": "any", "data": chat(&stream), "durable": false})
        .to_string();
    let mut events = Events::submit(&world.client, &body);
    let assign = hand.assigned();
    for seq in 0..20 {
        hand.chunk(&assign, seq, 1, &delta(&"word ".repeat(100)));
    }
    hand.wait_revoked(&assign);
    let failed = events.next("failed");
    assert_eq!(failed["code"], "MT0025", "{failed}");
    assert!(failed["reason"].as_str().unwrap().contains("longer than"), "{failed}");
    // Of two hundred there may be as many.
    let mut events = Events::submit(&world.client, &intent("chat", &chat(&json!({"n": 2}))));
    let assign = hand.assigned();
    hand.complete_with(&assign, 1, &two);
    assert_eq!(events.next("completed")["result"], two);
}

#[test]
fn what_is_padded_is_not_paid_for() {
    let world = world();
    let mut hand = world.alone(1);
    let mut ask = |stream: bool, say: &dyn Fn(&mut Hand, &Value)| {
        let data = chat(&json!({"max_tokens": 10_000, "stream": stream}));
        let body =
            json!({"intent": "chat", "trust": "any", "data": data, "durable": false}).to_string();
        let mut events = Events::submit(&world.client, &body);
        let assign = hand.assigned();
        say(&mut hand, &assign);
        let completed = events.next("completed");
        hand.socket.wait("mtor.worker.acknowledge.v1");
        completed["usage"]["units"].as_u64().unwrap() - assign["meter"]["input"].as_u64().unwrap()
    };
    let pad = "x".repeat(10_000);
    // Pieces of envelopes, of nothing, of white space, and two words.
    let units = ask(true, &|hand, assign| {
        let role =
            json!({"pad": pad, "choices": [{"delta": {"role": "assistant", "content": ""}}]});
        let pieces = [
            role,
            json!(null),
            json!({}),
            delta("two"),
            delta("  \n  "),
            delta(&" ".repeat(9_000)),
            delta("words"),
        ];
        for (seq, piece) in (0..).zip(&pieces) {
            hand.chunk(assign, seq, 5_000 * (seq + 1), piece);
        }
        hand.complete_bare(assign, u64::MAX);
    });
    assert_eq!(units, "two words".len() as u64);
    let units = ask(false, &|hand, assign| {
        let mut result = says(&format!("two{}words", " ".repeat(9_000)));
        result["pad"] = pad.clone().into();
        hand.complete_with(assign, u64::MAX, &result);
    });
    assert_eq!(units, "two words".len() as u64);
    // Said in pieces and once more as a whole it is one answer.
    let units = ask(true, &|hand, assign| {
        hand.chunk(assign, 0, 3_000, &delta("two words"));
        hand.complete_with(assign, u64::MAX, &says("two words"));
    });
    assert_eq!(units, "two words".len() as u64);
    // A tool's name and arguments are what a client came for.
    let units = ask(false, &|hand, assign| {
        let function = json!({"name": "look", "arguments": "{\"at\":1}"});
        let message = json!({"content": null, "tool_calls": [{"id": pad, "function": function}]});
        hand.complete_with(assign, u64::MAX, &json!({"choices": [{"message": message}]}));
    });
    assert_eq!(units, 12);
}

/// Lists in lists.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

/// Whoever reads an answer may do so by recursion; what a client may not send, nobody is sent.
#[test]
fn what_is_nested_too_deep_is_no_answer() {
    let world = world();
    let mut hand = world.alone(1);
    let asked = intent("echo", &json!(1));
    for (secret, levels) in (2..).zip([65, 127, 5_000]) {
        world.is_no_answer(&mut hand, secret, &asked, |hand, assign| {
            // By hand: what writes `Value`s would stop at its own bound.
            let result = "[".repeat(levels) + "1" + &"]".repeat(levels);
            let complete = json!({
                "intent": assign["intent"], "attempt": assign["attempt"],
                "usage": {"units": 1, "input": 1, "output": 1}, "result": "HERE",
            });
            hand.socket.say_raw(
                "mtor.worker.complete.v1",
                &complete.to_string().replace("\"HERE\"", &result),
            );
        });
    }
    // A piece of it as well, and what was told is why.
    let data = json!({"intent": "echo", "data": 1, "trust": "any", "durable": false});
    let mut events = Events::submit(&world.client, &data.to_string());
    let assign = hand.assigned();
    hand.chunk(&assign, 0, 1, &nested(64));
    hand.chunk(&assign, 1, 1, &nested(65));
    hand.wait_revoked(&assign);
    let failed = events.next("failed");
    assert!(failed.to_string().contains("deeper than 64 levels"), "{failed}");
    assert_eq!(world.client.grant().1, 0);
    // So deep it may be, both ways.
    let deepest = json!({"intent": "echo", "data": nested(64), "trust": "any", "durable": false});
    let quoted = world.client.ask("POST", "/v1/quote", &deepest.to_string());
    assert_eq!(quoted.refusal(), (400, "MT0005".to_owned()), "with what is around it");
    assert!(quoted.body.contains("64 levels"), "{quoted:?}");
    let mut events = Events::submit(&world.client, &data.to_string());
    let assign = hand.assigned();
    hand.complete_with(&assign, 1, &nested(64));
    assert_eq!(events.next("completed")["result"], nested(64));
}

#[test]
fn who_cancels_before_anything_came_pays_nothing() {
    let world = world();
    let mut hand = world.alone(1);
    let data = chat(&json!({"stream": true}));
    let body =
        json!({"intent": "chat", "trust": "any", "data": data, "durable": false}).to_string();
    let mut events = Events::submit(&world.client, &body);
    let assign = hand.assigned();
    let role = json!({"pad": "x".repeat(5_000), "choices": [{"delta": {"role": "assistant"}}]});
    hand.chunk(&assign, 0, 100_000, &role);
    events.next("chunk");
    let path = format!("/v1/intents/{}", assign["intent"].as_str().unwrap());
    assert_eq!(world.client.ask("DELETE", &path, "").status, 202);
    assert_eq!(events.next("cancelled")["cost"]["amount"], "0");
}

#[test]
fn pieces_that_nobody_asked_for_go_to_nobody() {
    let world = world();
    let mut hand = world.alone(1);
    // However many: a worker that sends them is not held up for want of credit.
    let piece = json!("x".repeat(64 * 1024));
    let mut events = Events::submit(&world.client, &intent("echo", &json!(1)));
    let assign = hand.assigned();
    assert_eq!(assign["stream"], false);
    for seq in 0..16 {
        hand.chunk(&assign, seq, 1, &piece);
        if seq % 4 == 3 {
            hand.socket.wait("mtor.worker.credit.v1");
        }
    }
    hand.complete_with(&assign, 1, &json!(1));
    let all = events.rest();
    assert!(all.iter().all(|sent| sent.name != "chunk"), "{all:?}");
    assert!(all.iter().any(|sent| sent.name == "completed" && sent.data["result"] == 1));
    // They are no answer, either.
    world.is_no_answer(&mut hand, 2, &intent("echo", &json!(1)), |hand, assign| {
        hand.chunk(assign, 0, 1, &piece);
        hand.complete_bare(assign, 1);
    });
    // A number of pieces asks for them, whatever else is said.
    let data = json!({"chunks": 2});
    let accepted = world.client.ask("POST", "/v1/intents", &intent("echo", &data)).json();
    let assign = hand.assigned();
    assert_eq!(assign["stream"], true);
    hand.chunk(&assign, 0, 1, &data);
    hand.complete_bare(&assign, 1);
    let mut events = Events::of(&world.client, accepted["intent"].as_str().unwrap(), None);
    assert_eq!(events.next("chunk")["piece"], data);
    events.next("completed");
}

#[test]
fn an_openai_stream_of_a_worker_without_pieces_has_its_answer() {
    let world = world();
    let mut hand = world.alone(1);
    let body = chat(&json!({"stream": true})).to_string();
    let reply = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let any = [("mtor-trust", "any")];
            world.client.ask_with("POST", "/v1/chat/completions", &any, body.as_bytes())
        });
        let assign = hand.assigned();
        hand.complete_with(&assign, 10, &says("all at once"));
        asked.join().unwrap()
    });
    assert_eq!(reply.status, 200, "{reply:?}");
    let lines: Vec<_> = reply.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let [piece, "[DONE]"] = lines[..] else { panic!("{reply:?}") };
    let piece: Value = serde_json::from_str(piece).unwrap();
    assert_eq!(piece["choices"][0]["delta"]["content"], "all at once", "{piece}");
    assert_eq!(piece["object"], "chat.completion.chunk");
}
