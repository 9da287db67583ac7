//! Chores of the project: `cargo run -p xtask -- tidy`.
//!
//! Knows the repository's layout and nothing of the product: no chore may need a running realm.
#![allow(clippy::print_stdout, reason = "a command line tool answers on its standard output")]

mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo run -p xtask -- tidy [ROOT]

  tidy   checks the rules of this repository that no compiler checks (see CONTRIBUTING.md)";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (command, root, rest) = (arguments.next(), arguments.next(), arguments.next());
    match (command.as_deref(), rest) {
        (Some("tidy"), None) => {
            tidy(&root.map_or_else(
                || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".."),
                PathBuf::from,
            ))
        }
        (Some(_) | None, Some(_) | None) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn tidy(root: &std::path::Path) -> ExitCode {
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
