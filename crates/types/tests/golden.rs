//! Golden vectors: what stands in a log or crosses a process today must be readable for ever.
//!
//! One file for each variant and each struct, the bytes in hexadecimal. Encoding the value must
//! give the file, decoding the file must give the value. A file that is missing is written when
//! `MTOR_GOLDEN=write` is set; one that is there is never changed: what differs is a new variant
//! at the end of its enum. The matches below are exhaustive, so a new variant asks for its vector.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    reason = "a test that reads golden files"
)]

#[path = "vectors/ledger.rs"]
mod ledger;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use mtor_types::fact::{
    AccountKind, AccountLimits, Asset, Batch, Fact, NetworkKey, Purse, Transfer, TransferKind,
};
use mtor_types::intent::{
    Band, Branch, Class, End, EndRequest, Idempotency, IntentMeta, IntentMetaV1, Meta, Origin,
    Outcome, Reason, Trust, Usage, Why,
};
use mtor_types::manifest::Bound;
use mtor_types::message::{
    Envelope, Message, Offered, Resolution, ServedBy, Service, SlotOfferV1, Slots, SlotsV1,
};
use mtor_types::rejection::{Limited, Rejection, Whose};
use mtor_types::standing::{KindName, Mark, Proof, Standing, Worked};
use mtor_types::worker::{
    Acknowledge, Assign, AssignMeter, Chunk, Complete, Credit, Drain, Enrol, Enrolled, Fail,
    FailCode, HeldLease, LeaseClaim, Offer, OfferList, Ping, RealmHello, RefusedOffer,
    RefusedOffers, Renew, Revoke, WorkerHello,
};
use mtor_types::{
    AccountId, Amount, Attempt, Code, Digest, Fence, IntentId, KeyHash, NodeId, Price, RealmId,
    SessionId, Time, TransferId, WorkerId,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"))
}

/// The vector of that name, or the bytes themselves if it is missing and may be written.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = path(name);
    if !path.exists() {
        let write = std::env::var("MTOR_GOLDEN").is_ok_and(|wish| wish == "write");
        assert!(write, "{} is missing: MTOR_GOLDEN=write writes it", path.display());
        let mut text = String::new();
        for line in bytes.chunks(48) {
            line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
            text.push('\n');
        }
        std::fs::write(&path, text).unwrap();
    }
    let text: String = std::fs::read_to_string(&path).unwrap().split_whitespace().collect();
    let digits = text.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// Of what stands in the log or crosses nodes.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let bytes = postcard::to_stdvec(value).unwrap();
    let golden = golden(name, &bytes);
    assert_eq!(bytes, golden, "{name}: the encoding changed; what is logged could not be read");
    let (read, rest) = postcard::take_from_bytes::<T>(&golden).unwrap();
    assert_eq!(&read, value, "{name}");
    assert!(rest.is_empty(), "{name}: bytes are left over");
}

/// Of what realm and worker say to each other. Compared as text, since raw JSON has no equality.
fn check_json<'a, T: Serialize + Deserialize<'a>>(name: &str, value: &T) {
    let name = format!("worker-{name}");
    let bytes = serde_json::to_vec(value).unwrap();
    let golden = golden(&name, &bytes);
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        String::from_utf8(golden.clone()).unwrap(),
        "{name}: the encoding changed; workers of another version could not be understood"
    );
    // A test may leak: the value borrows from its text.
    let read: T = serde_json::from_slice(golden.clone().leak()).unwrap();
    assert_eq!(serde_json::to_vec(&read).unwrap(), golden, "{name}");
}

const ACCOUNT: AccountId = AccountId([0xa1; 32]);
const OWNER: AccountId = AccountId([0xa2; 32]);
const WORKER: WorkerId = WorkerId([0xb1; 32]);
const REALM: RealmId = RealmId([0xc1; 32]);
const KEY: KeyHash = KeyHash([0xd1; 32]);
const INTENT: IntentId =
    IntentId(*b"\x01\x99\x00\x11\x22\x33\x7a\xbc\x8d\xef\x01\x02\x03\x04\x05\x06");
