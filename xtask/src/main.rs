//! Chores of the project: `cargo run -p xtask -- tidy`, and `mutants`, `siege` and `soak`.
//!
//! Knows the repository's layout. Of the product it knows what strangers know: `siege` and `soak` start
//! the binary and speak with it over its sockets.
#![allow(clippy::print_stdout, reason = "a command line tool answers on its standard output")]

mod mutants;
mod siege;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo run -p xtask -- tidy [ROOT]
       cargo run -p xtask -- mutants [--sample | NAME...]
       cargo run --release -p xtask -- siege [OPTIONS]
       cargo run --release -p xtask -- soak [--minutes N] [OPTIONS]

  tidy      checks the rules of this repository that no compiler checks (see CONTRIBUTING.md)
  mutants   plants bugs, one at a time, and sees whether the tests find each of them
  siege     attacks a realm beside a victim, and says what the victim still gets
  soak      attacks one realm for an hour, in turns, and says whether it grows";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => tidy(&here),
        ["tidy", root] => tidy(Path::new(root)),
        ["mutants", "--sample"] => told("mutants", mutants::run(&here, &[], true)),
        ["mutants", names @ ..] if names.iter().all(|name| !name.starts_with('-')) => {
            told("mutants", mutants::run(&here, &arguments[1..], false))
        }
        ["siege", ..] => told("siege", siege::run(&here, &arguments[1..])),
        ["soak", ..] => told("soak", siege::soak(&here, &arguments[1..])),
        // What `siege` lets a worker start.
        ["siege-echo", slots] => told("siege-echo", siege::echo(slots)),
        _ => {
            eprintln!("{USAGE}\n\n{}", siege::usage());
            ExitCode::from(2)
        }
    }
}

fn told<E: std::fmt::Display>(chore: &str, ended: Result<ExitCode, E>) -> ExitCode {
    ended.unwrap_or_else(|error| {
        eprintln!("{chore}: {error}");
        ExitCode::FAILURE
    })
}

fn tidy(root: &Path) -> ExitCode {
    match tidy::run(root) {
        Ok(report) => {
            print!("{report}");
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("tidy could not look: {error}");
            ExitCode::FAILURE
        }
    }
}
