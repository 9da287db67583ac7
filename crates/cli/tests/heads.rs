//! Heads of requests that a proxy could read in another way than the realm are refused, in the
//! realm's own words, and nothing more is read on their connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::{Place, Realm};
use serde_json::Value;

/// What comes back on one connection for all of that, answer by answer.
fn answers(realm: &Realm, requests: &str) -> Vec<String> {
    let mut client = TcpStream::connect(realm.url.strip_prefix("http://").unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client.write_all(requests.as_bytes()).unwrap();
    let mut read = Vec::new();
    // What was sent after a refusal may break the connection.
    let _ = client.read_to_end(&mut read);
    let read = String::from_utf8(read).unwrap();
    read.split("HTTP/1.1 ").skip(1).map(str::to_owned).collect()
}

#[test]
fn a_head_that_could_be_read_in_two_ways_is_refused_and_ends_its_connection() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let fine = "GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n";
    for (head, field) in [
        ("GET /healthz HTTP/1.1\r\n\r\n", Some("host")),
        ("GET /healthz HTTP/1.1\r\nhost: here\r\nHost: there\r\n\r\n", Some("host")),
        ("GET http://there/healthz HTTP/1.1\r\nhost: here\r\n\r\n", Some("host")),
        ("GET /healthz HTTP/1.1\nhost: here\n\n", None),
        ("GET /healthz HTTP/1.1\r\nhost: here\r\nx: y\n\r\n", None),
        (
            "POST /v1/accounts/guest HTTP/1.1\r\nhost: here\r\ncontent-length: 4\r\n\
             transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            Some("content-length"),
        ),
        (
            "POST /v1/accounts/guest HTTP/1.1\r\nhost: here\r\ntransfer-encoding: gzip, chunked\r\n\
             \r\n0\r\n\r\n",
            Some("transfer-encoding"),
        ),
    ] {
        let told = answers(&realm, &[fine, head, fine].concat());
        assert_eq!(told.len(), 2, "{head:?}: {told:?}");
        assert!(told[0].starts_with("200 "), "{head:?}: {told:?}");
        let (refused, error) = told[1].split_once("\r\n\r\n").unwrap();
        assert!(refused.starts_with("400 ") && refused.contains("connection: close"), "{refused}");
        let error: Value = serde_json::from_str(error).unwrap();
        assert_eq!(error["error"]["code"].as_str(), Some("MT0035"), "{head:?}: {error}");
        assert_eq!(error["error"]["field"].as_str(), field, "{head:?}: {error}");
    }
    // A lone line feed in a body is nobody's business.
    let chunked = "POST /v1/accounts/guest HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\
                   \r\n4\r\n{\n\n}\r\n0\r\n\r\n";
    let sized = "POST /v1/accounts/guest HTTP/1.1\r\nhost: here\r\ncontent-length: 4\r\n\r\n{\n\n}";
    let last = fine.replace("here", "here\r\nconnection: close");
    let told = answers(&realm, &[chunked, sized, &last].concat());
    let begin: Vec<&str> = told.iter().map(|answer| &answer[..3]).collect();
    assert_eq!(begin, ["201", "201", "200"], "{told:?}");
    // As old as it is, HTTP/1.0 has no host.
    let told = answers(&realm, "GET /healthz HTTP/1.0\r\n\r\n");
    assert!(told.len() == 1 || told.is_empty(), "{told:?}");
}
