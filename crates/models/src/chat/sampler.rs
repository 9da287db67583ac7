//! From logits to one token.
//!
//! Written here instead of using llama.cpp's samplers so that the same seed gives the same choice
//! whatever the library's version, and so that OpenAI's penalties (over sampled tokens only) and
//! biases mean what its reference says. Invariant: the choice depends on the logits, the settings
//! and the number of earlier draws, on nothing else; temperature 0 draws nothing.

use std::collections::BTreeMap;

use super::repeats::Repeats;

/// OpenAI's own bound for `logit_bias`.
pub const BIAS_ENTRIES_MAX: usize = 300;
/// Candidates below these probabilities are looked at only if those above do not reach `top_p`;
/// sorting a whole vocabulary for each token would cost more than the model.
const NUCLEUS_CUTS: [f32; 3] = [1e-3, 1e-6, 0.0];

#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    pub top_p: f32,
    pub seed: u64,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    /// Whether what continues a run that was said before loses weight; see `repeats`.
    pub avoid_repeats: bool,
    /// Token id of this model, and what is added to its logit.
    pub bias: Vec<(u32, f32)>,
}

pub struct Sampler {
    sampling: Sampling,
    random: SplitMix64,
    /// How often each token was sampled; kept only if a penalty needs it.
    counts: BTreeMap<u32, u32>,
    repeats: Repeats,
    adjusted: Vec<f32>,
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    pub fn new(sampling: Sampling) -> Self {
        let random = SplitMix64(sampling.seed);
        let (adjusted, candidates) = (Vec::new(), Vec::new());
        let (counts, repeats) = (BTreeMap::new(), Repeats::default());
        Self { sampling, random, counts, repeats, adjusted, candidates }
    }

    /// Chooses a token and remembers it for the penalties. `None` if there are no logits.
    pub fn sample(&mut self, logits: &[f32]) -> Option<u32> {
        self.adjusted.clear();
        self.adjusted.extend_from_slice(logits);
        self.adjust();
        let token = if self.sampling.temperature == 0.0 || self.sampling.top_p == 0.0 {
            largest(&self.adjusted)?.0
        } else {
            self.draw()?
        };
        if self.penalises() {
            *self.counts.entry(token).or_default() += 1;
        }
        if self.sampling.avoid_repeats {
            self.repeats.push(token);
        }
        Some(token)
    }

    fn penalises(&self) -> bool {
        self.sampling.presence_penalty != 0.0 || self.sampling.frequency_penalty != 0.0
    }

    fn adjust(&mut self) {
        for (token, count) in &self.counts {
            if let Some(logit) = self.adjusted.get_mut(*token as usize) {
                *logit -= self.sampling.presence_penalty
                    + self.sampling.frequency_penalty * (*count as f32);
            }
        }
        self.repeats.adjust(&mut self.adjusted);
        for (token, bias) in &self.sampling.bias {
            if let Some(logit) = self.adjusted.get_mut(*token as usize) {
                *logit += bias;
            }
        }
    }

    fn draw(&mut self) -> Option<u32> {
        let (fallback, top) = largest(&self.adjusted)?;
        let temperature = self.sampling.temperature;
        let mut total = 0.0_f32;
        for logit in &mut self.adjusted {
            // NaN weighs nothing.
            *logit = ((*logit - top) / temperature).exp().max(0.0);
            total += *logit;
        }
        let mass = if self.sampling.top_p < 1.0 { self.nucleus(total) } else { None };
        let weights: &mut dyn Iterator<Item = (u32, f32)> = match mass {
            Some(_) => &mut self.candidates.iter().copied(),
            None => &mut (0_u32..).zip(self.adjusted.iter().copied()),
        };
        let mut left = self.random.next_unit() * mass.unwrap_or(total);
        let mut chosen = fallback;
        for (token, weight) in weights.filter(|(_, weight)| *weight > 0.0) {
            chosen = token;
            left -= weight;
            if left <= 0.0 {
                break;
            }
        }
        Some(chosen)
    }

