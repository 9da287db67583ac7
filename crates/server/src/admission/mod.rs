//! From a client's bytes to what the core admits: the edge's half of admission.
//!
//! ```text
//! document::parse / headers ─▶ Options
//! Ask::read(manifest, data) ─▶ checked data, model, stream, bound of units
//! Ask::terms(price, options) ─▶ hold, price band     (also what a quote tells)
//! Ask::meta(…)              ─▶ IntentMeta for Command::Submit
//! ```
//!
//! How a ceiling becomes a price band (see [`Band`]). The least band is that of the list price or,
//! where all ask more, the one that reaches the cheapest offer; its price is its dearest.
//! - Without one the hold is the least band's price of the whole bound, rounded up.
//! - With one the hold is the ceiling. The band is the dearest whose price the ceiling pays for
//!   the whole bound.
//! - A ceiling below the least band's price of the bound is refused (`CeilingTooLow`, which names
//!   price and need) unless the stream may be cut: then it must buy the input and one unit of
//!   output, the band is the least, and the stream is cut when what it buys is used up.
//!
//! So whoever serves within the band can be paid whole, and nobody is cut who was not told.
//!
//! Absent on purpose: balances, queues, models on offer (the core knows them), and any copy of the
//! client's data.

pub mod document;
pub mod json;
mod options;
pub mod scan;
mod sound;
mod speech;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use mtor_types::amount::Price;
use mtor_types::intent::{Band, Branch, Idempotency, IntentMeta, Trust};
use mtor_types::manifest::{Bound, Size};
use mtor_types::worker::AssignMeter;
use mtor_types::{AccountId, Amount, Digest, IntentId, NodeId, Rejection, model};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub use document::{Document, parse, parse_batch};
pub use options::{ClientKey, Options};
use scan::Scan;

use crate::api_error::ApiError;
use crate::manifests::{Entry, Form};
use crate::streams::Bounds;

/// Points of one transform: far above any payload, so that sums of bounds cannot overflow.
const POINTS_MAX: u64 = 1 << 40;

/// Checked work: what is asked, and how much of it there can be at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The manifest's name.
    pub name: String,
    unit: String,
    bound: Bound,
    /// By its worker's own name, once it was chosen; until then as the client wrote it.
    pub model: Option<String>,
    /// Whose workers alone may serve, where the client named the model so.
    pub owner: Option<AccountId>,
    /// Who may serve, if the client said so.
    pub trust: Option<Trust>,
    /// The name that the client wrote, and where it stands: the worker reads its own name there.
    pub written: Written,
    /// The client wants pieces.
    pub stream: bool,
    /// What the data says of that, where its manifest declares `stream`.
    says_stream: Option<bool>,
    /// The upper bound of billable units; at least 1.
    pub units_max: u64,
    /// The part of it that stands with the request.
    pub input_units: u64,
    /// The most output units of all answers; 0 if the manifest counts none.
    pub output_max: u64,
    /// Answers to the one request, or inputs of it; at least 1.
    pub answers: u64,
    /// The size of the work, in what the manifest names for it.
    size: u64,
    /// Whether a ceiling below the bound cuts the stream instead of being refused.
    pub may_be_cut: bool,
    /// What an answer is.
    pub form: Arc<Form>,
    /// The dearest that may serve, once it was quoted.
    pub price_max: Option<Price>,
    /// The client's bytes, untouched.
    pub data: Bytes,
}

/// A model's name in a client's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Absent where it is `auto`.
    name: Option<String>,
    at: Option<Range<usize>>,
}

impl Written {
    /// These bytes as a worker gets them that calls the model so: untouched, if that is what they
    /// say, or if they say nothing.
    pub fn with(&self, data: &Bytes, model: &str) -> Bytes {
        let said = self.name.as_deref() == Some(model);
        let Some(at) = self.at.as_ref().filter(|_| !said) else { return data.clone() };
        let parts = data.get(..at.start).zip(data.get(at.end..));
        let Some(((before, after), name)) = parts.zip(serde_json::to_vec(model).ok()) else {
            return data.clone();
        };
        [before, &name, after].concat().into()
    }
}

