//! The environment: read once for what means something to us, and the only place where a program is
//! started, so that it finds a closed list of it.
//!
//! Whoever starts `mtor` may have keys of other services in the environment, and a program that does
//! strangers' work may write down whatever it finds. What is not on the list of a [`Purpose`], or
//! named by the operator, is not handed on; nor is what is called a key, a token or a secret, even
//! where its family is on the list.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Access, access};

use mtor_worker::Surroundings;

use crate::models::Places;

const API_KEY: &str = "MTOR_API_KEY";
const SYSOP_SECRET: &str = "MTOR_SYSOP_SECRET";

/// What a program is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It works, or says something of this machine.
    Work,
    /// pip and npm: how this machine reaches a registry is theirs to know, with what that asks for.
    Fetch,
    /// It plays a sound.
    Sound,
    /// This program once more.
    Ourselves,
}

/// Every program may need these, and nobody keeps a secret in them.
const NAMES: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYENV_ROOT",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// And what begins so: languages, folders, accelerators, threads, Python.
const FAMILIES: [&str; 12] = [
    "LC_",
    "XDG_",
    "CUDA_",
    "NVIDIA_",
    "HIP_",
    "ROCR_",
    "ROCM_",
    "HSA_",
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "PYTHON",
];
/// Of a family: a name with such a word in it may hold a secret (`NVIDIA_API_KEY`).
const SECRET_WORDS: [&str; 9] =
    ["KEY", "KEYS", "TOKEN", "SECRET", "PASSWORD", "PASS", "AUTH", "CREDENTIAL", "CREDENTIALS"];

impl Purpose {
    fn takes(self, name: &str) -> bool {
        let begins = |families: &[&str]| families.iter().any(|family| name.starts_with(family));
        let is_secret = || name.split('_').any(|word| SECRET_WORDS.contains(&word));
        let is_common = NAMES.contains(&name) || begins(&FAMILIES) && !is_secret();
        is_common
            || match self {
                Self::Work => false,
                Self::Fetch => {
                    let upper = name.to_ascii_uppercase();
                    let own = ["PIP_", "NPM_CONFIG_"].iter().any(|own| upper.starts_with(own));
                    let files = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];
                    own || upper.ends_with("_PROXY") || files.contains(&name)
                }
                Self::Sound => {
                    let places = ["DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"];
                    places.contains(&name)
                        || begins(&["PULSE_", "PIPEWIRE_", "ALSA_", "JACK_", "SDL_"])
                }
                Self::Ourselves => begins(&["MTOR_"]) && !is_secret(),
            }
    }

    fn of(
        self,
        all: impl Iterator<Item = (OsString, OsString)>,
    ) -> impl Iterator<Item = (OsString, OsString)> {
        all.filter(move |(name, _)| name.to_str().is_some_and(|name| self.takes(name)))
    }

    /// A program with what of the environment is for it.
    pub(crate) fn command(self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.of(all()));
        command
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
fn all() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// What of the environment means something to us.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    home: Option<PathBuf>,
    data_home: Option<PathBuf>,
    config_home: Option<PathBuf>,
    cache_home: Option<PathBuf>,
    models: Option<PathBuf>,
    /// `MTOR_MODEL_SOURCE`: the folder or address where models are looked for first.
    pub(crate) model_source: Option<String>,
    pub(crate) path: Option<OsString>,
    /// `MTOR_REALM`: the realm's address, if `--realm` is not given.
    pub(crate) realm: Option<String>,
    /// `MTOR_API_KEY`: in place of the remembered account's.
    pub(crate) api_key: Option<String>,
    /// `MTOR_SYSOP_SECRET`.
    pub(crate) sysop_secret: Option<String>,
    /// `MTOR_DISCOVER_PORTS`: where servers of models are looked for, in place of the usual ports.
    pub(crate) discover_ports: Option<String>,
    /// `MTOR_DISCOVER_PROC`: where the kernel says what it is, in place of `/proc`; for tests.
    pub(crate) discover_proc: Option<PathBuf>,
}

pub(crate) fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

