//! The bodies of `POST /v1/intents` and `POST /v1/intents/batch`: the short form, the full
//! CloudEvents form, and a list of either. `specversion` tells the two apart.
//!
//! The short form is MTOR's own document, so an unknown field is refused by name. CloudEvents
//! lets anybody add extension attributes, so in the full form what has a valid extension's name is
//! accepted and given no meaning; anything else is refused. `data` stays a slice of the body.

use std::fmt;

use bytes::Bytes;
use mtor_types::event::SPEC_VERSION;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json;
use super::options::{Field, ID_BYTES_MAX, Options, SOURCE_BYTES_MAX, is_id};
use crate::api_error::ApiError;
use crate::manifests::is_name;

/// One intent as a client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The manifest's name, as asked for.
    pub name: String,
    /// A slice of the body.
    pub data: Bytes,
    pub options: Options,
}

/// Intents of one batch.
pub const BATCH_MAX: usize = 256;
/// An attribute's text as JSON, escapes included.
const ATTRIBUTE_BYTES_MAX: usize = 8 * SOURCE_BYTES_MAX;
/// As CloudEvents and DESIGN have it: lower-case letters and digits.
const EXTENSION_BYTES_MAX: usize = 20;

/// Attributes with a meaning, in both forms.
const NAMES: [&str; 18] = [
    "specversion",
    "id",
    "source",
    "type",
    "data",
    "time",
    "datacontenttype",
    "dataschema",
    "subject",
    "ceiling",
    "deadlinems",
    "trust",
    "class",
    "durable",
    "restart",
    "intent",
    "deadline_ms",
    "stream",
];
const SPECVERSION: usize = 0;
const ID: usize = 1;
const SOURCE: usize = 2;
const TYPE: usize = 3;
const DATA: usize = 4;
const DATACONTENTTYPE: usize = 6;
const CEILING: usize = 9;
const DEADLINEMS: usize = 10;
const TRUST: usize = 11;
const CLASS: usize = 12;
const DURABLE: usize = 13;
const RESTART: usize = 14;
const INTENT: usize = 15;
const DEADLINE_MS: usize = 16;
const STREAM: usize = 17;

const SHORT: [usize; 10] =
    [INTENT, DATA, ID, CEILING, DEADLINE_MS, TRUST, CLASS, DURABLE, RESTART, STREAM];

/// Reads one document of at most `bytes_max` bytes.
pub fn parse(body: &Bytes, bytes_max: u64) -> Result<Document, ApiError> {
    parse_text(body, json::text(body, bytes_max)?)
}

/// Reads a list of 1 to [`BATCH_MAX`] documents. The outer error is of the list; each document
/// has its own, so that one that is wrong does not spoil the others.
pub fn parse_batch(
    body: &Bytes,
    bytes_max: u64,
) -> Result<Vec<Result<Document, ApiError>>, ApiError> {
    let text = json::text(body, bytes_max)?;
    let mut fault = None;
    let items = json::read(text, Batch { fault: &mut fault })
        .map_err(|error| fault.unwrap_or_else(|| json::fault(&error)))?;
    Ok(items.into_iter().map(|item| parse_text(body, item.get())).collect())
}

fn parse_text(body: &Bytes, text: &str) -> Result<Document, ApiError> {
    let mut fault = None;
    let raw = json::read(text, Fields { fault: &mut fault })
        .map_err(|error| fault.unwrap_or_else(|| json::fault(&error)))?;
    let (name, source) = if raw.has(SPECVERSION) { raw.full()? } else { (raw.short()?, None) };
    let data = raw.found[DATA].ok_or_else(|| ApiError::missing_field("data", "any JSON"))?;
    let mut options = Options::default();
    for (index, field) in [
        (CEILING, Field::Ceiling),
        (DEADLINEMS, Field::Deadline),
        (DEADLINE_MS, Field::Deadline),
        (TRUST, Field::Trust),
        (CLASS, Field::Class),
        (DURABLE, Field::Durable),
        (RESTART, Field::Restart),
        (STREAM, Field::Stream),
        (ID, Field::Key),
    ] {
        let Some(raw) = raw.found[index] else { continue };
        let text = scalar(raw);
        let set = text.as_ref().and_then(|text| options.set(field, text));
        set.ok_or_else(|| {
            let expected = field.expected(text.as_deref().unwrap_or_default());
            ApiError::invalid_field(NAMES[index], expected)
        })?;
    }
    if let (Some(key), Some(source)) = (&mut options.key, source) {
        key.source = source;
    }
    Ok(Document { name, data: part_of(body, data.get().as_bytes()), options })
}

