//! What workers offer now: a snapshot for the request path.

use mtor_core::router::{PoolView, TrustClass};
use mtor_types::amount::Price;

use crate::told::ModelsTold;

#[derive(Debug, Default)]
pub struct Offered {
    pools: Vec<PoolView>,
}

impl Offered {
    pub fn new(pools: Vec<PoolView>) -> Self {
        Self { pools }
    }

    pub fn pools(&self) -> &[PoolView] {
        &self.pools
    }

    /// Every model, in order, once.
    pub fn models(&self) -> impl Iterator<Item = String> {
        let names: std::collections::BTreeSet<&String> =
            self.pools.iter().filter_map(|pool| pool.model.as_ref()).collect();
        names.into_iter().cloned().collect::<Vec<_>>().into_iter()
    }

    /// The models of one intent, in order.
    pub fn models_of(&self, intent: &str) -> impl Iterator<Item = &str> {
        let of_intent = self.pools.iter().filter(move |pool| pool.intent == intent);
        of_intent.filter_map(|pool| pool.model.as_deref())
    }

    /// For who names none, or `auto`: one at the list price or below before dearer ones, the
    /// realm's own before others, among these the default that was told, then the most capable of
    /// which something was told, then the first by name. So nobody else's offer becomes the default
    /// while the realm offers anything itself.
    pub fn default_model(&self, intent: &str, list: Price, told: &ModelsTold) -> Option<String> {
        let of_intent = self.pools.iter().filter(|pool| pool.intent == intent);
        let named = of_intent.filter_map(|pool| Some((pool, pool.model.as_ref()?)));
        let ranked = named.filter_map(|(pool, model)| {
            let figures = pool.figures(|_| true)?;
            let dearer = figures.price.amount > list.amount;
            let others = figures.class != TrustClass::Own;
            Some((dearer, others, told.rank(intent, model), model))
        });
        ranked.min().map(|(.., model)| model.clone())
    }

    /// The lowest price that anybody asks for it.
    pub fn lowest_price(&self, intent: &str, model: Option<&str>) -> Option<Price> {
        let of_intent = self.pools.iter().filter(|pool| pool.intent == intent);
        let fits = of_intent.filter(|pool| model.is_none() || pool.model.as_deref() == model);
        let figures = fits.filter_map(|pool| pool.figures(|_| true));
        figures.map(|figures| figures.price).min_by_key(|price| price.amount)
    }

    pub fn wait_ms(&self, intent: &str, model: Option<&str>) -> u64 {
        let found = self.pools.iter().find(|pool| {
            pool.intent == intent && (model.is_none() || pool.model.as_deref() == model)
        });
        found.and_then(|pool| pool.figures(|_| true)).map_or(0, |figures| figures.wait_ms)
    }
}
