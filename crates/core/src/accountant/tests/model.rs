//! Random commands and messages, repeated, out of order and about unknown things, against a model
//! that shares no code with the accountant: plain lists, signed sums, no indexes.

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Policy { token: bool, fee_basis_points: u16 },
    Open { n: u8, key: u8, network: u8, realm: bool },
    FillUp { n: u8, network: u8 },
    AddKey { n: u8, key: u8 },
    RevokeKey { n: u8, key: u8 },
    Ban { n: u8, banned: bool },
    Place { id: u16, n: u8, ceiling: u64, durable: bool, edge: u16, epoch: u32, resume: bool },
    Resolve { id: u16, outcome: Outcome, units: u64, per: u64, owner: Option<u8>, refusal: bool },
    EdgeStarted { edge: u16, epoch: u32 },
    Wait { ms: u64, tick: bool },
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![
        4 => Just(DONE),
        1 => Just(Outcome::Completed(Reason::Ceiling)),
        1 => Just(Outcome::Failed(Code::WorkerFailed)),
        1 => Just(Outcome::Cancelled),
        1 => Just(Outcome::Expired),
        1 => Just(Outcome::Refused),
    ];
    let fee = prop_oneof![Just(0), Just(333), Just(10_000), Just(20_000)];
    let ms = prop_oneof![3 => 0..100_u64, 3 => 0..100_000_u64, 1 => 0..2 * DAY_MS];
    let place = (0..12_u16, 0..6_u8, 0..120_u64, any::<bool>(), 0..2_u16, 0..4_u32, any::<bool>());
    let resolve = (
        0..12_u16,
        outcome,
        0..150_u64,
        1..3_u64,
        prop::option::weighted(0.8, 0..6_u8),
        any::<bool>(),
    );
    prop_oneof![
        1 => (any::<bool>(), fee)
            .prop_map(|(token, fee_basis_points)| Op::Policy { token, fee_basis_points }),
        4 => (0..6_u8, 0..8_u8, 0..6_u8, prop::bool::weighted(0.1))
            .prop_map(|(n, key, network, realm)| Op::Open { n, key, network, realm }),
        3 => (0..6_u8, 0..6_u8).prop_map(|(n, network)| Op::FillUp { n, network }),
        1 => (0..6_u8, 0..12_u8).prop_map(|(n, key)| Op::AddKey { n, key }),
        1 => (0..6_u8, 0..12_u8).prop_map(|(n, key)| Op::RevokeKey { n, key }),
        1 => (0..6_u8, prop::bool::weighted(0.3)).prop_map(|(n, banned)| Op::Ban { n, banned }),
        12 => place.prop_map(|(id, n, ceiling, durable, edge, epoch, resume)| {
            Op::Place { id, n, ceiling, durable, edge, epoch, resume }
        }),
        10 => resolve.prop_map(|(id, outcome, units, per, owner, refusal)| {
            Op::Resolve { id, outcome, units, per, owner, refusal }
        }),
        1 => (0..2_u16, 0..4_u32).prop_map(|(edge, epoch)| Op::EdgeStarted { edge, epoch }),
        3 => (ms, any::<bool>()).prop_map(|(ms, tick)| Op::Wait { ms, tick }),
        1 => Just(Op::Restart),
    ]
}

#[derive(Clone, Debug)]
struct ModelHold {
    id: u16,
    n: u8,
    asset: Asset,
    amount: i128,
    edge: Option<(u16, u32)>,
    expires: u64,
}

#[derive(Default)]
struct Model {
    now: u64,
    token_grants: bool,
    fee: i128,
    /// (account, key count is in `keys`, banned)
    accounts: Vec<(u8, bool)>,
    keys: Vec<(u8, u8)>,
    /// Every grant ever: (day, network, account, units).
    grants: Vec<(u64, u8, u8, i128)>,
    /// Accounts that are the realm's.
    realms: Vec<u8>,
    purses: BTreeMap<(Asset, Purse), i128>,
    holds: Vec<ModelHold>,
    /// (when, end, why refused, as long as that is known)
    ends: Vec<(u64, End, Option<Rejection>)>,
    epochs: Vec<(u16, u32)>,
    sequence: u64,
    /// Holds ever placed and resolved.
    placed: u64,
    resolved: u64,
}

const GRANT: i128 = 100;
const DAILY: usize = 4;
const NETWORK_DAILY: usize = 2;

impl Model {
    fn policy(&self) -> Policy {
        let asset = if self.token_grants { Asset::Token } else { Asset::Grant };
        // Not a whole number of grants: the rest is not enough for one more.
        let grant =
            grant(asset, GRANT as u64, GRANT as u64 * DAILY as u64 + 99, NETWORK_DAILY as u32);
        Policy { grant: Some(grant), fee_basis_points: self.fee as u16 }
    }

