//! `mtor-models --models DIR`: see the library's root for what it promises.

use std::io::{BufReader, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use mtor_models::chat::Capacity;
use mtor_models::protocol::{self, Line, Outbox};
use mtor_models::service::{Service, complain};

/// Serves chat and embed from small local models over the exec protocol.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder with the model files, as `make models` fetches them.
    #[arg(long, value_name = "DIR")]
    models: PathBuf,
    /// Threads for each model; half of the machine's cores by default, at most 4.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Chat requests served at once.
    #[arg(long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..=32))]
    chat_slots: u16,
    /// Tokens of prompt and answer that one chat slot holds; half of slots x tokens are kept in
    /// memory, 23 KB each.
    #[arg(long, value_name = "N", default_value_t = 8192,
        value_parser = clap::value_parser!(u16).range(256..=8192))]
    chat_context: u16,
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

/// llama.cpp's threads spin at a barrier hundreds of times a token. When one of them has lost its
/// core to another program, the others burn whole time slices waiting: on two busy cores two
/// threads fell from 80 tokens/s to below 1, one thread to 12. On idle ones the second adds
/// 45 %. So half of the cores, and no more than so small a model can use.
const DEFAULT_THREADS_MAX: usize = 4;

fn default_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, DEFAULT_THREADS_MAX)
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let capacity = Capacity {
        threads: arguments.threads.map_or_else(default_threads, usize::from),
        slots: arguments.chat_slots.into(),
        context: arguments.chat_context.into(),
    };
    let outbox = Arc::new(Outbox::new(Box::new(stdout())));
    let Some(service) = Service::load(&arguments.models, capacity, outbox)? else {
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
