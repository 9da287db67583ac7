//! Continuous batching: one llama.cpp context, one thread, one decode a step for everybody.
//!
//! A step's batch holds the next token of each answering sequence and a bounded share of the
//! prompts still unread (see `plan`), so that a request is never waiting for another to end, only
//! for a slot. A slot is a llama.cpp sequence id; its cache is cleared when its request ends, for
//! whatever reason.
//!
//! The cache is one pool of cells for all slots (`kv_unified`): a step is then one pass over the
//! weights whatever mix of sequences it holds, and the pool may be smaller than slots × context.
//! A request starts only when all cells it could ever need are free, so the pool never runs out
//! in the middle of an answer. Cost: with other requests in the batch sums are rounded in another
//! order, so a seed repeats its text exactly only under equal company; alone it always does.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use serde_json::Value;

use super::answer::Finish;
use super::assembler::Assembler;
use super::sampler::Sampler;
use super::{Capacity, Job, plan};
use crate::inbox::Inbox;
use crate::protocol::{Key, Outbox, Refusal, Usage};

pub(super) struct Engine {
    model: &'static LlamaModel,
    context: LlamaContext<'static>,
    batch: LlamaBatch<'static>,
    /// Indexed by sequence id.
    slots: Vec<Option<Sequence>>,
    /// Cells that no running request has reserved.
    cells_free: usize,
    inbox: Arc<Inbox<Job>>,
    outbox: Arc<Outbox>,
}

/// One request in a slot.
struct Sequence {
    key: Key,
    job: Job,
    /// Prompt tokens in the cache or in this step's batch.
    read: usize,
    /// The sampled token that the next step feeds.
    next: Option<LlamaToken>,
    /// Where in this step's batch its logits are.
    logits_at: Option<i32>,
    sampler: Sampler,
    assembler: Assembler,
    /// The answer so far, kept only if it is not streamed.
    text: String,
    chunks: u64,
    output: u64,
}

impl Sequence {
    fn new(key: Key, job: Job) -> Self {
        Self {
            sampler: Sampler::new(job.request.sampling.clone()),
            assembler: Assembler::new(job.request.stops.clone()),
            key,
            job,
            read: 0,
            next: None,
            logits_at: None,
            text: String::new(),
            chunks: 0,
            output: 0,
        }
    }

    fn unread(&self) -> usize {
        self.job.prompt.len() - self.read
    }

    fn usage(&self) -> Usage {
        let input = self.job.prompt.len() as u64;
        Usage { units: input + self.output, input, output: self.output }
    }

    fn chunk(&mut self, outbox: &Outbox, piece: &Value) {
        outbox.chunk(&self.key, self.chunks, self.usage().units, piece);
        self.chunks += 1;
    }

    fn emit(&mut self, outbox: &Outbox, text: &str) {
        if self.job.stream {
            let piece = self.job.head.text(text, self.chunks == 0);
            self.chunk(outbox, &piece);
        } else {
            self.text.push_str(text);
        }
    }

    /// Says the end, with whatever was held back if no stop string came.
    fn end(&mut self, outbox: &Outbox, finish: Finish, usage: Usage) {
        let rest = self.assembler.finish();
        // A stream always says who speaks, also when nothing was said.
        if !rest.is_empty() || self.chunks == 0 {
            self.emit(outbox, &rest);
        }
        if !self.job.stream {
            let whole = self.job.head.whole(&self.text, finish, usage);
            return outbox.complete(&self.key, usage, &whole);
        }
        let last = self.job.head.last(finish);
        self.chunk(outbox, &last);
        if self.job.head.include_usage {
            let piece = self.job.head.usage_piece(usage);
            self.chunk(outbox, &piece);
        }
        outbox.complete(&self.key, usage, &Value::Null);
    }
}

