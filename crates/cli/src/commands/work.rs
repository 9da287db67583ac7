//! What a piece of work is, as the command line says it: the same for its price and for itself.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use mtor_client::{Client, Intent, Standing};
use mtor_types::intent::{Class, Trust};
use mtor_types::{Amount, Code};
use serde_json::json;
use serde_json::value::RawValue;

use super::input;
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Work {
    /// The work's data: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON", value_parser = input::said)]
    data: Option<String>,
    /// A question for chat, or a text for embed, in place of --data; - for standard input
    #[arg(long, value_name = "TEXT", conflicts_with = "data", value_parser = input::said)]
    prompt: Option<String>,
    /// The data where none is taken, so that it can be told how it is given
    #[arg(hide = true, value_name = "DATA", value_parser = misplaced)]
    _misplaced: Vec<String>,
    #[command(flatten)]
    pub(crate) terms: Terms,
}

fn misplaced(_: &str) -> Result<String, &'static str> {
    Err("give the data as --data JSON, --data @FILE or --data - (standard input), or a text for \
         chat and embed as --prompt TEXT")
}

/// On which terms it is to be done.
#[derive(Args, Clone)]
pub(crate) struct Terms {
    /// The model for a text; the realm's own choice if it is not given
    #[arg(long, value_name = "NAME", value_parser = input::said)]
    pub(crate) model: Option<String>,
    /// The most it may cost, in base units
    #[arg(long, value_name = "N")]
    pub(crate) ceiling: Option<Amount>,
    /// To be done within so many milliseconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    deadline_ms: Option<u64>,
    /// Survives a restart of the realm
    #[arg(long)]
    durable: bool,
    /// Whose workers may serve: the realm's own, also proven ones (if nothing is said), or anybody's
    #[arg(long, value_name = "WHOSE", value_parser = whose())]
    trust: Option<Trust>,
    /// Batch work gives way to interactive work
    #[arg(long)]
    batch: bool,
}

/// Reads a trust, and knows the word of earlier releases well enough to say what it is now.
fn whose() -> impl TypedValueParser<Value = Trust> {
    let words = ["own", "proven", "any"].map(PossibleValue::new);
    let old = PossibleValue::new("certified").hide(true);
    PossibleValuesParser::new(words.into_iter().chain([old])).try_map(|word| match word.as_str() {
        "own" => Ok(Trust::Own),
        "proven" => Ok(Trust::Proven),
        "any" => Ok(Trust::Any),
        _ => Err("say `proven`: that is what `certified` is called now"),
    })
}

impl Terms {
    pub(crate) fn apply(&self, intent: &mut Intent) {
        intent.ceiling = intent.ceiling.or(self.ceiling);
        intent.deadline_ms = intent.deadline_ms.or(self.deadline_ms);
        intent.durable = intent.durable.or(self.durable.then_some(true));
        intent.class = intent.class.or(self.batch.then_some(Class::Batch));
        intent.trust = intent.trust.or(self.trust);
    }

    /// For a part of an answer that is read aloud: as the answer itself, but for the model, which is
    /// another's, and durability, since nobody listens after a restart. `left` is of the ceiling.
    pub(crate) fn apply_to_reading(&self, intent: &mut Intent, left: Option<Amount>) {
        let terms = Self { model: None, ceiling: left, durable: false, ..self.clone() };
        terms.apply(intent);
    }
}

/// Work that was read, before a realm is asked.
pub(crate) enum Given {
    Data(Box<RawValue>),
    Prompt(String),
}

impl Work {
    /// Reads what is to be worked on, wherever it stands.
    pub(crate) fn read(&self) -> Result<Given, Failure> {
        match (&self.data, &self.prompt) {
            (Some(_), _) if self.terms.model.is_some() => {
                Err(Failure::usage("--model goes with --prompt, not with --data")
                    .with_remedy("name the model in the data"))
            }
            (Some(data), _) => input::data(data).map(Given::Data),
            (None, Some(prompt)) => input::text(prompt, "--prompt").map(Given::Prompt),
            (None, None) => Err(Failure::usage("what to work on is missing").with_remedy(
                "give --data JSON, @FILE or - (standard input); for chat and embed \
                     --prompt TEXT or -",
            )),
        }
    }

    /// The intent, with the data of a prompt made for it.
    pub(crate) async fn intent(
        &self,
        name: &str,
        given: Given,
        client: &Client,
    ) -> Result<Intent, Failure> {
        let data = match given {
            Given::Data(data) => data,
            Given::Prompt(prompt) => {
                check_takes_text(name)?;
                let model = choose_model(&self.terms, name, client).await?;
                prompted(name, &model, &prompt, true)?
            }
        };
        let mut intent = Intent::new(name, data);
        self.terms.apply(&mut intent);
        Ok(intent)
    }
}

fn check_takes_text(name: &str) -> Result<(), Failure> {
    if matches!(name, "chat" | "embed") {
        return Ok(());
    }
    let message = format!("a text alone goes with chat and embed, not with {name}");
    Err(Failure::usage(message).with_remedy("give its data with --data"))
}

/// The data for a text.
pub(crate) fn prompted(
    name: &str,
    model: &str,
    text: &str,
    stream: bool,
) -> Result<Box<RawValue>, Failure> {
    let data = match name {
        "chat" => json!({
            "model": model, "messages": [{"role": "user", "content": text}], "stream": stream,
        }),
        _ => json!({"model": model, "input": text}),
    };
    serde_json::value::to_raw_value(&data).map_err(|error| Failure::caused(&error))
}

/// The model that was asked for; else the realm's default, or the one with the most slots of those
/// that are no stranger's.
pub(crate) async fn choose_model(
    terms: &Terms,
    intent: &str,
    client: &Client,
) -> Result<String, Failure> {
    if let Some(model) = &terms.model {
        return Ok(model.clone());
    }
    let offered: Vec<_> =
        client.pools().await?.into_iter().filter(|p| p.intent == intent).collect();
    let default = client.default_models().await?.remove(intent);
    let default = default.filter(|id| offered.iter().any(|pool| pool.model.as_ref() == Some(id)));
    let any = terms.trust == Some(Trust::Any);
    let named = || offered.iter().filter(|pool| pool.model.is_some());
    let trusted = || named().filter(|pool| pool.standing != Standing::Probation || any);
    let most = || trusted().max_by_key(|pool| pool.slots)?.model.clone();
    default.or_else(most).ok_or_else(|| {
        let strangers: Vec<_> = named().filter_map(|pool| pool.model.as_deref()).collect();
        if !strangers.is_empty() {
            let message = format!("only workers that are not yet proven offer {intent} here");
            return Failure::failed(message).with_code(Code::NotProven.text()).with_remedy(format!(
                "--model NAME names one, and its owner may read and answer what you ask: {}",
                strangers.join(", ")
            ));
        }
        Failure::failed(format!("no worker at {} offers {intent} just now", client.address()))
            .with_code(Code::NoWorker.text())
            .with_remedy("where the realm runs, `mtor up` says which models it serves and what keeps them away")
    })
}
