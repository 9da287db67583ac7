//! From what a client wrote to what a voice says.
//!
//! A text is first what its Markdown shows ([`markup`]), then parts that are said in one go
//! ([`split`]); each part keeps its own words for whoever reads along, and is then written out
//! ([`spoken`]): numbers, signs and abbreviations as words.
//!
//! Invariants: all of it is pure; what is spoken holds Latin letters, apostrophes, blanks and the
//! marks `. , ! ? ; : …`, and nothing else, so nothing else reaches what makes phonemes of it.

mod amounts;
mod characters;
mod markup;
mod numbers;
mod split;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use split::Pause;

/// Whose English it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum English {
    #[default]
    American,
    British,
}

/// What is said in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// As it was written.
    pub(crate) text: String,
    /// As it is said; never empty.
    pub(crate) spoken: String,
    pub(crate) pause: Pause,
}

/// Letters and marks of one part as it is said, half a minute: digits and signs become many times
/// what was written, and at a quarter of the speed the sound of a part must still fit a frame.
const SPOKEN_MAX: usize = 500;
/// What is so short is not parted again.
const PARTED_MIN: usize = 20;

/// All that can be said of a text; nothing if there is nothing.
pub(crate) fn parts(text: &str, english: English) -> Vec<Part> {
    let mut parts = Vec::new();
    for (text, pause) in split::parts(&markup::paragraphs(text)) {
        fit(text, pause, english, &mut parts);
    }
    parts
}

fn fit(text: String, pause: Pause, english: English, parts: &mut Vec<Part>) {
    let mut spoken = spoken(&text, english);
    let characters = text.chars().count();
    if spoken.len() > SPOKEN_MAX && characters >= 2 * PARTED_MIN {
        let (left, right) = split::halves(&text);
        fit(left.to_owned(), Pause::Short, english, parts);
        return fit(right.to_owned(), pause, english, parts);
    }
    // A heading or an item ends without a mark, and the voice should fall all the same.
    if pause != Pause::Short && spoken.ends_with(|c: char| c.is_alphabetic() || c == ',') {
        spoken.truncate(spoken.trim_end_matches(',').len());
        spoken.push('.');
    }
    if spoken.contains(char::is_alphabetic) {
        parts.push(Part { text, spoken, pause });
    }
}

/// A word between blanks, without the marks around it.
struct Chunk<'a> {
    lead: &'a str,
    core: &'a str,
    trail: &'a str,
}

impl<'a> Chunk<'a> {
    fn of(word: &'a str) -> Self {
        let inside = word.trim_start_matches(['(', '[', '{', '"', '\'', '*', '¿', '¡', '•', '·']);
        let lead = &word[..word.len() - inside.len()];
        // What is called is a name all the same, below: `run()`.
        let is_closing = |c: char| ".,;:!?…\"')]}*•·".contains(c);
        let core = inside.trim_end_matches(is_closing);
        let trail = &inside[core.len()..];
        match (core.strip_suffix('('), trail.strip_prefix(')')) {
            (Some(core), Some(trail)) => Self { lead, core, trail },
            _ => Self { lead, core, trail },
        }
    }

    fn has_stop(&self) -> bool {
        self.trail.starts_with('.') && !self.trail.starts_with("..")
    }
}

/// A part as it is said.
pub(crate) fn spoken(part: &str, english: English) -> String {
    let clean = characters::clean(part);
    let clean = clean.replace("...", "…");
    let chunks: Vec<_> = clean.split_whitespace().map(Chunk::of).collect();
    let mut written = Written::default();
    let (mut at, mut before) = (0, String::new());
    while let Some(chunk) = chunks.get(at) {
        if chunk.core.is_empty()
            && chunk.lead == "*"
            && before.ends_with(|c: char| c.is_ascii_digit())
        {
            written.words("times");
        }
        written.marks(chunk.lead);
        let next = chunks.get(at + 1);
        let (words, more, stop) = said(chunk, next, &before, english);
        written.words(&words);
        let last = chunks.get(at + more).unwrap_or(chunk);
        let is_end = at + more + 1 >= chunks.len();
        // The stop of an abbreviation ends nothing, unless the part ends with it.
        let goes_on =
            chunks.get(at + more + 1).is_some_and(|next| next.core.starts_with(char::is_lowercase));
        let stop = stop || last.has_stop() && goes_on;
        written.marks(if stop && !is_end { &last.trail[1..] } else { last.trail });
        before = last.core.to_lowercase();
        at += more + 1;
    }
    written.text
}

