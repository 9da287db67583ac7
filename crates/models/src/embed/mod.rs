//! `embed` on onnxruntime: all-MiniLM-L6-v2 with 8-bit weights.
//!
//! Texts are run one at a time, although a request may hold many: the model quantises its
//! activations by their range over the whole batch, so a text's vector would depend on its
//! neighbours (and on padding). One at a time, a text has one vector, which a re-execution
//! elsewhere can be compared with. Invariants: vectors have unit length; nothing is truncated, a
//! text that is too long is refused with numbers.

pub mod request;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use ort::environment::Environment;
use ort::session::Session;
use ort::value::Tensor;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::files::EmbedFiles;
use crate::protocol::{Assign, Key, Offer, Outbox, Refusal, Usage};
use crate::runtime;
use crate::slots::{Asked, Slots, Stopped};
use request::{DIMENSIONS, EmbedRequest};

pub const MODEL: &str = "all-minilm-l6-v2";
/// Requests that wait for a slot; beyond it they are refused with `retry`.
pub const WAITING_MAX: usize = 64;
/// Requests served at once, each on a session and a thread of its own.
pub const SLOTS: usize = 2;
/// Length of the model's position table, its two marker tokens included.
pub const CONTEXT: usize = 512;

pub struct Embed {
    slots: Slots<EmbedRequest>,
}

/// One slot: everything a thread needs to turn texts into vectors.
struct Worker {
    session: Session,
    tokenizer: Arc<Tokenizer>,
}

impl Embed {
    /// Loads the model and starts its threads, which end when the embedder is closed.
    pub fn load(
        environment: &Environment,
        files: &EmbedFiles,
        threads: usize,
        outbox: &Arc<Outbox>,
    ) -> anyhow::Result<(Self, Vec<JoinHandle<()>>)> {
        let tokenizer = Arc::new(tokenizer(&files.tokenizer)?);
        let slots = Slots::new(SLOTS, WAITING_MAX);
        let mut handles = Vec::new();
        for _ in 0..SLOTS {
            let mut worker = Worker {
                session: runtime::session(environment, &files.weights, threads / SLOTS)?,
                tokenizer: Arc::clone(&tokenizer),
            };
            // A model that cannot answer is never offered.
            worker.answer_one().context("the embedding model does not answer")?;
            handles.push(slots.start("embed", outbox, move |asked| worker.serve(asked))?);
        }
        Ok((Self { slots }, handles))
    }

    pub fn offer(&self) -> Offer {
        self.slots.offer("embed", MODEL, Some(CONTEXT))
    }

    pub fn revoke(&self, key: &Key) {
        self.slots.revoke(key);
    }

    pub fn close(&self) {
        self.slots.close();
    }

    pub fn assign(&self, assign: &Assign) -> Result<(), Refusal> {
        self.slots.assign(assign, request::parse(&assign.body()?)?)
    }
}

fn tokenizer(path: &Path) -> anyhow::Result<Tokenizer> {
    let mut tokenizer = Tokenizer::from_file(path)
        .map_err(|error| anyhow!("tokenizer did not load: {error}; run `make models`"))?;
    // The file asks for padding to 128 tokens and silent truncation there.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| anyhow!("tokenizer: {error}"))?;
    Ok(tokenizer)
}

impl Worker {
    fn answer_one(&mut self) -> anyhow::Result<()> {
        let ids = self.encode(0, "2+2").map_err(|refusal| anyhow!(refusal.message))?;
        self.vector(ids).map(drop)
    }

    fn serve(&mut self, asked: Asked<'_, EmbedRequest>) -> Result<(Usage, Value), Stopped> {
        let EmbedRequest { inputs, base64: packed, .. } = asked.request();
        // All texts are measured before the first is run: a refusal should cost nothing.
        let mut encoded = Vec::with_capacity(inputs.len());
        for (index, text) in inputs.iter().enumerate() {
            encoded.push(self.encode(index, text)?);
        }
        let (mut data, mut tokens) = (Vec::with_capacity(encoded.len()), 0_u64);
        for (index, ids) in encoded.into_iter().enumerate() {
            asked.look_up(|| format!("after {index} inputs; send fewer at once"))?;
            tokens += ids.len() as u64;
            let vector = self.vector(ids)?;
            let embedding = if *packed { base64(&vector) } else { json!(vector) };
            data.push(json!({"object": "embedding", "index": index, "embedding": embedding}));
        }
        let result = json!({
            "object": "list", "data": data, "model": MODEL,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        });
        let bytes = asked.bytes();
        Ok((Usage { units: bytes, input: bytes, output: 0 }, result))
    }

    fn encode(&self, index: usize, text: &str) -> Result<Vec<i64>, Refusal> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(|_quotes_the_text| {
            Refusal::bad_request(format!("input[{index}] could not be tokenised"))
        })?;
        let ids: Vec<i64> = encoding.get_ids().iter().map(|id| i64::from(*id)).collect();
        if ids.len() > CONTEXT {
            return Err(Refusal::context_overflow(format!(
                "input[{index}] has {} tokens, the model reads at most {CONTEXT}; split it",
                ids.len()
            )));
        }
        Ok(ids)
    }

    /// The unit-length mean of a text's token vectors.
    fn vector(&mut self, ids: Vec<i64>) -> anyhow::Result<Vec<f32>> {
        let shape = [1, ids.len()];
        let filled = |value: i64| Tensor::from_array((shape, vec![value; shape[1]]));
        let outputs = self.session.run(ort::inputs! {
            "attention_mask" => filled(1)?,
            "token_type_ids" => filled(0)?,
            "input_ids" => Tensor::from_array((shape, ids))?,
        })?;
        let (_, hidden) = outputs["last_hidden_state"].try_extract_tensor::<f32>()?;
        anyhow::ensure!(hidden.len() == shape[1] * DIMENSIONS, "unexpected output shape");
        let mut sum = vec![0.0_f64; DIMENSIONS];
        for token in hidden.chunks_exact(DIMENSIONS) {
            for (total, value) in sum.iter_mut().zip(token) {
                *total += f64::from(*value);
            }
        }
        // Dividing by the count would be undone by this.
        let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        anyhow::ensure!(norm.is_finite() && norm > 0.0, "the model gave no vector");
        Ok(sum.iter().map(|value| (value / norm) as f32).collect())
    }
}

fn base64(vector: &[f32]) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes).into()
}
