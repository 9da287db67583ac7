//! What a program that is started here finds in its environment: nothing that whoever started
//! `mtor` keeps secret.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::http::Guest;
use crate::common::worker::Owner;
use crate::common::{Done, Place, Realm, eventually};

const SECRETS: [&str; 6] = [
    "MTOR_API_KEY",
    "MTOR_SYSOP_SECRET",
    "OPENAI_API_KEY",
    "NVIDIA_API_KEY",
    "HF_TOKEN",
    "DATABASE_URL",
];

fn with_secrets(command: &mut Command) -> &mut Command {
    for secret in SECRETS {
        command.env(secret, "told-to-nobody");
    }
    command.env("GIVEN", "by name").env("CUDA_VISIBLE_DEVICES", "1").env("LC_ALL", "C")
}

/// Ended with its test, by its own pid.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program wrote down, once all of it is there.
fn written(file: &Path) -> String {
    eventually(|| std::fs::read_to_string(file).is_ok_and(|text| text.ends_with("END=1\n")));
    let text = std::fs::read_to_string(file).unwrap();
    assert!(!text.contains("told-to-nobody"), "{text}");
    text
}

const WRITES: &str = "#!/bin/sh\n(env; echo END=1) > \"$HOME/found\"\nexec sleep 60\n";

#[test]
fn a_workers_program_finds_a_closed_list_and_what_is_named() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    place.write("token", &guest.token(), 0o600);
    place.write("writes", WRITES, 0o755);
    let begin = ["worker", "--realm", &realm.url, "--token-file", "token", "--data", "w"];
    let arguments = |more: &[&'static str]| [&begin[..], more].concat().join("\n");
    let run = |more: &[&'static str]| {
        let arguments = arguments(more);
        let mut command = place.command(&arguments.split('\n').collect::<Vec<_>>());
        with_secrets(&mut command).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    };
    let worker = run(&["--exec-env", "GIVEN", "--exec", "./writes"]);
    let found = written(&place.path().join("found"));
    drop(worker);
    for line in ["GIVEN=by name", "CUDA_VISIBLE_DEVICES=1", "LC_ALL=C"] {
        assert!(found.lines().any(|found| found == line), "{line} in {found}");
    }
    assert!(found.contains("PATH=") && found.contains("HOME="), "{found}");
    // Nothing is found that nobody named.
    std::fs::remove_file(place.path().join("found")).unwrap();
    let worker = run(&["--exec", "./writes"]);
    assert!(!written(&place.path().join("found")).contains("GIVEN"));
    drop(worker);
    // A name that is not there is a slip.
    let arguments = arguments(&["--exec-env", "ABSENT", "--exec", "./writes"]);
    let done = place.run(&arguments.split('\n').collect::<Vec<_>>());
    assert!(done.code == Some(2) && done.stderr.contains("ABSENT"), "{done:#?}");
}

#[test]
fn programs_that_fetch_and_look_find_no_secret_either() {
    let place = Place::new();
    let python = "#!/bin/sh\n(env; echo END=1) > \"$HOME/found\"\nexit 3\n";
    place.write("bin/python3", python, 0o755);
    let path = format!("{}:/usr/bin:/bin", place.path().join("bin").display());
    let found = place.path().join("found");
    for (arguments, own) in
        [(&["models", "pull", "all-minilm-l6-v2"][..], true), (&["doctor"][..], false)]
    {
        let mut command = place.command(arguments);
        command.env("PATH", &path).env("MTOR_MODELS", place.path().join("models"));
        let done = Done::of(with_secrets(&mut command).output().unwrap());
        assert!(found.exists(), "{done:#?}");
        let text = written(&found);
        // How pip finds its packages is pip's business, and nobody else's.
        assert_eq!(text.contains("PIP_NO_INDEX=1"), own, "{text}");
        std::fs::remove_file(&found).unwrap();
    }
}
