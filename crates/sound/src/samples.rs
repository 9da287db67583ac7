//! A sound as 16,000 samples a second of one channel, a packet at a time.

use std::sync::Arc;

use opus_pure::OpusDecoder;
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, Indexing, Resampler, SincInterpolationParameters, SincInterpolationType,
    WindowFunction,
};
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::packet::Packet;

use crate::kind::Kind;
use crate::limits::{CHANNELS_MAX, PACKET_FRAMES_MAX};
use crate::packets::{Packets, guarded};
use crate::{Fault, RATE};

/// Frames that are resampled at once.
const CHUNK: usize = 1024;
/// Of the filter: speech needs no more.
const SINC: usize = 128;
/// Longest packet of Opus, at 16 kHz.
const OPUS_FRAMES: usize = 1_920;

/// Decodes as it is read, so that an hour's worth of zeros takes no more memory than a second.
pub struct Samples {
    kind: Kind,
    packets: Packets,
    decoder: Decoder,
    resample: Option<Resample>,
    mono: Vec<f32>,
}

enum Decoder {
    Pcm16,
    /// To 16 kHz and one channel by itself.
    Opus(Box<OpusDecoder>),
    Kept(Box<dyn AudioDecoder>, Vec<f32>),
}

impl Samples {
    /// # Errors
    /// As [`crate::length_ms`].
    pub fn open(bytes: Arc<[u8]>, kind: Kind) -> Result<Self, Fault> {
        let packets = Packets::open(bytes, kind)?;
        let opus = || Fault::Broken { kind: kind.name(), what: "its decoder did not start" };
        let (decoder, rate) = match (kind, packets.parameters()) {
            (Kind::Ogg | Kind::Webm, _) => {
                let decoder =
                    OpusDecoder::new(RATE as i32, 1).map_err(|_never_for_these| opus())?;
                (Decoder::Opus(Box::new(decoder)), RATE)
            }
            (_, None) => (Decoder::Pcm16, RATE),
            (_, Some(parameters)) => {
                let decoder = guarded(kind, || {
                    let options = AudioDecoderOptions::default();
                    symphonia::default::get_codecs().make_audio_decoder(parameters, &options)
                })?;
                (Decoder::Kept(decoder, Vec::new()), packets.codec.rate)
            }
        };
        let resample = (rate != RATE).then(|| Resample::between(rate, RATE)).transpose()?;
        Ok(Self { kind, packets, decoder, resample, mono: Vec::new() })
    }

    /// The next samples, between -1 and 1; empty ones may come, `None` is the end.
    ///
    /// # Errors
    /// A sound that is broken here or longer than is taken. What came before stands.
    pub fn read(&mut self) -> Result<Option<Vec<f32>>, Fault> {
        let Some((packet, frames)) = self.packets.next()? else {
            return match self.resample.take() {
                Some(mut resample) => Ok(Some(resample.rest()?)),
                None => Ok(None),
            };
        };
        self.mono.clear();
        self.decode(&packet)?;
        // A decoder may give what was never counted, and a float may be no number.
        self.mono.truncate(usize::try_from(frames).unwrap_or(usize::MAX));
        for sample in &mut self.mono {
            *sample = if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
        }
        match &mut self.resample {
            Some(resample) => resample.more(&self.mono).map(Some),
            None => Ok(Some(std::mem::take(&mut self.mono))),
        }
    }

