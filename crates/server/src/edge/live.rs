//! Intents that are not over, as the edge holds them: payload, buffer, and who works on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mtor_core::limits;
use mtor_types::fact::Asset;
use mtor_types::worker::AssignMeter;
use mtor_types::{AccountId, Amount, Attempt, Fence, IntentId, Price, SessionId, WorkerId};
use tokio::sync::oneshot;

use crate::admission::{Ask, Written};
use crate::answers::Reading;
use crate::api_error::ApiError;
use crate::manifests::Form;
use crate::shares::Portion;
use crate::streams::IntentStream;

/// The answer to a submission.
#[derive(Debug)]
pub(super) enum Admission {
    Admitted { asset: Asset, hold: Amount },
    Joined(IntentId),
    Refused(ApiError),
}

/// Who has the current attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) worker: WorkerId,
    pub(super) session: SessionId,
    pub(super) attempt: Attempt,
    pub(super) fence: Fence,
    /// Pieces of it are taken.
    pub(super) pieces: bool,
}

pub(super) struct Live {
    pub(super) account: AccountId,
    pub(super) name: String,
    pub(super) durable: bool,
    /// The client wants pieces.
    pub(super) pieces: bool,
    /// The client's bytes, untouched.
    pub(super) data: Bytes,
    /// What they call the model.
    written: Written,
    /// What an answer is, and to how many of the request.
    pub(super) form: Arc<Form>,
    pub(super) answers: u64,
    /// How a route reads it, if one does.
    pub(super) reading: Option<Reading>,
    /// For a handler that counts by itself.
    pub(super) meter: AssignMeter,
    /// The dearest that may serve, as it was quoted; not known after a restart.
    price_max: Option<Price>,
    pub(super) stream: Arc<IntentStream>,
    state: Mutex<State>,
}

/// How long nothing has come of an attempt.
struct Quiet {
    lasts: Duration,
    /// When that was looked at last.
    seen: Instant,
    /// None once that was told.
    allowed: Option<Duration>,
    /// Content of its pieces when one was last looked for.
    content: u64,
}

impl Quiet {
    fn begin(allowed: Option<Duration>) -> Self {
        Self { lasts: Duration::ZERO, seen: Instant::now(), allowed, content: 0 }
    }

    /// Time passes, each time at most as long as a session may say nothing: a longer time was the
    /// realm's, which stood still, and perhaps the worker's machine.
    fn passes(&mut self) {
        let passed = std::mem::replace(&mut self.seen, Instant::now()).elapsed();
        let passed = passed.min(Duration::from_millis(limits::SESSION_SILENCE_MS));
        self.lasts = self.lasts.saturating_add(passed);
    }
}

struct State {
    waiter: Option<oneshot::Sender<Admission>>,
    assigned: Option<Assigned>,
    quiet: Quiet,
    /// Why the last attempt failed, in its worker's words, for the client only.
    message: Option<String>,
    /// Its payload's part of the memory for payloads, until it is over: the map lets go of it later.
    portion: Option<Portion>,
}

impl Live {
    pub(super) fn new(
        account: AccountId,
        (name, durable): (String, bool),
        ask: &Ask,
        stream: Arc<IntentStream>,
        waiter: Option<oneshot::Sender<Admission>>,
        portion: Portion,
    ) -> Self {
        let (pieces, data, written) = (ask.stream, ask.data.clone(), ask.written.clone());
        let (meter, price_max) = (ask.meter(), ask.price_max);
        let (form, answers) = (Arc::clone(&ask.form), ask.answers);
        let reading = Reading::of(&name, &data);
        let quiet = Quiet::begin(None);
        let (assigned, message, portion) = (None, None, Some(portion));
        let state = Mutex::new(State { waiter, assigned, quiet, message, portion });
        Self {
            account,
            name,
            durable,
            pieces,
            data,
            written,
            form,
            answers,
            reading,
            meter,
            price_max,
            stream,
            state,
        }
    }

    /// Whether that is no more than what was quoted, whatever became of prices.
    pub(super) fn pays(&self, price: Price) -> bool {
        self.price_max.is_none_or(|max| price.per == max.per && price.amount <= max.amount)
    }

    /// What the worker gets: the client's bytes, with its own name of the model.
    pub(super) fn data_for(&self, model: Option<&str>) -> Bytes {
        model.map_or_else(|| self.data.clone(), |model| self.written.with(&self.data, model))
    }

    /// Answers the submission, the first time.
    pub(super) fn admit(&self, admission: Admission) {
        if let Some(waiter) = self.state().waiter.take() {
            // The client may have gone meanwhile.
            let _ = waiter.send(admission);
        }
    }

    /// For so long nothing may come of it. That goes on where the same attempt does.
    pub(super) fn assign(&self, assigned: Assigned, silence: Duration) {
        let mut state = self.state();
        if state.assigned.is_none_or(|before| before.attempt != assigned.attempt) {
            state.quiet = Quiet::begin(Some(silence));
        } else {
            state.quiet.passes();
        }
        state.assigned = Some(assigned);
        state.message = None;
    }

    /// The assignment, if it is this worker's session and attempt.
    pub(super) fn assigned_to(
        &self,
        worker: WorkerId,
        session: SessionId,
        attempt: Attempt,
    ) -> Option<Assigned> {
        self.state().assigned.filter(|assigned| {
            (assigned.worker, assigned.session, assigned.attempt) == (worker, session, attempt)
        })
    }

    /// Whether nothing has come of its attempt for longer than it may: told once. A piece counts by its
    /// content.
    pub(super) fn is_silent(&self) -> bool {
        let content = self.stream.content_in_pieces();
        let quiet = &mut self.state().quiet;
        quiet.passes();
        if std::mem::replace(&mut quiet.content, content) < content {
            quiet.lasts = Duration::ZERO;
        }
        quiet.allowed.take_if(|allowed| quiet.lasts >= *allowed).is_some()
    }

    /// Nothing is known of its client's wishes but what its data says: it was brought back.
    pub(super) fn is_reopened(&self) -> bool {
        self.price_max.is_none()
    }

    pub(super) fn assigned(&self) -> Option<Assigned> {
        self.state().assigned
    }

    pub(super) fn explain(&self, message: String) {
        self.state().message = Some(message);
    }

    pub(super) fn message(&self) -> Option<String> {
        self.state().message.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Lives {
    by_intent: papaya::HashMap<IntentId, Arc<Live>>,
}

impl Lives {
    pub(super) fn get(&self, intent: IntentId) -> Option<Arc<Live>> {
        self.by_intent.pin().get(&intent).map(Arc::clone)
    }

    /// That one, unless there is one already.
    pub(super) fn get_or_insert(&self, intent: IntentId, live: Arc<Live>) -> Arc<Live> {
        match self.by_intent.pin().try_insert(intent, live) {
            Ok(live) => Arc::clone(live),
            Err(taken) => Arc::clone(taken.current),
        }
    }

    pub(super) fn remove(&self, intent: IntentId) -> Option<Arc<Live>> {
        let removed = self.by_intent.pin().remove(&intent).map(Arc::clone)?;
        drop(removed.state().portion.take());
        Some(removed)
    }
}
