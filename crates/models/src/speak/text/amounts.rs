//! Quantities as words: money, measures, times, dates, ranges. Each function takes a word without
//! the marks around it, and gives nothing if it is not what the function knows.

use super::English;
use super::numbers::{self, cardinal, is_digits, number, one_by_one, ordinal, whole, year};

const MONTHS: [(&str, &str); 12] = [
    ("Jan", "January"),
    ("Feb", "February"),
    ("Mar", "March"),
    ("Apr", "April"),
    ("May", "May"),
    ("Jun", "June"),
    ("Jul", "July"),
    ("Aug", "August"),
    ("Sep", "September"),
    ("Oct", "October"),
    ("Nov", "November"),
    ("Dec", "December"),
];
/// Sign, one, many, a hundredth, hundredths.
const MONEY: [(&str, &str, &str, &str, &str); 7] = [
    ("$", "dollar", "dollars", "cent", "cents"),
    ("€", "euro", "euros", "cent", "cents"),
    ("£", "pound", "pounds", "penny", "pence"),
    ("¥", "yen", "yen", "", ""),
    ("₹", "rupee", "rupees", "paisa", "paise"),
    ("₿", "bitcoin", "bitcoins", "", ""),
    ("¢", "cent", "cents", "", ""),
];
const SCALES: [&str; 4] = ["thousand", "million", "billion", "trillion"];
/// Symbol, one, many.
const UNITS: [(&str, &str, &str); 74] = [
    ("°C", "degree Celsius", "degrees Celsius"),
    ("℃", "degree Celsius", "degrees Celsius"),
    ("°F", "degree Fahrenheit", "degrees Fahrenheit"),
    ("℉", "degree Fahrenheit", "degrees Fahrenheit"),
    ("°", "degree", "degrees"),
    ("nm", "nanometer", "nanometers"),
    ("µm", "micrometer", "micrometers"),
    ("mm", "millimeter", "millimeters"),
    ("cm", "centimeter", "centimeters"),
    ("m", "meter", "meters"),
    ("km", "kilometer", "kilometers"),
    ("mi", "mile", "miles"),
    ("ft", "foot", "feet"),
    ("yd", "yard", "yards"),
    ("mg", "milligram", "milligrams"),
    ("g", "gram", "grams"),
    ("kg", "kilogram", "kilograms"),
    ("lb", "pound", "pounds"),
    ("lbs", "pound", "pounds"),
    ("oz", "ounce", "ounces"),
    ("ml", "milliliter", "milliliters"),
    ("mL", "milliliter", "milliliters"),
    ("l", "liter", "liters"),
    ("L", "liter", "liters"),
    ("ns", "nanosecond", "nanoseconds"),
    ("µs", "microsecond", "microseconds"),
    ("us", "microsecond", "microseconds"),
    ("ms", "millisecond", "milliseconds"),
    ("s", "second", "seconds"),
    ("sec", "second", "seconds"),
    ("secs", "second", "seconds"),
    ("min", "minute", "minutes"),
    ("mins", "minute", "minutes"),
    ("h", "hour", "hours"),
    ("hr", "hour", "hours"),
    ("hrs", "hour", "hours"),
    ("B", "byte", "bytes"),
    ("kB", "kilobyte", "kilobytes"),
    ("KB", "kilobyte", "kilobytes"),
    ("MB", "megabyte", "megabytes"),
    ("GB", "gigabyte", "gigabytes"),
    ("TB", "terabyte", "terabytes"),
    ("PB", "petabyte", "petabytes"),
    ("KiB", "kibibyte", "kibibytes"),
    ("MiB", "mebibyte", "mebibytes"),
    ("GiB", "gibibyte", "gibibytes"),
    ("TiB", "tebibyte", "tebibytes"),
    ("bit", "bit", "bits"),
    ("kbit", "kilobit", "kilobits"),
    ("Mbit", "megabit", "megabits"),
    ("Gbit", "gigabit", "gigabits"),
    ("bps", "bit per second", "bits per second"),
    ("kbps", "kilobit per second", "kilobits per second"),
    ("Mbps", "megabit per second", "megabits per second"),
    ("Gbps", "gigabit per second", "gigabits per second"),
    ("fps", "frame per second", "frames per second"),
    ("rpm", "revolution per minute", "revolutions per minute"),
    ("mph", "mile per hour", "miles per hour"),
    ("kph", "kilometer per hour", "kilometers per hour"),
    ("Hz", "hertz", "hertz"),
    ("kHz", "kilohertz", "kilohertz"),
    ("MHz", "megahertz", "megahertz"),
    ("GHz", "gigahertz", "gigahertz"),
    ("W", "watt", "watts"),
    ("kW", "kilowatt", "kilowatts"),
    ("MW", "megawatt", "megawatts"),
    ("kWh", "kilowatt hour", "kilowatt hours"),
    ("mA", "milliamp", "milliamps"),
    ("mAh", "milliamp hour", "milliamp hours"),
    ("V", "volt", "volts"),
    ("kV", "kilovolt", "kilovolts"),
    ("dB", "decibel", "decibels"),
    ("px", "pixel", "pixels"),
    ("kcal", "kilocalorie", "kilocalories"),
];
/// Words that say of a number behind them that it is a year.
const BEFORE_YEARS: [&str; 14] = [
    "in", "since", "until", "till", "year", "years", "circa", "early", "late", "spring", "summer",
    "autumn", "winter", "fall",
];

