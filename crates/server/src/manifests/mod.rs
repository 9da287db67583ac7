//! Intent manifests: the built-in ones, and those a sysop adds as files.
//!
//! Invariants: every manifest here was checked whole (name, bounds, price, schema), so that the
//! request path need not doubt it; a table of manifests never changes, a new one replaces it.

mod folder;
mod form;
mod schema;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mtor_types::Digest;
use mtor_types::manifest::{Bound, Manifest, Size};
use mtor_types::worker::DATA_BYTES_MAX;
use sha2::{Digest as _, Sha256};

pub use folder::{Folder, ManifestNews, ManifestProblem};
pub use form::Form;
pub use schema::{Schema, SchemaError};

use crate::admission::scan::Wanted;

/// A manifest, ready for requests.
#[derive(Clone, Debug)]
pub struct Entry {
    pub manifest: Manifest,
    /// SHA-256 of the manifest's canonical form: its JSON as `GET /v1/manifests` has it, by
    /// RFC 8785 (sorted keys, no white space).
    pub digest: Digest,
    pub schema: Schema,
    /// What an answer is.
    pub form: Arc<Form>,
    /// Fields that the edge reads, because the schema declares them.
    pub wanted: Wanted,
}

/// All manifests of a realm, by name.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    entries: BTreeMap<String, Entry>,
}

/// Manifest files that a realm reads.
const FILES_MAX: usize = 256;
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// The largest payload that a manifest may allow: it has to fit into a worker's frame.
const BYTES_MAX: u64 = DATA_BYTES_MAX as u64;
/// As in `mtor_core::limits`.
const DEADLINE_MAX_MS: u64 = 24 * 60 * 60 * 1000;
const NAME_BYTES_MAX: usize = 32;

/// A name may not be one of these: `mtor.intent.<status>.v1` are the realm's own events.
pub const STATUS_WORDS: [&str; 10] = [
    "accepted",
    "queued",
    "started",
    "chunk",
    "restarted",
    "completed",
    "failed",
    "cancelled",
    "expired",
    "settled",
];

const BUILT_IN: [(&str, &str); 6] = [
    ("chat.toml", include_str!("chat.toml")),
    ("echo.toml", include_str!("echo.toml")),
    ("embed.toml", include_str!("embed.toml")),
    ("fft.toml", include_str!("fft.toml")),
    ("speak.toml", include_str!("speak.toml")),
    ("transcribe.toml", include_str!("transcribe.toml")),
];

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("manifest {path}")]
    Read { path: PathBuf, source: io::Error },
    /// `why` holds the parser's words, or better ones.
    #[error("manifest {path}: line {line}: {why}")]
    Toml { path: PathBuf, line: usize, why: String },
    #[error("manifest {path}: field `{field}`: {why}")]
    Field { path: PathBuf, field: String, why: String },
    #[error("more than {FILES_MAX} manifests in {dir}")]
    TooMany { dir: PathBuf },
}

impl ManifestError {
    /// What to do about it, wherever it is told.
    pub const REMEDY: &str = "docs/own-intent.md shows one that is right";

    /// What is wrong, without the file's path and without an excerpt of it.
    pub fn sentence(&self) -> String {
        match self {
            Self::Read { source, .. } => format!("cannot be read: {source}"),
            Self::Toml { line, why, .. } => format!("line {line}: {why}"),
            Self::Field { field, why, .. } => format!("field `{field}`: {why}"),
            Self::TooMany { .. } => format!("more than {FILES_MAX} manifests: remove some"),
        }
    }
}

impl Manifests {
    /// The ones that ship in the binary.
    pub fn built_in() -> Result<Self, ManifestError> {
        let mut all = Self::default();
        for (file, text) in BUILT_IN {
            all.put(compile(Path::new(file), text)?);
        }
        Ok(all)
    }

    /// The built-in ones and every `*.toml` of `dir`, in order of name. A file may replace a
    /// built-in manifest, for example to change its price. Without the directory: the built-in
    /// ones.
    pub fn load(dir: &Path) -> Result<Self, ManifestError> {
        Folder::open(dir).map(|(_, all)| all)
    }

    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// In order of name.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    fn put(&mut self, entry: Entry) {
        self.entries.insert(entry.manifest.name.clone(), entry);
    }
}