/// How the answer leaves, which decides what holds when the client does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// 202 and batch: durable.
    Stored,
    /// A stream on the request itself, or over a WebSocket: ephemeral.
    Streamed,
    /// OpenAI's routes: ephemeral, and a stream never begins again.
    OpenAi,
    /// Those of them whose answer is made of pieces, whatever the data says of pieces.
    OpenAiPieces,
}

impl Route {
    pub fn is_openai(self) -> bool {
        match self {
            Self::OpenAi | Self::OpenAiPieces => true,
            Self::Stored | Self::Streamed => false,
        }
    }
}

/// What the edge adds of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub id: IntentId,
    pub account: AccountId,
    pub branch: Branch,
    pub edge: NodeId,
    pub edge_epoch: u32,
    pub salt: [u8; 16],
}

/// What work is offered at just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    pub list: Price,
    /// The list price, or the lowest on offer where all ask more.
    pub price: Price,
    /// The least band that reaches it.
    pub band: Band,
}

impl InForce {
    /// `lowest`: of all offers of the work.
    pub fn of(list: Price, lowest: Option<Price>) -> Self {
        let price = lowest.filter(|price| price.amount > list.amount).unwrap_or(list);
        // What is dearer than every band was refused when it was offered.
        let band = Band::of_offer(price.amount, list).unwrap_or(Band::DEAREST);
        Self { list, price, band }
    }

    /// What a unit costs at most in the least band: holds and ceilings are measured by it.
    pub fn top(&self) -> Price {
        self.band.top(self.list)
    }
}

/// What the work may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What is reserved, and the most the payer pays.
    pub hold: Amount,
    /// The dearest offers that may serve.
    pub band: Band,
    /// Units that the hold pays in the least band, at most the bound.
    pub units_paid: u64,
}

/// The answer of `POST /v1/quote`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quote {
    pub intent: String,
    pub model: Option<String>,
    pub unit: String,
    pub price: Price,
    /// Upper bounds, computed from the request alone.
    pub units_max: u64,
    pub input_units: u64,
    /// What would be reserved.
    pub hold: Amount,
    pub band: Band,
    /// The largest unit price that may serve.
    pub price_max: Price,
    /// Whether the ceiling may cut the answer short.
    pub may_be_cut: bool,
}

impl Ask {
    /// Checks `data` against its manifest and bounds it.
    pub fn read(entry: &Entry, data: Bytes) -> Result<Self, ApiError> {
        let text = json::text(&data, entry.manifest.bytes_max)?;
        entry.schema.check(text)?;
        let scan = scan::scan(text, entry.wanted)?;
        let (input_units, output_max) = bound(entry, &scan, text)?;
        let size = size(entry, &scan, (input_units, output_max), text);
        // A number of pieces asks for pieces.
        let says_stream = scan.stream.or(scan.chunks.map(|chunks| chunks > 0));
        Ok(Self {
            name: entry.manifest.name.clone(),
            unit: entry.manifest.meter.unit.clone(),
            bound: entry.manifest.meter.bound,
            model: scan.model.clone(),
            owner: None,
            trust: None,
            written: Written { name: scan.model, at: scan.model_at },
            stream: says_stream.unwrap_or(false),
            says_stream,
            units_max: input_units.saturating_add(output_max).max(1),
            input_units,
            output_max,
            answers: scan.n.or(scan.inputs).unwrap_or(1).max(1),
            size,
            may_be_cut: entry.manifest.meter.bound.may_be_cut(),
            form: Arc::clone(&entry.form),
            price_max: None,
            data,
        })
    }

    /// What its worker is told of the meter.
    pub fn meter(&self) -> AssignMeter {
        AssignMeter { unit: self.unit.clone(), bound: self.bound, input: self.input_units }
    }

