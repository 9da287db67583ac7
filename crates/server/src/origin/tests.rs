use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn networks(trusted: &[&str], home: &[&str]) -> Networks {
    let parse = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
    Networks { trusted: parse(trusted), home: parse(home) }
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    map
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const PROXY: &str = "10.0.0.1";

/// Behind two proxies of 10.0.0.0/24.
fn origin(lines: &[(&'static str, &str)]) -> (String, bool) {
    let networks = networks(&["10.0.0.0/24", "fd00::/8"], &[]);
    let Origin { address, veiled } = networks.origin(address(PROXY), &headers(lines));
    (address.to_string(), veiled)
}

#[test]
fn whom_a_proxy_does_not_name_is_not_of_its_network_and_a_header_makes_nobody_another() {
    let networks = networks(&["10.0.0.1/32"], &[]);
    let of = |peer: &str, lines: &[(&'static str, &str)]| {
        networks.network(networks.origin(address(peer), &headers(lines)))
    };
    let forged = "x".repeat(HEADER_BYTES_MAX + 1);
    let neighbour = of("10.0.0.7", &[]);
    assert_ne!(of("10.0.0.1", &[("x-forwarded-for", &forged)]), neighbour);
    assert_eq!(of("10.0.0.1", &[("x-forwarded-for", "10.0.0.7")]), neighbour);
    // Not believed, and no second share of the day's grants either.
    assert_eq!(of("203.0.113.9", &[("x-forwarded-for", "8.8.8.8")]), of("203.0.113.9", &[]));
    assert_ne!(of("127.0.0.1", &[("x-forwarded-for", "8.8.8.8")]), of("127.0.0.1", &[]));
    assert_eq!(of("2001:db8:1:2::3", &[]), of("2001:db8:1:ff::1", &[]));
}

#[test]
fn the_client_is_the_first_from_the_right_that_is_no_trusted_proxy() {
    let xff = |value| origin(&[("x-forwarded-for", value)]);
    for (value, found) in [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.1,203.0.113.9,10.0.0.2", "203.0.113.9"),
        ("unknown, x y, 203.0.113.9:4711", "203.0.113.9"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:80, fd00::1", "2001:db8::7"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
    ] {
        assert_eq!(xff(value), (found.to_owned(), false), "{value}");
    }
    let forwarded = |value| origin(&[("forwarded", value)]);
    for (value, found) in [
        ("for=203.0.113.9", "203.0.113.9"),
        ("For=\"[2001:db8::7]:80\";proto=https;by=10.0.0.1", "2001:db8::7"),
        ("for=198.51.100.1, proto=http; for=203.0.113.9", "203.0.113.9"),
        // A quote that somebody left open swallows nothing.
        ("for=\"x, for=203.0.113.9", "203.0.113.9"),
    ] {
        assert_eq!(forwarded(value), (found.to_owned(), false), "{value}");
    }
    let lines = [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.9, 10.0.0.7")];
    assert_eq!(origin(&lines).0, "203.0.113.9", "lines are one list");
}

#[test]
fn what_cannot_be_read_ends_at_the_proxy_that_passed_it_on() {
    for (lines, last) in [
        (vec![("x-forwarded-for", "203.0.113.9, nobody")], PROXY),
        (vec![("x-forwarded-for", "203.0.113.9, nobody, 10.0.0.2")], "10.0.0.2"),
        (vec![("x-forwarded-for", "")], PROXY),
        (vec![("x-forwarded-for", "203.0.113.9,")], PROXY),
        (vec![("x-forwarded-for", "203.0.113.9 10.0.0.2")], PROXY),
        (vec![("x-forwarded-for", "[203.0.113.9]")], PROXY),
        (vec![("x-forwarded-for", "10.0.0.2")], "10.0.0.2"),
        (vec![("forwarded", "for=unknown")], PROXY),
        (vec![("forwarded", "for=_secret")], PROXY),
        (vec![("forwarded", "proto=https")], PROXY),
        (vec![("forwarded", "for=203.0.113.9;for=198.51.100.1")], PROXY),
        (vec![("via", "1.1 somebody")], PROXY),
        // Two headers that name two clients: one was written by the client.
        (vec![("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=198.51.100.1")], PROXY),
    ] {
        assert_eq!(origin(&lines), (last.to_owned(), true), "{lines:?}");
    }
    let both = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")];
    assert_eq!(origin(&both), ("203.0.113.9".to_owned(), false));
    let long = format!("{}203.0.113.9", "10.0.0.2, ".repeat(HEADER_BYTES_MAX / 10));
    assert_eq!(origin(&[("x-forwarded-for", &long)]), (PROXY.to_owned(), true));
    let many = format!("203.0.113.9{}", ", 10.0.0.2".repeat(HOPS_MAX));
    assert_eq!(origin(&[("x-forwarded-for", &many)]), ("10.0.0.2".to_owned(), true));
}

#[test]
fn who_is_not_trusted_is_believed_nothing() {
    let lines = headers(&[("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1")]);
    for networks in [networks(&[], &[]), networks(&["10.0.0.0/24"], &[])] {
        let found = networks.origin(address("203.0.113.9"), &lines);
        assert_eq!(found, Origin { address: address("203.0.113.9"), veiled: true });
    }
    let mapped = networks(&["10.0.0.0/24"], &[]);
    let found =
        mapped.origin(address("::ffff:10.0.0.1"), &headers(&[("x-forwarded-for", "8.8.8.8")]));
    assert_eq!(found.address, address("8.8.8.8"), "an IPv4 proxy on an IPv6 socket");
}

#[test]
fn a_home_network_is_one_that_asks_for_itself() {
    let networks = networks(&["10.0.0.1/32"], &["10.0.0.0/24", "127.0.0.0/8", "192.0.2.0/24"]);
    let home = |peer: &str, lines: &[(&'static str, &str)]| {
        networks.is_home(networks.origin(address(peer), &headers(lines)))
    };
    assert!(home("192.0.2.7", &[]) && home("127.0.0.1", &[]) && home("10.0.0.1", &[]));
    assert!(!home("203.0.113.9", &[]));
    assert!(home("10.0.0.1", &[("x-forwarded-for", "192.0.2.7")]));
    assert!(!home("10.0.0.1", &[("x-forwarded-for", "203.0.113.9")]));
    // A proxy of that network, for somebody that nobody knows.
    assert!(!home("10.0.0.1", &[("x-forwarded-for", "nobody")]));
    assert!(!home("127.0.0.1", &[("x-forwarded-for", "192.0.2.7")]));
    assert!(!home("127.0.0.1", &[("via", "1.1 somebody")]));
}

fn trusted() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u8>().prop_map(|last| IpAddr::from([10, 0, 0, last])),
        any::<[u8; 15]>().prop_map(|rest| {
            let mut octets = [0xfd; 16];
            octets[1..].copy_from_slice(&rest);
            IpAddr::from(octets)
        }),
    ]
}

fn written(address: IpAddr, how: u8) -> String {
    match (address, how % 3) {
        (IpAddr::V6(address), 0) => format!("[{address}]"),
        (address, 1) => SocketAddr::new(address, 4711).to_string(),
        (address, _) => address.to_string(),
    }
}

proptest! {
    /// Whatever the client wrote before it, and however the proxies split it into lines: what the
    /// first trusted proxy saw is found.
    #[test]
    fn no_client_can_say_who_it_is(
        client: [u8; 4], forged in prop::collection::vec("[ -~]{0,20}", 0..5),
        chain in prop::collection::vec((trusted(), any::<u8>(), any::<bool>()), 1..6),
        rfc7239: bool,
    ) {
        let client = IpAddr::from(client);
        let networks = networks(&["10.0.0.0/24", "fd00::/8"], &[]);
        prop_assume!(!contains(&networks.trusted, client));
        let (name, say) = if rfc7239 {
            ("forwarded", Box::new(|text: String| format!("proto=http;for=\"{text}\""))
                as Box<dyn Fn(String) -> String>)
        } else {
            ("x-forwarded-for", Box::new(|text| text) as Box<dyn Fn(String) -> String>)
        };
        let mut lines = vec![forged.join(",")];
        let mut asking = client;
        for (proxy, how, new_line) in &chain {
            let entry = say(written(asking, *how));
            if *new_line {
                lines.push(entry);
            } else if let Some(line) = lines.last_mut() {
                *line = format!("{line}, {entry}");
            }
            asking = *proxy;
        }
        let mut map = HeaderMap::new();
        for line in &lines {
            map.append(name, HeaderValue::from_str(line).unwrap());
        }
        let found = networks.origin(asking, &map);
        prop_assert_eq!(found, Origin { address: client, veiled: false });
    }

    /// Any bytes give an answer: the connection's other end, or an address that was named.
    #[test]
    fn any_headers_have_an_origin(
        peer: [u8; 4], lines in prop::collection::vec((0..5_usize, any::<Vec<u8>>()), 0..6),
    ) {
        let peer = IpAddr::from(peer);
        let mut map = HeaderMap::new();
        for (name, line) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                map.append(FORWARDED[name], value);
            }
        }
        let none = networks(&[], &[]).origin(peer, &map);
        prop_assert_eq!(none, Origin { address: peer, veiled: is_forwarded(&map) });
        let all = networks(&["0.0.0.0/0", "::/0"], &["0.0.0.0/0", "::/0"]);
        let found = all.origin(peer, &map);
        prop_assert_eq!(found.veiled, is_forwarded(&map));
        prop_assert_eq!(all.is_home(found), !is_forwarded(&map));
    }
}
