//! What the edge needs to know of a request's data, read in one pass that skips everything else.
//!
//! Only top-level fields that the manifest declares are read; a field read here may stand only
//! once, because edge and worker could take different ones of two. The data itself is forwarded
//! as the client sent it.

use std::fmt;
use std::ops::Range;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{json, speech};
use crate::api_error::ApiError;

/// Which fields a manifest declares, and so gives a meaning to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub model: bool,
    pub stream: bool,
    pub max_tokens: bool,
    pub max_completion_tokens: bool,
    pub n: bool,
    pub shape: bool,
    /// `audio` and `format`.
    pub sound: bool,
    /// `input` and `speed`.
    pub speech: bool,
    /// `chunks` and `delayms`.
    pub delay: bool,
    /// How many items `input` has.
    pub inputs: bool,
}

impl Wanted {
    pub const ALL: Self = Self {
        model: true,
        stream: true,
        max_tokens: true,
        max_completion_tokens: true,
        n: true,
        shape: true,
        sound: true,
        speech: true,
        delay: true,
        inputs: false,
    };
}

/// What was found. A `null` is as good as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Absent where it is [`AUTO`].
    pub model: Option<String>,
    /// Where either stands in the text, quotes included.
    pub model_at: Option<Range<usize>>,
    pub stream: Option<bool>,
    pub max_tokens: Option<u64>,
    pub max_completion_tokens: Option<u64>,
    /// Answers to one request, at most [`ANSWERS_MAX`].
    pub n: Option<u64>,
    /// Dimensions, at most [`DIMENSIONS_MAX`].
    pub shape: Option<Vec<u64>>,
    /// Where a sound stands in the text, quotes included.
    pub audio: Option<Range<usize>>,
    /// What kind of sound the client says it is.
    pub format: Option<String>,
    /// Where the text to be spoken stands, quotes included, and the speed.
    pub input: Option<Range<usize>>,
    pub speed: Option<Range<usize>>,
    pub chunks: Option<u64>,
    pub delay_ms: Option<u64>,
    /// Texts in `input`, each of which may be a list of tokens.
    pub inputs: Option<u64>,
}

pub const DIMENSIONS_MAX: usize = 8;
/// As OpenAI's.
pub const ANSWERS_MAX: u64 = 128;
const MODEL_BYTES_MAX: usize = 256;
/// A model's name that means the realm's default. No model that is called so can be asked for.
pub const AUTO: &str = "auto";

