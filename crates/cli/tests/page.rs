//! The page as a browser gets it: small, kept, and under a policy that lets nothing else in.

use std::collections::BTreeMap;
use std::io::Read;

use crate::common::http::{open, send};
use crate::common::{Place, Realm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

/// An answer with its head, whose body need not be text.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn get(realm: &Realm, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut bytes = Vec::new();
    open(&realm.url, method, path, headers, b"").read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Answer { status, headers, body: bytes[end + 4..].to_vec() }
}

impl Answer {
    #[track_caller]
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Every asset that the index names.
fn assets(realm: &Realm) -> Vec<String> {
    let index = String::from_utf8(get(realm, "GET", "/", &[]).body).unwrap();
    let names = index.split("\"./assets/").skip(1);
    names.map(|rest| format!("/assets/{}", rest.split('"').next().unwrap())).collect()
}

#[test]
fn assets_are_kept_for_ever_and_come_as_small_as_the_client_can_read() {
    let place = Place::new();
    let realm = Realm::start(&place, &[]);
    let assets = assets(&realm);
    for (ending, kind) in
        [(".js", "text/javascript"), (".css", "text/css"), (".svg", "image/svg+xml")]
    {
        let name = assets.iter().find(|name| name.ends_with(ending)).unwrap();
        let plain = get(&realm, "GET", name, &[]);
        assert_eq!((plain.status, plain.header("content-encoding")), (200, ""), "{name}");
        assert!(plain.header("content-type").starts_with(kind), "{name}");
        assert_eq!(plain.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(plain.header("vary"), "accept-encoding");
        assert_eq!(plain.header("x-content-type-options"), "nosniff");
        assert_eq!(plain.header("content-length"), plain.body.len().to_string());

        let mut least = plain.body.len();
        for (accept, coding) in [("gzip, deflate", "gzip"), ("gzip, br;q=0.9, *;q=0", "gzip")] {
            let packed = get(&realm, "GET", name, &[("accept-encoding", accept)]);
            assert_eq!(packed.header("content-encoding"), coding, "{name} for {accept}");
            assert_eq!(packed.body[..2], [0x1f, 0x8b], "{name} is no gzip");
            assert!(packed.body.len() < plain.body.len(), "{name}");
            least = packed.body.len();
        }
        let br = get(&realm, "GET", name, &[("accept-encoding", "gzip, deflate, br, zstd")]);
        assert_eq!(br.header("content-encoding"), "br", "{name}");
        assert!(br.body.len() < least, "{name}");

        let head = get(&realm, "HEAD", name, &[("accept-encoding", "br")]);
        assert_eq!((head.status, head.body.len()), (200, 0), "{name}");
        assert_eq!(head.header("content-length"), br.body.len().to_string());
        assert_eq!(head.header("content-encoding"), "br");
    }
}

#[test]
fn the_index_is_sent_again_only_when_it_changed() {
    let place = Place::new();
    let realm = Realm::start(&place, &[]);
    let first = get(&realm, "GET", "/", &[("accept-encoding", "br")]);
    assert_eq!((first.status, first.header("content-encoding")), (200, "br"));
    assert_eq!(first.header("cache-control"), "no-cache");
    assert_eq!(first.header("vary"), "accept-encoding");
    let tag = first.header("etag");
    assert!(tag.len() > 4, "no tag: {tag}");

    for method in ["GET", "HEAD"] {
        let known = [("accept-encoding", "br"), ("if-none-match", tag)];
        let again = get(&realm, method, "/", &known);
        assert_eq!((again.status, again.body.len()), (304, 0), "{method}");
        assert_eq!(again.header("etag"), tag);
    }
    let other = get(&realm, "GET", "/", &[("accept-encoding", "br"), ("if-none-match", "\"x\"")]);
    assert_eq!(other.status, 200);
    // A start later the same binary has the same tag.
    assert_eq!(realm.stop(), Some(0));
    let realm = Realm::start(&place, &[]);
    let later = get(&realm, "GET", "/", &[("accept-encoding", "br"), ("if-none-match", tag)]);
    assert_eq!(later.status, 304);
}

#[test]
fn nothing_from_elsewhere_runs_and_no_text_becomes_a_script() {
    let place = Place::new();
    let realm = Realm::start(&place, &[]);
    let index = get(&realm, "GET", "/", &[]);
    let policy: Vec<&str> = index.header("content-security-policy").split("; ").collect();
    for rule in [
        "default-src 'self'",
        "connect-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob:",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types svelte-trusted-html mtor-worker",
    ] {
        assert!(policy.contains(&rule), "{rule} is not in {policy:?}");
    }
    let page = String::from_utf8(index.body.clone()).unwrap();
    assert!(!page.contains("style="), "inline style: {page}");
    // One style stands in the index, what the bar needs; the policy knows it by its hash.
    let [_, style] = page.split("<style>").collect::<Vec<_>>()[..] else { panic!("{page}") };
    let (style, rest) = style.split_once("</style>").unwrap();
    assert!(style.contains(".top{") && style.len() < 6_000, "{style}");
    assert!(!rest.contains("<style"), "a second style: {page}");
    let hash = BASE64.encode(Sha256::digest(style));
    assert!(policy.contains(&&*format!("style-src 'self' 'sha256-{hash}'")), "{policy:?}");
    assert!(
        !get(&realm, "GET", &assets(&realm)[0], &[])
            .header("content-security-policy")
            .contains("sha256")
    );
    // WebAssembly is compiled in a worker, whose policy is that of its script; not in the page.
    assert!(!policy.iter().any(|rule| rule.contains("wasm")), "{policy:?}");
    for name in assets(&realm) {
        let asset = get(&realm, "GET", &name, &[]);
        let rules = asset.header("content-security-policy");
        assert!(rules.contains("require-trusted-types-for 'script'"), "{name}: {rules}");
        assert!(!rules.contains("'unsafe-"), "{name}: {rules}");
        let may_compile = rules.contains("script-src 'self' 'wasm-unsafe-eval'");
        assert_eq!(may_compile, name.ends_with(".js"), "{name}: {rules}");
    }
    // Its stylesheet comes behind the bar, so that the bar need not wait for it.
    assert!(page.find("</header>") < page.find("rel=\"stylesheet\""), "{page}");
    assert!(!page.contains("://"), "something from elsewhere: {page}");

    for path in ["/assets/app.js", "/assets/index.html", "/assets/..%2findex.html", "/assets/"] {
        let unknown = send(&realm.url, "GET", path, &[], b"");
        assert_eq!(unknown.refusal(), (404, "MT0010".into()), "{path}");
    }
    // The packed forms are not files of their own.
    let script = assets(&realm).into_iter().find(|name| name.ends_with(".js")).unwrap();
    let packed = send(&realm.url, "GET", &format!("{script}.br"), &[], b"");
    assert_eq!(packed.refusal(), (404, "MT0010".into()));
}
