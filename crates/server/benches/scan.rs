//! From a client's bytes to a checked, bounded ask, by size of the body.

use bytes::Bytes;
use divan::{Bencher, black_box};
use mtor_server::admission::scan::{Wanted, scan};
use mtor_server::admission::{Ask, json, parse};
use mtor_server::manifests::Manifests;

fn main() {
    divan::main();
}

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];

/// A conversation of about `bytes` bytes in messages of up to 1 KB, some of it escaped.
fn chat(bytes: usize) -> Bytes {
    let text = "The quick brown fox says \\\"hello\\\" to the lazy dog.\\n";
    let mut body =
        String::from(r#"{"model":"smollm2","stream":true,"max_tokens":128,"messages":["#);
    while body.len() + 90 < bytes {
        let left = (bytes - body.len() - 60).min(1_000);
        let content = text.repeat((left / text.len()).max(1));
        body.push_str(&format!(r#"{{"role":"user","content":"{content}"}},"#));
    }
    body.push_str(r#"{"role":"user","content":"ok"}],"temperature":0.7,"user":"me"}"#);
    body.into()
}

#[divan::bench(args = SIZES)]
fn text(bencher: Bencher<'_, '_>, bytes: usize) {
    let body = chat(bytes);
    bencher.counter(body.len()).bench(|| json::text(black_box(&body), 1 << 30).map(str::len));
}

#[divan::bench(args = SIZES)]
fn scanned(bencher: Bencher<'_, '_>, bytes: usize) {
    let body = chat(bytes);
    bencher.counter(body.len()).bench(|| {
        let text = json::text(black_box(&body), 1 << 30)?;
        scan(text, Wanted::ALL)
    });
}

#[divan::bench(args = SIZES)]
fn chat_admitted(bencher: Bencher<'_, '_>, bytes: usize) {
    let manifests = Manifests::built_in().expect("valid");
    let entry = manifests.get("chat").expect("built in");
    let body = chat(bytes);
    bencher.counter(body.len()).bench(|| Ask::read(entry, black_box(&body).clone()));
}

#[divan::bench(args = SIZES)]
fn fft_admitted(bencher: Bencher<'_, '_>, bytes: usize) {
    let manifests = Manifests::built_in().expect("valid");
    let entry = manifests.get("fft").expect("built in");
    let points = bytes / 11;
    let body = Bytes::from(format!(
        r#"{{"dtype":"c64","shape":[{points}],"data":"{}"}}"#,
        "QUJD".repeat(bytes / 4)
    ));
    bencher.counter(body.len()).bench(|| Ask::read(entry, black_box(&body).clone()));
}

#[divan::bench]
fn echo_document(bencher: Bencher<'_, '_>) {
    let manifests = Manifests::built_in().expect("valid");
    let entry = manifests.get("echo").expect("built in");
    let body = Bytes::from_static(br#"{"intent":"echo","data":{"hello":"world"},"ceiling":"5"}"#);
    bencher.bench(|| {
        let document = parse(black_box(&body), 1 << 20)?;
        Ask::read(entry, document.data)
    });
}
