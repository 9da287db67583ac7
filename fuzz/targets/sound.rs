//! Sound that strangers send: whatever it is, it is refused or heard within its bounds.

#![no_main]

use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use mtor_sound::limits::{LENGTH_MS_MAX, PACKETS_MAX};
use mtor_sound::{Kind, RATE, Samples, length_ms};

/// A panic of a library that is caught is a refusal; the fuzzer's own hook would end at it. One that
/// is not caught ends the fuzzer all the same.
static QUIET: Once = Once::new();

/// Decoding of what a few kilobytes can claim, with checks on and counters inside.
const PATIENCE: Duration = Duration::from_secs(20);

fuzz_target!(|data: &[u8]| {
    QUIET.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let is_library = |at: &std::panic::Location<'_>| at.file().contains("/registry/");
            if !panic.location().is_some_and(is_library) {
                eprintln!("{panic}");
            }
        }));
    });
    let began = Instant::now();
    let found = Kind::of(data).ok();
    // Any of them may be claimed for any bytes.
    for kind in Kind::ALL.into_iter().filter(|kind| found.is_none_or(|found| found == *kind)) {
        listen(data, kind);
    }
    assert!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
});

fn listen(data: &[u8], kind: Kind) {
    let sound: Arc<[u8]> = data.into();
    let Ok(length) = length_ms(Arc::clone(&sound), kind) else { return };
    assert!(length <= LENGTH_MS_MAX);
    let Ok(mut samples) = Samples::open(sound, kind) else { return };
    let most = length * u64::from(RATE) / 1000 + 1;
    let (mut heard, mut rounds) = (0, 0);
    while let Ok(Some(more)) = samples.read() {
        rounds += 1;
        assert!(rounds <= PACKETS_MAX + 1, "it never ends");
        assert!(more.iter().all(|sample| sample.is_finite() && sample.abs() <= 4.0));
        heard += more.len() as u64;
        assert!(heard <= most, "{heard} samples of a sound of {length} ms");
    }
}
