//! What a siege is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Error;

pub(super) const USAGE: &str = "\
options of siege and soak:
  --attack NAME[,NAME...]   only these; all if it is not given
  --networks N[,N...]       hostile networks (1,10,30)
  --seconds N               how long the victim asks, and a turn of soak (20)
  --requests N              how often the victim asks meanwhile (500)
  --memory BYTES            what the realm is told that it may have (512M)
  --disk BYTES              what its folder may become (4G)
  --slots N                 slots of the realm's own worker (256, as the built-in one has)
  --patience SECONDS        how long it may take until all is given back (150)
  --through-proxy           all come through a proxy that is believed, instead of from addresses
  --binary PATH             an `mtor` that is there; else it is built
  --folder PATH             where realms keep their data while they run (the system's for such)
  --minutes N               how long soak goes on (60)
  --assert                  exit with 1 where a bound is missed: by 1 and 10 networks, or by soak
  --json PATH               the figures as one line of JSON there, too";

#[derive(Clone, Debug)]
pub(super) struct Options {
    pub attacks: Vec<String>,
    pub networks: Vec<u32>,
    pub time: Duration,
    pub requests: u64,
    pub memory: u64,
    pub disk: u64,
    pub slots: u32,
    pub patience: Duration,
    pub proxied: bool,
    pub binary: PathBuf,
    pub folder: PathBuf,
    pub minutes: u64,
    pub asserts: bool,
    pub json: Option<PathBuf>,
}

impl Options {
    /// Reads them; the binary is built if none is named.
    pub(super) fn read(root: &Path, words: &[String]) -> Result<Self, Error> {
        let mut options = Self {
            attacks: Vec::new(),
            networks: vec![1, 10, 30],
            time: Duration::from_secs(20),
            requests: 500,
            memory: 512 << 20,
            disk: 4 << 30,
            slots: 256,
            patience: Duration::from_secs(150),
            proxied: false,
            binary: PathBuf::new(),
            folder: std::env::temp_dir(),
            minutes: 60,
            asserts: false,
            json: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--attack" => options.attacks = list(value()?),
                "--networks" => {
                    let parsed: Result<_, _> =
                        list(value()?).iter().map(|one| one.parse()).collect();
                    options.networks = parsed?;
                }
                "--seconds" => options.time = Duration::from_secs(value()?.parse()?),
                "--requests" => options.requests = value()?.parse()?,
                "--memory" => options.memory = bytes(value()?)?,
                "--disk" => options.disk = bytes(value()?)?,
                "--slots" => options.slots = value()?.parse()?,
                "--patience" => options.patience = Duration::from_secs(value()?.parse()?),
                "--through-proxy" => options.proxied = true,
                "--binary" => options.binary = PathBuf::from(value()?).canonicalize()?,
                "--folder" => options.folder = PathBuf::from(value()?).canonicalize()?,
                "--minutes" => options.minutes = value()?.parse()?,
                "--assert" => options.asserts = true,
                "--json" => options.json = Some(PathBuf::from(value()?)),
                _ => return Err(format!("what is {word}?\n{USAGE}").into()),
            }
        }
        if options.networks.iter().any(|networks| !(1..=1_000).contains(networks)) {
            return Err("--networks: 1 to 1000".into());
        }
        if options.binary.as_os_str().is_empty() {
            options.binary = build(root)?;
        }
        Ok(options)
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

/// `512M`, `4G`, `1000`.
fn bytes(text: &str) -> Result<u64, Error> {
    let (digits, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 1 << 10),
        Some(digits) if text.ends_with('M') => (digits, 1 << 20),
        Some(digits) => (digits, 1 << 30),
        None => (text, 1),
    };
    let number: u64 = digits.parse()?;
    number.checked_mul(unit).ok_or_else(|| format!("{text} is too much").into())
}

/// `target/release/mtor`, wherever cargo puts it.
fn build(root: &Path) -> Result<PathBuf, Error> {
    let mut command = std::process::Command::new("cargo");
    command.args(["build", "--release", "--locked", "-p", "mtor", "--bin", "mtor"]);
    if !command.current_dir(root).status()?.success() {
        return Err("mtor cannot be built".into());
    }
    let here = std::env::current_exe()?;
    let folder = here.parent().and_then(Path::parent).ok_or("no target folder")?;
    Ok(folder.join("release/mtor").canonicalize()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let read = |text| bytes(text).unwrap();
        assert_eq!(
            [read("7"), read("2K"), read("512M"), read("4G")],
            [7, 2048, 512 << 20, 4 << 30]
        );
        assert!(bytes("4T").is_err());
        assert!(bytes("99999999999G").is_err());
    }

    #[test]
    fn options_are_read_and_what_is_unknown_is_named() {
        let read = |text: &str| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            Options::read(Path::new("."), &words)
        };
        let options = read("--attack bodies,slots --networks 2,3 --binary . --assert").unwrap();
        assert_eq!(options.attacks, ["bodies", "slots"]);
        assert_eq!((options.networks, options.asserts), (vec![2, 3], true));
        assert!(read("--networks 0 --binary .").is_err());
        let unknown = read("--what").unwrap_err().to_string();
        assert!(unknown.starts_with("what is --what?"), "{unknown}");
    }
}
