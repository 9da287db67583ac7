//! Many workers, each with as many invented models as it may offer, and one intent for each model: a
//! pool each, which nobody ever serves.

use super::*;

pub(super) const ATTACK: Attack =
    Attack { name: "workers", wish: Wish::Small, also: None, keeps_workers: true, run };

const HANDS: u32 = 4;
/// Of one guest.
const WORKERS: u32 = 16;
const MODELS: u32 = 32;

fn run(field: &Field, signal: &Signal) -> Tally {
    crew(field, signal, field.networks, HANDS, |hand| {
        let mut tally = Tally::default();
        let visitor = guest(hand, 0, &mut tally);
        let Some(visitor) = visitor else {
            hand.stands();
            return tally;
        };
        let mut sessions = Vec::new();
        for count in 0..WORKERS {
            match join(hand, &visitor, count) {
                Ok(session) => {
                    tally.taken += 1;
                    sessions.push(session);
                }
                Err(error) => tally.refuse(format!("worker: {}", name(&error))),
            }
            sessions.retain_mut(worker::beat);
        }
        let mut flood = Flood::new(&visitor);
        let mut round = 0;
        while !hand.is_over() {
            // A worker's models at a time, so that its beat is not late.
            let items = batch(MODELS as usize, |model| {
                let count = round % WORKERS;
                let model = format!("m{model}-{}@{}", of(hand, count), visitor.account);
                format!(
                    r#"{{"intent":"embed","durable":false,"deadline_ms":60000,"data":{{"model":"{model}","input":"x"}}}}"#
                )
            });
            tally.count_batch(&flood.post("/v1/intents/batch", items.as_bytes()));
            round += 1;
            if round == WORKERS {
                hand.stands();
            }
            let connected = sessions.len();
            sessions.retain_mut(worker::beat);
            for _ in sessions.len()..connected {
                tally.refuse("session lost".to_owned());
            }
            hand.pause(200);
        }
        tally
    })
}

fn of(hand: &Hand<'_>, count: u32) -> String {
    format!("{}-{}-{count}", hand.network, hand.number)
}

fn join(hand: &Hand<'_>, visitor: &Visitor, count: u32) -> io::Result<Socket> {
    let key = worker::key(hand.network, hand.number, count);
    worker::enrol(visitor, &key)?.text("worker")?;
    worker::session(&visitor.door, &key, &worker::invented("embed", MODELS, &of(hand, count)))
}
