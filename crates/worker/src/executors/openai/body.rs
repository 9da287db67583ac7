//! What the backend is asked: the client's body, each value as it was written, with as few
//! changes as the work needs:
//!
//! - `stream` is what the realm asks of this worker, where the body says otherwise;
//! - `stream_options.include_usage` is true when streaming, since usage is how work is metered;
//! - `max_tokens` (or `max_completion_tokens`, if the client used that) is at most what the
//!   realm pays of output, and so is llama.cpp's word for it;
//! - `model` is the assigned one if the client named none, and the backend's own where the name is
//!   one that the operator gave it, or what is left of a path;
//! - for llama.cpp's server, what stands in [`llama`];
//! - half a letter, where some would refuse the request for it, is a replacement character
//!   ([`halves`]).
//!
//! What holds an address to be fetched is refused ([`media`]).

use bytes::Bytes;
use mtor_types::worker::FailCode;

use super::fields::Fields;
use super::paths::Paths;
use super::{ModelNames, halves, llama, media};

pub(super) struct Wishes<'a> {
    pub(super) chat: bool,
    pub(super) stream: bool,
    /// The most tokens of answer.
    pub(super) output: Option<u64>,
    pub(super) model: Option<&'a str>,
    /// What clients call the backend's models.
    pub(super) names: &'a ModelNames,
    /// And what of these are its paths.
    pub(super) paths: &'a Paths,
    /// It is llama.cpp's server; whether its model's template knows tools.
    pub(super) llama: Option<bool>,
}

/// A body that cannot be asked; the message names the field.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) code: FailCode,
    pub(super) message: String,
}

impl From<String> for Refused {
    fn from(message: String) -> Self {
        Self { code: FailCode::BadRequest, message }
    }
}

pub(super) struct Made {
    pub(super) bytes: Bytes,
    /// The client itself asked for usage in its stream.
    pub(super) usage_wanted: bool,
    /// Answers to the one question: `n`.
    pub(super) choices: u64,
    /// The name that the client's answer bears in place of a path.
    pub(super) shown: Option<String>,
}

/// Makes the backend's body.
pub(super) fn make(data: &str, wishes: &Wishes<'_>) -> Result<Made, Refused> {
    let expected = |_| "data: expected an object".to_owned();
    let data = halves::mended(data);
    let mut fields: Fields<'_> = serde_json::from_str(&data).map_err(expected)?;
    media::check(&fields)?;
    let shown = set_model(&mut fields, wishes)?;
    let mut usage_wanted = false;
    if wishes.chat {
        let asked = fields.get("stream").is_some_and(|raw| raw == "true");
        if asked != wishes.stream {
            fields.set("stream", if wishes.stream { "true" } else { "false" });
        }
        if wishes.stream {
            usage_wanted = include_usage(&mut fields)?;
        }
        if let Some(limit) = wishes.output {
            set_limit(&mut fields, limit.max(1))?;
        }
        if let Some(has_tools) = wishes.llama {
            llama::adapt(&mut fields, has_tools)?;
        }
    }
    // In any spelling, as a limit.
    let choices = fields.get("n").and_then(|raw| raw.parse::<f64>().ok());
    let choices = choices.map_or(1, |n| n as u64);
    let text = fields.text().map_err(expected)?;
    Ok(Made { bytes: text.into(), usage_wanted, choices, shown })
}

/// Sets the backend's own name; gives the client's if that one is a path.
fn set_model(fields: &mut Fields<'_>, wishes: &Wishes<'_>) -> Result<Option<String>, String> {
    let named = fields.get("model").filter(|raw| *raw != "null");
    let named: Option<String> = named
        .map(serde_json::from_str)
        .transpose()
        .map_err(|_| "field `model`: expected a string")?;
    let Some(name) = named.as_deref().or(wishes.model) else { return Ok(None) };
    let model = wishes.names.model(name).unwrap_or(name);
    let path = wishes.paths.id(model);
    let asked = path.as_deref().unwrap_or(model);
    // As it was written, where it is nobody else's name.
    if named.as_deref() != Some(asked) {
        let raw = serde_json::to_string(asked).map_err(|_| "field `model`: not text")?;
        fields.set("model", &raw);
    }
    Ok(path.is_some().then(|| name.to_owned()))
}

/// Asks for usage; gives whether the client had asked by itself.
fn include_usage(fields: &mut Fields<'_>) -> Result<bool, String> {
    let wrong = |_| "field `stream_options`: expected an object".to_owned();
    let raw = fields.get("stream_options").filter(|raw| *raw != "null").unwrap_or("{}").to_owned();
    let mut options: Fields<'_> = serde_json::from_str(&raw).map_err(wrong)?;
    if options.get("include_usage") == Some("true") {
        return Ok(true);
    }
    options.set("include_usage", "true");
    let text = options.text().map_err(wrong)?;
    fields.set("stream_options", &text);
    Ok(false)
}

