//! Which of a backend's models have answered, and which is asked next. No clock of its own.
//!
//! A model is offered once a request of this worker's own has come back right, and stays so until
//! the backend was away. One that fails is asked again after a pause that grows, with a patience
//! that grows: a big model may take minutes to load, and the others do not wait behind it.

use std::time::Duration;

use tokio::time::Instant;

use super::server::Listed;
use crate::limits;

#[derive(Debug)]
struct Entry {
    listed: Listed,
    state: State,
}

#[derive(Debug)]
enum State {
    Right,
    Waiting { due: Instant, failures: u32 },
}

impl State {
    fn failures(&self) -> u32 {
        match self {
            Self::Waiting { failures, .. } => *failures,
            Self::Right => 0,
        }
    }
}

/// A model that is to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) listed: Listed,
    pub(super) patience: Duration,
}

/// In the backend's order.
#[derive(Debug, Default)]
pub(super) struct Book {
    asked: Vec<Entry>,
    /// Failed, and not to be asked now: their pauses go on.
    resting: Vec<Entry>,
}

impl Book {
    /// Takes what is to be asked of what the backend has now. What it had before keeps its state,
    /// unless it changed what it is for; what failed keeps its pause also while it `rests`.
    pub(super) fn reconcile(
        &mut self,
        listed: Vec<Listed>,
        rests: impl Fn(&Listed) -> bool,
        now: Instant,
    ) {
        let mut old = std::mem::take(&mut self.asked);
        old.append(&mut self.resting);
        for listed in listed {
            let same = |entry: &Entry| {
                entry.listed.id == listed.id && entry.listed.intent == listed.intent
            };
            let state = match old.iter().position(same) {
                Some(at) => old.swap_remove(at).state,
                None => State::Waiting { due: now, failures: 0 },
            };
            self.asked.push(Entry { listed, state });
        }
        old.retain(|entry| entry.state.failures() > 0 && rests(&entry.listed));
        self.resting = old;
    }

    /// The backend was away: nothing of it is known.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// When the next model is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting().map(|(due, _)| due).min()
    }

    /// The model that is due first; of several the first in the list.
    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        let (_, entry) =
            self.waiting().filter(|(due, _)| *due <= now).min_by_key(|(due, _)| *due)?;
        let State::Waiting { failures, .. } = entry.state else { return None };
        let patience = grown(limits::PROBE_MS, failures, limits::PROBE_MS_MAX);
        Some(Due { listed: entry.listed.clone(), patience })
    }

    /// What a model's probe came to; gives the pause before the next, if it failed.
    pub(super) fn probed(&mut self, id: &str, is_right: bool, now: Instant) -> Option<Duration> {
        let entry = self.asked.iter_mut().find(|entry| entry.listed.id == id)?;
        let failures = entry.state.failures();
        if is_right {
            entry.state = State::Right;
            return None;
        }
        let pause = grown(limits::PROBE_PAUSE_MS_MIN, failures, limits::PROBE_PAUSE_MS_MAX);
        entry.state = State::Waiting { due: now + pause, failures: failures.saturating_add(1) };
        Some(pause)
    }

    /// Every model has answered or failed once.
    pub(super) fn is_tried(&self) -> bool {
        self.untried().next().is_none()
    }

    /// Those that were not asked yet, or have not answered the first time.
    pub(super) fn untried(&self) -> impl Iterator<Item = &Listed> {
        let untried = |entry: &&Entry| matches!(entry.state, State::Waiting { failures: 0, .. });
        self.asked.iter().filter(untried).map(|entry| &entry.listed)
    }

    /// How often a model has failed since it last answered.
    pub(super) fn failures(&self, id: &str) -> u32 {
        let mut entries = self.asked.iter().chain(&self.resting);
        entries.find(|entry| entry.listed.id == id).map_or(0, |entry| entry.state.failures())
    }

    pub(super) fn right(&self) -> impl Iterator<Item = &Listed> {
        let right = self.asked.iter().filter(|entry| matches!(entry.state, State::Right));
        right.map(|entry| &entry.listed)
    }

    fn waiting(&self) -> impl Iterator<Item = (Instant, &Entry)> {
        self.asked.iter().filter_map(|entry| match entry.state {
            State::Waiting { due, .. } => Some((due, entry)),
            State::Right => None,
        })
    }
}

