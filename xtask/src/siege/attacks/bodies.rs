//! Uploads that say they are large: nothing comes of some, of others a byte now and then.

use std::io::Write;

use super::*;

pub(super) const ATTACK: Attack =
    Attack { name: "bodies", wish: Wish::Large, also: None, keeps_workers: false, run };

/// Of each kind, of each network.
const UPLOADS: usize = 61;
/// More than any request may have; the most that one may; and as much, of which it begins.
const KINDS: [(u64, usize); 3] = [(1 << 30, 0), (17_000_000, 0), (17_000_000, 200_000)];

fn run(field: &Field, signal: &Signal) -> Tally {
    crew(field, signal, field.networks, 1, |hand| {
        let mut tally = Tally::default();
        let guests: Vec<Visitor> =
            (0..4).filter_map(|number| guest(hand, number, &mut tally)).collect();
        let Some(first) = guests.first() else {
            hand.stands();
            return tally;
        };
        let kinds = || KINDS.into_iter().cycle().take(KINDS.len() * UPLOADS);
        let mut open: Vec<Option<Line>> = kinds().map(|_| None).collect();
        let mut stands = false;
        while !hand.is_over() {
            for (index, ((declared, sent), upload)) in kinds().zip(&mut open).enumerate() {
                let visitor = guests.get(index % 4).unwrap_or(first);
                step(upload, visitor, declared, sent, &mut tally);
            }
            if !stands {
                hand.stands();
                stands = true;
            }
            hand.pause(250);
        }
        tally
    })
}

/// One byte more where one is under way, else it begins anew.
fn step(
    upload: &mut Option<Line>,
    visitor: &Visitor,
    declared: u64,
    sent: usize,
    tally: &mut Tally,
) {
    let Some(line) = upload else {
        match begin(visitor, declared, sent) {
            Ok(line) => {
                tally.taken += 1;
                tally.bytes += sent as u64;
                *upload = Some(line);
            }
            Err(error) => tally.refuse(name(&error)),
        }
        return;
    };
    let refused = line.refusal();
    let refused = refused.or_else(|| {
        (sent > 0).then(|| line.stream.write_all(b" ").err().map(|error| name(&error))).flatten()
    });
    if let Some(why) = refused {
        tally.refuse(why);
        *upload = None;
    } else if sent > 0 {
        tally.bytes += 1;
    }
}

fn begin(visitor: &Visitor, declared: u64, sent: usize) -> io::Result<Line> {
    let mut line = visitor.door.connect()?;
    let body = vec![b' '; sent];
    let request = Request::post("/v1/intents", &visitor.key, &body);
    line.send(&Request { declared: Some(declared), ..request })?;
    line.stream.set_nonblocking(true)?;
    Ok(line)
}
