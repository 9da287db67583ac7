//! `--price`: what is asked, and whether it can mean anything. A price for what is never offered, or
//! in other units than the realm's, would silently be the list price.

use mtor_client::Client;
use mtor_types::manifest::Manifest;
use mtor_types::{Amount, Price};

use super::Arguments;
use crate::failure::Failure;
use crate::output::Out;
use crate::words::{self, count};

pub(super) type Prices = Vec<(String, Price)>;

pub(super) fn price(text: &str) -> Result<(String, Price), String> {
    let parse = || {
        let (intent, price) = text.split_once('=')?;
        let (amount, per) = price.split_once('/').unwrap_or((price, "1"));
        let amount: Amount = amount.parse().ok()?;
        let per = per.parse().ok().filter(|per| *per > 0)?;
        (!intent.is_empty()).then(|| (intent.to_owned(), Price { amount, per }))
    };
    parse().ok_or_else(|| "expected INTENT=AMOUNT/PER, such as chat=100000/1000000".into())
}

/// Refuses prices of intents that this worker cannot offer. A program says itself what it offers:
/// with one, the agent warns when it has.
pub(super) fn check_offered(arguments: &Arguments) -> Result<(), Failure> {
    if !arguments.exec.is_empty() {
        return Ok(());
    }
    let served = [
        ("echo", !arguments.no_echo),
        ("fft", !arguments.no_fft),
        ("chat", arguments.backends.are_any() || arguments.engine.offers_chat()),
        ("embed", arguments.backends.are_any()),
        ("transcribe", arguments.backends.are_audio()),
        ("speak", arguments.backends.are_audio()),
    ];
    let served: Vec<_> = served.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    match arguments.price.iter().find(|(intent, _)| !served.contains(&intent.as_str())) {
        None => Ok(()),
        Some((intent, _)) => {
            let message = format!("--price {intent}=…: this worker does not serve {intent}");
            let served = served.join(", ");
            let remedy = format!("it serves {served}; --backend, --audio and --exec add to that");
            Err(Failure::usage(message).with_remedy(remedy))
        }
    }
}

/// Refuses prices in other units than the realm's. A realm that does not answer may do so later:
/// then it takes the list price where the units differ.
pub(super) async fn check_units(prices: &Prices, client: &Client, out: Out) -> Result<(), Failure> {
    if prices.is_empty() {
        return Ok(());
    }
    match client.manifests().await {
        Ok(manifests) => prices.iter().try_for_each(|price| check_unit(price, &manifests)),
        Err(error) => {
            out.note(format_args!("--price could not be compared with the realm's units: {error}"));
            Ok(())
        }
    }
}

fn check_unit((intent, price): &(String, Price), manifests: &[Manifest]) -> Result<(), Failure> {
    let Some(manifest) = manifests.iter().find(|manifest| manifest.name == *intent) else {
        let message = format!("--price {intent}=…: this realm has no intent {intent}");
        let known: Vec<_> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
        let remedy = format!("it has {}", known.join(", "));
        return Err(Failure::usage(message).with_remedy(remedy));
    };
    let (amount, per, list) = (price.amount, price.per, manifest.price);
    if per == list.per {
        return Ok(());
    }
    let unit = &manifest.meter.unit;
    let message = format!(
        "--price {intent}={amount}/{per}: this realm prices {intent} per {}",
        count(list.per, unit)
    );
    let remedy = format!(
        "give --price {intent}=AMOUNT/{}; the list price is {}",
        list.per,
        words::per(list.amount, list.per, unit)
    );
    Err(Failure::usage(message).with_remedy(remedy))
}
