//! `mtor completions`: a script for the user's shell, made from the command line's own definition.

use clap::Args;
use clap_complete::Shell;

use super::Context;
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The shell that it is for
    shell: Shell,
}

pub(crate) fn run(
    arguments: &Arguments,
    context: &Context,
    mut line: clap::Command,
) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut line, "mtor", &mut script);
    let script = String::from_utf8_lossy(&script);
    let shell = arguments.shell.to_string();
    context.out.show(&serde_json::json!({"shell": shell, "script": script}), script.trim_end());
    Ok(())
}
