//! Addresses: a realm's own, and what is put behind it.

use std::fmt::Write as _;

use crate::error::ClientError;

/// `scheme://authority` of a realm, without a slash at its end. A path, a query or a user name is
/// refused: a key never stands in an address.
pub(crate) fn base(text: &str) -> Result<String, ClientError> {
    let wrong = || ClientError::Address { address: text.to_owned() };
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
    let scheme = scheme.ok_or_else(wrong)?;
    let authority = uri.authority().map(http::uri::Authority::as_str).ok_or_else(wrong)?;
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    let is_bare = uri.query().is_none() && matches!(uri.path(), "" | "/");
    // A port that is none, as in `host:` or `host:99999`, parses as an authority all the same.
    let has_good_port = authority.ends_with(']')
        || authority.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok());
    if !has_host || !is_bare || !has_good_port || authority.contains('@') {
        return Err(wrong());
    }
    Ok(format!("{scheme}://{authority}"))
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
            ("https://realm.example", "https://realm.example"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("http://[::1]", "http://[::1]"),
        ] {
            assert_eq!(base(text).unwrap(), whole);
        }
        for text in [
            "",
            "realm.example",
            "localhost:9000",
            "ftp://a",
            "http://",
            "http://u:p@a",
            "http://a/path",
            "http://a?key=1",
            "http://a:99999",
            "http://a:",
            "http:// a",
        ] {
            let error = base(text).expect_err(text).to_string();
            assert!(error.contains("http://host:port"), "{error}");
        }
    }

    #[test]
    fn what_a_realm_sends_is_encoded_before_it_goes_back() {
        let query = with_query("/p", &[("a", None), ("b", Some("x y&z=1".into()))]);
        assert_eq!(query, "/p?b=x%20y%26z%3D1");
        assert_eq!(with_query("/p", &[("a", None)]), "/p");
    }
}
