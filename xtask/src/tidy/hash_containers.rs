//! The core replays to the same bytes everywhere, so nothing in it may iterate in an order that a
//! random seed chose. Clippy's `disallowed_types` sees uses; this sees tests, macros and comments
//! that would lead there, and costs no compilation.

use super::tree::Tree;
use super::{Error, Finding, Outcome, has_word};

const ROOMS: [&str; 2] = ["crates/core/", "crates/types/"];

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    let rooms =
        tree.texts_of(&["rs"]).filter(|(p, _)| ROOMS.iter().any(|room| p.starts_with(room)));
    for (path, text) in rooms {
        outcome.looked_at += 1;
        for (line, content) in (1..).zip(text.lines()) {
            for (word, instead) in [
                ("HashMap", "use BTreeMap: a replay must iterate in the same order"),
                ("HashSet", "use BTreeSet: a replay must iterate in the same order"),
            ] {
                if has_word(content, word) {
                    outcome.findings.push(Finding::new(path, line, word, instead));
                }
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
    fn a_hash_container_is_found_in_core_and_types_only() {
        let files = [
            ("crates/core/tests/a.rs", "let a = 1;\nlet b: HashMap<u8, u8>;\n"),
            ("crates/types/src/a.rs", "use std::collections::{BTreeMap, HashSet};\n"),
            ("crates/server/src/a.rs", "use std::collections::HashMap;\n"),
            ("crates/core/src/b.rs", "struct HashMapLike;\n"),
        ];
        assert_eq!(
            found(check, &files),
            ["crates/core/tests/a.rs:2: HashMap", "crates/types/src/a.rs:1: HashSet"]
        );
    }
}
