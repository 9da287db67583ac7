//! Workers and how they stand, for the sysop and for their owner.

use std::time::{SystemTime, UNIX_EPOCH};

use mtor_client::{OfferRow, WorkerRow};

use crate::table::Table;

pub(super) fn workers_table() -> Table {
    Table::new(&["WORKER", "NAME", "STATE", "OFFERS"]).loose("OFFERS")
}

pub(super) fn worker_cells(row: &WorkerRow) -> Vec<String> {
    let marks = [
        (row.connected, "connected"),
        (!row.connected, "offline"),
        (row.own, "own"),
        (row.banned, "BANNED"),
    ];
    let marks: Vec<_> = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
    let offers: Vec<_> = row.offers.iter().map(|offer| in_words(row, offer)).collect();
    vec![row.worker.to_string(), row.name.clone(), marks.join(", "), offers.join(", ")]
}

/// `chat (m) x2 of 8, proven`
fn in_words(row: &WorkerRow, offer: &OfferRow) -> String {
    let mut words = match &offer.model {
        Some(model) => format!("{} ({model}) x{}", offer.intent, offer.earned),
        None => format!("{} x{}", offer.intent, offer.earned),
    };
    if offer.earned < offer.slots {
        words.push_str(&format!(" of {}", offer.slots));
    }
    if !row.own {
        words.push_str(&format!(", {}", offer.standing));
    }
    if let Some(ejected) = &offer.ejected {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let left = u128::from(ejected.until.0).saturating_sub(now).div_ceil(1_000);
        words.push_str(&format!(", EJECTED for {left} s more: {}", ejected.why));
    } else if offer.probing {
        words.push_str(", on trial after an ejection");
    }
    words
}