    fn purse(&self, asset: Asset, purse: Purse) -> i128 {
        self.purses.get(&(asset, purse)).copied().unwrap_or(0)
    }

    fn pay(&mut self, asset: Asset, from: Purse, to: Purse, units: i128) {
        if units == 0 {
            return;
        }
        self.sequence += 1;
        *self.purses.entry((asset, from)).or_default() -= units;
        *self.purses.entry((asset, to)).or_default() += units;
    }

    fn known(&self, n: u8) -> bool {
        self.accounts.iter().any(|(known, _)| *known == n)
    }

    fn open(&mut self, n: u8, key: u8, network: u8, realm: bool) -> Result<(), Rejection> {
        if self.known(n) && self.keys.contains(&(key, n)) {
            return Ok(());
        }
        if self.known(n) || self.keys.iter().any(|(taken, _)| *taken == key) {
            return Err(Rejection::IdTaken);
        }
        self.accounts.push((n, false));
        self.keys.push((key, n));
        if realm {
            self.realms.push(n);
        } else if self.may_grant(network, GRANT).is_ok() {
            self.give(n, network, GRANT);
        }
        Ok(())
    }

    fn fill_up(&mut self, n: u8, network: u8) -> Result<(), Rejection> {
        let found = self.accounts.iter().find(|(known, _)| *known == n);
        if found.ok_or(Rejection::UnknownAccount)?.1 {
            return Err(Rejection::AccountBanned);
        }
        let of = |purse| self.purse(self.grant_asset(), purse);
        let missing = GRANT - of(Purse::Available(account(n))) - of(Purse::Held(account(n)));
        let day = self.now / DAY_MS;
        let today = self.grants.iter().any(|(when, _, who, _)| (*when, *who) == (day, n));
        if missing <= 0 || today || self.realms.contains(&n) {
            return Ok(());
        }
        self.may_grant(network, missing)?;
        self.give(n, network, missing);
        Ok(())
    }

    fn grant_asset(&self) -> Asset {
        if self.token_grants { Asset::Token } else { Asset::Grant }
    }

    fn give(&mut self, n: u8, network: u8, units: i128) {
        self.grants.push((self.now / DAY_MS, network, n, units));
        self.pay(self.grant_asset(), Purse::GrantIssue, Purse::Available(account(n)), units);
    }

    /// From the rule's words: an eighth, a quarter, a sixteenth of what is free.
    fn may_grant(&self, network: u8, units: i128) -> Result<(), Rejection> {
        let (day, total) = (self.now / DAY_MS, GRANT * DAILY as i128 + 99);
        let retry_after_ms = DAY_MS - self.now % DAY_MS;
        let today = self.grants.iter().filter(|(when, ..)| *when == day);
        let there = today.clone().filter(|(_, by, ..)| *by == network);
        let sum = |of: &[i128]| of.iter().sum::<i128>();
        let left = total - sum(&today.map(|(.., units)| *units).collect::<Vec<_>>()) - units;
        if left < 0 {
            return Err(Rejection::GrantsExhausted { retry_after_ms });
        }
        let held: Vec<i128> = there.map(|(.., units)| *units).collect();
        if !held.is_empty() && 4 * (sum(&held) + units) > left {
            return Err(Rejection::NetworkLimit { retry_after_ms });
        }
        if !held.is_empty() && left < total / 16 {
            return Err(Rejection::GrantsExhausted { retry_after_ms });
        }
        if held.len() >= NETWORK_DAILY {
            return Err(Rejection::NetworkLimit { retry_after_ms });
        }
        Ok(())
    }

    fn add_key(&mut self, n: u8, key: u8) -> Result<(), Rejection> {
        let Some((_, banned)) = self.accounts.iter().find(|(known, _)| *known == n).copied() else {
            return Err(Rejection::UnknownAccount);
        };
        match self.keys.iter().find(|(taken, _)| *taken == key) {
            Some((_, holder)) if *holder == n => return Ok(()),
            Some(_) => return Err(Rejection::IdTaken),
            None if banned => return Err(Rejection::AccountBanned),
            None => {}
        }
        if self.keys.iter().filter(|(_, holder)| *holder == n).count() == 8 {
            return Err(Rejection::LimitReached { what: Limited::Keys, limit: 8 });
        }
        self.keys.push((key, n));
        Ok(())
    }

