//! Why a realm did not do what it was asked.

use mtor_types::{Code, IntentId};

type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("realm address {address:?}: expected http://host:port or https://host")]
    Address { address: String, remedy: String },
    #[error("the key: expected the text that the realm gave, in one line")]
    Key,
    /// No connection could be opened: nothing was sent.
    #[error("no connection to {address}")]
    Unreachable { address: String, source: Source },
    /// The connection broke; whether the realm took the request is not known.
    #[error("the connection to {address} broke")]
    Broken { address: String, source: Source },
    #[error("no answer from {address} within {wait_ms} ms")]
    Silent { address: String, wait_ms: u64 },
    /// The realm said no, in its own words. `code` is `MT` and four digits, or `HTTP` and the
    /// status where something else than a realm answered.
    #[error("{message}")]
    Refused { code: String, message: String, retry_after_ms: Option<u64>, status: u16 },
    /// An answer that is not what this version knows.
    #[error("{address} sent something else than {expected}")]
    Unreadable { address: String, expected: &'static str, source: Option<Source> },
    #[error("{address} sent more than {bytes_max} bytes")]
    TooLarge { address: String, bytes_max: usize },
    /// A followed intent was lost: `intent` is its id, if the realm has named it.
    #[error("the events of the intent were lost: {tries} connections in a row brought nothing")]
    StreamLost { tries: u32, intent: Option<IntentId>, source: Option<Box<ClientError>> },
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
    #[error("the system gave no randomness: {0}")]
    Randomness(getrandom::Error),
}

/// A wait in the unit that people would use.
fn time(ms: u64) -> String {
    let seconds = ms.div_ceil(1_000);
    match seconds {
        0..=1 => format!("{ms} ms"),
        2..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3_600)),
    }
}

impl ClientError {
    /// The realm's code, if it refused with one that this version knows.
    pub fn code(&self) -> Option<Code> {
        let Self::Refused { code, .. } = self else { return None };
        Code::ALL.iter().copied().find(|known| known.text() == code)
    }

    /// What a person can do about it.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Address { remedy, .. } => Some(remedy.clone()),
            Self::Unreachable { .. } | Self::Silent { .. } => {
                Some("check the address, and that a realm runs there: `mtor up` starts one".into())
            }
            Self::Refused { code, .. } if code == Code::NotProven.text() => Some(
                "say --trust any to be served by anybody's worker, or name a model with its owner: \
                 `mtor pools` lists whose they are"
                    .into(),
            ),
            Self::Refused { retry_after_ms: Some(wait_ms), .. } => {
                Some(format!("try again in {}", time(*wait_ms)))
            }
            Self::Refused { status, code, .. } if code.starts_with("HTTP") => {
                Some(format!("check the address: what answered with status {status} is no realm"))
            }
            Self::Unreadable { .. } => {
                Some("check the address, and that realm and client have the same version".into())
            }
            Self::StreamLost { intent: Some(intent), .. } => Some(format!(
                "`mtor intents show {intent}` or GET /v1/intents/{intent} tells what became of it; \
                 what was not durable is void, and free, if the realm restarted meanwhile"
            )),
            Self::StreamLost { intent: None, .. } => {
                Some("ask again with the same idempotency key, or anew if there was none".into())
            }
            Self::Broken { .. } => Some("try again".into()),
            Self::Key
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Tls(_)
            | Self::Randomness(_) => None,
        }
    }

    /// Whether another connection may do better while an intent is followed.
    pub(crate) fn may_reconnect(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Silent { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            Self::Address { .. }
            | Self::Key
            | Self::Unreadable { .. }
            | Self::TooLarge { .. }
            | Self::StreamLost { .. }
            | Self::Tls(_)
            | Self::Randomness(_) => false,
        }
    }
}
