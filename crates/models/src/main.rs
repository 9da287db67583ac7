//! `mtor-models --models DIR`: see the library's root for what it promises.

use std::io::{BufReader, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use mtor_models::protocol::{self, Line, Outbox};
use mtor_models::service::{Served, Service, complain};
use mtor_models::speak::Wish;

/// Serves embed, transcribe and speak from small local models over the exec protocol.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder with the model files, as `make models` fetches them.
    #[arg(long, value_name = "DIR")]
    models: PathBuf,
    /// What to serve of what the folder holds; may stand several times, embed if it does not.
    #[arg(long, value_name = "INTENT", default_value = "embed")]
    serve: Vec<Served>,
    /// Who speaks, if speak is served.
    #[arg(long, value_name = "WHO", default_value = "auto")]
    speaker: Wish,
    /// Threads; half of the machine's cores by default, at most 4.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

fn main() -> ExitCode {
    // A model thread that panicked would leave its requests without an end: the whole program
    // ends instead, and the worker starts it again. The message may hold content, its place not.
    std::panic::set_hook(Box::new(|panic| {
        complain(&format!("internal error at {:?}", panic.location().map(ToString::to_string)));
        std::process::exit(1);
    }));
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// More than so small a model can use; the others are left to chat.
const DEFAULT_THREADS_MAX: usize = 4;

fn default_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, DEFAULT_THREADS_MAX)
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let threads = arguments.threads.map_or_else(default_threads, usize::from);
    let outbox = Arc::new(Outbox::new(Box::new(stdout())));
    let Some(service) =
        Service::load(&arguments.models, &arguments.serve, arguments.speaker, threads, outbox)?
    else {
        anyhow::bail!("no model in {}; run `make models`", arguments.models.display());
    };
    service.offer();
    let (mut reader, mut line) = (BufReader::new(stdin()), Vec::new());
    loop {
        match protocol::read_line(&mut reader, &mut line)? {
            Line::End => break,
            Line::TooLong => complain(&format!(
                "a line is longer than {} bytes; it is skipped",
                protocol::LINE_BYTES_MAX
            )),
            Line::Whole if line.trim_ascii().is_empty() => {}
            Line::Whole => match protocol::parse(&line) {
                Ok(incoming) => service.handle(incoming),
                Err(error) => complain(&format!("{error}; the line is skipped")),
            },
        }
    }
    service.close();
    Ok(())
}
