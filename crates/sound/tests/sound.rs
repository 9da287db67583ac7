//! Real recordings of each kind, and what strangers make of them.
//! The files in `data/` are 1.2 seconds of 440 Hz, made for this test.

#![allow(clippy::unwrap_used, reason = "helpers fail their test where clippy sees no test")]

use std::sync::Arc;

use mtor_sound::limits::{BYTES_MAX, LENGTH_MS_MAX};
use mtor_sound::{Fault, Kind, RATE, Samples, length_ms};
use proptest::prelude::*;

const FILES: [(&str, &[u8]); 5] = [
    ("flac", include_bytes!("data/tone.flac")),
    ("mp3", include_bytes!("data/tone.mp3")),
    ("mp4", include_bytes!("data/tone.mp4")),
    ("ogg", include_bytes!("data/tone.ogg")),
    ("webm", include_bytes!("data/tone.webm")),
];

fn hear(bytes: &[u8], kind: Kind) -> Result<Vec<f32>, Fault> {
    let mut samples = Samples::open(Arc::from(bytes), kind)?;
    let mut heard = Vec::new();
    while let Some(more) = samples.read()? {
        heard.extend(more);
    }
    Ok(heard)
}

/// Five hundredths of a second each, made for this test.
#[test]
fn another_codec_is_named_with_the_one_that_is_taken() {
    for (bytes, told) in [
        (&include_bytes!("data/vorbis.ogg")[..], "(ogg) holds Vorbis; ogg is taken with Opus"),
        (include_bytes!("data/flac.ogg"), "(ogg) holds FLAC; ogg is taken with Opus"),
        (include_bytes!("data/vorbis.webm"), "(webm) holds Vorbis; webm is taken with Opus"),
        (include_bytes!("data/alac.mp4"), "(mp4) holds ALAC; mp4 is taken with AAC-LC"),
    ] {
        let kind = Kind::of(bytes).unwrap();
        let fault = length_ms(Arc::from(bytes), kind).unwrap_err().to_string();
        assert!(fault.contains(told) && fault.ends_with("send that, or WAV"), "{fault}");
    }
}

/// What a video says beside its picture; a second of it, made for this test.
#[test]
fn the_sound_of_a_video_is_heard() {
    let bytes = include_bytes!("data/theora-opus.ogg");
    let heard = hear(bytes, Kind::Ogg).unwrap();
    assert!(heard.len().abs_diff(RATE as usize) < RATE as usize / 20, "{}", heard.len());
    assert!(share(&heard, 440.0) > 0.9, "{}", share(&heard, 440.0));
    // Its first page alone: the picture without a sound.
    let fault = hear(&bytes[..70], Kind::Ogg).unwrap_err().to_string();
    assert!(fault.contains("holds Theora (a video); ogg is taken with Opus"), "{fault}");
}

/// Goertzel: the power of one frequency, as a share of all.
fn share(samples: &[f32], frequency: f32) -> f32 {
    let step = 2.0 * (std::f32::consts::TAU * frequency / RATE as f32).cos();
    let (mut one, mut two) = (0.0_f32, 0.0_f32);
    for sample in samples {
        (one, two) = (sample + step * one - two, one);
    }
    let power = one * one + two * two - step * one * two;
    let all: f32 = samples.iter().map(|sample| sample * sample).sum();
    2.0 * power / (all * samples.len() as f32)
}

#[test]
fn each_kind_is_heard_as_it_was_made() {
    for (name, bytes) in FILES {
        let kind = Kind::of(bytes).unwrap();
        assert_eq!(kind.name(), name);
        let length = length_ms(Arc::from(bytes), kind).unwrap();
        // A codec rounds up to whole packets and may begin with its own delay.
        assert!((1_200..1_350).contains(&length), "{name}: {length} ms");
        let heard = hear(bytes, kind).unwrap();
        let most = usize::try_from(length * u64::from(RATE) / 1000).unwrap();
        assert!(
            heard.len() <= most && heard.len() + 2_400 > most,
            "{name}: {} of {most}",
            heard.len()
        );
        // The middle second, past every codec's beginning.
        let purity = share(&heard[2_000..17_600], 440.0);
        assert!(purity > 0.98, "{name}: {purity}");
    }
}

