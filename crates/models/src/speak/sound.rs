//! What is said as bytes: WAV, bare samples, Opus in Ogg.
//!
//! Invariants: what [`Encoder::more`] gave, one after the other, and what [`Encoder::end`] gives are
//! one file of the format, exactly as long as its samples.

use std::io::Write;

use anyhow::{Context as _, ensure};
use mtor_sound::wav;
use opus_pure::{Application, MAX_PACKET_BYTES, OggOpusWriter, OpusEncoder, OpusHead};

/// Samples a second, of one channel.
pub(super) const RATE: u32 = 24_000;
/// Of Opus: speech of this band needs no more.
const OPUS_BITS_A_SECOND: i32 = 32_000;
/// Its samples are counted at this rate, whatever goes in.
const OPUS_RATE: u32 = 48_000;
const FRAME: usize = RATE as usize / 50;
/// Bytes of an Ogg page that is sent on: half a second.
const PAGE_BYTES: usize = 2_048;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Wav,
    Pcm,
    Opus,
}

impl Format {
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Wav, Self::Pcm, Self::Opus].into_iter().find(|format| format.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Pcm => "pcm",
            Self::Opus => "opus",
        }
    }

    /// About how large a sound becomes.
    pub(super) fn bytes(self, ms: u64) -> u64 {
        match self {
            Self::Wav | Self::Pcm => ms * u64::from(RATE) / 1000 * 2,
            Self::Opus => ms * OPUS_BITS_A_SECOND as u64 / 8 / 1000,
        }
    }
}

pub(super) enum Encoder {
    /// Whether the header has been given.
    Wav(bool),
    Pcm,
    Opus(Box<Opus>),
}

impl Encoder {
    pub(super) fn new(format: Format) -> anyhow::Result<Self> {
        Ok(match format {
            Format::Wav => Self::Wav(false),
            Format::Pcm => Self::Pcm,
            Format::Opus => Self::Opus(Box::new(Opus::new()?)),
        })
    }

    /// The bytes of these samples, between -1 and 1. Opus may keep less than a frame for later.
    pub(super) fn more(&mut self, samples: &[f32]) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(samples.len() * 2 + wav::HEAD_BYTES);
        match self {
            Self::Opus(opus) => return opus.more(samples),
            Self::Wav(told) if !*told => {
                *told = true;
                bytes.extend(wav::head(RATE, None));
            }
            Self::Wav(_) | Self::Pcm => {}
        }
        bytes.extend(samples.iter().flat_map(|sample| {
            // A product within these bounds is within those of 16 bits.
            ((sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)) as i16).to_le_bytes()
        }));
        Ok(bytes)
    }

    /// What is left, after which nothing comes.
    pub(super) fn end(self) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Wav(false) => Ok(wav::head(RATE, None).to_vec()),
            Self::Wav(true) | Self::Pcm => Ok(Vec::new()),
            Self::Opus(opus) => opus.end(),
        }
    }
}

/// Writes the true length into a whole WAV.
pub(super) fn complete(format: Format, file: &mut [u8]) {
    let bytes = file.len().checked_sub(wav::HEAD_BYTES).and_then(|bytes| u32::try_from(bytes).ok());
    if let (Format::Wav, Some(bytes)) = (format, bytes) {
        file[..wav::HEAD_BYTES].copy_from_slice(&wav::head(RATE, Some(bytes)));
    }
}

pub(super) struct Opus {
    encoder: OpusEncoder,
    writer: OggOpusWriter<Vec<u8>>,
    /// Less than a frame.
    waiting: Vec<f32>,
    samples: u64,
    pre_skip: u16,
    packet: Vec<u8>,
}

impl Opus {
    fn new() -> anyhow::Result<Self> {
        let mut encoder = OpusEncoder::new(RATE as i32, 1, Application::Voip)?;
        encoder.bitrate_bps = OPUS_BITS_A_SECOND;
        let head = OpusHead::for_encoder(&encoder, RATE);
        let pre_skip = head.pre_skip;
        let writer = OggOpusWriter::new(Vec::new(), head)?;
        let packet = vec![0; MAX_PACKET_BYTES];
        Ok(Self { encoder, writer, waiting: Vec::new(), samples: 0, pre_skip, packet })
    }

    fn more(&mut self, samples: &[f32]) -> anyhow::Result<Vec<u8>> {
        self.samples += samples.len() as u64;
        self.waiting.extend_from_slice(samples);
        let waiting = std::mem::take(&mut self.waiting);
        let frames = waiting.chunks_exact(FRAME);
        self.waiting = frames.remainder().to_vec();
        let count = frames.len();
        for (at, frame) in frames.enumerate() {
            // A page is written before the packet that would be too much for it: all but the last
            // packet goes out with this piece.
            self.writer.set_page_target(if at + 1 == count { 1 } else { PAGE_BYTES });
            let length = self.encoder.encode(frame, FRAME, &mut self.packet)?;
            self.writer.write_packet(&self.packet[..length])?;
        }
        Ok(self.writer.get_mut().map(std::mem::take).unwrap_or_default())
    }

