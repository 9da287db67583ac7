//! The map names exactly the crates there are.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::Tree;
use super::{Error, Finding, Outcome};

const MAP: &str = "ARCHITECTURE.md";

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let Some(text) = tree.text(MAP) else { return Ok(Outcome::default()) };
    let there: BTreeSet<_> = tree
        .below("crates")
        .filter_map(|path| path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml"))
        .filter(|name| !name.contains('/'))
        .collect();
    let named = named(text);
    let mut outcome = Outcome { looked_at: there.len(), findings: Vec::new() };
    for name in there.iter().filter(|name| !named.contains_key(*name)) {
        outcome.findings.push(Finding::new(
            MAP,
            0,
            format!("crates/{name} is not on the map"),
            "add it to the code map with what it promises and what it knows nothing about",
        ));
    }
    for (name, line) in named.iter().filter(|(name, _)| !there.contains(*name)) {
        outcome.findings.push(Finding::new(
            MAP,
            *line,
            format!("crates/{name} does not exist"),
            "take it off the map; plans stand elsewhere",
        ));
    }
    Ok(outcome)
}

/// Each crate that the text names as `crates/NAME`, with its first line.
fn named(text: &str) -> BTreeMap<&str, usize> {
    let mut named = BTreeMap::new();
    for (line, content) in (1..).zip(text.lines()) {
        for (at, start) in content.match_indices("crates/") {
            let rest = &content[at + start.len()..];
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
            if !name.is_empty() {
                named.entry(name).or_insert(line);
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::super::scratch::found;
    use super::*;

    #[test]
    fn a_crate_off_the_map_and_a_name_without_crate_are_found() {
        let files = [
            ("ARCHITECTURE.md", "All of crates/*:\n`crates/core/src` and `crates/ghost`.\n"),
            ("crates/core/Cargo.toml", ""),
            ("crates/store/Cargo.toml", ""),
        ];
        assert_eq!(
            found(check, &files),
            [
                "ARCHITECTURE.md:0: crates/store is not on the map",
                "ARCHITECTURE.md:2: crates/ghost does not exist",
            ]
        );
        assert_eq!(found(check, &files[1..]), [""; 0], "without a map there is nothing to hold to");
    }
}
