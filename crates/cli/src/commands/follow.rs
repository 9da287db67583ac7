//! An intent from its submission to its end, as people and programs see it.

use std::time::Duration;

use mtor_client::{Bill, Client, ClientError, Done, Event, EventKind, IntentStream};
use mtor_types::intent::Reason;
use mtor_types::{Amount, Code, IntentId};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::realm::at_realm;
use super::speech::Told;
use super::transcribe::Transcript;
use super::waiting::Waiting;
use super::{Signals, TOGETHER};
use crate::failure::Failure;
use crate::output::Out;
use crate::words::money;

/// After Ctrl-C: for the realm to name the intent, to take its cancellation, and to say its end.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// How it came to its end.
pub(crate) struct Ended {
    pub(crate) intent: Option<IntentId>,
    pub(crate) end: Option<EventKind>,
    /// The user asked for it.
    pub(crate) interrupted: bool,
}

/// Ctrl-C while an intent is under way.
#[derive(Default)]
struct Stop {
    since: Option<Instant>,
    cancelled: bool,
}

impl Stop {
    /// When nothing is waited for any more.
    fn deadline(&self) -> Option<Instant> {
        Some(self.since? + END_PATIENCE)
    }

    /// A signal came; true if it is another one than the first.
    fn is_again(&mut self) -> bool {
        let now = Instant::now();
        // `timeout` and supervisors send theirs to a process and, at once, to its group.
        let again = self.since.is_some_and(|since| now.duration_since(since) > TOGETHER);
        self.since.get_or_insert(now);
        again
    }
}

/// Shows everything until the end. Ctrl-C cancels the intent; a second one ends this at once.
pub(crate) async fn follow(
    client: &Client,
    mut stream: IntentStream,
    shown: &mut Shown,
    signals: &mut Signals,
) -> Result<Ended, Failure> {
    let mut stop = Stop::default();
    let mut end = None;
    shown.waiting.say(format!("asking {}", client.address()));
    loop {
        if let Some(intent) = stream.intent().filter(|_| stop.since.is_some() && !stop.cancelled) {
            stop.cancelled = true;
            let done = tokio::select! {
                done = client.cancel(intent) => done,
                () = signals.next() => return Err(left_running(client, Some(intent))),
            };
            // Over already is fine; else it is not known what became of it.
            if done.is_err_and(|error| error.code() != Some(Code::Conflict)) {
                return Err(left_running(client, Some(intent)));
            }
        }
        let next = tokio::select! {
            next = stream.next() => next.map_err(|error| lost(client, &stream, error))?,
            () = signals.next() => {
                if stop.is_again() {
                    return Err(left_running(client, stream.intent()));
                }
                shown.waiting.say("interrupted: the intent is being cancelled");
                continue;
            }
            () = until(stop.deadline()) => return Err(left_running(client, stream.intent())),
        };
        let Some(event) = next else { break };
        shown.show(&event, stream.was_broken());
        if event.kind.is_end() {
            end = Some(event.kind);
        }
    }
    shown.waiting.clear();
    Ok(Ended { intent: stream.intent(), end, interrupted: stop.since.is_some() })
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn left_running(client: &Client, intent: Option<IntentId>) -> Failure {
    let at = at_realm(client);
    match intent {
        Some(intent) => Failure::interrupted(format!("interrupted: intent {intent} goes on"))
            .with_remedy(format!(
                "`mtor intents follow {intent}{at}` shows its end, `mtor cancel {intent}{at}` \
                 asks for it"
            )),
        None => Failure::interrupted("interrupted before the realm had named the intent")
            .with_remedy(format!("`mtor intents{at}` shows whether it was taken")),
    }
}

fn lost(client: &Client, stream: &IntentStream, error: ClientError) -> Failure {
    let known = stream.intent().filter(|_| matches!(error, ClientError::StreamLost { .. }));
    let failure = Failure::from(error);
    let at = at_realm(client);
    match known {
        Some(intent) => failure.with_remedy(format!(
            "`mtor intents show {intent}{at}` tells what became of it; what was not durable is \
             void, and free, if the realm restarted meanwhile"
        )),
        None => failure,
    }
}

impl Ended {
    /// What the end means for the command.
    pub(crate) fn result(self, out: Out) -> Result<(), Failure> {
        if self.interrupted {
            let intent = self.intent.map(|intent| format!("intent {intent} ")).unwrap_or_default();
            return Err(Failure::interrupted(match &self.end {
                Some(EventKind::Cancelled(bill)) => {
                    format!("interrupted: {intent}is cancelled{}", paid(bill))
                }
                _ => format!("interrupted: {intent}was over before it could be cancelled"),
            }));
        }
        if let Some(intent) = self.intent.filter(|_| self.end.is_some()) {
            out.note(format_args!("this was intent {intent}"));
        }
        match self.end {
            Some(end) => failure_of(end).map_or(Ok(()), Err),
            None => Ok(()),
        }
    }
}

/// Why an intent did not come to what was asked; `None` if it did.
pub(crate) fn failure_of(end: EventKind) -> Option<Failure> {
    Some(match end {
        EventKind::Failed(lost) => {
            let reason = lost.reason.unwrap_or_else(|| "the realm gave no reason".into());
            Failure::failed(reason).with_code(lost.code)
        }
        EventKind::Cancelled(bill) => {
            let message = format!("cancelled{}", paid(&bill));
            Failure::failed(message).with_code(Code::Cancelled.text())
        }
        EventKind::Expired(bill) => {
            let message = format!("the deadline passed before it was done{}", paid(&bill));
            let failure = Failure::failed(message).with_code(Code::Expired.text());
            failure.with_remedy("give it more time with --deadline-ms")
        }
        EventKind::Accepted(_)
        | EventKind::Queued(_)
        | EventKind::Started(_)
        | EventKind::Chunk(_)
        | EventKind::Restarted(_)
        | EventKind::Completed(_)
        | EventKind::Settled => return None,
    })
}

/// What it cost, where this is its end.
pub(crate) fn cost_of(event: &EventKind) -> Option<Amount> {
    let money = match event {
        EventKind::Completed(done) => done.cost.as_ref(),
        EventKind::Cancelled(bill) | EventKind::Expired(bill) => bill.cost.as_ref(),
        EventKind::Failed(_) => None,
        EventKind::Accepted(_)
        | EventKind::Queued(_)
        | EventKind::Started(_)
        | EventKind::Chunk(_)
        | EventKind::Restarted(_)
        | EventKind::Settled => return None,
    };
    Some(money.map_or(Amount::ZERO, |money| money.amount))
}

fn paid(bill: &Bill) -> String {
    bill.cost.as_ref().map(|cost| format!("; it cost {}", money(cost))).unwrap_or_default()
}

/// Why work begins again. A realm does not say that it was started again: that it was out of reach
/// is what is known here.
fn begun_again(was_broken: bool, was_running: bool) -> &'static str {
    match (was_broken, was_running) {
        (true, _) => "the realm was out of reach, or has restarted; the work begins again",
        (false, true) => "its worker was lost; the work begins again",
        // It was so before anybody looked.
        (false, false) => "the work begins again",
    }
}

