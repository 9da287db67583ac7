//! How many frames a packet holds, by its codec's own word.

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::{
    CODEC_ID_OPUS, CODEC_ID_PCM_F32LE, CODEC_ID_PCM_F64LE,
};
use symphonia::core::packet::Packet;

use crate::Fault;
use crate::kind::{Kind, name_of};
use crate::limits::{CHANNELS_MAX, RATE_MAX, RATE_MIN};

/// Opus counts in these, whatever was recorded.
const OPUS_RATE: u32 = 48_000;
/// AAC-LC, always.
const AAC_FRAMES: u64 = 1024;

/// What is needed to count a track's frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codec {
    kind: Kind,
    /// Frames a second.
    pub(crate) rate: u32,
    /// Bytes of a frame of PCM.
    frame_bytes: u64,
}

impl Codec {
    pub(crate) fn of(kind: Kind, parameters: &AudioCodecParameters) -> Result<Self, Fault> {
        if kind.codec().is_some_and(|codec| codec != parameters.codec) {
            let (found, taken) = (name_of(parameters.codec), kind.codec_name());
            return Err(Fault::OtherCodec { kind: kind.name(), found, taken });
        }
        if kind.codec() == Some(CODEC_ID_OPUS) {
            return Ok(Self { kind, rate: OPUS_RATE, frame_bytes: 0 });
        }
        let rate = parameters.sample_rate.unwrap_or(0);
        if !(RATE_MIN..=RATE_MAX).contains(&rate) {
            return Err(Fault::Rate(rate));
        }
        let frame_bytes = if kind == Kind::Wav { pcm_frame_bytes(kind, parameters)? } else { 0 };
        Ok(Self { kind, rate, frame_bytes })
    }

    pub(crate) fn pcm16() -> Self {
        Self { kind: Kind::Pcm16, rate: crate::RATE, frame_bytes: 2 }
    }

    /// Frames of one channel that a packet holds.
    pub(crate) fn frames(self, packet: &Packet) -> Result<u64, Fault> {
        match self.kind {
            Kind::Pcm16 | Kind::Wav => Ok(packet.data.len() as u64 / self.frame_bytes),
            Kind::Mp4 => Ok(AAC_FRAMES),
            Kind::Ogg | Kind::Webm => opus_frames(&packet.data)
                .ok_or(Fault::Broken { kind: self.kind.name(), what: "a packet is no Opus" }),
            // Their readers cut the stream by the headers of the codec's own frames.
            Kind::Flac | Kind::Mp3 => Ok(packet.dur.get()),
        }
    }
}

fn pcm_frame_bytes(kind: Kind, parameters: &AudioCodecParameters) -> Result<u64, Fault> {
    let channels = parameters.channels.as_ref().map_or(0, |channels| channels.count());
    if !(1..=CHANNELS_MAX).contains(&channels) {
        return Err(Fault::Channels(channels));
    }
    // Floats have no other size; of integers, what is written may have more bits than what is meant.
    let bits = match parameters.codec {
        CODEC_ID_PCM_F32LE => 32,
        CODEC_ID_PCM_F64LE => 64,
        _ => parameters.bits_per_coded_sample.or(parameters.bits_per_sample).unwrap_or(0),
    };
    let sample = u64::from(bits.div_ceil(8));
    if !(1..=8).contains(&sample) {
        return Err(Fault::Codec { kind: kind.name(), what: "samples of no size that is known" });
    }
    Ok(sample * channels as u64)
}

/// RFC 6716, section 3: the first byte tells the frames' length and how many there are.
fn opus_frames(packet: &[u8]) -> Option<u64> {
    let toc = *packet.first()?;
    let config = u64::from(toc >> 3);
    // In frames at 48 kHz: SILK 10, 20, 40, 60 ms; hybrid 10, 20 ms; CELT 2.5, 5, 10, 20 ms.
    let length = match config {
        0..=11 => [480, 960, 1920, 2880][(config % 4) as usize],
        12..=15 => [480, 960][(config % 2) as usize],
        _ => [120, 240, 480, 960][(config % 4) as usize],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(packet.get(1)? & 0x3f),
    };
    // A packet is never longer than 120 ms.
    (count > 0 && length * count <= 5760).then_some(length * count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opus_packets_tell_their_length() {
        assert_eq!(opus_frames(&[]), None);
        assert_eq!(opus_frames(&[0b0000_1000]), Some(960));
        assert_eq!(opus_frames(&[0b1111_1001, 0, 0]), Some(1920));
        assert_eq!(opus_frames(&[0b1000_0011, 48]), Some(5760));
        // 49 times 2.5 ms, no frame at all, and a count that is missing.
        assert_eq!(opus_frames(&[0b1000_0011, 49]), None);
        assert_eq!(opus_frames(&[0b1000_0011, 0]), None);
        assert_eq!(opus_frames(&[0b1000_0011]), None);
    }
}
