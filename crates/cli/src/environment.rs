//! The environment, read once; everything else is told what stood there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::models::Places;

const API_KEY: &str = "MTOR_API_KEY";
const SYSOP_SECRET: &str = "MTOR_SYSOP_SECRET";
/// What no program that is started here is to hear.
pub(crate) const SECRETS: [&str; 2] = [SYSOP_SECRET, API_KEY];

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
