//! Characters before words: one form for each mark, nothing that cannot be said, and a word for
//! what another script says.
//!
//! Invariant: what comes out has no control character, no invisible one, and letters of the Latin
//! script alone.

const GREEK: [&str; 24] = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi",
    "psi", "omega",
];

pub(super) fn clean(text: &str) -> String {
    let mut out = Out { text: String::with_capacity(text.len()), scripts: Vec::new() };
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if let Some(name) = greek(c) {
            let is_word = rest.peek().is_some_and(|next| greek(*next).is_some());
            if is_word || out.scripts.contains(&"Greek text") {
                out.foreign("Greek text");
            } else {
                out.word(name);
            }
        } else if let Some(script) = script(c) {
            out.foreign(script);
        } else {
            out.own(c);
        }
    }
    out.text
}

struct Out {
    text: String,
    /// The other scripts that were told since the last letter of ours: each is told once.
    scripts: Vec<&'static str>,
}

impl Out {
    fn word(&mut self, word: &str) {
        self.text.push(' ');
        self.text.push_str(word);
        self.text.push(' ');
    }

    fn foreign(&mut self, script: &'static str) {
        // Japanese is written in Chinese signs, too.
        let is_japanese = script == "Chinese text" && self.scripts.contains(&"Japanese text");
        if !is_japanese && !self.scripts.contains(&script) {
            self.word(script);
            self.scripts.push(script);
        }
    }

    fn own(&mut self, c: char) {
        if c.is_ascii_alphanumeric() || is_latin(c) {
            self.scripts.clear();
        }
        match c {
            '\u{2018}' | '\u{2019}' | '\u{2bc}' | '\u{2032}' | '`' => self.text.push('\''),
            '“' | '”' | '„' | '«' | '»' | '\u{2033}' => self.text.push('"'),
            '—' | '―' => self.text.push_str(" — "),
            '‐' | '‑' | '‒' => self.text.push('-'),
            '、' | '，' => self.text.push_str(", "),
            '。' => self.text.push_str(". "),
            '¼' => self.part("1/4"),
            '½' => self.part("1/2"),
            '¾' => self.part("3/4"),
            '⅓' => self.part("1/3"),
            '⅔' => self.part("2/3"),
            'μ' => self.text.push('µ'),
            // Marks upon the letter before: the letter alone is near enough.
            '\u{300}'..='\u{36f}' => {}
            // Invisible: joiners, directions, soft hyphens, variations.
            '\u{ad}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fe00}'..='\u{fe0f}' => {}
            // Full width.
            '\u{ff01}'..='\u{ff5e}' => {
                let narrow = u32::from(c) - 0xfee0;
                self.text.extend(char::from_u32(narrow));
            }
            c if c.is_whitespace() || c.is_control() => self.text.push(' '),
            c if is_latin(c) => self.text.extend(known(c)),
            c if c.is_ascii() || is_sign(c) => self.text.push(c),
            // An emoji, an arrow of another kind, a dingbat.
            _ => self.text.push(' '),
        }
    }

    /// Half of something, with what stands before it.
    fn part(&mut self, fraction: &str) {
        if self.text.ends_with(|c: char| c.is_ascii_digit()) {
            self.text.push_str(" and");
        }
        self.word(fraction);
    }
}

fn is_latin(c: char) -> bool {
    matches!(c, 'À'..='ɏ' | 'Ḁ'..='ỿ') && c.is_alphabetic()
}

/// The letter, or the one it is made of: espeak spells what it does not know by its number. Each row of
/// the Unicode tables for Latin has all that are made of one letter side by side.
fn known(c: char) -> Option<char> {
    let plain = match c {
        'À'..='ÿ' | 'Œ' | 'œ' => return Some(c),
        'ẞ' => return Some('ß'),
        'Ā'..='ą' | 'Ạ'..='ặ' => 'a',
        'Ć'..='č' => 'c',
        'Ď'..='đ' => 'd',
        'Ē'..='ě' | 'Ẹ'..='ệ' => 'e',
        'Ĝ'..='ģ' => 'g',
        'Ĥ'..='ħ' => 'h',
        'Ĩ'..='ĳ' | 'Ỉ'..='ị' => 'i',
        'Ĵ'..='ĵ' => 'j',
        'Ķ'..='ĸ' => 'k',
        'Ĺ'..='ł' => 'l',
        'Ń'..='ŋ' => 'n',
        'Ō'..='ő' | 'Ơ'..='ơ' | 'Ọ'..='ợ' => 'o',
        'Ŕ'..='ř' => 'r',
        'Ś'..='š' | 'ſ' | 'Ș'..='ș' => 's',
        'Ţ'..='ŧ' | 'Ț'..='ț' => 't',
        'Ũ'..='ų' | 'Ư'..='ư' | 'Ụ'..='ự' => 'u',
        'Ŵ'..='ŵ' => 'w',
        'Ŷ'..='Ÿ' | 'Ỳ'..='ỹ' => 'y',
        'Ź'..='ž' => 'z',
        _ => return None,
    };
    Some(if c.is_uppercase() { plain.to_ascii_uppercase() } else { plain })
}

