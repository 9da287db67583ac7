//! The Event Processor's section of a snapshot, and how earlier versions of it become today's.

use std::collections::BTreeMap;
use std::sync::Arc;

use mtor_types::fact::Asset;
use mtor_types::intent::IntentMetaV1;
use mtor_types::{IntentId, Time};
use serde::Deserialize;

use super::{OpenDurable, OpenDurables};
use crate::snapshot::{RecoverError, Section, parse, unknown_version};

/// Version 1, also the form of a snapshot without sections: with the first form of metadata.
/// Frozen.
#[derive(Deserialize)]
pub(crate) struct OpenDurablesV1 {
    intents: BTreeMap<IntentId, OpenDurableV1>,
}

#[derive(Deserialize)]
struct OpenDurableV1 {
    meta: IntentMetaV1,
    asset: Asset,
    deadline: Time,
}

impl From<OpenDurablesV1> for OpenDurables {
    fn from(old: OpenDurablesV1) -> Self {
        let open = |(intent, open): (IntentId, OpenDurableV1)| {
            let OpenDurableV1 { meta, asset, deadline } = open;
            (intent, OpenDurable { meta: Arc::new(meta.into()), asset, deadline })
        };
        Self { intents: old.intents.into_iter().map(open).collect() }
    }
}

impl Section for OpenDurables {
    type Written<'a> = Self;
    const NAME: &'static str = "events";
    const ID: u8 = 3;
    const VERSION: u8 = 2;

    fn read(version: u8, bytes: &[u8]) -> Result<Self, RecoverError> {
        match version {
            1 => parse::<OpenDurablesV1>(bytes).map(Self::from),
            2 => parse(bytes),
            found => Err(unknown_version::<Self>(found)),
        }
    }
}
