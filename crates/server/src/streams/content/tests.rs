use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn places(pointers: &[&str], items: Option<&str>) -> Places {
    let pointers: Vec<String> = pointers.iter().map(ToString::to_string).collect();
    Places::new(&pointers, items).unwrap_or_else(|pointer| panic!("{pointer}"))
}

fn all(text: &str) -> u64 {
    Places::default().count(text).bytes
}

#[test]
fn what_reads_is_counted_and_not_how_it_is_written() {
    for (text, bytes) in [
        (r#""four""#, 4),
        (r#"  "four"  "#, 4),
        (r#""fo\u0075r""#, 4),
        (r#""a\nb""#, 3),
        (r#""a\n \t \u0020\u00a0 b""#, 3),
        ("\"a\u{3000}\u{200b}b\"", 3),
        (r#""   ""#, 0),
        (r#"" a ""#, 1),
        (r#""é€😀""#, 9),
        (r#""\u00e9\u20ac\ud83d\ude00""#, 9),
        (r#""\ud83d""#, 2),
        (r#""\"\\\/""#, 3),
        (r#"{"a" : [ 1,  -2.5e3, true, null, {"long key":"x"} ] }"#, 12),
        ("null", 0),
        ("{}", 0),
        ("[[],{},\"\"]", 0),
        ("[\"a \",\" b\"]", 3),
        ("17", 2),
    ] {
        assert_eq!(all(text), bytes, "{text}");
    }
    let long = format!("\"{}\"", "AbC+/=09".repeat(1_000));
    assert_eq!(all(&long), 8_000);
    let gaps = format!("\"{}\"", "word   ".repeat(1_000));
    assert_eq!(all(&gaps), 4_999);
}

#[test]
fn only_the_places_of_a_manifest_are_content() {
    let chat = places(
        &["/choices/*/delta/content", "/choices/*/delta/tool_calls/*/function/arguments"],
        Some("/choices"),
    );
    let check = |text: &str, (bytes, there, filled, items): (u64, u64, u64, u64)| {
        let found = chat.count(text);
        let told = (found.bytes, found.there, found.filled, found.items);
        assert_eq!(told, (bytes, there, filled, items), "{text}");
    };
    check(r#"{"choices":[{"index":0,"delta":{"content":"hi"}}]}"#, (2, 1, 1, 1));
    check(r#"{"pad":"xxxxxxxx","choices":[{"delta":{"role":"assistant"}}]}"#, (0, 0, 0, 1));
    check(r#"{"choices":[{"delta":{"content":""}},{"delta":{"content":null}}]}"#, (0, 1, 0, 2));
    let tools =
        r#"{"choices":[{"delta":{"tool_calls":[{"id":"x","function":{"arguments":"{}"}}]}}]}"#;
    check(tools, (2, 1, 1, 1));
    // A list where an object should be, and the other way round.
    check(r#"{"choices":{"0":{"delta":{"content":"hi"}}}}"#, (0, 0, 0, 0));
    check(r#"{"choices":[[{"delta":{"content":"hi"}}]]}"#, (0, 0, 0, 1));
    // Parts of a content are what stands in them.
    check(r#"{"choices":[{"delta":{"content":[{"text":"hi"}]}}]}"#, (2, 1, 1, 1));
    // Where readers may find different things nothing counts: some take the last of two keys.
    check(r#"{"choices":[{"delta":{"content":"abcd","content":""}}]}"#, (0, 0, 0, 0));
    check(r#"{"choices":[{"delta":{"content":"abcd","c\u006fntent":""}}]}"#, (0, 0, 0, 0));
    check(r#"{"choices":[{"delta":{"content":"abcd"}}],"choices":[]}"#, (0, 0, 0, 0));
    // Off the way to a place everybody may write as he likes.
    check(r#"{"x":{"a":1,"a":2,"\u0061":3},"choices":[{"delta":{"content":"hi"}}]}"#, (2, 1, 1, 1));
    check("[]", (0, 0, 0, 0));
    check("7", (0, 0, 0, 0));
}

#[test]
fn white_space_at_the_edges_is_told() {
    let edges = |text: &str| {
        let found = Places::default().count(text);
        (found.bytes, found.begins_white, found.ends_white)
    };
    assert_eq!(edges("\" a\""), (1, true, false));
    assert_eq!(edges("\"a \""), (1, false, true));
    assert_eq!(edges("\"  \""), (0, false, true));
    assert_eq!(edges("\"\""), (0, false, false));
}

#[test]
fn what_holds_nothing_is_hollow() {
    for text in ["null", "{}", " { } ", "[\n]", "\"\"", ""] {
        assert!(is_hollow(text), "{text}");
    }
    for text in ["0", "false", "{\"a\":null}", "[null]", "\"x\"", "\"  \"", "\"\\n\""] {
        assert!(!is_hollow(text), "{text}");
    }
}

#[test]
fn a_place_is_a_pointer() {
    let of = |pointer: &str| Places::new(&[pointer.to_owned()], None).is_ok();
    assert!(of("/a") && of("/a/*/b"));
    for wrong in ["", "a", "*", "/a~0b", "/a\"", &"/a".repeat(STEPS_MAX + 1)] {
        assert!(!of(wrong), "{wrong}");
    }
    assert!(Places::new(&vec!["/a".to_owned(); PLACES_MAX + 1], None).is_err());
    assert!(Places::new(&[], Some("/a")).is_err(), "items without content");
    assert_eq!(Places::new(&[], None), Ok(Places::default()));
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ a\\n\\t\"\\\\é€😀\u{a0}\u{200b}]{0,12}".prop_map(Value::from),
        "[a-zA-Z0-9]{30,100}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[ab\"\\\\*]{0,2}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// All values in order, as they read.
fn said(value: &Value, text: &mut String) {
    match value {
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_string()),
        Value::String(string) => text.push_str(string),
        Value::Array(items) => items.iter().for_each(|item| said(item, text)),
        Value::Object(map) => map.values().for_each(|item| said(item, text)),
    }
}

/// Each run of white space is one byte; at the edges it is none.
fn measured(text: &str) -> usize {
    let words = text.split(is_white).filter(|word| !word.is_empty());
    let (count, bytes) = words.fold((0, 0), |(count, bytes), word| (count + 1, bytes + word.len()));
    bytes + if count > 0 { count - 1 } else { 0 }
}

fn escape_all(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

proptest! {
    #[test]
    fn all_that_reads_and_nothing_else(value in arbitrary_json(), pretty: bool) {
        let text =
            if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.unwrap();
        let mut reads = String::new();
        said(&value, &mut reads);
        prop_assert_eq!(all(&text), measured(&reads) as u64, "{}", text);
        // In its place, and beside it.
        let place = places(&["/here/*"], Some("/here"));
        let around = json!({"pad": value, "here": [value, "x"], "more": [value]}).to_string();
        let found = place.count(&around);
        prop_assert_eq!(found.items, 2);
        prop_assert_eq!(found.bytes, measured(&format!("{reads}x")) as u64, "{}", around);
    }

    #[test]
    fn escapes_change_nothing(text in "[ a-z\\n\"\\\\é€😀]{0,60}") {
        let plain = serde_json::to_string(&text).unwrap();
        prop_assert_eq!(all(&plain), all(&format!("\"{}\"", escape_all(&text))));
        prop_assert_eq!(all(&plain), measured(&text) as u64);
    }

    #[test]
    fn what_is_no_json_is_passed_over(text in "[\\[\\]{}:,\"\\\\ua0 é]{0,40}") {
        let chat = places(&["/a/*/a", "/u"], Some("/a"));
        for found in [Places::default().count(&text), chat.count(&text)] {
            prop_assert!(found.bytes <= text.len() as u64);
        }
        is_hollow(&text);
    }
}
