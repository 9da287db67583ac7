//! Receipts. There is one definition of those of a batch, its facts: whoever is told of them, and
//! whenever, they are made of the log and in its order, so one batch has one signed root.

use std::sync::Arc;

use mtor_store::Reader;
use mtor_store::read::IntentRow;
use mtor_types::intent::{End, Outcome};
use mtor_types::worker::{self, Acknowledge};
use mtor_types::{AccountId, Amount, IntentId};

use super::Edge;
use crate::api_error::ApiError;
use crate::receipts::{Receipt, Statement, issue};

impl Edge {
    /// The facts of a batch are synced: tell its workers that they may forget, and its clients
    /// that they may rely on it.
    pub(super) fn settle(self: &Arc<Self>, batch: u64, intents: Vec<IntentId>) {
        self.metrics.settled(intents.len());
        let mut wanted = Vec::new();
        for intent in intents {
            if let Some(assigned) = self.lives.remove(intent).and_then(|live| live.assigned())
                && let Some(session) = self.sessions.get(assigned.session)
            {
                let attempt = assigned.attempt;
                session.send(worker::ACKNOWLEDGE, Acknowledge { intent, attempt });
            }
            if self.streams.get_here(intent).is_some() {
                wanted.push(intent);
            }
        }
        if wanted.is_empty() {
            return;
        }
        let edge = Arc::clone(self);
        self.runtime.spawn(async move {
            // The read tables follow in large steps; a receipt is no reason for a small one.
            while !edge.projection.passes(batch).await {
                if edge.is_closing() {
                    return;
                }
            }
            if let Err(error) = edge.tell_receipts(batch, &wanted).await {
                tracing::error!(batch, %error, "receipts not issued");
            }
        });
    }

    async fn tell_receipts(&self, batch: u64, wanted: &[IntentId]) -> Result<(), ApiError> {
        let rows = self.look_up(move |reader: &Reader| reader.settled_in(batch)).await?;
        for receipt in self.issue(batch, rows)? {
            let intent = receipt.statement.intent;
            let stream = self.streams.get_here(intent).filter(|_| wanted.contains(&intent));
            if let (Some(stream), Ok(json)) = (stream, serde_json::to_vec(&receipt)) {
                stream.settle(json.into());
            }
        }
        Ok(())
    }

    /// The receipts of a batch: of what its facts resolved, in their order, under one signature.
    fn issue(&self, batch: u64, rows: Vec<IntentRow>) -> Result<Vec<Receipt>, ApiError> {
        let realm = self.identity.realm();
        let statements = rows.into_iter().filter_map(|row| {
            let account = row.account;
            let (end, at) = end_of(row)?;
            Some(Statement::new(realm, account, &end, at))
        });
        let issued = issue(self.identity.signing_key(), realm, batch, statements.collect());
        issued.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "receipts not issued");
            ApiError::internal()
        })
    }

    /// The receipt of one settled intent of `account`, from the log.
    pub async fn receipt_of(
        &self,
        intent: IntentId,
        account: AccountId,
    ) -> Result<Option<Receipt>, ApiError> {
        let found = self
            .read(move |reader: &Reader| {
                let row = reader.intent(intent)?.filter(|row| row.account == account);
                let Some(ended) = row.and_then(|row| row.end) else { return Ok(None) };
                Ok(Some((ended.batch, reader.settled_in(ended.batch)?)))
            })
            .await?;
        let Some((batch, rows)) = found else { return Ok(None) };
        let receipts = self.issue(batch, rows)?;
        Ok(receipts.into_iter().find(|receipt| receipt.statement.intent == intent))
    }
}

/// The same, with what was held for it.
pub(super) fn end_and_hold(row: IntentRow) -> Option<(End, Amount)> {
    let hold = row.hold;
    end_of(row).map(|(end, _)| (end, hold))
}

/// How an intent ended, as the log has it. A refusal has no receipt: nothing was done.
fn end_of(row: IntentRow) -> Option<(End, mtor_types::Time)> {
    let ended = row.end?;
    if ended.outcome == Outcome::Refused {
        return None;
    }
    let end = End {
        intent: row.intent,
        outcome: ended.outcome,
        usage: ended.usage,
        asset: row.asset,
        cost: ended.cost,
        refunded: ended.refunded,
        sequence: ended.sequence,
    };
    Some((end, ended.at))
}