    fn revoke_key(&mut self, n: u8, key: u8) -> Result<(), Rejection> {
        let found = self.keys.iter().position(|known| *known == (key, n));
        let found = found.ok_or(Rejection::UnknownAccount)?;
        if self.keys.iter().filter(|(_, holder)| *holder == n).count() == 1 {
            return Err(Rejection::LastKey);
        }
        self.keys.remove(found);
        Ok(())
    }

    fn ban(&mut self, n: u8, banned: bool) -> Result<(), Rejection> {
        let found = self.accounts.iter_mut().find(|(known, _)| *known == n);
        found.ok_or(Rejection::UnknownAccount)?.1 = banned;
        Ok(())
    }

    /// What the registry hears of a ban.
    fn told_of_ban(&self, n: u8, banned: bool) -> Vec<Envelope> {
        let message = Message::OwnerBanned { owner: account(n), banned };
        let is_new = |(known, was): &&(u8, bool)| *known == n && *was != banned;
        let told = self.accounts.iter().find(is_new);
        told.map(|_| Envelope { to: Service::Registry, message }).into_iter().collect()
    }

    fn end_of(&self, id: u16) -> Option<Envelope> {
        let (_, end, rejection) = self.ends.iter().find(|(_, end, _)| end.intent == intent(id))?;
        let refused = end.outcome == Outcome::Refused;
        let rejection = refused.then(|| rejection.clone().unwrap_or(Rejection::RealmRestarted));
        let end = end.clone();
        Some(Envelope { to: Service::Events, message: Message::Resolved { end, rejection } })
    }

    fn place(&mut self, meta: &Arc<IntentMeta>, id: u16, n: u8, recovered: bool) -> Envelope {
        let enqueue = |asset| Envelope {
            to: Service::Router,
            message: Message::Enqueue { meta: Arc::clone(meta).into(), asset, recovered },
        };
        if let Some(hold) = self.holds.iter().find(|hold| hold.id == id) {
            return enqueue(hold.asset);
        }
        if let Some(end) = self.end_of(id) {
            return end;
        }
        if recovered {
            let (intent, rejection) = (meta.id, Rejection::RealmRestarted);
            return Envelope {
                to: Service::Events,
                message: Message::Refused { intent, rejection },
            };
        }
        let amount = meta.ceiling.units() as i128;
        let in_grant = self.purse(Asset::Grant, Purse::Available(account(n)));
        let in_token = self.purse(Asset::Token, Purse::Available(account(n)));
        let newest = self.epochs.iter().filter(|(edge, _)| *edge == meta.edge.0);
        let newest = newest.map(|(_, epoch)| *epoch).max().unwrap_or(0);
        let short = |asset, has: i128| Rejection::BalanceTooLow {
            asset,
            missing: Amount::new((amount - has) as u128).unwrap(),
        };
        let banned = self.accounts.iter().find(|(known, _)| *known == n).map(|(_, banned)| *banned);
        let verdict = match banned {
            None => Err(Rejection::UnknownAccount),
            Some(true) => Err(Rejection::AccountBanned),
            Some(false) if in_grant < amount && in_token < amount => {
                let token = in_token > 0 && in_token >= in_grant;
                Err(if token {
                    short(Asset::Token, in_token)
                } else {
                    short(Asset::Grant, in_grant)
                })
            }
            Some(false) if !meta.durable && meta.edge_epoch < newest => {
                Err(Rejection::RealmRestarted)
            }
            Some(false) => Ok(if in_grant >= amount { Asset::Grant } else { Asset::Token }),
        };
        match verdict {
            Ok(asset) => {
                self.pay(asset, Purse::Available(account(n)), Purse::Held(account(n)), amount);
                let edge = (!meta.durable).then_some((meta.edge.0, meta.edge_epoch));
                let expires = self.now + meta.remaining_ms + 3_000 + 60_000;
                self.holds.push(ModelHold { id, n, asset, amount, edge, expires });
                self.placed += 1;
                self.forget();
                enqueue(asset)
            }
            Err(rejection) => Envelope {
                to: Service::Events,
                message: Message::Refused { intent: intent(id), rejection },
            },
        }
    }

    fn forget(&mut self) {
        // Some at a time, the oldest first: of those of one moment, that of the lowest id.
        for _ in 0..4 {
            let first = self.ends.iter().map(|(at, end, _)| (*at, end.intent)).min();
            let Some((at, intent)) = first.filter(|(at, _)| at + 60_000 < self.now) else { return };
            self.ends.retain(|(of, end, _)| (*of, end.intent) != (at, intent));
        }
    }

