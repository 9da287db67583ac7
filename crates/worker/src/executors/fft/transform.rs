//! The transforms themselves: rustfft for complex rows, realfft for real ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use realfft::{RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftNum, FftPlanner};
use serde_json::value::RawValue;

use super::request::{Direction, Dtype, Output, Request};
use crate::limits::FFT_PLANNED_POINTS_MAX;

/// Plans made so far. A client may ask for any length, so they are thrown away when they have
/// grown to the bound.
#[derive(Default)]
pub(crate) struct Plans {
    single: PlansOf<f32>,
    double: PlansOf<f64>,
}

struct PlansOf<T: FftNum> {
    complex: FftPlanner<T>,
    real: RealFftPlanner<T>,
    points: usize,
}

impl<T: FftNum> Default for PlansOf<T> {
    fn default() -> Self {
        Self { complex: FftPlanner::new(), real: RealFftPlanner::new(), points: 0 }
    }
}

impl<T: FftNum> PlansOf<T> {
    /// Counts each use: a length asked for again costs a new plan now and then, no more.
    fn make_room(&mut self, n: usize) {
        self.points += n;
        if self.points > FFT_PLANNED_POINTS_MAX {
            *self = Self { points: n, ..Self::default() };
        }
    }

    fn complex(&mut self, n: usize, direction: Direction) -> Arc<dyn Fft<T>> {
        self.make_room(n);
        match direction {
            Direction::Forward => self.complex.plan_fft_forward(n),
            Direction::Inverse => self.complex.plan_fft_inverse(n),
        }
    }

    fn real(&mut self, n: usize) -> Arc<dyn RealToComplex<T>> {
        self.make_room(n);
        self.real.plan_fft_forward(n)
    }
}

/// A float as its little-endian bytes.
trait Sample: FftNum {
    const BYTES: usize;
    fn read(bytes: &[u8]) -> Self;
    fn write(self, out: &mut Vec<u8>);
    fn plans(plans: &mut Plans) -> &mut PlansOf<Self>;
    fn reciprocal(n: usize) -> Self;
}

macro_rules! sample {
    ($float:ty, $bytes:literal, $plans:ident) => {
        impl Sample for $float {
            const BYTES: usize = $bytes;

            fn read(bytes: &[u8]) -> Self {
                // The caller cuts chunks of exactly this length.
                bytes.try_into().map_or(0.0, Self::from_le_bytes)
            }

            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn plans(plans: &mut Plans) -> &mut PlansOf<Self> {
                &mut plans.$plans
            }

            fn reciprocal(n: usize) -> Self {
                1.0 / n as Self
            }
        }
    };
}

sample!(f32, 4, single);
sample!(f64, 8, double);

/// Computes the result, or `None` if it was cancelled on the way.
pub(super) fn transform(
    request: Request,
    plans: &Mutex<Plans>,
    cancelled: &AtomicBool,
) -> Option<Box<RawValue>> {
    let bytes = match request.dtype {
        Dtype::C64 => complex_rows::<f32>(&request, plans, cancelled),
        Dtype::C128 => complex_rows::<f64>(&request, plans, cancelled),
        Dtype::F32 => real_rows::<f32>(&request, plans, cancelled),
        Dtype::F64 => real_rows::<f64>(&request, plans, cancelled),
    }?;
    let (batch, bins) = (request.batch, request.bins());
    let dtype = request.result_dtype().name();
    let shape = if request.batched { format!("{batch},{bins}") } else { bins.to_string() };
    drop(request);
    let mut text = format!(r#"{{"dtype":"{dtype}","shape":[{shape}],"data":""#);
    STANDARD.encode_string(bytes, &mut text);
    text.push_str("\"}");
    RawValue::from_string(text).ok()
}

fn complex_rows<T: Sample>(
    request: &Request,
    plans: &Mutex<Plans>,
    cancelled: &AtomicBool,
) -> Option<Vec<u8>> {
    let plan = {
        let mut plans = plans.lock().unwrap_or_else(PoisonError::into_inner);
        T::plans(&mut plans).complex(request.n, request.direction)
    };
    let scale = match request.direction {
        Direction::Forward => None,
        Direction::Inverse => Some(T::reciprocal(request.n)),
    };
    let mut scratch = vec![Complex::new(T::zero(), T::zero()); plan.get_inplace_scratch_len()];
    let mut row = Vec::with_capacity(request.n);
    let mut out = Vec::with_capacity(request.data.len());
    for bytes in request.data.chunks_exact(request.n * 2 * T::BYTES) {
        if cancelled.load(Ordering::Relaxed) {
            return None;
        }
        row.clear();
        row.extend(bytes.chunks_exact(2 * T::BYTES).map(|pair| {
            let (re, im) = pair.split_at(T::BYTES);
            Complex::new(T::read(re), T::read(im))
        }));
        plan.process_with_scratch(&mut row, &mut scratch);
        if let Some(scale) = scale {
            row.iter_mut().for_each(|value| *value = *value * scale);
        }
        write_row(&row, request.output, &mut out);
    }
    Some(out)
}

fn real_rows<T: Sample>(
    request: &Request,
    plans: &Mutex<Plans>,
    cancelled: &AtomicBool,
) -> Option<Vec<u8>> {
    let plan = {
        let mut plans = plans.lock().unwrap_or_else(PoisonError::into_inner);
        T::plans(&mut plans).real(request.n)
    };
    let mut scratch = plan.make_scratch_vec();
    let mut row = plan.make_input_vec();
    let mut spectrum = plan.make_output_vec();
    let mut out = Vec::with_capacity(request.data.len() * 2);
    for bytes in request.data.chunks_exact(request.n * T::BYTES) {
        if cancelled.load(Ordering::Relaxed) {
            return None;
        }
        for (value, bytes) in row.iter_mut().zip(bytes.chunks_exact(T::BYTES)) {
            *value = T::read(bytes);
        }
        // The lengths are the plan's own, the only thing that could be wrong.
        plan.process_with_scratch(&mut row, &mut spectrum, &mut scratch).ok()?;
        write_row(&spectrum, request.output, &mut out);
    }
    Some(out)
}

fn write_row<T: Sample>(row: &[Complex<T>], output: Output, out: &mut Vec<u8>) {
    for value in row {
        match output {
            Output::Complex => {
                value.re.write(out);
                value.im.write(out);
            }
            Output::Power => value.norm_sqr().write(out),
        }
    }
}
