//! Everything that is printed. With `--json` standard output is one JSON object a line, for every
//! command; else it is for people. Errors go to standard error.

use std::fmt::Display;
use std::io::Write;

use mtor_types::text::is_turning;
use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    json: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// One thing: an object for programs, or words for people.
    pub(crate) fn show(self, object: &impl Serialize, words: impl Display) {
        if self.json { self.object(object) } else { self.words(words) }
    }

    /// One line of JSON, with `--json` only.
    pub(crate) fn object(self, object: &impl Serialize) {
        // Our own documents always serialise.
        if self.json
            && let Ok(line) = serde_json::to_string(object)
        {
            write(&mut std::io::stdout().lock(), &format!("{line}\n"));
        }
    }

    /// An object with the name of what happened in it, with `--json` only.
    pub(crate) fn event(self, name: &str, mut data: Value) {
        if let Value::Object(fields) = &mut data {
            fields.insert("event".into(), name.into());
            self.object(&data);
        }
    }

    /// Words on a line of their own, without `--json` only.
    pub(crate) fn words(self, words: impl Display) {
        if !self.json {
            write(&mut std::io::stdout().lock(), &format!("{}\n", printable(&words.to_string())));
        }
    }

    /// Part of a text that is still coming, without `--json` only.
    pub(crate) fn part(self, text: &str) {
        if !self.json {
            write(&mut std::io::stdout().lock(), &printable(text));
        }
    }

    /// Said beside the output, without `--json` only.
    pub(crate) fn note(self, words: impl Display) {
        if !self.json {
            write(&mut std::io::stderr().lock(), &format!("mtor: {words}\n"));
        }
    }

    pub(crate) fn failure(self, failure: &Failure) {
        let line = if self.json { failure.to_json().to_string() } else { failure.to_text() };
        let line = if self.json { line } else { printable(&line) };
        write(&mut std::io::stderr().lock(), &format!("{line}\n"));
    }
}

/// Who closed our output does not want the rest: that is no reason to fail.
fn write(to: &mut dyn Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// What a model or a realm sent may hold commands for a terminal: they are made visible.
pub(crate) fn printable(text: &str) -> String {
    let visible = |c: char| match c {
        '\n' | '\t' => c,
        _ if c.is_control() => '\u{fffd}',
        _ if is_turning(c) => '\u{fffd}',
        _ => c,
    };
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_commanded() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\tc\u{202e}"), "a\u{fffd}[2Jb\u{fffd}\n\tc\u{fffd}");
    }
}