const TIME: Time = Time(1_760_000_000_123);
const SALT: [u8; 16] = [0x5a; 16];
const ATTEMPT: Attempt = Attempt(0x0000_0003_0000_0007);
const FENCE: Fence = Fence(0x0000_0003_0000_0009);
const NODE: NodeId = NodeId(300);

fn kind() -> KindName {
    KindName { intent: "chat".into(), model: Some("smollm2".into()) }
}

fn price() -> Price {
    Price { amount: Amount::from_u64(250), per: 1_000_000 }
}

fn transfer(kind: TransferKind, from: Purse, to: Purse) -> Transfer {
    Transfer {
        sequence: 70_000,
        id: TransferId([0xe1; 16]),
        kind,
        from,
        to,
        asset: Asset::Token,
        amount: Amount::MAX,
        hold: Some(TransferId(INTENT.0)),
    }
}

fn idempotency() -> Idempotency {
    Idempotency { key: Digest([0xf1; 32]), body: Digest([0xf2; 32]) }
}

fn usage() -> Usage {
    Usage { units: 300, input: 100, output: 200 }
}

fn meta_v1() -> IntentMetaV1 {
    IntentMetaV1 {
        id: INTENT,
        account: ACCOUNT,
        name: "chat".into(),
        model: Some("smollm2".into()),
        trust: Trust::Proven,
        class: Class::Batch,
        durable: true,
        restart: true,
        edge: NODE,
        edge_epoch: 3,
        ceiling: Amount::from_u64(1000),
        price_max: price(),
        units_max: 4096,
        bytes: 512,
        remaining_ms: 60_000,
        idempotency: Some(idempotency()),
        salt: SALT,
    }
}

fn meta() -> IntentMeta {
    IntentMeta {
        worker: None,
        manifest: Digest([0xf3; 32]),
        branch: Branch::Network(NetworkKey([0x99; 16])),
        origin: Some(Origin { realm: REALM, alias: [0xaa; 16] }),
        band: Band::try_from(2).unwrap(),
        size: 300,
        ..meta_v1().into()
    }
}

/// Both forms, as they stand in facts and messages of today.
fn metas() -> [Meta; 2] {
    [Meta::V1(Box::new(meta_v1())), Meta::V2(Arc::new(meta()))]
}

/// A canary's: never in a fact.
fn meta_for() -> Meta {
    Meta::For(Arc::new(meta()), WORKER)
}

/// Every kind of transfer and of purse, one each.
fn transfers() -> Vec<Transfer> {
    let (available, held) = (Purse::Available(ACCOUNT), Purse::Held(ACCOUNT));
    vec![
        transfer(TransferKind::Grant, Purse::GrantIssue, available),
        transfer(TransferKind::Hold, available, held),
        transfer(TransferKind::Capture, held, Purse::Available(OWNER)),
        transfer(TransferKind::Fee, held, Purse::RealmFee),
        transfer(TransferKind::Void, held, available),
        transfer(TransferKind::Expire, held, available),
        transfer(TransferKind::Deposit, Purse::ChainBridge, available),
        transfer(TransferKind::Withdraw, available, Purse::ChainBridge),
    ]
}

