//! Amounts, prices and counts as people read them. Everything that is told of money goes through
//! here: what a realm counts in are base units, and a line that leaves that out is wrong by a
//! factor of a million.

use mtor_client::{Money, Owner, Standing};
pub(crate) use mtor_server::megabytes;
use mtor_types::Amount;

/// An amount, such as `37 base units`.
pub(crate) fn base_units(amount: Amount) -> String {
    amount.in_base_units()
}

/// An amount of an asset, such as `37 base units of grant`.
pub(crate) fn money(money: &Money) -> String {
    of(money.amount, &money.asset)
}

pub(crate) fn of(amount: Amount, asset: &str) -> String {
    format!("{} of {asset}", base_units(amount))
}

/// A price, such as `10 base units per 5 bytes`.
pub(crate) fn per(amount: Amount, per: u64, unit: &str) -> String {
    format!("{} per {}", base_units(amount), amount_of(per, unit))
}

/// Time is metered in milliseconds, and read in seconds.
fn amount_of(number: u64, unit: &str) -> String {
    match (unit, number % 1000) {
        ("millisecond", 0) if number > 0 => count(number / 1000, "second"),
        _ => count(number, unit),
    }
}

/// So many of something.
pub(crate) fn count(number: u64, unit: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{end}")
}

/// Whose workers offer something: the realm's own, proven ones, or strangers'.
pub(crate) fn whose(standing: Standing, owners: &[Owner]) -> String {
    let of_these = owners.iter().filter(|owner| owner.standing == standing);
    let digits = of_these.map(|owner| owner.account.to_string().chars().take(8).collect());
    let digits: Vec<String> = digits.collect();
    let owners = match digits.as_slice() {
        [] => String::new(),
        [one] => format!(" {one}"),
        [one, more @ ..] => format!(" {one} and {} more", more.len()),
    };
    match standing {
        Standing::Own => "the realm".to_owned(),
        Standing::Proven => format!("proven{owners}"),
        Standing::Probation => format!("not yet proven{owners}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        let amount = Amount::from_u64;
        assert_eq!(of(amount(1), "grant"), "1 base unit of grant");
        assert_eq!(of(amount(0), "9000"), "0 base units of 9000");
        assert_eq!(per(amount(10), 1, "byte"), "10 base units per 1 byte");
        assert_eq!(per(amount(1), 10, "byte"), "1 base unit per 10 bytes");
        assert_eq!(per(amount(20), 1000, "millisecond"), "20 base units per 1 second");
        assert_eq!(per(amount(20), 60_000, "millisecond"), "20 base units per 60 seconds");
        assert_eq!(per(amount(1), 1500, "millisecond"), "1 base unit per 1500 milliseconds");
        assert_eq!([0, 1, 98_362_432, 105_964_808].map(megabytes), [0, 1, 98, 106]);
        assert_eq!([count(1, "line"), count(2, "line")], ["1 line", "2 lines"]);
    }
}