/// What stands around a word.
#[derive(Clone, Copy, Default)]
pub(super) struct Around<'a> {
    pub(super) before: &'a str,
    /// The next word, if nothing stands between.
    pub(super) next: &'a str,
    pub(super) english: English,
}

/// Words, and how many of the words after this one they say, too.
pub(super) type Said = Option<(String, usize)>;

pub(super) fn said(word: &str, around: Around<'_>) -> Said {
    let more: [fn(&str, Around<'_>) -> Said; 5] = [money, calendar_day, clock, decade, measure];
    let alone: [fn(&str, English) -> Option<String>; 9] =
        [date, phone, range, fraction, nth, percent, scaled, product, dotted];
    more.iter()
        .find_map(|read| read(word, around))
        .or_else(|| alone.iter().find_map(|read| read(word, around.english)).map(|said| (said, 0)))
        .or_else(|| plain(word, around).map(|said| (said, 0)))
}

/// The number at the beginning, and what is behind it.
fn leading(word: &str) -> Option<(&str, &str)> {
    let unsigned = word.trim_start_matches(['+', '-', '−']);
    let sign = word.len() - unsigned.len();
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',');
    let digits = unsigned[..end.unwrap_or(unsigned.len())].trim_end_matches(['.', ',']);
    let is_one = digits.contains(|c: char| c.is_ascii_digit()) && sign <= '−'.len_utf8();
    is_one.then(|| word.split_at(sign + digits.len()))
}

fn is_one(number: &str) -> bool {
    number.trim_start_matches(['+', '-', '−']) == "1"
}

/// k, M, B and what else stands for thousands and more.
fn scale(suffix: &str) -> Option<&'static str> {
    match suffix {
        "k" | "K" => Some("thousand"),
        "m" | "M" | "mn" => Some("million"),
        "b" | "B" | "bn" => Some("billion"),
        "T" | "tn" => Some("trillion"),
        _ => None,
    }
}

fn money(word: &str, around: Around<'_>) -> Said {
    let unsigned = word.trim_start_matches(['-', '−', '+']);
    let sign = &word[..word.len() - unsigned.len()];
    let unsigned = unsigned.strip_prefix("US").filter(|c| c.starts_with('$')).unwrap_or(unsigned);
    let (kind, amount) = MONEY.iter().find_map(|kind| {
        let before = unsigned.strip_prefix(kind.0);
        let amount = before.or_else(|| unsigned.strip_suffix(kind.0))?;
        Some((kind, amount))
    })?;
    let (_, one, many, cent, cents) = kind;
    let (digits, suffix) = leading(amount)?;
    let english = around.english;
    let sign = if sign.starts_with(['-', '−']) { "minus " } else { "" };
    let words = number(digits, english)?;
    if let Some(scale) = scale(suffix) {
        return Some((format!("{sign}{words} {scale} {many}"), 0));
    }
    if let Some(last) = suffix.strip_prefix(['-', '–']) {
        let last = number(last.trim_start_matches(kind.0), english)?;
        return Some((format!("{sign}{words} to {last} {many}"), 0));
    }
    if !suffix.is_empty() {
        return None;
    }
    if let Some(scale) = SCALES.iter().find(|scale| around.next.eq_ignore_ascii_case(scale)) {
        return Some((format!("{sign}{words} {scale} {many}"), 1));
    }
    let named = |number: u64, one: &str, many: &str| {
        format!("{} {}", cardinal(number, english), if number == 1 { one } else { many })
    };
    let told = match digits.split_once('.') {
        Some((whole, part)) if part.len() == 2 && !cent.is_empty() => {
            let whole = numbers::digits(whole)?.parse::<u64>().unwrap_or(0);
            match (whole, part.parse::<u64>().ok()?) {
                (whole, 0) => named(whole, one, many),
                (0, part) => named(part, cent, cents),
                (whole, part) => {
                    format!("{} and {}", named(whole, one, many), named(part, cent, cents))
                }
            }
        }
        _ if digits == "1" => format!("one {one}"),
        _ => format!("{words} {many}"),
    };
    Some((sign.to_owned() + &told, 0))
}

