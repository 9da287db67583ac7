//! The embedded worker: a child process on the public worker protocol, so that what crashes in a
//! model never touches the ledger.
//!
//! Its enrolment token goes over its standard input, never into its arguments. That pipe stays
//! open while the realm runs: when it closes, however this process ended, the child ends. What it
//! says on its standard output is passed on. In a process group of its own it does not get the
//! terminal's Ctrl-C: the realm stops first, then its worker.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use mtor_client::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::news::News;
use crate::commands::Log;
use crate::commands::worker::parent::Wishes;
use crate::environment::Purpose;
use crate::printer::Printer;

const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// A child that lived this long starts its back-off anew.
const BACKOFF_RESET: Duration = Duration::from_secs(30);
/// For a child to end once its standard input is closed.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// How often, and for how long, the realm is asked whether it took the worker's offer.
const READY_EVERY: Duration = Duration::from_millis(50);
const READY_TRIES: u32 = 200;

pub(super) struct Embedded {
    pub(super) program: PathBuf,
    pub(super) realm: String,
    pub(super) data: PathBuf,
    pub(super) token: Option<String>,
    pub(super) threads: Option<u16>,
    /// Serve with the servers of models that are found on this machine.
    pub(super) discover: bool,
    /// Models of these that are offered although they run elsewhere, or are not loaded.
    pub(super) backend_models: Vec<String>,
    pub(super) log: Log,
    /// What the worker is to serve beside that, as it changes.
    pub(super) wishes: watch::Receiver<Wishes>,
    /// What it says of models.
    pub(super) news: mpsc::Sender<News>,
}

