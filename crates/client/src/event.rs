//! What a realm says of an intent while it lives: `mtor.intent.<name>.v1`.

use mtor_types::event::EventIn;
use mtor_types::intent::{Reason, Usage};
use mtor_types::{AccountId, Amount, Attempt, IntentId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::catalogue::Standing;

/// An amount of one asset, in base units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// `grant` or `9000`.
    pub asset: String,
    pub amount: Amount,
}

/// One step of an intent's life.
#[derive(Debug)]
pub struct Event {
    /// As in `mtor.intent.<name>.v1`.
    pub name: String,
    /// Its data as the realm sent it.
    pub data: Box<RawValue>,
    pub kind: EventKind,
}

/// What is read of an event's data. Fields that are not known here are ignored.
#[derive(Debug)]
pub enum EventKind {
    Accepted(Begun),
    Queued(Waits),
    Started(Starts),
    Chunk(Chunk),
    /// What came of that attempt counts no more.
    Restarted(Starts),
    Completed(Done),
    Failed(Lost),
    Cancelled(Bill),
    Expired(Bill),
    /// The receipt, after the sync.
    Settled,
}

impl EventKind {
    /// Whether nothing but the receipt follows.
    pub fn is_end(&self) -> bool {
        match self {
            Self::Completed(_) | Self::Failed(_) | Self::Cancelled(_) | Self::Expired(_) => true,
            Self::Accepted(_)
            | Self::Queued(_)
            | Self::Started(_)
            | Self::Chunk(_)
            | Self::Restarted(_)
            | Self::Settled => false,
        }
    }
}

#[derive(Debug, Deserialize)]
pub struct Begun {
    pub intent: IntentId,
    #[serde(default)]
    pub hold: Option<Money>,
}

#[derive(Debug, Deserialize)]
pub struct Waits {
    #[serde(default)]
    pub position: u64,
    #[serde(default)]
    pub eta_ms: u64,
}

#[derive(Debug, Deserialize)]
pub struct Starts {
    #[serde(default)]
    pub attempt: Attempt,
    /// Who serves; not told where it begins again.
    #[serde(default)]
    pub worker: Option<Server>,
}

/// A worker, and what its owner calls it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Server {
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub name: String,
    /// Whose it is; an older realm does not say.
    #[serde(default)]
    pub owner: Option<AccountId>,
    #[serde(default)]
    pub standing: Standing,
}

#[derive(Debug, Deserialize)]
pub struct Chunk {
    pub attempt: Attempt,
    pub seq: u64,
    pub piece: Box<RawValue>,
}

#[derive(Debug, Deserialize)]
pub struct Done {
    #[serde(default)]
    pub reason: Option<Reason>,
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    #[serde(default)]
    pub usage: Usage,
    #[serde(default)]
    pub cost: Option<Money>,
    #[serde(default)]
    pub refunded: Option<Money>,
}

#[derive(Debug, Deserialize)]
pub struct Lost {
    #[serde(default)]
    pub code: String,
    /// In words, for a person.
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub refunded: Option<Money>,
}

/// What an intent cost that was ended before it was done.
#[derive(Debug, Deserialize)]
pub struct Bill {
    #[serde(default)]
    pub usage: Usage,
    #[serde(default)]
    pub cost: Option<Money>,
    #[serde(default)]
    pub refunded: Option<Money>,
}

impl Event {
    /// Reads one CloudEvent; `Ok(None)` for a type that this version does not know.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, serde_json::Error> {
        use serde::de::Error as _;
        let event = EventIn::parse(text).map_err(serde_json::Error::custom)?;
        let name = event.kind.strip_prefix("mtor.intent.").and_then(|n| n.strip_suffix(".v1"));
        let Some(name) = name else { return Ok(None) };
        let data = event.data.ok_or_else(|| serde_json::Error::custom("an event without data"))?;
        Self::from_data(name, data.to_owned())
    }

    /// An event by its name; `Ok(None)` for one that this version does not know.
    pub(crate) fn from_data(
        name: &str,
        data: Box<RawValue>,
    ) -> Result<Option<Self>, serde_json::Error> {
        let text = data.get();
        let kind = match name {
            "accepted" => EventKind::Accepted(serde_json::from_str(text)?),
            "queued" => EventKind::Queued(serde_json::from_str(text)?),
            "started" => EventKind::Started(serde_json::from_str(text)?),
            "chunk" => EventKind::Chunk(serde_json::from_str(text)?),
            "restarted" => EventKind::Restarted(serde_json::from_str(text)?),
            "completed" => EventKind::Completed(serde_json::from_str(text)?),
            "failed" => EventKind::Failed(serde_json::from_str(text)?),
            "cancelled" => EventKind::Cancelled(serde_json::from_str(text)?),
            "expired" => EventKind::Expired(serde_json::from_str(text)?),
            "settled" => EventKind::Settled,
            _ => return Ok(None),
        };
        Ok(Some(Self { name: name.to_owned(), data, kind }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"i/1.0","source":"/r","type":"mtor.intent.{name}.v1","data":{data}}}"#
        )
    }

    #[test]
    fn every_event_of_an_intent_is_read() {
        let intent = "01010101-0101-0101-0101-010101010101";
        let text = event("accepted", &format!(r#"{{"intent":"{intent}","new_field":1}}"#));
        let Some(Event { kind: EventKind::Accepted(begun), .. }) = Event::parse(&text).unwrap()
        else {
            panic!("not accepted")
        };
        assert_eq!((begun.intent.to_string().as_str(), begun.hold), (intent, None));
        let cost = r#""cost":{"asset":"grant","amount":"3"}"#;
        for (name, data, is_end) in [
            ("queued", r#"{"position":1,"eta_ms":4}"#.to_owned(), false),
            ("started", r#"{"attempt":4294967297,"worker":{"id":"w"}}"#.to_owned(), false),
            ("chunk", r#"{"attempt":1,"seq":0,"piece":{"a":  1}}"#.to_owned(), false),
            ("restarted", r#"{"attempt":1}"#.to_owned(), false),
            ("completed", format!(r#"{{"reason":"done","result":null,{cost}}}"#), true),
            ("failed", r#"{"code":"MT0025","reason":"no"}"#.to_owned(), true),
            ("cancelled", format!("{{{cost}}}"), true),
            ("expired", "{}".to_owned(), true),
            ("settled", r#"{"receipt":{}}"#.to_owned(), false),
        ] {
            let event = Event::parse(&event(name, &data)).unwrap().expect(name);
            assert_eq!((event.name.as_str(), event.kind.is_end()), (name, is_end));
            assert_eq!(event.data.get(), data);
        }
        assert!(Event::parse(&event("invented", "{}")).unwrap().is_none());
        assert!(Event::parse(&event("chunk", "{}")).is_err());
        assert!(Event::parse("{").is_err());
    }
}