    /// Ends an open hold: `paid` units go to `owner`, less the fee.
    fn end(&mut self, hold: &ModelHold, outcome: Outcome, units: u64, owner: u8, paid: i128) {
        self.holds.retain(|other| other.id != hold.id);
        self.resolved += 1;
        let before = self.sequence;
        let fee = (paid * self.fee / 10_000).min(paid);
        let held = Purse::Held(account(hold.n));
        self.pay(hold.asset, held, Purse::Available(account(owner)), paid - fee);
        self.pay(hold.asset, held, Purse::RealmFee, fee);
        self.pay(hold.asset, held, Purse::Available(account(hold.n)), hold.amount - paid);
        let amount = |units: i128| Amount::new(units as u128).unwrap();
        let end = End {
            intent: intent(hold.id),
            outcome,
            usage: Usage { units, input: 0, output: 0 },
            asset: hold.asset,
            cost: amount(paid),
            refunded: amount(hold.amount - paid),
            sequence: if self.sequence > before { before + 1 } else { 0 },
        };
        self.ends.push((self.now, end, None));
        self.forget();
    }

    fn resolve(&mut self, id: u16, ask: &Resolution, owner: Option<u8>) -> Option<Envelope> {
        if let Some(hold) = self.holds.iter().find(|hold| hold.id == id).cloned() {
            let units = ask.usage.units;
            let works = !matches!(ask.outcome, Outcome::Failed(_) | Outcome::Refused);
            let owner = owner.filter(|owner| works && self.known(*owner));
            let cost = ask.served.map_or(0, |served| (3 * units / served.price.per) as i128);
            let paid = owner.map_or(0, |_| cost.min(hold.amount));
            self.end(&hold, ask.outcome, units, owner.unwrap_or(hold.n), paid);
        }
        let refused = (self.ends.iter_mut())
            .find(|(_, end, _)| end.intent == intent(id) && end.outcome == Outcome::Refused);
        if let Some((_, _, known)) = refused
            && known.is_none()
        {
            *known = ask.rejection.clone();
        }
        self.end_of(id)
    }

    fn edge_started(&mut self, edge: u16, epoch: u32) {
        self.epochs.push((edge, epoch));
        let older = |hold: &&ModelHold| hold.edge.is_some_and(|(of, at)| of == edge && at < epoch);
        let mut gone: Vec<_> = self.holds.iter().filter(older).cloned().collect();
        gone.sort_by_key(|hold| (hold.edge, hold.id));
        for hold in gone {
            self.end(&hold, Outcome::Failed(Code::RealmRestarted), 0, hold.n, 0);
        }
    }

    fn tick(&mut self) -> Vec<Envelope> {
        let mut due: Vec<_> =
            self.holds.iter().filter(|h| h.expires <= self.now).cloned().collect();
        due.sort_by_key(|hold| (hold.expires, hold.id));
        let mut messages = Vec::new();
        for hold in due {
            self.end(&hold, Outcome::Expired, 0, hold.n, 0);
            messages.extend(self.end_of(hold.id));
        }
        messages
    }

    fn agrees(&self, accountant: &Accountant) {
        for asset in Asset::ALL {
            let all = self.purses.iter().filter(|((of, _), _)| *of == asset);
            assert_eq!(all.map(|(_, stands)| stands).sum::<i128>(), 0, "sum zero");
            let totals = accountant.totals(asset);
            assert_eq!(totals.granted.units() as i128, -self.purse(asset, Purse::GrantIssue));
            assert_eq!(totals.realm_fee.units() as i128, self.purse(asset, Purse::RealmFee));
            for (n, banned) in &self.accounts {
                let view = accountant.account(account(*n)).unwrap();
                let balance = view.balances.get(asset);
                let available = self.purse(asset, Purse::Available(account(*n)));
                assert_eq!(balance.available.units() as i128, available, "account {n}");
                assert_eq!(
                    balance.held.units() as i128,
                    self.purse(asset, Purse::Held(account(*n)))
                );
                assert_eq!(view.banned, *banned);
            }
        }
        let keys: Vec<_> = accountant.keys().collect();
        let mut expected: Vec<_> = self.keys.iter().map(|(k, n)| (key(*k), account(*n))).collect();
        expected.sort();
        assert_eq!(keys, expected);
        assert_eq!(accountant.open_holds(), self.holds.len());
        assert_eq!(accountant.sequence(), self.sequence);
        let next = self.holds.iter().map(|hold| Time(hold.expires)).min();
        assert_eq!(accountant.next_timeout(), next);
    }
}

