//! What a command takes to work on: from the argument, from a file, or from standard input, which
//! is `-` everywhere.

use std::io::{BufRead, ErrorKind, IsTerminal, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::value::RawValue;

use crate::failure::Failure;

/// What an argument names where standard input is meant.
pub(crate) const STDIN: &str = "-";

const STDIN_WORDS: &str = "standard input";

/// What one text may hold at most; the realm has its own bounds below it.
const TEXT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Standard input, for the one option that names it. It cannot be read twice: a second option
/// would find it empty.
pub(crate) fn stdin(named: &str) -> Result<impl BufRead, Failure> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        let message = format!("{named}: standard input is read for another option already");
        return Err(Failure::usage(message).with_remedy("put one of the two into a file"));
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("mtor: {named} is read from the terminal: end it with Ctrl-D");
    }
    Ok(stdin.lock())
}

/// A text as it stands in the argument, or standard input for `-`. It has to say something: the
/// realm would be paid for reading nothing.
pub(crate) fn text(argument: &str, named: &str) -> Result<String, Failure> {
    if argument != STDIN {
        return Ok(argument.to_owned());
    }
    let place = format!("{named}: standard input");
    let text = read_bounded(&mut stdin(named)?, &place)?;
    if text.trim().is_empty() {
        return Err(Failure::usage(format!("{place} is empty: expected some text")));
    }
    Ok(text.strip_suffix('\n').map_or(text.as_str(), |text| text).to_owned())
}

/// JSON as it stands in the argument, in the file after `@`, or on standard input for `-`.
pub(crate) fn data(argument: &str) -> Result<Box<RawValue>, Failure> {
    const NAMED: &str = "--data";
    const REMEDY: &str = "give JSON, @FILE or - (standard input) to --data";
    let (text, place) = match (argument, argument.strip_prefix('@')) {
        (STDIN, _) | (_, Some(STDIN)) => {
            let text = read_bounded(&mut stdin(NAMED)?, "--data: standard input")?;
            (text, "standard input".to_owned())
        }
        (_, Some("")) => {
            return Err(Failure::usage("--data: behind @ a file is missing").with_remedy(REMEDY));
        }
        (_, Some(path)) => (read_file(Path::new(path), NAMED)?, path.to_owned()),
        (text, None) => (text.to_owned(), NAMED.to_owned()),
    };
    if text.trim().is_empty() {
        return Err(Failure::usage(format!("{place} is empty: expected JSON")).with_remedy(REMEDY));
    }
    serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::usage(format!("{place} is not JSON: look at line {line}, column {column}"))
            .with_remedy(REMEDY)
    })
}

/// A file that `named` in the command line names, or standard input for `-`.
pub(crate) fn read_file(path: &Path, named: &str) -> Result<String, Failure> {
    if path.as_os_str() == STDIN {
        return read_bounded(&mut stdin(named)?, &format!("{named}: standard input"));
    }
    let place = format!("{named}: {}", path.display());
    read_bounded(&mut open(path, named)?, &place)
}

/// The bytes of a file, at most so many, or of standard input for `-`.
pub(crate) fn bytes(path: &Path, named: &str, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let is_stdin = path.as_os_str() == STDIN;
    let place = if is_stdin { STDIN_WORDS.to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    let mut read = |from: &mut dyn Read| from.take(bytes_max + 1).read_to_end(&mut bytes);
    let done = if is_stdin { read(&mut stdin(named)?) } else { read(&mut open(path, named)?) };
    let read = done.map_err(|error| Failure::usage(format!("{named}: {place}: {error}")))?;
    match u64::try_from(read).unwrap_or(u64::MAX) {
        0 => Err(Failure::usage(format!("{named}: {place} is empty"))),
        read if read > bytes_max => {
            Err(Failure::usage(format!("{named}: {place} is longer than {bytes_max} bytes")))
        }
        _ => Ok(bytes),
    }
}

pub(crate) fn open(path: &Path, named: &str) -> Result<std::fs::File, Failure> {
    let place = path.display();
    let why = match std::fs::File::open(path) {
        Ok(_) if path.is_dir() => "it is a folder: expected a file".to_owned(),
        Ok(file) => return Ok(file),
        Err(error) if error.kind() == ErrorKind::NotFound => "there is no such file".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::usage(format!("{named}: {place}: {why}")))
}

fn read_bounded(from: &mut dyn Read, place: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = from.take(TEXT_BYTES_MAX.saturating_add(1)).read_to_string(&mut text);
    let bytes = read.map_err(|error| Failure::usage(format!("{place}: {error}")))?;
    if u64::try_from(bytes).unwrap_or(u64::MAX) > TEXT_BYTES_MAX {
        let message = format!("{place} is longer than {TEXT_BYTES_MAX} bytes");
        return Err(Failure::usage(message));
    }
    Ok(text)
}

/// Checks an option's value: one that says something.
pub(crate) fn said(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("it is empty: expected some text".into());
    }
    Ok(text.to_owned())
}