/// Lowers the client's token limit to what is paid. A number in any spelling is compared, and
/// stays as it was written where it is low enough.
fn set_limit(fields: &mut Fields<'_>, limit: u64) -> Result<(), String> {
    let mut named = false;
    for name in ["max_completion_tokens", "max_tokens", "n_predict"] {
        let Some(raw) = fields.get(name).filter(|raw| *raw != "null") else { continue };
        let asked: f64 = raw.parse().map_err(|_| format!("field `{name}`: expected a number"))?;
        // What others do not read limits nothing there.
        named |= name != "n_predict";
        // Below zero some have no limit. Both are below 2^53 in practice; beyond it the comparison
        // errs by less than one part in it.
        if !(0.0..=limit as f64).contains(&asked) {
            fields.set(name, &limit.to_string());
        }
    }
    if !named {
        fields.set("max_tokens", &limit.to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data: &str, stream: bool, limit: Option<u64>, expected: &str) -> bool {
        let wishes = Wishes {
            chat: true,
            stream,
            output: limit,
            model: None,
            names: &ModelNames::default(),
            paths: &Paths::default(),
            llama: None,
        };
        let made = make(data, &wishes).unwrap();
        assert_eq!(std::str::from_utf8(&made.bytes).unwrap(), expected);
        made.usage_wanted
    }

    #[test]
    fn what_needs_no_change_is_not_changed() {
        let body = r#"{"model":"m","n":1.0e3,"x":{"b": 1,"a":2},"stop":["\u00e9"],"user":null}"#;
        check(body, false, None, body);
        check("{ \"a\" : [1,  2] }", false, None, "{\"a\":[1,  2]}");
    }

    #[test]
    fn an_emoji_that_was_cut_is_no_reason_to_refuse() {
        let body =
            |text: &str| format!(r#"{{"messages":[{{"content":"so \ud83d\ude00 {text}"}}]}}"#);
        check(&body("\\ud83d"), false, None, &body("\\ufffd"));
    }

    #[test]
    fn usage_is_asked_for_when_streaming() {
        let wanted = check(
            r#"{"stream":true,"stream_options":{"include_usage":true,"z":1e0}}"#,
            true,
            None,
            r#"{"stream":true,"stream_options":{"include_usage":true,"z":1e0}}"#,
        );
        assert!(wanted);
        let wanted = check(
            r#"{"stream":true,"stream_options":{"z":1e0}}"#,
            true,
            None,
            r#"{"stream":true,"stream_options":{"z":1e0,"include_usage":true}}"#,
        );
        assert!(!wanted);
        check(
            r#"{"stream_options":null}"#,
            true,
            None,
            r#"{"stream_options":{"include_usage":true},"stream":true}"#,
        );
        check(r#"{"stream":true}"#, false, None, r#"{"stream":false}"#);
    }

    #[test]
    fn the_limit_lowers_and_never_raises() {
        check(r#"{"max_tokens":1.0e3}"#, false, Some(1000), r#"{"max_tokens":1.0e3}"#);
        check(r#"{"max_tokens":1.0e3}"#, false, Some(999), r#"{"max_tokens":999}"#);
        let both = r#"{"max_completion_tokens":9,"max_tokens":7}"#;
        check(both, false, Some(8), r#"{"max_completion_tokens":8,"max_tokens":7}"#);
        check("{}", false, Some(0), r#"{"max_tokens":1}"#);
        check(r#"{"max_tokens":-1}"#, false, Some(8), r#"{"max_tokens":8}"#);
        let own = r#"{"n_predict":8,"max_tokens":8}"#;
        check(r#"{"n_predict":-1}"#, false, Some(8), own);
        check(r#"{"max_tokens":5}"#, false, None, r#"{"max_tokens":5}"#);
    }

    #[test]
    fn answers_are_counted_in_any_spelling() {
        let (names, paths) = (&ModelNames::default(), &Paths::default());
        let (output, model, llama) = (None, None, None);
        let wishes = Wishes { chat: true, stream: false, output, model, names, paths, llama };
        for (data, choices) in [("{}", 1), (r#"{"n":null}"#, 1), (r#"{"n":2.0}"#, 2)] {
            assert_eq!(make(data, &wishes).unwrap().choices, choices, "{data}");
        }
    }

    #[test]
    fn a_model_that_is_not_named_is_the_assigned_one() {
        let body = |data, model| {
            let names = ModelNames::new(
                vec![("good".into(), "qwen:7b".into()), ("tiny".into(), "smol".into())],
                [],
            );
            let paths = Paths::default();
            paths.set([("smol".into(), "/m/smol.gguf".into())].into());
            let (names, paths) = (&names, &paths);
            let wishes = Wishes {
                chat: false,
                stream: false,
                output: Some(1),
                model,
                names,
                paths,
                llama: None,
            };
            String::from_utf8(make(data, &wishes).unwrap().bytes.into()).unwrap()
        };
        assert_eq!(body("{}", Some("m")), r#"{"model":"m"}"#);
        assert_eq!(body(r#"{"model":null}"#, Some("m")), r#"{"model":"m"}"#);
        assert_eq!(body("{}", None), "{}");
        assert_eq!(body(r#"{"model":"other"}"#, Some("m")), r#"{"model":"other"}"#);
        // A name of the operator's is the backend's model behind it.
        assert_eq!(body(r#"{"model":"good"}"#, Some("good")), r#"{"model":"qwen:7b"}"#);
        assert_eq!(body("{}", Some("good")), r#"{"model":"qwen:7b"}"#);
        // What is left of a path is the path, also behind a name of the operator's.
        assert_eq!(body("{}", Some("smol")), r#"{"model":"/m/smol.gguf"}"#);
        assert_eq!(body(r#"{"model":"tiny"}"#, Some("tiny")), r#"{"model":"/m/smol.gguf"}"#);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (names, paths) = (&ModelNames::default(), &Paths::default());
        let (output, model, llama) = (Some(1), None, None);
        let wishes = Wishes { chat: true, stream: true, output, model, names, paths, llama };
        for (data, field) in [
            ("[]", "an object"),
            (r#"{"model":1}"#, "`model`"),
            (r#"{"stream_options":[]}"#, "`stream_options`"),
            (r#"{"max_tokens":"1a"}"#, "`max_tokens`"),
        ] {
            let error = make(data, &wishes).err().unwrap();
            assert!(error.message.contains(field), "{data}: {error:?}");
        }
    }
}