/// A sign that words stand for.
fn is_sign(c: char) -> bool {
    "€£¥₹₿¢°℃℉µ²³§©±×÷−≈≤≥≠→←⇒…–•·№√∞".contains(c)
}

fn greek(c: char) -> Option<&'static str> {
    let lower = c.to_lowercase().next()?;
    let at = match lower {
        'ς' => 17,
        // The final sigma stands before the sigma.
        'α'..='ρ' => u32::from(lower) - u32::from('α'),
        'σ'..='ω' => u32::from(lower) - u32::from('α') - 1,
        _ => return None,
    };
    // The sign of a millionth is written as a letter, too: it stays for the units.
    GREEK.get(at as usize).copied().filter(|_| c != 'μ')
}

/// What a letter of another script is called.
fn script(c: char) -> Option<&'static str> {
    if c.is_ascii() || is_latin(c) || !(c.is_alphabetic() || c.is_numeric()) || is_sign(c) {
        return None;
    }
    match c {
        '\u{370}'..='\u{3ff}' if c != 'μ' => Some("Greek text"),
        '\u{400}'..='\u{52f}' => Some("Cyrillic text"),
        '\u{590}'..='\u{5ff}' => Some("Hebrew text"),
        '\u{600}'..='\u{77f}' | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}' => {
            Some("Arabic text")
        }
        '\u{900}'..='\u{97f}' => Some("Hindi text"),
        '\u{e00}'..='\u{e7f}' => Some("Thai text"),
        '\u{3040}'..='\u{30ff}' => Some("Japanese text"),
        '\u{ac00}'..='\u{d7af}' | '\u{1100}'..='\u{11ff}' => Some("Korean text"),
        '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{2fa1f}' => Some("Chinese text"),
        // Letter-like signs, numbers in circles: they are no script.
        '\u{2000}'..='\u{2bff}' | '\u{aa}'..='\u{be}' | 'μ' => None,
        '\u{1f000}'..='\u{1faff}' | '\u{ff00}'..='\u{ff5e}' | '\u{2b0}'..='\u{36f}' => None,
        _ => Some("foreign text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_ours_or_told() {
        for (text, expected) in [
            ("it’s “so”", "it's \"so\""),
            ("caf\u{e9} cafe\u{301}", "café cafe"),
            ("a\u{200b}b\u{202e}c\0d\u{7}", "abc d"),
            ("Nguyễn, Łódź, Dvořák, Ōsaka, GROẞ", "Nguyen, Lódz, Dvorák, Osaka, GROß"),
            ("naïve Zoë œuvre ǆ", "naïve Zoë œuvre"),
            ("α and Ω", "alpha and omega"),
            ("5 μs", "5 µs"),
            ("say 你好，世界 now", "say Chinese text , now"),
            ("日本語のテキスト", "Chinese text Japanese text"),
            ("Привет мир!", "Cyrillic text !"),
            ("שלום \u{200f}עולם", "Hebrew text"),
            ("γεια σου", "Greek text"),
            ("👍🏽 yes 🇩🇪", "yes"),
            ("①②", ""),
            ("２０２６！", "2026!"),
            ("2½ cups", "2 and 1/2 cups"),
            ("ትግርኛ", "foreign text"),
            ("я漢я漢 я", "Cyrillic text Chinese text"),
            ("я a я", "Cyrillic text a Cyrillic text"),
        ] {
            let words: Vec<_> = clean(text).split_whitespace().map(str::to_owned).collect();
            assert_eq!(words.join(" "), expected, "{text}");
        }
    }
}
