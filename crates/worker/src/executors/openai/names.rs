//! What clients call a backend's models.
//!
//! One table for all backends of a worker: a model that one backend lacks may stand at another, so
//! only together can they say that a named model is nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Names of the operator's for backends' models. Clones are one table.
#[derive(Clone, Debug, Default)]
pub struct ModelNames(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    /// (what clients ask for, what the backend is asked for).
    served: Vec<(String, String)>,
    /// Offered by their own names though their server runs them elsewhere.
    also: BTreeSet<String>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What each backend has; `None` until it was looked at.
    backends: BTreeMap<usize, Option<BTreeSet<String>>>,
    /// Told as missing.
    told: BTreeSet<String>,
}

impl ModelNames {
    /// `served`: pairs of the name that clients ask for and the backend's model; `also`: models
    /// that are offered by their own names even where their server runs them elsewhere.
    pub fn new(served: Vec<(String, String)>, also: impl IntoIterator<Item = String>) -> Self {
        let also = also.into_iter().collect();
        Self(Arc::new(Table { served, also, seen: Mutex::default() }))
    }

    /// What this model is offered as. Its own name only if it has no other, and if that name is
    /// not another model's.
    pub(in crate::executors) fn of<'a>(&'a self, model: &'a str) -> Vec<&'a str> {
        let served = self.0.served.iter().filter(|(_, named)| named == model);
        let names: Vec<_> = served.map(|(name, _)| &**name).collect();
        if names.is_empty() && self.model(model).is_none() { vec![model] } else { names }
    }

    /// The same of a model whose id is a path, by the id or by the name that is left of it.
    pub(super) fn of_path<'a>(&'a self, id: &'a str, name: &'a str) -> Vec<&'a str> {
        let names = self.of(id);
        if names == [id] { self.of(name) } else { names }
    }

    /// The backend's model behind a name, if it has another there.
    pub(in crate::executors) fn model(&self, name: &str) -> Option<&str> {
        self.0.served.iter().find(|(served, _)| served == name).map(|(_, model)| &**model)
    }

    /// The operator has named this model.
    pub(in crate::executors) fn is_named(&self, model: &str) -> bool {
        self.0.also.contains(model) || self.0.served.iter().any(|(_, named)| named == model)
    }

    /// A backend is there to be looked at. By its executor's place in the options.
    pub(in crate::executors) fn expect(&self, executor: usize) {
        self.seen(|seen| drop(seen.backends.insert(executor, None)));
    }

    /// Notes what a backend has. Gives the named models that are new in being nowhere.
    pub(in crate::executors) fn note(
        &self,
        executor: usize,
        models: impl IntoIterator<Item = String>,
    ) -> Vec<String> {
        let models = models.into_iter().collect();
        self.seen(|seen| {
            seen.backends.insert(executor, Some(models));
            if seen.backends.values().any(Option::is_none) {
                return Vec::new();
            }
            let is_here =
                |model: &&String| seen.backends.values().flatten().any(|m| m.contains(*model));
            let named = self.0.served.iter().map(|(_, model)| model).chain(&self.0.also);
            let missing: BTreeSet<_> = named.filter(|model| !is_here(model)).cloned().collect();
            let new = missing.difference(&seen.told).cloned().collect();
            seen.told = missing;
            new
        })
    }

    fn seen<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        change(&mut self.0.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, model: &str) -> (String, String) {
        (name.into(), model.into())
    }

    #[test]
    fn a_model_has_its_names_or_its_own() {
        let served = vec![pair("good", "qwen:7b"), pair("best", "qwen:7b"), pair("tiny", "smol")];
        let names = ModelNames::new(served, ["big:cloud".to_owned()]);
        assert_eq!(names.of("qwen:7b"), ["good", "best"]);
        assert_eq!(names.of("llama3"), ["llama3"]);
        assert_eq!(names.of_path("/m/new.gguf", "new"), ["new"]);
        assert_eq!(names.of_path("/m/smol.gguf", "smol"), ["tiny"]);
        // The name of another: it has none of its own.
        assert!(names.of("tiny").is_empty());
        assert_eq!((names.model("best"), names.model("qwen:7b")), (Some("qwen:7b"), None));
        assert!(names.is_named("smol") && names.is_named("big:cloud") && !names.is_named("llama3"));
    }

    #[test]
    fn a_named_model_is_missing_only_where_no_backend_has_it_and_is_told_once() {
        let names = ModelNames::new(vec![pair("good", "qwen:7b")], []);
        names.expect(1);
        names.expect(2);
        let note = |executor, models: &[&str]| {
            names.note(executor, models.iter().map(|model| (*model).to_owned()))
        };
        assert!(note(1, &["llama3"]).is_empty(), "the other was not looked at yet");
        assert_eq!(note(2, &[]), ["qwen:7b"]);
        assert!(note(1, &["llama3"]).is_empty());
        assert!(note(2, &["qwen:7b"]).is_empty());
        assert_eq!(note(2, &["llama3"]), ["qwen:7b"]);
    }
}
