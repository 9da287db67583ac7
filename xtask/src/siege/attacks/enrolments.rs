//! Thousands of workers, enrolled as fast as it goes, of as many guests as there may be.

use super::*;

pub(super) const ATTACK: Attack = Attack {
    name: "enrolments",
    wish: Wish::Small,
    also: Some(Also { name: "a worker of its own", once: super::tokens::enrols }),
    keeps_workers: true,
    run,
};

const HANDS: u32 = 4;
/// A guest's share is used up sooner or later; another one's is its own.
const REFUSALS: u32 = 3;

fn run(field: &Field, signal: &Signal) -> Tally {
    crew(field, signal, field.networks, HANDS, |hand| {
        let mut tally = Tally::default();
        let (mut count, mut stands) = (0, false);
        for number in 0.. {
            if hand.is_over() {
                break;
            }
            let visitor = guest(hand, number, &mut tally);
            if let Some(visitor) = visitor {
                many(hand, &visitor, &mut count, &mut tally);
            } else {
                hand.pause(500);
            }
            if !stands {
                hand.stands();
                stands = true;
            }
        }
        tally
    })
}

fn many(hand: &Hand<'_>, visitor: &Visitor, count: &mut u32, tally: &mut Tally) {
    let mut refused = 0;
    while refused < REFUSALS && !hand.is_over() {
        *count += 1;
        let reply = worker::enrol(visitor, &worker::key(hand.network, hand.number, *count));
        if !reply.as_ref().is_ok_and(Reply::is_good) {
            refused += 1;
        }
        tally.count(&reply);
        if refused == 0 && (*count).is_multiple_of(200) {
            // Stands well before it has all that it may have.
            return;
        }
    }
}
