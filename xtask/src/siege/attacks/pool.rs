//! Thirteen guests of each network ask for the same thing until the queue takes no more.

use super::*;

pub(super) const ATTACK: Attack =
    Attack { name: "pool", wish: Wish::Small, also: None, keeps_workers: false, run };

const GUESTS: u32 = 13;
const ITEM: &str =
    r#"{"intent":"echo","durable":false,"deadline_ms":60000,"data":{"delayms":500}}"#;

fn run(field: &Field, signal: &Signal) -> Tally {
    crew(field, signal, field.networks, GUESTS, |hand| {
        let mut tally = Tally::default();
        let visitor = guest(hand, 0, &mut tally);
        let Some(visitor) = visitor else {
            hand.stands();
            return tally;
        };
        let (mut flood, body) = (Flood::new(&visitor), batch(256, |_| ITEM.to_owned()));
        let mut rounds = 0;
        while !hand.is_over() {
            tally.count_batch(&flood.post("/v1/intents/batch", body.as_bytes()));
            rounds += 1;
            if rounds == 4 {
                hand.stands();
            }
            hand.pause(50);
        }
        tally
    })
}
