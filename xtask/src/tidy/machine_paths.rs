//! Nothing that is tracked knows the machine it was written on.

use super::tree::Tree;
use super::{Error, Finding, Outcome};

/// In two pieces each, so that this file does not find itself.
const FOLDERS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for (path, text) in tree.texts() {
        outcome.looked_at += 1;
        for (line, content) in (1..).zip(text.lines()) {
            if let Some(folder) = FOLDERS.iter().find(|folder| stands_alone(content, folder)) {
                outcome.findings.push(Finding::new(
                    path,
                    line,
                    format!("an absolute path under {folder}"),
                    "name it from the repository's root, or let the caller pass it",
                ));
            }
        }
    }
    Ok(outcome)
}

/// Is the folder the start of a path here, and not the middle of a longer one or of an address?
fn stands_alone(line: &str, folder: &str) -> bool {
    let is_path = |c: char| c.is_alphanumeric() || "_-.~/$})*".contains(c);
    line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(is_path))
}

#[cfg(test)]
mod tests {
    use super::super::scratch::found;
    use super::*;

    #[test]
    fn an_absolute_path_is_found() {
        for folder in FOLDERS {
            let bad = format!("fine\nopen(\"{folder}x\")\n");
            let good =
                format!("https://example.org{folder}x ~{folder}x $BASE{folder}x a{folder}\n");
            assert_eq!(
                found(check, &[("a.toml", bad.as_str()), ("b.md", &good)]),
                [format!("a.toml:2: an absolute path under {folder}")]
            );
        }
    }
}
