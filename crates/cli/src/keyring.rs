//! The accounts this user has, by realm: `accounts.json` in the configuration folder, for its
//! owner's eyes only.
//!
//! Invariants: the file is written whole or not at all; a lock file beside it keeps two commands
//! that start at once from opening two accounts; an account that is replaced is kept as a former
//! one, for there may be money in it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mtor_client::Guest;
use mtor_types::AccountId;
use serde::{Deserialize, Serialize};

use crate::commands::input::{STDIN, read_file};
use crate::failure::Failure;

const FILE: &str = "accounts.json";
const LOCK: &str = "accounts.lock";
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// A secret in a file of its own.
const SECRET_BYTES_MAX: u64 = 4 * 1024;
const VERSION: u32 = 1;

/// An account and its keys.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) account: AccountId,
    pub(crate) api_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret_key: Option<String>,
}

impl From<Guest> for Entry {
    fn from(guest: Guest) -> Self {
        Self { account: guest.account, api_key: guest.api_key, secret_key: guest.secret_key }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    /// By the realm's address.
    realms: BTreeMap<String, Entry>,
    /// Replaced ones, with their realm's address.
    #[serde(default)]
    former: Vec<(String, Entry)>,
}

/// The file, held by this process alone until it is dropped.
pub(crate) struct Keyring {
    path: PathBuf,
    document: Document,
    _lock: File,
}

impl Keyring {
    /// Opens it, and waits for another process that has it.
    pub(crate) fn open(dir: Option<PathBuf>) -> Result<Self, Failure> {
        let dir = dir.ok_or_else(|| {
            Failure::configuration(
                "no place to remember accounts: neither HOME is set nor XDG_CONFIG_HOME",
            )
            .with_remedy("set one of them, or give a key in MTOR_API_KEY")
        })?;
        let failed = |error| unusable(&dir, &error);
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(dir.join(LOCK)).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let path = dir.join(FILE);
        let document = match read_private(&path, FILE_BYTES_MAX) {
            Ok(text) => parse(&path, &text)?,
            Err(ReadError::Missing) => {
                Document { version: VERSION, realms: BTreeMap::new(), former: Vec::new() }
            }
            Err(error) => return Err(error.into_failure(&path)),
        };
        Ok(Self { path, document, _lock: lock })
    }

    /// Where accounts are remembered, for people.
    pub(crate) fn file(dir: Option<PathBuf>) -> String {
        dir.unwrap_or_default().join(FILE).display().to_string()
    }

    pub(crate) fn get(&self, realm: &str) -> Option<&Entry> {
        self.document.realms.get(realm)
    }

    /// The accounts that others have replaced, the oldest first.
    pub(crate) fn former(&self, realm: &str) -> impl Iterator<Item = &Entry> {
        self.document.former.iter().filter(move |(at, _)| at == realm).map(|(_, entry)| entry)
    }

    /// Makes a former account the one to use again. `None` if there is none of that id.
    pub(crate) fn restore(
        &mut self,
        realm: &str,
        account: AccountId,
    ) -> Result<Option<()>, Failure> {
        let found = |(at, entry): &(String, Entry)| at == realm && entry.account == account;
        let Some(place) = self.document.former.iter().position(found) else { return Ok(None) };
        let (_, entry) = self.document.former.remove(place);
        self.set(realm, entry).map(|_| Some(()))
    }

    /// Remembers an account; the one before becomes a former one, whose id is given back.
    pub(crate) fn set(&mut self, realm: &str, entry: Entry) -> Result<Option<AccountId>, Failure> {
        let former = self.document.realms.insert(realm.to_owned(), entry);
        let account = former.as_ref().map(|former| former.account);
        self.document.former.extend(former.map(|former| (realm.to_owned(), former)));
        self.write().map(|()| account)
    }

