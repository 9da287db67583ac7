//! From espeak's phonemes to the signs that Kokoro was taught.
//!
//! Both write the International Phonetic Alphabet, and not the same way: Kokoro has one letter for a
//! diphthong or an affricate (A for the vowel of "day"), no length marks in American English, and
//! writes the reduced vowels otherwise. Its alphabet is documented by misaki, the program that made
//! the phonemes it learned from (`EN_PHONES.md`); what a letter's number is stands in the model's own
//! configuration.

use super::text::English;

/// What the model takes at once, without the two marks around it.
pub(super) const TOKENS_MAX: usize = 510;
/// Binds letters that are one sound, in what espeak gives.
pub(super) const TIE: char = '^';
/// What is said before the next piece of a long part is begun, at least.
const ROOM: usize = TOKENS_MAX / 2;

/// The model's alphabet and its numbers (`vocab` in Kokoro-82M's `config.json`).
const VOCABULARY: [(char, i64); 114] = [
    (';', 1),
    (':', 2),
    (',', 3),
    ('.', 4),
    ('!', 5),
    ('?', 6),
    ('—', 9),
    ('…', 10),
    ('"', 11),
    ('(', 12),
    (')', 13),
    ('“', 14),
    ('”', 15),
    (' ', 16),
    ('\u{303}', 17),
    ('ʣ', 18),
    ('ʥ', 19),
    ('ʦ', 20),
    ('ʨ', 21),
    ('ᵝ', 22),
    ('ꭧ', 23),
    ('A', 24),
    ('I', 25),
    ('O', 31),
    ('Q', 33),
    ('S', 35),
    ('T', 36),
    ('W', 39),
    ('Y', 41),
    ('ᵊ', 42),
    ('a', 43),
    ('b', 44),
    ('c', 45),
    ('d', 46),
    ('e', 47),
    ('f', 48),
    ('h', 50),
    ('i', 51),
    ('j', 52),
    ('k', 53),
    ('l', 54),
    ('m', 55),
    ('n', 56),
    ('o', 57),
    ('p', 58),
    ('q', 59),
    ('r', 60),
    ('s', 61),
    ('t', 62),
    ('u', 63),
    ('v', 64),
    ('w', 65),
    ('x', 66),
    ('y', 67),
    ('z', 68),
    ('ɑ', 69),
    ('ɐ', 70),
    ('ɒ', 71),
    ('æ', 72),
    ('β', 75),
    ('ɔ', 76),
    ('ɕ', 77),
    ('ç', 78),
    ('ɖ', 80),
    ('ð', 81),
    ('ʤ', 82),
    ('ə', 83),
    ('ɚ', 85),
    ('ɛ', 86),
    ('ɜ', 87),
    ('ɟ', 90),
    ('ɡ', 92),
    ('ɥ', 99),
    ('ɨ', 101),
    ('ɪ', 102),
    ('ʝ', 103),
    ('ɯ', 110),
    ('ɰ', 111),
    ('ŋ', 112),
    ('ɳ', 113),
    ('ɲ', 114),
    ('ɴ', 115),
    ('ø', 116),
    ('ɸ', 118),
    ('θ', 119),
    ('œ', 120),
    ('ɹ', 123),
    ('ɾ', 125),
    ('ɻ', 126),
    ('ʁ', 128),
    ('ɽ', 129),
    ('ʂ', 130),
    ('ʃ', 131),
    ('ʈ', 132),
    ('ʧ', 133),
    ('ʊ', 135),
    ('ʋ', 136),
    ('ʌ', 138),
    ('ɣ', 139),
    ('ɤ', 140),
    ('χ', 142),
    ('ʎ', 143),
    ('ʒ', 147),
    ('ʔ', 148),
    ('ˈ', 156),
    ('ˌ', 157),
    ('ː', 158),
    ('ʰ', 162),
    ('ʲ', 164),
    ('↓', 169),
    ('→', 171),
    ('↗', 172),
    ('↘', 173),
    ('ᵻ', 177),
];

