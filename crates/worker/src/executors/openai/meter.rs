//! What an answer used, by the backend's own count where it has one.
//!
//! A backend that lies upwards gains nothing by it: the realm pays no more than what was asked for
//! and what it has seen. Of an answer in which nothing is said nothing is claimed: a model may end at
//! once, and a realm takes a claim for nothing as a failure. One that says nothing, or zero, is counted here. One count is expected for
//! all answers of a request (`n`); llama.cpp's server gives that of one answer, and in a stream one
//! for each.

use std::collections::BTreeMap;

use mtor_types::intent::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::Fields;
use super::{bounded, error_text};
use crate::leases::End;

#[derive(Deserialize)]
pub(super) struct UsageIn {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl UsageIn {
    fn usage(&self) -> Usage {
        of(self.prompt_tokens, self.completion_tokens)
    }
}

fn of(input: u64, output: u64) -> Usage {
    Usage { units: input.saturating_add(output), input, output }
}

/// What is looked at in an answer or a chunk; the rest passes unread.
#[derive(Deserialize)]
pub(super) struct Glance<'a> {
    #[serde(default)]
    usage: Option<UsageIn>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(borrow, default)]
    message: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

/// Where a model speaks, in a chunk's `delta` and in an answer's `message`.
const SPOKEN: [&str; 7] = [
    "content",
    "reasoning_content",
    "reasoning",
    "refusal",
    "tool_calls",
    "function_call",
    "audio",
];

/// Whether something stands there that can be seen.
fn shows(raw: &RawValue) -> bool {
    match raw.get() {
        "null" | "[]" | "{}" => false,
        text if text.starts_with('"') => {
            // Half of a surrogate pair is no text of its own, but something.
            serde_json::from_str::<String>(text).map_or(true, |text| !text.trim().is_empty())
        }
        _ => true,
    }
}

impl Choice<'_> {
    /// Something of the answer, not only its role or its end.
    fn has_content(&self) -> bool {
        let filled = |raw: &&RawValue| !matches!(raw.get(), "null" | "\"\"" | "[]");
        let mut fields = self.delta.iter().flatten();
        fields.any(|(name, raw)| name != "role" && filled(raw))
    }

    /// Something that can be seen.
    fn speaks(&self) -> bool {
        let mut fields = self.delta.iter().flatten().chain(self.message.iter().flatten());
        fields.any(|(name, raw)| SPOKEN.contains(&name.as_str()) && shows(raw))
    }

    fn message(&self, field: &str) -> Option<&'_ RawValue> {
        self.message.as_ref().and_then(|message| message.get(field).copied())
    }

    /// Bytes of a whole answer's content, without its quotation marks.
    fn content_bytes(&self) -> usize {
        let content = self.message("content");
        let content = content.filter(|raw| raw.get() != "null");
        content.map_or(0, |raw| raw.get().len().saturating_sub(2))
    }

    /// What the model wrote of a whole answer, as far as it can be seen; and whether it ended it.
    fn said(&self) -> (String, bool) {
        #[derive(Deserialize)]
        struct Call {
            function: Function,
        }
        #[derive(Deserialize)]
        struct Function {
            name: String,
            arguments: String,
        }
        let text = |raw: Option<&RawValue>| -> String {
            raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
        };
        let mut said = String::new();
        if self.message.is_some() {
            said = text(self.message("reasoning_content")) + &text(self.message("content"));
            let calls = self.message("tool_calls");
            let calls = calls.and_then(|raw| serde_json::from_str(raw.get()).ok());
            let calls: Vec<Call> = calls.unwrap_or_default();
            said.extend(calls.into_iter().flat_map(|c| [c.function.name, c.function.arguments]));
        }
        (said, self.finish_reason.is_some_and(|reason| reason.get() != "\"length\""))
    }
}

impl<'a> Glance<'a> {
    /// The error that an answer holds in place of one.
    fn failure(&self) -> Option<End> {
        let error = self.error.filter(|error| error.get() != "null")?;
        let message = error_text(error.get());
        Some(End::backend(format!("the backend failed: {}", bounded(&message))))
    }

    fn choices(&self) -> &[Choice<'a>] {
        self.choices.as_deref().unwrap_or_default()
    }
}

/// What a whole answer in one body used, as its backend counts it.
pub(super) fn whole(text: &str) -> Result<Usage, End> {
    let Ok(glance) = serde_json::from_str::<Glance<'_>>(text) else {
        return Ok(of(0, 1));
    };
    if let Some(end) = glance.failure() {
        return Err(end);
    }
    let counted = glance.usage.as_ref().map(UsageIn::usage);
    Ok(match (counted, &glance.choices) {
        (_, Some(choices)) if !choices.iter().any(Choice::speaks) => Usage::default(),
        (Some(usage), Some(choices)) if usage.output == 0 && has_text(choices) => {
            of(usage.input, uncounted(choices))
        }
        (Some(usage), _) => usage,
        (None, choices) => of(0, uncounted(choices.as_deref().unwrap_or_default())),
    })
}

