//! The node's threads around a store that a test can hold back or break.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use mtor_core::accountant::Policy;
use mtor_core::command::{GrantPolicy, OpenAccount, Token};
use mtor_core::node::{NodeConfig, NodeState};
use mtor_core::share::Holder;
use mtor_core::{Command, Effect, Node};
use mtor_store::{Encoded, Log, MemoryLog, StoreError, decode_batch};
use mtor_types::amount::Price;
use mtor_types::fact::{AccountKind, Asset};
use mtor_types::intent::{Band, Branch, Class, EndRequest, IntentMeta, Reason, Trust, Usage, Why};
use mtor_types::message::{SlotOffer, Slots};
use mtor_types::{
    AccountId, Amount, Digest, IntentId, KeyHash, NodeId, RealmId, SessionId, WorkerId,
};

use super::*;

const OWNER: AccountId = AccountId([1; 32]);
const CLIENT: AccountId = AccountId([2; 32]);
const WORKER: WorkerId = WorkerId([3; 32]);
const PATIENCE: Duration = Duration::from_secs(20);

/// What the store does with appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    /// Appends do not return.
    Held,
    Full,
}

#[derive(Clone)]
struct Moody {
    log: Arc<Mutex<MemoryLog>>,
    mood: Arc<(Mutex<Mood>, Condvar)>,
}

impl Moody {
    fn new() -> Self {
        let mood = Arc::new((Mutex::new(Mood::Well), Condvar::new()));
        Self { log: Arc::default(), mood }
    }

    fn set(&self, mood: Mood) {
        *self.mood.0.lock().unwrap() = mood;
        self.mood.1.notify_all();
    }

    /// The log folded anew: what a crash now would leave.
    fn recovered(&self) -> Node {
        let mut node = Node::recover(NodeConfig::whole(policy(), OWNER), NodeState::default());
        for batch in self.read_after(0, usize::MAX).unwrap() {
            node.replay(&decode_batch(&batch).unwrap()).unwrap();
        }
        node
    }
}

impl Log for Moody {
    fn append(&mut self, batches: &[Encoded]) -> Result<(), StoreError> {
        let mood = self.mood.0.lock().unwrap();
        let mood = *self.mood.1.wait_while(mood, |mood| *mood == Mood::Held).unwrap();
        let mut log = self.log.lock().unwrap();
        log.set_full(mood == Mood::Full);
        log.append(batches)
    }

    fn read_after(&self, number: u64, limit: usize) -> Result<Vec<Encoded>, StoreError> {
        self.log.lock().unwrap().read_after(number, limit)
    }

    fn last(&self) -> u64 {
        self.log.lock().unwrap().last()
    }
}

#[derive(Debug)]
enum Seen {
    Carried(Effect),
    Refused(IntentId, CallError),
    Settled(IntentId),
    Store(StoreState),
}

struct Watch(SyncSender<Seen>);

impl Watch {
    fn tell(&self, seen: Seen) {
        // A test that is over looks no more.
        let _ = self.0.try_send(seen);
    }
}

impl Sink for Watch {
    fn carry(&self, effect: Effect, _follow: &mut Vec<Command>) {
        self.tell(Seen::Carried(effect));
    }

    fn refused(&self, intent: IntentId, error: CallError) {
        self.tell(Seen::Refused(intent, error));
    }

    fn settled(&self, _batch: u64, intents: Vec<IntentId>) {
        for intent in intents {
            self.tell(Seen::Settled(intent));
        }
    }

    fn store_changed(&self, state: StoreState) {
        self.tell(Seen::Store(state));
    }
}

fn policy() -> Policy {
    let grant = GrantPolicy {
        asset: Asset::Grant,
        amount: Amount::from_u64(1_000),
        daily_total: Amount::from_u64(10_000),
        daily_per_network: 10,
    };
    Policy { grant: Some(grant), ..Policy::default() }
}

fn boot(store: &Moody) -> (Result<Shell, StartError>, Receiver<Seen>) {
    let node = store.recovered();
    let clock = Clock::start(node.now());
    let (tell, seen) = sync_channel(10_000);
    let followers = Followers { synced: Box::new(drop), snapshot: Box::new(drop) };
    let sink = Arc::new(Watch(tell));
    (start(node, store.clone(), clock, sink, followers, drop), seen)
}

