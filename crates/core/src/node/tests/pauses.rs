//! A node that had no round for a while: nobody else was silent.

use super::*;
use crate::effect::CloseReason;

impl World {
    /// Nothing is handled for so long; then the node has a round again.
    fn pause(&mut self, ms: u64) {
        self.now = self.now.after_ms(ms);
        self.node.paused(self.now, ms);
        self.node.tick(self.now);
        self.settle();
    }

    fn is_silent(&self) -> bool {
        let silent = |effect: &Effect| {
            matches!(effect, Effect::CloseSession { why: CloseReason::Silent, .. })
        };
        self.left.iter().any(|(_, effect)| silent(effect))
    }

    fn is_lost(&self) -> bool {
        self.left.iter().any(|(_, effect)| matches!(effect, Effect::Lost { .. }))
    }
}

#[test]
fn a_pause_of_the_realm_is_nobodys_silence() {
    let mut world = World::new(1);
    world.submit(IntentMeta { durable: true, remaining_ms: 3_600_000, ..echo(1) }).unwrap();
    world.assigned();
    // Its worker was last heard a while before.
    world.now = world.now.after_ms(900);
    world.pause(600_000);
    assert!(!world.is_silent() && !world.is_lost());
    // What was left of its time before is left now.
    let left = limits::SESSION_SILENCE_MS - 900;
    world.now = world.now.after_ms(left - 1);
    world.node.tick(world.now);
    world.settle();
    assert!(!world.is_silent());
    world.now = world.now.after_ms(1);
    world.node.tick(world.now);
    world.settle();
    assert!(world.is_silent());
    let until_lost = limits::LEASE_MS - limits::SESSION_SILENCE_MS;
    world.now = world.now.after_ms(until_lost);
    world.node.tick(world.now);
    world.settle();
    assert!(world.is_lost(), "its lease ends as long after its session as ever");
}

#[test]
fn who_was_about_to_be_judged_is_heard_first() {
    let mut world = World::new(1);
    world.now = world.now.after_ms(limits::SESSION_SILENCE_MS - 1);
    world.pause(3_000);
    world.now = world.now.after_ms(limits::PAUSE_SETTLE_MS - 1);
    world.node.tick(world.now);
    world.settle();
    assert!(!world.is_silent(), "its word may still stand in its socket");
    world.now = world.now.after_ms(1);
    world.node.tick(world.now);
    world.settle();
    assert!(world.is_silent());
}

#[test]
fn a_gap_that_a_lease_allows_for_is_no_pause() {
    let mut world = World::new(1);
    let half = limits::SESSION_SILENCE_MS / 2;
    world.now = world.now.after_ms(half);
    world.node.paused(world.now, limits::PAUSE_MS);
    world.now = world.now.after_ms(half);
    world.node.tick(world.now);
    world.settle();
    assert!(world.is_silent());
}

#[test]
fn a_pause_moves_no_deadline_and_what_was_done_before_it_counts() {
    let ends = |done_in_time: bool| {
        let mut world = World::new(1);
        world.submit(IntentMeta { remaining_ms: 2_000, ..echo(1) }).unwrap();
        let assigned = world.assigned();
        world.pause(10_000);
        let expires = Effect::Stop { intent: IntentId([1; 16]), why: Why::Expired };
        assert!(!world.left.contains(&(When::Now, expires.clone())));
        if done_in_time {
            world.complete(assigned[0].meta.id, assigned[0].attempt).unwrap();
        }
        world.later(limits::PAUSE_SETTLE_MS);
        (world.outcomes(), world.left.contains(&(When::Now, expires)))
    };
    let completed = Outcome::Completed(Reason::Done);
    assert_eq!(ends(true), (BTreeMap::from([(IntentId([1; 16]), completed)]), false));
    assert_eq!(ends(false), (BTreeMap::new(), true));
}

#[test]
fn pause_after_pause_keeps_timers_from_nothing() {
    let mut world = World::new(1);
    world.submit(IntentMeta { remaining_ms: 2_000, ..echo(1) }).unwrap();
    // Each round of a node that is held up so takes longer than what is a pause.
    (0..5).for_each(|_| world.pause(limits::PAUSE_MS + 1));
    let expires = Effect::Stop { intent: IntentId([1; 16]), why: Why::Expired };
    assert!(world.left.contains(&(When::Now, expires)));
}

/// Whoever was to come for work that nobody serves has as long as before.
#[test]
fn a_pause_is_no_wait_for_a_worker_to_come() {
    let mut world = World::new(1);
    world.submit(echo(1)).unwrap();
    world.submit(echo(2)).unwrap();
    world.ok(Command::Detach { worker: WORKER, session: SessionId(1) });
    world.pause(limits::UNSERVED_MS);
    world.later(limits::UNSERVED_MS - limits::PAUSE_SETTLE_MS);
    assert!(world.outcomes().is_empty());
    world.later(limits::PAUSE_SETTLE_MS);
    assert_eq!(world.outcomes()[&IntentId([2; 16])], Outcome::Failed(mtor_types::Code::NoWorker));
}

/// Deadline and hold are over at one look. The accountant ends it, and the router hears of that by what the
/// edge says to its stop.
#[test]
fn a_hold_that_runs_out_in_a_pause_leaves_no_slot_taken() {
    let mut world = World::new(1);
    world.submit(IntentMeta { durable: true, ..echo(1) }).unwrap();
    let attempt = Some(world.assigned()[0].attempt);
    world.pause(60_000 + limits::LEASE_MS + limits::HOLD_GRACE_MS);
    world.now = world.now.after_ms(limits::PAUSE_SETTLE_MS);
    world.node.tick(world.now);
    world.settle();
    let (intent, why) = (IntentId([1; 16]), Why::Expired);
    assert_eq!(world.outcomes()[&intent], Outcome::Expired);
    assert!(world.left.contains(&(When::Now, Effect::Stop { intent, why })), "it is asked, too");
    let (usage, delivered) = (Usage::default(), false);
    world.ok(Command::End(EndRequest { intent, attempt, why, usage, delivered }));
    assert_eq!(world.node.router().leased(), 0);
    world.submit(echo(2)).unwrap();
    assert_eq!(world.assigned().len(), 1);
}
