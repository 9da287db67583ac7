//! What a worker's session says once it is open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::close_code;
use mtor_core::{Command, limits};
use mtor_types::event::{EventError, EventIn};
use mtor_types::message::Slots;
use mtor_types::mutant;
use mtor_types::text;
use mtor_types::worker::{
    self, Chunk, Complete, Credit, Fail, LeaseClaim, Offer, OfferList, RefusedOffer, RefusedOffers,
    Renew,
};
use mtor_types::{Attempt, IntentId};

use tokio::sync::watch;

use super::Session;
use super::handshake::CREDIT_BYTES;
use crate::edge::{Edge, Priced};
use crate::shell::CallError;

/// A sign of life is passed on at most this often.
const HEARD_EVERY: Duration = Duration::from_millis(500);

/// While a long frame arrives, leases are renewed as often as the worker would.
const RENEWED_EVERY: Duration = Duration::from_millis(limits::HEARTBEAT_MS);

/// Why a session ends from our side.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("frame refused")]
    Event(#[from] EventError),
    #[error("`{0}` is not a message of a worker")]
    Unknown(String),
    #[error("more than {} leases in one message", limits::LEASES_PER_MESSAGE_MAX)]
    TooManyLeases,
    #[error("an offer's intent, model and group are 1 to 256 bytes without control characters")]
    Offer,
    #[error("sent more than its credit for {0}")]
    OverCredit(IntentId),
    #[error(transparent)]
    Call(#[from] CallError),
}

impl SessionError {
    /// Of the close frame: whether to come again helps.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::Call(CallError::Store(_) | CallError::Overloaded | CallError::Stopping) => {
                close_code::AGAIN
            }
            Self::Event(_)
            | Self::Unknown(_)
            | Self::TooManyLeases
            | Self::Offer
            | Self::OverCredit(_)
            | Self::Call(CallError::Rejected(_)) => close_code::POLICY,
        }
    }
}

/// Fit to be told to others.
fn is_plain(name: &str) -> bool {
    (1..=256).contains(&name.len()) && text::is_plain(name)
}

/// Tells the node the newest offer, one at a time, until the session is over: an offer replaces
/// the one before, so those that came meanwhile need not be told.
async fn attach(
    session: Arc<Session>,
    edge: Arc<Edge>,
    mut newest: watch::Receiver<Option<Slots>>,
) {
    while newest.changed().await.is_ok() {
        let Some(slots) = newest.borrow_and_update().clone() else { continue };
        if let Err(error) = edge.node().call(Command::Attach(slots)).await {
            // One that came with the session's end is refused for that: nobody is to be told.
            if edge.sessions.get(session.id).is_none() {
                return;
            }
            let error = SessionError::from(error);
            tracing::warn!(worker = %session.worker, %error, "worker session closed");
            session.close(error.code(), &error.to_string());
            return;
        }
    }
}

pub(super) struct Inbound {
    session: Arc<Session>,
    edge: Arc<Edge>,
    offers: Vec<Offer>,
    /// The same, as the node was told.
    priced: Priced,
    /// The offer that waits for the one before to be taken.
    newest: Option<watch::Sender<Option<Slots>>>,
    draining: bool,
    heard: Instant,
    renewed: Instant,
    /// Bytes of pieces per running attempt since credit was last given.
    used: BTreeMap<(IntentId, Attempt), u64>,
}

impl Inbound {
    pub(super) fn new(session: Arc<Session>, edge: Arc<Edge>) -> Self {
        let (offers, draining, now) = (Vec::new(), false, Instant::now());
        let (used, priced, newest) = (BTreeMap::new(), Priced::default(), None);
        Self { session, edge, offers, priced, newest, draining, heard: now, renewed: now, used }
    }

    /// The first offer, with the leases that the worker still holds.
    pub(super) async fn open(
        &mut self,
        offers: Vec<Offer>,
        leases: Vec<LeaseClaim>,
    ) -> Result<(), SessionError> {
        let slots = self.slots(offers, leases)?;
        Ok(self.edge.node().call(Command::Attach(slots)).await?)
    }

    /// Another offer. Told to the node when it has taken the one before; it waits for the store,
    /// and reading does not.
    fn offer(&mut self, offers: Vec<Offer>) -> Result<(), SessionError> {
        let slots = self.slots(offers, Vec::new())?;
        let newest = self.newest.get_or_insert_with(|| {
            let (newest, waiting) = watch::channel(None);
            tokio::spawn(attach(Arc::clone(&self.session), Arc::clone(&self.edge), waiting));
            newest
        });
        newest.send_replace(Some(slots));
        Ok(())
    }

    /// The manifests have changed: what was offered may count for more or less now.
    pub(super) fn priced_anew(&mut self) {
        if self.edge.priced(&self.offers) != self.priced {
            let offers = std::mem::take(&mut self.offers);
            // They were looked at when they came.
            let _ = self.offer(offers);
        }
    }

