//! Shares of service, where everybody always has work: DESIGN.md section 6. Two accounts of one weight
//! that both wait during an interval differ by at most (D+1)(l_f + l_g) in it, D the slots and l the
//! larger of what one item was thought to take and what it took.

use std::collections::BTreeMap;

use mtor_core::limits;
use mtor_types::AccountId;

/// `service`: from, until and for whom; `slots`: how many there are.
pub(crate) fn check(service: &[(u64, u64, AccountId)], slots: u32) -> Result<(), String> {
    let mut flows = BTreeMap::<AccountId, Vec<(u64, u64)>>::new();
    for (from, until, account) in service {
        flows.entry(*account).or_default().push((*from, *until));
    }
    for (account, served) in &flows {
        for (other, others) in flows.range(account..).skip(1) {
            // Both wait from the first item of the later one to the last item of the earlier one.
            let firsts = [served, others].map(|flow| flow.iter().map(|s| s.0).min());
            let lasts = [served, others].map(|flow| flow.iter().map(|s| s.0).max());
            let span = (firsts.into_iter().max().flatten(), lasts.into_iter().min().flatten());
            let (Some(since), Some(until)) = span else { continue };
            let [one, two] = [served, others].map(|flow| within(flow, since, until));
            let longest = [served, others].map(|flow| longest(flow));
            let each = longest.into_iter().fold(0_u64, u64::saturating_add);
            let bound = u64::from(slots).saturating_add(1).saturating_mul(each);
            if one.abs_diff(two) > bound {
                return Err(format!(
                    "{account} and {other} both wait for {} ms and are served {one} and {two} ms, \
                     more than {bound} apart",
                    until.saturating_sub(since)
                ));
            }
        }
    }
    Ok(())
}

fn within(flow: &[(u64, u64)], since: u64, over: u64) -> u64 {
    let clipped =
        flow.iter().map(|(from, until)| until.min(&over).saturating_sub(*from.max(&since)));
    clipped.fold(0, u64::saturating_add)
}

fn longest(flow: &[(u64, u64)]) -> u64 {
    let actual = flow.iter().map(|(from, until)| until.saturating_sub(*from)).max();
    actual.unwrap_or_default().max(limits::FIRST_ESTIMATE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_and_is_passed_over_is_found() {
        let account = |number| AccountId([number; 32]);
        let fair: Vec<_> =
            (0..100).map(|n| (n * 100, n * 100 + 100, account(n as u8 % 2))).collect();
        check(&fair, 1).unwrap();
        // One of them gets four of five slots.
        let other = |n: u64| account(u8::from(n.is_multiple_of(5)));
        let unfair: Vec<_> = (0..100).map(|n| (n * 100, n * 100 + 100, other(n))).collect();
        assert!(check(&unfair, 1).unwrap_err().contains("more than"));
    }
}
