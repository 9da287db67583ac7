//! Which server a backend is, known by its answers, and what that server says of its models.
//!
//! A port says nothing: a realm has `/v1/models`, too, and so has much else. Each of the four that
//! are looked for is known by a path of its own and by the shape of what stands there.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::OpenAi;
use crate::http_client::read_body;
use crate::limits;

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    Chat,
    Embed,
}

impl Intent {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embed => "embed",
        }
    }

    /// Where no server says it, embedding models are known by their names.
    pub(super) fn by_name(model: &str) -> Self {
        let name = model.to_ascii_lowercase();
        let marks = ["embed", "minilm", "bge-", "gte-", "e5-"];
        if marks.iter().any(|mark| name.contains(mark)) { Self::Embed } else { Self::Chat }
    }
}

/// A model that may be offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: String,
    /// What clients see: the id, or what is left of it where it is a path.
    pub(super) name: String,
    pub(super) intent: Intent,
    pub(super) context: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Ollama,
    LlamaCpp,
    LmStudio,
    Vllm,
    /// Whatever else speaks the API.
    Other,
}

impl Server {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ollama => "ollama",
            Self::LlamaCpp => "llama-server",
            Self::LmStudio => "lm-studio",
            Self::Vllm => "vllm",
            Self::Other => "other",
        }
    }
}

/// What a server says of a model, beyond its being there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) intent: Option<Intent>,
    pub(super) context: Option<u32>,
    /// Its server sends the words to another machine.
    pub(super) elsewhere: bool,
    /// Neither for chat nor for embeddings.
    pub(super) useless: bool,
    /// Its server would have to load it first, and may throw out another one for it.
    pub(super) asleep: bool,
}

/// What a server said of its models. It is kept for the time in which the server cannot say it.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// What was asked of Ollama model by model: it does not change while the model is there.
    shown: BTreeMap<String, About>,
    /// By their ids; `None` until it was said once.
    last: Option<BTreeMap<String, About>>,
    /// A model that it did not name is not loaded: it names all that are.
    tells_loaded: bool,
}

impl Said {
    pub(super) fn of(&self, id: &str) -> About {
        let about = self.last.as_ref().and_then(|last| last.get(id)).copied();
        about.unwrap_or(About { asleep: self.tells_loaded, ..About::default() })
    }

    /// Whether it is known what is loaded.
    pub(super) fn is_known(&self) -> bool {
        self.last.is_some()
    }
}

#[derive(Deserialize)]
struct Realm {
    #[serde(rename = "realm")]
    _realm: String,
}

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "version")]
    _version: String,
}

#[derive(Deserialize)]
struct Tags {
    models: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
    #[serde(default)]
    remote_host: Option<Value>,
    #[serde(default)]
    remote_model: Option<Value>,
}

/// What Ollama has loaded.
#[derive(Default, Deserialize)]
struct Running {
    models: Vec<Tag>,
}

#[derive(Deserialize)]
struct Show {
    #[serde(default)]
    capabilities: Option<Vec<String>>,
    #[serde(default)]
    remote_host: Option<Value>,
    #[serde(default)]
    remote_model: Option<Value>,
}

#[derive(Deserialize)]
struct Studio {
    data: Vec<StudioModel>,
}

#[derive(Deserialize)]
struct StudioModel {
    id: String,
    /// llm, vlm, embeddings, …
    #[serde(rename = "type")]
    kind: String,
    /// `loaded` or `not-loaded`.
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    loaded_context_length: Option<u32>,
}

#[derive(Deserialize)]
struct Owned {
    data: Vec<Owner>,
}

#[derive(Deserialize)]
struct Owner {
    #[serde(default)]
    owned_by: Option<String>,
}

#[derive(Deserialize)]
struct Props {
    #[serde(default)]
    default_generation_settings: Option<Settings>,
    #[serde(default)]
    chat_template_caps: Option<Caps>,
}

/// What llama.cpp found out about the model's template. Older ones do not say.
#[derive(Deserialize)]
struct Caps {
    #[serde(default)]
    supports_tools: bool,
    #[serde(default)]
    supports_tool_calls: bool,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    n_ctx: Option<u32>,
}

/// Nobody is there, or somebody who does not answer.
#[derive(Debug)]
pub(super) struct Absent;