/// What a chunk of a chat says.
#[derive(Deserialize)]
struct ChatChunk {
    choices: Vec<ChatChoice>,
}

#[derive(Deserialize)]
struct ChatChoice {
    #[serde(default, alias = "message")]
    delta: ChatDelta,
}

#[derive(Default, Deserialize)]
struct ChatDelta {
    #[serde(default)]
    content: Option<String>,
}

/// The text of a chunk or of a whole answer; `None` if it is no chat's.
fn chat_text(raw: &RawValue) -> Option<String> {
    let chunk: ChatChunk = serde_json::from_str(raw.get()).ok()?;
    let text = chunk.choices.into_iter().next().and_then(|choice| choice.delta.content);
    Some(text.unwrap_or_default())
}

/// What is shown of an intent.
pub(crate) struct Shown {
    out: Out,
    /// The pieces of a chat are text.
    is_chat: bool,
    /// Pieces of anything.
    all: bool,
    /// The pieces are speech.
    heard: Option<Transcript>,
    /// It was seen at work.
    running: bool,
    /// Part of a text stands there without the end of its line.
    begun: bool,
    /// The text of a chat, or of what was heard, so far.
    pub(crate) answer: String,
    /// What the last event added to it.
    fresh: Option<String>,
    /// Who is told of that text as it grows.
    listener: Option<watch::Sender<Told>>,
    /// How often it began anew.
    generation: u32,
    waiting: Waiting,
}

impl Shown {
    pub(crate) fn new(out: Out, is_chat: bool, all: bool) -> Self {
        Self {
            out,
            is_chat,
            all,
            heard: None,
            running: false,
            begun: false,
            answer: String::new(),
            fresh: None,
            listener: None,
            generation: 0,
            waiting: Waiting::new(out),
        }
    }

