//! A realm that runs, with a folder of its own, and where around it people stand.
//!
//! Networks are /24: the n-th hostile one is 127.(16 + n / 250).(1 + n % 250).0/24, the victim's
//! 127.200.1.0/24, and 127.201 and 127.202 are those of newcomers. 127.0.0.0/24 is this machine, which
//! has no share.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Error;
use super::net::{Door, Reply, Request};
use super::options::Options;

const START: Duration = Duration::from_secs(60);

/// Who serves `echo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serving {
    /// The worker that the realm brings, with all of its slots.
    BuiltIn,
    /// A worker of the realm's own with so many slots, for a baseline.
    Slots(u32),
}

pub(super) struct Field {
    pub address: SocketAddr,
    /// Hostile ones.
    pub networks: u32,
    pub pid: u32,
    proxied: bool,
    sysop: String,
    realm: Child,
    worker: Option<Child>,
    place: PathBuf,
    newcomers: AtomicU32,
    /// Hostile guests, by network, hand and number: a network may open so many a day, and who attacks
    /// again has his.
    guests: Mutex<BTreeMap<[u32; 3], Visitor>>,
}

/// An account and from where it asks.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub door: Door,
    pub key: String,
    pub account: String,
}

impl Visitor {
    pub(super) fn open(door: Door) -> std::io::Result<Self> {
        let request = Request { method: "POST", path: "/v1/accounts/guest", ..Request::default() };
        let reply = door.ask(&Request { body: b"{}", ..request })?;
        Ok(Self { door, key: reply.text("api_key")?, account: reply.text("account")? })
    }

    pub(super) fn post(&self, path: &str, body: &[u8]) -> std::io::Result<Reply> {
        self.door.ask(&Request::post(path, &self.key, body))
    }
}

