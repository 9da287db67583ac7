//! Paragraphs into what is said in one go: sentences, and parts of those that are too long.
//!
//! Invariants: nothing but blanks is lost between the parts; none is longer than [`PART_MAX`]
//! characters.

/// Characters of a part: some twenty seconds.
pub(super) const PART_MAX: usize = 300;
/// Of the first part, if a comma lets it be cut: whoever listens waits for it.
pub(super) const FIRST_MAX: usize = 120;

/// What ends a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// It goes on.
    Short,
    Sentence,
    Paragraph,
}

/// Written with a full stop, and never a sentence's last word.
const TITLES: [&str; 31] = [
    "dr", "mr", "mrs", "ms", "prof", "st", "mt", "gen", "col", "lt", "sgt", "capt", "sen", "rep",
    "gov", "rev", "hon", "vs", "e.g", "i.e", "cf", "approx", "fig", "al", "ca", "pp", "viz", "u.s",
    "u.k", "e.u", "u.n",
];
/// The same before a number.
const BEFORE_NUMBERS: [&str; 20] = [
    "no", "nos", "vol", "ch", "sec", "p", "eq", "ed", "jan", "feb", "mar", "apr", "jun", "jul",
    "aug", "sep", "sept", "oct", "nov", "dec",
];

pub(super) fn parts(paragraphs: &[String]) -> Vec<(String, Pause)> {
    let mut parts: Vec<(String, Pause)> = Vec::new();
    for paragraph in paragraphs {
        for sentence in sentences(paragraph) {
            cut(sentence, &mut parts);
        }
        if let Some((_, pause)) = parts.last_mut() {
            *pause = Pause::Paragraph;
        }
    }
    parts
}

fn is_end(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？')
}

fn is_closer(c: char) -> bool {
    matches!(c, '"' | '\'' | ')' | ']' | '}' | '”' | '’' | '»' | '*')
}

fn sentences(paragraph: &str) -> Vec<&str> {
    let (mut found, mut from, mut at) = (Vec::new(), 0, 0);
    while let Some(stop) = paragraph[at..].find(is_end).map(|offset| at + offset) {
        let after = paragraph[stop..].trim_start_matches(is_end).trim_start_matches(is_closer);
        at = paragraph.len() - after.len();
        let marks = &paragraph[stop..at];
        // One of another script needs no blank behind it.
        let is_apart = after.is_empty()
            || after.starts_with(char::is_whitespace)
            || marks.starts_with(['。', '！', '？']);
        let before = &paragraph[from..stop];
        if is_apart && !goes_on(before, marks, after.trim_start()) {
            found.push(paragraph[from..at].trim());
            from = at;
        }
    }
    found.push(paragraph[from..].trim());
    found.retain(|sentence| !sentence.is_empty());
    found
}

/// Whether a sentence goes on behind its stop.
fn goes_on(before: &str, marks: &str, after: &str) -> bool {
    let Some(next) = after.chars().next() else { return false };
    if !marks.starts_with('.') || marks.contains(['!', '?']) {
        let is_inside = marks.starts_with('…') || marks.contains(is_closer);
        return is_inside && next.is_lowercase();
    }
    let word = before.rsplit(char::is_whitespace).next().unwrap_or("");
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    // The number of an item.
    let is_item = super::numbers::is_digits(before.trim());
    let is_initial = word.chars().count() == 1
        && word != "i"
        && word.chars().all(char::is_alphabetic)
        && next.is_uppercase();
    next.is_lowercase()
        || is_item
        || is_initial
        || TITLES.contains(&word.as_str())
        || next.is_numeric() && BEFORE_NUMBERS.contains(&word.as_str())
}

/// A sentence in as few parts as it takes.
fn cut(sentence: &str, parts: &mut Vec<(String, Pause)>) {
    let mut rest = sentence;
    while !rest.is_empty() {
        let most = nth(rest, PART_MAX);
        let first = if parts.is_empty() { clause(&rest[..nth(rest, FIRST_MAX)]) } else { None };
        let at = match (first, most < rest.len()) {
            (Some(at), _) if nth(rest, FIRST_MAX) < rest.len() => at,
            (_, false) => rest.len(),
            (_, true) => {
                let window = &rest[..most];
                let blank = || window.rfind(char::is_whitespace).filter(|at| *at > 0);
                clause(window).or_else(blank).unwrap_or(most)
            }
        };
        let (part, left) = rest.split_at(at);
        rest = left.trim_start();
        let pause = if rest.is_empty() { Pause::Sentence } else { Pause::Short };
        parts.push((part.trim_end().to_owned(), pause));
    }
}

