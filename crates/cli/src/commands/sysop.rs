//! `mtor sysop`: what the one who runs a realm sees and does.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mtor_client::{Client, ClientError, Page};
use mtor_types::{AccountId, Code, IntentId, WorkerId};
use serde::Serialize;
use serde_json::json;

use super::realm::RealmArgument;
use super::{Context, block_on};
use crate::failure::Failure;
use crate::keyring::read_secret;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    realm: RealmArgument,
    /// A file with the sysop's secret, mode 0600; else it is taken from MTOR_SYSOP_SECRET
    #[arg(long, value_name = "FILE", global = true)]
    secret_file: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// How the realm is
    Health,
    /// Its workers
    Workers,
    /// Its accounts
    Accounts,
    /// Its open intents, without what is in them
    Intents,
    /// End an intent
    Cancel { intent: IntentId },
    /// Let a worker in no more
    BanWorker { worker: WorkerId },
    /// Let a banned worker in again
    UnbanWorker { worker: WorkerId },
    /// Forget a worker: it must enrol again
    RemoveWorker { worker: WorkerId },
    /// Take nothing more from an account
    BanAccount { account: AccountId },
    /// Take work from a banned account again
    UnbanAccount { account: AccountId },
    /// A token for one more worker of the realm's own account; it is shown once
    WorkerToken,
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let client = arguments.realm.client(context)?;
    let secret = match (&arguments.secret_file, &context.environment.sysop_secret) {
        (Some(path), _) => read_secret(path)?,
        (None, Some(secret)) => secret.clone(),
        (None, None) => {
            return Err(Failure::configuration("the sysop's secret is missing").with_remedy(
                "put what `mtor up` showed at its first start into a file (mode 0600) and name it \
                 with --secret-file, or into MTOR_SYSOP_SECRET",
            ));
        }
    };
    let client = client.with_key(&secret)?;
    block_on(Box::pin(act(&client, arguments.action, context))).map_err(|failure| {
        if failure.is_code(Code::Unauthenticated) {
            return failure.with_remedy("that is not this realm's sysop secret");
        }
        failure
    })
}

async fn act(client: &Client, action: Action, context: &Context) -> Result<(), Failure> {
    let done = match action {
        Action::Health => return health(client, context).await,
        Action::Workers => return workers(client, context).await,
        Action::Accounts => return accounts(client, context).await,
        Action::Intents => return intents(client, context).await,
        Action::WorkerToken => return worker_token(client, context).await,
        Action::Cancel { intent } => client.sysop_cancel(intent).await,
        Action::BanWorker { worker } => client.sysop_ban_worker(worker, true).await,
        Action::UnbanWorker { worker } => client.sysop_ban_worker(worker, false).await,
        Action::RemoveWorker { worker } => client.sysop_remove_worker(worker).await,
        Action::BanAccount { account } => client.sysop_ban_account(account, true).await,
        Action::UnbanAccount { account } => client.sysop_ban_account(account, false).await,
    };
    done?;
    context.out.show(&json!({"event": "done"}), "done");
    Ok(())
}

async fn health(client: &Client, context: &Context) -> Result<(), Failure> {
    let health = client.sysop_health().await?;
    let ready = client.ready().await?;
    let mut object = serde_json::to_value(&health).unwrap_or_default();
    if let Some(fields) = object.as_object_mut() {
        fields.insert("ready".into(), ready.is_ok().into());
    }
    let words = format!(
        "{}\nstore {}, start {}, batch {}\n{} accounts\n{} workers, {} connected\n{} open intents: {} wait, {} run",
        ready.err().map_or("ready".to_owned(), |missing| format!("not ready: {missing}")),
        health.store,
        health.epoch,
        health.batch,
        health.accounts,
        health.workers,
        health.sessions,
        health.open,
        health.queued,
        health.running,
    );
    context.out.show(&object, words);
    Ok(())
}

async fn workers(client: &Client, context: &Context) -> Result<(), Failure> {
    let page =
        |after: Option<String>| async move { client.sysop_workers(PAGE, after.as_deref()).await };
    pages(page, context, |row| {
        let marks = [
            (row.connected, "connected"),
            (!row.connected, "offline"),
            (row.own, "own"),
            (row.proven, "proven"),
            (row.banned, "BANNED"),
        ];
        let marks: Vec<_> = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
        let offers = row.offers.iter().map(|offer| match &offer.model {
            Some(model) => format!("{} ({model}) x{}", offer.intent, offer.slots),
            None => format!("{} x{}", offer.intent, offer.slots),
        });
        let offers: Vec<_> = offers.collect();
        format!("{}  {}  [{}]  {}", row.worker, row.name, marks.join(", "), offers.join(", "))
    })
    .await
}

async fn accounts(client: &Client, context: &Context) -> Result<(), Failure> {
    let page =
        |after: Option<String>| async move { client.sysop_accounts(PAGE, after.as_deref()).await };
    pages(page, context, |row| {
        let banned = if row.banned { "  BANNED" } else { "" };
        let (account, kind, grant, token) = (row.account, row.kind, row.grant, row.token);
        format!(
            "{account}  {kind:?}  grant {grant}  9000 {token}  {} holds{banned}",
            row.open_holds
        )
    })
    .await
}

async fn intents(client: &Client, context: &Context) -> Result<(), Failure> {
    let page =
        |after: Option<String>| async move { client.sysop_intents(PAGE, after.as_deref()).await };
    pages(page, context, |row| {
        let model = row.model.as_deref().map(|model| format!(" ({model})")).unwrap_or_default();
        let durable = if row.durable { ", durable" } else { "" };
        format!(
            "{}  {}{model}  ceiling {}{durable}  {}",
            row.intent, row.name, row.ceiling, row.account
        )
    })
    .await
}

async fn worker_token(client: &Client, context: &Context) -> Result<(), Failure> {
    let token = client.sysop_worker_token().await?;
    super::show_token(&token, client, context);
    Ok(())
}

const PAGE: usize = 1_000;
/// Pages of one list at most: a realm that never comes to an end is not listened to for ever.
const PAGES_MAX: usize = 10_000;

async fn pages<T: Serialize, W: Future<Output = Result<Page<T>, ClientError>>>(
    page: impl Fn(Option<String>) -> W,
    context: &Context,
    words: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    let mut after = None;
    for _ in 0..PAGES_MAX {
        let Page { items, next } = page(after).await?;
        for row in &items {
            context.out.show(row, words(row));
        }
        after = next.filter(|_| !items.is_empty());
        if after.is_none() {
            break;
        }
    }
    Ok(())
}
