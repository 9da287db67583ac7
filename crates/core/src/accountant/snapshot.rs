//! The accountant's section of a snapshot, and how earlier versions of it become today's.

use super::Ledger;
use crate::snapshot::{RecoverError, Section, parse, unknown_version};

/// Version 1, also the form of a snapshot without sections: still today's. Before [`Ledger`]
/// changes, what it is now is kept here under this name, and a `From` leads on from it.
pub(crate) type LedgerV1 = Ledger;

impl Section for Ledger {
    type Written<'a> = Self;
    const NAME: &'static str = "accountant";
    const ID: u8 = 2;
    const VERSION: u8 = 1;

    fn read(version: u8, bytes: &[u8]) -> Result<Self, RecoverError> {
        match version {
            1 => parse::<LedgerV1>(bytes),
            found => Err(unknown_version::<Self>(found)),
        }
    }
}
