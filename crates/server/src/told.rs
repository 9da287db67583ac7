//! What the realm was told of its models by whoever brings them: what they are, what is on its
//! way, and which one answers who names none.
//!
//! Invariants: it is bounded (see below), whatever it was told; it never makes a model exist: what
//! can be asked is what workers offer. Absent on purpose: files, downloads, memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::edge::{Edge, Offered};
use crate::weights::Weight;

/// Descriptions kept: more than anybody serves from one machine, small beside an answer.
const ABOUT_MAX: usize = 256;
/// Models on their way at a time.
const ARRIVING_MAX: usize = 32;
/// Intents that have a default of their own.
const DEFAULTS_MAX: usize = 32;
/// Bytes of one text; as a model's name in a request.
const TEXT_BYTES_MAX: usize = 256;
/// What is said of a problem to who is not at home here.
const STRANGERS_PROBLEM: &str = "whoever runs this realm is told why";
/// So long what its worker offers may wait to be taken: the registry waits for its store. One that
/// is not taken by then was refused, and does not come.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of a problem with its remedy.
const PROBLEM_BYTES_MAX: usize = 1_024;

/// Everything at once: what is told replaces what was told before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelsTold {
    /// By id, the most capable first: the order in which they stand in for a default.
    pub about: Vec<(String, ModelAbout)>,
    pub arriving: Vec<Arriving>,
    /// By intent: the model that `auto` is, while one of the realm's own workers offers it.
    pub defaults: BTreeMap<String, String>,
}

/// A model in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelAbout {
    pub title: String,
    /// Of its file.
    pub bytes: u64,
    pub maker: String,
    pub licence: String,
    /// Such as `a coding model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A model that cannot be asked yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arriving {
    pub id: String,
    pub intent: String,
    pub about: ModelAbout,
    pub state: ArrivingState,
    pub received: u64,
    pub bytes: u64,
    /// Bytes a second.
    pub rate: u64,
    pub left_ms: Option<u64>,
    /// With the remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its worker offers it: it is on its way until the realm has taken that.
    #[serde(skip)]
    pub offered: Option<OfferedAs>,
}

/// The name in an offer, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedAs {
    pub name: String,
    pub at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrivingState {
    Waiting,
    Fetching,
    Starting,
    Failed,
}

impl ModelsTold {
    pub fn about(&self, id: &str) -> Option<&ModelAbout> {
        self.about.iter().find(|(known, _)| known == id).map(|(_, about)| about)
    }

    /// The smaller the better: the default first, then the order in which they were told, then
    /// those of which nothing was told.
    pub(crate) fn rank(&self, intent: &str, id: &str) -> usize {
        if self.defaults.get(intent).is_some_and(|default| default == id) {
            return 0;
        }
        let place = self.about.iter().position(|(known, _)| known == id);
        place.map_or(usize::MAX, |place| place.saturating_add(1))
    }

    /// Those of an intent, or the one of that id, that may still come.
    pub(crate) fn coming<'a>(
        &'a self,
        intent: &str,
        id: Option<&str>,
        offered: &'a Offered,
    ) -> Option<&'a Arriving> {
        let wanted = |arriving: &&Arriving| {
            arriving.intent == intent && id.is_none_or(|id| arriving.id == id)
        };
        // One that failed is the answer only where none goes on.
        let state =
            |arriving: &&Arriving| (arriving.state == ArrivingState::Failed, left(arriving));
        self.arriving(offered).filter(wanted).min_by_key(state)
    }

    /// What cannot be asked yet. What a worker said that it offers stands here until it can be: who
    /// found it in neither list would take it for gone.
    pub(crate) fn arriving<'a>(
        &'a self,
        offered: &'a Offered,
    ) -> impl Iterator<Item = &'a Arriving> {
        self.arriving.iter().filter(|one| {
            one.offered.as_ref().is_none_or(|OfferedAs { name, at }| {
                at.elapsed() < TAKEN_WITHIN && !offered.is_own(&one.intent, name)
            })
        })
    }

    fn bounded(mut self) -> Self {
        self.about.truncate(ABOUT_MAX);
        self.arriving.truncate(ARRIVING_MAX);
        for (id, about) in &mut self.about {
            cut(id, TEXT_BYTES_MAX);
            about.bound();
        }
        for arriving in &mut self.arriving {
            cut(&mut arriving.id, TEXT_BYTES_MAX);
            cut(&mut arriving.intent, TEXT_BYTES_MAX);
            arriving.about.bound();
            arriving.problem.iter_mut().for_each(|problem| cut(problem, PROBLEM_BYTES_MAX));
        }
        let fits = |(intent, id): &(String, String)| intent.len().max(id.len()) <= TEXT_BYTES_MAX;
        self.defaults = self.defaults.into_iter().filter(fits).take(DEFAULTS_MAX).collect();
        self
    }
}

fn left(arriving: &Arriving) -> u64 {
    arriving.left_ms.unwrap_or(u64::MAX)
}

impl ModelAbout {
    fn bound(&mut self) {
        for text in [&mut self.title, &mut self.maker, &mut self.licence] {
            cut(text, TEXT_BYTES_MAX);
        }
        self.note.iter_mut().for_each(|note| cut(note, TEXT_BYTES_MAX));
    }
}

impl Arriving {
    /// Without what the owner alone should read.
    pub(crate) fn for_strangers(&self) -> Self {
        let problem = self.problem.as_ref().map(|_| STRANGERS_PROBLEM.to_owned());
        Self { problem, ..self.clone() }
    }

