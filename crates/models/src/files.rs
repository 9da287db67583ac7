//! What the models folder must hold, by name.
//!
//! The names agree with `crates/cli/src/models/catalogue.toml`, which says where the files come
//! from and what they hash to; a test compares the two. Hashes are checked when files are pulled,
//! not here: reading 60 MB at each start would cost more than loading the model.

use std::path::{Path, PathBuf};

use crate::speak::voices::VOICES as VOICE_NAMES;

pub const EMBED_WEIGHTS: &str = "all-minilm-l6-v2.int8.onnx";
pub const EMBED_TOKENIZER: &str = "all-minilm-l6-v2.tokenizer.json";
pub const TRANSCRIBE_ENCODER: &str = "moonshine-tiny-en.encoder.ort";
pub const TRANSCRIBE_DECODER: &str = "moonshine-tiny-en.decoder.ort";
pub const TRANSCRIBE_TOKENS: &str = "moonshine-tiny-en.tokenizer.bin";
pub const SPEECH_DETECTOR: &str = "silero-vad-16k.onnx";
pub const SPEAK_WEIGHTS: &str = "kokoro-82m.int8.onnx";
/// What espeak-ng's library is given: it looks for `espeak-ng-data` in there.
pub const SPEAK_FOLDER: &str = "kokoro-82m";
pub const ESPEAK: &str = "kokoro-82m/libespeak-ng.so";
/// The last of espeak's files that are fetched.
pub const ESPEAK_VOICE: &str = "kokoro-82m/espeak-ng-data/lang/gmw/en-US";
pub const VOICES: &str = "kokoro-82m/voices";
pub const ONNX_RUNTIME: &str = "libonnxruntime.so";

/// The files of one embedding model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedFiles {
    pub weights: PathBuf,
    pub tokenizer: PathBuf,
}

/// The files of what hears speech.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscribeFiles {
    pub encoder: PathBuf,
    pub decoder: PathBuf,
    pub tokens: PathBuf,
    /// Says where somebody speaks.
    pub detector: PathBuf,
}

/// The files of what speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpeakFiles {
    pub weights: PathBuf,
    /// The library that makes phonemes, and the folder that its data are in.
    pub espeak: PathBuf,
    pub espeak_data: PathBuf,
    /// A folder with a file for each voice.
    pub voices: PathBuf,
}

/// A file of `dir`, if it is there.
fn of(dir: &Path, name: &str) -> Option<PathBuf> {
    let path = dir.join(name);
    path.is_file().then_some(path)
}

/// What every model here runs on.
pub fn runtime(dir: &Path) -> Option<PathBuf> {
    of(dir, ONNX_RUNTIME)
}

/// The embedding model's files, if all of them are in `dir`.
pub fn embed(dir: &Path) -> Option<EmbedFiles> {
    Some(EmbedFiles { weights: of(dir, EMBED_WEIGHTS)?, tokenizer: of(dir, EMBED_TOKENIZER)? })
}

/// The files of what hears speech, if all of them are in `dir`.
pub fn transcribe(dir: &Path) -> Option<TranscribeFiles> {
    Some(TranscribeFiles {
        encoder: of(dir, TRANSCRIBE_ENCODER)?,
        decoder: of(dir, TRANSCRIBE_DECODER)?,
        tokens: of(dir, TRANSCRIBE_TOKENS)?,
        detector: of(dir, SPEECH_DETECTOR)?,
    })
}

/// A voice's file, in the folder of voices.
pub fn voice(name: &str) -> String {
    format!("{name}.bin")
}

/// The files of what speaks, if all of them are in `dir`.
pub fn speak(dir: &Path) -> Option<SpeakFiles> {
    of(dir, ESPEAK_VOICE)?;
    let voices = dir.join(VOICES);
    VOICE_NAMES.iter().all(|name| voices.join(voice(name)).is_file()).then_some(())?;
    Some(SpeakFiles {
        weights: of(dir, SPEAK_WEIGHTS)?,
        espeak: of(dir, ESPEAK)?,
        espeak_data: dir.join(SPEAK_FOLDER),
        voices,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Where this machine has the models.
    #[expect(clippy::disallowed_methods, reason = "tests have no cli that could pass it down")]
    pub(crate) fn models_dir() -> PathBuf {
        let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.models");
        std::env::var_os("MTOR_MODELS").map_or_else(here, PathBuf::from)
    }

    #[test]
    fn the_catalogue_names_every_file_this_program_opens() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/src/models/catalogue.toml");
        let catalogue = std::fs::read_to_string(path).unwrap();
        for name in [
            EMBED_WEIGHTS,
            EMBED_TOKENIZER,
            TRANSCRIBE_ENCODER,
            TRANSCRIBE_DECODER,
            TRANSCRIBE_TOKENS,
            SPEECH_DETECTOR,
            ONNX_RUNTIME,
            SPEAK_WEIGHTS,
            "kokoro-82m/{file}",
            "kokoro-82m/voices/{file}.bin",
            "libespeak-ng.so",
            "espeak-ng-data/lang/gmw/en-US",
        ] {
            assert!(catalogue.contains(&format!("\"{name}\"")), "{name} is not in the catalogue");
        }
        for name in VOICE_NAMES {
            assert!(catalogue.contains(&format!("{{ file = \"{name}\"")), "{name}");
        }
    }

    #[test]
    fn a_model_counts_only_when_all_its_files_are_there() {
        let dir = std::env::temp_dir().join(format!("mtor-files-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert_eq!(embed(&dir), None);
        std::fs::write(dir.join(EMBED_WEIGHTS), b"x").unwrap();
        assert_eq!(embed(&dir), None);
        std::fs::write(dir.join(EMBED_TOKENIZER), b"x").unwrap();
        assert!(embed(&dir).is_some());
        assert_eq!(transcribe(&dir), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