    /// What this worker can do, as the registry wants it.
    fn slots(
        &mut self,
        offers: Vec<Offer>,
        leases: Vec<LeaseClaim>,
    ) -> Result<Slots, SessionError> {
        let plain = |offer: &Offer| {
            let mut others = [&offer.model, &offer.group].into_iter().flatten();
            is_plain(&offer.intent) && others.all(|name| is_plain(name))
        };
        if !offers.iter().all(plain) {
            return Err(SessionError::Offer);
        }
        self.offers = offers;
        let priced = self.edge.priced(&self.offers);
        let before = std::mem::replace(&mut self.priced, priced);
        // More than a worker may offer are all refused by the registry.
        let few = self.offers.len() <= limits::OFFERS_PER_WORKER_MAX;
        if few && self.priced.refused != before.refused && !self.priced.refused.is_empty() {
            self.refuse(self.priced.refused.clone());
        }
        Ok(Slots {
            worker: self.session.worker,
            session: self.session.id,
            edge: self.edge.node_id,
            // The registry knows these three.
            owner: self.edge.identity.account(),
            own: false,
            proven: false,
            draining: self.draining,
            offers: self.priced.taken.clone(),
            leases,
        })
    }

    /// Tells the worker which of its offers count for nothing here.
    fn refuse(&self, offers: Vec<RefusedOffer>) {
        if let Some(RefusedOffer { intent, code, message, .. }) = offers.first() {
            let (worker, count) = (self.session.worker, offers.len());
            tracing::warn!(%worker, %intent, %code, %message, count, "offers refused");
        }
        self.session.send(worker::REFUSED, RefusedOffers { offers });
    }

    pub(super) fn take(&mut self, text: &str) -> Result<(), SessionError> {
        let event = EventIn::parse(text)?;
        self.heard();
        match event.kind.as_ref() {
            worker::CHUNK => self.chunk(&event.data()?)?,
            worker::COMPLETE => {
                let complete: Complete<'_> = event.data()?;
                self.over(complete.intent, complete.attempt);
                self.edge.worker_completed(&self.session, &complete);
            }
            worker::FAIL => {
                let fail: Fail = event.data()?;
                self.over(fail.intent, fail.attempt);
                self.edge.worker_failed(&self.session, &fail);
            }
            worker::RENEW => self.renew(event.data()?)?,
            worker::PING => {}
            worker::OFFER => {
                let list: OfferList = event.data()?;
                self.offer(list.offers)?;
            }
            worker::DRAIN => {
                self.draining = true;
                let offers = std::mem::take(&mut self.offers);
                self.offer(offers)?;
            }
            other => return Err(SessionError::Unknown(other.chars().take(64).collect())),
        }
        Ok(())
    }

    fn over(&mut self, intent: IntentId, attempt: Attempt) {
        self.used.remove(&(intent, attempt));
        self.session.held().ended(intent, attempt);
    }

    /// Part of a long frame came: the worker lives, holds what it held, and can only say so when
    /// all of the frame is here.
    pub(super) fn part(&mut self) {
        self.heard();
        if self.renewed.elapsed() >= RENEWED_EVERY {
            let leases = self.session.held().claims();
            self.go_on(leases);
        }
    }

    /// A sign of life.
    pub(super) fn heard(&mut self) {
        if self.heard.elapsed() >= HEARD_EVERY {
            self.heard = Instant::now();
            let (worker, session) = (self.session.worker, self.session.id);
            self.edge.node().tell(Command::Heard { worker, session });
        }
    }

    fn chunk(&mut self, chunk: &Chunk<'_>) -> Result<(), SessionError> {
        let bytes = u64::try_from(chunk.piece.get().len()).unwrap_or(u64::MAX);
        let key = (chunk.intent, chunk.attempt);
        if !self.edge.worker_chunk(&self.session, chunk) {
            // Over, or never its own: whatever it says of it, nothing is kept here.
            self.used.remove(&key);
            return Ok(());
        }
        let used = self.used.entry(key).or_default();
        *used = used.saturating_add(bytes);
        // One piece may overshoot what is left; a worker that goes on without credit is broken.
        if *used > CREDIT_BYTES.saturating_add(bytes) {
            return Err(SessionError::OverCredit(chunk.intent));
        }
        if let Some(used) = self.used.get_mut(&key).filter(|used| **used >= CREDIT_BYTES / 2) {
            let bytes = std::mem::take(used);
            let (intent, attempt) = key;
            self.session.send(worker::CREDIT, Credit { intent, attempt, bytes });
        }
        Ok(())
    }

    fn renew(&mut self, renew: Renew) -> Result<(), SessionError> {
        if renew.leases.len() > limits::LEASES_PER_MESSAGE_MAX {
            return Err(SessionError::TooManyLeases);
        }
        // What is no longer held needs no account of its credit.
        let held: std::collections::BTreeSet<_> =
            renew.leases.iter().map(|lease| (lease.intent, lease.attempt)).collect();
        self.used.retain(|key, _| held.contains(key));
        self.session.held().renewed(&renew.leases);
        self.go_on(renew.leases);
        Ok(())
    }

    /// Tells the node that the worker works on these, and of which of them nothing has come for too
    /// long.
    fn go_on(&mut self, leases: Vec<LeaseClaim>) {
        self.renewed = Instant::now();
        let mut silent = self.edge.silent(&self.session, &leases);
        if mutant!("edge-tells-no-silence") {
            silent.clear();
        }
        let (worker, session) = (self.session.worker, self.session.id);
        if !silent.is_empty() {
            tracing::warn!(%worker, attempts = silent.len(), "nothing comes of what it works on");
        }
        self.edge.node().tell(Command::Renew { worker, session, leases, silent });
    }
}
