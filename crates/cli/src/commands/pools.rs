//! `mtor pools`: what can be asked of a realm now.

use clap::Args;
use mtor_types::intent::Trust;

use super::realm::RealmArgument;
use super::{Context, block_on};
use crate::failure::Failure;
use crate::table::Table;
use crate::words::{per, whose};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    realm: RealmArgument,
}

pub(crate) fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let client = arguments.realm.client(context)?;
    let pools = block_on(async { Ok(client.pools().await?) })?;
    let mut table =
        Table::new(&["INTENT", "MODEL", "PRICE", "SLOTS", "BUSY", "WAITING", "WAIT", "WHOSE"])
            .right(&["SLOTS", "BUSY", "WAITING", "WAIT"])
            .loose("MODEL");
    for pool in &pools {
        context.out.object(pool);
        let price = per(pool.price.amount, pool.price.per, &pool.price.unit);
        table.row([
            pool.intent.clone(),
            pool.model.clone().unwrap_or_default(),
            price,
            pool.slots.to_string(),
            pool.busy.to_string(),
            pool.depth.to_string(),
            format!("{} s", pool.eta_ms.div_ceil(1_000)),
            whose(pool.standing, &pool.owners),
        ]);
    }
    table.print(context.out);
    if pools.iter().any(|pool| pool.trust == Some(Trust::Any)) {
        context.out.note(format_args!(
            "what names no model and is not yet proven serves who says --trust any"
        ));
    }
    if pools.is_empty() {
        context
            .out
            .note(format_args!("no worker offers anything at {} just now", client.address()));
    }
    Ok(())
}
