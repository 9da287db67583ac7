//! How a program is started here: with nothing of the environment but what the agent was given.
//!
//! A worker's owner may have keys and tokens in the environment that it was started from, and a
//! program that does strangers' work may write down whatever it finds around it. So nothing is
//! inherited, and no other file of this crate makes a command.

use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use std::sync::Arc;

use tokio::process::Command;

/// All that programs find in their environment. It is the caller who chooses; without a choice it
/// is nothing.
#[derive(Clone, Default)]
pub struct Surroundings(Arc<[(OsString, OsString)]>);

impl FromIterator<(OsString, OsString)> for Surroundings {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl Surroundings {
    /// A program with pipes on all sides that ends with its handle.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.0.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: a terminal's interrupt ends the agent, which then drains.
        command.process_group(0).kill_on_drop(true);
        command
    }
}
