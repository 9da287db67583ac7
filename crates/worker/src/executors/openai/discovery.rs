//! What a backend has, asked now and then; what of it has answered is offered.
//!
//! One task a backend. Its list is read on while a probe takes its minutes, and a backend that goes
//! away takes its offers along at once. At an address where a server may appear by itself
//! ([`OpenAiOptions::finding`]) everything is silent until one of the four is there, and what that
//! one would have to load is let alone: to load it may throw out what its owner uses.
//!
//! [`OpenAiOptions::finding`]: crate::options::OpenAiOptions

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use mtor_types::worker::Offer;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until, timeout};

use super::OpenAi;
use super::book::{Book, Due};
use super::paths::names_of;
use super::server::{About, Intent, Listed, Said, Server};
use crate::executors::{Announcer, Tidy};
use crate::http_client::read_body;
use crate::limits;
use crate::options::{BackendNews, Status};

/// Of the name of a model that is left out.
const SHOWN_BYTES: usize = 64;
/// A server that was found and does not answer is gone at this look in a row: a busy one may miss
/// one.
const MISSES: u32 = 2;

#[derive(Deserialize)]
struct ModelList<'a> {
    #[serde(borrow, default)]
    data: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    /// vLLM's word for the context. One that is none does not make the model less.
    #[serde(default, deserialize_with = "lenient")]
    max_model_len: Option<u32>,
    /// What a llama-server with several models says: `loaded`, `unloaded`, …
    #[serde(default)]
    status: serde_json::Value,
}

impl Model {
    fn is_unloaded(&self) -> bool {
        self.status.get("value").is_some_and(|value| value == "unloaded")
    }
}

fn lenient<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(value.as_u64().and_then(|value| u32::try_from(value).ok()))
}

/// What can be offered of what a backend has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    offers: Vec<Offer>,
    /// Models that cannot, with the reason.
    left_out: Vec<String>,
}

/// What becomes of a model that a backend lists.
enum Place {
    /// By that name, if it has none of the operator's.
    Listed(String),
    /// Its server sends the words to another machine.
    Elsewhere,
    LeftOut(String),
}

type Probe = Pin<Box<dyn Future<Output = (String, Result<(), String>)> + Send>>;

/// Keeps the offers of a backend true until the agent is gone.
pub(crate) async fn discover(backend: Arc<OpenAi>, announcer: Announcer) {
    backend.options.names.expect(announcer.executor());
    let mut keeper = Keeper::new(backend, announcer);
    while keeper.look().await.is_ok() && keeper.attend().await.is_ok() {}
}

/// The agent has gone.
struct Over;

struct Keeper {
    backend: Arc<OpenAi>,
    announcer: Announcer,
    /// `None` while nobody is there.
    server: Option<Server>,
    /// When that one came.
    since: Instant,
    book: Book,
    said: Said,
    /// How many models the backend lists.
    listed: usize,
    probe: Option<Probe>,
    /// Models that were asked although their server had to load them: it had nothing loaded. They
    /// are not its owner's use, loaded or not.
    woken: BTreeSet<String>,
    /// What was announced last.
    known: Option<Result<Found, String>>,
    /// The names of models that were told to be found here; `None` while nothing is.
    found: Option<Vec<String>>,
    /// Chat models that were told to be asked there.
    asked: BTreeSet<String>,
    /// Models that were told to run elsewhere.
    elsewhere: BTreeSet<String>,
    /// Models that cannot be offered, with the reason.
    left_out: Vec<String>,
    misses: u32,
    pause_ms: u64,
    looked: bool,
}

impl Keeper {
    fn new(backend: Arc<OpenAi>, announcer: Announcer) -> Self {
        Self {
            backend,
            announcer,
            server: None,
            since: Instant::now(),
            book: Book::default(),
            said: Said::default(),
            listed: 0,
            probe: None,
            woken: BTreeSet::new(),
            known: None,
            found: None,
            asked: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            left_out: Vec::new(),
            misses: 0,
            pause_ms: limits::LOOK_MS,
            looked: false,
        }
    }

