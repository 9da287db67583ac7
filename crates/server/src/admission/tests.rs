use mtor_types::Code;
use mtor_types::intent::{Class, Trust};
use proptest::prelude::*;

use super::*;
use crate::manifests::Manifests;

fn entry(name: &str) -> Entry {
    Manifests::built_in().unwrap().get(name).unwrap().clone()
}

fn stamp() -> Stamp {
    Stamp {
        id: IntentId([1; 16]),
        account: AccountId([2; 32]),
        edge: NodeId(0),
        edge_epoch: 3,
        salt: [4; 16],
    }
}

fn chat(data: &str) -> Ask {
    Ask::read(&entry("chat"), Bytes::copy_from_slice(data.as_bytes())).unwrap()
}

fn amount(units: u64) -> Option<Amount> {
    Some(Amount::from_u64(units))
}

const PRICE: Price = Price { amount: Amount::from_u64(500_000), per: 1_000_000 };

#[test]
fn bounds_come_from_the_manifest() {
    let data = r#"{"messages":[{}],"max_tokens":7}"#;
    let ask = chat(data);
    assert_eq!(ask.data, data);
    assert_eq!((ask.input_units, ask.output_max), (32, 7));
    assert_eq!((ask.units_max, ask.may_be_cut), (39, true));
    let ask = chat(r#"{"messages":[{}],"max_tokens":7,"max_completion_tokens":9}"#);
    assert_eq!(ask.output_max, 9, "the newer name counts");
    assert_eq!(chat(r#"{"messages":[{}]}"#).output_max, 512);
    let many = chat(r#"{"messages":[{}],"max_tokens":7,"n":3}"#);
    assert_eq!((many.output_max, many.units_max), (21, 38 + 21), "every answer is paid");
    assert_eq!(chat(r#"{"messages":[{}],"max_tokens":99999999}"#).output_max, 16_384);
    let fft =
        Ask::read(&entry("fft"), r#"{"dtype":"f32","shape":[3,8],"data":""}"#.into()).unwrap();
    assert_eq!((fft.units_max, fft.may_be_cut), (24, false));
    let embed = Ask::read(&entry("embed"), r#"{"input":"abc"}"#.into()).unwrap();
    assert_eq!((embed.units_max, embed.bounds().output_max), (15, 0));
    let echo = Ask::read(&entry("echo"), "1".into()).unwrap();
    assert_eq!(echo.units_max, 1);
}

#[test]
fn a_sound_is_bounded_by_its_own_packets() {
    use base64::Engine as _;
    // A tenth of a second, in bytes that base64 writes with slashes.
    let audio = base64::engine::general_purpose::STANDARD.encode([0xff; 3_200]);
    let read =
        |data: &str| Ask::read(&entry("transcribe"), Bytes::copy_from_slice(data.as_bytes()));
    let plain = format!(r#"{{"audio":"{audio}","format":"pcm16"}}"#);
    let ask = read(&plain).unwrap();
    assert_eq!((ask.units_max, ask.input_units, ask.may_be_cut), (100, 100, false));
    let escaped = format!(r#"{{"audio":"{}","format":"pcm16"}}"#, audio.replace('/', "\\/"));
    assert_eq!(read(&escaped).unwrap().units_max, 100);
    for (data, told) in [
        (r#"{"format":"wav"}"#, "audio"),
        (r#"{"audio":7}"#, "audio"),
        (r#"{"audio":null}"#, "audio"),
        (r#"{"audio":"no base64!"}"#, "base64"),
        (r#"{"audio":"AAAA"}"#, "of no kind that is taken"),
        (r#"{"audio":""}"#, "the sound is empty"),
        (r#"{"audio":"AAAA","format":"midi"}"#, "format"),
        (r#"{"audio":"AAAA","format":"wav"}"#, "of no kind that is taken"),
        (r#"{"audio":"AAAA","audio":"AAAA","format":"pcm16"}"#, "only once"),
    ] {
        let error = read(data).unwrap_err();
        assert_eq!(error.code, Code::InvalidField, "{data}: {}", error.message);
        assert!(error.message.contains(told), "{data}: {}", error.message);
    }
}

#[test]
fn speech_is_bounded_by_its_characters_and_its_speed() {
    let read = |data: &str| Ask::read(&entry("speak"), Bytes::copy_from_slice(data.as_bytes()));
    let ask = read(r#"{"input":"Hello","voice":"af_heart","x":[1]}"#).unwrap();
    assert_eq!((ask.units_max, ask.input_units, ask.may_be_cut), (10_000, 10_000, false));
    // Characters, however they are written.
    assert_eq!(read(r#"{"input":"h\u00e9\ud83d\ude00"}"#).unwrap().units_max, 6_000);
    assert_eq!(read(r#"{"input":"Hello","speed":null}"#).unwrap().units_max, 10_000);
    assert_eq!(read(r#"{"input":"Hello","speed":0.25}"#).unwrap().units_max, 40_000);
    assert_eq!(read(r#"{"input":"Hi","speed":1.7}"#).unwrap().units_max, 2_353, "rounded up");
    let longest = format!(r#"{{"input":"{}"}}"#, "é".repeat(4_096));
    assert_eq!(read(&longest).unwrap().units_max, 4_096 * 2_000);
    let longer = format!(r#"{{"input":"{}"}}"#, "é".repeat(4_097));
    for (data, told) in [
        (r#"{"voice":"af_heart"}"#, "input"),
        (r#"{"input":null}"#, "input"),
        (r#"{"input":["Hello"]}"#, "input"),
        (r#"{"input":""}"#, "input"),
        (r#"{"input":" \n"}"#, "input"),
        (longer.as_str(), "4096"),
        (r#"{"input":"Hi","input":"Hello"}"#, "only once"),
        (r#"{"input":"Hi","speed":"1"}"#, "speed"),
        (r#"{"input":"Hi","speed":0}"#, "speed"),
        (r#"{"input":"Hi","speed":0.2499}"#, "speed"),
        (r#"{"input":"Hi","speed":4.01}"#, "speed"),
        (r#"{"input":"Hi","speed":-1}"#, "speed"),
        (r#"{"input":"Hi","speed":1e300}"#, "speed"),
        (r#"{"input":"Hi","response_format":"midi"}"#, "response_format"),
    ] {
        let error = read(data).unwrap_err();
        assert_eq!(error.code, Code::InvalidField, "{data}: {}", error.message);
        assert!(error.message.contains(told), "{data}: {}", error.message);
    }
}

#[test]
fn without_a_ceiling_the_hold_is_the_list_price_of_the_bound() {
    let ask = chat(r#"{"messages":[{}],"max_tokens":7}"#);
    let terms = ask.terms(PRICE, None).unwrap();
    assert_eq!(terms, Terms { hold: Amount::from_u64(20), price_max: PRICE, units_paid: 39 });
}

#[test]
fn a_ceiling_opens_a_band_a_low_one_cuts_and_too_low_a_one_is_refused() {
    // 32 bytes and 7 tokens at half a base unit: 20 for all, 17 for the input and one token.
    let ask = chat(r#"{"messages":[{}],"max_tokens":7}"#);
    let terms = ask.terms(PRICE, amount(100)).unwrap();
    // 100 for 39 units is 2,564,102 per million: the step below is 2,000,000.
    assert_eq!(terms.price_max.amount, Amount::from_u64(2_000_000));
    assert_eq!((terms.hold, terms.units_paid), (Amount::from_u64(100), 39));
    let terms = ask.terms(PRICE, amount(20)).unwrap();
    assert_eq!(terms.price_max, PRICE, "never below the list price");
    let terms = ask.terms(PRICE, amount(17)).unwrap();
    assert_eq!((terms.hold, terms.units_paid), (Amount::from_u64(17), 34));
    assert_eq!(terms.price_max, PRICE);
    let error = ask.terms(PRICE, amount(16)).unwrap_err();
    assert_eq!(error.code, Code::CeilingTooLow);
    assert!(error.message.contains("at least 17 base units"), "{}", error.message);
    assert!(error.message.contains("500000 base units per 1000000"), "{}", error.message);
    let fft =
        Ask::read(&entry("fft"), r#"{"dtype":"f32","shape":[1000000],"data":""}"#.into()).unwrap();
    let price = entry("fft").manifest.price;
    assert!(fft.terms(price, amount(2_000)).is_ok());
    assert_eq!(fft.terms(price, amount(1_999)).unwrap_err().code, Code::CeilingTooLow);
}

#[test]
fn pieces_are_wished_for_by_the_data_the_client_or_the_route() {
    let wish = |stream| Options { stream, ..Options::default() };
    let pieces = |data: &str, stream, route| chat(data).streaming(&wish(stream), route).stream;
    let (silent, yes, no) = (
        r#"{"messages":[{}]}"#,
        r#"{"messages":[{}],"stream":true}"#,
        r#"{"messages":[{}],"stream":false}"#,
    );
    assert!(pieces(yes, Some(false), Route::OpenAi) && !pieces(no, Some(true), Route::Streamed));
    assert!(pieces(silent, Some(true), Route::OpenAi) && !pieces(silent, None, Route::OpenAi));
    assert!(pieces(silent, None, Route::Streamed) && !pieces(silent, None, Route::Stored));
    // Whatever is said: its answer is made of them.
    assert!(pieces(no, Some(false), Route::OpenAiPieces));
}

#[test]
fn routes_differ_in_what_holds_without_a_wish() {
    let data = r#"{"messages":[{}],"stream":true,"model":"m"}"#;
    let (ask, entry) = (chat(data), entry("chat"));
    let meta = |options: &Options, route| ask.meta(stamp(), &entry, PRICE, options, route);
    let none = Options::default();
    let flags = |route| meta(&none, route).map(|meta| (meta.durable, meta.restart)).unwrap();
    assert_eq!(flags(Route::Stored), (true, true));
    assert_eq!(flags(Route::Streamed), (false, false));
    assert_eq!(flags(Route::OpenAi), (false, false));
    let restart = Options { restart: Some(true), ..Options::default() };
    assert!(meta(&restart, Route::Streamed).unwrap().restart);
    for route in [Route::OpenAi, Route::OpenAiPieces] {
        assert_eq!(meta(&restart, route).unwrap_err().code, Code::InvalidField);
    }
    let durable = Options { durable: Some(true), ..Options::default() };
    let openai = meta(&durable, Route::OpenAi).unwrap();
    assert_eq!((openai.durable, openai.restart), (true, false));
    assert_eq!(openai.model.as_deref(), Some("m"));
    assert_eq!((openai.bytes, openai.remaining_ms), (data.len() as u64, 300_000));
    assert_eq!((openai.trust, openai.class), (Trust::Any, Class::Interactive));
    let late = Options { deadline_ms: Some(3_600_001), ..Options::default() };
    assert_eq!(meta(&late, Route::Stored).unwrap_err().field.as_deref(), Some("deadline_ms"));
}

#[test]
fn an_idempotency_key_binds_the_work_and_not_its_deadline() {
    let entry = entry("chat");
    let key = |source: &str, id: &str| ClientKey { source: source.into(), id: id.into() };
    let digests = |data: &str, options: Options| {
        let meta = chat(data).meta(stamp(), &entry, PRICE, &options, Route::Stored).unwrap();
        meta.idempotency.unwrap()
    };
    let options = |key| Options { key: Some(key), ..Options::default() };
    let first = digests(r#"{"messages":[{}]}"#, options(key("/a", "1")));
    let later = Options { deadline_ms: Some(1), ..options(key("/a", "1")) };
    assert_eq!(digests(r#"{"messages":[{}]}"#, later), first);
    let body = digests(r#"{"messages":[[]]}"#, options(key("/a", "1")));
    assert_eq!(body.key, first.key);
    assert_ne!(body.body, first.body);
    let ceiling = Options { ceiling: amount(100_000), ..options(key("/a", "1")) };
    assert_ne!(digests(r#"{"messages":[{}]}"#, ceiling).body, first.body);
    let account = AccountId([2; 32]);
    assert_ne!(key_digest(account, &key("/a1", "")), key_digest(account, &key("/a", "1")));
    assert_ne!(key_digest(AccountId([3; 32]), &key("/a", "1")), first.key);
}

#[test]
fn a_quote_is_what_admission_would_hold() {
    let (entry, ask) = (entry("chat"), chat(r#"{"messages":[{}],"max_tokens":7}"#));
    let options = Options { ceiling: amount(17), ..Options::default() };
    let quote = ask.quote(&entry, PRICE, &options).unwrap();
    let meta = ask.meta(stamp(), &entry, PRICE, &options, Route::Stored).unwrap();
    assert_eq!((quote.hold, quote.price_max), (meta.ceiling, meta.price_max));
    assert!(quote.may_be_cut);
    let json = serde_json::to_string(&quote).unwrap();
    assert!(json.contains(r#""hold":"17""#), "{json}");
}

proptest! {
    #[test]
    fn a_step_of_the_ladder_is_one_two_or_five(units in 0..=Amount::MAX.units()) {
        let step = ladder(Amount::new(units).unwrap()).units();
        prop_assert!(step <= units);
        prop_assert_eq!(step == 0, units == 0);
        let digits = step.to_string();
        prop_assert!(step == 0 || ["1", "2", "5"].contains(&digits.trim_end_matches('0')));
        // The next step is at most two and a half times as far.
        prop_assert!(units == 0 || step * 5 > units * 2 || step * 2 > units);
        prop_assert_eq!(ladder(Amount::new(step).unwrap()).units(), step);
    }

    #[test]
    fn the_ladder_never_falls(a in 0..=Amount::MAX.units(), b in 0..=Amount::MAX.units()) {
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(ladder(Amount::new(low).unwrap()) <= ladder(Amount::new(high).unwrap()));
    }

    /// A worker at any price of the band can be paid for the whole of what the hold promises.
    #[test]
    fn the_band_is_covered_by_the_hold(
        price in 0..1_000_000_u64, per in 1..1_000_000_u64, ceiling in prop::option::of(0..1_000_000_000_u64),
        tokens in 1..20_000_u64, fill in 0..4_000_usize,
    ) {
        let data = format!(r#"{{"messages":["{}"],"max_tokens":{tokens}}}"#, "x".repeat(fill));
        let ask = chat(&data);
        let price = Price { amount: Amount::from_u64(price), per };
        match ask.terms(price, ceiling.map(Amount::from_u64)) {
            Ok(terms) => {
                prop_assert!(terms.price_max.amount >= price.amount);
                prop_assert!(terms.units_paid <= ask.units_max);
                prop_assert!(price.cost_up(terms.units_paid) <= terms.hold);
                prop_assert!(terms.units_paid > ask.input_units);
                if terms.price_max.amount > price.amount {
                    prop_assert!(terms.price_max.cost(ask.units_max) <= terms.hold);
                }
                if let Some(ceiling) = ceiling {
                    prop_assert_eq!(terms.hold, Amount::from_u64(ceiling));
                }
            }
            Err(error) => {
                prop_assert_eq!(error.code, Code::CeilingTooLow);
                let ceiling = Amount::from_u64(ceiling.unwrap());
                prop_assert!(price.cost_up(ask.input_units + 1) > ceiling);
            }
        }
    }

    #[test]
    fn arbitrary_data_is_admitted_or_refused_with_a_code(bytes: Vec<u8>) {
        let all = Manifests::built_in().unwrap();
        for entry in all.iter() {
            if let Err(error) = Ask::read(entry, Bytes::from(bytes.clone())) {
                prop_assert!(error.code <= Code::TooDeep);
            }
        }
    }
}
