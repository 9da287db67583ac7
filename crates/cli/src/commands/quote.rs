//! `mtor quote`: the price before.

use clap::Args;
use mtor_client::{PoolRow, Quote};

use super::realm::{RealmArgument, explain};
use super::work::Work;
use super::{Context, block_on};
use crate::failure::Failure;
use crate::words::{of, per};

#[derive(Args)]
pub(crate) struct Arguments {
    /// What kind of work: chat, embed, fft, transcribe, speak, echo, or another one of the realm
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
        let quote = client.quote(&intent).await?;
        // The price stands in the manifest: that it can be told does not mean that anybody serves.
        let is_it = |pool: &PoolRow| {
            pool.intent == quote.intent && (quote.model.is_none() || pool.model == quote.model)
        };
        let is_served = client.pools().await?.iter().any(is_it);
        Ok((quote, is_served))
    }));
    let (quote, is_served) = done.map_err(|failure| explain(failure, context))?;
    let mut object = serde_json::to_value(&quote).unwrap_or_default();
    if let Some(fields) = object.as_object_mut() {
        fields.insert("served".into(), is_served.into());
    }
    context.out.show(&object, words(&quote, is_served));
    Ok(())
}

fn words(quote: &Quote, is_served: bool) -> String {
    let Quote { asset, price, units, ceiling, .. } = quote;
    let model = quote.model.as_deref().map(|model| format!(" ({model})")).unwrap_or_default();
    let cut = if quote.may_be_cut { "; it ends where that is used up" } else { "" };
    let wait = match quote.eta_ms {
        _ if !is_served => "no worker serves it just now".to_owned(),
        0 => "it can begin at once".to_owned(),
        ms => format!("it begins in about {} s", ms.div_ceil(1_000)),
    };
    format!(
        "{}{model}: at most {}{cut}\n\
         price {}, at most {units} of them; {wait}",
        quote.intent,
        of(*ceiling, asset),
        per(price.amount, price.per, &price.unit),
    )
}
