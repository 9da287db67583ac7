//! How a worker stands ready: what it offers, what of it is free, and for whom.

use mtor_types::intent::{IntentMeta, Trust};
use mtor_types::message::SlotOffer;
use mtor_types::{AccountId, Price, SessionId, WorkerId};

/// Whose worker it is, in the order in which free slots are given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Of the account that asks: under every trust and at any price, since it costs nothing.
    Asker,
    /// Of the realm's own account.
    Own,
    Proven,
    #[default]
    Probation,
}

/// How a worker stands in what it offers, as the registry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) class: Class,
    /// Slots that others than its owner may have.
    pub(crate) earned: u32,
    pub(crate) ejected: bool,
}

pub(crate) type Stands<'a> = &'a dyn Fn(WorkerId, &SlotOffer) -> Standing;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Named(String),
    Alone(String, Option<String>),
}

#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) said: SlotOffer,
    /// What the registry says of it now may be newer, within the command that changes it.
    pub(super) stands: Standing,
    /// Withdrawn, and here until its last lease ends.
    pub(super) gone: bool,
    pub(super) busy: u32,
    /// Of these for others than its owner.
    pub(super) lent: u32,
    /// The number of its last lease, or the newest there was when it was offered.
    pub(super) last: u64,
}

impl Offer {
    pub(super) fn group(&self) -> Group {
        let SlotOffer { intent, model, group, .. } = &self.said;
        group.clone().map_or_else(|| Group::Alone(intent.clone(), model.clone()), Group::Named)
    }

    pub(super) fn is(&self, said: &SlotOffer) -> bool {
        let key = |of: &SlotOffer| {
            (of.intent.clone(), of.model.clone(), of.price.amount, of.group.clone())
        };
        key(&self.said) == key(said)
    }

    pub(super) fn does(&self, meta: &IntentMeta) -> bool {
        let model = meta.model.is_none() || meta.model == self.said.model;
        self.said.intent == meta.name && model
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Stand {
    pub(super) session: Option<SessionId>,
    pub(super) owner: Option<AccountId>,
    pub(super) draining: bool,
    pub(super) offers: Vec<Offer>,
}

impl Stand {
    /// Slots, and how many of them are taken.
    pub(super) fn room(&self, group: &Group) -> (u32, u32) {
        let (mut slots, mut busy) = (0_u32, 0_u32);
        for offer in self.offers.iter().filter(|offer| offer.group() == *group) {
            busy = busy.saturating_add(offer.busy);
            match group {
                _ if offer.gone => {}
                Group::Named(_) => slots = slots.max(offer.said.slots),
                Group::Alone(..) => slots = slots.saturating_add(offer.said.slots),
            }
        }
        (slots, busy)
    }

    /// Of what it offers there, at whatever price.
    pub(super) fn lent(&self, offer: &Offer) -> u32 {
        let of = |other: &&Offer| {
            (&other.said.intent, &other.said.model) == (&offer.said.intent, &offer.said.model)
        };
        self.offers.iter().filter(of).fold(0, |sum, offer| sum.saturating_add(offer.lent))
    }

    pub(super) fn has_room(&self, offer: &Offer) -> bool {
        let (slots, busy) = self.room(&offer.group());
        !self.draining && !offer.gone && busy < slots
    }

    pub(super) fn is_free(&self, offer: &Offer, meta: &IntentMeta) -> bool {
        let earned = self.is_askers(meta) || self.lent(offer) < offer.stands.earned;
        self.has_room(offer) && earned
    }

    pub(super) fn is_askers(&self, meta: &IntentMeta) -> bool {
        self.owner == Some(meta.account)
    }

    /// What it is to whoever asks this.
    pub(super) fn class_for(&self, offer: &Offer, meta: &IntentMeta) -> Class {
        if self.is_askers(meta) { Class::Asker } else { offer.stands.class }
    }

    pub(super) fn may(&self, offer: &Offer, meta: &IntentMeta) -> bool {
        let class = self.class_for(offer, meta);
        let admitted = trusts(meta.trust, class) && offer.said.band <= meta.band;
        offer.does(meta) && (admitted || class == Class::Asker)
    }

    /// Whether it stands ready for that as any other, busy or not. What only the asker may use is not
    /// counted.
    pub(super) fn is_member(&self, meta: &IntentMeta) -> bool {
        let ready = |offer: &&Offer| {
            let admitted = trusts(meta.trust, offer.stands.class) && offer.said.band <= meta.band;
            !offer.gone && !offer.stands.ejected && offer.does(meta) && admitted
        };
        !self.draining && self.offers.iter().any(|offer| ready(&offer))
    }

    /// As the registry says now.
    pub(super) fn newer(&self, worker: WorkerId, stands: Stands<'_>) -> Self {
        let mut newer = self.clone();
        newer.offers.iter_mut().for_each(|offer| offer.stands = stands(worker, &offer.said));
        newer
    }

    /// What a free slot is chosen by, least first. Among the asker's own, which cost it nothing, any
    /// is as good as the other.
    pub(super) fn order(&self, offer: &Offer, meta: &IntentMeta) -> Order {
        let class = self.class_for(offer, meta);
        if class == Class::Asker {
            return (false, class, 0, 0, 0);
        }
        let (slots, _) = self.room(&offer.group());
        let (lent, earned) = (self.lent(offer), offer.stands.earned.min(slots));
        let load = u64::from(lent).saturating_mul(1_000).checked_div(earned.into());
        let (ejected, price) = (offer.stands.ejected, offer.said.price.amount.units());
        (ejected, class, price, load.unwrap_or_default(), offer.last)
    }

    /// The slot that a lease at this price has taken: the cheapest of those it may have.
    pub(super) fn taken(&self, meta: &IntentMeta, price: Price) -> Option<&Offer> {
        let asker = self.owner == Some(meta.account);
        let all = self.offers.iter().filter(|offer| self.may(offer, meta) && !offer.gone);
        let at = all.filter(|offer| asker || offer.said.price == price);
        at.min_by_key(|offer| {
            let Standing { class, ejected, .. } = offer.stands;
            (!self.is_free(offer, meta), ejected, class, offer.said.price.amount)
        })
    }

    pub(super) fn withdraw(&mut self) {
        self.offers.iter_mut().for_each(|offer| offer.gone = true);
        self.offers.retain(|offer| offer.busy > 0);
    }

    pub(super) fn offer(
        &mut self,
        worker: WorkerId,
        offers: &[SlotOffer],
        newest: u64,
        stands: Stands<'_>,
    ) {
        self.offers.iter_mut().for_each(|offer| offer.gone = true);
        for said in offers.iter().filter(|said| said.slots > 0) {
            match self.offers.iter_mut().find(|offer| offer.is(said)) {
                Some(known) => (known.gone, known.said) = (false, said.clone()),
                None => {
                    let (said, stands) = (said.clone(), stands(worker, said));
                    let (gone, busy, lent, last) = (false, 0, 0, newest);
                    self.offers.push(Offer { said, stands, gone, busy, lent, last });
                }
            }
        }
        self.offers.retain(|offer| !offer.gone || offer.busy > 0);
    }
}

/// Whether it is ejected, class, price, load in thousandths, and the number of the last lease.
pub(super) type Order = (bool, Class, u128, u64, u64);

pub(super) fn trusts(trust: Trust, class: Class) -> bool {
    match trust {
        Trust::Own => class <= Class::Own,
        Trust::Proven => class <= Class::Proven,
        Trust::Any => true,
    }
}
