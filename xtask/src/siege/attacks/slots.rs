//! Work that only waits holds every slot there is.

use super::*;

pub(super) const ATTACK: Attack =
    Attack { name: "slots", wish: Wish::Small, also: None, keeps_workers: false, run };

const HANDS: u32 = 4;
const ITEM: &str =
    r#"{"intent":"echo","durable":false,"deadline_ms":40000,"data":{"delayms":20000}}"#;

fn run(field: &Field, signal: &Signal) -> Tally {
    crew(field, signal, field.networks, HANDS, |hand| {
        let mut tally = Tally::default();
        let visitor = guest(hand, 0, &mut tally);
        let Some(visitor) = visitor else {
            hand.stands();
            return tally;
        };
        let (mut flood, body) = (Flood::new(&visitor), batch(64, |_| ITEM.to_owned()));
        let mut rounds = 0;
        while !hand.is_over() {
            tally.count_batch(&flood.post("/v1/intents/batch", body.as_bytes()));
            rounds += 1;
            if rounds == 4 {
                hand.stands();
            }
            hand.pause(200);
        }
        tally
    })
}
