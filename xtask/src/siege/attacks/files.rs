//! Answers take a file each, and with it a descriptor, for as long as they are kept: first many small
//! ones fill the memory that all answers share, and from then on what is a little larger is spilled.

use super::*;

pub(super) const ATTACK: Attack =
    Attack { name: "files", wish: Wish::Small, also: None, keeps_workers: false, run };

const HANDS: u32 = 4;
/// Of 256 small ones, all hands together: some 60 MiB as a realm counts them.
const SMALL_BATCHES: u32 = 130;
/// More than stays of one when memory is used up.
const ANSWER_BYTES: usize = 20_000;

fn run(field: &Field, signal: &Signal) -> Tally {
    crew(field, signal, field.networks, HANDS, |hand| {
        let mut tally = Tally::default();
        let visitor = guest(hand, 0, &mut tally);
        let Some(visitor) = visitor else {
            hand.stands();
            return tally;
        };
        let mut flood = Flood::new(&visitor);
        let small = batch(256, |_| r#"{"intent":"echo","durable":false,"data":1}"#.to_owned());
        for _ in 0..SMALL_BATCHES.div_ceil(field.networks * HANDS) {
            tally.count_batch(&flood.post("/v1/intents/batch", small.as_bytes()));
        }
        hand.stands();
        let text = "x".repeat(ANSWER_BYTES);
        let large = batch(32, |_| {
            format!(r#"{{"intent":"echo","durable":false,"data":{{"text":"{text}"}}}}"#)
        });
        while !hand.is_over() {
            tally.count_batch(&flood.post("/v1/intents/batch", large.as_bytes()));
            tally.bytes += large.len() as u64;
        }
        tally
    })
}
