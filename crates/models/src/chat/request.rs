//! An OpenAI chat-completions body, parsed once and early.
//!
//! What the model cannot do is refused by the field's name instead of ignored; fields that do not
//! change the answer (`user`, `metadata`, `store`, unknown ones) are ignored. Messages never quote
//! a client's content. Absences: nothing here knows tokens or the context; see `admission`.

use serde_json::{Map, Value};

use super::sampler::{BIAS_ENTRIES_MAX, Sampling};
use crate::protocol::Refusal;

pub const MESSAGES_MAX: usize = 4_096;
pub const STOPS_MAX: usize = 4;
pub const STOP_BYTES_MAX: usize = 1_024;
/// Low, as the model's card advises: a 135M model at OpenAI's default of 1 wanders.
pub const DEFAULT_TEMPERATURE: f32 = 0.2;
/// As the card advises, too.
pub const DEFAULT_TOP_P: f32 = 0.9;
/// Where no penalty is named, together with `repeats`: the one ends circles of other words, the
/// other exact ones. Of 24 answers (12 prompts, 2 seeds, `examples/loops.rs`) 15 said the same four
/// words four times or more, or ran to their 512 tokens, with neither and top_p 1; with both 3 do.
/// Of 24 to other prompts it was 15 and 4. With a penalty of 0.3 alone 9 did, with `repeats` alone 9.
pub const DEFAULT_FREQUENCY_PENALTY: f32 = 0.2;

/// Fields that would change the answer in a way this model cannot serve.
const REFUSED: [&str; 7] = [
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "top_logprobs",
    "audio",
    "web_search_options",
];

#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub role: &'static str,
    pub content: String,
}

/// What the client asked, checked and with defaults applied.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    pub messages: Vec<Message>,
    pub max_tokens: Option<u64>,
    pub sampling: Sampling,
    pub stops: Vec<String>,
    pub include_usage: bool,
}

type Parsed<T> = Result<T, Refusal>;

fn bad<T>(message: impl Into<String>) -> Parsed<T> {
    Err(Refusal::bad_request(message))
}

/// Parses a body. `random_seed` is used when the client gives no seed.
pub fn parse(body: &Value, random_seed: u64) -> Parsed<ChatRequest> {
    let Value::Object(body) = body else {
        return bad("data is not an object; send a chat-completions body with messages");
    };
    refuse_unsupported(body)?;
    Ok(ChatRequest {
        messages: messages(body)?,
        max_tokens: max_tokens(body)?,
        sampling: sampling(body, random_seed)?,
        stops: stops(body)?,
        include_usage: include_usage(body)?,
    })
}

/// A field that is there and not null.
fn given<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

fn refuse_unsupported(body: &Map<String, Value>) -> Parsed<()> {
    let unsupported = |text: String| Err(Refusal::unsupported(text));
    for name in REFUSED {
        let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        if given(body, name).is_some_and(|value| !empty(value) && value.as_u64() != Some(0)) {
            return unsupported(format!("{name} is not supported by this model; leave it out"));
        }
    }
    if given(body, "logprobs").is_some_and(|value| value.as_bool() != Some(false)) {
        return unsupported("logprobs is not supported by this model; leave it out".into());
    }
    if given(body, "n").is_some_and(|value| value.as_u64() != Some(1)) {
        return unsupported("n must be 1; send one request for each answer".into());
    }
    if let Some(format) = given(body, "response_format")
        && format.get("type").and_then(Value::as_str) != Some("text")
    {
        return unsupported("response_format must be {\"type\":\"text\"} or absent".into());
    }
    if let Some(modalities) = given(body, "modalities")
        && *modalities != serde_json::json!(["text"])
    {
        return unsupported("modalities must be [\"text\"] or absent".into());
    }
    Ok(())
}

fn messages(body: &Map<String, Value>) -> Parsed<Vec<Message>> {
    let Some(list) = given(body, "messages").and_then(Value::as_array) else {
        return bad("messages is not an array; send at least one {role, content}");
    };
    if list.is_empty() || list.len() > MESSAGES_MAX {
        return bad(format!("messages has {} items; send 1 to {MESSAGES_MAX}", list.len()));
    }
    list.iter().enumerate().map(|(index, message)| one_message(index, message)).collect()
}

fn one_message(index: usize, message: &Value) -> Parsed<Message> {
    let at = format!("messages[{index}]");
    let Value::Object(fields) = message else { return bad(format!("{at} is not an object")) };
    let role = match fields.get("role").and_then(Value::as_str) {
        // The newer name of the same thing.
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        Some("tool" | "function") => {
            return Err(Refusal::unsupported(format!(
                "{at}.role is tool or function, which this model does not know; use user"
            )));
        }
        _ => return bad(format!("{at}.role must be system, developer, user or assistant")),
    };
    for name in ["tool_calls", "function_call", "audio"] {
        if given(fields, name).is_some() {
            return Err(Refusal::unsupported(format!(
                "{at}.{name} is not supported; leave it out"
            )));
        }
    }
    Ok(Message { role, content: content(&at, fields.get("content"))? })
}

