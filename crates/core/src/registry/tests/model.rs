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
    /// Results of so many attempts in a row.
    Served {
        n: u8,
        from: u64,
        count: u64,
        good: bool,
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
        1 => n.clone().prop_map(|n| Op::Remove { n }),
        6 => (n.clone(), session, 0..1_100_u32)
            .prop_map(|(n, session, slots)| Op::Attach { n, session, slots }),
        4 => at.clone().prop_map(|(n, session)| Op::Heard { n, session }),
        2 => at.clone().prop_map(|(n, session)| Op::Renew { n, session }),
        2 => at.prop_map(|(n, session)| Op::Detach { n, session }),
        5 => (n, 0..30_u64, 1..22_u64, prop::bool::weighted(0.8))
            .prop_map(|(n, from, count, good)| Op::Served { n, from, count, good }),
        6 => (ms, any::<bool>()).prop_map(|(ms, tick)| Op::Wait { ms, tick }),
        1 => Just(Op::Restart),
    ]
}

#[derive(Clone, Debug)]
struct ModelWorker {
    n: u8,
    of: u8,
    by: u8,
    banned: bool,
    proven: bool,
    /// (session, slots, last heard)
    session: Option<(u64, u32, u64)>,
    newest: Option<u64>,
    good: Vec<u64>,
}

#[derive(Default)]
struct Model {
    now: u64,
    /// (token, owner, expires)
    tokens: Vec<(u8, u8, u64)>,
    workers: Vec<ModelWorker>,
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

    fn issue(&mut self, token: u8, of: u8) -> Answer {
        let now = self.now;
        let live = self.tokens.iter().find(|(known, _, expires)| *known == token && *expires > now);
        match live {
            Some((_, holder, _)) if *holder == of => return OK,
            Some(_) => return no(Rejection::IdTaken),
            None => {}
        }
        self.tokens.retain(|(_, _, expires)| *expires > now);
        self.tokens.push((token, of, now + limits::TOKEN_LIFE_MS));
        OK
    }

    fn enrol(&mut self, token: u8, n: u8) -> Answer {
        let now = self.now;
        let live = self.tokens.iter().find(|(known, _, expires)| *known == token && *expires > now);
        let of = live.map(|(_, of, _)| *of);
        if let Some(worker) = self.get(n) {
            if of.is_some_and(|of| of != worker.of) {
                return no(Rejection::IdTaken);
            }
            if worker.banned {
                return no(Rejection::WorkerBanned);
            }
            if worker.by == token {
                return OK;
            }
        }
        let Some(of) = of else { return no(Rejection::TokenInvalid) };
        self.tokens.retain(|(known, _, _)| *known != token);
        match self.get(n) {
            Some(worker) => worker.by = token,
            None => self.workers.push(ModelWorker {
                n,
                of,
                by: token,
                banned: false,
                proven: of == 0,
                session: None,
                newest: None,
                good: Vec::new(),
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

    fn remove(&mut self, n: u8) -> Answer {
        if self.get(n).is_none() {
            return no(Rejection::UnknownWorker);
        }
        let answer = self.lose(n, When::Durable, CloseReason::Removed);
        self.workers.retain(|worker| worker.n != n);
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
        if slots > 1_024 {
            return no(Rejection::LimitReached { what: Limited::Slots, limit: 1_024 });
        }
        let (_, mut messages, effects) = match current {
            Some(current) if current != session => self.lose(n, When::Now, CloseReason::Replaced),
            _ => OK,
        };
        messages.push(Message::Slots(told(&worker, session, slots, vec![claim(n)])));
        let worker = self.get(n).unwrap();
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

    fn served(&mut self, n: u8, attempt: u64, good: bool) -> Answer {
        let Some(worker) = self.get(n).filter(|worker| !worker.proven) else { return OK };
        if !good {
            worker.good.clear();
        } else if !worker.good.contains(&attempt) {
            worker.good.push(attempt);
        }
        if worker.good.len() < 20 {
            return OK;
        }
        worker.proven = true;
        worker.good.clear();
        let worker = worker.clone();
        let session = worker.session;
        let slots = session.map(|(session, slots, _)| told(&worker, session, slots, Vec::new()));
        (Ok(()), slots.map(Message::Slots).into_iter().collect(), Vec::new())
    }

    fn tick(&mut self) -> Answer {
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
        answer
    }

    fn agrees(&self, registry: &Registry) {
        assert_eq!(registry.workers_count(), self.workers.len());
        assert_eq!(registry.tokens_count(), self.tokens.len());
        let sessions = self.workers.iter().filter_map(|worker| worker.session);
        assert_eq!(registry.sessions_count(), sessions.clone().count());
        let next = sessions.map(|(_, _, heard)| Time(heard + limits::SESSION_SILENCE_MS)).min();
        assert_eq!(registry.next_timeout(), next);
        for known in &self.workers {
            let view = registry.worker(worker(known.n)).unwrap();
            let Enrolled { owner: of, token: by, own, banned, proven, .. } = *view.enrolled;
            assert_eq!((of, by, own), (owner(known.of), token(known.by), known.of == 0));
            assert_eq!((banned, proven), (known.banned, known.proven));
            assert_eq!(view.good_results, known.good.len());
            let session = view.slots.map(|slots| slots.session.0);
            assert_eq!(session, known.session.map(|(session, _, _)| session));
            assert_eq!(view.heard, known.session.map(|(_, _, heard)| Time(heard)));
        }
    }
}

/// What the router is told of a session.
fn told(worker: &ModelWorker, session: u64, count: u32, leases: Vec<LeaseClaim>) -> Slots {
    let (own, proven) = (worker.of == 0, worker.proven);
    Slots { owner: owner(worker.of), own, proven, leases, ..slots(worker.n, session, count) }
}

/// One step of both; what each answers must be the same.
fn step(bench: &mut Bench, model: &mut Model, op: &Op) {
    let (outcomes, expected) = match *op {
        Op::Issue { token, of } => (bench.issue(token, of), model.issue(token, of)),
        Op::Enrol { token, n } => (bench.enrol(token, n), model.enrol(token, n)),
        Op::Ban { n, banned } => (bench.ban(n, banned), model.ban(n, banned)),
        Op::Remove { n } => (bench.remove(n), model.remove(n)),
        Op::Attach { n, session, slots: count } => {
            (bench.attach(slots(n, session, count)), model.attach(n, session, count))
        }
        Op::Heard { n, session } => {
            let expected = (model.alive(n, session), Vec::new(), Vec::new());
            (bench.heard(n, session), expected)
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
        Op::Served { n, from, count, good } => {
            for attempt in from..from + count - 1 {
                let (outcomes, expected) =
                    (bench.served(n, attempt, good), model.served(n, attempt, good));
                assert_eq!(outcomes.messages, expected.1, "{op:?}");
            }
            let attempt = from + count - 1;
            (bench.served(n, attempt, good), model.served(n, attempt, good))
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
                (worker.session, worker.newest) = (None, None);
                worker.good.clear();
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
