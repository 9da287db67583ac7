//! Vectors of the facts that change the ledger, and of who acts.

use super::*;

pub(super) fn facts() -> Vec<Fact> {
    let grant = transfer(TransferKind::Grant, Purse::GrantIssue, Purse::Available(ACCOUNT));
    let hold = transfer(TransferKind::Hold, Purse::Available(ACCOUNT), Purse::Held(ACCOUNT));
    vec![
        Fact::LedgerOpened {
            realm: REALM,
            assets: vec![(Asset::Grant, 0), (Asset::Token, 6)],
            owner: OWNER,
        },
        Fact::AccountOpened { account: ACCOUNT, kind: AccountKind::Guest, name_secret: [0x77; 32] },
        Fact::KeyAdded { account: ACCOUNT, key: KEY },
        Fact::KeyRevoked { key: KEY },
        Fact::AccountBanned { account: ACCOUNT, banned: true },
        Fact::GrantPaid {
            transfer: Transfer { hold: None, ..grant },
            network: NetworkKey([0x99; 16]),
            day: 20_370,
            salt: SALT,
        },
        Fact::HoldPlaced {
            intent: INTENT,
            account: ACCOUNT,
            asset: Asset::Grant,
            amount: Amount::from_u64(1000),
            edge: Some((NODE, 3)),
            expires: TIME,
            transfer: Some(Transfer { hold: None, ..hold }),
            idempotency: Some(idempotency()),
            salt: SALT,
        },
        Fact::HoldResolved {
            intent: INTENT,
            outcome: Outcome::Completed(Reason::Ceiling),
            usage: usage(),
            worker: Some(WORKER),
            transfers: transfers(),
            salt: SALT,
        },
    ]
}

/// Of what a day gives out, and of the sysop's word.
pub(super) fn later_facts() -> Vec<Fact> {
    let grant = transfer(TransferKind::Grant, Purse::GrantIssue, Purse::Available(ACCOUNT));
    let (transfer, day, salt) = (Transfer { hold: None, ..grant }, 20_800, SALT);
    let networks = vec![NetworkKey([0x99; 16]), NetworkKey([0x9a; 16])];
    let limits = AccountLimits { weight: Some(300), intents: Some(5) };
    let (worker, owner, name, token) = (WORKER, OWNER, "näo".into(), KEY);
    vec![
        Fact::AccountCounted { day, networks: networks.clone() },
        Fact::GrantGiven { transfer, day, networks, salt },
        Fact::InvitesIssued { invites: vec![KEY, KeyHash([0xd2; 32])] },
        Fact::InviteUsed { invite: KEY },
        Fact::InvitesWithdrawn,
        Fact::AccountLimited { account: ACCOUNT, limits },
        Fact::WorkerEnrolledBy { worker, owner, name, token, expires: TIME, own: true },
        Fact::OwnerBanned { owner: ACCOUNT, banned: true },
    ]
}
