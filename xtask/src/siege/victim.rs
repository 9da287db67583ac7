//! Who only wants to be served, while others attack.
//!
//! Requests are due at even times, each on a connection of its own, as newcomers would come. One that is
//! refused, whatever the reason, was not served: an honest client would come again, and would have
//! noticed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::field::{Field, Visitor};
use super::net::Request;
use super::tally::name;

/// So many of its requests may be under way.
const AT_ONCE: u64 = 16;
/// Beyond so many times the time that was meant for it the rest is not asked.
const OVERTIME: u32 = 4;

/// What it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    Small,
    /// 100 kB, back and forth.
    Large,
    /// With an idempotency key.
    Keyed,
}

/// Something else that it must be able to do meanwhile, now and then.
#[derive(Clone, Copy)]
pub(super) struct Also {
    pub name: &'static str,
    /// Once more, for the so-manieth time.
    pub once: fn(&Field, &Visitor, u32) -> Result<(), String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Served {
    pub asked: u64,
    pub served: u64,
    pub p50: Duration,
    pub p99: Duration,
    pub slowest: Duration,
    pub refused: BTreeMap<String, u64>,
}

impl Served {
    fn of(mut times: Vec<Duration>, refused: BTreeMap<String, u64>) -> Self {
        let served = times.len() as u64;
        let asked = served + refused.values().sum::<u64>();
        times.sort_unstable();
        let at = |per_cent: usize| {
            let place = (times.len() * per_cent).div_ceil(100).saturating_sub(1);
            times.get(place).copied().unwrap_or_default()
        };
        Self { asked, served, p50: at(50), p99: at(99), slowest: at(100), refused }
    }

    pub(super) fn per_cent(&self) -> f64 {
        if self.asked == 0 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a share of some thousands")]
        let (served, asked) = (self.served as f64, self.asked as f64);
        served / asked * 100.0
    }

    pub(super) fn reasons(&self) -> String {
        let words: Vec<_> =
            self.refused.iter().map(|(why, times)| format!("{why} x{times}")).collect();
        words.join(", ")
    }
}

/// `requests` of them, spread over `time`.
pub(super) fn ask(visitor: &Visitor, wish: Wish, requests: u64, time: Duration) -> Served {
    let next = AtomicU64::new(0);
    let times = Mutex::new(Vec::new());
    let refused = Mutex::new(BTreeMap::new());
    let began = Instant::now();
    let every = time.div_f64(f64::from(u32::try_from(requests).unwrap_or(u32::MAX).max(1)));
    let one = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= requests || began.elapsed() > time * OVERTIME {
            return;
        }
        let due = every.mul_f64(f64::from(u32::try_from(number).unwrap_or(u32::MAX)));
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let asked = Instant::now();
        match once(visitor, wish, number) {
            Ok(()) => times.lock().unwrap_or_else(PoisonError::into_inner).push(asked.elapsed()),
            Err(why) => {
                let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
                *refused.entry(why).or_insert(0_u64) += 1;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(one);
        }
    });
    let inner = |all: Mutex<_>| all.into_inner().unwrap_or_else(PoisonError::into_inner);
    let refused = refused.into_inner().unwrap_or_else(PoisonError::into_inner);
    Served::of(inner(times), refused)
}

const ENDS: [&str; 4] = [
    "mtor.intent.completed.v1",
    "mtor.intent.failed.v1",
    "mtor.intent.cancelled.v1",
    "mtor.intent.expired.v1",
];

fn once(visitor: &Visitor, wish: Wish, number: u64) -> Result<(), String> {
    let text = "x".repeat(if wish == Wish::Large { 100_000 } else { 16 });
    let key = if wish == Wish::Keyed { format!(r#""id":"v-{number}","#) } else { String::new() };
    let body = format!(
        r#"{{"intent":"echo","ceiling":"1","durable":false,{key}"data":{{"text":"{text}"}}}}"#
    );
    let request = Request::post("/v1/intents", &visitor.key, body.as_bytes());
    let more = "accept: text/event-stream\r\nconnection: close\r\n";
    let mut line = visitor.door.connect().map_err(|error| name(&error))?;
    line.send(&Request { more, ..request }).map_err(|error| name(&error))?;
    match line.event(&ENDS).map_err(|error| name(&error))? {
        Ok((0, _)) => Ok(()),
        Ok((index, said)) => {
            let place = said.find("\"MT0").map_or("", |place| &said[place..]);
            Err(format!("{} {}", ENDS[index], place.get(1..7).unwrap_or_default()))
        }
        Err(reply) => Err(reply.code()),
    }
}
