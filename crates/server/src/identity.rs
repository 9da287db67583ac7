//! Who the realm is: the keys of its data directory, and what is proved with them.
//!
//! Invariants: every key has one purpose and one file (`<data>/keys/<purpose>`, mode 0600); all of
//! them appear at once, at the first start, so that a lost one is noticed and never silently
//! replaced; every signature and every MAC is over a domain prefix, so that none can be taken for
//! another or for a transaction. A secret that a client holds is kept here only as its SHA-256.
//!
//! The root key makes the realm's id and signs its document. It lies beside the others because the
//! realm renews its document by itself; an owner who wants it offline must renew by hand.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hmac::{Hmac, Mac};
use mtor_types::account::account_proof;
use mtor_types::fact::NetworkKey;
use mtor_types::worker::{Enrol, HeldLease, WorkerHello, enrol_proof, session_proof};
use mtor_types::{
    AccountId, Attempt, Code, Digest, Fence, IntentId, KeyHash, RealmId, Time, WorkerId,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::api_error::ApiError;

/// The realm's own secrets. `Debug` shows the realm's id only.
pub struct Identity {
    root: SigningKey,
    signing: SigningKey,
    account: SigningKey,
    lease: [u8; 32],
    blob: [u8; 32],
    network: [u8; 32],
    /// Of this process alone: what was given before a start is asked for anew.
    nonces: [u8; 32],
}

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("key file {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error("key file {path} is missing: restore it from a backup of the data directory")]
    Missing { path: PathBuf },
    #[error("the keys {path} of this realm's log are missing: restore them from a backup")]
    Lost { path: PathBuf },
    #[error("the log here is of realm {found}, the keys are of {keys}: restore the log's own keys")]
    Another { found: RealmId, keys: RealmId },
    #[error("key file {path} has mode {mode:04o}: it must be 0600 (chmod 600)")]
    Permissions { path: PathBuf, mode: u32 },
    #[error("key file {path} is not a key of version 1: expected `mtor-key/v1 {purpose} <hex>`")]
    Malformed { path: PathBuf, purpose: &'static str },
    #[error("no randomness from the operating system: {0}")]
    Random(getrandom::Error),
}

const ROOT: &str = "realm-root";
const SIGNING: &str = "realm-signing";
const ACCOUNT: &str = "realm-account";
const LEASE: &str = "lease-mac";
const BLOB: &str = "blob-seal";
const NETWORK: &str = "network-hash";
const TOKEN_PREFIX: &str = "mtor_enrol_";
pub const NONCE_LIFE_MS: u64 = 5 * 60 * 1000;
const PURPOSES: [&str; 6] = [ROOT, SIGNING, ACCOUNT, LEASE, BLOB, NETWORK];

impl Identity {
    /// Reads the keys under `<data>/keys`; makes all of them if there is neither that directory nor
    /// a log.
    pub fn open(data: &Path) -> Result<Self, IdentityError> {
        let dir = data.join("keys");
        let exists = |path: &Path| {
            path.try_exists().map_err(|source| IdentityError::Io { path: path.into(), source })
        };
        if !exists(&dir)? {
            // Other keys would make another realm of this ledger, and nobody would be told.
            if exists(&data.join(mtor_store::LOG_FILE))? {
                return Err(IdentityError::Lost { path: dir });
            }
            create(data, &dir)?;
        }
        let key = |purpose| read_key(&dir, purpose);
        Ok(Self {
            root: SigningKey::from_bytes(&key(ROOT)?),
            signing: SigningKey::from_bytes(&key(SIGNING)?),
            account: SigningKey::from_bytes(&key(ACCOUNT)?),
            lease: key(LEASE)?,
            blob: key(BLOB)?,
            network: key(NETWORK)?,
            nonces: random()?,
        })
    }

    pub fn realm(&self) -> RealmId {
        RealmId(key_id(&self.root.verifying_key()).0)
    }

    /// The realm's own account.
    pub fn account(&self) -> AccountId {
        AccountId(self.account.verifying_key().to_bytes())
    }

    /// Signs receipts and checkpoints.
    pub fn signing_key(&self) -> &SigningKey {
        &self.signing
    }

    /// Seals payloads and results at rest.
    pub fn blob_key(&self) -> &[u8; 32] {
        &self.blob
    }

    /// A network prefix as the log may know it: another name every day.
    pub fn network_key(&self, prefix: &[u8], day: u64) -> NetworkKey {
        let mut mac = keyed(&self.network, b"mtor/network/v1\0");
        mac.update(&day.to_be_bytes());
        mac.update(prefix);
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut short = [0; 16];
        short.copy_from_slice(&full[..16]);
        NetworkKey(short)
    }

    /// What proves a lease after a reconnect.
    pub fn lease_token(
        &self,
        intent: IntentId,
        attempt: Attempt,
        worker: WorkerId,
        fence: Fence,
    ) -> Digest {
        Digest(self.lease_mac(intent, attempt, worker, fence).finalize().into_bytes().into())
    }

    /// Whether `worker` was given that lease; in constant time.
    pub fn holds(&self, worker: WorkerId, lease: &HeldLease) -> bool {
        let mac = self.lease_mac(lease.intent, lease.attempt, worker, lease.fence);
        mac.verify_slice(&lease.token.0).is_ok()
    }

    fn lease_mac(
        &self,
        intent: IntentId,
        attempt: Attempt,
        worker: WorkerId,
        fence: Fence,
    ) -> Hmac<Sha256> {
        // Every part has a fixed length.
        let mut mac = keyed(&self.lease, b"mtor/lease/v1\0");
        mac.update(&intent.0);
        mac.update(&attempt.0.to_be_bytes());
        mac.update(&worker.0);
        mac.update(&fence.0.to_be_bytes());
        mac
    }

    /// What lets one worker of `owner` be enrolled: whose, until when, a number, and a MAC over them. So
    /// none is kept, and anybody may have any number of them.
    ///
    /// # Errors
    /// No randomness from the operating system.
    pub fn enrolment_token(
        &self,
        owner: AccountId,
        expires: Time,
    ) -> Result<String, IdentityError> {
        let body = [&owner.0[..], &expires.0.to_be_bytes(), &random::<8>()?].concat();
        Ok(format!("{TOKEN_PREFIX}{}", sealed(self.token_mac(&body), &body)))
    }

    /// Whose token it is and until when, if this realm made it; in constant time.
    pub fn read_enrolment_token(&self, text: &str) -> Option<(AccountId, Time)> {
        let body = opened::<48>(text.strip_prefix(TOKEN_PREFIX)?, |body| self.token_mac(body))?;
        let expires = u64::from_be_bytes(*body[32..].first_chunk()?);
        Some((AccountId(*body.first_chunk()?), Time(expires)))
    }

    fn token_mac(&self, body: &[u8]) -> Hmac<Sha256> {
        keyed(&self.lease, b"mtor/enrolment/v1\0").chain_update(body)
    }

    /// Something that was never signed before: when it was made, a number, and a MAC over both.
    ///
    /// # Errors
    /// No randomness from the operating system.
    pub fn nonce(&self, now: Time) -> Result<String, IdentityError> {
        let body = [now.0.to_be_bytes(), random::<8>()?].concat();
        Ok(sealed(self.nonce_mac(&body), &body))
    }

    /// When it was made, if it was by this process, and not too long ago.
    pub fn read_nonce(&self, text: &str, now: Time) -> Option<Time> {
        let body = opened::<16>(text, |body| self.nonce_mac(body))?;
        let made = Time(u64::from_be_bytes(*body.first_chunk()?));
        (made <= now && now.since_ms(made) < NONCE_LIFE_MS).then_some(made)
    }

    fn nonce_mac(&self, body: &[u8]) -> Hmac<Sha256> {
        keyed(&self.nonces, b"mtor/nonce/v1\0").chain_update(body)
    }

    /// The realm's signed document, for `/.well-known/mtor.json`.
    pub fn document(&self, plan: DocumentPlan) -> Result<RealmDocument, DocumentError> {
        let signing = self.signing.verifying_key();
        let statement = RealmStatement {
            kind: DOCUMENT_KIND.to_owned(),
            realm: self.realm(),
            root_key: key_text(&self.root.verifying_key()),
            sequence: plan.sequence,
            signing_keys: vec![PublicKey { kid: key_id(&signing), key: key_text(&signing) }],
            endpoints: plan.endpoints,
            valid_until: plan.now.after_ms(plan.life_ms.min(DOCUMENT_LIFE_MS_MAX)),
            ledger: LedgerNames { asset: "9000".to_owned(), decimals: plan.decimals },
        };
        let message = signed_bytes(DOCUMENT_DOMAIN, &statement)?;
        let signature = hex(&self.root.sign(&message).to_bytes());
        Ok(RealmDocument { kid: key_id(&self.root.verifying_key()), statement, signature })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("realm", &self.realm()).finish_non_exhaustive()
    }
}

const DOCUMENT_KIND: &str = "mtor.realm.document.v1";
const DOCUMENT_DOMAIN: &[u8] = b"mtor/realm-document/v1\0";
/// A document is valid for seven days at most.
pub const DOCUMENT_LIFE_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;
const DOCUMENT_KEYS_MAX: usize = 16;
const DOCUMENT_ENDPOINTS_MAX: usize = 16;
const ENDPOINT_BYTES_MAX: usize = 512;

/// What a document says besides the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentPlan {
    pub now: Time,
    pub life_ms: u64,
    /// Greater than that of every document before.
    pub sequence: u64,
    pub endpoints: Vec<String>,
    /// Of the ledger's token.
    pub decimals: u8,
}

/// What a realm says of itself, signed by its root key: RFC 8785 canonical JSON of `statement`
/// behind a domain prefix, Ed25519.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealmDocument {
    pub statement: RealmStatement,
    /// SHA-256 of the root key; the same 32 bytes as the realm's id.
    pub kid: Digest,
    /// Lower-case hex.
    pub signature: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealmStatement {
    #[serde(rename = "type")]
    pub kind: String,
    pub realm: RealmId,
    /// Base58. The realm's id is its SHA-256.
    pub root_key: String,
    pub sequence: u64,
    pub signing_keys: Vec<PublicKey>,
    pub endpoints: Vec<String>,
    /// Milliseconds since 1970.
    pub valid_until: Time,
    pub ledger: LedgerNames,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKey {
    /// SHA-256 of the key.
    pub kid: Digest,
    /// Base58 of its 32 bytes.
    pub key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerNames {
    pub asset: String,
    pub decimals: u8,
}

/// Why a document is not good.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("not a realm document of version 1")]
    Kind,
    #[error("more keys or endpoints than a document may name, or none")]
    Size,
    #[error("the root key is not the one that the realm's id names")]
    Root,
    #[error("a key is not a base58 Ed25519 key under its own id")]
    Key,
    #[error("the signature is not the root key's")]
    Signature,
    #[error("the document has expired")]
    Expired,
    #[error("valid for longer than seven days")]
    TooLong,
    #[error("a number above 2^53 - 1 has no canonical form")]
    Number,
    #[error("cannot be written as JSON")]
    Json(#[source] serde_json::Error),
}

impl RealmDocument {
    /// Checks everything that the document can prove by itself at `now`.
    pub fn verify(&self, now: Time) -> Result<(), DocumentError> {
        let statement = &self.statement;
        if statement.kind != DOCUMENT_KIND {
            return Err(DocumentError::Kind);
        }
        let keys = (1..=DOCUMENT_KEYS_MAX).contains(&statement.signing_keys.len());
        let endpoints = statement.endpoints.len() <= DOCUMENT_ENDPOINTS_MAX
            && statement.endpoints.iter().all(|endpoint| endpoint.len() <= ENDPOINT_BYTES_MAX);
        if !keys || !endpoints {
            return Err(DocumentError::Size);
        }
        let root = parse_key(&statement.root_key).ok_or(DocumentError::Root)?;
        if key_id(&root).0 != statement.realm.0 || self.kid.0 != statement.realm.0 {
            return Err(DocumentError::Root);
        }
        for key in &statement.signing_keys {
            key.parse()?;
        }
        let message = signed_bytes(DOCUMENT_DOMAIN, statement)?;
        let signature = parse_signature(&self.signature).ok_or(DocumentError::Signature)?;
        root.verify_strict(&message, &signature).map_err(|_| DocumentError::Signature)?;
        if statement.valid_until <= now {
            return Err(DocumentError::Expired);
        }
        let life_ms = statement.valid_until.since_ms(now);
        if life_ms > DOCUMENT_LIFE_MS_MAX { Err(DocumentError::TooLong) } else { Ok(()) }
    }

    /// The signing key of that id.
    pub fn signing_key(&self, kid: Digest) -> Option<VerifyingKey> {
        let found = self.statement.signing_keys.iter().find(|key| key.kid == kid);
        found.and_then(|key| key.parse().ok())
    }
}

impl PublicKey {
    pub fn parse(&self) -> Result<VerifyingKey, DocumentError> {
        let key = parse_key(&self.key).ok_or(DocumentError::Key)?;
        if key_id(&key) == self.kid { Ok(key) } else { Err(DocumentError::Key) }
    }
}

/// The id of a key: SHA-256 of its 32 bytes.
pub fn key_id(key: &VerifyingKey) -> Digest {
    Digest(Sha256::digest(key.as_bytes()).into())
}

/// Fresh randomness from the system.
pub fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(IdentityError::Random)?;
    Ok(bytes)
}

/// A key pair for a guest who brought none: the account's id, and the secret key in base58, which
/// is not kept here.
pub fn new_key_pair() -> Result<(AccountId, String), IdentityError> {
    let key = SigningKey::from_bytes(&random()?);
    let account = AccountId(key.verifying_key().to_bytes());
    Ok((account, bs58::encode(key.to_bytes()).into_string()))
}

/// Whether these bytes are an Ed25519 public key that can sign: a point, and not a weak one.
pub fn is_public_key(bytes: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(bytes).is_ok_and(|key| !key.is_weak())
}

/// Writes a new file that only this user can read, synced.
pub fn write_secret_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A new secret of 256 random bits, for an API key, the sysop or an enrolment token.
pub fn new_secret() -> Result<String, IdentityError> {
    Ok(format!("mtor_{}", bs58::encode(random::<32>()?).into_string()))
}

/// Whether the holder of an account's own key asks for a key of this realm.
///
/// # Errors
/// The signature is not that account's.
pub fn verify_owner(
    realm: RealmId,
    account: AccountId,
    nonce: &str,
    signature: &str,
) -> Result<(), ApiError> {
    let wrong = || {
        let message = "the signature is not the public key's over domain, realm and nonce";
        ApiError::new(Code::Unauthenticated, message).with_field("signature")
    };
    let key = VerifyingKey::from_bytes(&account.0).map_err(|_| wrong())?;
    let signature = parse_signature(signature).ok_or_else(wrong)?;
    key.verify_strict(&account_proof(realm, nonce), &signature).map_err(|_| wrong())
}

/// What a MAC is over, and the MAC, as text.
fn sealed(mac: Hmac<Sha256>, body: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode([body, &mac.finalize().into_bytes()].concat())
}

/// The `N` bytes that a MAC is over, if it is.
fn opened<const N: usize>(text: &str, mac: impl Fn(&[u8]) -> Hmac<Sha256>) -> Option<[u8; N]> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (body, tag) = bytes.split_first_chunk::<N>()?;
    mac(body).verify_slice(tag).ok()?;
    Some(*body)
}

/// How a secret is known to the realm. It has 256 random bits, so a plain hash is enough.
pub fn hash_secret(secret: &str) -> KeyHash {
    KeyHash(Sha256::digest(secret.as_bytes()).into())
}

/// Whether the session's opener holds the worker's key.
pub fn verify_session(realm: RealmId, nonce: Digest, hello: &WorkerHello) -> Result<(), ApiError> {
    let proof = session_proof(realm, nonce, hello.worker);
    verify_worker(hello.worker, &proof, &hello.signature)
}

/// Whether who enrols holds the worker's key.
pub fn verify_enrol(enrol: &Enrol) -> Result<(), ApiError> {
    let proof = enrol_proof(&enrol.token, enrol.worker);
    verify_worker(enrol.worker, &proof, &enrol.signature)
}

fn verify_worker(worker: WorkerId, proof: &[u8], signature: &str) -> Result<(), ApiError> {
    let wrong = || {
        let message = "the signature is not the worker's; sign the proof with the worker's key";
        ApiError::new(Code::Unauthenticated, message).with_field("signature")
    };
    let key = VerifyingKey::from_bytes(&worker.0).map_err(|_| wrong())?;
    let signature = parse_signature(signature).ok_or_else(wrong)?;
    key.verify_strict(proof, &signature).map_err(|_| wrong())
}

/// A domain and the RFC 8785 form of `value`. JavaScript's numbers end at 2^53 - 1; a greater one
/// would be signed as another number, so it is refused.
pub(crate) fn signed_bytes<T: Serialize>(
    domain: &[u8],
    value: &T,
) -> Result<Vec<u8>, DocumentError> {
    let value = serde_json::to_value(value).map_err(DocumentError::Json)?;
    if !numbers_are_exact(&value) {
        return Err(DocumentError::Number);
    }
    let canonical = serde_jcs::to_vec(&value).map_err(DocumentError::Json)?;
    Ok([domain, &canonical].concat())
}

fn numbers_are_exact(value: &serde_json::Value) -> bool {
    const EXACT_MAX: u64 = (1 << 53) - 1;
    match value {
        serde_json::Value::Number(number) => number.as_u64().is_some_and(|n| n <= EXACT_MAX),
        serde_json::Value::Array(items) => items.iter().all(numbers_are_exact),
        serde_json::Value::Object(fields) => fields.values().all(numbers_are_exact),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::String(_) => true,
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

pub(crate) fn parse_signature(text: &str) -> Option<Signature> {
    parse_hex::<64>(text).map(|bytes| Signature::from_bytes(&bytes))
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

fn key_text(key: &VerifyingKey) -> String {
    bs58::encode(key.as_bytes()).into_string()
}

fn parse_key(text: &str) -> Option<VerifyingKey> {
    // The base58 form of 32 bytes, as an account's id has it.
    let AccountId(bytes) = text.parse().ok()?;
    VerifyingKey::from_bytes(&bytes).ok()
}

fn keyed(key: &[u8; 32], domain: &[u8]) -> Hmac<Sha256> {
    // HMAC pads or hashes a key of any length. A block is 64 bytes: pad it here, so that the
    // constructor that cannot fail serves.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new((&block).into());
    mac.update(domain);
    mac
}

/// Makes every key in a directory of another name, then renames it: a crash leaves all or none.
fn create(data: &Path, dir: &Path) -> Result<(), IdentityError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| IdentityError::Io { path, source }
    };
    let partial = data.join("keys.partial");
    match std::fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(&partial)(error));
        }
        _ => {}
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&partial).map_err(failed(&partial))?;
    for purpose in PURPOSES {
        let path = partial.join(purpose);
        let text = format!("mtor-key/v1 {purpose} {}\n", hex(&random::<32>()?));
        write_secret_file(&path, text.as_bytes()).map_err(failed(&path))?;
    }
    let publish = || -> io::Result<()> {
        File::open(&partial)?.sync_all()?;
        std::fs::rename(&partial, dir)?;
        File::open(data)?.sync_all()
    };
    publish().map_err(failed(dir))
}

fn read_key(dir: &Path, purpose: &'static str) -> Result<[u8; 32], IdentityError> {
    const FILE_BYTES_MAX: u64 = 256;
    let path = dir.join(purpose);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(IdentityError::Missing { path });
        }
        Err(source) => return Err(IdentityError::Io { path, source }),
    };
    let mut text = String::new();
    // Of the open file, so that it cannot be another one than is read.
    let read = file.metadata().and_then(|metadata| {
        (&mut file).take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok(metadata.mode() & 0o7777)
    });
    let mode = match read {
        Ok(mode) => mode,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(IdentityError::Malformed { path, purpose });
        }
        Err(source) => return Err(IdentityError::Io { path, source }),
    };
    if mode != 0o600 {
        return Err(IdentityError::Permissions { path, mode });
    }
    let mut words = text.split_ascii_whitespace();
    let head = (words.next(), words.next());
    let key = words.next().and_then(parse_hex::<32>).filter(|_| words.next().is_none());
    key.filter(|_| head == (Some("mtor-key/v1"), Some(purpose)))
        .ok_or(IdentityError::Malformed { path, purpose })
}

#[cfg(test)]
mod tests;