/// One file, checked as a start would check it, by itself.
pub fn check_file(path: &Path) -> Result<Manifest, ManifestError> {
    compile(path, &read(path)?).map(|entry| entry.manifest)
}

/// One that stands in no file; errors give it this name.
pub fn check_text(named: &Path, text: &str) -> Result<Manifest, ManifestError> {
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(too_large(named));
    }
    compile(named, text).map(|entry| entry.manifest)
}

fn compile(path: &Path, text: &str) -> Result<Entry, ManifestError> {
    let manifest: Manifest = toml::from_str(text).map_err(|error| misread(path, text, &error))?;
    let wrong = |(field, why): (&str, &str)| ManifestError::Field {
        path: path.into(),
        field: field.into(),
        why: why.into(),
    };
    check(&manifest).map_err(wrong)?;
    let schema = |place: &str, schema: &serde_json::Value| {
        Schema::compile(schema).map_err(|error| {
            let SchemaError { at, why } = error;
            ManifestError::Field { path: path.into(), field: format!("{place}{at}"), why }
        })
    };
    if let Some(result) = &manifest.result {
        for (place, told) in [("result.schema", &result.schema), ("result.chunk", &result.chunk)] {
            told.as_ref().map(|told| schema(place, told)).transpose()?;
        }
    }
    let schema = schema("parameters", &manifest.parameters)?;
    let form = Form::compile(&manifest).map_err(|(field, why)| wrong((field, &why)))?;
    let form = Arc::new(form);
    let wanted = Wanted {
        model: schema.declares("model"),
        stream: schema.declares("stream"),
        max_tokens: schema.declares("max_tokens"),
        max_completion_tokens: schema.declares("max_completion_tokens"),
        n: schema.declares("n") && manifest.meter.bound == Bound::BytesAndOutput,
        shape: schema.declares("shape"),
        sound: manifest.meter.bound == Bound::Sound,
        speech: manifest.meter.bound == Bound::Speech,
        delay: manifest.size == Size::Delay,
        inputs: form.counts_inputs(),
    };
    check_size(&manifest, &schema).map_err(wrong)?;
    let canonical = serde_jcs::to_vec(&manifest);
    let canonical = canonical.map_err(|_| wrong(("parameters", "has no canonical form")))?;
    let digest = Digest(Sha256::digest(canonical).into());
    if form.counts_inputs() && (!schema.declares("input") || schema.declares("n")) {
        let why = "items of \"inputs\" need a property `input`, and none called `n`";
        return Err(wrong(("result.items", why)));
    }
    // What the edge cannot read it cannot bound.
    let (bound, read) = match manifest.meter.bound {
        Bound::Points => ("points", "shape"),
        Bound::Sound => ("sound", "audio"),
        Bound::Speech => ("speech", "input"),
        Bound::One | Bound::Bytes | Bound::BytesAndOutput => {
            return Ok(Entry { manifest, digest, schema, form, wanted });
        }
    };
    if !schema.declares(read) {
        let why = format!("a meter bound by {bound} needs a property `{read}`");
        return Err(wrong(("parameters", &why)));
    }
    Ok(Entry { manifest, digest, schema, form, wanted })
}

/// Whether the edge can read the size of the work where the manifest says that it stands.
fn check_size(manifest: &Manifest, schema: &Schema) -> Result<(), (&'static str, &'static str)> {
    let (readable, why) = match manifest.size {
        Size::Bytes => (true, ""),
        Size::Delay => (
            schema.declares("chunks") && schema.declares("delayms"),
            "\"delay\" needs properties `chunks` and `delayms`",
        ),
        Size::Output => (
            manifest.meter.bound == Bound::BytesAndOutput,
            "\"output\" needs a meter bound by bytes_and_output",
        ),
        Size::Points => {
            (manifest.meter.bound == Bound::Points, "\"points\" needs a meter bound by points")
        }
        Size::Sound => {
            (manifest.meter.bound == Bound::Sound, "\"sound\" needs a meter bound by sound")
        }
        Size::Speech => {
            (manifest.meter.bound == Bound::Speech, "\"speech\" needs a meter bound by speech")
        }
    };
    if readable { Ok(()) } else { Err(("size", why)) }
}

