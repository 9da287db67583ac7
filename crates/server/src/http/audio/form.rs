//! The form of a transcription, read within bounds and refused by field.
//!
//! A field that would change nothing here is refused and not passed over: who asks for the time of
//! each word is not to take what comes for that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, header};
use mtor_sound::limits::BYTES_MAX;
use mtor_types::Code;
use multer::{Constraints, Multipart, SizeLimit};

use crate::api_error::ApiError;

/// One that holds no sound.
const FIELD_BYTES_MAX: usize = 4 * 1024;
/// More than there are, so that a repeated one can be named.
const FIELDS_MAX: usize = 32;
const KNOWN: &str = "file, model, language, response_format, stream, timestamp_granularities[], \
                     chunking_strategy, temperature, prompt, include[]";

/// What was asked.
#[derive(Debug)]
pub(super) struct Form {
    /// Of the intent `transcribe`.
    pub(super) data: Bytes,
    pub(super) shape: Shape,
    pub(super) stream: bool,
}

/// How the answer is to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    #[default]
    Json,
    Text,
    Srt,
    Vtt,
    Verbose,
}

/// What stands between the fields, from the request's head.
pub(super) fn boundary(headers: &HeaderMap) -> Result<String, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    multer::parse_boundary(kind.unwrap_or_default()).map_err(|_| {
        let message = "send `multipart/form-data` with the sound in its field `file`";
        ApiError::new(Code::UnsupportedMediaType, message)
    })
}

/// Reads a whole body.
pub(super) async fn read(boundary: &str, body: Bytes) -> Result<Form, ApiError> {
    let limit = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
    let limits = SizeLimit::new().per_field(limit(FIELD_BYTES_MAX));
    let limits = limits.for_field("file", limit(BYTES_MAX));
    let body = stream::iter([Ok::<_, std::convert::Infallible>(body)]);
    let constraints = Constraints::new().size_limit(limits);
    let mut form = Multipart::with_constraints(body, boundary, constraints);
    let mut said = Said::default();
    for _ in 0..FIELDS_MAX {
        let Some(field) = form.next_field().await.map_err(|error| broken(&error))? else {
            return said.form();
        };
        let name = field.name().unwrap_or_default().to_owned();
        let name = Name::of(&name).ok_or_else(|| ApiError::unknown_field(&name, KNOWN))?;
        let value = field.bytes().await.map_err(|error| broken(&error))?;
        said.take(name, value)?;
    }
    Err(malformed("it has too many fields"))
}

/// A refusal of the data speaks of `audio`, which here is the field `file`.
pub(super) fn told_of_file(mut error: ApiError) -> ApiError {
    if error.field.as_deref().is_some_and(|field| field.trim_start_matches('/') == "audio") {
        error.field = Some("file".into());
        for named in ["field `audio`", "field `/audio`"] {
            error.message = error.message.replacen(named, "field `file`", 1);
        }
        // A worker's own words.
        if let Some(rest) = error.message.strip_prefix("audio") {
            error.message = format!("file{rest}");
        }
    }
    error
}

fn broken(error: &multer::Error) -> ApiError {
    let multer::Error::FieldSizeExceeded { limit, field_name } = error else {
        // Its own words may quote the body.
        return malformed("it is cut off, or its parts are not as its head says");
    };
    // Only names that are known here come so far.
    let name = field_name.as_deref().unwrap_or_default();
    ApiError::too_large(&format!("field `{name}`"), *limit).with_field(name)
}

fn malformed(what: &str) -> ApiError {
    let message = format!("the body is not the multipart/form-data that was expected: {what}");
    ApiError::new(Code::InvalidField, message)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    File,
    Model,
    Language,
    ResponseFormat,
    Stream,
    Granularity,
    Chunking,
    Temperature,
    Prompt,
    Include,
}

