//! Every error code has its page and every page its code: an answer carries the page's address.

use std::collections::BTreeMap;

use super::tree::Tree;
use super::{Error, Finding, Outcome};

const SOURCES: &str = "crates/types/src";
const PAGES: &str = "docs/errors";

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let codes = codes(tree);
    let mut outcome = Outcome { looked_at: codes.len(), findings: Vec::new() };
    for (code, (path, line)) in &codes {
        let page = format!("{PAGES}/{code}.md");
        let title = format!("# {code}");
        match tree.text(&page) {
            None => outcome.findings.push(Finding::new(
                path,
                *line,
                format!("{code} has no page"),
                format!("write {page}: what happened, why, what to do, may it be retried"),
            )),
            Some(text) if !text.starts_with(&title) => outcome.findings.push(Finding::new(
                &page,
                1,
                "the page does not name its code",
                format!("start it with \"{title}\" and the code's name"),
            )),
            Some(_) => {}
        }
    }
    for path in tree.below(PAGES) {
        let name = path.trim_start_matches(PAGES).trim_start_matches('/').trim_end_matches(".md");
        if name != "README" && !codes.contains_key(name) {
            outcome.findings.push(Finding::new(
                path,
                0,
                format!("no code {name} in {SOURCES}"),
                "delete the page; a code that was ever given out keeps its number and its page",
            ));
        }
    }
    Ok(outcome)
}

/// Each code with the place where it stands first. Unit tests may speak of codes there are not.
fn codes(tree: &Tree) -> BTreeMap<String, (String, usize)> {
    let mut codes = BTreeMap::new();
    for (path, text) in tree.texts_of(&["rs"]) {
        if !path.starts_with(SOURCES) || path.ends_with("tests.rs") {
            continue;
        }
        let product = (1..).zip(text.lines()).take_while(|(_, content)| *content != "#[cfg(test)]");
        for (line, content) in product {
            for code in codes_in(content) {
                codes.entry(code.to_owned()).or_insert_with(|| (path.to_owned(), line));
            }
        }
    }
    codes
}

/// `MT` and exactly four digits, as a word.
fn codes_in(line: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices("MT").filter_map(move |(at, _)| {
        let code = line.get(at..at + 6)?;
        let is_code = code[2..].bytes().all(|byte| byte.is_ascii_digit())
            && !line[..at].ends_with(is_part)
            && !line[at + 6..].starts_with(is_part);
        is_code.then_some(code)
    })
}

#[cfg(test)]
mod tests {
    use super::super::scratch::found;
    use super::*;

    #[test]
    fn a_code_without_page_and_a_page_without_code_are_found() {
        let source =
            "const A: &str = \"MT0001\"; // MT00011 AMT0009\nMT0002 MT0003\n#[cfg(test)]\nMT9999\n";
        let files = [
            ("crates/types/src/rejection.rs", source),
            ("crates/server/src/lib.rs", "MT0008\n"),
            ("docs/errors/MT0001.md", "# MT0001 malformed JSON\n"),
            ("docs/errors/MT0003.md", "Something else\n"),
            ("docs/errors/MT0004.md", "# MT0004\n"),
            ("docs/errors/README.md", "# Errors\n"),
        ];
        assert_eq!(
            found(check, &files),
            [
                "crates/types/src/rejection.rs:2: MT0002 has no page",
                "docs/errors/MT0003.md:1: the page does not name its code",
                "docs/errors/MT0004.md:0: no code MT0004 in crates/types/src",
            ]
        );
    }
}