/// Says what the parser found, in one line: what of it is misleading in words of our own.
fn misread(path: &Path, text: &str, error: &toml::de::Error) -> ManifestError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = memchr::memchr_iter(b'\n', before.as_bytes()).count().saturating_add(1);
    let this = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let said = error.message().trim().replace('\n', ", ");
    let column = before.rsplit('\n').next().unwrap_or_default().len();
    let why = match field_at(this, column) {
        // The parser takes a word for the begin of `true` or of a date.
        Some((field, value)) if is_word(value) => format!(
            "field `{field}`: `{value}` is no TOML value: a text stands in quotes, such as \
             {field} = \"{value}\""
        ),
        Some((field, _)) if !said.contains(&format!("`{field}`")) => {
            format!("field `{field}`: {said}")
        }
        _ => said,
    };
    ManifestError::Toml { path: path.into(), line, why }
}

/// The field of a line that a place in it belongs to, and its value: in an inline table the nearest.
fn field_at(line: &str, column: usize) -> Option<(&str, &str)> {
    let upto = line.get(..column).unwrap_or(line);
    let equals = upto.rfind('=').or_else(|| line.find('='))?;
    let (before, value) = (line.get(..equals)?.trim_end(), line.get(equals..)?.get(1..)?);
    let field = before.rsplit(['{', ',', ' ', '\t']).next()?;
    let value = value.split([',', '}', '#']).next()?.trim();
    is_key(field).then_some((field, value))
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// A text whose quotes were forgotten.
fn is_word(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_alphabetic())
        && is_key(value)
        && !matches!(value, "true" | "false" | "inf" | "nan")
}

/// Whether it is a media type as in `image/png`, in lower case and without parameters.
fn is_media(text: &str) -> bool {
    const MEDIA_BYTES_MAX: usize = 127;
    let is_part = |part: &str| {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
        !part.is_empty() && part.bytes().all(good)
    };
    text.len() <= MEDIA_BYTES_MAX
        && text.split_once('/').is_some_and(|(kind, sub)| is_part(kind) && is_part(sub))
}

/// Whether `name` matches `[a-z][a-z0-9-]{0,31}` and is free.
pub fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= NAME_BYTES_MAX
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && !STATUS_WORDS.contains(&name)
}

fn check(manifest: &Manifest) -> Result<(), (&'static str, &'static str)> {
    let Manifest { name, version, meter, price, deadline, bytes_max, .. } = manifest;
    let cut = meter.bound.may_be_cut();
    let rules = [
        (is_name(name), "name", "expected [a-z][a-z0-9-]{0,31}, and not the name of a status"),
        (*version >= 1, "version", "expected at least 1"),
        ((1..=256).contains(&manifest.summary.len()), "summary", "expected 1 to 256 bytes"),
        (price.per >= 1, "price.per", "expected at least 1"),
        ((1..=32).contains(&meter.unit.len()), "meter.unit", "expected 1 to 32 bytes"),
        (!cut || meter.output_default >= 1, "meter.output_default", "expected at least 1"),
        (
            meter.output_default <= meter.output_max,
            "meter.output_max",
            "expected at least output_default",
        ),
        (deadline.default_ms >= 1, "deadline.default_ms", "expected at least 1"),
        (
            (deadline.default_ms..=DEADLINE_MAX_MS).contains(&deadline.max_ms),
            "deadline.max_ms",
            "expected from default_ms to 86400000",
        ),
        (
            manifest.result.as_ref().is_none_or(|result| is_media(&result.media)),
            "result.media",
            "expected a media type in lower case such as \"text/plain\" or \"image/png\"",
        ),
        ((1..=BYTES_MAX).contains(bytes_max), "bytes_max", "expected from 1 to 16773120"),
    ];
    let broken = rules.iter().find(|(good, _, _)| !good);
    broken.map_or(Ok(()), |(_, field, why)| Err((*field, *why)))
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    let failed = |source| ManifestError::Read { path: dir.into(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            return Err(ManifestError::TooMany { dir: dir.into() });
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String, ManifestError> {
    let failed = |source| ManifestError::Read { path: path.into(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(too_large(path));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn too_large(path: &Path) -> ManifestError {
    let source = io::Error::other(format!("larger than {FILE_BYTES_MAX} bytes"));
    ManifestError::Read { path: path.into(), source }
}

#[cfg(test)]
mod tests;
