//! Money: whole base units of an asset, and prices per a number of units. No floats anywhere.

use std::fmt;
use std::str::FromStr;

use ethnum::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of base units of one asset, at most 2⁹⁶. A decimal string in JSON, because JSON
/// numbers lose digits in JavaScript.
///
/// ```
/// use mtor_types::Amount;
///
/// let amount: Amount = "1500".parse()?;
/// assert_eq!(amount.checked_sub(Amount::from_u64(2_000)), None);
/// assert!("15.00".parse::<Amount>().is_err());
/// # Ok::<(), mtor_types::amount::AmountError>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

/// Why text or a sum is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    #[error("expected a decimal string of base units such as \"1500\"")]
    NotDecimal,
    #[error("an amount is at most 2^96 base units")]
    TooLarge,
}

impl Amount {
    pub const ZERO: Self = Self(0);
    /// 2⁹⁶: sums of up to 2³¹ amounts fit an i128, so a ledger's total never overflows.
    pub const MAX: Self = Self(1 << 96);

    pub const fn new(units: u128) -> Option<Self> {
        if units <= Self::MAX.0 { Some(Self(units)) } else { None }
    }

    pub const fn from_u64(units: u64) -> Self {
        #[expect(clippy::as_conversions, reason = "widening, and `From` is not const")]
        Self(units as u128)
    }

    pub const fn units(self) -> u128 {
        self.0
    }

    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// The sum, or `None` above 2⁹⁶.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(Self::new)
    }

    /// The difference, or `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The difference, or zero.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self` × `basis_points` / 10,000, rounded down; at most `self`.
    pub fn basis_points(self, basis_points: u16) -> Self {
        let part = self.0.saturating_mul(u128::from(basis_points)).checked_div(10_000);
        Self(part.unwrap_or_default()).min(self)
    }

    /// In words: `1 base unit`, `7 base units`.
    pub fn in_base_units(self) -> String {
        let end = if self.0 == 1 { "" } else { "s" };
        format!("{self} base unit{end}")
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Amount({})", self.0)
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    /// Digits only, no sign, no leading zero: one text form an amount.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let canonical = text == "0" || !text.starts_with('0');
        if text.is_empty() || !canonical || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AmountError::NotDecimal);
        }
        // 2^96 has 29 digits; anything longer is too large whatever its digits are.
        if text.len() > 29 {
            return Err(AmountError::TooLarge);
        }
        text.parse().ok().and_then(Self::new).ok_or(AmountError::TooLarge)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&self.0)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
            text.parse().map_err(de::Error::custom)
        } else {
            let units = u128::deserialize(deserializer)?;
            Self::new(units).ok_or_else(|| de::Error::custom(AmountError::TooLarge))
        }
    }
}

/// An amount per a number of units of a meter, for example 100 base units per 1,000,000 tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub amount: Amount,
    /// Units of the meter, at least 1.
    pub per: u64,
}

/// Whether a cost goes to the payer's side or not.
#[derive(Clone, Copy)]
enum Rounding {
    Down,
    Up,
}

impl Price {
    /// In words: `1 base unit per unit`, `2000 base units per 1000000 units`.
    pub fn in_words(self) -> String {
        let amount = self.amount.in_base_units();
        match self.per {
            1 => format!("{amount} per unit"),
            per => format!("{amount} per {per} units"),
        }
    }

    /// What `units` cost, rounded down: what is captured. Capped at [`Amount::MAX`].
    pub fn cost(self, units: u64) -> Amount {
        self.multiply(units, Rounding::Down)
    }

    /// What `units` cost, rounded up: what a quote or a hold must cover.
    pub fn cost_up(self, units: u64) -> Amount {
        self.multiply(units, Rounding::Up)
    }

    /// The most units whose cost is at most `ceiling`: the inverse of [`Price::cost_up`].
    pub fn buys(self, ceiling: Amount) -> u64 {
        if self.amount.is_zero() {
            return u64::MAX;
        }
        // 96 bits × 64 bits does not fit 128 bits.
        let units = U256::from(ceiling.0)
            .saturating_mul(U256::from(self.per))
            .checked_div(U256::from(self.amount.0));
        units.and_then(|units| u64::try_from(units).ok()).unwrap_or(u64::MAX)
    }

    fn multiply(self, units: u64, rounding: Rounding) -> Amount {
        let per = U256::from(self.per.max(1));
        let whole = U256::from(self.amount.0).saturating_mul(U256::from(units));
        let whole = match rounding {
            Rounding::Down => whole,
            Rounding::Up => whole.saturating_add(per.saturating_sub(U256::ONE)),
        };
        let cost = whole.checked_div(per).and_then(|cost| u128::try_from(cost).ok());
        cost.and_then(Amount::new).unwrap_or(Amount::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_has_one_form() {
        assert_eq!("0".parse(), Ok(Amount::ZERO));
        assert_eq!(Amount::MAX.to_string().parse(), Ok(Amount::MAX));
        for wrong in ["", "-1", "+1", "01", "1.0", "1e3", " 1"] {
            assert_eq!(wrong.parse::<Amount>(), Err(AmountError::NotDecimal), "{wrong}");
        }
        assert_eq!("79228162514264337593543950337".parse::<Amount>(), Err(AmountError::TooLarge));
        assert_eq!("9".repeat(60).parse::<Amount>(), Err(AmountError::TooLarge));
    }

    #[test]
    fn a_price_rounds_for_the_realm_only_before_the_work() {
        let price = Price { amount: Amount::from_u64(100), per: 1_000_000 };
        assert_eq!(price.cost(19_999), Amount::from_u64(1));
        assert_eq!(price.cost_up(10_001), Amount::from_u64(2));
        assert_eq!(price.buys(Amount::from_u64(1)), 10_000);
    }

    proptest! {
        #[test]
        fn what_a_ceiling_buys_never_costs_more(
            amount in 1..=Amount::MAX.0, per in 1..=u64::MAX, ceiling in 0..=Amount::MAX.0,
        ) {
            let price = Price { amount: Amount(amount), per };
            let units = price.buys(Amount(ceiling));
            prop_assert!(price.cost_up(units) <= Amount(ceiling));
            if let Some(more) = units.checked_add(1) {
                prop_assert!(price.cost_up(more) > Amount(ceiling) || price.cost_up(more) == Amount::MAX);
            }
        }

        #[test]
        fn a_cost_is_never_above_what_was_held(amount in 0..=Amount::MAX.0, per in 1..=u64::MAX, units: u64) {
            let price = Price { amount: Amount(amount), per };
            prop_assert!(price.cost(units) <= price.cost_up(units));
        }
    }
}
