//! A small repository in a folder of its own, in which a test may break the rules.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::tree::Tree;
use super::{Error, Outcome, output};

static COUNT: AtomicU32 = AtomicU32::new(0);

pub(super) struct Scratch {
    root: PathBuf,
}

impl Scratch {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mtor-tidy-{}-{number}", std::process::id());
        let scratch = Self { root: std::env::temp_dir().join(name) };
        std::fs::create_dir_all(&scratch.root).unwrap();
        scratch.git(&["init", "--quiet"]);
        for (path, text) in files {
            scratch.write(path, text);
        }
        scratch
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        self.write_bytes(path, text.as_bytes());
    }

    pub(super) fn write_bytes(&self, path: &str, bytes: &[u8]) {
        let file = self.root.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        std::fs::remove_file(self.root.join(path)).unwrap();
    }

    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> String {
        output(&self.root, program, arguments).unwrap()
    }

    pub(super) fn git(&self, arguments: &[&str]) -> String {
        let mut all =
            vec!["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"];
        all.extend(["-c", "core.hooksPath=none"]);
        all.extend(arguments);
        self.run("git", &all)
    }

    pub(super) fn commit(&self, subject: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", subject]);
    }

    pub(super) fn tree(&self) -> Tree {
        Tree::load(&self.root).unwrap()
    }

    /// What a check finds here, one `path:line: what` each; the replacements are left out.
    pub(super) fn found(&self, check: fn(&Tree) -> Result<Outcome, Error>) -> Vec<String> {
        let outcome = check(&self.tree()).unwrap();
        let told = |f: &super::Finding| {
            assert!(!f.instead.is_empty(), "{f} does not say what to do instead");
            format!("{}:{}: {}", f.path, f.line, f.what)
        };
        outcome.findings.iter().map(told).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder left behind in the temporary directory does no harm.
        let _left = std::fs::remove_dir_all(&self.root);
    }
}

/// What a check finds in a repository of these files.
pub(super) fn found(
    check: fn(&Tree) -> Result<Outcome, Error>,
    files: &[(&str, &str)],
) -> Vec<String> {
    Scratch::new(files).found(check)
}
