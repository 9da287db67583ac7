//! What a backend has, asked now and then; what of it has answered is offered.
//!
//! One task a backend, one question at a time. What a model is for its server may say (`task`), its
//! name may tell, and where neither does it is asked for both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mtor_types::worker::Offer;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Audio, Intent, Manner};
use crate::executors::openai::grown;
use crate::executors::{Announcer, Tidy};
use crate::http_client::read_body;
use crate::limits;
use crate::options::{BackendNews, Status};

/// Of the name of a model that is left out.
const SHOWN_BYTES: usize = 64;

#[derive(Deserialize)]
struct List {
    data: Vec<Value>,
}

/// One that a backend has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    id: String,
    /// What its server says that it is for.
    task: Option<String>,
    intents: Vec<Intent>,
}

/// What is asked of models, and which are not asked.
#[derive(Default)]
struct Questions {
    asked: Vec<(Intent, String)>,
    /// There are too many.
    beyond: Vec<String>,
    /// Their server says that they do something else.
    other: Vec<String>,
}

const BOTH: [Intent; 2] = [Intent::Transcribe, Intent::Speak];

impl Model {
    /// Its server's word goes before its name. A task that is none of the two is another kind of
    /// model: it is asked for nothing, unless its name tells otherwise.
    fn of(id: &str, task: Option<&str>) -> Self {
        let name = id.to_ascii_lowercase();
        let said = task.map(str::trim).filter(|task| !task.is_empty());
        let task = said.map(|task| task.to_ascii_lowercase().replace(['_', ' '], "-"));
        let is = |marks: &[&str]| marks.iter().any(|mark| name.contains(mark));
        let intents = match task.as_deref() {
            Some(
                "automatic-speech-recognition"
                | "speech-recognition"
                | "speech-to-text"
                | "audio-transcription"
                | "transcription"
                | "transcribe"
                | "asr"
                | "stt",
            ) => vec![Intent::Transcribe],
            Some("text-to-speech" | "text-to-audio" | "speech-synthesis" | "speech" | "tts") => {
                vec![Intent::Speak]
            }
            _ if is(&["whisper", "moonshine", "transcri", "parakeet", "canary", "stt", "asr"]) => {
                vec![Intent::Transcribe]
            }
            _ if is(&["tts", "kokoro", "piper", "orpheus", "chatterbox"])
                || (is(&["speak"]) && !is(&["speaker"])) =>
            {
                vec![Intent::Speak]
            }
            Some(_another) => Vec::new(),
            None => BOTH.to_vec(),
        };
        Self { id: id.to_owned(), task: said.map(str::to_owned), intents }
    }
}

/// What is asked of them: first what the operator has named, then what its name tells, so that a
/// long list of other models does not keep them waiting. A model is asked whole or not at all.
fn questions(models: &[Model], is_named: impl Fn(&str) -> bool) -> Questions {
    let mut models: Vec<_> = models.iter().collect();
    models.sort_by_key(|model| (!is_named(&model.id), model.intents.len()));
    let Questions { mut asked, mut beyond, mut other } = Questions::default();
    for model in models {
        let id = &model.id;
        // Who named it knows better than its server.
        let is_unknown = model.intents.is_empty() && is_named(id);
        let intents = if is_unknown { &BOTH[..] } else { &model.intents[..] };
        if intents.is_empty() {
            other.push(id.clone());
        } else if limits::AUDIO_MODELS_MAX.saturating_sub(asked.len()) < intents.len() {
            beyond.push(id.clone());
        } else {
            asked.extend(intents.iter().map(|intent| (*intent, id.clone())));
        }
    }
    Questions { asked, beyond, other }
}

/// What is known of a model for one intent.
struct State {
    right: Option<Manner>,
    due: Instant,
    failures: u32,
}

