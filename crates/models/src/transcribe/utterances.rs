//! Where somebody speaks: Silero's detector over every 32 ms, and what is made of its word.
//!
//! Invariants: what nobody said is never given on, so that a model cannot invent words for it;
//! utterances do not overlap and are no longer than [`UTTERANCE_MAX`].

use std::collections::VecDeque;

use anyhow::{Context as _, ensure};
use ort::environment::Environment;
use ort::session::Session;
use ort::value::Tensor;

use crate::files::TranscribeFiles;

/// Samples of one look, and those before it that the detector wants to see again.
const WINDOW: usize = 512;
const BEFORE: usize = 64;
const STATE: usize = 2 * 128;
/// Somebody speaks from here on, until it falls below the other.
const SPEECH: f32 = 0.5;
const SILENCE: f32 = 0.35;
/// Windows of silence that end an utterance: more than a second while it is short, for what was said
/// before helps the model; then half a second; a breath, once it is long.
const BREAK: usize = 38;
const PAUSE: usize = 16;
const BREATH: usize = 4;
/// Windows after which a pause is enough, a breath, and after which it is cut wherever it is.
const SHORT: usize = 6 * 16_000 / WINDOW;
const LONG: usize = 15 * 16_000 / WINDOW;
pub(super) const UTTERANCE_MAX: usize = 25 * 16_000 / WINDOW;
/// Windows of speech below which it was a click: a tenth of a second.
const SPEECH_MIN: usize = 3;
/// Windows kept before the first word, and after the last: a quarter of a second.
const AROUND: usize = 8;

/// One stretch of speech.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Utterance {
    /// Samples before it.
    pub(super) from: usize,
    pub(super) samples: Vec<f32>,
}

/// Silero's voice activity detector for 16 kHz.
pub(super) struct Detector {
    session: Session,
    state: Vec<f32>,
    before: [f32; BEFORE],
}

impl Detector {
    pub(super) fn load(environment: &Environment, files: &TranscribeFiles) -> anyhow::Result<Self> {
        let session = crate::runtime::session(environment, &files.detector, 1)?;
        Ok(Self { session, state: vec![0.0; STATE], before: [0.0; BEFORE] })
    }

    fn reset(&mut self) {
        self.state.fill(0.0);
        self.before.fill(0.0);
    }

    /// How likely it is that somebody speaks in this window.
    fn look(&mut self, window: &[f32]) -> anyhow::Result<f32> {
        let mut input = Vec::with_capacity(BEFORE + WINDOW);
        input.extend_from_slice(&self.before);
        input.extend_from_slice(window);
        self.before.copy_from_slice(&input[WINDOW..]);
        let state = std::mem::take(&mut self.state);
        let outputs = self.session.run(ort::inputs! {
            "input" => Tensor::from_array(([1, BEFORE + WINDOW], input))?,
            "state" => Tensor::from_array(([2, 1, STATE / 2], state))?,
            "sr" => Tensor::from_array(([0_usize; 0], vec![i64::from(mtor_sound::RATE)]))?,
        })?;
        let (_, state) = outputs["stateN"].try_extract_tensor::<f32>()?;
        ensure!(state.len() == STATE, "the detector's state has {} numbers", state.len());
        self.state = state.to_vec();
        let (_, told) = outputs["output"].try_extract_tensor::<f32>()?;
        told.first().copied().context("the detector said nothing")
    }
}

/// Cuts a sound into utterances while it is read.
pub(super) struct Cutter<'a> {
    detector: &'a mut Detector,
    cut: Cut,
    waiting: Vec<f32>,
}

impl<'a> Cutter<'a> {
    pub(super) fn new(detector: &'a mut Detector) -> Self {
        detector.reset();
        Self { detector, cut: Cut::default(), waiting: Vec::new() }
    }

    /// The utterances that have ended with these samples.
    pub(super) fn more(&mut self, samples: &[f32]) -> anyhow::Result<Vec<Utterance>> {
        self.waiting.extend_from_slice(samples);
        let mut ended = Vec::new();
        let whole = self.waiting.len() / WINDOW * WINDOW;
        for window in self.waiting[..whole].chunks_exact(WINDOW) {
            let speech = self.detector.look(window)?;
            ended.extend(self.cut.take(window, speech));
        }
        self.waiting.drain(..whole);
        Ok(ended)
    }

    /// The one that the sound's end ends.
    pub(super) fn rest(mut self) -> anyhow::Result<Option<Utterance>> {
        if !self.waiting.is_empty() {
            self.waiting.resize(WINDOW, 0.0);
            let speech = self.detector.look(&self.waiting)?;
            if let Some(ended) = self.cut.take(&self.waiting, speech) {
                return Ok(Some(ended));
            }
        }
        Ok(self.cut.end())
    }
}

