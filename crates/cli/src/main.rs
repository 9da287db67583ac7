//! The one binary of MTOR: `mtor up`, `mtor worker`, `mtor submit` and what else there is to do.
//!
//! Invariants: exit code 0 is done, 1 failed, 2 usage, 78 bad configuration,
//! 130 interrupted; with `--json` standard
//! output is one JSON object a line; a secret stands in no argument of a process that this one
//! starts. Absences: no rule of the realm is decided here, and the environment is read in one
//! place only.

mod commands;
mod environment;
mod failure;
mod interrupts;
mod keyring;
mod models;
mod output;
mod printer;
mod table;
mod words;

/// A request makes and frees some dozens of small values over three threads; the system's allocator
/// took a seventh of its time (`bench/README.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    commands::main()
}