impl OpenAi {
    /// Which server answers at this address; `Other` for whatever is none of the four.
    pub(super) async fn identify(&self) -> Result<Server, Absent> {
        let patience = Duration::from_millis(limits::LOOK_PATIENCE_MS);
        timeout(patience, self.known_by_answers()).await.map_err(|_| Absent)?
    }

    async fn known_by_answers(&self) -> Result<Server, Absent> {
        // A realm first: it would pass for a server of models, and a worker for it would go round
        // in a circle.
        if self.look::<Realm>("/.well-known/mtor.json").await?.is_some() {
            return Ok(Server::Other);
        }
        if self.look::<Version>("/api/version").await?.is_some()
            && self.look::<Tags>("/api/tags").await?.is_some()
        {
            return Ok(Server::Ollama);
        }
        if self.look::<Studio>("/api/v0/models").await?.is_some() {
            return Ok(Server::LmStudio);
        }
        let Some(Owned { data }) = self.look("/v1/models").await? else {
            return Ok(Server::Other);
        };
        let is_owner =
            |name: &str| data.iter().any(|model| model.owned_by.as_deref() == Some(name));
        if is_owner("llamacpp") && self.answers("/health").await? {
            return Ok(Server::LlamaCpp);
        }
        if is_owner("vllm") && self.look::<Version>("/version").await?.is_some() {
            return Ok(Server::Vllm);
        }
        Ok(Server::Other)
    }

    /// Asks what the server says of its models.
    pub(super) async fn ask_about(&self, server: Server, said: &mut Said) {
        said.tells_loaded = matches!(server, Server::Ollama | Server::LmStudio);
        let fresh = match server {
            Server::Ollama => self.about_ollama(&mut said.shown).await,
            Server::LmStudio => self.about_studio().await,
            Server::LlamaCpp | Server::Vllm | Server::Other => Some(BTreeMap::new()),
        };
        if fresh.is_some() {
            said.last = fresh;
        }
    }

    /// The context of a llama-server that serves one model; notes whether it knows tools.
    pub(super) async fn llama_context(&self) -> Option<u32> {
        let props: Props = self.look_soon("/props").await?;
        let is_toolless = |caps: Caps| !caps.supports_tools && !caps.supports_tool_calls;
        let is_toolless = props.chat_template_caps.is_some_and(is_toolless);
        self.is_toolless.store(is_toolless, Ordering::Relaxed);
        props.default_generation_settings?.n_ctx.filter(|context| *context > 0)
    }

    /// `None` if it does not say now what it has, and what of that is loaded.
    async fn about_ollama(
        &self,
        shown: &mut BTreeMap<String, About>,
    ) -> Option<BTreeMap<String, About>> {
        let Tags { mut models } = self.look_soon("/api/tags").await?;
        let running = self.running().await?;
        let is_loaded = |tag: &Tag| running.models.iter().any(|running| running.name == tag.name);
        shown.retain(|id, _| models.iter().any(|tag| tag.name == *id));
        // More is asked of the first ones only: what is loaded is of use first.
        models.sort_by_key(|tag| !is_loaded(tag));
        let mut about = BTreeMap::new();
        for (at, tag) in models.into_iter().enumerate() {
            let elsewhere = is_said(tag.remote_host.as_ref())
                || is_said(tag.remote_model.as_ref())
                || is_cloud(&tag.name);
            let known = match shown.get(&tag.name) {
                Some(known) => *known,
                None if at >= limits::SHOWN_MODELS_MAX => About::default(),
                None => {
                    let known = self.show(&tag.name).await;
                    if let Some(known) = known {
                        shown.insert(tag.name.clone(), known);
                    }
                    known.unwrap_or_default()
                }
            };
            let asleep = !is_loaded(&tag);
            let elsewhere = elsewhere || known.elsewhere;
            about.insert(tag.name, About { elsewhere, asleep, ..known });
        }
        Some(about)
    }

    /// What Ollama has loaded; nothing, as far as is known, of one that has no words for it.
    async fn running(&self) -> Option<Running> {
        let patience = Duration::from_millis(limits::LOOK_PATIENCE_MS);
        let (status, body) = timeout(patience, self.ask("/api/ps")).await.ok()?.ok()?;
        match status {
            StatusCode::NOT_FOUND => Some(Running::default()),
            _ => status.is_success().then(|| serde_json::from_slice(&body).ok()).flatten(),
        }
    }

