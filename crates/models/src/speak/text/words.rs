//! Words that are not said as they are written: abbreviations, acronyms, addresses, identifiers,
//! signs.

use super::English;
use super::numbers::{self, is_digits};

/// Written with or without a full stop, and what is said.
const ABBREVIATIONS: [(&str, &str); 58] = [
    ("dr", "doctor"),
    ("mr", "mister"),
    ("mrs", "missus"),
    ("ms", "miz"),
    ("prof", "professor"),
    ("gen", "general"),
    ("col", "colonel"),
    ("lt", "lieutenant"),
    ("sgt", "sergeant"),
    ("capt", "captain"),
    ("sen", "senator"),
    ("gov", "governor"),
    ("rev", "reverend"),
    ("jr", "junior"),
    ("sr", "senior"),
    ("mt", "mount"),
    ("vs", "versus"),
    ("e.g", "for example"),
    ("i.e", "that is"),
    ("etc", "et cetera"),
    ("cf", "compare"),
    ("al", "al"),
    ("viz", "namely"),
    ("ca", "circa"),
    ("approx", "approximately"),
    ("fig", "figure"),
    ("figs", "figures"),
    ("eq", "equation"),
    ("vol", "volume"),
    ("ch", "chapter"),
    ("sec", "section"),
    ("pp", "pages"),
    ("p", "page"),
    ("no", "number"),
    ("nos", "numbers"),
    ("ed", "edition"),
    ("dept", "department"),
    ("est", "established"),
    ("inc", "incorporated"),
    ("ltd", "limited"),
    ("corp", "corporation"),
    ("co", "company"),
    ("ave", "avenue"),
    ("blvd", "boulevard"),
    ("max", "maximum"),
    ("min", "minimum"),
    ("jan", "January"),
    ("feb", "February"),
    ("mar", "March"),
    ("apr", "April"),
    ("jun", "June"),
    ("jul", "July"),
    ("aug", "August"),
    ("sep", "September"),
    ("sept", "September"),
    ("oct", "October"),
    ("nov", "November"),
    ("dec", "December"),
];
/// Said so without a full stop as well.
const ALWAYS: [&str; 14] = [
    "dr", "mr", "mrs", "prof", "vs", "e.g", "i.e", "etc", "approx", "dept", "ltd", "sgt", "capt",
    "viz",
];
/// An ordinary word, or a name, unless a number follows.
const BEFORE_NUMBERS: [&str; 10] =
    ["no", "nos", "fig", "figs", "eq", "vol", "ch", "sec", "p", "pp"];
