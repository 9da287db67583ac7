//! Whoever switches a lint off says why. Clippy asks the same of the crates it compiles here; this
//! also sees code behind a `cfg` that is off.

use super::tree::Tree;
use super::{Error, Finding, Outcome};

const STARTS: [&str; 4] = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for (path, text) in tree.texts_of(&["rs"]) {
        let lines: Vec<_> = text.lines().collect();
        for (at, first) in lines.iter().enumerate() {
            let Some(start) = STARTS.iter().find(|start| first.trim_start().starts_with(**start))
            else {
                continue;
            };
            outcome.looked_at += 1;
            if !attribute_at(&lines[at..]).contains("reason =") {
                outcome.findings.push(Finding::new(
                    path,
                    at + 1,
                    format!("{start}…)] without a reason"),
                    "add reason = \"why here\", or do what the lint asks",
                ));
            }
        }
    }
    Ok(outcome)
}

/// The attribute that starts on the first line: up to and with the line that closes it.
fn attribute_at(lines: &[&str]) -> String {
    let end = lines.iter().position(|line| line.contains(")]")).unwrap_or(0);
    lines[..=end].concat()
}

#[cfg(test)]
mod tests {
    use super::super::scratch::found;
    use super::*;

    #[test]
    fn an_attribute_without_a_reason_is_found() {
        let files = [
            ("a.rs", "#![allow(dead_code)]\n    #[expect(a, b)]\nlet reason = 1;\n"),
            ("b.rs", "#[allow(\n    dead_code,\n    reason = \"why\"\n)]\nfn a() {}\n"),
            ("c.rs", "#[allow(\n    dead_code\n)]\nfn reason() {}\n"),
        ];
        assert_eq!(
            found(check, &files),
            [
                "a.rs:1: #![allow(…)] without a reason",
                "a.rs:2: #[expect(…)] without a reason",
                "c.rs:1: #[allow(…)] without a reason",
            ]
        );
    }
}
