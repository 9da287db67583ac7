//! What the simulator found, each as small as it gets.

use mtor_types::intent::{Band, Branch, Class, Idempotency, Reason, Trust};
use mtor_types::{AccountId, Attempt};

use super::*;
use crate::effect::When;
use crate::share::Rank;

const INTENT: IntentId = IntentId([1; 16]);

fn meta() -> IntentMeta {
    IntentMeta {
        id: INTENT,
        account: AccountId([2; 32]),
        name: "echo".into(),
        model: None,
        trust: Trust::Any,
        class: Class::Interactive,
        durable: false,
        restart: false,
        edge: NodeId(0),
        edge_epoch: 1,
        ceiling: Amount::from_u64(1),
        manifest: Digest([0; 32]),
        branch: Branch::Account,
        origin: None,
        worker: None,
        band: Band::LIST,
        size: 100,
        units_max: 1,
        bytes: 10,
        remaining_ms: 10_000,
        idempotency: None,
        salt: [0; 16],
    }
}

fn request(why: Why) -> EndRequest {
    let attempt = Some(Attempt(1));
    EndRequest { intent: INTENT, attempt, why, usage: Usage::default(), delivered: true }
}

/// An Event Processor with one admitted intent, and a turn with nothing in it.
fn admitted() -> (EventProcessor, Turn) {
    admitted_by(EventProcessor::restore(NodeId(0), false, OpenDurables::default()))
}

fn admitted_by(mut events: EventProcessor) -> (EventProcessor, Turn) {
    let mut turn = Turn { now: Time(1_000), epoch: 1, ..Turn::default() };
    events.submit(&mut turn, Box::new(meta()), None, Rank::Guest).unwrap();
    let (asset, hold) = (Asset::Grant, Amount::from_u64(1));
    let taken = Message::Taken { intent: INTENT, asset, hold, position: 0, wait_ms: 0 };
    events.receive(&mut turn, taken);
    let turn = Turn { now: turn.now, epoch: 1, ..Turn::default() };
    (events, turn)
}

/// A repeated `Resume` can cross the resolution and be queued again by the router; when that second
/// run asks for its end, only a word from here can stop it.
#[test]
fn whoever_works_on_what_is_not_open_is_told_to_stop() {
    let mut events = EventProcessor::restore(NodeId(0), false, OpenDurables::default());
    let mut turn = Turn::default();
    events.end(&mut turn, request(Why::Completed(Reason::Done))).unwrap();
    let sent = turn.messages.pop_front().unwrap();
    assert_eq!(sent.to, Service::Router);
    let Message::End(EndRequest { intent: INTENT, why, attempt, .. }) = sent.message else {
        panic!("{sent:?}");
    };
    assert_eq!((why, attempt), (Why::PayloadGone, None), "whatever attempt runs by now");
    assert!(turn.facts.is_empty() && turn.effects.is_empty());
}

/// The router had lost the attempt that completed and gave the intent to another worker, which
/// hangs: nobody would end it but the hold's own expiry.
#[test]
fn a_completion_that_nobody_took_does_not_outlive_the_deadline() {
    let (mut events, mut turn) = admitted();
    events.end(&mut turn, request(Why::Completed(Reason::Done))).unwrap();
    turn.now = turn.now.after_ms(10_000);
    assert!(events.next_timeout().is_some_and(|due| due <= turn.now));
    events.tick(&mut turn);
    let stop = (When::Now, Effect::Stop { intent: INTENT, why: Why::Expired });
    assert_eq!(turn.effects.back(), Some(&stop));
    events.check_invariants().unwrap();
}

#[test]
fn what_is_said_to_be_completed_can_still_be_cancelled() {
    let (mut events, mut turn) = admitted();
    events.end(&mut turn, request(Why::Completed(Reason::Done))).unwrap();
    events.stop(&mut turn, INTENT, Why::Cancelled).unwrap();
    let stop = (When::Now, Effect::Stop { intent: INTENT, why: Why::Cancelled });
    assert_eq!(turn.effects.pop_front(), Some(stop));
    // But not one that is being stopped already.
    events.end(&mut turn, request(Why::Cancelled)).unwrap();
    events.stop(&mut turn, INTENT, Why::Expired).unwrap();
    assert!(turn.effects.is_empty());
}

fn ended() -> Message {
    let (usage, asset) = (Usage::default(), Asset::Grant);
    let (cost, refunded) = (Amount::ZERO, Amount::from_u64(1));
    let outcome = Outcome::Cancelled;
    let end = End { intent: INTENT, outcome, usage, asset, cost, refunded, sequence: 1 };
    Message::Resolved { end, rejection: None }
}

