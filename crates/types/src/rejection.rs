//! Why something was refused: one stable code each, and the closed set of rejections that the
//! core itself can give. Each code has a page in `docs/errors/`. Numbers never move.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::amount::{Amount, Price};
use crate::fact::Asset;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $text:literal, $status:literal, $name:literal;)*) => {
        /// A stable error code. Order is precedence: of several reasons the smallest is told.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Code { $($(#[$doc])* $variant = $number,)* }

        impl Code {
            /// Every code there is, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as clients see it, `MT` and four digits.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The error's `type`: its name in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The HTTP status an edge answers with.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }
        }
    };
}

codes! {
    /// The body is not JSON.
    MalformedJson = 1, "MT0001", 400, "malformed_json";
    /// A field is missing, of the wrong type or out of its range.
    InvalidField = 2, "MT0002", 400, "invalid_field";
    /// One of MTOR's own documents has a field that it does not know.
    UnknownField = 3, "MT0003", 400, "unknown_field";
    /// The body, a header or a frame is larger than its bound.
    TooLarge = 4, "MT0004", 413, "too_large";
    /// JSON nested deeper than its bound.
    TooDeep = 5, "MT0005", 400, "too_deep";
    /// No manifest of that name.
    UnknownIntent = 6, "MT0006", 404, "unknown_intent";
    /// No worker offers that model.
    UnknownModel = 7, "MT0007", 404, "unknown_model";
    /// No key, or one that is unknown or revoked.
    Unauthenticated = 8, "MT0008", 401, "unauthenticated";
    /// The key is good, but this actor may not do that.
    Forbidden = 9, "MT0009", 403, "forbidden";
    /// Nothing there, or nothing that this actor may see.
    NotFound = 10, "MT0010", 404, "not_found";
    /// The idempotency key is bound to another body.
    Conflict = 11, "MT0011", 409, "conflict";
    /// The account or the worker is banned.
    Banned = 12, "MT0012", 403, "banned";
    /// The ceiling cannot pay for the work.
    CeilingTooLow = 13, "MT0013", 402, "ceiling_too_low";
    /// The account cannot cover the hold.
    BalanceTooLow = 14, "MT0014", 402, "balance_too_low";
    /// The queue of the flow or of the pool is full.
    QueueFull = 15, "MT0015", 429, "queue_full";
    /// The wait would outlast the deadline.
    DeadlineHopeless = 16, "MT0016", 503, "deadline_hopeless";
    /// No worker offers what the intent demands.
    NoWorker = 17, "MT0017", 503, "no_worker";
    /// Today's grants are given out.
    GrantsExhausted = 18, "MT0018", 429, "grants_exhausted";
    /// This network has had its guest accounts for now.
    NetworkLimit = 19, "MT0019", 429, "network_limit";
    /// Another bound of this realm is reached.
    LimitReached = 20, "MT0020", 429, "limit_reached";
    /// The enrolment token is unknown, used or expired.
    TokenInvalid = 21, "MT0021", 401, "token_invalid";
    /// The store cannot take more: disk full or failing.
    StoreUnavailable = 22, "MT0022", 503, "store_unavailable";
    /// Too much is waiting for the store or for the node.
    Overloaded = 23, "MT0023", 503, "overloaded";
    /// The realm is shutting down.
    Stopping = 24, "MT0024", 503, "stopping";
    /// Workers failed the intent too often.
    WorkerFailed = 25, "MT0025", 502, "worker_failed";
    /// The realm restarted while an ephemeral intent was open.
    RealmRestarted = 26, "MT0026", 503, "realm_restarted";
    /// The intent's deadline has passed.
    Expired = 27, "MT0027", 504, "expired";
    /// The intent was cancelled.
    Cancelled = 28, "MT0028", 409, "cancelled";
    /// The executor cannot do what the body asks.
    Unsupported = 29, "MT0029", 400, "unsupported";
    /// Prompt and answer do not fit the model's context.
    ContextOverflow = 30, "MT0030", 400, "context_overflow";
    /// The method is not allowed on this path.
    MethodNotAllowed = 31, "MT0031", 405, "method_not_allowed";
    /// The content type is not one this path takes.
    UnsupportedMediaType = 32, "MT0032", 415, "unsupported_media_type";
    /// The client took too long to send its request.
    RequestTimeout = 33, "MT0033", 408, "request_timeout";
    /// The events asked for are no longer kept.
    Gone = 34, "MT0034", 410, "gone";
    /// A peer broke the session protocol.
    Protocol = 35, "MT0035", 400, "protocol";
    /// A fault of the realm itself.
    Internal = 36, "MT0036", 500, "internal";
    /// The data directory is in use by another realm.
    DataDirectoryInUse = 37, "MT0037", 500, "data_directory_in_use";
    /// The address to listen on is taken.
    AddressInUse = 38, "MT0038", 500, "address_in_use";
    /// The configuration is wrong.
    BadConfiguration = 39, "MT0039", 500, "bad_configuration";
    /// A model is missing or its file is not the one that was asked for.
    ModelUnavailable = 40, "MT0040", 500, "model_unavailable";
    /// A worker's offer asks more than ten times the list price.
    OfferTooDear = 41, "MT0041", 400, "offer_too_dear";
    /// Only workers that are not yet proven offer it, and the intent does not say that those may.
    NotProven = 42, "MT0042", 503, "not_proven";
    /// A worker's offer bears a name that reads as another account's, or one where there are none.
    OfferMisnamed = 43, "MT0043", 400, "offer_misnamed";
    /// The account, or its network, holds all that it may of something that everybody shares.
    ShareUsed = 44, "MT0044", 429, "share_used";
}

