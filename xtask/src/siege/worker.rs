//! Workers that strangers bring: enrolled with a token, with a session, and doing nothing at all.

use std::io;

use ed25519_dalek::{Signer, SigningKey};
use mtor_types::worker::{enrol_proof, session_proof};
use mtor_types::{Digest, RealmId, WorkerId};
use serde_json::{Value, json};

use super::field::Visitor;
use super::net::{Door, Reply, Socket};

/// The key of a worker. Who it is must differ within a realm, and nothing here is a secret.
pub(super) fn key(network: u32, number: u32, count: u32) -> SigningKey {
    let mut seed = [7; 32];
    for (place, part) in [network, number, count].into_iter().enumerate() {
        seed[place * 4..place * 4 + 4].copy_from_slice(&part.to_le_bytes());
    }
    SigningKey::from_bytes(&seed)
}

/// The answer to an enrolment of that owner's.
pub(super) fn enrol(owner: &Visitor, key: &SigningKey) -> io::Result<Reply> {
    let token = token(owner)?;
    if !token.is_good() {
        return Ok(token);
    }
    let token = token.text("token")?;
    let worker = WorkerId(key.verifying_key().to_bytes());
    let signature = hex(&key.sign(&enrol_proof(&token, worker)).to_bytes());
    let body = json!({"token": token, "worker": worker, "signature": signature, "name": "hostile"});
    owner.post("/v1/workers/enrol", body.to_string().as_bytes())
}

pub(super) fn token(owner: &Visitor) -> io::Result<Reply> {
    owner.post("/v1/workers/tokens", b"")
}

/// A session with these offers, which are not read again.
pub(super) fn session(door: &Door, key: &SigningKey, offers: &Value) -> io::Result<Socket> {
    let worker = WorkerId(key.verifying_key().to_bytes());
    let mut socket = Socket::open(door, "/v1/workers/session", None)?;
    let hello = socket.wait(&["mtor.worker.hello.v1"])?;
    let text = |name: &str| hello["data"][name].as_str().unwrap_or_default();
    let realm: RealmId = text("realm").parse().map_err(|_| io::Error::other("no realm"))?;
    let nonce: Digest = text("nonce").parse().map_err(|_| io::Error::other("no nonce"))?;
    let signature = hex(&key.sign(&session_proof(realm, nonce, worker)).to_bytes());
    let proof = json!({"worker": worker, "signature": signature, "leases": []});
    socket.say("mtor.worker.hello.v1", &proof)?;
    socket.say("mtor.worker.offer.v1", &json!({"offers": offers}))?;
    // From now on it only says that it lives.
    socket.line.stream.set_nonblocking(true)?;
    Ok(socket)
}

/// So many invented models, all different, of an intent that costs its owner nothing.
pub(super) fn invented(intent: &str, models: u32, of: &str) -> Value {
    let price = json!({"amount": "0", "per": 1_000_000});
    let offer = |number| json!({"intent": intent, "model": format!("m{number}-{of}"), "slots": 1, "price": price});
    (0..models).map(offer).collect()
}

/// Says that it lives; false if it does not.
pub(super) fn beat(socket: &mut Socket) -> bool {
    socket.say("mtor.worker.ping.v1", &json!({})).is_ok() && socket.line.drain()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
