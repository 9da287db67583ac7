//! No tabs, no blanks at the end of a line. Most files get this from a formatter, some have none.

use super::tree::Tree;
use super::{Error, Finding, Outcome};

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for (path, text) in tree.texts_of(&["rs", "ts", "svelte", "md", "toml"]) {
        outcome.looked_at += 1;
        // Not `lines`, which would swallow a carriage return.
        for (line, content) in (1..).zip(text.split('\n')) {
            if content.contains('\t') {
                let instead = "indent with spaces; in a string write \\t";
                outcome.findings.push(Finding::new(path, line, "a tab", instead));
            }
            if content.trim_end() != content {
                let instead = "end the line after its last word";
                outcome.findings.push(Finding::new(
                    path,
                    line,
                    "blanks at the line's end",
                    instead,
                ));
            }
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::found;
    use super::*;

    #[test]
    fn tabs_and_trailing_blanks_are_found() {
        let files = [
            ("a.rs", "fn a() {\n\tlet b = 1;\n}\n"),
            ("b.md", "two blanks  \nnone\n"),
            ("c.ts", "carriage return\r\n"),
            ("d.toml", "fine = true\n"),
            ("Makefile", "a:\n\techo\n"),
        ];
        assert_eq!(
            found(check, &files),
            [
                "a.rs:2: a tab",
                "b.md:1: blanks at the line's end",
                "c.ts:1: blanks at the line's end"
            ]
        );
    }
}