/// A running realm with a guest and a worker of one echo slot.
async fn open(store: &Moody) -> (Shell, Receiver<Seen>) {
    let (shell, seen) = boot(store);
    let shell = shell.unwrap();
    let node = shell.handle();
    let (realm, name_secret) = (RealmId([9; 32]), [7; 32]);
    let ledger = Command::OpenLedger { realm, decimals: 6, owner: OWNER, name_secret };
    node.call(ledger).await.unwrap();
    let (key, networks, invite, salt) = (KeyHash([5; 32]), Vec::new(), None, [0; 16]);
    let (account, kind) = (CLIENT, AccountKind::Guest);
    let guest = OpenAccount { account, kind, key, name_secret, networks, invite, salt };
    node.call(Command::OpenAccount(guest)).await.unwrap();
    let token = Token { hash: KeyHash([6; 32]), owner: OWNER, expires: mtor_types::Time(u64::MAX) };
    let holder = Holder { account: Some(OWNER), network: None, rank: Rank::Realm };
    let enrol = Command::Enrol { token, worker: WORKER, name: "embedded".into(), holder };
    node.call(enrol).await.unwrap();
    let price = Price { amount: Amount::from_u64(1), per: 1 };
    let (intent, model, context, group) = ("echo".into(), None, None, None);
    let (slots, band) = (1, Band::LIST);
    let offer = SlotOffer { intent, model, slots, price, band, context, group };
    let slots = Slots {
        worker: WORKER,
        session: SessionId(1),
        edge: NodeId::default(),
        owner: OWNER,
        own: false,
        proven: false,
        draining: false,
        offers: vec![offer],
        leases: Vec::new(),
    };
    node.call(Command::Attach(slots)).await.unwrap();
    (shell, seen)
}

/// A state that no sequence of facts gives is read, and refused before anything is written.
#[tokio::test]
async fn a_state_that_does_not_add_up_refuses_the_start_by_name() {
    let store = Moody::new();
    let (shell, _seen) = open(&store).await;
    shell.stop();
    let node = store.recovered();
    let mut bytes = node.encode_state().unwrap();
    // The guest's grant, as it stands behind its account's id: 1,000 becomes 1,001.
    let account = bytes.windows(32).position(|id| id == CLIENT.0).unwrap();
    let grant = bytes[account..].windows(2).position(|two| two == [0xe8, 0x07]).unwrap();
    bytes[account + grant] = 0xe9;
    let state = NodeState::decode(&bytes).unwrap();
    let node = Node::recover(NodeConfig::whole(policy(), OWNER), state);
    let before = store.last();
    let clock = Clock::start(node.now());
    let followers = Followers { synced: Box::new(drop), snapshot: Box::new(drop) };
    let (tell, _seen) = sync_channel(10);
    let sink = Arc::new(Watch(tell));
    let Err(refused) = start(node, store.clone(), clock, sink, followers, drop) else {
        panic!("it starts")
    };
    assert!(matches!(refused, StartError::Broken(_)), "{refused}");
    assert!(refused.to_string().contains("accountant: grant: 1001 are owed"), "{refused}");
    assert_eq!(store.last(), before, "nothing was written");
}

fn echo(number: u8, durable: bool) -> Box<IntentMeta> {
    Box::new(IntentMeta {
        id: IntentId([number; 16]),
        account: CLIENT,
        name: "echo".into(),
        model: None,
        trust: Trust::Any,
        class: Class::Interactive,
        durable,
        restart: false,
        edge: NodeId::default(),
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
        remaining_ms: 60_000,
        idempotency: None,
        salt: [number; 16],
    })
}

/// The next effect that `wanted` takes; the rest is passed over.
#[track_caller]
fn wait_for<T>(seen: &Receiver<Seen>, wanted: impl Fn(&Seen) -> Option<T>) -> T {
    loop {
        let next = seen.recv_timeout(PATIENCE).expect("it comes");
        if let Some(found) = wanted(&next) {
            return found;
        }
    }
}

fn admitted(seen: &Seen) -> Option<IntentId> {
    let Seen::Carried(Effect::Admitted { intent, .. }) = seen else { return None };
    Some(*intent)
}

fn assigned(seen: &Seen) -> Option<EndRequest> {
    let Seen::Carried(Effect::Assign(assignment)) = seen else { return None };
    Some(EndRequest {
        intent: assignment.meta.id,
        attempt: Some(assignment.attempt),
        why: Why::Completed(Reason::Done),
        usage: Usage { units: 1, ..Usage::default() },
        delivered: true,
    })
}

