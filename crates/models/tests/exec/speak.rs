//! `speak` end to end, by the real binary with the real models. Whether a sentence was said is what
//! `transcribe` decides, by its key words.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mtor_sound::{Kind, Samples, length_ms};
use serde_json::{Value, json};

use crate::program::{Answer, Program};

/// Samples of a millisecond.
const KHZ: u64 = 24;

fn say(program: &mut Program, intent: &str, body: &Value) -> Answer {
    program.ask(intent, "speak", body, &json!({"stream": false}))
}

fn bytes(of: &Value) -> Vec<u8> {
    STANDARD.decode(of["audio"].as_str().unwrap()).unwrap()
}

/// All pieces of one intent, and its end.
fn pieces(program: &mut Program, intent: &str) -> (Vec<Value>, Answer) {
    let mut pieces = Vec::new();
    loop {
        let event = program.next_of(intent);
        let data = event["data"].clone();
        if event["type"] == "mtor.worker.chunk.v1" {
            assert_eq!(data["seq"], pieces.len() as u64);
            pieces.push(data);
            continue;
        }
        let failed = event["type"] == "mtor.worker.fail.v1";
        return (pieces, Answer { end: data, failed });
    }
}

/// The length that a decoder gives.
fn decoded_ms(bytes: Vec<u8>, kind: Kind) -> u64 {
    let mut samples = Samples::open(bytes.into(), kind).unwrap();
    let mut count = 0;
    while let Some(more) = samples.read().unwrap() {
        count += more.len() as u64;
    }
    count * 1000 / u64::from(mtor_sound::RATE)
}

#[test]
fn what_is_said_is_understood_whoever_says_it() {
    let mut program = Program::serving(&["transcribe", "speak"]);
    for (voice, input, words) in [
        (
            "af_heart",
            "The harbor is quiet and the ships are asleep.",
            &["quiet", "ships", "asleep"][..],
        ),
        ("george", "Yesterday the old garden was full of yellow flowers.", &["garden", "yellow"]),
        (
            "am_michael",
            "**Please** wait 20 min., e.g. in the kitchen.",
            &["minutes", "example", "kitchen"],
        ),
        ("nova", "She paid for seven green apples and a pear.", &["seven", "green", "apples"]),
    ] {
        let said = say(&mut program, voice, &json!({"input": input, "voice": voice}));
        assert!(!said.failed, "{:?}", said.end);
        let result = &said.end["result"];
        let audio = json!({"audio": result["audio"]});
        let heard = program.ask("heard", "transcribe", &audio, &json!({"stream": false}));
        let heard = heard.end["result"]["text"].as_str().unwrap().to_lowercase();
        for word in words {
            assert!(heard.contains(word), "{voice}: {word} is not in {heard}");
        }
    }
}

#[test]
fn flite_is_offered_under_its_name_and_is_understood() {
    // Each offer was given because one understood the other.
    let mut program = Program::spoken_by("flite", &["transcribe", "speak"]);
    let offers = program.offers.as_array().unwrap().clone();
    let speak = offers.iter().find(|offer| offer["intent"] == "speak").unwrap();
    assert_eq!((&speak["model"], &speak["slots"]), (&json!("flite"), &json!(1)));
    let body = json!({"input": "**Please** wait 20 min. in the kitchen.", "voice": "rms"});
    let said = say(&mut program, "flite", &body);
    let result = &said.end["result"];
    assert_eq!((&result["voice"], &result["rate"]), (&json!("rms"), &json!(24_000)));
    assert_eq!(decoded_ms(bytes(result), Kind::Wav), result["duration_ms"].as_u64().unwrap());
    let audio = json!({"audio": result["audio"]});
    let heard = program.ask("heard", "transcribe", &audio, &json!({"stream": false}));
    let heard = heard.end["result"]["text"].as_str().unwrap().to_lowercase();
    assert!(heard.contains("minutes") && heard.contains("kitchen"), "{heard}");
    let body = json!({"input": "x", "voice": "af_heart"});
    let strange = say(&mut program, "strange", &body);
    assert_eq!(strange.code(), "unsupported");
    assert!(strange.message().contains("slt, rms, awb, kal16"), "{}", strange.message());
    // What is revoked is given up, and the slot is free.
    let long = json!({"input": "A sentence without an end. ".repeat(150), "speed": 0.25});
    program.assign("long", "speak", &long, &Value::Null);
    program.next_of("long");
    program.send("revoke", &json!({"intent": "long", "attempt": 1}));
    assert!(!say(&mut program, "next", &json!({"input": "Next."})).failed);
}

