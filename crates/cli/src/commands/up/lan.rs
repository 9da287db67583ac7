//! `mtor up --lan`: the realm also serves the network that this machine is in.
//!
//! Only one address of one interface is served, beside loopback: a container's bridge or a VPN of
//! the same machine does not hear of it. Unless it is named, it is the one by which this machine
//! reaches others. Where that is a VPN's, which is a point-to-point interface, any other private
//! network goes before it; what else could be meant is told. Who starts it is asked once for each
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
/// Other networks that are told: a machine may have a bridge for each of its containers.
const OTHERS_MAX: usize = 6;

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
    /// As tunnels are: nobody else is in it, or whoever the VPN lets in.
    is_point_to_point: bool,
    /// Interfaces that could have been meant, where none was named.
    others: Vec<Other>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Other {
    interface: String,
    address: Ipv4Addr,
}

impl Lan {
    /// As in `192.168.1.0/24`.
    fn network(&self) -> String {
        let mask = u32::MAX.checked_shl(32_u32.saturating_sub(self.prefix.into())).unwrap_or(0);
        format!("{}/{}", Ipv4Addr::from(u32::from(self.address) & mask), self.prefix)
    }

    /// What to type for another network, as in `--lan=wlan0 (192.168.1.5)`.
    fn instead(&self) -> Option<String> {
        let one = |other: &Other| format!("--lan={} ({})", other.interface, other.address);
        let all: Vec<String> = self.others.iter().take(OTHERS_MAX).map(one).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// Says where the realm is to be found, and what others can then do.
    pub(super) fn tell(&self, port: u16, out: Out) {
        let url = format!("http://{}", SocketAddr::new(IpAddr::V4(self.address), port));
        let (interface, network) = (&self.interface, self.network());
        let others: Vec<&str> = self.others.iter().map(|other| &*other.interface).collect();
        out.event(
            "lan",
            json!({"url": url, "interface": interface, "network": network, "others": others}),
        );
        if out.is_json() {
            return;
        }
        out.words(format_args!("\nServed in the network {network} ({interface}), too:\n  {url}\n"));
        if let Some(instead) = self.instead() {
            out.words(format_args!("Another network instead: {instead}\n"));
        }
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
    let lan = choose(found()?, wished.as_deref(), &Ways::known())?;
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
        let instead = lan.instead().map(|instead| format!("; another network is {instead}"));
        let remedy = format!(
            "if that is meant, say so: --lan={interface} --yes{}",
            instead.unwrap_or_default()
        );
        return Err(Failure::usage(format!("--lan would {what}, and nobody can be asked"))
            .with_remedy(remedy));
    }
    let instead = lan.instead().map(|instead| format!("\nAnother network instead: {instead}"));
    let instead = instead.unwrap_or_default();
    let mut prompt = std::io::stderr();
    let _ =
        write!(prompt, "This will {what}.{instead}\nGo on? [y/N] ").and_then(|()| prompt.flush());
    let mut answer = String::new();
    let read = input.lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::failed("the network is not served, and nothing was started")
        .with_remedy("without --lan only this machine is served"))
}

/// The networks that this machine is in.
fn found() -> Result<Vec<Lan>, Failure> {
    let all = if_addrs::get_if_addrs().map_err(|error| Failure::caused(&error))?;
    let of = |found: &if_addrs::Interface| match &found.addr {
        if_addrs::IfAddr::V4(v4) if !v4.ip.is_loopback() && !v4.ip.is_link_local() => Some(Lan {
            address: v4.ip,
            interface: found.name.clone(),
            prefix: u8::try_from(u32::from(v4.netmask).count_ones()).unwrap_or(32),
            is_point_to_point: found.is_p2p(),
            others: Vec::new(),
        }),
        if_addrs::IfAddr::V4(_) | if_addrs::IfAddr::V6(_) => None,
    };
    Ok(all.iter().filter_map(of).collect())
}