pub(in crate::executors) fn grown(first_ms: u64, failures: u32, most_ms: u64) -> Duration {
    let factor = 1_u64.checked_shl(failures).unwrap_or(u64::MAX);
    Duration::from_millis(first_ms.saturating_mul(factor).min(most_ms))
}

#[cfg(test)]
mod tests {
    use super::super::server::Intent;
    use super::*;

    fn listed(ids: &[&str]) -> Vec<Listed> {
        let listed = |id: &&str| Listed {
            id: (*id).into(),
            name: (*id).into(),
            intent: Intent::Chat,
            context: None,
        };
        ids.iter().map(listed).collect()
    }

    fn right(book: &Book) -> Vec<&str> {
        book.right().map(|listed| &*listed.id).collect()
    }

    #[test]
    fn one_that_cannot_answer_holds_up_no_other_and_is_asked_more_and_more_seldom() {
        let start = Instant::now();
        let mut book = Book::default();
        book.reconcile(listed(&["big", "small"]), |_| false, start);
        let first = book.due(start).unwrap();
        assert_eq!((&*first.listed.id, first.patience), ("big", Duration::from_secs(60)));
        let pause = book.probed("big", false, start).unwrap();
        assert!(!book.is_tried());
        assert_eq!(book.due(start).unwrap().listed.id, "small");
        assert_eq!(book.probed("small", true, start), None);
        assert!(book.is_tried());
        assert_eq!((right(&book), book.due(start)), (vec!["small"], None));
        // Asked again after the pause, with more patience; both grow up to their bounds.
        let mut now = start + pause;
        assert_eq!(book.next_due(), Some(now));
        assert_eq!(book.due(now).unwrap().patience, Duration::from_secs(120));
        let mut last = pause;
        for _ in 0..80 {
            let pause = book.probed("big", false, now).unwrap();
            assert!(pause >= last);
            (last, now) = (pause, now + pause);
        }
        assert_eq!(last, Duration::from_millis(limits::PROBE_PAUSE_MS_MAX));
        assert_eq!(book.due(now).unwrap().patience, Duration::from_millis(limits::PROBE_MS_MAX));
    }

    #[test]
    fn what_rests_keeps_its_pause_while_it_is_there() {
        let now = Instant::now();
        let mut book = Book::default();
        book.reconcile(listed(&["a", "b"]), |_| false, now);
        let pause = book.probed("a", false, now).unwrap();
        book.reconcile(listed(&["b", "c"]), |_| true, now);
        assert_eq!(["a", "b", "c"].map(|id| book.failures(id)), [1, 0, 0]);
        assert_eq!(book.due(now).unwrap().listed.id, "b");
        book.reconcile(listed(&["a"]), |_| true, now);
        assert_eq!((book.due(now), book.next_due()), (None, Some(now + pause)));
        // Gone meanwhile: nothing of it is known.
        book.reconcile(Vec::new(), |_| false, now);
        book.reconcile(listed(&["a"]), |_| true, now);
        assert_eq!((book.failures("a"), book.next_due()), (0, Some(now)));
    }

    #[test]
    fn what_answered_is_not_asked_again_until_the_backend_was_away() {
        let now = Instant::now();
        let mut book = Book::default();
        book.reconcile(listed(&["a", "b"]), |_| false, now);
        book.probed("a", true, now);
        book.reconcile(listed(&["c", "b", "a"]), |_| false, now);
        assert_eq!((right(&book), &*book.due(now).unwrap().listed.id), (vec!["a"], "c"));
        // Gone and back: it is another one until it answers.
        book.reconcile(listed(&["b"]), |_| false, now);
        book.reconcile(listed(&["a", "b"]), |_| false, now);
        assert!(right(&book).is_empty());
        book.probed("a", true, now);
        book.forget();
        book.reconcile(listed(&["a"]), |_| false, now);
        assert_eq!(book.due(now).unwrap().listed.id, "a");
        // Used for something else now.
        book.probed("a", true, now);
        let embed = Listed { intent: Intent::Embed, ..listed(&["a"]).remove(0) };
        book.reconcile(vec![embed], |_| false, now);
        assert!(right(&book).is_empty());
    }
}
