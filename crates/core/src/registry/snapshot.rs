//! The registry's section of a snapshot, and how earlier versions of it become today's.

use super::Enrolments;
use crate::snapshot::{RecoverError, Section, parse, unknown_version};

/// Version 1, also the form of a snapshot without sections: still today's. Before [`Enrolments`]
/// changes, what it is now is kept here under this name, and a `From` leads on from it.
pub(crate) type EnrolmentsV1 = Enrolments;

impl Section for Enrolments {
    type Written<'a> = Self;
    const NAME: &'static str = "registry";
    const ID: u8 = 4;
    const VERSION: u8 = 1;

    fn read(version: u8, bytes: &[u8]) -> Result<Self, RecoverError> {
        match version {
            1 => parse::<EnrolmentsV1>(bytes),
            found => Err(unknown_version::<Self>(found)),
        }
    }
}
