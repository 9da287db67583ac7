//! Programs beside a realm, each ended with its test.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::http::Guest;
use super::{Place, models_dir};

/// Ended with its test, by its own pid.
pub struct Worker(pub Child);

impl Worker {
    /// What that command starts.
    pub fn of(mut command: Command) -> Self {
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }

    /// A worker of that guest's, with these arguments behind those of its enrolment.
    pub fn start(place: &Place, owner: &Guest, more: &[&str]) -> Self {
        let token = owner.ask("POST", "/v1/workers/tokens", "").json()["token"].clone();
        Self::joined(place, &owner.url, token.as_str().unwrap(), "w", more)
    }

    /// One that has a token; `data` is its folder.
    pub fn joined(place: &Place, url: &str, token: &str, data: &str, more: &[&str]) -> Self {
        let file = format!("token-{data}");
        place.write(&file, token, 0o600);
        let to = ["--json", "worker", "--realm", url, "--token-file", &file, "--data", data];
        Self::of(place.command(&[&to[..], &["--no-fft", "--no-echo"], more].concat()))
    }

    /// The real models that hear and speak, as `mtor-models` is told to serve them.
    pub fn voice(place: &Place, owner: &Guest, serve: &[&str]) -> Self {
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
