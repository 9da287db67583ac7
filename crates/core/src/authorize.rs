//! Who may do what to whose: one pure function, asked by every edge before a command leaves it.
//!
//! Invariants: what no rule allows is denied; a rule looks at the actor, the action and the
//! object's owner only. Deliberately absent: proof of identity (the edge has done that), bans and
//! limits (each service's own), and any state.

use mtor_types::Code;
use mtor_types::id::{AccountId, WorkerId};

/// Who asks, once proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    Nobody,
    Account(AccountId),
    /// An account that the sysop has shut out: it may look at its money, and nothing else.
    Banned(AccountId),
    Worker(WorkerId),
    Sysop,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The page, what the realm says of itself, and its public log.
    ReadPage,
    ReadHealth,
    ReadMetrics,
    ReadManifests,
    ReadPools,
    OpenGuest,
    Quote,
    Submit,
    /// Its state, its events, and why it stands where it stands.
    ReadIntent,
    CancelIntent,
    ReadAccount,
    ReadTransfers,
    ReadReceipts,
    ManageKeys,
    IssueToken,
    /// The token is the proof.
    Enrol,
    OpenSession,
    /// Everything the sysop page shows.
    ReadRealm,
    BanAccount,
    BanWorker,
    Vouch,
    RemoveWorker,
    /// Weight and limits of an account.
    LimitAccount,
    /// Codes that open accounts.
    Invite,
}

impl Action {
    pub const ALL: [Self; 24] = [
        Self::ReadPage,
        Self::ReadHealth,
        Self::ReadMetrics,
        Self::ReadManifests,
        Self::ReadPools,
        Self::OpenGuest,
        Self::Quote,
        Self::Submit,
        Self::ReadIntent,
        Self::CancelIntent,
        Self::ReadAccount,
        Self::ReadTransfers,
        Self::ReadReceipts,
        Self::ManageKeys,
        Self::IssueToken,
        Self::Enrol,
        Self::OpenSession,
        Self::ReadRealm,
        Self::BanAccount,
        Self::BanWorker,
        Self::Vouch,
        Self::RemoveWorker,
        Self::LimitAccount,
        Self::Invite,
    ];
}

/// What it is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// The realm as a whole.
    Realm,
    Account(AccountId),
    /// An intent, by the account that pays for it.
    Intent {
        account: AccountId,
    },
    Worker(WorkerId),
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("this needs a key; send it as `Authorization: Bearer <api key>`")]
    Unauthenticated,
    #[error("this key may not do that")]
    Forbidden,
    /// There is something, but this actor may not know.
    #[error("nothing there, or nothing that this key may see")]
    NotFound,
    #[error("this account is banned from the realm; it may still read its own books")]
    Banned,
}

impl Denied {
    pub const fn code(self) -> Code {
        match self {
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Forbidden => Code::Forbidden,
            Self::NotFound => Code::NotFound,
            Self::Banned => Code::Banned,
        }
    }
}

/// Who may, by the kind of action.
#[derive(Clone, Copy)]
enum Rule {
    /// Of the realm, by anybody.
    Anybody,
    /// By an account, for itself.
    Itself,
    /// By the account it belongs to, or the sysop.
    Owner,
    /// The same, and by a banned one too.
    Books,
    /// By that worker.
    ThatWorker,
    Sysop,
}

const fn rule(action: Action) -> Rule {
    match action {
        Action::ReadPage
        | Action::ReadHealth
        | Action::ReadMetrics
        | Action::ReadManifests
        | Action::ReadPools
        | Action::OpenGuest
        | Action::Enrol => Rule::Anybody,
        Action::Quote | Action::Submit => Rule::Itself,
        Action::IssueToken | Action::ReadIntent | Action::CancelIntent | Action::ManageKeys => {
            Rule::Owner
        }
        Action::ReadAccount | Action::ReadTransfers | Action::ReadReceipts => Rule::Books,
        Action::OpenSession => Rule::ThatWorker,
        Action::ReadRealm
        | Action::BanAccount
        | Action::BanWorker
        | Action::Vouch
        | Action::RemoveWorker
        | Action::LimitAccount
        | Action::Invite => Rule::Sysop,
    }
}

/// What kind of object an action is about; with any other it makes no sense and is denied.
const fn fits(action: Action, object: &Object) -> bool {
    match action {
        Action::ReadPage
        | Action::ReadHealth
        | Action::ReadMetrics
        | Action::ReadManifests
        | Action::ReadPools
        | Action::OpenGuest
        | Action::Enrol
        | Action::ReadRealm
        | Action::Invite => matches!(object, Object::Realm),
        Action::ReadIntent | Action::CancelIntent => matches!(object, Object::Intent { .. }),
        Action::Quote
        | Action::Submit
        | Action::IssueToken
        | Action::ReadAccount
        | Action::ReadTransfers
        | Action::ReadReceipts
        | Action::ManageKeys
        | Action::BanAccount
        | Action::LimitAccount => matches!(object, Object::Account(_)),
        Action::OpenSession | Action::BanWorker | Action::Vouch | Action::RemoveWorker => {
            matches!(object, Object::Worker(_))
        }
    }
}