struct Keeper {
    audio: Arc<Audio>,
    announcer: Announcer,
    states: BTreeMap<(Intent, String), State>,
    /// In the backend's order.
    listed: Vec<(Intent, String)>,
    /// What was announced last.
    known: Option<Result<Vec<Offer>, String>>,
    left_out: BTreeSet<String>,
    /// Those that are not asked because there are too many, as it was told last.
    beyond: Vec<String>,
    /// Those that are not asked because they do something else, as it was told last.
    other: Vec<String>,
}

/// The agent has gone.
struct Over;

/// Keeps the offers of a backend true until the agent is gone.
pub(crate) async fn keep(audio: Arc<Audio>, announcer: Announcer) {
    audio.options.names.expect(announcer.executor());
    let (states, listed, known, left_out, beyond, other) = Default::default();
    let mut keeper = Keeper { audio, announcer, states, listed, known, left_out, beyond, other };
    while keeper.look().await.is_ok() {}
}

impl Keeper {
    /// One look, the questions that are due after it, and the pause before the next.
    async fn look(&mut self) -> Result<(), Over> {
        let pause = match self.audio.list().await {
            Ok(models) => {
                self.note(&models).await?;
                self.ask_all().await?;
                let next = self.states.values().filter(|state| state.right.is_none());
                let next = next.map(|state| state.due).min();
                let usual = Instant::now() + Duration::from_millis(limits::DISCOVERY_MS);
                next.map_or(usual, |next| next.min(usual))
            }
            Err(reason) => {
                self.forget();
                self.announce(Err(reason)).await?;
                Instant::now() + Duration::from_millis(limits::DISCOVERY_SOON_MS)
            }
        };
        let audio = Arc::clone(&self.audio);
        if timeout_at(pause, audio.suspect.notified()).await.is_ok() && self.is_named() {
            // No list says whether it is still there.
            self.forget();
        }
        Ok(())
    }

    /// Its models are those that the operator named.
    fn is_named(&self) -> bool {
        !self.audio.options.models.is_empty()
    }

    fn forget(&mut self) {
        self.states.clear();
        self.tell_manners();
    }

    async fn note(&mut self, models: &[Model]) -> Result<(), Over> {
        let ids = models.iter().map(|model| model.id.clone());
        let missing = self.audio.options.names.note(self.announcer.executor(), ids);
        for model in missing {
            let reason = "no backend has it now; it is looked for again".to_owned();
            self.tell_left_out(&model, reason, None).await?;
        }
        let Questions { asked, beyond, other } =
            questions(models, |id| self.audio.options.names.is_named(id));
        self.listed = asked;
        self.tell_beyond(beyond).await?;
        self.tell_other(other, models).await?;
        let now = Instant::now();
        self.states.retain(|key, _| self.listed.contains(key));
        for key in &self.listed {
            let new = || State { right: None, due: now, failures: 0 };
            self.states.entry(key.clone()).or_insert_with(new);
        }
        self.tell_manners();
        Ok(())
    }

    /// In one line, and again only when there are others.
    async fn tell_beyond(&mut self, beyond: Vec<String>) -> Result<(), Over> {
        let is_new = beyond.iter().any(|model| !self.beyond.contains(model));
        if let Some(first) = beyond.first().filter(|_| is_new) {
            let others = others(beyond.len());
            let most = limits::AUDIO_MODELS_MAX;
            let reason = format!(
                "it is not asked{others}: a backend is asked {most} questions at most; name the \
                 models that hear or speak with ,model=NAME behind its address"
            );
            self.tell_left_out(first, reason, None).await?;
        }
        self.beyond = beyond;
        Ok(())
    }

    /// As above.
    async fn tell_other(&mut self, other: Vec<String>, models: &[Model]) -> Result<(), Over> {
        let is_new = other.iter().any(|model| !self.other.contains(model));
        if let Some(first) = other.first().filter(|_| is_new) {
            let task = models.iter().find(|model| model.id == *first);
            let task = task.and_then(|model| model.task.as_deref()).unwrap_or_default();
            let task = task.get(..task.floor_char_boundary(SHOWN_BYTES)).unwrap_or_default();
            let others = others(other.len());
            let reason = format!(
                "its server says that it does {task:?}: it is not asked{others}; name the models \
                 that hear or speak with ,model=NAME behind its address"
            );
            self.tell_left_out(first, reason, None).await?;
        }
        self.other = other;
        Ok(())
    }

