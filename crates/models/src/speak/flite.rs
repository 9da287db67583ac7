//! Debian's `flite`, which speaks where Kokoro would be slower than its own sound: a plain voice, and
//! twenty times as fast as speech on one core.
//!
//! Invariants: a process for each part, ended before the call is; what is said and what comes back
//! are in memory alone, neither in arguments nor in files.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use mtor_sound::{Kind, Samples};

use super::sound::RATE;

/// In the system's path.
const PROGRAM: &str = "flite";
/// How soon its end, or a word to stop, is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A part takes it a second, at a quarter of the speed.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Half an hour of its samples.
const SOUND_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Ended with its owner, by its own pid.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The samples of these words, without the silence around them; `None` if `is_over` said so before
/// their end.
///
/// # Errors
/// A program that is not there, fails or does not end.
pub(super) fn say(
    spoken: &str,
    voice: &str,
    speed: f32,
    is_over: &dyn Fn() -> bool,
) -> anyhow::Result<Option<Vec<f32>>> {
    run(PROGRAM, spoken, voice, speed, is_over)
}

fn run(
    program: &str,
    spoken: &str,
    voice: &str,
    speed: f32,
    is_over: &dyn Fn() -> bool,
) -> anyhow::Result<Option<Vec<f32>>> {
    let mut words = memory()?;
    words.write_all(plain(spoken).as_bytes())?;
    words.rewind()?;
    // It goes back in its output to write the length, which in a pipe it waits for without end.
    let mut sound = memory()?;
    let child = Command::new(program)
        .args(["-voice", voice, "--setf", &format!("duration_stretch={}", 1.0 / speed)])
        .args(["-f", "/proc/self/fd/0", "-o", "/proc/self/fd/1"])
        .stdin(Stdio::from(words))
        .stdout(Stdio::from(sound.try_clone()?))
        .stderr(Stdio::null())
        .spawn()
        .context("flite does not start")?;
    let (mut running, begin) = (Running(child), Instant::now());
    let status = loop {
        if let Some(status) = running.0.try_wait()? {
            break status;
        }
        if is_over() {
            return Ok(None);
        }
        ensure!(begin.elapsed() < TIME_MAX, "flite does not end");
        std::thread::sleep(LOOK_EVERY);
    };
    ensure!(status.success(), "flite ended with {status}");
    sound.rewind()?;
    let mut wav = Vec::new();
    sound.take(SOUND_BYTES_MAX + 1).read_to_end(&mut wav)?;
    if wav.len() as u64 > SOUND_BYTES_MAX {
        bail!("flite gave more than {SOUND_BYTES_MAX} bytes");
    }
    samples(wav).map(Some)
}

fn samples(wav: Vec<u8>) -> anyhow::Result<Vec<f32>> {
    let mut sound = Samples::open(wav.into(), Kind::Wav).context("flite gave no sound")?;
    let mut samples = Vec::new();
    while let Some(more) = sound.read()? {
        samples.extend(more);
    }
    let samples = mtor_sound::resampled(&samples, mtor_sound::RATE, RATE)?;
    Ok(super::kokoro::trimmed(&samples))
}

/// A file without a name or a place.
fn memory() -> anyhow::Result<File> {
    let file = rustix::fs::memfd_create("speak", rustix::fs::MemfdFlags::CLOEXEC);
    Ok(file.context("there is no memory for flite")?.into())
}

/// It knows the letters of English; what is spoken has those of its neighbours as well.
fn plain(spoken: &str) -> String {
    let mut plain = String::with_capacity(spoken.len());
    for c in spoken.chars() {
        let letters = match c.to_lowercase().next().unwrap_or(c) {
            'à'..='å' => "a",
            'æ' => "ae",
            'ç' => "c",
            'è'..='ë' => "e",
            'ì'..='ï' => "i",
            'ñ' => "n",
            'ð' | 'ò'..='ö' | 'ø' => "o",
            'œ' => "oe",
            'ù'..='ü' => "u",
            'ý' | 'ÿ' => "y",
            'þ' => "th",
            'ß' => "ss",
            '…' => ",",
            _ if c.is_ascii() => {
                plain.push(c);
                continue;
            }
            _ => " ",
        };
        plain.push_str(letters);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speak::voices::Speaker;

    #[test]
    fn every_voice_says_it_at_every_speed_in_its_time() {
        for voice in Speaker::Flite.voices() {
            let ms = |speed: f32| {
                let said = say("the ships are asleep.", voice, speed, &|| false).unwrap().unwrap();
                assert!(said.iter().all(|sample| sample.abs() <= 1.0));
                said.len() as f32 / 24.0 * speed
            };
            let ordinary = ms(1.0);
            assert!((800.0..3_000.0).contains(&ordinary), "{voice}: {ordinary} ms");
            for speed in [0.25, 4.0] {
                let found = ms(speed) / ordinary;
                assert!((0.6..1.9).contains(&found), "{voice} at {speed}: {found}");
            }
        }
    }

    #[test]
    fn what_is_over_is_ended_and_what_is_not_there_is_told() {
        let over = || true;
        let begin = Instant::now();
        let long = "the ships are asleep and so is the harbor, ".repeat(100);
        assert_eq!(say(&long, "slt", 0.25, &over).unwrap(), None);
        assert!(begin.elapsed() < Duration::from_secs(5));
        let absent = run("flite-of-nobody", "x", "slt", 1.0, &|| false).unwrap_err();
        assert!(absent.to_string().contains("flite does not start"), "{absent}");
        let wrong = run("false", "x", "slt", 1.0, &|| false).unwrap_err();
        assert!(wrong.to_string().contains("flite ended with"), "{wrong}");
        let silent = run("true", "x", "slt", 1.0, &|| false).unwrap_err();
        assert!(silent.to_string().contains("flite gave no sound"), "{silent}");
    }

    #[test]
    fn letters_are_those_of_english() {
        assert_eq!(plain("Café, Öl… Straße 漢"), "Cafe, ol, Strasse  ");
    }
}
