//! `mtor submit`: sends work, shows what comes back, and what it cost.

use clap::{Args, ValueEnum};
use mtor_client::{Bill, Client, Done, Event, EventKind, Intent, IntentStream, Money};
use mtor_types::intent::{Class, Reason, Trust};
use mtor_types::{Amount, Code};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::realm::{RealmArgument, explain};
use super::{Context, Signals, block_on, read_data};
use crate::failure::Failure;
use crate::output::Out;

#[derive(Args)]
pub(crate) struct Arguments {
    /// What kind of work: chat, embed, fft, echo, or another one of the realm
    intent: String,
    #[command(flatten)]
    realm: RealmArgument,
    /// The work's data: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    /// A question for chat, or a text for embed, in place of --data
    #[arg(long, value_name = "TEXT", conflicts_with = "data", value_parser = said)]
    prompt: Option<String>,
    /// The model for --prompt; one that the realm offers if it is not given
    #[arg(long, value_name = "NAME", requires = "prompt")]
    model: Option<String>,
    /// Show each piece as it comes; for chat that is always done
    #[arg(long)]
    stream: bool,
    /// The most it may cost, in base units
    #[arg(long, value_name = "N")]
    ceiling: Option<Amount>,
    /// To be done within so many milliseconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    deadline_ms: Option<u64>,
    /// Survives a restart of the realm
    #[arg(long)]
    durable: bool,
    /// Whose workers may serve
    #[arg(long, value_enum)]
    trust: Option<Whose>,
    /// Batch work gives way to interactive work
    #[arg(long)]
    batch: bool,
    /// An idempotency key: sent again, it joins the first intent instead of starting another
    #[arg(long, value_name = "KEY", value_parser = key)]
    key: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Whose {
    /// The realm's own
    Own,
    /// Also those that passed probation
    Certified,
    /// Anybody's
    Any,
}

/// A prompt that says something: the realm would be paid for reading nothing.
fn said(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("expected some text".into()) } else { Ok(text.to_owned()) }
}

fn key(text: &str) -> Result<String, String> {
    let good =
        (1..=128).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if good {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 128 printable ASCII characters".into())
    }
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    if arguments.data.is_none() && arguments.prompt.is_none() {
        return Err(missing());
    }
    let data = arguments.data.as_deref().map(read_data).transpose()?;
    block_on(Box::pin(submit(arguments, data, context))).map_err(explain)
}

fn missing() -> Failure {
    Failure::usage("what to work on is missing").with_remedy(
        "give --data JSON, @FILE or - (standard input); for chat and embed --prompt TEXT",
    )
}

async fn submit(
    arguments: Arguments,
    data: Option<Box<RawValue>>,
    context: &Context,
) -> Result<(), Failure> {
    let client = arguments.realm.ensured(context).await?;
    let data = match (data, &arguments.prompt) {
        (Some(data), _) => data,
        (None, Some(prompt)) => prompted(prompt, &arguments, &client).await?,
        (None, None) => return Err(missing()),
    };
    let mut intent = Intent::new(&arguments.intent, data);
    intent.ceiling = arguments.ceiling;
    intent.deadline_ms = arguments.deadline_ms;
    intent.durable = arguments.durable.then_some(true);
    intent.class = arguments.batch.then_some(Class::Batch);
    intent.key = arguments.key;
    intent.stream = Some(arguments.stream);
    intent.trust = arguments.trust.map(|whose| match whose {
        Whose::Own => Trust::Own,
        Whose::Certified => Trust::Certified,
        Whose::Any => Trust::Any,
    });
    let stream = client.submit_streaming(&intent)?;
    let is_chat = arguments.intent == "chat";
    let shown = Shown { out: context.out, is_chat, all: arguments.stream, begun: false };
    follow(&client, stream, shown).await
}

/// The data for a prompt.
async fn prompted(
    prompt: &str,
    arguments: &Arguments,
    client: &Client,
) -> Result<Box<RawValue>, Failure> {
    let name = arguments.intent.as_str();
    if !matches!(name, "chat" | "embed") {
        let message = format!("--prompt goes with chat and embed, not with {name}");
        return Err(Failure::usage(message).with_remedy("give its data with --data"));
    }
    let model = match &arguments.model {
        Some(model) => model.clone(),
        None => offered(name, client).await?,
    };
    let data = match name {
        "chat" => json!({
            "model": model, "messages": [{"role": "user", "content": prompt}], "stream": true,
        }),
        _ => json!({"model": model, "input": prompt}),
    };
    serde_json::value::to_raw_value(&data).map_err(|error| Failure::caused(&error))
}