/// Whether `actor` may do `action` to `object`.
///
/// # Errors
/// `Unauthenticated` for nobody; `NotFound` where even knowing would be too much; else `Forbidden`.
pub fn authorize(actor: &Actor, action: Action, object: &Object) -> Result<(), Denied> {
    let owner = match object {
        Object::Account(account) | Object::Intent { account } => Some(account),
        Object::Realm | Object::Worker(_) => None,
    };
    let rule = rule(action);
    let allowed = match (rule, actor) {
        (Rule::Anybody, _) | (Rule::Owner | Rule::Books | Rule::Sysop, Actor::Sysop) => true,
        (Rule::Books, Actor::Account(account) | Actor::Banned(account)) => owner == Some(account),
        (Rule::Itself | Rule::Owner, Actor::Account(account)) => owner == Some(account),
        (Rule::ThatWorker, Actor::Worker(worker)) => *object == Object::Worker(*worker),
        _ => false,
    };
    if allowed && fits(action, object) {
        return Ok(());
    }
    Err(match (rule, actor) {
        (_, Actor::Nobody) => Denied::Unauthenticated,
        (_, Actor::Banned(_)) => Denied::Banned,
        // Another's account or intent is as good as none.
        (Rule::Owner | Rule::Books, Actor::Account(_)) => Denied::NotFound,
        _ => Denied::Forbidden,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: AccountId = AccountId([1; 32]);
    const OTHER: AccountId = AccountId([2; 32]);
    const MINE: WorkerId = WorkerId([3; 32]);
    const THEIRS: WorkerId = WorkerId([4; 32]);

    const ACTORS: [Actor; 7] = [
        Actor::Nobody,
        Actor::Account(ME),
        Actor::Account(OTHER),
        Actor::Worker(MINE),
        Actor::Worker(THEIRS),
        Actor::Sysop,
        Actor::Banned(ME),
    ];
    const OBJECTS: [Object; 7] = [
        Object::Realm,
        Object::Account(ME),
        Object::Account(OTHER),
        Object::Intent { account: ME },
        Object::Intent { account: OTHER },
        Object::Worker(MINE),
        Object::Worker(THEIRS),
    ];

    /// One line an action, written from the promises and not from the rules: for each object of
    /// [`OBJECTS`] the actors that may, as letters: `n`obody, `m`e, `o`ther, `w` my worker, `t`
    /// their worker, `s`ysop, `b`anned me. Whatever is not here may nobody.
    const MAY: [(Action, [&str; 7]); 24] = [
        (Action::ReadPage, ["nmowtsb", "", "", "", "", "", ""]),
        (Action::ReadHealth, ["nmowtsb", "", "", "", "", "", ""]),
        (Action::ReadMetrics, ["nmowtsb", "", "", "", "", "", ""]),
        (Action::ReadManifests, ["nmowtsb", "", "", "", "", "", ""]),
        (Action::ReadPools, ["nmowtsb", "", "", "", "", "", ""]),
        (Action::OpenGuest, ["nmowtsb", "", "", "", "", "", ""]),
        (Action::Enrol, ["nmowtsb", "", "", "", "", "", ""]),
        (Action::Quote, ["", "m", "o", "", "", "", ""]),
        (Action::Submit, ["", "m", "o", "", "", "", ""]),
        (Action::IssueToken, ["", "ms", "os", "", "", "", ""]),
        (Action::ReadIntent, ["", "", "", "ms", "os", "", ""]),
        (Action::CancelIntent, ["", "", "", "ms", "os", "", ""]),
        (Action::ReadAccount, ["", "msb", "os", "", "", "", ""]),
        (Action::ReadTransfers, ["", "msb", "os", "", "", "", ""]),
        (Action::ReadReceipts, ["", "msb", "os", "", "", "", ""]),
        (Action::ManageKeys, ["", "ms", "os", "", "", "", ""]),
        (Action::OpenSession, ["", "", "", "", "", "w", "t"]),
        (Action::ReadRealm, ["s", "", "", "", "", "", ""]),
        (Action::BanAccount, ["", "s", "s", "", "", "", ""]),
        (Action::BanWorker, ["", "", "", "", "", "s", "s"]),
        (Action::Vouch, ["", "", "", "", "", "s", "s"]),
        (Action::RemoveWorker, ["", "", "", "", "", "s", "s"]),
        (Action::LimitAccount, ["", "s", "s", "", "", "", ""]),
        (Action::Invite, ["s", "", "", "", "", "", ""]),
    ];

    #[test]
    fn the_table_is_the_rule() {
        for action in Action::ALL {
            let rows: Vec<_> = MAY.iter().filter(|(known, _)| *known == action).collect();
            let [(_, row)] = rows[..] else { panic!("{action:?} has one row") };
            for (object, may) in OBJECTS.iter().zip(row) {
                for (actor, letter) in ACTORS.iter().zip("nmowtsb".chars()) {
                    let allowed = authorize(actor, action, object).is_ok();
                    assert_eq!(allowed, may.contains(letter), "{actor:?} {action:?} {object:?}");
                }
            }
        }
    }

    #[test]
    fn a_denial_tells_no_more_than_it_must() {
        let denied = |actor, action, object| authorize(&actor, action, &object).unwrap_err();
        let intent = Object::Intent { account: OTHER };
        for (actor, expected) in [
            (Actor::Nobody, Code::Unauthenticated),
            (Actor::Account(ME), Code::NotFound),
            (Actor::Worker(MINE), Code::Forbidden),
            (Actor::Banned(ME), Code::Banned),
        ] {
            assert_eq!(denied(actor, Action::ReadIntent, intent).code(), expected);
        }
        let sysops = denied(Actor::Account(ME), Action::ReadRealm, Object::Realm);
        assert_eq!(sysops.code(), Code::Forbidden);
    }
}
