//! Receipts: signed once a batch is synced, and rebuilt from the log whenever they are asked for.

use std::sync::Arc;

use mtor_store::Reader;
use mtor_store::read::IntentRow;
use mtor_types::intent::{End, Outcome};
use mtor_types::worker::{self, Acknowledge};
use mtor_types::{AccountId, Amount, IntentId};

use super::Edge;
use crate::api_error::ApiError;
use crate::receipts::{Receipt, Statement, issue};
use crate::shell::Settlement;

impl Edge {
    /// The facts of a batch are synced: tell its workers that they may forget, and its clients
    /// that they may rely on it.
    pub(super) fn settle(self: &Arc<Self>, batch: u64, settlements: Vec<Settlement>) {
        self.metrics.settled(settlements.len());
        let mut wanted = false;
        for settlement in &settlements {
            let intent = settlement.end.intent;
            if let Some(assigned) = self.lives.remove(intent).and_then(|live| live.assigned())
                && let Some(session) = self.sessions.get(assigned.session)
            {
                let attempt = assigned.attempt;
                session.send(worker::ACKNOWLEDGE, Acknowledge { intent, attempt });
            }
            wanted |= self.streams.get(intent).is_some();
        }
        if !wanted {
            return;
        }
        // One signature for all; off the node's thread.
        let edge = Arc::clone(self);
        self.runtime.spawn(async move {
            for receipt in edge.issue(batch, &settlements) {
                let Some(stream) = edge.streams.get(receipt.statement.intent) else { continue };
                if let Ok(json) = serde_json::to_vec(&receipt) {
                    stream.settle(json.into());
                }
            }
        });
    }

    fn issue(&self, batch: u64, settlements: &[Settlement]) -> Vec<Receipt> {
        let realm = self.identity.realm();
        let statements = settlements
            .iter()
            .map(|settled| Statement::new(realm, settled.account, &settled.end, settled.at));
        let issued = issue(self.identity.signing_key(), realm, batch, statements.collect());
        issued.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "receipts not issued");
            Vec::new()
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
        let realm = self.identity.realm();
        let statements: Vec<Statement> = rows
            .into_iter()
            .filter_map(|row| {
                let account = row.account;
                let (end, at) = end_of(row)?;
                Some(Statement::new(realm, account, &end, at))
            })
            .collect();
        let issued = issue(self.identity.signing_key(), realm, batch, statements);
        let receipts = issued.map_err(|_| ApiError::internal())?;
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
