//! Random commands and messages, repeated, out of order and about unknown things, against a model
//! that shares no code with the registry: plain lists, no indexes.

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Issue {
        token: u8,
        of: u8,
    },
    Enrol {
        token: u8,
        n: u8,
    },
    Ban {
        n: u8,
        banned: bool,
    },
    OwnerBanned {
        of: u8,
        banned: bool,
    },
    Remove {
        n: u8,
    },
    Attach {
        n: u8,
        session: u64,
        slots: u32,
    },
    Heard {
        n: u8,
        session: u64,
    },
    Renew {
        n: u8,
        session: u64,
    },
    Detach {
        n: u8,
        session: u64,
    },
    /// So many good results; before them one that is not, if so said.
    Worked {
        n: u8,
        bad: bool,
        good: u64,
    },
    Vouch {
        n: u8,
        vouched: bool,
    },
    Canary {
        n: u8,
        right: bool,
    },
    Wait {
        ms: u64,
        tick: bool,
    },
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let (n, session) = (0..4_u8, 0..6_u64);
    let at = (n.clone(), session.clone());
    let ms = prop_oneof![8 => 0..2_000_u64, 1 => 0..5_000_u64, 1 => 0..2 * limits::TOKEN_LIFE_MS];
    prop_oneof![
        3 => (0..8_u8, 0..3_u8).prop_map(|(token, of)| Op::Issue { token, of }),
        4 => (0..8_u8, n.clone()).prop_map(|(token, n)| Op::Enrol { token, n }),
        1 => (n.clone(), prop::bool::weighted(0.4)).prop_map(|(n, banned)| Op::Ban { n, banned }),
        1 => (0..3_u8, prop::bool::weighted(0.4))
            .prop_map(|(of, banned)| Op::OwnerBanned { of, banned }),
        1 => n.clone().prop_map(|n| Op::Remove { n }),
        6 => (n.clone(), session, 0..1_100_u32)
            .prop_map(|(n, session, slots)| Op::Attach { n, session, slots }),
        4 => at.clone().prop_map(|(n, session)| Op::Heard { n, session }),
        2 => at.clone().prop_map(|(n, session)| Op::Renew { n, session }),
        2 => at.prop_map(|(n, session)| Op::Detach { n, session }),
        5 => (n.clone(), prop::bool::weighted(0.2), 1..22_u64)
            .prop_map(|(n, bad, good)| Op::Worked { n, bad, good }),
        1 => (n.clone(), prop::bool::weighted(0.7))
            .prop_map(|(n, vouched)| Op::Vouch { n, vouched }),
        1 => (n, prop::bool::weighted(0.9)).prop_map(|(n, right)| Op::Canary { n, right }),
        6 => (ms, any::<bool>()).prop_map(|(ms, tick)| Op::Wait { ms, tick }),
        1 => Just(Op::Restart),
    ]
}

#[derive(Clone, Debug)]
struct ModelWorker {
    n: u8,
    of: u8,
    by: u8,
    /// When that token's time is over.
    until: u64,
    banned: bool,
    /// Until then, by the sysop's word.
    vouched: Option<u64>,
    right: u32,
    earned: u32,
    row: u32,
    seen: u32,
    /// (session, slots, last heard)
    session: Option<(u64, u32, u64)>,
    newest: Option<u64>,
}

#[derive(Default)]
struct Model {
    now: u64,
    /// (token, owner, expires)
    tokens: Vec<(u8, u8, u64)>,
    /// Expiry of each token by which somebody was enrolled who is not, or by a later one.
    void: Vec<(u8, u64)>,
    banned: Vec<u8>,
    workers: Vec<ModelWorker>,
    /// The next one's number.
    attempt: u64,
    /// The last day, and how many there were.
    day: u64,
    days: u32,
}

type Answer = (Result<(), Rejection>, Vec<Message>, Vec<(When, Effect)>);

const OK: Answer = (Ok(()), Vec::new(), Vec::new());

fn no(rejection: Rejection) -> Answer {
    (Err(rejection), Vec::new(), Vec::new())
}

impl Model {
    fn get(&mut self, n: u8) -> Option<&mut ModelWorker> {
        self.workers.iter_mut().find(|worker| worker.n == n)
    }

    /// As the edge does it: the latest of a number is the one that is sent.
    fn issue(&mut self, token: u8, of: u8) {
        self.tokens.retain(|(known, _, _)| *known != token);
        self.tokens.push((token, of, self.now + limits::TOKEN_LIFE_MS));
    }

