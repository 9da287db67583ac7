//! `mtor receipt`: gets a receipt, and checks one without trusting who showed it.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use mtor_server::identity::RealmDocument;
use mtor_server::receipts::{self, Receipt};
use mtor_types::{IntentId, Time};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::input::{STDIN, read_file};
use super::realm::{RealmArgument, explain};
use super::{Context, block_on};
use crate::failure::Failure;
use crate::words::of;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    realm: RealmArgument,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// The receipt of one of your settled intents
    Get { intent: IntentId },
    /// Check a receipt against the realm's signed document
    Verify {
        /// The receipt, as JSON; - reads it from standard input
        file: PathBuf,
        /// The realm's document in a file, or - for standard input; it is asked of the realm if it
        /// is not given
        #[arg(long, value_name = "FILE")]
        document: Option<PathBuf>,
    },
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let Arguments { realm, action } = arguments;
    match action {
        Action::Get { intent } => {
            let client = realm.required(context)?;
            let receipt = block_on(async { Ok(client.receipt(intent).await?) })
                .map_err(|failure| explain(failure, context))?;
            context.out.show(&receipt, &receipt);
            Ok(())
        }
        Action::Verify { file, document } => {
            let receipt: Receipt = read(&file, "FILE", "a receipt")?;
            let document = match document {
                Some(path) => read(&path, "--document", "a realm document")?,
                None => fetch(&realm, context)?,
            };
            verify(&receipt, &document)?;
            let statement = &receipt.statement;
            context.out.show(
                &json!({"event": "verified", "statement": statement}),
                format_args!(
                    "good: realm {} states that intent {} cost {}",
                    statement.realm,
                    statement.intent,
                    of(statement.cost, statement.asset.symbol())
                ),
            );
            Ok(())
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path, named: &str, what: &str) -> Result<T, Failure> {
    let text = read_file(path, named)?;
    let place = match path.display().to_string() {
        stdin if stdin == STDIN => "standard input".to_owned(),
        path => path,
    };
    if text.trim().is_empty() {
        return Err(Failure::usage(format!("{named}: {place} is empty: expected {what}")));
    }
    serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("{place} is not {what}: {error}")))
}

fn fetch(realm: &RealmArgument, context: &Context) -> Result<RealmDocument, Failure> {
    let client = realm.client(context)?;
    let text = block_on(async { Ok(client.document().await?) })?;
    serde_json::from_str(text.get()).map_err(|error| {
        Failure::failed(format!(
            "{} sent something else than a realm document: {error}",
            client.address()
        ))
    })
}

fn verify(receipt: &Receipt, document: &RealmDocument) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now = Time(u64::try_from(now).unwrap_or(u64::MAX));
    let bad = |why: String| Failure::failed(format!("the receipt is not proven: {why}"));
    document.verify(now).map_err(|error| bad(format!("the realm's document: {error}")))?;
    if document.statement.realm != receipt.statement.realm {
        let (other, stated) = (document.statement.realm, receipt.statement.realm);
        let failure = bad(format!("it is of realm {stated}, the document of realm {other}"));
        return Err(failure
            .with_remedy("name its realm with --realm URL, or its document with --document FILE"));
    }
    let key = document.signing_key(receipt.kid);
    let key = key.ok_or_else(|| bad("the realm's document does not name its key".into()))?;
    receipts::verify(receipt, &key).map_err(|error| bad(error.to_string()))
}
