//! `fft`: discrete Fourier transforms along the last axis, in process.
//!
//! Forward is unnormalised, `X[k] = Σ x[j]·exp(−2πi·jk/n)`; inverse is divided by n. Real input
//! (`f32`, `f64`) gives the n/2+1 bins of its half spectrum; its inverse would have to guess
//! whether n was odd, so it is refused: send the whole spectrum as `c64` or `c128`. `power` gives
//! |X|² as `f32` or `f64`. Units are points: the product of `shape`.

mod request;
mod transform;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use mtor_types::intent::Usage;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

pub(crate) use request::Request;
use transform::Plans;

use crate::leases::End;

/// The executor: plans kept between jobs, and as many threads as slots.
pub(crate) struct Fft {
    plans: Mutex<Plans>,
    threads: Arc<Semaphore>,
}

/// Tells the thread of a dropped task to stop at its next row.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Fft {
    pub(crate) fn new(slots: u32) -> Self {
        let threads = Arc::new(Semaphore::new(usize::try_from(slots).unwrap_or(1)));
        Self { plans: Mutex::new(Plans::default()), threads }
    }

    pub(crate) async fn run(self: Arc<Self>, data: Box<RawValue>) -> End {
        // A revoked job holds its thread until its row is done; the next one waits for it here.
        let Ok(thread) = Arc::clone(&self.threads).acquire_owned().await else {
            return End::backend("the worker is stopping");
        };
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = CancelOnDrop(Arc::clone(&cancelled));
        let work = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            self.compute(&data, &cancelled)
        });
        work.await.unwrap_or_else(|_| End::backend("the transform failed inside"))
    }

    fn compute(&self, data: &RawValue, cancelled: &AtomicBool) -> End {
        let request = match Request::parse(data.get()) {
            Ok(request) => request,
            Err(message) => return End::bad_request(message),
        };
        let units = request.points();
        match transform::transform(request, &self.plans, cancelled) {
            Some(result) => End::Complete {
                usage: Usage { units, input: units, output: 0 },
                result: Some(result),
            },
            None => End::backend("the transform was stopped"),
        }
    }
}

#[cfg(test)]
mod tests;