    fn enrol(&mut self, token: u8, n: u8) -> Answer {
        let (_, of, expires) = *self.tokens.iter().find(|(known, _, _)| *known == token).unwrap();
        if let Some(worker) = self.get(n) {
            if of != worker.of {
                return no(Rejection::IdTaken);
            }
            if worker.banned {
                return no(Rejection::WorkerBanned);
            }
            if worker.by == token {
                return OK;
            }
        }
        let used = self.workers.iter().any(|worker| (worker.by, worker.of) == (token, of));
        let void = self.void.iter().any(|(whose, until)| *whose == of && expires <= *until);
        if expires <= self.now || used || void {
            return no(Rejection::TokenInvalid);
        }
        if self.banned.contains(&of) {
            return no(Rejection::AccountBanned);
        }
        if let Some(before) = self.get(n).map(|worker| (of, worker.until)) {
            self.void.push(before);
        }
        let days = self.days;
        match self.get(n) {
            Some(worker) => (worker.by, worker.until, worker.seen) = (token, expires, days),
            None => self.workers.push(ModelWorker {
                n,
                of,
                by: token,
                until: expires,
                banned: false,
                vouched: None,
                right: 0,
                earned: 2,
                row: 0,
                seen: days,
                session: None,
                newest: None,
            }),
        }
        OK
    }

    /// Ends a session, if there is one.
    fn lose(&mut self, n: u8, when: When, why: CloseReason) -> Answer {
        match self.get(n).and_then(|worker| worker.session.take()) {
            Some((session, _, _)) => {
                (Ok(()), vec![lost(n, session)], vec![close(when, n, session, why)])
            }
            None => OK,
        }
    }

    fn ban(&mut self, n: u8, banned: bool) -> Answer {
        match self.get(n) {
            None => no(Rejection::UnknownWorker),
            Some(worker) => {
                worker.banned = banned;
                if banned { self.lose(n, When::Durable, CloseReason::Banned) } else { OK }
            }
        }
    }

    fn owner_banned(&mut self, of: u8, banned: bool) -> Answer {
        let mut answer = OK;
        let was = self.banned.contains(&of);
        self.banned.retain(|other| *other != of);
        if !banned {
            return answer;
        }
        self.banned.push(of);
        let mut owned: Vec<u8> =
            self.workers.iter().filter(|worker| worker.of == of).map(|worker| worker.n).collect();
        owned.sort_unstable();
        for n in owned.into_iter().filter(|_| !was) {
            let (_, messages, effects) = self.lose(n, When::Durable, CloseReason::Banned);
            answer.1.extend(messages);
            answer.2.extend(effects);
        }
        answer
    }

    fn remove(&mut self, n: u8) -> Answer {
        if self.get(n).is_none() {
            return no(Rejection::UnknownWorker);
        }
        let mut answer = self.lose(n, When::Durable, CloseReason::Removed);
        let before = self.get(n).map(|worker| (worker.of, worker.until));
        self.void.extend(before);
        self.workers.retain(|worker| worker.n != n);
        answer.2.insert(0, (When::Durable, Effect::WorkerForgotten { worker: worker(n) }));
        answer
    }

    fn attach(&mut self, n: u8, session: u64, slots: u32) -> Answer {
        let now = self.now;
        let Some(worker) = self.get(n).cloned() else { return no(Rejection::UnknownWorker) };
        let current = worker.session.map(|(current, _, _)| current);
        let fresh = worker.newest.is_none_or(|newest| session > newest);
        if current != Some(session) && !fresh {
            return no(Rejection::UnknownWorker);
        }
        if worker.banned {
            return no(Rejection::WorkerBanned);
        }
        if self.banned.contains(&worker.of) {
            return no(Rejection::AccountBanned);
        }
        if slots > 1_024 {
            return no(Rejection::LimitReached { what: Limited::Slots, limit: 1_024 });
        }
        let (_, _, effects) = match current {
            Some(current) if current != session => self.lose(n, When::Now, CloseReason::Replaced),
            _ => OK,
        };
        let messages = vec![told(&worker, session, slots, vec![claim(n)])];
        self.begin_day();
        let days = self.days;
        let worker = self.get(n).unwrap();
        worker.seen = days;
        (worker.session, worker.newest) = (Some((session, slots, now)), Some(session));
        (Ok(()), messages, effects)
    }

