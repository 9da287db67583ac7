//! Chores of the project: `cargo run -p xtask -- tidy`, `cargo run -p xtask -- mutants`.
//!
//! Knows the repository's layout and nothing of the product: no chore may need a running realm.
#![allow(clippy::print_stdout, reason = "a command line tool answers on its standard output")]

mod mutants;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo run -p xtask -- tidy [ROOT]
       cargo run -p xtask -- mutants [--sample | NAME...]

  tidy      checks the rules of this repository that no compiler checks (see CONTRIBUTING.md)
  mutants   plants bugs, one at a time, and sees whether the tests find each of them";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => tidy(&here),
        ["tidy", root] => tidy(Path::new(root)),
        ["mutants", "--sample"] => told(mutants::run(&here, &[], true)),
        ["mutants", names @ ..] if names.iter().all(|name| !name.starts_with('-')) => {
            told(mutants::run(&here, &arguments[1..], false))
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn told(ended: Result<ExitCode, Box<dyn std::error::Error>>) -> ExitCode {
    ended.unwrap_or_else(|error| {
        eprintln!("mutants: {error}");
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