/// The model with the most slots.
async fn offered(intent: &str, client: &Client) -> Result<String, Failure> {
    let pools = client.pools().await?.into_iter().filter(|pool| pool.intent == intent);
    let best = pools.filter(|pool| pool.model.is_some()).max_by_key(|pool| pool.slots);
    best.and_then(|pool| pool.model).ok_or_else(|| {
        Failure::failed(format!("no worker at {} offers {intent} just now", client.address()))
            .with_code(Code::NoWorker.text())
            .with_remedy("where the realm runs: `mtor models pull`, then start `mtor up` again")
    })
}

/// Shows everything until the end. Ctrl-C cancels the intent; a second one ends this at once.
async fn follow(
    client: &Client,
    mut stream: IntentStream,
    mut shown: Shown,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let mut cancelled = false;
    let mut end = None;
    loop {
        let next = tokio::select! {
            next = stream.next() => next?,
            () = signals.next() => {
                let Some(intent) = stream.intent().filter(|_| !cancelled) else {
                    return Err(Failure::failed("interrupted"));
                };
                cancelled = true;
                tokio::select! {
                    done = client.cancel(intent) => done?,
                    () = signals.next() => return Err(Failure::failed("interrupted")),
                }
                continue;
            }
        };
        let Some(event) = next else { break };
        shown.show(&event);
        if event.kind.is_end() {
            end = Some(event.kind);
        }
    }
    if let Some(intent) = stream.intent().filter(|_| end.is_some()) {
        shown.out.note(format_args!("this was intent {intent}"));
    }
    match end {
        Some(EventKind::Failed(lost)) => {
            let reason = lost.reason.unwrap_or_else(|| "the realm gave no reason".into());
            Err(Failure::failed(reason).with_code(lost.code))
        }
        Some(EventKind::Cancelled(bill)) => {
            let message = format!("cancelled{}", paid(&bill));
            Err(Failure::failed(message).with_code(Code::Cancelled.text()))
        }
        Some(EventKind::Expired(bill)) => {
            let message = format!("the deadline passed before it was done{}", paid(&bill));
            let failure = Failure::failed(message).with_code(Code::Expired.text());
            Err(failure.with_remedy("give it more time with --deadline-ms"))
        }
        _ => Ok(()),
    }
}

fn paid(bill: &Bill) -> String {
    bill.cost.as_ref().map(|cost| format!("; it cost {}", words(cost))).unwrap_or_default()
}

fn words(money: &Money) -> String {
    let unit = if money.amount == Amount::from_u64(1) { "unit" } else { "units" };
    format!("{} base {unit} of {}", money.amount, money.asset)
}

/// What a chunk of a chat says.
#[derive(Deserialize)]
struct ChatChunk {
    #[serde(default)]
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

/// The text of a chunk or of a whole answer.
fn chat_text(raw: &RawValue) -> Option<String> {
    let chunk: ChatChunk = serde_json::from_str(raw.get()).ok()?;
    chunk.choices.into_iter().next()?.delta.content
}

struct Shown {
    out: Out,
    is_chat: bool,
    /// Pieces of anything.
    all: bool,
    /// Part of a text stands there without the end of its line.
    begun: bool,
}

impl Shown {
    fn show(&mut self, event: &Event) {
        if self.out.is_json() {
            let data = serde_json::from_str(event.data.get()).unwrap_or(Value::Null);
            self.out.event(&event.name, data);
            return;
        }
        match &event.kind {
            EventKind::Queued(waits) if waits.position > 0 => {
                let seconds = waits.eta_ms.div_ceil(1_000);
                self.out
                    .note(format_args!("place {} in the queue, about {seconds} s", waits.position));
            }
            EventKind::Chunk(chunk) => self.piece(&chunk.piece),
            EventKind::Restarted(_) => {
                self.end_line();
                self.out.note("the worker was lost; another one begins again");
            }
            EventKind::Completed(done) => self.completed(done),
            EventKind::Failed(_) | EventKind::Cancelled(_) | EventKind::Expired(_) => {
                self.end_line()
            }
            EventKind::Accepted(_)
            | EventKind::Queued(_)
            | EventKind::Started(_)
            | EventKind::Settled => {}
        }
    }

    fn piece(&mut self, piece: &RawValue) {
        if self.is_chat {
            if let Some(text) = chat_text(piece).filter(|text| !text.is_empty()) {
                self.out.part(&text);
                self.begun = true;
            }
        } else if self.all {
            self.out.words(piece.get());
        }
    }

    fn completed(&mut self, done: &Done) {
        let answered = self.begun;
        self.end_line();
        if let Some(result) = done.result.as_deref().filter(|_| !answered) {
            let text = if self.is_chat { chat_text(result) } else { None };
            self.out.words(text.as_deref().unwrap_or(result.get()));
        }
        if done.reason == Some(Reason::Ceiling) {
            self.out.note("cut off: what the ceiling buys was used up; --ceiling N raises it");
        }
        if let Some(cost) = &done.cost {
            self.out.words(format_args!("cost {}", words(cost)));
        }
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.begun) {
            self.out.part("\n");
        }
    }
}