    fn decode(&mut self, packet: &Packet) -> Result<(), Fault> {
        let kind = self.kind;
        match &mut self.decoder {
            Decoder::Pcm16 => {
                let sample = |pair: &[u8; 2]| f32::from(i16::from_le_bytes(*pair)) / 32_768.0;
                self.mono.extend(packet.data.as_chunks::<2>().0.iter().map(sample));
                Ok(())
            }
            Decoder::Opus(decoder) => {
                self.mono.resize(OPUS_FRAMES, 0.0);
                let decoded = guarded(kind, || {
                    decoder
                        .decode(&packet.data, OPUS_FRAMES, &mut self.mono)
                        .map_err(|_told_by_the_place| Error::DecodeError("a packet is no Opus"))
                })?;
                self.mono.truncate(decoded);
                Ok(())
            }
            Decoder::Kept(decoder, interleaved) => {
                let channels = guarded(kind, || {
                    let decoded = decoder.decode(packet)?;
                    let channels = decoded.num_planes();
                    if decoded.frames() <= PACKET_FRAMES_MAX && channels <= CHANNELS_MAX {
                        decoded.copy_to_vec_interleaved(interleaved);
                    } else {
                        interleaved.clear();
                    }
                    Ok(channels)
                })?;
                if !(1..=CHANNELS_MAX).contains(&channels) {
                    return Err(Fault::Channels(channels));
                }
                let share = 1.0 / channels as f32;
                let frames = interleaved.chunks_exact(channels);
                self.mono.extend(frames.map(|frame| frame.iter().sum::<f32>() * share));
                Ok(())
            }
        }
    }
}

/// The same sound at another rate, both in samples a second.
///
/// # Errors
/// A rate that is none, or one more than eight times the other.
pub fn resampled(samples: &[f32], from: u32, to: u32) -> Result<Vec<f32>, Fault> {
    if from == 0 || to == 0 || from.max(to) / from.min(to) > 8 {
        return Err(broken());
    }
    if from == to {
        return Ok(samples.to_vec());
    }
    let mut resample = Resample::between(from, to)?;
    let mut out = resample.more(samples)?;
    out.extend(resample.rest()?);
    Ok(out)
}

/// From the rate of a recording to ours, a chunk at a time.
struct Resample {
    inner: Async<f32>,
    waiting: Vec<f32>,
    /// Of what comes out first, this much is the filter filling up.
    delay: usize,
    /// What must come out in all.
    owed: f64,
    ratio: f64,
}

fn broken() -> Fault {
    Fault::Broken { kind: "samples", what: "they could not be resampled" }
}

impl Resample {
    fn between(from: u32, to: u32) -> Result<Self, Fault> {
        let ratio = f64::from(to) / f64::from(from);
        let parameters = SincInterpolationParameters {
            sinc_len: SINC,
            f_cutoff: None,
            oversampling_factor: 128,
            interpolation: SincInterpolationType::Linear,
            window: WindowFunction::BlackmanHarris2,
        };
        let inner = Async::new_sinc(ratio, 1.0, &parameters, CHUNK, 1, FixedAsync::Input)
            .map_err(|_never_for_these| broken())?;
        let delay = inner.output_delay();
        Ok(Self { inner, waiting: Vec::new(), delay, owed: 0.0, ratio })
    }

    fn more(&mut self, samples: &[f32]) -> Result<Vec<f32>, Fault> {
        self.owed += samples.len() as f64 * self.ratio;
        self.waiting.extend_from_slice(samples);
        let mut out = Vec::new();
        let mut at = 0;
        while self.waiting.len() - at >= CHUNK {
            self.chunk(at, None, &mut out)?;
            at += CHUNK;
        }
        self.waiting.drain(..at);
        Ok(out)
    }

    /// What is left, and what the filter still holds.
    fn rest(&mut self) -> Result<Vec<f32>, Fault> {
        let mut out = Vec::new();
        let left = self.waiting.len();
        self.waiting.resize(CHUNK, 0.0);
        self.chunk(0, Some(left), &mut out)?;
        // The delay is shorter than a chunk gives, so two are enough.
        self.chunk(0, Some(0), &mut out)?;
        Ok(out)
    }

    fn chunk(
        &mut self,
        at: usize,
        partial: Option<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), Fault> {
        let input = InterleavedSlice::new(&self.waiting[at..], 1, CHUNK).map_err(|_| broken())?;
        let mut indexing = Indexing::new();
        if let Some(partial) = partial {
            indexing = indexing.partial_len(partial);
        }
        let made = self.inner.process(&input, Some(&indexing)).map_err(|_| broken())?;
        let made = made.take_data();
        let skipped = self.delay.min(made.len());
        self.delay -= skipped;
        let owed = self.owed.round().max(0.0) as usize;
        let taken = made.len().saturating_sub(skipped).min(owed);
        out.extend_from_slice(&made[skipped..skipped + taken]);
        self.owed -= taken as f64;
        Ok(())
    }
}