/// Those bytes of a body, which is not kept as a whole for a small part of it: what is kept of open work
/// is counted by its data.
fn part_of(body: &Bytes, data: &[u8]) -> Bytes {
    const BESIDE_BYTES: usize = 4 * 1024;
    if data.len().saturating_mul(2).saturating_add(BESIDE_BYTES) < body.len() {
        Bytes::copy_from_slice(data)
    } else {
        body.slice_ref(data)
    }
}

/// Every known attribute's raw value, and the first name that is unknown.
#[derive(Default)]
struct Raw<'a> {
    found: [Option<&'a RawValue>; NAMES.len()],
    /// The first name that is not even a valid extension's.
    stranger: Option<String>,
    /// The first valid extension's name without a meaning here.
    extension: Option<String>,
}

impl Raw<'_> {
    fn has(&self, index: usize) -> bool {
        self.found[index].is_some()
    }

    /// The short form's intent name.
    fn short(&self) -> Result<String, ApiError> {
        let known = "`intent`, `data`, `id`, `ceiling`, `deadline_ms`, `trust`, `class`, \
                     `durable`, `restart`, `stream`";
        let other = (0..NAMES.len()).find(|index| self.has(*index) && !SHORT.contains(index));
        let unknown = other.map(|index| NAMES[index]);
        let unknown = unknown.or(self.stranger.as_deref()).or(self.extension.as_deref());
        if let Some(unknown) = unknown {
            return Err(ApiError::unknown_field(unknown, known));
        }
        let expected = "the name of an intent such as \"chat\"";
        let raw = self.found[INTENT].ok_or_else(|| ApiError::missing_field("intent", expected))?;
        let name = text(raw).filter(|name| is_name(name));
        name.ok_or_else(|| ApiError::invalid_field("intent", expected))
    }

    /// The full form's intent name and source.
    fn full(&self) -> Result<(String, Option<String>), ApiError> {
        let unknown = self.stranger.as_deref();
        let unknown = unknown.or(self.has(DEADLINE_MS).then_some("deadline_ms"));
        if let Some(unknown) = unknown {
            let known = "the attributes of CloudEvents 1.0, `ceiling`, `deadlinems`, `trust`, \
                         `class`, `durable`, `restart`, `stream`, and extensions named in up to 20 \
                         lower-case letters and digits";
            return Err(ApiError::unknown_field(unknown, known));
        }
        let required = |index: usize, expected: &str, good: &dyn Fn(&str) -> bool| {
            let name = NAMES[index];
            let raw = self.found[index].ok_or_else(|| ApiError::missing_field(name, expected))?;
            let text = text(raw).filter(|text| good(text));
            text.ok_or_else(|| ApiError::invalid_field(name, expected))
        };
        required(SPECVERSION, "\"1.0\"", &|text| text == SPEC_VERSION)?;
        required(ID, "1 to 128 bytes without control characters", &is_id)?;
        let source = required(SOURCE, "a URI reference of 1 to 512 bytes", &|text| {
            (1..=SOURCE_BYTES_MAX).contains(&text.len())
        })?;
        let kind = required(TYPE, "\"mtor.intent.<name>.v1\"", &|text| intent_of(text).is_some())?;
        if let Some(raw) = self.found[DATACONTENTTYPE] {
            let json = text(raw).is_some_and(|kind| is_json(&kind));
            if !json {
                return Err(ApiError::invalid_field("datacontenttype", "\"application/json\""));
            }
        }
        Ok((intent_of(&kind).unwrap_or_default().to_owned(), Some(source)))
    }
}

/// The intent that an event's type asks for, as in `mtor.intent.chat.v1`.
pub fn intent_of(kind: &str) -> Option<&str> {
    kind.strip_prefix("mtor.intent.")?.strip_suffix(".v1").filter(|name| is_name(name))
}

