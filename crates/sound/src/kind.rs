//! What kinds of sound are taken, and how their bytes begin.

use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::codecs::audio::well_known::{
    CODEC_ID_AAC, CODEC_ID_AC3, CODEC_ID_AC4, CODEC_ID_ALAC, CODEC_ID_EAC3, CODEC_ID_FLAC,
    CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3, CODEC_ID_OPUS, CODEC_ID_SPEEX, CODEC_ID_VORBIS,
};

use crate::Fault;

/// A container with the one codec that is taken in it. A codec that states the length of its own
/// packets is needed: a container's word for it could be a lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No container: 16,000 samples a second, one channel, 16 bits, little-endian.
    Pcm16,
    Wav,
    Flac,
    Mp3,
    /// AAC-LC.
    Mp4,
    /// Opus.
    Ogg,
    /// Opus.
    Webm,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Pcm16, Self::Wav, Self::Flac, Self::Mp3, Self::Mp4, Self::Ogg, Self::Webm];

    /// As a request names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcm16 => "pcm16",
            Self::Wav => "wav",
            Self::Flac => "flac",
            Self::Mp3 => "mp3",
            Self::Mp4 => "mp4",
            Self::Ogg => "ogg",
            Self::Webm => "webm",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// By how the bytes begin. `pcm16` begins with sound and has to be said.
    pub fn of(bytes: &[u8]) -> Result<Self, Fault> {
        let at = |from: usize, what: &[u8]| bytes.get(from..from + what.len()) == Some(what);
        if bytes.is_empty() {
            Err(Fault::Empty)
        } else if at(0, b"RIFF") && at(8, b"WAVE") {
            Ok(Self::Wav)
        } else if at(0, b"fLaC") {
            Ok(Self::Flac)
        } else if at(0, b"OggS") {
            Ok(Self::Ogg)
        } else if at(0, &[0x1a, 0x45, 0xdf, 0xa3]) {
            Ok(Self::Webm)
        } else if at(4, b"ftyp") {
            Ok(Self::Mp4)
        } else if at(0, b"ID3") || is_mpeg_frame(bytes) {
            Ok(Self::Mp3)
        } else {
            Err(Fault::Unknown)
        }
    }

    /// The codec that is taken inside; `None` for PCM, which has many.
    pub(crate) fn codec(self) -> Option<AudioCodecId> {
        match self {
            Self::Pcm16 | Self::Wav => None,
            Self::Flac => Some(CODEC_ID_FLAC),
            Self::Mp3 => Some(CODEC_ID_MP3),
            Self::Mp4 => Some(CODEC_ID_AAC),
            Self::Ogg | Self::Webm => Some(CODEC_ID_OPUS),
        }
    }

    /// That codec, for people.
    pub(crate) fn codec_name(self) -> &'static str {
        match self {
            Self::Pcm16 | Self::Wav => "PCM",
            Self::Flac => "FLAC",
            Self::Mp3 => "MP3",
            Self::Mp4 => "AAC-LC",
            Self::Ogg | Self::Webm => "Opus",
        }
    }
}

/// What else is met in these containers, for people.
pub(crate) fn name_of(codec: AudioCodecId) -> &'static str {
    match codec {
        CODEC_ID_VORBIS => "Vorbis",
        CODEC_ID_OPUS => "Opus",
        CODEC_ID_SPEEX => "Speex",
        CODEC_ID_FLAC => "FLAC",
        CODEC_ID_AAC => "AAC",
        CODEC_ID_MP1 | CODEC_ID_MP2 | CODEC_ID_MP3 => "MPEG audio",
        CODEC_ID_ALAC => "ALAC",
        CODEC_ID_AC3 | CODEC_ID_EAC3 | CODEC_ID_AC4 => "Dolby's AC-3 or AC-4",
        _ => "another codec",
    }
}

/// What the first sound of an Ogg file says it is, or else its video, for people: a reader that does
/// not know the codec passes its packets over.
pub(crate) fn ogg_codec(bytes: &[u8]) -> Option<&'static str> {
    let (mut rest, mut video) = (bytes, None);
    while let Some((packet, more)) = first_page(rest) {
        match codec_of(packet) {
            Some(THEORA) => video = Some(THEORA),
            None => {}
            sound => return sound,
        }
        rest = more;
    }
    video
}

const THEORA: &str = "Theora (a video)";

/// The page that begins a stream, and what is behind it: all streams begin before any goes on.
fn first_page(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // RFC 3533, section 6: a page's head has 27 bytes and the lengths of so many segments.
    let begins = bytes.starts_with(b"OggS") && bytes.get(5)? & 0x02 != 0;
    let (lengths, rest) = bytes.get(27..)?.split_at_checked(usize::from(*bytes.get(26)?))?;
    let length = lengths.iter().copied().map(usize::from).sum();
    rest.split_at_checked(length).filter(|_| begins)
}

fn codec_of(packet: &[u8]) -> Option<&'static str> {
    let marks = [
        (&b"OpusHead"[..], "Opus"),
        (b"\x01vorbis", "Vorbis"),
        (b"Speex   ", "Speex"),
        (b"\x7fFLAC", "FLAC"),
        (b"\x80theora", THEORA),
    ];
    marks.into_iter().find(|(mark, _)| packet.starts_with(mark)).map(|(_, name)| name)
}

/// Eleven bits of synchronisation, then a layer that is III (`01`).
fn is_mpeg_frame(bytes: &[u8]) -> bool {
    matches!(bytes, [0xff, second, ..] if second & 0xe0 == 0xe0 && second & 0x06 == 0x02)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_tell_their_kind() {
        for (bytes, kind) in [
            (&b"RIFF\0\0\0\0WAVEfmt "[..], Kind::Wav),
            (b"fLaC\0", Kind::Flac),
            (b"OggS\0", Kind::Ogg),
            (&[0x1a, 0x45, 0xdf, 0xa3, 0x01], Kind::Webm),
            (b"\0\0\0\x20ftypisom", Kind::Mp4),
            (b"ID3\x04", Kind::Mp3),
            (&[0xff, 0xfb, 0x90], Kind::Mp3),
        ] {
            assert_eq!(Kind::of(bytes), Ok(kind));
            assert_eq!(Kind::named(kind.name()), Some(kind));
        }
        assert_eq!(Kind::of(b""), Err(Fault::Empty));
        for bytes in [&b"R"[..], b"RIFF\0\0\0\0AVI ", b"<html>", &[0xff, 0xf1, 0x50]] {
            assert_eq!(Kind::of(bytes), Err(Fault::Unknown), "{bytes:?}");
        }
    }
}
