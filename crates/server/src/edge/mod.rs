//! The edge: where clients, workers and the node meet.
//!
//! It holds payloads and replay buffers, turns requests into commands and effects into frames and
//! events, and meters what it forwards. Invariants: a payload is in memory here, sealed on disk,
//! or on its way to the one worker that the router chose, and nowhere else; every effect that asks
//! for a figure is answered, also for an intent that is not known any more; nothing here blocks
//! the node's thread. Absent on purpose: any decision about money, order or placement.

pub mod carry;
mod choose;
mod days;
pub mod follow;
mod keys;
mod live;
mod metrics;
mod names;
mod offered;
mod proofs;
mod receipts;
pub mod render;
mod said;
mod submit;
mod workers;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use mtor_core::command::Token;
use mtor_core::share::{Holder, Rank};
use mtor_core::{Command, Node, limits};
use mtor_store::{BlobName, BlobStore, Reader};
use mtor_types::fact::{Asset, NetworkKey};
use mtor_types::intent::{Branch, Why};
use mtor_types::{
    AccountId, Amount, Code, IntentId, KeyHash, NodeId, Rejection, SessionId, Time, WorkerId,
};
use tokio::sync::{Notify, watch};

use days::Days;
pub use keys::Keys;
use live::Lives;
pub use metrics::Metrics;
pub use names::Names;
pub use offered::{Listed, Offered};
use proofs::Proofs;
pub use said::Said;
pub use submit::{Asker, Submission, Submitted};
pub use workers::Priced;

use crate::api_error::ApiError;
use crate::identity::{self, DOCUMENT_LIFE_MS_MAX, DocumentPlan, Identity};
use crate::manifests::{ManifestProblem, Manifests};
use crate::origin::{Networks, Origin};
use crate::sessions::Sessions;
use crate::shares::{Portion, Shares};
use crate::shell::{CallError, Clock, NodeHandle, Projection, StoreState};
use crate::streams::Streams;
use crate::told::ModelsTold;
use crate::weights::Weights;

/// Between two looks for sealed blobs past their time.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Blobs of one sweep: with the pause above five times as many as the log can settle in a day.
const SWEPT_MAX: usize = 100_000;

/// Strangers may look at the pools as often as they like; the node is asked this often at most.
const VIEW_AGE_MAX: Duration = Duration::from_millis(100);
/// Kinds that one question to the node looks at: it answers others in between.
const POOLS_AT_ONCE: usize = 256;

/// Of the realm's token.
pub const DECIMALS: u8 = 6;

/// Everything the connections of one process share.
pub struct Edge {
    pub node_id: NodeId,
    pub identity: Identity,
    /// The `source` of the realm's own events.
    pub source: Arc<str>,
    pub manifests: ArcSwap<Manifests>,
    /// What is wrong in their folder just now.
    pub manifest_problems: ArcSwap<Vec<ManifestProblem>>,
    /// Another table is in force: what workers offer is priced anew.
    pub manifests_changed: watch::Sender<()>,
    /// What workers offer now.
    pub offered: ArcSwap<Offered>,
    /// What the realm was told of its models.
    pub told: ArcSwap<ModelsTold>,
    /// What pages may fetch of them.
    pub weights: Weights,
    pub keys: Keys,
    pub said: Said,
    pub days: Days,
    pub proofs: Proofs,
    pub names: Names,
    pub sessions: Sessions,
    pub streams: Streams,
    pub metrics: Metrics,
    pub shares: Shares,
    /// Proxies that are believed, and networks whose accounts are branches of their own.
    pub networks: Networks,
    lives: Lives,
    blobs: Arc<BlobStore>,
    reader: Arc<Reader>,
    projection: Projection,
    clock: Clock,
    /// Set once the node runs; nothing reaches the edge before.
    node: OnceLock<NodeHandle>,
    epoch: OnceLock<u32>,
    sysop: KeyHash,
    endpoint: OnceLock<String>,
    runtime: tokio::runtime::Handle,
    /// Worker sessions run there.
    pub session_threads: tokio::runtime::Handle,
    offers_changed: Notify,
    /// When workers' offers were last looked at.
    viewed: tokio::sync::Mutex<Option<Instant>>,
    /// Whether readiness waits for the first offer of a worker of the realm's own.
    awaits_worker: bool,
    offered_once: AtomicBool,
    stop: watch::Sender<Stop>,
}

/// How far the realm's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    Running,
    /// Nothing new is taken; what is open may end.
    Stopping,
    /// Workers' sessions end, too. Durable leases outlive that: the next start adopts them.
    Closing,
}

