//! Typed ids. Each has one text form (used in JSON, paths and logs) and one byte form (used in
//! facts); serde picks by whether the format is human readable.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Text that is not an id of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind}: expected {expected}")]
pub struct ParseIdError {
    kind: &'static str,
    expected: &'static str,
}

/// A 32-byte id whose text form is base58.
macro_rules! base58_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&bs58::encode(&self.0).into_string())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let wrong = ParseIdError { kind: $kind, expected: "32 bytes in base58" };
                // 32 bytes never need more than 44 base58 digits; longer text is not decoded.
                if text.len() > 44 {
                    return Err(wrong);
                }
                let mut bytes = [0; 32];
                match bs58::decode(text).onto(&mut bytes) {
                    Ok(32) => Ok(Self(bytes)),
                    _ => Err(wrong),
                }
            }
        }

        text_or_bytes!($name, 32);
    };
}

/// An id whose text form is lower-case hexadecimal.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // In one piece: formatting digit by digit took two hundredths of a request.
                let mut text = [0; 2 * $bytes];
                for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
                    pair.copy_from_slice(&hex_digits(byte));
                }
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let wrong =
                    ParseIdError { kind: $kind, expected: concat!($bytes, " bytes in lower-case hex") };
                let digits = text.as_bytes();
                if digits.len() != 2 * $bytes {
                    return Err(wrong);
                }
                let mut bytes = [0; $bytes];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    *byte = match (hex_digit(pair.first()), hex_digit(pair.last())) {
                        (Some(high), Some(low)) => (high << 4) | low,
                        _ => return Err(wrong),
                    };
                }
                Ok(Self(bytes))
            }
        }

        text_or_bytes!($name, $bytes);
    };
}

/// Debug as the text form, serde as text for people and as bytes for the log.
macro_rules! text_or_bytes {
    ($name:ident, $bytes:literal) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                    text.parse().map_err(de::Error::custom)
                } else {
                    <[u8; $bytes]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

fn hex_digits(byte: u8) -> [u8; 2] {
    let digit = |value: u8| match value {
        0..=9 => b'0'.saturating_add(value),
        _ => b'a'.saturating_add(value.saturating_sub(10)),
    };
    [digit(byte >> 4), digit(byte & 0xf)]
}

fn hex_digit(digit: Option<&u8>) -> Option<u8> {
    match digit? {
        digit @ b'0'..=b'9' => digit.checked_sub(b'0'),
        digit @ b'a'..=b'f' => digit.checked_sub(b'a')?.checked_add(10),
        _ => None,
    }
}

base58_id!(
    /// An account: its first Ed25519 public key. Later keys are added; the id never changes.
    AccountId, "account id");
base58_id!(
    /// A worker: the Ed25519 public key that it proves at every session.
    WorkerId, "worker id");
base58_id!(
    /// A realm: SHA-256 of its offline Ed25519 root key.
    RealmId, "realm id");
hex_id!(
    /// SHA-256 of an API key or of an enrolment token; the secret itself is never kept.
    KeyHash, 32, "key hash");
hex_id!(
    /// Any other SHA-256: of a request body, an idempotency key, a state.
    Digest, 32, "digest");
hex_id!(
    /// A transfer's own id. A hold's transfer bears its intent's id; what resolves it names both.
    TransferId, 16, "transfer id");

/// One intent, for ever: a UUIDv7 minted by the edge that took it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(pub [u8; 16]);

impl fmt::Display for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl FromStr for IntentId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let wrong = ParseIdError { kind: "intent id", expected: "a hyphenated lower-case UUID" };
        // One text form only: an id that compares unequal as text must not compare equal as bytes.
        if text.len() != 36 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(wrong);
        }
        uuid::Uuid::try_parse(text).map(|uuid| Self(*uuid.as_bytes())).map_err(|_| wrong)
    }
}

text_or_bytes!(IntentId, 16);

macro_rules! counter_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter_id!(
    /// One try of an intent on one worker: (boot epoch, counter), so it never repeats.
    Attempt);
counter_id!(
    /// The monotone token of a lease: (boot epoch, counter), so an older lease is always smaller.
    Fence);
counter_id!(
    /// One connection of a worker, numbered by the edge that holds it: (boot epoch, counter).
    SessionId);

/// A node of a realm: a thread with services and a log. One process is one node by default.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct NodeId(pub u16);

/// How many values of one boot a (boot epoch, counter) number has room for: 2³². The epoch takes
/// the upper bits; a realm that boots once a second lasts 68 years at 2³¹ boots.
const COUNTER_BITS: u32 = 32;

/// The first number of a boot: every number of an earlier boot is smaller.
pub fn first_of_boot(epoch: u32) -> u64 {
    u64::from(epoch) << COUNTER_BITS
}

/// The boot that a number belongs to.
pub fn boot_of(number: u64) -> u32 {
    u32::try_from(number >> COUNTER_BITS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip() {
        let account = AccountId([7; 32]);
        assert_eq!(account.to_string().parse(), Ok(account));
        let hash = KeyHash([0xab; 32]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        let intent = IntentId([0x5a; 16]);
        assert_eq!(intent.to_string().parse(), Ok(intent));
        assert_eq!(intent.to_string(), "5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a");
    }

    #[test]
    fn wrong_text_is_refused_with_what_was_expected() {
        for text in ["", "0", &"1".repeat(45), "5A5A5A5A-5A5A-5A5A-5A5A-5A5A5A5A5A5A"] {
            assert!(text.parse::<AccountId>().is_err(), "{text}");
            assert!(text.parse::<KeyHash>().is_err(), "{text}");
            assert!(text.parse::<IntentId>().is_err(), "{text}");
        }
        let error = "x".parse::<AccountId>().expect_err("one digit is too short");
        assert_eq!(error.to_string(), "not a valid account id: expected 32 bytes in base58");
    }

    #[test]
    fn json_is_text_and_the_log_is_bytes() {
        let intent = IntentId([1; 16]);
        let json = serde_json::to_string(&intent).unwrap();
        assert_eq!(json, "\"01010101-0101-0101-0101-010101010101\"");
        assert_eq!(serde_json::from_str::<IntentId>(&json).unwrap(), intent);
        let bytes = postcard::to_stdvec(&intent).unwrap();
        assert_eq!(bytes, [1; 16]);
    }
}
