//! What the realm takes and holds: memory and descriptors from /proc, disk from its folder, shares from
//! its own `/metrics`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::field::Field;
use super::net::Request;

/// How often it is looked at while it is attacked.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub resident: u64,
    pub descriptors: u64,
    pub disk: u64,
}

impl Taken {
    pub(super) fn now(field: &Field) -> Self {
        Self {
            resident: resident(field.pid),
            descriptors: descriptors(field.pid),
            disk: size_of(&field.data()) + unlinked(field.pid),
        }
    }

    pub(super) fn most(self, other: Self) -> Self {
        Self {
            resident: self.resident.max(other.resident),
            descriptors: self.descriptors.max(other.descriptors),
            disk: self.disk.max(other.disk),
        }
    }
}

/// `VmRSS`, in bytes.
pub(super) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    kib.unwrap_or(0_u64) * 1024
}

pub(super) fn descriptors(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |found| found.count() as u64)
}

/// Files that it has open and that have no name any more: spilled answers.
fn unlinked(pid: u32) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let found = entries.filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok());
    found
        .filter(|found| found.is_file() && found.nlink() == 0)
        .map(|found| found.blocks() * 512)
        .sum()
}

/// What its files take on the disk; one that goes meanwhile is none.
fn size_of(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// Looks at a realm until it is told to stop; the most that it saw.
pub(super) struct Watch {
    over: AtomicBool,
    most: Mutex<Taken>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { over: AtomicBool::new(false), most: Mutex::default() }
    }

    pub(super) fn run(&self, field: &Field) {
        while !self.over.load(Ordering::SeqCst) {
            let taken = Taken::now(field);
            let mut most = self.most.lock().unwrap_or_else(PoisonError::into_inner);
            *most = most.most(taken);
            drop(most);
            std::thread::sleep(LOOK);
        }
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub(super) fn most(&self) -> Taken {
        *self.most.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of each share: what is held, and all there is. Empty if the realm does not answer.
pub(super) fn shares(field: &Field) -> BTreeMap<String, (u64, u64)> {
    let text = match field.here().ask(&Request::get("/metrics")) {
        Ok(reply) => String::from_utf8_lossy(&reply.body).into_owned(),
        Err(_) => return BTreeMap::new(),
    };
    let of = |start: &str| -> BTreeMap<String, u64> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(start)?.split_once("\"} "));
        lines.filter_map(|(what, value)| Some((what.to_owned(), value.parse().ok()?))).collect()
    };
    let all = of("mtor_share_capacity{what=\"");
    let held = of("mtor_share_held{what=\"").into_iter();
    held.map(|(what, held)| (what.clone(), (held, *all.get(&what).unwrap_or(&0)))).collect()
}

/// What is held that was not held before.
fn kept(
    before: &BTreeMap<String, (u64, u64)>,
    now: &BTreeMap<String, (u64, u64)>,
) -> BTreeMap<String, u64> {
    let more = now.iter().filter_map(|(what, (held, _))| {
        let then = before.get(what).map_or(0, |(held, _)| *held);
        held.checked_sub(then).filter(|more| *more > 0).map(|more| (what.clone(), more))
    });
    more.collect()
}

/// Waits until all is given back. After how long it was, or what is still held.
pub(super) fn wait_given_back(
    field: &Field,
    before: &BTreeMap<String, (u64, u64)>,
    patience: Duration,
) -> Result<Duration, BTreeMap<String, u64>> {
    let began = Instant::now();
    loop {
        let now = shares(field);
        let kept = kept(before, &now);
        if kept.is_empty() && !now.is_empty() {
            return Ok(began.elapsed());
        }
        if began.elapsed() > patience {
            return Err(kept);
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}
