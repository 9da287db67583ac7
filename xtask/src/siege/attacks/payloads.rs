//! A gigabyte of payloads within seconds: for models that their senders invented and that never answer,
//! so that no slot of anybody is taken and no payload ever given back.

use std::time::{Duration, Instant};

use super::*;

pub(super) const ATTACK: Attack =
    Attack { name: "payloads", wish: Wish::Large, also: None, keeps_workers: true, run };

const HANDS: u32 = 8;
/// Nearly the most that `embed` takes.
const BYTES: usize = 4_000_000;
/// Whose worker is silent for longer has none.
const BEAT: Duration = Duration::from_millis(800);

fn run(field: &Field, signal: &Signal) -> Tally {
    crew(field, signal, field.networks, HANDS, |hand| {
        let mut tally = Tally::default();
        match owner(hand, &mut tally) {
            Ok((visitor, session)) => fill(hand, &visitor, session, &mut tally),
            Err(error) => tally.refuse(format!("worker: {}", name(&error))),
        }
        tally
    })
}

/// A guest with a worker of its own.
fn owner(hand: &Hand<'_>, tally: &mut Tally) -> io::Result<(Visitor, Socket)> {
    let visitor = guest(hand, 0, tally);
    let Some(visitor) = visitor else {
        hand.stands();
        return Err(io::Error::other("no guest"));
    };
    let key = worker::key(hand.network, hand.number, 0);
    let session = worker::enrol(&visitor, &key).and_then(|reply| {
        reply.text("worker")?;
        worker::session(&visitor.door, &key, &worker::invented("embed", 1, &own_name(hand)))
    });
    if session.is_err() {
        hand.stands();
    }
    Ok((visitor, session?))
}

fn own_name(hand: &Hand<'_>) -> String {
    format!("{}-{}", hand.network, hand.number)
}

fn fill(hand: &Hand<'_>, visitor: &Visitor, mut session: Socket, tally: &mut Tally) {
    let model = format!("m0-{}@{}", own_name(hand), visitor.account);
    let text = "x".repeat(BYTES);
    let body = format!(
        r#"{{"intent":"embed","durable":false,"data":{{"model":"{model}","input":"{text}"}}}}"#
    );
    // Until its offer is known.
    hand.pause(500);
    let mut flood = Flood::new(visitor);
    let (mut beaten, mut round) = (Instant::now(), 0);
    while !hand.is_over() {
        let reply = flood.post("/v1/intents", body.as_bytes());
        let refused = !reply.as_ref().is_ok_and(Reply::is_good);
        tally.count(&reply);
        tally.bytes += body.len() as u64;
        round += 1;
        if round == 4 {
            hand.stands();
        }
        if beaten.elapsed() > BEAT {
            beaten = Instant::now();
            if !worker::beat(&mut session) {
                tally.refuse("session lost".to_owned());
                hand.pause(1_000);
            }
        }
        if refused {
            hand.pause(100);
        }
    }
}