fn month(word: &str) -> Option<&'static str> {
    let is_it = |(short, long): &&(&str, &str)| {
        word == *long || word == *short || word == "Sept" && *short == "Sep"
    };
    MONTHS.iter().find(is_it).map(|(_, long)| *long)
}

fn day(word: &str) -> Option<u64> {
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|end| word.strip_suffix(end));
    let digits = digits.unwrap_or(word);
    let day = (digits.len() <= 2 && is_digits(digits)).then(|| digits.parse().ok())??;
    (1..=31).contains(&day).then_some(day)
}

/// "March 3", "3 March".
fn calendar_day(word: &str, around: Around<'_>) -> Said {
    let Around { next, english, .. } = around;
    if let (Some(month), Some(day)) = (month(word), day(next)) {
        return Some((format!("{month} {}", ordinal(day, english)), 1));
    }
    let (day, month) = (day(word)?, month(next)?);
    Some((format!("{} of {month}", ordinal(day, english)), 1))
}

fn date(word: &str, english: English) -> Option<String> {
    if let Some((date, time)) = word.split_once('T') {
        let time = time.trim_end_matches('Z');
        let time = clock(time.split('.').next()?, Around { english, ..Around::default() })?.0;
        return Some(format!("{}, {time}", self::date(date, english)?));
    }
    let mark = ['-', '/', '.'].into_iter().find(|mark| word.matches(*mark).count() == 2)?;
    let parts: Vec<_> = word.split(mark).collect();
    let [first, second, third] = parts.as_slice() else { return None };
    if !parts.iter().all(|part| is_digits(part)) {
        return None;
    }
    let (y, m, d) = match (first.len(), second.len(), third.len()) {
        (4, 2, 2) if mark != '.' => (first, second, third),
        (1 | 2, 1 | 2, 4) => match english {
            English::American if mark == '/' && first.parse::<u64>().ok()? <= 12 => {
                (third, first, second)
            }
            English::American | English::British => (third, second, first),
        },
        _ => return None,
    };
    let month = m.parse::<usize>().ok()?.checked_sub(1).and_then(|at| MONTHS.get(at))?.1;
    let (day, year) = (ordinal(day(d)?, english), year(y.parse().ok()?, english));
    Some(match english {
        English::American => format!("{month} {day}, {year}"),
        English::British => format!("the {day} of {month}, {year}"),
    })
}

fn half_of_day(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().replace('.', "").as_str() {
        "am" => Some("eh em"),
        "pm" => Some("pee em"),
        _ => None,
    }
}

/// "3:30", "14:05:09", "9 am", "9:00pm".
fn clock(word: &str, around: Around<'_>) -> Said {
    let digits_end = word.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(word.len());
    let (digits, suffix) = word.split_at(digits_end);
    let (half, more) = match (half_of_day(suffix), half_of_day(around.next)) {
        (Some(half), _) => (Some(half), 0),
        (None, _) if !suffix.is_empty() => return None,
        // "I am", "9 am".
        (None, Some(half)) => (Some(half), 1),
        (None, None) => (None, 0),
    };
    let parts: Vec<_> = digits.split(':').collect();
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.len() <= 2);
    let hour = number(parts.first()?).filter(|hour| *hour < 24)?;
    let minutes: Vec<_> = parts[1..].iter().map(|part| number(part)).collect();
    let english = around.english;
    let words = match minutes.as_slice() {
        [] => {
            half?;
            cardinal(hour, english)
        }
        [Some(minute), ..] if parts[1].len() == 2 && *minute < 60 => {
            let hour_words = cardinal(hour, english);
            match (minute, half) {
                (0, Some(_)) => hour_words,
                (0, None) if hour == 0 => "midnight".to_owned(),
                (0, None) if hour > 12 => format!("{hour_words} hundred"),
                (0, None) => format!("{hour_words} o'clock"),
                (minute @ 1..10, _) => format!("{hour_words} oh {}", cardinal(*minute, english)),
                (minute, _) => format!("{hour_words} {}", cardinal(*minute, english)),
            }
        }
        _ => return None,
    };
    let seconds = match minutes.as_slice() {
        [_] | [] => String::new(),
        [_, Some(second)] if *second < 60 && parts[2].len() == 2 => {
            format!(" and {} {}", cardinal(*second, english), plural(*second, "second"))
        }
        _ => return None,
    };
    let half = half.map(|half| format!(" {half}")).unwrap_or_default();
    Some((words + &seconds + &half, more))
}

