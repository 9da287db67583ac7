//! What a worker's last attempts in one kind were like, and when that is too bad to go on.
//!
//! A failure may be the doing of the work and not of the worker, so one alone says little: five in a
//! row count if at least two branches asked, three if another worker could do what this one failed,
//! and in the long run more than half, of two branches again. What a second worker fails too is nobody's. Who is ejected
//! comes back by one probe after a time that doubles.

use std::collections::VecDeque;

use mtor_types::intent::Branch;
use mtor_types::mutant;
use mtor_types::{Attempt, Time};

use super::Earned;
use crate::limits;

/// Why a worker is ejected from a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejection {
    /// Failures in a row, for more than one branch.
    InARow,
    /// Failures in a row of what another worker could do.
    Confirmed,
    /// More than half of its last attempts.
    MoreThanHalf,
    /// The probe after an earlier ejection.
    Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It serves as any other.
    Full,
    /// It serves only what no other connected worker could, until then.
    Ejected { until: Time, why: Ejection },
    /// One slot, until its next result.
    Probing,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    attempt: Attempt,
    branch: Branch,
    confirmed: bool,
    /// Of all marks.
    number: u64,
    /// The rows of good results that it ended.
    row: u32,
    good: u32,
}

/// What an ejection took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    pub(super) earned: Earned,
    /// Whether nobody has said another word of its proof since.
    pub(super) proof_stands: bool,
}

/// Soft: begins anew with a start of the realm.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// A bit for each of the last marks, the newest lowest; set for a failure.
    history: u32,
    /// Bits that mean something.
    known: u32,
    /// Marks so far.
    number: u64,
    failures: VecDeque<Failure>,
    /// Good results since the last growth, failure or return.
    row: u32,
    /// And, whatever it earned meanwhile, since the last failure or return.
    good: u32,
    ejections: u32,
    duty: Duty,
    /// Why it was ejected last.
    out_for: Option<Ejection>,
    /// What it had before that, until a probe tells.
    before: Option<Before>,
    /// Only newer attempts than this tell how a probe goes.
    heeded_after: Attempt,
}

/// As many as there are marks in the history: each may be confirmed or excused.
const FAILURES_KEPT: usize = 32;
/// The last failures of which the rules ask who wanted that work.
const LOOKED_AT: usize = 8;
const IN_A_ROW: u32 = 5;
const BRANCHES: usize = 2;
const CONFIRMED: usize = 3;
const OF_AT_LEAST: u32 = 20;

impl Default for Record {
    fn default() -> Self {
        let (history, known, number, row, good, ejections) = (0, 0, 0, 0, 0, 0);
        let (failures, duty) = (VecDeque::new(), Duty::Full);
        let (out_for, before, heeded_after) = (None, None, Attempt(0));
        Self {
            history,
            known,
            number,
            failures,
            row,
            good,
            ejections,
            duty,
            out_for,
            before,
            heeded_after,
        }
    }
}

impl Record {
    pub(super) fn duty(&self) -> Duty {
        self.duty
    }

    /// How much would be forgotten with it.
    pub(super) fn weight(&self) -> (bool, u32, u32, u32) {
        let is_out = self.duty != Duty::Full;
        (is_out, self.ejections, self.history.count_ones(), self.row)
    }

    /// Good results in a row.
    pub(super) fn row(&self) -> u32 {
        self.row
    }

    /// What it earned for its row is given: the next begins.
    pub(super) fn begin_row(&mut self) {
        self.row = 0;
    }

    /// What its ejection took; the caller gives it back.
    pub(super) fn take_before(&mut self) -> Option<Before> {
        self.before.take()
    }

    pub(super) fn had_before(&mut self, earned: Earned) {
        self.before = Some(Before { earned, proof_stands: true });
    }

    /// Somebody says another word of its proof.
    pub(super) fn proof_changes(&mut self) {
        if let Some(before) = &mut self.before {
            before.proof_stands = false;
        }
    }

    /// A good result. True: a probe succeeded.
    pub(super) fn good(&mut self, attempt: Attempt) -> bool {
        match self.duty {
            Duty::Ejected { .. } => return false,
            // Begun before it was ejected: no probe.
            Duty::Probing if attempt <= self.heeded_after => return false,
            Duty::Probing => {
                self.begin_anew();
                return true;
            }
            Duty::Full => {}
        }
        self.mark(false);
        self.row = self.row.saturating_add(1);
        self.good = self.good.saturating_add(1);
        if self.good >= limits::EJECTIONS_FORGIVEN_AFTER {
            self.ejections = 0;
        }
        false
    }

