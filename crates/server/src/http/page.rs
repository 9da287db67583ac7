//! The page, embedded: whatever the page's build put into `web/dist/`.
//!
//! An asset's name holds a hash of its content, so a browser may keep it for ever; the index names
//! the assets, so it is asked for each time, and a tag says when it has not changed. Both were
//! compressed when the page was built: nothing is compressed while somebody waits.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use super::json::Segment;
use crate::api_error::ApiError;

include!(concat!(env!("OUT_DIR"), "/page.rs"));

struct File {
    name: &'static str,
    kind: &'static str,
    /// Absent where it is large and both of the others are there.
    plain: Option<&'static [u8]>,
    /// Absent where compression does not make it smaller.
    br: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

/// Nothing but what this realm itself serves; nobody may frame it. Pictures and sounds of an answer
/// are objects of the page's own. No string becomes a script or markup: Svelte's runtime parses
/// its own templates through the first policy that is allowed, the page names its worker's script
/// through the second, and each may be created once.
const POLICY: &str = "default-src 'self'; connect-src 'self'; img-src 'self' blob:; \
    media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    object-src 'none'; require-trusted-types-for 'script'; \
    trusted-types svelte-trusted-html mtor-worker";
/// A script may be a worker's, whose policy is its own and not the page's: there alone WebAssembly may
/// be compiled, and nothing else that is no script of this realm.
const SCRIPTS: &str = "; script-src 'self' 'wasm-unsafe-eval'";
static SCRIPT_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    HeaderValue::try_from(format!("{POLICY}{SCRIPTS}")).unwrap_or(HeaderValue::from_static(POLICY))
});
/// The index holds the style of what is painted before its stylesheet is there. It is allowed by the
/// hash of its bytes, and nothing else that is inline is.
static INDEX_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let page = String::from_utf8_lossy(INDEX.plain.unwrap_or_default());
    let style = page.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>"));
    let hash = style.map(|(style, _)| BASE64.encode(Sha256::digest(style)));
    let allowed = hash.map(|hash| format!("{POLICY}; style-src 'self' 'sha256-{hash}'"));
    let allowed = allowed.and_then(|policy| HeaderValue::try_from(policy).ok());
    allowed.unwrap_or(HeaderValue::from_static(POLICY))
});
/// The name changes with the content.
pub(super) const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Kept, and asked for again each time.
pub(super) const ASK_AGAIN: &str = "no-cache";

/// `GET /`
pub async fn index(headers: HeaderMap) -> Response {
    static TAGS: LazyLock<[HeaderValue; 3]> =
        LazyLock::new(|| Coding::ALL.map(|coding| tag(INDEX.in_coding(coding).0)));
    let (bytes, coding) = INDEX.in_coding(Coding::accepted(&headers));
    let [plain, gzip, br] = &*TAGS;
    let tag = match coding {
        Coding::Plain => plain,
        Coding::Gzip => gzip,
        Coding::Br => br,
    };
    let mut response = if known(&headers, tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        answer(&INDEX, bytes, coding)
    };
    let about = response.headers_mut();
    about.insert(header::CONTENT_SECURITY_POLICY, INDEX_POLICY.clone());
    about.insert(header::CACHE_CONTROL, HeaderValue::from_static(ASK_AGAIN));
    about.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    about.insert(header::ETAG, tag.clone());
    response
}

/// `GET /assets/{name}`
pub async fn asset(Segment(name): Segment, headers: HeaderMap) -> Result<Response, ApiError> {
    let at = ASSETS
        .binary_search_by(|file| file.name.cmp(&name))
        .map_err(|_| ApiError::not_found("asset of that name"))?;
    let file = ASSETS.get(at).ok_or_else(|| ApiError::not_found("asset of that name"))?;
    let (bytes, coding) = file.in_coding(Coding::accepted(&headers));
    let mut response = answer(file, bytes, coding);
    let about = response.headers_mut();
    // A picture that is opened by itself is a document with scripts of its own.
    let policy = match file.kind.starts_with("text/javascript") {
        true => SCRIPT_POLICY.clone(),
        false => HeaderValue::from_static(POLICY),
    };
    about.insert(header::CONTENT_SECURITY_POLICY, policy);
    about.insert(header::CACHE_CONTROL, HeaderValue::from_static(FOR_EVER));
    about.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    Ok(response)
}

fn answer(file: &File, bytes: &'static [u8], coding: Coding) -> Response {
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Some(name) = coding.name() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    response
}

impl File {
    /// The bytes in this coding, or as they are where there are none; packed all the same where those
    /// are all there is, because that says more than a refusal.
    fn in_coding(&self, coding: Coding) -> (&'static [u8], Coding) {
        let form = |coding: Coding| {
            let bytes = match coding {
                Coding::Br => self.br,
                Coding::Gzip => self.gzip,
                Coding::Plain => self.plain,
            };
            bytes.map(|bytes| (bytes, coding))
        };
        let instead = [Coding::Plain, Coding::Gzip].into_iter().find_map(form);
        form(coding).or(instead).unwrap_or((&[], Coding::Plain))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Plain,
    Gzip,
    Br,
}

impl Coding {
    /// The later, the smaller the answer.
    const ALL: [Self; 3] = [Self::Plain, Self::Gzip, Self::Br];

    const fn name(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Gzip => Some("gzip"),
            Self::Br => Some("br"),
        }
    }

    /// What the client likes best (RFC 9110, 12.5.3); of those it likes as much, the smallest. One
    /// that accepts nothing at all is sent the plain bytes: that says more than a refusal.
    fn accepted(headers: &HeaderMap) -> Self {
        let mut said = [None::<u16>; 3];
        let mut others = None;
        let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
        for one in lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')) {
            let (coding, weight) = weighed(one);
            let place = match coding.to_ascii_lowercase().as_str() {
                "identity" => said.get_mut(0),
                "gzip" | "x-gzip" => said.get_mut(1),
                "br" => said.get_mut(2),
                "*" => Some(&mut others),
                _ => None,
            };
            if let Some(place) = place {
                *place = Some(weight);
            }
        }
        let [plain, gzip, br] = said;
        // What is not named is refused, except the plain bytes: they go last.
        let weights = [
            (plain.or(others).unwrap_or(0), Self::Plain),
            (gzip.or(others).unwrap_or(0), Self::Gzip),
            (br.or(others).unwrap_or(0), Self::Br),
        ];
        let best = weights.into_iter().filter(|(weight, _)| *weight > 0);
        best.max_by_key(|(weight, _)| *weight).map_or(Self::Plain, |(_, coding)| coding)
    }
}

/// A coding and its weight in thousandths; a weight that cannot be read counts as a refusal.
fn weighed(one: &str) -> (&str, u16) {
    let mut parts = one.split(';').map(str::trim);
    let coding = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    (coding, weight.map_or(1_000, |text| thousandths(text).unwrap_or(0)))
}

/// `1`, `0.5`, `0.125`: at most three digits behind the point, at most one.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(part) || part.len() > 3 {
        return None;
    }
    match whole {
        "0" => format!("{part:0<3}").parse().ok(),
        "1" => Some(1_000),
        _ => None,
    }
}

/// A strong tag: other bytes, another tag.
fn tag(bytes: &[u8]) -> HeaderValue {
    let hash = Sha256::digest(bytes);
    let text = bs58::encode(&hash[..16]).into_string();
    HeaderValue::try_from(format!("\"{text}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether the client has these bytes already (RFC 9110, 13.1.2: the weak comparison).
pub(super) fn known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter();
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one).as_bytes() == tag.as_bytes()
    })
}

#[cfg(test)]
mod tests;