impl Name {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "file" => Self::File,
            "model" => Self::Model,
            "language" => Self::Language,
            "response_format" => Self::ResponseFormat,
            "stream" => Self::Stream,
            "timestamp_granularities[]" | "timestamp_granularities" => Self::Granularity,
            "chunking_strategy" => Self::Chunking,
            "temperature" => Self::Temperature,
            "prompt" => Self::Prompt,
            "include[]" | "include" => Self::Include,
            _ => return None,
        })
    }

    fn text(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Model => "model",
            Self::Language => "language",
            Self::ResponseFormat => "response_format",
            Self::Stream => "stream",
            Self::Granularity => "timestamp_granularities[]",
            Self::Chunking => "chunking_strategy",
            Self::Temperature => "temperature",
            Self::Prompt => "prompt",
            Self::Include => "include[]",
        }
    }

    /// What may stand there.
    fn expected(self) -> &'static str {
        match self {
            Self::File => "a sound: WAV, FLAC, MP3, AAC in MP4, Opus in WebM or Ogg",
            Self::Model => "a model's name, or nothing",
            Self::Language => "what is spoken, such as en, or nothing",
            Self::ResponseFormat => "json, text, srt, vtt or verbose_json",
            Self::Stream => "true or false",
            Self::Granularity => "segment: the time of a single word is not known here",
            Self::Chunking => "auto: a sound is cut where nobody speaks",
            Self::Temperature => "0 or nothing: what is most likely said is written down",
            Self::Prompt => "nothing: what stands there would not be heeded here",
            Self::Include => "nothing: no such details are known here",
        }
    }

    fn refused(self) -> ApiError {
        ApiError::invalid_field(self.text(), self.expected())
    }
}

#[derive(Default)]
struct Said {
    file: Option<Bytes>,
    model: Option<String>,
    language: Option<String>,
    shape: Option<Shape>,
    stream: Option<bool>,
    segments: bool,
}

impl Said {
    fn take(&mut self, name: Name, value: Bytes) -> Result<(), ApiError> {
        if name == Name::File {
            return once(&mut self.file, value, name);
        }
        let text = std::str::from_utf8(&value).map_err(|_| name.refused())?;
        let only = |right: bool| if right { Ok(()) } else { Err(name.refused()) };
        match name {
            Name::File => Ok(()),
            Name::Model => once(&mut self.model, text.to_owned(), name),
            Name::Language => once(&mut self.language, text.to_owned(), name),
            Name::ResponseFormat => {
                let shape = match text {
                    "json" => Shape::Json,
                    "text" => Shape::Text,
                    "srt" => Shape::Srt,
                    "vtt" => Shape::Vtt,
                    "verbose_json" => Shape::Verbose,
                    _ => return Err(name.refused()),
                };
                once(&mut self.shape, shape, name)
            }
            Name::Stream => {
                let stream = text.parse().map_err(|_| name.refused())?;
                once(&mut self.stream, stream, name)
            }
            Name::Granularity => {
                self.segments = true;
                only(text == "segment")
            }
            Name::Chunking => only(text == "auto"),
            Name::Temperature => only(text.trim().parse() == Ok(0.0)),
            Name::Prompt | Name::Include => only(text.is_empty()),
        }
    }

