//! `mtor manifests`: the kinds of work that a realm knows, and what each takes.

use std::collections::BTreeMap;

use clap::Args;
use mtor_client::Served;
use mtor_types::intent::Trust;
use mtor_types::manifest::{Bound, Manifest};
use serde_json::Value;

use super::realm::RealmArgument;
use super::{Context, block_on};
use crate::failure::Failure;
use crate::table::Table;
use crate::words::{per, whose};

#[derive(Args)]
pub(crate) struct Arguments {
    /// One kind of work, with its parameters
    name: Option<String>,
    #[command(flatten)]
    realm: RealmArgument,
}

pub(crate) fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let client = arguments.realm.client(context)?;
    let (manifests, served) = block_on(async { Ok(client.manifests_served().await?) })?;
    match &arguments.name {
        None => list(&manifests, &served, context),
        Some(name) => {
            let found = manifests.iter().find(|manifest| manifest.name == *name);
            let manifest = found.ok_or_else(|| {
                let names: Vec<_> = manifests.iter().map(|m| m.name.as_str()).collect();
                Failure::failed(format!("{} knows no intent {name:?}", client.address()))
                    .with_code(mtor_types::Code::UnknownIntent.text())
                    .with_remedy(format!("it knows {}", names.join(", ")))
            })?;
            one(manifest, served.get(name), context);
        }
    }
    Ok(())
}

fn price(manifest: &Manifest) -> String {
    per(manifest.price.amount, manifest.price.per, &manifest.meter.unit)
}

/// Who serves it now, in words.
fn served_by(served: Option<&Served>) -> String {
    served.map_or_else(|| "nobody".to_owned(), |by| whose(by.standing, &by.owners))
}

fn list(manifests: &[Manifest], served: &BTreeMap<String, Served>, context: &Context) {
    let mut table = Table::new(&["NAME", "VERSION", "PRICE", "SERVED BY", "SUMMARY"])
        .right(&["VERSION"])
        .loose("SUMMARY");
    for manifest in manifests {
        context.out.object(manifest);
        table.row([
            manifest.name.clone(),
            manifest.version.to_string(),
            price(manifest),
            served_by(served.get(&manifest.name)),
            manifest.summary.clone(),
        ]);
    }
    table.print(context.out);
}

fn one(manifest: &Manifest, served: Option<&Served>, context: &Context) {
    let out = context.out;
    out.object(manifest);
    out.words(format_args!("{}, version {}", manifest.name, manifest.version));
    out.words(&manifest.summary);
    let bound = match manifest.meter.bound {
        Bound::One => "one an intent",
        Bound::Bytes => "the bytes of the data",
        Bound::BytesAndOutput => "the bytes of the data and the output limit",
        Bound::Points => "the product of the shape",
        Bound::Sound => "the length of the sound",
        Bound::Speech => "what the text may take to say",
    };
    out.words(format_args!("price     {}; at most {bound}", price(manifest)));
    let say = match served.and_then(|by| by.trust) {
        Some(Trust::Any) => "; asked with --trust any",
        Some(Trust::Own | Trust::Proven) | None => "",
    };
    out.words(format_args!("served by {}{say}", served_by(served)));
    let deadline = manifest.deadline;
    let seconds = |ms: u64| ms.div_ceil(1_000);
    out.words(format_args!(
        "deadline  {} s if none is given, {} s at most",
        seconds(deadline.default_ms),
        seconds(deadline.max_ms)
    ));
    out.words(format_args!("data      at most {} bytes", manifest.bytes_max));
    let mut table = Table::new(&["FIELD", "TYPE", "NEEDED", "WHAT"]).loose("WHAT");
    let required = manifest.parameters["required"].as_array();
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|n| n == name));
    for (name, field) in manifest.parameters["properties"].as_object().into_iter().flatten() {
        let needed = if is_required(name) { "yes" } else { "" };
        let what = field["description"].as_str().or(field["title"].as_str()).unwrap_or_default();
        table.row([name.clone(), kind(field), needed.to_owned(), what.to_owned()]);
    }
    table.print(out);
}

/// A field's type in a word.
fn kind(field: &Value) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match (&field["enum"], &field["type"]) {
        (Value::Array(values), _) => values.iter().map(word).collect::<Vec<_>>().join(" | "),
        (_, Value::Array(types)) => types.iter().map(word).collect::<Vec<_>>().join(" | "),
        (_, Value::String(name)) => name.clone(),
        _ => "any".to_owned(),
    }
}
