//! What becomes of the models that a realm serves by itself: which is fetched next, which runs,
//! what people and the page are told. Pure: words of the worker and of the fetcher go in with the
//! time; orders, wishes and words come out.

mod stand_in;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mtor_server::{Arriving, ArrivingState, ModelAbout, ModelsTold, OfferedAs};
use mtor_worker::memory_needed;
use serde_json::{Value, json};

use super::choice::{By, Chosen, VOICE};
use super::fetcher::Arrival;
use super::rate::{Rate, takes};
use crate::commands::up::news::News;
use crate::models::Model;
use crate::words::megabytes;
use stand_in::Trial;

/// A worker that has not looked yet is waited for so long.
const LOOK_FOR: Duration = Duration::from_secs(30);
/// A server that has a chat model and does not offer it yet may be loading it.
const HOPE_FOR: Duration = Duration::from_secs(150);
/// Where a model failed the server is asked for the next one within this time, if there is one.
const NEXT_WITHIN: Duration = Duration::from_secs(5);
/// One that is gone may be starting anew.
const GONE_FOR: Duration = Duration::from_secs(60);
const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(10 * 60);
/// Refusals of sources that are remembered.
const REFUSALS_MAX: usize = 32;
/// How often people, and programs, are told of progress.
const SAY_EVERY: Duration = Duration::from_secs(10);
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What a program may offer in place of its model: where Kokoro is slower than speech, flite speaks.
const OTHER_NAMES: [(&str, &str); 1] = [("speak", "flite")];

/// Something to print.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) event: Value,
    pub(super) words: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Only if nothing that runs on this machine does the same.
    Held,
    Waiting {
        again: Option<Instant>,
        problem: Option<String>,
    },
    Fetching,
    Starting {
        problem: Option<String>,
    },
    Serving,
    /// It has answered meanwhile.
    Retired,
    /// It failed for so long that the other one answers; it is tried again then.
    Resting {
        again: Instant,
        problem: String,
    },
    Never {
        problem: String,
    },
}

#[derive(Debug)]
struct Entry {
    model: Model,
    by: By,
    /// Why it can never run here.
    problem: Option<String>,
    state: State,
    /// Why it is about to be offered no more.
    trouble: Option<String>,
    trial: Trial,
    /// Bytes that were missing of it and of what runs it, and have come of these.
    missing: u64,
    received: u64,
    rate: Rate,
    tries: u32,
    /// What people were told of sources: each once.
    refusals: BTreeSet<String>,
    told: Option<Instant>,
    said: Option<Instant>,
}

struct Found {
    server: String,
    models: Vec<String>,
    /// Its chat models that are being asked and have not failed.
    untried: Vec<String>,
    /// When one of its models did.
    failed: Option<Instant>,
}

/// What the shelf has to know when it is made.
pub(super) struct Stock {
    pub(super) chosen: Vec<Chosen>,
    /// All that have words for people.
    pub(super) known: Vec<Model>,
    /// The model that may answer meanwhile.
    pub(super) meanwhile: Option<Model>,
    /// Whether servers of models are looked for on this machine.
    pub(super) looks: bool,
}

pub(super) struct Shelf {
    known: Vec<Model>,
    entries: Vec<Entry>,
    meanwhile: Option<Model>,
    /// Bytes that are missing of a model and of what runs it.
    missing: Box<dyn Fn(&Model) -> u64 + Send>,
    found: BTreeMap<String, Found>,
    offered: BTreeSet<(String, String)>,
    has_looked: bool,
    begun: Instant,
    /// When something that was found was last seen to answer, where defaults are held back for it.
    answered: Option<Instant>,
    said: Vec<Said>,
}

impl Shelf {
    pub(super) fn new(
        stock: Stock,
        missing: Box<dyn Fn(&Model) -> u64 + Send>,
        now: Instant,
    ) -> Self {
        let mut shelf = Self {
            known: stock.known,
            entries: Vec::new(),
            meanwhile: stock.meanwhile,
            missing,
            found: BTreeMap::new(),
            offered: BTreeSet::new(),
            has_looked: false,
            begun: now,
            answered: None,
            said: Vec::new(),
        };
        for one in stock.chosen {
            let is_held = stock.looks && one.by == By::Default;
            shelf.put(one.model, one.by, one.problem);
            if let Some(entry) = shelf.entries.last_mut().filter(|_| is_held) {
                entry.state = State::Held;
            }
        }
        shelf.call_stand_in(true);
        shelf
    }

