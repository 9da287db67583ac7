//! `mtor submit`: sends work, shows what comes back, and what it cost.

use clap::Args;

use super::follow::{Shown, follow};
use super::lines::{self, Lines};
use super::realm::{RealmArgument, explain};
use super::work::{Given, Work};
use super::{Context, block_on};
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Arguments {
    /// What kind of work: chat, embed, fft, transcribe, speak, echo, or another one of the realm
    #[arg(required_unless_present = "lines")]
    intent: Option<String>,
    #[command(flatten)]
    realm: RealmArgument,
    #[command(flatten)]
    work: Work,
    /// Show each piece as it comes; for chat that is always done
    #[arg(long)]
    stream: bool,
    /// An idempotency key: sent again, it joins the first intent instead of starting another
    #[arg(long, value_name = "KEY", value_parser = key)]
    key: Option<String>,
    #[command(flatten)]
    lines: Lines,
}

fn key(text: &str) -> Result<String, String> {
    let good =
        (1..=128).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if good {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 128 printable ASCII characters".into())
    }
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let Some(name) = arguments.intent.as_deref().filter(|_| arguments.lines.lines.is_none()) else {
        return block_on(Box::pin(each_line(&arguments, context)))
            .map_err(|failure| explain(failure, context));
    };
    let given = arguments.work.read()?;
    block_on(Box::pin(submit(&arguments, name, given, context)))
        .map_err(|failure| explain(failure, context))
}

async fn each_line(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let Arguments { intent, realm, work, lines, .. } = arguments;
    let client = realm.ensured(context).await?;
    lines::run(client, intent.as_deref(), lines, &work.terms, context).await
}

async fn submit(
    arguments: &Arguments,
    name: &str,
    given: Given,
    context: &Context,
) -> Result<(), Failure> {
    let client = arguments.realm.ensured(context).await?;
    let mut intent = arguments.work.intent(name, given, &client).await?;
    intent.key.clone_from(&arguments.key);
    intent.stream = Some(arguments.stream);
    let mut signals = context.interrupts.take()?;
    let stream = client.submit_streaming(&intent)?;
    let mut shown = Shown::new(context.out, name == "chat", arguments.stream);
    follow(&client, stream, &mut shown, &mut signals).await?.result(context.out)
}