    fn write(&self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&self.document);
        let text = text.map_err(|error| Failure::caused(&error))?;
        write_private(&self.path, &text).map_err(|error| unusable(&self.path, &error))
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::configuration(format!("{}: {error}", path.display()))
        .with_remedy("make it writable, or name another place in XDG_CONFIG_HOME")
}

fn parse(path: &Path, text: &str) -> Result<Document, Failure> {
    let wrong = |why: String| {
        Failure::configuration(format!("{} is not a list of accounts: {why}", path.display()))
            .with_remedy("repair it, or move it away: a new account is opened then")
    };
    let document: Document =
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if document.version != VERSION {
        return Err(wrong(format!("field `version`: expected {VERSION}")));
    }
    Ok(document)
}

/// What stands in a file of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Secret {
    WorkerToken,
    BackendKey,
    Sysop,
}

impl Secret {
    /// The option that names its file.
    fn named(self) -> &'static str {
        match self {
            Self::WorkerToken => "--token-file",
            Self::BackendKey => "key-file",
            Self::Sysop => "--secret-file",
        }
    }

    /// Where to get it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::WorkerToken => {
                "get a new token: (umask 077; mtor account worker-token > FILE), or the sysop's \
                 `mtor sysop worker-token`"
            }
            Self::BackendKey => "put the API key of that server into it, or leave key-file out",
            Self::Sysop => "put what `mtor up` showed at its first start into it",
        }
    }
}

/// Reads a secret of one line from a file that only its owner may read, or from standard input
/// for `-`.
pub(crate) fn read_secret(path: &Path, what: Secret) -> Result<String, Failure> {
    let named = what.named();
    let is_stdin = path.as_os_str() == STDIN;
    let text = if is_stdin {
        read_file(path, named)?
    } else {
        read_private(path, SECRET_BYTES_MAX).map_err(|error| {
            let failure = error.into_failure(path).about(named);
            if failure.has_remedy() { failure } else { failure.with_remedy(what.remedy()) }
        })?
    };
    let place = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let secret = text.trim();
    let wrong = match secret.lines().count() {
        0 => format!("{named}: {place} is empty"),
        1 => return Ok(secret.to_owned()),
        lines => format!("{named}: {place} has {lines} lines: expected a secret in one"),
    };
    Err(Failure::configuration(wrong).with_remedy(what.remedy()))
}

enum ReadError {
    Missing,
    Open { mode: u32 },
    TooLong { bytes_max: u64 },
    Io(std::io::Error),
}

impl ReadError {
    fn into_failure(self, path: &Path) -> Failure {
        let path = path.display();
        match self {
            Self::Missing => Failure::configuration(format!("{path}: there is no such file")),
            Self::Open { mode } => {
                let message =
                    format!("{path} holds secrets, but its mode {mode:04o} lets others read it");
                Failure::configuration(message).with_remedy(format!("run: chmod 600 {path}"))
            }
            Self::TooLong { bytes_max } => {
                Failure::configuration(format!("{path} is longer than {bytes_max} bytes"))
            }
            Self::Io(error) => Failure::configuration(format!("{path}: {error}")),
        }
    }
}

fn read_private(path: &Path, bytes_max: u64) -> Result<String, ReadError> {
    let file = File::open(path).map_err(|error| {
        let is_missing = error.kind() == ErrorKind::NotFound;
        if is_missing { ReadError::Missing } else { ReadError::Io(error) }
    })?;
    let metadata = file.metadata().map_err(ReadError::Io)?;
    // A pipe, as a shell's `<(…)` gives it, belongs to its reader alone.
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(ReadError::Open { mode });
    }
    let mut text = String::new();
    let read = file.take(bytes_max.saturating_add(1)).read_to_string(&mut text);
    let bytes = read.map_err(ReadError::Io)?;
    if u64::try_from(bytes).unwrap_or(u64::MAX) > bytes_max {
        return Err(ReadError::TooLong { bytes_max });
    }
    Ok(text)
}

/// A crash before the rename leaves only a stray file; after it the new content is whole.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension(format!("new.{}", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}