/// What the edge is made of.
pub struct Parts {
    pub identity: Identity,
    pub manifests: Manifests,
    pub streams: Streams,
    pub blobs: Arc<BlobStore>,
    pub reader: Arc<Reader>,
    pub projection: Projection,
    pub clock: Clock,
    pub sysop: KeyHash,
    pub networks: Networks,
    pub shares: Shares,
    pub session_threads: tokio::runtime::Handle,
    pub awaits_worker: bool,
}

impl Edge {
    /// Must be called within a runtime: what an effect has to wait for runs there.
    pub fn new(parts: Parts) -> Arc<Self> {
        let source: Arc<str> = format!("/realms/{}", parts.identity.realm()).into();
        Arc::new(Self {
            node_id: NodeId::default(),
            identity: parts.identity,
            source,
            manifests: ArcSwap::from_pointee(parts.manifests),
            manifest_problems: ArcSwap::default(),
            manifests_changed: watch::Sender::new(()),
            offered: ArcSwap::from_pointee(Offered::default()),
            told: ArcSwap::from_pointee(ModelsTold::default()),
            weights: Weights::default(),
            keys: Keys::default(),
            said: Said::default(),
            days: Days::default(),
            proofs: Proofs::default(),
            names: Names::default(),
            sessions: Sessions::default(),
            streams: parts.streams,
            metrics: Metrics::default(),
            shares: parts.shares,
            networks: parts.networks,
            lives: Lives::default(),
            blobs: parts.blobs,
            reader: parts.reader,
            projection: parts.projection,
            clock: parts.clock,
            node: OnceLock::new(),
            epoch: OnceLock::new(),
            sysop: parts.sysop,
            endpoint: OnceLock::new(),
            runtime: tokio::runtime::Handle::current(),
            session_threads: parts.session_threads,
            offers_changed: Notify::new(),
            viewed: tokio::sync::Mutex::default(),
            awaits_worker: parts.awaits_worker,
            offered_once: AtomicBool::new(false),
            stop: watch::Sender::new(Stop::Running),
        })
    }

    /// Joins the edge to its running node.
    pub fn connect(&self, node: NodeHandle, epoch: u32, endpoint: String) {
        self.sessions.start(epoch);
        // Once only: a second call would be a fault of the one caller there is.
        let _ = self.epoch.set(epoch);
        let _ = self.endpoint.set(endpoint);
        let _ = self.node.set(node);
    }

    /// The node. Connections are accepted only after [`Edge::connect`].
    #[expect(clippy::expect_used, reason = "no socket is open before the node runs")]
    pub fn node(&self) -> &NodeHandle {
        self.node.get().expect("the node runs before any connection")
    }

    pub fn epoch(&self) -> u32 {
        self.epoch.get().copied().unwrap_or_default()
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    pub fn is_sysop(&self, key: KeyHash) -> bool {
        // Both are hashes of 256 random bits: what a comparison's time tells is of no use.
        self.sysop == key
    }

    /// Resolves when the realm stops.
    pub async fn stopping(&self) {
        self.reached(Stop::Stopping).await;
    }

    /// Resolves when the realm's open requests have had their time.
    pub async fn closing(&self) {
        self.reached(Stop::Closing).await;
    }

    async fn reached(&self, wanted: Stop) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as the edge.
        let _ = stop.wait_for(|stop| *stop >= wanted).await;
    }

    pub fn stop(&self) {
        self.stop.send_replace(Stop::Stopping);
    }

    pub fn close(&self) {
        self.stop.send_replace(Stop::Closing);
    }

    fn is_closing(&self) -> bool {
        *self.stop.borrow() == Stop::Closing
    }

    /// A worker's connection has ended. While the realm closes that says nothing of its leases.
    pub fn worker_gone(&self, worker: WorkerId, session: SessionId) {
        if !self.is_closing() {
            self.node().tell(Command::Detach { worker, session });
        }
    }

    pub fn is_ready(&self) -> bool {
        !self.awaits_worker || self.offered_once.load(Ordering::Acquire)
    }

