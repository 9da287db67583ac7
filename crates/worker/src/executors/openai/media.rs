//! Pictures and sounds in what a client sends: as themselves, never as addresses.
//!
//! vLLM, and llama.cpp's server with a projector, fetch the address that stands in a message. A
//! guest of a realm would then see, through the worker's machine, what only that machine reaches.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::body::Refused;
use super::fields::Fields;

/// Fields of a part that hold bytes in base64, which has no colon.
const BYTES: [&str; 6] = ["data", "file_data", "image", "audio", "video", "input_audio"];

/// Refuses every address that is not the thing itself (`data:`), by the name of its field.
pub(super) fn check(fields: &Fields<'_>) -> Result<(), Refused> {
    // Texts to embed stand beside parts; in a message only its content has any.
    for (name, is_content) in [("messages", false), ("input", true)] {
        for raw in fields.all(name) {
            let mut json = serde_json::Deserializer::from_str(raw);
            let found = Walk { field: name, is_content }.deserialize(&mut json);
            // In the parser's words: the place counts from the field's beginning.
            let found = found.map_err(|error| format!("field `{name}`: {error}"))?;
            if let Some(field) = found {
                let remedy = "send the bytes themselves, as a data: URL; addresses are not fetched";
                return Err(format!("field `{name}`: `{field}`: {remedy}").into());
            }
        }
    }
    Ok(())
}

fn is_address(field: &str, text: &str) -> bool {
    let is_data =
        text.as_bytes().get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"data:"));
    let field = field.to_ascii_lowercase();
    !is_data && (field.ends_with("url") || BYTES.contains(&&*field) && text.contains(':'))
}

/// A value of a field; gives the first field in it that holds an address. Doubles are all seen,
/// since backends differ in which of them they take.
struct Walk<'a> {
    field: &'a str,
    is_content: bool,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let is_address = self.is_content && is_address(self.field, text);
        Ok(is_address.then(|| self.field.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let same = || Walk { field: self.field, is_content: self.is_content };
        while let Some(inner) = list.next_element_seed(same())? {
            found = found.or(inner);
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(field) = map.next_key::<String>()? {
            let is_content = self.is_content || field == "content";
            found = found.or(map.next_value_seed(Walk { field: &field, is_content })?);
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> Option<String> {
        let fields: Fields<'_> = serde_json::from_str(body).unwrap();
        check(&fields).err().map(|refused| refused.message)
    }

    fn of_part(part: &str) -> Option<String> {
        refused(&format!(r#"{{"messages":[{{"role":"user","content":[{part}]}}]}}"#))
    }

    #[test]
    fn what_a_backend_would_fetch_is_refused_by_name() {
        for (part, field) in [
            (r#"{"type":"image_url","image_url":{"url":"http://10.0.0.1/"}}"#, "`url`"),
            (r#"{"type":"image_url","image_url":"file:///etc/passwd"}"#, "`image_url`"),
            (r#"{"type":"image_url","image_url":{"url":" data:,x"}}"#, "`url`"),
            (r#"{"image_url":{"url":"data:,x","url":"HTTP://x"}}"#, "`url`"),
            (r#"{"image_url":{"url":"http://x","url":"data:,x"}}"#, "`url`"),
            (r#"{"type":"video_url","video_url":{"url":"https://x"}}"#, "`url`"),
            (
                r#"{"type":"input_audio","input_audio":{"data":"http://x","format":"wav"}}"#,
                "`data`",
            ),
            (r#"{"type":"file","file":{"file_data":"https://x"}}"#, "`file_data`"),
            (r#"{"type":"file","file":{"file_url":"https://x"}}"#, "`file_url`"),
            (r#"{"type":"tool","content":[{"image_url":["x"]}]}"#, "`image_url`"),
        ] {
            let message = of_part(part).unwrap_or_default();
            assert!(message.contains("`messages`") && message.contains(field), "{part}: {message}");
        }
        // Also in the second of two, whichever the backend reads.
        let twice = r#"{"messages":[{"content":[{"image_url":"http://x"}]}],"messages":[]}"#;
        assert!(refused(twice).is_some());
        let embed = r#"{"input":[{"content":[{"image_url":"http://x"}]}]}"#;
        assert!(refused(embed).unwrap().contains("`input`"));
        let deep = format!(r#"{{"messages":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        assert!(refused(&deep).unwrap().contains("`messages`: recursion limit exceeded"));
        let large = r#"{"messages":[1e999]}"#;
        let message = "field `messages`: number out of range at line 1 column 6";
        assert_eq!(refused(large).unwrap(), message);
    }

    #[test]
    fn the_things_themselves_and_words_go_through() {
        for part in [
            r#"{"type":"text","text":"what stands at https://example.org?"}"#,
            r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}}"#,
            r#"{"type":"image_url","image_url":{"url":"DATA:image/png;base64,AAAA"}}"#,
            r#"{"type":"input_audio","input_audio":{"data":"AAAA/+==","format":"wav"}}"#,
            r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA","file_id":null}}"#,
        ] {
            assert_eq!(of_part(part), None, "{part}");
        }
        for body in [
            r#"{"messages":[{"content":"http://x"},{"content":null,"annotations":[{"url":"http://x"}]}]}"#,
            r#"{"messages":[{"tool_calls":[{"function":{"arguments":"{\"url\":\"http://x\"}"}}]}]}"#,
            r#"{"input":["http://x",1,2.5,true]}"#,
            r#"{"messages":7}"#,
        ] {
            assert_eq!(refused(body), None, "{body}");
        }
    }
}
