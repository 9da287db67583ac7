//! An OpenAI embeddings body, parsed once and early; what cannot be served is refused by name.

use serde_json::Value;

use crate::protocol::Refusal;

/// Numbers in one vector.
pub const DIMENSIONS: usize = 384;
/// OpenAI's own bound for one request.
pub const INPUTS_MAX: usize = 2_048;
/// Far above what the model's 512 tokens hold; longer texts are refused without tokenising them.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedRequest {
    pub inputs: Vec<String>,
    /// Vectors as base64 of little-endian f32 instead of arrays of numbers.
    pub base64: bool,
}

fn bad<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::bad_request(message))
}

pub fn parse(body: &Value) -> Result<EmbedRequest, Refusal> {
    if !body.is_object() {
        return bad("data is not an object; send an embeddings body with input");
    }
    let base64 = match body.get("encoding_format") {
        None | Some(Value::Null) => false,
        Some(format) => match format.as_str() {
            Some("float") => false,
            Some("base64") => true,
            _ => return bad("encoding_format must be float or base64"),
        },
    };
    if let Some(dimensions) = body.get("dimensions").filter(|value| !value.is_null())
        && dimensions.as_u64() != Some(DIMENSIONS as u64)
    {
        return Err(Refusal::unsupported(format!(
            "dimensions must be {DIMENSIONS} or absent; this model has no other"
        )));
    }
    Ok(EmbedRequest { inputs: inputs(body.get("input"))?, base64 })
}

fn inputs(input: Option<&Value>) -> Result<Vec<String>, Refusal> {
    let texts = match input {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => {
            if items.is_empty() || items.len() > INPUTS_MAX {
                return bad(format!("input has {} items; send 1 to {INPUTS_MAX}", items.len()));
            }
            if items.iter().any(|item| item.is_number() || item.is_array()) {
                return Err(Refusal::unsupported(
                    "input as token ids is not supported; send strings",
                ));
            }
            let text = |item: &Value| item.as_str().map(str::to_owned);
            match items.iter().map(text).collect() {
                Some(texts) => texts,
                None => return bad("input must hold strings only"),
            }
        }
        _ => return bad("input must be a string or an array of strings"),
    };
    for (index, text) in texts.iter().enumerate() {
        if text.is_empty() {
            return bad(format!("input[{index}] is empty; leave it out"));
        }
        if text.len() > INPUT_BYTES_MAX {
            return Err(Refusal::context_overflow(format!(
                "input[{index}] has {} bytes, at most {INPUT_BYTES_MAX}; split it",
                text.len()
            )));
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strings_and_arrays_of_strings_are_read() {
        let one = parse(&json!({"input": "a", "model": "x", "user": "u"})).unwrap();
        assert_eq!(one, EmbedRequest { inputs: vec!["a".into()], base64: false });
        let two =
            parse(&json!({"input": ["a", "b"], "encoding_format": "base64", "dimensions": 384}));
        assert_eq!(
            two.unwrap(),
            EmbedRequest { inputs: vec!["a".into(), "b".into()], base64: true }
        );
    }

    #[test]
    fn refusals_name_the_field() {
        for (body, named) in [
            (json!([]), "data"),
            (json!({}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": ""}), "input[0]"),
            (json!({"input": ["a", ""]}), "input[1]"),
            (json!({"input": [1, 2]}), "input as token ids"),
            (json!({"input": [[1], [2]]}), "input as token ids"),
            (json!({"input": ["a", null]}), "input"),
            (json!({"input": "x".repeat(INPUT_BYTES_MAX + 1)}), "input[0]"),
            (json!({"input": "a", "dimensions": 256}), "dimensions"),
            (json!({"input": "a", "encoding_format": "hex"}), "encoding_format"),
        ] {
            let refusal = parse(&body).unwrap_err();
            assert!(refusal.message.contains(named), "{}", refusal.message);
        }
    }
}
