//! Why a command did not do it: what is told, and the exit code.

use std::process::ExitCode;

use mtor_client::ClientError;
use serde_json::{Map, Value};

/// 0 is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Failed = 1,
    Usage = 2,
    /// As in `sysexits.h`: something in a configuration is wrong.
    Configuration = 78,
    /// As shells show what Ctrl-C has ended.
    Interrupted = 130,
}

#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// `MT` and four digits, where there is one.
    code: Option<String>,
    message: String,
    /// What the user can do.
    remedy: Option<String>,
    retry_after_ms: Option<u64>,
}

impl Failure {
    pub(crate) const INTERRUPTED: i32 = Exit::Interrupted as i32;

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { exit: Exit::Failed, code: None, message, remedy: None, retry_after_ms: None }
    }

    /// Something that was typed is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::failed(message) }
    }

    /// Something that was set up is wrong.
    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self { exit: Exit::Configuration, ..Self::failed(message) }
    }

    /// The user ended it.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self { exit: Exit::Interrupted, ..Self::failed(message) }
    }

    /// An error and what is behind it.
    pub(crate) fn caused(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::failed(chain(error))
    }

    pub(crate) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same refusal, said of what was set up: its code stays.
    pub(crate) fn of_setup(self, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (exit, message) = (Exit::Configuration, message.into());
        Self { exit, message, ..self }.with_remedy(remedy)
    }

    pub(crate) fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    pub(crate) fn is_interrupt(&self) -> bool {
        self.exit == Exit::Interrupted
    }

    /// Says what it is about, where it could be one of several things.
    pub(crate) fn about(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    pub(crate) fn has_remedy(&self) -> bool {
        self.remedy.is_some()
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn is_code(&self, code: mtor_types::Code) -> bool {
        self.code.as_deref() == Some(code.text())
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.exit {
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Configuration => 78,
            Exit::Interrupted => 130,
        })
    }

    /// For people: one line of what, one of what to do.
    pub(crate) fn to_text(&self) -> String {
        let code = self.code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
        let remedy = self.remedy.as_ref().map(|remedy| format!("\n  {remedy}"));
        format!("mtor: error{code}: {}{}", self.message, remedy.unwrap_or_default())
    }

    /// For programs: one object.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("event".into(), "error".into());
        object.insert("message".into(), self.message.clone().into());
        object.extend(self.code.clone().map(|code| ("code".into(), code.into())));
        object.extend(self.remedy.clone().map(|remedy| ("remedy".into(), remedy.into())));
        object.extend(self.retry_after_ms.map(|ms| ("retry_after_ms".into(), ms.into())));
        object.into()
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let remedy = error.remedy();
        let exit = if matches!(error, ClientError::Address { .. }) {
            Exit::Usage
        } else if matches!(error, ClientError::Key) {
            Exit::Configuration
        } else {
            Exit::Failed
        };
        let failure = Self { exit, ..Self::caused(&error) };
        let ClientError::Refused { code, retry_after_ms, .. } = error else {
            return Self { remedy, ..failure };
        };
        let code = Some(code);
        Self { remedy, code, retry_after_ms, ..failure }
    }
}

/// An error's words and those of its causes; a cause that its error quotes is not said twice.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