    fn put(&mut self, model: Model, by: By, problem: Option<String>) {
        let missing = (self.missing)(&model);
        let mut entry = Entry {
            model,
            by,
            problem,
            state: State::Held,
            trouble: None,
            trial: Trial::default(),
            missing,
            received: 0,
            rate: Rate::default(),
            tries: 0,
            refusals: BTreeSet::new(),
            told: None,
            said: None,
        };
        entry.release();
        self.entries.push(entry);
    }

    pub(super) fn on_news(&mut self, news: News, now: Instant) {
        match news {
            News::Offers { offers, full } => {
                self.has_looked |= full;
                self.offered = offers.into_iter().collect();
                self.notice_offers(now);
            }
            News::Found { server, url, models, untried } => {
                self.found.insert(url, Found { server, models, untried, failed: None });
            }
            News::Asked { url, model } => {
                if let Some(found) = self.found.get_mut(&url) {
                    found.untried.push(model);
                }
            }
            News::Gone { url } => drop(self.found.remove(&url)),
            News::Down { executor, reason } => self.on_trouble(&executor, &reason, true, now),
            News::LeftOut { backend, model, reason } => match self.found.get_mut(&backend) {
                Some(found) => {
                    found.untried.retain(|untried| *untried != model);
                    found.failed = Some(now);
                }
                None => self.on_trouble(&format!("engine {model}"), &reason, false, now),
            },
            News::Died => {
                self.offered.clear();
                self.found.clear();
                self.notice_offers(now);
            }
        }
        self.decide(now);
    }

    /// What is offered serves, and only that.
    fn notice_offers(&mut self, now: Instant) {
        for entry in &mut self.entries {
            let intent = entry.model.intent.as_str();
            let other = OTHER_NAMES.iter().find(|(of, _)| *of == intent).map(|(_, name)| *name);
            let mut names = other.into_iter().chain([entry.model.name.as_str()]);
            let is_offered =
                names.any(|name| self.offered.contains(&(intent.to_owned(), name.to_owned())));
            match entry.state {
                State::Starting { .. } if is_offered => {
                    entry.state = State::Serving;
                    entry.trouble = None;
                    entry.trial.serves(now);
                    self.said.push(entry.say("serving", None));
                }
                // Whatever was the trouble, it is over.
                State::Serving if is_offered => entry.trouble = None,
                // Why was said; that it starts anew is not called a failure yet.
                State::Serving => {
                    entry.state = State::Starting { problem: None };
                    entry.trial.waits(now);
                }
                State::Held
                | State::Waiting { .. }
                | State::Fetching
                | State::Starting { .. }
                | State::Retired
                | State::Resting { .. }
                | State::Never { .. } => {}
            }
        }
        let is_there = |entry: &Entry| entry.is_default_chat() && entry.state == State::Serving;
        if self.entries.iter().any(is_there) {
            self.retire_stand_in();
        }
    }

    /// `is_down`: its process has ended, or could not begin.
    fn on_trouble(&mut self, executor: &str, reason: &str, is_down: bool, now: Instant) {
        for entry in &mut self.entries {
            let is_it = match executor.strip_prefix("engine ") {
                Some(name) => entry.model.name == name,
                None => {
                    let program = executor.strip_prefix("exec ");
                    program.is_some() && program == program_of(&entry.model.intent)
                }
            };
            if !is_it {
                continue;
            }
            let is_new = match &mut entry.state {
                State::Starting { .. } if entry.trial.may_be_there_soon(now) => {
                    entry.trouble.replace(reason.to_owned()).as_deref() != Some(reason)
                }
                State::Starting { problem } => {
                    problem.replace(reason.to_owned()).as_deref() != Some(reason)
                }
                // Its offer is taken back right after.
                State::Serving => entry.trouble.replace(reason.to_owned()).is_none(),
                State::Held
                | State::Waiting { .. }
                | State::Fetching
                | State::Retired
                | State::Resting { .. }
                | State::Never { .. } => continue,
            };
            let wants = if is_down { memory_needed(entry.model.bytes) } else { 0 };
            entry.trial.failed(wants, now);
            if is_new {
                let words = format!("{} does not run: {reason}; it is tried again.", entry.title());
                self.said.push(entry.say("failed", Some(words)));
            }
        }
    }

