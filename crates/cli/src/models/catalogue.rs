//! Which models there are: those that ship in the binary, and a sysop's own.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::without_secrets;

const CATALOGUE: &str = include_str!("catalogue.toml");
/// A sysop's own models, in the models folder.
const OWN: &str = "own.json";
/// Own models of one folder.
const OWN_MAX: usize = 256;
/// The "intent" of what runs the chat models' files and is no model itself.
pub(crate) const ENGINE: &str = "engine";
/// A model's name is part of file names.
const NAME_BYTES_MAX: usize = 64;

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    pub(crate) name: String,
    /// What people call it instead: `good`, `small`, `tiny`.
    #[serde(default)]
    pub(crate) short: Option<String>,
    /// Fetched if no name is said.
    #[serde(default)]
    pub(crate) basic: bool,
    pub(crate) intent: String,
    pub(crate) title: String,
    pub(crate) maker: String,
    pub(crate) licence: String,
    /// What people should know of it, such as "a coding model".
    #[serde(default)]
    pub(crate) note: Option<String>,
    /// All its files together.
    pub(crate) bytes: u64,
    #[serde(default, rename = "file")]
    pub(crate) files: Vec<ModelFile>,
}

/// Many files of one package, of one model: `{file}` in the name and in the member stands for each.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    /// The model's name.
    model: String,
    name: String,
    package: Package,
    files: Vec<OfSet>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfSet {
    file: String,
    #[serde(default)]
    target: Option<String>,
    bytes: u64,
    sha256: String,
}

impl Set {
    fn files(self) -> impl Iterator<Item = ModelFile> {
        let Self { name, package, files, .. } = self;
        files.into_iter().map(move |OfSet { file, target, bytes, sha256 }| {
            let member = package.member.replace("{file}", &file);
            let package = Some(Package { member, ..package.clone() });
            ModelFile {
                name: name.replace("{file}", &file),
                url: None,
                package,
                target,
                bytes,
                sha256,
            }
        })
    }
}

/// One file of a model, and where it comes from. The hash alone decides whether it is the right one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelFile {
    /// May name a folder of the models folder: `voices/af_heart.bin`.
    pub(crate) name: String,
    /// The official repository's address of it.
    #[serde(default)]
    pub(crate) url: Option<String>,
    #[serde(default)]
    pub(crate) package: Option<Package>,
    /// `<architecture>-<system>` that the file is for, if it is not for all.
    #[serde(default)]
    pub(crate) target: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// The registry of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    #[default]
    Pip,
    Npm,
}

/// A file inside registry packages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    #[serde(default)]
    pub(crate) registry: Kind,
    /// `{part}` stands for the number of the part.
    pub(crate) name: String,
    pub(crate) version: String,
    /// Path inside the package; `{part}` is the number, `{part2}` the same with two digits.
    pub(crate) member: String,
    /// Packages 1 to this one hold the file's parts, in order.
    #[serde(default = "one")]
    pub(crate) parts: u32,
    /// `<python tag>[-abi3|-none]-<platform>`, if the package has one build per platform: a fixed
    /// one, so that the hash does not depend on the Python that is installed.
    #[serde(default)]
    pub(crate) wheel: Option<String>,
}

fn one() -> u32 {
    1
}

impl Package {
    /// A part's package and the path inside it.
    pub(super) fn part(&self, part: u32) -> (String, String) {
        let fill = |text: &str| {
            text.replace("{part2}", &format!("{part:02}")).replace("{part}", &part.to_string())
        };
        (fill(&self.name), fill(&self.member))
    }

