//! Starts whose wall clock was far after the last record.
//!
//! The realm had rested, or that clock was wrong; nobody can tell which. What it wrote into the log is
//! there, and every later start would go on from it for years. So each such leap is kept in a file: a later
//! start whose clock is far behind the log, but not behind what the log held before a leap, finds that
//! leap to have been wrong, and time goes back. A clock that is behind that, too, is itself wrong.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mtor_types::Time;
use serde::{Deserialize, Serialize};

use super::clock::{Clock, wall};

pub const FILE: &str = "clock.json";
/// Less is over within a day, by itself.
const FAR_MS: u64 = MS_A_DAY;
const MS_A_DAY: u64 = 24 * 60 * 60 * 1_000;
/// 2026-01-01: no clock before is right.
const RELEASED: Time = Time(1_767_225_600_000);
/// The oldest is forgotten.
const JUMPS_MAX: usize = 16;

/// From a record to the start after it, by its wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Jump {
    from: Time,
    to: Time,
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Usual,
    /// Nothing was recorded for so long, by the wall clock.
    Rested(u64),
    /// The log is so far ahead of the wall clock: an earlier start was wrong.
    Wrong(u64),
    /// The same, and nothing tells that it was not right.
    Ahead(u64),
}

/// The clock of a start.
pub fn start(data: &Path, recorded: Time) -> io::Result<Clock> {
    let is_wrong = finds_wrong(data, recorded, wall())?;
    Ok(if is_wrong { Clock::start_back() } else { Clock::start(recorded) })
}

/// Whether that record is of a clock that was ahead. What is to be known at a later start is synced
/// before anything is recorded at this one.
pub fn finds_wrong(data: &Path, recorded: Time, wall: Time) -> io::Result<bool> {
    let path = data.join(FILE);
    let known = read(&path)?;
    let mut jumps = known.clone().unwrap_or_else(|| before(recorded));
    let found = decide(&mut jumps, recorded, wall);
    tell(&found);
    if known.as_ref() != Some(&jumps) {
        write(data, &path, &jumps)?;
    }
    Ok(matches!(found, Found::Wrong(_)))
}

/// Of a realm of an earlier release, which kept no leaps: all may have been one.
fn before(recorded: Time) -> Vec<Jump> {
    let there = recorded != Time::default();
    there.then_some(Jump { from: RELEASED, to: recorded }).into_iter().collect()
}

fn decide(jumps: &mut Vec<Jump>, recorded: Time, wall: Time) -> Found {
    // One after the record never came into it, or was found to be wrong.
    jumps.retain(|jump| jump.to <= recorded);
    let ahead_ms = recorded.since_ms(wall);
    if ahead_ms >= FAR_MS {
        let wrong = jumps.iter().any(|jump| (jump.from..jump.to).contains(&wall));
        return if wrong { Found::Wrong(ahead_ms) } else { Found::Ahead(ahead_ms) };
    }
    let rested_ms = wall.since_ms(recorded);
    if rested_ms < FAR_MS {
        return Found::Usual;
    }
    if jumps.len() >= JUMPS_MAX {
        jumps.remove(0);
    }
    jumps.push(Jump { from: recorded.max(RELEASED), to: wall });
    if recorded == Time::default() { Found::Usual } else { Found::Rested(rested_ms) }
}

fn tell(found: &Found) {
    match found {
        Found::Usual => {}
        Found::Rested(ms) => tracing::warn!(
            days = ms / MS_A_DAY,
            "nothing was recorded here for so many days, by this machine's clock; if it is wrong, set \
             it and start the realm anew"
        ),
        Found::Wrong(ms) => tracing::warn!(
            days = ms / MS_A_DAY,
            "an earlier start had a clock that was so many days ahead; the realm's time goes back to \
             this machine's, and as much is left of all that is due"
        ),
        Found::Ahead(ms) => tracing::warn!(
            days = ms / MS_A_DAY,
            "this machine's clock is so many days behind what was recorded here; the realm goes on \
             from the record: set the clock and start the realm anew"
        ),
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<Jump>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Written aside, synced, renamed, and the folder synced.
fn write(data: &Path, path: &Path, jumps: &[Jump]) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(&serde_json::to_vec(jumps)?)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(data)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Time = Time(RELEASED.0 + 300 * MS_A_DAY);
    const FUTURE: Time = Time(RELEASED.0 + 4_000 * MS_A_DAY);

    fn after(at: Time, days: u64) -> Time {
        at.after_ms(days * MS_A_DAY)
    }

    #[test]
    fn one_start_with_a_clock_that_is_ahead_is_found_to_be_wrong() {
        let mut jumps = Vec::new();
        assert_eq!(decide(&mut jumps, THEN, FUTURE), Found::Rested(3_700 * MS_A_DAY));
        // Another such start, and one by a clock that is wrong the other way.
        assert_eq!(decide(&mut jumps, FUTURE, after(FUTURE, 2)), Found::Rested(2 * MS_A_DAY));
        let recorded = after(FUTURE, 2);
        let found = decide(&mut jumps, recorded, Time(0));
        assert!(matches!(found, Found::Ahead(_)), "{found:?}");
        let now = after(THEN, 3);
        assert_eq!(decide(&mut jumps, recorded, now), Found::Wrong(recorded.since_ms(now)));
        // A start that broke off before it recorded anything finds the same again.
        assert_eq!(decide(&mut jumps, recorded, now), Found::Wrong(recorded.since_ms(now)));
        assert_eq!(decide(&mut jumps, now, after(now, 0)), Found::Usual);
        assert_eq!(jumps, [], "they are over");
    }

    #[test]
    fn the_very_first_start_may_be_wrong_too_and_a_rest_is_none() {
        let mut jumps = Vec::new();
        assert_eq!(decide(&mut jumps, Time(0), FUTURE), Found::Usual);
        assert!(matches!(decide(&mut jumps.clone(), FUTURE, THEN), Found::Wrong(_)));
        let found = decide(&mut jumps, FUTURE, Time(RELEASED.0 - 1));
        assert!(matches!(found, Found::Ahead(_)), "{found:?}");
        // An hour is no leap, either way.
        for wall in [FUTURE.after_ms(3_600_000), Time(FUTURE.0 - 3_600_000)] {
            assert_eq!(decide(&mut jumps, FUTURE, wall), Found::Usual);
        }
        // What came in steady steps is not undone by a clock that is behind.
        let mut first = vec![Jump { from: RELEASED, to: THEN }];
        assert!(matches!(decide(&mut first, after(THEN, 90), after(THEN, 60)), Found::Ahead(_)));
        // Of an earlier release nothing is known.
        assert!(matches!(decide(&mut before(FUTURE), FUTURE, THEN), Found::Wrong(_)));
        assert_eq!(before(Time(0)), []);
    }

    #[test]
    fn they_are_bounded() {
        let mut jumps = Vec::new();
        for day in 0..100 {
            decide(&mut jumps, after(THEN, 2 * day), after(THEN, 2 * day + 2));
        }
        assert_eq!(jumps.len(), JUMPS_MAX);
    }
}
