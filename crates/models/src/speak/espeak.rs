//! espeak-ng, which makes phonemes of words: a library of the models folder, loaded at start.
//!
//! This is the one module of this crate with `unsafe` in it, because a C library can be called in no
//! other way; nothing of it leaves. What makes it sound:
//! - The library keeps one voice and its buffers for the whole process, so everything that calls it
//!   holds one lock, and it is loaded once and never unloaded.
//! - The declarations are those of `speak_lib.h` of espeak-ng 1.52. The catalogue names that very
//!   file by its hash, and who fetches it (`mtor models pull`) checks it; what stands in the models
//!   folder afterwards is its owner's, as this program is, and is not checked again.
//! - What goes in is a C string of letters, apostrophes and blanks, whose length and whose words' are
//!   bounded here, below the library's own buffers; what comes out is copied before the lock is
//!   given up.
#![allow(unsafe_code, reason = "a C library can be called in no other way")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use libloading::Library;

use super::phonemes::TIE;
use super::text::English;

/// Bytes given to it at once; more is cut between words. Its own buffers take 800.
const CLAUSE_BYTES_MAX: usize = 400;
/// Letters of a word given to it: a longer one is no word, and goes in as more than one. At three bytes a
/// letter it is less than its own buffer for a word, 160 bytes.
const WORD_MAX: usize = 40;
/// Rounds of one call: it gives a clause each time, and there is one in what it gets.
const CLAUSES_MAX: usize = 8;
/// `AUDIO_OUTPUT_SYNCHRONOUS`: it plays nothing.
const SYNCHRONOUS: c_int = 2;
/// `espeakINITIALIZE_DONT_EXIT`: else it would end the process where its data are missing.
const DONT_EXIT: c_int = 0x8000;
/// `espeakCHARS_UTF8`.
const UTF8: c_int = 1;
/// IPA, and the tie between letters that are one sound.
const IPA: c_int = 0x02 | 0x80 | (TIE as c_int) << 8;

type Initialize = unsafe extern "C" fn(c_int, c_int, *const c_char, c_int) -> c_int;
type SetVoiceByName = unsafe extern "C" fn(*const c_char) -> c_int;
type TextToPhonemes = unsafe extern "C" fn(*mut *const c_void, c_int, c_int) -> *const c_char;

struct Loaded {
    set_voice: SetVoiceByName,
    to_phonemes: TextToPhonemes,
    voice: Option<English>,
    /// Keeps the two above where they are.
    _library: Library,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Proof that the library is loaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Espeak(());

impl Espeak {
    /// Loads the library, once a process; `data` holds its folder `espeak-ng-data`.
    pub(super) fn load(library: &Path, data: &Path) -> anyhow::Result<Self> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.is_none() {
            *loaded =
                Some(open(library, data).context("espeak-ng did not load; run `make models`")?);
        }
        Ok(Self(()))
    }

    /// The phonemes of words without marks between them.
    pub(super) fn phonemes(self, words: &str, english: English) -> anyhow::Result<String> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.as_mut().context("espeak-ng is not loaded")?;
        loaded.choose(english)?;
        let mut said = Vec::new();
        for clause in clauses(words) {
            said.push(loaded.say(&clause)?);
        }
        Ok(said.join(" "))
    }
}

fn open(library: &Path, data: &Path) -> anyhow::Result<Loaded> {
    let data = CString::new(data.as_os_str().as_encoded_bytes()).context("its folder's name")?;
    // SAFETY: the file is the one of the catalogue, whose initialisers only set up C++ and itself.
    let library = unsafe { Library::new(library) }?;
    // SAFETY: these are the functions' types in `speak_lib.h`.
    let (initialize, set_voice, to_phonemes) = unsafe {
        (
            *library.get::<Initialize>(c"espeak_Initialize")?,
            *library.get::<SetVoiceByName>(c"espeak_SetVoiceByName")?,
            *library.get::<TextToPhonemes>(c"espeak_TextToPhonemes")?,
        )
    };
    // SAFETY: the path is a C string that outlives the call; the lock is held.
    let rate = unsafe { initialize(SYNCHRONOUS, 0, data.as_ptr(), DONT_EXIT) };
    ensure!(rate > 0, "it did not find its data ({rate})");
    Ok(Loaded { set_voice, to_phonemes, voice: None, _library: library })
}

impl Loaded {
    fn choose(&mut self, english: English) -> anyhow::Result<()> {
        if self.voice == Some(english) {
            return Ok(());
        }
        let name = match english {
            English::American => c"en-us",
            English::British => c"en",
        };
        self.voice = None;
        // SAFETY: a C string that lives for ever; the lock is held.
        let told = unsafe { (self.set_voice)(name.as_ptr()) };
        ensure!(told == 0, "espeak-ng has no voice {name:?} ({told})");
        self.voice = Some(english);
        Ok(())
    }

    fn say(&mut self, clause: &CStr) -> anyhow::Result<String> {
        let mut said = Vec::new();
        let mut rest: *const c_void = clause.as_ptr().cast();
        for _ in 0..CLAUSES_MAX {
            if rest.is_null() {
                return Ok(said.join(" "));
            }
            // SAFETY: `rest` points into `clause`, which ends with a zero and outlives the loop; the
            // function moves it on within that, or sets it to null at the end.
            let phonemes = unsafe { (self.to_phonemes)(&raw mut rest, UTF8, IPA) };
            if !phonemes.is_null() {
                // SAFETY: it gives a C string in a buffer of its own that stays until the next call,
                // which the lock keeps away while this copies it.
                let phonemes = unsafe { CStr::from_ptr(phonemes) };
                said.push(phonemes.to_string_lossy().trim().to_owned());
            }
        }
        anyhow::bail!("espeak-ng finds no end")
    }
}

/// C strings of no more than a clause, cut between words; nothing but letters, apostrophes and
/// blanks is in them.
fn clauses(words: &str) -> Vec<CString> {
    let mut clauses = vec![String::new()];
    for word in words.split_whitespace() {
        let letters: Vec<char> = word.chars().filter(|c| c.is_alphabetic() || *c == '\'').collect();
        for word in letters.chunks(WORD_MAX) {
            let word: String = word.iter().collect();
            let Some(last) = clauses.last_mut() else { break };
            if last.len() + 1 + word.len() > CLAUSE_BYTES_MAX {
                clauses.push(word);
            } else {
                last.push(' ');
                last.push_str(&word);
            }
        }
    }
    let clauses = clauses.into_iter().filter(|clause| !clause.trim().is_empty());
    clauses.filter_map(|clause| CString::new(clause.trim()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_words_in_bounds_reaches_the_library() {
        let long = "word ".repeat(1_000);
        for (words, count) in [
            ("", 0),
            (" \0\u{7} ", 0),
            ("it's\0 so\n", 1),
            (&long, 13),
            ("x".repeat(10_000).as_str(), 28),
            ("A".repeat(300).as_str(), 1),
            ("漢".repeat(300).as_str(), 3),
            ("[[h@l'oU]] <mark> {x}", 1),
        ] {
            let clauses = clauses(words);
            assert_eq!(clauses.len(), count, "{}", words.len());
            for clause in clauses {
                let text = clause.to_str().unwrap();
                assert!(text.len() <= CLAUSE_BYTES_MAX);
                assert!(text.split(' ').all(|word| word.chars().count() <= WORD_MAX), "{text}");
                assert!(text.chars().all(|c| c.is_alphabetic() || " '".contains(c)), "{text}");
            }
        }
    }
}
