//! Reading a client's JSON: size, encoding, depth, and errors that name a place and no content.
//!
//! `serde_json` skips what nobody asked for without looking at its encoding or its depth, and its
//! messages quote what they found. So text is checked here first, in one cheap pass, and its
//! errors are mapped to a line and a column.

use serde::de::DeserializeSeed;

use crate::api_error::ApiError;

/// Levels of `[` and `{` in any document of a client, and in any piece or result of a worker.
pub const DEPTH_MAX: usize = 64;

/// The text of `bytes`, once its size, encoding and depth are known to be within bounds. It need
/// not be JSON yet.
pub fn text(bytes: &[u8], bytes_max: u64) -> Result<&str, ApiError> {
    if bytes.len() as u64 > bytes_max {
        return Err(ApiError::too_large("the body", bytes_max));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (line, column) = place(bytes, error.valid_up_to());
        ApiError::malformed_json(line, column)
    })?;
    if is_deeper_than(bytes, DEPTH_MAX) {
        return Err(ApiError::too_deep(DEPTH_MAX));
    }
    Ok(text)
}

/// Reads all of `text` with `seed`. What the seed wants to say itself it puts into its `fault`
/// slot, which wins over the parser's error.
pub(crate) fn read<'de, S: DeserializeSeed<'de>>(
    text: &'de str,
    seed: S,
) -> Result<S::Value, serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut parser)?;
    parser.end()?;
    Ok(value)
}

/// The parser's error without what it quotes.
pub(crate) fn fault(error: &serde_json::Error) -> ApiError {
    ApiError::malformed_json(error.line(), error.column())
}

fn place(bytes: &[u8], at: usize) -> (usize, usize) {
    let before = bytes.get(..at).unwrap_or(bytes);
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    (memchr::memchr_iter(b'\n', before).count() + 1, at - line_start + 1)
}

/// Counts brackets outside strings. Text that is not JSON gets some answer; the parser then
/// refuses it.
pub(crate) fn is_deeper_than(bytes: &[u8], depth_max: usize) -> bool {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = after_string(bytes, at),
            _ => {}
        }
    }
    false
}

/// Where the string that `at` stands in has ended.
fn after_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
        .map(|offset| at + offset)
    {
        if bytes.get(found) == Some(&b'"') {
            return found + 1;
        }
        // A backslash and what it escapes.
        at = found + 2;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use mtor_types::Code;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn depth_is_counted_outside_strings_only() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(text(nested(DEPTH_MAX).as_bytes(), 1_000).is_ok());
        let error = text(nested(DEPTH_MAX + 1).as_bytes(), 1_000).expect_err("too deep");
        assert_eq!(error.code, Code::TooDeep);
        let quoted = format!(r#"["{}","\"{}\\"]"#, "[".repeat(100), "{".repeat(100));
        assert!(text(quoted.as_bytes(), 1_000).is_ok());
        assert!(text("[]".repeat(200).as_bytes(), 1_000).is_ok());
    }

    #[test]
    fn wrong_encoding_is_placed() {
        let error = text(b"{\n \"\xff\"}", 100).expect_err("not UTF-8");
        assert_eq!(error.code, Code::MalformedJson);
        assert!(error.message.contains("line 2, column 3"), "{}", error.message);
        assert_eq!(text(b"[1,2]", 4).expect_err("too large").code, Code::TooLarge);
    }

    proptest! {
        /// The depth of valid JSON is what a real parser finds.
        #[test]
        fn depth_is_exact(body in "[\\[\\]{}\",:\\\\1 ]{0,40}", depth_max in 0_usize..6) {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&body) {
                prop_assert_eq!(is_deeper_than(body.as_bytes(), depth_max), depth(&value) > depth_max);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = text(&bytes, 64);
        }
    }

    fn depth(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            serde_json::Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => 0,
        }
    }
}
