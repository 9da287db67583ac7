//! What no accountant decided is refused where it is read and asserted against where it is applied.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// A ledger with a guest, an open hold and a resolved one; and what could follow.
fn bench() -> (Bench, Fact, Fact) {
    let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 1_000, 10_000, 10))));
    bench.open(open(1, 1, 1)).unwrap();
    bench.place(meta(intent(1), account(1), 100));
    let mut next = bench.accountant.clone();
    let mut turn = Turn { now: bench.now, ..Turn::default() };
    next.receive(&mut turn, Message::PlaceHold(Arc::new(meta(intent(2), account(1), 50)).into()));
    let placed = turn.facts.remove(0);
    let mut next = bench.accountant.clone();
    next.receive(&mut turn, Message::Resolve(resolution(intent(1), DONE, 30)));
    let resolved = turn.facts.remove(0);
    (bench, placed, resolved)
}

/// Changes the transfers of a fact.
#[expect(clippy::wildcard_enum_match_arm, reason = "only these are changed here")]
fn with_transfers(fact: &Fact, change: impl FnOnce(&mut Vec<Transfer>)) -> Fact {
    let mut fact = fact.clone();
    let mut transfers = transfers_of(&fact);
    change(&mut transfers);
    match &mut fact {
        Fact::HoldResolved { transfers: place, .. } => *place = transfers,
        Fact::HoldPlaced { transfer, .. } => *transfer = transfers.first().copied(),
        other => panic!("{other:?}"),
    }
    fact
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_never_applied() {
    let (bench, placed, resolved) = bench();
    let one_more = amount(1);
    let opened = |n| Fact::AccountOpened {
        account: account(n),
        kind: AccountKind::Guest,
        name_secret: [0; 32],
    };
    let misfits = [
        ("second time", Fact::LedgerOpened { realm: REALM, assets: Vec::new(), owner: OWNER }),
        ("second time", opened(1)),
        ("does not exist", Fact::KeyAdded { account: account(7), key: key(7) }),
        ("somebody has", Fact::KeyAdded { account: account(1), key: key(1) }),
        ("stands in place", with_transfers(&placed, |all| all[0].sequence += 1)),
        ("does not belong", with_transfers(&placed, |all| all[0].kind = TransferKind::Void)),
        ("moved", with_transfers(&placed, |all| all[0].amount = one_more)),
        ("is not of", with_transfers(&placed, |all| all[0].from = Purse::GrantIssue)),
        ("moved", with_transfers(&placed, Vec::clear)),
        ("go nowhere", with_transfers(&resolved, |all| all.truncate(1))),
        ("more than its hold", with_transfers(&resolved, |all| all.push(all[0]))),
        ("another purse", with_transfers(&resolved, |all| all[0].asset = Asset::Token)),
        ("does not belong", with_transfers(&resolved, |all| all[0].kind = TransferKind::Grant)),
        ("does not fit", with_transfers(&resolved, |all| all[0].to = Purse::Held(account(99)))),
        ("moves nothing", with_transfers(&resolved, |all| all[0].to = all[0].from)),
    ];
    for (why, fact) in misfits {
        let told = bench.accountant.fits(&fact).unwrap_err();
        assert!(told.contains(why), "{fact:?}: {told}");
        let mut asserted = bench.accountant.clone();
        let applied = catch_unwind(AssertUnwindSafe(|| asserted.apply(bench.now, &fact)));
        assert!(applied.is_err(), "{fact:?} was applied");
        assert_eq!(asserted.durable(), bench.accountant.durable(), "{fact:?} left something");
    }
    for fact in [placed, resolved.clone()] {
        bench.accountant.fits(&fact).unwrap();
    }
    // Once it is resolved it cannot be resolved again.
    let mut once = bench.accountant.clone();
    once.apply(bench.now, &resolved);
    assert!(once.fits(&resolved).unwrap_err().contains("no open hold"));
}