#[test]
fn a_whole_sound_is_a_file_of_its_length() {
    let mut program = Program::serving(&["speak"]);
    let input = "One sentence. And a second one, which is longer!";
    for (format, kind) in [("wav", Some(Kind::Wav)), ("opus", Some(Kind::Ogg)), ("pcm", None)] {
        let said = say(&mut program, format, &json!({"input": input, "response_format": format}));
        let result = &said.end["result"];
        assert_eq!((&result["response_format"], &result["rate"]), (&json!(format), &json!(24_000)));
        assert_eq!(result["voice"], "af_heart");
        let ms = result["duration_ms"].as_u64().unwrap();
        assert!((2_000..8_000).contains(&ms), "{ms}");
        assert_eq!(said.usage("units"), ms);
        let bytes = bytes(result);
        match kind {
            None => assert_eq!(bytes.len() as u64 / 2 / KHZ, ms),
            Some(kind) => {
                let found = length_ms(bytes.clone().into(), kind).unwrap();
                assert!((ms..ms + 60).contains(&found), "{format}: {found} of {ms}");
                let found = decoded_ms(bytes, kind);
                assert!((ms - 1..ms + 60).contains(&found), "{format}: {found} of {ms}");
            }
        }
        let segments = result["segments"].as_array().unwrap();
        assert_eq!(segments.len(), 2);
        assert_eq!(segments[1]["text"], "And a second one, which is longer!");
        assert_eq!(segments[1]["end_ms"], ms);
    }
}

#[test]
fn pieces_one_after_the_other_are_one_file() {
    let mut program = Program::serving(&["speak"]);
    let input = "First this. Then that, in a second sentence. And the end.";
    for (format, kind) in [("wav", Some(Kind::Wav)), ("opus", Some(Kind::Ogg)), ("pcm", None)] {
        let body = json!({"input": input, "response_format": format, "speed": 1.2});
        program.assign(format, "speak", &body, &Value::Null);
        let (pieces, answer) = pieces(&mut program, format);
        assert_eq!(pieces.len(), 3, "{:?}", answer.end);
        let result = &answer.end["result"];
        assert_eq!(result["audio"], Value::Null);
        let (mut all, mut count, mut end) = (Vec::new(), 0, 0);
        for (at, data) in pieces.iter().enumerate() {
            let piece = &data["piece"];
            let ms = |name: &str| piece[name].as_u64().unwrap();
            assert!(ms("start_ms") >= end && ms("end_ms") > ms("start_ms"), "{piece}");
            assert!(data["count"].as_u64().unwrap() >= ms("end_ms"));
            (count, end) = (data["count"].as_u64().unwrap(), ms("end_ms"));
            let mut segment = piece.clone();
            segment.as_object_mut().unwrap().remove("audio");
            assert_eq!(result["segments"][at], segment);
            all.extend(bytes(piece));
        }
        assert_eq!((answer.usage("units"), &result["duration_ms"]), (count, &json!(count)));
        match kind {
            None => assert_eq!(all.len() as u64 / 2 / KHZ, count),
            Some(kind) => {
                assert_eq!(Kind::of(&all).unwrap(), kind);
                let found = decoded_ms(all, kind);
                assert!((count - 1..count + 60).contains(&found), "{format}: {found} of {count}");
            }
        }
    }
}

