//! Numbers as words.

use super::English;

/// More digits than this are no quantity to anybody: they are read one by one.
pub(super) const DIGITS_MAX: usize = 15;
/// Digits read in one breath, when they are read one by one.
const BREATH: usize = 4;

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] =
    ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const SCALES: [&str; 6] = ["", "thousand", "million", "billion", "trillion", "quadrillion"];

fn below_hundred(number: u64) -> String {
    let (tens, ones) = ((number / 10) as usize, (number % 10) as usize);
    match (tens, ones) {
        (0 | 1, _) => ONES[number as usize].to_owned(),
        (_, 0) => TENS[tens].to_owned(),
        (_, _) => format!("{} {}", TENS[tens], ONES[ones]),
    }
}

fn below_thousand(number: u64, english: English) -> String {
    let (hundreds, rest) = (number / 100, number % 100);
    let and = if english == English::British { "and " } else { "" };
    match (hundreds, rest) {
        (0, rest) => below_hundred(rest),
        (hundreds, 0) => format!("{} hundred", ONES[hundreds as usize]),
        (hundreds, rest) => {
            format!("{} hundred {and}{}", ONES[hundreds as usize], below_hundred(rest))
        }
    }
}

/// 9,000 is "nine thousand". Numbers have at most [`DIGITS_MAX`] digits.
pub(super) fn cardinal(number: u64, english: English) -> String {
    if number < 1000 {
        return below_thousand(number, english);
    }
    let (mut groups, mut left) = (Vec::new(), number);
    while left > 0 {
        groups.push(left % 1000);
        left /= 1000;
    }
    let mut words = Vec::new();
    for (scale, group) in groups.iter().enumerate().rev().filter(|(_, group)| **group > 0) {
        // "One thousand and five" is British, too.
        if scale == 0 && *group < 100 && english == English::British {
            words.push("and".to_owned());
        }
        words.push(below_thousand(*group, english));
        words.extend(SCALES.get(scale).filter(|name| !name.is_empty()).map(ToString::to_string));
    }
    words.join(" ")
}

/// 21 is "twenty first".
pub(super) fn ordinal(number: u64, english: English) -> String {
    let words = cardinal(number, english);
    let (before, last) = match words.rsplit_once(' ') {
        Some((before, last)) => (format!("{before} "), last),
        None => (String::new(), words.as_str()),
    };
    let last = match last {
        "one" => "first".to_owned(),
        "two" => "second".to_owned(),
        "three" => "third".to_owned(),
        "five" => "fifth".to_owned(),
        "eight" => "eighth".to_owned(),
        "nine" => "ninth".to_owned(),
        "twelve" => "twelfth".to_owned(),
        tens if tens.ends_with('y') => format!("{}ieth", tens.trim_end_matches('y')),
        other => format!("{other}th"),
    };
    before + &last
}

/// 1984 is "nineteen eighty four", 2009 "two thousand nine", 1900 "nineteen hundred".
pub(super) fn year(number: u64, english: English) -> String {
    let (century, rest) = (number / 100, number % 100);
    match (century, rest) {
        (..10 | 100.., _) | (20, 0..10) | (10, 0..10) => cardinal(number, english),
        (century, 0) => format!("{} hundred", below_hundred(century)),
        (century, rest @ 1..10) => {
            format!("{} oh {}", below_hundred(century), ONES[rest as usize])
        }
        (century, rest) => format!("{} {}", below_hundred(century), below_hundred(rest)),
    }
}

/// 1990 is "nineteen nineties", 90 "nineties".
pub(super) fn decade(number: u64, english: English) -> String {
    let words = if number < 100 { below_hundred(number) } else { year(number, english) };
    match words.strip_suffix('y') {
        Some(tens) => format!("{tens}ies"),
        None => format!("{words}s"),
    }
}

/// "007" is "zero zero seven".
pub(super) fn one_by_one(digits: &str) -> String {
    let names: Vec<_> = digits.chars().filter_map(|digit| digit.to_digit(10)).collect();
    let breath = |digits: &[u32]| {
        digits.iter().map(|digit| ONES[*digit as usize]).collect::<Vec<_>>().join(" ")
    };
    names.chunks(BREATH).map(breath).collect::<Vec<_>>().join(", ")
}

/// Digits without a sign, without commas: as a quantity if they can be one.
pub(super) fn whole(digits: &str, english: English) -> String {
    let is_code = digits.len() > 1 && digits.starts_with('0') || digits.len() > DIGITS_MAX;
    match digits.parse::<u64>() {
        Ok(number) if !is_code => cardinal(number, english),
        _ => one_by_one(digits),
    }
}

