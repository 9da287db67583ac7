//! Programs beside a realm, each ended with its test.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::http::{Guest, send};
use super::{Place, Realm, models_dir};

/// Whose workers join.
pub trait Owner {
    fn url(&self) -> &str;
    /// A token for one of them.
    fn token(&self) -> String;
}

/// Workers of the realm's own account, whom everybody comes to.
impl Owner for Realm {
    fn url(&self) -> &str {
        &self.url
    }

    fn token(&self) -> String {
        let secret = self.ready["sysop_secret"].as_str().expect("a first start tells it");
        let bearer = [("authorization", &*format!("Bearer {secret}"))];
        let token = send(&self.url, "POST", "/v1/sysop/workers/tokens", &bearer, b"").json();
        token["token"].as_str().unwrap().to_owned()
    }
}

/// A stranger's, to whom nobody comes who does not say so.
impl Owner for Guest {
    fn url(&self) -> &str {
        &self.url
    }

    fn token(&self) -> String {
        let token = self.ask("POST", "/v1/workers/tokens", "").json();
        token["token"].as_str().unwrap().to_owned()
    }
}

/// Ended with its test, by its own pid.
pub struct Worker(pub Child);

impl Worker {
    /// What that command starts.
    pub fn of(mut command: Command) -> Self {
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }

    /// A worker of that owner's, with these arguments behind those of its enrolment.
    pub fn start(place: &Place, owner: &impl Owner, more: &[&str]) -> Self {
        Self::joined(place, owner.url(), &owner.token(), "w", more)
    }

    /// One that has a token; `data` is its folder.
    pub fn joined(place: &Place, url: &str, token: &str, data: &str, more: &[&str]) -> Self {
        let file = format!("token-{data}");
        place.write(&file, token, 0o600);
        let to = ["--json", "worker", "--realm", url, "--token-file", &file, "--data", data];
        Self::of(place.command(&[&to[..], &["--no-fft", "--no-echo"], more].concat()))
    }

    /// The real models that hear and speak, as `mtor-models` is told to serve them.
    pub fn voice(place: &Place, owner: &impl Owner, serve: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_mtor")).with_file_name("mtor-models");
        let (program, models) = (program.to_str().unwrap(), models_dir());
        let with = ["--exec", program, "--models", models.to_str().unwrap()];
        Self::start(place, owner, &[&with[..], serve].concat())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