/// How this machine reaches others.
#[derive(Default)]
struct Ways {
    /// The address that packets to elsewhere would have.
    out: Option<Ipv4Addr>,
    /// Interfaces with a default route, and its metric: under a VPN the home's still has one.
    defaults: Vec<(String, u32)>,
}

impl Ways {
    fn known() -> Self {
        // Other systems than Linux have no such file, and go without.
        let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
        Self { out: way_out(), defaults: default_routes(&routes) }
    }

    /// The smaller the better. What leads out is the home's network unless it is a tunnel; then
    /// the home's is the private one that would lead out without it.
    fn rank(&self, lan: &Lan) -> impl Ord + use<> {
        let leads_out = Some(lan.address) == self.out;
        let is_home = !lan.is_point_to_point && lan.address.is_private();
        let route = self.defaults.iter().filter(|(interface, _)| *interface == lan.interface);
        let metric = route.map(|(_, metric)| *metric).min();
        (
            !leads_out || lan.is_point_to_point,
            !is_home,
            !leads_out,
            metric.is_none(),
            metric,
            !lan.address.is_private(),
        )
    }
}

/// Of a table as in `/proc/net/route`: a head, then interface, destination, gateway, flags,
/// references, uses, metric and mask.
fn default_routes(table: &str) -> Vec<(String, u32)> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let &[interface, destination, _, _, _, _, metric, mask, ..] = &*columns else {
            return None;
        };
        let is_default = destination == "00000000" && mask == "00000000";
        is_default.then_some((interface.to_owned(), metric.parse().ok()?))
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// The one of the wished interface or address, else the best; the others are kept with it.
fn choose(mut found: Vec<Lan>, wished: Option<&str>, ways: &Ways) -> Result<Lan, Failure> {
    found.sort_by_key(|lan| ways.rank(lan));
    let other = |lan: &Lan| Other { interface: lan.interface.clone(), address: lan.address };
    let Some(wished) = wished else {
        let mut rest = found.into_iter();
        let best = rest.next().ok_or_else(nowhere)?;
        return Ok(Lan { others: rest.map(|lan| other(&lan)).collect(), ..best });
    };
    let there: Vec<_> =
        found.iter().map(|lan| format!("{} ({})", lan.interface, lan.address)).collect();
    if there.is_empty() {
        return Err(nowhere());
    }
    let is_it = |lan: &Lan| lan.interface == wished || lan.address.to_string() == wished;
    found.into_iter().find(is_it).ok_or_else(|| {
        let message = format!("--lan={wished}: no such interface or IPv4 address here");
        Failure::usage(message).with_remedy(format!("there are {}", there.join(", ")))
    })
}

fn nowhere() -> Failure {
    Failure::failed("--lan: this machine has no address in a network")
        .with_remedy("join a network first, or leave --lan out to serve this machine alone")
}

