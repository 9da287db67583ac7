//! What others say reaches the log and the terminal, and commands neither.

use crate::common::http::Guest;
use crate::common::socket::Hand;
use crate::common::{Done, Place, Realm, eventually};
use mtor_types::text;
use serde_json::json;

const EVIL: &str = "a\u{1b}[2J\r\nERROR mtor: all is lost\u{9b}31m\u{202e}b";

#[test]
fn a_workers_words_stay_words_in_the_log() {
    let place = Place::new();
    let log = place.path().join("stderr");
    let mut command = Realm::command(&place, "127.0.0.1:0", &["--no-worker"]);
    command.stderr(std::fs::File::create(&log).unwrap());
    let realm = Realm::of(command);
    let guest = Guest::new(&realm.url);
    let mut hand = Hand::join(&guest, 1, &json!([{"intent": "echo", "slots": 1}]));
    hand.socket.say(EVIL, &json!({}));
    hand.socket.wait_closed();
    let log = || std::fs::read_to_string(&log).unwrap();
    eventually(|| log().contains("all is lost"));
    for line in log().lines() {
        assert!(text::is_plain(line), "{line:?}");
        assert!(!line.starts_with("ERROR mtor"), "{line:?}");
    }
}

#[test]
fn an_answer_commands_no_terminal_and_is_the_same_json() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    let data = json!({"text": EVIL}).to_string();
    for more in [&[][..], &["--json"][..]] {
        let mut command = place.command(&["submit", "echo", "--data", &data]);
        command.args(more).env("MTOR_REALM", &realm.url).env("MTOR_API_KEY", &guest.key);
        let done = Done::of(command.output().unwrap()).good();
        let shown = [&*done.stdout, &*done.stderr].concat();
        assert!(shown.contains("all is lost"), "{done:#?}");
        assert!(shown.lines().all(text::is_plain), "{shown:?}");
        if !more.is_empty() {
            let said = |line: &serde_json::Value| line.to_string().contains("all is lost");
            let line = done.lines().into_iter().find(said).unwrap();
            let texts = line.to_string().matches(json!(EVIL).to_string().as_str()).count();
            assert!(texts > 0, "{line}");
        }
    }
}