fn fact_name(fact: &Fact) -> &'static str {
    match fact {
        Fact::NodeStarted { .. } => "node-started",
        Fact::MessageSent { .. } => "message-sent",
        Fact::MessageAcknowledged { .. } => "message-acknowledged",
        Fact::MessageTaken { .. } => "message-taken",
        Fact::LedgerOpened { .. } => "ledger-opened",
        Fact::AccountOpened { .. } => "account-opened",
        Fact::KeyAdded { .. } => "key-added",
        Fact::KeyRevoked { .. } => "key-revoked",
        Fact::AccountBanned { .. } => "account-banned",
        Fact::GrantPaid { .. } => "grant-paid",
        Fact::HoldPlaced { .. } => "hold-placed",
        Fact::HoldResolved { .. } => "hold-resolved",
        Fact::IntentOpenedV1 { .. } => "intent-opened",
        Fact::IntentEnded { .. } => "intent-ended",
        Fact::TokenIssued { .. } => "token-issued",
        Fact::WorkerEnrolled { .. } => "worker-enrolled",
        Fact::WorkerBanned { .. } => "worker-banned",
        Fact::WorkerRemoved { .. } => "worker-removed",
        Fact::WorkerServed { .. } => "worker-served",
        Fact::TokensExpired { .. } => "tokens-expired",
        Fact::IntentOpened { meta: Meta::V1(_), .. } => "intent-opened-2-v1",
        Fact::IntentOpened { meta: Meta::V2(_) | Meta::For(..), .. } => "intent-opened-2-v2",
        Fact::SlotsEarned { .. } => "slots-earned",
        Fact::WorkerEjected { .. } => "worker-ejected",
        Fact::CanaryJudged { .. } => "canary-judged",
        Fact::WorkerProven { .. } => "worker-proven",
        Fact::ProofLapsed { .. } => "proof-lapsed",
        Fact::DayBegan { .. } => "day-began",
        Fact::WorkerSeen { .. } => "worker-seen",
        Fact::EjectionTakenBack { .. } => "ejection-taken-back",
        Fact::AccountCounted { .. } => "account-counted",
        Fact::GrantGiven { .. } => "grant-given",
        Fact::InvitesIssued { .. } => "invites-issued",
        Fact::InviteUsed { .. } => "invite-used",
        Fact::InvitesWithdrawn => "invites-withdrawn",
        Fact::AccountLimited { .. } => "account-limited",
        Fact::WorkerEnrolledBy { .. } => "worker-enrolled-by",
        Fact::OwnerBanned { .. } => "owner-banned",
    }
}
const FACTS: usize = 38;
/// Those that the second form of a batch knew.
const SECOND_FACTS: usize = 22;
/// And the third.
const THIRD_FACTS: usize = 29;
/// And the fourth.
const FOURTH_FACTS: usize = 30;

/// In the order of their numbers.
fn facts() -> Vec<Fact> {
    let mut facts = first_facts();
    let (asset, deadline) = (Asset::Token, TIME);
    facts.extend(metas().map(|meta| Fact::IntentOpened { meta, asset, deadline }));
    let (worker, slots) = (WORKER, 300);
    facts.extend([
        Fact::SlotsEarned { worker, kind: kind(), slots },
        Fact::WorkerEjected { worker, kind: kind(), slots },
        Fact::CanaryJudged { worker, kind: kind(), right: true },
        Fact::WorkerProven { worker, kind: kind(), proof: Proof::Vouch, until: Some(TIME) },
        Fact::ProofLapsed { worker, kind: kind() },
        Fact::DayBegan { day: 20_700 },
        Fact::WorkerSeen { worker },
        Fact::EjectionTakenBack {
            worker,
            kind: kind(),
            slots,
            proven: Some((Proof::Vouch, Some(TIME), 1)),
        },
    ]);
    facts.extend(ledger::later_facts());
    facts
}

/// Those of the first releases.
fn first_facts() -> Vec<Fact> {
    let mut facts = vec![
        Fact::NodeStarted { epoch: 300 },
        Fact::MessageSent { to: NODE, number: 300, bytes: vec![1, 2, 3] },
        Fact::MessageAcknowledged { by: NODE, number: 300 },
        Fact::MessageTaken { from: NODE, number: 300 },
    ];
    facts.extend(ledger::facts());
    facts.extend([
        Fact::IntentOpenedV1 { meta: Box::new(meta_v1()), asset: Asset::Token, deadline: TIME },
        Fact::IntentEnded { intent: INTENT },
        Fact::TokenIssued { token: KEY, owner: OWNER, expires: TIME },
        Fact::WorkerEnrolled {
            worker: WORKER,
            owner: OWNER,
            name: "näo".into(),
            token: KEY,
            own: true,
        },
        Fact::WorkerBanned { worker: WORKER, banned: true },
        Fact::WorkerRemoved { worker: WORKER },
        Fact::WorkerServed { worker: WORKER, passed: true },
        Fact::TokensExpired { tokens: vec![KEY, KeyHash([0xd2; 32])] },
    ]);
    facts
}

