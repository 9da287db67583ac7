//! Nothing unfinished and no test switched off: what cannot be done now is an issue, not a note.

use super::tree::{Tree, extension};
use super::{Error, Finding, Outcome, has_word};

const CODE: [&str; 9] = ["rs", "ts", "js", "mjs", "svelte", "py", "sh", "css", "html"];
const SCRIPT: [&str; 4] = ["ts", "js", "mjs", "svelte"];

struct Ban {
    text: &'static str,
    extensions: &'static [&'static str],
    instead: &'static str,
}

const FINISH: &str = "finish it, or return a typed error that says what is missing";
const REPAIR: &str = "repair the test or delete it with its reason; a test that never runs rots";
const ISSUE: &str = "do it now, or file an issue and name it in words";

/// In two pieces each, so that this file does not find itself.
const BANS: [Ban; 12] = [
    Ban { text: concat!("to", "do!"), extensions: &["rs"], instead: FINISH },
    Ban { text: concat!("unimple", "mented!"), extensions: &["rs"], instead: FINISH },
    Ban { text: concat!("#[", "ignore"), extensions: &["rs"], instead: REPAIR },
    Ban {
        text: concat!("should", "_panic"),
        extensions: &["rs"],
        instead: "assert on the error value; a panic cannot say which line was meant",
    },
    Ban { text: concat!("FIX", "ME"), extensions: &CODE, instead: ISSUE },
    Ban { text: concat!("XX", "X"), extensions: &CODE, instead: ISSUE },
    Ban { text: concat!("it.", "skip"), extensions: &SCRIPT, instead: REPAIR },
    Ban { text: concat!("test.", "skip"), extensions: &SCRIPT, instead: REPAIR },
    Ban { text: concat!("describe.", "skip"), extensions: &SCRIPT, instead: REPAIR },
    Ban { text: concat!("it.", "only"), extensions: &SCRIPT, instead: REPAIR },
    Ban { text: concat!("test.", "only"), extensions: &SCRIPT, instead: REPAIR },
    Ban { text: concat!("describe.", "only"), extensions: &SCRIPT, instead: REPAIR },
];

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for (path, text) in tree.texts_of(&CODE) {
        outcome.looked_at += 1;
        let bans: Vec<_> =
            BANS.iter().filter(|ban| ban.extensions.contains(&extension(path))).collect();
        for (line, content) in (1..).zip(text.lines()) {
            for ban in bans.iter().filter(|ban| has_word(content, ban.text)) {
                outcome.findings.push(Finding::new(path, line, ban.text, ban.instead));
            }
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::{Scratch, found};
    use super::*;

    #[test]
    fn each_leftover_is_found() {
        let scratch = Scratch::new(&[]);
        let mut expected = Vec::new();
        for (number, ban) in BANS.iter().enumerate() {
            for extension in ban.extensions {
                let path = format!("a{number:02}.{extension}");
                scratch.write(&path, &format!("fine\n  {}(\n", ban.text));
                expected.push(format!("{path}:2: {}", ban.text));
            }
        }
        expected.sort();
        assert_eq!(scratch.found(check), expected);
    }

    #[test]
    fn words_that_only_look_alike_are_not() {
        let template = format!("mktemp /tmp/a.{}\n", "X".repeat(6));
        let files = [("a.sh", template.as_str()), ("a.rs", "items.skip(1).ignore(todo)\n")];
        assert_eq!(found(check, &files), [""; 0]);
    }
}