impl Code {
    /// Whether the same request may succeed later without a change.
    pub const fn may_retry(self) -> bool {
        matches!(
            self,
            Self::QueueFull
                | Self::DeadlineHopeless
                | Self::NoWorker
                | Self::NotProven
                | Self::GrantsExhausted
                | Self::NetworkLimit
                | Self::LimitReached
                | Self::ShareUsed
                | Self::StoreUnavailable
                | Self::Overloaded
                | Self::Stopping
                | Self::WorkerFailed
                | Self::RealmRestarted
                | Self::RequestTimeout
                | Self::Internal
        )
    }

    fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.number() == number)
    }

    fn number(self) -> u16 {
        #[expect(clippy::as_conversions, reason = "a fieldless enum with repr(u16)")]
        {
            self as u16
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(self.text())
        } else {
            serializer.serialize_u16(self.number())
        }
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
            Self::ALL.iter().copied().find(|code| code.text() == text)
        } else {
            Self::from_number(u16::deserialize(deserializer)?)
        };
        found.ok_or_else(|| serde::de::Error::custom("not a known error code"))
    }
}

/// A refusal by the core: nothing changed. Closed, so that every edge handles every one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    #[error("this account does not exist")]
    UnknownAccount,
    #[error("this intent is not open here")]
    UnknownIntent,
    #[error("this worker is not enrolled here")]
    UnknownWorker,
    #[error("that id is taken; send another")]
    IdTaken,
    #[error("this idempotency key was used with another body; use a new key or the same body")]
    Conflict,
    #[error("this account is banned from the realm")]
    AccountBanned,
    #[error("this worker is banned from the realm")]
    WorkerBanned,
    #[error(
        "the ceiling is too low: it must be at least {} (the price is {})",
        needed.in_base_units(), price.in_words()
    )]
    CeilingTooLow { needed: Amount, price: Price },
    #[error("the balance is {} of {asset} short of the hold", missing.in_base_units())]
    BalanceTooLow { asset: Asset, missing: Amount },
    #[error("the queue is full; retry in {retry_after_ms} ms")]
    QueueFull { retry_after_ms: u64 },
    #[error("the wait of about {wait_ms} ms would outlast the deadline")]
    DeadlineHopeless { wait_ms: u64 },
    #[error("no worker here offers this intent at this price and trust just now")]
    NoWorker,
    #[error("today's grants are given out; they start again at midnight UTC")]
    GrantsExhausted { retry_after_ms: u64 },
    #[error("this network has had its guest accounts for today")]
    NetworkLimit { retry_after_ms: u64 },
    #[error("there may be no more than {limit} {what}")]
    LimitReached { what: Limited, limit: u64 },
    #[error("this enrolment token is unknown, used or expired; create a new one")]
    TokenInvalid,
    #[error("this realm's edge restarted; send the intent again")]
    RealmRestarted,
    #[error("the deadline has passed")]
    Expired,
    #[error("message {expected} of that node comes first")]
    MessageGap { expected: u64 },
    #[error("that is not a message of this version")]
    MessageUnreadable,
    #[error(
        "only workers that are not yet proven offer this just now: name the model with its owner, \
         as `GET /v1/models` lists it, or say `trust`: `any`"
    )]
    NotProven,
    #[error("{}", share_used(*what, *whose, *held, *may))]
    ShareUsed { what: Limited, whose: Whose, held: u64, may: u64 },
    #[error("this is the account's last key: add another one before it is revoked")]
    LastKey,
    #[error("this invitation is unknown or used; ask the sysop for another")]
    InviteInvalid,
}

/// Whose share of something is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whose {
    Account,
    Network,
    /// Hardly anything is left for anybody.
    Everybody,
}

