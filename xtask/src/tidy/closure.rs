//! What the deterministic crates pull in, all the way down: no clock, no randomness, no socket and
//! no file can come in through a dependency's dependency.

use std::collections::BTreeMap;

use super::tree::Tree;
use super::{Error, Finding, Outcome, output};

const CRATES: [&str; 2] = ["core", "types"];

/// Encoding, hashing, signatures and arithmetic. Macros run in the compiler and are not counted.
const ALLOWED: [&str; 38] = [
    "base64",
    "block-buffer",
    "bs58",
    "cfg-if",
    "cobs",
    "const-oid",
    "cpufeatures",
    "crypto-common",
    "curve25519-dalek",
    "der",
    "digest",
    "ed25519",
    "ed25519-dalek",
    "ethnum",
    "fiat-crypto",
    "generic-array",
    "hmac",
    "itoa",
    // Only below cpufeatures, which asks the processor what it can do.
    "libc",
    "memchr",
    "mtor-types",
    "pkcs8",
    "postcard",
    "ryu",
    "ryu-js",
    "serde",
    "serde_core",
    "serde_jcs",
    "serde_json",
    "sha2",
    "signature",
    "spki",
    "subtle",
    "thiserror",
    "typenum",
    "uuid",
    "zeroize",
    "zmij",
];

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for name in CRATES {
        let path = format!("crates/{name}/Cargo.toml");
        for (package, parent) in closure(tree, &format!("mtor-{name}"))? {
            outcome.looked_at += 1;
            let is_random = package.starts_with("rand") || package == "getrandom";
            if !is_random && ALLOWED.contains(&package.as_str()) {
                continue;
            }
            let instead = if is_random {
                "switch the feature off that asks for it: randomness comes in with each command"
            } else {
                "do without, or add it to the list in tidy/closure.rs if it is pure computation"
            };
            let what = format!("mtor-{name} pulls in {package} through {parent}");
            outcome.findings.push(Finding::new(&path, 0, what, instead));
        }
    }
    Ok(outcome)
}

/// All packages below one crate on all targets, each with the package that first asked for it.
/// `cargo tree` for that crate alone, because `cargo metadata` would show the features that other
/// crates of the workspace switch on.
fn closure(tree: &Tree, name: &str) -> Result<BTreeMap<String, String>, Error> {
    let arguments = [
        "tree",
        "--locked",
        "--package",
        name,
        "--edges",
        "normal,no-proc-macro",
        "--target",
        "all",
        "--prefix",
        "depth",
        "--format",
        " {p}",
    ];
    let text = output(tree.root(), "cargo", &arguments)?;
    let mut above: Vec<&str> = Vec::new();
    let mut closure = BTreeMap::new();
    // `2 itoa v1.0.19`: the depth, the name, the version.
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let (Some(depth), Some(package)) = (words.next(), words.next()) else {
            return Err(format!("cargo tree says {line}").into());
        };
        let depth: usize = depth.parse()?;
        above.truncate(depth);
        if let Some(parent) = above.last() {
            closure.entry(package.to_owned()).or_insert_with(|| (*parent).to_owned());
        }
        above.push(package);
    }
    Ok(closure)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    fn package(scratch: &Scratch, folder: &str, name: &str, dependencies: &[(&str, &str)]) {
        let mut manifest =
            format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n[dependencies]\n");
        for (name, path) in dependencies {
            manifest.push_str(&format!("{name} = {{ path = \"../../{path}\" }}\n"));
        }
        scratch.write(&format!("{folder}/Cargo.toml"), &manifest);
        scratch.write(&format!("{folder}/src/lib.rs"), "");
    }

    #[test]
    fn what_comes_in_through_a_dependency_is_found() {
        let members = "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\", \"outside/*\"]\n";
        let scratch = Scratch::new(&[("Cargo.toml", members)]);
        package(&scratch, "outside/rand_core", "rand_core", &[]);
        package(&scratch, "outside/socket", "socket", &[]);
        package(&scratch, "outside/sha2", "sha2", &[("rand_core", "outside/rand_core")]);
        package(&scratch, "crates/types", "mtor-types", &[("sha2", "outside/sha2")]);
        let both = [("mtor-types", "crates/types"), ("socket", "outside/socket")];
        package(&scratch, "crates/core", "mtor-core", &both);
        scratch.run("cargo", &["generate-lockfile", "--offline"]);
        assert_eq!(
            scratch.found(check),
            [
                "crates/core/Cargo.toml:0: mtor-core pulls in rand_core through sha2",
                "crates/core/Cargo.toml:0: mtor-core pulls in socket through mtor-core",
                "crates/types/Cargo.toml:0: mtor-types pulls in rand_core through sha2",
            ]
        );
    }
}
