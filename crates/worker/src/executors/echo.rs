//! `echo`: gives back its data. With `chunks` in the data the data comes as so many pieces, with
//! `delayms` a pause goes before each of them (without `chunks`: before the result).

use std::time::Duration;

use mtor_types::intent::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Output;
use crate::leases::End;
use crate::limits::{ECHO_CHUNKS_MAX, ECHO_DELAY_MS_MAX};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    chunks: u64,
    delay_ms: u64,
}

#[derive(Deserialize)]
struct Wishes<'a> {
    #[serde(borrow, default)]
    chunks: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delayms: Option<&'a RawValue>,
}

/// Reads what the data asks for. Data of any other shape is simply echoed.
pub(crate) fn plan(data: &RawValue) -> Result<Plan, End> {
    let text = data.get();
    // Most data asks for nothing; looking for the names costs less than parsing.
    if !text.starts_with('{') || !(text.contains("\"chunks\"") || text.contains("\"delayms\"")) {
        return Ok(Plan::default());
    }
    let wishes: Wishes<'_> = serde_json::from_str(text)
        .map_err(|_| End::bad_request("fields `chunks` and `delayms`: give each once"))?;
    Ok(Plan {
        chunks: number("chunks", wishes.chunks, 1, ECHO_CHUNKS_MAX)?,
        delay_ms: number("delayms", wishes.delayms, 0, ECHO_DELAY_MS_MAX)?,
    })
}

fn number(name: &str, raw: Option<&RawValue>, min: u64, max: u64) -> Result<u64, End> {
    let Some(raw) = raw else { return Ok(0) };
    let number = raw.get().parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| End::bad_request(format!("field `{name}`: expected {min} to {max}")))
}

impl Plan {
    pub(crate) fn is_instant(self) -> bool {
        self == Self::default()
    }

    pub(crate) fn end(self, data: Box<RawValue>) -> End {
        End::Complete { usage: Usage { units: 1, input: 0, output: 0 }, result: Some(data) }
    }

    pub(crate) async fn run(self, data: Box<RawValue>, output: Output) -> End {
        for _ in 0..self.chunks {
            self.pause().await;
            if let Err(unwanted) = output.piece(data.clone(), 1).await {
                return unwanted.into();
            }
        }
        if self.chunks == 0 {
            self.pause().await;
        }
        self.end(data)
    }

    async fn pause(self) {
        if self.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.delay_ms)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data: &str, expected: Result<(u64, u64), &str>) {
        let raw = RawValue::from_string(data.into()).unwrap();
        match (plan(&raw), expected) {
            (Ok(plan), Ok(expected)) => {
                assert_eq!((plan.chunks, plan.delay_ms), expected, "{data}");
            }
            (Err(End::Fail { message, retry: false, .. }), Err(field)) => {
                assert!(message.contains(field), "{data}: {message}");
            }
            (other, _) => panic!("{data}: {other:?}"),
        }
    }

    #[test]
    fn only_an_object_asks_for_anything() {
        for data in ["1", "\"chunks\"", "[{\"chunks\":3}]", "null", "{}", "{\"a\":{\"b\":1}}"] {
            check(data, Ok((0, 0)));
        }
        check("{\"note\":\"\\\"chunks\\\"\"}", Ok((0, 0)));
        check("{\"x\":{\"chunks\":0}}", Ok((0, 0)));
        check("{\"chunks\":3,\"delayms\":7,\"x\":1}", Ok((3, 7)));
        check("{\"chunks\":10000}", Ok((10_000, 0)));
        check("{\"delayms\":60000}", Ok((0, 60_000)));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for chunks in ["0", "10001", "-1", "1.5", "\"3\"", "1e2"] {
            check(&format!("{{\"chunks\":{chunks}}}"), Err("`chunks`: expected 1 to 10000"));
        }
        check("{\"delayms\":60001}", Err("`delayms`: expected 0 to 60000"));
        check("{\"chunks\":1,\"chunks\":2}", Err("give each once"));
    }
}
