//! Which texts of others may be shown, and how those that may not are made fit for it.

use std::borrow::Cow;

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

/// What stands in place of a character that may not be shown.
const HIDDEN: char = '\u{fffd}';

/// The text as one line: it can neither command a terminal nor read as two lines or as another text.
pub fn line(text: &str) -> Cow<'_, str> {
    without(text, |_| false)
}

/// The text with its lines and columns, which cannot command the terminal that it is shown on.
pub fn lines(text: &str) -> Cow<'_, str> {
    without(text, |c| matches!(c, '\n' | '\t'))
}

fn without(text: &str, is_kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_hidden = |c: char| (c.is_control() || is_turning(c)) && !is_kept(c);
    if text.contains(is_hidden) {
        text.replace(is_hidden, HIDDEN.encode_utf8(&mut [0; 4])).into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_shown_is_hidden() {
        let text = "a\u{1b}[2Jb\r\n\tc\u{202e}\u{9b}d";
        assert_eq!(line(text), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c\u{fffd}\u{fffd}d");
        assert_eq!(lines(text), "a\u{fffd}[2Jb\u{fffd}\n\tc\u{fffd}\u{fffd}d");
        assert!(is_plain(&line(text)));
        assert!(matches!(line("名前"), Cow::Borrowed("名前")));
    }

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
