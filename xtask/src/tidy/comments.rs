//! How much the code says about why. Information only: a number cannot tell a good comment.

use std::collections::BTreeMap;

use super::tree::Tree;

/// Comment lines to code lines of each crate's `src`, as one line of text.
pub(super) fn ratios(tree: &Tree) -> String {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (path, text) in tree.texts_of(&["rs"]) {
        let Some((folder, _)) = path.split_once("/src/") else { continue };
        let name = folder.rsplit('/').next().unwrap_or(folder);
        let (comments, code) = counts.entry(name).or_default();
        for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty()) {
            if line.starts_with("//") { *comments += 1 } else { *code += 1 }
        }
    }
    let told: Vec<_> = counts
        .iter()
        .map(|(name, (comments, code))| {
            let percent = comments * 100 / code.max(&1);
            format!("{name} {}.{:02}", percent / 100, percent % 100)
        })
        .collect();
    format!("comment lines a code line (aim 0.15 to 0.25): {}", told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    #[test]
    fn comments_are_counted_per_crate() {
        let scratch = Scratch::new(&[
            ("crates/core/src/a.rs", "//! Why.\n\nfn a() {}\n    // because\nfn b() {}\n"),
            ("crates/core/src/deep/b.rs", "fn c() {}\nfn d() {}\n"),
            ("xtask/src/main.rs", "fn main() {}\n"),
            ("crates/core/tests/a.rs", "// not counted\n"),
        ]);
        assert!(ratios(&scratch.tree()).ends_with("core 0.50, xtask 0.00"));
    }
}
