//! `mtor manifest`: an intent's manifest, before a realm reads it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use mtor_server::manifests::{ManifestError, check_file, check_text};
use mtor_types::Code;
use mtor_types::manifest::Manifest;
use serde_json::json;

use super::{Context, input};
use crate::failure::Failure;
use crate::words::per;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// See whether a realm can use manifest files, as its start would
    Check {
        /// A manifest; `-` is standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let Command::Check { files } = arguments.command;
    for file in files {
        let manifest = checked(&file)?;
        let (name, price) = (&manifest.name, manifest.price);
        let unit = &manifest.meter.unit;
        let words = per(price.amount, price.per, unit);
        let place = file.display().to_string();
        context.out.show(
            &json!({"event": "manifest", "status": "good", "file": place, "name": name,
                "version": manifest.version, "price": price, "unit": unit}),
            format_args!("{place} is good: {name}, {words}"),
        );
    }
    Ok(())
}

fn checked(file: &Path) -> Result<Manifest, Failure> {
    let found = if file == Path::new(input::STDIN) {
        check_text(Path::new("standard input"), &input::text(input::STDIN, "FILE")?)
    } else {
        check_file(file)
    };
    found.map_err(|error| {
        Failure::configuration(Failure::caused(&error).message())
            .with_code(Code::BadConfiguration.text())
            .with_remedy(ManifestError::REMEDY)
    })
}