#[test]
fn facts_can_be_read_for_ever() {
    let facts = facts();
    let names: BTreeSet<&str> = facts.iter().map(fact_name).collect();
    assert_eq!(names.len(), FACTS, "a variant has no vector");
    for fact in &facts {
        check(&format!("fact-{}", fact_name(fact)), fact);
    }
    check("batch", &Batch { number: 300, at: TIME, facts: first_facts() });
    let second = facts.iter().take(SECOND_FACTS).cloned().collect();
    check("batch-2", &Batch { number: 300, at: TIME, facts: second });
    let third = facts.iter().take(THIRD_FACTS).cloned().collect();
    check("batch-3", &Batch { number: 300, at: TIME, facts: third });
    let fourth = facts.iter().take(FOURTH_FACTS).cloned().collect();
    check("batch-4", &Batch { number: 300, at: TIME, facts: fourth });
    check("batch-5", &Batch { number: 300, at: TIME, facts });
    let nothing = Batch { number: 1, at: Time(0), facts: Vec::new() };
    check("batch-empty", &nothing);
}

fn rejection_name(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::UnknownAccount => "unknown-account",
        Rejection::UnknownIntent => "unknown-intent",
        Rejection::UnknownWorker => "unknown-worker",
        Rejection::IdTaken => "id-taken",
        Rejection::Conflict => "conflict",
        Rejection::AccountBanned => "account-banned",
        Rejection::WorkerBanned => "worker-banned",
        Rejection::CeilingTooLow { .. } => "ceiling-too-low",
        Rejection::BalanceTooLow { .. } => "balance-too-low",
        Rejection::QueueFull { .. } => "queue-full",
        Rejection::DeadlineHopeless { .. } => "deadline-hopeless",
        Rejection::NoWorker => "no-worker",
        Rejection::GrantsExhausted { .. } => "grants-exhausted",
        Rejection::NetworkLimit { .. } => "network-limit",
        Rejection::LimitReached { .. } => "limit-reached",
        Rejection::TokenInvalid => "token-invalid",
        Rejection::RealmRestarted => "realm-restarted",
        Rejection::Expired => "expired",
        Rejection::MessageGap { .. } => "message-gap",
        Rejection::MessageUnreadable => "message-unreadable",
        Rejection::NotProven => "not-proven",
        Rejection::ShareUsed { .. } => "share-used",
        Rejection::LastKey => "last-key",
        Rejection::InviteInvalid => "invite-invalid",
    }
}
const REJECTIONS: usize = 24;

fn rejections() -> Vec<Rejection> {
    vec![
        Rejection::UnknownAccount,
        Rejection::UnknownIntent,
        Rejection::UnknownWorker,
        Rejection::IdTaken,
        Rejection::Conflict,
        Rejection::AccountBanned,
        Rejection::WorkerBanned,
        Rejection::CeilingTooLow { needed: Amount::from_u64(5000), price: price() },
        Rejection::BalanceTooLow { asset: Asset::Token, missing: Amount::from_u64(5000) },
        Rejection::QueueFull { retry_after_ms: 300 },
        Rejection::DeadlineHopeless { wait_ms: 300 },
        Rejection::NoWorker,
        Rejection::GrantsExhausted { retry_after_ms: 300 },
        Rejection::NetworkLimit { retry_after_ms: 300 },
        Rejection::LimitReached { what: Limited::Messages, limit: 300 },
        Rejection::TokenInvalid,
        Rejection::RealmRestarted,
        Rejection::Expired,
        Rejection::MessageGap { expected: 300 },
        Rejection::MessageUnreadable,
        Rejection::NotProven,
        Rejection::ShareUsed { what: Limited::Bodies, whose: Whose::Network, held: 300, may: 5 },
        Rejection::LastKey,
        Rejection::InviteInvalid,
    ]
}

