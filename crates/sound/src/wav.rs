//! The head of a WAV file (Microsoft's RIFF WAVE): one channel of 16-bit whole numbers.

/// Bytes before the samples.
pub const HEAD_BYTES: usize = 44;
/// Most bytes of samples that a file can hold.
pub const DATA_BYTES_MAX: u32 = u32::MAX - HEAD_BYTES as u32;
const BYTES_PER_SAMPLE: u16 = 2;

/// The head of a file of so many samples a second; `None` where the bytes of its samples are not
/// known when it begins: both lengths are then 0xFFFFFFFF, which players take for "until the end".
#[must_use]
pub fn head(rate: u32, data_bytes: Option<u32>) -> [u8; HEAD_BYTES] {
    let data = data_bytes.map_or(u32::MAX, |bytes| bytes.min(DATA_BYTES_MAX));
    let riff = data_bytes.map_or(u32::MAX, |_| data + HEAD_BYTES as u32 - 8);
    let mut head = [0; HEAD_BYTES];
    let mut rest = head.as_mut_slice();
    for field in [
        b"RIFF".as_slice(),
        &riff.to_le_bytes(),
        b"WAVEfmt ",
        &16_u32.to_le_bytes(),
        // Whole numbers, one channel; a second, in frames and in bytes; a frame's bytes and bits.
        &1_u16.to_le_bytes(),
        &1_u16.to_le_bytes(),
        &rate.to_le_bytes(),
        &rate.saturating_mul(u32::from(BYTES_PER_SAMPLE)).to_le_bytes(),
        &BYTES_PER_SAMPLE.to_le_bytes(),
        &(8 * BYTES_PER_SAMPLE).to_le_bytes(),
        b"data",
        &data.to_le_bytes(),
    ] {
        let (now, later) = rest.split_at_mut(field.len());
        now.copy_from_slice(field);
        rest = later;
    }
    head
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Kind, length_ms};

    #[test]
    fn a_head_says_how_much_follows_or_that_it_is_not_known() {
        for rate in [16_000, 24_000] {
            for told in [Some(rate * 2), None] {
                let mut file = head(rate, told).to_vec();
                file.resize(file.len() + rate as usize * 2, 0);
                assert_eq!(length_ms(Arc::from(file), Kind::Wav), Ok(1_000), "{rate} {told:?}");
            }
        }
        let length = |head: [u8; HEAD_BYTES], at: usize| {
            u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
        };
        let known = head(24_000, Some(6));
        assert_eq!((length(known, 4), length(known, 40)), (42, 6));
        let open = head(24_000, None);
        assert_eq!((length(open, 4), length(open, 40)), (u32::MAX, u32::MAX));
        let most = head(24_000, Some(u32::MAX));
        assert_eq!((length(most, 4), length(most, 40)), (u32::MAX - 8, DATA_BYTES_MAX));
    }
}
