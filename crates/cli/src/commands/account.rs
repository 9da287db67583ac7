//! `mtor account`: balance, keys and transfers of this user's account at a realm.

use clap::{Args, Subcommand};
use mtor_client::{Client, Transfer};
use mtor_types::{AccountId, KeyHash};
use serde_json::json;

use super::listed::{Listed, pages};
use super::realm::{RealmArgument, at_realm, explain, open_guest, why_empty};
use super::worker_table::{worker_cells, workers_table};
use super::{Context, block_on};
use crate::failure::Failure;
use crate::keyring::Keyring;
use crate::table::Table;
use crate::words::{base_units, count};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    realm: RealmArgument,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// What the account holds (if nothing is said)
    Show,
    /// Open a new guest account; the one before is kept as a former one
    New {
        /// A code of the realm's sysop: it brings a grant from any network
        #[arg(long, value_name = "CODE")]
        invite: Option<String>,
    },
    /// The accounts that were replaced, the oldest first
    Former,
    /// Go back to a former account
    Use {
        /// Its id, as `mtor account former` shows it
        account: AccountId,
    },
    /// The account's API keys, by hash
    Keys {
        /// Make another key; it is shown once
        #[arg(long, conflicts_with = "revoke")]
        add: bool,
        /// Revoke the key of that hash
        #[arg(long, value_name = "HASH")]
        revoke: Option<KeyHash>,
    },
    /// The account's transfers, the oldest first
    Transfers {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        limit: usize,
        /// Only those after that sequence number
        #[arg(long, value_name = "SEQUENCE")]
        after: Option<u64>,
    },
    /// The account's workers, what they have earned and how they stand
    Workers(Listed),
    /// A token for a worker that earns for this account; it is shown once
    WorkerToken,
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let Arguments { realm, action } = arguments;
    block_on(Box::pin(async {
        match action.unwrap_or(Action::Show) {
            Action::New { invite } => new(&realm, invite.as_deref(), context).await,
            Action::Former => former(&realm, context),
            Action::Use { account } => go_back(&realm, account, context),
            Action::Show => show(&realm.required(context)?, context).await,
            Action::Keys { add: true, .. } => add_key(&realm.required(context)?, context).await,
            Action::Keys { revoke: Some(key), .. } => {
                realm.required(context)?.revoke_key(key).await?;
                context.out.show(&json!({"event": "key_revoked", "key": key}), "revoked");
                Ok(())
            }
            Action::Keys { .. } => keys(&realm.required(context)?, context).await,
            Action::Workers(listed) => {
                let client = realm.required(context)?;
                let page = async |limit, after: Option<String>| {
                    client.own_workers(limit, after.as_deref()).await
                };
                pages(page, listed, workers_table(), context, worker_cells).await
            }
            Action::WorkerToken => worker_token(&realm.required(context)?, context).await,
            Action::Transfers { limit, after } => {
                transfers(&realm.required(context)?, limit, after, context).await
            }
        }
    }))
    .map_err(|failure| explain(failure, context))
}

async fn new(
    realm: &RealmArgument,
    invite: Option<&str>,
    context: &Context,
) -> Result<(), Failure> {
    let client = realm.client(context)?;
    let mut keyring = Keyring::open(context.environment.config_dir())?;
    open_guest(&client, &mut keyring, invite, context).await.map(drop)
}

fn former(realm: &RealmArgument, context: &Context) -> Result<(), Failure> {
    let client = realm.client(context)?;
    let keyring = Keyring::open(context.environment.config_dir())?;
    for entry in keyring.former(client.address()) {
        context.out.show(&json!({"account": entry.account}), entry.account);
    }
    Ok(())
}

fn go_back(realm: &RealmArgument, account: AccountId, context: &Context) -> Result<(), Failure> {
    let client = realm.client(context)?;
    let mut keyring = Keyring::open(context.environment.config_dir())?;
    let address = client.address();
    keyring.restore(address, account)?.ok_or_else(|| {
        Failure::usage(format!("{account} is not a former account at {address}"))
            .with_remedy("`mtor account former` shows those that are")
    })?;
    let event = json!({"event": "account_used", "realm": address, "account": account});
    context.out.show(&event, format_args!("now using {account} at {address}"));
    Ok(())
}

async fn show(client: &Client, context: &Context) -> Result<(), Failure> {
    let account = client.account().await?;
    context.out.object(&account);
    context.out.words(format_args!("account {} at {}", account.account, client.address()));
    for row in &account.assets {
        let (asset, balance, held) = (row.asset.symbol(), row.balance, row.held);
        context.out.words(format_args!("{asset:>8}  {}, {held} held", base_units(balance)));
    }
    if account.banned {
        context
            .out
            .words("the sysop has banned this account: it can be looked at, and nothing else");
    }
    if let Some(weight) = account.weight {
        context.out.words(format_args!("weight {weight} in the queue"));
    }
    if let Some(most) = account.intents_max {
        context
            .out
            .words(format_args!("at most {} at once", count(u64::from(most), "open intent")));
    }
    if let Some(no_grant) = &account.no_grant {
        context.out.note(why_empty(no_grant));
    }
    Ok(())
}

async fn keys(client: &Client, context: &Context) -> Result<(), Failure> {
    for row in client.keys().await? {
        context.out.show(&row, row.key);
    }
    Ok(())
}

async fn add_key(client: &Client, context: &Context) -> Result<(), Failure> {
    let new = client.add_key().await?;
    context.out.show(&new, &new.api_key);
    context.out.note(format_args!("shown once; its hash is {}", new.key));
    Ok(())
}

async fn worker_token(client: &Client, context: &Context) -> Result<(), Failure> {
    let token = client.worker_token().await?;
    super::show_token(&token, client, context);
    Ok(())
}

async fn transfers(
    client: &Client,
    limit: usize,
    after: Option<u64>,
    context: &Context,
) -> Result<(), Failure> {
    const PAGE: usize = 1_000;
    let mut after = after.map(|sequence| sequence.to_string());
    let mut left = limit;
    let head = ["NUMBER", "WHAT", "WAY", "BASE UNITS", "OF", "INTENT"];
    let mut table = Table::new(&head).right(&["NUMBER", "BASE UNITS"]);
    while left > 0 {
        let page = client.transfers(left.min(PAGE), after.as_deref()).await?;
        left = left.saturating_sub(page.items.len());
        let is_last = page.next.is_none() || page.items.is_empty();
        for row in &page.items {
            context.out.object(row);
            table.row(cells(row));
        }
        // A page goes to its reader before the next one is asked for.
        table.print(context.out);
        table.clear();
        after = page.next;
        if is_last {
            break;
        }
    }
    if let Some(after) = after.filter(|_| left == 0) {
        let at = at_realm(client);
        context
            .out
            .note(format_args!("there are more: mtor account transfers --after {after}{at}"));
    }
    Ok(())
}

fn cells(row: &Transfer) -> [String; 6] {
    // Its one text form is JSON's.
    let kind = serde_json::to_value(row.kind).unwrap_or_default();
    [
        row.sequence.to_string(),
        kind.as_str().unwrap_or_default().to_owned(),
        row.direction.clone(),
        row.amount.to_string(),
        row.asset.symbol().to_owned(),
        row.intent.map(|intent| intent.to_string()).unwrap_or_default(),
    ]
}