    /// Whether the answer comes in pieces, where the data does not say so itself: by the client's
    /// wish, else where the answer to the request is a stream of its events. A route that is made
    /// of pieces goes before both.
    #[must_use]
    pub fn streaming(mut self, options: &Options, route: Route) -> Self {
        let wish = self.says_stream.or(options.stream);
        self.stream = match route {
            Route::OpenAiPieces => true,
            Route::Streamed => wish.unwrap_or(true),
            Route::Stored | Route::OpenAi => wish.unwrap_or(false),
        };
        self.trust = options.trust;
        self
    }

    /// Who may serve. To name a model's owner is to trust that owner with it.
    pub fn trust(&self) -> Trust {
        let unsaid = if self.owner.is_some() { Trust::Any } else { Trust::default() };
        self.trust.unwrap_or(unsaid)
    }

    /// The model as the queue knows it.
    fn kind(&self) -> Option<String> {
        let model = self.model.as_ref()?;
        Some(self.owner.map_or_else(|| model.clone(), |owner| model::owned(model, owner)))
    }

    /// What the meter of its stream may count.
    pub fn bounds(&self) -> Bounds {
        let Self { units_max, input_units, output_max, answers, may_be_cut, .. } = *self;
        let yields = self.form.yields(self.bound);
        Bounds { units_max, input_units, output_max, answers, may_be_cut, yields }
    }

    /// Hold and price band.
    pub fn terms(&self, force: InForce, ceiling: Option<Amount>) -> Result<Terms, ApiError> {
        let (band, price) = (force.band, force.top());
        let whole = price.cost_up(self.units_max);
        let Some(ceiling) = ceiling else {
            return Ok(Terms { hold: whole, band, units_paid: self.units_max });
        };
        if ceiling < whole {
            let least = self.input_units.saturating_add(1).min(self.units_max);
            let needed = if self.may_be_cut { price.cost_up(least) } else { whole };
            if ceiling < needed {
                let error = ApiError::from(Rejection::CeilingTooLow { needed, price });
                return Err(error.with_field("ceiling"));
            }
            let units_paid = price.buys(ceiling).min(self.units_max);
            return Ok(Terms { hold: ceiling, band, units_paid });
        }
        // The ceiling pays `amount` per `per` units: the inverse of a cost, so units and `per`
        // change places.
        let unit_price = Price { amount: ceiling, per: self.units_max };
        let band = Band::of_ceiling(unit_price.cost(price.per), force.list).max(band);
        Ok(Terms { hold: ceiling, band, units_paid: self.units_max })
    }

    pub fn quote(
        &self,
        entry: &Entry,
        force: InForce,
        options: &Options,
    ) -> Result<Quote, ApiError> {
        deadline(entry, options)?;
        let terms = self.terms(force, options.ceiling)?;
        Ok(Quote {
            intent: self.name.clone(),
            model: self.written.name.clone().or_else(|| self.model.clone()),
            unit: entry.manifest.meter.unit.clone(),
            price: force.price,
            units_max: self.units_max,
            input_units: self.input_units,
            hold: terms.hold,
            band: terms.band,
            price_max: terms.band.top(force.list),
            may_be_cut: terms.units_paid < self.units_max,
        })
    }

    /// Everything but the payload, for the core.
    pub fn meta(
        &self,
        stamp: Stamp,
        entry: &Entry,
        force: InForce,
        options: &Options,
        route: Route,
    ) -> Result<IntentMeta, ApiError> {
        let terms = self.terms(force, options.ceiling)?;
        let durable = options.durable.unwrap_or(route == Route::Stored);
        let openai_stream = route.is_openai() && self.stream;
        if openai_stream && options.restart == Some(true) {
            let expected = "false or nothing: an OpenAI stream cannot begin again";
            return Err(ApiError::invalid_header("mtor-restart", expected));
        }
        Ok(IntentMeta {
            id: stamp.id,
            account: stamp.account,
            name: self.name.clone(),
            manifest: entry.digest,
            model: self.kind(),
            trust: self.trust(),
            branch: stamp.branch,
            origin: None,
            worker: None,
            class: options.class.unwrap_or_default(),
            durable,
            restart: !openai_stream && options.restart.unwrap_or(durable),
            edge: stamp.edge,
            edge_epoch: stamp.edge_epoch,
            ceiling: terms.hold,
            band: terms.band,
            units_max: self.units_max,
            bytes: self.data.len() as u64,
            size: self.size,
            remaining_ms: deadline(entry, options)?,
            idempotency: options.key.as_ref().map(|key| Idempotency {
                key: key_digest(stamp.account, key),
                body: self.body_digest(options),
            }),
            salt: stamp.salt,
        })
    }

