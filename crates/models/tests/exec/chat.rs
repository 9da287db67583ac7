//! `chat` end to end, by the real binary with the real model.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::program::{Program, user};
use mtor_models::chat::WAITING_MAX;
use serde_json::{Value, json};

const STORY: &str = "Write a long story about a lighthouse keeper and a whale.";

fn story(max_tokens: u64) -> Value {
    json!({"messages": user(STORY), "max_tokens": max_tokens, "temperature": 0})
}

#[test]
fn a_stream_has_openais_shape_and_counts() {
    let mut program = Program::small();
    let mut body = story(24);
    body["stream_options"] = json!({"include_usage": true});
    let answer = program.ask("i1", "chat", &body, &json!({"model": "smollm2-135m-instruct"}));
    assert!(answer.chunks.len() >= 3, "{}", answer.chunks.len());

    let first = &answer.chunks[0]["piece"];
    assert_eq!(first["object"], "chat.completion.chunk");
    assert_eq!((&first["id"], &first["usage"]), (&json!("chatcmpl-i1"), &Value::Null));
    assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
    assert!(!first["choices"][0]["delta"]["content"].as_str().unwrap().is_empty());
    assert!(answer.chunks[1]["piece"]["choices"][0]["delta"].get("role").is_none());

    let [.., last, usage] = answer.chunks.as_slice() else { panic!("too few chunks") };
    assert_eq!(last["piece"]["choices"][0]["delta"], json!({}));
    assert_eq!(answer.finish_reason(), "length");
    assert_eq!(usage["piece"]["choices"], json!([]));
    assert_eq!(usage["piece"]["usage"]["completion_tokens"], 24);

    let counts: Vec<u64> = answer.chunks.iter().map(|c| c["count"].as_u64().unwrap()).collect();
    assert!(counts.is_sorted(), "{counts:?}");
    assert_eq!((answer.usage("output"), answer.end["result"].clone()), (24, Value::Null));
    assert_eq!(answer.usage("units"), answer.usage("input") + 24);
    assert_eq!(*counts.last().unwrap(), answer.usage("units"));
}

#[test]
fn without_stream_there_is_one_completion() {
    let mut program = Program::small();
    let whole = program.ask("w", "chat", &story(16), &json!({"stream": false}));
    assert!(whole.chunks.is_empty());
    let result = &whole.end["result"];
    assert_eq!(
        (&result["object"], &result["id"]),
        (&json!("chat.completion"), &json!("chatcmpl-w"))
    );
    assert_eq!(result["usage"]["completion_tokens"], 16);
    let streamed = program.ask("s", "chat", &story(16), &Value::Null);
    assert_eq!(result["choices"][0]["message"]["content"], streamed.text());
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let mut program = Program::small();
    let mut said = |intent: &str, seed: u64| {
        let body = json!({"messages": user(STORY), "max_tokens": 24, "temperature": 1.2,
            "top_p": 0.95, "seed": seed});
        program.ask(intent, "chat", &body, &Value::Null).text()
    };
    let first = said("a", 7);
    assert_eq!(first, said("b", 7));
    assert_ne!(first, said("c", 8));
}

#[test]
fn stop_strings_end_the_answer_and_are_never_shown() {
    let mut program = Program::small();
    let free = program.ask("free", "chat", &story(40), &Value::Null).text();
    // Cut in the middle of words, so that the stop string spans tokens.
    let letters: Vec<char> = free.chars().collect();
    let stop: String = letters[29..43].iter().collect();
    let mut body = story(40);
    body["stop"] = json!(["never said", stop]);
    let stopped = program.ask("stop", "chat", &body, &Value::Null);
    assert_eq!(stopped.text(), free[..free.find(&stop).unwrap()]);
    assert_eq!(stopped.finish_reason(), "stop");
    assert!(stopped.usage("output") < 40);
}

#[test]
fn the_models_own_end_is_a_stop() {
    let mut program = Program::small();
    let body = json!({"messages": user("Hi"), "temperature": 0});
    let answer = program.ask("hi", "chat", &body, &Value::Null);
    assert_eq!(answer.finish_reason(), "stop");
    assert!(!answer.text().contains("<|im_end|>"), "{}", answer.text());
}

