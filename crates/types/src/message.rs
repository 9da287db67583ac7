//! What the services of a realm tell each other, inside a node by value and between nodes encoded.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::amount::{Amount, Price};
use crate::fact::Asset;
use crate::id::{AccountId, Attempt, Fence, IntentId, NodeId, SessionId, WorkerId};
use crate::intent::{Band, End, EndRequest, IntentMetaV1, Meta, Outcome, Usage};
use crate::mutant;
use crate::rejection::Rejection;
use crate::standing::{KindName, Standing, Worked};
use crate::worker::LeaseClaim;

/// The state machines of a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Service {
    Events,
    Accountant,
    Router,
    Registry,
}

impl Service {
    pub const ALL: [Self; 4] = [Self::Events, Self::Accountant, Self::Router, Self::Registry];
}

/// A message and the service it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub to: Service,
    pub message: Message,
}

/// Every step is idempotent by (intent, attempt): one already done sends its outcome onward again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Of the first releases, as are the other two: see [`Message::current`].
    PlaceHoldV1(Box<IntentMetaV1>),
    EnqueueV1 {
        meta: Box<IntentMetaV1>,
        asset: Asset,
        recovered: bool,
    },
    ResumeV1(Box<IntentMetaV1>),
    /// Accountant → Event Processor: no hold, nothing was opened.
    Refused {
        intent: IntentId,
        rejection: Rejection,
    },
    /// Router → Event Processor: it has a place in the queue.
    Taken {
        intent: IntentId,
        asset: Asset,
        hold: Amount,
        position: u64,
        wait_ms: u64,
    },
    /// Event Processor → Router: stop and resolve, with the edge's metered figure.
    End(EndRequest),
    /// Router → Accountant: resolve the hold.
    Resolve(Resolution),
    /// Accountant → Event Processor: it is resolved; publish the end.
    Resolved {
        end: End,
        rejection: Option<Rejection>,
    },
    /// Event Processor → Accountant → Router: that edge begins a new boot; what was ephemeral in
    /// older boots of it is gone.
    EdgeStarted {
        edge: NodeId,
        epoch: u32,
    },
    /// Of the first releases: see [`Message::current`].
    SlotsV1(SlotsV1),
    /// Registry → Router: the session is over or its worker silent.
    SessionLost {
        worker: WorkerId,
        session: SessionId,
    },
    /// Registry → Router: a new boot of the registry; it knows no session yet.
    RegistryStarted,
    /// Registry → Router: the worker still works on these.
    Renew {
        worker: WorkerId,
        session: SessionId,
        leases: Vec<LeaseClaim>,
    },
    /// Of the first releases, which counted for nobody's standing in a kind: nothing, today.
    Served {
        worker: WorkerId,
        intent: IntentId,
        attempt: Attempt,
        good: bool,
    },

    /// Event Processor → Accountant: reserve the ceiling, then pass it on.
    PlaceHold(Meta),
    /// Accountant → Router: the hold stands; find a slot. `recovered` ones wait for adoption
    /// first, and are never refused for want of a worker.
    Enqueue {
        meta: Meta,
        asset: Asset,
        recovered: bool,
    },
    /// Event Processor → Accountant: it comes back from a restart, its hold stands already.
    Resume(Meta),
    /// Of the first releases: see [`Message::current`].
    Slots(Slots),
    /// Registry → Router: what a session's worker can do now, and how it stands; replaces what was
    /// said before. Of another session than before: that one is over, and what of its leases this
    /// one does not name is lost.
    Offered(Offered),
    /// Router → Registry: how an attempt went, for the worker's standing.
    Worked(Worked),
    /// Registry → Router: the worker has given neither piece nor end of these for as long as their
    /// assignments allow.
    Silent {
        worker: WorkerId,
        session: SessionId,
        leases: Vec<LeaseClaim>,
    },
    /// Accountant → Registry: the account is banned, or no longer.
    OwnerBanned {
        owner: AccountId,
        banned: bool,
    },
    /// Accountant → Router: as `Enqueue`, for an account to which the sysop gave a weight: it is a branch
    /// of its own.
    EnqueueWeighted {
        meta: Meta,
        asset: Asset,
        recovered: bool,
        weight: u16,
    },
}

impl Message {
    /// As today's services speak: a message of an earlier release, which may have waited in an
    /// outbox, becomes the one that took its place. Done once, where a message comes in.
    #[must_use]
    pub fn current(self) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other message is of today")]
        match self {
            Self::PlaceHoldV1(meta) => Self::PlaceHold(meta.into()),
            Self::EnqueueV1 { meta, asset, recovered } => {
                Self::Enqueue { meta: meta.into(), asset, recovered }
            }
            Self::ResumeV1(meta) => Self::Resume(meta.into()),
            Self::SlotsV1(slots) => Self::Offered(Slots::from(slots).into()),
            Self::Slots(slots) => Self::Offered(slots.into()),
            other => other,
        }
    }
}

