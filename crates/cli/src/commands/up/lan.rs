//! `mtor up --lan`: the realm also serves the network that this machine is in.
//!
//! Only the one address of the one interface that is named is served, beside loopback: a container's
//! bridge or a VPN of the same machine does not hear of it. Who starts it is asked once for each
//! network, and the answer is remembered in the data directory. A network is known by the interface
//! and its numbers, because nothing better names it: another place with the same numbers counts as
//! the same.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{BufRead, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use clap::Args;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::json;

use crate::failure::Failure;
use crate::output::Out;

/// Networks that consent is remembered for, a line each.
const CONSENT_FILE: &str = "lan-consent";

#[derive(Args)]
pub(crate) struct Wish {
    /// Serve this machine's network, too, so that phones and other computers at home can use the
    /// realm; with several networks, the one of this interface or address
    #[arg(long, value_name = "INTERFACE|IP", num_args = 0..=1, require_equals = true)]
    lan: Option<Option<String>>,
    /// Do not ask before the network is served
    #[arg(long, requires = "lan")]
    yes: bool,
}

/// The network that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lan {
    pub(super) address: Ipv4Addr,
    interface: String,
    prefix: u8,
}

impl Lan {
    /// As in `192.168.1.0/24`.
    fn network(&self) -> String {
        let mask = u32::MAX.checked_shl(32_u32.saturating_sub(self.prefix.into())).unwrap_or(0);
        format!("{}/{}", Ipv4Addr::from(u32::from(self.address) & mask), self.prefix)
    }

    /// Says where the realm is to be found, and what others can then do.
    pub(super) fn tell(&self, port: u16, out: Out) {
        let url = format!("http://{}", SocketAddr::new(IpAddr::V4(self.address), port));
        let (interface, network) = (&self.interface, self.network());
        out.event("lan", json!({"url": url, "interface": interface, "network": network}));
        if out.is_json() {
            return;
        }
        out.words(format_args!("\nServed in the network {network} ({interface}), too:\n  {url}\n"));
        if let Some(code) = picture(&url) {
            out.words(code);
        }
        out.words(
            "Whoever is in this network can open the page there, ask with a guest account of their\n\
             own, and bring a worker (mtor worker --realm with that address). What goes over the\n\
             network can be read in it: it is plain HTTP.",
        );
    }
}

/// The network to serve, once that is agreed to; `None` if it is not wished.
pub(super) fn agreed(
    wish: &Wish,
    data: &Path,
    port: u16,
    out: Out,
) -> Result<Option<Lan>, Failure> {
    let Some(wished) = &wish.lan else { return Ok(None) };
    let lan = choose(found()?, wished.as_deref(), way_out())?;
    let file = data.join(CONSENT_FILE);
    let line = format!("{} {}", lan.interface, lan.network());
    let remembered = std::fs::read_to_string(&file).unwrap_or_default();
    if remembered.lines().any(|known| known == line) {
        return Ok(Some(lan));
    }
    if !wish.yes {
        ask(&lan, port, out)?;
    }
    if let Err(error) = remember(data, &file, &format!("{remembered}{line}\n")) {
        out.note(format_args!("{}: not remembered: {error}", file.display()));
    }
    Ok(Some(lan))
}

/// For nobody but this user, as all that the realm will put there; a crash leaves the old file.
fn remember(data: &Path, file: &Path, text: &str) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(data)?;
    let aside = data.join(format!("{CONSENT_FILE}.new"));
    let mut options = OpenOptions::new();
    let mut fresh = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    fresh.write_all(text.as_bytes())?;
    fresh.sync_all()?;
    std::fs::rename(&aside, file)
}

fn ask(lan: &Lan, port: u16, out: Out) -> Result<(), Failure> {
    let (address, interface, network) = (lan.address, &lan.interface, lan.network());
    let what = format!(
        "serve http://{address}:{port} to everybody in the network {network} (interface {interface})"
    );
    let input = std::io::stdin();
    if out.is_json() || !input.is_terminal() {
        return Err(Failure::usage(format!("--lan would {what}, and nobody can be asked"))
            .with_remedy("if that is meant, say so: --lan --yes"));
    }
    let mut prompt = std::io::stderr();
    let _ = write!(prompt, "This will {what}.\nGo on? [y/N] ").and_then(|()| prompt.flush());
    let mut answer = String::new();
    let read = input.lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::failed("the network is not served, and nothing was started")
        .with_remedy("without --lan only this machine is served"))
}

