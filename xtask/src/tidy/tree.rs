//! The files that the checks look at: those git knows, and those it would take in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Error, output};

pub(super) struct Tree {
    root: PathBuf,
    /// Path from the root with forward slashes; `None` where the file is not text.
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// Ignored files are left out, files not yet added are in: a check should fail before the
    /// commit, not after it.
    pub(super) fn load(root: &Path) -> Result<Self, Error> {
        let listed = output(
            root,
            "git",
            &["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"],
        )?;
        let mut files = BTreeMap::new();
        for path in listed.split_terminator('\0') {
            let file = root.join(path);
            // Deleted in the work tree but not yet in the index.
            if !file.is_file() {
                continue;
            }
            let bytes = std::fs::read(&file).map_err(|error| format!("{path}: {error}"))?;
            let text = if bytes.contains(&0) { None } else { String::from_utf8(bytes).ok() };
            files.insert(path.to_owned(), text);
        }
        Ok(Self { root: root.to_owned(), files })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// All text files, in order of their paths.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// The text files whose name ends in one of these extensions.
    pub(super) fn texts_of(&self, extensions: &[&str]) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(|(path, _)| extensions.contains(&extension(path)))
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// All paths below a folder (given without its closing slash), text or not.
    pub(super) fn below(&self, folder: &str) -> impl Iterator<Item = &str> {
        let start = format!("{folder}/");
        self.files
            .range(start.clone()..)
            .map(|(path, _)| path.as_str())
            .take_while(move |path| path.starts_with(&start))
    }
}

/// `rs` for `src/lib.rs`; empty where there is none.
pub(super) fn extension(path: &str) -> &str {
    Path::new(path).extension().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;

    #[test]
    fn it_holds_what_git_would_take_in() {
        let scratch = Scratch::new(&[
            (".gitignore", "/target\n"),
            ("target/built.rs", "not ours\n"),
            ("src/kept.rs", "kept\n"),
            ("src/gone.rs", "gone\n"),
        ]);
        scratch.write_bytes("src/picture.png", &[0x89, 0, 1]);
        scratch.commit("first");
        scratch.remove("src/gone.rs");
        scratch.write("src/new.rs", "not yet added\n");
        let tree = scratch.tree();
        let texts: Vec<_> = tree.texts().map(|(path, _)| path).collect();
        assert_eq!(texts, [".gitignore", "src/kept.rs", "src/new.rs"]);
        assert_eq!(tree.below("src").count(), 3);
        assert!(tree.has("src/picture.png") && !tree.has("target/built.rs"));
        assert_eq!(tree.text("src/new.rs"), Some("not yet added\n"));
        assert_eq!(tree.texts_of(&["rs"]).count(), 2);
    }
}
