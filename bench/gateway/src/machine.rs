//! Where and of what a figure was taken. Whatever cannot be found out is left empty.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub rustc: String,
    pub commit: String,
    pub date: String,
    /// Of the data directory.
    pub filesystem: String,
    /// Of the last minute before the run: what else the cores had to do.
    pub load: String,
}

impl Machine {
    pub(crate) fn here(data: &Path) -> Self {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let place = data.to_str().unwrap_or(".");
        let dirty = said("git", &["status", "--porcelain", "--untracked-files=no"]);
        let mut commit = said("git", &["rev-parse", "--short", "HEAD"]);
        if !dirty.is_empty() {
            commit.push_str("+changes");
        }
        Self {
            cpu: model.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: said("uname", &["-sr"]),
            rustc: said("rustc", &["--version"]),
            commit,
            date: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            filesystem: said("stat", &["-f", "-c", "%T", place]),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn line(&self) -> String {
        let Self { cpu, cores, kernel, rustc, commit, date, filesystem, load } = self;
        format!(
            "{cpu}, {cores} cores, {kernel}, {filesystem}; {rustc}; commit {commit}; {date}; \
             load before {load}"
        )
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