#[test]
fn a_fast_voice_and_a_slow_one_say_the_same_in_their_time() {
    let mut program = Program::serving(&["speak"]);
    let mut ms = |speed: f64| {
        let body = json!({"input": "The ships are asleep.", "speed": speed});
        say(&mut program, &speed.to_string(), &body).usage("units") as f64 * speed
    };
    let ordinary = ms(1.0);
    for speed in [0.25, 0.5, 2.0, 4.0] {
        let found = ms(speed) / ordinary;
        assert!((0.6..1.9).contains(&found), "speed {speed}: {found}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let mut program = Program::serving(&["speak"]);
    for (name, body, code, told) in [
        (
            "voice",
            json!({"input": "x", "voice": "shimmer"}),
            "unsupported",
            "voice must be one of af_alloy",
        ),
        (
            "format",
            json!({"input": "x", "response_format": "mp3"}),
            "unsupported",
            "wav, pcm or opus",
        ),
        ("language", json!({"input": "x", "language": "fr"}), "unsupported", "language must be en"),
        ("speed", json!({"input": "x", "speed": 9}), "bad_request", "speed must be a number"),
        ("field", json!({"input": "x", "pitch": 9}), "unsupported", "pitch is no field of speak"),
        ("empty", json!({"input": "  "}), "bad_request", "input is empty"),
        (
            "long",
            json!({"input": "x".repeat(100_000)}),
            "bad_request",
            "input has 100000 characters",
        ),
        // Seventeen minutes of it would be 50 MB.
        (
            "large",
            json!({"input": "a word and another word, ".repeat(160), "speed": 0.25}),
            "bad_request",
            "send stream true, or response_format opus",
        ),
    ] {
        let begin = Instant::now();
        let answer = say(&mut program, name, &body);
        assert_eq!(answer.code(), code, "{name}");
        assert!(answer.message().contains(told), "{name}: {}", answer.message());
        assert!(begin.elapsed() < Duration::from_secs(20), "{name}: {:?}", begin.elapsed());
    }
    // 4,096 digits are hours: nobody could read them again.
    let endless = json!({"input": "7".repeat(4_096), "speed": 0.25});
    let answer = program.ask("endless", "speak", &endless, &json!({"stream": true}));
    assert_eq!(answer.code(), "bad_request");
    let told = "send response_format opus, a higher speed or a shorter text";
    assert!(answer.message().contains(told), "{}", answer.message());
}

#[test]
fn hostile_texts_end_in_sound_or_none_or_a_refusal() {
    let mut program = Program::serving(&["speak"]);
    for (name, input) in [
        ("emoji", "👍🎉".repeat(500)),
        ("directions", "\u{202e}\u{200f}".repeat(500)),
        ("zeros", "\0".repeat(500)),
        ("marks", "?!.,;".repeat(500)),
        ("fence", "```".to_owned()),
    ] {
        let said = say(&mut program, name, &json!({"input": format!(".{input}")}));
        assert!(!said.failed, "{name}: {:?}", said.end);
        assert!(said.usage("units") < 5_000, "{name}");
    }
    let nothing = say(&mut program, "nothing", &json!({"input": "👍"}));
    assert_eq!(nothing.end["result"]["segments"], json!([]));
    assert_eq!((nothing.usage("units"), bytes(&nothing.end["result"]).len()), (0, 44));
    let mixed = "Hel\0lo \u{202e}wor\u{0}ld\u{7}. \u{5e9}\u{5dc} [[h@l'oU]] <speak> ${x} \\n";
    let said = say(&mut program, "mixed", &json!({"input": mixed}));
    assert!(said.usage("units") > 500, "{:?}", said.end);
    // What takes minutes ends with its time.
    for (name, input) in [("digits", "9".repeat(4_096)), ("letters", "x".repeat(4_096))] {
        let body = json!({"input": input, "response_format": "opus"});
        let begin = Instant::now();
        let extra = json!({"stream": false, "deadline_ms": 3_000});
        let late = program.ask(name, "speak", &body, &extra);
        assert!(late.message().contains("deadline"), "{name}: {}", late.message());
        assert!(begin.elapsed() < Duration::from_secs(20), "{name}: {:?}", begin.elapsed());
    }
}

#[test]
fn no_sound_is_longer_than_what_is_held_for_its_text() {
    let mut program = Program::serving(&["speak"]);
    for (voice, speed, inputs) in [
        ("af_heart", 0.25, &["±", "7"][..]),
        ("bm_daniel", 1.0, &["±", "WW", "77"]),
        ("bm_daniel", 4.0, &["±", "WW", "77", "ሀя", "Û", "⅔W"]),
    ] {
        for input in inputs {
            let body = json!({"input": input, "voice": voice, "speed": speed});
            let ms = say(&mut program, input, &body).usage("units") as f64;
            // As the realm has it: `CHARACTER_MS` in its `admission/speech.rs`.
            let held = input.chars().count() as f64 * 2_000.0 / speed;
            assert!(ms > 0.0 && ms <= held, "{input} by {voice} at {speed}: {ms} of {held}");
        }
    }
}

#[test]
fn a_long_text_is_given_up_at_a_word() {
    let mut program = Program::serving(&["speak"]);
    let sentence = "This sentence goes on and on without an end in sight and nobody is listening ";
    let body = json!({"input": format!("Short. {}", sentence.repeat(20))});
    program.assign("long", "speak", &body, &Value::Null);
    let first = program.next_of("long");
    assert_eq!(first["data"]["piece"]["text"], "Short.", "{first}");
    let begin = Instant::now();
    program.send("revoke", &json!({"intent": "long", "attempt": 1}));
    let next = say(&mut program, "next", &json!({"input": "Next."}));
    assert!(!next.failed);
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}

#[test]
fn nothing_of_what_is_said_is_on_standard_error() {
    let mut program = Program::serving(&["speak"]);
    for input in ["canary", "Canary \u{0} [[canary]] 金丝雀", "https://canary.example"] {
        say(&mut program, "canary", &json!({"input": input}));
    }
    program.raw("nonsense");
    let told = program.error_line();
    assert!(told.contains("skipped") && !told.to_lowercase().contains("canary"), "{told}");
}