    fn is_finding(&self) -> bool {
        self.backend.options.finding.is_some()
    }

    /// Looks what the backend has now.
    async fn look(&mut self) -> Result<(), Over> {
        if self.backend.was_away.swap(false, Ordering::Relaxed) {
            self.forget();
        }
        let looked = if self.is_finding() { self.find().await } else { self.list().await };
        match looked {
            Ok(models) => {
                self.misses = 0;
                self.take(models).await?;
            }
            Err(reason) => self.absent(reason).await?,
        }
        self.tell_remedy().await
    }

    /// At a place where a server may appear: only one of the four counts.
    async fn find(&mut self) -> Result<Vec<Option<Model>>, String> {
        let server = self.backend.identify().await;
        let is_stranger = matches!(server, Ok(Server::Other));
        self.pause_ms = if is_stranger {
            self.pause_ms.saturating_mul(2).min(limits::LOOK_STRANGER_MS_MAX)
        } else {
            limits::LOOK_MS
        };
        let server = match server {
            Ok(server) if !is_stranger => server,
            // Somebody else stands there now.
            Ok(_) => {
                self.misses = MISSES;
                return Err("another server answers".into());
            }
            Err(_) => return Err("does not answer".into()),
        };
        if self.server.is_some_and(|known| known != server) {
            self.forget();
        }
        let models = self.backend.list().await?;
        self.arrived(server);
        Ok(models)
    }

    /// At an address that the operator named: whoever lists models there.
    async fn list(&mut self) -> Result<Vec<Option<Model>>, String> {
        let models = self.backend.list().await?;
        // One that has no time to be known now is asked again soon.
        if self.server.is_none()
            && let Ok(server) = self.backend.identify().await
        {
            self.arrived(server);
        }
        Ok(models)
    }

    fn arrived(&mut self, server: Server) {
        if self.server.replace(server).is_none() {
            self.since = Instant::now();
        }
    }

    fn forget(&mut self) {
        self.book.forget();
        self.said = Said::default();
        self.elsewhere.clear();
        self.asked.clear();
        self.woken.clear();
        self.probe = None;
    }

    async fn absent(&mut self, reason: String) -> Result<(), Over> {
        if self.is_finding() && self.server.is_some() {
            self.misses = self.misses.saturating_add(1);
            if self.misses < MISSES {
                return Ok(());
            }
        }
        let server = self.server.take();
        self.forget();
        self.note_names([]).await?;
        if !self.is_finding() {
            return self.announce(Err(reason)).await;
        }
        if let (Some(server), Some(_)) = (server, self.found.take()) {
            let (server, url) = (server.name(), self.backend.base.clone());
            self.tell(BackendNews::Gone { server, url }).await?;
        }
        self.announce(Ok(Found::default())).await
    }

