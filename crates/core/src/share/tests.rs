use proptest::prelude::*;

use super::*;

const CAPACITY: u64 = 100_000;
const SMALL: u64 = 10;

fn account(number: u8) -> AccountId {
    AccountId([number; 32])
}

fn network(number: u8) -> NetworkKey {
    NetworkKey([number; 16])
}

fn holder(of: u8, at: u8, rank: Rank) -> Holder {
    Holder { account: Some(account(of)), network: Some(network(at)), rank }
}

fn share() -> Share {
    Share::new(CAPACITY, SMALL)
}

/// Takes as long as anything is given, in ever smaller steps; gives how much that was.
fn fill(share: &mut Share, holder: Holder, parts: &mut Vec<Part>) -> u64 {
    let mut taken = 0;
    for size in [4_096, 512, 64, 8, 1] {
        while let Ok(part) = share.take(holder, size) {
            taken += part.size();
            parts.push(part);
        }
    }
    taken
}

#[test]
fn who_is_alone_may_hold_a_ninth_and_its_network_a_fifth() {
    let (mut share, mut parts) = (share(), Vec::new());
    let held = fill(&mut share, holder(1, 1, Rank::Member), &mut parts);
    assert_eq!(held, CAPACITY / 9);
    let refused = share.take(holder(1, 1, Rank::Member), 1).unwrap_err();
    assert_eq!(refused, Refused { whose: Whose::Account, held, may: CAPACITY / 9 });
    for of in 2..200 {
        fill(&mut share, holder(of, 1, Rank::Member), &mut parts);
    }
    assert_eq!(share.held_in(network(1)), CAPACITY / 5, "however many accounts it makes");
    let refused = share.take(holder(200, 1, Rank::Member), 1).unwrap_err();
    assert_eq!((refused.whose, refused.may), (Whose::Network, CAPACITY / 5));
    for part in parts {
        share.give_back(part);
    }
    assert_eq!((share.held(), share.holders()), (0, 0));
}

#[test]
fn against_ten_networks_a_tenth_stays_free() {
    let (mut share, mut parts) = (share(), Vec::new());
    for at in 0..10 {
        for of in 0..20 {
            fill(&mut share, holder(at * 20 + of, at, Rank::Member), &mut parts);
        }
    }
    let free = CAPACITY - share.held();
    assert!(free >= CAPACITY / 10, "{free} of {CAPACITY} are left");
    let victim = holder(250, 250, Rank::Member);
    let taken = fill(&mut share, victim, &mut parts);
    assert!(taken >= free / 9, "{taken} of {free}");
}

#[test]
fn of_the_last_sixteenth_who_holds_nothing_has_one_small_thing() {
    let (mut share, mut parts) = (share(), Vec::new());
    for at in 0..120 {
        fill(&mut share, holder(at, at, Rank::Member), &mut parts);
    }
    let free = CAPACITY - share.held();
    assert!(free <= CAPACITY / 16, "{free} are left");
    let newcomer = holder(201, 201, Rank::Member);
    assert!(share.take(newcomer, SMALL + 1).is_err());
    parts.push(share.take(newcomer, SMALL).unwrap());
    let refused = share.take(newcomer, 1).unwrap_err();
    assert_eq!(refused.held, SMALL);
    assert!(share.take(holder(202, 201, Rank::Member), 1).is_err(), "its network holds something");
}

#[test]
fn guests_share_a_half() {
    let (mut share, mut parts) = (share(), Vec::new());
    for at in 0..120 {
        fill(&mut share, holder(at, at, Rank::Guest), &mut parts);
    }
    assert!(share.held() <= CAPACITY / 2);
    let taken = fill(&mut share, holder(200, 200, Rank::Member), &mut parts);
    assert!(taken >= CAPACITY / 2 / 9, "{taken} is left for who is no guest");
    let guest = share.take(holder(1, 1, Rank::Guest), 1).unwrap_err();
    assert!(guest.may <= CAPACITY / 2 / 9, "{guest:?}");
}

#[test]
fn a_weight_leaves_the_last_sixteenth_and_the_realm_nothing() {
    let (mut share, mut parts) = (share(), Vec::new());
    let taken = fill(&mut share, holder(1, 1, Rank::Weighted), &mut parts);
    assert_eq!(taken, CAPACITY - CAPACITY / 16);
    let rest = fill(&mut share, holder(2, 2, Rank::Realm), &mut parts);
    assert_eq!((rest, share.held()), (CAPACITY / 16, CAPACITY));
}

#[test]
fn whom_nobody_knows_is_bound_by_what_is_left() {
    let (mut share, mut parts) = (share(), Vec::new());
    let here = Holder { account: None, network: None, rank: Rank::Guest };
    let taken = fill(&mut share, here, &mut parts);
    assert_eq!(taken, CAPACITY / 2 - CAPACITY / 32, "small things too");
    assert_eq!(share.holders(), 0);
}

#[test]
fn what_is_held_after_a_restart_is_never_refused() {
    let mut share = Share::new(10, 1);
    let who = holder(1, 1, Rank::Guest);
    let part = share.keep(who, 50);
    assert_eq!(share.take(who, 1).unwrap_err().held, 50);
    share.give_back(part);
    assert!(share.take(who, 1).is_ok());
}

