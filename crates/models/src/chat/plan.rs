//! How one step's prompt tokens are shared.
//!
//! Every sequence that already answers puts its next token into each step. What is left for
//! reading prompts is bounded, so that a long prompt delays the others' next token by little, and
//! it is shared by filling the shortest first, so that a short prompt does not wait behind a long
//! one. Both are pure functions of numbers.

/// Prompt tokens in one step while nobody is answering. One core reads 150 to 200 a second, and a
/// request that comes in during a step waits for its end; larger steps read no faster, for the
/// model's Q4_1 weights have no kernel that gains from wide batches.
pub const PREFILL_ALONE: usize = 128;
/// Prompt tokens in one step while somebody is: their next token comes 0.2 s later.
pub const PREFILL_BESIDE: usize = 32;

/// The budget of a step in which `answering` sequences take their next token.
pub fn budget(answering: usize) -> usize {
    if answering == 0 { PREFILL_ALONE } else { PREFILL_BESIDE }
}

/// For each prompt's unread tokens, how many are read now.
pub fn shares(unread: &[usize], budget: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..unread.len()).filter(|index| unread[*index] > 0).collect();
    order.sort_by_key(|index| unread[*index]);
    let (mut shares, mut left, mut waiting) = (vec![0; unread.len()], budget, order.len());
    for index in order {
        let share = unread[index].min(left.div_ceil(waiting));
        shares[index] = share;
        left -= share;
        waiting -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_prompts_are_filled_first_and_the_budget_is_used() {
        assert_eq!(shares(&[], 256), Vec::<usize>::new());
        assert_eq!(shares(&[10, 0], 256), [10, 0]);
        assert_eq!(shares(&[8_000, 20], 256), [236, 20]);
        assert_eq!(shares(&[8_000, 8_000, 20], 256), [118, 118, 20]);
        assert_eq!(shares(&[3, 3, 3], 2), [1, 1, 0]);
    }

    #[test]
    fn no_share_exceeds_its_prompt_nor_their_sum_the_budget() {
        for seed in 0..200_usize {
            let unread: Vec<usize> = (0..5).map(|i| (seed * 7_919 + i * 104_729) % 400).collect();
            let budget = seed * 3;
            let shares = shares(&unread, budget);
            assert!(shares.iter().zip(&unread).all(|(share, unread)| share <= unread));
            let wanted: usize = unread.iter().sum();
            assert_eq!(shares.iter().sum::<usize>(), wanted.min(budget));
        }
    }
}
