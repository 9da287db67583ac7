//! What is written, and what is said: one table for each kind.

use super::*;

fn check(rows: &[(&str, &str)]) {
    for (written, said) in rows {
        assert_eq!(spoken(written, English::American), *said, "{written}");
    }
}

#[test]
fn ordinary_text_stays_as_it_is() {
    check(&[
        ("Hello, world!", "Hello, world!"),
        ("It's a well-known fact; isn't it?", "It's a well known fact; isn't it?"),
        ("He said: \"Stop!\" (twice)", "He said: Stop! twice,"),
        ("Wait... what?!", "Wait… what?"),
        ("One — two – three - four", "One, two, three, four"),
        ("café naïve Zoë", "café naïve Zoë"),
        ("A cat and I.", "A cat and I."),
        ("", ""),
        ("?!", ""),
    ]);
}

#[test]
fn numbers_ordinals_and_years() {
    check(&[
        ("I have 42 of 1,234.", "I have forty two of one thousand two hundred thirty four."),
        ("Port 9000.", "Port nine thousand."),
        ("3.14 and -5 and .5", "three point one four and minus five and zero point five"),
        ("the 1st, 2nd, 3rd and 21st", "the first, second, third and twenty first"),
        ("in 1984", "in nineteen eighty four"),
        ("In 1066, and 2026.", "In ten sixty six, and twenty twenty six."),
        ("the 1990s and the '90s", "the nineteen nineties and the nineties"),
        ("a 30s wait", "a thirty seconds wait"),
        ("007", "zero zero seven"),
        ("4111111111111111", "four one one one, one one one one, one one one one, one one one one"),
        ("call 555-123-4567", "call five five five, one two three, four five six seven"),
        ("5-10 or 5–10", "five to ten or five to ten"),
        ("from 1998-2004", "from nineteen ninety eight to two thousand four"),
        ("1/2, 3/4, 2/3 and 7/12", "one half, three quarters, two thirds and seven over twelve"),
        ("2½ cups", "two and one half cups"),
        ("10k users, 1.5B parameters", "ten thousand users, one point five billion parameters"),
        ("10x faster, 4K, 3D, 5G", "ten times faster, four kay, three dee, five jee"),
        ("1920x1080", "one thousand nine hundred twenty by one thousand eighty"),
        ("about ~5, <3, ≥7", "about about five, less than three, at least seven"),
        ("#5 and No. 7", "number five and number seven"),
        (
            "2nd-hand, mid-1990s, a 20-year-old",
            "second hand, mid nineteen nineties, a twenty year old",
        ),
        ("1e9", "one times ten to the nine"),
        ("version 1.2.3 and v2.0", "version one point two point three and version two point zero"),
        (
            "at 192.168.0.1",
            "at one hundred ninety two point one hundred sixty eight point zero point one",
        ),
        ("16:9", "sixteen to nine"),
    ]);
}

#[test]
fn money_and_percent() {
    check(&[
        ("It costs $9000.", "It costs nine thousand dollars."),
        ("$3.50", "three dollars and fifty cents"),
        ("$1 and $1.01", "one dollar and one dollar and one cent"),
        ("$0.99, £0.01", "ninety nine cents, one penny"),
        ("€20 or 20€", "twenty euros or twenty euros"),
        ("$1,234.00", "one thousand two hundred thirty four dollars"),
        ("$3 million, $1.5M", "three million dollars, one point five million dollars"),
        ("-$5", "minus five dollars"),
        ("¥500", "five hundred yen"),
        ("$0.005", "zero point zero zero five dollars"),
        ("45% of 3.5%", "forty five percent of three point five percent"),
        ("5-10%", "five to ten percent"),
        ("$HOME", "home"),
        ("$5-10 or $5–$10", "five to ten dollars or five to ten dollars"),
    ]);
}

#[test]
fn times_and_dates() {
    check(&[
        ("at 3:30 pm", "at three thirty pee em"),
        ("at 3:30pm.", "at three thirty pee em."),
        ("9:00", "nine o'clock"),
        ("9 a.m. sharp", "nine eh em sharp"),
        ("14:05", "fourteen oh five"),
        ("00:00", "midnight"),
        ("10:30-11:00", "ten thirty to eleven o'clock"),
        ("12:30:15", "twelve thirty and fifteen seconds"),
        ("2026-11-27", "November twenty seventh, twenty twenty six"),
        (
            "2026-11-27T18:03:33Z",
            "November twenty seventh, twenty twenty six, eighteen oh three and thirty three seconds",
        ),
        ("3/4/2026", "March fourth, twenty twenty six"),
        ("27.11.2026", "November twenty seventh, twenty twenty six"),
        ("March 3, 2026", "March third, twenty twenty six"),
        ("on Jan. 5", "on January fifth"),
        ("3 March 2026", "third of March twenty twenty six"),
        ("you may 5", "you may five"),
    ]);
    assert_eq!(spoken("3/4/2026", English::British), "the third of April, twenty twenty six");
    assert_eq!(spoken("105", English::British), "one hundred and five");
}

