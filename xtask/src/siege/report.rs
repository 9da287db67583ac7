//! Rows of figures: as a table for people, as one line of JSON for programs, and what is missed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::figures::Taken;
use super::options::Options;
use super::tally::Tally;
use super::victim::Served;

/// What is promised to the victim.
const SERVED_PER_CENT: f64 = 99.0;
const SLOWER: u32 = 3;
const LATER: Duration = Duration::from_millis(250);
/// Beyond so many hostile networks nothing is promised; figures are reported all the same.
const PROMISED_NETWORKS: u32 = 10;

/// What was seen while they attacked.
pub(super) struct During {
    pub served: Served,
    pub tally: Tally,
    pub lasted: Duration,
    /// What else the victim wanted: its name, how often it went well, and how often not, by reason.
    pub also: Option<(&'static str, u64, BTreeMap<String, u64>)>,
    pub most: Taken,
    /// Shares at their end: held, and all there is.
    pub shares: BTreeMap<String, (u64, u64)>,
}

/// One attack by so many networks.
pub(super) struct Row {
    pub attack: &'static str,
    pub networks: u32,
    /// The victim's p99 alone, with its part of the slots.
    pub alone: Duration,
    pub during: During,
    pub before: Taken,
    pub after: Taken,
    /// After how long all was given back, or what was not.
    pub given_back: Result<Duration, BTreeMap<String, u64>>,
    pub died: Option<String>,
    pub log_lines: usize,
}

impl Row {
    pub(super) fn bound(&self) -> Duration {
        (self.alone * SLOWER).max(self.alone + LATER)
    }

    /// What of the promise was not kept.
    pub(super) fn missed(&self, options: &Options) -> Vec<String> {
        let mut missed = Vec::new();
        let mut want = |good: bool, what: String| {
            if !good {
                missed.push(what);
            }
        };
        let served = &self.during.served;
        if let Some(why) = &self.died {
            want(false, format!("the realm ended: {why}"));
        }
        want(served.asked >= options.requests, format!("{} requests", served.asked));
        let per_cent = served.per_cent();
        want(per_cent >= SERVED_PER_CENT, format!("served {per_cent:.1} %: {}", served.reasons()));
        let (p99, bound) = (ms(served.p99), ms(self.bound()));
        want(served.p99 <= self.bound(), format!("p99 {p99} ms, bound {bound} ms"));
        if let Some((name, good, bad)) = &self.during.also {
            let times = bad.values().sum::<u64>();
            let reasons: Vec<_> =
                bad.iter().map(|(why, times)| format!("{why} x{times}")).collect();
            let why = format!("{name}: {good} of {}: {}", good + times, reasons.join(", "));
            want(*good > 0 && times * 100 <= good + times, why);
        }
        let (resident, disk) = (self.during.most.resident, self.during.most.disk);
        want(resident <= options.memory, format!("{} of memory", mib(resident)));
        want(disk <= options.disk, format!("{} of disk", mib(disk)));
        if let Err(kept) = &self.given_back {
            want(false, format!("not given back: {kept:?}"));
        }
        missed
    }

    pub(super) fn is_promised(&self) -> bool {
        self.networks <= PROMISED_NETWORKS
    }

    fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let tried = self.during.tally.tried() as f64;
        tried / self.during.lasted.as_secs_f64().max(0.001)
    }

    fn cells(&self, options: &Options) -> Vec<String> {
        let served = &self.during.served;
        let given_back = match &self.given_back {
            Ok(after) => format!("{:.1} s", after.as_secs_f64()),
            Err(_) => "no".to_owned(),
        };
        let missed = self.missed(options);
        let verdict = match (missed.is_empty(), self.is_promised()) {
            (true, _) => "holds".to_owned(),
            (false, true) => format!("FALLS: {}", missed.join("; ")),
            (false, false) => format!("(falls: {})", missed.join("; ")),
        };
        vec![
            self.attack.to_owned(),
            self.networks.to_string(),
            format!("{}/{}", served.served, served.asked),
            format!("{}/{}/{}", ms(served.p50), ms(served.p99), ms(served.slowest)),
            format!("{}/{}", ms(self.alone), ms(self.bound())),
            format!("{:.0}", self.rate()),
            format!("{}/{}", self.during.tally.taken, self.during.tally.tried()),
            format!(
                "{}>{}>{}",
                mib(self.before.resident),
                mib(self.during.most.resident),
                mib(self.after.resident)
            ),
            mib(self.during.most.disk),
            format!("{}>{}", self.during.most.descriptors, self.after.descriptors),
            given_back,
            verdict,
        ]
    }

