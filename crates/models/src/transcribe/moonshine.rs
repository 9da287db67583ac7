//! Moonshine tiny-en: from the samples of one utterance to its text.
//!
//! An encoder reads the whole utterance; a decoder then gives one token a step, greedily. Its first
//! step makes the keys of the encoder's output, which all later steps take again, and keys of its
//! own, which grow by one a step.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, ensure};
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor};

use super::tokens::{TOKENS, Tokens};
use crate::files::TranscribeFiles;

const BEGIN: usize = 1;
const END: usize = 2;
const LAYERS: usize = 6;
const HEADS: usize = 8;
const HEAD_SIZE: usize = 36;
/// Nobody speaks faster; a decoder that repeats itself is cut there.
const TOKENS_A_SECOND: f64 = 6.5;
/// The encoder's first filter is this long; less is no sound to it.
const SAMPLES_MIN: usize = 1_024;
const RATE: f64 = mtor_sound::RATE as f64;

pub(super) struct Moonshine {
    encoder: Session,
    decoder: Session,
    tokens: Arc<Tokens>,
    /// Names of what a step takes from the one before: the decoder's own, and the encoder's.
    own: Vec<String>,
    theirs: Vec<String>,
}

impl Moonshine {
    pub(super) fn load(
        environment: &Environment,
        files: &TranscribeFiles,
        threads: usize,
        tokens: Arc<Tokens>,
    ) -> anyhow::Result<Self> {
        let names = |of: &str| -> Vec<String> {
            (0..LAYERS)
                .flat_map(|layer| ["key", "value"].map(|part| format!("{layer}.{of}.{part}")))
                .collect()
        };
        Ok(Self {
            encoder: crate::runtime::session(environment, &files.encoder, threads)?,
            decoder: crate::runtime::session(environment, &files.decoder, threads)?,
            tokens,
            own: names("decoder"),
            theirs: names("encoder"),
        })
    }

    /// The text of one utterance; `None` if `is_over` said so before its end.
    pub(super) fn hear(
        &mut self,
        samples: &[f32],
        is_over: impl Fn() -> bool,
    ) -> anyhow::Result<Option<String>> {
        let mut samples = samples.to_vec();
        samples.resize(samples.len().max(SAMPLES_MIN), 0.0);
        let length = samples.len();
        let mask = Tensor::from_array(([1, length], vec![1_i64; length]))?.into_dyn();
        let hidden = {
            let input = Tensor::from_array(([1, length], samples))?;
            let mut outputs = self.encoder.run(ort::inputs! {
                "input_values" => input,
                "attention_mask" => &mask,
            })?;
            outputs.remove("last_hidden_state").context("the encoder gave no states")?
        };
        let most = (length as f64 / RATE * TOKENS_A_SECOND).ceil() as usize + 2;
        let mut kept = Kept::empty(&self.own, &self.theirs)?;
        let mut said = Vec::new();
        let mut last = BEGIN;
        for step in 0..most {
            if is_over() {
                return Ok(None);
            }
            last = self.step(step > 0, last, &mask, &hidden, &mut kept)?;
            if last == END {
                break;
            }
            said.push(last);
        }
        Ok(Some(self.tokens.text(&said)))
    }

    /// The likeliest next token.
    fn step(
        &mut self,
        is_later: bool,
        last: usize,
        mask: &DynValue,
        hidden: &DynValue,
        kept: &mut Kept,
    ) -> anyhow::Result<usize> {
        let last = i64::try_from(last).unwrap_or(0);
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![
            ("input_ids".into(), Tensor::from_array(([1, 1], vec![last]))?.into()),
            ("encoder_attention_mask".into(), mask.into()),
            ("encoder_hidden_states".into(), hidden.into()),
            ("use_cache_branch".into(), Tensor::from_array(([1], vec![is_later]))?.into()),
        ];
        for (name, value) in kept.own.iter().chain(&kept.theirs) {
            inputs.push((format!("past_key_values.{name}").into(), value.into()));
        }
        let mut outputs = self.decoder.run(inputs)?;
        let best = {
            let (_, logits) = outputs["logits"].try_extract_tensor::<f32>()?;
            ensure!(logits.len() == TOKENS, "the decoder gave {} logits", logits.len());
            let likelier = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1);
            logits.iter().enumerate().max_by(likelier).map_or(END, |(id, _)| id)
        };
        kept.renew(&mut outputs, is_later)?;
        Ok(best)
    }
}

/// What one step leaves for the next.
struct Kept {
    own: Vec<(String, DynValue)>,
    theirs: Vec<(String, DynValue)>,
}

impl Kept {
    fn empty(own: &[String], theirs: &[String]) -> anyhow::Result<Self> {
        let empty = |names: &[String]| -> anyhow::Result<Vec<(String, DynValue)>> {
            let mut all = Vec::with_capacity(names.len());
            for name in names {
                let shape = [1, HEADS, 0, HEAD_SIZE];
                let value = Tensor::<f32>::from_array((shape, Vec::new()))
                    .map_err(|error| anyhow!("an empty tensor: {error}"))?;
                all.push((name.clone(), value.into_dyn()));
            }
            Ok(all)
        };
        Ok(Self { own: empty(own)?, theirs: empty(theirs)? })
    }

    fn renew(
        &mut self,
        outputs: &mut ort::session::SessionOutputs<'_>,
        is_later: bool,
    ) -> anyhow::Result<()> {
        // A later step's keys of the encoder are empty: the first one's are kept.
        let theirs = if is_later { None } else { Some(&mut self.theirs) };
        for (name, value) in self.own.iter_mut().chain(theirs.into_iter().flatten()) {
            *value = outputs
                .remove(format!("present.{name}"))
                .with_context(|| format!("the decoder gave no {name}"))?;
        }
        Ok(())
    }
}
