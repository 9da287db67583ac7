//! The OpenAI objects that a chat answer is made of. Pure: time and ids come in.

use serde_json::{Value, json};

use crate::protocol::Usage;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model's end token or a stop string.
    Stop,
    /// The token limit, the payer's limit or the context.
    Length,
}

impl Finish {
    fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// What all objects of one answer share.
#[derive(Debug, Clone)]
pub struct Head {
    /// `chatcmpl-<intent>`.
    pub id: String,
    pub created_s: u64,
    pub model: &'static str,
    /// The client wants a last piece with usage; OpenAI then puts `usage: null` in the others.
    pub include_usage: bool,
}

impl Head {
    fn piece(&self, choices: Value, usage: Value) -> Value {
        let mut piece = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created_s,
            "model": self.model, "choices": choices,
        });
        if self.include_usage {
            piece["usage"] = usage;
        }
        piece
    }

    /// A piece of text; the first one also says who speaks.
    pub fn text(&self, text: &str, first: bool) -> Value {
        let delta = match first {
            true => json!({"role": "assistant", "content": text}),
            false => json!({"content": text}),
        };
        let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
        self.piece(json!([choice]), Value::Null)
    }

    pub fn last(&self, finish: Finish) -> Value {
        let choice = json!({"index": 0, "delta": {}, "finish_reason": finish.name()});
        self.piece(json!([choice]), Value::Null)
    }

    pub fn usage_piece(&self, usage: Usage) -> Value {
        self.piece(json!([]), usage_object(usage))
    }

    /// The whole answer, for a request that does not stream.
    pub fn whole(&self, text: &str, finish: Finish, usage: Usage) -> Value {
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created_s,
            "model": self.model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text},
                "finish_reason": finish.name(), "logprobs": null}],
            "usage": usage_object(usage),
        })
    }
}

fn usage_object(usage: Usage) -> Value {
    json!({"prompt_tokens": usage.input, "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_stands_in_pieces_only_when_asked() {
        let mut head =
            Head { id: "chatcmpl-i".into(), created_s: 1, model: "m", include_usage: false };
        assert!(head.text("a", true).get("usage").is_none());
        head.include_usage = true;
        assert_eq!(head.last(Finish::Length).get("usage"), Some(&Value::Null));
        let usage = Usage { units: 5, input: 2, output: 3 };
        assert_eq!(head.usage_piece(usage)["usage"]["total_tokens"], 5);
        assert_eq!(head.usage_piece(usage)["choices"], json!([]));
    }
}
