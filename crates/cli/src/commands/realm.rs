//! The realm that a command asks, and the account it asks with.

use clap::Args;
use mtor_client::{Client, NoGrant};
use mtor_types::Code;

use super::Context;
use crate::failure::Failure;
use crate::keyring::{Entry, Keyring};
use crate::words::{base_units, count};

const DEFAULT_REALM: &str = "http://127.0.0.1:9000";

#[derive(Args)]
pub(crate) struct RealmArgument {
    /// The realm's address; MTOR_REALM if it is not given, else http://127.0.0.1:9000
    #[arg(long, value_name = "URL", global = true)]
    realm: Option<String>,
}

impl RealmArgument {
    /// A client without a key.
    pub(crate) fn client(&self, context: &Context) -> Result<Client, Failure> {
        let from_environment = context.environment.realm.as_deref();
        let address = self.realm.as_deref().or(from_environment).unwrap_or(DEFAULT_REALM);
        let place = if self.realm.is_some() { "--realm" } else { "MTOR_REALM" };
        Client::new(address).map_err(|error| {
            let failure = Failure::usage(format!("{place}: {error}"));
            match error.remedy() {
                Some(remedy) => failure.with_remedy(remedy),
                None => failure,
            }
        })
    }

    /// A client with the key of this user's account there, if there is one.
    pub(crate) fn known(&self, context: &Context) -> Result<Option<Client>, Failure> {
        let client = self.client(context)?;
        if let Some(key) = &context.environment.api_key {
            return with_environment(&client, key).map(Some);
        }
        let keyring = Keyring::open(context.environment.config_dir())?;
        let entry = keyring.get(client.address());
        Ok(entry.map(|entry| client.with_key(&entry.api_key)).transpose()?)
    }

    /// The same, but that there is no account is an error.
    pub(crate) fn required(&self, context: &Context) -> Result<Client, Failure> {
        let address = self.client(context)?.address().to_owned();
        self.known(context)?.ok_or_else(|| {
            Failure::failed(format!("you have no account at {address} yet"))
                .with_remedy("`mtor account new` opens one; so does `mtor submit`")
        })
    }

    /// A client with an account: a guest account is opened and remembered if there is none.
    pub(crate) async fn ensured(&self, context: &Context) -> Result<Client, Failure> {
        let client = self.client(context)?;
        if let Some(key) = &context.environment.api_key {
            return with_environment(&client, key);
        }
        // Held until the account is written: commands that start at once open one account.
        let mut keyring = Keyring::open(context.environment.config_dir())?;
        if let Some(entry) = keyring.get(client.address()) {
            return Ok(client.with_key(&entry.api_key)?);
        }
        let entry = open_guest(&client, &mut keyring, None, context).await?;
        Ok(client.with_key(&entry.api_key)?)
    }
}

/// A client with the key that stands in the environment.
fn with_environment(client: &Client, key: &str) -> Result<Client, Failure> {
    let wrong = |why| {
        Failure::configuration(format!("MTOR_API_KEY {why}"))
            .with_remedy("put the key there that the realm gave, or unset it")
    };
    match key.trim() {
        "" => Err(wrong("holds blanks only")),
        key => client.with_key(key).map_err(|_| wrong("holds more than one line of text")),
    }
}

/// What a command that is suggested has to say besides, to ask the same realm.
pub(crate) fn at_realm(client: &Client) -> String {
    match client.address() {
        DEFAULT_REALM => String::new(),
        address => format!(" --realm {address}"),
    }
}

/// Opens a guest account and remembers it.
pub(crate) async fn open_guest(
    client: &Client,
    keyring: &mut Keyring,
    invite: Option<&str>,
    context: &Context,
) -> Result<Entry, Failure> {
    let guest = client.open_guest(None, invite).await?;
    let no_grant = guest.no_grant.clone();
    let (account, balance) = (guest.account, guest.balance);
    let entry = Entry::from(guest);
    let former = keyring.set(client.address(), entry.clone())?;
    context.out.event(
        "account_opened",
        serde_json::json!({"realm": client.address(), "account": account, "balance": balance}),
    );
    context.out.note(format_args!("opened guest account {account} with {}", base_units(balance)));
    if let Some(no_grant) = no_grant {
        context.out.note(why_empty(&no_grant));
    }
    if let Some(former) = former {
        context.out.note(format_args!(
            "the account before, {former}, is kept: `mtor account use {former}` goes back to it"
        ));
    }
    Ok(entry)
}

/// Why an account has nothing, and when it will.
pub(crate) fn why_empty(no_grant: &NoGrant) -> String {
    let message = &no_grant.message;
    match no_grant.retry_after_ms {
        Some(ms) => {
            let minutes = (ms / 60_000).max(1);
            let when = match minutes {
                0..120 => count(minutes, "minute"),
                _ => count(minutes / 60, "hour"),
            };
            format!("{message}; ask for its balance in {when}, and it is filled up")
        }
        None => message.clone(),
    }
}

/// Says whose key it is that a realm does not know, and what to do about it: the realm speaks of
/// headers, which nobody wrote here.
pub(crate) fn explain(failure: Failure, context: &Context) -> Failure {
    if !failure.is_code(Code::Unauthenticated) {
        return failure;
    }
    let unset = "put the key there that the realm gave, or unset it: then the account that is \
                 remembered here is used";
    let anew = "`mtor account new` opens another account; MTOR_API_KEY takes a key of your own";
    match &context.environment.api_key {
        Some(_) => failure.of_setup("the realm does not know the key in MTOR_API_KEY", unset),
        None => {
            let file = Keyring::file(context.environment.config_dir());
            let message =
                format!("the realm does not know the key (any more) that {file} has for it");
            failure.of_setup(message, anew)
        }
    }
}