    fn alive(&mut self, n: u8, session: u64) -> Result<(), Rejection> {
        let now = self.now;
        match self.get(n).and_then(|worker| worker.session.as_mut()) {
            Some((current, _, heard)) if *current == session => {
                *heard = now;
                Ok(())
            }
            _ => Err(Rejection::UnknownWorker),
        }
    }

    fn good(&mut self, n: u8) -> Answer {
        let Some(worker) = self.get(n) else { return OK };
        worker.row += 1;
        let offered = worker.session.map_or(0, |(_, slots, _)| slots);
        if worker.of == 0 || worker.row < worker.earned || offered <= worker.earned {
            return OK;
        }
        (worker.earned, worker.row) = (worker.earned * 2, 0);
        (Ok(()), told_again(worker).into_iter().collect(), Vec::new())
    }

    fn bad(&mut self, n: u8) -> Answer {
        if let Some(worker) = self.get(n) {
            worker.row = 0;
        }
        OK
    }

    fn vouch(&mut self, n: u8, vouched: bool) -> Answer {
        let until = self.now + limits::VOUCH_MS;
        let Some(worker) = self.get(n) else { return no(Rejection::UnknownWorker) };
        if !vouched && worker.vouched.is_none() {
            return OK;
        }
        worker.vouched = vouched.then_some(until);
        worker.right = if vouched { worker.right } else { 0 };
        (Ok(()), told_again(worker).into_iter().collect(), Vec::new())
    }

    fn canary(&mut self, n: u8, right: bool) -> Answer {
        let Some(worker) = self.get(n) else { return no(Rejection::UnknownWorker) };
        worker.right = if right { worker.right + 1 } else { 0 };
        if right { self.good(n) } else { self.bad(n) }
    }

    fn begin_day(&mut self) {
        let day = self.now / (24 * 60 * 60 * 1000);
        if day > self.day {
            (self.day, self.days) = (day, self.days + 1);
            let days = self.days;
            let here = self.workers.iter_mut().filter(|worker| worker.session.is_some());
            here.for_each(|worker| worker.seen = days);
        }
    }

    fn tick(&mut self) -> Answer {
        self.begin_day();
        let now = self.now;
        let silent = |worker: &&ModelWorker| {
            worker.session.is_some_and(|(_, _, heard)| heard + limits::SESSION_SILENCE_MS <= now)
        };
        let mut gone: Vec<_> = self.workers.iter().filter(silent).cloned().collect();
        gone.sort_by_key(|worker| (worker.session.unwrap().2, worker.n));
        let mut answer = OK;
        for worker in gone {
            let (_, messages, effects) = self.lose(worker.n, When::Now, CloseReason::Silent);
            answer.1.extend(messages);
            answer.2.extend(effects);
        }
        for worker in &mut self.workers {
            if worker.vouched.is_some_and(|until| until <= now) {
                (worker.vouched, worker.right) = (None, 0);
                answer.1.splice(0..0, told_again(worker));
            }
        }
        answer
    }

    fn agrees(&self, registry: &Registry) {
        assert_eq!(registry.workers_count(), self.workers.len());
        let sessions = self.workers.iter().filter_map(|worker| worker.session);
        assert_eq!(registry.sessions_count(), sessions.clone().count());
        let silences = sessions.map(|(_, _, heard)| heard + limits::SESSION_SILENCE_MS);
        let vouched = self.workers.iter().filter_map(|worker| worker.vouched);
        let strangers = self.workers.iter().any(|worker| worker.of != 0);
        let day = strangers.then_some((self.day + 1) * 24 * 60 * 60 * 1000);
        assert_eq!(registry.next_timeout(), silences.chain(vouched).chain(day).min().map(Time));
        for known in &self.workers {
            let view = registry.worker(worker(known.n)).unwrap();
            let Enrolled { owner: of, token: by, own, banned, .. } = *view.enrolled;
            assert_eq!((of, by, own), (owner(known.of), token(known.by), known.of == 0));
            assert_eq!(banned, known.banned);
            assert_eq!(view.enrolled.seen, known.seen);
            let earned = view.enrolled.earned.values().next().copied().unwrap_or_default();
            assert_eq!((earned.slots, earned.canaries.right), (known.earned, known.right));
            assert_eq!(earned.proven.and_then(|proven| proven.until), known.vouched.map(Time));
            let session = view.slots.map(|slots| slots.session.0);
            assert_eq!(session, known.session.map(|(session, _, _)| session));
            assert_eq!(view.heard, known.session.map(|(_, _, heard)| Time(heard)));
        }
    }
}