/// A resume and a resolution can cross: then the router begins again what is over, and a worker
/// that still holds it keeps that lease alive for ever.
#[test]
fn what_was_resumed_is_taken_back_when_it_ends() {
    let (mut events, mut turn) = admitted();
    events.receive(&mut turn, ended());
    assert!(turn.messages.is_empty(), "it was sent once, and that is over");

    let (mut events, mut turn) = admitted();
    turn.now = turn.now.after_ms(limits::STALL_MS);
    events.tick(&mut turn);
    let resumed = turn.messages.pop_front().map(|envelope| envelope.message);
    assert!(matches!(resumed, Some(Message::Resume(_))), "{resumed:?}");
    events.receive(&mut turn, ended());
    let told = turn.messages.pop_front().unwrap();
    assert_eq!(told.to, Service::Router);
    assert!(matches!(
        told.message,
        Message::End(EndRequest { intent: INTENT, why: Why::PayloadGone, .. })
    ));
}

/// The message that opens an intent stands in an outbox until it is taken; a second one could come
/// when the accountant has forgotten the first.
#[test]
fn an_opening_intent_is_not_sent_twice() {
    let mut events = EventProcessor::restore(NodeId(0), false, OpenDurables::default());
    let mut turn = Turn { now: Time(1_000), epoch: 1, ..Turn::default() };
    events.submit(&mut turn, Box::new(meta()), None, Rank::Guest).unwrap();
    assert_eq!(turn.messages.len(), 1);
    turn.now = turn.now.after_ms(limits::STALL_MS + 1);
    events.tick(&mut turn);
    assert_eq!(turn.messages.len(), 1);
    assert_eq!(events.next_timeout(), Some(Time(11_000)), "its deadline");
}

/// Where accountant and router are on the same node, nothing is lost on the way to them.
#[test]
fn an_admitted_intent_is_repeated_only_to_other_nodes() {
    let alone = EventProcessor::restore(NodeId(0), true, OpenDurables::default());
    let (mut events, mut turn) = admitted_by(alone);
    turn.now = turn.now.after_ms(limits::STALL_MS + 1);
    events.tick(&mut turn);
    assert!(turn.messages.is_empty());
    assert_eq!(events.next_timeout(), Some(Time(11_000)), "its deadline");
}

/// An end goes straight to the router and the intent by the accountant: it may come there first, find
/// nothing, and leave what comes behind it to nobody.
#[test]
fn what_ends_in_the_moment_of_its_admission_is_taken_back_from_the_router() {
    let mut events = EventProcessor::restore(NodeId(0), false, OpenDurables::default());
    let mut turn = Turn { now: Time(1_000), epoch: 1, ..Turn::default() };
    events.submit(&mut turn, Box::new(meta()), None, Rank::Guest).unwrap();
    events.end(&mut turn, request(Why::Cancelled)).unwrap();
    let (asset, hold) = (Asset::Grant, Amount::from_u64(1));
    let taken = Message::Taken { intent: INTENT, asset, hold, position: 0, wait_ms: 0 };
    events.receive(&mut turn, taken);
    turn.messages.clear();
    events.receive(&mut turn, ended());
    let told = turn.messages.pop_front().map(|envelope| envelope.message);
    let Some(Message::End(EndRequest { why, attempt, .. })) = told else { panic!("{told:?}") };
    assert_eq!((why, attempt), (Why::PayloadGone, None));
}

/// However many accounts a network makes, and whatever it asks for: who comes from elsewhere is taken.
#[test]
fn one_network_leaves_places_for_the_intents_of_others_and_a_restart_counts_them() {
    let mut events = EventProcessor::restore(NodeId(0), false, OpenDurables::default());
    let mut turn = Turn { now: Time(1_000), epoch: 1, ..Turn::default() };
    let network = |number: u8| Branch::Network(mtor_types::fact::NetworkKey([number; 16]));
    let asks = |number: u64, account: u8, branch: Branch| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let account = AccountId([account; 32]);
        Box::new(IntentMeta { id: IntentId(id), account, branch, durable: true, ..meta() })
    };
    let mut number = 0;
    for account in 1..=12 {
        loop {
            number += 1;
            let Err(refused) =
                events.submit(&mut turn, asks(number, account, network(1)), None, Rank::Guest)
            else {
                continue;
            };
            let share =
                |refused| matches!(refused, Rejection::ShareUsed { what: Limited::Intents, .. });
            assert!(share(refused));
            break;
        }
    }
    let (held, all) = events.places();
    assert_eq!((held, all), (all / 2 / 5, limits::OPEN_INTENTS_MAX as u64), "a fifth of a half");
    number += 1;
    events.submit(&mut turn, asks(number, 100, network(2)), None, Rank::Guest).unwrap();
    events.check_invariants().unwrap();
    // What is over leaves its place.
    let usage = Usage::default();
    for ended in 1..=10_u64 {
        let intent = asks(ended, 1, network(1)).id;
        let (outcome, asset) = (Outcome::Cancelled, Asset::Grant);
        let (cost, refunded) = (Amount::ZERO, Amount::from_u64(1));
        let end = End { intent, outcome, usage, asset, cost, refunded, sequence: 0 };
        events.receive(&mut turn, Message::Resolved { end, rejection: None });
    }
    assert_eq!(events.places().0, held + 1 - 10);
    events.check_invariants().unwrap();
    // Those that the log has are counted by the next start, and refused by nothing.
    let taken = |intent| Message::Taken {
        intent,
        asset: Asset::Grant,
        hold: Amount::from_u64(1),
        position: 0,
        wait_ms: 0,
    };
    for kept in 11..=20_u64 {
        events.receive(&mut turn, taken(asks(kept, 1, network(1)).id));
    }
    let mut again = EventProcessor::restore(NodeId(0), false, events.durable().clone());
    again.start(&mut Turn { now: Time(2_000), epoch: 2, ..Turn::default() });
    assert_eq!(again.places().0, 10);
}

