//! Everything that is printed. With `--json` standard output is one JSON object a line, for every
//! command; else it is for people. Errors go to standard error, and so does the log.
//!
//! Invariant: what a worker, a client, a realm or a backend says stands in much of it, and none of it
//! commands a terminal, adds a line to the log or turns what is read. It is cleaned where it is
//! written, so that no caller can forget it.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::Write;

use mtor_types::text;
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
            write(&mut std::io::stdout().lock(), &format!("{}\n", escaped(&line)));
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
            let words = words.to_string();
            write(&mut std::io::stdout().lock(), &format!("{}\n", text::lines(&words)));
        }
    }

    /// Part of a text that is still coming, without `--json` only.
    pub(crate) fn part(self, part: &str) {
        if !self.json {
            write(&mut std::io::stdout().lock(), &text::lines(part));
        }
    }

    /// Said beside the output, without `--json` only.
    pub(crate) fn note(self, words: impl Display) {
        if !self.json {
            let words = format!("mtor: {words}\n");
            write(&mut std::io::stderr().lock(), &text::lines(&words));
        }
    }

    pub(crate) fn failure(self, failure: &Failure) {
        let line = if self.json { failure.to_json().to_string() } else { failure.to_text() };
        let line = if self.json { escaped(&line) } else { text::lines(&line) };
        write(&mut std::io::stderr().lock(), &format!("{line}\n"));
    }
}

/// Who closed our output does not want the rest: that is no reason to fail.
fn write(to: &mut dyn Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// The same JSON: it escapes by itself what terminals have listened to from the beginning, and what
/// they do besides is only found within its strings.
fn escaped(json: &str) -> Cow<'_, str> {
    if text::is_plain(json) {
        return json.into();
    }
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() || text::is_turning(c) {
            // Into a String: it cannot fail. None of them is beyond four digits.
            let _ = write!(line, "\\u{:04x}", u32::from(c));
        } else {
            line.push(c);
        }
    }
    line.into()
}

/// Where the log is written: each write is one of its lines, and stays one.
pub(crate) fn log() -> impl Write {
    LogLines(std::io::stderr())
}

struct LogLines<W>(W);

impl<W: Write> Write for LogLines<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let said = String::from_utf8_lossy(bytes);
        let line = text::line(said.strip_suffix('\n').unwrap_or(&said));
        self.0.write_all(format!("{line}\n").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

    use super::*;

    const EVIL: &str = "a\u{1b}[2J\r\nINFO mtor: all is well\u{9b}31m\u{202e}";

    #[test]
    fn json_stays_what_it_is_and_commands_nothing() {
        let line = serde_json::to_string(EVIL).unwrap();
        let shown = escaped(&line);
        assert!(text::is_plain(&shown), "{shown:?}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), EVIL);
        assert!(matches!(escaped("\"plain\""), Cow::Borrowed(_)));
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_line_is_one_line_whatever_stands_in_it() {
        for json in [false, true] {
            let kept = Kept::default();
            let to = kept.clone();
            let layer = tracing_subscriber::fmt::layer().with_ansi(false);
            let layer = layer.with_writer(move || LogLines(to.clone()));
            let layer = if json { layer.json().boxed() } else { layer.boxed() };
            let log = tracing_subscriber::registry().with(layer);
            tracing::subscriber::with_default(log, || {
                tracing::warn!(text = EVIL, shown = %EVIL, debug = ?EVIL, "{EVIL}");
            });
            let written = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            let line = written.strip_suffix('\n').unwrap();
            assert!(text::is_plain(line), "{line:?}");
            assert!(line.contains("all is well"), "{line:?}");
        }
    }
}