fn plural(number: u64, noun: &str) -> String {
    format!("{noun}{}", if number == 1 { "" } else { "s" })
}

/// What a unit is called, by itself or with others: km/h, m².
fn unit(symbol: &str, is_one: bool) -> Option<String> {
    let named = |symbol: &str| UNITS.iter().find(|unit| unit.0 == symbol);
    if let Some((_, one, many)) = named(symbol) {
        return Some((if is_one { one } else { many }).to_string());
    }
    if let Some((over, under)) = symbol.split_once('/') {
        let under = named(under).map(|unit| unit.1)?;
        return Some(format!("{} per {under}", unit(over, is_one)?));
    }
    let powers = [("²", "square"), ("^2", "square"), ("³", "cubic"), ("^3", "cubic")];
    let (base, power) =
        powers.iter().find_map(|(mark, power)| Some((symbol.strip_suffix(mark)?, power)))?;
    Some(format!("{power} {}", unit(base, is_one).filter(|_| !base.contains('/'))?))
}

/// "5km", "20 °C".
fn measure(word: &str, around: Around<'_>) -> Said {
    let (digits, suffix) = leading(word)?;
    let words = number(digits, around.english)?;
    if let Some((_, rest)) = suffix.split_once(['-', '–']).filter(|(none, _)| none.is_empty()) {
        let (last, suffix) = leading(rest)?;
        let range = format!("{words} to {}", number(last, around.english)?);
        let (symbol, more) = if suffix.is_empty() { (around.next, 1) } else { (suffix, 0) };
        return unit(symbol, false).map(|unit| (format!("{range} {unit}"), more));
    }
    // "1.5B" are billions, "5 B" are bytes.
    if !suffix.is_empty() {
        return unit(suffix, is_one(digits))
            .filter(|_| suffix != "B")
            .map(|unit| (format!("{words} {unit}"), 0));
    }
    let unit = unit(around.next, is_one(digits))?;
    Some((format!("{words} {unit}"), 1))
}

fn percent(word: &str, english: English) -> Option<String> {
    let digits = word.strip_suffix('%')?;
    let words = number(digits, english).or_else(|| range(digits, english))?;
    Some(format!("{words} percent"))
}

/// "1990s", "the 90s".
fn decade(word: &str, around: Around<'_>) -> Said {
    let digits = word.strip_suffix("'s").or_else(|| word.strip_suffix('s'))?;
    let number = digits.parse::<u64>().ok().filter(|number| number % 10 == 0)?;
    // Else it is so many seconds.
    let is_told = ["the", "early", "mid", "late"].contains(&around.before);
    let is_one = digits.len() == 2 && number >= 20 && is_told
        || digits.len() == 4 && (1000..2100).contains(&number);
    is_one.then(|| (numbers::decade(number, around.english), 0))
}

/// "1st".
fn nth(word: &str, english: English) -> Option<String> {
    let (digits, suffix) = leading(word)?;
    let number =
        numbers::digits(digits).filter(|digits| !digits.is_empty())?.parse::<u64>().ok()?;
    match suffix {
        "st" | "nd" | "rd" | "th" if digits.len() <= numbers::DIGITS_MAX => {
            Some(ordinal(number, english))
        }
        _ => None,
    }
}

/// "10k", "1.5B", "10x".
fn scaled(word: &str, english: English) -> Option<String> {
    let (digits, suffix) = leading(word)?;
    let words = number(digits, english)?;
    match (scale(suffix), suffix) {
        // "4K" is a kind of screen.
        (Some(_), "K") if digits.len() == 1 => None,
        (Some(scale), _) => Some(format!("{words} {scale}")),
        (None, "x" | "X" | "×") => Some(format!("{words} times")),
        (None, _) => None,
    }
}

