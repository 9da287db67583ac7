//! Real small models behind MTOR's exec protocol.
//!
//! Purpose: a program that a worker starts as `--exec`; it reads one CloudEvents object per line
//! from stdin and writes one per line to stdout. `chat` runs SmolLM2-135M-Instruct through
//! llama.cpp, `embed` runs all-MiniLM-L6-v2 through onnxruntime. The binary is the product; the
//! library exists so that its parts can be tested and measured.
//!
//! Invariants: stdout carries protocol lines only; stderr never carries a client's content; every
//! accepted assignment ends in exactly one `complete` or `fail`, unless it was revoked or stdin
//! closed, after which nothing is written for it; every queue has a stated bound.
//!
//! Absences: it knows nothing of prices, accounts, leases or realms, opens no socket, reads no
//! environment variable and writes no file. It contains no `unsafe` of its own: both backends are
//! used through safe wrappers, so the workspace's `forbid` stands.

pub mod chat;
pub mod embed;
pub mod files;
pub mod inbox;
pub mod protocol;
pub mod service;
