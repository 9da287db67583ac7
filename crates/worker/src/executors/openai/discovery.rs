//! Which models the backend has, asked now and then; offers follow.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use mtor_types::worker::Offer;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::OpenAi;
use crate::executors::{Announcer, Tidy};
use crate::http_client::read_body;
use crate::limits;

/// Of the name of a model that is left out.
const SHOWN_BYTES: usize = 64;

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
}

fn lenient<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(value.as_u64().and_then(|value| u32::try_from(value).ok()))
}

/// What can be offered of what a backend has.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    offers: Vec<Offer>,
    /// Models that cannot, with the reason.
    left_out: Vec<String>,
}

/// Keeps the offers of a backend true until the agent is gone.
pub(crate) async fn discover(backend: Arc<OpenAi>, announcer: Announcer) {
    let mut known: Option<Result<Found, String>> = None;
    loop {
        let found = backend.offers().await;
        if known.as_ref() != Some(&found) {
            let told = match &found {
                Ok(Found { offers, left_out }) => {
                    for reason in left_out {
                        tracing::warn!(backend = %backend.base, %reason, "a model is left out");
                    }
                    announcer.offers(offers.clone()).await
                }
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
    /// What to offer now.
    async fn offers(&self) -> Result<Found, String> {
        let ask = timeout(Duration::from_millis(limits::CONNECT_MS), self.models());
        let models = ask.await.map_err(|_| "does not answer".to_owned())??;
        let models = models.ok_or("GET /v1/models gives no list")?;
        let mut offers = Vec::new();
        let mut left_out = Vec::new();
        for model in models {
            let Some(Model { id, max_model_len: context }) = model else {
                left_out.push("it has no id".to_owned());
                continue;
            };
            let (intent, slots) = (intent_of(&id).to_owned(), self.options.slots);
            offers.push(Offer { intent, model: Some(id), slots, price: None, context });
        }
        Ok(tidy(offers, left_out))
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
            let start = model.get(..model.floor_char_boundary(SHOWN_BYTES)).unwrap_or_default();
            left_out.push(format!("{:?}: {reason}", start));
        }
    }
    Found { offers: tidy.offers, left_out }
}

/// `/v1/models` does not say what a model is for; embedding models are known by their names.
fn intent_of(model: &str) -> &'static str {
    let name = model.to_ascii_lowercase();
    let marks = ["embed", "minilm", "bge-", "gte-", "e5-"];
    if marks.iter().any(|mark| name.contains(mark)) { "embed" } else { "chat" }
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
        });
        let found = tidy(offers.collect(), Vec::new());
        let names: Vec<_> = found.offers.iter().filter_map(|o| o.model.as_deref()).collect();
        assert_eq!((names.len(), &names[..2]), (limits::OFFERS_MAX, ["good", "m0"].as_slice()));
        // Three names, the second of `good`, and those above the bound.
        assert_eq!(found.left_out.len(), 3 + 1 + 9, "{:?}", found.left_out);
        assert!(read_list(br#"{"data":7}"#).is_none());
    }

    #[test]
    fn embedding_models_are_known_by_their_names() {
        for model in ["nomic-embed-text:latest", "all-MiniLM-L6-v2", "BAAI/bge-m3"] {
            assert_eq!(intent_of(model), "embed", "{model}");
        }
        for model in ["llama3:8b", "gpt-4o", "Qwen2.5-7B"] {
            assert_eq!(intent_of(model), "chat", "{model}");
        }
    }
}