fn message_name(message: &Message) -> &'static str {
    match message {
        Message::PlaceHoldV1(_) => "place-hold",
        Message::EnqueueV1 { .. } => "enqueue",
        Message::ResumeV1(_) => "resume",
        Message::Refused { .. } => "refused",
        Message::Taken { .. } => "taken",
        Message::End(_) => "end",
        Message::Resolve(_) => "resolve",
        Message::Resolved { .. } => "resolved",
        Message::EdgeStarted { .. } => "edge-started",
        Message::SlotsV1(_) => "slots",
        Message::SessionLost { .. } => "session-lost",
        Message::RegistryStarted => "registry-started",
        Message::Renew { .. } => "renew",
        Message::Served { .. } => "served",
        Message::PlaceHold(Meta::V1(_)) => "place-hold-2-v1",
        Message::PlaceHold(Meta::V2(_)) => "place-hold-2-v2",
        Message::PlaceHold(Meta::For(..)) => "place-hold-2-for",
        Message::Enqueue { meta: Meta::V1(_), .. } => "enqueue-2-v1",
        Message::Enqueue { meta: Meta::V2(_), .. } => "enqueue-2-v2",
        Message::Enqueue { meta: Meta::For(..), .. } => "enqueue-2-for",
        Message::Resume(Meta::V1(_)) => "resume-2-v1",
        Message::Resume(Meta::V2(_)) => "resume-2-v2",
        Message::Resume(Meta::For(..)) => "resume-2-for",
        Message::Slots(_) => "slots-2",
        Message::Offered(_) => "offered",
        Message::Worked(_) => "worked",
        Message::Silent { .. } => "silent",
        Message::OwnerBanned { .. } => "owner-banned",
        Message::EnqueueWeighted { .. } => "enqueue-weighted",
    }
}
const MESSAGES: usize = 29;

fn offer() -> Offer {
    Offer {
        intent: "chat".into(),
        model: Some("smollm2".into()),
        slots: 4,
        price: Some(price()),
        context: Some(8192),
        group: None,
    }
}

fn slots_v1() -> SlotsV1 {
    let Offer { intent, model, slots, price, context, group: _ } = offer();
    SlotsV1 {
        worker: WORKER,
        session: SessionId(0x0000_0003_0000_0001),
        edge: NODE,
        owner: OWNER,
        own: true,
        proven: true,
        draining: true,
        offers: vec![SlotOfferV1 { intent, model, slots, price, context }],
        leases: vec![LeaseClaim { intent: INTENT, attempt: ATTEMPT }],
    }
}

fn slots() -> Slots {
    let mut slots = Slots::from(slots_v1());
    for offer in &mut slots.offers {
        (offer.band, offer.group) = (Band::DEAREST, Some("gpu".into()));
    }
    slots
}

fn worker_messages() -> Vec<Message> {
    let (session, leases) = (slots_v1().session, slots_v1().leases);
    vec![
        Message::EdgeStarted { edge: NODE, epoch: 3 },
        Message::SlotsV1(slots_v1()),
        Message::SessionLost { worker: WORKER, session },
        Message::RegistryStarted,
        Message::Renew { worker: WORKER, session, leases },
        Message::Served { worker: WORKER, intent: INTENT, attempt: ATTEMPT, good: true },
    ]
}