impl Field {
    pub(super) fn start(options: &Options, networks: u32, serving: Serving) -> Result<Self, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("mtor-siege-{}-{number}", std::process::id());
        let place = options.folder.join(name);
        std::fs::create_dir_all(&place)?;
        let mut command = alone(options, &place);
        let memory = options.memory.to_string();
        command.args([
            "up",
            "--json",
            "--no-models",
            "--listen",
            "127.0.0.1:0",
            "--memory",
            &memory,
        ]);
        command.arg("--data").arg(place.join("data"));
        if options.proxied {
            command.args(["--trusted-proxy", "127.0.0.1/32"]);
        }
        if serving != Serving::BuiltIn {
            command.arg("--no-worker");
        }
        command.stderr(std::fs::File::create(place.join("realm.log"))?);
        let mut realm = command.stdout(Stdio::piped()).spawn()?;
        let pid = realm.id();
        let said = match first_line(&mut realm) {
            Ok(said) => said,
            Err(error) => {
                end(&mut realm);
                return Err(format!("the realm does not start: {error}").into());
            }
        };
        let url = said["url"].as_str().unwrap_or_default();
        let address = url.strip_prefix("http://").unwrap_or_default().parse()?;
        let sysop = said["sysop_secret"].as_str().unwrap_or_default().to_owned();
        let (worker, newcomers, guests) = (None, AtomicU32::new(0), Mutex::default());
        let proxied = options.proxied;
        let mut field = Self {
            address,
            networks,
            pid,
            proxied,
            sysop,
            realm,
            worker,
            place,
            newcomers,
            guests,
        };
        if let Serving::Slots(slots) = serving {
            field.worker = Some(field.start_worker(options, slots)?);
        }
        field.wait_serving()?;
        Ok(field)
    }

    fn start_worker(&self, options: &Options, slots: u32) -> Result<Child, Error> {
        let reply = self.sysop("POST", "/v1/sysop/workers/tokens", b"")?;
        let file = self.place.join("token");
        std::fs::write(&file, reply.text("token")?)?;
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let mut command = alone(options, &self.place);
        command.args([
            "worker",
            "--no-echo",
            "--no-fft",
            "--realm",
            &format!("http://{}", self.address),
        ]);
        command.arg("--token-file").arg(file).arg("--data").arg(self.place.join("worker"));
        command.arg("--exec").arg(std::env::current_exe()?);
        command.args(["siege-echo", &slots.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.spawn()?)
    }

    fn wait_serving(&self) -> Result<(), Error> {
        let until = Instant::now() + START;
        while Instant::now() < until {
            let ready = self.here().ask(&Request::get("/readyz"));
            let pools = self.here().ask(&Request::get("/v1/pools")).map(|reply| reply.json());
            let serves = |pools: Value| {
                pools["items"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|one| one["intent"] == "echo"))
            };
            if ready.is_ok_and(|reply| reply.is_good()) && pools.is_ok_and(serves) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("nobody serves: {}", self.log_tail()).into())
    }

    /// This machine's own.
    pub(super) fn here(&self) -> Door {
        Door { to: self.address, from: Ipv4Addr::LOCALHOST, proxied: false }
    }

    fn door(&self, from: Ipv4Addr) -> Door {
        Door { to: self.address, from, proxied: self.proxied }
    }

    /// Of a hostile network; `host` is which of its addresses.
    pub(super) fn hostile(&self, network: u32, host: u32) -> Door {
        let octet = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
        let (high, low) = (octet(16 + network / 250), octet(1 + network % 250));
        self.door(Ipv4Addr::new(127, high, low, octet(1 + host % 250)))
    }

    pub(super) fn victim(&self) -> Door {
        self.door(Ipv4Addr::new(127, 200, 1, 1))
    }

    /// Of a network that nobody has come from.
    pub(super) fn newcomer(&self) -> Door {
        let number = self.newcomers.fetch_add(1, Ordering::Relaxed);
        let octet = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
        self.door(Ipv4Addr::new(127, octet(201 + number / 250 % 2), octet(1 + number % 250), 1))
    }

    /// A guest of a hostile network, the same each time.
    pub(super) fn guest(&self, network: u32, hand: u32, number: u32) -> std::io::Result<Visitor> {
        let guests = || self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let who = [network, hand, number];
        if let Some(known) = guests().get(&who) {
            return Ok(known.clone());
        }
        let opened = Visitor::open(self.hostile(network, hand))?;
        guests().insert(who, opened.clone());
        Ok(opened)
    }

    pub(super) fn sysop(&self, method: &str, path: &str, body: &[u8]) -> std::io::Result<Reply> {
        let key = Some(self.sysop.as_str());
        self.here().ask(&Request { method, path, key, body, ..Request::default() })
    }

    /// Removes the workers of others, which are kept for days by design.
    pub(super) fn forget_workers(&self) -> std::io::Result<u32> {
        let mut forgotten = 0;
        loop {
            let page = self.sysop("GET", "/v1/sysop/workers?limit=1000", b"")?.json();
            let rows = page["items"].as_array().cloned().unwrap_or_default();
            let others = rows.iter().filter(|row| row["own"] == false);
            let ids: Vec<&str> = others.filter_map(|row| row["worker"].as_str()).collect();
            for id in &ids {
                self.sysop("DELETE", &format!("/v1/sysop/workers/{id}"), b"")?;
            }
            forgotten += u32::try_from(ids.len()).unwrap_or(u32::MAX);
            if ids.is_empty() || rows.len() < 1_000 {
                return Ok(forgotten);
            }
        }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.place.join("data")
    }

    /// Whether the realm still runs.
    pub(super) fn lives(&mut self) -> bool {
        matches!(self.realm.try_wait(), Ok(None))
    }

    /// What it logged last.
    pub(super) fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.place.join("realm.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// Lines of its log: it warns and no more.
    pub(super) fn log_lines(&self) -> usize {
        std::fs::read_to_string(self.place.join("realm.log")).unwrap_or_default().lines().count()
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        self.worker.iter_mut().for_each(end);
        end(&mut self.realm);
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

/// The binary with nothing of the caller's own environment but `PATH`.
fn alone(options: &Options, place: &Path) -> Command {
    let mut command = Command::new(&options.binary);
    command.env_clear().env("HOME", place).env("MTOR_DISCOVER_PORTS", "none");
    #[expect(clippy::disallowed_methods, reason = "a chore hands its own search path on")]
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.current_dir(place).stdin(Stdio::null());
    command
}

/// Asks it to stop, by its own id, and ends it where it does not.
fn end(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid.filter(|_| matches!(child.try_wait(), Ok(None))) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The line that says that it is ready; what follows is read and forgotten.
fn first_line(child: &mut Child) -> Result<Value, Error> {
    let stdout = child.stdout.take().ok_or("no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let _ = tell.send(lines.next());
        lines.for_each(drop);
    });
    let line = told.recv_timeout(START)?.ok_or("it ended")??;
    Ok(serde_json::from_str(&line)?)
}
