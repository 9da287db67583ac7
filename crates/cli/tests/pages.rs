//! The commands of docs/cli.md, run as they stand there.

use std::process::{Child, Command, Stdio};

use crate::common::http::Guest;
use crate::common::socket::Hand;
use crate::common::{Done, Place, Realm, eventually};
use serde_json::json;

const PAGE: &str = include_str!("../../../docs/cli.md");
const SPOKEN: &[u8] = include_bytes!("../../models/tests/exec/data/spoken.ogg");
const OWN_INTENT: &str = include_str!("../../../docs/own-intent.md");
/// What a machine may lack, for what the page needs of it.
const SHELL: &str = r#"
set -eo pipefail
git() { echo '+one more line'; }
jq() { sed -n 's/.*"intent":"\([^"]*\)".*/\1/p'; }
"#;

/// The lines of the shell's blocks.
fn commands() -> Vec<&'static str> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in PAGE.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => lines.push(line),
            _ => {}
        }
    }
    lines
}

struct Shell<'a> {
    place: &'a Place,
    realm: &'a Realm,
}

impl Shell<'_> {
    fn command(&self, line: &str) -> Command {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_mtor"));
        // Only for its place in the search path: everything else is the test's own.
        let mut command = Command::new("bash");
        let folder = program.parent().unwrap().display();
        let script = format!("{SHELL}PATH={folder}:$PWD/bin:$PATH\n{line}");
        command.args(["--norc", "-c", &script]).current_dir(self.place.path());
        command.env("HOME", self.place.path()).env("MTOR_REALM", &self.realm.url);
        command.env_remove("XDG_CONFIG_HOME").env_remove("MTOR_API_KEY");
        command.stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run(&self, line: &str) -> Done {
        let done = Done::of(self.command(line).output().unwrap());
        assert_eq!(done.code, Some(0), "{line}: {done:#?}");
        done
    }

    /// Something that is under way, and its id.
    fn begin(&self, children: &mut Vec<Child>) -> String {
        let slow = r#"mtor submit echo --data '{"chunks":2,"delayms":60000}'"#;
        let mut command = self.command(slow);
        children.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let open = || self.run("mtor --json intents --open").lines();
        eventually(|| open().iter().any(|row| row["name"] == "echo"));
        open()[0]["intent"].as_str().unwrap().to_owned()
    }
}

#[test]
fn every_command_of_the_page_does_what_it_says() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let offers = json!([
        {"intent": "chat", "model": "by-hand", "slots": 4},
        {"intent": "speak", "model": "by-hand", "slots": 4},
        {"intent": "transcribe", "model": "by-hand", "slots": 4},
    ]);
    place.write("bin/aplay", "#!/bin/sh\nexec cat > played\n", 0o755);
    std::fs::write(place.path().join("spoken.ogg"), SPOKEN).unwrap();
    let owner = Guest::new(&realm.url);
    let hand = Hand::join(&realm, 1, &offers);
    let pools = || owner.ask("GET", "/v1/pools", "").body;
    eventually(|| pools().contains("by-hand"));
    // Answers whatever comes, until the realm goes.
    std::thread::spawn(move || {
        hand.serve(|hand, assign| {
            let result = match assign["name"].as_str() {
                Some("chat") => json!({"choices": [{"message": {"content": "Once."}}]}),
                Some("speak") => json!({"audio": "AAAA"}),
                _ => json!({"text": "Once.", "segments": []}),
            };
            hand.complete_with(assign, 1, &result);
        });
    });
    let manifest = OWN_INTENT.split("\n```toml\n").nth(1).unwrap().split("\n```").next().unwrap();
    place.write("word-count.toml", manifest, 0o644);
    let shell = Shell { place: &place, realm: &realm };
    let commands = commands();
    assert!(commands.len() > 20, "{commands:#?}");
    let (mut newest, mut children) = (String::new(), Vec::new());
    for line in commands {
        let takes_id = line.contains(" ID");
        let id = match line {
            // It asks a terminal.
            "mtor chat" => continue,
            _ if line.contains("cancel") => shell.begin(&mut children),
            _ => newest.clone(),
        };
        shell.run(&if takes_id { line.replace(" ID", &format!(" {id}")) } else { line.to_owned() });
        if line.starts_with("mtor submit echo --data") {
            let listed = shell.run("mtor --json intents --limit 1").lines();
            newest = listed[0]["intent"].as_str().unwrap().to_owned();
        }
    }
    assert_eq!(
        std::fs::read_to_string(place.path().join("results.jsonl")).unwrap().lines().count(),
        3
    );
    assert!(place.path().join(".zfunc/_mtor").exists());
    assert_eq!(std::fs::read(place.path().join("story.wav")).unwrap().len(), 44 + 3);
    assert_eq!(std::fs::read(place.path().join("played")).unwrap(), [0; 3]);
    // They were cancelled, so they end.
    for child in &mut children {
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }
}
