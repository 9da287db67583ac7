//! No source file grows past what one can hold in mind. (Functions: clippy's `too_many_lines`.)

use super::tree::Tree;
use super::{Error, Finding, Outcome};

const LINES_MAX: usize = 800;

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for (path, text) in tree.texts_of(&["rs", "ts", "svelte"]) {
        outcome.looked_at += 1;
        let lines = text.lines().count();
        if lines > LINES_MAX {
            outcome.findings.push(Finding::new(
                path,
                lines,
                format!("{lines} lines, more than {LINES_MAX}"),
                "split the file where its subjects part; mod.rs only routes",
            ));
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::found;
    use super::*;

    #[test]
    fn a_long_file_is_found() {
        let (full, over) = ("x\n".repeat(LINES_MAX), "x\n".repeat(LINES_MAX + 1));
        let files =
            [("a.rs", full.as_str()), ("b.rs", &over), ("c.svelte", &over), ("d.md", &over)];
        assert_eq!(
            found(check, &files),
            ["b.rs:801: 801 lines, more than 800", "c.svelte:801: 801 lines, more than 800"]
        );
    }
}