    /// pip's words for a wheel of a fixed platform.
    pub(super) fn wheel_arguments(&self) -> anyhow::Result<Vec<String>> {
        let Some(wheel) = &self.wheel else { return Ok(Vec::new()) };
        let (python, platform) =
            wheel.split_once('-').context("catalogue: wheel without platform")?;
        let version = python.strip_prefix("cp").context("catalogue: wheel's python is not cp…")?;
        // One build for that Python and every later one, or for any, says so before its platform.
        let (abi, platform) = match platform.split_once('-') {
            Some((abi @ ("abi3" | "none"), platform)) => (abi, platform),
            Some(_) | None => (python, platform),
        };
        let words = ["--implementation", "cp", "--abi", abi, "--python-version", version];
        Ok(words.iter().chain(&["--platform", platform]).map(ToString::to_string).collect())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    #[serde(rename = "model")]
    models: Vec<Model>,
    #[serde(default, rename = "set")]
    sets: Vec<Set>,
}

/// The models that ship with the binary.
pub(crate) fn built_in() -> anyhow::Result<Vec<Model>> {
    let Catalogue { mut models, sets } = toml::from_str(CATALOGUE).context("models catalogue")?;
    for set in sets {
        let model = models.iter_mut().find(|model| model.name == set.model);
        model.context("models catalogue: a set of no model")?.files.extend(set.files());
    }
    Ok(models)
}

/// The sysop's own models of a folder.
pub(super) fn own(dir: &Path) -> anyhow::Result<Vec<Model>> {
    let path = dir.join(OWN);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| {
            format!("{} is damaged: mend it, or remove it and add the models again", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("{} not read", path.display())),
    }
}

/// Whole addresses stand in it, for a later pull: nobody else reads it where one may hold a secret.
pub(super) fn save_own(dir: &Path, models: &[Model]) -> anyhow::Result<()> {
    ensure!(models.len() <= OWN_MAX, "more than {OWN_MAX} own models: remove some first");
    let fresh = dir.join(format!(".{OWN}.{}", std::process::id()));
    let mut addresses = models.iter().flat_map(|model| &model.files).flat_map(|file| &file.url);
    // Else whoever may read the files may know what they are, too.
    let mode = if addresses.any(|url| without_secrets(url) != *url) { 0o600 } else { 0o666 };
    let _none = fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(&serde_json::to_vec_pretty(models)?)?;
    fs::rename(&fresh, dir.join(OWN)).with_context(|| format!("{OWN} not written"))
}

/// All models of a folder.
pub(crate) fn all(dir: &Path) -> anyhow::Result<Vec<Model>> {
    let mut models = built_in()?;
    models.extend(own(dir)?);
    Ok(models)
}

/// The models that are asked for by name or by short name, with what runs them; the basic ones if
/// none is.
pub(super) fn chosen(dir: &Path, names: &[String]) -> anyhow::Result<Vec<Model>> {
    let models = all(dir)?;
    if names.is_empty() {
        return Ok(models.into_iter().filter(|model| model.basic).collect());
    }
    let find = |name: &String| {
        let is_it = |model: &&Model| model.name == *name || model.short.as_ref() == Some(name);
        models.iter().find(is_it).cloned().with_context(|| {
            let known: Vec<_> = models.iter().map(|model| model.name.as_str()).collect();
            format!("no model `{name}`: there are {}, good, small and tiny", known.join(", "))
        })
    };
    let mut chosen = names.iter().map(find).collect::<anyhow::Result<Vec<Model>>>()?;
    // A chat model's file is of no use without what runs it.
    if chosen.iter().any(|model| model.intent == "chat") {
        let engines = models.iter().filter(|model| model.intent == ENGINE);
        let engines: Vec<_> = engines.filter(|engine| !chosen.contains(engine)).cloned().collect();
        chosen.extend(engines);
    }
    Ok(chosen)
}

/// The file of a sysop's model.
pub(super) fn own_file(name: &str) -> String {
    format!("{name}.gguf")
}

/// Whether a sysop's model may have this name.
pub(super) fn check_name(name: &str) -> anyhow::Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    ensure!(
        begins && name.len() <= NAME_BYTES_MAX && name.chars().all(good),
        "NAME `{name}`: 1 to {NAME_BYTES_MAX} of a-z, 0-9, `.`, `_` and `-`, a letter or digit first"
    );
    let is_it = |model: &Model| model.name == name || model.short.as_deref() == Some(name);
    let built_in = built_in()?;
    ensure!(!built_in.iter().any(is_it), "NAME `{name}` is a built-in model's: take another");
    let file_name = own_file(name);
    ensure!(
        !built_in.iter().flat_map(|model| &model.files).any(|file| file.name == file_name),
        "NAME `{name}`: {file_name} is a built-in model's file: take another"
    );
    Ok(())
}