/// Read as words, or in a way of their own.
const NAMED: [(&str, &str); 34] = [
    ("JSON", "jayson"),
    ("SQL", "sequel"),
    ("MySQL", "my sequel"),
    ("SQLite", "sequel light"),
    ("PostgreSQL", "postgres"),
    ("YAML", "yammel"),
    ("TOML", "tommel"),
    ("JPEG", "jay peg"),
    ("JPG", "jay peg"),
    ("GIF", "gif"),
    ("ASCII", "askey"),
    ("nginx", "engine ex"),
    ("OAuth", "oh auth"),
    ("WiFi", "why fye"),
    ("Wi-Fi", "why fye"),
    ("GUI", "gooey"),
    ("iOS", "eye oh ess"),
    ("macOS", "mac oh ess"),
    ("LaTeX", "lah tek"),
    ("LLaMA", "llama"),
    ("PhD", "pee aitch dee"),
    ("Ph.D", "pee aitch dee"),
    ("tl;dr", "too long, didn't read"),
    ("TL;DR", "too long, didn't read"),
    ("w/", "with"),
    ("w/o", "without"),
    ("aka", "also known as"),
    ("a.k.a", "also known as"),
    ("C++", "see plus plus"),
    ("C#", "see sharp"),
    ("F#", "ef sharp"),
    ("&", "and"),
    ("24/7", "twenty four seven"),
    ("OK", "okay"),
];
/// Capitals with a vowel that are said letter by letter all the same.
const SPELLED: [&str; 63] = [
    "API", "URL", "URI", "USA", "UK", "EU", "UN", "UI", "UX", "AI", "IO", "IP", "ID", "OS", "IT",
    "GPU", "CPU", "TPU", "NPU", "SDK", "CLI", "AWS", "USB", "DIY", "ATM", "CEO", "CTO", "COO",
    "CFO", "FBI", "CIA", "FAQ", "IDE", "ISO", "UTC", "UTF", "UDP", "DNA", "RNA", "ECG", "EEG",
    "MRI", "IBM", "AMD", "ARM", "AES", "RSA", "SSH", "UUID", "ETA", "HIV", "IRS", "LED", "OLED",
    "SUV", "UFO", "VIP", "OCR", "IOU", "ISBN", "USD", "AUD", "CAD",
];
/// Written so that espeak says the letter's name.
const LETTERS: [&str; 26] = [
    "eh",
    "bee",
    "see",
    "dee",
    "ee",
    "ef",
    "jee",
    "aitch",
    "eye",
    "jay",
    "kay",
    "ell",
    "em",
    "en",
    "oh",
    "pee",
    "cue",
    "ar",
    "ess",
    "tee",
    "yew",
    "vee",
    "double yew",
    "ex",
    "wye",
    "zee",
];
/// What signs between and around words are called.
const SIGNS: [(&str, &str); 39] = [
    ("===", "equals"),
    ("==", "equals"),
    ("!=", "is not"),
    ("≠", "is not"),
    (">=", "at least"),
    ("≥", "at least"),
    ("<=", "at most"),
    ("≤", "at most"),
    ("->", "to"),
    ("=>", "to"),
    ("→", "to"),
    ("⇒", "to"),
    ("←", "from"),
    ("&&", "and"),
    ("||", "or"),
    ("::", ""),
    ("--", "dash dash"),
    ("&", "and"),
    ("@", "at"),
    ("+", "plus"),
    ("−", "minus"),
    ("=", "equals"),
    ("<", "less than"),
    (">", "greater than"),
    ("≈", "about"),
    ("±", "plus or minus"),
    ("×", "times"),
    ("÷", "divided by"),
    ("%", "percent"),
    ("°", "degrees"),
    ("§", "section"),
    ("©", "copyright"),
    ("²", "squared"),
    ("³", "cubed"),
    ("√", "square root of"),
    ("∞", "infinity"),
    ("€", "euro"),
    ("£", "pound"),
    ("№", "number"),
];
/// A word of more letters is no word: it is said in steps.
const WORD_MAX: usize = 40;
/// Longest part of an address that is said.
const PATH_MAX: usize = 30;
/// Letters and digits mixed: more of them are a key or a hash, said one by one, and no more of it.
const KEY_MIN: usize = 12;
const KEY_SAID: usize = 8;

/// An abbreviation with its full stop (`has_stop`) or without; `next` is the next word.
pub(super) fn abbreviation(word: &str, has_stop: bool, next: &str) -> Option<String> {
    let lower = word.to_lowercase();
    let is_number = next.starts_with(|c: char| c.is_ascii_digit());
    let is_name = next.starts_with(char::is_uppercase);
    if lower == "st" && has_stop {
        return Some(if is_name { "Saint" } else { "Street" }.to_owned());
    }
    let (_, said) = ABBREVIATIONS.iter().find(|(short, _)| *short == lower)?;
    let is_meant = match lower.as_str() {
        word if BEFORE_NUMBERS.contains(&word) => has_stop && is_number,
        // "Max. 5", and not Max the name at a sentence's end; "al." of "et al." is said so.
        "max" | "min" | "est" | "ed" | "ca" => has_stop && !next.is_empty(),
        // Capital, or they are words of other kinds.
        "ms" | "lt" | "col" | "gen" | "sen" | "rev" | "gov" | "mt" => {
            word.starts_with(char::is_uppercase) && has_stop && is_name
        }
        "jan" | "feb" | "mar" | "apr" | "jun" | "jul" | "aug" | "sep" | "sept" | "oct" | "nov"
        | "dec" | "sr" | "jr" | "inc" | "corp" | "co" | "ave" | "blvd" => {
            word.starts_with(char::is_uppercase) && has_stop
        }
        word => has_stop || ALWAYS.contains(&word),
    };
    is_meant.then(|| (*said).to_owned())
}

