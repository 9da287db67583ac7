//! `chat` on llama.cpp: what is asked is checked and tokenised here, on the reading thread; what
//! is accepted waits in a bounded inbox for the engine, which owns the one context.
//!
//! Invariant: a job in the inbox fits: prompt plus its token limit never exceed one slot's
//! context, so the engine needs no case for a full cache. Absences: no prompt is kept after its
//! answer (no prefix cache), and nothing is truncated to fit.

pub mod answer;
pub mod assembler;
mod engine;
pub mod plan;
pub mod repeats;
pub mod request;
pub mod sampler;
pub mod template;

use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use crate::inbox::Inbox;
use crate::protocol::{Assign, Offer, Outbox, Refusal};
use answer::Head;
use request::ChatRequest;
use template::{Fragment, Template};

pub const MODEL: &str = "smollm2-135m-instruct";
/// Requests that wait for a slot; beyond it they are refused with `retry`.
pub const WAITING_MAX: usize = 64;
/// Answer tokens when the client names no limit, or what fits.
pub const DEFAULT_MAX_TOKENS: u64 = 512;

/// How much of the machine the engine may use.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    pub threads: usize,
    pub slots: usize,
    /// Tokens of one slot; at most what the model was trained for.
    pub context: usize,
}

/// Cache cells for all slots together. Half of slots × context: few requests fill their context,
/// and every cell costs 23 KB and is written at the start. Always enough for one full slot.
pub(crate) fn pool_cells(slots: usize, context: usize) -> usize {
    (slots * context).div_ceil(2).max(context)
}

/// An accepted request, ready for the engine.
pub(crate) struct Job {
    prompt: Vec<LlamaToken>,
    /// Answer tokens at most; 0 if the payer's limit does not even cover the prompt.
    output_max: u64,
    request: ChatRequest,
    head: Head,
    stream: bool,
    deadline: Option<Instant>,
}

impl Job {
    /// Cache cells it may come to need.
    fn cells(&self) -> usize {
        self.prompt.len().saturating_add(usize::try_from(self.output_max).unwrap_or(usize::MAX))
    }
}

pub struct Chat {
    model: &'static LlamaModel,
    template: Template,
    inbox: Arc<Inbox<Job>>,
    slots: usize,
    context: usize,
    /// Bytes of the longest token: no prompt can have fewer tokens than its bytes over this.
    token_bytes_max: usize,
}

impl Chat {
    /// Loads the model and starts its thread, which ends when the chat is closed.
    pub fn load(
        weights: &Path,
        capacity: Capacity,
        outbox: Arc<Outbox>,
    ) -> anyhow::Result<(Self, JoinHandle<()>)> {
        let mut backend = LlamaBackend::init().context("llama.cpp did not start")?;
        backend.void_logs();
        let model = LlamaModel::load_from_file(&backend, weights, &LlamaModelParams::default())
            .context("chat model did not load; run `make models` to fetch it again")?;
        // Both live as long as the process: the reading thread tokenises while the engine decodes.
        let (model, backend) = (&*Box::leak(Box::new(model)), &*Box::leak(Box::new(backend)));

        let vocab = model.vocab();
        let written = |token| vocab.token_to_piece(token, true, None);
        let is_control = |token: &LlamaToken| vocab.is_control(*token);
        let controls: Vec<String> = vocab
            .tokens()
            .filter(is_control)
            .filter_map(|token| String::from_utf8(written(token)).ok())
            .filter(|text| !text.is_empty())
            .collect();
        let token_bytes_max = vocab.tokens().map(|token| written(token).len()).max().unwrap_or(1);
        let source = model.chat_template(None).context("chat model carries no chat template")?;
        let template = Template::new(source.to_string()?, controls)?;

        let trained = usize::try_from(model.n_ctx_train())?;
        let capacity = Capacity { context: capacity.context.min(trained), ..capacity };
        let inbox = Arc::new(Inbox::new(WAITING_MAX));
        let engine = engine::Engine::new(model, backend, capacity, Arc::clone(&inbox), outbox)?;
        let thread = std::thread::Builder::new().name("chat".into()).spawn(|| engine.run())?;
        let Capacity { slots, context, .. } = capacity;
        Ok((Self { model, template, inbox, slots, context, token_bytes_max }, thread))
    }

