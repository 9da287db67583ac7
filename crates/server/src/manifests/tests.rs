use mtor_types::{Amount, Code};
use proptest::prelude::*;

use super::*;
use crate::admission::{Ask, InForce};

/// What a guest gets.
const GRANT: u64 = 1_000_000;

pub(super) fn dir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("mtor-manifests-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn message(error: &ManifestError) -> String {
    use std::error::Error as _;
    format!("{error} {}", error.source().map(ToString::to_string).unwrap_or_default())
}

#[test]
fn the_built_in_ones_are_there() {
    let all = Manifests::built_in().expect("the built-in manifests are valid");
    let names: Vec<_> = all.iter().map(|entry| entry.manifest.name.as_str()).collect();
    assert_eq!(names, ["chat", "echo", "embed", "fft", "speak", "transcribe"]);
    assert!(all.get("nothing").is_none());
    let echo = Wanted { delay: true, ..Wanted::default() };
    assert_eq!(all.get("echo").unwrap().wanted, echo);
    assert!(all.get("chat").unwrap().wanted.max_completion_tokens);
}

#[test]
fn the_built_in_ones_say_what_their_results_are() {
    let all = Manifests::built_in().unwrap();
    for entry in all.iter() {
        let name = &entry.manifest.name;
        let result = entry.manifest.result.as_ref().expect(name);
        assert_eq!(result.media, "application/json", "{name}");
        // Anything may be echoed; the others give an object with these members.
        let required = result.schema.as_ref().map(|schema| schema["required"].to_string());
        let wanted = match name.as_str() {
            "chat" => Some("[\"choices\"]"),
            "embed" => Some("[\"data\"]"),
            "fft" => Some("[\"dtype\",\"shape\",\"data\"]"),
            "speak" => Some("[\"response_format\",\"duration_ms\",\"segments\"]"),
            "transcribe" => Some("[\"text\",\"segments\"]"),
            _ => None,
        };
        assert_eq!(required.as_deref(), wanted, "{name}");
    }
}