/// "1920x1080".
fn product(word: &str, english: English) -> Option<String> {
    let (left, right) = word.split_once(['x', '×'])?;
    let (left, right) = (is_digits(left).then_some(left)?, is_digits(right).then_some(right)?);
    Some(format!("{} by {}", whole(left, english), whole(right, english)))
}

/// "5-10", "1998–2004".
fn range(word: &str, english: English) -> Option<String> {
    let (left, right) = word.split_once(['-', '–']).or_else(|| word.split_once(':'))?;
    let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    if !is_number(left) || !is_number(right) {
        return None;
    }
    let around = Around { english, before: "years", ..Around::default() };
    let said = |text: &str| match text.len() {
        4 => plain(text, around),
        _ => number(text, english)
            .or_else(|| percent(text, english))
            .or_else(|| clock(text, around).map(|said| said.0)),
    };
    Some(format!("{} to {}", said(left)?, said(right)?))
}

/// Three groups of digits and more, or what looks like a telephone's number.
fn phone(word: &str, english: English) -> Option<String> {
    let digits = word.strip_prefix('+').unwrap_or(word);
    let groups: Vec<_> = digits.split('-').collect();
    let is_short =
        matches!(groups.as_slice(), [first, second] if first.len() == 3 && second.len() == 4);
    let is_long = word.starts_with('+') && digits.len() >= 7 && groups.len() == 1;
    if !groups.iter().all(|group| is_digits(group)) || !(groups.len() >= 3 || is_short || is_long) {
        return None;
    }
    let plus = if word.starts_with('+') { "plus " } else { "" };
    let _the_same_in_both = english;
    Some(
        plus.to_owned()
            + &groups.iter().map(|group| one_by_one(group)).collect::<Vec<_>>().join(", "),
    )
}

fn fraction(word: &str, english: English) -> Option<String> {
    let (over, under) = word.split_once('/')?;
    if !is_digits(over) || !is_digits(under) || over.len() > 6 || under.len() > 6 {
        return None;
    }
    let (over_number, under_number) = (over.parse::<u64>().ok()?, under.parse::<u64>().ok()?);
    let over = whole(over, english);
    Some(match (over_number, under_number) {
        (24, 7) => "twenty four seven".to_owned(),
        (1, 2) => "one half".to_owned(),
        (_, 2) => format!("{over} halves"),
        (1, 4) => "one quarter".to_owned(),
        (3, 4) => "three quarters".to_owned(),
        (1, 3..=10) => format!("one {}", ordinal(under_number, english)),
        (2..10, 3..=10) if over_number < under_number => {
            format!("{over} {}s", ordinal(under_number, english))
        }
        (_, _) => format!("{over} over {}", whole(under, english)),
    })
}

/// "v1.2.3", "192.168.0.1".
fn dotted(word: &str, english: English) -> Option<String> {
    let (prefix, digits) = match word.strip_prefix(['v', 'V']) {
        Some(digits) => ("version ", digits),
        None => ("", word),
    };
    let parts: Vec<_> = digits.split('.').collect();
    let is_one = parts.len() >= 3 || parts.len() <= 2 && !prefix.is_empty();
    if !is_one || parts.len() > 6 || !parts.iter().all(|part| is_digits(part)) {
        return None;
    }
    let parts: Vec<_> = parts.iter().map(|part| whole(part, english)).collect();
    Some(format!("{prefix}{}", parts.join(" point ")))
}

fn plain(word: &str, around: Around<'_>) -> Option<String> {
    if word.len() == 4 && is_digits(word) {
        let number = word.parse::<u64>().ok()?;
        let is_told = BEFORE_YEARS.contains(&around.before) || month(around.before).is_some();
        if (1900..2100).contains(&number) || is_told && (1000..2100).contains(&number) {
            return Some(year(number, around.english));
        }
    }
    let marks = [
        ("~", "about "),
        ("≈", "about "),
        ("<", "less than "),
        (">", "more than "),
        ("±", "plus or minus "),
        ("≥", "at least "),
        ("≤", "at most "),
        ("#", "number "),
        ("№", "number "),
        ("×", "times "),
    ];
    for (mark, words) in marks {
        if let Some(rest) = word.strip_prefix(mark) {
            // Once: what is left has no mark of these.
            let rest = rest
                .starts_with(|c: char| c.is_ascii_digit() || c == '$' || c == '.')
                .then_some(rest)?;
            let (rest, _) = said(rest, Around { english: around.english, ..Around::default() })?;
            return Some(words.to_owned() + &rest);
        }
    }
    number(word, around.english)
}
