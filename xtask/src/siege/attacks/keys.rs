//! Work that is over at once, each piece with a key that the realm has to remember.

use super::*;

pub(super) const ATTACK: Attack =
    Attack { name: "keys", wish: Wish::Keyed, also: None, keeps_workers: false, run };

const HANDS: u32 = 4;

fn run(field: &Field, signal: &Signal) -> Tally {
    crew(field, signal, field.networks, HANDS, |hand| {
        let mut tally = Tally::default();
        let visitor = guest(hand, 0, &mut tally);
        let Some(visitor) = visitor else {
            hand.stands();
            return tally;
        };
        let mut flood = Flood::new(&visitor);
        let mut round = 0;
        while !hand.is_over() {
            let body = batch(256, |item| {
                format!(r#"{{"intent":"echo","durable":false,"id":"k-{round}-{item}","data":1}}"#)
            });
            tally.count_batch(&flood.post("/v1/intents/batch", body.as_bytes()));
            round += 1;
            if round == 4 {
                hand.stands();
            }
        }
        tally
    })
}
