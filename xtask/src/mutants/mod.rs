//! `xtask mutants`: plants one bug after the other and sees whether the tests find it.
//!
//! All bugs are in one build, made once under `--cfg mtor_mutants`; which of them a process has, its
//! environment says. What the core's bugs need are test programs, which stand beside those of the
//! release under names of their own; the black box needs the product's binary, which is built into a
//! folder of its own so that none with bugs in it ever stands where a release does.

mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use table::{Finder, MUTANTS, Mutant};

type Error = Box<dyn std::error::Error>;

/// A test that takes longer has found something, too: what it waits for never comes.
const PATIENCE: Duration = Duration::from_secs(600);
const SEEDS: &str = "200";
/// Without any bug so many seeds are played, to see that it is the bug that is found.
const CONTROL_SEEDS: &str = "10";

/// What became of one mutant.
struct Verdict {
    found: bool,
    /// By what, in one line.
    by: String,
    took: Duration,
}

/// The test programs of the build, by the name of their target.
type Programs = BTreeMap<String, PathBuf>;

/// `names` empty: all. `sample`: those that CI runs.
pub fn run(root: &Path, names: &[String], sample: bool) -> Result<ExitCode, Error> {
    if let Some(unknown) = names.iter().find(|name| MUTANTS.iter().all(|one| one.name != **name)) {
        return Err(
            format!("no mutant `{unknown}`; they stand in xtask/src/mutants/table.rs").into()
        );
    }
    let chosen = |mutant: &&Mutant| match sample {
        true => mutant.sample,
        false => names.is_empty() || names.iter().any(|name| name == mutant.name),
    };
    let chosen: Vec<&Mutant> = MUTANTS.iter().filter(chosen).collect();
    let began = Instant::now();
    let mut programs = Programs::new();
    for folder in Build::ALL {
        if chosen.iter().any(|mutant| Build::of(mutant.finder) == folder) {
            programs.extend(folder.make(root)?);
        }
    }
    println!("built in {} s", began.elapsed().as_secs());
    control(root, &programs, &chosen)?;
    let mut survived = Vec::new();
    for mutant in &chosen {
        let verdict = judge(root, &programs, mutant.finder, Some(mutant.name), SEEDS)?;
        let took = verdict.took.as_secs_f64();
        let word = if verdict.found { "found" } else { "SURVIVED" };
        println!("{:32} {word:8} {took:6.1} s  {}", mutant.name, verdict.by);
        if !verdict.found {
            survived.push(mutant.name);
        }
    }
    // For the row of stages: what was found counts as passed.
    println!("{} passed, {} failed", chosen.len().saturating_sub(survived.len()), survived.len());
    Ok(if survived.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A build that mutants need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    Core,
    Server,
    BlackBox,
}

impl Build {
    const ALL: [Self; 3] = [Self::Core, Self::Server, Self::BlackBox];

    fn of(finder: Finder) -> Self {
        match finder {
            Finder::Seeds | Finder::Core(_) => Self::Core,
            Finder::Server(_) => Self::Server,
            Finder::BlackBox(..) => Self::BlackBox,
        }
    }

    fn make(self, root: &Path) -> Result<Programs, Error> {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(root).stderr(Stdio::inherit());
        cargo.env("RUSTC_WORKSPACE_WRAPPER", root.join("scripts/mutants-rustc.sh"));
        cargo.args(["test", "--no-run", "--release", "--locked", "--quiet"]);
        cargo.arg("--message-format=json");
        match self {
            Self::Core => cargo.args(["-p", "mtor-core", "-p", "mtor-sim", "--lib", "--tests"]),
            Self::Server => cargo.args(["-p", "mtor-server", "--lib"]),
            Self::BlackBox => {
                let target = root.join("target").join("mutants");
                cargo.args(["-p", "mtor", "--tests"]).env("CARGO_TARGET_DIR", target)
            }
        };
        let out = cargo.output()?;
        if !out.status.success() {
            return Err("the mutants cannot be built".into());
        }
        let lines = String::from_utf8(out.stdout)?;
        let programs = lines.lines().filter_map(program);
        Ok(programs.collect())
    }
}

/// The target and the path of a test program, from a line of cargo's messages.
fn program(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = message.get("executable")?.as_str()?;
    let test = message.get("profile")?.get("test")?.as_bool()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    test.then(|| (name.to_owned(), PathBuf::from(path)))
}

/// Every finder finds nothing where nothing is planted.
fn control(root: &Path, programs: &Programs, chosen: &[&Mutant]) -> Result<(), Error> {
    let mut done: Vec<Finder> = Vec::new();
    for finder in chosen.iter().map(|mutant| mutant.finder) {
        if done.contains(&finder) {
            continue;
        }
        done.push(finder);
        let verdict = judge(root, programs, finder, None, CONTROL_SEEDS)?;
        if verdict.found {
            return Err(format!("{finder:?} fails without any bug: {}", verdict.by).into());
        }
    }
    Ok(())
}

fn judge(
    root: &Path,
    programs: &Programs,
    finder: Finder,
    planted: Option<&str>,
    seeds: &str,
) -> Result<Verdict, Error> {
    let (program, filter) = match finder {
        Finder::Seeds => ("planted", ""),
        Finder::Core(filter) => ("mtor_core", filter),
        Finder::Server(filter) => ("mtor_server", filter),
        Finder::BlackBox(file, filter) => (file, filter),
    };
    let path = programs.get(program).ok_or_else(|| format!("no test program `{program}`"))?;
    let mut command = Command::new(path);
    command.current_dir(root).arg(filter).env("MTOR_SEEDS", seeds).env("RUST_BACKTRACE", "0");
    match planted {
        Some(name) => command.env("MTOR_MUTANT", name),
        None => command.env_remove("MTOR_MUTANT"),
    };
    let log = root.join("target").join(format!("mutant-{}.log", planted.unwrap_or("none")));
    let file = std::fs::File::create(&log)?;
    let began = Instant::now();
    let mut child = command.stdout(file.try_clone()?).stderr(file).spawn()?;
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if began.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let took = began.elapsed();
    let output = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let by = match ended {
        Some(status) if status.success() => {
            if output.contains("running 0 tests") {
                return Err(format!("{finder:?} runs no test").into());
            }
            return Ok(Verdict { found: false, by: String::new(), took });
        }
        Some(_) => reason(&output),
        None => "a test that does not end".to_owned(),
    };
    Ok(Verdict { found: true, by, took })
}

/// What a test program says of its first failure: a seed's violation, or the test's name.
fn reason(output: &str) -> String {
    let lines = || output.lines().map(str::trim);
    let seed = lines().find(|line| line.starts_with("seed "));
    let failed = lines().find_map(|line| line.strip_suffix(" ... FAILED"));
    let found = seed.or(failed).or_else(|| lines().next_back()).unwrap_or_default();
    found.chars().take(140).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_named() {
        let seed =
            "running 1 test\nthread 'x' panicked at y:\nseed 7 (whole), step 9: lost\nreplay";
        assert_eq!(reason(seed), "seed 7 (whole), step 9: lost");
        let test = "test a::b ... ok\ntest a::c ... FAILED\n\nfailures:";
        assert_eq!(reason(test), "test a::c");
    }

    #[test]
    fn only_test_programs_are_run() {
        let of = |test: bool, path: &str| {
            let line = serde_json::json!({
                "executable": path, "profile": { "test": test }, "target": { "name": "seeds" },
            });
            program(&line.to_string())
        };
        assert_eq!(of(true, "/x/seeds-1"), Some(("seeds".to_owned(), "/x/seeds-1".into())));
        assert_eq!(of(false, "/x/mtor"), None);
        assert_eq!(program("{}"), None);
    }
}
