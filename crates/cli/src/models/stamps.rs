//! What is known of checked files, so that a second look reads nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Stop;
use super::catalogue::ModelFile;

pub(super) const STAMPS: &str = ".stamps.json";
const LOCK: &str = ".stamps.lock";

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn sha256(path: &Path, stop: &Stop) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| format!("{} not read", path.display()))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        stop.check()?;
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
    }
    Ok(hex(&hasher.finalize()))
}

/// What a checked file looked like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    bytes: u64,
    modified_ns: u64,
    sha256: String,
}

impl Stamp {
    /// The stamp that a file on disk has if its hash is the catalogue's.
    pub(super) fn new(path: &Path, file: &ModelFile) -> anyhow::Result<Self> {
        let metadata = fs::metadata(path)?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified_ns = u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self { bytes: metadata.len(), modified_ns, sha256: file.sha256.clone() })
    }
}

/// The stamps of a models folder. Losing them costs one reading of the files, nothing else.
#[derive(Debug, Default)]
pub(super) struct Stamps(BTreeMap<String, Stamp>);

impl Stamps {
    pub(super) fn load(dir: &Path) -> Self {
        let text = fs::read(dir.join(STAMPS)).unwrap_or_default();
        Self(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// The file's stamp if it is here with the right hash; reads it only without a known stamp.
    pub(super) fn check(
        &self,
        dir: &Path,
        file: &ModelFile,
        stop: &Stop,
    ) -> anyhow::Result<Option<Stamp>> {
        let path = dir.join(&file.name);
        if fs::metadata(&path).map_or(0, |metadata| metadata.len()) != file.bytes {
            return Ok(None);
        }
        let stamp = Stamp::new(&path, file)?;
        let known = self.0.get(&file.name) == Some(&stamp);
        Ok((known || sha256(&path, stop)? == file.sha256).then_some(stamp))
    }

    /// Remembers a checked file. What another process stamped meanwhile stays.
    pub(super) fn set(&mut self, dir: &Path, name: &str, stamp: Stamp) -> anyhow::Result<()> {
        if self.0.get(name) == Some(&stamp) {
            return Ok(());
        }
        let lock = File::create(dir.join(LOCK)).context("the stamps' lock")?;
        lock.lock().context("the stamps' lock")?;
        *self = Self::load(dir);
        self.0.insert(name.to_owned(), stamp);
        let fresh = dir.join(format!("{STAMPS}.new"));
        fs::write(&fresh, serde_json::to_vec_pretty(&self.0)?)?;
        fs::rename(&fresh, dir.join(STAMPS)).context("stamps not written")
    }
}
