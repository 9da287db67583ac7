//! What an attack did, and the sign by which it begins and ends.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::field::Field;
use super::net::Reply;

/// Of this one thread: as Linux has it.
const NICE: i32 = 15;

/// How often things happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub taken: u64,
    /// By code, or by what broke.
    pub refused: BTreeMap<String, u64>,
    pub bytes: u64,
}

impl Tally {
    pub(super) fn refuse(&mut self, why: String) {
        *self.refused.entry(why).or_default() += 1;
    }

    pub(super) fn count(&mut self, reply: &io::Result<Reply>) {
        match reply {
            Ok(reply) if reply.is_good() => self.taken += 1,
            Ok(reply) => self.refuse(reply.code()),
            Err(error) => self.refuse(name(error)),
        }
    }

    /// The items of a batch, each by itself.
    pub(super) fn count_batch(&mut self, reply: &io::Result<Reply>) {
        let items = reply.as_ref().ok().filter(|reply| reply.is_good()).map(Reply::json);
        let Some(items) = items else { return self.count(reply) };
        for item in items["items"].as_array().into_iter().flatten() {
            match item["error"]["error"]["code"].as_str() {
                None => self.taken += 1,
                Some(code) => self.refuse(code.to_owned()),
            }
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.taken += other.taken;
        self.bytes += other.bytes;
        for (why, times) in other.refused {
            *self.refused.entry(why).or_default() += times;
        }
    }

    pub(super) fn tried(&self) -> u64 {
        self.taken + self.refused.values().sum::<u64>()
    }

    /// The most frequent reasons.
    pub(super) fn reasons(&self) -> String {
        let mut sorted: Vec<_> = self.refused.iter().collect();
        sorted.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
        let words: Vec<String> =
            sorted.iter().take(4).map(|(why, times)| format!("{why} x{times}")).collect();
        words.join(", ")
    }
}

/// A short word for what broke.
pub(super) fn name(error: &io::Error) -> String {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    let kind = error.kind();
    if matches!(kind, WouldBlock | TimedOut) {
        "timeout".to_owned()
    } else if matches!(kind, ConnectionReset | BrokenPipe) {
        "reset".to_owned()
    } else if kind == UnexpectedEof {
        "closed".to_owned()
    } else {
        error.to_string()
    }
}

/// Between who attacks and who measures.
#[derive(Debug, Default)]
pub(super) struct Signal {
    awaited: AtomicU32,
    standing: AtomicU32,
    over: AtomicBool,
}

impl Signal {
    /// So many hands will say that they stand.
    fn expect(&self, hands: u32) {
        self.awaited.store(hands, Ordering::SeqCst);
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Waits until all hands do what they are to do; false if that never came.
    pub(super) fn wait_standing(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while Instant::now() < until && !self.is_over() {
            let awaited = self.awaited.load(Ordering::SeqCst);
            if awaited > 0 && self.standing.load(Ordering::SeqCst) >= awaited {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

/// One thread of one hostile network.
pub(super) struct Hand<'a> {
    pub field: &'a Field,
    pub network: u32,
    pub number: u32,
    signal: &'a Signal,
}

impl Hand<'_> {
    pub(super) fn is_over(&self) -> bool {
        self.signal.is_over()
    }

    /// From now on it does what it is to do.
    pub(super) fn stands(&self) {
        self.signal.standing.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits, or until it is over.
    pub(super) fn pause(&self, ms: u64) {
        let until = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < until && !self.is_over() {
            std::thread::sleep(Duration::from_millis(ms.min(50)));
        }
    }
}

/// So many hands of each of so many networks, until all have come to their end.
pub(super) fn crew(
    field: &Field,
    signal: &Signal,
    networks: u32,
    hands: u32,
    work: impl Fn(&Hand<'_>) -> Tally + Sync,
) -> Tally {
    signal.expect(networks * hands);
    let mut sum = Tally::default();
    std::thread::scope(|scope| {
        let each =
            (0..networks).flat_map(|network| (0..hands).map(move |number| (network, number)));
        let threads: Vec<_> = each
            .map(|(network, number)| {
                let (work, hand) = (&work, Hand { field, network, number, signal });
                scope.spawn(move || {
                    // Attackers bring machines of their own: here they are to take no time from the
                    // realm and the victim that these would have.
                    let _ = rustix::process::nice(NICE);
                    work(&hand)
                })
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(tally) => sum.add(tally),
                Err(_) => sum.refuse("a hand fell".to_owned()),
            }
        }
    });
    sum
}
