//! The pages of the error codes, embedded: an error names its page, and a client on this realm can
//! read it.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use mtor_types::Code;

use super::json::Segment;
use crate::api_error::ApiError;

macro_rules! pages {
    ($($code:literal)*) => {
        &[$(($code, include_str!(concat!("../../../../docs/errors/", $code, ".md")))),*]
    };
}

const PAGES: &[(&str, &str)] = pages! {
    "MT0001" "MT0002" "MT0003" "MT0004" "MT0005" "MT0006" "MT0007" "MT0008" "MT0009" "MT0010"
    "MT0011" "MT0012" "MT0013" "MT0014" "MT0015" "MT0016" "MT0017" "MT0018" "MT0019" "MT0020"
    "MT0021" "MT0022" "MT0023" "MT0024" "MT0025" "MT0026" "MT0027" "MT0028" "MT0029" "MT0030"
    "MT0031" "MT0032" "MT0033" "MT0034" "MT0035" "MT0036" "MT0037" "MT0038" "MT0039" "MT0040"
    "MT0041" "MT0042" "MT0043" "MT0044"
};

/// `GET /errors/{code}`
pub async fn page(Segment(code): Segment) -> Result<Response, ApiError> {
    let found = PAGES.iter().find(|(known, _)| *known == code);
    let (_, text) = found.ok_or_else(|| {
        let last = Code::ALL.last().map_or("", |code| code.text());
        ApiError::new(Code::NotFound, format!("the codes are MT0001 to {last}"))
    })?;
    // Markdown, which browsers save instead of showing it.
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))];
    Ok((kind, *text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_page_here() {
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.text()).collect();
        let pages: Vec<&str> = PAGES.iter().map(|(code, _)| *code).collect();
        assert_eq!(pages, codes);
        for (code, text) in PAGES {
            assert!(text.starts_with(&format!("# {code} ")), "{code}");
        }
    }
}
