//! The load: as many requests as connections allow, so many in a row, or so many a second.
//!
//! At a fixed rate a request's time runs from the moment it was meant to be sent, also if no
//! connection was free then: a slow answer is not hidden by the requests it kept from being sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::{Connection, Exchange};
use crate::histogram::Histogram;

/// What a plan may take beyond its own time.
const PATIENCE: Duration = Duration::from_secs(60);
/// After an error, so that a target that refuses everything is not hammered.
const AFTER_ERROR: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Rate {
    /// Each connection sends its next request when it has its answer.
    Closed { duration: Duration },
    /// So many requests, each after the answer to the one before.
    Count { requests: u64 },
    /// So many a second.
    Open { per_second: u64, duration: Duration },
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub address: SocketAddr,
    /// One connection each, which repeats it.
    pub requests: Vec<Bytes>,
    pub rate: Rate,
    /// The status of a good answer.
    pub status: u16,
    /// Server-sent events that a good answer has at least.
    pub events: usize,
}

/// What came of a plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub answered: u64,
    pub errors: u64,
    pub first_error: Option<String>,
    pub seconds: f64,
    /// Until the answer was whole.
    pub whole: Histogram,
    /// Until its first event was.
    pub first: Histogram,
    /// The longest wait between two events of one answer.
    pub gap: Duration,
}

impl Sample {
    pub(crate) fn per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.answered as f64 / self.seconds } else { 0.0 }
    }

    fn merge(&mut self, other: Self) {
        self.answered += other.answered;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.whole.merge(&other.whole);
        self.first.merge(&other.first);
        self.gap = self.gap.max(other.gap);
    }

    fn fail(&mut self, error: String) {
        self.errors += 1;
        self.first_error.get_or_insert(error);
    }

    fn add(&mut self, plan: &Plan, intended: Instant, exchange: &Exchange) {
        let seen = &exchange.seen;
        if seen.status != plan.status {
            let body = String::from_utf8_lossy(&seen.body);
            return self.fail(format!("status {}: {body}", seen.status));
        }
        if seen.events < plan.events || (plan.events > 0 && !seen.done) {
            return self.fail(format!("{} events, done: {}", seen.events, seen.done));
        }
        self.answered += 1;
        self.whole.record(exchange.end.saturating_duration_since(intended));
        self.first.record(exchange.first.saturating_duration_since(intended));
        self.gap = self.gap.max(exchange.gap);
    }
}

pub(crate) async fn run(plan: Plan) -> Result<Sample> {
    let mut connections = Vec::new();
    for _ in &plan.requests {
        connections.push(Connection::open(plan.address).await?);
    }
    let plan = Arc::new(plan);
    let start = Instant::now();
    let (pace, took) = Pace::start(&plan, start);
    let mut tasks = JoinSet::new();
    for (connection, request) in connections.into_iter().zip(&plan.requests) {
        tasks.spawn(drive(Arc::clone(&plan), pace.clone(), connection, request.clone()));
    }
    let mut all = Sample::default();
    let gather = async {
        while let Some(sample) = tasks.join_next().await {
            all.merge(sample.context("a connection's task")?);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(took + PATIENCE, gather).await.context("the load did not end")??;
    all.seconds = start.elapsed().as_secs_f64();
    Ok(all)
}

async fn drive(plan: Arc<Plan>, pace: Pace, connection: Connection, request: Bytes) -> Sample {
    let mut connection = Some(connection);
    let mut sample = Sample::default();
    while let Some(intended) = pace.next().await {
        let error = match once(&mut connection, plan.address, &request).await {
            Ok(exchange) => {
                let errors = sample.errors;
                sample.add(&plan, intended, &exchange);
                sample.errors > errors
            }
            Err(error) => {
                sample.fail(format!("{error:#}"));
                connection = None;
                true
            }
        };
        if error {
            tokio::time::sleep(AFTER_ERROR).await;
        }
    }
    sample
}

async fn once(
    connection: &mut Option<Connection>,
    address: SocketAddr,
    request: &[u8],
) -> Result<Exchange> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(address).await?),
    };
    open.exchange(request, false).await
}

