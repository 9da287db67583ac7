//! A realm behind a proxy: who a client is, is what a trusted proxy says, and nobody else.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use crate::common::http::{Guest, Reply, send};
use crate::common::socket::Hand;
use crate::common::{Place, Realm, eventually};
use serde_json::{Value, json};

/// A proxy on loopback, in front of one client: it adds whom it asks for to what was said before.
fn hop(realm: &Realm, client: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let to = realm.url.strip_prefix("http://").unwrap().to_owned();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(&to).unwrap());
            std::thread::spawn(move || forward(near, far, client));
        }
    });
    url
}

fn forward(mut near: TcpStream, mut far: TcpStream, client: &str) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if near.read_exact(&mut byte).is_err() {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let is_said = |line: &&str| line.to_lowercase().starts_with("x-forwarded-for:");
    let before = head.lines().find(is_said).map(|line| line.split_once(':').unwrap().1.trim());
    let said = before.map_or(client.to_owned(), |before| format!("{before}, {client}"));
    let rest: Vec<&str> = head.trim_end().lines().filter(|line| !is_said(line)).collect();
    let head = format!("{}\r\nx-forwarded-for: {said}\r\n\r\n", rest.join("\r\n"));
    far.write_all(head.as_bytes()).unwrap();
    let (mut there, mut here) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut there, &mut here));
    let _ = std::io::copy(&mut far, &mut near);
    // The other direction still holds the client's connection.
    let _ = near.shutdown(Shutdown::Both);
}

fn guest(url: &str, said: &[(&str, &str)]) -> Reply {
    send(url, "POST", "/v1/accounts/guest", said, b"{}")
}

/// Why the account of a new guest is empty, if it is.
fn none(opened: &Reply) -> Option<String> {
    assert_eq!(opened.status, 201, "{opened:?}");
    opened.json()["no_grant"]["code"].as_str().map(str::to_owned)
}

/// A network has a hundred grants a day.
fn use_up(url: &str) {
    for number in 0..100 {
        assert_eq!(none(&guest(url, &[])), None, "guest {number}");
    }
    assert_eq!(none(&guest(url, &[])).as_deref(), Some("MT0019"));
}

#[test]
fn guests_behind_a_trusted_proxy_are_counted_by_their_own_networks() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker", "--trusted-proxy", "127.0.0.1"]);
    let (one, other) = (hop(&realm, "203.0.113.9"), hop(&realm, "198.51.100.7"));
    use_up(&one);
    assert_eq!(none(&guest(&other, &[])), None, "another network");
    // What a client writes stands to the left of what the proxy saw.
    for said in ["192.0.2.1", "192.0.2.1, 10.0.0.1", "unknown"] {
        let opened = guest(&one, &[("x-forwarded-for", said)]);
        assert_eq!(none(&opened).as_deref(), Some("MT0019"), "{said}");
    }
    assert_eq!(none(&guest(&realm.url, &[])), None, "this machine is of no network");
}

#[test]
fn who_is_no_trusted_proxy_is_not_believed() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker", "--trusted-proxy", "10.0.0.0/8"]);
    let (one, other) = (hop(&realm, "203.0.113.9"), hop(&realm, "198.51.100.7"));
    use_up(&one);
    let all = none(&guest(&other, &[]));
    assert_eq!(all.as_deref(), Some("MT0019"), "all of its visitors are one network");
    for (name, said) in [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")] {
        let opened = guest(&realm.url, &[(name, said)]);
        assert_eq!(none(&opened).as_deref(), Some("MT0019"), "{name}");
    }
    assert_eq!(none(&guest(&realm.url, &[])), None, "who asks for himself is not one of them");
}

#[test]
fn work_stands_under_the_network_of_its_request_or_its_account_where_that_is_home() {
    let place = Place::new();
    let trusted = ["--trusted-proxy", "127.0.0.1", "--home-network", "192.0.2.0/24"];
    let realm = Realm::start(&place, &[&["--no-worker"], trusted.as_slice()].concat());
    let owner = Guest::new(&realm.url);
    // It does nothing, so that each intent is seen while it is open.
    let hand = Hand::join(&realm, 1, &json!([{"intent": "echo", "slots": 1}]));
    std::thread::spawn(move || hand.serve(|_, _| {}));
    eventually(|| owner.ask("GET", "/v1/pools", "").json()["items"] != json!([]));
    let secret = format!("Bearer {}", realm.ready["sysop_secret"].as_str().unwrap());
    let network = |url: &str| -> Value {
        let asked = Guest { url: url.to_owned(), key: owner.key.clone() };
        let reply = asked.ask("POST", "/v1/intents", r#"{"intent":"echo","data":1}"#);
        assert_eq!(reply.status, 202, "{reply:?}");
        let intents =
            send(&realm.url, "GET", "/v1/sysop/intents", &[("authorization", &secret)], b"");
        let items = intents.json()["items"].as_array().unwrap().clone();
        let intent = reply.json()["intent"].clone();
        items.into_iter().find(|row| row["intent"] == intent).unwrap()["network"].clone()
    };
    let (one, same) = (hop(&realm, "203.0.113.9"), hop(&realm, "203.0.113.10"));
    let (other, home) = (hop(&realm, "198.51.100.7"), hop(&realm, "192.0.2.7"));
    let first = network(&one);
    assert!(first.is_string(), "{first}");
    assert_eq!(network(&same), first, "one /24");
    assert_ne!(network(&other), first);
    for own in [home, realm.url.clone()] {
        assert_eq!(network(&own), Value::Null, "at home and here its account has its own weight");
    }
}

#[test]
fn a_network_that_is_none_is_named_with_what_is_expected() {
    let place = Place::new();
    for option in ["--trusted-proxy", "--home-network"] {
        let done = place.run(&["up", option, "10.0.0.0/33"]);
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains(option), "{done:?}");
        assert!(done.stderr.contains("10.0.0.0/8"), "{done:?}");
    }
}
