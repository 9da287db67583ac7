//! Attacks on a realm that runs, each beside a victim that only wants to be served.
//!
//! `siege` starts a realm for each attack and number of hostile networks, lets them take what they can,
//! and measures what is left for somebody of another network: how much of what it asks is served and how
//! late, against its own figures when it is alone with its part of the slots. Then all leave, and
//! everything must be given back. `soak` keeps one realm for an hour of attacks in turns, with honest
//! pauses between them, and looks whether memory and descriptors stay as they are.
//!
//! The attackers share the machine with the realm: their figures are those of this machine, and say so.
//! Nothing leaves loopback.

mod attacks;
mod echo;
mod field;
mod figures;
mod net;
mod options;
mod report;
mod soak;
mod tally;
mod victim;
mod worker;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use attacks::Attack;
use field::{Field, Serving, Visitor};
use figures::{Taken, Watch};
use options::Options;
use report::{During, Row};
use tally::Signal;
use victim::{Also, Wish};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// What the attack by sockets holds, and some.
const DESCRIPTORS: u64 = 12_000;
/// Until all hands of an attack do what they are to do.
const STANDING: Duration = Duration::from_secs(30);
/// How often the victim tries what else it wants.
const ALSO_EVERY: Duration = Duration::from_millis(700);

pub(crate) fn usage() -> String {
    let names: Vec<&str> = attacks::ALL.iter().map(|attack| attack.name).collect();
    format!("{}\nattacks: {}", options::USAGE, names.join(", "))
}

pub(crate) fn run(root: &Path, words: &[String]) -> Result<ExitCode, Error> {
    if words.iter().any(|word| word == "--help") {
        println!("{}", usage());
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::read(root, words)?;
    more_descriptors();
    let chosen = attacks::chosen(&options.attacks)?;
    let machine = report::machine(root, &options);
    println!("{machine}");
    let mut baselines = BTreeMap::new();
    let mut rows = Vec::new();
    for attack in chosen {
        for networks in &options.networks {
            let alone = match baselines.get(&(*networks, attack.wish)) {
                Some(known) => *known,
                None => baseline(&options, *networks, attack.wish)?,
            };
            baselines.insert((*networks, attack.wish), alone);
            let row = one(&options, attack, *networks, alone)?;
            print!("{}", report::table(std::slice::from_ref(&row), &options));
            println!("  {}", row.during.tally.reasons());
            rows.push(row);
        }
    }
    println!("\n{}", report::table(&rows, &options));
    let line = report::json(&rows, &options, &machine);
    println!("{line}");
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{line}\n"))?;
    }
    let falls = |row: &Row| row.is_promised() && !row.missed(&options).is_empty();
    let fallen = rows.iter().filter(|row| falls(row)).count();
    println!("{fallen} of {} fall", rows.len());
    Ok(if options.asserts && fallen > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub(crate) fn soak(root: &Path, words: &[String]) -> Result<ExitCode, Error> {
    if words.iter().any(|word| word == "--help") {
        println!("{}", usage());
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::read(root, words)?;
    more_descriptors();
    soak::run(root, &options)
}

/// The hidden chore of a worker's program, see [`echo`].
pub(crate) fn echo(slots: &str) -> Result<ExitCode, Error> {
    echo::run(slots.parse()?)?;
    Ok(ExitCode::SUCCESS)
}

/// All that the system lets this process have: thousands of sockets are attacks, too.
fn more_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let may = getrlimit(Resource::Nofile).current;
    if may.is_some_and(|may| may < DESCRIPTORS) {
        println!("only {may:?} descriptors may be open: fewer sockets than meant are held");
    }
}

/// The victim's p99 with nobody else there, and as many slots as would be its part.
fn baseline(options: &Options, networks: u32, wish: Wish) -> Result<Duration, Error> {
    let slots = (options.slots / (networks + 1)).max(1);
    let field = Field::start(options, networks, Serving::Slots(slots))?;
    let visitor = Visitor::open(field.victim())?;
    // What a process does once is no part of it.
    victim::ask(&visitor, Wish::Small, 20, Duration::from_secs(1));
    let served = victim::ask(&visitor, wish, options.requests, options.time / 2);
    println!(
        "alone with {slots} slots, {wish:?}: {}/{} served, p50 {} ms, p99 {} ms",
        served.served,
        served.asked,
        report::ms(served.p50),
        report::ms(served.p99)
    );
    Ok(served.p99)
}

/// One attack by so many networks, on a realm of its own.
fn one(options: &Options, attack: &Attack, networks: u32, alone: Duration) -> Result<Row, Error> {
    let mut field = Field::start(options, networks, Serving::BuiltIn)?;
    let visitor = Visitor::open(field.victim())?;
    victim::ask(&visitor, Wish::Small, 20, Duration::from_secs(1));
    // What the victim itself has open is over, too.
    std::thread::sleep(Duration::from_millis(500));
    let (before, idle) = (Taken::now(&field), figures::shares(&field));
    let mut during = besiege(options, attack, &field, &visitor);
    let died = (!field.lives()).then(|| field.log_tail());
    if died.is_none() && attack.keeps_workers {
        println!("  {} workers removed by the sysop", field.forget_workers()?);
    }
    let patience = if died.is_none() { options.patience } else { Duration::ZERO };
    let given_back = figures::wait_given_back(&field, &idle, patience);
    // Descriptors of connections go a moment after their places.
    std::thread::sleep(Duration::from_secs(1));
    let after = Taken::now(&field);
    // A look takes long where there are many files: what is left may be more than was seen.
    during.most = during.most.most(after);
    let log_lines = field.log_lines();
    Ok(Row {
        attack: attack.name,
        networks,
        alone,
        during,
        before,
        after,
        given_back,
        died,
        log_lines,
    })
}

/// While they attack, the victim asks; then it is over for them.
fn besiege(options: &Options, attack: &Attack, field: &Field, visitor: &Visitor) -> During {
    let (signal, watch, asking) = (Signal::default(), Watch::new(), AtomicBool::new(true));
    let began = Instant::now();
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch.run(field));
        let attacking = scope.spawn(|| (attack.run)(field, &signal));
        if !signal.wait_standing(STANDING) {
            println!("  not all hands stood after {} s", STANDING.as_secs());
        }
        let asking = &asking;
        let also = attack.also.map(|also| scope.spawn(move || tries(field, visitor, also, asking)));
        let served = victim::ask(visitor, attack.wish, options.requests, options.time);
        asking.store(false, Ordering::SeqCst);
        let also = also.and_then(|also| also.join().ok());
        let shares = figures::shares(field);
        signal.end();
        let lasted = began.elapsed();
        let tally = attacking.join().unwrap_or_default();
        watch.end();
        let _ = watching.join();
        During { served, also, tally, lasted, shares, most: watch.most() }
    })
}

/// What else the victim wants, again and again: how often it went well, and how often not.
fn tries(
    field: &Field,
    visitor: &Visitor,
    also: Also,
    asking: &AtomicBool,
) -> (&'static str, u64, BTreeMap<String, u64>) {
    let (mut good, mut bad) = (0, BTreeMap::new());
    let mut number = 0;
    while asking.load(Ordering::SeqCst) {
        match (also.once)(field, visitor, number) {
            Ok(()) => good += 1,
            Err(why) => *bad.entry(why).or_insert(0) += 1,
        }
        number += 1;
        std::thread::sleep(ALSO_EVERY);
    }
    (also.name, good, bad)
}
