//! `mtor cancel`: ends intents that are under way.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use mtor_client::{Client, EventKind};
use mtor_types::IntentId;
use serde_json::json;
use tokio::time::timeout;

use super::realm::{RealmArgument, explain};
use super::{Context, block_on, input};
use crate::failure::Failure;
use crate::words::money;

/// For the end of one, after the realm has taken its cancellation.
const END_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Their ids; - reads them from standard input
    #[arg(required = true, value_name = "INTENT", value_parser = id_or_stdin)]
    intents: Vec<String>,
    #[command(flatten)]
    realm: RealmArgument,
}

fn id_or_stdin(text: &str) -> Result<String, String> {
    if text != input::STDIN {
        text.parse::<IntentId>().map_err(|error| error.to_string())?;
    }
    Ok(text.to_owned())
}

pub(crate) fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let mut intents = Vec::new();
    for argument in &arguments.intents {
        // One id, or all that stand on standard input: a list of none is fine.
        let text = match argument.as_str() {
            input::STDIN => input::read_file(Path::new(input::STDIN), "INTENT")?,
            id => id.to_owned(),
        };
        for word in text.split_whitespace() {
            let id = word.parse::<IntentId>();
            intents.push(id.map_err(|error| Failure::usage(format!("INTENT {word:?}: {error}")))?);
        }
    }
    if intents.is_empty() {
        context.out.note("there is nothing to cancel");
        return Ok(());
    }
    let client = arguments.realm.required(context)?;
    block_on(Box::pin(async {
        let mut failed = 0_usize;
        for intent in &intents {
            if let Err(failure) = cancel(&client, *intent, context).await {
                context.out.failure(&explain(failure, context).about(intent));
                failed += 1;
            }
        }
        match failed {
            0 => Ok(()),
            _ => Err(Failure::failed(format!("{failed} of {} not cancelled", intents.len()))),
        }
    }))
}

async fn cancel(client: &Client, intent: IntentId, context: &Context) -> Result<(), Failure> {
    client.cancel(intent).await?;
    let mut stream = client.follow(intent, None);
    let end = async {
        while let Some(event) = stream.next().await? {
            if event.kind.is_end() {
                return Ok(Some(event));
            }
        }
        Ok::<_, Failure>(None)
    };
    // That it was asked for is what counts: its end can be seen later.
    let end = timeout(END_PATIENCE, end).await.ok().and_then(Result::ok).flatten();
    let (name, cost) = match end.map(|event| (event.name, event.kind)) {
        Some((name, EventKind::Cancelled(bill) | EventKind::Expired(bill))) => (name, bill.cost),
        Some((name, EventKind::Completed(done))) => (name, done.cost),
        Some((name, _)) => (name, None),
        None => ("cancelling".to_owned(), None),
    };
    let words = cost.as_ref().map(|cost| format!("; it cost {}", money(cost))).unwrap_or_default();
    let object = json!({"event": &name, "intent": intent, "cost": cost});
    context.out.show(&object, format_args!("{intent} {name}{words}"));
    Ok(())
}
