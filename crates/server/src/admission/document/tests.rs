use mtor_types::intent::{Class, Trust};
use mtor_types::{Amount, Code};
use proptest::prelude::*;

use super::*;
use crate::admission::ClientKey;

const BYTES_MAX: u64 = 1 << 20;

fn read(text: &str) -> Result<Document, ApiError> {
    parse(&Bytes::copy_from_slice(text.as_bytes()), BYTES_MAX)
}

fn refused(text: &str, code: Code, part: &str) {
    let error = read(text).expect_err(text);
    assert_eq!(error.code, code, "{text}: {}", error.message);
    assert!(error.message.contains(part), "{text}: {}", error.message);
    assert!(!error.message.contains("secret"), "{}", error.message);
}

#[test]
fn the_short_form_is_read_and_its_data_untouched() {
    let body = Bytes::from_static(
        br#" {"data": {"b":1,  "a":[2]} ,"intent":"fft","ceiling":"1500","deadline_ms":2000,
            "trust":"own","class":"batch","durable":false,"restart":true,"stream":true,
            "id":"x-1"} "#,
    );
    let document = parse(&body, BYTES_MAX).unwrap();
    assert_eq!(document.name, "fft");
    assert_eq!(document.data, r#"{"b":1,  "a":[2]}"#);
    assert!(body.as_ptr_range().contains(&document.data.as_ptr()), "a slice, not a copy");
    let expected = Options {
        ceiling: Some(Amount::from_u64(1500)),
        deadline_ms: Some(2_000),
        trust: Some(Trust::Own),
        class: Some(Class::Batch),
        durable: Some(false),
        restart: Some(true),
        stream: Some(true),
        key: Some(ClientKey { source: String::new(), id: "x-1".into() }),
    };
    assert_eq!(document.options, expected);
    assert_eq!(read(r#"{"intent":"echo","data":null}"#).unwrap().data, "null");
}

#[test]
fn the_full_form_takes_strings_and_native_types_and_strange_extensions() {
    let document = read(
        r#"{"specversion":"1.0","id":"7","source":"/me","type":"mtor.intent.chat.v1",
            "datacontenttype":"application/json; charset=utf-8","time":"2026-11-22T00:00:00Z",
            "ceiling":1500,"deadlinems":"2000","durable":"true","restart":false,
            "traceparent":"00-ab","unheardof1":[1],"data":{}}"#,
    )
    .unwrap();
    assert_eq!(document.name, "chat");
    let key = Some(ClientKey { source: "/me".into(), id: "7".into() });
    assert_eq!(document.options.key, key);
    assert_eq!(document.options.ceiling, Some(Amount::from_u64(1500)));
    assert_eq!(document.options.deadline_ms, Some(2_000));
    assert_eq!((document.options.durable, document.options.restart), (Some(true), Some(false)));
}

#[test]
fn what_is_wrong_in_the_short_form_is_named() {
    refused(r#"{"intent":"echo"}"#, Code::InvalidField, "`data` is missing");
    refused(r#"{"data":1}"#, Code::InvalidField, "`intent` is missing");
    refused(r#"{"intent":"Secret","data":1}"#, Code::InvalidField, "`intent`");
    refused(r#"{"intent":"echo","data":1,"celing":"1"}"#, Code::UnknownField, "`celing`");
    refused(r#"{"intent":"echo","data":1,"deadlinems":1}"#, Code::UnknownField, "`deadlinems`");
    refused(r#"{"intent":"echo","data":1,"source":"/"}"#, Code::UnknownField, "`source`");
    refused(r#"{"intent":"echo","data":1,"ceiling":"-5"}"#, Code::InvalidField, "`ceiling`");
    refused(r#"{"intent":"echo","data":1,"ceiling":1.5}"#, Code::InvalidField, "`ceiling`");
    refused(r#"{"intent":"echo","data":1,"ceiling":null}"#, Code::InvalidField, "`ceiling`");
    refused(r#"{"intent":"echo","data":1,"deadline_ms":0}"#, Code::InvalidField, "`deadline_ms`");
    refused(r#"{"intent":"echo","data":1,"trust":"secret"}"#, Code::InvalidField, "`trust`");
    refused(r#"{"intent":"echo","data":1,"durable":"yes"}"#, Code::InvalidField, "`durable`");
    refused(r#"{"intent":"echo","data":1,"data":2}"#, Code::InvalidField, "only once");
    refused(r#"{"intent":"echo","data":1,"id":""}"#, Code::InvalidField, "`id`");
    refused("[1]", Code::InvalidField, "/v1/intents/batch");
    refused("7", Code::InvalidField, "an object");
    refused(r#""secret""#, Code::InvalidField, "an object");
    refused(r#"{"intent":"echo","data":secret}"#, Code::MalformedJson, "line 1");
    let deep = format!(r#"{{"intent":"echo","data":{}{}}}"#, "[".repeat(64), "]".repeat(64));
    refused(&deep, Code::TooDeep, "64");
}

#[test]
fn what_is_wrong_in_the_full_form_is_named() {
    let event = |from: &str, to: &str| {
        r#"{"specversion":"1.0","id":"7","source":"/me","type":"mtor.intent.chat.v1","data":{}}"#
            .replacen(from, to, 1)
    };
    refused(&event("1.0", "0.3"), Code::InvalidField, "`specversion`");
    refused(&event(r#""id":"7","#, ""), Code::InvalidField, "`id` is missing");
    refused(&event(r#""7""#, r#""\u0000""#), Code::InvalidField, "`id`");
    refused(&event("/me", ""), Code::InvalidField, "`source`");
    refused(&event("mtor.intent.chat.v1", "mtor.intent.accepted.v1"), Code::InvalidField, "`type`");
    refused(&event("mtor.intent.chat.v1", "com.secret.thing"), Code::InvalidField, "`type`");
    refused(&event(r#""data":{}"#, r#""data_base64":"AA==""#), Code::UnknownField, "data_base64");
    refused(&event(r#""data":{}"#, r#""data":{},"Big":1"#), Code::UnknownField, "`Big`");
    refused(
        &event(r#""data":{}"#, r#""data":{},"deadline_ms":1"#),
        Code::UnknownField,
        "deadline_ms",
    );
    let xml = event(r#""data""#, r#""datacontenttype":"text/xml","data""#);
    refused(&xml, Code::InvalidField, "`datacontenttype`");
}

#[test]
fn a_batch_is_a_bounded_list_in_which_one_fault_is_one_fault() {
    let list = |text: String| parse_batch(&Bytes::from(text), BYTES_MAX);
    let items = list(r#"[{"intent":"echo","data":1},{"intent":"echo"},7]"#.into()).unwrap();
    assert_eq!(items[0].as_ref().unwrap().data, "1");
    assert_eq!(items[1].as_ref().unwrap_err().code, Code::InvalidField);
    assert_eq!(items[2].as_ref().unwrap_err().code, Code::InvalidField);
    let many = |n: usize| format!("[{}]", vec![r#"{"intent":"echo","data":1}"#; n].join(","));
    assert_eq!(list(many(BATCH_MAX)).unwrap().len(), BATCH_MAX);
    for wrong in [many(BATCH_MAX + 1), "[]".into(), "{}".into(), "1".into()] {
        assert_eq!(list(wrong).unwrap_err().code, Code::InvalidField);
    }
    assert_eq!(list("[1,".into()).unwrap_err().code, Code::MalformedJson);
}

proptest! {
    #[test]
    fn arbitrary_bytes_give_an_answer_or_a_code(bytes: Vec<u8>) {
        let body = Bytes::from(bytes);
        let _ = parse(&body, 64).map_err(|error| error.to_json());
        let _ = parse_batch(&body, 64).map_err(|error| error.to_json());
    }

    #[test]
    fn text_near_a_document_gives_an_answer_or_a_code(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"intent\":\"echo\"", "\"data\":1", "\"id\":\"1\"",
                "\"specversion\":\"1.0\"", "\"source\":\"/\"", "\"type\":\"mtor.intent.echo.v1\"",
                "\"ceiling\":\"1\"", "\"x\":1", "\"X\":1", "null", " ",
            ]),
            0..24,
        ),
    ) {
        let body = Bytes::from(parts.concat());
        for result in [parse(&body, 4_096).map(|_| ()), parse_batch(&body, 4_096).map(|_| ())] {
            if let Err(error) = result {
                prop_assert!(error.code <= Code::TooDeep);
            }
        }
    }

    /// Whatever the data is, it comes out byte for byte.
    #[test]
    fn data_is_forwarded_untouched(text in "\\PC{0,40}", spaces in " {0,4}") {
        let data = format!("[{spaces}{}]", serde_json::to_string(&text).unwrap());
        let document = read(&format!(r#"{{"intent":"echo","data":{data}}}"#)).unwrap();
        prop_assert_eq!(document.data, data);
    }
}

#[test]
fn a_large_body_is_not_kept_for_a_small_part_of_it() {
    let body = format!(r#"{{"intent":"echo","data":1{}}}"#, " ".repeat(100_000));
    let body = Bytes::from(body);
    let document = parse(&body, 1_000_000).unwrap();
    assert_eq!(document.data, "1");
    let kept = body.as_ptr_range();
    assert!(!kept.contains(&document.data.as_ptr()), "it is a copy");
}
