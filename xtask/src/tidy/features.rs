//! Each package has the same features with the tests as without them. A feature that only a test's
//! dependency asks for is another build of that package, and of all that stands upon it: then CI
//! compiles the workspace twice, and tests another binary than the one that is handed out.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::Tree;
use super::{Error, Finding, Outcome, output};

const INSTEAD: &str = "ask for them in [dependencies] too, or do without them in the test";

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    let with_tests = features(tree, "normal,build,dev")?;
    for (package, plain) in features(tree, "normal,build")? {
        outcome.looked_at += 1;
        let tested = with_tests.get(&package).unwrap_or(&plain);
        let only: Vec<&str> = tested.difference(&plain).map(String::as_str).collect();
        if !only.is_empty() {
            let what = format!("{package} has features for tests alone: {}", only.join("; "));
            outcome.findings.push(Finding::new("Cargo.toml", 0, what, INSTEAD));
        }
    }
    Ok(outcome)
}

/// The features of each package on this machine, once for each way in which it is built.
fn features(tree: &Tree, edges: &str) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
    let arguments = [
        "tree",
        "--locked",
        "--workspace",
        "--edges",
        edges,
        "--prefix",
        "none",
        "--no-dedupe",
        "--format",
        "{p}|{f}",
    ];
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // `clap v4.6.9|default,derive`; behind the version may stand a path, or that it is a macro.
    for line in output(tree.root(), "cargo", &arguments)?.lines().filter(|line| !line.is_empty()) {
        let (package, features) = line.split_once('|').ok_or("cargo tree says no features")?;
        let package: Vec<&str> = package.split(' ').take(2).collect();
        found.entry(package.join(" ")).or_default().insert(features.to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    fn found_with(plain: &str) -> Vec<String> {
        let members = "[workspace]\nresolver = \"3\"\nmembers = [\"user\", \"used\"]\n";
        let package = "[package]\nversion = \"1.0.0\"\nedition = \"2024\"\n";
        let used = format!("{package}name = \"used\"\n[features]\nmore = []\n");
        let user = format!(
            "{package}name = \"user\"\n[dependencies]\nused = {{ path = \"../used\"{plain} }}\n\
             [dev-dependencies]\nused = {{ path = \"../used\", features = [\"more\"] }}\n"
        );
        let scratch = Scratch::new(&[
            ("Cargo.toml", members),
            ("used/Cargo.toml", &used),
            ("used/src/lib.rs", ""),
            ("user/Cargo.toml", &user),
            ("user/src/lib.rs", ""),
        ]);
        scratch.run("cargo", &["generate-lockfile", "--offline"]);
        scratch.found(check)
    }

    #[test]
    fn a_feature_that_only_a_test_asks_for_is_found() {
        let found = ["Cargo.toml:0: used v1.0.0 has features for tests alone: more"];
        assert_eq!(found_with(""), found);
        assert!(found_with(", features = [\"more\"]").is_empty());
    }
}