    async fn ask_all(&mut self) -> Result<(), Over> {
        for key in self.listed.clone() {
            let Some(state) = self.states.get(&key) else { continue };
            if state.right.is_some() || state.due > Instant::now() {
                continue;
            }
            let failures = state.failures;
            let patience = grown(limits::PROBE_MS, failures, limits::PROBE_MS_MAX);
            let outcome = self.audio.probe(key.0, &key.1, patience).await;
            let pause = grown(limits::PROBE_PAUSE_MS_MIN, failures, limits::PROBE_PAUSE_MS_MAX);
            let (right, reason) = match outcome {
                Ok(manner) => (Some(manner), None),
                Err(reason) => (None, Some(format!("{}: {reason}", key.0.name()))),
            };
            let due = Instant::now() + pause;
            let state = State { right, due, failures: failures.saturating_add(1) };
            self.states.insert(key.clone(), state);
            self.tell_manners();
            match reason {
                None => self.offer().await?,
                Some(reason) => self.tell_left_out(&key.1, reason, Some(pause)).await?,
            }
        }
        self.offer().await
    }

    /// For the jobs.
    fn tell_manners(&self) {
        let right = self.states.iter().filter_map(|(key, state)| Some((key.clone(), state.right?)));
        *self.audio.manners.lock().unwrap_or_else(PoisonError::into_inner) = right.collect();
    }

    async fn offer(&mut self) -> Result<(), Over> {
        let mut tidy = Tidy::default();
        let mut left_out = Vec::new();
        let is_right = |key: &&(Intent, String)| {
            self.states.get(*key).is_some_and(|state| state.right.is_some())
        };
        for (intent, id) in self.listed.iter().filter(is_right) {
            for name in self.audio.options.names.of(id) {
                let (intent, model) = (intent.name().to_owned(), Some(name.to_owned()));
                let slots = self.audio.options.slots;
                let added = tidy.add(Offer {
                    intent,
                    model,
                    slots,
                    price: None,
                    context: None,
                    group: None,
                });
                if let Err(reason) = added
                    && !self.left_out.contains(id)
                {
                    left_out.push((id.clone(), reason));
                }
            }
        }
        for (id, reason) in left_out {
            self.tell_left_out(&id, reason, None).await?;
            self.left_out.insert(id);
        }
        self.announce(Ok(tidy.offers)).await
    }

    async fn announce(&mut self, offers: Result<Vec<Offer>, String>) -> Result<(), Over> {
        if self.known.as_ref() == Some(&offers) {
            return Ok(());
        }
        let is_told = match &offers {
            Ok(offers) => self.announcer.offers(offers.clone()).await,
            Err(reason) => self.announcer.down(reason.clone()).await,
        };
        self.known = Some(offers);
        if is_told { Ok(()) } else { Err(Over) }
    }

    async fn tell_left_out(
        &self,
        model: &str,
        reason: String,
        retry_after: Option<Duration>,
    ) -> Result<(), Over> {
        let model = model.get(..model.floor_char_boundary(SHOWN_BYTES)).unwrap_or_default();
        let (backend, model) = (self.audio.base.clone(), model.to_owned());
        tracing::info!(%backend, %model, %reason, "a model is not offered");
        let news = BackendNews::LeftOut { backend, model, reason, retry_after };
        if self.announcer.tell(Status::Backend(news)).await { Ok(()) } else { Err(Over) }
    }
}

/// How many more are not asked.
fn others(all: usize) -> String {
    match all.saturating_sub(1) {
        0 => String::new(),
        1 => ", nor is another one".to_owned(),
        more => format!(", nor are {more} others"),
    }
}

