//! Bugs that are planted on purpose, one at a time, to see whether a test finds each of them:
//! `cargo run -p xtask -- mutants`. They exist under `--cfg mtor_mutants` only; elsewhere
//! [`mutant!`](crate::mutant) is `false` and nothing of them is compiled.

/// Whether the bug of this name is planted in this process.
#[cfg(mtor_mutants)]
#[allow(clippy::disallowed_methods, reason = "no product is built with this cfg")]
pub fn is_planted(name: &str) -> bool {
    static PLANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    PLANTED.get_or_init(|| std::env::var("MTOR_MUTANT").ok()).as_deref() == Some(name)
}

/// Whether the bug of this name is planted. A constant `false` in everything that is released.
#[cfg(not(mtor_mutants))]
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {
        false
    };
}

/// Whether the bug of this name is planted.
#[cfg(mtor_mutants)]
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {
        $crate::mutants::is_planted($name)
    };
}