fn asked(
    id: u16,
    outcome: Outcome,
    units: u64,
    per: u64,
    owner: Option<u8>,
    refusal: bool,
) -> Resolution {
    let price = Price { amount: amount(3), per };
    let (worker, attempt, fence) = (WorkerId([5; 32]), Attempt(1), Fence(1));
    let by = |owner| ServedBy { worker, owner: account(owner), price, attempt, fence };
    let refused = refusal && outcome == Outcome::Refused;
    let rejection = refused.then_some(Rejection::NoWorker);
    Resolution { served: owner.map(by), rejection, ..resolution(intent(id), outcome, units) }
}

/// One step of both; what each answers must be the same.
fn step(bench: &mut Bench, model: &mut Model, op: &Op) {
    let was = (model.placed, model.resolved);
    let (expected, messages, outcomes) = match *op {
        Op::Policy { token, fee_basis_points } => {
            (model.token_grants, model.fee) = (token, i128::from(fee_basis_points));
            bench.accountant.set_policy(model.policy());
            return;
        }
        Op::Open { n, key, network, realm } => {
            let kind = if realm { AccountKind::Realm } else { AccountKind::Guest };
            let open = OpenAccount { kind, ..open(n, key, network) };
            let expected = model.open(n, key, network, realm);
            (expected, Vec::new(), bench.call(|a, turn| a.open_account(turn, &open)))
        }
        Op::FillUp { n, network } => {
            (model.fill_up(n, network), Vec::new(), bench.filled_up(n, network))
        }
        Op::AddKey { n, key: k } => {
            (model.add_key(n, k), Vec::new(), bench.call(|a, t| a.add_key(t, account(n), key(k))))
        }
        Op::RevokeKey { n, key: k } => {
            let expected = model.revoke_key(n, k);
            (expected, Vec::new(), bench.call(|a, t| a.revoke_key(t, account(n), key(k))))
        }
        Op::Ban { n, banned } => {
            let told = model.told_of_ban(n, banned);
            (model.ban(n, banned), told, bench.call(|a, t| a.ban_account(t, account(n), banned)))
        }
        Op::Place { id, n, ceiling, durable, edge, epoch, resume } => {
            let meta = meta(intent(id), account(n), ceiling);
            let (edge, edge_epoch) = (NodeId(edge), epoch);
            let meta = Arc::new(IntentMeta { durable, edge, edge_epoch, ..meta });
            let shared = Arc::clone(&meta).into();
            let message = if resume { Message::Resume(shared) } else { Message::PlaceHold(shared) };
            (Ok(()), vec![model.place(&meta, id, n, resume)], bench.send(message))
        }
        Op::Resolve { id, outcome, units, per, owner, refusal } => {
            let asked = asked(id, outcome, units, per, owner, refusal);
            let messages = model.resolve(id, &asked, owner).into_iter().collect();
            (Ok(()), messages, bench.send(Message::Resolve(asked)))
        }
        Op::EdgeStarted { edge, epoch } => {
            model.edge_started(edge, epoch);
            let message = Message::EdgeStarted { edge: NodeId(edge), epoch };
            let (to, passed_on) = (Service::Router, message.clone());
            (Ok(()), vec![Envelope { to, message: passed_on }], bench.send(message))
        }
        Op::Wait { ms, tick } => {
            bench.now = bench.now.after_ms(ms);
            model.now = bench.now.0;
            if !tick {
                return;
            }
            (Ok(()), model.tick(), bench.tick())
        }
        Op::Restart => {
            bench.restart();
            model.epochs.clear();
            model.ends.iter_mut().for_each(|(_, _, rejection)| *rejection = None);
            return;
        }
    };
    assert_eq!(outcomes.result, expected, "{op:?}");
    assert_eq!(outcomes.messages, messages, "{op:?}");
    let count =
        |is: fn(&Fact) -> bool| outcomes.facts.iter().filter(|fact| is(fact)).count() as u64;
    let placed = count(|fact| matches!(fact, Fact::HoldPlaced { .. }));
    let facts = (placed, count(|fact| matches!(fact, Fact::HoldResolved { .. })));
    assert_eq!(facts, (model.placed - was.0, model.resolved - was.1), "exactly once: {op:?}");
    model.agrees(&bench.accountant);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_accountant_is_the_model(ops in prop::collection::vec(op(), 1..120)) {
        let mut model = Model::default();
        let mut bench = Bench::new(model.policy());
        model.now = bench.now.0;
        for op in &ops {
            step(&mut bench, &mut model, op);
            if matches!(op, Op::Place { .. } | Op::Resolve { .. } | Op::Open { .. }) {
                // Anything said twice is answered twice and done once.
                step(&mut bench, &mut model, op);
            }
        }
    }
}