/// Letters by their names.
fn spell(word: &str, english: English) -> String {
    let name = |c: char| match (c.to_ascii_lowercase(), english) {
        ('z', English::British) => Some("zed"),
        (c @ 'a'..='z', _) => LETTERS.get(usize::from(c as u8 - b'a')).copied(),
        (_, _) => None,
    };
    let names: Vec<_> = word.chars().filter_map(name).collect();
    if names.is_empty() { word.to_owned() } else { names.join(" ") }
}

/// A run of letters, with what stands behind an apostrophe.
fn letters(word: &str, english: English) -> String {
    if let Some((_, said)) = NAMED.iter().find(|(name, _)| *name == word) {
        return (*said).to_owned();
    }
    let (base, end) = match word.strip_suffix('s') {
        Some(base)
            if word.len() > 2 && base.trim_end_matches('\'').chars().all(char::is_uppercase) =>
        {
            (base.trim_end_matches('\''), "s")
        }
        _ => (word, ""),
    };
    let length = base.chars().count();
    let is_capitals = length > 1 && base.chars().all(|c| c.is_ascii_uppercase());
    if is_capitals {
        let vowels = base.chars().filter(|c| "AEIOUY".contains(*c)).count();
        let is_spelled = SPELLED.contains(&base) || vowels == 0 && length <= 6;
        let said = NAMED.iter().find(|(name, _)| *name == base).map(|(_, said)| *said);
        return match (said, is_spelled) {
            (Some(said), _) => format!("{said}{}", end.replace('s', "'s")),
            (None, true) if end.is_empty() => spell(base, english),
            (None, true) => spell(base, english) + "'s",
            (None, false) if word.contains('\'') => base.to_lowercase() + "'s",
            (None, false) => base.to_lowercase() + end,
        };
    }
    if length == 1 && !matches!(base, "a" | "A" | "I") && end.is_empty() {
        return spell(base, english);
    }
    // Two consonants or three are no word.
    let is_consonants = (2..=4).contains(&length)
        && base.chars().all(|c| c.is_ascii_alphabetic() && !"aeiouyAEIOUY".contains(c))
        && !matches!(
            base.to_lowercase().as_str(),
            "hmm" | "shh" | "psst" | "pst" | "brr" | "mm" | "th"
        );
    if is_consonants && end.is_empty() {
        return spell(base, english);
    }
    steps(word)
}

/// A long word in steps, for nobody can say it at once.
fn steps(word: &str) -> String {
    let all: Vec<char> = word.chars().collect();
    let steps: Vec<String> = all.chunks(WORD_MAX).map(|step| step.iter().collect()).collect();
    steps.join(" ")
}

/// Where a name of several words changes to the next: `camelCase`, `HTTPServer`.
fn humps(word: &str) -> Vec<&str> {
    let is_name = ["Mc", "Mac", "O'"].iter().any(|begin| word.starts_with(begin));
    if is_name || NAMED.iter().any(|(name, _)| *name == word) {
        return vec![word];
    }
    let chars: Vec<(usize, char)> = word.char_indices().collect();
    let (mut parts, mut from) = (Vec::new(), 0);
    for window in chars.windows(2) {
        let [(_, left), (at, right)] = window else { continue };
        let next = word[at + right.len_utf8()..].chars().next();
        let into = left.is_lowercase() && right.is_uppercase();
        // The last of several capitals begins the next, but for a plural: "APIs".
        let behind = left.is_uppercase()
            && right.is_uppercase()
            && next.is_some_and(char::is_lowercase)
            && &word[at + right.len_utf8()..] != "s";
        if into || behind {
            parts.push(&word[from..*at]);
            from = *at;
        }
    }
    parts.push(&word[from..]);
    parts
}

