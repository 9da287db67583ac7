//! What networks that lie in one another may have of a day's total.
//!
//! The rule is that of a [`crate::share::Share`], level by level: a quarter of what is then free of the
//! level above it, where an outer network's part is what it may have. So one /16 alone has a fifth of a
//! day, and one /24 in it a fifth of that; against ten that take all they can a tenth stays free. The last
//! sixteenth is for networks that have had nothing, one thing each. Who is of no network is bound by the
//! total alone.

use mtor_types::mutant;
use mtor_types::rejection::Whose;

/// What a network may hold is one part in so many of what is free and of what it holds.
const NETWORK: u128 = 5;
/// One part in so many is for those who hold nothing.
const LAST: u128 = 16;

/// `held` of the total `capacity`, and by each network of a chain, the outermost first.
///
/// # Errors
/// What `size` more is too much for.
pub fn check(capacity: u128, held: u128, chain: &[u128], size: u128) -> Result<(), Whose> {
    let free = capacity.saturating_sub(held);
    if size > free {
        return Err(Whose::Everybody);
    }
    if chain.iter().all(|held| *held == 0) || mutant!("networks-have-no-share") {
        return Ok(());
    }
    let kept = capacity.checked_div(LAST).unwrap_or_default();
    let last = free.saturating_sub(size) < kept;
    let mut above = free;
    for held in chain {
        let may = above.saturating_add(*held).checked_div(NETWORK).unwrap_or_default();
        if held.saturating_add(size) > may {
            return Err(Whose::Network);
        }
        above = may.saturating_sub(*held);
    }
    if last { Err(Whose::Everybody) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many single things as a chain gets beside what others hold.
    fn taken(capacity: u128, others: u128, levels: usize) -> u128 {
        let mut own = 0;
        while check(capacity, others + own, &vec![own; levels], 1).is_ok() {
            own += 1;
        }
        own
    }

    #[test]
    fn each_level_has_a_fifth_of_the_one_above_it() {
        assert_eq!(taken(10_000, 0, 1), 2_000);
        assert_eq!(taken(10_000, 0, 2), 400);
        assert_eq!(taken(10_000, 0, 3), 80);
        assert_eq!(taken(10_000, 0, 0), 10_000, "of no network");
    }

    #[test]
    fn of_ten_that_take_all_they_can_a_tenth_is_left() {
        let mut held = 0;
        for _ in 0..10 {
            held += taken(10_000, held, 1);
        }
        assert!((8_900..9_000).contains(&held), "{held}");
        assert!(check(10_000, held, &[0, 0], 1).is_ok());
    }

    #[test]
    fn many_inner_networks_are_bound_by_the_outer_one() {
        let (mut outer, mut inner) = (0, vec![0; 64]);
        for held in &mut inner {
            while check(10_000, outer, &[outer, *held], 1).is_ok() {
                (outer, *held) = (outer + 1, *held + 1);
            }
        }
        assert!(outer <= 2_000, "{outer}");
        assert!(check(10_000, outer, &[0, 0], 1).is_ok(), "another one finds its part");
    }

    #[test]
    fn the_last_sixteenth_is_for_who_had_nothing() {
        assert_eq!(check(1_600, 1_501, &[1, 1], 1), Err(Whose::Everybody));
        assert_eq!(check(1_600, 1_599, &[0, 0], 1), Ok(()));
        assert_eq!(check(1_600, 1_600, &[0, 0], 1), Err(Whose::Everybody));
        assert_eq!(check(0, 0, &[], 1), Err(Whose::Everybody));
    }
}
