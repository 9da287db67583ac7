//! Text frames: one event each, numbered within a session.

use mtor_types::WorkerId;
use mtor_types::event::EventOut;
use serde::Serialize;
use tokio_tungstenite::tungstenite::Message;

/// Writes events of one session.
pub(crate) struct Encoder {
    source: String,
    next_id: u64,
}

impl Encoder {
    pub(crate) fn new(worker: WorkerId) -> Self {
        Self { source: worker.to_string(), next_id: 1 }
    }

    /// A frame, or `None` if it cannot be written or is above the frame's bound.
    pub(crate) fn encode<D: Serialize>(&mut self, kind: &str, data: D) -> Option<Message> {
        let event = EventOut::new(self.next_id.to_string(), &self.source, kind, data);
        let text = serde_json::to_string(&event).ok()?;
        if text.len() > crate::limits::FRAME_BYTES_MAX {
            return None;
        }
        self.next_id += 1;
        Some(Message::text(text))
    }
}
