use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::*;

fn with(lines: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[track_caller]
fn chosen(accept: &str, expected: Coding) {
    let headers = with(&[(header::ACCEPT_ENCODING, accept)]);
    assert_eq!(Coding::accepted(&headers), expected, "accept-encoding: {accept}");
}

#[test]
fn the_client_chooses_and_the_smaller_one_wins_a_tie() {
    assert_eq!(Coding::accepted(&HeaderMap::new()), Coding::Plain);
    chosen("", Coding::Plain);
    chosen("gzip, deflate, br, zstd", Coding::Br);
    chosen("gzip, deflate", Coding::Gzip);
    chosen("X-GZIP", Coding::Gzip);
    chosen("deflate, zstd", Coding::Plain);
    chosen("br;q=0.5, gzip;q=0.8", Coding::Gzip);
    chosen("br ; Q=0.8 , gzip;q=0.8", Coding::Br);
    chosen("*", Coding::Br);
    chosen("br;q=0, *;q=0.1", Coding::Gzip);
    chosen("gzip;q=0.2, identity", Coding::Plain);
    // Plain bytes go last where nothing is said of them.
    chosen("gzip;q=0.001", Coding::Gzip);
    chosen("br;q=0", Coding::Plain);
    chosen("identity;q=0, *;q=0", Coding::Plain);
    // Several lines are one list.
    let lines = [(header::ACCEPT_ENCODING, "gzip"), (header::ACCEPT_ENCODING, "br;q=0.9")];
    assert_eq!(Coding::accepted(&with(&lines)), Coding::Gzip);
}

#[test]
fn a_weight_that_cannot_be_read_refuses() {
    for weight in ["2", "1.5e3", "-1", "0.1234", "", "nan", "0,5"] {
        let accept = format!("br;q={weight}, gzip;q=0.1");
        assert_ne!(Coding::accepted(&with(&[(header::ACCEPT_ENCODING, &accept)])), Coding::Br);
    }
    for (text, expected) in [("1", 1_000), ("1.000", 1_000), ("0.5", 500), ("0.", 0), ("0.05", 50)]
    {
        assert_eq!(thousandths(text), Some(expected), "{text}");
    }
}

#[test]
fn the_table_is_sorted_and_each_packed_form_is_smaller() {
    assert!(ASSETS.is_sorted_by(|one, next| one.name < next.name));
    assert!(ASSETS.iter().any(|file| file.name.ends_with(".js")));
    assert!(
        ASSETS.iter().all(|file| file.plain.is_some() || file.br.is_some() && file.gzip.is_some())
    );
    for file in ASSETS.iter().chain([&INDEX]) {
        for packed in [file.br, file.gzip].into_iter().flatten() {
            assert!(file.plain.is_none_or(|plain| packed.len() < plain.len()), "{}", file.name);
        }
    }
}

#[tokio::test]
async fn the_index_is_asked_for_again_and_sent_once() {
    let first = index(with(&[(header::ACCEPT_ENCODING, "br")])).await;
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(first.headers()[header::CONTENT_ENCODING], "br");
    assert_eq!(first.headers()[header::CACHE_CONTROL], "no-cache");
    let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();

    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".into()] {
        let lines = [(header::ACCEPT_ENCODING, "br"), (header::IF_NONE_MATCH, known.as_str())];
        let again = index(with(&lines)).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(again.headers()[header::ETAG], tag.as_str());
        assert_eq!(again.headers()[header::VARY], "accept-encoding");
        assert!(!again.headers().contains_key(header::CONTENT_ENCODING));
    }
    // Other bytes, another tag: who kept the plain page does not have the packed one.
    let plain = index(HeaderMap::new()).await;
    assert_ne!(plain.headers()[header::ETAG], tag.as_str());
    let lines = [(header::IF_NONE_MATCH, tag.as_str())];
    assert_eq!(index(with(&lines)).await.status(), StatusCode::OK);
}

#[test]
fn what_is_only_packed_is_never_sent_as_if_it_were_plain() {
    let file = File { name: "a", kind: "b", plain: None, br: Some(b"br"), gzip: Some(b"gzip") };
    for (coding, expected) in [
        (Coding::Br, (&b"br"[..], Coding::Br)),
        (Coding::Gzip, (&b"gzip"[..], Coding::Gzip)),
        (Coding::Plain, (&b"gzip"[..], Coding::Gzip)),
    ] {
        assert_eq!(file.in_coding(coding), expected);
    }
}