    /// Follows what workers offer, and drops what is kept long enough, until the realm stops.
    pub async fn keep_house(&self) {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                () = self.offers_changed.notified() => {
                    // A node that stops offers nothing any more.
                    let _ = self.view_pools(Duration::ZERO).await;
                }
                _ = every.tick() => {
                    self.streams.expire(self.now());
                }
                () = self.stopping() => return,
            }
        }
    }

    /// What can be asked here now. Whoever was told of a model may ask for it: the snapshot of the
    /// request path is at least as new as any answer of this.
    pub async fn pools(&self) -> Result<Arc<Offered>, CallError> {
        self.view_pools(VIEW_AGE_MAX).await
    }

    async fn view_pools(&self, age_max: Duration) -> Result<Arc<Offered>, CallError> {
        // One at a time, so that an older view never replaces a newer one.
        let mut viewed = self.viewed.lock().await;
        if viewed.is_some_and(|at| at.elapsed() < age_max) {
            return Ok(self.offered.load_full());
        }
        let at = Instant::now();
        let (mut pools, mut after) = (Vec::new(), None);
        loop {
            let next = move |node: &Node| {
                node.router().pools_view(after.as_ref(), POOLS_AT_ONCE, node.now())
            };
            let (some, last) = self.node().ask(next).await?;
            pools.extend(some);
            after = last;
            if after.is_none() {
                break;
            }
        }
        let offered = Arc::new(Offered::new(pools, &self.names));
        if offered.has_own() {
            self.offered_once.store(true, Ordering::Release);
        }
        self.offered.store(Arc::clone(&offered));
        *viewed = Some(at);
        Ok(offered)
    }

    /// Removes sealed blobs past their time, of intents that are over, until the realm stops.
    pub async fn sweep_blobs(self: &Arc<Self>, kept: Duration) {
        let mut every = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = self.stopping() => return,
            }
            let edge = Arc::clone(self);
            let Some(before) = SystemTime::now().checked_sub(kept) else { continue };
            let swept =
                tokio::task::spawn_blocking(move || edge.blobs.older_than(before, SWEPT_MAX));
            let old = match swept.await {
                Ok(Ok(old)) => old,
                Ok(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "blobs not swept");
                    continue;
                }
                Err(_) => continue,
            };
            self.drop_blobs(old).await;
        }
    }

    /// Removes those of intents that are over: a file's age alone says nothing where a clock jumped.
    async fn drop_blobs(&self, names: Vec<BlobName>) {
        let over = move |node: &Node| -> Vec<BlobName> {
            let over = |name: &BlobName| node.events().meta(name.intent).is_none();
            names.into_iter().filter(over).collect()
        };
        let Ok(over) = self.node().ask(over).await else { return };
        let blobs = Arc::clone(&self.blobs);
        let dropped = tokio::task::spawn_blocking(move || {
            over.into_iter().try_for_each(|name| blobs.delete(name))
        });
        if let Ok(Err(error)) = dropped.await {
            tracing::warn!(error = &error as &dyn std::error::Error, "blobs not swept");
        }
    }

    /// A client's network, for limits and shares, without keeping an address.
    pub fn network_of(&self, origin: Origin) -> NetworkKey {
        self.identity.network_key(&self.networks.network(origin), self.now().day())
    }

    /// The same whatever the day: for what outlasts one, such as a session.
    pub fn lasting_network_of(&self, origin: Origin) -> NetworkKey {
        self.identity.network_key(&self.networks.network(origin), 0)
    }

    /// Of which network its shares are: of none on this machine, and where accounts stand for themselves.
    pub fn sharing_network_of(&self, origin: Origin) -> Option<NetworkKey> {
        let alone = self.networks.is_home(origin) || origin.is_here();
        (!alone).then(|| self.lasting_network_of(origin))
    }

    /// The networks that it comes from, which lie in one another, for what is given out by the day: none
    /// where it is of no network.
    pub fn levels_of(&self, origin: Origin) -> Vec<NetworkKey> {
        if self.networks.is_home(origin) || origin.is_here() {
            return Vec::new();
        }
        let day = self.now().day();
        let levels = self.networks.levels(origin);
        levels.iter().map(|level| self.identity.network_key(level, day)).collect()
    }

    /// For what an account takes of what is shared: one with a weight is of no network.
    pub fn holder(&self, account: AccountId, network: Option<NetworkKey>) -> Holder {
        if account == self.identity.account() {
            return Holder { account: Some(account), network, rank: Rank::Realm };
        }
        if self.said.limits(account).weight.is_some() {
            return Holder { account: Some(account), network: None, rank: Rank::Weighted };
        }
        Holder { account: Some(account), network, rank: Rank::Guest }
    }

    /// Who opens a connection, as far as its address tells: nothing of what a proxy asks for, or
    /// somebody on this machine, who may be one.
    pub fn caller_at(&self, address: IpAddr) -> Holder {
        let address = address.to_canonical();
        let origin = Origin { address, veiled: false };
        let unknown = self.networks.is_trusted(address);
        let network = self.sharing_network_of(origin).filter(|_| !unknown);
        // Among whom on this machine are its worker and its sysop.
        let rank = if origin.is_here() && !unknown { Rank::Realm } else { Rank::Member };
        Holder { account: None, network, rank }
    }

    /// One of the connections that are kept for this machine when all others are taken.
    pub fn kept_place(&self, address: IpAddr) -> Option<Portion> {
        let origin = Origin { address: address.to_canonical(), veiled: false };
        let realm = Holder { account: None, network: None, rank: Rank::Realm };
        origin.is_here().then(|| self.shares.kept.take(realm, 1).ok()).flatten()
    }

    /// Under whose weight the work of an account's request from there stands.
    pub fn branch_of(&self, account: AccountId, origin: Origin) -> Branch {
        let weighted = self.said.limits(account).weight.is_some();
        if weighted || self.networks.is_home(origin) || origin.is_here() {
            Branch::Account
        } else {
            Branch::Network(self.network_of(origin))
        }
    }

    /// A one-time token for a worker of `owner`.
    pub fn new_worker_token(&self, owner: AccountId) -> Result<String, ApiError> {
        let expires = self.now().after_ms(limits::TOKEN_LIFE_MS);
        self.identity.enrolment_token(owner, expires).map_err(|_| ApiError::internal())
    }

    /// What a token of a worker says. One that is none of this realm's may be that by which the worker
    /// was enrolled before tokens said anything.
    pub async fn read_worker_token(&self, text: &str, worker: WorkerId) -> Result<Token, ApiError> {
        let hash = identity::hash_secret(text);
        if let Some((owner, expires)) = self.identity.read_enrolment_token(text) {
            return Ok(Token { hash, owner, expires });
        }
        let by_it = move |node: &Node| {
            let enrolled = node.registry().worker(worker)?.enrolled;
            (enrolled.token == hash).then_some(enrolled.owner)
        };
        let owner = self.node().ask(by_it).await?.ok_or(Rejection::TokenInvalid)?;
        Ok(Token { hash, owner, expires: Time::default() })
    }

    /// Shuts an account out, or lets it in again. What it owns has no session when this is done, and what
    /// it had open is stopped.
    pub async fn ban(&self, account: AccountId, banned: bool) -> Result<(), ApiError> {
        self.node().call(Command::BanAccount { account, banned }).await?;
        self.said.ban(account, banned);
        if !banned {
            return Ok(());
        }
        let of = move |node: &Node| -> Vec<IntentId> {
            let open = node.events().list(None).filter(|meta| meta.account == account);
            open.map(|meta| meta.id).collect()
        };
        for intent in self.node().ask(of).await? {
            self.node().tell(Command::Stop { intent, why: Why::Cancelled });
        }
        Ok(())
    }

    /// What an account may spend of an asset.
    pub async fn balance(&self, account: AccountId, asset: Asset) -> Result<Amount, ApiError> {
        let balance = self.node().ask(move |node| {
            node.accountant().balance(account).map(|balances| balances.get(asset).available)
        });
        balance.await?.ok_or_else(|| ApiError::not_found("such account"))
    }

    /// Asks the read tables, off the runtime's own threads. They are brought up to what was synced
    /// when this was called, so that a client sees its own writes.
    pub async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, mtor_store::StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        // Behind they would deny what was promised: a repeated request would be paid twice.
        if !self.projection.reach(self.node().synced()).await {
            let message = "the read tables lag behind the log just now; nothing is lost";
            return Err(ApiError::new(Code::StoreUnavailable, message));
        }
        self.look_up(question).await
    }

    /// As [`Edge::read`], in the tables as they are.
    async fn look_up<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, mtor_store::StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let reader = Arc::clone(&self.reader);
        let answer = tokio::task::spawn_blocking(move || question(&reader)).await;
        answer.map_err(|_| ApiError::internal())?.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "read table");
            ApiError::new(Code::StoreUnavailable, "the read tables cannot be read just now")
        })
    }

    /// The signed realm document. Its sequence is the time: later ones are greater.
    pub fn document(&self) -> Result<String, ApiError> {
        let now = self.now();
        let endpoints = self.endpoint.get().cloned().into_iter().collect();
        let (life_ms, decimals) = (DOCUMENT_LIFE_MS_MAX, DECIMALS);
        let plan = DocumentPlan { now, life_ms, sequence: now.0, endpoints, decimals };
        let document = self.identity.document(plan).map_err(|_| ApiError::internal())?;
        serde_json::to_string(&document).map_err(|_| ApiError::internal())
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Rejected(rejection) => rejection.into(),
            CallError::Overloaded => Self::overloaded(),
            CallError::Stopping => Self::stopping(),
            CallError::Store(StoreState::Full) => Self::new(
                Code::StoreUnavailable,
                "the realm's disk is full; nothing is lost, and it goes on once there is room",
            ),
            CallError::Store(StoreState::Good | StoreState::Failing) => Self::new(
                Code::StoreUnavailable,
                "the realm cannot write its log just now; nothing is lost",
            ),
        }
    }
}
