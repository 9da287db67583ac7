//! A whole realm in one process: opened from its data directory, served, and stopped.
//!
//! The order of opening matters: the directory's lock first, then keys, log, recovery, and only
//! when the boot's epoch is synced the socket answers. Each step says what stands in its way and
//! what to do about it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mtor_core::accountant::Policy;
use mtor_core::command::GrantPolicy;
use mtor_core::node::{NodeConfig, NodeState, RecoverError};
use mtor_core::{Command, Node};
use mtor_store::{
    BlobStore, DataDir, Log, ReadTables, Reader, SqliteLog, StoreError, decode_batch,
};
use mtor_types::fact::Asset;
use mtor_types::{Amount, Code, KeyHash, Time};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::canaries;
use crate::edge::carry::Carrier;
use crate::edge::follow::NEWS_MAX;
use crate::edge::{DECIMALS, Edge, Parts};
use crate::http;
use crate::identity::{self, Identity, IdentityError};
use crate::manifests::{Folder, ManifestError, ManifestNews};
use crate::origin::Networks;
use crate::sessions::Threads;
use crate::shares::{Room, Shares};
use crate::shell::{self, CallError, Clock, Followers, Shell, StartError};
use crate::streams::{Kept, StreamLimits, Streams};
use crate::told::{ModelsTold, Teller};

/// Sealed payloads and results together.
const BLOBS_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Batches read from the log in one go.
const REPLAY_BATCHES: usize = 256;
/// How long sealed blobs are kept: results 24 h, payloads until their intent ends.
const BLOBS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a sysop decides at start.
#[derive(Clone, Debug)]
pub struct RealmOptions {
    pub data: PathBuf,
    pub listen: SocketAddr,
    /// Another address of this machine to listen on, at the same port.
    pub also: Option<IpAddr>,
    /// Whether an embedded worker will come: readiness waits for its first offer.
    pub embedded_worker: bool,
    /// What a guest is given, in base units of the grant asset.
    pub grant: u64,
    /// Grants of one day, in base units.
    pub grants_a_day: u64,
    /// Guest accounts of one client network in one day.
    pub guests_a_network: u32,
    /// The realm's share of what workers earn.
    pub fee_basis_points: u16,
    /// What the realm's own test intents may cost a day, in base units of the grant asset; nothing is
    /// tried for 0.
    pub canaries_a_day: u64,
    /// Proxies that are believed whom they ask for, and home networks.
    pub networks: Networks,
    /// Memory and descriptors that may be taken.
    pub room: Room,
}

impl RealmOptions {
    pub fn new(data: PathBuf, listen: SocketAddr) -> Self {
        Self {
            data,
            listen,
            also: None,
            embedded_worker: true,
            grant: 1_000_000,
            grants_a_day: 10_000_000_000,
            guests_a_network: 100,
            fee_basis_points: 0,
            canaries_a_day: 1_000_000,
            networks: Networks::default(),
            room: Room::default(),
        }
    }

    fn policy(&self) -> Policy {
        let grant = GrantPolicy {
            asset: Asset::Grant,
            amount: Amount::from_u64(self.grant),
            daily_total: Amount::from_u64(self.grants_a_day),
            daily_per_network: self.guests_a_network,
        };
        Policy { grant: Some(grant), fee_basis_points: self.fee_basis_points }
    }
}

