//! The packets of a sound, in order, and their length together.

use std::io::{Cursor, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};
use symphonia::default::formats::{
    FlacReader, IsoMp4Reader, MkvReader, MpaReader, OggReader, WavReader,
};

use crate::Fault;
use crate::codec::Codec;
use crate::kind::{Kind, ogg_codec};
use crate::limits::{BYTES_MAX, LENGTH_MS_MAX, PACKETS_MAX};

/// Bytes of `pcm16` that are taken as one packet: a tenth of a second.
const PCM16_PACKET: usize = 3_200;

/// A sound's length in whole milliseconds, rounded up, as its packets tell it.
///
/// # Errors
/// What is of no kind that is taken, too large, too long, or broken before its end.
pub fn length_ms(bytes: Arc<[u8]>, kind: Kind) -> Result<u64, Fault> {
    let mut packets = Packets::open(bytes, kind)?;
    while packets.next()?.is_some() {}
    Ok(packets.length_ms())
}

/// Everything of the kept readers that foreign bytes reach is called through this.
pub(crate) fn guarded<T>(kind: Kind, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Fault> {
    let broken = |what| Fault::Broken { kind: kind.name(), what };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Error::DecodeError(what) | Error::LimitError(what))) => Err(broken(what)),
        Ok(Err(Error::Unsupported(what))) => Err(Fault::Codec { kind: kind.name(), what }),
        Ok(Err(Error::IoError(_))) => Err(broken("it ends in the middle")),
        Ok(Err(Error::SeekError(_) | Error::ResetRequired)) => Err(broken("it begins anew")),
        Ok(Err(_)) => Err(broken("it cannot be read")),
        Err(_panicked) => Err(broken("its reader gave up")),
    }
}

pub(crate) struct Packets {
    kind: Kind,
    source: Source,
    pub(crate) codec: Codec,
    frames: u64,
    passed: u64,
}

enum Source {
    Pcm16 { bytes: Arc<[u8]>, at: usize },
    Container { reader: Box<dyn FormatReader>, track: u32, parameters: Box<AudioCodecParameters> },
}

impl Packets {
    pub(crate) fn open(bytes: Arc<[u8]>, kind: Kind) -> Result<Self, Fault> {
        if bytes.is_empty() {
            return Err(Fault::Empty);
        }
        if bytes.len() > BYTES_MAX {
            return Err(Fault::Large(bytes.len()));
        }
        let (source, codec) = if kind == Kind::Pcm16 {
            (Source::Pcm16 { bytes, at: 0 }, Codec::pcm16())
        } else if Kind::of(&bytes)? == kind {
            container(bytes, kind)?
        } else {
            return Err(Fault::Other { said: kind.name() });
        };
        Ok(Self { kind, source, codec, frames: 0, passed: 0 })
    }

    /// What a decoder is made from; `None` for `pcm16`, which needs none.
    pub(crate) fn parameters(&self) -> Option<&AudioCodecParameters> {
        match &self.source {
            Source::Pcm16 { .. } => None,
            Source::Container { parameters, .. } => Some(parameters),
        }
    }

    /// The next packet of the sound, and its frames.
    pub(crate) fn next(&mut self) -> Result<Option<(Packet, u64)>, Fault> {
        let Some(packet) = self.read()? else { return Ok(None) };
        let frames = self.codec.frames(&packet)?;
        self.frames = self.frames.saturating_add(frames);
        if self.length_ms() > LENGTH_MS_MAX {
            return Err(Fault::Long);
        }
        Ok(Some((packet, frames)))
    }

    fn read(&mut self) -> Result<Option<Packet>, Fault> {
        let (kind, passed, heard) = (self.kind, &mut self.passed, &(self.frames > 0));
        match &mut self.source {
            Source::Pcm16 { bytes, at } => {
                let end = bytes.len().min(*at + PCM16_PACKET);
                let data = &bytes[*at..end];
                *at = end;
                let packet =
                    || Packet::new(0, Timestamp::new(0), Duration::new(0), Box::<[u8]>::from(data));
                Ok((!data.is_empty()).then(packet))
            }
            Source::Container { reader, track, .. } => loop {
                *passed += 1;
                if *passed > PACKETS_MAX {
                    return Err(Fault::Broken { kind: kind.name(), what: "it has no end" });
                }
                match guarded(kind, || ended(reader.next_packet(), *heard))? {
                    Some(packet) if packet.track_id != *track => {}
                    other => return Ok(other),
                }
            },
        }
    }

    fn length_ms(&self) -> u64 {
        self.frames.saturating_mul(1000).div_ceil(u64::from(self.codec.rate))
    }
}

/// A browser that records writes no lengths, so its file ends where the bytes end; a recording that
/// was cut off does too, and is heard up to there.
fn ended(next: Result<Option<Packet>, Error>, heard: bool) -> Result<Option<Packet>, Error> {
    match next {
        Err(Error::IoError(error)) if heard && error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        other => other,
    }
}

fn container(bytes: Arc<[u8]>, kind: Kind) -> Result<(Source, Codec), Fault> {
    if kind == Kind::Ogg
        && let Some(found) = ogg_codec(&bytes).filter(|found| *found != kind.codec_name())
    {
        return Err(Fault::OtherCodec { kind: kind.name(), found, taken: kind.codec_name() });
    }
    let stream = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
    let options = FormatOptions::default();
    let reader = guarded(kind, || {
        let reader: Box<dyn FormatReader> = match kind {
            Kind::Wav => Box::new(WavReader::try_new(stream, options)?),
            Kind::Flac => Box::new(FlacReader::try_new(stream, options)?),
            Kind::Mp3 => Box::new(MpaReader::try_new(stream, options)?),
            Kind::Mp4 => Box::new(IsoMp4Reader::try_new(stream, options)?),
            Kind::Ogg => Box::new(OggReader::try_new(stream, options)?),
            Kind::Webm => Box::new(MkvReader::try_new(stream, options)?),
            Kind::Pcm16 => return Err(Error::Unsupported("a container")),
        };
        Ok(reader)
    })?;
    let nothing = Fault::Codec { kind: kind.name(), what: "no sound" };
    let track = reader.default_track(TrackType::Audio).ok_or_else(|| nothing.clone())?;
    let parameters = track.codec_params.as_ref().and_then(|parameters| parameters.audio());
    let parameters = parameters.ok_or(nothing)?.clone();
    let (codec, track) = (Codec::of(kind, &parameters)?, track.id);
    Ok((Source::Container { reader, track, parameters: Box::new(parameters) }, codec))
}