#[test]
fn who_is_alone_has_as_much_as_is_said_that_he_could_have() {
    for rank in [Rank::Guest, Rank::Member, Rank::Weighted, Rank::Realm] {
        let who = holder(1, 1, rank);
        assert!(share().take(who, share().most_of(&who)).is_ok(), "{rank:?}");
        assert!(share().take(who, share().most_of(&who) + 1).is_err(), "{rank:?}");
    }
    let little = Share::new(20, 4);
    assert_eq!(little.most_of(&holder(1, 1, Rank::Guest)), 4, "one small thing");
}

#[test]
fn one_small_thing_is_had_of_little() {
    let mut share = Share::new(4, 1);
    let parts: Vec<_> = (0..2).map(|at| share.take(holder(at, at, Rank::Guest), 1)).collect();
    assert!(parts.iter().all(Result::is_ok), "{parts:?}");
    assert!(share.take(holder(3, 3, Rank::Guest), 1).is_err(), "the guests' half is two");
}

#[derive(Clone, Debug)]
enum Step {
    Take { of: u8, at: Option<u8>, rank: Rank, size: u64 },
    Keep { of: u8, at: u8, size: u64 },
    Grow { which: usize, more: u64 },
    Shrink { which: usize, less: u64 },
    GiveBack { which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let rank = prop::sample::select(vec![Rank::Guest, Rank::Member, Rank::Weighted, Rank::Realm]);
    let at = prop::option::of(0..5_u8);
    prop_oneof![
        6 => (0..8_u8, at, rank, 0..9_000_u64)
            .prop_map(|(of, at, rank, size)| Step::Take { of, at, rank, size }),
        1 => (0..8_u8, 0..5_u8, 0..9_000_u64).prop_map(|(of, at, size)| Step::Keep { of, at, size }),
        2 => (any::<usize>(), 0..3_000_u64).prop_map(|(which, more)| Step::Grow { which, more }),
        1 => (any::<usize>(), 0..3_000_u64).prop_map(|(which, less)| Step::Shrink { which, less }),
        4 => any::<usize>().prop_map(|which| Step::GiveBack { which }),
    ]
}

/// The rule from its words, over the parts themselves.
fn may(parts: &[Part], who: Holder, size: u64) -> bool {
    let sum = |of: &dyn Fn(&Holder) -> bool| -> u64 {
        parts.iter().filter(|part| of(part.holder())).map(Part::size).sum()
    };
    let is_guest = |holder: &Holder| holder.rank == Rank::Guest;
    let free = CAPACITY.saturating_sub(sum(&|_| true));
    let half = (CAPACITY / 2).saturating_sub(sum(&is_guest));
    let own = sum(&|holder| holder.account == who.account);
    let together = |holder: &Holder| who.network.is_some() && holder.network == who.network;
    let (free, network) = match who.rank {
        Rank::Guest => (free.min(half), sum(&|holder| is_guest(holder) && together(holder))),
        Rank::Member | Rank::Weighted | Rank::Realm => (free, sum(&together)),
    };
    let is_last = |free: u64, of: u64| free.checked_sub(size).is_none_or(|free| free < of / 16);
    let is_last = match who.rank {
        Rank::Guest => {
            let whole = CAPACITY.saturating_sub(sum(&|_| true));
            is_last(half, CAPACITY / 2) || is_last(whole, CAPACITY)
        }
        Rank::Member | Rank::Weighted | Rank::Realm => is_last(free, CAPACITY),
    };
    let first = own == 0 && network == 0 && size <= SMALL && size <= free;
    match who.rank {
        Rank::Realm => size <= free,
        Rank::Weighted => first || !is_last,
        Rank::Guest | Rank::Member => {
            let after = free.checked_sub(size);
            let fair = after.is_some_and(|after| {
                8 * (own + size) <= after
                    && (who.network.is_none() || 4 * (network + size) <= after)
            });
            first || (fair && !is_last)
        }
    }
}

proptest! {
    #[test]
    fn it_is_the_rule_and_what_is_given_back_is_gone(steps in prop::collection::vec(step(), 1..200)) {
        let (mut share, mut parts) = (share(), Vec::<Part>::new());
        for step in steps {
            match step {
                Step::Take { of, at, rank, size } => {
                    let at = at.map(network);
                    let who = Holder { account: Some(account(of)), network: at, rank };
                    let expected = may(&parts, who, size);
                    let taken = share.take(who, size);
                    prop_assert_eq!(taken.is_ok(), expected, "{:?} of {:?}: {:?}", size, who, taken);
                    parts.extend(taken);
                }
                Step::Keep { of, at, size } => {
                    parts.push(share.keep(holder(of, at, Rank::Member), size));
                }
                Step::Grow { which, more } if !parts.is_empty() => {
                    let which = which % parts.len();
                    let who = *parts[which].holder();
                    let expected = may(&parts, who, more);
                    let before = parts[which].size();
                    let grown = share.grow(&mut parts[which], more).is_ok();
                    prop_assert_eq!(grown, expected);
                    prop_assert_eq!(parts[which].size(), if grown { before + more } else { before });
                }
                Step::Shrink { which, less } if !parts.is_empty() => {
                    let which = which % parts.len();
                    share.shrink(&mut parts[which], less);
                }
                Step::GiveBack { which } if !parts.is_empty() => {
                    let part = parts.swap_remove(which % parts.len());
                    share.give_back(part);
                }
                Step::Grow { .. } | Step::Shrink { .. } | Step::GiveBack { .. } => {}
            }
            prop_assert_eq!(share.held(), parts.iter().map(Part::size).sum::<u64>());
            prop_assert_eq!(share.check_invariants(), Ok(()));
        }
        for part in parts {
            share.give_back(part);
        }
        prop_assert_eq!(share, Share::new(CAPACITY, SMALL));
    }
}