/// `https://example.org/path`, `www.example.org`, `me@example.org`.
fn address(word: &str, english: English) -> Option<String> {
    let bare = word.strip_prefix("mailto:").unwrap_or(word);
    if let Some((who, host)) = bare.split_once('@') {
        let is_one = !who.is_empty() && host.contains('.') && !host.contains('@');
        return is_one
            .then(|| format!("{} at {}", anything(who, english), anything(host, english)));
    }
    let schemes = ["https://", "http://", "ftp://", "wss://", "ws://"];
    let rest = schemes.iter().find_map(|scheme| bare.strip_prefix(scheme)).or_else(|| {
        let is_host = bare.starts_with("www.");
        is_host.then_some(bare)
    })?;
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = host.strip_prefix("www.").unwrap_or(host);
    // Nobody wants to hear more of it.
    let path = path.split(['?', '#']).next().unwrap_or("").trim_end_matches('/');
    let host = anything(host, english);
    if path.is_empty() || path.len() > PATH_MAX {
        return Some(host);
    }
    let steps = path.split('/').skip(1).map(|step| format!(" slash {}", anything(step, english)));
    Some(host + &steps.collect::<String>())
}

/// What is numbered with Roman numerals, and who is.
const NUMBERED: [&str; 18] = [
    "war", "act", "scene", "part", "chapter", "book", "volume", "section", "type", "phase",
    "level", "title", "article", "class", "mark", "stage", "episode", "season",
];
const KINGS: [&str; 15] = [
    "henry",
    "louis",
    "george",
    "charles",
    "edward",
    "elizabeth",
    "philip",
    "richard",
    "james",
    "william",
    "pope",
    "paul",
    "benedict",
    "napoleon",
    "frederick",
];
const ROMANS: [&str; 20] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV",
    "XVI", "XVII", "XVIII", "XIX", "XX",
];

/// "Act II" is two, "Henry VIII" the eighth.
pub(super) fn roman(word: &str, before: &str, english: English) -> Option<String> {
    let number = ROMANS.iter().position(|roman| *roman == word)? as u64 + 1;
    if KINGS.contains(&before) && word != "I" {
        return Some(format!("the {}", numbers::ordinal(number, english)));
    }
    // Others may be letters, or nobody's number.
    let is_plain = word.len() >= 3 || word == "II";
    (is_plain || NUMBERED.contains(&before)).then(|| numbers::cardinal(number, english))
}

/// Whatever it is, as words.
pub(super) fn said(word: &str, english: English) -> String {
    if let Some((_, said)) = NAMED.iter().find(|(name, _)| *name == word) {
        return (*said).to_owned();
    }
    if let Some(said) = address(word, english).or_else(|| initials(word, english)) {
        return said;
    }
    match word.strip_prefix('#') {
        Some(tag) if tag.starts_with(char::is_alphabetic) => {
            format!("hashtag {}", anything(tag, english))
        }
        _ => anything(word, english),
    }
}

/// "U.S.", "a.m".
fn initials(word: &str, english: English) -> Option<String> {
    let letters: Vec<_> = word.trim_end_matches('.').split('.').collect();
    let is_one = letters.len() >= 2
        && letters
            .iter()
            .all(|letter| letter.len() == 1 && letter.as_bytes()[0].is_ascii_alphabetic());
    is_one.then(|| spell(&letters.concat(), english))
}

/// A run of one kind of characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letters,
    Digits,
    Signs,
}

