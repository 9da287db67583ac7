//! The program as a process: offers, bad lines, its end.

use std::process::Command;
use std::time::Duration;

use crate::program::Program;
use serde_json::{Value, json};

#[test]
fn the_first_line_offers_the_models() {
    let program = Program::start();
    assert_eq!(
        program.offers,
        json!([
            {"intent": "embed", "model": "all-minilm-l6-v2", "slots": 2, "context": 512},
            {"intent": "transcribe", "model": "moonshine-tiny-en", "slots": 1},
        ])
    );
}

#[test]
fn what_speaks_and_what_hears_are_offered_together() {
    let program = Program::serving(&["transcribe", "speak"]);
    assert_eq!(
        program.offers,
        json!([
            {"intent": "transcribe", "model": "moonshine-tiny-en", "slots": 1},
            {"intent": "speak", "model": "kokoro-82m", "slots": 1},
        ])
    );
}

#[test]
fn a_voice_that_nobody_understands_is_not_offered() {
    // Another voice's file is empty sound: zeros are no style of anybody.
    let dir = std::env::temp_dir().join(format!("mtor-voiceless-{}", std::process::id()));
    let models = crate::program::models_dir();
    std::fs::create_dir_all(&dir).unwrap();
    for entry in std::fs::read_dir(&models).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "kokoro-82m" {
            std::os::unix::fs::symlink(entry.path(), dir.join(entry.file_name())).unwrap();
        }
    }
    let own = dir.join("kokoro-82m");
    std::fs::create_dir_all(own.join("voices")).unwrap();
    for name in ["libespeak-ng.so", "espeak-ng-data"] {
        std::os::unix::fs::symlink(models.join("kokoro-82m").join(name), own.join(name)).unwrap();
    }
    for voice in mtor_models::speak::voices::VOICES {
        std::fs::write(own.join("voices").join(format!("{voice}.bin")), vec![0; 522_240]).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_mtor-models"));
    command.arg("--models").arg(&dir).args(["--serve", "speak", "--serve", "transcribe"]);
    // On a busy machine flite would speak in its place.
    command.args(["--speaker", "kokoro-82m"]);
    let told = command.stdin(std::process::Stdio::null()).output().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!((told.status.code(), told.stdout.as_slice()), (Some(1), &b""[..]));
    let said = String::from_utf8(told.stderr).unwrap();
    assert!(said.contains("did not understand") || said.contains("a character"), "{said}");
}

#[test]
fn only_what_is_there_is_offered_and_nothing_is_an_error() {
    let dir = std::env::temp_dir().join(format!("mtor-models-test-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mtor-models"));
        command.arg("--models").arg(&dir).stdin(std::process::Stdio::null()).output().unwrap()
    };
    let none = run();
    assert_eq!((none.status.code(), none.stdout.as_slice()), (Some(1), &b""[..]));
    let said = String::from_utf8(none.stderr).unwrap();
    assert!(said.contains("no model") && said.contains("make models"), "{said}");

    use mtor_models::files::{EMBED_TOKENIZER, EMBED_WEIGHTS, ONNX_RUNTIME};
    for name in [EMBED_WEIGHTS, EMBED_TOKENIZER, ONNX_RUNTIME] {
        std::fs::copy(crate::program::models_dir().join(name), dir.join(name)).unwrap();
    }
    let some = run();
    assert_eq!((some.status.code(), some.stderr.as_slice()), (Some(0), &b""[..]));
    let offer: Value = serde_json::from_slice(&some.stdout).unwrap();
    assert_eq!(offer["data"]["offers"].as_array().unwrap().len(), 1);
    assert_eq!(offer["data"]["offers"][0]["intent"], "embed");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_was_not_offered_is_refused() {
    let mut program = Program::start();
    let chat = program.ask("c", "chat", &json!({"messages": []}), &Value::Null);
    assert_eq!(chat.code(), "unsupported");
    let other = json!({"model": "another"});
    assert_eq!(program.ask("e", "embed", &json!({"input": "x"}), &other).code(), "unsupported");
}

#[test]
fn malformed_lines_are_told_on_stderr_without_content_and_survived() {
    let mut program = Program::start();
    for bad in [
        "canary not json",
        "[1]",
        r#"{"specversion":"1.0","type":"mtor.worker.assign.v1","data":{"intent":"canary"}}"#,
        r#"{"specversion":"0.3","type":"mtor.worker.assign.v1","canary":1}"#,
    ] {
        program.raw(bad);
        let told = program.error_line();
        assert!(told.contains("skipped") && !told.contains("canary"), "{told}");
    }
    program.raw("");
    program.send("credit", &json!({"intent": "x", "credit": 5}));
    let body = json!({"input": "still here"});
    assert!(!program.ask("e", "embed", &body, &Value::Null).failed);
}

#[test]
fn the_end_of_stdin_ends_the_program_at_once_and_well() {
    let (idle, _) = Program::start().close();
    assert_eq!(idle.code(), Some(0));

    let mut busy = Program::start();
    for intent in ["a", "b", "c"] {
        let body = json!({"input": vec!["word ".repeat(500); 200]});
        busy.assign(intent, "embed", &body, &Value::Null);
    }
    // Read after those, so they are begun.
    busy.raw("nonsense");
    busy.error_line();
    let (status, took) = busy.close();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
}
