//! One request of the worker's own, before it offers a model: it must come back right.
//!
//! A few tokens of chat, or the vector of a word. What came back is looked at and forgotten; a
//! reason names the status or the shape, never the backend's words.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::OpenAi;
use super::server::{Intent, Listed};
use crate::http_client::{answer_to, status_of};
use crate::limits;

/// Enough for an answer to begin, also where tokens of order and thought stand before it.
const TOKENS: u32 = 8;
const QUESTION: &str = "What is 2+2?";

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    message: Option<Message>,
}

/// Reasoning is in one of these three places, or nowhere but in the count.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    reasoning_content: Option<Value>,
    #[serde(default)]
    reasoning: Option<Value>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    completion_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Embeddings {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    /// A null is how JSON writes what is not finite.
    embedding: Vec<Option<f64>>,
}

impl OpenAi {
    /// Asks the model something; the error says why it is not to be offered.
    pub(super) async fn probe(&self, model: &Listed, patience: Duration) -> Result<(), String> {
        let late = || format!("no answer within {} s", patience.as_secs());
        timeout(patience, self.ask_model(model)).await.map_err(|_| late())?
    }

    async fn ask_model(&self, model: &Listed) -> Result<(), String> {
        if model.intent == Intent::Embed {
            let body = json!({"model": model.id, "input": QUESTION});
            let (status, body) = self.post("/v1/embeddings", &body).await?;
            return status_of(status).and_then(|()| check_vector(&body));
        }
        let messages = json!([{"role": "user", "content": QUESTION}]);
        let body = |limit: &str| json!({"model": model.id, "messages": messages, "stream": false, limit: TOKENS});
        let path = "/v1/chat/completions";
        let (mut status, mut answer) = self.post(path, &body("max_tokens")).await?;
        // Some take only the newer name.
        if status == StatusCode::BAD_REQUEST {
            (status, answer) = self.post(path, &body("max_completion_tokens")).await?;
        }
        status_of(status).and_then(|()| check_answer(&answer))
    }

    pub(super) async fn post(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Bytes), String> {
        let request = self.request(Method::POST, path, body.to_string().into());
        let request = request.map_err(|_| "its address or key is wrong".to_owned())?;
        answer_to(&self.client, request, limits::PROBE_BYTES_MAX).await
    }
}

fn check_answer(body: &[u8]) -> Result<(), String> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_| "its answer is not a chat completion".to_owned())?;
    let thought = answer.usage.and_then(|usage| usage.completion_tokens_details);
    let thought = thought.and_then(|details| details.reasoning_tokens).unwrap_or(0) > 0;
    let says = |value: &Option<Value>| match value {
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(Value::Array(parts)) => !parts.is_empty(),
        _ => false,
    };
    let mut messages = answer.choices.iter().filter_map(|choice| choice.message.as_ref());
    let said =
        messages.any(|m| says(&m.content) || says(&m.reasoning_content) || says(&m.reasoning));
    if said || thought { Ok(()) } else { Err("its answer is empty".to_owned()) }
}

fn check_vector(body: &[u8]) -> Result<(), String> {
    let answer: Embeddings =
        serde_json::from_slice(body).map_err(|_| "its answer holds no embedding".to_owned())?;
    let vector = answer.data.first().map(|first| &*first.embedding).unwrap_or_default();
    let is_finite = vector.iter().all(|number| number.is_some_and(f64::is_finite));
    let is_something = vector.iter().flatten().any(|number| *number != 0.0);
    if is_finite && is_something {
        Ok(())
    } else {
        Err("its embedding is empty, all zero or not finite".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_is_enough_and_thought_counts() {
        let message = |message: &str| format!(r#"{{"choices":[{{"message":{message}}}]}}"#);
        for right in [
            message(r#"{"role":"assistant","content":"4"}"#),
            message(r#"{"content":"","reasoning_content":"The user"}"#),
            message(r#"{"content":null,"reasoning":"The"}"#),
            message(r#"{"content":[{"type":"text","text":"4"}]}"#),
            r#"{"choices":[{"message":{"content":""}}],"usage":{"completion_tokens":16,"completion_tokens_details":{"reasoning_tokens":16}}}"#.into(),
        ] {
            assert_eq!(check_answer(right.as_bytes()), Ok(()), "{right}");
        }
        for wrong in [
            message(r#"{"content":" \n"}"#),
            message("null"),
            "{}".into(),
            r#"{"choices":[]}"#.into(),
            r#"{"error":"no"}"#.into(),
            "hello".into(),
        ] {
            assert!(check_answer(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_vector_is_finite_and_not_zero() {
        let check = |vector: &str| {
            check_vector(format!(r#"{{"data":[{{"embedding":{vector}}}]}}"#).as_bytes()).is_ok()
        };
        assert!(check("[0, 0.5, -1e-3]"));
        for wrong in ["[]", "[0.0, 0]", "[1, null]", "\"AAAA\"", "null"] {
            assert!(!check(wrong), "{wrong}");
        }
        assert!(check_vector(br#"{"data":[]}"#).is_err());
    }
}
