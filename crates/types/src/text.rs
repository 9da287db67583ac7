//! Which texts of others may be shown.

/// A mark that turns the reading direction, by which a text can read as another one: those of
/// Unicode's property `Bidi_Control`.
pub const fn is_turning(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Whether it stands as it reads: without control characters and without marks that turn it.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || is_turning(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_text_stands_as_it_reads() {
        for text in ["", "gpu 0", "名前", "مرحبا", "zero\u{200d}width joins emoji"] {
            assert!(is_plain(text), "{text:?}");
        }
        for text in ["a\nb", "\u{1b}[2J", "evil\u{202e}txt.exe", "\u{2067}x", "a\u{200f}", "\u{85}"]
        {
            assert!(!is_plain(text), "{text:?}");
        }
    }
}
