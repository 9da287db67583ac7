//! How long a sound is that a backend sends, while it comes.
//!
//! Counted from its bytes: of PCM and WAV at once, whatever lengths a header claims; of packed kinds
//! from their packets, again each time that it grew by a part, and at the end. What is counted before
//! the end is never more than what is there: whoever leaves then pays that.

use mtor_sound::Kind;

use crate::limits;

/// What a client may ask a backend for. What cannot be counted is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Wav,
    Pcm,
    Packed(Kind),
}

/// OpenAI's `pcm`: 24,000 a second, one channel, 16 bits.
pub(super) const PCM: Wav = Wav { rate: 24_000, frame: 2 };

/// What a WAV header says of its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wav {
    pub(super) rate: u64,
    /// Bytes of one sample of all channels.
    frame: u64,
}

impl Wav {
    fn ms(self, bytes: u64) -> u64 {
        bytes.saturating_mul(1000).div_ceil(self.rate.saturating_mul(self.frame).max(1))
    }
}

/// A header, or what is wrong with it.
pub(super) enum Head {
    /// And where the samples begin.
    Whole(Wav, usize),
    /// More has to come.
    Part,
    Wrong,
}

/// Reads a WAV file up to its samples.
pub(super) fn head(bytes: &[u8]) -> Head {
    const RATES: std::ops::RangeInclusive<u64> =
        mtor_sound::limits::RATE_MIN as u64..=mtor_sound::limits::RATE_MAX as u64;
    let number = |at: usize, size: usize| {
        let bytes = bytes.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let begins = |at: usize, mark: &[u8]| {
        let end = bytes.len().min(at.saturating_add(mark.len()));
        mark.starts_with(bytes.get(at..end).unwrap_or_default())
    };
    if !begins(0, b"RIFF") || !begins(8, b"WAVE") {
        return Head::Wrong;
    }
    let (mut at, mut wav) = (12_usize, None);
    while let Some(size) = number(at.saturating_add(4), 4) {
        let mark = bytes.get(at..at + 4).unwrap_or_default();
        at = at.saturating_add(8);
        if mark == b"data" {
            return wav.map_or(Head::Wrong, |wav| Head::Whole(wav, at));
        }
        if mark == b"fmt " {
            let Some(((channels, rate), bits)) =
                number(at + 2, 2).zip(number(at + 4, 4)).zip(number(at + 14, 2))
            else {
                return Head::Part;
            };
            let most = mtor_sound::limits::CHANNELS_MAX as u64;
            let is_right = (1..=most).contains(&channels)
                && RATES.contains(&rate)
                && matches!(bits, 8 | 16 | 24 | 32);
            if !is_right {
                return Head::Wrong;
            }
            wav = Some(Wav { rate, frame: channels * bits / 8 });
        }
        // A chunk's size is even.
        at = at.saturating_add(usize::try_from(size + size % 2).unwrap_or(usize::MAX));
    }
    if at > limits::AUDIO_HEAD_BYTES_MAX { Head::Wrong } else { Head::Part }
}

/// A sound that comes.
pub(super) struct Count {
    format: Format,
    /// Until it is understood, or, of packed kinds, all of it.
    kept: Vec<u8>,
    wav: Option<Wav>,
    /// Of samples.
    bytes: u64,
    packed: Packed,
}

/// A packed sound's length so far.
#[derive(Default)]
struct Packed {
    ms: u64,
    /// Bytes that it was counted at.
    at: usize,
}

impl Packed {
    /// Counts anew from the beginning, since a kept reader cannot be given more bytes. An eighth more
    /// each time: that much is not counted at most, and all of it is walked nine times at most.
    fn count(&mut self, bytes: &[u8], kind: Kind) {
        let step = limits::SOUND_PIECE_BYTES_MIN.max(self.at / 8);
        if bytes.len() < self.at.saturating_add(step) {
            return;
        }
        self.at = bytes.len();
        // What cannot be read may be what has not come.
        let ms = mtor_sound::length_ms(bytes.into(), kind).unwrap_or(0);
        self.ms = self.ms.max(ms);
    }
}

/// It is no sound of that format; why, for the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoSound(pub(super) String);

const OTHER: &str = "the backend sent another kind of sound than was asked for";

impl Count {
    pub(super) fn new(format: Format) -> Self {
        let wav = (format == Format::Pcm).then_some(PCM);
        Self { format, kept: Vec::new(), wav, bytes: 0, packed: Packed::default() }
    }

    pub(super) fn take(&mut self, more: &[u8]) -> Result<(), NoSound> {
        let wrong = || NoSound(OTHER.into());
        if self.wav.is_some() {
            self.bytes = self.bytes.saturating_add(more.len() as u64);
            return Ok(());
        }
        self.kept.extend_from_slice(more);
        match self.format {
            Format::Pcm => Ok(()),
            Format::Wav => match head(&self.kept) {
                Head::Whole(wav, at) => {
                    self.wav = Some(wav);
                    self.bytes = self.kept.len().saturating_sub(at) as u64;
                    self.kept = Vec::new();
                    Ok(())
                }
                Head::Part if self.kept.len() <= limits::AUDIO_HEAD_BYTES_MAX => Ok(()),
                Head::Part | Head::Wrong => Err(wrong()),
            },
            Format::Packed(kind) => {
                if self.kept.len() > mtor_sound::limits::BYTES_MAX {
                    return Err(NoSound("the backend's sound is too large".into()));
                }
                // As many bytes as any kind needs to be known.
                let is_known = self.kept.len() >= 12;
                if is_known && Kind::of(&self.kept) != Ok(kind) {
                    return Err(wrong());
                }
                self.packed.count(&self.kept, kind);
                Ok(())
            }
        }
    }

    /// Whether the first bytes are what they should be.
    pub(super) fn is_begun(&self) -> bool {
        self.wav.is_some() || self.kept.len() >= 12 && self.format != Format::Wav
    }

    /// Milliseconds so far; of packed kinds what was last counted.
    pub(super) fn ms(&self) -> u64 {
        self.wav.map_or(self.packed.ms, |wav| wav.ms(self.bytes))
    }

    pub(super) fn rate(&self) -> Option<u64> {
        self.wav.map(|wav| wav.rate)
    }

    /// All of it has come.
    pub(super) fn end(self) -> Result<u64, NoSound> {
        let ms = match (self.wav, self.format) {
            (Some(wav), _) => wav.ms(self.bytes),
            (None, Format::Packed(kind)) => mtor_sound::length_ms(self.kept.into(), kind)
                .map_err(|fault| NoSound(format!("the backend's answer: {fault}")))?,
            (None, Format::Wav | Format::Pcm) => return Err(NoSound(OTHER.into())),
        };
        if ms == 0 { Err(NoSound("the backend sent no sound".into())) } else { Ok(ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(channels: u16, rate: u32, bits: u16, more: &[u8]) -> Vec<u8> {
        let mut bytes = b"RIFF\xff\xff\xff\xffWAVE".to_vec();
        bytes.extend(more);
        bytes.extend(b"fmt \x10\0\0\0\x01\0");
        bytes.extend(channels.to_le_bytes());
        bytes.extend(rate.to_le_bytes());
        // What it says of bytes a second and a frame is not read.
        bytes.extend([9; 6]);
        bytes.extend(bits.to_le_bytes());
        bytes.extend(b"data\xff\xff\xff\xff");
        bytes
    }

    fn ms(format: Format, parts: &[&[u8]]) -> Result<u64, NoSound> {
        let mut count = Count::new(format);
        parts.iter().try_for_each(|part| count.take(part))?;
        count.end()
    }

    #[test]
    fn bytes_are_counted_and_lengths_are_not_believed() {
        assert_eq!(ms(Format::Pcm, &[&[0; 48_000], &[0; 24]]), Ok(1_001));
        for (channels, rate, bits, sound, length) in
            [(1, 24_000, 16, 48_000, 1_000), (2, 48_000, 24, 288_000, 1_000), (1, 8_000, 8, 4, 1)]
        {
            let head = wav(channels, rate, bits, b"LIST\x03\0\0\0abc\0");
            let sound = vec![0; sound];
            assert_eq!(ms(Format::Wav, &[&head, &sound]), Ok(length));
            // Byte by byte.
            let all = [head, sound].concat();
            let parts: Vec<&[u8]> = all.chunks(1).collect();
            assert_eq!(ms(Format::Wav, &parts), Ok(length));
        }
    }

    #[test]
    fn a_packed_sound_is_never_counted_longer_than_it_is() {
        let mp3 = include_bytes!("../../../../sound/tests/data/tone.mp3").repeat(30);
        let flac = include_bytes!("../../../../sound/tests/data/tone.flac").to_vec();
        let opus = include_bytes!("../../../../models/tests/exec/data/spoken.ogg").to_vec();
        // What is sure once all has come; the FLAC is 4 kB of sound behind 8 kB of tables.
        for (kind, sound, sure) in
            [(Kind::Mp3, mp3, 32_000), (Kind::Flac, flac, 0), (Kind::Ogg, opus, 5_000)]
        {
            for size in [1, 100, 1_460, 5_000, 65_536] {
                let mut count = Count::new(Format::Packed(kind));
                let mut counted = vec![0];
                for part in sound.chunks(size) {
                    count.take(part).unwrap();
                    counted.push(count.ms());
                }
                let whole = count.end().unwrap();
                assert!(counted.is_sorted(), "{kind:?} {size}: {counted:?}");
                let last = counted[counted.len() - 1];
                assert!((sure..=whole).contains(&last), "{kind:?} {size}: {last} of {whole}");
                counted.dedup();
                assert!(counted.len() < 40, "{kind:?} {size}: walked {} times", counted.len());
            }
        }
    }

    #[test]
    fn what_is_no_such_sound_is_refused() {
        let other = || Err(NoSound(OTHER.into()));
        for wrong in [
            &b"<html>"[..],
            b"RIFF\0\0\0\0AVI ",
            &wav(0, 24_000, 16, b""),
            &wav(1, 0, 16, b""),
            &wav(1, u32::MAX, 16, b""),
            &wav(1, 24_000, 7, b""),
            &wav(1, 24_000, 16, b"LIST\xff\xff\xff\xff"),
            b"RIFF\0\0\0\0WAVEdata\0\0\0\0",
        ] {
            assert_eq!(ms(Format::Wav, &[wrong]), other(), "{wrong:?}");
        }
        assert_eq!(ms(Format::Wav, &[]), other());
        let silent = |format, bytes: &[u8]| ms(format, &[bytes]).unwrap_err().0;
        assert_eq!(silent(Format::Wav, &wav(1, 24_000, 16, b"")), "the backend sent no sound");
        assert_eq!(silent(Format::Pcm, b""), "the backend sent no sound");
        let packed = Format::Packed(Kind::Ogg);
        assert_eq!(ms(packed, &[&wav(1, 24_000, 16, b"")]), other());
        assert!(silent(packed, b"OggS").contains("ogg"));
        let mut endless = Count::new(packed);
        let part = [b"OggS".as_slice(), &vec![0; 999_996]].concat();
        let stops = (0..11).find_map(|_| endless.take(&part).err());
        assert_eq!(stops, Some(NoSound("the backend's sound is too large".into())));
    }
}
