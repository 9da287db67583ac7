//! What the realm counts, for Prometheus. Labels have few values and never a client's words.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use mtor_types::intent::Outcome;
use mtor_types::rejection::Limited;

use super::Edge;
use crate::api_error::ApiError;
use crate::shell::StoreState;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabel {
    answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhatLabel {
    what: &'static str,
}

#[derive(Debug, Default)]
pub struct Metrics {
    admitted: Counter,
    refused: Counter,
    ended: Family<OutcomeLabel, Counter>,
    settled: Counter,
    canaries: Family<AnswerLabel, Counter>,
    replaced: Counter,
}

impl Metrics {
    pub(super) fn admitted(&self) {
        self.admitted.inc();
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    pub(super) fn ended(&self, outcome: Outcome) {
        let outcome = outcome.name();
        self.ended.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn canary(&self, right: bool) {
        let answer = if right { "right" } else { "wrong" };
        self.canaries.get_or_create(&AnswerLabel { answer }).inc();
    }

    pub(super) fn replaced(&self) {
        self.replaced.inc();
    }

    pub(super) fn settled(&self, count: usize) {
        self.settled.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }
}

impl Edge {
    /// Everything that is counted, in the OpenMetrics text form.
    pub async fn metrics_text(&self) -> Result<String, ApiError> {
        let (now, places) = self
            .node()
            .ask(|node| {
                let now = [
                    ("accounts", "Accounts of the realm", node.accountant().accounts_count()),
                    ("workers_enrolled", "Enrolled workers", node.registry().workers_count()),
                    ("worker_sessions", "Live worker sessions", node.registry().sessions_count()),
                    ("intents_open", "Intents that are not over", node.events().open_count()),
                    ("intents_queued", "Intents that wait for a slot", node.router().queued()),
                    ("intents_running", "Intents on a slot", node.router().leased()),
                ];
                let places = [
                    (Limited::Intents, node.events().places()),
                    (Limited::IdempotencyKeys, node.events().key_places()),
                    (Limited::Workers, node.registry().places()),
                ];
                (now, places)
            })
            .await?;
        let mut registry = Registry::with_prefix("mtor");
        let metrics = &self.metrics;
        registry.register("intents_admitted", "Intents admitted", metrics.admitted.clone());
        registry.register("intents_refused", "Intents refused", metrics.refused.clone());
        registry.register("intents_ended", "Intents ended, by outcome", metrics.ended.clone());
        let help =
            "Ends whose money is on disk; a crash would undo what ended and is not among them";
        registry.register("intents_settled", help, metrics.settled.clone());
        // Both from the start, so that none is known to be none.
        for answer in ["right", "wrong"] {
            metrics.canaries.get_or_create(&AnswerLabel { answer }).inc_by(0);
        }
        let help = "Answers to the realm's own test intents, by what they were";
        registry.register("canaries", help, metrics.canaries.clone());
        let help = "Worker sessions that a newer one of the same worker ended";
        registry.register("worker_sessions_replaced", help, metrics.replaced.clone());
        for (name, help, value) in now {
            gauge(&mut registry, name, help, u64::try_from(value).unwrap_or(u64::MAX));
        }
        let buffers = self.streams.totals();
        let streams = u64::try_from(buffers.streams).unwrap_or(u64::MAX);
        let help = "Replay buffers, open, ended and packed";
        gauge(&mut registry, "buffers", help, streams);
        let help = "Of them in memory, with the rows of those that are packed";
        gauge(&mut registry, "buffers_memory_bytes", help, buffers.memory_bytes);
        gauge(&mut registry, "buffers_disk_bytes", "Of them on disk, sealed", buffers.disk_bytes);
        gauge(&mut registry, "blobs_bytes", "Sealed payloads and results", self.blobs.bytes());
        let here = self.shares.all().map(|bound| (bound.what(), bound.filled()));
        shares(&mut registry, places.into_iter().chain(here));
        let good = u64::from(self.node().store_state() == StoreState::Good);
        gauge(&mut registry, "store_good", "1 while the log can be written", good);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)
            .map_err(|_| ApiError::internal())?;
        Ok(text)
    }
}

/// What is held of each bound that is shared, and all there is.
fn shares(registry: &mut Registry, shares: impl IntoIterator<Item = (Limited, (u64, u64))>) {
    let (held, capacity) = (Family::<WhatLabel, Gauge>::default(), Family::default());
    for (what, (taken, all)) in shares {
        let label = WhatLabel { what: what.name() };
        held.get_or_create(&label).set(i64::try_from(taken).unwrap_or(i64::MAX));
        let of: &Family<WhatLabel, Gauge> = &capacity;
        of.get_or_create(&label).set(i64::try_from(all).unwrap_or(i64::MAX));
    }
    registry.register("share_held", "What is held of a bound that everybody shares", held);
    registry.register("share_capacity", "All there is of it", capacity);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstGauge::new(value));
}
