//! Answers that nobody reads: durable ones, which a realm keeps for a day, and pieces, which it keeps
//! for ten minutes, each as large as it may be.

use super::*;

pub(super) const ATTACK: Attack =
    Attack { name: "results", wish: Wish::Large, also: None, keeps_workers: false, run };

const HANDS: u32 = 4;
/// Of a megabyte each.
const PIECES: [(u32, bool); 2] = [(15, true), (60, false)];
const PIECE_BYTES: usize = 1_000_000;

fn run(field: &Field, signal: &Signal) -> Tally {
    crew(field, signal, field.networks, HANDS, |hand| {
        let mut tally = Tally::default();
        let visitor = guest(hand, 0, &mut tally);
        let Some(visitor) = visitor else {
            hand.stands();
            return tally;
        };
        let text = "x".repeat(PIECE_BYTES);
        let bodies = PIECES.map(|(chunks, durable)| {
            format!(
                r#"{{"intent":"echo","durable":{durable},"stream":true,"data":{{"chunks":{chunks},"text":"{text}"}}}}"#
            )
        });
        let mut flood = Flood::new(&visitor);
        let mut round = 0;
        while !hand.is_over() {
            let body = &bodies[round % bodies.len()];
            let reply = flood.post("/v1/intents", body.as_bytes());
            let refused = !reply.as_ref().is_ok_and(Reply::is_good);
            tally.count(&reply);
            tally.bytes += body.len() as u64;
            round += 1;
            if round == 4 {
                hand.stands();
            }
            hand.pause(if refused { 200 } else { 20 });
        }
        tally
    })
}
