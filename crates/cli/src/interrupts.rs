//! Ctrl-C and SIGTERM for the commands that ask a realm: exit code 130, whatever they do just then.
//!
//! A thread of its own listens, for a command may be held by standard input, by the lock of the
//! accounts' file, or by a terminal that does not read. Commands that have something to end in
//! order, such as an intent under way, take the signals over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::commands::Signals;
use crate::failure::Failure;
use crate::output::Out;

#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupts(Arc<AtomicBool>);

impl Interrupts {
    /// From here on a signal ends this process with 130, unless somebody takes them over.
    pub(crate) fn watch(&self, out: Out) {
        let taken = Arc::clone(&self.0);
        let watch = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let Ok(mut signals) = Signals::listen() else { return };
                signals.next().await;
                if !taken.load(Ordering::Relaxed) {
                    end(out);
                }
            });
        };
        // Without it a signal ends the process by itself, which a shell shows as 130, too.
        let _ = std::thread::Builder::new().name("interrupts".into()).spawn(watch);
    }

    /// The signals are the caller's from here on.
    pub(crate) fn take(&self) -> Result<Signals, Failure> {
        let signals = Signals::listen()?;
        self.0.store(true, Ordering::Relaxed);
        Ok(signals)
    }
}

/// Every file is written whole or not at all: nothing is lost but what was under way.
fn end(out: Out) {
    out.failure(&Failure::interrupted("interrupted"));
    std::process::exit(Failure::INTERRUPTED);
}
