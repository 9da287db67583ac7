//! Guests take every token by which a worker is enrolled.

use super::*;

pub(super) const ATTACK: Attack = Attack {
    name: "tokens",
    wish: Wish::Small,
    also: Some(Also { name: "a token of its own, and a worker by it", once: enrols }),
    keeps_workers: true,
    run,
};

const HANDS: u32 = 4;
/// Of each hand.
const GUESTS: u32 = 20;
/// More than an account may have.
const TOKENS: usize = 17;

fn run(field: &Field, signal: &Signal) -> Tally {
    crew(field, signal, field.networks, HANDS, |hand| {
        let mut tally = Tally::default();
        let guests: Vec<Visitor> =
            (0..GUESTS).filter_map(|number| guest(hand, number, &mut tally)).collect();
        let mut stands = false;
        while !hand.is_over() {
            for visitor in &guests {
                for _ in 0..TOKENS {
                    let reply = worker::token(visitor);
                    let refused = !reply.as_ref().is_ok_and(Reply::is_good);
                    tally.count(&reply);
                    if refused || hand.is_over() {
                        break;
                    }
                }
            }
            if !stands {
                hand.stands();
                stands = true;
            }
            hand.pause(100);
        }
        tally
    })
}

/// The victim enrols a worker.
pub(super) fn enrols(_: &Field, victim: &Visitor, number: u32) -> Result<(), String> {
    let key = worker::key(u32::MAX, 0, number);
    match worker::enrol(victim, &key) {
        Ok(reply) if reply.is_good() => Ok(()),
        Ok(reply) => Err(reply.code()),
        Err(error) => Err(name(&error)),
    }
}
