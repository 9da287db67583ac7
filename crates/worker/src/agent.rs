//! placeholder
use crate::{WorkerError, WorkerOptions};
/// Runs the agent until `stop` and the drain after it, or until its parent is gone.
pub async fn run(options: WorkerOptions, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
    stop.await;
    drop(options);
    Ok(())
}
