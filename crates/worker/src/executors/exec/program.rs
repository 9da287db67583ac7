//! The program's life: start, first line, lines, death, and again.

use std::sync::Arc;
use std::time::Duration;

use mtor_types::worker::OfferList;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use super::Program;
use super::line::{self, Line, Lines, Next};
use crate::connect::Backoff;
use crate::executors::{AbortOnDrop, Announcer, Surroundings, tidy_offers};
use crate::limits;

const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Keeps the program going until the agent is gone.
pub(crate) async fn keep(
    program: Arc<Program>,
    path: std::path::PathBuf,
    args: Vec<String>,
    surroundings: Surroundings,
    announcer: Announcer,
) {
    let mut backoff = Backoff::default();
    loop {
        let started = Instant::now();
        let reason =
            live(&program, &path, surroundings.command(&path).args(&args), &announcer).await;
        program.set_down();
        // Whoever hears that it is down says so aloud.
        tracing::info!(program = %path.display(), %reason, "program ended");
        if !announcer.down(reason).await {
            return;
        }
        if started.elapsed() > Duration::from_millis(limits::BACKOFF_RESET_MS) {
            backoff = Backoff::default();
        }
        sleep(backoff.next()).await;
    }
}

/// The program's process group. It ends with this, so that nothing that the program started itself
/// outlives it, however its life, or the agent's, ends.
pub(crate) struct Group(Option<Pid>);

impl Group {
    pub(crate) fn of(leader: &Child) -> Self {
        let pid = leader.id().and_then(|pid| i32::try_from(pid).ok());
        Self(pid.and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // An empty group is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// One life of the program; gives why it ended.
async fn live(
    program: &Arc<Program>,
    path: &std::path::Path,
    command: &mut Command,
    announcer: &Announcer,
) -> String {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return format!("cannot start: {error}"),
    };
    let _group = Group::of(&child);
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return "cannot start: no pipes".into();
    };
    let _log = AbortOnDrop(tokio::spawn(log(path.display().to_string(), stderr)).abort_handle());
    let mut lines = Lines::new(BufReader::with_capacity(READ_BUFFER_BYTES, stdout));
    let first = timeout(Duration::from_millis(limits::EXEC_OFFER_MS), first_offer(&mut lines));
    let offers = match first.await {
        Ok(Ok(offers)) => offers,
        Ok(Err(reason)) => return reason,
        Err(_) => return "no offer within 60 s".into(),
    };
    program.set_up();
    let writer = tokio::spawn(write(Arc::clone(program), stdin));
    let _writer = AbortOnDrop(writer.abort_handle());
    if let Err(reason) = announce(announcer, offers).await {
        return reason;
    }
    let reason = listen(program, announcer, &mut lines).await;
    match reason {
        Some(reason) => reason,
        None => exit(&mut child).await,
    }
}

async fn first_offer(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<OfferList, String> {
    match lines.next().await {
        Next::Line(line) => match std::str::from_utf8(line).ok().and_then(line::read) {
            Some(Line::Offers(offers)) => Ok(offers),
            _ => Err("the first line is not an mtor.worker.offer.v1".into()),
        },
        Next::TooLong => Err("a line above 16 MiB".into()),
        Next::End => Err("ended before its offer".into()),
    }
}

async fn announce(announcer: &Announcer, offers: OfferList) -> Result<(), String> {
    let offers = tidy_offers(offers.offers).map_err(|reason| format!("its offer: {reason}"))?;
    if announcer.offers(offers).await { Ok(()) } else { Err("the agent has gone".into()) }
}

/// Passes on lines until the output ends (`None`) or breaks a rule.
async fn listen(
    program: &Program,
    announcer: &Announcer,
    lines: &mut Lines<BufReader<ChildStdout>>,
) -> Option<String> {
    loop {
        let line = match lines.next().await {
            Next::Line(line) => line,
            Next::TooLong => return Some("a line above 16 MiB".into()),
            Next::End => return None,
        };
        match std::str::from_utf8(line).ok().and_then(line::read) {
            Some(Line::Of(said)) => program.said(said),
            Some(Line::Offers(offers)) => {
                if let Err(reason) = announce(announcer, offers).await {
                    return Some(reason);
                }
            }
            Some(Line::Other) => {}
            // Nothing was said.
            None if line.trim_ascii().is_empty() => {}
            None => program.said_nonsense(line),
        }
    }
}

/// The output has ended: says how the program did.
async fn exit(child: &mut Child) -> String {
    match timeout(Duration::from_millis(limits::EXEC_EXIT_MS), child.wait()).await {
        Ok(Ok(status)) => format!("ended: {status}"),
        Ok(Err(error)) => format!("ended: {error}"),
        // Dropping the child kills it.
        Err(_) => "closed its output and went on".into(),
    }
}

async fn write(program: Arc<Program>, mut stdin: ChildStdin) {
    loop {
        let line = program.next_line().await;
        if stdin.write_all(line.as_bytes()).await.is_err() {
            // The program is ending; its output tells when.
            return;
        }
    }
}

/// What the program tells people, bounded, at debug level.
async fn log(program: String, stderr: ChildStderr) {
    lines_of(stderr, |line| tracing::debug!(program = %program, line, "program says")).await;
}

/// Gives each line of a standard error, cut to its bound, until that ends.
pub(crate) async fn lines_of(stderr: ChildStderr, mut each: impl FnMut(&str)) {
    use tokio::io::AsyncBufReadExt;
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        let Ok(buffer) = reader.fill_buf().await else { return };
        if buffer.is_empty() {
            // One that died in the middle of a line.
            if !line.is_empty() {
                each(&String::from_utf8_lossy(&line));
            }
            return;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        let room = limits::EXEC_STDERR_BYTES_MAX.saturating_sub(line.len());
        line.extend(part.iter().take(room));
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            each(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
}
