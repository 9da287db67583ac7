//! Who answers while the default chat model cannot: the small one, where there is room for it.
//!
//! Where there is not room for both, one of them has the machine. The default one is given some
//! time alone: it may be refused until the small one's last answer has ended and its memory is
//! free, and one that crashed is back within seconds. If it fails longer than that, the small one
//! answers again, and the default one rests, less and less often tried.

use std::time::{Duration, Instant};

use mtor_worker::memory_needed;

use super::super::rate::takes;
use super::{By, Entry, Shelf, State, spoken};

/// If the good model needs so much longer than the small one, that one answers meanwhile.
const MEANWHILE: Duration = Duration::from_secs(5 * 60);
/// It may fail for so long before the small one takes the machine from it.
const ALONE_FOR: Duration = Duration::from_secs(60);
/// One that served and ended starts anew; it is not called a failure before this.
const SOON: Duration = Duration::from_secs(5);
/// One that served for so long and fails does so for another reason than before.
const SERVED_LONG: Duration = Duration::from_secs(60);
const REST_MIN: Duration = Duration::from_secs(2 * 60);
const REST_MAX: Duration = Duration::from_secs(60 * 60);
/// How often it is looked, after a rest, whether there is room again.
const ROOM_EVERY: Duration = Duration::from_secs(30);

/// How the starts of a model go.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// It loads soon and wants so many bytes of memory beside what it has: there may be no room.
    wants: Option<u64>,
    /// Since when it fails.
    failing: Option<Instant>,
    /// When it began to serve the last time.
    serving: Option<Instant>,
    /// Since when it waits to be back, or for memory that is being freed.
    waiting: Option<Instant>,
    rests: u32,
}

impl Trial {
    pub(super) fn begins(&mut self, bytes: u64) {
        self.wants = Some(memory_needed(bytes));
    }

    pub(super) fn serves(&mut self, now: Instant) {
        self.serving = Some(now);
    }

    pub(super) fn serving(&self) -> Option<Instant> {
        self.serving
    }

    pub(super) fn waits(&mut self, now: Instant) {
        self.waiting = Some(now);
    }

    /// It served a moment ago and may be back at once, or it has just been given the machine.
    pub(super) fn may_be_there_soon(&self, now: Instant) -> bool {
        self.waiting.is_some_and(|at| now.saturating_duration_since(at) < SOON)
    }

    /// `wants`: bytes of memory for the next try.
    pub(super) fn failed(&mut self, wants: u64, now: Instant) {
        let was_long = |since| now.saturating_duration_since(since) >= SERVED_LONG;
        if self.serving.take().is_some_and(was_long) {
            (self.failing, self.rests) = (None, 0);
        }
        self.failing.get_or_insert(now);
        self.wants = Some(wants);
    }

    fn is_hopeless(&self, now: Instant) -> bool {
        self.failing.is_some_and(|since| now.saturating_duration_since(since) >= ALONE_FOR)
    }

    /// How long the next rest takes.
    fn rest(&mut self) -> Duration {
        let pause = REST_MIN.saturating_mul(1 << self.rests.min(6)).min(REST_MAX);
        self.rests = self.rests.saturating_add(1);
        self.failing = None;
        pause
    }
}

impl Shelf {
    /// The small model answers until the good one can: where it is here already, or where the good
    /// one takes much longer. True if it was called now.
    pub(super) fn call_stand_in(&mut self, only_if_here: bool) -> bool {
        let Some(model) = self.meanwhile.clone() else { return false };
        let wanted = |entry: &&Entry| {
            let waits = matches!(entry.state, State::Waiting { .. } | State::Fetching);
            entry.is_default_chat() && waits
        };
        let Some(good) = self.entries.iter().find(wanted) else { return false };
        let missing = (self.missing)(&model);
        // Where a smaller one was chosen there is no room for this one.
        if good.model.bytes <= model.bytes {
            return false;
        }
        let is_here = missing == 0 && good.missing > 0;
        let left = good.missing.saturating_sub(good.received);
        let longer = takes(left.saturating_sub(missing), good.rate.sure());
        let is_slow = !only_if_here && longer.is_some_and(|longer| longer > MEANWHILE);
        let knows_it = self.entries.iter().any(|entry| entry.model.name == model.name);
        if knows_it || !(is_here || is_slow) {
            return false;
        }
        let words =
            format!("{} answers meanwhile: {} takes longer.", model.title, good.model.title);
        self.meanwhile = None;
        self.put(model, By::Meanwhile, None);
        if let Some(entry) = self.entries.last() {
            self.said.push(entry.say("meanwhile", Some(words)));
        }
        true
    }

    /// Whether the running fetch should make room for the model that answers meanwhile.
    pub(in super::super) fn breaks_off(&mut self) -> bool {
        self.call_stand_in(false)
    }

