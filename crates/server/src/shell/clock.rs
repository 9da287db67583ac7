//! The node's clock: follows the monotonic clock from max(wall, last recorded), so a jump of the
//! wall clock moves no deadline, and time never goes back over a restart, but for one that finds that
//! an earlier one had a clock that was ahead (see [`super::jumps`]).

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mtor_types::Time;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Time,
    started: Instant,
    sets_back: bool,
}

impl Clock {
    /// `recorded` is the time of the last batch in the log.
    pub fn start(recorded: Time) -> Self {
        let origin = wall().max(recorded);
        Self { origin, started: Instant::now(), sets_back: false }
    }

    /// From the wall clock, which may be before what was recorded.
    pub fn start_back() -> Self {
        Self { origin: wall(), started: Instant::now(), sets_back: true }
    }

    /// Whether the node begins at a time before its last record.
    pub fn sets_back(&self) -> bool {
        self.sets_back
    }

    pub fn now(&self) -> Time {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.origin.after_ms(elapsed)
    }

    /// When the node's time will be `at`, as the system's own clock counts.
    pub fn instant(&self, at: Time) -> Instant {
        let ms = at.since_ms(self.origin);
        self.started + std::time::Duration::from_millis(ms)
    }
}

/// What this machine takes for the time.
pub fn wall() -> Time {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
