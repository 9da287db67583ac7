//! Moonshine's vocabulary: `tokenizer.bin`, a list of byte strings.
//!
//! Each entry is its length (one byte, or two if the first is 128 or more: the first less 128, plus
//! 128 times the second) and its bytes. U+2581 stands for a space.

use anyhow::{Context as _, ensure};

/// Its own size; anything else is another file.
pub(super) const TOKENS: usize = 32_768;

pub(super) struct Tokens(Vec<Box<[u8]>>);

impl Tokens {
    pub(super) fn read(file: &[u8]) -> anyhow::Result<Self> {
        let mut rest = file.iter();
        let mut tokens = Vec::with_capacity(TOKENS);
        while let Some(first) = rest.next() {
            let mut length = usize::from(*first);
            if length >= 128 {
                let second = rest.next().context("it ends in the middle of a length")?;
                length = length - 128 + 128 * usize::from(*second);
            }
            let bytes =
                rest.as_slice().get(..length).context("it ends in the middle of a token")?;
            tokens.push(bytes.into());
            rest = rest.as_slice()[length..].iter();
        }
        ensure!(tokens.len() == TOKENS, "it has {} tokens instead of {TOKENS}", tokens.len());
        Ok(Self(tokens))
    }

    /// What the tokens say, without spaces around it.
    pub(super) fn text(&self, ids: &[usize]) -> String {
        let bytes: Vec<u8> =
            ids.iter().filter_map(|id| self.0.get(*id)).flatten().copied().collect();
        String::from_utf8_lossy(&bytes).replace('\u{2581}', " ").trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_one_and_two_bytes_are_read() {
        let mut file = vec![3, b'a', b'b', b'c', 0, 0x80 | 2, 1];
        file.extend([b'x'; 130]);
        file.extend(std::iter::repeat_n(0, TOKENS - 3));
        let tokens = Tokens::read(&file).unwrap();
        assert_eq!(tokens.text(&[0, 1]), "abc");
        assert_eq!(tokens.text(&[2]).len(), 130);
        assert_eq!(tokens.text(&[TOKENS]), "");
    }

    #[test]
    fn a_file_that_is_no_vocabulary_is_refused() {
        for bad in [&[][..], &[5, b'a'], &[0x80], &[1, b'a']] {
            assert!(Tokens::read(bad).is_err(), "{bad:?}");
        }
    }
}
