//! What strangers' workers say: whatever it is, its content is found in one pass and never more than
//! there is.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/server/src/streams/content.rs"]
#[allow(dead_code, reason = "the server uses all of it")]
mod content;

use content::{Places, is_hollow};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let places = ["/a", "/b/*/c", "/b/*/a", "/c/*"].map(str::to_owned);
    let Ok(some) = Places::new(&places, Some("/b")) else { return };
    let (all, found) = (Places::default().count(text), some.count(text));
    for found in [all, found] {
        assert!(found.bytes <= text.len() as u64 && found.filled <= found.there.max(found.filled));
        assert!(found.items <= text.len() as u64);
    }
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return };
    // How it is written changes nothing, but for a key that stands twice, which is lost in a value.
    let again = serde_json::to_string(&value).unwrap_or_default();
    let plain = Places::default().count(&again);
    assert!(plain.bytes <= all.bytes + 20 * text.len() as u64);
    assert_eq!(is_hollow(text), is_hollow(&again), "{text}");
    let once = |key: &str| text.matches(key).count() == 1;
    if !text.contains('\\') && once("\"a\"") && once("\"b\"") {
        // The places are found where they are.
        let there = |pointer: &str| value.pointer(pointer).is_some_and(|value| !value.is_null());
        assert!(!there("/a") || found.there > 0, "{text}");
        let list = value.pointer("/b").and_then(serde_json::Value::as_array).map_or(0, Vec::len);
        assert_eq!(found.items, list as u64, "{text}");
    }
});
