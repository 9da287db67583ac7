//! `embed` end to end, by the real binary with the real model.

use crate::program::{Answer, Program};
use base64::Engine as _;
use serde_json::{Value, json};

fn vectors(answer: &Answer) -> Vec<Vec<f64>> {
    assert!(!answer.failed, "{:?}", answer.end);
    let numbers = |item: &Value| {
        let list = item["embedding"].as_array().unwrap();
        list.iter().map(|value| value.as_f64().unwrap()).collect()
    };
    answer.end["result"]["data"].as_array().unwrap().iter().map(numbers).collect()
}

fn embed(program: &mut Program, intent: &str, input: &Value) -> Answer {
    program.ask(
        intent,
        "embed",
        &json!({"input": input, "model": "any"}),
        &json!({"stream": false}),
    )
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

const TEXTS: [&str; 4] = [
    "A cat sits on the mat.",
    "A kitten is resting on a rug.",
    "The central bank raised interest rates today, and stock markets fell around the world.",
    "x",
];

#[test]
fn vectors_have_unit_length_and_related_texts_are_closer() {
    let mut program = Program::start();
    let answer = embed(&mut program, "e", &json!(TEXTS));
    let vectors = vectors(&answer);
    for vector in &vectors {
        assert_eq!(vector.len(), 384);
        assert!((dot(vector, vector) - 1.0).abs() < 1e-5);
    }
    let (related, unrelated) = (dot(&vectors[0], &vectors[1]), dot(&vectors[0], &vectors[2]));
    assert!(related > 0.5 && related > unrelated + 0.3, "{related} {unrelated}");
    let usage = &answer.end["result"]["usage"];
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 20, "{usage}");
    assert_eq!(usage["total_tokens"], usage["prompt_tokens"]);
    // The body's bytes are metered, not its tokens.
    let bytes = TEXTS.iter().map(|text| text.len() as u64).sum::<u64>();
    let units = answer.usage("units");
    assert!((bytes..bytes + 100).contains(&units), "{units} of {bytes}");
    assert_eq!(answer.usage("input"), answer.usage("units"));
}

#[test]
fn a_batch_equals_its_single_texts() {
    let mut program = Program::start();
    let batch = vectors(&embed(&mut program, "batch", &json!(TEXTS)));
    for (index, text) in TEXTS.iter().enumerate() {
        let single = vectors(&embed(&mut program, &index.to_string(), &json!(text)));
        for (a, b) in single[0].iter().zip(&batch[index]) {
            assert!((a - b).abs() < 1e-6, "{text}: {a} {b}");
        }
    }
}

#[test]
fn base64_holds_the_same_numbers() {
    let mut program = Program::start();
    let floats = vectors(&embed(&mut program, "f", &json!(TEXTS[0])));
    let body = json!({"input": TEXTS[0], "encoding_format": "base64", "dimensions": 384});
    let answer = program.ask("b", "embed", &body, &Value::Null);
    let text = answer.end["result"]["data"][0]["embedding"].as_str().unwrap().to_owned();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let number = |chunk: &[u8]| f64::from(f32::from_le_bytes(chunk.try_into().unwrap()));
    let decoded: Vec<f64> = bytes.chunks_exact(4).map(number).collect();
    assert_eq!(decoded.len(), 384);
    assert!(decoded.iter().zip(&floats[0]).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn long_texts_and_what_is_not_supported_are_refused_by_name() {
    let mut program = Program::start();
    let long = embed(&mut program, "l", &json!(["short", "word ".repeat(600)]));
    assert_eq!(long.code(), "context_overflow");
    assert!(long.message().contains("input[1] has 602 tokens"), "{}", long.message());
    let body = json!({"input": "a", "dimensions": 256});
    let dimensions = program.ask("d", "embed", &body, &Value::Null);
    assert_eq!(dimensions.code(), "unsupported");
    assert!(dimensions.message().contains("dimensions"));
    let tokens = embed(&mut program, "t", &json!([1, 2, 3]));
    assert!(tokens.message().contains("input as token ids"), "{}", tokens.message());
}

#[test]
fn many_requests_are_each_answered_once() {
    let mut program = Program::start();
    for index in 0..30 {
        let body = json!({"input": format!("text number {index}")});
        program.assign(&index.to_string(), "embed", &body, &Value::Null);
    }
    for index in 0..30 {
        assert_eq!(vectors(&program.answer(&index.to_string())).len(), 1);
    }
}