impl Engine {
    pub(super) fn new(
        model: &'static LlamaModel,
        backend: &'static LlamaBackend,
        capacity: Capacity,
        inbox: Arc<Inbox<Job>>,
        outbox: Arc<Outbox>,
    ) -> anyhow::Result<Self> {
        let Capacity { threads, slots, context } = capacity;
        let batch_tokens = plan::PREFILL_ALONE.max(plan::PREFILL_BESIDE + slots);
        let cells = super::pool_cells(slots, context);
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(u32::try_from(cells)?))
            .with_n_batch(u32::try_from(batch_tokens)?)
            .with_n_ubatch(u32::try_from(batch_tokens)?)
            .with_n_seq_max(u32::try_from(slots)?)
            .with_kv_unified(true)
            .with_n_threads(i32::try_from(threads)?)
            .with_n_threads_batch(i32::try_from(threads)?);
        let context = model
            .new_context(backend, params)
            .context("no memory for the chat context; lower --chat-slots or --chat-context")?;
        let batch = LlamaBatch::new(batch_tokens, 1);
        let slots = std::iter::repeat_with(|| None).take(slots).collect();
        Ok(Self { model, context, batch, slots, cells_free: cells, inbox, outbox })
    }

    /// Serves until the inbox is closed or nobody reads the answers.
    pub(super) fn run(mut self) {
        loop {
            if self.slots.iter().all(Option::is_none) {
                let Some((key, job)) = self.inbox.take() else { return };
                self.start(key, job);
            }
            while self.slots.iter().any(Option::is_none) {
                let fits = |job: &Job| job.cells() <= self.cells_free;
                let Some((key, job)) = self.inbox.try_take(fits) else { break };
                self.start(key, job);
            }
            if self.inbox.is_closed() || self.outbox.is_broken() {
                return;
            }
            self.drop_unwanted();
            if let Err(error) = self.step() {
                self.fail_all(&error);
            }
        }
    }

    fn start(&mut self, key: Key, job: Job) {
        let mut sequence = Sequence::new(key, job);
        if sequence.job.output_max == 0 {
            // The payer's limit ends before the answer starts: nothing is read, nothing billed.
            let usage = Usage { units: 0, input: 0, output: 0 };
            sequence.job.prompt.clear();
            self.inbox.finish(&sequence.key);
            return sequence.end(&self.outbox, Finish::Length, usage);
        }
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_none()) {
            self.cells_free -= sequence.job.cells();
            *slot = Some(sequence);
        }
    }

    /// Empties a slot and its cache; gives what was in it.
    fn free(&mut self, slot: usize) -> Option<Sequence> {
        let sequence = self.slots.get_mut(slot).and_then(Option::take)?;
        let cleared = u32::try_from(slot)
            .is_ok_and(|id| self.context.clear_kv_cache_seq(Some(id), None, None).unwrap_or(false));
        assert!(cleared, "a whole sequence can always be removed");
        self.cells_free += sequence.job.cells();
        self.inbox.finish(&sequence.key);
        Some(sequence)
    }

    /// Stops the revoked without a word and the late with a reason.
    fn drop_unwanted(&mut self) {
        let now = Instant::now();
        for slot in 0..self.slots.len() {
            let Some(sequence) = &self.slots[slot] else { continue };
            if self.inbox.is_revoked(&sequence.key) {
                self.free(slot);
            } else if sequence.job.deadline.is_some_and(|deadline| deadline <= now) {
                let refusal = Refusal::backend(
                    format!(
                        "deadline passed after {} of at most {} tokens; lower max_tokens or allow \
                         more time",
                        sequence.output, sequence.job.output_max
                    ),
                    false,
                );
                if let Some(late) = self.free(slot) {
                    self.outbox.fail(&late.key, &refusal);
                }
            }
        }
    }

    /// One decode for all, then one token for each sequence that has logits.
    fn step(&mut self) -> anyhow::Result<()> {
        self.fill_batch()?;
        if self.batch.n_tokens() == 0 {
            return Ok(());
        }
        self.context.decode(&mut self.batch)?;
        // A revoke that came in during the decode is obeyed before anything is said.
        self.drop_unwanted();
        for slot in 0..self.slots.len() {
            if let Some(finish) = self.advance(slot)? {
                // Freed before it is told: who reads the end may assign the next at once.
                let Some(mut sequence) = self.free(slot) else { continue };
                let usage = sequence.usage();
                sequence.end(&self.outbox, finish, usage);
            }
        }
        Ok(())
    }

    fn fill_batch(&mut self) -> anyhow::Result<()> {
        self.batch.clear();
        let (batch, mut answering) = (&mut self.batch, 0);
        for (id, sequence) in (0_i32..).zip(&mut self.slots) {
            let Some(sequence) = sequence else { continue };
            let Some(token) = sequence.next.take() else { continue };
            let position = sequence.usage().units - 1;
            sequence.logits_at = Some(batch.n_tokens());
            batch.add(token, i32::try_from(position)?, &[id], true)?;
            answering += 1;
        }
        let unread = |slot: &Option<Sequence>| slot.as_ref().map_or(0, Sequence::unread);
        let unread: Vec<usize> = self.slots.iter().map(unread).collect();
        let shares = plan::shares(&unread, plan::budget(answering));
        for ((id, sequence), share) in (0_i32..).zip(&mut self.slots).zip(shares) {
            let Some(sequence) = sequence else { continue };
            for _ in 0..share {
                let Some(token) = sequence.job.prompt.get(sequence.read) else { break };
                let is_last = sequence.unread() == 1;
                if is_last {
                    sequence.logits_at = Some(batch.n_tokens());
                }
                batch.add(*token, i32::try_from(sequence.read)?, &[id], is_last)?;
                sequence.read += 1;
            }
        }
        Ok(())
    }

    /// Samples one token for a slot and gives out its text; says if the answer ends with it.
    fn advance(&mut self, slot: usize) -> anyhow::Result<Option<Finish>> {
        let Some(sequence) = &mut self.slots[slot] else { return Ok(None) };
        let Some(at) = sequence.logits_at.take() else { return Ok(None) };
        let logits = self.context.get_logits_ith(at);
        let id = sequence.sampler.sample(logits).context("the model gave no logits")?;
        let token = LlamaToken::new(i32::try_from(id)?);
        let vocab = self.model.vocab();
        if vocab.is_eog(token) {
            return Ok(Some(Finish::Stop));
        }
        sequence.output += 1;
        let pushed = sequence.assembler.push(&vocab.token_to_piece(token, false, None));
        if !pushed.text.is_empty() {
            sequence.emit(&self.outbox, &pushed.text);
        }
        if pushed.stopped {
            return Ok(Some(Finish::Stop));
        }
        if sequence.output >= sequence.job.output_max {
            return Ok(Some(Finish::Length));
        }
        sequence.next = Some(token);
        Ok(None)
    }

    /// A failed decode leaves the cache in doubt: everybody starts again elsewhere.
    fn fail_all(&mut self, error: &anyhow::Error) {
        let refusal = Refusal::backend(format!("llama.cpp failed: {error}; try again"), true);
        self.context.clear_kv_cache();
        for sequence in self.slots.iter_mut().filter_map(Option::take) {
            self.cells_free += sequence.job.cells();
            self.inbox.finish(&sequence.key);
            self.outbox.fail(&sequence.key, &refusal);
        }
    }
}
