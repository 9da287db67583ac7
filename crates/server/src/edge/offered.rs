//! What workers offer now, and whose it is: a snapshot for the request path.

use std::collections::BTreeMap;

use mtor_core::router::{Figures, Party, PoolView, TrustClass};
use mtor_types::AccountId;
use mtor_types::amount::Price;
use mtor_types::intent::Trust;

use super::Names;
use crate::told::ModelsTold;

/// Rows of strangers' models that are listed: more than anybody reads; and those of one owner, so that
/// nobody fills everybody's list. One beyond can be asked for by its name.
const STRANGERS_MAX: usize = 200;
const OF_ONE_OWNER: usize = 16;
/// Owners that a row names.
const OWNERS_MAX: usize = 8;

#[derive(Debug, Default)]
pub struct Offered {
    /// In order of intents and models.
    pools: Vec<PoolView>,
    listed: Vec<Listed>,
}

/// One row of what can be asked here, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub intent: String,
    /// With its owner, if only strangers offer it.
    pub model: Option<String>,
    /// Of those who serve who asks so.
    pub figures: Figures,
    /// Whose they are, the realm's own first.
    pub owners: Vec<(AccountId, TrustClass)>,
    /// What has to be said for it; nothing for the default.
    pub trust: Trust,
}

/// To whose offers an intent may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    pub trust: Trust,
    /// That one's alone.
    pub owner: Option<AccountId>,
    /// Who asks: its own workers serve it whatever it says of trust.
    pub account: Option<AccountId>,
}

impl Reach {
    /// Who says nothing, and has no worker of its own.
    const USUAL: Self = Self { trust: Trust::Proven, owner: None, account: None };

    pub fn includes(&self, party: &Party) -> bool {
        let trusted = match self.trust {
            Trust::Own => party.class == TrustClass::Own,
            Trust::Proven => party.class <= TrustClass::Proven,
            Trust::Any => true,
        };
        let is_its_own = self.account == Some(party.owner);
        (trusted || is_its_own) && self.owner.is_none_or(|owner| owner == party.owner)
    }
}

impl Offered {
    pub fn new(pools: Vec<PoolView>, names: &Names) -> Self {
        let (mut listed, mut left) = (Vec::new(), STRANGERS_MAX);
        let mut of_owner: BTreeMap<AccountId, usize> = BTreeMap::new();
        for row in pools.iter().flat_map(|pool| rows(pool, names)) {
            if row.figures.class == TrustClass::Probation
                && let Some((owner, _)) = row.owners.first()
            {
                let count = of_owner.entry(*owner).or_default();
                if left == 0 || *count == OF_ONE_OWNER {
                    continue;
                }
                (left, *count) = (left - 1, *count + 1);
            }
            listed.push(row);
        }
        Self { pools, listed }
    }

    /// In order of intents and models.
    pub fn listed(&self) -> &[Listed] {
        &self.listed
    }

    /// Whether the realm's own account offers anything.
    pub fn has_own(&self) -> bool {
        self.listed.iter().any(|row| row.figures.class == TrustClass::Own)
    }

    /// The model by its worker's own name, if anybody offers it.
    pub fn pool(&self, intent: &str, model: Option<&str>) -> Option<&PoolView> {
        let at = self.pools.binary_search_by(|pool| {
            (pool.intent.as_str(), pool.model.as_deref()).cmp(&(intent, model))
        });
        let at = at.ok()?;
        self.pools.get(at)
    }

    /// Everything of one intent, whatever the model.
    pub fn pools_of(&self, intent: &str) -> impl Iterator<Item = &PoolView> + Clone {
        let from = self.pools.partition_point(|pool| pool.intent.as_str() < intent);
        let rest = self.pools.get(from..).unwrap_or_default().iter();
        rest.take_while(move |pool| pool.intent == intent)
    }

    /// What can be asked of one intent, by the names under which it is.
    pub fn models_of(&self, intent: &str) -> impl Iterator<Item = &str> {
        let of_intent = self.listed.iter().filter(move |row| row.intent == intent);
        of_intent.filter_map(|row| row.model.as_deref())
    }

    /// Whether the realm's own account offers that one.
    pub fn is_own(&self, intent: &str, model: &str) -> bool {
        let pool = self.pool(intent, Some(model));
        pool.is_some_and(|pool| pool.parties.iter().any(|party| party.class == TrustClass::Own))
    }

    /// For who names none, or `auto`, of those that it may come to: one at the list price or below
    /// before dearer ones, the realm's own before others, among these the default that was told,
    /// then the most capable of which something was told, then the first by name. So a stranger's
    /// is nobody's default, and nobody else's while the realm offers anything itself.
    pub fn default_model(
        &self,
        intent: &str,
        list: Price,
        told: &ModelsTold,
        reach: Reach,
    ) -> Option<String> {
        let named = self.pools_of(intent).filter_map(|pool| Some((pool, pool.model.as_ref()?)));
        let ranked = named.filter_map(|(pool, model)| {
            let figures = pool.figures(|party| reach.includes(party))?;
            let dearer = figures.price.amount > list.amount;
            let others = figures.class != TrustClass::Own;
            Some((dearer, others, told.rank(intent, model), model))
        });
        ranked.min().map(|(.., model)| model.clone())
    }

    /// The same for who says nothing: what `auto` is.
    pub fn usual_model(&self, intent: &str, list: Price, told: &ModelsTold) -> Option<String> {
        self.default_model(intent, list, told, Reach::USUAL)
    }

    /// What the offers of a model, or of all of them, come to for who may come to these.
    pub fn figures(&self, intent: &str, model: Option<&str>, reach: Reach) -> Option<Figures> {
        let of = |pool: &PoolView| pool.figures(|party| reach.includes(party));
        if model.is_some() {
            return self.pool(intent, model).and_then(of);
        }
        let figures = self.pools_of(intent).filter_map(of);
        figures.min_by_key(|figures| (figures.price.amount, figures.wait_ms))
    }
}

/// What the realm's own and proven workers offer is listed by its name. What only strangers do bears
/// its owner's, one row each; without a model it has no other name, and `any` has to be said.
fn rows(pool: &PoolView, names: &Names) -> Vec<Listed> {
    let row = |model: Option<String>, trust: Trust, is_meant: &dyn Fn(&Party) -> bool| {
        let owners = pool.parties.iter().filter(|party| is_meant(party)).take(OWNERS_MAX);
        let owners = owners.map(|party| (party.owner, party.class)).collect();
        let (intent, figures) = (pool.intent.clone(), pool.figures(is_meant)?);
        Some(Listed { intent, model, figures, owners, trust })
    };
    let model = pool.model.as_deref();
    if let Some(listed) =
        row(pool.model.clone(), Trust::Proven, &|party| Reach::USUAL.includes(party))
    {
        return vec![listed];
    }
    let Some(model) = model else { return row(None, Trust::Any, &|_| true).into_iter().collect() };
    let strangers = pool.parties.iter().map(|party| party.owner);
    let named = strangers.filter_map(|owner| {
        row(Some(names.owned(model, owner)), Trust::Proven, &|party| party.owner == owner)
    });
    named.collect()
}