fn content(at: &str, content: Option<&Value>) -> Parsed<String> {
    match content {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let parts: Parsed<Vec<&str>> =
                parts.iter().enumerate().map(|(index, part)| text_part(at, index, part)).collect();
            Ok(parts?.concat())
        }
        _ => bad(format!("{at}.content must be a string or an array of text parts")),
    }
}

fn text_part<'a>(at: &str, index: usize, part: &'a Value) -> Parsed<&'a str> {
    let at = format!("{at}.content[{index}]");
    match part.get("type").and_then(Value::as_str) {
        Some("text") => match part.get("text").and_then(Value::as_str) {
            Some(text) => Ok(text),
            None => bad(format!("{at}.text must be a string")),
        },
        Some(kind @ ("image_url" | "input_audio" | "file" | "refusal")) => {
            Err(Refusal::unsupported(format!(
                "{at} is a part of type {kind}; this model reads text only"
            )))
        }
        _ => bad(format!("{at}.type must be text")),
    }
}

fn max_tokens(body: &Map<String, Value>) -> Parsed<Option<u64>> {
    for name in ["max_completion_tokens", "max_tokens"] {
        if let Some(value) = given(body, name) {
            return match value.as_u64() {
                Some(tokens) if tokens > 0 => Ok(Some(tokens)),
                _ => bad(format!("{name} must be a whole number above 0")),
            };
        }
    }
    Ok(None)
}

fn number(body: &Map<String, Value>, name: &str, low: f64, high: f64) -> Parsed<Option<f32>> {
    let Some(value) = given(body, name) else { return Ok(None) };
    match value.as_f64() {
        Some(number) if (low..=high).contains(&number) => Ok(Some(number as f32)),
        _ => bad(format!("{name} must be a number from {low} to {high}")),
    }
}

fn sampling(body: &Map<String, Value>, random_seed: u64) -> Parsed<Sampling> {
    let seed = match given(body, "seed") {
        None => random_seed,
        // Negative seeds are allowed by OpenAI's schema; the bits serve as well.
        Some(value) => match value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned)) {
            Some(seed) => seed,
            None => return bad("seed must be a whole number of 64 bits"),
        },
    };
    let presence = number(body, "presence_penalty", -2.0, 2.0)?;
    let frequency = number(body, "frequency_penalty", -2.0, 2.0)?;
    // Who names a penalty has said how to treat repeats; who asks for the likeliest token gets it.
    let temperature = number(body, "temperature", 0.0, 2.0)?.unwrap_or(DEFAULT_TEMPERATURE);
    let top_p = number(body, "top_p", 0.0, 1.0)?.unwrap_or(DEFAULT_TOP_P);
    let avoid_repeats =
        presence.is_none() && frequency.is_none() && temperature > 0.0 && top_p > 0.0;
    let unnamed = if avoid_repeats { DEFAULT_FREQUENCY_PENALTY } else { 0.0 };
    Ok(Sampling {
        temperature,
        top_p,
        seed,
        presence_penalty: presence.unwrap_or(0.0),
        frequency_penalty: frequency.unwrap_or(unnamed),
        avoid_repeats,
        bias: bias(body)?,
    })
}

fn bias(body: &Map<String, Value>) -> Parsed<Vec<(u32, f32)>> {
    let Some(value) = given(body, "logit_bias") else { return Ok(Vec::new()) };
    let Value::Object(entries) = value else {
        return bad("logit_bias must be an object of token ids of this model to -100..100");
    };
    if entries.len() > BIAS_ENTRIES_MAX {
        let count = entries.len();
        return bad(format!("logit_bias has {count} entries; at most {BIAS_ENTRIES_MAX}"));
    }
    let entry = |(token, _): (&String, &Value)| {
        let id = token.parse().ok();
        let Some(id) = id else { return bad("logit_bias keys must be token ids of this model") };
        let bias = number(entries, token, -100.0, 100.0);
        let Ok(Some(bias)) = bias else { return bad("logit_bias values must be from -100 to 100") };
        Ok((id, bias))
    };
    entries.iter().map(entry).collect()
}

fn stops(body: &Map<String, Value>) -> Parsed<Vec<String>> {
    let Some(value) = given(body, "stop") else { return Ok(Vec::new()) };
    let one = |value: &Value| match value.as_str() {
        Some(stop) if !stop.is_empty() && stop.len() <= STOP_BYTES_MAX => Ok(stop.to_owned()),
        _ => bad(format!("stop must hold strings of 1 to {STOP_BYTES_MAX} bytes")),
    };
    match value {
        Value::Array(list) if list.len() > STOPS_MAX => {
            bad(format!("stop has {} strings; at most {STOPS_MAX}", list.len()))
        }
        Value::Array(list) => list.iter().map(one).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            Ok(vec![one(value)?])
        }
    }
}

