//! Wrong input, without a realm: every failure names what is wrong and what to do, with its code.

use crate::common::{Done, Place, Realm};

const USAGE: i32 = 2;
const FAILED: i32 = 1;
const CONFIGURATION: i32 = 78;

#[track_caller]
fn check(place: &Place, arguments: &[&str], code: i32, words: &[&str]) -> Done {
    let done = place.run(arguments);
    assert_eq!(done.code, Some(code), "{arguments:?}: {done:#?}");
    for word in words {
        assert!(done.stderr.contains(word), "{word:?} of {arguments:?}: {done:#?}");
    }
    done
}

#[test]
fn the_command_line_is_checked_before_anything_is_done() {
    let place = Place::new();
    check(&place, &["frobnicate"], USAGE, &["frobnicate"]);
    check(&place, &[], USAGE, &["Usage"]);
    check(&place, &["up", "--listen", "nowhere"], USAGE, &["--listen", "127.0.0.1:9000"]);
    check(&place, &["up", "--fee-basis-points", "10001"], USAGE, &["--fee-basis-points"]);
    check(&place, &["up", "--log", "loud"], USAGE, &["--log", "FORMAT/LEVEL"]);
    for against in ["--no-models", "--no-worker"] {
        let line = ["up", "--voice", "on", against];
        check(&place, &line, USAGE, &["--voice on", against, "leave out"]);
    }
    check(&place, &["worker", "--price", "chat"], USAGE, &["--price", "chat=100000/1000000"]);
    check(&place, &["worker", "--backend", "x"], USAGE, &["--backend", "openai=http"]);
    let no_key = ["worker", "--realm", "http://127.0.0.1:9", "--backend"];
    let no_key = [no_key.as_slice(), &["openai=http://127.0.0.1:9,key-file=none"]].concat();
    check(&place, &no_key, CONFIGURATION, &["none", "no such file"]);
    check(
        &place,
        &["worker", "--no-fft", "--no-echo"],
        USAGE,
        &["nothing that this worker could serve", "--backend"],
    );
    let words = ["--price chat", "does not serve chat", "echo, fft", "--backend"];
    check(&place, &["worker", "--price", "chat=1/1000000"], USAGE, &words);
    let no_echo = ["worker", "--no-echo", "--price", "echo=1/1"];
    check(&place, &no_echo, USAGE, &["does not serve echo"]);
    check(&place, &["worker", "--exec", "/nope"], USAGE, &["--exec", "/nope", "chmod"]);
    check(&place, &["worker", "--exec", "no-such-program"], USAGE, &["no-such-program"]);
    check(&place, &["sim", "--seeds", "0"], USAGE, &["--seeds"]);
    check(&place, &["submit", "echo"], USAGE, &["--data", "--prompt"]);
    for command in ["submit", "quote"] {
        let words = [r#"{"text":"hi"}"#, "--data JSON", "@FILE", "--prompt TEXT"];
        check(&place, &[command, "echo", r#"{"text":"hi"}"#], USAGE, &words);
        check(&place, &["--json", command, "echo", "{text:", "hi}"], USAGE, &["--data JSON"]);
    }
    check(&place, &["submit", "chat", "--prompt", " "], USAGE, &["--prompt", "some text"]);
    check(&place, &["submit", "echo", "--data", "1", "--ceiling", "1.5"], USAGE, &["--ceiling"]);
    check(&place, &["submit", "echo", "--data", "1", "--key", "\n"], USAGE, &["--key"]);
    check(&place, &["sysop", "cancel", "x"], USAGE, &["INTENT", "UUID"]);
    let shown = place.run(&["--version"]).good();
    assert!(shown.stdout.starts_with("mtor "), "{shown:#?}");
}

/// No voice goes with no models.
#[test]
fn a_voice_that_is_off_goes_with_everything() {
    for more in [["--voice", "off", "--no-models"], ["--voice", "off", "--no-worker"]] {
        let place = Place::new();
        let realm = Realm::start(&place, &more);
        assert_eq!(realm.stop(), Some(0), "{more:?}");
    }
}

#[test]
fn a_place_that_a_realm_cannot_have_is_named_with_a_remedy() {
    let place = Place::new();
    let file = place.write("file", "", 0o644);
    let on_file =
        ["up", "--no-worker", "--listen", "127.0.0.1:0", "--data", file.to_str().unwrap()];
    let words = ["MT0039", file.to_str().unwrap(), "data directory", "--data DIR"];
    check(&place, &on_file, CONFIGURATION, &words);
    // An address of the documentation's, which no machine has.
    let elsewhere = ["up", "--no-worker", "--data", "d", "--listen", "192.0.2.1:9000"];
    check(&place, &elsewhere, CONFIGURATION, &["MT0039", "192.0.2.1:9000", "of this machine"]);
}

#[test]
fn data_that_is_no_json_is_refused_with_line_and_column() {
    let place = Place::new();
    let line = "line 2, column 3";
    check(&place, &["submit", "echo", "--data", "{\n  x}"], USAGE, &["--data", line]);
    place.write("d.json", "[1,\n  }", 0o644);
    check(&place, &["submit", "echo", "--data", "@d.json"], USAGE, &["d.json", line]);
    check(&place, &["submit", "echo", "--data", "@none"], USAGE, &["none", "no such file"]);
    let done = place.run_with_input(&["submit", "echo", "--data", "-"], "nul");
    assert_eq!(done.code, Some(USAGE), "{done:#?}");
    assert!(done.stderr.contains("standard input is not JSON"), "{done:#?}");
}

#[test]
fn a_wrong_address_is_usage_and_a_silent_one_a_failure() {
    let place = Place::new();
    for url in ["9000", "ftp://a", "http://a/b", "http://k:s@a"] {
        let words = ["--realm", "http://host:port"];
        check(&place, &["submit", "echo", "--data", "1", "--realm", url], USAGE, &words);
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let submit = ["submit", "echo", "--data", "1", "--realm", &url];
    check(&place, &submit, FAILED, &[&url, "mtor up"]);
    check(&place, &["account", "--realm", &url], FAILED, &[&url, "mtor account new"]);
}

#[test]
fn errors_are_json_for_programs() {
    let place = Place::new();
    for arguments in
        [["--json", "submit", "echo", "--data", "{"].as_slice(), &["frobnicate", "--json"]]
    {
        let done = check(&place, arguments, USAGE, &[]);
        let error: serde_json::Value = serde_json::from_str(&done.stderr).unwrap();
        assert_eq!(error["event"], "error", "{done:#?}");
        assert!(error["message"].is_string() && error["remedy"].is_string(), "{done:#?}");
        assert_eq!(done.stdout, "");
    }
}

#[test]
fn secrets_that_others_can_read_are_refused() {
    let place = Place::new();
    place.write("secret", "abc\n", 0o644);
    let words = ["secret", "0644", "chmod 600"];
    check(&place, &["sysop", "--secret-file", "secret", "health"], CONFIGURATION, &words);
    check(&place, &["worker", "--token-file", "secret"], CONFIGURATION, &words);
    check(&place, &["sysop", "--secret-file", "none", "health"], CONFIGURATION, &["none"]);
    check(&place, &["sysop", "health"], CONFIGURATION, &["--secret-file", "MTOR_SYSOP_SECRET"]);
    place.write(".config/mtor/accounts.json", "{}", 0o640);
    let submit = ["submit", "echo", "--data", "1"];
    check(&place, &submit, CONFIGURATION, &["accounts.json", "0640", "chmod 600"]);
    place.write(".config/mtor/accounts.json", "{}", 0o600);
    check(&place, &submit, CONFIGURATION, &["accounts.json", "version"]);
}

#[test]
fn the_doctor_says_what_is_missing_and_how_to_get_it() {
    let place = Place::new();
    let done = place.run(&["--json", "doctor", "--listen", "127.0.0.1:0", "--data", "d"]).good();
    let checks = done.lines();
    assert_eq!(checks.len(), 6, "{done:#?}");
    let of = |name: &str| checks.iter().find(|line| line["check"] == name).unwrap().clone();
    assert_eq!(of("data folder")["verdict"], "ok");
    assert_eq!(of("models")["verdict"], "missing");
    assert!(of("models")["remedy"].as_str().unwrap().contains("mtor models pull"));
    assert!(!place.path().join("d").exists(), "it changes nothing");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check(&place, &["doctor", "--listen", &address], FAILED, &["address"]);
    let realm = Realm::start(&place, &["--no-worker"]);
    let address = realm.url.strip_prefix("http://").unwrap();
    let done = place.run(&["doctor", "--listen", address]).good();
    assert!(done.stdout.contains(&format!("a realm runs at {address} already")), "{done:#?}");
}

#[test]
fn an_address_that_is_taken_leaves_no_folder_behind() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let up = ["up", "--no-worker", "--data", "d", "--listen", &address];
    check(&place, &up, FAILED, &["MT0038", &address]);
    assert!(!place.path().join("d").exists());
    std::fs::create_dir(place.path().join("d")).unwrap();
    check(&place, &up, FAILED, &["MT0038"]);
    assert!(place.path().join("d").exists(), "it was there before");
}

#[test]
fn a_key_that_a_realm_does_not_know_is_named_by_where_it_stands() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let ask = |arguments: &[&str], name: &str, value: &str| {
        let mut command = place.command(arguments);
        Done::of(command.env("MTOR_REALM", &realm.url).env(name, value).output().unwrap())
    };
    for arguments in [
        ["account"].as_slice(),
        &["submit", "echo", "--data", "1"],
        &["quote", "echo", "--data", "1"],
        &["intents"],
    ] {
        let done = ask(arguments, "MTOR_API_KEY", "bad");
        assert_eq!(done.code, Some(CONFIGURATION), "{done:#?}");
        assert!(
            done.stderr.contains("MT0008: the realm does not know the key in MTOR_API_KEY"),
            "{done:#?}"
        );
        assert!(!done.stderr.contains("Bearer"), "{done:#?}");
    }
    let done = ask(&["sysop", "health"], "MTOR_SYSOP_SECRET", "bad");
    assert_eq!(done.code, Some(CONFIGURATION), "{done:#?}");
    assert!(done.stderr.contains("the secret in MTOR_SYSOP_SECRET is not"), "{done:#?}");
    ask(&["account", "new"], "X", "").good();
    let file = place.path().join(".config/mtor/accounts.json");
    let kept = std::fs::read_to_string(&file).unwrap().replace("mtor_", "mtor_x");
    place.write(".config/mtor/accounts.json", &kept, 0o600);
    let done = ask(&["account"], "X", "");
    assert_eq!(done.code, Some(CONFIGURATION), "{done:#?}");
    assert!(
        done.stderr.contains("accounts.json") && done.stderr.contains("account new"),
        "{done:#?}"
    );
}

#[test]
fn a_token_that_is_not_there_is_told_with_where_to_get_one() {
    let place = Place::new();
    let words = ["--token-file: none: there is no such file", "mtor account worker-token"];
    check(&place, &["worker", "--token-file", "none"], CONFIGURATION, &words);
    let pull = ["models", "pull", "nope", "--dir", "m"];
    let done = check(&place, &pull, USAGE, &["no model `nope`", "tiny"]);
    assert!(!done.stderr.contains("what has arrived"), "{done:#?}");
}

#[test]
fn models_that_are_missing_are_named_with_the_command_that_fetches_them() {
    let place = Place::new();
    let done = place.run(&["models"]).good();
    assert!(
        done.stdout.contains("missing") && done.stdout.contains("mtor models pull"),
        "{done:#?}"
    );
    let done = place.run(&["models", "status", "--json"]).good();
    assert!(done.lines().iter().all(|line| line["ready"] == false), "{done:#?}");
}

#[test]
fn the_simulator_gives_the_same_trace_for_the_same_seed() {
    let place = Place::new();
    let play = |seed: &str| {
        let done = place.run(&["sim", "--seed", seed, "--topology", "whole", "--json"]).good();
        done.lines().last().unwrap()["trace_hash"].as_str().unwrap().to_owned()
    };
    assert_eq!(play("7"), play("7"));
    assert_ne!(play("7"), play("8"));
}

#[test]
fn what_is_empty_is_called_empty_by_name() {
    let place = Place::new();
    place.write("empty", "\n", 0o600);
    place.write("two", "a\nb\n", 0o600);
    place.write("nothing.json", "", 0o644);
    let words = ["--token-file: empty is empty", "mtor account worker-token"];
    check(&place, &["worker", "--token-file", "empty"], CONFIGURATION, &words);
    check(&place, &["worker", "--token-file", "two"], CONFIGURATION, &["has 2 lines"]);
    check(&place, &["worker", "--token", ""], USAGE, &["--token", "empty"]);
    let words = ["--secret-file: empty is empty", "mtor up"];
    check(&place, &["sysop", "--secret-file", "empty", "health"], CONFIGURATION, &words);
    let backend = ["worker", "--backend", "openai=http://127.0.0.1:9,key-file=empty"];
    check(&place, &backend, CONFIGURATION, &["key-file: empty is empty"]);
    let file = ["submit", "echo", "--data", "@nothing.json"];
    check(&place, &file, USAGE, &["nothing.json is empty", "--data"]);
    check(&place, &["submit", "echo", "--data", "@"], USAGE, &["behind @"]);
    check(&place, &["submit", "echo", "--data", ""], USAGE, &["--data", "empty"]);
    check(&place, &["submit", "chat", "--prompt", ""], USAGE, &["--prompt", "empty"]);
    check(&place, &["chat", "--system", " "], USAGE, &["--system", "empty"]);
    check(&place, &["receipt", "verify", "nothing.json"], USAGE, &["FILE", "empty"]);
    check(&place, &["submit", "echo", "--data", "@."], USAGE, &["a folder"]);
    let mut command = place.command(&["account"]);
    let done = Done::of(command.env("MTOR_API_KEY", " ").output().unwrap());
    assert_eq!(done.code, Some(CONFIGURATION), "{done:#?}");
    assert!(done.stderr.contains("MTOR_API_KEY"), "{done:#?}");
}

#[test]
fn every_command_is_completed_in_every_shell() {
    let place = Place::new();
    let help = place.run(&["--help"]).good().stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .collect();
    assert!(commands.len() > 15 && commands.contains(&"quote"), "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&["completions", shell]).good().stdout;
        for command in &commands {
            assert!(script.contains(command), "{command} for {shell}");
        }
    }
    let script = place.run(&["completions", "bash"]).good().stdout;
    let file = place.write("mtor.bash", &script, 0o644);
    // It is what bash takes, and it completes.
    let probe = format!(
        "set -e; source {}; COMP_WORDS=(mtor quo); COMP_CWORD=1; _mtor mtor quo mtor; echo ${{COMPREPLY[@]}}",
        file.display()
    );
    let bash = std::process::Command::new("bash").args(["--norc", "-c", &probe]).output().unwrap();
    assert!(bash.status.success(), "{bash:?}");
    assert_eq!(String::from_utf8_lossy(&bash.stdout).trim(), "quote");
    let unknown = place.run(&["completions", "dash"]);
    assert!(unknown.code == Some(USAGE) && unknown.stderr.contains("bash"), "{unknown:#?}");
}

#[test]
fn the_version_is_told() {
    let place = Place::new();
    let done = place.run(&["version"]).good();
    assert!(done.stdout.starts_with("mtor 0."), "{done:#?}");
    assert_eq!(place.run(&["--json", "version"]).good().lines()[0]["program"], "mtor");
}

/// The word of earlier releases is refused with the one that took its place.
#[test]
fn what_was_called_certified_is_called_proven() {
    let place = Place::new();
    let done = place.run(&["submit", "echo", "--data", "1", "--trust", "certified"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("say `proven`"), "{done:?}");
    let done = place.run(&["submit", "echo", "--data", "1", "--trust", "mine"]);
    assert!(done.stderr.contains("own, proven, any"), "{done:?}");
    assert!(!done.stderr.contains("certified"), "{done:?}");
}
