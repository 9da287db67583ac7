//! Why the agent ended, or could not start.

use std::path::PathBuf;

use mtor_types::RealmId;

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("realm address {url:?}: expected http://host:port or https://host")]
    Realm { url: String },
    #[error("no executor: name at least one")]
    NoExecutor,
    #[error("{executor}: slots must be 1 to 1024")]
    Slots { executor: &'static str },
    #[error("backend address {url:?}: expected http://host:port or https://host")]
    Backend { url: String },
    #[error("the worker's name must be 1 to 64 bytes")]
    Name,
    #[error("identity file {path}")]
    Identity { path: PathBuf, source: std::io::Error },
    #[error("identity file {path}: expected 64 hexadecimal digits")]
    IdentityFormat { path: PathBuf },
    #[error("identity file {path}: another worker runs with it")]
    IdentityInUse { path: PathBuf },
    #[error("the system gave no randomness: {0}")]
    Randomness(getrandom::Error),
    #[error("the session's thread cannot be started")]
    Thread(#[source] std::io::Error),
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
    #[error("the realm does not know this worker, and it has no enrolment token")]
    NoToken,
    #[error("{address} is realm {found} now, and this worker is enrolled at realm {known}")]
    OtherRealm { address: String, known: RealmId, found: RealmId },
    #[error(
        "another worker has opened a session with this worker's key ({}), so this one stops: one key is one worker",
        mtor_types::worker::CLOSE_REPLACED
    )]
    Replaced,
    #[error("the realm refused the enrolment ({status}): {message}")]
    Enrol { status: u16, message: String },
}