#[test]
fn the_payers_limit_ends_the_answer() {
    let mut program = Program::small();
    let input = program.ask("i", "chat", &story(1), &Value::Null).usage("input");
    let cut = program.ask("l", "chat", &story(50), &json!({"limit": input + 5}));
    assert_eq!((cut.usage("units"), cut.usage("output")), (input + 5, 5));
    assert_eq!(cut.finish_reason(), "length");
    // A limit that does not cover the prompt buys nothing, and nothing is billed.
    let none = program.ask("n", "chat", &story(50), &json!({"limit": input - 1}));
    assert_eq!((none.usage("units"), none.text().as_str()), (0, ""));
    assert_eq!(none.finish_reason(), "length");
}

#[test]
fn what_does_not_fit_is_refused_with_numbers() {
    let mut program = Program::small();
    let too_many = program.ask("t", "chat", &story(1_024), &Value::Null);
    assert_eq!(too_many.code(), "context_overflow");
    assert!(too_many.message().contains("1024"), "{}", too_many.message());
    let long = json!({"messages": user(&"whale ".repeat(2_000))});
    assert_eq!(program.ask("p", "chat", &long, &Value::Null).code(), "context_overflow");
    let huge = json!({"messages": user(&"x".repeat(3_000_000))});
    assert_eq!(program.ask("h", "chat", &huge, &Value::Null).code(), "context_overflow");
}

#[test]
fn what_the_model_cannot_do_is_refused_by_name() {
    let mut program = Program::small();
    for (index, (field, value)) in [
        ("n", json!(2)),
        ("tools", json!([{"type": "function"}])),
        ("tool_choice", json!("auto")),
        ("functions", json!([{"name": "f"}])),
        ("logprobs", json!(true)),
        ("response_format", json!({"type": "json_object"})),
        ("image_url", json!("in messages")),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = story(4);
        if field == "image_url" {
            let part = json!({"type": "image_url", "image_url": {"url": "data:,x"}});
            body["messages"][0]["content"] = json!([part]);
        } else {
            body[field] = value;
        }
        let answer = program.ask(&index.to_string(), "chat", &body, &Value::Null);
        assert_eq!(answer.code(), "unsupported", "{field}");
        assert!(answer.message().contains(field), "{field}: {}", answer.message());
        assert_eq!(answer.end["retry"], false);
    }
    let other = program.ask("m", "chat", &story(4), &json!({"model": "gpt-9"}));
    assert_eq!(other.code(), "unsupported");
    let name = program.ask("v", "vision", &story(4), &Value::Null);
    assert_eq!(name.code(), "unsupported");
}

#[test]
fn biases_forbid_and_force_tokens() {
    let mut program = Program::small();
    let mut body = story(6);
    // Token 17 is "!", as the vocabulary of the model begins.
    body["logit_bias"] = json!({"17": 100});
    assert_eq!(program.ask("b", "chat", &body, &Value::Null).text(), "!!!!!!");
    // A penalty breaks the monotony that a bias alone would force.
    body["logit_bias"] = json!({"17": 12});
    body["frequency_penalty"] = json!(2);
    body["max_tokens"] = json!(30);
    let broken = program.ask("p", "chat", &body, &Value::Null).text();
    assert!(broken.chars().any(char::is_alphabetic), "{broken}");
}

#[test]
fn a_users_control_tokens_stay_text() {
    let mut program = Program::small();
    let mut tokens = |intent: &str, text: &str| {
        let body = json!({"messages": user(text), "max_tokens": 1});
        program.ask(intent, "chat", &body, &Value::Null).usage("input")
    };
    let empty = tokens("e", "a");
    // As a control token it would be one more; as text it is several.
    assert!(tokens("c", "a<|im_end|>") > empty + 2);
}

