//! Which model an intent is for, and whose workers may serve it.
//!
//! What is asked for by a bare name is the realm's own and proven workers', unless the client says
//! `any`. A name with its owner is consent to that owner's workers, and to nobody else's. Whom the
//! node would find nobody for is told here already, with what else could be asked; the node decides.

use mtor_core::router::{Figures, Party, PoolView};
use mtor_types::intent::Trust;
use mtor_types::{AccountId, Code, model};

use super::Edge;
use super::offered::{Offered, Reach};
use crate::admission::Ask;
use crate::api_error::ApiError;
use crate::manifests::Entry;
use crate::told::Arriving;

/// Models that a refusal names at most.
const NAMED_MAX: usize = 20;
/// A model that has arrived still starts.
const RETRY_MIN_MS: u64 = 1_000;

impl Edge {
    /// A model that no worker offers is refused with those that exist, and what only strangers
    /// offer with how it may be asked. Where none is named, or `auto`, it is the realm's default
    /// (see [`Offered::default_model`]).
    pub(super) fn choose(
        &self,
        entry: &Entry,
        ask: &mut Ask,
        account: AccountId,
        at_home: bool,
    ) -> Result<(), ApiError> {
        let offered = self.offered.load();
        let choice = Choice { edge: self, offered: &offered, account, at_home };
        if !entry.wanted.model {
            return choice.reached(ask, offered.pools_of(&ask.name));
        }
        let Some(asked) = ask.model.clone() else { return choice.default(entry, ask) };
        if let Some(pool) = offered.pool(&ask.name, Some(&asked)) {
            return choice.reached(ask, std::iter::once(pool));
        }
        match model::split_owner(&asked) {
            Some((name, digits)) => choice.owned(ask, name, digits),
            None => Err(choice.unknown(ask)),
        }
    }

    /// What the offers come to that may serve it.
    pub(super) fn figures(&self, ask: &Ask, account: AccountId) -> Option<Figures> {
        self.offered.load().figures(&ask.name, ask.model.as_deref(), reach(ask, account))
    }
}

fn reach(ask: &Ask, account: AccountId) -> Reach {
    Reach { trust: ask.trust(), owner: ask.owner, account: Some(account) }
}

struct Choice<'a> {
    edge: &'a Edge,
    offered: &'a Offered,
    account: AccountId,
    at_home: bool,
}

impl Choice<'_> {
    fn default(&self, entry: &Entry, ask: &mut Ask) -> Result<(), ApiError> {
        let (list, reach) = (entry.manifest.price, reach(ask, self.account));
        ask.model = self.offered.default_model(&ask.name, list, &self.edge.told.load(), reach);
        if ask.model.is_some() {
            return Ok(());
        }
        self.coming(ask)?;
        self.reached(ask, self.offered.pools_of(&ask.name))
    }

    /// Of one owner's, by as many digits of its id as tell it from every other's.
    fn owned(&self, ask: &mut Ask, name: &str, digits: &str) -> Result<(), ApiError> {
        let owners = self.edge.names.owners(digits);
        let [owner] = owners.as_slice() else {
            if owners.is_empty() {
                return Err(self.unknown(ask));
            }
            let longer: Vec<String> =
                owners.iter().map(|owner| self.edge.names.owned(name, *owner)).collect();
            let expected = format!(
                "more of the owner's account, since several begin so: {}",
                longer.join(", ")
            );
            return Err(ApiError::invalid_field("model", &expected));
        };
        let offers = |party: &Party| party.owner == *owner;
        let pool = self.offered.pool(&ask.name, Some(name));
        if !pool.is_some_and(|pool| pool.more || pool.parties.iter().any(offers)) {
            return Err(self.unknown(ask));
        }
        ask.model = Some(name.to_owned());
        if *owner == self.edge.identity.account() {
            // The realm's own need no name of theirs.
            ask.trust = ask.trust.or(Some(Trust::Own));
        } else {
            ask.owner = Some(*owner);
        }
        Ok(())
    }

    /// Whether anybody offers it to whom it may come, as far as is known here.
    fn reached<'p>(
        &self,
        ask: &Ask,
        pools: impl Iterator<Item = &'p PoolView> + Clone,
    ) -> Result<(), ApiError> {
        let reach = reach(ask, self.account);
        let mut all = pools.clone();
        if reach.trust != Trust::Proven
            || all.any(|pool| pool.more || pool.parties.iter().any(|party| reach.includes(party)))
        {
            return Ok(());
        }
        let mut strangers = pools.flat_map(|pool| &pool.parties).peekable();
        if strangers.peek().is_none() {
            return Ok(());
        }
        self.coming(ask)?;
        Err(self.strangers_only(ask))
    }

    fn strangers_only(&self, ask: &Ask) -> ApiError {
        let named: Vec<&str> = self
            .offered
            .models_of(&ask.name)
            .filter(|name| {
                ask.model.as_deref().is_none_or(|asked| model::without_owner(name) == asked)
            })
            .take(NAMED_MAX)
            .collect();
        let who = "only workers that are not yet proven offer this";
        let message = if named.is_empty() {
            format!("{who}: say `trust`: `any` to be served by anybody's")
        } else {
            format!(
                "{who}: name the model with its owner, which is consent to that owner's workers \
                 alone ({}), or say `trust`: `any`",
                named.join(", ")
            )
        };
        let field = if named.is_empty() { "trust" } else { "model" };
        ApiError::new(Code::NotProven, message).with_field(field)
    }

    /// What is asked for may be on its way.
    fn coming(&self, ask: &Ask) -> Result<(), ApiError> {
        let told = self.edge.told.load();
        match told.coming(&ask.name, ask.model.as_deref(), self.offered) {
            Some(coming) => Err(not_yet(coming, self.at_home)),
            None => Ok(()),
        }
    }

    fn unknown(&self, ask: &Ask) -> ApiError {
        if let Err(coming) = self.coming(ask) {
            return coming;
        }
        let known: Vec<&str> = self.offered.models_of(&ask.name).take(NAMED_MAX).collect();
        let message = format!("no worker here offers that model; on offer: {}", known.join(", "));
        ApiError::new(Code::UnknownModel, message).with_field("model")
    }
}

/// What is asked for is on its way, or did not come.
fn not_yet(coming: &Arriving, at_home: bool) -> ApiError {
    let message = format!("no model can answer that yet: {}", coming.sentence(at_home));
    let error = ApiError::new(Code::NoWorker, message).with_field("model");
    match coming.left_ms {
        Some(left_ms) => error.with_retry_after_ms(left_ms.max(RETRY_MIN_MS)),
        None => error,
    }
}
