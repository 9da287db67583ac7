use mtor_types::Code;
use mtor_types::fact::NetworkKey;
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
        branch: Branch::Network(NetworkKey([5; 16])),
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
const LISTED: InForce = InForce { list: PRICE, price: PRICE, band: Band::LIST };

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
fn a_list_of_nothing_is_refused_before_it_is_its_workers_failure() {
    let read = |data: &str| Ask::read(&entry("embed"), Bytes::copy_from_slice(data.as_bytes()));
    for data in [r#"{"input":[]}"#, r#"{"model":"m","input":[ ]}"#] {
        let error = read(data).unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (Code::InvalidField, Some("input")));
        assert!(error.message.contains("at least one"), "{}", error.message);
    }
    for (data, answers) in [
        (r#"{"input":"a"}"#, 1),
        (r#"{"input":["a","b"]}"#, 2),
        (r#"{"input":[7,8]}"#, 1),
        (r#"{"input":[[7],[8]]}"#, 2),
    ] {
        assert_eq!(read(data).unwrap().answers, answers, "{data}");
    }
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

fn force(lowest: u64) -> InForce {
    InForce::of(PRICE, Some(Price { amount: Amount::from_u64(lowest), ..PRICE }))
}

fn band(number: u8) -> Band {
    Band::try_from(number).unwrap()
}

#[test]
fn without_a_ceiling_the_hold_is_the_list_price_of_the_bound() {
    let ask = chat(r#"{"messages":[{}],"max_tokens":7}"#);
    let terms = ask.terms(LISTED, None).unwrap();
    assert_eq!(terms, Terms { hold: Amount::from_u64(20), band: Band::LIST, units_paid: 39 });
}

#[test]
fn a_ceiling_opens_a_band_a_low_one_cuts_and_too_low_a_one_is_refused() {
    // 32 bytes and 7 tokens at half a base unit: 20 for all, 17 for the input and one token.
    let ask = chat(r#"{"messages":[{}],"max_tokens":7}"#);
    // Twice the list price is 39 for 39 units, five times 98 rounded up, ten times 195.
    for (ceiling, reached) in
        [(20, 0), (38, 0), (39, 1), (97, 1), (98, 2), (194, 2), (195, 3), (1_000_000, 3)]
    {
        let terms = ask.terms(LISTED, amount(ceiling)).unwrap();
        assert_eq!((u8::from(terms.band), terms.units_paid), (reached, 39), "{ceiling}");
        assert_eq!(terms.hold, Amount::from_u64(ceiling));
    }
    let terms = ask.terms(LISTED, amount(17)).unwrap();
    assert_eq!((terms.hold, terms.units_paid), (Amount::from_u64(17), 34));
    assert_eq!(terms.band, Band::LIST);
    let error = ask.terms(LISTED, amount(16)).unwrap_err();
    assert_eq!(error.code, Code::CeilingTooLow);
    assert!(error.message.contains("at least 17 base units"), "{}", error.message);
    assert!(error.message.contains("500000 base units per 1000000"), "{}", error.message);
    let fft =
        Ask::read(&entry("fft"), r#"{"dtype":"f32","shape":[1000000],"data":""}"#.into()).unwrap();
    let listed = InForce::of(entry("fft").manifest.price, None);
    assert!(fft.terms(listed, amount(2_000)).is_ok());
    assert_eq!(fft.terms(listed, amount(1_999)).unwrap_err().code, Code::CeilingTooLow);
}

#[test]
fn where_all_ask_more_the_least_band_is_that_of_the_cheapest() {
    let ask = chat(r#"{"messages":[{}],"max_tokens":7}"#);
    // 1.2 times the list price: its band reaches twice, and holds are measured by that.
    let dear = force(600_000);
    assert_eq!((dear.band, dear.price.amount), (band(1), Amount::from_u64(600_000)));
    let quote = ask.quote(&entry("chat"), dear, &Options::default()).unwrap();
    assert_eq!((quote.band, quote.hold), (band(1), Amount::from_u64(39)));
    assert_eq!(
        (quote.price.amount, quote.price_max.amount),
        (dear.price.amount, dear.top().amount)
    );
    // The quoted hold as the ceiling reaches that band; less is cut as it was said, or refused.
    assert_eq!(ask.terms(dear, amount(39)).unwrap().band, band(1));
    let cut = ask.terms(dear, amount(33)).unwrap();
    assert_eq!((cut.band, cut.units_paid), (band(1), 33));
    assert_eq!(ask.terms(dear, amount(32)).unwrap_err().code, Code::CeilingTooLow);
    // One that asks the list price or less is as if nobody asked more.
    assert_eq!(force(400_000), LISTED);
}

#[test]
fn the_size_of_the_work_is_what_its_manifest_names() {
    let size = |name: &str, data: &str| {
        Ask::read(&entry(name), Bytes::copy_from_slice(data.as_bytes())).unwrap().size
    };
    assert_eq!(size("echo", r#"{"chunks":20,"delayms":50}"#), 1_000);
    assert_eq!(size("echo", r#"{"delayms":50}"#), 50, "one piece");
    assert_eq!((size("echo", r#"{"chunks":20}"#), size("echo", "7")), (0, 0));
    assert_eq!(size("chat", r#"{"messages":[{}],"max_tokens":7,"n":3}"#), 21);
    assert_eq!(size("chat", r#"{"messages":[{}]}"#), 512);
    assert_eq!(size("fft", r#"{"dtype":"f32","shape":[3,8],"data":""}"#), 24);
    assert_eq!(size("embed", r#"{"input":"abc"}"#), 15);
    assert_eq!(size("speak", r#"{"input":"Hello"}"#), 10_000);
}

#[test]
fn what_was_called_certified_is_refused_with_its_name_of_now() {
    let body =
        |trust: &str| Bytes::from(format!(r#"{{"intent":"echo","data":1,"trust":{trust}}}"#));
    let proven = parse(&body(r#""proven""#), 1_000).unwrap();
    assert_eq!(proven.options.trust, Some(Trust::Proven));
    let mut headers = http::HeaderMap::new();
    headers.insert("mtor-trust", "certified".parse().unwrap());
    for (error, field) in [
        (parse(&body(r#""certified""#), 1_000).unwrap_err(), "trust"),
        (Options::from_headers(&headers).unwrap_err(), "mtor-trust"),
    ] {
        assert_eq!((error.code, error.field.as_deref()), (Code::InvalidField, Some(field)));
        let told = "\"proven\": that is what `certified` is called now";
        assert!(error.message.contains(told), "{}", error.message);
    }
    let error = parse(&body(r#""mine""#), 1_000).unwrap_err();
    assert!(error.message.contains("\"own\", \"proven\" or \"any\""), "{}", error.message);
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
    let meta = |options: &Options, route| ask.meta(stamp(), &entry, LISTED, options, route);
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
    assert_eq!((openai.trust, openai.class), (Trust::Proven, Class::Interactive));
    assert_eq!((openai.branch, openai.origin), (stamp().branch, None));
    assert_eq!((openai.manifest, openai.size), (entry.digest, 512));
    let late = Options { deadline_ms: Some(3_600_001), ..Options::default() };
    assert_eq!(meta(&late, Route::Stored).unwrap_err().field.as_deref(), Some("deadline_ms"));
}

#[test]
fn an_idempotency_key_binds_the_work_and_not_its_deadline() {
    let entry = entry("chat");
    let key = |source: &str, id: &str| ClientKey { source: source.into(), id: id.into() };
    let digests = |data: &str, options: Options| {
        let meta = chat(data).meta(stamp(), &entry, LISTED, &options, Route::Stored).unwrap();
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
    let quote = ask.quote(&entry, LISTED, &options).unwrap();
    let meta = ask.meta(stamp(), &entry, LISTED, &options, Route::Stored).unwrap();
    assert_eq!((quote.hold, quote.band), (meta.ceiling, meta.band));
    assert!(quote.may_be_cut);
    let json = serde_json::to_string(&quote).unwrap();
    assert!(json.contains(r#""hold":"17""#), "{json}");
}

proptest! {
    /// A worker at any price of the band can be paid for the whole of what the hold promises.
    #[test]
    fn the_band_is_covered_by_the_hold(
        list in 1..1_000_000_u64, lowest in 1..10_000_000_u64, per in 1..1_000_000_u64,
        ceiling in prop::option::of(0..1_000_000_000_u64),
        tokens in 1..20_000_u64, fill in 0..4_000_usize,
    ) {
        let data = format!(r#"{{"messages":["{}"],"max_tokens":{tokens}}}"#, "x".repeat(fill));
        let ask = chat(&data);
        let price = |amount: u64| Price { amount: Amount::from_u64(amount), per };
        let force = InForce::of(price(list), Some(price(lowest.min(list * 10))));
        prop_assert!(force.price.amount <= force.top().amount, "it reaches the cheapest");
        match ask.terms(force, ceiling.map(Amount::from_u64)) {
            Ok(terms) => {
                let top = terms.band.top(force.list);
                prop_assert!(terms.band >= force.band);
                prop_assert!(terms.units_paid <= ask.units_max);
                prop_assert!(top.cost_up(terms.units_paid) <= terms.hold);
                prop_assert!(terms.units_paid > ask.input_units);
                if terms.band > force.band {
                    prop_assert_eq!(terms.units_paid, ask.units_max);
                }
                if let Some(ceiling) = ceiling {
                    prop_assert_eq!(terms.hold, Amount::from_u64(ceiling));
                }
            }
            Err(error) => {
                prop_assert_eq!(error.code, Code::CeilingTooLow);
                let ceiling = Amount::from_u64(ceiling.unwrap());
                prop_assert!(force.top().cost_up(ask.input_units + 1) > ceiling);
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