    /// A failure. True: it is ejected by this. The same attempt counts once.
    pub(super) fn bad(&mut self, now: Time, attempt: Attempt, branch: Branch) -> bool {
        match self.duty {
            Duty::Ejected { .. } => return false,
            Duty::Probing if attempt <= self.heeded_after => return false,
            Duty::Probing => return self.fail_probe(now, attempt, branch),
            Duty::Full => {}
        }
        let ended = (std::mem::take(&mut self.row), std::mem::take(&mut self.good));
        self.fail(now, (attempt, branch), ended)
    }

    /// Nothing comes of an attempt. It counts as failed until its end, which may be good and is then no
    /// end of a row.
    pub(super) fn silent(&mut self, now: Time, attempt: Attempt, branch: Branch) -> bool {
        match self.duty {
            Duty::Ejected { .. } => false,
            Duty::Probing if attempt <= self.heeded_after => false,
            Duty::Probing => self.fail_probe(now, attempt, branch),
            Duty::Full => self.fail(now, (attempt, branch), (0, 0)),
        }
    }

    fn fail_probe(&mut self, now: Time, attempt: Attempt, branch: Branch) -> bool {
        if mutant!("probes-may-fail") {
            return false;
        }
        self.begin_anew();
        self.remember((attempt, branch), false, (0, 0));
        self.eject(now, Ejection::Probe)
    }

    /// After a probe nothing of what was before it counts.
    fn begin_anew(&mut self) {
        (self.duty, self.before) = (Duty::Full, None);
        (self.history, self.known, self.row, self.good) = (0, 0, 0, 0);
        self.failures.clear();
    }

    /// With the rows that end by it.
    fn fail(&mut self, now: Time, of: (Attempt, Branch), ended: (u32, u32)) -> bool {
        let (row, good) = ended;
        if let Some(known) = self.failures.iter_mut().find(|failure| failure.attempt == of.0) {
            known.row = known.row.saturating_add(row);
            known.good = known.good.saturating_add(good);
            return false;
        }
        self.mark(true);
        self.remember(of, false, ended);
        self.judge(now)
    }

    fn remember(
        &mut self,
        (attempt, branch): (Attempt, Branch),
        confirmed: bool,
        (row, good): (u32, u32),
    ) {
        let number = self.number;
        self.failures.push_back(Failure { attempt, branch, confirmed, number, row, good });
        if self.failures.len() > FAILURES_KEPT {
            self.failures.pop_front();
        }
    }

    /// Another worker could do what this one failed.
    pub(super) fn confirm(&mut self, now: Time, attempt: Attempt) -> bool {
        let found = self.failures.iter_mut().find(|failure| failure.attempt == attempt);
        let Some(found) = found else { return false };
        found.confirmed = true;
        self.duty == Duty::Full && self.judge(now)
    }

    /// The answer to a canary was wrong, which is known as if another worker had shown it.
    pub(super) fn wrong(&mut self, now: Time) -> bool {
        match self.duty {
            Duty::Ejected { .. } => return false,
            Duty::Probing => {
                // Nothing that it failed before is what it is ejected for.
                self.begin_anew();
                return self.eject(now, Ejection::Probe);
            }
            Duty::Full => {}
        }
        (self.row, self.good) = (0, 0);
        self.mark(true);
        self.remember((Attempt(0), Branch::Account), true, (0, 0));
        self.judge(now)
    }

    /// Another worker failed it too, or it was silent and ended well: as if it had not been. True: it
    /// was ejected, or is probed, for that, and is not any more.
    pub(super) fn excuse(&mut self, attempt: Attempt) -> bool {
        let Some(at) = self.failures.iter().position(|failure| failure.attempt == attempt) else {
            return false;
        };
        let Some(failure) = self.failures.remove(at) else { return false };
        self.unmark(&failure);
        // The rows that it ended go on, to the next failure if there is one.
        let next = self.failures.get_mut(at).map(|next| (&mut next.row, &mut next.good));
        let (row, good) = next.unwrap_or((&mut self.row, &mut self.good));
        *row = row.saturating_add(failure.row);
        *good = good.saturating_add(failure.good);
        let is_probes = self.out_for == Some(Ejection::Probe);
        self.duty = match self.duty {
            Duty::Full => return false,
            // The end of that attempt tells.
            Duty::Ejected { .. } | Duty::Probing if is_probes => {
                self.heeded_after = Attempt(attempt.0.saturating_sub(1));
                Duty::Probing
            }
            Duty::Ejected { .. } | Duty::Probing if self.rule().is_some() => return false,
            Duty::Ejected { .. } | Duty::Probing => Duty::Full,
        };
        self.ejections = self.ejections.saturating_sub(1);
        true
    }

