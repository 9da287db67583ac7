//! What a client asks for besides the work itself: ceiling, deadline, trust and so on, from the
//! fields of a document or from headers.

use http::HeaderMap;
use mtor_types::Amount;
use mtor_types::intent::{Class, Trust};

use crate::api_error::ApiError;

/// What binds a repetition to the first request: a client's own (source, id).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientKey {
    /// A CloudEvent's `source`; empty for a key that came as a header or in the short form.
    pub source: String,
    pub id: String,
}

/// A client's wishes; what is absent is up to the manifest and the route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub ceiling: Option<Amount>,
    pub deadline_ms: Option<u64>,
    pub trust: Option<Trust>,
    pub class: Option<Class>,
    pub durable: Option<bool>,
    pub restart: Option<bool>,
    /// Whether the answer comes in pieces.
    pub stream: Option<bool>,
    pub key: Option<ClientKey>,
}

pub(super) const ID_BYTES_MAX: usize = 128;
pub(super) const SOURCE_BYTES_MAX: usize = 512;

const CEILING: &str = "a decimal string of base units such as \"1500\"";
const DEADLINE: &str = "a whole number of milliseconds, at least 1";
const TRUST: &str = "\"own\", \"proven\" or \"any\"";
/// For who says the word of earlier releases.
const RENAMED: &str = "\"proven\": that is what `certified` is called now";
const CLASS: &str = "\"interactive\" or \"batch\"";
const FLAG: &str = "true or false";
const ID: &str = "1 to 128 bytes without control characters";

impl Options {
    /// From `mtor-ceiling`, `mtor-deadline-ms`, `mtor-trust`, `mtor-class`, `mtor-durable`,
    /// `mtor-restart`, `mtor-stream` and `idempotency-key`. Each may stand once.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut options = Self::default();
        for (header, field) in [
            ("mtor-ceiling", Field::Ceiling),
            ("mtor-deadline-ms", Field::Deadline),
            ("mtor-trust", Field::Trust),
            ("mtor-class", Field::Class),
            ("mtor-durable", Field::Durable),
            ("mtor-restart", Field::Restart),
            ("mtor-stream", Field::Stream),
            ("idempotency-key", Field::Key),
        ] {
            let mut values = headers.get_all(header).iter();
            let Some(value) = values.next() else { continue };
            let wrong = |text| ApiError::invalid_header(header, field.expected(text));
            if values.next().is_some() {
                return Err(ApiError::invalid_header(header, "the header only once"));
            }
            let text = value.to_str().map_err(|_| wrong(""))?;
            options.set(field, text).ok_or_else(|| wrong(text))?;
        }
        Ok(options)
    }

    /// These wishes, and `other`'s where these are silent.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            ceiling: self.ceiling.or(other.ceiling),
            deadline_ms: self.deadline_ms.or(other.deadline_ms),
            trust: self.trust.or(other.trust),
            class: self.class.or(other.class),
            durable: self.durable.or(other.durable),
            restart: self.restart.or(other.restart),
            stream: self.stream.or(other.stream),
            key: self.key.or(other.key),
        }
    }

    /// One wish from its text; `None` if it is not what [`Field::expected`] says.
    pub(super) fn set(&mut self, field: Field, text: &str) -> Option<()> {
        match field {
            Field::Ceiling => self.ceiling = Some(text.parse().ok()?),
            Field::Deadline => self.deadline_ms = Some(text.parse().ok().filter(|ms| *ms > 0)?),
            Field::Trust => {
                self.trust = Some(match text {
                    "own" => Trust::Own,
                    "proven" => Trust::Proven,
                    "any" => Trust::Any,
                    _ => return None,
                });
            }
            Field::Class => {
                self.class = Some(match text {
                    "interactive" => Class::Interactive,
                    "batch" => Class::Batch,
                    _ => return None,
                });
            }
            Field::Durable => self.durable = Some(flag(text)?),
            Field::Restart => self.restart = Some(flag(text)?),
            Field::Stream => self.stream = Some(flag(text)?),
            Field::Key => {
                let id = text.to_owned();
                self.key = is_id(text).then(|| ClientKey { source: String::new(), id });
                self.key.as_ref()?;
            }
        }
        Some(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Ceiling,
    Deadline,
    Trust,
    Class,
    Durable,
    Restart,
    Stream,
    Key,
}

impl Field {
    /// What stands in place of `text`, which was not taken.
    pub(super) fn expected(self, text: &str) -> &'static str {
        match self {
            Self::Trust if text == "certified" => RENAMED,
            Self::Ceiling => CEILING,
            Self::Deadline => DEADLINE,
            Self::Trust => TRUST,
            Self::Class => CLASS,
            Self::Durable | Self::Restart | Self::Stream => FLAG,
            Self::Key => ID,
        }
    }
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

pub(super) fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use mtor_types::Code;
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn headers_carry_every_wish() {
        let found = Options::from_headers(&headers(&[
            ("mtor-ceiling", "1500"),
            ("mtor-deadline-ms", "2000"),
            ("mtor-trust", "own"),
            ("mtor-class", "batch"),
            ("mtor-durable", "true"),
            ("mtor-restart", "false"),
            ("mtor-stream", "true"),
            ("idempotency-key", "a b"),
            ("authorization", "Bearer x"),
        ]));
        let expected = Options {
            ceiling: Some(Amount::from_u64(1500)),
            deadline_ms: Some(2_000),
            trust: Some(Trust::Own),
            class: Some(Class::Batch),
            durable: Some(true),
            restart: Some(false),
            stream: Some(true),
            key: Some(ClientKey { source: String::new(), id: "a b".into() }),
        };
        assert_eq!(found, Ok(expected));
        assert_eq!(Options::from_headers(&HeaderMap::new()), Ok(Options::default()));
    }

    #[test]
    fn a_wrong_header_is_named_without_its_value() {
        for (name, value) in [
            ("mtor-ceiling", "-777"),
            ("mtor-ceiling", "777.5"),
            ("mtor-deadline-ms", "0"),
            ("mtor-trust", "Own777"),
            ("mtor-class", ""),
            ("mtor-durable", "777"),
            ("idempotency-key", &"777".repeat(60)),
        ] {
            let error = Options::from_headers(&headers(&[(name, value)])).expect_err(name);
            assert_eq!(error.code, Code::InvalidField);
            assert_eq!(error.field.as_deref(), Some(name));
            assert!(!error.message.contains("777"), "{}", error.message);
        }
        let twice = headers(&[("mtor-ceiling", "1"), ("mtor-ceiling", "2")]);
        assert!(Options::from_headers(&twice).expect_err("twice").message.contains("only once"));
    }

    proptest! {
        #[test]
        fn arbitrary_header_bytes_give_an_answer_or_a_code(
            name in prop::sample::select(vec![
                "mtor-ceiling", "mtor-deadline-ms", "mtor-trust", "idempotency-key",
            ]),
            value: Vec<u8>,
        ) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let mut map = HeaderMap::new();
                map.insert(name, value);
                if let Err(error) = Options::from_headers(&map) {
                    prop_assert_eq!(error.code, Code::InvalidField);
                }
            }
        }
    }
}
