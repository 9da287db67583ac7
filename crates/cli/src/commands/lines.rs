//! `mtor submit --lines`: one piece of work a line, several at once.
//!
//! A run may be broken off and repeated: each line has an idempotency key made of its number and
//! of what is asked, so what was done is given again and paid once, for as long as the realm keeps
//! keys and results (24 hours). That is why the work is durable unless a line says otherwise, and
//! why Ctrl-C cancels nothing. What failed was free; the next attempt has a key of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use futures_util::stream::{self, Stream, StreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use mtor_client::{Client, ClientError, EventKind, Intent, Money};
use mtor_types::intent::{Class, Trust};
use mtor_types::{Amount, IntentId};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, mpsc, oneshot};

use super::follow::failure_of;
use super::input::{self, STDIN};
use super::realm::explain;
use super::work::{Terms, choose_model, prompted};
use super::{Context, Signals, TOGETHER};
use crate::failure::Failure;
use crate::output::Out;
use crate::words::{count, of};

/// What goes with one piece of work only.
const ONE: [&str; 4] = ["data", "prompt", "key", "stream"];

#[derive(Args)]
pub(crate) struct Lines {
    /// JSON lines, one piece of work each; - for standard input. With INTENT a line is its data
    /// (for chat and embed a string is a text); without it, {"intent":NAME,"data":…}
    #[arg(long, value_name = "FILE", conflicts_with_all = ONE)]
    pub(crate) lines: Option<PathBuf>,
    /// So many lines at once
    #[arg(long, value_name = "N", default_value_t = 4, requires = "lines", conflicts_with_all = ONE, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Give results as they come, not in the order of the lines
    #[arg(long, requires = "lines", conflicts_with_all = ONE)]
    as_they_come: bool,
    /// What the lines' idempotency keys begin with: another one asks, and pays, anew
    #[arg(long, value_name = "TEXT", requires = "lines", conflicts_with_all = ONE, value_parser = prefix)]
    key_prefix: Option<String>,
    /// Attempts at a line after the first one failed; what fails is free
    #[arg(long, value_name = "N", default_value_t = 1, requires = "lines", conflicts_with_all = ONE, value_parser = clap::value_parser!(u8).range(..=20))]
    retries: u8,
}

const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const PREFIX_DEFAULT: &str = "lines";
/// Waits in a row where the realm says that it takes nothing more just now, and each of them.
const WAITS_MAX: u32 = 20;
const WAIT_MS_MAX: u64 = 30_000;
const WAIT_MS: u64 = 1_000;

fn prefix(text: &str) -> Result<String, String> {
    let good =
        (1..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
    if good {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 64 printable ASCII characters without blanks".into())
    }
}

/// The short form of `POST /v1/intents`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    intent: String,
    data: Box<RawValue>,
    #[serde(default)]
    ceiling: Option<Amount>,
    #[serde(default)]
    deadline_ms: Option<u64>,
    #[serde(default)]
    trust: Option<Trust>,
    #[serde(default)]
    class: Option<Class>,
    #[serde(default)]
    durable: Option<bool>,
}

/// What a line came to.
#[derive(Debug, Default, Serialize)]
struct Row {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<IntentId>,
    /// `completed` or `failed`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<serde_json::Value>,
}

#[derive(Default, Serialize)]
struct Totals {
    lines: u64,
    completed: u64,
    failed: u64,
    /// By asset.
    cost: BTreeMap<String, Amount>,
}

impl Totals {
    fn add(&mut self, row: &Row) {
        self.lines += 1;
        if row.error.is_some() {
            self.failed += 1;
        } else {
            self.completed += 1;
        }
        if let Some(money) = &row.cost {
            let sum = self.cost.entry(money.asset.clone()).or_default();
            *sum = sum.checked_add(money.amount).unwrap_or(Amount::MAX);
        }
    }

    fn paid(&self) -> String {
        let sums = self.cost.iter().map(|(asset, sum)| of(*sum, asset));
        let sums: Vec<_> = sums.collect();
        if sums.is_empty() { "nothing".into() } else { sums.join(", ") }
    }
}

struct Run<'a> {
    client: Client,
    /// What every line is for.
    name: Option<&'a str>,
    lines: &'a Lines,
    terms: &'a Terms,
    /// Found once, when the first text wants it.
    model: OnceCell<String>,
    context: &'a Context,
}