/// Nothing is sent: a datagram socket only looks the way up (192.0.2.1 is nobody's, RFC 5737).
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

    fn lan(interface: &str, address: [u8; 4]) -> Lan {
        Lan {
            address: address.into(),
            interface: interface.into(),
            prefix: 24,
            is_point_to_point: interface.starts_with("tun"),
            others: Vec::new(),
        }
    }

    #[test]
    fn a_network_is_named_and_an_address_can_be_scanned() {
        let network = |prefix| Lan { prefix, ..lan("home0", [192, 168, 77, 5]) }.network();
        assert_eq!(network(24), "192.168.77.0/24");
        assert_eq!(network(32), "192.168.77.5/32");
        assert_eq!(network(0), "0.0.0.0/0");
        let code = picture("http://192.168.77.5:9000").unwrap();
        // 25 modules and a quiet zone of four on each side, two of them a character high.
        assert_eq!(code.lines().count(), 17);
        assert!(code.lines().all(|line| line.chars().count() == 33));
    }

    const BRIDGE: (&str, [u8; 4]) = ("docker0", [172, 17, 0, 1]);
    const WIRE: (&str, [u8; 4]) = ("eth0", [203, 0, 113, 7]);
    const HOME: (&str, [u8; 4]) = ("wlan0", [192, 168, 77, 5]);
    const VPN: (&str, [u8; 4]) = ("tun0", [10, 8, 0, 2]);

    /// The name of the chosen one and of the others, where the ones with default routes, and the
    /// first of these leads out.
    fn chosen(
        found: &[(&str, [u8; 4])],
        wished: Option<&str>,
        routes: &[(&str, [u8; 4])],
    ) -> Result<String, Failure> {
        let defaults = (0..).zip(routes).map(|(metric, (name, _))| ((*name).into(), metric));
        let out = routes.first().map(|(_, address)| Ipv4Addr::from(*address));
        let ways = Ways { out, defaults: defaults.collect() };
        let all = found.iter().map(|(name, address)| lan(name, *address)).collect();
        let chosen = choose(all, wished, &ways)?;
        let others = chosen.others.iter().map(|other| &*other.interface);
        Ok(std::iter::once(&*chosen.interface).chain(others).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn an_interface_is_chosen_by_name_by_address_or_by_the_way_out() {
        let all = [BRIDGE, HOME, VPN];
        let by = |wished, routes: &[_]| chosen(&all, wished, routes).unwrap();
        assert_eq!(by(None, &[HOME]), "wlan0 docker0 tun0");
        assert_eq!(by(None, &[]), "docker0 wlan0 tun0");
        for wished in ["tun0", "10.8.0.2"] {
            assert_eq!(by(Some(wished), &[HOME]), "tun0", "none but the one that is named");
        }
        let refused = chosen(&all, Some("wlan1"), &[VPN]).unwrap_err();
        assert!(refused.message().contains("--lan=wlan1"), "{}", refused.message());
        for wished in [None, Some("wlan0")] {
            let refused = chosen(&[], wished, &[]).unwrap_err();
            assert!(refused.message().contains("no address"), "{}", refused.message());
        }
    }

    #[test]
    fn a_vpn_is_not_the_homes_network_where_another_is_there() {
        let without_name = |found: &[_], routes: &[_]| chosen(found, None, routes).unwrap();
        assert_eq!(without_name(&[VPN, BRIDGE, HOME], &[VPN, HOME]), "wlan0 docker0 tun0");
        assert_eq!(without_name(&[VPN, HOME], &[VPN]), "wlan0 tun0", "its route may be elsewhere");
        assert_eq!(without_name(&[VPN, HOME], &[]), "wlan0 tun0");
        assert_eq!(without_name(&[VPN], &[VPN]), "tun0", "there is nothing else");
        // A machine without a home: what leads out, as ever.
        assert_eq!(without_name(&[BRIDGE, WIRE, VPN], &[WIRE]), "eth0 docker0 tun0");
        assert_eq!(without_name(&[WIRE, VPN], &[VPN, WIRE]), "tun0 eth0");
    }

    #[test]
    fn others_are_told_by_what_to_type_and_not_without_end() {
        let one = Other { interface: "tun0".into(), address: [10, 8, 0, 2].into() };
        let with = |others| Lan { others, ..lan("wlan0", [192, 168, 77, 5]) }.instead();
        assert_eq!(with(Vec::new()), None);
        let two = with(vec![one.clone(); 2]).unwrap();
        assert_eq!(two, "--lan=tun0 (10.8.0.2), --lan=tun0 (10.8.0.2)");
        assert_eq!(with(vec![one; 100]).unwrap().matches("--lan=").count(), OTHERS_MAX);
    }

    #[test]
    fn default_routes_are_read_with_their_metric() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            tun0\t00000000\t0108080A\t0003\t0\t0\t50\t00000000\t0\t0\t0\n\
            wlan0\t00000000\t014DA8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
            tun1\t00000000\t0108080A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n\
            wlan0\t004DA8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0\n\
            torn\t00000000\n";
        assert_eq!(default_routes(table), [("tun0".to_owned(), 50), ("wlan0".to_owned(), 600)]);
        assert_eq!(default_routes(""), []);
    }
}
