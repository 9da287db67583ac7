//! Idempotency keys of ephemeral intents: bound while the intent is open and one minute after, then
//! forgotten. Those of durable intents stand in the log.

use std::collections::BTreeMap;

use mtor_core::limits;
use mtor_types::intent::Idempotency;
use mtor_types::{Digest, IntentId};

use crate::scenario::KEY_LATE_MS;

/// What one boot of an edge has bound.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    /// Whose key it is, and when that ended.
    keys: BTreeMap<Digest, (IntentId, Option<u64>)>,
    of: BTreeMap<IntentId, Digest>,
}

impl Bound {
    pub(crate) fn admitted(
        &mut self,
        intent: IntentId,
        key: Idempotency,
        now: u64,
    ) -> Result<(), String> {
        let kept = |ended: u64| now < ended.saturating_add(limits::IDEMPOTENCY_MS);
        if let Some((other, ended)) = self.keys.get(&key.key)
            && ended.is_none_or(kept)
        {
            return Err(format!("{other} and {intent} were both opened for one key"));
        }
        self.keys.insert(key.key, (intent, None));
        self.of.insert(intent, key.key);
        Ok(())
    }

    /// A submission is told that this intent stands for it.
    pub(crate) fn joined(&self, intent: IntentId, now: u64) -> Result<(), String> {
        let ended = self.keys.values().find(|(of, _)| *of == intent).and_then(|(_, ended)| *ended);
        let forgotten = |ended: u64| {
            let kept = limits::IDEMPOTENCY_MS.saturating_add(KEY_LATE_MS);
            now > ended.saturating_add(kept)
        };
        match ended.filter(|ended| forgotten(*ended)) {
            Some(ended) => Err(format!("{intent}, which ended at {ended}, is joined long after")),
            None => Ok(()),
        }
    }

    pub(crate) fn ended(&mut self, intent: IntentId, now: u64) {
        if let Some(key) = self.of.remove(&intent)
            && let Some((_, ended)) = self.keys.get_mut(&key)
        {
            *ended = Some(now);
        }
    }
}
