//! The threads of worker sessions.

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime of their own: whatever clients keep the other one busy with, a worker's word is heard
/// in time, and nobody is taken for silent who was only not listened to.
pub struct Threads(Option<Runtime>);

impl Threads {
    pub fn start() -> std::io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        Ok(Self(Some(builder.thread_name("sessions").enable_all().build()?)))
    }

    #[expect(clippy::expect_used, reason = "it is taken only where it is dropped")]
    pub fn handle(&self) -> Handle {
        self.0.as_ref().expect("it runs until it is dropped").handle().clone()
    }
}

impl Drop for Threads {
    /// A runtime may not wait for its threads within another.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
