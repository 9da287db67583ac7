//! Where llama.cpp's server takes less than its clients may ask: said in its own words where it has
//! any, refused by name where it would ignore the field in silence.

use mtor_types::worker::FailCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::body::Refused;
use super::fields::Fields;

/// What it does not read, though the answer should be another for it.
const UNREAD: [&str; 4] = ["functions", "function_call", "audio", "web_search_options"];

/// Its own words beside OpenAI's: by them a client would have more than what is paid, or see more of
/// this machine than a model.
const OWN: [(&str, &str); 6] = [
    ("n_predict", "`max_tokens` is served"),
    ("n_cmpl", "`n` is served"),
    ("n_probs", "`top_logprobs` is served"),
    ("id_slot", "leave it out"),
    ("lora", "leave it out"),
    ("verbose", "leave it out"),
];

/// As OpenAI's: a model's whole vocabulary for each token is megabytes.
const TOP_LOGPROBS_MAX: f64 = 20.0;

/// Who is asked to call what.
enum Choice {
    /// As it is written: `auto`, `required`, or nothing.
    Open,
    Nobody,
    One(String),
}

/// Changes the body to what the server reads; `has_tools` is whether the model's template does.
pub(super) fn adapt(fields: &mut Fields<'_>, has_tools: bool) -> Result<(), Refused> {
    if let Some(name) = UNREAD.iter().find(|name| is_given(fields, name)) {
        let message = format!("field `{name}`: the server of this model does not read it");
        return Err(Refused { code: FailCode::Unsupported, message });
    }
    if let Some((name, instead)) = OWN.iter().find(|(name, _)| is_given(fields, name)) {
        let message = format!("field `{name}`: not taken from clients; {instead}");
        return Err(Refused { code: FailCode::Unsupported, message });
    }
    let top = fields.get("top_logprobs").and_then(|raw| raw.parse::<f64>().ok());
    if top.is_some_and(|top| top > TOP_LOGPROBS_MAX) {
        let message = format!("field `top_logprobs`: expected at most {TOP_LOGPROBS_MAX}");
        return Err(Refused { code: FailCode::BadRequest, message });
    }
    if !is_given(fields, "tools") {
        return Ok(());
    }
    let choice = choice(fields.get("tool_choice"))?;
    if matches!(choice, Choice::Nobody) {
        // In the prompt they would tempt a small model to call one in plain text.
        fields.remove("tools");
        fields.remove("tool_choice");
        return Ok(());
    }
    if !has_tools {
        let message = "field `tools`: this model's template has no place for them; leave them \
                       out, or choose another model (GET /v1/models)";
        return Err(Refused { code: FailCode::Unsupported, message: message.into() });
    }
    if let Choice::One(name) = choice {
        let tool = tool(fields.get("tools").unwrap_or_default(), &name)?;
        fields.set("tools", &format!("[{tool}]"));
        fields.set("tool_choice", "\"required\"");
    }
    Ok(())
}

fn is_given(fields: &Fields<'_>, name: &str) -> bool {
    fields.get(name).is_some_and(|raw| !matches!(raw, "null" | "false" | "[]"))
}

fn choice(raw: Option<&str>) -> Result<Choice, Refused> {
    #[derive(Deserialize)]
    struct One {
        function: Named,
    }
    match raw {
        None | Some("null") => Ok(Choice::Open),
        Some("\"none\"") => Ok(Choice::Nobody),
        Some(text) if text.starts_with('"') => Ok(Choice::Open),
        Some(text) => match serde_json::from_str::<One>(text) {
            Ok(One { function: Named { name } }) => Ok(Choice::One(name)),
            Err(_) => {
                let message = "field `tool_choice`: the server of this model takes `none`, `auto`, \
                               `required` or one function";
                Err(Refused { code: FailCode::Unsupported, message: message.into() })
            }
        },
    }
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// The tool of that name, as it was written.
fn tool<'a>(tools: &'a str, name: &str) -> Result<&'a str, Refused> {
    #[derive(Deserialize)]
    struct Tool {
        function: Named,
    }
    let wrong = |message: &str| Refused { code: FailCode::BadRequest, message: message.into() };
    let list: Vec<&RawValue> =
        serde_json::from_str(tools).map_err(|_| wrong("field `tools`: expected a list"))?;
    let is_named = |raw: &&RawValue| {
        serde_json::from_str(raw.get()).is_ok_and(|tool: Tool| tool.function.name == name)
    };
    let found = list.into_iter().find(is_named).map(RawValue::get);
    found.ok_or_else(|| wrong("field `tool_choice`: names a function that is not in `tools`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(body: &str, has_tools: bool) -> Result<String, (FailCode, String)> {
        let mut fields: Fields<'_> = serde_json::from_str(body).unwrap();
        adapt(&mut fields, has_tools).map_err(|refused| (refused.code, refused.message))?;
        Ok(fields.text().unwrap())
    }

    const TOOLS: &str = r#""tools":[{"function":{"name":"f", "x":1.0}},{"type":"function","function":{"name":"g"}}]"#;

    #[test]
    fn one_function_is_asked_for_in_the_servers_words() {
        let body = |choice: &str| format!(r#"{{{TOOLS},"tool_choice":{choice}}}"#);
        for open in ["\"auto\"", "\"required\"", "null"] {
            assert_eq!(adapted(&body(open), true).unwrap(), body(open));
        }
        let one = body(r#"{"type":"function","function":{"name":"f"}}"#);
        let expected = r#"{"tools":[{"function":{"name":"f", "x":1.0}}],"tool_choice":"required"}"#;
        assert_eq!(adapted(&one, true).unwrap(), expected);
        assert_eq!(adapted(&body("\"none\""), false).unwrap(), "{}");
        let (code, message) = adapted(&one.replace("\"f\"}}", "\"h\"}}"), true).unwrap_err();
        assert_eq!((code, message.contains("`tool_choice`")), (FailCode::BadRequest, true));
        let (code, message) = adapted(&body(r#"{"type":"allowed_tools"}"#), true).unwrap_err();
        assert_eq!((code, message.contains("`tool_choice`")), (FailCode::Unsupported, true));
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        let cases = [
            (format!("{{{TOOLS}}}"), "`tools`"),
            (r#"{"functions":[{}]}"#.into(), "`functions`"),
            (r#"{"function_call":"auto"}"#.into(), "`function_call`"),
            (r#"{"web_search_options":{}}"#.into(), "`web_search_options`"),
            (r#"{"max_tokens":1,"n_predict":-1}"#.into(), "`max_tokens` is served"),
            (r#"{"n":1,"n_cmpl":2}"#.into(), "`n` is served"),
        ];
        for (body, field) in cases {
            let (code, message) = adapted(&body, false).unwrap_err();
            assert_eq!(code, FailCode::Unsupported);
            assert!(message.contains(field), "{message}");
        }
        let (code, message) = adapted(r#"{"top_logprobs":5e4}"#, true).unwrap_err();
        assert_eq!((code, message.contains("at most 20")), (FailCode::BadRequest, true));
        for same in [
            r#"{"top_logprobs":20}"#,
            r#"{"tools":[],"functions":null,"audio":null}"#,
            r#"{"messages":[]}"#,
        ] {
            assert_eq!(adapted(same, false).unwrap(), same);
        }
    }
}