impl Audio {
    async fn list(&self) -> Result<Vec<Model>, String> {
        let named = &self.options.models;
        if !named.is_empty() {
            return Ok(named.iter().map(|id| Model::of(id, None)).collect());
        }
        let ask = timeout(Duration::from_millis(limits::CONNECT_MS), self.models());
        ask.await.map_err(|_| "does not answer".to_owned())?
    }

    async fn models(&self) -> Result<Vec<Model>, String> {
        let request = self.request(None).map_err(|_| "its address or key is wrong".to_owned())?;
        let answer = self.client.send(request).await.map_err(|_| "cannot be reached".to_owned())?;
        let status = answer.status();
        let body = read_body(answer.into_body(), limits::MODELS_BYTES_MAX).await;
        let body = body.ok().filter(|_| status.is_success());
        let list = body.and_then(|body| serde_json::from_slice(&body).ok());
        let none = || {
            let status = status.as_u16();
            format!(
                "GET /v1/models gives no list (status {status}): name its models, with ,model=NAME"
            )
        };
        let List { data } = list.ok_or_else(none)?;
        let model = |value: &Value| {
            let id = value.get("id")?.as_str()?;
            Some(Model::of(id, value.get("task").and_then(Value::as_str)))
        };
        Ok(data.iter().filter_map(model).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_is_for_is_said_or_told_by_its_name() {
        let intents = |id, task| Model::of(id, task).intents;
        assert_eq!(intents("Systran/faster-whisper-small", None), [Intent::Transcribe]);
        assert_eq!(intents("speaches-ai/Kokoro-82M", None), [Intent::Speak]);
        assert_eq!(intents("ear", Some("automatic-speech-recognition")), [Intent::Transcribe]);
        assert_eq!(intents("whisper-that-speaks", Some("text-to-speech")), [Intent::Speak]);
        assert_eq!(intents("m", Some("Speech_to_text")), [Intent::Transcribe]);
        assert_eq!(intents("m", Some("tts")), [Intent::Speak]);
        assert_eq!([intents("m", None), intents("m", Some(" "))], [BOTH, BOTH]);
        assert_eq!(intents("tts/kokoro/speaker-2", None), [Intent::Speak]);
        assert_eq!(intents("wespeaker", None), BOTH);
        // Its server says what it is, and that is neither.
        assert_eq!(intents("m", Some("chat")), []);
        assert_eq!(intents("pyannote/speaker-embedding", Some("speaker-embedding")), []);
        assert_eq!(intents("openai/whisper-1", Some("audio")), [Intent::Transcribe]);
        let models = [Model::of("m", Some("chat")), Model::of("n", Some("chat"))];
        let Questions { asked, beyond, other } = questions(&models, |id| id == "n");
        assert_eq!(asked, BOTH.map(|intent| (intent, "n".to_owned())));
        assert_eq!((beyond, other), (Vec::new(), vec!["m".to_owned()]));
    }

    #[test]
    fn what_is_named_and_what_is_known_is_asked_before_a_long_list_of_others() {
        let others = (0..40).map(|number| format!("llm-{number}"));
        let ids = others.chain(["whisper-1".to_owned(), "ear".to_owned()]);
        let models: Vec<_> = ids.map(|id| Model::of(&id, None)).collect();
        let Questions { asked, beyond, other } = questions(&models, |id| id == "ear");
        let ids: Vec<_> = asked.iter().map(|(_, id)| &**id).collect();
        assert_eq!((ids.len(), &ids[..4]), (15, ["ear", "ear", "whisper-1", "llm-0"].as_slice()));
        // Two are named or known by their names, six more are asked for both; none is asked by half.
        assert_eq!((beyond.len(), &*beyond[0]), (34, "llm-6"));
        assert!(other.is_empty() && ids.iter().all(|id| beyond.iter().all(|left| left != id)));
    }

    #[test]
    fn as_many_as_there_is_room_for_leave_nobody_out() {
        let models: Vec<_> = (0..8).map(|number| Model::of(&format!("m{number}"), None)).collect();
        let Questions { asked, beyond, .. } = questions(&models, |_| false);
        assert_eq!((asked.len(), beyond.len()), (16, 0));
    }
}