fn is_json(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json")
}

/// A bounded JSON string.
fn text(raw: &RawValue) -> Option<String> {
    let raw = raw.get();
    if raw.len() > ATTRIBUTE_BYTES_MAX { None } else { serde_json::from_str(raw).ok() }
}

/// A string, or a number or a truth value as it stands: CloudEvents' JSON mapping has both.
fn scalar(raw: &RawValue) -> Option<String> {
    let bytes = raw.get().as_bytes();
    match bytes.first()? {
        b'"' => text(raw),
        b'{' | b'[' | b'n' => None,
        _ if bytes.len() <= ID_BYTES_MAX => Some(raw.get().to_owned()),
        _ => None,
    }
}

struct Fields<'f> {
    fault: &'f mut Option<ApiError>,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Raw<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw<'de>, D::Error> {
        // If it is no object the parser fails without calling the visitor.
        *self.fault = None;
        deserializer.deserialize_any(self)
    }
}

macro_rules! refuse_scalars {
    ($value:ty, $expected:literal) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str($expected)
        }

        fn visit_bool<E: de::Error>(self, _: bool) -> Result<$value, E> {
            refuse(self.fault, $expected)
        }

        fn visit_i64<E: de::Error>(self, _: i64) -> Result<$value, E> {
            refuse(self.fault, $expected)
        }

        fn visit_u64<E: de::Error>(self, _: u64) -> Result<$value, E> {
            refuse(self.fault, $expected)
        }

        fn visit_f64<E: de::Error>(self, _: f64) -> Result<$value, E> {
            refuse(self.fault, $expected)
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<$value, E> {
            refuse(self.fault, $expected)
        }

        fn visit_unit<E: de::Error>(self) -> Result<$value, E> {
            refuse(self.fault, $expected)
        }
    };
}

fn refuse<T, E: de::Error>(fault: &mut Option<ApiError>, expected: &str) -> Result<T, E> {
    *fault = Some(ApiError::invalid_field("/", expected));
    Err(E::custom("refused"))
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Raw<'de>;

    refuse_scalars!(Raw<'de>, "an object");

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Raw<'de>, A::Error> {
        refuse(self.fault, "an object; POST a list to /v1/intents/batch")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
        let mut raw = Raw::default();
        while let Some(key) = map.next_key_seed(Key)? {
            match key {
                Name::Known(index) => {
                    let value = map.next_value::<&'de RawValue>()?;
                    let place = raw.found.get_mut(index);
                    if place.is_some_and(|place| place.replace(value).is_some()) {
                        let name = NAMES.get(index).copied().unwrap_or_default();
                        *self.fault = Some(ApiError::invalid_field(name, "the field only once"));
                        return Err(de::Error::custom("duplicate"));
                    }
                }
                Name::Extension(name) => {
                    raw.extension.get_or_insert(name);
                    map.next_value::<IgnoredAny>()?;
                }
                Name::Stranger(name) => {
                    raw.stranger.get_or_insert(name);
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(raw)
    }
}

enum Name {
    Known(usize),
    Extension(String),
    Stranger(String),
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        if let Some(index) = NAMES.iter().position(|known| *known == name) {
            return Ok(Name::Known(index));
        }
        let valid = (1..=EXTENSION_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        Ok(if valid {
            Name::Extension(name.to_owned())
        } else {
            // Only shown, and shown short.
            Name::Stranger(name.chars().take(80).collect())
        })
    }
}

struct Batch<'f> {
    fault: &'f mut Option<ApiError>,
}

impl<'de> DeserializeSeed<'de> for Batch<'_> {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Batch<'_> {
    type Value = Vec<&'de RawValue>;

    refuse_scalars!(Vec<&'de RawValue>, "a list of intents");

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        refuse(self.fault, "a list of intents; POST a single one to /v1/intents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
            if all.len() > BATCH_MAX {
                return refuse(self.fault, "a list of 1 to 256 intents");
            }
        }
        if all.is_empty() { refuse(self.fault, "a list of 1 to 256 intents") } else { Ok(all) }
    }
}

#[cfg(test)]
mod tests;
