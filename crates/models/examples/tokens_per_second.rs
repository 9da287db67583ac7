//! Measures the program as a worker sees it: first-token time and tokens/s, alone and together.
//!
//! `cargo run --release -p mtor-models --example tokens_per_second -- MODELS_DIR [mtor-models options]`
//! It drives the binary beside it, which `cargo build --release -p mtor-models` makes.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use serde_json::{Value, json};

const OUTPUT_TOKENS: u64 = 200;

struct Measured {
    first_ms: u128,
    tokens_per_s: f64,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let models = arguments.next().context("give the models folder")?;
    let mut binary: PathBuf = std::env::current_exe()?;
    binary.pop();
    binary.pop();
    let start = Instant::now();
    let mut child = Command::new(binary.join("mtor-models"))
        .args(["--models", &models])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("no mtor-models binary; run `cargo build --release -p mtor-models`")?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
    stdout.read_line(&mut String::new())?;
    let mut report = vec![format!("load: {} ms", start.elapsed().as_millis())];
    let long = "The whale sang below the lighthouse. ".repeat(100);
    for (label, streams, text) in [
        ("1 stream, short prompt", 1, "Tell a story."),
        ("1 stream, short prompt again", 1, "Tell a story."),
        ("4 streams, short prompts", 4, "Tell a story."),
        ("1 stream, long prompt", 1, long.as_str()),
    ] {
        let start = Instant::now();
        for index in 0..streams {
            let event = assign(index, text);
            writeln!(stdin, "{event}")?;
        }
        let measured = measure(&mut stdout, streams, start)?;
        let (first, rate) = (measured.first_ms, measured.tokens_per_s);
        report.push(format!("{label}: last first token {first} ms, {rate:.1} tokens/s together"));
    }
    drop(stdin);
    child.wait()?;
    writeln!(std::io::stdout(), "{}", report.join("\n"))?;
    Ok(())
}

fn assign(index: usize, text: &str) -> Value {
    // A bias against the end token (2), so that every run has the same length.
    let body = json!({"messages": [{"role": "user", "content": text}], "seed": index,
        "temperature": 0.7, "max_tokens": OUTPUT_TOKENS, "logit_bias": {"2": -100}});
    json!({"specversion": "1.0", "id": "1", "source": "/bench", "type": "mtor.worker.assign.v1",
        "data": {"intent": index.to_string(), "attempt": 1, "name": "chat", "stream": true,
            "data": body}})
}

/// Reads until all streams ended; the rate is counted from the last first token on.
fn measure(lines: &mut impl BufRead, streams: usize, start: Instant) -> anyhow::Result<Measured> {
    let (mut spoke, mut ended, mut pieces) = (vec![false; streams], 0, 0_u32);
    let (mut first_ms, mut since) = (0, start);
    while ended < streams {
        let mut line = String::new();
        anyhow::ensure!(lines.read_line(&mut line)? > 0, "the program ended");
        let event: Value = serde_json::from_str(&line)?;
        let kind = event["type"].as_str().unwrap_or_default();
        anyhow::ensure!(kind != "mtor.worker.fail.v1", "failed: {}", event["data"]["message"]);
        if kind == "mtor.worker.complete.v1" {
            ended += 1;
            continue;
        }
        pieces += 1;
        let index: usize = event["data"]["intent"].as_str().unwrap_or_default().parse()?;
        if !spoke.get(index).copied().unwrap_or(true) {
            spoke[index] = true;
            (first_ms, since, pieces) = (start.elapsed().as_millis(), Instant::now(), 0);
        }
    }
    Ok(Measured { first_ms, tokens_per_s: f64::from(pieces) / since.elapsed().as_secs_f64() })
}
