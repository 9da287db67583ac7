//! A golden file is a promise to everybody who wrote such bytes: it is added and then never
//! changed, nor removed.
//!
//! Each file is compared with the bytes under which it first came into the first-parent history,
//! so an edit is found in a fresh clone too, and putting the old bytes back mends it.

use std::collections::BTreeMap;

use super::tree::Tree;
use super::{Error, Finding, Outcome, output, output_with_input};

const FOLDER: &str = "crates/types/tests/golden";

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let first = first_versions(tree)?;
    let mut outcome = Outcome { looked_at: first.len(), findings: Vec::new() };
    let (here, gone): (Vec<_>, Vec<_>) = first.iter().partition(|(path, _)| tree.has(path));
    for (path, blob) in gone {
        outcome.findings.push(Finding::new(
            path,
            0,
            "a golden file was removed",
            format!("put it back (git cat-file blob {blob}): old bytes must stay readable"),
        ));
    }
    let paths: String = here.iter().map(|(path, _)| format!("{path}\n")).collect();
    let now = output_with_input(tree.root(), "git", &["hash-object", "--stdin-paths"], &paths)?;
    for ((path, blob), now) in here.into_iter().zip(now.lines()) {
        if blob != now {
            outcome.findings.push(Finding::new(
                path,
                0,
                "a golden file was changed",
                format!("put it back (git cat-file blob {blob}) and add a new file beside it"),
            ));
        }
    }
    Ok(outcome)
}

/// Path and blob of each golden file as it was first added.
fn first_versions(tree: &Tree) -> Result<BTreeMap<String, String>, Error> {
    if output(tree.root(), "git", &["rev-parse", "--verify", "--quiet", "HEAD"]).is_err() {
        return Ok(BTreeMap::new());
    }
    let log = output(
        tree.root(),
        "git",
        &[
            "-c",
            "core.quotePath=off",
            "log",
            "-m",
            "--first-parent",
            "--reverse",
            "--raw",
            "--no-abbrev",
            "--no-renames",
            "--diff-filter=A",
            "--format=",
            "--",
            FOLDER,
        ],
    )?;
    let mut first = BTreeMap::new();
    // `:000000 100644 <no blob> <blob> A<tab><path>`
    for line in log.lines() {
        let (head, path) = line.split_once('\t').ok_or_else(|| format!("git log says {line}"))?;
        let blob = head.split(' ').nth(3).ok_or_else(|| format!("git log says {line}"))?;
        first.entry(path.to_owned()).or_insert_with(|| blob.to_owned());
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    const A: &str = "crates/types/tests/golden/a.json";
    const B: &str = "crates/types/tests/golden/b.bin";

    #[test]
    fn a_change_is_found_before_and_after_its_commit_and_can_be_mended() {
        let scratch = Scratch::new(&[(A, "1\n")]);
        assert_eq!(scratch.found(check), [""; 0], "nothing is committed yet");
        scratch.commit("first");
        scratch.write_bytes(B, &[0, 1, 2]);
        assert_eq!(scratch.found(check), [""; 0], "an addition is fine");
        scratch.commit("second");

        scratch.write(A, "2\n");
        let changed = [format!("{A}:0: a golden file was changed")];
        assert_eq!(scratch.found(check), changed);
        scratch.commit("edit");
        assert_eq!(scratch.found(check), changed, "a commit does not make it right");

        scratch.write(A, "1\n");
        assert_eq!(scratch.found(check), [""; 0], "the old bytes are back");
        scratch.remove(B);
        let removed = [format!("{B}:0: a golden file was removed")];
        assert_eq!(scratch.found(check), removed);
        scratch.commit("removal");
        assert_eq!(scratch.found(check), removed);
    }

    #[test]
    fn a_file_that_came_by_a_merge_is_held_to_its_first_bytes() {
        let scratch = Scratch::new(&[("readme", "x\n")]);
        scratch.commit("first");
        scratch.git(&["checkout", "--quiet", "-b", "side"]);
        scratch.write(A, "draft\n");
        scratch.commit("draft on a side branch");
        scratch.write(A, "1\n");
        scratch.commit("final on a side branch");
        scratch.git(&["checkout", "--quiet", "-"]);
        scratch.git(&["merge", "--quiet", "--no-ff", "--message", "merge", "side"]);
        assert_eq!(scratch.found(check), [""; 0], "drafts beside the first-parent line are free");
        scratch.write(A, "2\n");
        assert_eq!(scratch.found(check), [format!("{A}:0: a golden file was changed")]);
    }
}