/// What a word says, how many words behind it it says as well, and whether it is an abbreviation.
fn said(
    chunk: &Chunk<'_>,
    next: Option<&Chunk<'_>>,
    before: &str,
    english: English,
) -> (String, usize, bool) {
    let core = chunk.core;
    if core.is_empty() {
        return (String::new(), 0, false);
    }
    let next_core = next.map_or("", |next| next.core);
    if core.chars().all(|c| matches!(c, '-' | '–' | '—')) {
        let is_digit = |c: char| c.is_ascii_digit();
        let is_minus = core == "-" && before.ends_with(is_digit) && next_core.starts_with(is_digit);
        return (if is_minus { "minus" } else { "," }.to_owned(), 0, false);
    }
    let has_stop = chunk.has_stop();
    // A month's stop does not part it from its day.
    let is_joined = next.is_some_and(|next| next.lead.is_empty())
        && (chunk.trail.is_empty() || chunk.trail == "." && core.len() <= 4);
    let joined = if is_joined { next_core } else { "" };
    let around = amounts::Around { before, next: joined, english };
    if let Some((words, more)) = amounts::said(core, around) {
        let last = if more > 0 { next.unwrap_or(chunk) } else { chunk };
        let is_half = more > 0 && matches!(last.core, "a.m" | "p.m");
        return (words, more, is_half && last.has_stop());
    }
    if let Some(words) = words::abbreviation(core, has_stop, next_core) {
        return (words, 0, has_stop);
    }
    if let Some(words) =
        words::roman(core, before, english).or_else(|| joined_by_hyphens(core, english))
    {
        return (words, 0, false);
    }
    let is_initial = has_stop && core.len() == 1 && core.starts_with(char::is_uppercase);
    let is_initials = has_stop && core.contains('.') && core.split('.').all(|part| part.len() <= 2);
    (words::said(core, english), 0, is_initial || is_initials)
}

/// "2nd-hand", "mid-1990s": each by itself.
fn joined_by_hyphens(word: &str, english: English) -> Option<String> {
    let is_word =
        |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '.');
    let parts: Vec<_> = word.split('-').collect();
    if parts.len() < 2 || !parts.iter().all(is_word) {
        return None;
    }
    let around = amounts::Around { english, ..amounts::Around::default() };
    let said = |part: &&str| match amounts::said(part, around) {
        Some((words, 0)) => words,
        Some(_) | None => words::said(part, english),
    };
    Some(parts.iter().map(said).collect::<Vec<_>>().join(" "))
}

/// What is said so far.
#[derive(Default)]
struct Written {
    text: String,
}

impl Written {
    fn words(&mut self, words: &str) {
        for word in words.split_whitespace() {
            let bare = word.trim_end_matches(',');
            let bare: String = bare.chars().filter(|c| c.is_alphabetic() || *c == '\'').collect();
            if !bare.is_empty() {
                if !self.text.is_empty() {
                    self.text.push(' ');
                }
                self.text.push_str(&bare);
            }
            if word.ends_with(',') {
                self.mark(',');
            }
        }
    }

    fn marks(&mut self, marks: &str) {
        for mark in marks.chars() {
            match mark {
                '(' | ')' | '[' | ']' | '{' | '}' | '•' | '·' => self.mark(','),
                '.' | ',' | ';' | ':' | '!' | '?' | '…' => self.mark(mark),
                _ => {}
            }
        }
    }

    /// One mark behind a word: of several the one that says most.
    fn mark(&mut self, mark: char) {
        let weight = |mark: char| match mark {
            '?' => 5,
            '!' => 4,
            '.' => 3,
            '…' => 3,
            ':' | ';' => 2,
            _ => 1,
        };
        let Some(last) = self.text.chars().next_back() else { return };
        if last.is_alphabetic() || last == '\'' {
            self.text.push(mark);
        } else if weight(mark) > weight(last) {
            self.text.pop();
            self.text.push(mark);
        }
    }
}
