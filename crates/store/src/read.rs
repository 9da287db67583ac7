//! Read tables: what people ask about the past. They are indexes into the log, never copies of
//! it: an answer is read from the log's own rows. So they cost little for each intent, may lag,
//! and can be thrown away at any time.

mod index;
mod reader;
mod tables;
mod view;

pub use reader::Reader;
pub use tables::ReadTables;
pub use view::{Direction, EndRow, IntentRow, PlacedRows, Position, TransferRow};
