//! Connections on which nothing is said: WebSockets of nobody, WebSockets of somebody, connections
//! between requests, and streams of events that nobody reads. Those that the realm closes come again.

use super::*;

pub(super) const ATTACK: Attack = Attack {
    name: "sockets",
    wish: Wish::Small,
    also: Some(Also { name: "a WebSocket of its own", once: socket }),
    keeps_workers: false,
    run,
};

const HANDS: u32 = 4;
/// Of all networks together: of nobody, of somebody, idle, and streams.
const WANTED: [(Kind, u32); 4] =
    [(Kind::Nobody, 5_000), (Kind::Somebody, 2_500), (Kind::Idle, 2_500), (Kind::Stream, 1_000)];
/// Opened by a hand before it looks again what was closed.
const AT_ONCE: usize = 200;

#[derive(Clone, Copy)]
enum Kind {
    Nobody,
    Somebody,
    Idle,
    Stream,
}

fn run(field: &Field, signal: &Signal) -> Tally {
    crew(field, signal, field.networks, HANDS, |hand| {
        let mut tally = Tally::default();
        let visitor = guest(hand, 0, &mut tally);
        let Some(visitor) = visitor else {
            hand.stands();
            return tally;
        };
        let stream = follow(&visitor).unwrap_or_default();
        let part = |wanted: u32| (wanted / (field.networks * HANDS)).max(1) as usize;
        let kinds = WANTED.iter().flat_map(|(kind, wanted)| vec![*kind; part(*wanted)]);
        let mut open: Vec<(Kind, Option<Line>)> = kinds.map(|kind| (kind, None)).collect();
        let mut stands = false;
        while !hand.is_over() {
            let mut opened = 0;
            for (index, (kind, line)) in open.iter_mut().enumerate() {
                let why = line.as_mut().and_then(Line::refusal);
                if let Some(why) = why {
                    tally.refuse(why);
                    *line = None;
                }
                if line.is_none() && opened < AT_ONCE && !hand.is_over() {
                    opened += 1;
                    let host = hand.number + index.to_le_bytes().map(u32::from)[0];
                    let door = field.hostile(hand.network, host);
                    match connect(*kind, door, &visitor, &stream) {
                        Ok(made) => {
                            tally.taken += 1;
                            *line = Some(made);
                        }
                        Err(error) => tally.refuse(name(&error)),
                    }
                }
            }
            if !stands && tally.tried() >= open.len() as u64 {
                hand.stands();
                stands = true;
            }
            hand.pause(250);
        }
        tally
    })
}

/// The address of the events of work that takes its time.
fn follow(visitor: &Visitor) -> io::Result<String> {
    let body =
        br#"{"intent":"echo","durable":false,"deadline_ms":120000,"data":{"delayms":60000}}"#;
    visitor.post("/v1/intents", body)?.text("events")
}

fn connect(kind: Kind, door: Door, visitor: &Visitor, stream: &str) -> io::Result<Line> {
    let line = match kind {
        Kind::Nobody => Socket::open(&door, "/v1/events", None)?.line,
        Kind::Somebody => Socket::open(&door, "/v1/events", Some(&visitor.key))?.line,
        Kind::Idle => {
            let mut line = door.connect()?;
            let reply = line.ask(&Request::get("/healthz"))?;
            if !reply.is_good() {
                return Err(io::Error::other(reply.code()));
            }
            line
        }
        Kind::Stream => {
            let mut line = door.connect()?;
            let key = Some(visitor.key.as_str());
            line.send(&Request { key, ..Request::get(stream) })?;
            line
        }
    };
    line.stream.set_nonblocking(true)?;
    Ok(line)
}

/// The victim opens a WebSocket, is known on it, and is served.
fn socket(_: &Field, victim: &Visitor, _: u32) -> Result<(), String> {
    let told = |error: io::Error| name(&error);
    let mut socket = Socket::open(&victim.door, "/v1/events", Some(&victim.key)).map_err(told)?;
    let said = socket.wait(&["mtor.session.ready.v1", "mtor.session.error.v1"]).map_err(told)?;
    if said["type"] == "mtor.session.error.v1" {
        return Err(said["data"]["code"].as_str().unwrap_or_default().to_owned());
    }
    socket.say("mtor.intent.echo.v1", &serde_json::json!({"text": "siege"})).map_err(told)?;
    let ends = ["mtor.intent.completed.v1", "mtor.intent.failed.v1", "mtor.session.error.v1"];
    let end = socket.wait(&ends).map_err(told)?;
    let code = || end["data"]["code"].as_str().unwrap_or_default().to_owned();
    if end["type"] == ends[0] { Ok(()) } else { Err(code()) }
}
