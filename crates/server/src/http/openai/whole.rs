//! A chat completion out of its pieces, for who joined work that another route had asked for piece by
//! piece: it is paid, and its end says nothing of it again.

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// What grows from piece to piece; of everything else the first word counts.
const GROWING: [&str; 6] =
    ["content", "reasoning_content", "reasoning", "refusal", "arguments", "transcript"];

/// Choices, and calls of one: more are none that a model makes, and each is looked for.
const ITEMS_MAX: usize = 128;

/// The whole of them, or what they are where they are no completion.
pub(super) fn of_pieces(pieces: &[Bytes]) -> Bytes {
    let whole = completion(pieces).and_then(|whole| serde_json::to_vec(&whole).ok());
    whole.map_or_else(|| as_they_are(pieces), Bytes::from)
}

fn as_they_are(pieces: &[Bytes]) -> Bytes {
    let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &**piece).collect();
    [br#"{"pieces":["#.as_slice(), &pieces.join(b",".as_slice()), b"]}"].concat().into()
}

fn completion(pieces: &[Bytes]) -> Option<Value> {
    let mut whole = Map::new();
    let mut choices: Vec<Map<String, Value>> = Vec::new();
    for piece in pieces {
        let Value::Object(mut piece) = serde_json::from_slice(piece).ok()? else { return None };
        let Some(Value::Array(said)) = piece.remove("choices") else { return None };
        for choice in said {
            let Value::Object(mut choice) = choice else { return None };
            let index = choice.get("index").cloned().unwrap_or_else(|| 0.into());
            let delta = choice.remove("delta").unwrap_or_else(|| json!({}));
            choice.insert("message".to_owned(), delta);
            let known = choices.iter().position(|known| known.get("index") == Some(&index));
            match known.and_then(|at| choices.get_mut(at)) {
                Some(known) => merge(known, choice),
                None => {
                    choice.insert("index".to_owned(), index);
                    choices.push(choice);
                }
            }
            if choices.len() > ITEMS_MAX {
                return None;
            }
        }
        // What the last piece says of usage is of all of them.
        if let Some(usage) = piece.remove("usage").filter(|usage| !usage.is_null()) {
            whole.insert("usage".to_owned(), usage);
        }
        merge(&mut whole, piece);
    }
    if choices.is_empty() {
        return None;
    }
    for choice in &mut choices {
        let calls = choice.get_mut("message").and_then(|message| message.get_mut("tool_calls"));
        for call in calls.and_then(Value::as_array_mut).into_iter().flatten() {
            call.as_object_mut()?.remove("index");
        }
    }
    whole.insert("object".to_owned(), "chat.completion".into());
    whole.insert("choices".to_owned(), choices.into_iter().map(Value::Object).collect());
    Some(Value::Object(whole))
}

fn merge(known: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        match (known.get_mut(&key), value) {
            (None | Some(Value::Null), value) => {
                known.insert(key, value);
            }
            (Some(Value::String(text)), Value::String(more)) if GROWING.contains(&&*key) => {
                text.push_str(&more);
            }
            (Some(Value::Object(known)), Value::Object(more)) => merge(known, more),
            (Some(Value::Array(known)), Value::Array(more)) => merge_items(known, more),
            (Some(_), _) => {}
        }
    }
}

/// Calls of tools come in parts, each with the number of its call.
fn merge_items(known: &mut Vec<Value>, more: Vec<Value>) {
    for item in more {
        let of = item.get("index").filter(|index| !index.is_null());
        let same = |known: &Value| known.get("index") == of;
        let at = of.and_then(|_| known.iter().position(same));
        match (at.and_then(|at| known.get_mut(at)), item) {
            (Some(Value::Object(known)), Value::Object(more)) => merge(known, more),
            (Some(_), _) => {}
            (None, item) => known.push(item),
        }
        known.truncate(ITEMS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(pieces: &[Value]) -> Value {
        let pieces: Vec<Bytes> = pieces.iter().map(|piece| piece.to_string().into()).collect();
        serde_json::from_slice(&of_pieces(&pieces)).unwrap()
    }

    #[test]
    fn pieces_make_the_completion_that_they_are_of() {
        let head = |delta: Value, end: Value| {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": end});
            json!({"id": "x", "object": "chat.completion.chunk", "choices": [choice]})
        };
        let call = |more: Value| json!({"tool_calls": [{"index": 0, "function": more}]});
        let usage = json!({"id": "x", "choices": [], "usage": {"total_tokens": 4}});
        let made = whole(&[
            head(json!({"role": "assistant", "content": "a"}), Value::Null),
            head(json!({"role": "assistant", "content": "b"}), Value::Null),
            head(call(json!({"name": "f", "arguments": "{"})), Value::Null),
            head(call(json!({"arguments": "}"})), json!("tool_calls")),
            usage,
        ]);
        let message = json!({
            "role": "assistant", "content": "ab",
            "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
        });
        let choice = json!({"index": 0, "message": message, "finish_reason": "tool_calls"});
        let wanted = json!({
            "id": "x", "object": "chat.completion", "choices": [choice],
            "usage": {"total_tokens": 4},
        });
        assert_eq!(made, wanted);
    }

    #[test]
    fn choices_are_told_apart_and_what_is_none_stays_as_it_is() {
        let of = |index: u64, text: &str| json!({"index": index, "delta": {"content": text}});
        let made = whole(&[
            json!({"choices": [of(1, "c")]}),
            json!({"choices": [of(0, "a"), of(1, "d")]}),
        ]);
        let text = |choice: &Value| choice["message"]["content"].clone();
        let texts: Vec<Value> = made["choices"].as_array().unwrap().iter().map(text).collect();
        assert_eq!(texts, ["cd", "a"]);
        for other in [json!(7), json!({"data": []}), json!({"choices": [7]})] {
            assert_eq!(whole(std::slice::from_ref(&other)), json!({"pieces": [other]}));
        }
    }
}
