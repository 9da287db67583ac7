//! `mtor up`: what guests are given.

use clap::Args;
use mtor_server::realm::RealmOptions;

#[derive(Args)]
pub(super) struct Grants {
    /// What a guest is given, and filled up to once a day, in base units of the grant asset
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_000_000_000_000_000))]
    guest_grant: Option<u64>,
    /// Grants of one network (a /24 of IPv4, a /56 of IPv6) in a day
    #[arg(long, value_name = "N")]
    guests_per_network: Option<u32>,
    /// Guests' grants of a day, all together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    grants_per_day: Option<u64>,
}

impl Grants {
    pub(super) fn set(&self, options: &mut RealmOptions) {
        let a_day = options.grants_a_day / options.grant.max(1);
        let a_day = self.grants_per_day.unwrap_or(a_day);
        options.grant = self.guest_grant.unwrap_or(options.grant);
        options.grants_a_day = options.grant.saturating_mul(a_day);
        options.guests_a_network = self.guests_per_network.unwrap_or(options.guests_a_network);
    }
}