    /// What Ollama says of one model. `None` if it does not answer now.
    async fn show(&self, model: &str) -> Option<About> {
        let patience = Duration::from_millis(limits::LOOK_PATIENCE_MS);
        let body = json!({"model": model});
        let (status, body) = timeout(patience, self.post("/api/show", &body)).await.ok()?.ok()?;
        if !status.is_success() {
            return Some(About::default());
        }
        Some(serde_json::from_slice(&body).map(|show: Show| show.about()).unwrap_or_default())
    }

    async fn about_studio(&self) -> Option<BTreeMap<String, About>> {
        let Studio { data } = self.look_soon("/api/v0/models").await?;
        let about = |model: StudioModel| {
            let intent = match &*model.kind {
                "llm" | "vlm" => Some(Intent::Chat),
                "embeddings" => Some(Intent::Embed),
                _ => None,
            };
            let context = model.loaded_context_length;
            let asleep = model.state.is_some_and(|state| state != "loaded");
            let useless = intent.is_none();
            let about = About { intent, context, elsewhere: false, useless, asleep };
            (model.id, about)
        };
        Some(data.into_iter().map(about).collect())
    }

    async fn answers(&self, path: &str) -> Result<bool, Absent> {
        Ok(self.ask(path).await?.0.is_success())
    }

    /// What stands there, if it has that shape.
    async fn look<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Absent> {
        let (status, body) = self.ask(path).await?;
        Ok(status.is_success().then(|| serde_json::from_slice(&body).ok()).flatten())
    }

    /// The same within a moment, and `None` if that was not enough.
    async fn look_soon<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let patience = Duration::from_millis(limits::LOOK_PATIENCE_MS);
        timeout(patience, self.look(path)).await.ok()?.ok()?
    }

    async fn ask(&self, path: &str) -> Result<(StatusCode, Bytes), Absent> {
        let request = self.request(Method::GET, path, Bytes::new()).map_err(|_| Absent)?;
        let answer = self.client.send(request).await.map_err(|_| Absent)?;
        let status = answer.status();
        let body = read_body(answer.into_body(), limits::MODELS_BYTES_MAX).await;
        Ok((status, body.unwrap_or_default()))
    }
}

impl Show {
    fn about(&self) -> About {
        let can = |what: &str| self.capabilities.iter().flatten().any(|can| can == what);
        let intent = if can("completion") {
            Some(Intent::Chat)
        } else if can("embedding") {
            Some(Intent::Embed)
        } else {
            None
        };
        let says = self.capabilities.as_ref().is_some_and(|list| !list.is_empty());
        About {
            intent,
            context: None,
            elsewhere: is_said(self.remote_host.as_ref()) || is_said(self.remote_model.as_ref()),
            useless: says && intent.is_none(),
            asleep: false,
        }
    }
}

fn is_said(value: Option<&Value>) -> bool {
    value.and_then(Value::as_str).is_some_and(|text| !text.is_empty())
}

/// How Ollama names what runs on its maker's machines: `gpt-oss:120b-cloud`, `glm-4.6:cloud`.
fn is_cloud(name: &str) -> bool {
    name.ends_with("-cloud") || name.ends_with(":cloud")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedding_models_are_known_by_their_names() {
        for model in ["nomic-embed-text:latest", "all-MiniLM-L6-v2", "BAAI/bge-m3"] {
            assert_eq!(Intent::by_name(model), Intent::Embed, "{model}");
        }
        for model in ["llama3:8b", "gpt-4o", "Qwen2.5-7B"] {
            assert_eq!(Intent::by_name(model), Intent::Chat, "{model}");
        }
    }

    #[test]
    fn what_the_server_says_of_a_model_is_read() {
        let about = |text: &str| serde_json::from_str::<Show>(text).unwrap().about();
        let chat = about(r#"{"capabilities":["completion","tools"],"modelfile":"x"}"#);
        assert_eq!(chat, About { intent: Some(Intent::Chat), ..About::default() });
        assert_eq!(about(r#"{"capabilities":["embedding"]}"#).intent, Some(Intent::Embed));
        assert!(about(r#"{"capabilities":["image"]}"#).useless);
        // Older ones say nothing, which is not nothing to offer.
        assert_eq!(about("{}"), About::default());
        assert!(about(r#"{"remote_host":"https://x","remote_model":"y"}"#).elsewhere);
        assert!(!about(r#"{"remote_host":""}"#).elsewhere);
        assert!(is_cloud("gpt-oss:120b-cloud") && is_cloud("glm-4.6:cloud"));
        assert!(!is_cloud("cloudy:7b"));
    }
}
