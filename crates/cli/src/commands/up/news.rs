//! What the embedded worker says of itself, as far as the realm's models are concerned.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// All that it offers now, as intent and model; `full` as in [`mtor_worker::Status::Offered`].
    Offers {
        offers: Vec<(String, String)>,
        full: bool,
    },
    /// A server of models was found, `models` are those of it that are offered, `untried` its chat
    /// models that are being asked.
    Found {
        server: String,
        url: String,
        models: Vec<String>,
        untried: Vec<String>,
    },
    /// Another chat model of it is being asked.
    Asked {
        url: String,
        model: String,
    },
    Gone {
        url: String,
    },
    /// A model file's engine, or a program, cannot work now.
    Down {
        executor: String,
        reason: String,
    },
    /// A model was asked and did not answer as one. `backend`: its address.
    LeftOut {
        backend: String,
        model: String,
        reason: String,
    },
    /// The worker itself has ended.
    Died,
}

impl News {
    pub(super) fn read(event: &Value) -> Option<Self> {
        let text = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
        let list = |name: &str| event.get(name).and_then(Value::as_array);
        let texts = |list: &Vec<Value>| {
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        Some(match &*text("status")? {
            "offered" => Self::Offers {
                offers: list("offers")?.iter().filter_map(offer).collect(),
                full: event.get("full").and_then(Value::as_bool) == Some(true),
            },
            "found" => Self::Found {
                server: text("server")?,
                url: text("url")?,
                models: texts(list("models")?),
                untried: list("untried").map(texts).unwrap_or_default(),
            },
            "asked" => Self::Asked { url: text("url")?, model: text("model")? },
            "gone" => Self::Gone { url: text("url")? },
            "executor_down" => Self::Down { executor: text("executor")?, reason: text("reason")? },
            "model_left_out" => Self::LeftOut {
                backend: text("backend")?,
                model: text("model")?,
                reason: text("reason")?,
            },
            _ => return None,
        })
    }
}

fn offer(offer: &Value) -> Option<(String, String)> {
    let text = |name: &str| offer.get(name).and_then(Value::as_str).map(str::to_owned);
    Some((text("intent")?, text("model").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_about_models_is_no_news() {
        let offered = json!({"status": "offered", "full": true, "offers": [
            {"intent": "echo"}, {"intent": "chat", "model": "m"}]});
        let offers = vec![("echo".into(), String::new()), ("chat".into(), "m".into())];
        assert_eq!(News::read(&offered), Some(News::Offers { offers, full: true }));
        assert_eq!(News::read(&json!({"status": "completed"})), None);
        assert_eq!(News::read(&json!({"status": "gone"})), None);
        assert_eq!(News::read(&json!([])), None);
    }
}
