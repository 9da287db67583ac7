//! The mock against a realm of a few lines.

use std::net::TcpListener;

use mtor_types::worker::{ASSIGN, Assign, CHUNK, COMPLETE, Chunk, Complete};
use mtor_types::{Attempt, Digest, Fence, IntentId, RealmId};
use serde_json::value::RawValue;

use super::*;

const INTENT: IntentId = IntentId([5; 16]);

/// Reads masked frames as the realm would, with the key zero.
struct Fake {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Fake {
    fn accept(listener: &TcpListener) -> Self {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
        Self { stream, bytes: Vec::new() }
    }

    fn send<D: serde::Serialize>(&mut self, kind: &str, data: D) {
        let text = serde_json::to_string(&EventOut::new("1", "/realm", kind, data)).unwrap();
        self.stream.write_all(&frames::tests::unmasked(text.as_bytes())).unwrap();
    }

    fn receive(&mut self) -> String {
        let mut header = [0; 2];
        self.stream.read_exact(&mut header).unwrap();
        assert_eq!((header[0], header[1] & 0x80), (0x81, 0x80));
        let length = match header[1] & 0x7f {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            short => usize::from(short),
        };
        self.bytes.resize(4 + length, 0);
        self.stream.read_exact(&mut self.bytes).unwrap();
        assert_eq!(self.bytes.get(..4), Some([0; 4].as_slice()));
        String::from_utf8(self.bytes.split_off(4)).unwrap()
    }

    fn assign(&mut self, name: &str, model: Option<&str>, stream: bool, data: &str) {
        self.send(
            ASSIGN,
            Assign {
                intent: INTENT,
                attempt: Attempt(7),
                name: name.into(),
                model: model.map(str::to_owned),
                group: None,
                stream,
                limit: None,
                output: None,
                meter: None,
                deadline_ms: 1_000,
                fence: Fence(1),
                token: Digest([0; 32]),
                data: serde_json::from_str::<&RawValue>(data).unwrap(),
            },
        );
    }

    fn complete(&mut self) -> Option<String> {
        let text = self.receive();
        let event = EventIn::parse(&text).unwrap();
        assert_eq!(event.kind, COMPLETE);
        let complete: Complete<'_> = event.data().unwrap();
        assert_eq!((complete.intent, complete.attempt), (INTENT, Attempt(7)));
        complete.result.map(|result| result.get().to_owned())
    }
}

#[test]
fn every_kind_of_assignment_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let realm = listener.local_addr().unwrap();
    let enrolment = Enrolment { key: SigningKey::from_bytes(&[3; 32]) };
    let worker = std::thread::spawn(move || Worker::start(realm, &enrolment).unwrap());
    let mut fake = Fake::accept(&listener);
    fake.send(
        worker::HELLO,
        RealmHello {
            realm: RealmId([1; 32]),
            nonce: Digest([2; 32]),
            lease_ms: 3_000,
            heartbeat_ms: 900,
            credit: 1,
            knows: Vec::new(),
        },
    );
    let hello = fake.receive();
    EventIn::parse(&hello).unwrap().data::<WorkerHello>().unwrap();
    let offer = fake.receive();
    let offers = EventIn::parse(&offer).unwrap().data::<OfferList>().unwrap().offers;
    assert_eq!(offers.len(), 3);
    let worker = worker.join().unwrap();

    let data = r#"{"messages":["}}"]}"#;
    fake.assign("chat", Some(MODEL), false, data);
    assert_eq!(fake.complete().as_deref(), Some(COMPLETION));
    fake.assign("echo", None, false, data);
    assert_eq!(fake.complete().as_deref(), Some(data));
    for (model, pieces) in [(MODEL, PIECES), (MODEL_BURST, BURST)] {
        fake.assign("chat", Some(model), true, data);
        for seq in 0..pieces {
            let text = fake.receive();
            let event = EventIn::parse(&text).unwrap();
            assert_eq!(event.kind, CHUNK);
            let chunk: Chunk<'_> = event.data().unwrap();
            assert_eq!((chunk.seq, chunk.piece.get()), (seq as u64, PIECE));
        }
        assert_eq!(fake.complete(), None);
    }
    assert_eq!(worker.answered(), 4);
    worker.stop().unwrap();
}
