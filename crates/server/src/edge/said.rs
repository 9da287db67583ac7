//! What the sysop says of accounts, for the request path: a fold of the accountant's facts.

use mtor_types::AccountId;
use mtor_types::fact::AccountLimits;
use tokio::sync::watch;

#[derive(Debug)]
pub struct Said {
    banned: papaya::HashSet<AccountId>,
    limits: papaya::HashMap<AccountId, AccountLimits>,
    bans: watch::Sender<()>,
}

impl Default for Said {
    fn default() -> Self {
        let (bans, _) = watch::channel(());
        Self { banned: papaya::HashSet::new(), limits: papaya::HashMap::new(), bans }
    }
}

impl Said {
    pub fn is_banned(&self, account: AccountId) -> bool {
        self.banned.pin().contains(&account)
    }

    pub fn limits(&self, account: AccountId) -> AccountLimits {
        self.limits.pin().get(&account).copied().unwrap_or_default()
    }

    pub fn ban(&self, account: AccountId, banned: bool) {
        if banned {
            self.banned.pin().insert(account);
            self.bans.send_replace(());
        } else {
            self.banned.pin().remove(&account);
        }
    }

    pub fn limit(&self, account: AccountId, limits: AccountLimits) {
        if limits.is_none() {
            self.limits.pin().remove(&account);
        } else {
            self.limits.pin().insert(account, limits);
        }
    }

    /// Tells of every ban: what is open looks again at whose it is.
    pub fn bans(&self) -> watch::Receiver<()> {
        self.bans.subscribe()
    }
}
