//! Intent manifests: what a kind of intent is, how it is metered and what it costs.

use serde::{Deserialize, Serialize};

use crate::amount::Price;

/// One intent type, read from TOML. Schemas are JSON Schema documents.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub name: String,
    pub version: u32,
    /// One sentence for people.
    pub summary: String,
    /// JSON Schema of a request's data.
    pub parameters: serde_json::Value,
    pub meter: Meter,
    /// The list price, per units of the meter.
    pub price: Price,
    pub deadline: Deadline,
    /// The same data gives the same result on every worker.
    pub pure: bool,
    /// The largest payload in bytes.
    pub bytes_max: u64,
    pub check: Check,
    /// What tells how much work a request is, for estimates of its time.
    #[serde(default)]
    pub size: Size,
    /// What comes back; a JSON value of any form if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultForm>,
}

/// What a result is: for who shows it, and for the meter, which counts content and nothing around it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultForm {
    /// `application/json`: any JSON value. `text/…`: a JSON string, and so is each piece, which
    /// together are the text. Anything else: a JSON string in base64.
    #[serde(default = "json")]
    pub media: String,
    /// JSON Schema of the result. Results are not checked against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<serde_json::Value>,
    /// JSON Schema of one piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<serde_json::Value>,
    /// Where content stands in a result: JSON pointers, `*` for every item of a list. If it is not
    /// said, all values are content, and every result but `null` has some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<String>,
    /// The same of a piece.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunk_content: Vec<String>,
    /// An answer of which nothing is content is one all the same, such as what was heard of silence.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_empty: bool,
    /// The most units that one byte of content is paid for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units_per_byte: Option<u64>,
    /// The most bytes of content that a unit of the bound may have; a longer answer is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_unit: Option<u64>,
    /// How many there are of what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Items>,
}

/// A list in a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Items {
    /// A JSON pointer.
    pub at: String,
    pub of: ItemsOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemsOf {
    /// At most one for each answer that was asked for by `n`.
    Answers,
    /// One for each item of `input`, each with content.
    Inputs,
}

fn json() -> String {
    "application/json".to_owned()
}

/// What is counted, and the upper bound that the edge computes by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    /// What a unit is called: `token`, `intent`, `point`.
    pub unit: String,
    pub bound: Bound,
    /// Output units when the request names no limit of its own.
    #[serde(default)]
    pub output_default: u64,
    /// The largest output limit a request may name.
    #[serde(default)]
    pub output_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// One an intent, whatever it holds.
    One,
    /// The bytes of the data.
    Bytes,
    /// The bytes of the data, and the output limit: the stream is cut when they are used up.
    BytesAndOutput,
    /// The product of `shape`.
    Points,
    /// The milliseconds of the sound in `audio`, counted from its packets.
    Sound,
    /// The milliseconds that the text in `input` may take to say, at most.
    Speech,
}

impl Bound {
    /// Whether a ceiling below the bound may be cut in mid-stream; else it is refused at admission.
    pub fn may_be_cut(self) -> bool {
        matches!(self, Self::BytesAndOutput)
    }
}

/// The size of the work. Two requests of one size take about as long on one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// The bytes of the data.
    #[default]
    Bytes,
    /// `chunks` times `delayms`, in milliseconds.
    Delay,
    /// The most units of output, of all answers together.
    Output,
    /// The product of `shape`.
    Points,
    /// The milliseconds of the sound in `audio`.
    Sound,
    /// The milliseconds that the text in `input` may take to say.
    Speech,
}

/// Milliseconds from admission to the latest end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadline {
    pub default_ms: u64,
    pub max_ms: u64,
}

/// How a result from a stranger's worker is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Nothing to check but that it came.
    None,
    /// By duplicates and reputation.
    Duplicate,
    /// By re-execution with tolerance.
    Reexecution,
    /// By a secret random projection.
    Projection,
}
