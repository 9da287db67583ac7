//! A realm as a child process: started, asked, loaded and ended.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde::Deserialize;

use crate::client::{self, Connection};
use crate::process::{self, Process};
use crate::worker::{Enrolment, Worker};

const START_PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(1);
/// Guests asked for; fewer do if the realm gives no more.
const GUESTS: u8 = 32;
const OFFER_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Realm {
    pub process: Process,
    pub address: SocketAddr,
    pub sysop: String,
    pub data: PathBuf,
    /// From its start to the first 200 of `/healthz` and of `/readyz`.
    pub healthy_after: Duration,
    pub ready_after: Duration,
}

#[derive(Debug, Deserialize)]
struct Ready {
    event: String,
    sysop_secret: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Token {
    token: String,
}

#[derive(Debug, Deserialize)]
struct Guest {
    api_key: String,
    balance: String,
}

/// Accounts that pay for the load.
#[derive(Clone, Debug)]
pub(crate) struct Guests {
    pub keys: Vec<String>,
    /// Of one, in base units.
    pub grant: u64,
}

#[derive(Debug, Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Debug, Deserialize)]
struct Model {
    id: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Health {
    pub open: u64,
}

impl Realm {
    pub(crate) async fn start(core: usize, program: &Path, data: &Path) -> Result<Self> {
        // Known beforehand, so that the first 200 can be waited for.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        std::fs::create_dir_all(data)?;
        let place = data.to_str().context("the data directory's name")?;
        let listen = address.to_string();
        let arguments = ["up", "--data", place, "--listen", &listen, "--json", "--no-worker"];
        let errors = File::options().create(true).append(true).open(data.with_extension("log"))?;
        let mut process = Process::spawn(core, program, &arguments, Stdio::from(errors))?;
        let healthy_after = until_200(address, "/healthz", &mut process).await?;
        let ready_after = until_200(address, "/readyz", &mut process).await?;
        let line = process.first_line().context("no ready line")?;
        let ready: Ready = serde_json::from_str(&line).with_context(|| line.clone())?;
        ensure!(ready.event == "ready", "not ready: {line}");
        let sysop = ready.sysop_secret.unwrap_or_default();
        let data = data.to_owned();
        Ok(Self { process, address, sysop, data, healthy_after, ready_after })
    }

    pub(crate) async fn worker(&self) -> Result<(Enrolment, Worker)> {
        let path = "/v1/sysop/workers/tokens";
        let request = client::post(path, Some(&self.sysop), "", "");
        let token: Token = client::call(self.address, &request).await.context("token")?;
        let enrolment = Enrolment::new(self.address, token.token).await?;
        let worker = Worker::start(self.address, &enrolment)?;
        self.until_offered().await?;
        Ok((enrolment, worker))
    }

    /// Until the mock's models are on offer.
    async fn until_offered(&self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < OFFER_PATIENCE {
            let request = client::request("GET", "/v1/models", None, "", "");
            let models: Models = client::call(self.address, &request).await?;
            if models.data.iter().any(|model| model.id == crate::answers::MODEL) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("the realm does not offer the mock's model")
    }

    /// Realms count guests by network: each is opened from another loopback address.
    pub(crate) async fn guests(&self) -> Result<Guests> {
        let mut guests = Guests { keys: Vec::new(), grant: 0 };
        let request = client::post("/v1/accounts/guest", None, "", "{}");
        for number in 0..GUESTS {
            let source = IpAddr::V4(Ipv4Addr::new(127, number, 0, 1));
            match client::call_from::<Guest>(source, self.address, &request).await {
                Ok(guest) => {
                    guests.grant = guest.balance.parse().context("balance")?;
                    guests.keys.push(guest.api_key);
                }
                Err(error) if guests.keys.is_empty() => return Err(error).context("guest"),
                // As many as it gives.
                Err(_) => break,
            }
        }
        Ok(guests)
    }

    pub(crate) async fn health(&self) -> Result<Health> {
        let request = client::request("GET", "/v1/sysop/health", Some(&self.sysop), "", "");
        client::call(self.address, &request).await
    }

    /// Waits until no intent is open any more.
    pub(crate) async fn until_idle(&self, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            let open = self.health().await?.open;
            if open == 0 {
                return Ok(());
            }
            ensure!(begun.elapsed() < patience, "{open} intents are still open");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn resident_kib(&self) -> Result<u64> {
        process::resident_kib(self.process.id())
    }

    /// The log's own files.
    pub(crate) fn log_bytes(&self) -> u64 {
        let length = |name: &str| std::fs::metadata(self.data.join(name)).map_or(0, |at| at.len());
        length("log.db") + length("log.db-wal")
    }
}

impl Guests {
    /// The same request for each connection, in turn with every guest's key.
    pub(crate) fn spread(&self, connections: usize, path: &str, body: &str) -> Vec<Bytes> {
        let keys = self.keys.iter().cycle().take(connections);
        keys.map(|key| Bytes::from(client::post(path, Some(key), "", body))).collect()
    }
}

async fn until_200(address: SocketAddr, path: &str, process: &mut Process) -> Result<Duration> {
    let request = client::request("GET", path, None, "", "");
    let (from, mut last) = (process.spawned, None);
    while from.elapsed() < START_PATIENCE {
        ensure!(!process.has_ended()?, "the realm ended at its start: see the log beside its data");
        match answers(address, &request).await {
            Ok(200) => return Ok(from.elapsed()),
            Ok(status) => last = Some(format!("status {status}")),
            Err(error) => last = Some(format!("{error:#}")),
        }
        tokio::time::sleep(POLL).await;
    }
    anyhow::bail!("{path} gave no 200: {}", last.unwrap_or_default())
}

async fn answers(address: SocketAddr, request: &[u8]) -> Result<u16> {
    let mut connection = Connection::open(address).await?;
    Ok(connection.exchange(request, false).await?.seen.status)
}
