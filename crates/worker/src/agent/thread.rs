//! The agent's own thread.
//!
//! Session, heartbeat and leases run on a runtime of their own: executors may keep theirs as busy as
//! they like, and the realm hears in time that this worker lives.

use std::convert::Infallible;
use std::panic::resume_unwind;
use std::pin::pin;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::converse;
use crate::error::WorkerError;
use crate::options::WorkerOptions;

/// Runs the agent until `stop`, and the drain after it, or until [`WorkerOptions::parent`] closes.
///
/// A drain tells the realm to give nothing new, lets what runs finish for
/// [`WorkerOptions::drain_grace`], and closes. Dropping the future ends everything at once: a
/// caller that gets a second signal does that. Errors are those of the start, a refused enrolment,
/// and another realm at the address; a lost realm is none, it is dialled again for ever.
///
/// Executors work on the runtime that this is called in.
pub async fn run(
    options: WorkerOptions,
    stop: impl Future<Output = ()>,
) -> Result<(), WorkerError> {
    let (tell_stop, stopped) = oneshot::channel();
    let (tell_end, mut ended) = oneshot::channel();
    let thread = Thread::start(options, stopped, tell_end)?;
    let (mut stop, mut tell_stop) = (pin!(stop), Some(tell_stop));
    let end = loop {
        tokio::select! {
            end = &mut ended => break end,
            () = &mut stop, if tell_stop.is_some() => {
                // An agent that has just ended needs no word.
                let _ = tell_stop.take().map(|tell| tell.send(()));
            }
        }
    };
    // With its panic, if it had one.
    drop(thread);
    end.unwrap_or(Ok(()))
}

/// Ends its agent, and waits for it, when it is dropped.
struct Thread {
    wanted: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    fn start(
        options: WorkerOptions,
        stopped: oneshot::Receiver<()>,
        tell_end: oneshot::Sender<Result<(), WorkerError>>,
    ) -> Result<Self, WorkerError> {
        let work = Handle::current();
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(WorkerError::Thread)?;
        let (wanted, unwanted) = oneshot::channel::<Infallible>();
        let stop = async {
            // A caller that goes says so by what it drops.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let agent = move || {
            runtime.block_on(async {
                tokio::select! {
                    end = converse(options, work, stop) => drop(tell_end.send(end)),
                    _ = unwanted => {}
                }
            });
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("session".into()).spawn(agent);
        let thread = Some(thread.map_err(WorkerError::Thread)?);
        Ok(Self { wanted: Some(wanted), thread })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}