    /// Takes the list of a backend that is there.
    async fn take(&mut self, models: Vec<Option<Model>>) -> Result<(), Over> {
        let server = self.server.unwrap_or(Server::Other);
        self.backend.is_llama.store(server == Server::LlamaCpp, Ordering::Relaxed);
        let ids = models.iter().flatten().map(|model| model.id.clone()).collect::<Vec<_>>();
        self.listed = ids.len();
        self.backend.ask_about(server, &mut self.said).await;
        let context = if server == Server::LlamaCpp && ids.len() == 1 {
            self.backend.llama_context().await
        } else {
            self.backend.is_toolless.store(false, Ordering::Relaxed);
            None
        };
        let names = names_of(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        let left = names.iter().flatten().cloned();
        self.note_names(ids.iter().cloned().chain(left).collect::<Vec<_>>()).await?;
        let mut names = names.into_iter();
        let mut left_out = Vec::new();
        let (mut listed, mut asleep) = (Vec::new(), BTreeSet::new());
        for model in models {
            let is_unloaded = model.as_ref().is_some_and(Model::is_unloaded);
            let Some(Model { id, max_model_len, .. }) = model else {
                left_out.push("it has no id".to_owned());
                continue;
            };
            let name = names.next().unwrap_or_else(|| Ok(id.clone()));
            let about = self.said.of(&id);
            match self.place(&id, name, about) {
                Place::Listed(name) => {
                    let intent = about.intent.unwrap_or_else(|| Intent::by_name(&name));
                    let context = max_model_len.or(about.context).or(context);
                    if about.asleep || is_unloaded {
                        asleep.insert(id.clone());
                    }
                    listed.push(Listed { id, name, intent, context });
                }
                Place::Elsewhere => self.tell_elsewhere(id).await?,
                Place::LeftOut(reason) => left_out.push(format!("{:?}: {reason}", start_of(&id))),
            }
        }
        let path = |listed: &Listed| (listed.name.clone(), listed.id.clone());
        let paths = listed.iter().filter(|listed| listed.name != listed.id).map(path).collect();
        self.backend.paths.set(paths);
        // What no realm would take is not asked either.
        let (listed, more) = offerable(self.wanted(listed, &asleep));
        left_out.extend(more);
        let woken = &self.woken;
        self.book.reconcile(listed, |model| woken.contains(&model.id), Instant::now());
        self.left_out = left_out;
        self.tell_asked().await?;
        self.offer().await
    }

    /// Of a server that was found: what it has loaded, what the operator names, and what answered
    /// before. Where it has nothing loaded one model of each kind is woken.
    fn wanted(&mut self, listed: Vec<Listed>, asleep: &BTreeSet<String>) -> Vec<Listed> {
        if !self.is_finding() {
            return listed;
        }
        let names = &self.backend.options.names;
        let is_named = |model: &Listed| names.is_named(&model.id) || names.is_named(&model.name);
        let is_right = |model: &Listed| self.book.right().any(|right| right.id == model.id);
        self.woken.retain(|id| listed.iter().any(|model| model.id == *id));
        let is_loaded = |model: &Listed| !asleep.contains(&model.id);
        let is_others = |model: &Listed| {
            is_loaded(model) && !is_named(model) && !self.woken.contains(&model.id)
        };
        let is_used = !self.said.is_known() || listed.iter().any(is_others);
        // Once it has begun it goes on with the next, until one of each kind answers.
        let wakes = !is_used && (!self.woken.is_empty() || !listed.iter().any(is_right));
        let is_served = |intent| {
            let of_it = |model: &Listed| model.intent == intent;
            listed.iter().any(|model| of_it(model) && (is_named(model) || is_right(model)))
        };
        let intents = [Intent::Chat, Intent::Embed].into_iter();
        let intents = intents.filter(|intent| wakes && !is_served(*intent));
        let next: BTreeSet<_> = intents.filter_map(|intent| self.next(intent, &listed)).collect();
        let is_wanted = |model: &Listed| {
            is_loaded(model) || is_named(model) || is_right(model) || next.contains(&model.id)
        };
        let wanted = listed.into_iter().filter(is_wanted).collect();
        self.woken.extend(next);
        wanted
    }

    /// The model to wake: of the first ones of the list the one that has failed least often, so that
    /// one that cannot answer holds up no other. One that was woken stays so until it has failed.
    fn next(&self, intent: Intent, listed: &[Listed]) -> Option<String> {
        let of_it = listed.iter().filter(|model| model.intent == intent && is_offerable(model));
        let first = of_it.take(limits::WOKEN_MAX);
        let order = |model: &&Listed| {
            let is_new = !self.woken.contains(&model.id);
            (self.book.failures(&model.id), is_new)
        };
        first.min_by_key(order).map(|model| model.id.clone())
    }

    /// What becomes of a model, given what clients would see of its id.
    fn place(&self, id: &str, name: Result<String, String>, about: About) -> Place {
        let own = &self.backend.options.names;
        let is_named = own.is_named(id) || name.as_ref().is_ok_and(|name| own.is_named(name));
        if about.useless {
            return Place::LeftOut("neither for chat nor for embeddings".into());
        }
        if about.elsewhere && !is_named {
            return Place::Elsewhere;
        }
        let name = match name {
            Ok(name) => name,
            // By the operator's own name it can be told from the other.
            Err(_) if is_named => id.to_owned(),
            Err(reason) => return Place::LeftOut(reason),
        };
        if own.of_path(id, &name).is_empty() {
            return Place::LeftOut("its name is served by another model".into());
        }
        Place::Listed(name)
    }

    /// Offers what has answered. At first it waits for the others, but not for long.
    async fn offer(&mut self) -> Result<(), Over> {
        let server = self.server.filter(|_| self.is_finding() && self.found.is_none());
        if let Some(server) = server {
            self.tell_found(server, Vec::new()).await?;
        }
        if self.is_early() {
            return Ok(());
        }
        let offers = self.book.right().flat_map(|listed| self.offers_of(listed)).collect();
        let found = tidy(offers, self.left_out.clone());
        let models: Vec<_> = found.offers.iter().filter_map(|offer| offer.model.clone()).collect();
        self.announce(Ok(found)).await?;
        match self.server {
            Some(server) if self.found.as_ref().is_some_and(|told| *told != models) => {
                self.tell_found(server, models).await
            }
            _ => Ok(()),
        }
    }

    fn is_early(&self) -> bool {
        let grace = self.since + Duration::from_millis(limits::PROBE_GRACE_MS);
        self.known.is_none() && !self.book.is_tried() && Instant::now() < grace
    }

    fn offers_of(&self, listed: &Listed) -> Vec<Offer> {
        let slots = self.backend.options.slots;
        let names = self.backend.options.names.of_path(&listed.id, &listed.name);
        let offer = |name: &str| Offer {
            intent: listed.intent.name().into(),
            model: Some(name.to_owned()),
            slots,
            price: None,
            context: listed.context,
            group: None,
        };
        names.into_iter().map(offer).collect()
    }

    /// Between two looks: probes, one at a time.
    async fn attend(&mut self) -> Result<(), Over> {
        let every = match (&self.backend.options.finding, self.server) {
            // One that is known is let alone, unless it has just missed a look.
            (Some(finding), Some(_)) if self.misses == 0 => finding.known(),
            (Some(_), _) => Duration::from_millis(self.pause_ms),
            (None, Some(_)) => Duration::from_millis(limits::DISCOVERY_MS),
            (None, None) => Duration::from_millis(limits::DISCOVERY_SOON_MS),
        };
        let until = Instant::now() + every;
        loop {
            let now = Instant::now();
            if self.probe.is_none()
                && let Some(due) = self.book.due(now)
            {
                self.probe = Some(start(Arc::clone(&self.backend), due));
            }
            let grace = self.since + Duration::from_millis(limits::PROBE_GRACE_MS);
            let (is_idle, is_early) = (self.probe.is_none(), self.is_early());
            let next = self.book.next_due();
            let backend = Arc::clone(&self.backend);
            tokio::select! {
                () = sleep_until(until) => return Ok(()),
                // A job found the backend gone.
                () = backend.suspect.notified() => return Ok(()),
                (id, outcome) = running(&mut self.probe) => {
                    self.probe = None;
                    let is_next_due = outcome.is_err() && self.woken.contains(&id);
                    self.probed(&id, outcome).await?;
                    if is_next_due {
                        return Ok(());
                    }
                }
                () = sleep_until(next.unwrap_or(until)), if is_idle && next.is_some() => {}
                () = sleep_until(grace), if is_early => self.offer().await?,
            }
        }
    }

    async fn probed(&mut self, id: &str, outcome: Result<(), String>) -> Result<(), Over> {
        let retry_after = self.book.probed(id, outcome.is_ok(), Instant::now());
        match outcome {
            Ok(()) => {
                tracing::info!(backend = %self.backend.base, model = start_of(id), "a model answers")
            }
            Err(reason) => self.tell_left_out(id, reason, retry_after).await?,
        }
        self.offer().await
    }

    async fn announce(&mut self, found: Result<Found, String>) -> Result<(), Over> {
        if self.known.as_ref() == Some(&found) {
            return Ok(());
        }
        let is_told = match &found {
            Ok(Found { offers, left_out }) => {
                let known = self.known.as_ref().and_then(|known| known.as_ref().ok());
                let is_new = |reason: &&String| known.is_none_or(|k| !k.left_out.contains(reason));
                for reason in left_out.iter().filter(is_new) {
                    tracing::warn!(backend = %self.backend.base, %reason, "a model is left out");
                }
                self.announcer.offers(offers.clone()).await
            }
            Err(reason) => self.announcer.down(reason.clone()).await,
        };
        self.known = Some(found);
        if is_told { Ok(()) } else { Err(Over) }
    }

    async fn tell(&mut self, news: BackendNews) -> Result<(), Over> {
        if self.announcer.tell(Status::Backend(news)).await { Ok(()) } else { Err(Over) }
    }

    async fn tell_left_out(
        &mut self,
        model: &str,
        reason: String,
        retry_after: Option<Duration>,
    ) -> Result<(), Over> {
        let (backend, model) = (self.backend.base.clone(), start_of(model).to_owned());
        tracing::info!(%backend, %model, %reason, "a model is not offered");
        self.tell(BackendNews::LeftOut { backend, model, reason, retry_after }).await
    }

    async fn tell_elsewhere(&mut self, model: String) -> Result<(), Over> {
        if self.elsewhere.contains(&model) {
            return Ok(());
        }
        let reason = format!(
            "its server runs it on another machine: offered only if it is named, with \
             --backend-model {}",
            start_of(&model)
        );
        self.tell_left_out(&model, reason, None).await?;
        self.elsewhere.insert(model);
        Ok(())
    }

    async fn tell_found(&mut self, server: Server, models: Vec<String>) -> Result<(), Over> {
        self.found = Some(models.clone());
        let (server, url, listed) = (server.name(), self.backend.base.clone(), self.listed);
        let untried: Vec<_> = self.untried().collect();
        self.asked.extend(untried.iter().cloned());
        self.tell(BackendNews::Found { server, url, models, listed, untried }).await
    }

    fn untried(&self) -> impl Iterator<Item = String> {
        let chat = self.book.untried().filter(|listed| listed.intent == Intent::Chat);
        chat.map(|listed| start_of(&listed.id).to_owned())
    }

    /// Whoever waits for an answer of a server that was found learns that another model is asked.
    async fn tell_asked(&mut self) -> Result<(), Over> {
        if self.found.is_none() {
            return Ok(());
        }
        let new: Vec<_> = self.untried().filter(|model| !self.asked.contains(model)).collect();
        for model in new {
            self.asked.insert(model.clone());
            self.tell(BackendNews::Asked { url: self.backend.base.clone(), model }).await?;
        }
        Ok(())
    }

    /// Named models that no backend has.
    async fn note_names(&mut self, ids: impl IntoIterator<Item = String>) -> Result<(), Over> {
        for model in self.backend.options.names.note(self.announcer.executor(), ids) {
            let reason = "no backend has it now; it is looked for again".to_owned();
            self.tell_left_out(&model, reason, None).await?;
        }
        Ok(())
    }

    /// After the first look: whether all places of a WSL machine were found empty.
    async fn tell_remedy(&mut self) -> Result<(), Over> {
        if std::mem::replace(&mut self.looked, true) {
            return Ok(());
        }
        let finding = self.backend.options.finding.as_ref();
        let remedy = finding.and_then(|finding| finding.looked(self.server.is_some()));
        match remedy {
            Some(message) => self.tell(BackendNews::Advice { message }).await,
            None => Ok(()),
        }
    }
}

fn start(backend: Arc<OpenAi>, due: Due) -> Probe {
    Box::pin(async move {
        let outcome = backend.probe(&due.listed, due.patience).await;
        (due.listed.id, outcome)
    })
}

/// Never, where none runs.
async fn running(probe: &mut Option<Probe>) -> (String, Result<(), String>) {
    match probe {
        Some(probe) => probe.await,
        None => std::future::pending().await,
    }
}

impl OpenAi {
    /// The backend's list.
    async fn list(&self) -> Result<Vec<Option<Model>>, String> {
        let ask = timeout(Duration::from_millis(limits::CONNECT_MS), self.models());
        let models = ask.await.map_err(|_| "does not answer".to_owned())??;
        models.ok_or_else(|| "GET /v1/models gives no list".to_owned())
    }

