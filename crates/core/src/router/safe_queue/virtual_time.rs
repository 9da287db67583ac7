//! Virtual time: fixed point with 32 fraction bits, in cost units (slot-milliseconds) of a flow of
//! weight 1.

/// Start tags, clocks and lags.
pub(super) type Virtual = u128;

/// One cost unit at weight 1.
pub(super) const ONE: Virtual = 1 << 32;

/// Costs above this (some 8,900 slot-years) are charged as this, so that more than 2⁴⁸ dispatches
/// fit into a tag before its saturating arithmetic could lose order.
pub(super) const MAX_COST: u64 = 1 << 48;

/// `cost · 2³² / weight`, rounded down.
pub(super) fn scaled(cost: u64, weight: u32) -> Virtual {
    let cost = cost.min(MAX_COST);
    let weight = weight.max(1);
    if let Some(small) = cost.checked_mul(1 << 32) {
        // A division of 64 bits is several times faster than one of 128, and the usual case.
        return Virtual::from(small.checked_div(u64::from(weight)).unwrap_or(small));
    }
    let wide = Virtual::from(cost).saturating_mul(ONE);
    wide.checked_div(Virtual::from(weight)).unwrap_or(wide)
}
