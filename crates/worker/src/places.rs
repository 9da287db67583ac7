//! Where a server of models may stand without anybody having said so: the usual ports of this
//! machine, and under WSL2 those of the Windows host, which has them more often than not.
//!
//! Only places; who answers there is known by its answers, never by its port.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::executors::ModelNames;
use crate::limits;
use crate::options::{ExecutorOptions, OpenAiOptions};

/// What is looked for, and where.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// Of Ollama, llama-server, LM Studio and vLLM, unless a test has its own.
    pub ports: Vec<u16>,
    /// Requests at once for each model.
    pub slots: u32,
    pub names: ModelNames,
    /// Where the kernel says what it is: `/proc`.
    pub proc: PathBuf,
    /// How long a server that is known is let alone.
    pub known: Duration,
}

impl Discovery {
    /// The usual ports and the machine as it is.
    pub const PORTS: [u16; 4] = [11_434, 8_080, 1_234, 8_000];

    pub fn new(slots: u32, names: ModelNames) -> Self {
        let known = Duration::from_millis(limits::DISCOVERY_MS);
        Self { ports: Self::PORTS.to_vec(), slots, names, proc: "/proc".into(), known }
    }
}

/// Shared by all places of one discovery.
#[derive(Clone, Debug)]
pub struct Finding(Arc<Places>);

#[derive(Debug)]
struct Places {
    /// Those that were not looked at yet.
    open: AtomicUsize,
    is_found: AtomicBool,
    /// What to do under WSL2 if no place has a server.
    remedy: Option<String>,
    known: Duration,
}

impl Finding {
    /// How long a server that is known is let alone.
    pub(crate) fn known(&self) -> Duration {
        self.0.known
    }

    /// A place was looked at for the first time. Gives the remedy if it was the last one and
    /// nowhere is a server.
    pub(crate) fn looked(&self, is_found: bool) -> Option<String> {
        self.0.is_found.fetch_or(is_found, Ordering::SeqCst);
        let is_last = self.0.open.fetch_sub(1, Ordering::SeqCst) == 1;
        let is_empty = is_last && !self.0.is_found.load(Ordering::SeqCst);
        self.0.remedy.clone().filter(|_| is_empty)
    }
}

/// An executor for each place. They offer nothing, and say nothing, while nobody is there.
pub fn discover(options: &Discovery) -> Vec<ExecutorOptions> {
    let host = windows_host(&options.proc);
    let addresses = [Some(Ipv4Addr::LOCALHOST), host].into_iter().flatten();
    let place = |address: Ipv4Addr| options.ports.iter().map(move |port| (address, *port));
    let places: Vec<_> = addresses.flat_map(place).collect();
    let remedy = host.map(|host| {
        format!(
            "no server of models answers here or on the Windows host ({host}). If Ollama runs on \
             Windows, set OLLAMA_HOST=0.0.0.0 there and start it again, or put \
             networkingMode=mirrored under [wsl2] in .wslconfig and run wsl --shutdown"
        )
    });
    let (open, is_found) = (AtomicUsize::new(places.len()), AtomicBool::new(false));
    let known = options.known;
    let finding = Finding(Arc::new(Places { open, is_found, remedy, known }));
    let executor = |(address, port): (Ipv4Addr, u16)| {
        ExecutorOptions::OpenAi(OpenAiOptions {
            names: options.names.clone(),
            finding: Some(finding.clone()),
            ..OpenAiOptions::new(format!("http://{address}:{port}"), options.slots)
        })
    };
    places.into_iter().map(executor).collect()
}

/// The Windows host as a WSL2 machine sees it: its default gateway.
fn windows_host(proc: &Path) -> Option<Ipv4Addr> {
    let read = |name: &str| std::fs::read_to_string(proc.join(name)).ok();
    let release = read("sys/kernel/osrelease")?.to_ascii_lowercase();
    if !release.contains("microsoft") {
        return None;
    }
    gateway(&read("net/route")?)
}

/// The default gateway of `/proc/net/route`: addresses in hexadecimal as they stand in memory.
fn gateway(routes: &str) -> Option<Ipv4Addr> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok().filter(|gateway| *gateway != 0)?;
        (destination == "00000000").then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_read_from_the_routes() {
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                      eth0\t0010A8C0\t00000000\t0001\t0\t0\t0\t00F0FFFF\n\
                      eth0\t00000000\t011EA8C0\t0003\t0\t0\t0\t00000000\n";
        if cfg!(target_endian = "little") {
            assert_eq!(gateway(routes), Some(Ipv4Addr::new(192, 168, 30, 1)));
        }
        assert_eq!(gateway("Iface\n"), None);
        assert_eq!(gateway(""), None);
    }

    #[test]
    fn the_remedy_is_told_by_the_last_place_if_no_place_has_a_server() {
        let finding = |places| {
            let (open, is_found) = (AtomicUsize::new(places), AtomicBool::new(false));
            let (remedy, known) = (Some("do".into()), Duration::ZERO);
            Finding(Arc::new(Places { open, is_found, remedy, known }))
        };
        let empty = finding(2);
        assert_eq!((empty.looked(false), empty.looked(false)), (None, Some("do".into())));
        let full = finding(2);
        assert_eq!((full.looked(true), full.looked(false)), (None, None));
    }
}
