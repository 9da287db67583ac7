//! How fast bytes come, and how long the rest takes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The rate is that of the last so long: short enough to follow a line that changes.
const WINDOW: Duration = Duration::from_secs(15);
/// Readings kept; more often than twice a second is not looked.
const READINGS_MAX: usize = 64;
/// A rate before this is a guess.
const SURE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Rate {
    readings: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// `received` of all; less than before means that it began anew.
    pub(super) fn read(&mut self, now: Instant, received: u64) {
        if self.readings.back().is_some_and(|(_, before)| received < *before) {
            self.readings.clear();
        }
        self.readings.push_back((now, received));
        while self.readings.len() > READINGS_MAX
            || self.readings.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
        {
            self.readings.pop_front();
        }
    }

    /// Bytes a second.
    pub(super) fn per_second(&self) -> Option<u64> {
        let (first, last) = (self.readings.front()?, self.readings.back()?);
        let took = u64::try_from(last.0.duration_since(first.0).as_millis()).ok()?;
        last.1.saturating_sub(first.1).saturating_mul(1_000).checked_div(took)
    }

    /// The same once it has been watched long enough to act on it.
    pub(super) fn sure(&self) -> Option<u64> {
        let (first, last) = (self.readings.front()?, self.readings.back()?);
        (last.0.duration_since(first.0) >= SURE).then(|| self.per_second()).flatten()
    }
}

/// For so many bytes; `None` while nothing comes.
pub(super) fn takes(bytes: u64, per_second: Option<u64>) -> Option<Duration> {
    let rate = per_second.filter(|rate| *rate > 0)?;
    Some(Duration::from_millis(bytes.saturating_mul(1_000) / rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), None);
        rate.read(at(0), 0);
        assert_eq!((rate.per_second(), rate.sure()), (None, None));
        rate.read(at(2), 2_000);
        assert_eq!((rate.per_second(), rate.sure()), (Some(1_000), None));
        rate.read(at(10), 10_000);
        assert_eq!(rate.sure(), Some(1_000));
        rate.read(at(20), 110_000);
        assert_eq!(rate.per_second(), Some(10_000), "the first ten seconds are forgotten");
        rate.read(at(21), 5);
        assert_eq!(rate.per_second(), None, "it began anew");
    }

    #[test]
    fn what_is_left_takes_so_long() {
        assert_eq!(takes(10_000, Some(2_000)), Some(Duration::from_secs(5)));
        assert_eq!((takes(1, Some(0)), takes(1, None)), (None, None));
    }
}
