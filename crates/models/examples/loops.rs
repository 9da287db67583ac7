//! Counts the answers that go round in circles: the measure for the sampling defaults.
//!
//! `cargo run --release -p mtor-models --example loops -- MODELS_DIR [FIELDS]`, where FIELDS is a
//! JSON object laid over each body, as `{"top_p":1,"frequency_penalty":0}`. It drives the binary
//! beside it, which `cargo build --release -p mtor-models` makes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::{Value, json};

const PROMPTS: [&str; 12] = [
    "Write a haiku about a ring of machines",
    "Write a haiku about autumn rain",
    "What is a Merkle tree good for?",
    "Explain fair queueing with a bakery",
    "Tell me in a few sentences what a Merkle tree is.",
    "Write a short poem about the sea",
    "Give me five tips for better sleep",
    "Who was Ada Lovelace?",
    "How do I boil an egg?",
    "Write a Python function that reverses a list",
    "Tell a story about a lighthouse keeper",
    "What is the difference between TCP and UDP?",
];
const SEEDS: [u64; 2] = [1, 2];
const OUTPUT_TOKENS: u64 = 512;
/// An answer loops if it says some four words in a row as often as this.
const TIMES_MIN: usize = 4;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let models = arguments.next().context("give the models folder")?;
    let fields: Value = serde_json::from_str(&arguments.next().unwrap_or("{}".into()))?;
    let mut binary = std::env::current_exe()?;
    binary.pop();
    binary.pop();
    let mut child = Command::new(binary.join("mtor-models"))
        .args(["--models", &models, "--chat-slots", "6"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("no mtor-models binary; run `cargo build --release -p mtor-models`")?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
    let asked = PROMPTS.iter().flat_map(|prompt| SEEDS.map(|seed| (*prompt, seed)));
    for (index, (prompt, seed)) in asked.clone().enumerate() {
        writeln!(stdin, "{}", assign(index, prompt, seed, &fields))?;
    }
    let (mut loops, mut limits, mut either, mut ended) = (0, 0, 0, 0);
    for line in stdout.lines() {
        let event: Value = serde_json::from_str(&line?)?;
        let kind = event["type"].as_str().unwrap_or_default();
        anyhow::ensure!(kind != "mtor.worker.fail.v1", "failed: {}", event["data"]["message"]);
        if kind != "mtor.worker.complete.v1" {
            continue;
        }
        let choice = &event["data"]["result"]["choices"][0];
        let circles = most_often(choice["message"]["content"].as_str().unwrap_or_default());
        let (circles, limit) = (circles >= TIMES_MIN, choice["finish_reason"] == "length");
        loops += usize::from(circles);
        limits += usize::from(limit);
        either += usize::from(circles || limit);
        ended += 1;
        if ended == asked.clone().count() {
            break;
        }
    }
    drop(stdin);
    child.wait()?;
    let report = format!("loop: {loops}, limit: {limits}, either: {either}, of {ended}");
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

fn assign(index: usize, prompt: &str, seed: u64, fields: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": prompt}], "seed": seed,
        "max_tokens": OUTPUT_TOKENS});
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    json!({"specversion": "1.0", "id": "1", "source": "/bench", "type": "mtor.worker.assign.v1",
        "data": {"intent": index.to_string(), "attempt": 1, "name": "chat", "stream": false,
            "data": body}})
}

/// How often its commonest four words in a row come.
fn most_often(text: &str) -> usize {
    let text = text.to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut counts = HashMap::new();
    for four in words.windows(4) {
        *counts.entry(four).or_insert(0) += 1;
    }
    counts.into_values().max().unwrap_or(0)
}