#[test]
fn units() {
    check(&[
        ("5 km", "five kilometers"),
        ("1 km", "one kilometer"),
        ("20°C or -3 °C", "twenty degrees Celsius or minus three degrees Celsius"),
        ("3 GB", "three gigabytes"),
        ("10 ms, 10ms", "ten milliseconds, ten milliseconds"),
        ("1.5 kg", "one point five kilograms"),
        ("100 km/h", "one hundred kilometers per hour"),
        ("20 m² and 5 m^3", "twenty square meters and five cubic meters"),
        ("16kHz", "sixteen kilohertz"),
        ("5 μs", "five microseconds"),
        ("60 fps", "sixty frames per second"),
        ("90°", "ninety degrees"),
        ("5 in a row", "five in a row"),
        ("20-25°C, 3–5 km", "twenty to twenty five degrees Celsius, three to five kilometers"),
        ("room 5, MB is a unit", "room five, em bee is a unit"),
    ]);
}

#[test]
fn abbreviations() {
    check(&[
        ("Dr. Smith and Mr. Jones", "doctor Smith and mister Jones"),
        ("St. Mary in Main St.", "Saint Mary in Main Street."),
        ("e.g. this, i.e. that", "for example this, that is that"),
        ("cats, dogs, etc.", "cats, dogs, et cetera."),
        ("cats vs. dogs vs mice", "cats versus dogs versus mice"),
        ("see fig. 3 on p. 12", "see figure three on page twelve"),
        ("No. I fig it.", "No. I fig it."),
        ("Smith et al. found", "Smith et al found"),
        ("the U.S. army", "the yew ess army"),
        ("a Ph.D. thesis", "a pee aitch dee thesis"),
        ("Acme Inc. sells", "Acme incorporated sells"),
        ("J. R. Smith", "jay ar Smith"),
        ("max. 5, min. 2", "maximum five, minimum two"),
        ("Max. ran.", "maximum ran."),
        ("180 lbs. and op. cit. below.", "one hundred eighty pounds and op cit below."),
    ]);
}

#[test]
fn acronyms_and_names() {
    check(&[
        ("the API and APIs", "the eh pee eye and eh pee eye's"),
        ("NASA and HTML", "nasa and aitch tee em ell"),
        ("JSON over HTTP", "jayson over aitch tee tee pee"),
        ("THIS IS LOUD", "this is loud"),
        ("a GPU's RAM", "a jee pee yew's ram"),
        ("MTOR", "mtor"),
        ("GPT-4 and H100", "jee pee tee four and aitch one hundred"),
        ("RTX4090", "ar tee ex forty ninety"),
        ("C++, C# and Node.js", "see plus plus, see sharp and Node dot jay ess"),
        ("GitHub and McDonald", "Git Hub and McDonald"),
        ("OK", "okay"),
        ("plan B", "plan bee"),
        ("Hmm, shh.", "Hmm, shh."),
        ("NASA's ISBN in USD", "nasa's eye ess bee en in yew ess dee"),
        ("World War II, Act IV, Henry VIII", "World War two, Act four, Henry the eighth"),
        ("X and I, plan V", "ex and I, plan vee"),
    ]);
}

#[test]
fn addresses() {
    check(&[
        ("see https://example.org.", "see example dot org."),
        ("https://www.example.com/docs/intro?x=1#y", "example dot com slash docs slash intro"),
        ("(http://example.com/a/very/long/path/that/nobody/reads)", "example dot com,"),
        ("me@example.org", "me at example dot org"),
        ("jane.doe@mail.example.org", "jane dot doe at mail dot example dot org"),
        ("docs.rs", "docs dot ar ess"),
        ("@handle and #tag", "at handle and hashtag tag"),
    ]);
}

#[test]
fn code_is_read_as_words() {
    check(&[
        ("snake_case_name", "snake case name"),
        ("camelCaseName and HTTPServer", "camel Case Name and aitch tee tee pee Server"),
        ("call run() now", "call run now"),
        ("std::vec::Vec", "ess tee dee vec Vec"),
        ("x == y && z != 3", "ex equals wye and zee is not three"),
        ("a->b => c", "eh to bee to see"),
        (
            "2*3 = 6, 2 * 3, 5 - 3 = 2",
            "two times three equals six, two times three, five minus three equals two",
        ),
        ("x^2 and A/B", "ex to the two and eh bee"),
        ("--verbose", "dash dash verbose"),
        ("/usr/local/bin", "slash usr slash local slash bin"),
        ("and/or", "and or"),
        ("foo(bar, baz)", "foo bar, baz,"),
        ("6e742170d309016e", "six ee seven four two one seven zero and so on"),
        ("x²", "ex squared"),
    ]);
}

