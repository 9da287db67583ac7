//! Dependencies between the crates point one way. Tests may look further: development dependencies
//! are free.

use serde_json::Value;

use super::tree::Tree;
use super::{Error, Finding, Outcome, output};

/// What each crate may depend on, in its product and its build script.
const ALLOWED: [(&str, &[&str]); 14] = [
    ("mtor-types", &[]),
    ("mtor-core", &["mtor-types"]),
    ("mtor-store", &["mtor-types"]),
    ("mtor-fabric", &["mtor-types"]),
    ("mtor-chain", &["mtor-types"]),
    ("mtor-sound", &[]),
    ("mtor-models", &["mtor-sound", "mtor-types"]),
    ("mtor-client", &["mtor-types"]),
    ("mtor-worker", &["mtor-client", "mtor-sound", "mtor-types"]),
    (
        "mtor-server",
        &["mtor-core", "mtor-store", "mtor-fabric", "mtor-chain", "mtor-sound", "mtor-types"],
    ),
    ("mtor-sim", &["mtor-core", "mtor-store", "mtor-client", "mtor-types"]),
    (
        "mtor",
        &[
            "mtor-types",
            "mtor-core",
            "mtor-store",
            "mtor-fabric",
            "mtor-chain",
            "mtor-client",
            "mtor-worker",
            "mtor-server",
            "mtor-sim",
            "mtor-sound",
        ],
    ),
    ("xtask", &["mtor-types"]),
    ("mtor-bench-gateway", &["mtor-types"]),
];

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let metadata: Value = serde_json::from_str(&output(tree.root(), "cargo", &arguments)?)?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata has no packages")?;
    let names: Vec<_> = packages.iter().map(|package| text(&package["name"])).collect();
    let root = text(&metadata["workspace_root"]);

    let mut outcome = Outcome::default();
    for package in packages {
        let name = text(&package["name"]);
        let manifest = text(&package["manifest_path"]);
        let path = manifest.strip_prefix(root).unwrap_or(manifest).trim_start_matches('/');
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            outcome.findings.push(Finding::new(
                path,
                0,
                format!("{name} has no place in the order of crates"),
                "make it a module, or give the reason in docs/decisions/ and a line in tidy/edges.rs",
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = text(&dependency["name"]);
            if !names.contains(&to) || dependency["kind"] == "dev" {
                continue;
            }
            outcome.looked_at += 1;
            if !allowed.contains(&to) {
                outcome.findings.push(Finding::new(
                    path,
                    line_of(tree, path, to),
                    format!("{name} depends on {to}"),
                    format!("{name} may depend on {}; pass data instead", list(allowed)),
                ));
            }
        }
    }
    Ok(outcome)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "no other crate here".to_owned() } else { names.join(", ") }
}

fn line_of(tree: &Tree, manifest: &str, dependency: &str) -> usize {
    let stands = |line: &str| line.trim_start().starts_with(dependency);
    let lines = tree.text(manifest).unwrap_or_default().lines();
    (1..).zip(lines).find(|(_, line)| stands(line)).map_or(0, |(line, _)| line)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n\n{rest}")
    }

    #[test]
    fn an_edge_against_the_order_is_found() {
        let scratch = Scratch::new(&[(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n",
        )]);
        let up = "mtor-core = { path = \"../core\" }\n";
        for (folder, name, rest) in [
            (
                "core",
                "mtor-core",
                "[dev-dependencies]\nmtor-worker = { path = \"../worker\" }\n".to_owned(),
            ),
            ("types", "mtor-types", format!("[build-dependencies]\n{up}")),
            ("worker", "mtor-worker", format!("[dependencies]\n{up}")),
            ("server", "mtor-server", format!("[dependencies]\n{up}")),
            ("extra", "mtor-extra", String::new()),
        ] {
            scratch.write(&format!("crates/{folder}/Cargo.toml"), &manifest(name, &rest));
            scratch.write(&format!("crates/{folder}/src/lib.rs"), "");
        }
        let mut found = scratch.found(check);
        found.sort();
        assert_eq!(
            found,
            [
                "crates/extra/Cargo.toml:0: mtor-extra has no place in the order of crates",
                "crates/types/Cargo.toml:6: mtor-types depends on mtor-core",
                "crates/worker/Cargo.toml:6: mtor-worker depends on mtor-core",
            ]
        );
    }
}