    fn form(self) -> Result<Form, ApiError> {
        let missing = || ApiError::missing_field(Name::File.text(), Name::File.expected());
        let file = self.file.ok_or_else(missing)?;
        let shape = self.shape.unwrap_or_default();
        let stream = self.stream.unwrap_or(false);
        if stream && shape != Shape::Json {
            let expected = "json where `stream` is true";
            return Err(ApiError::invalid_field(Name::ResponseFormat.text(), expected));
        }
        if self.segments && shape != Shape::Verbose {
            let expected = "nothing, or `response_format` verbose_json, which has them";
            return Err(ApiError::invalid_field(Name::Granularity.text(), expected));
        }
        let mut data = String::with_capacity(file.len().div_ceil(3) * 4 + 2 * FIELD_BYTES_MAX);
        data.push_str(r#"{"audio":""#);
        STANDARD.encode_string(&file, &mut data);
        data.push_str(if stream { r#"","stream":true"# } else { r#"","stream":false"# });
        for (name, value) in [("model", self.model), ("language", self.language)] {
            let Some(value) = value else { continue };
            let value = serde_json::to_string(&value).map_err(|_| ApiError::internal())?;
            data.push_str(&format!(r#","{name}":{value}"#));
        }
        data.push('}');
        Ok(Form { data: data.into(), shape, stream })
    }
}

fn once<T>(place: &mut Option<T>, value: T, name: Name) -> Result<(), ApiError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(ApiError::invalid_field(name.text(), "the field only once")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(fields: &[(&str, &str)]) -> String {
        let field = |(name, value): &(&str, &str)| {
            format!("--B\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        fields.iter().map(field).collect::<String>() + "--B--\r\n"
    }

    fn check(body: String) -> Result<Form, ApiError> {
        futures_util::FutureExt::now_or_never(read("B", body.into())).expect("it waits for nothing")
    }

    #[test]
    fn a_form_becomes_the_data_of_the_intent() {
        let form = check(body(&[
            ("model", "whisper \"1\""),
            ("file", "abc"),
            ("language", "en"),
            ("response_format", "verbose_json"),
            ("timestamp_granularities[]", "segment"),
            ("temperature", "0.0"),
            ("prompt", ""),
            ("chunking_strategy", "auto"),
        ]))
        .unwrap();
        let data = r#"{"audio":"YWJj","stream":false,"model":"whisper \"1\"","language":"en"}"#;
        assert_eq!(
            (&*form.data, form.shape, form.stream),
            (data.as_bytes(), Shape::Verbose, false)
        );
        let form = check(body(&[("file", "abc"), ("stream", "true")])).unwrap();
        assert_eq!(&*form.data, br#"{"audio":"YWJj","stream":true}"#);
        assert_eq!((form.shape, form.stream), (Shape::Json, true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let file = ("file", "abc");
        let long = "x".repeat(FIELD_BYTES_MAX + 1);
        for (fields, named) in [
            (vec![("model", "m")], "`file`"),
            (vec![file, file], "`file`"),
            (vec![file, ("beam", "5")], "`beam`"),
            (vec![file, ("", "5")], "``"),
            (vec![file, ("response_format", "diarized_json")], "`response_format`"),
            (vec![file, ("response_format", "srt"), ("stream", "true")], "`response_format`"),
            (vec![file, ("stream", "1")], "`stream`"),
            (vec![file, ("temperature", "0.2")], "`temperature`"),
            (vec![file, ("temperature", "NaN")], "`temperature`"),
            (vec![file, ("prompt", "names")], "`prompt`"),
            (vec![file, ("prompt", &long)], "`prompt`"),
            (vec![file, ("include[]", "logprobs")], "`include[]`"),
            (vec![file, ("timestamp_granularities[]", "word")], "`timestamp_granularities[]`"),
            (vec![file, ("timestamp_granularities[]", "segment")], "`timestamp_granularities[]`"),
            (vec![file, ("chunking_strategy", "{}")], "`chunking_strategy`"),
            (vec![("chunking_strategy", "auto"); 40], "too many fields"),
        ] {
            let error = check(body(&fields)).unwrap_err();
            assert!(error.message.contains(named), "{fields:?}: {error}");
        }
        for cut in ["", "--B", "--B\r\n", "--C--\r\n", &body(&[file])[..60]] {
            let error = check(cut.to_owned()).unwrap_err();
            assert!(error.message.contains("multipart/form-data"), "{cut:?}: {error}");
        }
        let large = "x".repeat(BYTES_MAX + 1);
        let error = check(body(&[("file", &large)])).unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (Code::TooLarge, Some("file")));
    }

    #[test]
    fn a_refused_sound_is_the_file() {
        let error = told_of_file(ApiError::invalid_field("audio", "a sound"));
        assert_eq!(error, ApiError::invalid_field("file", "a sound"));
        let own = ApiError::new(Code::Unsupported, "audio: the sound is silent");
        let own = told_of_file(own.with_field("audio"));
        assert_eq!(
            (own.field.as_deref(), &*own.message),
            (Some("file"), "file: the sound is silent")
        );
        let other = ApiError::invalid_field("language", "field `audio`");
        assert_eq!(told_of_file(other.clone()), other);
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_they_are_a_form_or_refused(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "--B", "--B--", "\r\n", "\n", "content-disposition: form-data; name=\"file\"",
                    "content-disposition: form-data; name=\"model\"", "content-type: audio/wav",
                    ":", "; filename=\"\u{fffd}", "\u{0}", "abc",
                ]),
                0..24,
            ),
        ) {
            if let Err(error) = check(parts.concat()) {
                let codes = [Code::InvalidField, Code::UnknownField, Code::TooLarge];
                prop_assert!(codes.contains(&error.code));
            }
        }
    }
}
