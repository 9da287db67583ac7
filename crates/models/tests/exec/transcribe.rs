//! `transcribe` end to end, by the real binary with the real models. What is said must be understood
//! by its key words. `data/spoken.ogg` says "It was the best of times, it was the worst of times", a
//! pause of two seconds, and "The harbour is quiet and the ships are asleep": made for this test by a
//! synthetic voice.

use std::f32::consts::TAU;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::program::{Answer, Program};

const SPOKEN: &[u8] = include_bytes!("data/spoken.ogg");
const RATE: usize = 16_000;

fn pcm(samples: &[f32]) -> String {
    let bytes = samples.iter().flat_map(|sample| ((sample * 32_767.0) as i16).to_le_bytes());
    STANDARD.encode(bytes.collect::<Vec<u8>>())
}

fn hear(program: &mut Program, intent: &str, body: &Value) -> Answer {
    program.ask(intent, "transcribe", body, &json!({"stream": false}))
}

/// Numbers that look random, and are the same each time.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn what_is_said_is_written_down_in_pieces_with_their_times() {
    let mut program = Program::start();
    let body = json!({"audio": STANDARD.encode(SPOKEN), "language": "en"});
    program.assign("spoken", "transcribe", &body, &Value::Null);
    let first = program.next_of("spoken");
    assert_eq!(first["type"], "mtor.worker.chunk.v1", "{first}");
    let piece = &first["data"]["piece"];
    assert!(piece["text"].as_str().unwrap().contains("worst"), "{piece}");
    let second = program.next_of("spoken")["data"].clone();
    assert_eq!(second["seq"], 1);
    let text = second["piece"]["text"].as_str().unwrap().to_lowercase();
    assert!(text.contains("quiet"), "{text}");
    let ms = |piece: &Value, at: &str| piece[at].as_u64().unwrap();
    assert!(ms(&second["piece"], "start_ms") > ms(piece, "end_ms") + 1_000);

    let answer = program.answer("spoken");
    let result = &answer.end["result"];
    assert_eq!(result["segments"], json!([piece, second["piece"]]));
    assert_eq!(result["duration_ms"], answer.usage("units"));
    assert!(ms(&second["piece"], "end_ms") <= answer.usage("units"));
    // The other way asks for no pieces, and gets the same.
    let whole = hear(&mut program, "whole", &body);
    assert_eq!(whole.end["result"], *result);
}

#[test]
fn what_nobody_said_is_an_empty_text() {
    let mut program = Program::start();
    let tone = |at: usize| 0.3 * (TAU * 440.0 * at as f32 / RATE as f32).sin();
    let sounds: [(&str, Vec<f32>); 4] = [
        ("silence", vec![0.0; RATE * 2]),
        ("hiss", noise(RATE * 3).iter().map(|sample| sample * 0.05).collect()),
        ("tone", (0..RATE * 2).map(tone).collect()),
        ("click", (0..RATE).map(|at| if at == RATE / 2 { 1.0 } else { 0.0 }).collect()),
    ];
    for (name, sound) in sounds {
        let length = sound.len() as u64 / 16;
        let body = json!({"audio": pcm(&sound), "format": "pcm16"});
        let answer = hear(&mut program, name, &body);
        assert!(!answer.failed, "{name}: {:?}", answer.end);
        let nothing = json!({"text": "", "language": "en", "duration_ms": length, "segments": []});
        assert_eq!(answer.end["result"], nothing, "{name}");
        assert_eq!(answer.usage("units"), length, "{name}");
    }
}

#[test]
fn what_cannot_be_heard_is_refused_by_name() {
    let mut program = Program::start();
    let spoken = STANDARD.encode(SPOKEN);
    let cut = STANDARD.encode(&SPOKEN[..40]);
    for (name, body, code, told) in [
        (
            "german",
            json!({"audio": spoken, "language": "de"}),
            "unsupported",
            "language must be en",
        ),
        (
            "other",
            json!({"audio": spoken, "format": "wav"}),
            "bad_request",
            "audio: the sound is wav",
        ),
        ("cut", json!({"audio": cut}), "bad_request", "audio: the sound (ogg) is broken"),
        ("none", json!({}), "bad_request", "audio must be a string"),
    ] {
        let answer = hear(&mut program, name, &body);
        assert_eq!(answer.code(), code, "{name}");
        assert!(answer.message().contains(told), "{name}: {}", answer.message());
    }
}

#[test]
fn a_long_sound_is_given_up_at_a_word() {
    let mut program = Program::start();
    // Five minutes of somebody who goes on and on.
    let one = json!({"audio": STANDARD.encode(SPOKEN)});
    let hiss = pcm(&noise(RATE * 300));
    program.assign("long", "transcribe", &json!({"audio": hiss, "format": "pcm16"}), &Value::Null);
    program.send("revoke", &json!({"intent": "long", "attempt": 1}));
    assert!(!hear(&mut program, "next", &one).failed);
    program.assign("late", "transcribe", &one, &json!({"deadline_ms": 1}));
    let late = program.answer("late");
    assert!(late.message().contains("deadline"), "{}", late.message());
}