    /// Takes a failure out of the history.
    fn unmark(&mut self, failure: &Failure) {
        let since = self.number.saturating_sub(failure.number);
        let Some(bit) = u32::try_from(since).ok().filter(|bit| *bit < self.known) else { return };
        let newer = self.history & 1_u32.checked_shl(bit).map_or(0, |bit| bit.wrapping_sub(1));
        let older = self.history.checked_shr(bit.saturating_add(1)).unwrap_or(0);
        self.history = newer | older.checked_shl(bit).unwrap_or(0);
        self.known = self.known.saturating_sub(1);
        for other in self.failures.iter_mut().filter(|other| other.number < failure.number) {
            other.number = other.number.saturating_add(1);
        }
    }

    /// The time of its ejection is over.
    pub(super) fn probe(&mut self, now: Time) -> bool {
        let over = matches!(self.duty, Duty::Ejected { until, .. } if until <= now);
        if over {
            self.duty = Duty::Probing;
        }
        over
    }

    fn mark(&mut self, failed: bool) {
        self.history = self.history.wrapping_shl(1) | u32::from(failed);
        self.known = self.known.saturating_add(1).min(u32::BITS);
        self.number = self.number.saturating_add(1);
    }

    fn judge(&mut self, now: Time) -> bool {
        self.rule().is_some_and(|why| self.eject(now, why))
    }

    /// What it is to be ejected for.
    fn rule(&self) -> Option<Ejection> {
        let in_a_row = self.history.trailing_ones().min(self.known);
        let last = usize::try_from(in_a_row).unwrap_or(usize::MAX);
        let looked_at = || self.failures.iter().rev().take(LOOKED_AT);
        let of_row = || looked_at().take(last);
        let mut branches: Vec<Branch> = of_row().map(|failure| failure.branch).collect();
        branches.sort_unstable();
        branches.dedup();
        if of_row().filter(|failure| failure.confirmed).count() >= CONFIRMED {
            return Some(Ejection::Confirmed);
        }
        let several = branches.len() >= BRANCHES || mutant!("one-branch-ejects");
        if in_a_row >= IN_A_ROW && several {
            return Some(Ejection::InARow);
        }
        let failed = self.history.count_ones();
        let first = self.failures.back().map(|failure| failure.branch);
        let of_several = looked_at().any(|failure| Some(failure.branch) != first);
        if of_several && self.known >= OF_AT_LEAST && failed.saturating_mul(2) > self.known {
            return Some(Ejection::MoreThanHalf);
        }
        None
    }

    fn eject(&mut self, now: Time, why: Ejection) -> bool {
        let doublings = if mutant!("out-as-long-each-time") { 0 } else { self.ejections };
        let times = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
        let out_ms = limits::EJECTED_MS.saturating_mul(times).min(limits::EJECTED_MAX_MS);
        self.ejections = self.ejections.saturating_add(1);
        (self.row, self.good) = (0, 0);
        let newest = self.failures.iter().map(|failure| failure.attempt).max();
        self.heeded_after = newest.unwrap_or_default().max(self.heeded_after);
        (self.duty, self.out_for) = (Duty::Ejected { until: now.after_ms(out_ms), why }, Some(why));
        true
    }
}

#[cfg(test)]
mod tests {
    use mtor_types::fact::NetworkKey;
    use proptest::prelude::*;

    use super::*;

    fn branch(n: u8) -> Branch {
        Branch::Network(NetworkKey([n; 16]))
    }

    fn bad(record: &mut Record, attempt: u64, of: u8) -> bool {
        record.bad(Time(0), Attempt(attempt), branch(of))
    }

    #[test]
    fn five_in_a_row_count_if_two_branches_asked() {
        let mut record = Record::default();
        assert!((0..99).all(|n| !bad(&mut record, n, 1)), "one branch alone");
        let mut record = Record::default();
        assert!((0..4).all(|n| !bad(&mut record, n, 1)));
        record.good(Attempt(u64::MAX));
        assert!((5..9).all(|n| !bad(&mut record, n, 1)));
        assert!(bad(&mut record, 9, 2));
    }

