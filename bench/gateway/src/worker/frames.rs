//! WebSocket frames, as much of RFC 6455 as a mock needs: whole text frames, ping, close.

use anyhow::{Result, bail, ensure};

/// Above the realm's own bound.
const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Close(&'a [u8]),
    Pong,
}

/// The first frame and its length, or `None` if it has not all come.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let &[start, length, ..] = bytes else { return Ok(None) };
    ensure!(start & FINAL != 0 && length & MASKED == 0, "a frame in parts, or masked");
    let (header, length) = match length {
        126 => match bytes.get(2..4) {
            Some(&[a, b]) => (4, usize::from(u16::from_be_bytes([a, b]))),
            Some(_) | None => return Ok(None),
        },
        127 => match bytes.get(2..10).map(<[u8; 8]>::try_from) {
            Some(Ok(length)) => (10, usize::try_from(u64::from_be_bytes(length))?),
            Some(Err(_)) | None => return Ok(None),
        },
        length => (2, usize::from(length)),
    };
    ensure!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes");
    let Some(data) = bytes.get(header..header + length) else { return Ok(None) };
    let frame = match start & 0x0f {
        TEXT => Frame::Text(data),
        PING => Frame::Ping(data),
        PONG => Frame::Pong,
        8 => Frame::Close(data.get(2..).unwrap_or_default()),
        other => bail!("a frame of kind {other}"),
    };
    Ok(Some((frame, header + length)))
}

/// Adds a text frame.
pub(crate) fn text(out: &mut Vec<u8>, parts: &[&[u8]]) {
    frame(out, TEXT, parts);
}

/// Adds the answer to a ping.
pub(crate) fn pong(out: &mut Vec<u8>, data: &[u8]) {
    frame(out, PONG, &[data]);
}

/// Masked, as the standard wants of a client, with the key zero: masking guards proxies against
/// hostile scripts, and there are neither here.
fn frame(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(FINAL | kind);
    if length < 126 {
        out.push(MASKED | length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(MASKED | 126);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(MASKED | 127);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As a realm sends it.
    pub(crate) fn unmasked(payload: &[u8]) -> Vec<u8> {
        let mut masked = Vec::new();
        text(&mut masked, &[payload]);
        let header = masked.len() - payload.len() - 4;
        let mut plain = masked.get(..header).unwrap().to_vec();
        *plain.get_mut(1).unwrap() &= !MASKED;
        plain.extend_from_slice(payload);
        plain
    }

    #[test]
    fn frames_of_every_length_are_read_back() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
            let payload = vec![b'x'; length];
            let bytes = unmasked(&payload);
            assert_eq!(first(&bytes).unwrap(), Some((Frame::Text(&payload), bytes.len())));
            for missing in [1, bytes.len() - 1, bytes.len()] {
                let cut = bytes.get(..bytes.len() - missing).unwrap();
                assert_eq!(first(cut).unwrap(), None);
            }
        }
        assert!(first(&[0x01, 0x00]).is_err() && first(&[0x82, 0x00]).is_err());
    }
}
