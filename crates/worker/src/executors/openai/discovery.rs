//! Which models the backend has, asked now and then; offers follow.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use mtor_types::worker::Offer;
use serde::Deserialize;
use tokio::time::timeout;

use super::OpenAi;
use crate::executors::Announcer;
use crate::http_client::read_body;
use crate::limits;
use crate::options::ModelIntent;

#[derive(Deserialize)]
struct ModelList {
    #[serde(default)]
    data: Option<Vec<Model>>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    /// vLLM's word for the context.
    #[serde(default)]
    max_model_len: Option<u32>,
}

/// Keeps the offers of a backend true until the agent is gone.
pub(crate) async fn discover(backend: Arc<OpenAi>, announcer: Announcer) {
    let mut known: Option<Result<Vec<Offer>, String>> = None;
    loop {
        let found = backend.offers().await;
        if known.as_ref() != Some(&found) {
            let told = match &found {
                Ok(offers) => announcer.offers(offers.clone()).await,
                Err(reason) => announcer.down(reason.clone()).await,
            };
            if !told {
                return;
            }
        }
        let every = if found.is_ok() { limits::DISCOVERY_MS } else { limits::DISCOVERY_SOON_MS };
        known = Some(found);
        // Ends early when a job found the backend gone.
        let _ = timeout(Duration::from_millis(every), backend.suspect.notified()).await;
    }
}

impl OpenAi {
    /// What to offer now. An operator's own list needs only that the backend answers at all.
    async fn offers(&self) -> Result<Vec<Offer>, String> {
        let ask = timeout(Duration::from_millis(limits::CONNECT_MS), self.models());
        let models = ask.await.map_err(|_| "does not answer".to_owned())??;
        let offer = |intent: ModelIntent, model: String, context| Offer {
            intent: intent.name().into(),
            model: Some(model),
            slots: self.options.slots,
            price: None,
            context,
        };
        let mut offers = Vec::new();
        for model in &self.options.models {
            let known = model.backend.as_ref().unwrap_or(&model.name);
            let found = models.iter().flatten().find(|found| found.id == *known);
            let context = found.and_then(|found| found.max_model_len);
            offers.push(offer(model.intent, model.name.clone(), context));
        }
        if self.options.models.is_empty() {
            let models = models.ok_or("GET /v1/models gives no list; name the models")?;
            for model in models {
                offers.push(offer(intent_of(&model.id), model.id, model.max_model_len));
            }
        }
        offers.truncate(limits::OFFERS_MAX);
        super::super::tidy_offers(offers)
    }

    /// The backend's list, or `None` if it answers but has none.
    async fn models(&self) -> Result<Option<Vec<Model>>, String> {
        let request = self.request(Method::GET, "/v1/models", Bytes::new());
        let request = request.map_err(|_| "its address or key is wrong".to_owned())?;
        let answer = self.client.send(request).await.map_err(|_| "cannot be reached".to_owned())?;
        let status = answer.status();
        if status.is_server_error() || status == 401 || status == 403 {
            return Err(format!("GET /v1/models gives status {}", status.as_u16()));
        }
        let body = read_body(answer.into_body(), limits::MODELS_BYTES_MAX).await;
        let list = body.ok().filter(|_| status.is_success());
        let list = list.and_then(|body| serde_json::from_slice::<ModelList>(&body).ok());
        Ok(list.and_then(|list| list.data))
    }
}

/// `/v1/models` does not say what a model is for; embedding models are known by their names.
fn intent_of(model: &str) -> ModelIntent {
    let name = model.to_ascii_lowercase();
    let marks = ["embed", "minilm", "bge-", "gte-", "e5-"];
    if marks.iter().any(|mark| name.contains(mark)) {
        ModelIntent::Embed
    } else {
        ModelIntent::Chat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedding_models_are_known_by_their_names() {
        for model in ["nomic-embed-text:latest", "all-MiniLM-L6-v2", "BAAI/bge-m3"] {
            assert_eq!(intent_of(model), ModelIntent::Embed, "{model}");
        }
        for model in ["llama3:8b", "gpt-4o", "Qwen2.5-7B"] {
            assert_eq!(intent_of(model), ModelIntent::Chat, "{model}");
        }
    }
}