    pub(super) fn on_arrival(&mut self, arrival: Arrival, now: Instant) {
        let fetching = |entry: &&mut Entry| entry.state == State::Fetching;
        let Some(entry) = self.entries.iter_mut().find(fetching) else { return };
        match arrival {
            Arrival::Received { bytes, missing } => {
                entry.received = bytes;
                entry.missing = missing.max(bytes);
                entry.rate.read(now, bytes);
            }
            Arrival::Waiting => {
                let words = format!(
                    "{}: another process on this machine fetches it; waiting for that.",
                    entry.title()
                );
                self.said.push(entry.say("waiting", Some(words)));
            }
            Arrival::Refused { why, matters } => {
                let event = json!({"status": "refused", "id": entry.model.name, "problem": why});
                // Of the others people are told if none could give it.
                if entry.refusals.len() >= REFUSALS_MAX {
                    entry.refusals.clear();
                }
                let is_news = matters && entry.refusals.insert(why.clone());
                self.said.push(Said { event, words: is_news.then_some(why) });
            }
            Arrival::Done => {
                entry.received = entry.missing;
                entry.state = State::Starting { problem: None };
                entry.trial.begins(entry.model.bytes);
                self.said.push(entry.say("starting", None));
            }
            Arrival::BrokenOff => entry.state = State::Waiting { again: None, problem: None },
            Arrival::Failed(problem) => {
                entry.tries = entry.tries.saturating_add(1);
                let factor = 1_u32 << entry.tries.saturating_sub(1).min(6);
                let pause = RETRY_MIN.saturating_mul(factor).min(RETRY_MAX);
                let words = format!(
                    "{} did not come: {problem}. It is tried again in {} s and goes on where it \
                     stopped.",
                    entry.title(),
                    pause.as_secs()
                );
                entry.state = State::Waiting { again: Some(now + pause), problem: Some(problem) };
                self.said.push(entry.say("failed", Some(words)));
            }
        }
    }

    /// What only time decides.
    pub(super) fn on_tick(&mut self, now: Instant) {
        self.decide(now);
        for entry in self.entries.iter_mut().filter(|entry| entry.state == State::Fetching) {
            let is_due = |at: Option<Instant>, every| {
                at.is_none_or(|at| now.saturating_duration_since(at) >= every)
            };
            if is_due(entry.told, TELL_EVERY) {
                entry.told = Some(now);
                let says = is_due(entry.said, SAY_EVERY) && entry.rate.per_second().is_some();
                let words = says.then(|| entry.progress());
                if says {
                    entry.said = Some(now);
                }
                self.said.push(entry.say("fetching", words));
            }
        }
    }

    /// Defaults are begun where nothing that was found does their work.
    fn decide(&mut self, now: Instant) {
        if self.entries.iter().all(|entry| entry.state != State::Held) {
            return;
        }
        let passed = now.saturating_duration_since(self.begun);
        if !self.has_looked && passed < LOOK_FOR {
            return;
        }
        let found = self.found_for("chat").map(|(model, found)| {
            let (server, url) = found;
            format!("{model} ({server} at {url})")
        });
        let hopes = passed < HOPE_FOR && self.found.values().any(|found| self.promises(found, now));
        if found.is_some() {
            self.answered = Some(now);
        }
        let was_there = |at| now.saturating_duration_since(at) < GONE_FOR;
        let waits = hopes || self.answered.is_some_and(was_there);
        for index in 0..self.entries.len() {
            let Some(entry) = self.entries.get_mut(index) else { continue };
            let is_held = entry.state == State::Held;
            if is_held && !(waits && entry.model.intent == "chat") {
                entry.release();
            } else if is_held
                && entry.said.is_none()
                && let Some(found) = &found
            {
                entry.said = Some(now);
                let words = format!(
                    "Chat is answered by {found}: {} is not needed; `mtor up --model {}` serves it \
                     too.",
                    entry.title(),
                    entry.model.short.as_deref().unwrap_or(&entry.model.name)
                );
                let said = entry.say("held", Some(words));
                self.said.push(said);
            }
        }
        self.call_stand_in(true);
    }

    /// A chat model of that server is being asked, or will be, or has answered and is not offered
    /// yet.
    fn promises(&self, found: &Found, now: Instant) -> bool {
        let was_now = |at| now.saturating_duration_since(at) < NEXT_WITHIN;
        let is_offered = |model: &String| self.offered.iter().any(|(_, name)| name == model);
        !found.untried.is_empty()
            || found.failed.is_some_and(was_now)
            || !found.models.iter().all(is_offered)
    }

