//! A sysop's own models: GGUF files that the catalogue does not know.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::catalogue::{self, Model, ModelFile};
use super::stamps::{Stamp, Stamps, sha256};
use super::{
    FILE_BYTES_MAX, Progress, Stop, base_name, copy, lock, make, part_file, web, without_secrets,
};

/// The first bytes of every GGUF file.
const MAGIC: &[u8; 4] = b"GGUF";

/// Where an own model's file is.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    File(PathBuf),
    Url(String),
}

impl Origin {
    pub(crate) fn new(text: &str) -> Self {
        match text.starts_with("http://") || text.starts_with("https://") {
            true => Self::Url(text.to_owned()),
            false => Self::File(text.into()),
        }
    }
}

/// Puts a GGUF file into the models folder and remembers it under a name.
///
/// # Errors
/// A name that is taken or that no file can have; a file that is not there, no GGUF, or not with
/// that hash. Then nothing has changed.
pub(crate) fn add(
    dir: &Path,
    name: &str,
    origin: &Origin,
    wanted: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> anyhow::Result<Model> {
    catalogue::check_name(name)?;
    if let Some(wanted) = wanted {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        ensure!(
            wanted.len() == 64 && wanted.chars().all(hex),
            "--sha256 takes 64 characters of 0-9 and a-f"
        );
    }
    make(dir)?;
    let file_name = catalogue::own_file(name);
    // Ctrl-C ends the whole process; what has arrived stays.
    let stop = &Stop::default();
    let _lock = lock(dir, &file_name, stop, &mut |is_first| {
        if is_first {
            progress(Progress::Waiting { file: file_name.clone() });
        }
    })?;
    let known = catalogue::own(dir)?.iter().any(|model| model.name == name);
    ensure!(!known, "NAME `{name}` is taken: `mtor models remove {name}` first, or take another");
    let part = part_file(dir, &file_name, "part");
    let is_resumed = matches!(origin, Origin::Url(_)) && web::length(&part) > 0;
    let mut url = arrive(&file_name, origin, &part, stop, progress)?;
    let mut hash = sha256(&part, stop)?;
    let mut checked = check(&part, &hash, wanted);
    if checked.is_err() && is_resumed {
        // It may have been begun at another address: that is not held against this one.
        fs::remove_file(&part)?;
        url = arrive(&file_name, origin, &part, stop, progress)?;
        hash = sha256(&part, stop)?;
        checked = check(&part, &hash, wanted);
    }
    if let Err(error) = checked {
        fs::remove_file(&part)?;
        return Err(error);
    }
    let bytes = fs::metadata(&part)?.len();
    File::open(&part)?.sync_all()?;
    fs::rename(&part, dir.join(&file_name)).with_context(|| format!("{file_name} not placed"))?;
    let file = ModelFile { name: file_name, url, package: None, target: None, bytes, sha256: hash };
    Stamps::load(dir).set(dir, &file.name, Stamp::new(&dir.join(&file.name), &file)?)?;
    progress(Progress::Placed { file: file.name.clone(), bytes });
    let model = Model {
        name: name.to_owned(),
        short: None,
        basic: false,
        intent: "chat".into(),
        title: name.to_owned(),
        maker: "unknown".into(),
        licence: "unknown".into(),
        note: None,
        bytes,
        files: vec![file],
    };
    // Two processes that add two models at once would otherwise forget one of them.
    let _list = lock(dir, "own.json", stop, &mut |_| {})?;
    let mut models = catalogue::own(dir)?;
    models.push(model.clone());
    catalogue::save_own(dir, &models)?;
    Ok(model)
}

/// Brings the file into the part file; gives its address if it has one.
fn arrive(
    name: &str,
    origin: &Origin,
    part: &Path,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> anyhow::Result<Option<String>> {
    let received = |bytes, of, progress: &mut dyn FnMut(Progress)| {
        progress(Progress::Received { file: name.to_owned(), bytes, of });
    };
    match origin {
        Origin::File(path) => {
            let text = path.display();
            ensure!(path.is_file(), "FILE {text}: there is no such file");
            let of = fs::metadata(path)?.len();
            copy(path, part, stop, &mut |bytes| received(bytes, of, progress))
                .with_context(|| format!("FILE {text} not copied"))?;
            Ok(None)
        }
        Origin::Url(url) => {
            let shown = without_secrets(url);
            ensure!(base_name(url).is_some(), "URL {shown} names no file");
            progress(Progress::Fetching { file: name.to_owned(), from: shown.clone() });
            let (bytes, bytes_max, silence_max) = (None, FILE_BYTES_MAX, web::SILENCE_MAX);
            let wanted = web::Wanted { url, part, bytes, bytes_max, silence_max, stop };
            web::fetch(&wanted, &mut |bytes| received(bytes, bytes, progress))
                .with_context(|| format!("URL {shown}"))?;
            Ok(Some(url.clone()))
        }
    }
}

fn check(path: &Path, hash: &str, wanted: Option<&str>) -> anyhow::Result<()> {
    if let Some(wanted) = wanted.filter(|wanted| *wanted != hash) {
        bail!("it has SHA-256 {hash}, --sha256 says {wanted}; it was thrown away");
    }
    let mut magic = [0; 4];
    let read = File::open(path)?.read_exact(&mut magic);
    ensure!(read.is_ok() && &magic == MAGIC, "it is no GGUF file; it was thrown away");
    Ok(())
}

/// Takes a model's files away, and an own model's name; what two models share stays.
pub(crate) fn remove(dir: &Path, name: &str) -> anyhow::Result<Vec<String>> {
    let models = catalogue::all(dir)?;
    let is_it = |model: &&Model| model.name == name || model.short.as_deref() == Some(name);
    let model = models.iter().find(is_it).with_context(|| format!("no model `{name}`"))?;
    let others = models.iter().filter(|other| other.name != model.name);
    let shared: Vec<_> = others.flat_map(|other| &other.files).map(|file| &file.name).collect();
    let mut gone = Vec::new();
    for file in model.files.iter().filter(|file| !shared.contains(&&file.name)) {
        match fs::remove_file(dir.join(&file.name)) {
            Ok(()) => {
                // A folder goes with the last of its files; the models folder itself may not.
                let own = file.name.match_indices('/').map(|(at, _)| dir.join(&file.name[..at]));
                for folder in own.collect::<Vec<_>>().iter().rev() {
                    let _not_empty = fs::remove_dir(folder);
                }
                gone.push(file.name.clone());
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{} not removed", file.name)),
        }
    }
    let _list = lock(dir, "own.json", &Stop::default(), &mut |_| {})?;
    let own = catalogue::own(dir)?;
    let left: Vec<_> = own.iter().filter(|own| own.name != model.name).cloned().collect();
    if left.len() < own.len() {
        catalogue::save_own(dir, &left)?;
    }
    Ok(gone)
}