    pub(super) fn retire_stand_in(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.by == By::Meanwhile) {
            entry.state = State::Retired;
        }
    }

    /// Shares the memory out between the default chat model and the one that answers meanwhile.
    /// `free`: what is free beside so many bytes of mapped files. It is asked only when the default
    /// one has just come or failed, or has rested: while it loads there is less and less room.
    pub(in super::super) fn make_room(&mut self, now: Instant, free: impl Fn(u64) -> Option<u64>) {
        self.end_rest(now, &free);
        let starts = |entry: &&mut Entry| {
            entry.is_default_chat() && matches!(entry.state, State::Starting { .. })
        };
        let Some(default) = self.entries.iter_mut().find(starts) else { return };
        let Some(wants) = default.trial.wants.take() else { return };
        let (is_failing, is_hopeless) =
            (default.trial.failing.is_some(), default.trial.is_hopeless(now));
        let Some(other) = self.stand_in() else { return };
        match other.state {
            State::Starting { .. } | State::Serving if self.has_room(wants, &free) => {}
            State::Starting { .. } | State::Serving if is_hopeless => self.rest(now),
            State::Starting { .. } | State::Serving => self.hand_over(now),
            State::Retired if other.received >= other.missing && is_failing => {
                let both = wants.saturating_add(memory_needed(other.model.bytes));
                if self.has_room(both, &free) {
                    self.recall_stand_in();
                } else if is_hopeless {
                    self.rest(now);
                }
            }
            State::Held
            | State::Waiting { .. }
            | State::Fetching
            | State::Retired
            | State::Resting { .. }
            | State::Never { .. } => {}
        }
    }

    /// The default one has the machine. That it is refused until the other one's memory is free is
    /// no failure yet.
    fn hand_over(&mut self, now: Instant) {
        self.retire_stand_in();
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.is_default_chat()) {
            entry.trial.waits(now);
        }
    }

    fn stand_in(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.by == By::Meanwhile)
    }

    /// Who has answered meanwhile does so again.
    fn recall_stand_in(&mut self) {
        let retired = |entry: &&mut Entry| entry.by == By::Meanwhile && entry.is_retired();
        if let Some(entry) = self.entries.iter_mut().find(retired) {
            entry.state = State::Starting { problem: None };
        }
    }

    /// Whether so much memory is free beside the other chat models: what has to be loaded yet
    /// counts as a whole, of what is loaded the file is mapped.
    fn has_room(&self, wants: u64, free: &impl Fn(u64) -> Option<u64>) -> bool {
        let (mut wants, mut mapped) = (wants, 0_u64);
        let others = |entry: &&Entry| entry.model.intent == "chat" && !entry.is_default_chat();
        for entry in self.entries.iter().filter(others) {
            if entry.state == State::Serving {
                mapped = mapped.saturating_add(entry.model.bytes);
            } else if matches!(entry.state, State::Starting { .. }) {
                wants = wants.saturating_add(memory_needed(entry.model.bytes));
            }
        }
        free(mapped).is_none_or(|free| free >= wants)
    }

    fn rest(&mut self, now: Instant) {
        let other = self.stand_in().map(|entry| entry.model.title.clone()).unwrap_or_default();
        self.recall_stand_in();
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.is_default_chat()) else {
            return;
        };
        let State::Starting { problem } = &entry.state else { return };
        let problem = problem.clone().or(entry.trouble.take()).unwrap_or_default();
        let pause = entry.trial.rest();
        let words = format!(
            "{} does not run: {problem}. {other} answers; the other one is tried again in {}.",
            entry.title(),
            spoken(pause)
        );
        entry.state = State::Resting { again: now + pause, problem };
        self.said.push(entry.say("resting", Some(words)));
    }

    /// One that has rested is tried beside the other one, or alone if there would be room then.
    fn end_rest(&mut self, now: Instant, free: &impl Fn(u64) -> Option<u64>) {
        let rested =
            |entry: &Entry| matches!(entry.state, State::Resting { again, .. } if again <= now);
        let Some(default) = self.entries.iter().find(|entry| rested(entry)) else { return };
        let wants = memory_needed(default.model.bytes);
        let is_tried = self.has_room(wants, free) || self.has_room_alone(wants, free);
        if is_tried && !self.has_room(wants, free) {
            self.hand_over(now);
        }
        let Some(entry) = self.entries.iter_mut().find(|entry| rested(entry)) else { return };
        match &mut entry.state {
            State::Resting { again, .. } if !is_tried => *again = now + ROOM_EVERY,
            State::Resting { .. } => {
                entry.state = State::Starting { problem: None };
                self.said.push(entry.say("starting", None));
            }
            State::Held
            | State::Waiting { .. }
            | State::Fetching
            | State::Starting { .. }
            | State::Serving
            | State::Retired
            | State::Never { .. } => {}
        }
    }

    /// Whether there would be room without the model that answers meanwhile.
    fn has_room_alone(&self, wants: u64, free: &impl Fn(u64) -> Option<u64>) -> bool {
        let serves = |entry: &&Entry| entry.state == State::Serving;
        // Beside its file, which is mapped: what it gives back when it ends.
        let its_own =
            |entry: &Entry| memory_needed(entry.model.bytes).saturating_sub(entry.model.bytes);
        let freed = self.stand_in().filter(serves).map_or(0, its_own);
        free(0).is_none_or(|free| free.saturating_add(freed) >= wants)
    }
}