/// What a worker's session offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    pub worker: WorkerId,
    pub session: SessionId,
    /// The edge node that holds the session.
    pub edge: NodeId,
    pub owner: AccountId,
    /// Owned by the realm's own account.
    pub own: bool,
    /// Past probation, or exempt.
    pub proven: bool,
    pub draining: bool,
    pub offers: Vec<SlotOffer>,
    /// Leases the worker says it still holds, checked by the edge.
    pub leases: Vec<LeaseClaim>,
}

/// What a worker's session offers, and how it stands in that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// Whose word on proof is not heard any more: that is a matter of each kind.
    pub slots: Slots,
    pub standings: Vec<Standing>,
}

impl From<Slots> for Offered {
    fn from(slots: Slots) -> Self {
        Self { slots, standings: Vec::new() }
    }
}

/// One thing that a worker can do, as the edge has understood its offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotOffer {
    /// The manifest's name.
    pub intent: String,
    pub model: Option<String>,
    pub slots: u32,
    /// Per the manifest's own number of units.
    pub price: Price,
    /// That of the price.
    pub band: Band,
    /// The model's context in tokens.
    pub context: Option<u32>,
    /// Offers of one group share their slots.
    pub group: Option<String>,
}

/// Which slots an offer takes: those of a named group, or those of its intent and model at whatever
/// price: a new price is no new slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupKey {
    Named(String),
    Own(KindName),
}

impl SlotOffer {
    /// In what its worker stands by it.
    pub fn kind(&self) -> KindName {
        KindName { intent: self.intent.clone(), model: self.model.clone() }
    }

    pub fn group_key(&self) -> GroupKey {
        let own = || GroupKey::Own(self.kind());
        self.group.clone().map_or_else(own, GroupKey::Named)
    }
}

impl Slots {
    /// How many slots each group has.
    pub fn groups(&self) -> BTreeMap<GroupKey, u32> {
        let mut groups: BTreeMap<GroupKey, u32> = BTreeMap::new();
        for offer in &self.offers {
            let key = offer.group_key();
            let named = matches!(key, GroupKey::Named(_)) && !mutant!("groups-share-nothing");
            let slots = groups.entry(key).or_default();
            *slots = if named {
                // Each of its offers says how many the group has.
                offer.slots.max(*slots)
            } else {
                // The same said twice, or at several prices.
                slots.saturating_add(offer.slots)
            };
        }
        groups
    }

    /// How many slots there are for each kind: all of the groups that offer it, each once.
    pub fn kinds(&self) -> BTreeMap<KindName, u32> {
        let groups = self.groups();
        let offered = self.offers.iter().map(|offer| (offer.kind(), offer.group_key()));
        let offered: BTreeSet<(KindName, GroupKey)> = offered.collect();
        let mut kinds: BTreeMap<KindName, u32> = BTreeMap::new();
        for (kind, group) in offered {
            let slots = kinds.entry(kind).or_default();
            *slots = slots.saturating_add(groups.get(&group).copied().unwrap_or_default());
        }
        kinds
    }
}

/// As the first releases said it. Frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotsV1 {
    pub worker: WorkerId,
    pub session: SessionId,
    pub edge: NodeId,
    pub owner: AccountId,
    pub own: bool,
    pub proven: bool,
    pub draining: bool,
    pub offers: Vec<SlotOfferV1>,
    pub leases: Vec<LeaseClaim>,
}

/// As the first releases said it. Frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotOfferV1 {
    pub intent: String,
    pub model: Option<String>,
    pub slots: u32,
    pub price: Option<Price>,
    pub context: Option<u32>,
}

impl From<SlotsV1> for Slots {
    /// The band is not known here. The dearest is the one that costs nobody more than he agreed to,
    /// until the worker offers again. An offer without a price cannot be paid and is none.
    fn from(old: SlotsV1) -> Self {
        let SlotsV1 { worker, session, edge, owner, own, proven, draining, offers, leases } = old;
        let offers = offers.into_iter().filter_map(|offer| {
            let SlotOfferV1 { intent, model, slots, price, context } = offer;
            let (price, band, group) = (price?, Band::DEAREST, None);
            Some(SlotOffer { intent, model, slots, price, band, context, group })
        });
        let offers = offers.collect();
        Self { worker, session, edge, owner, own, proven, draining, offers, leases }
    }
}

/// The router's request for the one terminal decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    pub intent: IntentId,
    pub outcome: Outcome,
    pub usage: Usage,
    /// Who served, and at which price; `None` if nobody is to be paid.
    pub served: Option<ServedBy>,
    /// Why it was refused, when the outcome is `Refused`.
    pub rejection: Option<Rejection>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedBy {
    pub worker: WorkerId,
    pub owner: AccountId,
    pub price: Price,
    pub attempt: Attempt,
    pub fence: Fence,
}