fn include_usage(body: &Map<String, Value>) -> Parsed<bool> {
    let Some(options) = given(body, "stream_options") else { return Ok(false) };
    match options.get("include_usage") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(wanted)) => Ok(*wanted),
        Some(_) => bad("stream_options.include_usage must be true or false"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::FailCode;

    fn with(field: &str, value: Value) -> Parsed<ChatRequest> {
        let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
        body[field] = value;
        parse(&body, 9)
    }

    #[test]
    fn defaults_and_ignored_fields() {
        let request = with("user", json!("u")).unwrap();
        assert_eq!(request.sampling.seed, 9);
        assert_eq!((request.max_tokens, request.include_usage), (None, false));
        for ignored in ["metadata", "store", "stream", "whatever", "tools", "n", "stop", "seed"] {
            assert!(with(ignored, Value::Null).is_ok(), "{ignored}");
        }
        assert!(with("logprobs", json!(false)).is_ok());
        assert!(with("response_format", json!({"type": "text"})).is_ok());
        assert!(with("tools", json!([])).is_ok());
    }

    #[test]
    fn what_is_left_out_is_the_models_and_what_is_named_is_the_clients() {
        let sampling = |fields: Value| {
            let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
            body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let it = parse(&body, 9).unwrap().sampling;
            let numbers = (it.temperature, it.top_p, it.presence_penalty, it.frequency_penalty);
            (numbers, it.avoid_repeats)
        };
        assert_eq!(sampling(json!({})), ((0.2, 0.9, 0.0, 0.2), true));
        assert_eq!(sampling(json!({"temperature": 1, "top_p": 1})), ((1.0, 1.0, 0.0, 0.2), true));
        assert_eq!(sampling(json!({"temperature": 0})), ((0.0, 0.9, 0.0, 0.0), false));
        assert_eq!(sampling(json!({"top_p": 0})), ((0.2, 0.0, 0.0, 0.0), false));
        assert_eq!(sampling(json!({"frequency_penalty": 0})), ((0.2, 0.9, 0.0, 0.0), false));
        assert_eq!(sampling(json!({"presence_penalty": 1})), ((0.2, 0.9, 1.0, 0.0), false));
    }

    #[test]
    fn what_the_model_cannot_do_is_refused_by_name() {
        for (field, value) in [
            ("n", json!(2)),
            ("tools", json!([{"type": "function"}])),
            ("tool_choice", json!("auto")),
            ("functions", json!([{}])),
            ("logprobs", json!(true)),
            ("top_logprobs", json!(3)),
            ("response_format", json!({"type": "json_object"})),
            ("modalities", json!(["text", "audio"])),
        ] {
            let refusal = with(field, value).unwrap_err();
            assert_eq!(refusal.code, FailCode::Unsupported, "{field}");
            assert!(refusal.message.contains(field), "{field}: {}", refusal.message);
        }
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (field, value) in [
            ("messages", json!([])),
            ("messages", json!([{"role": "user"}])),
            ("messages", json!([{"role": "king", "content": "x"}])),
            ("max_tokens", json!(0)),
            ("max_completion_tokens", json!(-1)),
            ("temperature", json!(2.1)),
            ("top_p", json!("1")),
            ("presence_penalty", json!(3)),
            ("frequency_penalty", json!(-3)),
            ("logit_bias", json!({"x": 1})),
            ("logit_bias", json!({"5": 101})),
            ("stop", json!(["a", "b", "c", "d", "e"])),
            ("stop", json!("")),
            ("seed", json!(1.5)),
            ("stream_options", json!({"include_usage": 1})),
        ] {
            let refusal = with(field, value).unwrap_err();
            assert_eq!(refusal.code, FailCode::BadRequest, "{field}");
            assert!(refusal.message.contains(field), "{field}: {}", refusal.message);
        }
    }

    #[test]
    fn text_parts_are_joined_and_image_parts_refused() {
        let parts = |kind: &str| {
            json!([{"role": "user", "content": [{"type": "text", "text": "a"},
                {"type": kind, "text": "b", "image_url": {"url": "data:"}}]}])
        };
        assert_eq!(with("messages", parts("text")).unwrap().messages[0].content, "ab");
        let refusal = with("messages", parts("image_url")).unwrap_err();
        assert!(refusal.message.contains("messages[0].content[1]"), "{}", refusal.message);
        assert!(refusal.message.contains("image_url"));
    }

    #[test]
    fn the_newer_token_limit_wins() {
        let body = json!({"messages": [{"role": "developer", "content": "x"}],
            "max_tokens": 5, "max_completion_tokens": 7, "seed": -1});
        let request = parse(&body, 0).unwrap();
        assert_eq!((request.max_tokens, request.messages[0].role), (Some(7), "system"));
        assert_eq!(request.sampling.seed, u64::MAX);
    }
}