/// Why a realm cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be made, is no folder, or is not ours to write.
    #[error("{} cannot be the data directory", path.display())]
    Data { path: PathBuf, source: StoreError },
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("the log cannot be recovered")]
    Recover(#[from] RecoverError),
    #[error("the realm's state cannot be read")]
    Snapshot(#[source] RecoverError),
    #[error("{}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("fee_basis_points: at most 10000, which is all of it")]
    Fee,
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the store's threads cannot be started")]
    Threads(#[source] std::io::Error),
    #[error("the ledger cannot be opened")]
    Ledger(#[from] CallError),
}

impl OpenError {
    pub fn code(&self) -> Code {
        match self {
            Self::Store(StoreError::InUse { .. }) => Code::DataDirectoryInUse,
            Self::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                Code::AddressInUse
            }
            Self::Listen { .. } => Code::BadConfiguration,
            Self::Data { .. } => Code::BadConfiguration,
            Self::Store(_)
            | Self::Recover(_)
            | Self::Snapshot(_)
            | Self::Ledger(_)
            | Self::Start(StartError::Store(_) | StartError::Broken(_)) => Code::StoreUnavailable,
            Self::Identity(_) | Self::Manifest(_) | Self::File { .. } | Self::Fee => {
                Code::BadConfiguration
            }
            Self::Threads(_) | Self::Start(StartError::Threads(_)) => Code::Internal,
        }
    }
}

/// A realm that is open and about to serve.
pub struct Realm {
    edge: Arc<Edge>,
    shell: Shell,
    /// Writes snapshots; ends with the shell.
    keeping: JoinHandle<()>,
    /// Ends after the shell: it may have results to seal.
    sessions: Threads,
    listeners: Vec<TcpListener>,
    port: u16,
    url: String,
    sysop_secret: Option<String>,
    worker_token: Option<String>,
    manifests: Folder,
    canaries_a_day: Amount,
    // Held for life: nobody else writes here.
    _directory: DataDir,
}

impl Realm {
    /// Opens or makes the realm of a data directory. Must be called within a runtime.
    pub async fn open(options: RealmOptions) -> Result<Self, OpenError> {
        if options.fee_basis_points > 10_000 {
            return Err(OpenError::Fee);
        }
        let data = options.data.clone();
        let directory = open_data(&data)?;
        let listening = listen(&options).await;
        let (listeners, address) = listening.inspect_err(|_| directory.discard())?;
        let identity = Identity::open(&data)?;
        let (sysop, sysop_secret) = sysop_secret(&data)?;
        let opened = open_store(&data, &identity, &options)?;
        let (found, keys) = (opened.node.accountant().realm(), identity.realm());
        if let Some(found) = found.filter(|found| *found != keys) {
            return Err(IdentityError::Another { found, keys }.into());
        }
        let clock = clock_of(&data, opened.recorded)?;
        let blobs = BlobStore::open(&data.join("blobs"), *identity.blob_key(), BLOBS_BYTES_MAX)?;
        let shares = Shares::new(options.room, blobs.bytes());
        let streams = open_streams(&data, options.room, &shares)?;
        let (projection, on_synced) = shell::follow(opened.tables).map_err(OpenError::Threads)?;
        let (folder, manifests) = Folder::open(&data.join("manifests"))?;
        let sessions = Threads::start().map_err(OpenError::Threads)?;
        let edge = Edge::new(Parts {
            manifests,
            identity,
            streams,
            blobs: Arc::new(blobs),
            reader: Arc::new(opened.reader),
            projection,
            clock,
            sysop,
            networks: options.networks,
            shares,
            session_threads: sessions.handle(),
            awaits_worker: options.embedded_worker,
        });
        let epoch = opened.node.epoch().saturating_add(1);
        let url = format!("http://{address}");
        let fresh = opened.node.accountant().realm().is_none();
        remember(&edge, &opened.node);
        tell_of_payers(&opened.node);
        let sink = Arc::new(Carrier(Arc::clone(&edge)));
        let (keeping, snapshot) =
            shell::keep(opened.log.snapshots()).map_err(OpenError::Threads)?;
        let followers = Followers { synced: on_synced, snapshot };
        let shell = shell::start(opened.node, opened.log, clock, sink, followers, |handle| {
            edge.connect(handle, epoch, url.clone());
        })?;
        if fresh {
            open_ledger(&edge).await?;
        }
        let mut realm = Self {
            edge,
            shell,
            keeping,
            sessions,
            listeners,
            port: address.port(),
            url,
            sysop_secret,
            worker_token: None,
            manifests: folder,
            canaries_a_day: Amount::from_u64(options.canaries_a_day),
            _directory: directory,
        };
        if options.embedded_worker {
            realm.worker_token = realm.token_for_embedded_worker(&data).await?;
        }
        Ok(realm)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Says what the realm's models are, which ones are on their way, and which one answers who
    /// names none. Replaces what was told before.
    pub fn tell_models(&self, told: ModelsTold) {
        self.teller().tell_models(told);
    }

    /// As [`Realm::tell_models`], for as long as the realm runs.
    pub fn teller(&self) -> Teller {
        Teller(Arc::clone(&self.edge))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn realm(&self) -> mtor_types::RealmId {
        self.edge.identity.realm()
    }

    /// Only at the realm's very first start: its hash is kept, not it.
    pub fn sysop_secret(&self) -> Option<&str> {
        self.sysop_secret.as_deref()
    }

    /// A one-time token, until the embedded worker has enrolled.
    pub fn embedded_worker_token(&self) -> Option<&str> {
        self.worker_token.as_deref()
    }

    /// Serves until `stop`: see [`Realm::run_with`].
    pub async fn run(self, stop: impl Future<Output = ()>) {
        // Dropped: nobody reads the news.
        let (news, _) = mpsc::channel(1);
        Box::pin(self.run_with(stop, news)).await;
    }

    /// Where news of the manifests' folder may be read.
    pub fn news() -> (mpsc::Sender<ManifestNews>, mpsc::Receiver<ManifestNews>) {
        mpsc::channel(NEWS_MAX)
    }

    /// Serves until `stop`, then lets open requests end, syncs everything and lets go.
    pub async fn run_with(self, stop: impl Future<Output = ()>, news: mpsc::Sender<ManifestNews>) {
        let Self { edge, shell, keeping, sessions, listeners, manifests, .. } = self;
        let (canaries_a_day, directory) = (self.canaries_a_day, self._directory);
        let follow = tokio::spawn({
            let edge = Arc::clone(&edge);
            async move { edge.follow_manifests(manifests, news).await }
        });
        let house = tokio::spawn({
            let edge = Arc::clone(&edge);
            async move { edge.keep_house().await }
        });
        let sweep = tokio::spawn({
            let edge = Arc::clone(&edge);
            async move { edge.sweep_blobs(BLOBS_KEPT).await }
        });
        let canaries = tokio::spawn(canaries::run(Arc::clone(&edge), canaries_a_day));
        let serve = |listener| tokio::spawn(http::serve(listener, Arc::clone(&edge)));
        let servers: Vec<_> = listeners.into_iter().map(serve).collect();
        stop.await;
        edge.stop();
        for task in [house, sweep, follow, canaries].into_iter().chain(servers) {
            // A task that panicked has told so itself; the store is still to be synced.
            let _ = task.await;
        }
        edge.close();
        edge.sessions.ended().await;
        let stopped = tokio::task::spawn_blocking(move || {
            shell.stop();
            keeping.join()
        });
        if !matches!(stopped.await, Ok(Ok(()))) {
            tracing::error!("the node's threads did not end well");
        }
        drop(sessions);
        drop(directory);
    }

    /// The embedded worker belongs to the realm's own account. Its key stays in the data
    /// directory; as long as no worker of that account is enrolled, each start gives a token.
    async fn token_for_embedded_worker(&self, data: &Path) -> Result<Option<String>, OpenError> {
        let owner = self.edge.identity.account();
        let enrolled = self
            .edge
            .node()
            .ask(move |node| node.registry().workers_of(owner, None, 1).next().is_some())
            .await?;
        if enrolled && data.join("worker").join("identity").exists() {
            return Ok(None);
        }
        match self.edge.new_worker_token(owner) {
            Ok(token) => Ok(Some(token)),
            Err(error) => {
                tracing::warn!(%error, "no token for the embedded worker");
                Ok(None)
            }
        }
    }
}

fn open_data(data: &Path) -> Result<DataDir, OpenError> {
    DataDir::open(data).map_err(|source| {
        let unusable = matches!(source, StoreError::Io { .. });
        let path = data.to_owned();
        if unusable { OpenError::Data { path, source } } else { source.into() }
    })
}

fn clock_of(data: &Path, recorded: Time) -> Result<Clock, OpenError> {
    let path = data.join(shell::jumps::FILE);
    shell::jumps::start(data, recorded).map_err(|source| OpenError::File { path, source })
}

fn open_streams(data: &Path, room: Room, shares: &Shares) -> Result<Streams, OpenError> {
    let path = data.join("spill");
    let kept = Kept { replay: shares.replay.clone(), spill: shares.spill.clone() };
    let limits = StreamLimits::within(room.replay(), room.spill());
    let streams = Streams::sharing(limits, kept, &path);
    streams.map_err(|source| OpenError::File { path, source })
}

/// Good results for any payers proved a worker in the first releases. What is taken back is told, once:
/// the start of the node takes the mark from them.
fn tell_of_payers(node: &Node) {
    let workers = node.registry().workers(None, usize::MAX);
    let marked = workers.filter(|view| {
        let enrolled = view.enrolled;
        enrolled.served && enrolled.earned.values().all(|earned| earned.proven.is_none())
    });
    let workers = marked.count();
    if workers > 0 {
        tracing::warn!(
            workers,
            "workers that were proven by good results for payers are on probation again: payers may \
             be their owner's friends. `mtor sysop vouch` proves those that you know"
        );
    }
}

/// Takes the realm's addresses; gives the one that it is told by.
async fn listen(options: &RealmOptions) -> Result<(Vec<TcpListener>, SocketAddr), OpenError> {
    let bind = async |address| {
        let failed = |source| OpenError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok::<_, OpenError>((listener, address))
    };
    let (first, address) = bind(options.listen).await?;
    let mut listeners = vec![first];
    // One that listens everywhere is there already.
    let also = options.also.filter(|also| !address.ip().is_unspecified() && *also != address.ip());
    if let Some(also) = also {
        listeners.push(bind(SocketAddr::new(also, address.port())).await?.0);
    }
    Ok((listeners, address))
}

/// What requests look up without asking the node.
fn remember(edge: &Edge, node: &Node) {
    for (account, limits) in node.accountant().limits() {
        edge.said.limit(account, limits);
    }
    for account in node.accountant().banned() {
        edge.said.ban(account, true);
    }
    for (key, account) in node.accountant().keys() {
        edge.keys.add(key, account);
    }
    for view in node.registry().workers(None, usize::MAX) {
        edge.names.set(view.worker, &view.enrolled.name, view.enrolled.owner);
    }
}

struct OpenedStore {
    log: SqliteLog,
    tables: ReadTables,
    reader: Reader,
    node: Node,
    recorded: Time,
}

/// Opens the log, folds it, and brings the read tables up to it.
fn open_store(
    data: &Path,
    identity: &Identity,
    options: &RealmOptions,
) -> Result<OpenedStore, OpenError> {
    let log = SqliteLog::open(data)?;
    let state = match log.load_snapshot()? {
        // One that cannot be read is never passed over: what it was made for, a log that is cut
        // behind it, would make another state of the rest.
        Some(snapshot) => NodeState::decode(&snapshot.bytes).map_err(OpenError::Snapshot)?,
        None => NodeState::default(),
    };
    let config = NodeConfig::whole(options.policy(), identity.account());
    let mut node = Node::recover(config, state);
    loop {
        let batches = log.read_after(node.batch(), REPLAY_BATCHES)?;
        if batches.is_empty() {
            break;
        }
        for batch in &batches {
            node.replay(&decode_batch(batch)?)?;
        }
    }
    let mut tables = ReadTables::open(data)?;
    tables.catch_up(&log)?;
    let reader = Reader::open(data)?;
    let recorded = node.now();
    Ok(OpenedStore { log, tables, reader, node, recorded })
}

async fn open_ledger(edge: &Edge) -> Result<(), OpenError> {
    let name_secret = identity::random()?;
    let (realm, owner) = (edge.identity.realm(), edge.identity.account());
    let command = Command::OpenLedger { realm, decimals: DECIMALS, owner, name_secret };
    Ok(edge.node().call(command).await?)
}

/// The hash of the sysop's secret; the secret itself only when it was made just now.
fn sysop_secret(data: &Path) -> Result<(KeyHash, Option<String>), OpenError> {
    let path = data.join("keys").join("sysop.hash");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let wrong = || OpenError::File {
                path: path.clone(),
                source: std::io::Error::other("not a hash; remove the file to make a new secret"),
            };
            Ok((text.trim().parse().map_err(|_| wrong())?, None))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = identity::new_secret()?;
            let hash = identity::hash_secret(&secret);
            identity::write_secret_file(&path, hash.to_string().as_bytes())
                .map_err(|source| OpenError::File { path, source })?;
            Ok((hash, Some(secret)))
        }
        Err(source) => Err(OpenError::File { path, source }),
    }
}

#[cfg(test)]
mod tests;