    #[test]
    fn what_it_earns_on_its_way_makes_forgiveness_no_longer() {
        let mut record = Record::default();
        assert!((0..5).any(|n| bad(&mut record, n, u8::try_from(n).unwrap())));
        assert!(record.probe(Time(limits::EJECTED_MS)) && record.good(Attempt(u64::MAX)));
        for n in 0..limits::EJECTIONS_FORGIVEN_AFTER {
            assert_eq!(record.ejections, 1, "after {n}");
            record.good(Attempt(u64::MAX));
            if n % 4 == 0 {
                record.begin_row();
            }
        }
        assert_eq!(record.ejections, 0);
    }

    #[test]
    fn three_that_another_could_do_are_enough() {
        let mut record = Record::default();
        assert!((0..3).all(|n| !bad(&mut record, n, 1)));
        let confirmed = (0..3).map(|n| record.confirm(Time(0), Attempt(n)));
        assert_eq!(confirmed.collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn more_than_half_of_twenty_is_too_much() {
        let mut record = Record::default();
        let mut ejected = Vec::new();
        for n in 0..32 {
            if n % 3 == 0 {
                record.good(Attempt(u64::MAX));
            } else if bad(&mut record, n, u8::from(n % 2 == 0)) {
                ejected.push(n);
                break;
            }
        }
        assert_eq!(ejected, [19]);
    }

    #[test]
    fn what_another_fails_too_is_nobodys() {
        let mut record = Record::default();
        for n in 0..200 {
            assert!(!bad(&mut record, n, u8::try_from(n).unwrap()));
            record.excuse(Attempt(n));
        }
        assert_eq!(record.weight(), (false, 0, 0, 0));
    }

    #[test]
    fn three_wrong_canaries_in_a_row_are_enough_though_each_came_in_time() {
        let mut record = Record::default();
        let wrong = (0..3).map(|_| record.wrong(Time(0)));
        assert_eq!(wrong.collect::<Vec<_>>(), [false, false, true]);
        let mut record = Record::default();
        for _ in 0..9 {
            assert!(!record.wrong(Time(0)), "with good work between them they are not in a row");
            (0..2).for_each(|_| assert!(!record.good(Attempt(u64::MAX))));
        }
    }

    #[test]
    fn who_is_ejected_for_what_another_fails_too_comes_back_at_once() {
        let mut record = Record::default();
        let ejected = (0..5).map(|n| bad(&mut record, n, u8::try_from(n).unwrap()));
        assert_eq!(ejected.last(), Some(true));
        assert!(record.excuse(Attempt(2)));
        assert_eq!((record.duty(), record.ejections), (Duty::Full, 0));
        // And so does a probe.
        let mut record = Record::default();
        assert!((0..5).any(|n| bad(&mut record, n, u8::try_from(n).unwrap())));
        let Duty::Ejected { until, .. } = record.duty() else { unreachable!() };
        assert!(record.probe(until) && bad(&mut record, 9, 1) && record.excuse(Attempt(9)));
        assert_eq!(record.duty(), Duty::Probing);
    }

    #[test]
    fn it_comes_back_by_a_probe_and_later_each_time() {
        let mut record = Record::default();
        let mut now = Time(0);
        assert!((0..3).all(|n| !record.bad(now, Attempt(n), branch(1))));
        assert!((0..3).any(|n| record.confirm(now, Attempt(n))));
        for n in 0..12_u32 {
            let Duty::Ejected { until, .. } = record.duty() else { unreachable!() };
            let out = until.since_ms(now);
            assert_eq!(out, (limits::EJECTED_MS << n).min(limits::EJECTED_MAX_MS));
            assert!(!record.probe(Time(until.0 - 1)));
            assert!(!record.bad(now, Attempt(90), branch(1)), "it is out already");
            now = until;
            assert!(record.probe(now));
            assert!(!record.bad(now, Attempt(2), branch(1)), "what it began before is no probe");
            assert!(record.bad(now, Attempt(100 + u64::from(n)), branch(1)), "one is enough");
        }
        let Duty::Ejected { until, .. } = record.duty() else { unreachable!() };
        assert!(record.probe(until) && record.good(Attempt(u64::MAX)));
        assert_eq!(record.duty(), Duty::Full);
        for _ in 0..limits::EJECTIONS_FORGIVEN_AFTER {
            record.good(Attempt(u64::MAX));
        }
        assert_eq!(record.ejections, 0);
    }

    #[test]
    fn who_is_silent_and_ends_well_has_not_failed() {
        let mut record = Record::default();
        for n in 0..40 {
            assert!(!record.silent(Time(0), Attempt(n), branch(1)));
            assert!(!record.excuse(Attempt(n)));
            record.good(Attempt(n));
        }
        assert_eq!((record.row(), record.history), (40, 0), "every time");
        // One that fails besides has failed once.
        assert!(!record.silent(Time(0), Attempt(50), branch(1)));
        assert!(!bad(&mut record, 50, 1));
        assert_eq!((record.row(), record.history), (0, 1));
        assert!((51..54).all(|n| !record.silent(Time(0), Attempt(n), branch(1))));
        assert!(record.silent(Time(0), Attempt(54), branch(2)));
        // Of the five that ended it one was worth waiting for.
        assert!(record.excuse(Attempt(52)));
        assert_eq!(record.duty(), Duty::Full);
        let Duty::Ejected { until, .. } =
            [60, 61, 62, 63, 64].map(|n| (bad(&mut record, n, n as u8), record.duty()).1)[4]
        else {
            unreachable!()
        };
        // So is a probe that takes its time.
        assert!(record.probe(until) && record.silent(until, Attempt(70), branch(1)));
        assert!(record.excuse(Attempt(70)) && record.good(Attempt(70)));
        assert_eq!(record.duty(), Duty::Full);
    }

    #[test]
    fn what_one_good_end_takes_back_leaves_the_other_failures() {
        let mut record = Record::default();
        for round in 0..3 {
            let first = round * 10;
            fails(&mut record, first..first + 4);
            let last = Attempt(first + 4);
            let out = record.silent(Time(0), last, branch(1));
            let back = record.excuse(last);
            record.good(last);
            assert_eq!((out, back), (true, true), "round {round}");
        }
        assert_eq!(record.history.count_ones(), 12, "four of five, each time");
        // Twenty of them, and it is out for good reason.
        fails(&mut record, 30..34);
        assert_eq!(record.known, 19);
        record.good(Attempt(34));
        assert!(bad(&mut record, 35, 1));
    }

    #[test]
    fn a_wrong_canary_fails_a_probe_whatever_is_excused_of_what_was_before() {
        let mut record = Record::default();
        fails(&mut record, 0..5);
        assert!(record.probe(Time(limits::EJECTED_MS)) && record.wrong(Time(0)));
        assert!(!record.excuse(Attempt(2)));
        assert!(matches!(record.duty(), Duty::Ejected { why: Ejection::Probe, .. }));
    }

    #[test]
    fn a_good_end_takes_an_ejection_back_after_its_time_too() {
        let mut record = Record::default();
        assert!((0..5).any(|n| record.silent(Time(0), Attempt(n), branch(n as u8))));
        assert!(record.probe(Time(limits::EJECTED_MS)) && record.excuse(Attempt(2)));
        assert_eq!((record.duty(), record.ejections), (Duty::Full, 0));
    }

    #[test]
    fn what_is_excused_ends_no_row() {
        let mut record = Record::default();
        let goods = |record: &mut Record, n: u32| {
            (0..n).for_each(|_| assert!(!record.good(Attempt(u64::MAX))));
        };
        goods(&mut record, 3);
        bad(&mut record, 1, 1);
        goods(&mut record, 2);
        bad(&mut record, 2, 1);
        goods(&mut record, 1);
        assert!(!record.excuse(Attempt(1)) && record.row() == 1, "another failure ended it too");
        assert!(!record.excuse(Attempt(2)));
        assert_eq!((record.row(), record.good), (6, 6));
        // Silent first, and failed then.
        assert!(!record.silent(Time(0), Attempt(3), branch(1)));
        assert!(!bad(&mut record, 3, 1) && !record.excuse(Attempt(3)));
        assert_eq!(record.row(), 6);
    }

    #[test]
    fn each_of_many_silent_attempts_is_known() {
        let mut record = Record::default();
        (0..16).for_each(|n| assert!(!record.silent(Time(0), Attempt(n), branch(1))));
        (0..8).for_each(|n| assert!(!bad(&mut record, n, 1), "it has failed once"));
        assert_eq!((record.history.count_ones(), record.known), (16, 16));
        (0..16).for_each(|n| assert!(!record.excuse(Attempt(n))));
        assert_eq!(record.history, 0);
    }

    #[test]
    fn an_ejection_ends_every_row() {
        let mut record = Record::default();
        (0..7).for_each(|_| assert!(!record.good(Attempt(u64::MAX))));
        assert!((0..5).any(|n| record.silent(Time(0), Attempt(n), branch(n as u8))));
        assert_eq!(record.row(), 0, "though silence alone ends none");
    }

    #[test]
    fn more_than_half_is_taken_back_when_it_is_no_more() {
        let mut record = Record::default();
        (0..8).for_each(|n| record_one(&mut record, n, n % 2 == 0));
        let mut n = 8;
        while record.duty() == Duty::Full {
            record_one(&mut record, n, n % 3 == 0);
            n += 1;
            assert!(n < 40);
        }
        let last: Vec<Attempt> = record.failures.iter().map(|failure| failure.attempt).collect();
        let back = last.iter().position(|attempt| record.excuse(*attempt));
        assert_eq!(record.duty(), Duty::Full, "{back:?}");
    }

    /// Each of another branch.
    fn fails(record: &mut Record, attempts: std::ops::Range<u64>) {
        for n in attempts {
            bad(record, n, n as u8);
        }
    }

    fn record_one(record: &mut Record, n: u64, good: bool) {
        if good {
            record.good(Attempt(n));
        } else {
            bad(record, n, u8::from(n.is_multiple_of(5)));
        }
    }

    /// Against a list of all marks.
    #[derive(Clone, Debug)]
    enum Op {
        Good,
        Bad(u8),
        Confirm(u8),
        Excuse(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => Just(Op::Good),
            4 => (0..3_u8).prop_map(Op::Bad),
            2 => (0..5_u8).prop_map(Op::Confirm),
            2 => (0..5_u8).prop_map(Op::Excuse),
        ]
    }

    proptest! {
        #[test]
        fn it_ejects_exactly_when_the_rules_say(ops in prop::collection::vec(op(), 1..120)) {
            let mut record = Record::default();
            // (attempt, branch, confirmed); a good result has none.
            let mut marks: Vec<Option<(u64, u8, bool)>> = Vec::new();
            // Failures that are still known one by one.
            let mut kept: Vec<u64> = Vec::new();
            for (n, op) in ops.into_iter().enumerate() {
                let n = n as u64;
                if marks.len() > 32 {
                    marks.remove(0);
                }
                let recent = |back: u8| {
                    let mut last = marks.iter().rev().flatten().map(|mark| mark.0);
                    last.nth(back.into()).filter(|attempt| kept.contains(attempt))
                };
                let ejected = match op {
                    Op::Good => {
                        record.good(Attempt(u64::MAX));
                        marks.push(None);
                        continue;
                    }
                    Op::Bad(of) => {
                        marks.push(Some((n, of, false)));
                        kept.push(n);
                        if kept.len() > FAILURES_KEPT {
                            kept.remove(0);
                        }
                        bad(&mut record, n, of)
                    }
                    Op::Confirm(back) => {
                        let Some(attempt) = recent(back) else { continue };
                        let of = |mark: &&mut (u64, u8, bool)| mark.0 == attempt;
                        marks.iter_mut().flatten().find(of).unwrap().2 = true;
                        record.confirm(Time(0), Attempt(attempt))
                    }
                    Op::Excuse(back) => {
                        let Some(attempt) = recent(back) else { continue };
                        marks.retain(|mark| mark.is_none_or(|mark| mark.0 != attempt));
                        kept.retain(|known| *known != attempt);
                        record.excuse(Attempt(attempt));
                        continue;
                    }
                };
                let row: Vec<_> = marks.iter().rev().map_while(|mark| *mark).collect();
                let looked_at = kept.iter().rev().take(LOOKED_AT).collect::<Vec<_>>();
                let seen: Vec<_> = row.iter().filter(|mark| looked_at.contains(&&mark.0)).collect();
                let branches: std::collections::BTreeSet<u8> =
                    seen.iter().map(|mark| mark.1).collect();
                let confirmed = seen.iter().filter(|mark| mark.2).count();
                let last: Vec<_> = marks.iter().rev().take(32).collect();
                let failed = last.iter().filter(|mark| mark.is_some()).count();
                let of = |attempt: &&u64| {
                    let mark = marks.iter().flatten().find(|mark| mark.0 == **attempt);
                    mark.map(|mark| mark.1)
                };
                let several: std::collections::BTreeSet<_> =
                    looked_at.iter().map(of).collect();
                let expected = confirmed >= 3
                    || (row.len() >= 5 && branches.len() >= 2)
                    || (several.len() >= 2 && last.len() >= 20 && failed * 2 > last.len());
                prop_assert_eq!(ejected, expected, "{:?}", marks);
                if ejected {
                    return Ok(());
                }
            }
        }
    }
}