    /// One sentence for who asked for it too early; the owner's own words only for who is at home.
    pub(crate) fn sentence(&self, at_home: bool) -> String {
        let title = if self.about.title.is_empty() { &self.id } else { &self.about.title };
        let (received, bytes) = (megabytes(self.received), megabytes(self.bytes));
        match self.state {
            ArrivingState::Waiting if self.bytes == 0 => {
                format!("{title} is here and waits to be started")
            }
            ArrivingState::Waiting => format!("{title} ({bytes} MB) waits to be fetched"),
            ArrivingState::Fetching => {
                let left =
                    self.left_ms.map(|left| format!(", about {} s left", left.div_ceil(1000)));
                let left = left.unwrap_or_default();
                format!("{title} is being fetched: {received} of {bytes} MB{left}")
            }
            ArrivingState::Starting => format!("{title} is here and starts"),
            ArrivingState::Failed => {
                let problem = self.problem.as_deref().filter(|_| at_home);
                format!("{title} did not come: {}", problem.unwrap_or(STRANGERS_PROBLEM))
            }
        }
    }
}

/// A size as people are told it: to the nearest, and never none where there is something.
pub fn megabytes(bytes: u64) -> u64 {
    (bytes.saturating_add(500_000) / 1_000_000).max(u64::from(bytes > 0))
}

/// At most so many bytes, and whole characters.
pub(crate) fn cut(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}

/// A realm's ear for what its models are; it may be kept while the realm runs.
#[derive(Clone)]
pub struct Teller(pub(crate) Arc<Edge>);

impl Teller {
    /// Replaces what was told before. What is beyond the bounds is cut off.
    pub fn tell_models(&self, told: ModelsTold) {
        self.0.told.store(Arc::new(told.bounded()));
    }

    /// Replaces what pages may fetch. The files were checked, and stay as they are.
    pub fn tell_weights(&self, weights: Vec<Weight>) {
        self.0.weights.set(weights);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arriving(id: &str, state: ArrivingState, left_ms: Option<u64>) -> Arriving {
        Arriving {
            id: id.into(),
            intent: "chat".into(),
            about: ModelAbout { title: format!("Model {id}"), ..ModelAbout::default() },
            state,
            received: 320_000_000,
            bytes: 1_117_320_768,
            rate: 1,
            left_ms,
            problem: None,
            offered: None,
        }
    }

    #[test]
    fn what_is_told_is_bounded() {
        let told = ModelsTold {
            about: vec![("ü".repeat(300), ModelAbout::default()); 1_000],
            arriving: vec![
                Arriving {
                    problem: Some("x".repeat(5_000)),
                    ..arriving("a", ArrivingState::Failed, None)
                };
                100
            ],
            defaults: (0..100).map(|n| (format!("i{n}"), "m".into())).collect(),
        };
        let told = told.bounded();
        assert_eq!((told.about.len(), told.arriving.len()), (ABOUT_MAX, ARRIVING_MAX));
        assert_eq!(told.about[0].0.len(), TEXT_BYTES_MAX);
        assert_eq!(told.defaults.len(), DEFAULTS_MAX);
        assert_eq!(told.arriving[0].problem.as_ref().unwrap().len(), PROBLEM_BYTES_MAX);
    }

    #[test]
    fn the_soonest_is_named_and_a_failed_one_last() {
        let told = ModelsTold {
            arriving: vec![
                arriving("failed", ArrivingState::Failed, Some(1)),
                arriving("late", ArrivingState::Waiting, None),
                arriving("soon", ArrivingState::Fetching, Some(1_001)),
            ],
            ..ModelsTold::default()
        };
        let none = Offered::default();
        let soon = told.coming("chat", None, &none).unwrap();
        assert_eq!(
            soon.sentence(true),
            "Model soon is being fetched: 320 of 1117 MB, about 2 s left"
        );
        assert_eq!(told.coming("chat", Some("failed"), &none).unwrap().id, "failed");
        assert_eq!(told.coming("embed", None, &none), None);
    }

    #[test]
    fn what_is_here_is_not_said_to_wait_for_its_bytes() {
        let here = Arriving { bytes: 0, ..arriving("x", ArrivingState::Waiting, None) };
        assert_eq!(here.sentence(true), "Model x is here and waits to be started");
    }

    #[test]
    fn what_its_worker_offers_is_on_its_way_until_the_realm_has_taken_it_or_will_not() {
        let said = |ago: u64| {
            let at = Instant::now().checked_sub(Duration::from_secs(ago)).unwrap();
            let offered = Some(OfferedAs { name: "other".into(), at });
            let one = Arriving { offered, ..arriving("x", ArrivingState::Starting, None) };
            ModelsTold { arriving: vec![one], ..ModelsTold::default() }
        };
        let ids = |told: &ModelsTold| {
            told.arriving(&Offered::default()).map(|one| one.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids(&said(0)), ["x"]);
        assert_eq!(said(0).coming("chat", Some("x"), &Offered::default()).unwrap().id, "x");
        assert!(ids(&said(31)).is_empty());
    }

    #[test]
    fn why_one_did_not_come_is_told_to_who_is_at_home() {
        let problem = Some("/srv/x.gguf is gone: `mtor models pull x`".into());
        let failed = Arriving { problem, ..arriving("x", ArrivingState::Failed, None) };
        let told = "Model x did not come: /srv/x.gguf is gone: `mtor models pull x`";
        assert_eq!(failed.sentence(true), told);
        let to_others = "Model x did not come: whoever runs this realm is told why";
        assert_eq!(failed.sentence(false), to_others);
        assert_eq!(Arriving { problem: None, ..failed }.sentence(true), to_others);
    }
}