fn share_used(what: Limited, whose: Whose, held: u64, may: u64) -> String {
    let whose = match whose {
        Whose::Account => "this account",
        Whose::Network => "the network that this comes from",
        Whose::Everybody => {
            return format!(
                "nearly all {what} of this realm are taken, and what is left is for those who have \
                 none; try again when some are over"
            );
        }
    };
    format!(
        "{whose} has {held} {what} and may have {may} just now, as the others must find some too; \
         try again when some of them are over"
    )
}

/// What a bound counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limited {
    Accounts,
    Keys,
    Intents,
    Workers,
    Tokens,
    Messages,
    Offers,
    Slots,
    Leases,
    Connections,
    Bodies,
    Payloads,
    Sockets,
    AccountsToday,
    Invites,
    IdempotencyKeys,
    Replay,
    Spill,
    Stored,
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accounts => "accounts in a realm",
            Self::Keys => "keys of one account",
            Self::Intents => "open intents",
            Self::Workers => "workers in a realm",
            Self::Tokens => "enrolment tokens that wait to be used",
            Self::Messages => "unacknowledged messages",
            Self::Offers => "offers of one worker",
            Self::Slots => "slots of one offer",
            Self::Leases => "leases in one message",
            Self::Connections => "connections",
            Self::Bodies => "bytes of requests on their way",
            Self::Payloads => "bytes of payloads of open intents",
            Self::Sockets => "WebSockets",
            Self::AccountsToday => "accounts that were opened today",
            Self::Invites => "invitations that wait to be used",
            Self::IdempotencyKeys => "idempotency keys in use",
            Self::Replay => "bytes of events in memory",
            Self::Spill => "bytes of events on the disk",
            Self::Stored => "bytes of stored payloads and results",
        })
    }
}

impl Limited {
    /// In one word, for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Keys => "keys",
            Self::Intents => "intents",
            Self::Workers => "workers",
            Self::Tokens => "tokens",
            Self::Messages => "messages",
            Self::Offers => "offers",
            Self::Slots => "slots",
            Self::Leases => "leases",
            Self::Connections => "connections",
            Self::Bodies => "bodies",
            Self::Payloads => "payloads",
            Self::Sockets => "sockets",
            Self::AccountsToday => "accounts_today",
            Self::Invites => "invites",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::Replay => "replay",
            Self::Spill => "spill",
            Self::Stored => "stored",
        }
    }
}

impl Rejection {
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownAccount | Self::UnknownIntent | Self::UnknownWorker => Code::NotFound,
            Self::IdTaken | Self::Conflict | Self::LastKey => Code::Conflict,
            Self::AccountBanned | Self::WorkerBanned => Code::Banned,
            Self::CeilingTooLow { .. } => Code::CeilingTooLow,
            Self::BalanceTooLow { .. } => Code::BalanceTooLow,
            Self::QueueFull { .. } => Code::QueueFull,
            Self::DeadlineHopeless { .. } => Code::DeadlineHopeless,
            Self::NoWorker => Code::NoWorker,
            Self::GrantsExhausted { .. } => Code::GrantsExhausted,
            Self::NetworkLimit { .. } => Code::NetworkLimit,
            Self::LimitReached { .. } => Code::LimitReached,
            Self::TokenInvalid | Self::InviteInvalid => Code::TokenInvalid,
            Self::RealmRestarted => Code::RealmRestarted,
            Self::Expired => Code::Expired,
            Self::MessageGap { .. } | Self::MessageUnreadable => Code::Protocol,
            Self::NotProven => Code::NotProven,
            Self::ShareUsed { .. } => Code::ShareUsed,
        }
    }

    /// When the same request may succeed, if waiting can help.
    pub fn retry_after_ms(&self) -> Option<u64> {
        const UNKNOWN_WAIT_MS: u64 = 1_000;
        #[expect(clippy::wildcard_enum_match_arm, reason = "only these know their own wait")]
        match self {
            Self::QueueFull { retry_after_ms }
            | Self::GrantsExhausted { retry_after_ms }
            | Self::NetworkLimit { retry_after_ms } => Some(*retry_after_ms),
            Self::DeadlineHopeless { wait_ms } => Some(*wait_ms),
            // Only the asker's own doing makes room.
            Self::LimitReached {
                what:
                    Limited::Keys
                    | Limited::Tokens
                    | Limited::Offers
                    | Limited::Slots
                    | Limited::Invites,
                ..
            } => None,
            other => other.code().may_retry().then_some(UNKNOWN_WAIT_MS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_never_move() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(usize::from(code.number()), index + 1);
            assert_eq!(code.text(), format!("MT{:04}", code.number()));
        }
    }

    #[test]
    fn a_code_round_trips() {
        for code in Code::ALL {
            let json = serde_json::to_string(code).unwrap();
            assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), *code);
            let bytes = postcard::to_stdvec(code).unwrap();
            assert_eq!(postcard::from_bytes::<Code>(&bytes).unwrap(), *code);
        }
    }
}
