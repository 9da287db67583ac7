//! Who speaks.

use super::text::English;

/// Rows of a voice's file, one for each length of what is said, and numbers of a row.
pub(super) const ROWS: usize = 510;
pub(super) const STYLE: usize = 256;
const FILE_BYTES: usize = ROWS * STYLE * 4;

/// The first letter is the English they speak, American or British; the second is theirs.
pub const VOICES: [&str; 28] = [
    "af_alloy",
    "af_aoede",
    "af_bella",
    "af_heart",
    "af_jessica",
    "af_kore",
    "af_nicole",
    "af_nova",
    "af_river",
    "af_sarah",
    "af_sky",
    "am_adam",
    "am_echo",
    "am_eric",
    "am_fenrir",
    "am_liam",
    "am_michael",
    "am_onyx",
    "am_puck",
    "am_santa",
    "bf_alice",
    "bf_emma",
    "bf_isabella",
    "bf_lily",
    "bm_daniel",
    "bm_fable",
    "bm_george",
    "bm_lewis",
];
pub const DEFAULT: &str = "af_heart";

/// Of Debian's flite, the first if none is named.
const FLITE: [&str; 4] = ["slt", "rms", "awb", "kal16"];

/// Which model speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    Kokoro,
    Flite,
}

impl Speaker {
    pub(super) fn model(self) -> &'static str {
        match self {
            Self::Kokoro => "kokoro-82m",
            Self::Flite => "flite",
        }
    }

    pub(super) fn voices(self) -> &'static [&'static str] {
        match self {
            Self::Kokoro => &VOICES,
            Self::Flite => &FLITE,
        }
    }

    pub(super) fn default_voice(self) -> &'static str {
        match self {
            Self::Kokoro => DEFAULT,
            Self::Flite => FLITE[0],
        }
    }

    /// A voice by its name, or by that without what stands before it: `heart`, `alloy`.
    pub(super) fn named(self, name: &str) -> Option<&'static str> {
        let is_it = |voice: &&&str| {
            **voice == name || voice.split_once('_').is_some_and(|(_, own)| own == name)
        };
        self.voices().iter().find(is_it).copied()
    }
}

pub(super) fn english(voice: &str) -> English {
    if voice.starts_with('b') { English::British } else { English::American }
}

/// The style of what has so many tokens, out of a voice's file.
pub(super) fn style(file: &[u8], tokens: usize) -> Option<Vec<f32>> {
    if file.len() != FILE_BYTES {
        return None;
    }
    let row = tokens.clamp(1, ROWS) - 1;
    let bytes = file.get(row * STYLE * 4..(row + 1) * STYLE * 4)?;
    Some(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_voice_each_with_and_without_what_stands_before() {
        for voice in VOICES {
            assert_eq!(Speaker::Kokoro.named(voice), Some(voice));
            assert_eq!(Speaker::Kokoro.named(&voice[3..]), Some(voice));
        }
        for name in ["shimmer", "", "af_", "slt"] {
            assert_eq!(Speaker::Kokoro.named(name), None);
        }
        assert_eq!(Speaker::Flite.named("rms"), Some("rms"));
        assert_eq!(Speaker::Flite.named("af_heart"), None);
        assert!(VOICES.contains(&DEFAULT));
    }

    #[test]
    fn a_style_is_the_row_of_the_length() {
        let file: Vec<u8> =
            (0..ROWS * STYLE).flat_map(|at| ((at / STYLE) as f32).to_le_bytes()).collect();
        for (tokens, row) in [(0, 0.0), (1, 0.0), (7, 6.0), (510, 509.0), (900, 509.0)] {
            let style = style(&file, tokens).unwrap();
            assert_eq!((style.len(), style[0]), (STYLE, row));
        }
        assert_eq!(style(&file[..100], 1), None);
    }
}
