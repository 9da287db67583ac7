//! Workers that never come again are forgotten: not seen on thirty days on which the realm ran, so
//! that a realm which was away for a year forgets nobody for it.

use mtor_types::Time;
use mtor_types::WorkerId;
use mtor_types::fact::Fact;

use super::Registry;
use crate::limits;
use crate::turn::Turn;

impl Registry {
    /// Once a day: the days on which the realm runs are counted.
    pub(super) fn begin_day(&mut self, turn: &mut Turn) {
        let day = turn.now.day();
        if day > self.enrolments.day {
            self.decided(turn, Fact::DayBegan { day });
            // Who stays for long is here on every day.
            self.to_see = Some(WorkerId([0; 32]));
        }
        self.see_present(turn);
    }

    /// Some at a time; each tick sees more, until all were seen that are here.
    fn see_present(&mut self, turn: &mut Turn) {
        let Some(from) = self.to_see.take() else { return };
        let mut next = self.presences.range(from..).inspect(|_| self.steps.one());
        let some = next.by_ref().take(limits::WORKERS_SEEN_AT_ONCE);
        let present = some.filter(|(_, found)| found.session.is_some());
        let present: Vec<WorkerId> = present.map(|(worker, _)| *worker).collect();
        let to_see = next.next().map(|(worker, _)| *worker);
        self.to_see = to_see;
        present.into_iter().for_each(|worker| self.seen(turn, worker));
    }

    /// Some at a time; each tick forgets more, until none is left.
    pub(super) fn forget_unseen(&mut self, turn: &mut Turn) {
        let oldest = self.enrolments.days.saturating_sub(limits::WORKER_UNSEEN_DAYS);
        for _ in 0..limits::WORKERS_FORGOTTEN_AT_ONCE {
            let Some((seen, worker)) = self.strangers.first().copied() else { return };
            if seen >= oldest {
                return;
            }
            self.steps.one();
            // Known to be enrolled, so there is nothing to refuse.
            let _ = self.remove_worker(turn, worker);
        }
    }

    /// A worker is here today.
    pub(super) fn seen(&mut self, turn: &mut Turn, worker: WorkerId) {
        let days = self.enrolments.days;
        if self.enrolments.workers.get(&worker).is_some_and(|found| found.seen != days) {
            self.decided(turn, Fact::WorkerSeen { worker });
        }
    }

    /// The next day, as long as there is anybody to forget.
    pub(super) fn next_day(&self) -> Option<Time> {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        if self.to_see.is_some() {
            return Some(Time::default());
        }
        self.strangers.first()?;
        Some(Time(self.enrolments.day.saturating_add(1).saturating_mul(DAY_MS)))
    }
}