    /// A model of that intent that was found on this machine and is offered: its name, its server
    /// and address.
    fn found_for(&self, intent: &str) -> Option<(&str, (&str, &str))> {
        let offered = |name: &&String| self.offered.contains(&(intent.to_owned(), (*name).clone()));
        self.found.iter().find_map(|(url, found)| {
            let name = found.models.iter().find(offered)?;
            Some((name.as_str(), (found.server.as_str(), url.as_str())))
        })
    }

    /// The model to fetch, or only to check, now; none while another one is.
    pub(super) fn next_order(&mut self, now: Instant) -> Option<Model> {
        if self.entries.iter().any(|entry| entry.state == State::Fetching) {
            return None;
        }
        let is_due = |entry: &&mut Entry| {
            let due = |again: Option<Instant>| again.is_none_or(|again| again <= now);
            matches!(entry.state, State::Waiting { again, .. } if due(again))
        };
        // Nothing of the voice is in the way of the first answer, nor of any that is no sound.
        let first_comes = self.entries.iter().any(|entry| !entry.is_voice() && entry.comes());
        let due = self.entries.iter_mut().filter(is_due);
        let due = due.filter(|entry| !(first_comes && entry.is_voice()));
        // What is here needs only a look; then who answers meanwhile; then as they were chosen.
        let entry = due.min_by_key(|entry| (entry.missing > 0, entry.by != By::Meanwhile))?;
        entry.missing = (self.missing)(&entry.model);
        entry.received = 0;
        entry.rate = Rate::default();
        entry.state = State::Fetching;
        if entry.missing > 0 {
            entry.told = Some(now);
            let words = format!("Fetching {}: {} MB.", entry.title(), megabytes(entry.missing));
            self.said.push(entry.say("fetching", Some(words)));
        }
        Some(entry.model.clone())
    }

    /// What is here and checked, whether or not it runs already.
    pub(super) fn here(&self) -> impl Iterator<Item = &Model> {
        self.entries.iter().filter(|entry| entry.is_here()).map(|entry| &entry.model)
    }

    /// What the worker is to serve now. The parts of the voice are tried with each other, so none
    /// begins while another is still coming for the first time.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Model> {
        let on_its_way = |entry: &Entry| {
            let waits = matches!(entry.state, State::Waiting { .. } | State::Fetching);
            entry.is_voice() && waits && entry.tries == 0
        };
        let voice_comes = self.entries.iter().any(on_its_way);
        let is_due = move |entry: &&Entry| !(voice_comes && entry.is_voice());
        let here = self.entries.iter().filter(|entry| entry.is_here());
        here.filter(is_due).map(|entry| &entry.model)
    }

    /// Whether time alone may change something.
    pub(super) fn ticks(&self) -> bool {
        self.entries.iter().any(|entry| {
            matches!(entry.state, State::Held | State::Fetching | State::Resting { .. })
                || matches!(entry.state, State::Waiting { again: Some(_), .. })
        })
    }

    pub(super) fn said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    /// What it is offered as.
    fn name_of<'a>(&self, entry: &'a Entry) -> &'a str {
        let intent = entry.model.intent.as_str();
        let is_offered = |name: &str| self.offered.contains(&(intent.to_owned(), name.to_owned()));
        let other = OTHER_NAMES.iter().find(|(of, name)| *of == intent && is_offered(name));
        match other {
            Some((_, name)) if !is_offered(&entry.model.name) => name,
            Some(_) | None => &entry.model.name,
        }
    }

    pub(super) fn told(&self) -> ModelsTold {
        let first = self.entries.iter().map(|entry| &entry.model);
        let mut about: Vec<(String, ModelAbout)> = Vec::new();
        for model in first.chain(&self.known) {
            if about.iter().all(|(name, _)| *name != model.name) {
                about.push((model.name.clone(), about_of(model)));
            }
        }
        let is_found = |entry: &Entry| {
            entry.state == State::Held && self.found_for(&entry.model.intent).is_some()
        };
        let arriving = self.entries.iter().filter(|entry| !is_found(entry));
        let arriving = arriving.filter_map(|entry| entry.arriving(self.name_of(entry))).collect();
        let mut defaults = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.by != By::Meanwhile) {
            let intent = &entry.model.intent;
            let found = self.found_for(intent).filter(|_| entry.by == By::Default);
            let name = found.map_or(self.name_of(entry), |(name, _)| name);
            defaults.entry(intent.clone()).or_insert_with(|| name.to_owned());
        }
        ModelsTold { about, arriving, defaults }
    }
}

impl Entry {
    fn is_voice(&self) -> bool {
        VOICE.contains(&self.model.intent.as_str())
    }

    fn is_here(&self) -> bool {
        matches!(self.state, State::Starting { .. } | State::Serving)
    }

