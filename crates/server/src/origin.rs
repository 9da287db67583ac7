//! Where a request came from: the connection's other end, or whom a trusted proxy says it asks for.
//!
//! `X-Forwarded-For` and `Forwarded` (RFC 7239) are lists to which each proxy adds, at the right,
//! whom it was asked by; what stands to the left of that was written by somebody who may lie. So
//! the walk begins at the connection and goes on to the left only as long as who said so is
//! trusted. Whoever is not trusted is believed nothing.
//!
//! Absent on purpose: names of hosts, the port and scheme that a proxy tells, and any decision but
//! this one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
pub use ipnet::IpNet;

use mtor_types::mutant;

/// Entries of one header that are looked at: more proxies than stand before any realm.
const HOPS_MAX: usize = 16;
/// Of all lines of one header together.
const HEADER_BYTES_MAX: usize = 4 * 1024;

/// `10.0.0.0/8`, `2001:db8::/32`, or one address.
pub fn network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    text.parse()
        .or_else(|_| one())
        .map_err(|_| "expected a network such as 10.0.0.0/8 or 2001:db8::/32, or an address".into())
}

/// Networks with a meaning of their own.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    /// Proxies that are believed.
    pub trusted: Vec<IpNet>,
    /// Whose accounts are branches of their own: a school behind one address.
    pub home: Vec<IpNet>,
}

/// Where a request came from, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub address: IpAddr,
    /// Somebody asks there for another, and is not believed whom.
    pub veiled: bool,
}

impl Origin {
    /// On this machine, and not through a proxy on it: 127.0.0.0/24 or ::1. What is left of 127.0.0.0/8
    /// are networks as any other, by which one machine can play many.
    pub fn is_here(&self) -> bool {
        !self.veiled && is_here(self.address)
    }
}

pub fn is_here(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets().starts_with(&[127, 0, 0]),
        IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST,
    }
}

/// Those of its site.
fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into_iter().take(3).collect(),
        IpAddr::V6(address) => address.octets().into_iter().take(6).collect(),
    }
}

impl Networks {
    /// `peer` is the other end of the connection.
    pub fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> Origin {
        let peer = peer.to_canonical();
        let told = is_forwarded(headers);
        if !told || !(contains(&self.trusted, peer) || mutant!("everybody-is-a-proxy")) {
            return Origin { address: peer, veiled: told };
        }
        let walk = |name, read| self.walk(peer, headers, name, read);
        let address = match (walk(X_FORWARDED_FOR, bare), walk(FORWARDED_NAME, element)) {
            (Some(one), Some(other)) if one != other => peer,
            (Some(address), _) | (None, Some(address)) => address,
            (None, None) => peer,
        };
        // A proxy that ends the walk asks for somebody that it did not name.
        Origin { address, veiled: contains(&self.trusted, address) }
    }

    /// Whether it is a proxy that is believed.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        contains(&self.trusted, address)
    }

    /// Whether accounts are branches of their own there.
    pub fn is_home(&self, origin: Origin) -> bool {
        !origin.veiled && contains(&self.home, origin.address)
    }

    /// What names the network of an origin: a /24 of IPv4 or a /48 of IPv6, which is the least that
    /// one site gets. This machine is one network, and whoever a proxy on it asks for without being
    /// believed is another. So are those whom a trusted proxy does not tell apart: not people of the
    /// network in which it stands. A header of one's own makes nobody another.
    pub fn network(&self, origin: Origin) -> Vec<u8> {
        let Origin { address, veiled } = origin;
        let (whose, of_site): (&[u8], &[u8]) = (b"proxied", &octets(address));
        if is_here(address) {
            return if veiled { whose } else { b"loopback" }.to_vec();
        }
        let by_proxy = veiled && contains(&self.trusted, address);
        [if by_proxy { whose } else { &[] }, of_site].concat()
    }

    /// The networks of an origin that lie in one another, the outermost first, for what is shared by the
    /// day: a /24 in a /16 of IPv4; a /56 in a /48 in a /32 of IPv6.
    pub fn levels(&self, origin: Origin) -> Vec<Vec<u8>> {
        let named = self.network(origin);
        let Some(whose) = named.strip_suffix(octets(origin.address).as_slice()) else {
            return vec![named];
        };
        let (whole, parts) = match origin.address {
            IpAddr::V4(address) => (address.octets().to_vec(), [2, 3].as_slice()),
            IpAddr::V6(address) => (address.octets().to_vec(), [4, 6, 7].as_slice()),
        };
        parts.iter().map(|length| [whose, &whole[..*length]].concat()).collect()
    }

    /// From the right to the first that is not trusted; `None` without that header. What cannot be
    /// read ends the walk at the proxy that passed it on.
    fn walk(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        name: &str,
        read: fn(&str) -> Option<IpAddr>,
    ) -> Option<IpAddr> {
        let lines = || headers.get_all(name).iter();
        lines().next()?;
        if lines().map(|line| line.len()).fold(0, usize::saturating_add) > HEADER_BYTES_MAX {
            return Some(peer);
        }
        let mut last = peer;
        // A line that is not text is one entry that cannot be read.
        let lines = lines().rev().map(|line| line.to_str().unwrap_or_default());
        for entry in lines.flat_map(|line| line.rsplit(',')).take(HOPS_MAX) {
            let Some(address) = read(entry.trim()) else { return Some(last) };
            last = address.to_canonical();
            if !contains(&self.trusted, last) {
                return Some(last);
            }
        }
        Some(last)
    }
}

/// Headers by which a proxy says that it asks for somebody else.
const FORWARDED: [&str; 5] =
    [FORWARDED_NAME, X_FORWARDED_FOR, "x-forwarded-host", "x-real-ip", "via"];
const X_FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_NAME: &str = "forwarded";

/// Whether a proxy says that it asks for somebody else.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDED.iter().any(|name| headers.contains_key(*name))
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// An entry of `X-Forwarded-For`: an address, some add a port.
fn bare(entry: &str) -> Option<IpAddr> {
    if let Ok(address) = entry.parse() {
        return Some(address);
    }
    if let Ok(address) = entry.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    entry.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// An element of `Forwarded`: pairs of which `for` stands once. Names that hide who it was, and
/// escapes, which no address needs, are not read.
fn element(entry: &str) -> Option<IpAddr> {
    let pairs = entry.split(';').filter_map(|pair| pair.split_once('='));
    let mut whom = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, node) = whom.next().filter(|_| whom.clone().next().is_none())?;
    let node = node.trim();
    let quoted = node.strip_prefix('"').and_then(|node| node.strip_suffix('"'));
    bare(quoted.unwrap_or(node))
}

#[cfg(test)]
mod tests;