    /// What a repetition must have in common with the first request: the work, what it may cost
    /// and who may see it. A deadline may differ, since time has passed.
    fn body_digest(&self, options: &Options) -> Digest {
        let ceiling = options.ceiling.map(|ceiling| ceiling.to_string()).unwrap_or_default();
        // What is not said was `any` once: who repeats a request of that time joins it.
        let trust = [options.trust.unwrap_or(Trust::Any) as u8];
        digest(
            b"mtor/idempotency-body/v1\0",
            &[self.name.as_bytes(), ceiling.as_bytes(), &trust, &self.data],
        )
    }
}

/// SHA-256 over account, source and id.
pub fn key_digest(account: AccountId, key: &ClientKey) -> Digest {
    digest(b"mtor/idempotency-key/v1\0", &[&account.0, key.source.as_bytes(), key.id.as_bytes()])
}

/// Input units and the most output units.
fn bound(entry: &Entry, scan: &Scan, text: &str) -> Result<(u64, u64), ApiError> {
    let bytes = text.len() as u64;
    let meter = &entry.manifest.meter;
    match meter.bound {
        Bound::One => Ok((1, 0)),
        Bound::Bytes => Ok((bytes, 0)),
        Bound::BytesAndOutput => {
            let limit = scan.max_completion_tokens.or(scan.max_tokens);
            let each = limit.unwrap_or(meter.output_default).min(meter.output_max);
            Ok((bytes, each.saturating_mul(scan.n.unwrap_or(1))))
        }
        Bound::Points => {
            let expected = "whole numbers, each at least 1, whose product is at most 2^40";
            let shape = scan.shape.as_ref();
            let shape = shape.ok_or_else(|| ApiError::missing_field("/shape", expected))?;
            let points = shape.iter().try_fold(1_u64, |points, n| points.checked_mul(*n));
            let points = points.filter(|points| (1..=POINTS_MAX).contains(points));
            Ok((points.ok_or_else(|| ApiError::invalid_field("/shape", expected))?, 0))
        }
        Bound::Sound => Ok((sound::length_ms(text, scan)?, 0)),
        Bound::Speech => Ok((speech::length_ms_max(text, scan)?, 0)),
    }
}

/// How much work it is, as the manifest measures it.
fn size(entry: &Entry, scan: &Scan, (input, output): (u64, u64), text: &str) -> u64 {
    match entry.manifest.size {
        Size::Bytes => text.len() as u64,
        Size::Delay => scan.chunks.unwrap_or(1).saturating_mul(scan.delay_ms.unwrap_or(0)),
        Size::Output => output,
        Size::Points | Size::Sound | Size::Speech => input,
    }
}

fn deadline(entry: &Entry, options: &Options) -> Result<u64, ApiError> {
    let allowed = entry.manifest.deadline;
    match options.deadline_ms {
        None => Ok(allowed.default_ms),
        Some(asked) if (1..=allowed.max_ms).contains(&asked) => Ok(asked),
        Some(_) => {
            let expected = format!(
                "at most {} ms, the most that `{}` allows",
                allowed.max_ms, entry.manifest.name
            );
            Err(ApiError::invalid_field("deadline_ms", &expected))
        }
    }
}

/// SHA-256 of a domain and of parts that each bear their length, so that no two lists of parts
/// give the same bytes.
fn digest(domain: &[u8], parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new_with_prefix(domain);
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Digest(hash.finalize().into())
}

#[cfg(test)]
mod tests;