fn messages() -> Vec<Message> {
    let served =
        ServedBy { worker: WORKER, owner: OWNER, price: price(), attempt: ATTEMPT, fence: FENCE };
    let mut messages = vec![
        Message::PlaceHoldV1(Box::new(meta_v1())),
        Message::EnqueueV1 { meta: Box::new(meta_v1()), asset: Asset::Token, recovered: true },
        Message::ResumeV1(Box::new(meta_v1())),
        Message::Refused { intent: INTENT, rejection: Rejection::NoWorker },
        Message::Taken {
            intent: INTENT,
            asset: Asset::Token,
            hold: Amount::from_u64(1000),
            position: 300,
            wait_ms: 1500,
        },
        Message::End(EndRequest {
            intent: INTENT,
            attempt: Some(ATTEMPT),
            why: Why::WorkerFailed { code: Code::WorkerFailed, retry: true },
            usage: usage(),
            delivered: true,
        }),
        Message::Resolve(Resolution {
            intent: INTENT,
            outcome: Outcome::Failed(Code::Internal),
            usage: usage(),
            served: Some(served),
            rejection: Some(Rejection::QueueFull { retry_after_ms: 300 }),
        }),
        Message::Resolved {
            end: End {
                intent: INTENT,
                outcome: Outcome::Completed(Reason::Done),
                usage: usage(),
                asset: Asset::Token,
                cost: Amount::from_u64(300),
                refunded: Amount::from_u64(700),
                sequence: 70_000,
            },
            rejection: Some(Rejection::Expired),
        },
    ];
    messages.extend(worker_messages());
    messages.extend(metas().map(Message::PlaceHold));
    let (asset, recovered) = (Asset::Token, true);
    messages.extend(metas().map(|meta| Message::Enqueue { meta, asset, recovered }));
    messages.extend(metas().map(Message::Resume));
    messages.push(Message::Slots(slots()));
    messages.push(Message::PlaceHold(meta_for()));
    messages.push(Message::Enqueue { meta: meta_for(), asset, recovered });
    messages.push(Message::Resume(meta_for()));
    assert_eq!(meta_for().current().worker, Some(WORKER));
    assert_eq!(Meta::from(meta_for().current()), Meta::For(meta_for().current(), WORKER));
    let standing = Standing { kind: kind(), proven: true, slots: 300, ejected: true };
    messages.push(Message::Offered(Offered { slots: slots(), standings: vec![standing] }));
    messages.push(Message::Worked(Worked {
        worker: WORKER,
        kind: kind(),
        intent: INTENT,
        attempt: ATTEMPT,
        branch: Branch::Network(NetworkKey([0x71; 16])),
        mark: Mark::Confirmed,
    }));
    let Slots { worker, session, leases, .. } = slots();
    messages.push(Message::Silent { worker, session, leases });
    messages.push(Message::OwnerBanned { owner: ACCOUNT, banned: true });
    let [_, meta] = metas();
    messages.push(Message::EnqueueWeighted { meta, asset, recovered, weight: 300 });
    messages
}

/// What an older program wrote means the least that it can mean.
#[test]
fn what_is_old_is_read_as_the_newest() {
    let IntentMeta { manifest, branch, origin, band, size, trust, .. } = meta_v1().into();
    assert_eq!((manifest, branch, origin), (Digest([0; 32]), Branch::Account, None));
    assert_eq!((band, size, trust), (Band::LIST, 512, Trust::Proven));
    let [old, new] = metas();
    assert_eq!(*old.current(), meta_v1().into());
    let Meta::V2(shared) = &new else { unreachable!() };
    assert!(Arc::ptr_eq(shared, &new.current()), "nothing is copied");
    for (old, new) in [
        (Message::PlaceHoldV1(Box::new(meta_v1())), Message::PlaceHold(metas()[0].clone())),
        (Message::ResumeV1(Box::new(meta_v1())), Message::Resume(metas()[0].clone())),
        (Message::SlotsV1(slots_v1()), Message::Offered(Slots::from(slots_v1()).into())),
        (Message::Slots(slots()), Message::Offered(slots().into())),
        (Message::RegistryStarted, Message::RegistryStarted),
    ] {
        assert_eq!(old.current(), new);
    }
    let offer = Slots::from(slots_v1()).offers.pop().unwrap();
    assert_eq!((offer.band, offer.price, offer.group), (Band::DEAREST, price(), None));
    let unpriced = SlotOfferV1 { price: None, ..slots_v1().offers.pop().unwrap() };
    assert!(Slots::from(SlotsV1 { offers: vec![unpriced], ..slots_v1() }).offers.is_empty());
    let fact =
        Fact::IntentOpenedV1 { meta: Box::new(meta_v1()), asset: Asset::Token, deadline: TIME };
    assert_eq!(fact.opened(), Some((old_meta(), Asset::Token, TIME)));
}

