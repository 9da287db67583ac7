//! Addresses: a realm's own, and what is put behind it.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::error::ClientError;

/// `scheme://authority` of a realm, without a slash at its end. A path, a query or a user name is
/// refused: a key never stands in an address.
///
/// Without a scheme, a host of this machine or of a private network is asked over plain HTTP, as a
/// realm speaks it, and any other one over TLS: a key that goes along must not be read on its way.
pub(crate) fn base(text: &str) -> Result<String, ClientError> {
    let trimmed = text.trim();
    let wrong = |remedy: String| ClientError::Address { address: text.to_owned(), remedy };
    let example = || wrong("give an address such as http://127.0.0.1:9000".into());
    if trimmed.is_empty() {
        return Err(wrong(
            "it is empty: give an address such as http://127.0.0.1:9000, or leave it out".into(),
        ));
    }
    let (scheme, rest) = match trimmed.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, trimmed.strip_prefix("//").unwrap_or(trimmed)),
    };
    let scheme = match scheme.as_deref() {
        None | Some("http" | "https") => scheme,
        Some("ws") => {
            return Err(wrong(format!("write http://{rest}: events come over HTTP, too")));
        }
        Some("wss") => {
            return Err(wrong(format!("write https://{rest}: events come over HTTP, too")));
        }
        Some(_) => return Err(wrong(format!("write http://{rest} or https://{rest}"))),
    };
    if scheme.is_none() && rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong(format!("for a port of this machine write 127.0.0.1:{rest}")));
    }
    // Only a port: one of this machine.
    let rest = if rest.starts_with(':') { format!("127.0.0.1{rest}") } else { rest.to_owned() };
    let scheme = scheme.unwrap_or_else(|| if is_near(&rest) { "http" } else { "https" }.into());
    let uri: http::Uri = format!("{scheme}://{rest}").parse().map_err(|_| example())?;
    let authority = uri.authority().map(http::uri::Authority::as_str).ok_or_else(example)?;
    if authority.contains('@') {
        return Err(wrong("leave the key out of the address: it goes into MTOR_API_KEY".into()));
    }
    // A port that is none, as in `host:` or `host:99999`, parses as an authority all the same.
    let has_good_port = authority.ends_with(']')
        || authority.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok());
    if !has_good_port {
        return Err(wrong("behind the colon stands a port: 0 to 65535".into()));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(example());
    }
    let authority = authority.to_ascii_lowercase();
    if uri.query().is_some() || !matches!(uri.path(), "" | "/") {
        let remedy = format!("leave out what stands behind the host: {scheme}://{authority}");
        return Err(wrong(remedy));
    }
    Ok(format!("{scheme}://{authority}"))
}

/// Whether a host is of this machine or of a private network.
fn is_near(authority: &str) -> bool {
    let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let host = match bracketed {
        Some((host, _)) => host,
        None => authority.split([':', '/']).next().unwrap_or_default(),
    };
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()
        }
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip.is_unspecified()
        }
        Err(_) => !host.contains('.') || host.ends_with(".local") || host.ends_with(".localhost"),
    }
}

/// `path?name=value&…` of the pairs that have a value.
pub(crate) fn with_query(path: &str, pairs: &[(&str, Option<String>)]) -> String {
    let mut whole = path.to_owned();
    let mut separator = '?';
    for (name, value) in pairs {
        let Some(value) = value else { continue };
        // Writing into a String cannot fail.
        let _ = write!(whole, "{separator}{name}={}", encode(value));
        separator = '&';
    }
    whole
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form() {
        for (text, whole) in [
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
            (" http://127.0.0.1:9000\n", "http://127.0.0.1:9000"),
            ("HTTP://LocalHost:9000", "http://localhost:9000"),
            ("https://realm.example", "https://realm.example"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("http://[::1]", "http://[::1]"),
            ("localhost:9000", "http://localhost:9000"),
            ("127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("//localhost:9000/", "http://localhost:9000"),
            (":9000", "http://127.0.0.1:9000"),
            ("[::1]:9000", "http://[::1]:9000"),
            ("192.168.1.7:9000", "http://192.168.1.7:9000"),
            ("attic", "http://attic"),
            ("attic.local:9000", "http://attic.local:9000"),
            ("realm.example", "https://realm.example"),
            ("//realm.example:9000", "https://realm.example:9000"),
            ("8.8.8.8:9000", "https://8.8.8.8:9000"),
        ] {
            assert_eq!(base(text).unwrap(), whole, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_what_to_write() {
        for (text, remedy) in [
            ("", "it is empty"),
            (" ", "it is empty"),
            ("ftp://a", "write http://a or https://a"),
            ("ws://a:9000", "write http://a:9000"),
            ("wss://a", "write https://a"),
            ("9000", "127.0.0.1:9000"),
            ("http://", "http://127.0.0.1:9000"),
            ("http://u:p@a", "MTOR_API_KEY"),
            ("u:p@a", "MTOR_API_KEY"),
            ("http://a/path", "behind the host: http://a"),
            ("a/v1", "behind the host: http://a"),
            ("http://a?key=1", "behind the host: http://a"),
            ("http://a:99999", "a port"),
            ("http://a:", "a port"),
            ("http:a", "a port"),
            ("http:// a", "http://127.0.0.1:9000"),
        ] {
            let error = base(text).expect_err(text);
            assert!(error.to_string().contains("http://host:port"), "{error}");
            let told = error.remedy().unwrap();
            assert!(told.contains(remedy), "{text}: {told}");
        }
    }

    #[test]
    fn what_a_realm_sends_is_encoded_before_it_goes_back() {
        let query = with_query("/p", &[("a", None), ("b", Some("x y&z=1".into()))]);
        assert_eq!(query, "/p?b=x%20y%26z%3D1");
        assert_eq!(with_query("/p", &[("a", None)]), "/p");
    }
}
