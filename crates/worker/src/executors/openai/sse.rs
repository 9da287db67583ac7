//! Server-sent events, as they come: bytes in, the data of whole events out.

use crate::limits::FRAME_BYTES_MAX;

#[derive(Default)]
pub(super) struct Events {
    /// Bytes not yet read as lines; those before `at` are read.
    buffer: Vec<u8>,
    at: usize,
    /// Bytes of `buffer` in which no line end was found.
    searched: usize,
    /// Data lines of the event that is being read.
    data: Option<String>,
}

impl Events {
    /// Takes what came; an error if an event is above the bound.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.buffer.drain(..self.at);
        self.searched -= self.at;
        self.at = 0;
        let pending = self.data.as_ref().map_or(0, String::len);
        if self.buffer.len() + pending + bytes.len() > FRAME_BYTES_MAX {
            return Err(());
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The data of the next whole event.
    pub(super) fn next_event(&mut self) -> Option<String> {
        loop {
            let from = self.buffer.get(self.searched..)?;
            let Some(end) = from.iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                return None;
            };
            let end = self.searched + end;
            let line = self.buffer.get(self.at..end)?;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let is_end = line.is_empty();
            let data = data_of(line);
            self.at = end + 1;
            self.searched = self.at;
            if is_end {
                if let Some(event) = self.data.take() {
                    return Some(event);
                }
            } else if let Some(data) = data {
                self.append(&data);
            }
        }
    }

    /// What came of an event whose end never came; servers are forgiven a missing last line.
    pub(super) fn last_event(&mut self) -> Option<String> {
        let rest = self.buffer.split_off(self.at.min(self.buffer.len()));
        if let Some(data) = data_of(rest.strip_suffix(b"\r").unwrap_or(&rest)) {
            self.append(&data);
        }
        self.data.take()
    }

    fn append(&mut self, data: &str) {
        match &mut self.data {
            Some(event) => {
                event.push('\n');
                event.push_str(data);
            }
            None => self.data = Some(data.to_owned()),
        }
    }
}

/// The value of a `data` line; other fields and comments mean nothing here.
fn data_of(line: &[u8]) -> Option<String> {
    let value = line.strip_prefix(b"data:")?;
    let value = value.strip_prefix(b" ").unwrap_or(value);
    Some(String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = ": hi\n\ndata: {\"a\":1}\r\n\r\nevent: x\ndata:two\ndata: lines\nid: 1\n\n\ndata: \u{e9}\n\ndata: [DONE]";
    const EVENTS: [&str; 4] = ["{\"a\":1}", "two\nlines", "\u{e9}", "[DONE]"];

    #[test]
    fn events_are_whole_however_the_bytes_are_cut() {
        for cut in 1..=TEXT.len() {
            let mut events = Events::default();
            let mut got = Vec::new();
            for part in TEXT.as_bytes().chunks(cut) {
                events.push(part).unwrap();
                while let Some(event) = events.next_event() {
                    got.push(event);
                }
            }
            got.extend(events.last_event());
            assert_eq!(got, EVENTS, "cut {cut}");
        }
    }

    #[test]
    fn an_event_is_bounded() {
        let mut events = Events::default();
        let part = vec![b'x'; 1 << 20];
        let taken = (0..64).take_while(|_| events.push(&part).is_ok()).count();
        assert_eq!(taken, 16);
    }
}
