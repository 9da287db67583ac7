//! Price bands: 1, 2, 5 and 10 times the list price. There are few, so that work which may be
//! served by the same offers is together.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::amount::{Amount, Price};

/// How dear an offer is, and how dear an offer a ceiling pays. What a ceiling pays is rounded down
/// to a band and what an offer asks is rounded up, so that an offer of a ceiling's band is always
/// paid whole.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "u8", into = "u8")]
pub struct Band(u8);

/// A number that is no band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a price band is a number from 0 to 3")]
pub struct NoBand;

impl Band {
    /// The list price, and below.
    pub const LIST: Self = Self(0);
    /// Up to ten times the list price: nothing dearer is offered or asked for here.
    pub const DEAREST: Self = Self(3);
    /// Every band, the cheapest first.
    pub const ALL: [Self; 4] = [Self(0), Self(1), Self(2), Self(3)];

    /// How many times the list price it reaches.
    pub const fn times(self) -> u8 {
        match self.0 {
            0 => 1,
            1 => 2,
            2 => 5,
            _ => 10,
        }
    }

    /// The dearest price of it.
    pub fn top(self, list: Price) -> Price {
        let amount = list.amount.units().saturating_mul(u128::from(self.times()));
        Price { amount: Amount::new(amount).unwrap_or(Amount::MAX), per: list.per }
    }

    /// The cheapest band that an offer at `amount` is of; `None` if it asks more than any.
    pub fn of_offer(amount: Amount, list: Price) -> Option<Self> {
        Self::ALL.into_iter().find(|band| amount <= band.top(list).amount)
    }

    /// The dearest band whose every offer is paid by `amount`; the list price's if there is none.
    pub fn of_ceiling(amount: Amount, list: Price) -> Self {
        let mut dearest_first = Self::ALL.into_iter().rev();
        dearest_first.find(|band| band.top(list).amount <= amount).unwrap_or(Self::LIST)
    }
}

impl TryFrom<u8> for Band {
    type Error = NoBand;

    fn try_from(number: u8) -> Result<Self, NoBand> {
        if number <= Self::DEAREST.0 { Ok(Self(number)) } else { Err(NoBand) }
    }
}

impl From<Band> for u8 {
    fn from(band: Band) -> Self {
        band.0
    }
}

impl fmt::Display for Band {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: Price = Price { amount: Amount::from_u64(100), per: 1 };

    #[test]
    fn offers_round_up_and_ceilings_down() {
        let offer = |amount| Band::of_offer(Amount::from_u64(amount), LIST).map(u8::from);
        let ceiling = |amount| u8::from(Band::of_ceiling(Amount::from_u64(amount), LIST));
        for (amount, offered, paid) in [
            (0, Some(0), 0),
            (100, Some(0), 0),
            (101, Some(1), 0),
            (199, Some(1), 0),
            (200, Some(1), 1),
            (201, Some(2), 1),
            (500, Some(2), 2),
            (999, Some(3), 2),
            (1_000, Some(3), 3),
            (1_001, None, 3),
        ] {
            assert_eq!((offer(amount), ceiling(amount)), (offered, paid), "{amount}");
        }
    }

    #[test]
    fn where_the_list_price_is_nothing_so_is_every_band() {
        let free = Price { amount: Amount::ZERO, per: 1 };
        assert_eq!(Band::of_offer(Amount::ZERO, free), Some(Band::LIST));
        assert_eq!(Band::of_offer(Amount::from_u64(1), free), None);
        assert_eq!(Band::of_ceiling(Amount::ZERO, free), Band::DEAREST);
    }

    #[test]
    fn a_number_that_is_no_band_is_refused() {
        for number in 0..=u8::MAX {
            let read = postcard::from_bytes::<Band>(&[number]);
            assert_eq!(read.ok().map(u8::from), (number < 4).then_some(number));
            let json = serde_json::from_str::<Band>(&number.to_string());
            assert_eq!(json.is_ok(), number < 4);
        }
    }

    proptest! {
        /// An offer of a band that a ceiling reaches never costs more than the ceiling pays.
        #[test]
        fn what_a_ceiling_reaches_it_pays(
            list in 1..=Amount::MAX.units(), ceiling in 0..=Amount::MAX.units(),
            offer in 0..=Amount::MAX.units(),
        ) {
            let amount = |units| Amount::new(units).unwrap();
            let list = Price { amount: amount(list), per: 7 };
            let reached = Band::of_ceiling(amount(ceiling), list);
            if ceiling >= list.amount.units()
                && Band::of_offer(amount(offer), list).is_some_and(|band| band <= reached)
            {
                prop_assert!(offer <= ceiling);
            }
        }
    }
}
