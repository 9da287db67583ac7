//! Kokoro-82M: from phonemes and a voice to samples.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ort::environment::Environment;
use ort::session::{RunOptions, Session};
use ort::value::Tensor;

use super::phonemes::TOKENS_MAX;
use super::sound::RATE;
use super::voices::STYLE;
use crate::files::SpeakFiles;

/// Marks the begin and the end.
const EDGE: i64 = 0;
/// How soon a word to stop is heard while it speaks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Below this it is silence.
const QUIET: f32 = 0.01;
/// What stays of it before the first sound and behind the last: 20 and 40 ms.
const BEFORE: usize = RATE as usize / 50;
const BEHIND: usize = RATE as usize / 25;

pub(super) struct Kokoro {
    session: Session,
}

impl Kokoro {
    pub(super) fn load(
        environment: &Environment,
        files: &SpeakFiles,
        threads: usize,
    ) -> anyhow::Result<Self> {
        Ok(Self { session: crate::runtime::session(environment, &files.weights, threads)? })
    }

    /// The samples of these tokens, without the silence around them; `None` if `is_over` said so
    /// before their end.
    pub(super) fn say(
        &mut self,
        tokens: &[i64],
        style: Vec<f32>,
        speed: f32,
        is_over: impl Fn() -> bool + Sync,
    ) -> anyhow::Result<Option<Vec<f32>>> {
        ensure!(tokens.len() <= TOKENS_MAX && style.len() == STYLE, "too much is said at once");
        let marked: Vec<i64> =
            std::iter::once(EDGE).chain(tokens.iter().copied()).chain([EDGE]).collect();
        let inputs = ort::inputs! {
            "tokens" => Tensor::from_array(([1, marked.len()], marked))?,
            "style" => Tensor::from_array(([1, STYLE], style))?,
            "speed" => Tensor::from_array(([1], vec![speed]))?,
        };
        let options = RunOptions::new()?;
        let (running, over) = sync_channel::<()>(0);
        let said = std::thread::scope(|scope| {
            let (options, is_over) = (&options, &is_over);
            scope.spawn(move || {
                while over.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                    if is_over() {
                        // If it cannot be stopped it ends by itself.
                        let _too_late = options.terminate();
                        return;
                    }
                }
            });
            let outputs = self.session.run_with_options(inputs, options);
            drop(running);
            let outputs = outputs?;
            let value = outputs.values().next().context("the model gave no sound")?;
            let (_, samples) = value.try_extract_tensor::<f32>()?;
            anyhow::Ok(samples.to_vec())
        });
        match said {
            Err(_) if is_over() => Ok(None),
            said => Ok(Some(trimmed(&said?))),
        }
    }
}

/// Without the silence at both ends, and without what is no number.
pub(super) fn trimmed(samples: &[f32]) -> Vec<f32> {
    let is_loud = |sample: &f32| sample.abs() > QUIET;
    let Some(first) = samples.iter().position(is_loud) else { return Vec::new() };
    let last = samples.iter().rposition(is_loud).unwrap_or(first);
    let (from, to) = (first.saturating_sub(BEFORE), (last + 1 + BEHIND).min(samples.len()));
    let number = |sample: &f32| if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
    samples[from..to].iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::files::{self, tests::models_dir};
    use crate::speak::voices;

    #[test]
    fn what_is_over_is_given_up_in_the_middle_of_a_run() {
        let dir = models_dir();
        let files = files::speak(&dir).expect("models missing: run `make models`");
        let environment = crate::runtime::start(&files::runtime(&dir).unwrap()).unwrap();
        let mut kokoro = Kokoro::load(&environment, &files, 1).unwrap();
        let file = std::fs::read(files.voices.join(files::voice(voices::DEFAULT))).unwrap();
        let tokens = super::super::phonemes::tokens(&"ðə ʃˈɪps ɑɹ əslˈip ".repeat(7));
        let style = voices::style(&file, tokens.len()).unwrap();
        let mut said = |is_over: bool| {
            let begin = Instant::now();
            let said = kokoro.say(&tokens, style.clone(), 1.0, || is_over).unwrap();
            (said.is_some(), begin.elapsed())
        };
        let (is_whole, whole) = said(false);
        let (is_left, left) = said(true);
        assert!(is_whole && !is_left);
        assert!(left < whole / 2, "{left:?} of {whole:?}");
    }

    #[test]
    fn silence_around_it_is_cut_and_what_is_no_number_is_none() {
        assert!(trimmed(&[0.0; 9_000]).is_empty());
        assert!(trimmed(&[]).is_empty());
        let mut samples = vec![0.0; 24_000];
        samples[10_000..12_000].fill(0.5);
        samples[11_000] = f32::NAN;
        samples[11_001] = 3.0;
        let said = trimmed(&samples);
        assert_eq!(said.len(), BEFORE + 2_000 + BEHIND);
        assert!(said.iter().all(|sample| sample.abs() <= 1.0));
    }
}
