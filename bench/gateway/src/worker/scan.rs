//! Finds the few fields of an assignment without parsing it.
//!
//! The realm writes `intent`, `attempt`, `name`, `model`, `stream` in this order and the client's
//! data last, so the first place of each is the right one, whatever the data says.

/// Everything but the data stands in so many bytes.
const HEAD_BYTES: usize = 2_048;
const ID_BYTES: usize = 36;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assignment<'a> {
    pub intent: &'a [u8],
    /// Digits.
    pub attempt: &'a [u8],
    pub name: &'a [u8],
    /// A quoted name, or `null`.
    pub model: &'a [u8],
    pub stream: bool,
    pub data: &'a [u8],
}

/// `None` for any other message.
pub(crate) fn assignment(text: &[u8]) -> Option<Assignment<'_>> {
    let head = text.get(..text.len().min(HEAD_BYTES))?;
    let at = after(head, 0, b"\"type\":\"mtor.worker.assign.v1\"")?;
    let at = after(head, at, b"\"intent\":\"")?;
    let intent = head.get(at..at + ID_BYTES)?;
    let (attempt, at) = value(head, at, b"\"attempt\":", b',')?;
    let (name, at) = value(head, at, b"\"name\":\"", b'"')?;
    let (model, at) = value(head, at, b"\"model\":", b',')?;
    let (stream, at) = value(head, at, b"\"stream\":", b',')?;
    let at = after(head, at, b"\"token\":\"")?;
    let at = after(head, at, b"\"data\":")?;
    // The braces of the message's own data and of the event close behind it.
    let data = text.get(at..text.len().checked_sub(2)?)?;
    Some(Assignment { intent, attempt, name, model, stream: stream == b"true", data })
}

fn after(head: &[u8], from: usize, name: &[u8]) -> Option<usize> {
    let at = memchr::memmem::find(head.get(from..)?, name)?;
    Some(from + at + name.len())
}

fn value<'a>(head: &'a [u8], from: usize, name: &[u8], end: u8) -> Option<(&'a [u8], usize)> {
    let from = after(head, from, name)?;
    let to = from + memchr::memchr(end, head.get(from..)?)?;
    Some((head.get(from..to)?, to))
}

#[cfg(test)]
mod tests {
    use mtor_types::event::EventOut;
    use mtor_types::worker::{ASSIGN, Assign, PING, Ping};
    use mtor_types::{Attempt, Digest, Fence, IntentId};
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn what_the_realm_writes_is_found() {
        let data = r#"{"intent":"x","model":"other","stream":false}"#;
        let intent = IntentId([7; 16]);
        let assign = Assign {
            intent,
            attempt: Attempt(12),
            name: "chat".into(),
            model: Some("mock".into()),
            group: None,
            stream: true,
            limit: Some(5),
            output: Some(4),
            meter: None,
            deadline_ms: 1,
            fence: Fence(3),
            token: Digest([1; 32]),
            data: serde_json::from_str::<&RawValue>(data).unwrap(),
        };
        let text = serde_json::to_string(&EventOut::new("9", "/realms/r", ASSIGN, assign)).unwrap();
        let found = assignment(text.as_bytes()).unwrap();
        assert_eq!(found.intent, intent.to_string().as_bytes());
        assert_eq!((found.attempt, found.name), (b"12".as_slice(), b"chat".as_slice()));
        assert_eq!((found.model, found.stream), (b"\"mock\"".as_slice(), true));
        assert_eq!(found.data, data.as_bytes());
        let ping = serde_json::to_string(&EventOut::new("9", "/r", PING, Ping {})).unwrap();
        assert_eq!(assignment(ping.as_bytes()), None);
    }
}