/// The rule by itself, without the detector.
#[derive(Default)]
struct Cut {
    /// Windows seen before those in `recent` or `current`.
    seen: usize,
    /// While nobody speaks: the last few windows.
    recent: VecDeque<Vec<f32>>,
    current: Option<Current>,
}

struct Current {
    from: usize,
    windows: Vec<Vec<f32>>,
    speech: usize,
    silent: usize,
}

impl Cut {
    fn take(&mut self, window: &[f32], speech: f32) -> Option<Utterance> {
        let Some(current) = &mut self.current else {
            self.recent.push_back(window.to_vec());
            if speech >= SPEECH {
                let windows = Vec::from(std::mem::take(&mut self.recent));
                self.current = Some(Current { from: self.seen, windows, speech: 1, silent: 0 });
            } else if self.recent.len() > AROUND {
                self.recent.pop_front();
                self.seen += 1;
            }
            return None;
        };
        current.windows.push(window.to_vec());
        if speech >= SPEECH {
            current.speech += 1;
        }
        current.silent = if speech < SILENCE { current.silent + 1 } else { 0 };
        let length = current.windows.len();
        let pause = match length {
            ..SHORT => BREAK,
            SHORT..LONG => PAUSE,
            _ => BREATH,
        };
        if current.silent >= pause || length >= UTTERANCE_MAX { self.end() } else { None }
    }

    fn end(&mut self) -> Option<Utterance> {
        let Current { from, mut windows, speech, silent } = self.current.take()?;
        // Of the silence a little stays with what was said, and the rest may lead to the next.
        let spare = windows.split_off(windows.len() - silent.saturating_sub(AROUND));
        let skipped = spare.len().saturating_sub(AROUND);
        self.seen = from + windows.len() + skipped;
        self.recent = spare.into_iter().skip(skipped).collect();
        let samples = windows.concat();
        (speech >= SPEECH_MIN).then_some(Utterance { from: from * WINDOW, samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs windows of a given likelihood; gives from and length of each utterance, in windows.
    fn cut(told: impl IntoIterator<Item = f32>) -> Vec<(usize, usize)> {
        let (mut cut, mut ended) = (Cut::default(), Vec::new());
        for speech in told {
            ended.extend(cut.take(&[speech; WINDOW], speech));
        }
        ended.extend(cut.end());
        ended.iter().map(|one| (one.from / WINDOW, one.samples.len() / WINDOW)).collect()
    }

    fn windows(parts: &[(f32, usize)]) -> Vec<f32> {
        parts.iter().flat_map(|(speech, count)| std::iter::repeat_n(*speech, *count)).collect()
    }

    #[test]
    fn silence_and_clicks_are_nothing() {
        assert_eq!(cut(windows(&[(0.0, 1000)])), []);
        assert_eq!(cut(windows(&[(0.0, 50), (0.9, SPEECH_MIN - 1), (0.0, 50)])), []);
        assert_eq!(cut([]), []);
    }

    #[test]
    fn speech_is_cut_at_pauses_with_a_little_around_it() {
        let told = windows(&[(0.0, 100), (0.9, 20), (0.0, 60), (0.9, 10), (0.0, 5)]);
        assert_eq!(
            cut(told),
            [(100 - AROUND, AROUND + 20 + AROUND), (180 - AROUND, AROUND + 10 + 5)]
        );
        let told = windows(&[(0.9, SHORT), (0.0, PAUSE), (0.9, 10)]);
        assert_eq!(cut(told), [(0, SHORT + AROUND), (SHORT + AROUND, PAUSE - AROUND + 10)]);
    }

    #[test]
    fn a_hesitation_does_not_cut() {
        let told = windows(&[(0.9, 20), (0.4, 100), (0.9, 20), (0.0, PAUSE - 1), (0.9, 5)]);
        assert_eq!(cut(told.clone()), [(0, told.len())]);
        let told = windows(&[(0.9, 20), (0.0, BREAK - 1), (0.9, 5)]);
        assert_eq!(cut(told.clone()), [(0, told.len())]);
    }

    #[test]
    fn speech_without_a_pause_is_cut_by_its_length_and_nothing_is_lost() {
        let told = windows(&[(0.9, UTTERANCE_MAX * 2 + 7)]);
        let ended = cut(told.clone());
        assert_eq!(
            ended,
            [(0, UTTERANCE_MAX), (UTTERANCE_MAX, UTTERANCE_MAX), (UTTERANCE_MAX * 2, 7)]
        );
        // A breath is enough once it is long.
        let told = windows(&[(0.9, LONG), (0.0, BREATH), (0.9, 20)]);
        assert_eq!(cut(told), [(0, LONG + BREATH), (LONG + BREATH, 20)]);
    }
}