#[test]
fn what_cannot_be_said_is_left_out_or_told() {
    check(&[
        ("Yes 👍🏽!", "Yes!"),
        ("🎉🎉", ""),
        ("he said 你好", "he said Chinese text"),
        ("Привет, мир", "Cyrillic text,"),
        ("a\u{202e}b\u{0}c", "ab see"),
        ("α particles", "alpha particles"),
        ("© 2026 Acme™", "copyright twenty twenty six Acme"),
    ]);
}

#[test]
fn a_text_with_markdown_becomes_parts() {
    let text = "# Setup\n\nRun `npm ci` *first*. Then:\n\n- open [the page](http://x.org)\n- wait\n\n\
                ```js\nlet x = 1;\n```\n🎉\n\n| a | b |\n|---|---|\n| 1 | 2 |";
    let parts = parts(text, English::American);
    let texts: Vec<_> = parts.iter().map(|part| part.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "Setup",
            "Run npm ci first.",
            "Then:",
            "open the page",
            "wait",
            "A code block in JavaScript.",
            "a, b",
            "1, 2"
        ]
    );
    assert_eq!(parts[0].spoken, "Setup.");
    assert_eq!(parts[1].spoken, "Run en pee em ci first.");
    assert_eq!(parts[0].pause, Pause::Paragraph);
    assert_eq!(parts[1].pause, Pause::Sentence);
}

/// Every character that may be spoken, and no other.
fn is_sayable(c: char) -> bool {
    c.is_alphabetic() && (c.is_ascii() || matches!(c, 'À'..='ɏ' | 'Ḁ'..='ỿ'))
        || " '.,!?;:…".contains(c)
}

proptest::proptest! {
    #[test]
    fn whatever_comes_is_words_in_bounds(text in ".{0,400}") {
        for english in [English::American, English::British] {
            for part in parts(&text, english) {
                proptest::prop_assert!(part.spoken.chars().all(is_sayable), "{:?}", part.spoken);
                let characters = part.text.chars().count();
                proptest::prop_assert!(part.spoken.len() <= SPOKEN_MAX + 1 || characters < 2 * PARTED_MIN);
                // No character becomes more than a sentence.
                proptest::prop_assert!(part.spoken.len() <= 40 * (part.text.chars().count() + 1));
            }
        }
    }

    #[test]
    fn marks_and_digits_in_any_order_are_words(text in "[0-9a-zA-Z.,:;/$%€£°@#*_`\\[\\]()<>+=~|\\\\ \n-]{0,200}") {
        for part in parts(&text, English::American) {
            proptest::prop_assert!(part.spoken.chars().all(is_sayable), "{:?}", part.spoken);
        }
    }
}

#[test]
fn what_becomes_long_is_said_in_more_parts_and_nothing_is_lost() {
    let digits = "9".repeat(1_000);
    let parts = parts(&digits, English::American);
    assert!(parts.iter().all(|part| part.spoken.len() <= SPOKEN_MAX + 1), "{parts:?}");
    assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), digits);
    let nines: usize = parts.iter().map(|part| part.spoken.matches("nine").count()).sum();
    assert_eq!(nines, 1_000);
    assert_eq!(parts.last().unwrap().pause, Pause::Paragraph);
}

#[test]
fn hostile_texts_end_soon() {
    let texts = [
        "x".repeat(4_096),
        "9".repeat(4_096),
        "👍".repeat(4_096),
        "\u{200f}".repeat(4_096),
        "\0".repeat(4_096),
        "A.".repeat(2_048),
        "1/".repeat(2_048),
        "$".repeat(4_096),
        "a_".repeat(2_048),
        "@".repeat(4_096),
        "1e".repeat(2_048),
        "你a".repeat(2_048),
        "-".repeat(4_096),
        "aB".repeat(2_048),
        "1,".repeat(2_048),
        "km/".repeat(1_300),
        "~<".repeat(2_048),
        "::".repeat(2_048),
        "5m²/".repeat(1_000),
    ];
    for text in texts {
        let begin = std::time::Instant::now();
        let parts = parts(&text, English::American);
        assert!(parts.iter().all(|part| part.text.chars().count() <= 300));
        assert!(begin.elapsed() < std::time::Duration::from_secs(2), "{:?}", text.get(..10));
    }
}