impl Embedded {
    fn command(&self) -> Command {
        let mut command = Command::from(Purpose::Ourselves.command(&self.program));
        command.args(["--json", "worker", "--embedded", "--name", "embedded"]);
        command.arg("--realm").arg(&self.realm).arg("--data").arg(&self.data);
        command.arg("--log").arg(self.log.to_string());
        if let Some(threads) = self.threads {
            command.arg("--threads").arg(threads.to_string());
        }
        if self.discover {
            command.arg("--discover");
            // In one word each: a name may begin with a dash.
            command.args(self.backend_models.iter().map(|name| format!("--backend-model={name}")));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
        command
    }
}

/// The status of a worker whose key another process has.
const REPLACED: &str = "replaced";
/// For what an ended child has said to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How a child's life ended.
enum Over {
    Died(String),
    /// Another process has its key and its place: started again it would only take it back.
    Replaced,
    /// The realm stops.
    Stopped,
}

/// Keeps the worker running until `stop` is dropped, then ends it.
pub(super) async fn keep(
    mut embedded: Embedded,
    client: Client,
    out: Printer,
    mut stop: oneshot::Receiver<()>,
) {
    let mut pause = BACKOFF_MIN;
    loop {
        let born = Instant::now();
        let reason = match live(&mut embedded, &client, &out, &mut stop).await {
            Ok(Over::Stopped) => return,
            Ok(Over::Died(status)) => status,
            Ok(Over::Replaced) => return replaced(&embedded, &out, stop).await,
            Err(error) => error.to_string(),
        };
        // Without a keeper of models nobody listens.
        let _ = embedded.news.send(News::Died).await;
        if born.elapsed() >= BACKOFF_RESET {
            pause = BACKOFF_MIN;
        }
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(%reason, pause_ms, "the embedded worker ended; it is started again");
        out.event(
            "worker",
            json!({"status": "died", "reason": reason, "restart_after_ms": pause_ms}),
        );
        out.note(format!("the worker ended ({reason}); it is started again"));
        tokio::select! {
            () = sleep(pause) => {}
            _ = &mut stop => return,
        }
        pause = pause.saturating_mul(2).min(BACKOFF_MAX);
    }
}

/// The realm goes on without a worker of its own.
async fn replaced(embedded: &Embedded, out: &Printer, stop: oneshot::Receiver<()>) {
    let _ = embedded.news.send(News::Died).await;
    tracing::warn!("another worker has the embedded worker's key: it is not started again");
    out.note(
        "another worker has the key of this realm's own: stop that one and start the realm again",
    );
    // Ended by its sender.
    let _ = stop.await;
}

/// One child's life.
async fn live(
    embedded: &mut Embedded,
    client: &Client,
    out: &Printer,
    stop: &mut oneshot::Receiver<()>,
) -> std::io::Result<Over> {
    let mut child = embedded.command().spawn()?;
    out.event("worker", json!({"status": "spawned", "pid": child.id()}));
    let Some((mut stdin, mut lines)) = pipes(&mut child) else {
        return Ok(Over::Died("it has no pipes".into()));
    };
    let token = format!("{}\n", embedded.token.as_deref().unwrap_or_default());
    // A child that is dead already says so below.
    let _ = stdin.write_all(token.as_bytes()).await;
    // It knows nothing of what the one before it was told.
    embedded.wishes.mark_changed();
    let (mut open, mut is_replaced) = (true, false);
    let mut said = String::new();
    // Ends with this child.
    let mut telling = JoinSet::new();
    loop {
        tokio::select! {
            line = lines.next_line(), if open => match line {
                Ok(Some(line)) => {
                    let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                    is_replaced |= event["status"] == REPLACED;
                    if let Some(news) = News::read(&event) {
                        let _ = embedded.news.send(news).await;
                    }
                    if relay(event, &mut said, out) {
                        while telling.try_join_next().is_some() {}
                        telling.spawn(tell_ready(client.clone(), out.clone()));
                    }
                }
                Ok(None) | Err(_) => open = false,
            },
            Ok(()) = embedded.wishes.changed() => {
                let line = serde_json::to_string(&*embedded.wishes.borrow_and_update());
                let line = line.map(|line| line + "\n").unwrap_or_default();
                let _ = stdin.write_all(line.as_bytes()).await;
            }
            status = child.wait() => {
                let status = status?.to_string();
                is_replaced |= open && says_replaced(&mut lines).await;
                return Ok(if is_replaced { Over::Replaced } else { Over::Died(status) });
            }
            _ = &mut *stop => break,
        }
    }
    drop(stdin);
    if timeout(END_PATIENCE, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(Over::Stopped)
}

/// What an ended child said last. A program of its own may hold its output open.
async fn says_replaced(lines: &mut Lines<BufReader<ChildStdout>>) -> bool {
    let mut read = async || {
        while let Ok(Some(line)) = lines.next_line().await {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["status"] == REPLACED {
                return true;
            }
        }
        false
    };
    timeout(LAST_WORDS, read()).await.unwrap_or(false)
}

fn pipes(child: &mut Child) -> Option<(ChildStdin, Lines<BufReader<ChildStdout>>)> {
    let lines = BufReader::new(child.stdout.take()?).lines();
    Some((child.stdin.take()?, lines))
}

/// Passes on what the worker says of itself. People are told what it offers, once. True if that was
/// a full offer.
fn relay(event: Value, said: &mut String, out: &Printer) -> bool {
    let full = event.get("full").and_then(Value::as_bool) == Some(true);
    if full {
        let offers = event.get("offers").and_then(Value::as_array);
        let names: Vec<_> = offers.into_iter().flatten().filter_map(name_of).collect();
        let names = names.join(", ");
        if *said != names {
            out.words(format!("The worker here serves {names}."));
            *said = names;
        }
    }
    if let Some(words) = found_here(&event) {
        out.words(words);
    }
    out.event("worker", event);
    full
}

/// What people are told of servers of models that come and go by themselves.
fn found_here(event: &Value) -> Option<String> {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let models = event.get("models").and_then(Value::as_array).map(Vec::as_slice);
    match (text("status")?, models) {
        ("found", Some([])) => {
            let (server, url, listed) = (text("server")?, text("url")?, event.get("listed")?);
            Some(format!(
                "Found {server} at {url}; models there: {listed}. What it has loaded is offered once it has answered."
            ))
        }
        ("gone", _) => Some(format!("{} at {} is gone.", text("server")?, text("url")?)),
        ("advice", _) => Some(text("message")?.to_owned()),
        ("model_left_out", _) => Some(format!(
            "{} of {} is not offered: {}.",
            text("model")?,
            text("backend")?,
            text("reason")?
        )),
        _ => None,
    }
}

fn name_of(offer: &Value) -> Option<String> {
    let intent = offer.get("intent")?.as_str()?;
    let model = offer.get("model").and_then(Value::as_str);
    Some(model.map_or_else(|| intent.to_owned(), |model| format!("{intent} ({model})")))
}

/// The worker has sent its offer; the realm knows when it has taken it.
async fn tell_ready(client: Client, out: Printer) {
    for _ in 0..READY_TRIES {
        if matches!(client.ready().await, Ok(Ok(()))) {
            out.event("worker", json!({"status": "ready"}));
            return;
        }
        sleep(READY_EVERY).await;
    }
}