impl Environment {
    pub(crate) fn read() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
        let find = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| find(name).and_then(|value| value.into_string().ok());
        let place = |name: &str| find(name).map(PathBuf::from);
        // The XDG rules: a relative path there counts as none.
        let xdg = |name: &str| place(name).filter(|path| path.is_absolute());
        Self {
            home: place("HOME"),
            data_home: xdg("XDG_DATA_HOME"),
            config_home: xdg("XDG_CONFIG_HOME"),
            cache_home: xdg("XDG_CACHE_HOME"),
            models: place("MTOR_MODELS"),
            model_source: text("MTOR_MODEL_SOURCE"),
            path: find("PATH"),
            realm: text("MTOR_REALM"),
            api_key: text(API_KEY),
            sysop_secret: text(SYSOP_SECRET),
            discover_ports: text("MTOR_DISCOVER_PORTS"),
            discover_proc: place("MTOR_DISCOVER_PROC"),
        }
    }

    /// What a worker's programs find: what is for work, and what the operator names. The error is a
    /// name that does not stand in the environment.
    pub(crate) fn surroundings(&self, named: &[String]) -> Result<Surroundings, String> {
        let missing = |name: &&String| !all().any(|(found, _)| found.to_str() == Some(name));
        if let Some(missing) = named.iter().find(missing) {
            return Err(missing.clone());
        }
        let is_named = |name: &str| named.iter().any(|named| named == name);
        let is_taken = |name: &str| Purpose::Work.takes(name) || is_named(name);
        Ok(all().filter(|(name, _)| name.to_str().is_some_and(is_taken)).collect())
    }

    /// Where a realm's data stand if nobody says so.
    pub(crate) fn data_dir(&self) -> Option<PathBuf> {
        Some(self.data_home()?.join("mtor"))
    }

    /// Where a worker's key stands if nobody says so: not in a realm's folder, whose own worker
    /// has its key there.
    pub(crate) fn worker_dir(&self) -> Option<PathBuf> {
        Some(self.data_home()?.join("mtor-worker"))
    }

    fn data_home(&self) -> Option<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".local/share"));
        self.data_home.clone().or_else(home)
    }

    /// Whether a program of that name, or at that path, could be started.
    pub(crate) fn can_run(&self, program: &Path) -> bool {
        if program.components().count() > 1 || program.is_absolute() {
            return is_program(program);
        }
        let folders = self.path.as_ref().map(|path| std::env::split_paths(path).collect());
        let folders: Vec<PathBuf> = folders.unwrap_or_default();
        folders.iter().any(|folder| is_program(&folder.join(program)))
    }

    /// Where accounts are remembered.
    pub(crate) fn config_dir(&self) -> Option<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".config"));
        Some(self.config_home.clone().or_else(home)?.join("mtor"))
    }

    /// Where models are looked for.
    pub(crate) fn models_dir(&self) -> Option<PathBuf> {
        crate::models::default_dir(&Places {
            mtor_models: self.models.clone(),
            working: std::env::current_dir().unwrap_or_default(),
            cache_home: self.cache_home.clone(),
            home: self.home.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_finds_what_is_for_it_and_no_secret() {
        let taken = |purpose: Purpose, names: &[&str]| {
            let all = names.iter().map(|name| (OsString::from(name), OsString::from("x")));
            purpose.of(all).map(|(name, _)| name.into_string().unwrap()).collect::<Vec<_>>()
        };
        let common = ["PATH", "HOME", "LC_ALL", "XDG_RUNTIME_DIR", "CUDA_VISIBLE_DEVICES"];
        let secrets = [
            "MTOR_API_KEY",
            "MTOR_SYSOP_SECRET",
            "OPENAI_API_KEY",
            "NVIDIA_API_KEY",
            "CUDA_TOKEN",
            "HF_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "SSH_AUTH_SOCK",
            "DATABASE_URL",
            "LD_PRELOAD",
            "BASH_ENV",
        ];
        let own = [
            (Purpose::Work, vec![]),
            (Purpose::Fetch, vec!["PIP_INDEX_URL", "npm_config_registry", "https_proxy"]),
            (Purpose::Sound, vec!["PULSE_SERVER", "DISPLAY"]),
            (Purpose::Ourselves, vec!["MTOR_MODELS", "MTOR_DISCOVER_PORTS"]),
        ];
        for (purpose, _) in &own {
            assert_eq!(taken(*purpose, &common), common, "{purpose:?}");
            assert!(taken(*purpose, &secrets).is_empty(), "{purpose:?}");
            for (other, names) in &own {
                let found = taken(*purpose, names);
                let expected = if other == purpose { names.clone() } else { vec![] };
                assert_eq!(found, expected, "{purpose:?}");
            }
        }
    }
}