fn kind(c: char, next: Option<char>, last: Option<Kind>) -> Kind {
    let digit_follows = next.is_some_and(|next| next.is_ascii_digit());
    let letter_follows = next.is_some_and(char::is_alphabetic);
    match c {
        '0'..='9' => Kind::Digits,
        '.' | ',' if last == Some(Kind::Digits) && digit_follows => Kind::Digits,
        '\'' if last == Some(Kind::Letters) && letter_follows => Kind::Letters,
        c if c.is_alphabetic() && c != 'µ' => Kind::Letters,
        _ => Kind::Signs,
    }
}

fn runs(word: &str) -> Vec<(Kind, &str)> {
    let (mut runs, mut from, mut last) = (Vec::new(), 0, None);
    for (at, c) in word.char_indices() {
        let now = kind(c, word[at + c.len_utf8()..].chars().next(), last);
        if let Some(before) = last.filter(|before| *before != now) {
            runs.push((before, &word[from..at]));
            from = at;
        }
        last = Some(now);
    }
    runs.extend(last.map(|last| (last, &word[from..])));
    runs
}

/// Letters, digits and signs one run after the other.
fn anything(word: &str, english: English) -> String {
    let runs = runs(word);
    let is_mixed = runs.len() >= 5 && runs.iter().all(|(kind, _)| *kind != Kind::Signs);
    if is_mixed && word.len() >= KEY_MIN {
        let begin: String = word.chars().take(KEY_SAID).collect();
        let each = begin.chars().map(|c| match c.is_ascii_digit() {
            true => numbers::one_by_one(c.encode_utf8(&mut [0; 4])),
            false => spell(c.encode_utf8(&mut [0; 4]), english),
        });
        return each.collect::<Vec<_>>().join(" ") + " and so on";
    }
    let is_path =
        word.starts_with(['/', '~']) || word.starts_with("./") || word.matches('/').count() > 1;
    let mut words: Vec<String> = Vec::new();
    for (at, (kind, run)) in runs.iter().enumerate() {
        let is_inside = at > 0 && at + 1 < runs.len();
        match kind {
            // A letter of a name, and not the article.
            Kind::Letters if run.len() == 1 && runs.len() > 1 => words.push(spell(run, english)),
            Kind::Letters => {
                words.extend(humps(run).into_iter().map(|part| letters(part, english)));
            }
            Kind::Digits => words.push(digits(run, runs.len() > 1, english)),
            Kind::Signs if is_inside && is_between_digits(&runs, at) && *run == "*" => {
                words.push("times".to_owned());
            }
            Kind::Signs => words.push(signs(run, is_inside, is_path)),
        }
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

fn is_between_digits(runs: &[(Kind, &str)], at: usize) -> bool {
    [at.wrapping_sub(1), at + 1]
        .iter()
        .all(|at| runs.get(*at).is_some_and(|run| run.0 == Kind::Digits))
}

/// Digits by themselves, or of a name ("H100", "RTX4090").
fn digits(run: &str, is_of_name: bool, english: English) -> String {
    if is_of_name
        && run.len() == 4
        && is_digits(run)
        && !run.starts_with('0')
        && !run.ends_with("00")
    {
        return numbers::year(run.parse().unwrap_or(0), english);
    }
    numbers::number(run, english).unwrap_or_else(|| {
        let parts = run.split(['.', ',']).map(|part| numbers::whole(part, english));
        parts.collect::<Vec<_>>().join(" point ")
    })
}

fn signs(run: &str, is_inside: bool, is_path: bool) -> String {
    let (mut rest, mut words) = (run, Vec::new());
    while let Some(c) = rest.chars().next() {
        if let Some((sign, said)) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
            words.push(*said);
            // A line of equal signs is one.
            let mut left = &rest[sign.len()..];
            while let Some(again) = left.strip_prefix(sign) {
                left = again;
            }
            rest = left;
            continue;
        }
        match c {
            '.' if is_inside => words.push("dot"),
            '/' if is_path => words.push("slash"),
            '\\' if is_inside => words.push("backslash"),
            '^' if is_inside => words.push("to the"),
            '~' if is_path => words.push("home"),
            _ => {}
        }
        rest = &rest[c.len_utf8()..];
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}
