//! Who may go on with what it says it holds.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one effect among all")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn claim_of(grant: &Assignment) -> Vec<LeaseClaim> {
    vec![LeaseClaim { intent: grant.meta.id, attempt: grant.attempt }]
}

impl World {
    fn drop_session(&mut self, worker: WorkerId, session: u64) {
        self.take(Message::SessionLost { worker, session: SessionId(session) });
    }

    /// The edge's answer to a lost attempt.
    fn told(&mut self, grant: &Assignment, delivered: bool) {
        let why = Why::WorkerFailed { code: Code::WorkerFailed, retry: true };
        let (intent, attempt, usage) = (grant.meta.id, Some(grant.attempt), Usage::default());
        self.take(Message::End(EndRequest { intent, attempt, why, usage, delivered }));
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.turn.effects).into_iter().map(|(_, effect)| effect).collect()
    }

    /// What was lost is away for so long and comes back in session 2.
    fn away(&mut self, grant: &Assignment, delivered: bool, ms: u64) {
        self.drop_session(A, 1);
        if grant.meta.durable {
            self.later(limits::LEASE_MS);
        }
        self.told(grant, delivered);
        self.later(ms);
        self.effects();
        self.attach_with(A, 2, 1, &[1], claim_of(grant));
    }
}

#[test]
fn the_only_worker_comes_back_and_goes_on() {
    for (meta, delivered) in [
        (meta(1), false),
        (meta(1), true),
        (ephemeral(1), false),
        (ephemeral(1), true),
        (IntentMeta { restart: false, ..meta(1) }, true),
    ] {
        let mut world = World::new();
        world.attach(A, 1, 1, &[1]);
        world.put(meta, false);
        let first = world.granted().remove(0);
        world.away(&first, delivered, 5_000);
        let effects = world.effects();
        let again = |effect: &Effect| matches!(effect, Effect::Restarted { .. });
        assert!(!effects.iter().any(again), "nothing begins anew: {effects:?}");
        let adopted = effects.into_iter().find_map(|effect| match effect {
            Effect::Adopt(grant) => Some(grant),
            _ => None,
        });
        let adopted = adopted.unwrap();
        assert_eq!((adopted.attempt, adopted.worker), (first.attempt, A));
        assert!(adopted.fence > first.fence);
        world.end(&adopted, Why::Completed(Reason::Done));
        let ended: Vec<Outcome> = world.resolved().into_iter().map(|end| end.outcome).collect();
        assert_eq!(ended, [Outcome::Completed(Reason::Done)]);
        assert_eq!((world.router.queued(), world.router.leased()), (0, 0));
    }
}

#[test]
fn what_may_not_begin_anew_waits_for_its_own_worker_and_not_for_ever() {
    for (meta, wait_ms) in [
        (IntentMeta { restart: false, ..ephemeral(1) }, limits::LEASE_MS),
        (IntentMeta { restart: false, ..meta(1) }, limits::UNSERVED_MS),
    ] {
        let mut world = World::new();
        world.attach(A, 1, 1, &[1]);
        world.put(meta, false);
        let first = world.granted().remove(0);
        world.away(&first, true, wait_ms - 1);
        assert_eq!(world.granted()[0].attempt, first.attempt);
        let mut world = World::new();
        world.attach(A, 1, 1, &[1]);
        world.attach(B, 9, 1, &[1]);
        world.put(first.meta.as_ref().clone(), false);
        let first = world.granted().remove(0);
        world.drop_session(first.worker, first.session.0);
        world.later(limits::LEASE_MS);
        world.told(&first, true);
        world.later(wait_ms);
        assert!(world.granted().is_empty(), "nobody else gets it");
        let ended: Vec<Outcome> = world.resolved().into_iter().map(|end| end.outcome).collect();
        assert_eq!(ended, [Outcome::Failed(Code::WorkerFailed)]);
    }
}

#[test]
fn what_another_has_begun_anew_is_not_given_back() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[1]);
    world.put(ephemeral(1), false);
    let first = world.granted().remove(0);
    world.attach(B, 9, 1, &[1]);
    world.drop_session(A, 1);
    world.told(&first, true);
    let effects = world.effects();
    let restarted = Effect::Restarted { intent: first.meta.id, attempt: first.attempt };
    assert!(effects.contains(&restarted), "{effects:?}");
    world.attach_with(A, 2, 1, &[1], claim_of(&first));
    let (intent, attempt) = (first.meta.id, first.attempt);
    let revoked = |effect: &Effect| matches!(effect, Effect::Revoke { intent: i, attempt: a, .. } if (*i, *a) == (intent, attempt));
    assert!(world.effects().iter().any(revoked));
    assert_eq!(world.router.leased(), 1);
}