/// Two parts of one that becomes too long: at a blank of its second quarter, else in the middle.
pub(super) fn halves(part: &str) -> (&str, &str) {
    let middle = nth(part, part.chars().count() / 2);
    let blank = part[..middle].rfind(char::is_whitespace).filter(|at| *at > middle / 2);
    let (left, right) = part.split_at(blank.unwrap_or(middle));
    (left, right.trim_start())
}

/// Where so many characters end.
fn nth(text: &str, characters: usize) -> usize {
    text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at)
}

/// Behind the last mark of a clause that has a blank behind it, if that is not near the beginning.
fn clause(window: &str) -> Option<usize> {
    let marks = window.char_indices().rev();
    let found = marks.filter(|(_, c)| matches!(c, ',' | ';' | ':' | '—' | '–' | ')'));
    let mut ends = found.map(|(at, c)| at + c.len_utf8());
    ends.find(|end| window[*end..].starts_with(char::is_whitespace))
        .filter(|end| *end >= window.len() / 3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sentences_end_where_people_end_them() {
        for (paragraph, expected) in [
            ("One. Two! Three? Four", &["One.", "Two!", "Three?", "Four"][..]),
            (
                "Dr. Smith met Mrs. Jones. They spoke.",
                &["Dr. Smith met Mrs. Jones.", "They spoke."],
            ),
            ("Pi is 3.14. Yes.", &["Pi is 3.14.", "Yes."]),
            ("Use e.g. a fork, i.e. Tools. Good.", &["Use e.g. a fork, i.e. Tools.", "Good."]),
            ("Cats, dogs, etc. are animals.", &["Cats, dogs, etc. are animals."]),
            ("Cats, dogs, etc. They run.", &["Cats, dogs, etc.", "They run."]),
            ("J. R. Smith wrote it.", &["J. R. Smith wrote it."]),
            ("So do I. He too.", &["So do I.", "He too."]),
            ("The U.S. army left.", &["The U.S. army left."]),
            ("The U.S. Navy left at 5 p.m. Now.", &["The U.S. Navy left at 5 p.m.", "Now."]),
            ("See No. 5. No. Never.", &["See No. 5.", "No.", "Never."]),
            ("On Jan. 5 it began.", &["On Jan. 5 it began."]),
            ("Open main.rs. Then example.com.", &["Open main.rs.", "Then example.com."]),
            ("\"Stop!\" he said. (Really.) Yes.", &["\"Stop!\" he said.", "(Really.)", "Yes."]),
            ("Wait... what? Well... So.", &["Wait... what?", "Well...", "So."]),
            ("Really?! Yes.", &["Really?!", "Yes."]),
            ("1. Mix it. 2. Bake.", &["1. Mix it.", "2. Bake."]),
            ("你好。再见", &["你好。", "再见"]),
            ("...", &["..."]),
            ("", &[]),
        ] {
            assert_eq!(sentences(paragraph), expected, "{paragraph}");
        }
    }

    fn lengths(text: &str) -> Vec<usize> {
        parts(&[text.to_owned()]).iter().map(|(part, _)| part.chars().count()).collect()
    }

    #[test]
    fn long_sentences_are_cut_at_commas_then_at_blanks_then_anywhere() {
        let clause = "this goes on and on, ";
        let parts = parts(&[clause.repeat(40)]);
        assert!(parts.iter().all(|(part, _)| part.ends_with(',')), "{parts:?}");
        assert!(parts[0].0.chars().count() <= FIRST_MAX, "{parts:?}");
        assert_eq!(parts[0].1, Pause::Short);
        assert_eq!(parts.last().unwrap().1, Pause::Paragraph);
        assert_eq!(lengths(&"word ".repeat(100)), [299, 199]);
        assert_eq!(lengths(&"x".repeat(700)), [300, 300, 100]);
        assert_eq!(lengths(&"é".repeat(301)), [300, 1]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_too_long(text in "([a-zA-Z0-9.,;:!?()é。 ]{0,40} ?){0,30}") {
            let parts = parts(std::slice::from_ref(&text));
            let solid = |text: &str| text.split_whitespace().collect::<String>();
            let all: String = parts.iter().map(|(part, _)| solid(part)).collect();
            prop_assert_eq!(all, solid(&text));
            prop_assert!(parts.iter().all(|(part, _)| part.chars().count() <= PART_MAX));
        }
    }
}