    /// Leaves in `candidates` the smallest set of likeliest tokens that reaches `top_p`, and
    /// gives its weight.
    fn nucleus(&mut self, total: f32) -> Option<f32> {
        let wanted = self.sampling.top_p * total;
        for cut in NUCLEUS_CUTS {
            self.candidates.clear();
            let all = (0_u32..).zip(self.adjusted.iter().copied());
            self.candidates.extend(all.filter(|(_, weight)| *weight > cut * total));
            let reached: f32 = self.candidates.iter().map(|(_, weight)| weight).sum();
            if reached >= wanted || cut == 0.0 {
                break;
            }
        }
        // Ties by id, so that the order is total and the same everywhere.
        self.candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let (mut mass, mut kept) = (0.0, 0);
        for (_, weight) in &self.candidates {
            mass += weight;
            kept += 1;
            if mass >= wanted {
                break;
            }
        }
        self.candidates.truncate(kept);
        (mass > 0.0).then_some(mass)
    }
}

/// The largest logit and its token, the lowest id among equals.
fn largest(logits: &[f32]) -> Option<(u32, f32)> {
    let numbers = (0_u32..).zip(logits.iter().copied()).filter(|(_, logit)| !logit.is_nan());
    numbers.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next_unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The upper 24 bits fill a float's mantissa: a number in [0, 1).
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u32 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f32, top_p: f32, seed: u64) -> Sampling {
        Sampling {
            temperature,
            top_p,
            seed,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            avoid_repeats: false,
            bias: Vec::new(),
        }
    }

    fn draws(sampling: Sampling, logits: &[f32], count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling);
        (0..count).map(|_| sampler.sample(logits).unwrap()).collect()
    }

    #[test]
    fn greedy_takes_the_largest_and_the_lowest_id_of_equals() {
        assert_eq!(draws(sampling(0.0, 1.0, 1), &[0.0, 3.0, 3.0, f32::NAN], 2), [1, 1]);
        assert_eq!(Sampler::new(sampling(0.0, 1.0, 1)).sample(&[]), None);
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_does_not() {
        let logits: Vec<f32> = (0..500).map(|i| (i % 17) as f32 / 9.0).collect();
        let first = draws(sampling(1.0, 0.9, 42), &logits, 50);
        assert_eq!(first, draws(sampling(1.0, 0.9, 42), &logits, 50));
        assert_ne!(first, draws(sampling(1.0, 0.9, 43), &logits, 50));
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        // Weights 1 : 3.
        let seen = draws(sampling(1.0, 1.0, 7), &[0.0, 3.0_f32.ln()], 20_000);
        let ones = seen.iter().filter(|token| **token == 1).count();
        assert!((14_500..15_500).contains(&ones), "{ones}");
    }

    #[test]
    fn the_nucleus_is_the_smallest_set_that_reaches_top_p() {
        // Probabilities .5, .3, .15, .05.
        let logits = [0.05_f32.ln(), 0.5_f32.ln(), 0.15_f32.ln(), 0.3_f32.ln()];
        let kept = |top_p| {
            let mut seen = draws(sampling(1.0, top_p, 3), &logits, 2_000);
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        assert_eq!(kept(0.4), [1]);
        assert_eq!(kept(0.7), [1, 3]);
        assert_eq!(kept(0.9), [1, 2, 3]);
        assert_eq!(kept(0.0), [1]);
    }

    #[test]
    fn a_flat_distribution_below_every_cut_is_still_whole() {
        let mut seen = draws(sampling(2.0, 0.99, 5), &vec![0.0; 5_000], 20_000);
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 4_500, "{}", seen.len());
    }

    #[test]
    fn penalties_and_biases_move_the_choice() {
        let frequency = Sampling { frequency_penalty: 1.0, ..sampling(0.0, 1.0, 0) };
        assert_eq!(draws(frequency, &[2.5, 1.0], 4), [0, 0, 1, 0]);
        let wary = Sampling { avoid_repeats: true, ..sampling(0.0, 1.0, 0) };
        assert_eq!(draws(wary, &[2.5, 1.0], 7), [0, 0, 0, 0, 0, 0, 1]);
        let presence = Sampling { presence_penalty: 2.0, ..sampling(0.0, 1.0, 0) };
        assert_eq!(draws(presence, &[2.5, 1.0], 3), [0, 1, 0]);
        let banned = Sampling { bias: vec![(0, -100.0), (9, 1.0)], ..sampling(1.0, 1.0, 0) };
        assert_eq!(draws(banned, &[2.5, 1.0], 3), [1, 1, 1]);
    }
}