#[test]
fn only_the_last_attempt_comes_back_and_only_if_it_was_lost() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[1]);
    world.put(ephemeral(1), false);
    let first = world.granted().remove(0);
    world.attach(B, 9, 1, &[1]);
    world.drop_session(A, 1);
    world.told(&first, false);
    let second = world.granted().pop().unwrap();
    assert_eq!(second.worker, B);
    world.drop_session(B, 9);
    world.told(&second, false);
    // Both are away, and it waits; the first attempt is not the last.
    world.attach_with(A, 2, 0, &[], claim_of(&first));
    assert!(world.granted().is_empty());
    world.attach_with(B, 10, 1, &[1], claim_of(&second));
    let adopted = world.granted().remove(0);
    assert_eq!(adopted.attempt, second.attempt);
    // What its worker failed itself is over for it.
    world.fail(&adopted);
    world.attach_with(B, 11, 1, &[1], claim_of(&second));
    assert!(world.granted().is_empty());
}

#[test]
fn who_comes_with_an_older_attempt_begins_it_anew() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[1]);
    world.put(ephemeral(1), false);
    let first = world.granted().remove(0);
    world.attach(B, 9, 1, &[1]);
    world.drop_session(A, 1);
    world.told(&first, false);
    let second = world.granted().pop().unwrap();
    world.drop_session(B, 9);
    world.told(&second, false);
    // It pauses after its second loss, or is given anew: never is the first attempt gone on with.
    world.attach_with(A, 2, 1, &[1], claim_of(&first));
    let effects = world.effects();
    let adopted = |effect: &Effect| matches!(effect, Effect::Adopt(_));
    assert!(!effects.iter().any(adopted), "{effects:?}");
    let revoked = |effect: &Effect| matches!(effect, Effect::Revoke { attempt, .. } if *attempt == first.attempt);
    assert!(effects.iter().any(revoked), "and it is told so");
}

#[test]
fn a_claim_that_comes_before_the_edges_word_is_answered_after_it() {
    for ends in [false, true] {
        let mut world = World::new();
        world.attach(A, 1, 1, &[1]);
        world.put(ephemeral(1), false);
        let first = world.granted().remove(0);
        world.drop_session(A, 1);
        world.attach_with(A, 2, 1, &[1], claim_of(&first));
        let revoked = |effect: &Effect| matches!(effect, Effect::Revoke { session, .. } if *session == SessionId(2));
        assert!(!world.effects().iter().any(revoked), "it is not answered yet");
        if ends {
            // It was done before it was lost.
            world.end(&first, Why::Completed(Reason::Done));
            assert!(world.effects().iter().any(revoked), "and need not be kept");
            assert_eq!(world.router.leased(), 0);
        } else {
            world.told(&first, true);
            assert_eq!(world.granted()[0].attempt, first.attempt);
        }
    }
}

#[test]
fn after_a_restart_it_is_adopted_at_any_time_before_it_was_begun_anew() {
    let mut world = World::new();
    world.put(meta(1), true);
    // Nobody came in time, and nobody is there to begin it.
    world.later(3_000_000);
    assert_eq!(world.router.queued(), 1);
    world.attach_with(A, 1, 1, &[1], claim(1));
    assert_eq!(world.granted()[0].attempt, claim(1)[0].attempt);
    assert_eq!((world.router.queued(), world.router.leased()), (0, 1));
    // One that another began meanwhile is not.
    let mut world = World::new();
    world.put(meta(1), true);
    world.later(limits::LEASE_MS);
    world.attach(B, 1, 1, &[1]);
    assert_eq!(world.granted()[0].worker, B);
    world.attach_with(A, 2, 1, &[1], claim(1));
    assert!(world.granted().is_empty());
}

#[test]
fn how_long_it_was_away_teaches_nothing() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[1]);
    world.put(ephemeral(1), false);
    let first = world.granted().remove(0);
    world.later(100_000);
    world.away(&first, false, 8_000);
    let adopted = world.granted().remove(0);
    world.end(&adopted, Why::Completed(Reason::Done));
    assert_eq!(world.router.estimates.get("echo", 100).mean_ms, limits::FIRST_ESTIMATE_MS);
}

