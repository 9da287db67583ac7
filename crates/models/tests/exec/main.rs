//! The program end to end, over its pipes, with the real model. A missing model fails the tests.

#![allow(clippy::unwrap_used, reason = "helpers fail their test where clippy sees no test")]

mod embed;
mod program;
mod protocol;
mod speak;
mod transcribe;
