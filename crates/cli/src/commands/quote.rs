//! `mtor quote`: the price before.

use clap::Args;
use mtor_client::Quote;
use mtor_types::Amount;

use super::realm::{RealmArgument, explain};
use super::work::Work;
use super::{Context, block_on};
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Arguments {
    /// What kind of work: chat, embed, fft, transcribe, echo, or another one of the realm
    intent: String,
    #[command(flatten)]
    realm: RealmArgument,
    #[command(flatten)]
    work: Work,
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let given = arguments.work.read()?;
    let done = block_on(Box::pin(async {
        let client = arguments.realm.ensured(context).await?;
        let intent = arguments.work.intent(&arguments.intent, given, &client).await?;
        Ok(client.quote(&intent).await?)
    }));
    let quote = done.map_err(explain)?;
    context.out.show(&quote, words(&quote));
    Ok(())
}

fn words(quote: &Quote) -> String {
    let Quote { asset, price, units, ceiling, .. } = quote;
    let model = quote.model.as_deref().map(|model| format!(" ({model})")).unwrap_or_default();
    let cut = if quote.may_be_cut { "; it ends where that is used up" } else { "" };
    let wait = match quote.eta_ms {
        0 => "it can begin at once".to_owned(),
        ms => format!("it begins in about {} s", ms.div_ceil(1_000)),
    };
    format!(
        "{}{model}: at most {} of {asset}{cut}\n\
         price {}, at most {units} of them; {wait}",
        quote.intent,
        base_units(*ceiling),
        per(price.amount, price.per, &price.unit),
    )
}

/// An amount in words.
pub(crate) fn base_units(amount: Amount) -> String {
    let unit = if amount == Amount::from_u64(1) { "unit" } else { "units" };
    format!("{amount} base {unit}")
}

/// A price in words.
pub(crate) fn per(amount: Amount, per: u64, unit: &str) -> String {
    format!("{} per {per} {}", base_units(amount), plural(unit, per))
}

pub(crate) fn plural(unit: &str, count: u64) -> String {
    if count == 1 { unit.to_owned() } else { format!("{unit}s") }
}
