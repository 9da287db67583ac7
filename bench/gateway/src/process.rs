//! Child processes on a core of their own, and what the kernel says of them.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Of the kernel's process times; fixed for user space on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const EXIT_PATIENCE: Duration = Duration::from_secs(120);

/// Runs `program` on one core. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub spawned: Instant,
}

impl Process {
    pub(crate) fn spawn(
        core: usize,
        program: &Path,
        arguments: &[&str],
        errors: Stdio,
    ) -> Result<Self> {
        let spawned = Instant::now();
        // Each becomes the next; the kernel ends the last of them if this process is ended.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "taskset", "-c", &core.to_string()])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context("setpriv (of util-linux) cannot be run")?;
        Ok(Self { child, spawned })
    }

    /// The first line of its output; the rest is read and dropped.
    pub(crate) fn first_line(&mut self) -> Result<String> {
        let mut output = BufReader::new(self.child.stdout.take().context("no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(!line.trim().is_empty(), "it ended without a word");
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while output.read(&mut buffer).is_ok_and(|length| length > 0) {}
        });
        Ok(line.trim().to_owned())
    }

    /// `setpriv` and `taskset` become what they start, so this is the program's own id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Sends a signal and waits for the end; says how long that took.
    pub(crate) fn end(mut self, signal: &str) -> Result<Duration> {
        let begun = Instant::now();
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status()?;
        ensure!(sent.success(), "no signal could be sent to {id}");
        while begun.elapsed() < EXIT_PATIENCE {
            if self.child.try_wait()?.is_some() {
                return Ok(begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        bail!("{id} did not end within {EXIT_PATIENCE:?} after {signal}")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The cores that this process may use.
pub(crate) fn cores() -> Result<Vec<usize>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    parse_cores(list.context("the kernel does not say which cores")?.trim())
}

/// `0-2,5`
fn parse_cores(list: &str) -> Result<Vec<usize>> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>()?..=last.parse()?);
    }
    Ok(cores)
}

/// Binds this process, and all it starts later, to one core, and lets its threads sleep exactly.
pub(crate) fn settle(core: usize) -> Result<()> {
    let id = std::process::id().to_string();
    let bound = Command::new("taskset")
        .args(["-a", "-c", "-p", &core.to_string(), &id])
        .stdout(Stdio::null())
        .status()
        .context("taskset (of util-linux) cannot be run")?;
    ensure!(bound.success(), "no core {core} here");
    // Where this is not allowed a sleep is 50 microseconds late, for realm and ceiling alike.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    Ok(())
}

/// Seconds of processor time that a process has used.
pub(crate) fn cpu_seconds(id: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name stands in brackets and may hold anything.
    let (_, fields) = stat.rsplit_once(") ").context("no name")?;
    // utime and stime are the 14th and 15th; the third comes first here.
    let mut ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    let (user, system) = (ticks.next().context("utime")??, ticks.next().context("stime")??);
    Ok((user + system) / TICKS_PER_SECOND)
}

/// Resident memory in KiB.
pub(crate) fn resident_kib(id: u32) -> Result<u64> {
    field(&format!("/proc/{id}/status"), "VmRSS:")
}

/// Bytes a process has caused to be written to storage.
pub(crate) fn written_bytes(id: u32) -> Result<u64> {
    field(&format!("/proc/{id}/io"), "write_bytes:")
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).with_context(|| format!("no {name} in {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let id = std::process::id();
        assert!(cpu_seconds(id).unwrap() >= 0.0);
        assert!(resident_kib(id).unwrap() > 100);
        assert!(written_bytes(id).is_ok());
    }

    #[test]
    fn cores_are_listed() {
        assert_eq!(parse_cores("0").unwrap(), [0]);
        assert_eq!(parse_cores("2-4,7").unwrap(), [2, 3, 4, 7]);
        assert!(parse_cores("a").is_err());
    }

    #[test]
    fn a_process_ends_by_signal() {
        let arguments = ["-c", "echo there; exec sleep 60"];
        let mut process =
            Process::spawn(cores().unwrap()[0], Path::new("/bin/sh"), &arguments, Stdio::null())
                .unwrap();
        assert_eq!(process.first_line().unwrap(), "there");
        assert!(process.end("TERM").unwrap() < Duration::from_secs(10));
    }
}