/// A WAV as recorders write it. `code` is 1 for integers, 3 for floats.
fn wav(code: u16, rate: u32, channels: u16, bits: u16, data: &[u8]) -> Vec<u8> {
    let block = channels * bits / 8;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0");
    bytes.extend(code.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * u32::from(block)).to_le_bytes());
    bytes.extend(block.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

fn tone(rate: u32, frames: u32) -> impl Iterator<Item = f32> {
    (0..frames).map(move |at| 0.5 * (std::f32::consts::TAU * 440.0 * at as f32 / rate as f32).sin())
}

#[test]
fn wav_of_any_rate_and_size_is_heard() {
    for rate in [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000] {
        for channels in [1_u16, 2, 6] {
            let floats: Vec<u8> = tone(rate, rate)
                .flat_map(|sample| vec![sample; usize::from(channels)])
                .flat_map(f32::to_le_bytes)
                .collect();
            let bytes = wav(3, rate, channels, 32, &floats);
            assert_eq!(length_ms(Arc::from(&bytes[..]), Kind::Wav), Ok(1000), "{rate}");
            let heard = hear(&bytes, Kind::Wav).unwrap();
            assert_eq!(heard.len(), 16_000, "{rate} {channels}");
            assert!(share(&heard[1_000..15_000], 440.0) > 0.99, "{rate} {channels}");
            let loudest = heard.iter().fold(0.0_f32, |most, sample| most.max(sample.abs()));
            assert!((0.45..0.55).contains(&loudest), "{rate} {channels}: {loudest}");
        }
    }
    let eight: Vec<u8> = tone(8_000, 8_000).map(|sample| (sample * 127.0 + 128.0) as u8).collect();
    let heard = hear(&wav(1, 8_000, 1, 8, &eight), Kind::Wav).unwrap();
    assert!(share(&heard, 440.0) > 0.99);
    let pcm: Vec<u8> = tone(16_000, 16_000)
        .flat_map(|sample| ((sample * 32_767.0) as i16).to_le_bytes())
        .collect();
    assert_eq!(hear(&wav(1, 16_000, 1, 16, &pcm), Kind::Wav), hear(&pcm, Kind::Pcm16));
}

#[test]
fn what_is_no_number_is_silence() {
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30];
    let data: Vec<u8> = bad.iter().cycle().take(16_000).flat_map(|bad| bad.to_le_bytes()).collect();
    for rate in [16_000, 44_100] {
        let heard = hear(&wav(3, rate, 1, 32, &data), Kind::Wav).unwrap();
        assert!(heard.iter().all(|sample| sample.is_finite()), "{rate}");
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    let refused = |bytes: &[u8], kind| length_ms(Arc::from(bytes), kind).unwrap_err();
    assert_eq!(refused(b"", Kind::Wav), Fault::Empty);
    assert_eq!(refused(b"", Kind::Pcm16), Fault::Empty);
    assert_eq!(refused(&vec![0; BYTES_MAX + 1], Kind::Pcm16), Fault::Large(BYTES_MAX + 1));
    assert_eq!(refused(b"no sound at all", Kind::Wav), Fault::Unknown);
    assert_eq!(refused(FILES[0].1, Kind::Mp3), Fault::Other { said: "mp3" });
    let slow = wav(1, 4_000, 1, 16, &[0; 100]);
    assert_eq!(refused(&slow, Kind::Wav), Fault::Rate(4_000));
    for fault in [refused(b"no sound", Kind::Ogg), Fault::Long, Fault::Large(1), Fault::Channels(9)]
    {
        assert!(!fault.to_string().is_empty());
    }
}

const UNKNOWN: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// The head of a WebM up to its first cluster, and a cluster of ours that never says its length.
fn webm(packets: usize, packet: &[u8]) -> Vec<u8> {
    let file = FILES[4].1;
    let cluster = [0x1f, 0x43, 0xb6, 0x75];
    let at = file.windows(4).rposition(|four| four == cluster).unwrap();
    let mut bytes = file[..at].to_vec();
    // The segment's length becomes unknown. Behind it stands an index of places, which goes.
    let segment = bytes.windows(4).position(|four| four == [0x18, 0x53, 0x80, 0x67]).unwrap() + 4;
    bytes[segment..segment + 8].copy_from_slice(&UNKNOWN);
    let info = bytes.windows(4).rposition(|four| four == [0x15, 0x49, 0xa9, 0x66]).unwrap();
    bytes.drain(segment + 8..info);
    bytes.extend(cluster);
    bytes.extend(UNKNOWN);
    bytes.extend([0xe7, 0x81, 0x00]);
    for _ in 0..packets {
        bytes.extend([0xa3, 0x80 | (packet.len() + 4) as u8, 0x81, 0, 0, 0x80]);
        bytes.extend(packet);
    }
    bytes
}

#[test]
fn a_few_bytes_that_unpack_to_hours_are_refused_early() {
    // 48 frames of 2.5 ms in two bytes.
    let fits = webm((LENGTH_MS_MAX / 120) as usize, &[0b1000_0011, 48]);
    assert_eq!(length_ms(Arc::from(&fits[..]), Kind::Webm), Ok(LENGTH_MS_MAX));
    let bomb = webm(1_000_000, &[0b1000_0011, 48]);
    assert!(bomb.len() < BYTES_MAX);
    assert_eq!(length_ms(Arc::from(&bomb[..]), Kind::Webm), Err(Fault::Long));
    assert_eq!(hear(&bomb, Kind::Webm).err(), Some(Fault::Long));
}

#[test]
fn a_sound_that_breaks_off_is_refused_or_heard_up_to_there() {
    for (name, bytes) in FILES {
        let kind = Kind::of(bytes).unwrap();
        for end in (0..bytes.len()).step_by(7) {
            check(&bytes[..end], kind, name);
        }
    }
}

/// Whatever the bytes: no panic, and never more samples than milliseconds were counted.
fn check(bytes: &[u8], kind: Kind, name: &str) {
    let length = length_ms(Arc::from(bytes), kind);
    if let Ok(heard) = hear(bytes, kind) {
        let most = length.unwrap() * u64::from(RATE) / 1000;
        assert!(heard.len() as u64 <= most, "{name}: {} of {most}", heard.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_are_refused_or_heard(
        file in 0..FILES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let (name, bytes) = FILES[file];
        let kind = Kind::of(bytes).unwrap();
        let mut changed = bytes.to_vec();
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        check(&changed, kind, name);
    }

    #[test]
    fn any_bytes_after_a_good_beginning_are_refused_or_heard(
        file in 0..FILES.len(),
        tail in prop::collection::vec(any::<u8>(), 0..4_000),
        from in any::<prop::sample::Index>(),
    ) {
        let (name, bytes) = FILES[file];
        let kind = Kind::of(bytes).unwrap();
        let mut changed = bytes[..from.index(bytes.len())].to_vec();
        changed.extend(tail);
        check(&changed, kind, name);
    }
}

#[test]
fn a_tone_at_another_rate_is_the_same_tone_as_long() {
    let tone = |rate: u32, length: usize| -> Vec<f32> {
        let at = |at: usize| (std::f32::consts::TAU * 440.0 * at as f32 / rate as f32).sin() * 0.5;
        (0..length).map(at).collect()
    };
    for (from, to) in [(16_000, 24_000), (24_000, 16_000), (16_000, 16_000), (8_000, 24_000)] {
        let length = from as usize / 2 + 7;
        let found = mtor_sound::resampled(&tone(from, length), from, to).unwrap();
        let expected = tone(to, (length as f64 * f64::from(to) / f64::from(from)).round() as usize);
        assert!(found.len().abs_diff(expected.len()) <= 1, "{from} {to}: {}", found.len());
        // To a sample: the filter's delay is not a whole number of them.
        let off = |shift: usize| {
            let inner = 500..found.len() - 500;
            inner.map(|at| (found[at] - expected[at + shift - 1]).abs()).fold(0.0, f32::max)
        };
        let least = (0..3).map(off).fold(1.0, f32::min);
        assert!(least < 0.05, "{from} {to}: {least}");
    }
    assert!(mtor_sound::resampled(&[], 16_000, 24_000).unwrap().is_empty());
    for (from, to) in [(0, 24_000), (24_000, 0), (1, 24_000)] {
        assert!(mtor_sound::resampled(&[0.0], from, to).is_err());
    }
}