/// Keys are held for a minute after an intent's end, so short work in a row could fill their table.
#[test]
fn one_account_leaves_places_for_the_keys_of_others_until_its_own_are_forgotten() {
    let mut events = EventProcessor::restore(NodeId(0), false, OpenDurables::default());
    let mut turn = Turn { now: Time(1_000), epoch: 1, ..Turn::default() };
    let asks = |number: u64, account: u8| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        let key = Idempotency { key: Digest(key), body: Digest([0; 32]) };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let account = AccountId([account; 32]);
        IntentMeta { id: IntentId(id), account, idempotency: Some(key), ..meta() }
    };
    let over = |intent, outcome| {
        let (asset, usage, refunded) = (Asset::Grant, Usage::default(), Amount::from_u64(1));
        let end = End { intent, outcome, usage, asset, cost: Amount::ZERO, refunded, sequence: 0 };
        Message::Resolved { end, rejection: None }
    };
    let mut number = 0;
    let refused = loop {
        number += 1;
        let asked = asks(number, 1);
        let intent = asked.id;
        if let Err(refused) = events.submit(&mut turn, Box::new(asked), None, Rank::Guest) {
            break refused;
        }
        events.receive(&mut turn, over(intent, Outcome::Cancelled));
        turn.messages.clear();
        turn.effects.clear();
    };
    let Rejection::ShareUsed { what: Limited::IdempotencyKeys, held, .. } = refused else {
        panic!("{refused:?}");
    };
    let all = limits::IDEMPOTENCY_MAX as u64;
    assert_eq!((held, events.key_places()), (all / 2 / 9, (all / 2 / 9, all)), "a ninth of a half");
    assert_eq!((events.open_count(), events.places().0), (0, 0), "nothing else is held");
    events.check_invariants().unwrap();
    // Under a key that is known it joins, without one it needs no place, and others find some.
    events.submit(&mut turn, Box::new(asks(1, 1)), None, Rank::Guest).unwrap();
    let without = IntentMeta { idempotency: None, ..asks(number + 1, 1) };
    events.submit(&mut turn, Box::new(without), None, Rank::Guest).unwrap();
    events.submit(&mut turn, Box::new(asks(number + 2, 2)), None, Rank::Guest).unwrap();
    assert_eq!(events.key_places().0, held + 1);
    // What is refused later on binds no key.
    events.receive(&mut turn, over(asks(number + 2, 2).id, Outcome::Refused));
    assert_eq!(events.key_places().0, held);
    turn.now = turn.now.after_ms(limits::IDEMPOTENCY_MS);
    events.tick(&mut turn);
    assert_eq!(events.key_places().0, 0);
    events.check_invariants().unwrap();
    events.submit(&mut turn, Box::new(asks(number, 1)), None, Rank::Guest).unwrap();
    // A durable one's is counted by the next start.
    let durable = IntentMeta { durable: true, ..asks(number + 3, 3) };
    let (intent, asset, hold) = (durable.id, Asset::Grant, Amount::from_u64(1));
    events.submit(&mut turn, Box::new(durable), None, Rank::Guest).unwrap();
    events.receive(&mut turn, Message::Taken { intent, asset, hold, position: 0, wait_ms: 0 });
    let mut again = EventProcessor::restore(NodeId(0), false, events.durable().clone());
    again.start(&mut Turn { now: Time(2_000), epoch: 2, ..Turn::default() });
    assert_eq!(again.key_places().0, 1);
    again.check_invariants().unwrap();
}
