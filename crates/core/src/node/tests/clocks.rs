//! A clock that was ahead at one start, and is set back at a later one.

use super::*;

const YEARS: u64 = 10 * 365 * 24 * 60 * 60 * 1_000;

fn recovered(log: &[Batch]) -> Node {
    let mut node = Node::recover(NodeConfig::whole(policy(), OWNER), NodeState::default());
    log.iter().for_each(|batch| node.replay(batch).unwrap());
    node
}

#[test]
fn what_is_set_back_has_as_much_time_left_as_before() {
    let mut world = World::new(0);
    let real = world.now;
    // One start with a clock that is ten years ahead.
    world.node = recovered(&world.log);
    world.now = real.after_ms(YEARS);
    world.node.start(world.now);
    world.settle();
    world.attach(9, 0);
    world.submit(IntentMeta { durable: true, remaining_ms: 60_000, ..echo(1) }).unwrap();
    world.attach(9, 1);
    world.submit(IntentMeta { durable: true, remaining_ms: 60_000, ..echo(2) }).unwrap();
    assert_eq!(world.node.events().open_count(), 1, "the first found no worker");

    // The clock is right again.
    world.node = recovered(&world.log);
    let mended = real.after_ms(1_000);
    world.now = mended;
    world.node.start_back(mended);
    world.settle();
    assert_eq!(world.node.now(), mended);
    let again = recovered(&world.log);
    assert_eq!(again.digest().unwrap(), world.node.digest().unwrap(), "a replay goes back, too");
    assert_eq!(again.now(), mended);
    assert_eq!(world.node.events().meta(IntentId([2; 16])).unwrap().remaining_ms, 60_000);
    // Its deadline is where it was.
    world.later(59_000);
    assert!(world.outcomes().is_empty());
    world.later(2_000);
    let expires = Effect::Stop { intent: IntentId([2; 16]), why: Why::Expired };
    assert!(world.left.contains(&(When::Now, expires)));
}

#[test]
fn time_goes_back_at_a_start_only() {
    let mut world = World::new(1);
    let now = world.now;
    world.node.tick(Time(1));
    assert_eq!(world.node.now(), now);
    let mut other = recovered(&world.log);
    let facts = vec![Fact::AccountBanned { account: CLIENT, banned: true }];
    other.replay(&Batch { number: other.batch() + 1, at: Time(1), facts }).unwrap();
    assert_eq!(other.now(), now);
}