    /// The encoder runs behind what goes in: silence brings the rest out, and the last packet's
    /// length says where the sound ended (RFC 7845, section 4.4).
    fn end(mut self) -> anyhow::Result<Vec<u8>> {
        let ticks = u64::from(OPUS_RATE / RATE);
        let end = u64::from(self.pre_skip) + self.samples * ticks;
        let mut rest = std::mem::take(&mut self.waiting);
        loop {
            let written =
                u64::try_from(self.writer.granule()).context("the sound has no length")?;
            let left = end.saturating_sub(written);
            if left == 0 {
                break;
            }
            let taken = rest.len().min(FRAME);
            let mut frame: Vec<f32> = rest.drain(..taken).collect();
            frame.resize(FRAME, 0.0);
            let length = self.encoder.encode(&frame, FRAME, &mut self.packet)?;
            let samples = left.min(FRAME as u64 * ticks);
            self.writer.write_packet_with_duration(&self.packet[..length], samples as u32)?;
        }
        ensure!(rest.is_empty(), "the sound is longer than its length");
        let mut sink = self.writer.finish()?;
        sink.flush()?;
        Ok(sink)
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;
    use std::sync::Arc;

    use mtor_sound::{Kind, Samples, length_ms};

    use super::*;

    fn tone(samples: usize) -> Vec<f32> {
        (0..samples).map(|at| 0.3 * (TAU * 440.0 * at as f32 / RATE as f32).sin()).collect()
    }

    /// A file in pieces of these lengths.
    fn file(format: Format, pieces: &[usize]) -> Vec<u8> {
        let all = tone(pieces.iter().sum());
        let (mut rest, mut encoder) = (all.as_slice(), Encoder::new(format).unwrap());
        let mut bytes = Vec::new();
        for piece in pieces {
            let (now, later) = rest.split_at(*piece);
            bytes.extend(encoder.more(now).unwrap());
            rest = later;
        }
        bytes.extend(encoder.end().unwrap());
        bytes
    }

    #[test]
    fn pieces_are_one_file_as_long_as_its_samples() {
        for (format, kind) in [(Format::Wav, Kind::Wav), (Format::Opus, Kind::Ogg)] {
            for pieces in [&[24_000, 12_345, 17, 30_001][..], &[480], &[1], &[479, 481, 960]] {
                let bytes: Arc<[u8]> = file(format, pieces).into();
                assert_eq!(Kind::of(&bytes).unwrap(), kind);
                let mut samples = Samples::open(Arc::clone(&bytes), kind).unwrap();
                let mut heard = Vec::new();
                while let Some(more) = samples.read().unwrap() {
                    heard.extend(more);
                }
                let length = pieces.iter().sum::<usize>() * 2 / 3;
                // Packets are whole; what plays them is told where the sound ends.
                let spare = if format == Format::Opus { 1_000 } else { 2 };
                assert!(
                    (length..=length + spare).contains(&(heard.len() + 1)),
                    "{format:?} {pieces:?} {}",
                    heard.len()
                );
                let loud =
                    heard.iter().map(|sample| sample * sample).sum::<f32>() / heard.len() as f32;
                assert!(heard.len() < 1_000 || (0.02..0.06).contains(&loud), "{format:?} {loud}");
            }
        }
        assert_eq!(file(Format::Pcm, &[100, 23]).len(), 246);
    }

    #[test]
    fn a_whole_wav_tells_its_length_and_a_stream_that_it_does_not_know() {
        let mut bytes = file(Format::Wav, &[24_000]);
        assert_eq!((&bytes[4..8], &bytes[40..44]), (&[0xff; 4][..], &[0xff; 4][..]));
        complete(Format::Wav, &mut bytes);
        assert_eq!(bytes[40..44], 48_000_u32.to_le_bytes());
        assert_eq!(bytes[4..8], (bytes.len() as u32 - 8).to_le_bytes());
        assert_eq!(length_ms(bytes.into(), Kind::Wav).unwrap(), 1_000);
    }

    #[test]
    fn a_piece_holds_what_it_was_given_but_for_the_last_packet() {
        let mut encoder = Encoder::new(Format::Opus).unwrap();
        let first = encoder.more(&tone(48_000)).unwrap();
        let second = encoder.more(&tone(48_000)).unwrap();
        assert!(first.starts_with(b"OggS") && second.starts_with(b"OggS"));
        let last = encoder.end().unwrap();
        assert!(second.len() > 10 * last.len(), "{} {}", second.len(), last.len());
    }

    #[test]
    fn nothing_is_a_file_too() {
        for format in [Format::Wav, Format::Opus] {
            let bytes = file(format, &[]);
            assert!(Kind::of(&bytes).is_ok(), "{format:?}");
        }
        assert!(file(Format::Pcm, &[]).is_empty());
    }
}
