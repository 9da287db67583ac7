//! Style as a test, with the replacement in its message.
//!
//! Each check is one function in one file: it looks at the tree of files that git knows or would
//! take in, and says how many things it looked at (a check that looked at nothing proves nothing)
//! and what it found. Rules that rustfmt or clippy can check are not repeated here.

mod architecture;
mod attributes;
mod closure;
mod comments;
mod edges;
mod error_pages;
mod features;
mod golden;
mod hash_containers;
mod leftovers;
mod lengths;
mod links;
mod lockfiles;
mod machine_paths;
mod programs;
#[cfg(test)]
mod scratch;
mod tree;
mod whitespace;

use std::fmt;
use std::path::Path;
use std::process::Command;

use tree::Tree;

type Error = Box<dyn std::error::Error>;

/// One breach of one rule. Line 0 stands for the file as a whole.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    what: String,
    instead: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), instead: instead.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {} → {}", self.path, self.line, self.what, self.instead)
    }
}

/// What a check saw: the number of things it looked at, and its findings.
#[derive(Debug, Default)]
struct Outcome {
    looked_at: usize,
    findings: Vec<Finding>,
}

struct Check {
    name: &'static str,
    /// What `looked_at` counts.
    unit: &'static str,
    run: fn(&Tree) -> Result<Outcome, Error>,
}

const CHECKS: [Check; 15] = [
    Check { name: "lengths", unit: "files", run: lengths::check },
    Check { name: "leftovers", unit: "files", run: leftovers::check },
    Check { name: "whitespace", unit: "files", run: whitespace::check },
    Check { name: "attributes", unit: "attributes", run: attributes::check },
    Check { name: "hash containers", unit: "files", run: hash_containers::check },
    Check { name: "machine paths", unit: "files", run: machine_paths::check },
    Check { name: "programs", unit: "files", run: programs::check },
    Check { name: "links", unit: "links", run: links::check },
    Check { name: "error pages", unit: "codes", run: error_pages::check },
    Check { name: "golden files", unit: "files", run: golden::check },
    Check { name: "lock files", unit: "packages", run: lockfiles::check },
    Check { name: "architecture", unit: "crates", run: architecture::check },
    Check { name: "edges", unit: "edges", run: edges::check },
    Check { name: "closure", unit: "packages", run: closure::check },
    Check { name: "features", unit: "packages", run: features::check },
];

/// What all checks saw together; its text is what the command prints.
pub(crate) struct Report {
    looked_at: Vec<(&'static str, usize, &'static str)>,
    findings: Vec<Finding>,
    comments: String,
}

impl Report {
    pub(crate) fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(out, "{finding}")?;
        }
        if !self.is_clean() {
            return writeln!(out, "tidy: {} findings", self.findings.len());
        }
        for (name, count, unit) in &self.looked_at {
            writeln!(out, "{name:<16} {count:>5} {unit}")?;
        }
        writeln!(out, "{}", self.comments)?;
        writeln!(out, "tidy: {} checks, nothing found", self.looked_at.len())
    }
}

/// Runs all checks on the repository at `root`.
pub(crate) fn run(root: &Path) -> Result<Report, Error> {
    let tree = Tree::load(root)?;
    let mut report =
        Report { looked_at: Vec::new(), findings: Vec::new(), comments: comments::ratios(&tree) };
    for check in &CHECKS {
        let outcome = (check.run)(&tree).map_err(|error| format!("{}: {error}", check.name))?;
        report.looked_at.push((check.name, outcome.looked_at, check.unit));
        report.findings.extend(outcome.findings);
    }
    report.findings.sort();
    Ok(report)
}

/// Runs a program in `root` and gives its standard output; a failure carries its standard error.
fn output(root: &Path, program: &str, arguments: &[&str]) -> Result<String, Error> {
    output_with_input(root, program, arguments, "")
}

fn output_with_input(
    root: &Path,
    program: &str,
    arguments: &[&str],
    input: &str,
) -> Result<String, Error> {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(root)
        // A git hook sets these for its own repository; ours is the one at `root`.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    // Both programs that get input read all of it before they answer, so this cannot block.
    child.stdin.take().ok_or("no standard input")?.write_all(input.as_bytes())?;
    let done = child.wait_with_output()?;
    if !done.status.success() {
        let words = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{program} {}: {}", arguments.join(" "), words.trim()).into());
    }
    Ok(String::from_utf8(done.stdout)?)
}

/// Does `word` stand in `line` with no letter, digit or underscore right before or after it?
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::scratch::Scratch;
    use super::*;

    #[test]
    fn a_word_has_borders() {
        assert!(has_word("use std::collections::HashMap;", "HashMap"));
        assert!(has_word("HashMap", "HashMap"));
        assert!(!has_word("let MyHashMap = 1;", "HashMap"));
        assert!(!has_word("HashMaps", "HashMap"));
    }

    #[test]
    fn a_report_names_place_breach_and_replacement() {
        let scratch = Scratch::new(&[("crates/core/src/lib.rs", "struct A;\t\nuse HashSet;\n")]);
        scratch.write("Cargo.toml", "[workspace]\nmembers = []\n");
        let tree = scratch.tree();
        let findings = [whitespace::check(&tree).unwrap(), hash_containers::check(&tree).unwrap()]
            .into_iter()
            .flat_map(|outcome| outcome.findings)
            .collect();
        let report = Report { looked_at: Vec::new(), findings, comments: String::new() };
        assert!(!report.is_clean());
        let text = report.to_string();
        assert!(text.starts_with("crates/core/src/lib.rs:1: "), "{text}");
        assert!(text.contains("crates/core/src/lib.rs:2: HashSet"), "{text}");
        assert!(text.contains(" → "), "{text}");
        assert!(text.ends_with("findings\n"), "{text}");
    }

    #[test]
    fn a_program_that_fails_is_an_error_with_its_words() {
        let error = output(Path::new("."), "git", &["no-such-command"]).unwrap_err();
        assert!(error.to_string().contains("no-such-command"), "{error}");
    }
}