/// Longest first where one begins another.
const BOTH: [(&str, &str); 21] = [
    ("a^ɪ", "I"),
    ("a^ʊ", "W"),
    ("e^ɪ", "A"),
    ("ɔ^ɪ", "Y"),
    ("t^ʃ", "ʧ"),
    ("d^ʒ", "ʤ"),
    ("ə^l", "ᵊl"),
    ("n\u{329}", "ᵊn"),
    ("l\u{329}", "ᵊl"),
    ("m\u{329}", "ᵊm"),
    ("ʔᵊn", "tᵊn"),
    ("ʔ", "t"),
    ("ɚ", "əɹ"),
    ("ɐ", "ə"),
    ("ɾ", "T"),
    ("r", "ɹ"),
    ("x", "k"),
    ("ç", "k"),
    ("ɬ", "l"),
    ("ʲ", ""),
    ("\u{303}", ""),
];
const AMERICAN: [(&str, &str); 5] =
    [("o^ʊ", "O"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ː", ""), ("e", "A")];
const BRITISH: [(&str, &str); 5] =
    [("ə^ʊ", "Q"), ("e^ə", "ɛː"), ("i^ə", "ɪə"), ("T", "t"), ("e", "ɛ")];

/// What espeak said of one clause, in Kokoro's alphabet.
pub(super) fn translate(phonemes: &str, english: English) -> String {
    let own = match english {
        English::American => AMERICAN,
        English::British => BRITISH,
    };
    let mut text = phonemes.to_owned();
    for (from, to) in BOTH.into_iter().chain(own) {
        if text.contains(from) {
            text = text.replace(from, to);
        }
    }
    // "European" has one where a tie had two.
    text.replace(TIE, "").replace("ɹɹ", "ɹ")
}

/// Their numbers; what the model does not know is left out.
pub(super) fn tokens(phonemes: &str) -> Vec<i64> {
    let number = |c: char| VOCABULARY.iter().find(|(known, _)| *known == c).map(|(_, id)| *id);
    phonemes.chars().filter_map(number).collect()
}

/// Cuts what is too long for the model: behind a mark, else between words, else anywhere.
pub(super) fn runs(phonemes: &str) -> Vec<&str> {
    let (mut runs, mut rest) = (Vec::new(), phonemes);
    while let Some((most, _)) = rest.char_indices().nth(TOKENS_MAX) {
        let window = &rest[..most];
        let half = rest.char_indices().nth(ROOM).map_or(0, |(at, _)| at);
        let mark = window.rfind([',', '.', ';', ':', '!', '?', '…']).map(|at| at + 1);
        let mark = mark.filter(|at| *at > half && window.is_char_boundary(*at));
        let at = mark.or_else(|| window.rfind(' ').filter(|at| *at > 0)).unwrap_or(most);
        runs.push(rest[..at].trim());
        rest = rest[at..].trim_start();
    }
    runs.push(rest.trim());
    runs.retain(|run| !run.is_empty());
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sounds_are_written_as_the_model_learned_them() {
        for (espeak, american) in [
            ("həlˈo^ʊ wˈɜːld", "həlˈO wˈɜɹld"),
            ("nˈa^ɪn θˈa^ʊzənd dˈɑːlɚz", "nˈIn θˈWzənd dˈɑləɹz"),
            ("bˈɛɾɚ wˈɔːɾɚ lˈɪɾə^l", "bˈɛTəɹ wˈɔTəɹ lˈɪTᵊl"),
            ("bˈʌʔn\u{329}", "bˈʌtᵊn"),
            ("d^ʒˈʌd^ʒ t^ʃˈɜːt^ʃ", "ʤˈʌʤ ʧˈɜɹʧ"),
            ("fˈa^ɪ^ɚɹ", "fˈIəɹ"),
            ("jˈʊ^ɹɹəp", "jˈʊɹəp"),
            ("hˈɑː^ɹbɚɹ", "hˈɑɹbəɹ"),
            ("t^ʃˈɔ^ɪs ɐ", "ʧˈYs ə"),
        ] {
            assert_eq!(translate(espeak, English::American), american);
        }
        for (espeak, british) in [
            ("ɡˌə^ʊɪŋ", "ɡˌQɪŋ"),
            ("skwˈe^ə hˈe^ə", "skwˈɛː hˈɛː"),
            ("nˌi^ə nˈɜːs", "nˌɪə nˈɜːs"),
            ("bˈɛtə kˈɑː", "bˈɛtə kˈɑː"),
        ] {
            assert_eq!(translate(espeak, English::British), british);
        }
    }

    #[test]
    fn numbers_are_the_models_and_strangers_are_left_out() {
        assert_eq!(tokens("həlˈO!"), [50, 83, 54, 156, 31, 5]);
        assert_eq!(tokens("h€漢"), [50]);
        assert!(VOCABULARY.windows(2).all(|pair| pair[0].1 < pair[1].1));
    }

    #[test]
    fn what_is_too_long_is_cut_where_it_hurts_least() {
        let lengths = |text: &str| -> Vec<usize> {
            runs(text).iter().map(|run| run.chars().count()).collect()
        };
        assert_eq!(lengths(""), [0_usize; 0]);
        assert_eq!(lengths("abc"), [3]);
        assert_eq!(lengths(&"ɔ".repeat(1_100)), [510, 510, 80]);
        assert_eq!(lengths(&"ɔɔɔɔ ".repeat(150)), [509, 239]);
        let marked = format!("{}, {}", "ɔ".repeat(400), "ɔ".repeat(300));
        assert_eq!(lengths(&marked), [401, 300]);
    }
}