/// What was said in each of several answers, and whether the model ended it by itself.
pub(super) fn answers(text: &str) -> Vec<(String, bool)> {
    let glance = serde_json::from_str::<Glance<'_>>(text);
    glance.map(|glance| glance.choices().iter().map(Choice::said).collect()).unwrap_or_default()
}

fn has_text(choices: &[Choice<'_>]) -> bool {
    choices.iter().any(|choice| choice.content_bytes() > 0)
}

/// A backend that does not count has served about a token for each four bytes of its answer, which
/// is what tokenizers make of English; one at least. The prompt is not claimed.
fn uncounted(choices: &[Choice<'_>]) -> u64 {
    const TOKEN_BYTES: u64 = 4;
    let bytes: usize = choices.iter().map(Choice::content_bytes).sum();
    u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(TOKEN_BYTES).max(1)
}

/// The same answer or chunk with that usage in it: a client reads what it pays.
pub(super) fn told(text: &str, usage: Usage) -> Option<String> {
    let mut answer: Fields<'_> = serde_json::from_str(text).ok()?;
    let mut inner: Fields<'_> = serde_json::from_str(answer.get("usage")?).ok()?;
    inner.set("prompt_tokens", &usage.input.to_string());
    inner.set("completion_tokens", &usage.output.to_string());
    inner.set("total_tokens", &usage.units.to_string());
    let inner = inner.text().ok()?;
    answer.set("usage", &inner);
    answer.text().ok()
}

/// The same answer or chunk with that name of its model, if it has one.
pub(super) fn shown_as(text: &str, name: &str) -> Option<String> {
    let mut answer: Fields<'_> = serde_json::from_str(text).ok()?;
    answer.get("model")?;
    answer.set("model", &serde_json::to_string(name).ok()?);
    answer.text().ok()
}

/// A streamed answer, so far.
pub(super) struct Progress {
    /// Chunks with content: units, until the backend's own count is known.
    chunks: u64,
    /// The backend's last count.
    usage: Option<Usage>,
    /// Counts that stood alone, and what they say together.
    alone: u64,
    output: u64,
    /// Something was said.
    spoke: bool,
    /// A choice has named its end.
    finished: bool,
    usage_wanted: bool,
    /// Answers that were asked for.
    choices: u64,
    /// The last chunk of usage, where there may be several.
    held: Option<Box<RawValue>>,
    /// What its model is called, where the backend calls it otherwise.
    shown: Option<String>,
}

impl Progress {
    pub(super) fn new(usage_wanted: bool, choices: u64, shown: Option<String>) -> Self {
        Self {
            chunks: 0,
            usage: None,
            alone: 0,
            output: 0,
            spoke: false,
            finished: false,
            usage_wanted,
            choices,
            held: None,
            shown,
        }
    }

    /// What of an event is forwarded.
    pub(super) fn piece(&mut self, event: String) -> Result<Option<Box<RawValue>>, End> {
        let shown = self.shown.as_deref().and_then(|name| shown_as(&event, name));
        self.take(shown.unwrap_or(event))
    }

    fn take(&mut self, event: String) -> Result<Option<Box<RawValue>>, End> {
        let not_json = |_| End::backend("the backend sent a chunk that is not JSON");
        let raw = RawValue::from_string(event).map_err(not_json)?;
        let Ok(glance) = serde_json::from_str::<Glance<'_>>(raw.get()) else {
            return Ok(Some(raw));
        };
        if let Some(end) = glance.failure() {
            return Err(end);
        }
        let choices = glance.choices();
        if choices.iter().any(Choice::has_content) {
            self.chunks += 1;
        }
        self.spoke = self.spoke || choices.iter().any(Choice::speaks);
        self.finished |= choices.iter().any(|choice| choice.finish_reason.is_some());
        let Some(usage) = glance.usage.as_ref().map(UsageIn::usage) else {
            return Ok(Some(raw));
        };
        self.usage = Some(usage);
        if !choices.is_empty() {
            return Ok(Some(raw));
        }
        self.alone += 1;
        self.output = self.output.saturating_add(usage.output);
        if self.choices > 1 {
            self.held = Some(raw);
            return Ok(None);
        }
        Ok(self.usage_wanted.then_some(raw))
    }

    /// Units so far.
    pub(super) fn count(&self) -> u64 {
        self.usage.map_or(self.chunks, |usage| usage.units.max(self.chunks))
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// The chunk of usage that a client waits for, of all answers together.
    pub(super) fn last_piece(&mut self) -> Option<Box<RawValue>> {
        let held = self.held.take().filter(|_| self.usage_wanted)?;
        let text = told(held.get(), self.usage());
        Some(text.and_then(|text| RawValue::from_string(text).ok()).unwrap_or(held))
    }

    fn usage(&self) -> Usage {
        match self.usage {
            // One count for each answer.
            Some(usage) if self.choices > 1 && self.alone == self.choices => {
                of(usage.input, self.output)
            }
            Some(usage) if usage.output > 0 || self.chunks == 0 => usage,
            Some(Usage { input, .. }) => of(input, self.chunks),
            None => of(0, self.chunks),
        }
    }

    pub(super) fn end(&self) -> End {
        let usage = if self.spoke { self.usage() } else { Usage::default() };
        End::Complete { usage, result: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_nobody_counted_is_claimed_by_its_length() {
        let claimed = |text: &str| whole(text).unwrap_or_else(|_| panic!("{text}"));
        let answer = r#"{"choices":[{"message":{"role":"assistant","content":"twelve bytes"}}]}"#;
        assert_eq!(claimed(answer), of(0, 3));
        assert_eq!(claimed("[]").units, 1);
    }

    #[test]
    fn nothing_is_claimed_for_nothing() {
        let usage = r#""usage":{"prompt_tokens":9,"completion_tokens":3}"#;
        let claimed = |choices: &str, usage: &str| {
            let text = format!(r#"{{"choices":{choices}{usage}}}"#);
            whole(&text).unwrap_or_else(|_| panic!("{text}")).units
        };
        let streamed = |delta: &str| {
            let mut progress = Progress::new(false, 1, None);
            let event =
                format!(r#"{{"choices":[{{"delta":{delta},"finish_reason":"stop"}}],{usage}}}"#);
            assert!(progress.piece(event).is_ok());
            let End::Complete { usage, .. } = progress.end() else { panic!("{delta}") };
            usage.units
        };
        for message in [
            "{}",
            r#"{"role":"assistant","content":null}"#,
            r#"{"content":"","tool_calls":[]}"#,
            r#"{"content":" \n\t\u00a0"}"#,
            r#"{"something":"else"}"#,
        ] {
            let choices = format!(r#"[{{"message":{message}}}]"#);
            assert_eq!(claimed(&choices, &format!(",{usage}")), 0, "{message}");
            assert_eq!(claimed(&choices, ""), 0, "{message}");
            assert_eq!(streamed(message), 0, "{message}");
        }
        assert_eq!(claimed("[]", ""), 0);
        for message in [
            r#"{"content":"x"}"#,
            r#"{"content":"\ud83d"}"#,
            r#"{"content":null,"refusal":"no"}"#,
            r#"{"tool_calls":[{"function":{"name":"f"}}]}"#,
        ] {
            let choices = format!(r#"[{{"message":{message}}}]"#);
            assert_eq!(claimed(&choices, &format!(",{usage}")), 12, "{message}");
            assert_eq!(streamed(message), 12, "{message}");
        }
    }

    #[test]
    fn what_was_said_in_each_answer_is_found() {
        let text = r#"{"choices":[
            {"finish_reason":"stop","message":{"content":"a\u00e9","reasoning_content":"b"}},
            {"finish_reason":"length","message":{"content":null}},
            {"finish_reason":"tool_calls","message":{"tool_calls":[
                {"id":"x","function":{"name":"f","arguments":"{}"}}]}}]}"#;
        let said = [("baé".into(), true), (String::new(), false), ("f{}".into(), true)];
        assert_eq!(answers(text), said);
    }

    #[test]
    fn the_count_that_a_client_reads_is_the_one_that_it_pays() {
        let text =
            r#"{"id":"x", "usage":{"completion_tokens":1,"details":{"a":1.0},"total_tokens":3}}"#;
        let expected = r#"{"id":"x","usage":{"completion_tokens":4,"details":{"a":1.0},"total_tokens":6,"prompt_tokens":2}}"#;
        assert_eq!(told(text, of(2, 4)).unwrap(), expected);
        assert_eq!(told("{}", of(2, 4)), None);
        assert_eq!(shown_as(r#"{"a": 1,"model":"/m"}"#, "m").unwrap(), r#"{"a":1,"model":"m"}"#);
        assert_eq!(shown_as("[1]", "m"), None);
    }

    #[test]
    fn content_is_more_than_a_role() {
        let count = |event: &str| {
            let mut progress = Progress::new(false, 1, None);
            let Ok(forwarded) = progress.piece(event.into()) else { panic!("{event}") };
            (progress.count(), progress.finished, forwarded.is_some())
        };
        assert_eq!(
            count(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#),
            (0, false, true)
        );
        assert_eq!(
            count(r#"{"choices":[{"delta":{"content":"a"}}],"usage":null}"#),
            (1, false, true)
        );
        assert_eq!(count(r#"{"choices":[{"delta":{"tool_calls":[{}]}}]}"#), (1, false, true));
        assert_eq!(count(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#), (0, true, true));
        let last = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
        assert_eq!(count(last), (7, false, false));
        assert_eq!(count(r#"[1]"#), (0, false, true));
    }
}