#[test]
fn a_grant_pays_what_is_promised() {
    let all = Manifests::built_in().unwrap();
    let holds = |name: &str, data: &str| {
        let entry = all.get(name).unwrap();
        let ask = Ask::read(entry, data.to_owned().into()).expect(data);
        let force = InForce::of(entry.manifest.price, None);
        let hold = ask.terms(force, None).unwrap().hold;
        u128::from(GRANT) / hold.units()
    };
    assert_eq!(holds("echo", "\"hello\""), 1_000_000);
    let words = "word ".repeat(190);
    let chat = format!(r#"{{"messages":[{{"role":"user","content":"{words}"}}]}}"#);
    assert!(holds("chat", &chat) > 1_000, "several hundred chats");
    assert!(holds("embed", r#"{"input":"a sentence of some words"}"#) > 100_000);
    assert!(holds("fft", r#"{"dtype":"c64","shape":[1048576],"data":""}"#) > 400);
    let echo = all.get("echo").unwrap().manifest.price;
    assert_eq!((echo.amount, echo.per), (Amount::from_u64(1), 1));
}

#[test]
fn the_built_in_schemas_name_what_is_wrong() {
    let all = Manifests::built_in().unwrap();
    for (name, data, code, field) in [
        ("chat", "{}", Code::InvalidField, "/messages"),
        ("chat", r#"{"messages":[]}"#, Code::InvalidField, "/messages"),
        ("chat", r#"{"messages":[{}],"max_tokens":0}"#, Code::InvalidField, "/max_tokens"),
        ("chat", r#"{"messages":[{}],"stream":1}"#, Code::InvalidField, "/stream"),
        ("embed", r#"{"input":7}"#, Code::InvalidField, "/input"),
        ("fft", r#"{"dtype":"c32","shape":[4]}"#, Code::InvalidField, "/dtype"),
        ("fft", r#"{"dtype":"c64","shape":[4,4,4]}"#, Code::InvalidField, "/shape"),
        ("fft", r#"{"dtype":"c64","shape":[4],"x":1}"#, Code::UnknownField, "/x"),
        (
            "fft",
            r#"{"dtype":"c64","shape":[1099511627776,2],"data":""}"#,
            Code::InvalidField,
            "/shape",
        ),
        ("fft", r#"{"dtype":"c64","shape":[4]}"#, Code::InvalidField, "/data"),
        ("echo", r#"{"chunks":0}"#, Code::InvalidField, "/chunks"),
    ] {
        let error = Ask::read(all.get(name).unwrap(), data.into()).expect_err(data);
        assert_eq!((error.code, error.field.as_deref()), (code, Some(field)), "{data}");
    }
    for (name, data) in [
        ("echo", "[1,2]"),
        ("echo", r#"{"model":7,"stream":"river","shape":{}}"#),
        ("chat", r#"{"messages":[{}],"tools":[],"user":"u","n":3,"stream":null}"#),
        ("embed", r#"{"input":["a"],"encoding_format":"float"}"#),
    ] {
        assert!(Ask::read(all.get(name).unwrap(), data.into()).is_ok(), "{data}");
    }
}

/// A manifest of that name and price.
pub(super) fn good(name: &str, amount: &str) -> String {
    OWN.replace("shout", name).replace("\"5\"", &format!("\"{amount}\""))
}

const OWN: &str = r#"
name = "shout"
version = 1
summary = "Says it louder."
pure = true
bytes_max = 1000
check = "none"
meter = { unit = "intent", bound = "one" }
price = { amount = "5", per = 1 }
deadline = { default_ms = 1000, max_ms = 2000 }
parameters = { type = "object" }
"#;

#[test]
fn files_are_added_and_may_replace() {
    let dir = dir("add");
    std::fs::write(dir.join("shout.toml"), OWN).unwrap();
    std::fs::write(dir.join("echo.toml"), OWN.replace("shout", "echo")).unwrap();
    std::fs::write(dir.join("notes.txt"), "not a manifest").unwrap();
    let all = Manifests::load(&dir).unwrap();
    assert_eq!(all.get("shout").unwrap().manifest.price.amount, Amount::from_u64(5));
    assert_eq!(all.get("echo").unwrap().manifest.price.amount, Amount::from_u64(5));
    assert_eq!(all.iter().count(), 7);
    std::fs::write(dir.join("z.toml"), OWN).unwrap();
    let error = message(&Manifests::load(&dir).expect_err("the name is taken"));
    assert!(error.contains("z.toml") && error.contains("shout.toml"), "{error}");
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(Manifests::load(&dir).unwrap().iter().count(), 6);
}

#[test]
fn what_is_wrong_is_named_by_file_and_field() {
    let dir = dir("wrong");
    for (from, to, field) in [
        ("\"shout\"", "\"Shout\"", "`name`"),
        ("\"shout\"", "\"settled\"", "`name`"),
        ("\"shout\"", "\"a23456789012345678901234567890123\"", "`name`"),
        ("version = 1", "version = 0", "`version`"),
        ("per = 1", "per = 0", "`price.per`"),
        ("amount = \"5\"", "amount = \"-5\"", "amount"),
        ("max_ms = 2000", "max_ms = 999", "`deadline.max_ms`"),
        ("bytes_max = 1000", "bytes_max = 0", "`bytes_max`"),
        ("bound = \"one\"", "bound = \"bytes_and_output\"", "`meter.output_default`"),
        ("bound = \"one\"", "bound = \"points\"", "`shape`"),
        ("bound = \"one\"", "bound = \"sound\"", "`audio`"),
        ("bound = \"one\"", "bound = \"speech\"", "`input`"),
        ("{ type = \"object\" }", "{ type = \"thing\" }", "`parameters/type`"),
        ("{ type = \"object\" }", "{ oneOf = [] }", "`parameters/oneOf`"),
        ("pure = true", "pure = true\ncolour = 1", "colour"),
        ("pure = true", "pure = true\nresult = { media = \"Text\" }", "`result.media`"),
        (
            "pure = true",
            "pure = true\nresult = { chunk = { type = \"thing\" } }",
            "`result.chunk/type`",
        ),
    ] {
        std::fs::write(dir.join("own.toml"), OWN.replacen(from, to, 1)).unwrap();
        let error = message(&Manifests::load(&dir).expect_err(to));
        assert!(error.contains("own.toml") && error.contains(field), "{to}: {error}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_text_without_its_quotes_is_told_as_that() {
    let why = |from: &str, to: &str| {
        compile(Path::new("own.toml"), &OWN.replacen(from, to, 1)).expect_err(to).sentence()
    };
    let asked =
        "field `amount`: `ten` is no TOML value: a text stands in quotes, such as amount = \"ten\"";
    let line = OWN.lines().position(|line| line.contains("amount")).unwrap() + 1;
    assert_eq!(why("\"5\"", "ten"), format!("line {line}: {asked}"));
    let bare = why("amount = \"5\"", "amount = 5");
    assert!(bare.starts_with(&format!("line {line}: field `amount`: ")), "{bare}");
    assert!(bare.contains("string") && !bare.contains('\n'), "{bare}");
    let version = why("version = 1", "version = one");
    assert!(version.contains("field `version`: `one` is no TOML value"), "{version}");
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused_or_read(text in "\\PC{0,200}") {
        let _ = compile(Path::new("x.toml"), &text);
    }

    /// Changing one line of a good manifest never panics.
    #[test]
    fn a_changed_manifest_is_refused_or_read(line in 0_usize..12, with in "[a-z_]{1,12} = ([0-9-]{1,20}|\"\\PC{0,8}\"|\\[\\]|\\{\\})") {
        let mut lines: Vec<_> = OWN.lines().collect();
        if let Some(place) = lines.get_mut(line) {
            *place = &with;
        }
        let _ = compile(Path::new("x.toml"), &lines.join("\n"));
    }
}

#[test]
fn a_manifest_is_known_by_the_hash_of_its_canonical_form() {
    let text = |price: &str| {
        format!(
            "name = \"shout\"\nversion = 1\nsummary = \"Shouts.\"\npure = true\nbytes_max = 10\n\
             check = \"none\"\nmeter = {{ unit = \"byte\", bound = \"bytes\" }}\n\
             price = {{ amount = \"{price}\", per = 1 }}\n\
             deadline = {{ default_ms = 1, max_ms = 2 }}\nparameters = {{}}\n"
        )
    };
    let digest = |text: &str| compile(Path::new("a.toml"), text).unwrap().digest;
    let canonical = r#"{"bytes_max":10,"check":"none","deadline":{"default_ms":1,"max_ms":2},"meter":{"bound":"bytes","output_default":0,"output_max":0,"unit":"byte"},"name":"shout","parameters":{},"price":{"amount":"7","per":1},"pure":true,"size":"bytes","summary":"Shouts.","version":1}"#;
    let expected = Digest(Sha256::digest(canonical).into());
    assert_eq!(digest(&text("7")), expected);
    // Neither spelling nor order nor what is said of what holds anyway makes another of it.
    assert_eq!(digest(&format!("size = \"bytes\"\n# a word\n{}", text("7"))), expected);
    assert_ne!(digest(&text("8")), expected);
}

#[test]
fn a_size_that_the_edge_cannot_read_is_refused() {
    let chat = include_str!("chat.toml");
    for size in ["delay", "points", "sound", "speech"] {
        let text = chat.replace("size = \"output\"", &format!("size = \"{size}\""));
        let error = compile(Path::new("chat.toml"), &text).unwrap_err().to_string();
        assert!(error.contains("field `size`") && error.contains(size), "{error}");
    }
    let text = chat.replace("size = \"output\"", "size = \"weight\"");
    let error = compile(Path::new("chat.toml"), &text).unwrap_err().to_string();
    assert!(error.contains("size") && error.contains("bytes"), "{error}");
}