    /// For what is heard in a recording.
    pub(crate) fn heard(out: Out, transcript: Transcript) -> Self {
        Self { heard: Some(transcript), ..Self::new(out, false, false) }
    }

    /// Nobody has spoken in what was heard.
    pub(crate) fn is_silent(&self) -> bool {
        self.heard.as_ref().is_none_or(Transcript::is_silent)
    }

    /// Somebody follows the text of the chat.
    pub(crate) fn told_to(self, listener: Option<watch::Sender<Told>>) -> Self {
        Self { listener, ..self }
    }

    /// Shows an event; `was_broken`: the connection to the realm was lost before it.
    pub(crate) fn show(&mut self, event: &Event, was_broken: bool) {
        match &event.kind {
            EventKind::Chunk(chunk) => self.collect(&chunk.piece),
            EventKind::Restarted(_) => {
                self.answer.clear();
                self.generation = self.generation.saturating_add(1);
            }
            EventKind::Completed(done) => self.collect_whole(done),
            EventKind::Accepted(_)
            | EventKind::Queued(_)
            | EventKind::Started(_)
            | EventKind::Failed(_)
            | EventKind::Cancelled(_)
            | EventKind::Expired(_)
            | EventKind::Settled => {}
        }
        if let Some(listener) = &self.listener {
            let cost = cost_of(&event.kind);
            listener.send_if_modified(|told| told.follow(self.generation, &self.answer, cost));
        }
        if self.out.is_json() {
            let data = serde_json::from_str(event.data.get()).unwrap_or(Value::Null);
            self.out.event(&event.name, data);
            return;
        }
        if matches!(event.kind, EventKind::Restarted(_)) {
            self.end_line();
            self.waiting.clear();
            self.out.note(begun_again(was_broken, self.running));
        }
        self.running |= matches!(event.kind, EventKind::Started(_));
        self.waiting.hear(event);
        match &event.kind {
            EventKind::Chunk(chunk) => self.piece(&chunk.piece),
            EventKind::Completed(done) => self.completed(done),
            EventKind::Failed(_) | EventKind::Cancelled(_) | EventKind::Expired(_) => {
                self.end_line();
            }
            EventKind::Accepted(_)
            | EventKind::Queued(_)
            | EventKind::Started(_)
            | EventKind::Restarted(_)
            | EventKind::Settled => {}
        }
    }

    fn text_of(&mut self, piece: &RawValue) -> Option<String> {
        match &mut self.heard {
            Some(transcript) => transcript.piece(piece),
            None if self.is_chat => chat_text(piece),
            None => None,
        }
    }

    fn collect(&mut self, piece: &RawValue) {
        self.fresh = self.text_of(piece);
        self.answer.push_str(self.fresh.as_deref().unwrap_or_default());
    }

    /// Where no piece came the result has it.
    fn collect_whole(&mut self, done: &Done) {
        self.fresh = None;
        let Some(result) = done.result.as_deref().filter(|_| self.answer.is_empty()) else {
            return;
        };
        self.fresh = match &mut self.heard {
            Some(transcript) => transcript.whole(result),
            None if self.is_chat => chat_text(result),
            None => None,
        };
        self.answer.push_str(self.fresh.as_deref().unwrap_or_default());
    }

    fn piece(&mut self, piece: &RawValue) {
        match self.fresh.take() {
            Some(text) if text.is_empty() => {}
            Some(text) => {
                self.out.part(&text);
                // What was heard ends its lines itself.
                self.begun = self.heard.is_none();
            }
            None if self.all => self.out.words(piece.get()),
            None => {}
        }
    }

    fn completed(&mut self, done: &Done) {
        let whole = self.fresh.take();
        let answered = whole.is_none() && !self.answer.is_empty();
        self.end_line();
        match (done.result.as_deref().filter(|_| !answered), whole) {
            (Some(_), Some(text)) if self.heard.is_some() => self.out.part(&text),
            (Some(_), Some(text)) => self.out.words(text),
            (Some(result), None) => self.out.words(result.get()),
            (None, _) => {}
        }
        if done.reason == Some(Reason::Ceiling) {
            self.out.note("cut off: what the ceiling buys was used up; --ceiling N raises it");
        }
        // Beside the output: who hands the result on does not want it in there.
        if let Some(cost) = &done.cost {
            self.out.note(format_args!("cost {}", money(cost)));
        }
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.begun) {
            self.out.part("\n");
        }
    }
}