pub(crate) async fn run(
    client: Client,
    name: Option<&str>,
    lines: &Lines,
    terms: &Terms,
    context: &Context,
) -> Result<(), Failure> {
    let Some(path) = &lines.lines else { return Ok(()) };
    let bar = bar(path, context.out);
    let mut signals = context.interrupts.take()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let read = read(path)?;
    let run = Run { client, name, lines, terms, model: OnceCell::new(), context };
    let asked = read
        .take_until(async {
            // Dropped is the signal.
            let _ = stopped.await;
        })
        .map(|(line, text)| Box::pin(run.line(line, text)));
    let at_once = usize::from(lines.concurrency);
    let rows = if lines.as_they_come {
        asked.buffer_unordered(at_once).left_stream()
    } else {
        asked.buffered(at_once).right_stream()
    };
    let mut totals = Totals::default();
    let interrupted = collect(rows, &mut totals, &bar, stop, &mut signals).await;
    bar.finish_and_clear();
    report(&totals, interrupted, context.out)
}

/// How far Ctrl-C went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interrupted {
    No,
    /// What was under way has ended.
    InOrder,
    AtOnce,
}

async fn collect(
    rows: impl Stream<Item = Row>,
    totals: &mut Totals,
    bar: &ProgressBar,
    stop: oneshot::Sender<()>,
    signals: &mut Signals,
) -> Interrupted {
    tokio::pin!(rows);
    let mut stop = Some(stop);
    loop {
        let row = tokio::select! {
            row = rows.next() => row,
            () = signals.next() => {
                if stop.take().is_none() {
                    return Interrupted::AtOnce;
                }
                signals.pass(TOGETHER).await;
                let words = "mtor: no more lines are begun; again to leave those under way";
                bar.suspend(|| eprintln!("{words}"));
                continue;
            }
        };
        let Some(row) = row else { break };
        totals.add(&row);
        // Whatever the output is for: this is the result.
        bar.suspend(|| Out::new(true).object(&row));
        bar.inc(1);
        bar.set_message(format!("{} failed, cost {}", totals.failed, totals.paid()));
    }
    if stop.is_some() { Interrupted::No } else { Interrupted::InOrder }
}

fn report(totals: &Totals, interrupted: Interrupted, out: Out) -> Result<(), Failure> {
    let Totals { lines, completed, failed, .. } = totals;
    out.event("totals", serde_json::to_value(totals).unwrap_or_default());
    out.note(format_args!(
        "{}: {completed} completed, {failed} failed; cost {}",
        count(*lines, "line"),
        totals.paid()
    ));
    let again = "the same command goes on where it stopped: what is done is not paid again";
    match interrupted {
        Interrupted::AtOnce => {
            Err(Failure::interrupted("interrupted: what was under way goes on at the realm")
                .with_remedy(again))
        }
        Interrupted::InOrder => {
            Err(Failure::interrupted("interrupted before the last line").with_remedy(again))
        }
        Interrupted::No if *failed > 0 => {
            Err(Failure::failed(format!("{failed} of {} failed", count(*lines, "line")))
                .with_remedy(
                    "the same command asks for those again; the others are not paid twice",
                ))
        }
        Interrupted::No => Ok(()),
    }
}