/// What the router is told of a session.
fn told(worker: &ModelWorker, session: u64, count: u32, leases: Vec<LeaseClaim>) -> Message {
    let own = worker.of == 0;
    let slots = Slots {
        owner: owner(worker.of),
        own,
        proven: own,
        leases,
        ..slots(worker.n, session, count)
    };
    let standing = Standing {
        kind: echo(),
        proven: own || worker.vouched.is_some(),
        slots: if own { u32::MAX } else { worker.earned },
        ejected: false,
    };
    Message::Offered(Offered { slots, standings: vec![standing] })
}

/// The leases it once named spoke of that moment only.
fn told_again(worker: &ModelWorker) -> Option<Message> {
    worker.session.map(|(session, slots, _)| told(worker, session, slots, Vec::new()))
}

fn issue(bench: &mut Bench, model: &mut Model, token: u8, of: u8) {
    bench.issue(token, of);
    model.issue(token, of);
}

/// One step of both; what each answers must be the same.
fn step(bench: &mut Bench, model: &mut Model, op: &Op) {
    let (outcomes, expected) = match *op {
        Op::Issue { token, of } => return issue(bench, model, token, of),
        Op::Enrol { token, .. } if !bench.tokens.contains_key(&token) => return,
        Op::Enrol { token, n } => (bench.enrol(token, n), model.enrol(token, n)),
        Op::Ban { n, banned } => (bench.ban(n, banned), model.ban(n, banned)),
        Op::OwnerBanned { of, banned } => {
            (bench.owner_banned(of, banned), model.owner_banned(of, banned))
        }
        Op::Remove { n } => (bench.remove(n), model.remove(n)),
        Op::Attach { n, session, slots: count } => {
            (bench.attach(slots(n, session, count)), model.attach(n, session, count))
        }
        Op::Heard { n, session } => {
            (bench.heard(n, session), (model.alive(n, session), Vec::new(), Vec::new()))
        }
        Op::Renew { n, session } => {
            let alive = model.alive(n, session);
            let (worker, leases) = (worker(n), vec![claim(7)]);
            let renew = Message::Renew { worker, session: SessionId(session), leases };
            let passed_on = if alive.is_ok() { vec![renew] } else { Vec::new() };
            (bench.renew(n, session, vec![claim(7)]), (alive, passed_on, Vec::new()))
        }
        Op::Detach { n, session } => {
            let expected = match model.alive(n, session) {
                // The connection is closed already: nothing to close.
                Ok(()) => (Ok(()), model.lose(n, When::Now, CloseReason::Silent).1, Vec::new()),
                Err(rejection) => no(rejection),
            };
            (bench.detach(n, session), expected)
        }
        Op::Worked { n, bad, good } => {
            let mut attempt = model.attempt;
            model.attempt += good + 1;
            if bad {
                let outcomes = bench.worked(n, attempt, 1, Mark::Bad);
                assert_eq!(outcomes.messages, model.bad(n).1, "{op:?}");
            }
            for _ in 1..good {
                attempt += 1;
                let outcomes = bench.worked(n, attempt, 1, Mark::Good);
                assert_eq!(outcomes.messages, model.good(n).1, "{op:?}");
            }
            (bench.worked(n, attempt + 1, 1, Mark::Good), model.good(n))
        }
        Op::Vouch { n, vouched } => (bench.vouch(n, vouched), model.vouch(n, vouched)),
        Op::Canary { n, right } => {
            // Never three wrong ones in a row: who is ejected is the record's own model's matter.
            if !right {
                model.attempt += 1;
                let outcomes = bench.worked(n, model.attempt, 1, Mark::Good);
                assert_eq!(outcomes.messages, model.good(n).1, "{op:?}");
            }
            (bench.canary(n, right), model.canary(n, right))
        }
        Op::Wait { ms, tick } => {
            bench.now = bench.now.after_ms(ms);
            model.now = bench.now.0;
            if !tick {
                return;
            }
            (bench.tick(), model.tick())
        }
        Op::Restart => {
            bench.restart();
            for worker in &mut model.workers {
                (worker.session, worker.newest, worker.row) = (None, None, 0);
            }
            return;
        }
    };
    assert_eq!((outcomes.result, outcomes.messages, outcomes.effects), expected, "{op:?}");
    model.agrees(&bench.registry);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_registry_is_the_model(ops in prop::collection::vec(op(), 1..150)) {
        let mut bench = Bench::new();
        let mut model = Model { now: bench.now.0, ..Model::default() };
        for op in &ops {
            step(&mut bench, &mut model, op);
        }
    }
}
