//! Names of models. A model that only strangers offer bears its owner: `name@<owner>`, the owner
//! being the first digits of an account's id, or all of them.
//!
//! Whoever offers a model may call it as it likes, but for what would read as another's: `@` and
//! 8 to 44 digits of base58 at the end. Other uses of `@` are common (`qwen3-8b@q4_k_m`,
//! `@cf/meta/llama-3`, `gemini@001`), and mean nothing here.

use crate::id::AccountId;

/// Digits of an owner in a model's name, at least: of these there are 58^8, some 10^14. A program
/// that makes keys until one begins so needs hours on a hundred graphics cards, so a name that fits
/// two accounts is taken for neither.
pub const OWNER_DIGITS_MIN: usize = 8;
/// An id whole.
const OWNER_DIGITS_MAX: usize = 44;

/// What the offers of this model by this owner are called, whole: in kinds and in what is stored.
pub fn owned(model: &str, owner: AccountId) -> String {
    format!("{model}@{owner}")
}

/// The model and the digits of its owner, if the name bears one.
pub fn split_owner(name: &str) -> Option<(&str, &str)> {
    let (model, digits) = name.rsplit_once('@')?;
    let is_owner = (OWNER_DIGITS_MIN..=OWNER_DIGITS_MAX).contains(&digits.len())
        && digits.bytes().all(is_base58);
    (is_owner && !model.is_empty()).then_some((model, digits))
}

/// The model by its worker's own name, whoever is named for its owner.
pub fn without_owner(name: &str) -> &str {
    split_owner(name).map_or(name, |(model, _)| model)
}

fn is_base58(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() && !matches!(byte, b'0' | b'O' | b'I' | b'l')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reads_as_an_account_is_an_owner() {
        let owner = AccountId([7; 32]);
        let whole = owned("qwen3@q4_k_m", owner);
        assert_eq!(split_owner(&whole), Some(("qwen3@q4_k_m", owner.to_string().as_str())));
        assert_eq!(split_owner("m@abcd1234"), Some(("m", "abcd1234")));
        for name in [
            "m",
            "m@abcd123",
            "@abcd1234",
            "qwen3-8b@q4_k_m",
            "qwen3-8b@4bit",
            "claude-sonnet@20250929",
            "@cf/meta/llama-3-8b-instruct",
            "m@abcd123l",
            "m@abcd1234 ",
        ] {
            assert_eq!(split_owner(name), None, "{name}");
            assert_eq!(without_owner(name), name);
        }
        assert_eq!(split_owner(&format!("m@{}", "a".repeat(45))), None);
        // Each byte of an id gives digits of this alphabet.
        for byte in 0..=255 {
            let name = owned("m", AccountId([byte; 32]));
            assert!(split_owner(&name).is_some(), "{name}");
        }
    }
}