/// The networks that this machine is in, those with private addresses first.
fn found() -> Result<Vec<Lan>, Failure> {
    let all = if_addrs::get_if_addrs().map_err(|error| Failure::caused(&error))?;
    let of = |found: &if_addrs::Interface| match &found.addr {
        if_addrs::IfAddr::V4(v4) if !v4.ip.is_loopback() && !v4.ip.is_link_local() => Some(Lan {
            address: v4.ip,
            interface: found.name.clone(),
            prefix: u8::try_from(u32::from(v4.netmask).count_ones()).unwrap_or(32),
        }),
        if_addrs::IfAddr::V4(_) | if_addrs::IfAddr::V6(_) => None,
    };
    let mut found: Vec<Lan> = all.iter().filter_map(of).collect();
    found.sort_by_key(|lan| !lan.address.is_private());
    Ok(found)
}

/// The one of the wished interface or address; else the one by which this machine reaches others,
/// else the first.
fn choose(
    mut found: Vec<Lan>,
    wished: Option<&str>,
    way: Option<Ipv4Addr>,
) -> Result<Lan, Failure> {
    if found.is_empty() {
        return Err(Failure::failed("--lan: this machine has no address in a network")
            .with_remedy("join a network first, or leave --lan out to serve this machine alone"));
    }
    let is_it = |lan: &Lan| match wished {
        Some(wished) => lan.interface == wished || lan.address.to_string() == wished,
        None => Some(lan.address) == way,
    };
    match (found.iter().position(is_it), wished) {
        (Some(place), _) => Ok(found.swap_remove(place)),
        (None, None) => Ok(found.swap_remove(0)),
        (None, Some(wished)) => {
            let one = |lan: &Lan| format!("{} ({})", lan.interface, lan.address);
            let there: Vec<_> = found.iter().map(one).collect();
            let message = format!("--lan={wished}: no such interface or IPv4 address here");
            Err(Failure::usage(message).with_remedy(format!("there are {}", there.join(", "))))
        }
    }
}

/// The address that packets to elsewhere would have. Nothing is sent: a datagram socket only looks
/// the way up (192.0.2.1 is nobody's, RFC 5737).
fn way_out() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// An address for a phone's camera, dark on light in any terminal's colours.
fn picture(url: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(url, EcLevel::L).ok()?;
    let mut image = code.render::<Dense1x2>();
    // A terminal is light on dark, mostly: its letters are the light parts.
    Some(image.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

/// Where the realm listens besides `--listen`.
pub(super) fn also(lan: Option<&Lan>) -> Option<IpAddr> {
    lan.map(|lan| IpAddr::V4(lan.address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_named_and_an_address_can_be_scanned() {
        let lan = |prefix| Lan {
            address: Ipv4Addr::new(192, 168, 77, 5),
            interface: "home0".into(),
            prefix,
        };
        assert_eq!(lan(24).network(), "192.168.77.0/24");
        assert_eq!(lan(32).network(), "192.168.77.5/32");
        assert_eq!(lan(0).network(), "0.0.0.0/0");
        let code = picture("http://192.168.77.5:9000").unwrap();
        // 25 modules and a quiet zone of four on each side, two of them a character high.
        assert_eq!(code.lines().count(), 17);
        assert!(code.lines().all(|line| line.chars().count() == 33));
    }

    #[test]
    fn an_interface_is_chosen_by_name_by_address_or_by_the_way_out() {
        let lan = |interface: &str, address: [u8; 4]| Lan {
            address: address.into(),
            interface: interface.into(),
            prefix: 24,
        };
        let all = || vec![lan("wlan0", [192, 168, 77, 5]), lan("tun0", [10, 8, 0, 2])];
        let chosen = |wished, way: Option<[u8; 4]>| {
            choose(all(), wished, way.map(Ipv4Addr::from)).map(|lan| lan.interface)
        };
        let vpn = Some([10, 8, 0, 2]);
        assert_eq!(chosen(None, vpn).unwrap(), "tun0");
        assert_eq!(chosen(None, None).unwrap(), "wlan0");
        assert_eq!(chosen(Some("wlan0"), vpn).unwrap(), "wlan0");
        assert_eq!(chosen(Some("192.168.77.5"), vpn).unwrap(), "wlan0");
        let refused = chosen(Some("wlan1"), vpn).unwrap_err();
        assert!(refused.message().contains("--lan=wlan1"), "{}", refused.message());
        assert!(choose(Vec::new(), None, None).is_err());
    }
}
