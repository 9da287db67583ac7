//! Lists that come page by page.

use clap::Args;
use mtor_client::{ClientError, Page};
use serde::Serialize;

use super::Context;
use crate::failure::Failure;
use crate::table::Table;

/// Which part of a list.
#[derive(Args)]
pub(super) struct Listed {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: u64,
    /// Only those after that id
    #[arg(long, value_name = "ID")]
    pub(super) after: Option<String>,
}

const PAGE: usize = 1_000;

pub(super) async fn pages<T: Serialize>(
    page: impl AsyncFn(usize, Option<String>) -> Result<Page<T>, ClientError>,
    listed: Listed,
    mut table: Table,
    context: &Context,
    cells: impl Fn(&T) -> Vec<String>,
) -> Result<(), Failure> {
    let mut after = listed.after;
    let mut left = usize::try_from(listed.limit).unwrap_or(usize::MAX);
    while left > 0 {
        let Page { items, next } = page(left.min(PAGE), after).await?;
        left = left.saturating_sub(items.len());
        for row in &items {
            context.out.object(row);
            table.row(cells(row));
        }
        // A page goes to its reader before the next one is asked for.
        table.print(context.out);
        table.clear();
        after = next.filter(|_| !items.is_empty());
        if after.is_none() {
            break;
        }
    }
    if let Some(after) = after {
        context.out.note(format_args!("there are more: --after {after}"));
    }
    Ok(())
}