#[test]
fn four_streams_progress_together() {
    let mut program = Program::small();
    let intents = ["a", "b", "c", "d"];
    for intent in intents {
        program.assign(intent, "chat", &story(40), &Value::Null);
    }
    let (mut order, mut ended, mut started_before_first_end) = (Vec::new(), 0, BTreeSet::new());
    while ended < intents.len() {
        let event = program.next();
        let intent = event["data"]["intent"].as_str().unwrap().to_owned();
        if event["type"] == "mtor.worker.complete.v1" {
            assert_eq!(event["data"]["usage"]["output"], 40);
            ended += 1;
        } else {
            assert_eq!(event["type"], "mtor.worker.chunk.v1");
            if ended == 0 {
                started_before_first_end.insert(intent.clone());
            }
            order.push(intent);
        }
    }
    assert_eq!(started_before_first_end.len(), 4, "all four speak before one ends");
    let changes = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes > order.len() / 2, "pieces are interleaved: {changes} of {}", order.len());
}

#[test]
fn more_requests_than_slots_wait_and_beyond_the_bound_are_refused() {
    let mut program = Program::start(&["--chat-context", "2048", "--chat-slots", "1"]);
    program.assign("long", "chat", &story(1_900), &Value::Null);
    program.next_of("long");
    let waiting: Vec<String> = (0..WAITING_MAX).map(|index| format!("waiting {index}")).collect();
    for intent in &waiting {
        program.assign(intent, "chat", &story(2), &Value::Null);
    }
    let refused = program.ask("one too many", "chat", &story(2), &Value::Null);
    assert_eq!((refused.code(), &refused.end["retry"]), ("backend", &json!(true)));
    for intent in waiting.iter().skip(1) {
        program.revoke(intent);
    }
    program.revoke("long");
    assert_eq!(program.answer(&waiting[0]).usage("output"), 2);
    assert_eq!(program.ask("after", "chat", &story(2), &Value::Null).usage("output"), 2);
}

#[test]
fn requests_that_fill_the_cache_together_run_one_after_the_other() {
    // Two slots share 1,024 cells; each of these may need 900 of them.
    let mut program = Program::start(&["--chat-context", "1024", "--chat-slots", "2"]);
    for intent in ["a", "b"] {
        let body = json!({"messages": user("Hi"), "temperature": 0, "max_tokens": 870});
        program.assign(intent, "chat", &body, &Value::Null);
    }
    let mut intents = Vec::new();
    while intents.last() != Some(&json!("b")) {
        intents.push(program.next()["data"]["intent"].clone());
    }
    assert_eq!(program.answer_from("b", 1).finish_reason(), "stop");
    assert!(intents.iter().filter(|intent| **intent == "a").count() > 2);
}

#[test]
fn a_revoke_stops_the_answer_and_frees_the_slot() {
    let mut program = Program::start(&["--chat-context", "2048", "--chat-slots", "1"]);
    program.assign("long", "chat", &story(1_900), &Value::Null);
    assert_eq!(program.next_of("long")["type"], "mtor.worker.chunk.v1");
    program.assign("next", "chat", &story(3), &Value::Null);
    program.assign("waiting", "chat", &story(3), &Value::Null);
    program.revoke("waiting");
    program.revoke("unknown");
    program.revoke("long");
    // The other gets the only slot, so the revoked one is gone, not merely silent.
    assert_eq!(program.answer("next").usage("output"), 3);
    let before = program.within(Duration::ZERO);
    assert!(before.iter().all(|event| event["data"]["intent"] == "long"));
    assert!(before.iter().all(|event| event["type"] == "mtor.worker.chunk.v1"));
    assert_eq!(program.within(Duration::from_millis(300)), Vec::<Value>::new());
    assert_eq!(program.ask("after", "chat", &story(3), &Value::Null).usage("output"), 3);
}

#[test]
fn a_passed_deadline_fails_and_frees_the_slot() {
    let mut program = Program::start(&["--chat-context", "2048", "--chat-slots", "1"]);
    let late = program.ask("late", "chat", &story(1_900), &json!({"deadline_ms": 200}));
    assert_eq!(late.code(), "backend");
    assert!(late.message().contains("deadline"), "{}", late.message());
    assert_eq!(program.ask("next", "chat", &story(3), &Value::Null).usage("output"), 3);
}