fn old_meta() -> Arc<IntentMeta> {
    metas()[0].current()
}

#[test]
fn messages_can_be_read_by_another_version() {
    let messages = messages();
    let names: BTreeSet<&str> = messages.iter().map(message_name).collect();
    assert_eq!(names.len(), MESSAGES, "a variant has no vector");
    for message in messages {
        check(&format!("message-{}", message_name(&message)), &message);
    }
    let names: BTreeSet<&str> = rejections().iter().map(rejection_name).collect();
    assert_eq!(names.len(), REJECTIONS, "a variant has no vector");
    for rejection in rejections() {
        check(&format!("rejection-{}", rejection_name(&rejection)), &rejection);
    }
    check("envelope", &Envelope { to: Service::Registry, message: Message::RegistryStarted });
}

/// The enums inside facts and messages: all their variants in one vector each.
#[test]
fn parts_keep_their_numbers() {
    check("part-service", &Service::ALL);
    check("part-asset", &Asset::ALL);
    check("part-account-kind", &[AccountKind::Guest, AccountKind::Realm]);
    check("part-transfer", &transfers());
    check("part-trust", &[Trust::Own, Trust::Proven, Trust::Any]);
    check("part-band", &Band::ALL);
    check("part-proof", &[Proof::Canaries, Proof::Vouch]);
    // As they were called when there were four.
    check("part-verdict", &[Mark::Good, Mark::Bad, Mark::Confirmed, Mark::Excused]);
    check("part-mark", &[Mark::Good, Mark::Bad, Mark::Confirmed, Mark::Excused, Mark::Silent]);
    check("part-branch", &[Branch::Account, Branch::Network(NetworkKey([0x99; 16]))]);
    check("part-class", &[Class::Interactive, Class::Batch]);
    check("part-code", &Code::ALL[..40].to_vec());
    check(
        "part-outcome",
        &[
            Outcome::Completed(Reason::Done),
            Outcome::Completed(Reason::Ceiling),
            Outcome::Failed(Code::MalformedJson),
            Outcome::Cancelled,
            Outcome::Expired,
            Outcome::Refused,
        ],
    );
    check(
        "part-why",
        &[
            Why::Completed(Reason::Done),
            Why::WorkerFailed { code: Code::WorkerFailed, retry: false },
            Why::Cancelled,
            Why::Expired,
            Why::PayloadGone,
        ],
    );
    check(
        "part-limited",
        &[
            Limited::Accounts,
            Limited::Keys,
            Limited::Intents,
            Limited::Workers,
            Limited::Tokens,
            Limited::Messages,
            Limited::Offers,
            Limited::Slots,
            Limited::Leases,
        ],
    );
    check("part-limited-shares", &[Limited::Connections, Limited::Bodies, Limited::Payloads]);
    check("part-limited-sockets", &[Limited::Sockets]);
    check("part-limited-days", &[Limited::AccountsToday, Limited::Invites]);
    check("part-limited-idempotency", &[Limited::IdempotencyKeys]);
    check("part-limited-kept", &[Limited::Replay, Limited::Spill, Limited::Stored]);
    check("part-whose", &[Whose::Account, Whose::Network, Whose::Everybody]);
}

fn raw(json: &str) -> &RawValue {
    serde_json::from_str(json).unwrap()
}

