//! A link in a document leads to a file that a reader of the repository has.

use super::tree::Tree;
use super::{Error, Finding, Outcome};

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for (path, text) in tree.texts_of(&["md"]) {
        for (line, target) in targets(text) {
            if target.contains("://") || target.starts_with("mailto:") || target.starts_with('#') {
                continue;
            }
            outcome.looked_at += 1;
            if !leads_somewhere(tree, path, target) {
                outcome.findings.push(Finding::new(
                    path,
                    line,
                    format!("the link {target} leads nowhere"),
                    "link a tracked file by its path from this document, or drop the link",
                ));
            }
        }
    }
    Ok(outcome)
}

/// The targets of inline links, pictures and reference definitions, with their lines; code is no
/// link.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_fence = false;
    for (line, content) in (1..).zip(text.lines()) {
        let start = content.trim_start();
        if start.starts_with("```") || start.starts_with("~~~") {
            in_fence = !in_fence;
        }
        if in_fence {
            continue;
        }
        // Odd pieces between backticks are code.
        for prose in content.split('`').step_by(2) {
            for (at, _) in prose.match_indices("](") {
                found.push((line, first_word(&prose[at + 2..])));
            }
        }
        if start.starts_with('[') && !start.starts_with("[^") {
            found.extend(start.split_once("]: ").map(|(_, target)| (line, first_word(target))));
        }
    }
    found
}

/// A target ends at its closing bracket or before its title.
fn first_word(text: &str) -> &str {
    let word = text.split([')', ' ']).next().unwrap_or_default();
    word.trim_start_matches('<').trim_end_matches('>')
}

fn leads_somewhere(tree: &Tree, from: &str, target: &str) -> bool {
    let mut parts: Vec<_> = from.split('/').collect();
    parts.pop();
    let file = target.split('#').next().unwrap_or_default();
    if file.starts_with('/') {
        return false;
    }
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return false;
                }
            }
            _ => parts.push(part),
        }
    }
    let path = parts.join("/");
    path.is_empty() || tree.has(&path) || tree.below(&path).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::super::scratch::found;
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let readme = "[a](docs/a.md) [b](docs/b.md#x \"title\")\n![c](c.png)\n[d](https://d) [e](#e)\n\
                      `[f](f.md)`\n```\n[g](g.md)\n```\n[docs](docs/)\n\n[h]: docs/h.md\n[/i](/docs/a.md)\n";
        let files = [
            ("README.md", readme),
            ("docs/a.md", "[up](../README.md) [self](a.md) [out](../../x.md)\n"),
        ];
        assert_eq!(
            found(check, &files),
            [
                "README.md:1: the link docs/b.md#x leads nowhere",
                "README.md:2: the link c.png leads nowhere",
                "README.md:10: the link docs/h.md leads nowhere",
                "README.md:11: the link /docs/a.md leads nowhere",
                "docs/a.md:1: the link ../../x.md leads nowhere",
            ]
        );
    }
}
