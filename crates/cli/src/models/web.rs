//! A file from an address. What has arrived stays in the part file, so that a broken download goes
//! on where it stopped: in this call, in a later one, or in another process.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ureq::Agent;
use ureq::http::{Response, StatusCode, header};

use super::{LOOK_EVERY, Stop, TELL_EVERY};

/// A source that does not answer is left for the next one.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// A body that brings nothing for so long is broken. One that flows is never cut, however long it
/// takes: a source that knows no ranges would begin it anew, for ever.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Answers in a row that brought nothing.
const FRUITLESS_MAX: u32 = 2;
/// Answers of one file. Each brought something, so the next is asked for at once: a source that
/// breaks off again and again is left some time.
const ANSWERS_MAX: u32 = 1_440;
const REDIRECTS_MAX: u32 = 5;
const READ_BYTES: usize = 64 * 1024;

/// What is fetched, and where to.
pub(super) struct Wanted<'a> {
    pub(super) url: &'a str,
    pub(super) part: &'a Path,
    /// What it must have, if that is known.
    pub(super) bytes: Option<u64>,
    pub(super) bytes_max: u64,
    pub(super) silence_max: Duration,
    pub(super) stop: &'a Stop,
}

fn agent(silence_max: Duration) -> Agent {
    let config = Agent::config_builder()
        .timeout_connect(Some(CONNECT_PATIENCE))
        .timeout_recv_response(Some(ANSWER_PATIENCE))
        .timeout_per_read(Some(silence_max))
        .max_redirects(REDIRECTS_MAX)
        .http_status_as_error(false)
        .user_agent(concat!("mtor/", env!("CARGO_PKG_VERSION")));
    config.build().into()
}

/// Fetches the whole of it into the part file; `received` hears of the bytes now and then.
pub(super) fn fetch(wanted: &Wanted<'_>, received: &mut dyn FnMut(u64)) -> anyhow::Result<()> {
    let agent = agent(wanted.silence_max);
    std::thread::scope(|scope| {
        let (running, over) = mpsc::sync_channel::<()>(0);
        let (watched, stop) = (agent.clone(), wanted.stop);
        scope.spawn(move || end_when_stopped(watched, stop, &over));
        let done = answers(&agent, wanted, received);
        drop(running);
        done
    })
}

/// A word to stop also ends a read that waits for a silent source.
fn end_when_stopped(agent: Agent, stop: &Stop, over: &mpsc::Receiver<()>) {
    while over.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        if stop.is_set() {
            return agent.shutdown();
        }
    }
}

fn answers(
    agent: &Agent,
    wanted: &Wanted<'_>,
    received: &mut dyn FnMut(u64),
) -> anyhow::Result<()> {
    let mut fruitless = 0;
    for _ in 0..ANSWERS_MAX {
        wanted.stop.check()?;
        let had = length(wanted.part);
        let why = match once(agent, wanted, received) {
            Ok(()) => return Ok(()),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Broken(error)) => error,
        };
        wanted.stop.check()?;
        fruitless = if length(wanted.part) > had { 0 } else { fruitless + 1 };
        if fruitless >= FRUITLESS_MAX {
            return Err(why);
        }
    }
    bail!("no end of it after {ANSWERS_MAX} answers")
}

/// Whether another try may help.
enum Trouble {
    Final(anyhow::Error),
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self::Final(error)
    }
}

/// What has arrived in a part file.
pub(super) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// One answer.
fn once(agent: &Agent, wanted: &Wanted<'_>, received: &mut dyn FnMut(u64)) -> Result<(), Trouble> {
    let had = length(wanted.part);
    if had > 0 && wanted.bytes == Some(had) {
        return Ok(());
    }
    let mut request = agent.get(wanted.url);
    if had > 0 {
        request = request.header(header::RANGE, format!("bytes={had}-"));
    }
    let answer = request.call().map_err(|error| Trouble::Broken(error.into()))?;
    let resumed = resumes_at(&answer, had);
    match answer.status() {
        StatusCode::PARTIAL_CONTENT if resumed => {}
        StatusCode::OK => {}
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
            return another(wanted);
        }
        status => return Err(Trouble::Final(anyhow::anyhow!("it answers {status}"))),
    }
    let begins_at = if answer.status() == StatusCode::OK { 0 } else { had };
    let total = body_length(&answer).map(|rest| begins_at.saturating_add(rest));
    if let (Some(total), Some(bytes)) = (total, wanted.bytes)
        && total != bytes
    {
        return Err(Trouble::Final(anyhow::anyhow!("it has {total} bytes, expected {bytes}")));
    }
    let had = match total {
        // It is another file than the one that was begun.
        Some(total) if total < had => {
            fs::remove_file(wanted.part).context("the begun file not removed")?;
            0
        }
        _ => had,
    };
    let file = OpenOptions::new().create(true).append(true).open(wanted.part);
    let mut file = file.with_context(|| format!("{} not written", wanted.part.display()))?;
    let done = copy(answer, &mut file, &Span { begins_at, had }, wanted, received);
    // What has arrived counts, whatever comes next.
    file.sync_data().context("the begun file not synced")?;
    let arrived = done?;
    match wanted.bytes.or(total) {
        None if arrived < had => another(wanted),
        Some(bytes) if arrived < bytes => {
            Err(Trouble::Broken(anyhow::anyhow!("it broke off at {arrived} of {bytes} bytes")))
        }
        _ => Ok(()),
    }
}

/// It is another file than the one that was begun: the next answer is all of it.
fn another(wanted: &Wanted<'_>) -> Result<(), Trouble> {
    fs::remove_file(wanted.part).context("the begun file not removed")?;
    Err(Trouble::Broken(anyhow::anyhow!("it cannot go on where it stopped")))
}

/// Whether the answer goes on exactly there.
fn resumes_at<T>(answer: &Response<T>, from: u64) -> bool {
    let range = answer.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let begin = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-'));
    begin.and_then(|(begin, _)| begin.parse::<u64>().ok()) == Some(from)
}

fn body_length<T>(answer: &Response<T>) -> Option<u64> {
    answer.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Which bytes of a file an answer brings.
struct Span {
    begins_at: u64,
    /// Those before are in the part file already. A source that knows no ranges brings them once
    /// more: they are read over, since a part that is thrown away may be all that ever comes.
    had: u64,
}

/// Gives where the answer ended.
fn copy(
    answer: Response<ureq::Body>,
    file: &mut File,
    span: &Span,
    wanted: &Wanted<'_>,
    received: &mut dyn FnMut(u64),
) -> Result<u64, Trouble> {
    let most = wanted.bytes.unwrap_or(wanted.bytes_max);
    let mut body = answer.into_body().into_reader();
    let (mut at, mut buffer, mut told) = (span.begins_at, vec![0; READ_BYTES], Instant::now());
    loop {
        wanted.stop.check()?;
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Trouble::Broken(error.into())),
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        let over = usize::try_from(span.had.saturating_sub(at)).unwrap_or(usize::MAX);
        at = at.saturating_add(bytes.len() as u64);
        check_size(at, most)?;
        file.write_all(bytes.get(over..).unwrap_or_default()).context("the file not written")?;
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            received(at.max(span.had));
        }
    }
    // A read that was ended by a word to stop looks like the end of a body without a length.
    wanted.stop.check()?;
    received(at.max(span.had));
    Ok(at)
}

fn check_size(bytes: u64, most: u64) -> anyhow::Result<()> {
    ensure!(bytes <= most, "it is longer than {most} bytes");
    Ok(())
}
