//! Whoever starts `mtor` may have keys of other services in the environment, so programs are started
//! in the places that hand on a closed list of it. What makes a command elsewhere would hand on all.

use super::tree::Tree;
use super::{Error, Finding, Outcome};

/// In two pieces, so that this file does not find itself.
const COMMAND: &str = concat!("Command::", "new(");
/// Where a command is made, and with which environment.
const PLACES: [&str; 3] = [
    // A list for each purpose.
    "crates/cli/src/environment.rs",
    // What the caller chose, for programs that do strangers' work.
    "crates/worker/src/executors/child.rs",
    // That of a program which was started in one of those two.
    "crates/models/src/speak/flite.rs",
];
const INSTEAD: &str = "use `Purpose::command` (cli) or `Surroundings::command` (worker): what is \
                       started inherits nothing secret";

/// What ships: tests and benches start what they like.
fn is_product(path: &str) -> bool {
    path.starts_with("crates/")
        && path.contains("/src/")
        && !path.contains("/tests/")
        && !path.ends_with("/tests.rs")
}

pub(super) fn check(tree: &Tree) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for (path, text) in tree.texts_of(&["rs"]).filter(|(path, _)| is_product(path)) {
        outcome.looked_at += 1;
        if PLACES.contains(&path) {
            continue;
        }
        let lines = (1..).zip(text.lines()).filter(|(_, line)| line.contains(COMMAND));
        outcome.findings.extend(lines.map(|(line, _)| Finding::new(path, line, COMMAND, INSTEAD)));
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::found;
    use super::*;

    #[test]
    fn a_command_is_found_where_its_environment_would_be_whatever_there_is() {
        let makes = format!("fn f() {{\n    {COMMAND}\"x\");\n}}\n");
        let files = [
            ("crates/cli/src/commands/a.rs", makes.as_str()),
            ("crates/cli/src/environment.rs", &makes),
            ("crates/cli/src/models/tests.rs", &makes),
            ("crates/cli/tests/a.rs", &makes),
            ("crates/worker/src/a.rs", &makes),
            ("xtask/src/a.rs", &makes),
        ];
        assert_eq!(
            found(check, &files),
            ["crates/cli/src/commands/a.rs", "crates/worker/src/a.rs"]
                .map(|path| format!("{path}:2: {COMMAND}"))
        );
    }
}
