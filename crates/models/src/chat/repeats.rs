//! Makes a loop ever less likely, and leaves common words alone.
//!
//! A small model that has said a phrase twice is all but certain to say it again, to its token
//! limit. OpenAI's penalties count single tokens: what they need to end a loop also takes "the"
//! and the comma out of a long answer. Here a token loses weight only if it would continue a run of
//! tokens that was sampled before, the more the longer that run is and the more often it was said:
//! after "DRY" by p-e-w, text-generation-webui pull request 5677. Unlike there every time counts,
//! and no token starts a run anew, for loops go over line ends too. Absences: the prompt counts nothing, so that it may be quoted.

/// Tokens that may be said again for nothing: names and set phrases.
const RUN_FREE: usize = 3;
/// What the first token behind them loses for each time it stood there, in logits, and the growth
/// of that with each further token of the run. Measured together with the default penalty, see
/// `request::DEFAULT_FREQUENCY_PENALTY`.
const FIRST: f32 = 0.5;
const GROWTH: f32 = 1.6;
/// No logit can make up for a longer run.
const RUN_MAX: usize = 24;

#[derive(Default)]
pub struct Repeats {
    said: Vec<u32>,
}

impl Repeats {
    pub fn push(&mut self, token: u32) {
        self.said.push(token);
    }

    /// Takes from each token's logit what the runs cost that it would continue, each time it did.
    pub fn adjust(&self, logits: &mut [f32]) {
        for (at, token) in self.said.iter().enumerate() {
            let before = self.said[..at].iter().rev();
            let same = before.zip(self.said.iter().rev()).take(RUN_MAX);
            let run = same.take_while(|(a, b)| a == b).count();
            if run < RUN_FREE {
                continue;
            }
            if let Some(logit) = logits.get_mut(*token as usize) {
                let beyond = i32::try_from(run - RUN_FREE).unwrap_or(i32::MAX);
                *logit -= FIRST * GROWTH.powi(beyond);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(said: &[u32]) -> Vec<f32> {
        let mut repeats = Repeats::default();
        said.iter().for_each(|token| repeats.push(*token));
        let mut logits = [0.0; 10];
        repeats.adjust(&mut logits);
        logits.iter().map(|logit| 0.0 - logit).collect()
    }

    #[test]
    fn only_what_continues_a_run_loses_and_the_more_the_longer() {
        assert_eq!(lost(&[]), [0.0; 10]);
        // 7 comes often, but never behind the same three tokens.
        assert_eq!(lost(&[7, 1, 7, 2, 7, 3, 7, 4, 7]), [0.0; 10]);
        assert_eq!(lost(&[1, 2, 9, 1, 2]), [0.0; 10]);
        let three = lost(&[1, 2, 3, 9, 1, 2, 3]);
        assert_eq!((three[9], three.iter().sum::<f32>()), (FIRST, FIRST));
        let four = lost(&[5, 1, 2, 3, 9, 5, 1, 2, 3]);
        assert_eq!(four[9], FIRST * GROWTH);
    }

    #[test]
    fn each_time_counts_and_each_continuation_for_itself() {
        let both = lost(&[1, 2, 3, 8, 6, 1, 2, 3, 9, 6, 1, 2, 3]);
        assert_eq!((both[8], both[9]), (FIRST, FIRST * GROWTH));
        let twice = lost(&[1, 2, 3, 9, 1, 2, 3, 9, 1, 2, 3]);
        assert!((twice[9] - FIRST - FIRST * GROWTH.powi(4)).abs() < 1e-5, "{}", twice[9]);
    }

    #[test]
    fn an_endless_run_costs_much_and_not_without_end() {
        let endless = lost(&[3; 8_192]);
        assert!(endless[3] > 1_000.0 && endless[3].is_finite(), "{}", endless[3]);
        assert_eq!(endless.iter().filter(|loss| **loss > 0.0).count(), 1);
    }
}
