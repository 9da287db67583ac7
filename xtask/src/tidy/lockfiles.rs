//! The lock files hold one version of the stack that everything speaks through, and name only the
//! public registries: no private mirror, no foreign branch.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{Tree, extension};
use super::{Error, Finding, Outcome};

/// Two versions of one of these mean two runtimes, two TLS stacks or types that do not fit.
const SINGLE: [&str; 5] = ["axum", "hyper", "rustls", "serde", "tokio"];
const CARGO_SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";
const NPM_SOURCE: &str = "https://registry.npmjs.org/";

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for (path, text) in tree.texts_of(&["lock", "json"]) {
        if path.ends_with("Cargo.lock") {
            versions(path, text, &mut outcome);
        }
        if path.ends_with("Cargo.lock") || path.ends_with("package-lock.json") {
            sources(path, text, &mut outcome);
        }
    }
    Ok(outcome)
}

fn versions(path: &str, text: &str, outcome: &mut Outcome) {
    let mut majors: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut name = "";
    for (line, content) in (1..).zip(text.lines()) {
        if let Some(value) = value_of(content, "name = ") {
            name = value;
        }
        let Some(version) = value_of(content, "version = ") else { continue };
        outcome.looked_at += 1;
        if !SINGLE.contains(&name) {
            continue;
        }
        let seen = majors.entry(name).or_default();
        seen.insert(major(version));
        if seen.len() > 1 {
            let all: Vec<_> = seen.iter().map(String::as_str).collect();
            outcome.findings.push(Finding::new(
                path,
                line,
                format!("{name} stands here in versions {}", all.join(" and ")),
                format!(
                    "cargo tree -d -i {name}: update or drop the dependency that holds the other"
                ),
            ));
        }
    }
}

fn sources(path: &str, text: &str, outcome: &mut Outcome) {
    let (key, allowed) = if extension(path) == "lock" {
        ("source = ", CARGO_SOURCE)
    } else {
        ("\"resolved\": ", NPM_SOURCE)
    };
    for (line, content) in (1..).zip(text.lines()) {
        let Some(source) = value_of(content, key) else { continue };
        if !source.starts_with(allowed) {
            outcome.findings.push(Finding::new(
                path,
                line,
                "a package that does not come from the public registry",
                format!("depend on a published version; the lock file says {allowed}"),
            ));
        }
    }
}

/// The quoted value after a key that starts the line.
fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.trim_start().strip_prefix(key)?.trim_end_matches(',').strip_prefix('"')?.strip_suffix('"')
}

/// The part of a version that must agree: `1` of 1.2.3, `0.23` of 0.23.4.
fn major(version: &str) -> String {
    let mut parts = version.split('.');
    match (parts.next(), parts.next()) {
        (Some("0"), Some(minor)) => format!("0.{minor}"),
        (Some(major), Some(_) | None) => major.to_owned(),
        (None, Some(_) | None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::found;
    use super::*;

    fn package(name: &str, version: &str, source: &str) -> String {
        format!(
            "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\n\n"
        )
    }

    #[test]
    fn two_majors_of_the_stack_are_found() {
        let lock: String = [
            package("rustls", "0.23.1", CARGO_SOURCE),
            package("rustls", "0.22.4", CARGO_SOURCE),
            package("serde", "1.0.1", CARGO_SOURCE),
            package("serde", "1.2.0", CARGO_SOURCE),
            package("syn", "1.0.0", CARGO_SOURCE),
            package("syn", "2.0.0", CARGO_SOURCE),
        ]
        .concat();
        assert_eq!(
            found(check, &[("Cargo.lock", &lock)]),
            ["Cargo.lock:8: rustls stands here in versions 0.22 and 0.23"]
        );
    }

    #[test]
    fn a_package_from_elsewhere_is_found() {
        let lock = package("a", "1.0.0", "git+https://example.org/a");
        let npm = format!(
            "  \"resolved\": \"{NPM_SOURCE}a.tgz\",\n  \"resolved\": \"http://mirror/b.tgz\",\n"
        );
        let what = "a package that does not come from the public registry";
        assert_eq!(
            found(check, &[("Cargo.lock", lock.as_str()), ("web/package-lock.json", &npm)]),
            [format!("Cargo.lock:4: {what}"), format!("web/package-lock.json:2: {what}")]
        );
    }
}