/// When the next request is due.
#[derive(Clone, Debug)]
enum Pace {
    Until(Instant),
    Count(Arc<AtomicU64>),
    Ticks(Arc<Ticks>),
}

#[derive(Debug)]
struct Ticks {
    due: Semaphore,
    taken: AtomicU64,
    start: Instant,
    period: Duration,
    requests: u64,
}

impl Pace {
    /// With how long it will go on, as far as that is known.
    fn start(plan: &Plan, start: Instant) -> (Self, Duration) {
        match plan.rate {
            Rate::Closed { duration } => (Self::Until(start + duration), duration),
            Rate::Count { requests } => {
                (Self::Count(Arc::new(AtomicU64::new(requests))), Duration::from_secs(600))
            }
            Rate::Open { per_second, duration } => {
                let period = Duration::from_secs(1) / u32::try_from(per_second).unwrap_or(1).max(1);
                let ticks = Arc::new(Ticks {
                    due: Semaphore::new(0),
                    taken: AtomicU64::new(0),
                    start,
                    period,
                    requests: u64::try_from(duration.as_nanos() / period.as_nanos().max(1))
                        .unwrap_or(0),
                });
                let (metronome, connections) = (Arc::clone(&ticks), plan.requests.len());
                // The runtime's timers are a millisecond coarse; a sleeping thread's are not.
                std::thread::spawn(move || metronome.run(connections));
                (Self::Ticks(ticks), duration)
            }
        }
    }

    async fn next(&self) -> Option<Instant> {
        match self {
            Self::Until(end) => Some(Instant::now()).filter(|now| now < end),
            Self::Count(left) => {
                let take = |left: u64| left.checked_sub(1);
                let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
                taken.ok().map(|_| Instant::now())
            }
            Self::Ticks(ticks) => ticks.next().await,
        }
    }
}

impl Ticks {
    fn run(&self, connections: usize) {
        for index in 0..self.requests {
            if let Some(wait) = self.at(index).checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
            self.due.add_permits(1);
        }
        // One for each connection to see the end by.
        self.due.add_permits(connections);
    }

    fn at(&self, index: u64) -> Instant {
        self.start + self.period * u32::try_from(index).unwrap_or(u32::MAX)
    }

    async fn next(&self) -> Option<Instant> {
        // It is never closed.
        self.due.acquire().await.ok()?.forget();
        let index = self.taken.fetch_add(1, Ordering::Relaxed);
        (index < self.requests).then(|| self.at(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client, direct};

    async fn check(rate: Rate, body: &str, events: usize) -> Sample {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(direct::serve(listener));
        let request = Bytes::from(client::post("/v1/chat/completions", None, "", body));
        let plan = Plan { address, requests: vec![request; 4], rate, status: 200, events };
        let sample = run(plan).await.unwrap();
        server.abort();
        assert_eq!((sample.errors, &sample.first_error), (0, &None));
        sample
    }

    #[tokio::test]
    async fn the_direct_mock_answers_at_every_kind_of_rate() {
        let body = r#"{"model":"mock","messages":[]}"#;
        let sample = check(Rate::Count { requests: 100 }, body, 0).await;
        assert_eq!(sample.answered, 100);
        let duration = Duration::from_millis(200);
        let sample = check(Rate::Open { per_second: 500, duration }, body, 0).await;
        assert_eq!(sample.answered, 100);
        let sample = check(Rate::Closed { duration }, body, 0).await;
        assert!(sample.answered > 0 && sample.per_second() > 0.0);
    }

    #[tokio::test]
    async fn streams_are_whole() {
        let rate = Rate::Count { requests: 8 };
        let body = r#"{"model":"mock-burst","stream":true}"#;
        let sample = check(rate, body, crate::answers::BURST).await;
        assert_eq!(sample.answered, 8);
    }
}