/// Everything told so far, once the node has gone through what was asked of it.
async fn all(node: &NodeHandle, seen: &Receiver<Seen>) -> Vec<Seen> {
    // The first question's round may still be letting go; after the second it has.
    for _ in 0..2 {
        node.ask(|_| ()).await.unwrap();
    }
    seen.try_iter().collect()
}

#[tokio::test]
async fn work_goes_on_while_the_sync_is_held_back_but_nothing_is_promised() {
    let store = Moody::new();
    let (shell, seen) = open(&store).await;
    let node = shell.handle();
    store.set(Mood::Held);

    // An ephemeral intent is admitted, dispatched and ended; its receipt waits.
    node.submit(echo(1, false), None, Rank::Guest).unwrap();
    let done = wait_for(&seen, assigned);
    node.tell(Command::End(done));
    wait_for(&seen, |seen| matches!(seen, Seen::Carried(Effect::Ended { .. })).then_some(()));
    // A durable one is dispatched; its answer waits, and so does its end.
    node.submit(echo(2, true), None, Rank::Guest).unwrap();
    let done = wait_for(&seen, assigned);
    node.tell(Command::End(done));
    // A key waits, too.
    let key = Command::AddKey { account: CLIENT, key: KeyHash([8; 32]) };
    let mut key = std::pin::pin!(node.call(key));
    let early = all(&node, &seen).await;
    let kept = |seen: &Seen| matches!(seen, Seen::Carried(Effect::PoolsChanged));
    assert!(early.iter().all(kept), "nothing durable has left: {early:?}");
    assert!(tokio::time::timeout(Duration::ZERO, key.as_mut()).await.is_err());

    store.set(Mood::Well);
    key.await.unwrap();
    let settled = |seen: &Seen| match seen {
        Seen::Settled(intent) => Some(*intent),
        Seen::Carried(_) | Seen::Refused(..) | Seen::Store(_) => None,
    };
    assert_eq!(wait_for(&seen, settled), IntentId([1; 16]));
    assert_eq!(wait_for(&seen, settled), IntentId([2; 16]));
    let digest = |node: &Node| node.digest().unwrap();
    let live = node.ask(digest).await.unwrap();
    shell.stop();
    assert_eq!(digest(&store.recovered()), live);
}

#[tokio::test]
async fn on_a_full_disk_nothing_new_is_taken_and_what_was_decided_is_kept() {
    let store = Moody::new();
    let (shell, seen) = open(&store).await;
    let node = shell.handle();
    store.set(Mood::Full);
    node.submit(echo(1, true), None, Rank::Guest).unwrap();
    let told = |wanted: StoreState| {
        move |seen: &Seen| matches!(seen, Seen::Store(state) if *state == wanted).then_some(())
    };
    wait_for(&seen, told(StoreState::Full));
    node.submit(echo(2, true), None, Rank::Guest).unwrap();
    let (refused, why) = wait_for(&seen, |seen| match seen {
        Seen::Refused(intent, error) => Some((*intent, error.clone())),
        Seen::Carried(_) | Seen::Settled(_) | Seen::Store(_) => None,
    });
    assert_eq!((refused, why), (IntentId([2; 16]), CallError::Store(StoreState::Full)));
    let early = all(&node, &seen).await;
    assert!(!early.iter().any(|seen| matches!(seen, Seen::Carried(Effect::Admitted { .. }))));

    store.set(Mood::Well);
    wait_for(&seen, told(StoreState::Good));
    wait_for(&seen, admitted);
    shell.stop();
    let mut node = store.recovered();
    node.start(node.now());
    assert_eq!(node.events().open_count(), 1);
}

#[tokio::test]
async fn a_boot_that_cannot_be_recorded_starts_nothing() {
    let store = Moody::new();
    let (shell, seen) = open(&store).await;
    shell.handle().submit(echo(1, true), None, Rank::Guest).unwrap();
    wait_for(&seen, admitted);
    shell.stop();
    drop(seen);
    let epoch = store.recovered().epoch();

    store.set(Mood::Full);
    let (shell, seen) = boot(&store);
    assert!(matches!(shell.err(), Some(StartError::Store(StoreError::Full { .. }))));
    assert_eq!(seen.try_iter().count(), 0, "no effect of a boot that is not recorded");
    assert_eq!(store.recovered().epoch(), epoch);

    store.set(Mood::Well);
    let (shell, _seen) = boot(&store);
    shell.unwrap().stop();
    assert_eq!(store.recovered().epoch(), epoch + 1);
}