    pub fn offer(&self) -> Offer {
        Offer { intent: "chat", model: MODEL, slots: self.slots, context: Some(self.context) }
    }

    pub fn revoke(&self, key: &crate::protocol::Key) {
        self.inbox.revoke(key);
    }

    pub fn close(&self) {
        self.inbox.close();
    }

    /// Checks and queues an assignment. An error is to be told as its `fail`.
    pub fn assign(&self, assign: &Assign) -> Result<(), Refusal> {
        let job = self.admit(assign)?;
        crate::service::queue(&self.inbox, assign.key(), job, self.slots)
    }

    fn admit(&self, assign: &Assign) -> Result<Job, Refusal> {
        let request = request::parse(&assign.body()?, random_seed())?;
        let prompt = self.tokenise(&request)?;
        let output_max = output_max(prompt.len(), self.context, request.max_tokens)?;
        let affordable = assign.limit.map(|limit| limit.saturating_sub(prompt.len() as u64));
        let paid = affordable.into_iter().chain(assign.output).fold(output_max, u64::min);
        Ok(Job {
            prompt,
            output_max: paid,
            head: Head {
                id: format!("chatcmpl-{}", assign.intent),
                created_s: unix_seconds(),
                model: MODEL,
                include_usage: request.include_usage,
            },
            request,
            stream: assign.stream,
            deadline: deadline(assign.deadline_ms),
        })
    }

    fn tokenise(&self, request: &ChatRequest) -> Result<Vec<LlamaToken>, Refusal> {
        // A true bound, so that megabytes are refused without tokenising them.
        let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
        let bytes_max = self.context.saturating_mul(self.token_bytes_max);
        if bytes > bytes_max {
            return Err(Refusal::context_overflow(format!(
                "messages have {bytes} bytes, more than the {bytes_max} that {} tokens can hold; \
                 shorten messages",
                self.context
            )));
        }
        let (vocab, mut prompt) = (self.model.vocab(), Vec::new());
        for fragment in self.template.fragments(&request.messages)? {
            let (text, control) = match &fragment {
                Fragment::Control(text) => (text, true),
                Fragment::Plain(text) => (text, false),
            };
            prompt.extend(vocab.tokenize(text.as_bytes(), false, control));
        }
        Ok(prompt)
    }
}

/// Answer tokens that fit, or why the request does not.
fn output_max(prompt: usize, context: usize, asked: Option<u64>) -> Result<u64, Refusal> {
    let left = context.saturating_sub(prompt) as u64;
    match asked {
        Some(asked) if asked > left => Err(Refusal::context_overflow(format!(
            "the prompt's {prompt} tokens and max_tokens {asked} exceed the context of {context} \
             tokens; shorten messages or lower max_tokens to {left}"
        ))),
        None if left == 0 => Err(Refusal::context_overflow(format!(
            "the prompt's {prompt} tokens fill the context of {context} tokens; shorten messages"
        ))),
        asked => Ok(asked.unwrap_or(DEFAULT_MAX_TOKENS).min(left)),
    }
}

pub(crate) fn deadline(remaining_ms: Option<u64>) -> Option<Instant> {
    remaining_ms.and_then(|left| Instant::now().checked_add(Duration::from_millis(left)))
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Not for secrets: std seeds its hasher from the system once a thread and counts on from there.
fn random_seed() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_numbers() {
        assert_eq!(output_max(100, 8_192, None), Ok(512));
        assert_eq!(output_max(8_000, 8_192, None), Ok(192));
        assert_eq!(output_max(8_000, 8_192, Some(192)), Ok(192));
        let refusal = output_max(8_000, 8_192, Some(193)).unwrap_err();
        for number in ["8000", "193", "8192", "192"] {
            assert!(refusal.message.contains(number), "{}", refusal.message);
        }
        assert!(output_max(8_192, 8_192, None).is_err());
        assert!(output_max(9_000, 8_192, Some(1)).is_err());
    }
}
