//! `mtor sysop`: what the one who runs a realm sees and does.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mtor_client::{AccountRow, Client};
use mtor_types::{AccountId, Code, IntentId, WorkerId};
use serde_json::json;

use super::input::STDIN;
use super::listed::{Listed, pages};
use super::realm::RealmArgument;
use super::worker_table::{worker_cells, workers_table};
use super::{Context, block_on};
use crate::failure::Failure;
use crate::keyring::{Secret, read_secret};
use crate::table::Table;
use crate::words::count;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    realm: RealmArgument,
    /// A file with the sysop's secret, mode 0600, or - for standard input; else it is taken from MTOR_SYSOP_SECRET
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
    Workers(Listed),
    /// Its accounts
    Accounts(Listed),
    /// Its open intents, without what is in them
    Intents(Listed),
    /// End an intent
    Cancel { intent: IntentId },
    /// Say for 90 days that a worker does an intent well: it counts as proven
    Vouch(Vouched),
    /// Say so no longer; a proof by test intents falls, too
    Unvouch(Vouched),
    /// Let a worker in no more
    BanWorker { worker: WorkerId },
    /// Let a banned worker in again
    UnbanWorker { worker: WorkerId },
    /// Forget a worker: it must enrol again
    RemoveWorker { worker: WorkerId },
    /// Give an account a weight of its own in the queue, or bound what it has open
    Account(Limits),
    /// Codes that open an account with a grant from any network, once each; they are shown once
    Invite {
        /// So many
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000), required_unless_present_any = ["withdraw", "unused"])]
        count: Option<u32>,
        /// Take back all that were not used
        #[arg(long, conflicts_with = "count")]
        withdraw: bool,
        /// How many were not used
        #[arg(long, conflicts_with_all = ["count", "withdraw"])]
        unused: bool,
    },
    /// Shut an account out: its keys, its workers and what it has open
    BanAccount { account: AccountId },
    /// Let a banned account in again
    UnbanAccount { account: AccountId },
    /// A token for one more worker of the realm's own account; it is shown once
    WorkerToken,
}

/// Whom, and what of it; what is not named stays.
#[derive(Args)]
struct Limits {
    account: AccountId,
    /// Among the weights of networks, which are 1 each; 0 takes it back
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1_000), required_unless_present = "intents_max")]
    weight: Option<u16>,
    /// Intents that it may have open at once; 0 takes the bound back
    #[arg(long, value_name = "N")]
    intents_max: Option<u32>,
}

/// Whom, and for what.
#[derive(Args)]
struct Vouched {
    worker: WorkerId,
    /// The intent, such as chat
    intent: String,
    /// The model that the worker offers for it, if it offers one
    model: Option<String>,
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let client = arguments.realm.client(context)?;
    let secret = match (&arguments.secret_file, &context.environment.sysop_secret) {
        (Some(path), _) => read_secret(path, Secret::Sysop)?,
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
            let place = match &arguments.secret_file {
                Some(file) if file.as_os_str() == STDIN => "standard input".to_owned(),
                Some(file) => file.display().to_string(),
                None => "MTOR_SYSOP_SECRET".to_owned(),
            };
            let message = format!("the secret in {place} is not this realm's sysop secret");
            return failure.of_setup(message, "put what `mtor up` showed at its first start there");
        }
        failure
    })
}