impl Run<'_> {
    async fn line(&self, line: u64, text: Result<String, Failure>) -> Row {
        let asked = match text {
            Ok(text) => self.intent(line, &text).await,
            Err(failure) => Err(failure),
        };
        let done = match asked {
            Ok(intent) => self.attempts(line, intent).await,
            Err(failure) => Err(failure),
        };
        done.unwrap_or_else(|failure| Row {
            line,
            status: "failed",
            error: Some(explain(failure, self.context).to_json()),
            ..Row::default()
        })
    }

    async fn intent(&self, line: u64, text: &str) -> Result<Intent, Failure> {
        let wrong = |error: serde_json::Error| misread(line, &error);
        let mut intent = match self.name {
            Some(name) => {
                let data: Box<RawValue> = serde_json::from_str(text).map_err(wrong)?;
                Intent::new(name, self.data(name, data).await?)
            }
            None => {
                let document: Document = serde_json::from_str(text).map_err(wrong)?;
                let data = self.data(&document.intent, document.data).await?;
                let mut intent = Intent::new(document.intent, data);
                intent.ceiling = document.ceiling;
                intent.deadline_ms = document.deadline_ms;
                intent.trust = document.trust;
                intent.class = document.class;
                intent.durable = document.durable;
                intent
            }
        };
        self.terms.apply(&mut intent);
        intent.durable = intent.durable.or(Some(true));
        intent.stream = Some(false);
        Ok(intent)
    }

    /// A string is a text, where there are models that take one.
    async fn data(&self, name: &str, data: Box<RawValue>) -> Result<Box<RawValue>, Failure> {
        if !matches!(name, "chat" | "embed") {
            return Ok(data);
        }
        let Ok(text) = serde_json::from_str::<String>(data.get()) else { return Ok(data) };
        let (model, terms) = (&self.model, &self.terms);
        let model = model.get_or_try_init(|| choose_model(terms, name, &self.client)).await?;
        prompted(name, model, &text, false)
    }

    async fn attempts(&self, line: u64, mut intent: Intent) -> Result<Row, Failure> {
        let digest = digest(&intent)?;
        let prefix = self.lines.key_prefix.as_deref().unwrap_or(PREFIX_DEFAULT);
        let mut attempt = 0_u8;
        loop {
            intent.key = Some(format!("{prefix}-{line}-{digest}-{attempt}"));
            let mut row = Row { line, ..Row::default() };
            let end = self.once(&intent, &mut row).await?;
            let is_failed = matches!(end, EventKind::Failed(_));
            if is_failed && attempt < self.lines.retries {
                attempt += 1;
                continue;
            }
            if let EventKind::Completed(done) = end {
                row.status = "completed";
                (row.result, row.cost) = (done.result, done.cost);
                return Ok(row);
            }
            row.status = "failed";
            if let EventKind::Cancelled(bill) | EventKind::Expired(bill) = &end {
                row.cost.clone_from(&bill.cost);
            }
            row.error = failure_of(end).map(|failure| failure.to_json());
            return Ok(row);
        }
    }

    /// One attempt to its end; waits where the realm asks for that.
    async fn once(&self, intent: &Intent, row: &mut Row) -> Result<EventKind, Failure> {
        let mut waits = 0;
        loop {
            match self.follow(intent, row).await {
                Ok(end) => return Ok(end),
                Err(ClientError::Refused { status: 429 | 503, retry_after_ms, .. })
                    if waits < WAITS_MAX =>
                {
                    waits += 1;
                    let wait_ms = retry_after_ms.unwrap_or(WAIT_MS).min(WAIT_MS_MAX);
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn follow(&self, intent: &Intent, row: &mut Row) -> Result<EventKind, ClientError> {
        let mut events = self.client.submit_streaming(intent)?;
        while let Some(event) = events.next().await? {
            if event.kind.is_end() {
                row.intent = events.intent();
                return Ok(event.kind);
            }
        }
        let intent = events.intent();
        Err(ClientError::StreamLost { tries: 1, intent, source: None })
    }
}

/// What is wrong with a line. The parser counts from its own beginning: the line of the file is
/// known here.
fn misread(line: u64, error: &serde_json::Error) -> Failure {
    let column = error.column();
    let message = match error.classify() {
        Category::Data => {
            let words = error.to_string();
            let words = words.split(" at line ").next().unwrap_or_default();
            format!("line {line} is not what is expected: {words}, at column {column}")
        }
        Category::Eof => format!("line {line} is no whole JSON: it ends at column {column}"),
        Category::Syntax | Category::Io => format!("line {line} is no JSON at column {column}"),
    };
    Failure::failed(message).with_remedy("see mtor submit --help: --lines")
}

/// Of all that is asked: a line that is changed, or another ceiling, is other work.
fn digest(intent: &Intent) -> Result<String, Failure> {
    let body = serde_json::to_vec(intent).map_err(|error| Failure::caused(&error))?;
    let mut text = String::new();
    for byte in Sha256::digest(body).iter().take(12) {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

type Numbered = (u64, Result<String, Failure>);

/// The lines that hold something, with their numbers, read by a thread of its own as they are
/// wanted.
fn read(path: &Path) -> Result<impl Stream<Item = Numbered>, Failure> {
    const NAMED: &str = "--lines";
    let (tx, rx) = mpsc::channel(1);
    let feed = move |from: &mut dyn BufRead| {
        each_line(from, |line| tx.blocking_send(line).is_ok());
    };
    if path.as_os_str() == STDIN {
        // Its lock cannot go to another thread: it is taken there.
        drop(input::stdin(NAMED)?);
        std::thread::spawn(move || feed(&mut std::io::stdin().lock()));
    } else {
        let mut file = BufReader::new(input::open(path, NAMED)?);
        std::thread::spawn(move || feed(&mut file));
    }
    Ok(stream::unfold(rx, |mut rx| async { Some((rx.recv().await?, rx)) }))
}

/// Until there are no more, or nobody takes them.
fn each_line(from: &mut dyn BufRead, mut take: impl FnMut(Numbered) -> bool) {
    for number in 1.. {
        let mut bytes = Vec::new();
        let read = from.take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes);
        let line = match read {
            Ok(0) => return,
            Err(error) => {
                // Nothing more can be read after it.
                take((number, Err(Failure::failed(format!("--lines: {error}")))));
                return;
            }
            Ok(_) if !bytes.ends_with(b"\n") && bytes.len() as u64 > LINE_BYTES_MAX => {
                skip_line(from);
                Err(Failure::failed(format!("the line is longer than {LINE_BYTES_MAX} bytes")))
            }
            Ok(_) => String::from_utf8(bytes)
                .map_err(|_| Failure::failed("the line is not UTF-8, and so no JSON")),
        };
        let is_blank = line.as_ref().is_ok_and(|line| line.trim().is_empty());
        if !is_blank && !take((number, line)) {
            return;
        }
    }
}

fn skip_line(from: &mut dyn BufRead) {
    loop {
        let mut bytes = Vec::new();
        let read = from.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        if read.is_err() || bytes.is_empty() || bytes.ends_with(b"\n") {
            return;
        }
    }
}

/// A bar where a terminal shows it; how long it is is known of a file only.
fn bar(path: &Path, out: Out) -> ProgressBar {
    if out.is_json() || !console::Term::stderr().is_term() {
        return ProgressBar::hidden();
    }
    let count = || {
        let mut file = BufReader::new(path.is_file().then(|| std::fs::File::open(path).ok())??);
        let mut lines = 0;
        each_line(&mut file, |_| {
            lines += 1;
            true
        });
        Some(lines)
    };
    let (bar, template) = match count() {
        Some(lines) => (ProgressBar::new(lines), "{bar:24} {pos}/{len}, {msg}; {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos}, {msg}; {elapsed}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message("begun");
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &[u8]) -> Vec<(u64, Result<String, String>)> {
        let mut lines = Vec::new();
        each_line(&mut &text[..], |(number, line)| {
            lines.push((number, line.map_err(|failure| failure.message().to_owned())));
            true
        });
        lines
    }

    #[test]
    fn lines_are_numbered_as_they_stand_and_blank_ones_are_passed_over() {
        let lines = lines_of(b"1\n\n  \n\"two\"\r\n3");
        let texts: Vec<_> =
            lines.iter().map(|(n, line)| (*n, line.as_ref().unwrap().trim())).collect();
        assert_eq!(texts, [(1, "1"), (4, "\"two\""), (5, "3")]);
    }

    #[test]
    fn a_line_that_is_too_long_or_no_text_is_one_failure() {
        let long = vec![b'x'; usize::try_from(LINE_BYTES_MAX).unwrap() * 2 + 7];
        let lines = lines_of(&[long.as_slice(), b"\n1\n\xff\n2\n"].concat());
        assert_eq!(lines.len(), 4);
        assert!(lines[0].1.as_ref().is_err_and(|why| why.contains("longer")));
        assert!(lines[2].1.as_ref().is_err_and(|why| why.contains("UTF-8")));
        assert_eq!((lines[1].0, lines[3].0), (2, 4));
    }

    #[test]
    fn what_is_no_json_is_told_with_the_line_of_the_file() {
        let why = |text| {
            let error = serde_json::from_str::<Document>(text).err().unwrap();
            misread(7, &error).message().to_owned()
        };
        assert_eq!(why("nonsense"), "line 7 is no JSON at column 2");
        assert_eq!(why("{\"intent\":"), "line 7 is no whole JSON: it ends at column 10");
        assert_eq!(
            why("{\"intent\":7}"),
            "line 7 is not what is expected: invalid type: integer `7`, expected a string, at column 11"
        );
    }

    #[test]
    fn a_key_is_of_all_that_is_asked() {
        let intent = |text: &str| Intent::new("echo", RawValue::from_string(text.into()).unwrap());
        let one = digest(&intent("1")).unwrap();
        assert_eq!(one, digest(&intent("1")).unwrap());
        assert_ne!(one, digest(&intent("2")).unwrap());
        let dearer = Intent { ceiling: Some(Amount::from_u64(7)), ..intent("1") };
        assert_ne!(one, digest(&dearer).unwrap());
    }
}
