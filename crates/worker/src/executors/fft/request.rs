//! Reading a request. Every error names the field and what it takes.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::limits::{FFT_POINTS_MAX, PIECE_BYTES_MAX};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    F64,
    C64,
    C128,
}

impl Dtype {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "f32" => Some(Self::F32),
            "f64" => Some(Self::F64),
            "c64" => Some(Self::C64),
            "c128" => Some(Self::C128),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::C64 => "c64",
            Self::C128 => "c128",
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 | Self::C64 => 8,
            Self::C128 => 16,
        }
    }

    pub(crate) fn is_real(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    fn is_single(self) -> bool {
        matches!(self, Self::F32 | Self::C64)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Inverse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Complex,
    Power,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) dtype: Dtype,
    /// Rows; 1 for a shape of one axis.
    pub(crate) batch: usize,
    /// Points of a row.
    pub(crate) n: usize,
    /// Whether the shape named the batch, and so does the result's.
    pub(crate) batched: bool,
    pub(crate) direction: Direction,
    pub(crate) output: Output,
    /// Little-endian samples, exactly as many as the shape says.
    pub(crate) data: Vec<u8>,
}

/// The fields as they came; each is read by itself, so that its error can name it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    dtype: &'a RawValue,
    #[serde(borrow)]
    shape: &'a RawValue,
    #[serde(borrow, default)]
    direction: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

impl Request {
    /// Points of the whole request: what is metered.
    pub(crate) fn points(&self) -> u64 {
        (self.batch * self.n) as u64
    }

    /// Bins of one row of the result.
    pub(crate) fn bins(&self) -> usize {
        if self.dtype.is_real() { self.n / 2 + 1 } else { self.n }
    }

    pub(crate) fn result_dtype(&self) -> Dtype {
        match (self.output, self.dtype.is_single()) {
            (Output::Complex, true) => Dtype::C64,
            (Output::Complex, false) => Dtype::C128,
            (Output::Power, true) => Dtype::F32,
            (Output::Power, false) => Dtype::F64,
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('{') {
            return Err("data: expected an object with `dtype`, `shape` and `data`".into());
        }
        // For what is missing, unknown or doubled serde names the field, and quotes nothing else.
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let dtype = Dtype::parse(&string("dtype", fields.dtype)?)
            .ok_or("field `dtype`: expected c64, c128, f32 or f64")?;
        let (batch, n, batched) = shape(fields.shape)?;
        let direction = match fields.direction.map(|raw| string("direction", raw)).transpose()? {
            None => Direction::Forward,
            Some(text) if text == "forward" => Direction::Forward,
            Some(text) if text == "inverse" => Direction::Inverse,
            Some(_) => return Err("field `direction`: expected forward or inverse".into()),
        };
        let output = match fields.output.map(|raw| string("output", raw)).transpose()? {
            None => Output::Complex,
            Some(text) if text == "complex" => Output::Complex,
            Some(text) if text == "power" => Output::Power,
            Some(_) => return Err("field `output`: expected complex or power".into()),
        };
        if direction == Direction::Inverse && dtype.is_real() {
            return Err("field `direction`: inverse needs c64 or c128".into());
        }
        let data = fields.data.ok_or("field `data` is missing")?;
        let data = decode(&string("data", data)?, batch * n * dtype.bytes())?;
        let request = Self { dtype, batch, n, batched, direction, output, data };
        request.check_result()?;
        Ok(request)
    }

    /// A result that fits no frame is refused before it is computed.
    fn check_result(&self) -> Result<(), String> {
        let bytes = self.batch * self.bins() * self.result_dtype().bytes();
        if bytes.div_ceil(3) * 4 + 128 > PIECE_BYTES_MAX {
            return Err("field `shape`: the result would be above 16 MiB; send fewer rows".into());
        }
        Ok(())
    }
}

fn string<'a>(name: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, String> {
    // Strings without escapes, all base64 among them, are not copied.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let text: Result<Text<'a>, _> = serde_json::from_str(raw.get());
    text.map(|text| text.0).map_err(|_| format!("field `{name}`: expected a string"))
}

fn shape(raw: &RawValue) -> Result<(usize, usize, bool), String> {
    let expected = "field `shape`: expected [n] or [batch, n], whole numbers above 0";
    let axes: Vec<u64> = serde_json::from_str(raw.get()).map_err(|_| expected)?;
    let (batch, n, batched) = match axes[..] {
        [n] => (1, n, false),
        [batch, n] => (batch, n, true),
        _ => return Err(expected.into()),
    };
    if batch == 0 || n == 0 {
        return Err(expected.into());
    }
    let too_many = || format!("field `shape`: at most {FFT_POINTS_MAX} points");
    batch.checked_mul(n).filter(|points| *points <= FFT_POINTS_MAX).ok_or_else(too_many)?;
    let axis = |axis: u64| usize::try_from(axis).map_err(|_| too_many());
    Ok((axis(batch)?, axis(n)?, batched))
}

fn decode(text: &str, expected: usize) -> Result<Vec<u8>, String> {
    let bytes = STANDARD.decode(text).map_err(|_| "field `data`: not base64")?;
    if bytes.len() != expected {
        return Err(format!(
            "field `data`: {} bytes, but `shape` and `dtype` make {expected}",
            bytes.len()
        ));
    }
    Ok(bytes)
}