    fn json(&self, options: &Options) -> Value {
        let served = &self.during.served;
        let taken = |taken: Taken| json!({"resident": taken.resident, "descriptors": taken.descriptors, "disk": taken.disk});
        let also = self.during.also.as_ref();
        let also = also.map(|(what, good, bad)| json!({"what": what, "good": good, "bad": bad}));
        let shares = self.during.shares.iter();
        let shares: BTreeMap<_, _> =
            shares.map(|(what, (held, all))| (what, json!({"held": held, "of": all}))).collect();
        json!({
            "attack": self.attack,
            "networks": self.networks,
            "victim": {
                "asked": served.asked, "served": served.served, "refused": served.refused,
                "p50_ms": millis(served.p50), "p99_ms": millis(served.p99),
                "slowest_ms": millis(served.slowest),
                "p99_alone_ms": millis(self.alone), "p99_bound_ms": millis(self.bound()),
            },
            "also": also,
            "attacker": {
                "tried": self.during.tally.tried(), "taken": self.during.tally.taken,
                "refused": self.during.tally.refused, "bytes": self.during.tally.bytes,
                "seconds": self.during.lasted.as_secs_f64(), "a_second": self.rate(),
            },
            "before": taken(self.before), "most": taken(self.during.most), "after": taken(self.after),
            "shares": shares,
            "given_back_s": self.given_back.as_ref().ok().map(Duration::as_secs_f64),
            "kept": self.given_back.as_ref().err(),
            "log_lines": self.log_lines,
            "missed": self.missed(options),
        })
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

pub(super) fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1_000.0;
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

pub(super) fn mib(bytes: u64) -> String {
    format!("{}M", bytes >> 20)
}

const HEADS: [&str; 12] = [
    "attack",
    "networks",
    "served",
    "p50/p99/max ms",
    "alone/bound",
    "tries/s",
    "taken",
    "memory",
    "disk",
    "files",
    "back after",
    "",
];

/// All rows, in columns.
pub(super) fn table(rows: &[Row], options: &Options) -> String {
    let heads = HEADS.map(str::to_owned).to_vec();
    let lines: Vec<_> =
        std::iter::once(heads).chain(rows.iter().map(|row| row.cells(options))).collect();
    let last = HEADS.len() - 1;
    let width =
        |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..last).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(&line[last]);
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

pub(super) fn json(rows: &[Row], options: &Options, machine: &Value) -> Value {
    let rows: Vec<_> = rows.iter().map(|row| row.json(options)).collect();
    json!({
        "siege": machine,
        "memory": options.memory, "disk": options.disk, "slots": options.slots,
        "seconds": options.time.as_secs(), "through_proxy": options.proxied,
        "rows": rows,
    })
}

/// Where and of what the figures are; what cannot be found out is left empty.
pub(super) fn machine(root: &Path, options: &Options) -> Value {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    json!({
        "cpu": model.unwrap_or_default().trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": said(root, "uname", &["-sr"]),
        "filesystem": said(&options.folder, "stat", &["-f", "-c", "%T", "."]),
        "mtor": said(root, &options.binary.to_string_lossy(), &["--version"]),
        "commit": said(root, "git", &["rev-parse", "--short", "HEAD"]),
        "date": said(root, "date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        "load_before": load.split(' ').next().unwrap_or_default(),
        "descriptors": limit,
    })
}

fn said(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