    /// It is on its way, and nothing has failed yet.
    fn comes(&self) -> bool {
        match &self.state {
            State::Fetching => true,
            State::Waiting { problem, .. } | State::Starting { problem } => {
                problem.is_none() && self.trouble.is_none()
            }
            State::Held
            | State::Serving
            | State::Retired
            | State::Resting { .. }
            | State::Never { .. } => false,
        }
    }

    fn is_default_chat(&self) -> bool {
        self.by == By::Default && self.model.intent == "chat"
    }

    /// It has answered meanwhile, and is here.
    fn is_retired(&self) -> bool {
        self.state == State::Retired && self.received >= self.missing
    }

    fn release(&mut self) {
        self.state = match self.problem.clone() {
            Some(problem) => State::Never { problem },
            None => State::Waiting { again: None, problem: None },
        };
    }

    fn title(&self) -> &str {
        &self.model.title
    }

    fn left(&self) -> Option<Duration> {
        takes(self.missing.saturating_sub(self.received), self.rate.per_second())
    }

    fn progress(&self) -> String {
        let (received, missing) = (megabytes(self.received), megabytes(self.missing));
        let rate = self.rate.per_second().unwrap_or(0) / 100_000;
        let left = self.left().map(|left| format!(", about {} left", spoken(left)));
        format!(
            "{}: {received} of {missing} MB, {}.{} MB/s{}",
            self.title(),
            rate / 10,
            rate % 10,
            left.unwrap_or_default()
        )
    }

    fn say(&self, status: &str, words: Option<String>) -> Said {
        let problem = match &self.state {
            State::Waiting { problem, .. } => problem.clone(),
            State::Starting { problem } => problem.clone().or_else(|| self.trouble.clone()),
            State::Never { problem } | State::Resting { problem, .. } => Some(problem.clone()),
            State::Held | State::Fetching | State::Serving | State::Retired => self.trouble.clone(),
        };
        let event = json!({
            "status": status, "id": self.model.name, "intent": self.model.intent,
            "received": self.received, "bytes": self.missing,
            "rate": self.rate.per_second().unwrap_or(0), "left_ms": self.left().map(millis),
            "problem": problem,
        });
        Said { event, words }
    }

    /// `name`: what it is offered as, where it is.
    fn arriving(&self, name: &str) -> Option<Arriving> {
        let (state, problem) = match &self.state {
            State::Retired => return None,
            // The realm may not have taken its offer yet.
            State::Serving => (ArrivingState::Starting, None),
            // Nothing of it has to come: it waits for its turn to be looked at.
            State::Waiting { problem: None, .. } if self.missing == 0 => {
                (ArrivingState::Starting, None)
            }
            State::Held | State::Waiting { problem: None, .. } => (ArrivingState::Waiting, None),
            // Nothing of it has to come: it is only looked at.
            State::Fetching if self.missing == 0 => (ArrivingState::Starting, None),
            State::Fetching => (ArrivingState::Fetching, None),
            State::Starting { problem: None } => (ArrivingState::Starting, None),
            State::Waiting { problem, .. } | State::Starting { problem } => {
                (ArrivingState::Failed, problem.clone())
            }
            State::Never { problem } | State::Resting { problem, .. } => {
                (ArrivingState::Failed, Some(problem.clone()))
            }
        };
        let offered = match self.state {
            State::Serving => Some(OfferedAs { name: name.to_owned(), at: self.trial.serving()? }),
            State::Held
            | State::Waiting { .. }
            | State::Fetching
            | State::Starting { .. }
            | State::Retired
            | State::Resting { .. }
            | State::Never { .. } => None,
        };
        Some(Arriving {
            id: self.model.name.clone(),
            intent: self.model.intent.clone(),
            about: about_of(&self.model),
            state,
            received: self.received,
            bytes: self.missing,
            rate: self.rate.per_second().unwrap_or(0),
            left_ms: self.left().map(millis),
            problem,
            offered,
        })
    }
}

/// What the program is called that runs models of this intent; none runs model files.
pub(super) fn program_of(intent: &str) -> Option<&'static str> {
    match intent {
        "chat" => None,
        _ if VOICE.contains(&intent) => Some("voice"),
        _ => Some("embed"),
    }
}

pub(super) fn about_of(model: &Model) -> ModelAbout {
    let Model { title, bytes, maker, licence, note, .. } = model.clone();
    ModelAbout { title, bytes, maker, licence, note }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn spoken(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..=90 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests;
