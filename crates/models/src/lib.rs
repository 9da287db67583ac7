//! Small models behind MTOR's exec protocol.
//!
//! Purpose: a program that a worker starts as `--exec`; it reads one CloudEvents object per line
//! from stdin and writes one per line to stdout. `embed` runs all-MiniLM-L6-v2, `transcribe`
//! Moonshine tiny-en and `speak` Kokoro-82M, all through onnxruntime; chat models run on a kept server
//! (see the worker's engine). The binary is the product; the library exists so that its parts can be tested.
//!
//! Invariants: stdout carries protocol lines only; stderr never carries a client's content; every
//! accepted assignment ends in exactly one `complete` or `fail`, unless it was revoked or stdin
//! closed, after which nothing is written for it; every queue has a stated bound.
//!
//! Absences: it knows nothing of prices, accounts, leases or realms, opens no socket, reads no
//! environment variable and writes no file. It starts one program alone: flite, where Kokoro is slower
//! than speech. The runtime is used through a safe wrapper; `unsafe` stands
//! in one module alone, which calls espeak-ng's library and says why that is sound.

pub mod embed;
pub mod files;
pub mod inbox;
pub mod protocol;
pub mod runtime;
pub mod service;
mod slots;
pub mod speak;
pub mod transcribe;
