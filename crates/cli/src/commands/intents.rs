//! `mtor intents`: what this account asked for, and what became of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use mtor_client::{Client, IntentView, OwnIntent};
use mtor_types::{IntentId, Time};

use super::follow::{Shown, failure_of};
use super::realm::{RealmArgument, at_realm, explain};
use super::{Context, block_on};
use crate::failure::Failure;
use crate::table::Table;
use crate::words::{count, money};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    realm: RealmArgument,
    #[command(flatten)]
    listed: Listed,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Args)]
struct Listed {
    /// Only those that are not over
    #[arg(long)]
    open: bool,
    /// At most so many, the newest first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "NEXT")]
    after: Option<String>,
}

#[derive(Subcommand)]
enum Action {
    /// One intent: how it stands, what it cost, its result while that is kept
    Show { intent: IntentId },
    /// The events of one intent to its end; Ctrl-C leaves it as it is
    Follow {
        intent: IntentId,
        /// Show each piece as it comes; for chat that is always done
        #[arg(long)]
        stream: bool,
    },
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let Arguments { realm, listed, action } = arguments;
    let client = realm.required(context)?;
    block_on(Box::pin(async {
        match action {
            None => list(&client, listed, context).await,
            Some(Action::Show { intent }) => show(&client, intent, context).await,
            Some(Action::Follow { intent, stream }) => {
                watch(&client, intent, stream, context).await
            }
        }
    }))
    .map_err(|failure| explain(failure, context))
}

/// Rows of one page, and pages of one list: a realm that never comes to an end is not listened to
/// for ever.
const PAGE: u64 = 100;
const PAGES_MAX: u32 = 10_000;

async fn list(client: &Client, listed: Listed, context: &Context) -> Result<(), Failure> {
    let mut after = listed.after;
    let mut left = listed.limit;
    let mut table = Table::new(&["INTENT", "WHEN", "STATUS", "WORK", "COST"]).loose("WORK");
    for _ in 0..PAGES_MAX {
        // The realm cannot look for the open ones alone: what is over is passed over here.
        let wanted = if listed.open { PAGE } else { left.min(PAGE) };
        let limit = usize::try_from(wanted).unwrap_or(usize::MAX);
        let page = client.own_intents(limit, after.as_deref()).await?;
        let rows = page.items.iter().filter(|row| !listed.open || row.status == "open");
        for row in rows.take(usize::try_from(left).unwrap_or(usize::MAX)) {
            context.out.object(row);
            table.row(cells(row));
            left = left.saturating_sub(1);
        }
        after = page.next;
        if left == 0 || after.is_none() {
            break;
        }
    }
    table.print(context.out);
    if let Some(after) = after.filter(|_| !listed.open) {
        let at = at_realm(client);
        context.out.note(format_args!("there are older ones: mtor intents --after {after}{at}"));
    }
    Ok(())
}

fn cells(row: &OwnIntent) -> [String; 5] {
    let work = match (&row.name, &row.model) {
        (Some(name), Some(model)) => format!("{name} ({model})"),
        (Some(name), None) => name.clone(),
        (None, _) => row.units.map(|n| count(n, "unit")).unwrap_or_default(),
    };
    let status = match &row.code {
        Some(code) => format!("{} {code}", row.status),
        None => row.status.clone(),
    };
    let cost = match &row.cost {
        Some(cost) => money(cost),
        None => format!("≤ {}", money(&row.hold)),
    };
    [row.intent.to_string(), ago(row.placed), status, work, cost]
}

/// A moment as people say it.
fn ago(then: Time) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let passed = now.saturating_sub(Duration::from_millis(then.0)).as_secs();
    match passed {
        0..120 => format!("{passed} s ago"),
        120..7_200 => format!("{} min ago", passed / 60),
        7_200..172_800 => format!("{} h ago", passed / 3_600),
        _ => format!("{} days ago", passed / 86_400),
    }
}

async fn show(client: &Client, intent: IntentId, context: &Context) -> Result<(), Failure> {
    let view: IntentView = client.intent(intent).await?;
    let out = context.out;
    out.object(&view);
    out.words(format_args!("{intent} is {}", view.status));
    if let Some(reason) = &view.reason {
        let code = view.code.as_deref().unwrap_or_default();
        out.words(format_args!("reason    {reason} {code}"));
    }
    if let Some(usage) = view.usage {
        out.words(format_args!("metered   {}", count(usage.units, "unit")));
    }
    if let Some(cost) = &view.cost {
        out.words(format_args!("cost      {}", money(cost)));
    }
    match &view.result {
        Some(result) => out.words(format_args!("result    {result}")),
        None if view.status == "completed" => out.note("its result is not kept (any more)"),
        None => {}
    }
    Ok(())
}

/// Another one's to cancel, perhaps: a signal ends the watching only, with 130.
async fn watch(
    client: &Client,
    intent: IntentId,
    stream: bool,
    context: &Context,
) -> Result<(), Failure> {
    let mut events = client.follow(intent, None);
    let mut shown = Shown::new(context.out, true, stream);
    let mut end = None;
    while let Some(event) = events.next().await? {
        shown.show(&event, events.was_broken());
        if event.kind.is_end() {
            end = Some(event.kind);
        }
    }
    end.and_then(failure_of).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_said_in_the_unit_that_people_use() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        for (seconds, words) in
            [(5, "5 s ago"), (180, "3 min ago"), (7_200, "2 h ago"), (864_000, "10 days ago")]
        {
            let then = now - Duration::from_secs(seconds);
            assert_eq!(ago(Time(then.as_millis().try_into().unwrap())), words);
        }
        assert_eq!(ago(Time(u64::MAX)), "0 s ago", "a clock that is ahead");
    }
}