#[test]
fn workers_of_another_version_are_understood() {
    let lease =
        HeldLease { intent: INTENT, attempt: ATTEMPT, fence: FENCE, token: Digest([0x33; 32]) };
    let hello = RealmHello {
        realm: REALM,
        nonce: Digest([0x44; 32]),
        lease_ms: 3000,
        heartbeat_ms: 900,
        credit: 262_144,
        knows: Vec::new(),
    };
    check_json("realm-hello", &hello);
    let knows = vec![mtor_types::worker::OFFER_GROUP.to_owned()];
    check_json("realm-hello-knows", &RealmHello { knows, ..hello });
    check_json(
        "worker-hello",
        &WorkerHello { worker: WORKER, signature: "ab".repeat(64), leases: vec![lease.clone()] },
    );
    check_json("held-lease", &lease);
    check_json("lease-claim", &LeaseClaim { intent: INTENT, attempt: ATTEMPT });
    let (intent, model, price, context, group) = ("echo".into(), None, None, None, None);
    let bare = Offer { intent, model, slots: 1, price, context, group };
    check_json("offer", &OfferList { offers: vec![offer(), bare] });
    let shared = Offer { group: Some("gpu 0".into()), ..offer() };
    check_json("offer-group", &OfferList { offers: vec![shared] });
    check_json("renew", &Renew { leases: vec![LeaseClaim { intent: INTENT, attempt: ATTEMPT }] });
    check_json("acknowledge", &Acknowledge { intent: INTENT, attempt: ATTEMPT });
    check_json("credit", &Credit { intent: INTENT, attempt: ATTEMPT, bytes: 65_536 });
    check_json("revoke", &Revoke { intent: INTENT, attempt: ATTEMPT });
    check_json("drain", &Drain {});
    check_json(
        "refused",
        &RefusedOffers {
            offers: vec![RefusedOffer {
                intent: "chat".into(),
                model: Some("smollm2".into()),
                code: Code::OfferTooDear.to_string(),
                message: "field `price`: too dear".into(),
            }],
        },
    );
    check_json("ping", &Ping {});
    check_json(
        "enrol",
        &Enrol {
            token: "mtor-token".into(),
            worker: WORKER,
            signature: "cd".repeat(64),
            name: "näo".into(),
        },
    );
    check_json("enrolled", &Enrolled { worker: WORKER, owner: OWNER, realm: REALM });
}

#[test]
fn work_and_its_results_are_understood() {
    for (name, output) in [("assign", None), ("assign-output", Some(100))] {
        check_json(
            name,
            &Assign {
                intent: INTENT,
                attempt: ATTEMPT,
                name: "chat".into(),
                model: Some("smollm2".into()),
                group: None,
                stream: true,
                limit: Some(300),
                output,
                meter: None,
                deadline_ms: 60_000,
                fence: FENCE,
                token: Digest([0x33; 32]),
                data: raw(r#"{"messages":[],  "user":"ü"}"#).to_owned(),
            },
        );
    }
    for (name, group) in [("assign-meter", None), ("assign-group", Some("gpu 0".to_owned()))] {
        check_json(
            name,
            &Assign {
                intent: INTENT,
                attempt: ATTEMPT,
                name: "shout".into(),
                model: None,
                group,
                stream: false,
                limit: Some(30),
                output: None,
                meter: Some(AssignMeter { unit: "byte".into(), bound: Bound::Bytes, input: 30 }),
                deadline_ms: 60_000,
                fence: FENCE,
                token: Digest([0x33; 32]),
                data: raw(r#"{"text":"hello"}"#).to_owned(),
            },
        );
    }
    check_json(
        "chunk",
        &Chunk {
            intent: INTENT,
            attempt: ATTEMPT,
            seq: 2,
            count: 3,
            piece: raw(r#"{"b":1,  "a":[2,3]}"#),
        },
    );
    for (name, result) in [("complete", Some(raw(r#"{"y": 1}"#))), ("complete-bare", None)] {
        check_json(name, &Complete { intent: INTENT, attempt: ATTEMPT, usage: usage(), result });
    }
    for (name, code) in [
        ("fail-bad-request", FailCode::BadRequest),
        ("fail-context-overflow", FailCode::ContextOverflow),
        ("fail-unsupported", FailCode::Unsupported),
        ("fail-backend", FailCode::Backend),
    ] {
        let message = "field `n`: 1 is the most".to_owned();
        check_json(name, &Fail { intent: INTENT, attempt: ATTEMPT, code, message, retry: true });
    }
}
