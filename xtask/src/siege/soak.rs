//! One realm for a long time: attacks in turns with honest pauses, and whether memory and descriptors
//! stay as they are.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::field::{Field, Serving, Visitor};
use super::figures::{descriptors, resident};
use super::options::Options;
use super::tally::{Signal, Tally};
use super::victim::{self, Wish};
use super::{Error, attacks, report};

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(3);
/// Hostile networks.
const NETWORKS: u32 = 10;
/// It is flat if the last quarter's median is at most so much above the second third's first, in parts.
const GROWS_PER_CENT: u64 = 10;
/// And what less than this many bytes, or descriptors, is no growth.
const GROWS_BYTES: u64 = 16 << 20;
const GROWS_FILES: u64 = 16;

/// At a time, so much memory and so many descriptors, while it was honest or hostile.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    resident: u64,
    descriptors: u64,
    hostile: bool,
}

/// Of one kind of samples: the slope an hour over the last two thirds, and the medians of the first and
/// the last quarter of them.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Trend {
    hourly: f64,
    first: u64,
    last: u64,
}

pub(super) fn run(root: &Path, options: &Options) -> Result<ExitCode, Error> {
    let chosen = attacks::chosen(&options.attacks)?;
    let field = Field::start(options, NETWORKS, Serving::BuiltIn)?;
    let visitor = Visitor::open(field.victim())?;
    let (over, hostile) = (AtomicBool::new(false), AtomicBool::new(false));
    let samples = Mutex::new(Vec::new());
    let began = Instant::now();
    let whole = Duration::from_secs(options.minutes * 60);
    std::thread::scope(|scope| -> Result<(), Error> {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let (resident, descriptors) = (resident(field.pid), descriptors(field.pid));
                let hostile = hostile.load(Ordering::SeqCst);
                let sample = Sample { at: began.elapsed(), resident, descriptors, hostile };
                samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
                std::thread::sleep(LOOK);
            }
        });
        let mut turns = chosen.iter().cycle();
        while began.elapsed() < whole
            && let Some(attack) = turns.next()
        {
            hostile.store(true, Ordering::SeqCst);
            let (served, tally) = turn(options, &field, &visitor, attack);
            hostile.store(false, Ordering::SeqCst);
            if attack.keeps_workers {
                field.forget_workers()?;
            }
            let honest = victim::ask(&visitor, Wish::Small, options.requests, options.time);
            println!(
                "{:>6.0} s {:10} {}/{} served, p99 {} ms; {} tries, {} taken; honest {}/{}, p99 {} ms; {} {} files",
                began.elapsed().as_secs_f64(),
                attack.name,
                served.served,
                served.asked,
                report::ms(served.p99),
                tally.tried(),
                tally.taken,
                honest.served,
                honest.asked,
                report::ms(honest.p99),
                report::mib(resident(field.pid)),
                descriptors(field.pid),
            );
        }
        over.store(true, Ordering::SeqCst);
        Ok(())
    })?;
    let samples = samples.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(judge(root, options, &samples))
}

fn turn(
    options: &Options,
    field: &Field,
    visitor: &Visitor,
    attack: &attacks::Attack,
) -> (victim::Served, Tally) {
    let signal = Signal::default();
    std::thread::scope(|scope| {
        let attacking = scope.spawn(|| (attack.run)(field, &signal));
        let served = victim::ask(visitor, attack.wish, options.requests, options.time);
        signal.end();
        (served, attacking.join().unwrap_or_default())
    })
}

fn judge(root: &Path, options: &Options, samples: &[Sample]) -> ExitCode {
    let mut flat = true;
    let mut trends = Vec::new();
    for hostile in [false, true] {
        let of: Vec<Sample> =
            samples.iter().filter(|one| one.hostile == hostile).copied().collect();
        let when = if hostile { "attacked" } else { "between" };
        for (what, slack, value) in [
            ("resident", GROWS_BYTES, (|one| one.resident) as fn(&Sample) -> u64),
            ("descriptors", GROWS_FILES, |one| one.descriptors),
        ] {
            let points: Vec<_> = of.iter().map(|one| (one.at, value(one))).collect();
            let trend = trend(&points);
            let is_flat = is_flat(trend, slack);
            flat &= is_flat;
            println!("{when} {what}: {trend:?} {}", if is_flat { "flat" } else { "GROWS" });
            trends.push(json!({
                "when": when, "what": what, "an_hour": trend.hourly, "first_quarter": trend.first,
                "last_quarter": trend.last, "flat": is_flat,
            }));
        }
    }
    let machine = report::machine(root, options);
    println!("{}", json!({"soak": machine, "minutes": options.minutes, "trends": trends}));
    if options.asserts && !flat { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn is_flat(trend: Trend, slack: u64) -> bool {
    let may = trend.first + (trend.first * GROWS_PER_CENT / 100).max(slack);
    trend.last <= may
}

fn trend(points: &[(Duration, u64)]) -> Trend {
    let later = &points[points.len() / 3..];
    let quarter = later.len().div_ceil(4);
    let median = |part: &[(Duration, u64)]| {
        let mut values: Vec<u64> = part.iter().map(|(_, value)| *value).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let (first, last) = (median(&later[..quarter]), median(&later[later.len() - quarter..]));
    Trend { hourly: slope(later) * 3_600.0, first, last }
}

/// Least squares, a second.
#[expect(clippy::cast_precision_loss, reason = "a slope for people")]
fn slope(points: &[(Duration, u64)]) -> f64 {
    let number = points.len() as f64;
    let mean = |of: &dyn Fn(&(Duration, u64)) -> f64| points.iter().map(of).sum::<f64>() / number;
    let (x, y) =
        (|one: &(Duration, u64)| one.0.as_secs_f64(), |one: &(Duration, u64)| one.1 as f64);
    let (mean_x, mean_y) = (mean(&x), mean(&y));
    let above: f64 = points.iter().map(|one| (x(one) - mean_x) * (y(one) - mean_y)).sum();
    let below: f64 = points.iter().map(|one| (x(one) - mean_x).powi(2)).sum();
    if below > 0.0 { above / below } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(value: fn(u64) -> u64) -> Vec<(Duration, u64)> {
        (0..1_200).map(|at| (Duration::from_secs(3 * at), value(at))).collect()
    }

    #[test]
    fn what_warms_up_is_flat_and_what_leaks_is_not() {
        let warm = trend(&points(|at| (at * (1 << 20)).min(200 << 20)));
        assert!(is_flat(warm, GROWS_BYTES), "{warm:?}");
        assert!(warm.hourly.abs() < 1.0, "{warm:?}");
        let leak = trend(&points(|at| (100 << 20) + at * 100_000));
        assert!(!is_flat(leak, GROWS_BYTES), "{leak:?}");
        assert!((leak.hourly - 120e6).abs() < 1e6, "{leak:?}");
        let nothing = trend(&[]);
        assert_eq!((nothing.first, nothing.last), (0, 0));
    }
}