/// Reads `text` (see [`json::text`]), whatever JSON it is: what is not an object has no fields.
pub fn scan(text: &str, wanted: Wanted) -> Result<Scan, ApiError> {
    let mut fault = None;
    let seed = Top { text, wanted, scan: Scan::default(), fault: &mut fault };
    json::read(text, seed).map_err(|error| fault.unwrap_or_else(|| json::fault(&error)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Model,
    Stream,
    MaxTokens,
    MaxCompletionTokens,
    Answers,
    Shape,
    Audio,
    Format,
    Input,
    Inputs,
    Speed,
    Chunks,
    Delay,
    Other,
}

impl Field {
    fn of(name: &str, wanted: Wanted) -> Self {
        match name {
            "model" if wanted.model => Self::Model,
            "stream" if wanted.stream => Self::Stream,
            "max_tokens" if wanted.max_tokens => Self::MaxTokens,
            "max_completion_tokens" if wanted.max_completion_tokens => Self::MaxCompletionTokens,
            "n" if wanted.n => Self::Answers,
            "shape" if wanted.shape => Self::Shape,
            "audio" if wanted.sound => Self::Audio,
            "format" if wanted.sound => Self::Format,
            "input" if wanted.speech => Self::Input,
            "input" if wanted.inputs => Self::Inputs,
            "speed" if wanted.speech => Self::Speed,
            "chunks" if wanted.delay => Self::Chunks,
            "delayms" if wanted.delay => Self::Delay,
            _ => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::Answers => "n",
            Self::Shape => "shape",
            Self::Audio => "audio",
            Self::Format => "format",
            Self::Input | Self::Inputs => "input",
            Self::Speed => "speed",
            Self::Chunks => "chunks",
            Self::Delay => "delayms",
            Self::Other => "",
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Model => "a model's name of 1 to 256 bytes",
            Self::Stream => "true or false",
            Self::MaxTokens | Self::MaxCompletionTokens => "a whole number, at least 1",
            Self::Answers => "a whole number from 1 to 128",
            Self::Shape => "a list of 1 to 8 whole numbers, each at least 1",
            Self::Audio => "a sound in base64",
            Self::Format => "the name of a kind of sound",
            Self::Input => speech::INPUT,
            Self::Inputs => "a text, or a list with at least one in it",
            Self::Speed => speech::SPEED,
            Self::Chunks | Self::Delay => "a whole number",
            Self::Other => "",
        }
    }

    fn bit(self) -> u16 {
        match self {
            Self::Model => 1,
            Self::Stream => 2,
            Self::MaxTokens => 4,
            Self::MaxCompletionTokens => 8,
            Self::Shape => 16,
            Self::Answers => 32,
            Self::Audio => 64,
            Self::Format => 128,
            Self::Input => 256,
            Self::Speed => 512,
            Self::Chunks => 1024,
            Self::Delay => 2048,
            Self::Inputs => 4096,
            Self::Other => 0,
        }
    }
}

/// The whole document.
struct Top<'f> {
    text: &'f str,
    wanted: Wanted,
    scan: Scan,
    fault: &'f mut Option<ApiError>,
}

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = Scan;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scan, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = Scan;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Scan, A::Error> {
        let mut seen = 0_u16;
        while let Some(field) = map.next_key_seed(Key(self.wanted))? {
            if field == Field::Other {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if seen & field.bit() != 0 {
                *self.fault = Some(ApiError::invalid_field(field.name(), "the field only once"));
                return Err(de::Error::custom("duplicate"));
            }
            seen |= field.bit();
            self.take(field, &mut map)?;
        }
        Ok(self.scan)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scan, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.scan)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scan, E> {
        Ok(self.scan)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Scan, E> {
        Ok(self.scan)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Scan, E> {
        Ok(self.scan)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scan, E> {
        Ok(self.scan)
    }

    fn visit_str<E>(self, _: &str) -> Result<Scan, E> {
        Ok(self.scan)
    }

    fn visit_unit<E>(self) -> Result<Scan, E> {
        Ok(self.scan)
    }
}

impl Top<'_> {
    /// Where a part of the text stands in it: both point into the same.
    fn place(&self, raw: &str) -> Range<usize> {
        let at = raw.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        at..at.saturating_add(raw.len())
    }

    fn take<'de, A: MapAccess<'de>>(&mut self, field: Field, map: &mut A) -> Result<(), A::Error> {
        let value = match field {
            Field::Model => {
                let raw = map.next_value::<&'de RawValue>()?.get();
                let value = json::read(raw, Value).map_err(de::Error::custom)?;
                if let Found::Text(Some(model)) = &value {
                    self.scan.model_at = Some(self.place(raw));
                    if model == AUTO {
                        return Ok(());
                    }
                }
                value
            }
            // Megabytes, which are read where they stand.
            Field::Audio => {
                let raw = map.next_value::<&'de RawValue>()?.get();
                self.scan.audio = raw.starts_with('"').then(|| self.place(raw));
                if raw == "null" { Found::Null } else { Found::Other }
            }
            Field::Input | Field::Speed => {
                let raw = map.next_value::<&'de RawValue>()?.get();
                let place = Some(self.place(raw)).filter(|_| raw != "null");
                let slot =
                    if field == Field::Input { &mut self.scan.input } else { &mut self.scan.speed };
                *slot = place;
                return Ok(());
            }
            Field::Inputs => {
                let raw = map.next_value::<&'de RawValue>()?.get();
                self.scan.inputs = inputs(raw).filter(|_| raw != "null");
                // The answer to nothing would be nothing, and that its worker's failure.
                if self.scan.inputs != Some(0) {
                    return Ok(());
                }
                Found::Other
            }
            Field::Stream
            | Field::MaxTokens
            | Field::MaxCompletionTokens
            | Field::Answers
            | Field::Shape
            | Field::Format
            | Field::Chunks
            | Field::Delay
            | Field::Other => map.next_value_seed(Value)?,
        };
        if self.scan.set(field, value) {
            return Ok(());
        }
        *self.fault = Some(ApiError::invalid_field(field.name(), field.expected()));
        Err(de::Error::custom("wrong value"))
    }
}

impl Scan {
    /// Keeps what was found in a field; false if it is not what is expected there.
    fn set(&mut self, field: Field, value: Found) -> bool {
        match (field, value) {
            (_, Found::Null) => true,
            (Field::Model, Found::Text(model)) => {
                self.model = model;
                self.model.is_some()
            }
            (Field::Stream, Found::Bool(stream)) => {
                self.stream = Some(stream);
                true
            }
            (Field::MaxTokens, Found::Number(number)) => {
                self.max_tokens = Some(number);
                number > 0
            }
            (Field::MaxCompletionTokens, Found::Number(number)) => {
                self.max_completion_tokens = Some(number);
                number > 0
            }
            (Field::Answers, Found::Number(number)) => {
                self.n = Some(number);
                (1..=ANSWERS_MAX).contains(&number)
            }
            (Field::Chunks, Found::Number(number)) => {
                self.chunks = Some(number);
                true
            }
            (Field::Delay, Found::Number(number)) => {
                self.delay_ms = Some(number);
                true
            }
            (Field::Shape, Found::Numbers(shape)) => {
                let good = !shape.is_empty() && !shape.contains(&0);
                self.shape = Some(shape);
                good
            }
            (Field::Audio, _) => self.audio.is_some(),
            (Field::Format, Found::Text(format)) => {
                self.format = format;
                self.format.is_some()
            }
            _ => false,
        }
    }
}

/// Items of an `input`: a text is one, and so is a list of numbers, which are tokens of one.
fn inputs(raw: &str) -> Option<u64> {
    let Some(list) = raw.strip_prefix('[') else { return Some(1) };
    if list.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return Some(1);
    }
    json::read(raw, Count).ok()
}

struct Count;

impl<'de> DeserializeSeed<'de> for Count {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Count {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let mut count = 0_u64;
        while items.next_element::<IgnoredAny>()?.is_some() {
            count = count.saturating_add(1);
        }
        Ok(count)
    }
}

/// A key, compared without being kept.
struct Key(Wanted);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Field, E> {
        Ok(Field::of(name, self.0))
    }
}

/// A value of one of the shapes that any wanted field may have.
enum Found {
    Null,
    Bool(bool),
    Number(u64),
    /// `None`: empty or too long for a name.
    Text(Option<String>),
    Numbers(Vec<u64>),
    Other,
}

struct Value;

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Found, E> {
        Ok(Found::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Found, E> {
        Ok(Found::Number(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Found, E> {
        let fits = (1..=MODEL_BYTES_MAX).contains(&text.len());
        Ok(Found::Text(fits.then(|| text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
        let mut numbers = Vec::new();
        let mut other = false;
        while let Some(item) = items.next_element_seed(Item)? {
            match item {
                Some(number) if numbers.len() < DIMENSIONS_MAX => numbers.push(number),
                _ => other = true,
            }
        }
        Ok(if other { Found::Other } else { Found::Numbers(numbers) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Found::Other)
    }
}

/// One dimension; `None` for anything else. Never recurses: what is nested is skipped.
struct Item;

impl<'de> DeserializeSeed<'de> for Item {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<u64>, D::Error> {
        Ok(match Value.deserialize(deserializer)? {
            Found::Number(number) => Some(number),
            Found::Null | Found::Bool(_) | Found::Text(_) | Found::Numbers(_) | Found::Other => {
                None
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use mtor_types::Code;
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &Result<Scan, (Code, &str)>) {
        let found = scan(text, Wanted::ALL);
        match (found, expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(Scan { model_at: None, ..found }, *expected, "{text}");
            }
            (Err(error), Err((code, part))) => {
                assert_eq!(error.code, *code, "{text}");
                assert!(error.message.contains(part), "{text}: {}", error.message);
            }
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn needed_fields_are_read_and_the_rest_is_skipped() {
        check(
            r#"{"messages":[{"model":"inner"}],"model":"m","stream":true,"max_tokens":7,"x":{}}"#,
            &Ok(Scan {
                model: Some("m".into()),
                stream: Some(true),
                max_tokens: Some(7),
                ..Scan::default()
            }),
        );
        check(
            r#"{"mod\u0065l":"caf\u00e9","shape":[2, 3],"stream":null}"#,
            &Ok(Scan { model: Some("café".into()), shape: Some(vec![2, 3]), ..Scan::default() }),
        );
        for any in ["7", "-7", "1.5", "null", "true", "\"x\"", "[1,[2]]", "{}"] {
            check(any, &Ok(Scan::default()));
        }
    }

    #[test]
    fn auto_is_no_model_and_its_place_is_told() {
        let place = |text: &str| {
            let found = scan(text, Wanted::ALL).unwrap();
            assert_eq!(found.model, None, "{text}");
            text[found.model_at.unwrap()].to_owned()
        };
        assert_eq!(place(r#"{"ü":"auto","model" : "auto" ,"stream":true}"#), r#""auto""#);
        assert_eq!(place(r#"{"model":"\u0061uto"}"#), r#""\u0061uto""#);
        check(r#"{"model":"auto "}"#, &Ok(Scan { model: Some("auto ".into()), ..Scan::default() }));
        check(r#"{"model":null}"#, &Ok(Scan::default()));
    }

    #[test]
    fn what_is_wrong_is_named_without_content() {
        let wrong = |field| Err((Code::InvalidField, field));
        check(r#"{"model":7}"#, &wrong("`model`"));
        check(r#"{"model":""}"#, &wrong("`model`"));
        check(r#"{"stream":"secret"}"#, &wrong("`stream`"));
        check(r#"{"max_tokens":0}"#, &wrong("`max_tokens`"));
        check(r#"{"max_tokens":-1}"#, &wrong("`max_tokens`"));
        check(r#"{"max_completion_tokens":1.5}"#, &wrong("`max_completion_tokens`"));
        check(r#"{"n":0}"#, &wrong("`n`"));
        check(r#"{"n":129}"#, &wrong("`n`"));
        check(r#"{"shape":[]}"#, &wrong("`shape`"));
        check(r#"{"shape":[1,1,1,1,1,1,1,1,1]}"#, &wrong("`shape`"));
        check(r#"{"shape":[[4]]}"#, &wrong("`shape`"));
        check(r#"{"shape":[4,0]}"#, &wrong("`shape`"));
        check(r#"{"model":"a","model":"b"}"#, &wrong("only once"));
        check("{\"a\":\n 1,}", &Err((Code::MalformedJson, "line 2")));
        check("{}{}", &Err((Code::MalformedJson, "line 1, column 3")));
        check("", &Err((Code::MalformedJson, "is empty")));
    }

    #[test]
    fn a_field_that_no_manifest_declares_is_the_clients_own() {
        let text = r#"{"model":7,"stream":"river","shape":{}}"#;
        assert_eq!(scan(text, Wanted::default()), Ok(Scan::default()));
    }

    proptest! {
        #[test]
        fn arbitrary_text_gives_an_answer_or_a_code(text in "\\PC{0,64}") {
            if let Err(error) = scan(&text, Wanted::ALL) {
                prop_assert!(matches!(error.code, Code::MalformedJson | Code::InvalidField));
            }
        }

        /// Text near JSON reaches more of the parser than arbitrary text does.
        #[test]
        fn text_near_json_gives_an_answer_or_a_code(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"model\"", "\"shape\"", "\"stream\"",
                    "\"max_tokens\"", "1", "-1", "1e999", "null", "true", "\"\\u0000\"", " ",
                ]),
                0..24,
            ),
        ) {
            let text = parts.concat();
            match scan(&text, Wanted::ALL) {
                Ok(_) => prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok()),
                Err(error) => {
                    prop_assert!(matches!(error.code, Code::MalformedJson | Code::InvalidField));
                }
            }
        }
    }
}
