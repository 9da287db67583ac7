//! Half a letter of JavaScript's: what is left of an emoji that was cut in two.
//!
//! `JSON.stringify` writes it as `\ud83d`, which is JSON as far as the grammar goes. Some backends
//! read it, others refuse the whole request for it; all read what it becomes here.

use std::borrow::Cow;

/// Bytes of `\u0000`.
const ESCAPE: usize = 6;

/// A text that is JSON, with a replacement character in place of each half letter.
pub(super) fn mended(json: &str) -> Cow<'_, str> {
    if !json.contains("\\ud") && !json.contains("\\uD") {
        return Cow::Borrowed(json);
    }
    let (mut text, mut kept, mut at) = (String::new(), 0, 0);
    while let Some(found) = json.get(at..).and_then(|rest| rest.find('\\')) {
        let begin = at + found;
        at = begin
            + match (half(json, begin), half(json, begin + ESCAPE)) {
                (Some(Half::First), Some(Half::Second)) => 2 * ESCAPE,
                (Some(_), _) => {
                    text.push_str(json.get(kept..begin).unwrap_or_default());
                    text.push_str("\\ufffd");
                    kept = begin + ESCAPE;
                    ESCAPE
                }
                // A backslash and what it escapes.
                (None, _) => 2,
            };
    }
    match kept {
        0 => Cow::Borrowed(json),
        _ => Cow::Owned(text + json.get(kept..).unwrap_or_default()),
    }
}

enum Half {
    First,
    Second,
}

/// What is escaped at that place, if it is half a letter.
fn half(json: &str, at: usize) -> Option<Half> {
    let digits = json.get(at..at + ESCAPE)?.strip_prefix("\\u")?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Half::First),
        0xdc00..=0xdfff => Some(Half::Second),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_replaced_and_nothing_else_is() {
        for (json, expected) in [
            (r#"["\ud83d"]"#, r#"["\ufffd"]"#),
            (r#"["a\uD83D\n\ude00ü"]"#, r#"["a\ufffd\n\ufffdü"]"#),
            (r#"["\ud83d\ud83d\ude00\ude00"]"#, r#"["\ufffd\ud83d\ude00\ufffd"]"#),
            (r#"["\\ud83d\\\ud83d"]"#, r#"["\\ud83d\\\ufffd"]"#),
        ] {
            assert_eq!(mended(json), expected, "{json}");
            assert!(serde_json::from_str::<serde_json::Value>(&mended(json)).is_ok(), "{json}");
        }
        for whole in [r#"["\ud83d\uDE00","\\ud83d","\u0064","ü😀"]"#, "{}", ""] {
            assert!(matches!(mended(whole), Cow::Borrowed(text) if text == whole), "{whole}");
        }
    }
}