    /// The backend's list, or `None` if it answers but has none.
    async fn models(&self) -> Result<Option<Vec<Option<Model>>>, String> {
        let request = self.request(Method::GET, "/v1/models", Bytes::new());
        let request = request.map_err(|_| "its address or key is wrong".to_owned())?;
        let answer = self.client.send(request).await.map_err(|_| "cannot be reached".to_owned())?;
        let status = answer.status();
        if status.is_server_error() || status == 401 || status == 403 {
            return Err(format!("GET /v1/models gives status {}", status.as_u16()));
        }
        let body = read_body(answer.into_body(), limits::MODELS_BYTES_MAX).await;
        let body = body.ok().filter(|_| status.is_success());
        Ok(body.and_then(|body| read_list(&body)))
    }
}

/// `None` for what is no list, and in it for what is no model.
fn read_list(body: &[u8]) -> Option<Vec<Option<Model>>> {
    let list: ModelList<'_> = serde_json::from_slice(body).ok()?;
    let models = list.data?.into_iter().map(|model| serde_json::from_str(model.get()).ok());
    Some(models.collect())
}

/// Leaves out what a realm would not take, for it would take none of the others either.
fn tidy(offers: Vec<Offer>, mut left_out: Vec<String>) -> Found {
    let mut tidy = Tidy::default();
    for offer in offers {
        let model = offer.model.clone().unwrap_or_default();
        if let Err(reason) = tidy.add(offer) {
            left_out.push(format!("{:?}: {reason}", start_of(&model)));
        }
    }
    Found { offers: tidy.offers, left_out }
}

/// Those that a realm would take by their own names: the others are not asked anything.
fn offerable(listed: Vec<Listed>) -> (Vec<Listed>, Vec<String>) {
    let mut tidy = Tidy::default();
    let mut left_out = Vec::new();
    let offerable = listed.into_iter().filter(|model| {
        let (intent, name) = (model.intent.name().to_owned(), Some(model.name.clone()));
        let added = tidy.add(Offer {
            intent,
            model: name,
            slots: 1,
            price: None,
            context: model.context,
            group: None,
        });
        let refused = added.map_err(|reason| format!("{:?}: {reason}", start_of(&model.id)));
        refused.map_err(|reason| left_out.push(reason)).is_ok()
    });
    (offerable.collect(), left_out)
}

fn is_offerable(model: &Listed) -> bool {
    !offerable(vec![model.clone()]).0.is_empty()
}

fn start_of(model: &str) -> &str {
    model.get(..model.floor_char_boundary(SHOWN_BYTES)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_no_realm_takes_is_left_out_alone() {
        let long = "x".repeat(257);
        let many: String = (0..40).map(|number| format!(r#",{{"id":"m{number}"}}"#)).collect();
        let list = format!(
            r#"{{"data":[{{"id":""}},{{"id":"{long}"}},{{"id":"a\u0007b"}},{{"id":7}},{{}},"x",
                {{"id":"good","max_model_len":-1}},{{"id":"good"}}{many}]}}"#
        );
        let models = read_list(list.as_bytes()).unwrap();
        assert_eq!(models.len(), 48);
        assert_eq!(models.iter().filter(|model| model.is_none()).count(), 3);
        let offers = models.into_iter().flatten().map(|model| Offer {
            intent: "chat".into(),
            model: Some(model.id),
            slots: 1,
            price: None,
            context: model.max_model_len,
            group: None,
        });
        let found = tidy(offers.collect(), Vec::new());
        let names: Vec<_> = found.offers.iter().filter_map(|o| o.model.as_deref()).collect();
        assert_eq!((names.len(), &names[..2]), (limits::OFFERS_MAX, ["good", "m0"].as_slice()));
        // Three names, the second of `good`, and those above the bound.
        assert_eq!(found.left_out.len(), 3 + 1 + 9, "{:?}", found.left_out);
        assert!(read_list(br#"{"data":7}"#).is_none());
    }
}