/// A number as people write it: 1,234.5, .5, 1e-9, with its sign before it.
pub(super) fn number(text: &str, english: English) -> Option<String> {
    let (sign, text) = match text.chars().next()? {
        '-' | '−' => ("minus ", text.trim_start_matches(['-', '−'])),
        '+' => ("plus ", &text[1..]),
        _ => ("", text),
    };
    if let Some((mantissa, exponent)) = text.split_once(['e', 'E']) {
        let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
        let power = number(exponent, english).filter(|_| !exponent.contains(['.', ',']))?;
        let mantissa = positive(mantissa, english)?;
        return Some(format!("{sign}{mantissa} times ten to the {power}"));
    }
    positive(text, english).map(|words| format!("{sign}{words}"))
}

fn positive(text: &str, english: English) -> Option<String> {
    let (left, right) = match text.split_once('.') {
        Some((left, right)) => (left, Some(right)),
        None => (text, None),
    };
    let left = digits(left)?;
    let words = if left.is_empty() { "zero".to_owned() } else { whole(&left, english) };
    match right {
        None if left.is_empty() => None,
        None => Some(words),
        Some(right) if right.is_empty() || !is_digits(right) => None,
        Some(right) => Some(format!("{words} point {}", one_by_one(right))),
    }
}

pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Digits with or without commas between thousands; nothing is fine too.
pub(super) fn digits(text: &str) -> Option<String> {
    if text.is_empty() || is_digits(text) {
        return Some(text.to_owned());
    }
    let mut groups = text.split(',');
    let first = groups.next().filter(|group| is_digits(group) && group.len() <= 3)?;
    let mut all = first.to_owned();
    for group in groups {
        if group.len() != 3 || !is_digits(group) {
            return None;
        }
        all += group;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: English = English::American;

    #[test]
    fn quantities() {
        for (number, words) in [
            (0, "zero"),
            (13, "thirteen"),
            (40, "forty"),
            (99, "ninety nine"),
            (100, "one hundred"),
            (342, "three hundred forty two"),
            (1_000, "one thousand"),
            (9_000, "nine thousand"),
            (12_005, "twelve thousand five"),
            (1_000_000, "one million"),
            (7_654_321, "seven million six hundred fifty four thousand three hundred twenty one"),
            (
                999_999_999_999_999,
                "nine hundred ninety nine trillion nine hundred ninety nine billion nine hundred \
                 ninety nine million nine hundred ninety nine thousand nine hundred ninety nine",
            ),
        ] {
            assert_eq!(cardinal(number, US), words);
        }
        assert_eq!(cardinal(342, English::British), "three hundred and forty two");
        assert_eq!(cardinal(12_005, English::British), "twelve thousand and five");
    }

    #[test]
    fn ordinals_years_and_decades() {
        for (number, words) in [
            (1, "first"),
            (2, "second"),
            (3, "third"),
            (5, "fifth"),
            (8, "eighth"),
            (9, "ninth"),
            (12, "twelfth"),
            (20, "twentieth"),
            (31, "thirty first"),
            (100, "one hundredth"),
        ] {
            assert_eq!(ordinal(number, US), words);
        }
        for (number, words) in [
            (1984, "nineteen eighty four"),
            (1900, "nineteen hundred"),
            (1905, "nineteen oh five"),
            (2000, "two thousand"),
            (2009, "two thousand nine"),
            (2026, "twenty twenty six"),
            (1066, "ten sixty six"),
        ] {
            assert_eq!(year(number, US), words);
        }
        assert_eq!(decade(1990, US), "nineteen nineties");
        assert_eq!(decade(90, US), "nineties");
        assert_eq!(decade(2000, US), "two thousands");
        assert_eq!(decade(1900, US), "nineteen hundreds");
    }

    #[test]
    fn written_numbers() {
        for (text, words) in [
            ("1,234", Some("one thousand two hundred thirty four")),
            ("3.14", Some("three point one four")),
            ("-5", Some("minus five")),
            ("−5", Some("minus five")),
            ("+5", Some("plus five")),
            (".5", Some("zero point five")),
            ("007", Some("zero zero seven")),
            ("1e9", Some("one times ten to the nine")),
            ("2.5e-3", Some("two point five times ten to the minus three")),
            (
                "12345678901234567",
                Some(
                    "one two three four, five six seven eight, nine zero one two, three four five six, \
                 seven",
                ),
            ),
            ("1,23", None),
            ("1.", None),
            ("1.2.3", None),
            ("", None),
            ("-", None),
            ("e5", None),
            ("1e", None),
            ("٣", None),
        ] {
            assert_eq!(number(text, US).as_deref(), words, "{text}");
        }
    }
}
