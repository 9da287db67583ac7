//! `multipart/form-data`, as it is sent.

use bytes::Bytes;

/// A form in the making. Its boundary is drawn at random: nothing that a client wrote can end a
/// field and begin another.
pub(super) struct Form {
    boundary: String,
    body: Vec<u8>,
}

impl Form {
    /// `None` where the machine has no randomness.
    pub(super) fn new() -> Option<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        let boundary = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { boundary, body: Vec::new() })
    }

    pub(super) fn field(&mut self, name: &str, value: &str) {
        self.part(&format!("name=\"{name}\""), "", value.as_bytes());
    }

    /// A sound, by a name that tells its kind.
    pub(super) fn file(&mut self, name: &str, kind: &str, bytes: &[u8]) {
        let kind = format!("content-type: {kind}\r\n");
        self.part(&format!("name=\"file\"; filename=\"{name}\""), &kind, bytes);
    }

    fn part(&mut self, named: &str, more: &str, value: &[u8]) {
        let Self { boundary, body } = self;
        let head = format!("--{boundary}\r\ncontent-disposition: form-data; {named}\r\n{more}\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }

    /// Its content type, and its bytes.
    pub(super) fn done(self) -> (String, Bytes) {
        let Self { boundary, mut body } = self;
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        (format!("multipart/form-data; boundary={boundary}"), body.into())
    }
}
