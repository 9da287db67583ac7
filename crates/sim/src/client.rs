//! Simulated clients: what each of them asks, when, and how patient it is.

use mtor_types::fact::NetworkKey;
use mtor_types::intent::{Band, Branch, Class, Idempotency, IntentMeta, Trust};
use mtor_types::{AccountId, Amount, Digest, IntentId, NodeId};

use crate::rng::Rng;
use crate::scenario::{BLOCK_MS, DEADLINE_MS, LIST, Scenario};

/// One client's wish. It may take several submissions.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) at: u64,
    pub(crate) account: usize,
    pub(crate) durable: bool,
    restart: bool,
    pub(crate) key: Option<Idempotency>,
    name: &'static str,
    model: Option<&'static str>,
    ceiling: u64,
    band: Band,
    branch: Branch,
    units_max: u64,
    deadline_ms: u64,
    class: Class,
    trust: Trust,
    pub(crate) cancel_after_ms: Option<u64>,
    /// The same submission again, although nothing was lost.
    pub(crate) repeat_after_ms: Option<u64>,
    /// What was submitted for it, oldest first.
    pub(crate) submitted: Vec<IntentId>,
}

impl Plan {
    pub(crate) fn meta(
        &self,
        id: IntentId,
        account: AccountId,
        (edge, edge_epoch): (NodeId, u32),
        salt: [u8; 16],
    ) -> IntentMeta {
        IntentMeta {
            id,
            account,
            name: self.name.to_owned(),
            manifest: Digest([1; 32]),
            model: self.model.map(str::to_owned),
            trust: self.trust,
            branch: self.branch,
            origin: None,
            worker: None,
            class: self.class,
            durable: self.durable,
            restart: self.restart,
            edge,
            edge_epoch,
            ceiling: Amount::from_u64(self.ceiling),
            band: self.band,
            units_max: self.units_max,
            bytes: 100,
            size: 100,
            remaining_ms: self.deadline_ms,
            idempotency: self.key,
            salt,
        }
    }
}

/// The plans of a seed, in order of time.
pub(crate) fn plans(scenario: &Scenario, seed: u64) -> Vec<Plan> {
    let count = usize::try_from(scenario.intents).unwrap_or(usize::MAX);
    let accounts = usize::try_from(scenario.accounts).unwrap_or(usize::MAX);
    let mut plans = Vec::with_capacity(count);
    let mut burst = 0;
    for number in 0..count {
        let stream = u64::try_from(number).unwrap_or(u64::MAX);
        let mut rng = Rng::new(seed, 1_000_000_u64.saturating_add(stream));
        let mut plan = if scenario.steady {
            steady(number.checked_rem(accounts).unwrap_or_default(), scenario.blocks)
        } else {
            draw(&mut rng, accounts, scenario.storm_ms)
        };
        // Racing submissions on a small balance.
        if rng.per_cent(8) && !scenario.steady {
            burst = rng.between(500, scenario.storm_ms);
        }
        if burst > 0 && rng.per_cent(30) {
            (plan.at, plan.account) = (burst, 0);
        }
        if plan.durable && rng.per_cent(60) || rng.per_cent(10) {
            let body = Digest(rng.bytes());
            plan.key = Some(Idempotency { key: Digest(rng.bytes()), body });
        }
        if let Some(before) = plans.last().filter(|_| rng.per_cent(8) && !scenario.steady) {
            let before: &Plan = before;
            // The key of another wish, with the same body or with another one.
            let at = before.at.saturating_add(rng.between(0, 2_000));
            let (key, account) = (before.key, before.account);
            plan = Plan { at, account, durable: before.durable, ..plan };
            plan.key = key;
            if rng.per_cent(30)
                && let Some(key) = plan.key.as_mut()
            {
                key.body = Digest(rng.bytes());
            }
        }
        plans.push(plan);
    }
    plans.sort_by_key(|plan| plan.at);
    plans
}

/// All work of an account comes at once; in blocks, one account after the other. Whoever comes later
/// asks for longer work, so that counts of items are no shares of service.
fn steady(account: usize, blocks: bool) -> Plan {
    let number = u64::try_from(account).unwrap_or(u64::MAX);
    let ceiling = number.saturating_mul(4).saturating_add(4);
    Plan {
        at: if blocks { number.saturating_mul(BLOCK_MS) } else { 0 }.saturating_add(100),
        account,
        durable: false,
        restart: false,
        key: None,
        name: "chat",
        model: None,
        ceiling,
        band: Band::LIST,
        branch: Branch::Account,
        units_max: ceiling,
        deadline_ms: 3_600_000,
        class: Class::Interactive,
        trust: Trust::Any,
        cancel_after_ms: None,
        repeat_after_ms: None,
        submitted: Vec::new(),
    }
}

fn draw(rng: &mut Rng, accounts: usize, storm_ms: u64) -> Plan {
    let deadline_ms = match rng.between(0, 9) {
        0 => rng.between(0, 300),
        1..=3 => rng.between(300, 5_000),
        // Longer than a worker may keep silent.
        9 => rng.between(30_000, DEADLINE_MS),
        _ => rng.between(5_000, 25_000),
    };
    let name = if rng.per_cent(25) { "fft" } else { "chat" };
    let model = match rng.between(0, 9) {
        _ if name == "fft" => None,
        0 | 1 => Some("small"),
        2 => Some("large"),
        _ => None,
    };
    let most = match rng.between(0, 9) {
        0..=3 => 1,
        4..=6 => 2,
        7 => 5,
        _ => 10,
    };
    Plan {
        at: rng.between(200, storm_ms),
        account: rng.index(accounts),
        durable: rng.per_cent(50),
        restart: rng.per_cent(30),
        key: None,
        name,
        model,
        ceiling: if rng.per_cent(10) { 0 } else { rng.between(1, 40) },
        band: Band::of_ceiling(Amount::from_u64(most), LIST),
        branch: if rng.per_cent(50) {
            Branch::Account
        } else {
            Branch::Network(NetworkKey([u8::try_from(rng.between(1, 3)).unwrap_or_default(); 16]))
        },
        units_max: rng.between(1, 20),
        deadline_ms,
        class: if rng.per_cent(30) { Class::Batch } else { Class::Interactive },
        trust: match rng.between(0, 9) {
            0 => Trust::Own,
            1 => Trust::Proven,
            _ => Trust::Any,
        },
        cancel_after_ms: rng.per_cent(20).then(|| rng.between(0, 4_000)),
        // Now and then so late that only the log remembers it.
        repeat_after_ms: rng.per_cent(15).then(|| {
            let late = rng.per_cent(20);
            if late { rng.between(60_000, 80_000) } else { rng.between(0, 8_000) }
        }),
        submitted: Vec::new(),
    }
}