async fn act(client: &Client, action: Action, context: &Context) -> Result<(), Failure> {
    let done = match action {
        Action::Health => return health(client, context).await,
        Action::Workers(listed) => return workers(client, listed, context).await,
        Action::Accounts(listed) => return accounts(client, listed, context).await,
        Action::Intents(listed) => return intents(client, listed, context).await,
        Action::WorkerToken => return worker_token(client, context).await,
        Action::Invite { count: Some(count), .. } => return invite(client, count, context).await,
        Action::Invite { unused: true, .. } => return unused_invites(client, context).await,
        Action::Invite { .. } => client.sysop_withdraw_invites().await,
        Action::Account(Limits { account, weight, intents_max }) => {
            client.sysop_limit_account(account, weight, intents_max).await
        }
        Action::Cancel { intent } => client.sysop_cancel(intent).await,
        Action::Vouch(Vouched { worker, intent, model }) => {
            client.sysop_vouch(worker, &intent, model.as_deref(), true).await
        }
        Action::Unvouch(Vouched { worker, intent, model }) => {
            client.sysop_vouch(worker, &intent, model.as_deref(), false).await
        }
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
        "{}\nstore {}, start {}, batch {}\n{}\n{}, {} connected\n{}: {} wait, {} run",
        ready.err().map_or("ready".to_owned(), |missing| format!("not ready: {missing}")),
        health.store,
        health.epoch,
        health.batch,
        count(health.accounts, "account"),
        count(health.workers, "worker"),
        health.sessions,
        count(health.open, "open intent"),
        health.queued,
        health.running,
    );
    context.out.show(&object, words);
    Ok(())
}

async fn workers(client: &Client, listed: Listed, context: &Context) -> Result<(), Failure> {
    let page =
        async |limit, after: Option<String>| client.sysop_workers(limit, after.as_deref()).await;
    pages(page, listed, workers_table(), context, worker_cells).await
}

async fn accounts(client: &Client, listed: Listed, context: &Context) -> Result<(), Failure> {
    let page =
        async |limit, after: Option<String>| client.sysop_accounts(limit, after.as_deref()).await;
    const GRANT: &str = "BASE UNITS OF GRANT";
    const TOKEN: &str = "BASE UNITS OF 9000";
    let table = Table::new(&["ACCOUNT", "KIND", GRANT, TOKEN, "OPEN HOLDS", "STATE"]).right(&[
        GRANT,
        TOKEN,
        "OPEN HOLDS",
    ]);
    pages(page, listed, table, context, |row| {
        vec![
            row.account.to_string(),
            // Its one text form is JSON's.
            serde_json::to_value(row.kind).map_or_else(|_| String::new(), word),
            row.grant.to_string(),
            row.token.to_string(),
            row.open_holds.to_string(),
            state(row),
        ]
    })
    .await
}

/// What the sysop has said of it.
fn state(row: &AccountRow) -> String {
    let banned = row.banned.then(|| "BANNED".to_owned());
    let weight = row.weight.map(|weight| format!("weight {weight}"));
    let most = row.intents_max.map(|most| format!("at most {most} open"));
    [banned, weight, most].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn word(value: serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

async fn intents(client: &Client, listed: Listed, context: &Context) -> Result<(), Failure> {
    let page =
        async |limit, after: Option<String>| client.sysop_intents(limit, after.as_deref()).await;
    let table = Table::new(&["INTENT", "WORK", "CEILING (BASE UNITS)", "DURABLE", "ACCOUNT"])
        .right(&["CEILING (BASE UNITS)"])
        .loose("WORK");
    pages(page, listed, table, context, |row| {
        let model = row.model.as_deref().map(|model| format!(" ({model})")).unwrap_or_default();
        vec![
            row.intent.to_string(),
            format!("{}{model}", row.name),
            row.ceiling.to_string(),
            if row.durable { "yes".into() } else { String::new() },
            row.account.to_string(),
        ]
    })
    .await
}

async fn invite(client: &Client, count: u32, context: &Context) -> Result<(), Failure> {
    for invite in client.sysop_invite(count).await?.invites {
        context.out.show(&json!({"event": "invited", "invite": invite}), &invite);
    }
    let address = client.address();
    context.out.note(format_args!(
        "shown once; for one account each: `mtor account new --invite CODE --realm {address}`, or \
         {address}/#invite=CODE in a browser"
    ));
    Ok(())
}

async fn unused_invites(client: &Client, context: &Context) -> Result<(), Failure> {
    let unused = client.sysop_invites().await?;
    context.out.show(&unused, format_args!("{} not used", count(unused.unused, "invitation")));
    Ok(())
}

async fn worker_token(client: &Client, context: &Context) -> Result<(), Failure> {
    let token = client.sysop_worker_token().await?;
    super::show_token(&token, client, context);
    Ok(())
}