/// What a test knows of the one intent.
#[derive(Debug, Default)]
struct Model {
    /// Sessions by worker; false once it is over.
    sessions: BTreeMap<WorkerId, (u64, bool)>,
    /// The attempt each worker still holds.
    holds: BTreeMap<WorkerId, Attempt>,
    last: Option<(WorkerId, Attempt)>,
    runs: Option<(WorkerId, Attempt)>,
    failed: bool,
    /// Lost attempts that the edge has not answered for.
    asked: Vec<Assignment>,
    grants: BTreeMap<Attempt, Assignment>,
    over: bool,
}

impl Model {
    fn see(&mut self, world: &mut World) -> Result<Option<Attempt>, TestCaseError> {
        let mut adopted = None;
        for effect in world.effects() {
            match effect {
                Effect::Assign(grant) => {
                    prop_assert!(self.runs.is_none(), "two at once");
                    prop_assert!(self.last.is_none_or(|(_, last)| last < grant.attempt));
                    let taken = (grant.worker, grant.attempt);
                    (self.last, self.runs, self.failed) = (Some(taken), Some(taken), false);
                    self.holds.insert(grant.worker, grant.attempt);
                    self.grants.insert(grant.attempt, grant);
                }
                Effect::Adopt(grant) => {
                    let taken = (grant.worker, grant.attempt);
                    prop_assert_eq!(Some(taken), self.last, "only the last");
                    prop_assert!(!self.failed, "only if it was lost");
                    prop_assert!(self.runs.is_none_or(|runs| runs == taken));
                    self.runs = Some(taken);
                    adopted = Some(grant.attempt);
                    self.grants.insert(grant.attempt, grant);
                }
                Effect::Revoke { worker, attempt, session, .. } => {
                    let here = self.sessions.get(&worker) == Some(&(session.0, true));
                    if here && self.holds.get(&worker) == Some(&attempt) {
                        self.holds.remove(&worker);
                    }
                }
                Effect::Lost { attempt, .. } => {
                    self.runs = None;
                    let known = self.asked.iter().any(|grant| grant.attempt == attempt);
                    if !known && let Some(grant) = self.grants.get(&attempt) {
                        self.asked.push(grant.clone());
                    }
                }
                _ => {}
            }
        }
        self.over |= !world.resolved().is_empty();
        if self.over {
            (self.runs, self.last) = (None, None);
        }
        Ok(adopted)
    }
}

proptest! {
    /// A worker that comes back with the last attempt, which was lost, goes on with it; nobody else
    /// ever does, and nothing runs twice at once.
    #[test]
    fn who_holds_the_last_attempt_goes_on_with_it(
        durable: bool, restart: bool,
        steps in prop::collection::vec((0_u8..6, any::<bool>(), any::<bool>()), 1..40),
    ) {
        let mut world = World::new();
        let mut model = Model::default();
        for (number, worker) in [(1, A), (2, B)] {
            world.attach(worker, number, 1, &[1]);
            model.sessions.insert(worker, (number, true));
        }
        world.put(IntentMeta { durable, restart, ..meta(1) }, false);
        model.see(&mut world)?;
        let mut next = 10;
        for (what, first, flag) in steps {
            let worker = if first { A } else { B };
            let (session, open) = model.sessions[&worker];
            match what {
                0 | 1 => {
                    next += 1;
                    let held = model.holds.get(&worker).copied();
                    let claims = held.map(|attempt| LeaseClaim { intent: IntentId([1; 16]), attempt });
                    model.sessions.insert(worker, (next, true));
                    let waits = model.asked.is_empty() && !model.over && !model.failed;
                    let last = held.is_some_and(|held| model.last == Some((worker, held)));
                    world.attach_with(worker, next, 1, &[1], claims.into_iter().collect());
                    let adopted = model.see(&mut world)?;
                    prop_assert!(!(waits && last) || adopted == held, "{held:?} is not adopted");
                }
                2 if open => {
                    model.sessions.insert(worker, (session, false));
                    world.drop_session(worker, session);
                }
                3 => world.later(if flag { 500 } else { limits::LEASE_MS }),
                4 => {
                    for grant in std::mem::take(&mut model.asked) {
                        world.told(&grant, flag);
                    }
                }
                5 if model.runs.is_some() && flag => {
                    let (worker, attempt) = model.runs.unwrap_or((A, Attempt(0)));
                    let grant = model.grants[&attempt].clone();
                    model.holds.remove(&worker);
                    (model.runs, model.failed) = (None, true);
                    world.fail(&grant);
                }
                _ => {}
            }
            model.see(&mut world)?;
        }
    }
}
