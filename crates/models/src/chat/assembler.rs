//! From token bytes to text that may be shown.
//!
//! Invariants: what is given out is whole code points; no byte of a stop string is ever given
//! out, also when it is split over tokens; what is held back is at most the longest stop string
//! and three bytes. Bytes that can never become a code point come out as U+FFFD.

#[derive(Debug, Default)]
pub struct Assembler {
    stops: Vec<String>,
    /// Bytes of a code point that is not whole yet.
    partial: Vec<u8>,
    /// Whole text that may turn out to be the start of a stop string.
    held: String,
}

/// What one push gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    pub text: String,
    /// A stop string was met; nothing may follow.
    pub stopped: bool,
}

impl Assembler {
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops, partial: Vec::new(), held: String::new() }
    }

    pub fn push(&mut self, bytes: &[u8]) -> Pushed {
        self.partial.extend_from_slice(bytes);
        self.decode();
        let earliest = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = earliest {
            self.held.truncate(at);
            self.partial.clear();
            return Pushed { text: std::mem::take(&mut self.held), stopped: true };
        }
        let kept = self.held.split_off(self.held.len() - self.suspect_bytes());
        Pushed { text: std::mem::replace(&mut self.held, kept), stopped: false }
    }

    /// What was held back, now that nothing follows.
    pub fn finish(&mut self) -> String {
        if !self.partial.is_empty() {
            self.partial.clear();
            self.held.push(char::REPLACEMENT_CHARACTER);
        }
        std::mem::take(&mut self.held)
    }

    /// Moves whole code points from `partial` to `held`.
    fn decode(&mut self) {
        loop {
            match std::str::from_utf8(&self.partial) {
                Ok(text) => {
                    self.held.push_str(text);
                    self.partial.clear();
                    return;
                }
                Err(error) => {
                    let (whole, rest) = self.partial.split_at(error.valid_up_to());
                    self.held.push_str(&String::from_utf8_lossy(whole));
                    let Some(broken) = error.error_len() else {
                        self.partial = rest.to_vec();
                        return;
                    };
                    self.held.push(char::REPLACEMENT_CHARACTER);
                    self.partial = rest.get(broken..).unwrap_or_default().to_vec();
                }
            }
        }
    }

    /// Length of the longest end of `held` that a stop string starts with.
    fn suspect_bytes(&self) -> usize {
        let suspect = |stop: &String| {
            let longest = self.held.len().min(stop.len().saturating_sub(1));
            (1..=longest).rev().find(|len| {
                let start = self.held.len() - len;
                self.held.is_char_boundary(start)
                    && stop.as_bytes().starts_with(&self.held.as_bytes()[start..])
            })
        };
        self.stops.iter().filter_map(suspect).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes the parts; gives all text before the stop (or the end), and whether it stopped.
    fn check(stops: &[&str], parts: &[&[u8]], text: &str, stopped: bool) {
        let mut assembler = Assembler::new(stops.iter().map(|stop| (*stop).into()).collect());
        let mut seen = String::new();
        for part in parts {
            let pushed = assembler.push(part);
            seen.push_str(&pushed.text);
            if pushed.stopped {
                assert!(stopped, "stopped after {seen:?}");
                assert_eq!(seen, text);
                return;
            }
        }
        seen.push_str(&assembler.finish());
        assert_eq!((seen.as_str(), false), (text, stopped));
    }

    #[test]
    fn stop_strings_are_never_given_out() {
        check(&["END"], &[b"one EN", b"D two"], "one ", true);
        check(&["END"], &[b"E", b"N", b"D"], "", true);
        check(&["END"], &[b"E", b"N", b"E", b"N", b"D"], "EN", true);
        check(&["END"], &[b"bEND", b"x"], "b", true);
        check(&["\n\n", "##"], &[b"a\n", b"b#", b"\n", b"\nc"], "a\nb#", true);
        check(&["st", "long stop"], &[b"a long s", b"top"], "a ", true);
    }

    #[test]
    fn a_stop_that_never_comes_gives_everything() {
        check(&["END"], &[b"the E", b"N"], "the EN", false);
        check(&["abc"], &[b"ababab"], "ababab", false);
        check(&[], &[b"a", b"b"], "ab", false);
    }

    #[test]
    fn code_points_are_never_halved() {
        let face = "😀".as_bytes();
        check(&[], &[&face[..1], &face[1..3], &face[3..]], "😀", false);
        let mut assembler = Assembler::default();
        assert_eq!(assembler.push(&face[..3]).text, "");
        assert_eq!(assembler.push(&face[3..]).text, "😀");
        check(&["é"], &[b"caf", &[0xc3], &[0xa9]], "caf", true);
        check(&["éa"], &["é".as_bytes(), b"b"], "éb", false);
    }

    #[test]
    fn broken_bytes_become_replacement_characters() {
        check(&[], &[&[b'a', 0xff, b'b']], "a\u{fffd}b", false);
        check(&[], &[b"a", &[0xe2, 0x82]], "a\u{fffd}", false);
        check(&[], &[&[0xe2, 0x82], b"b"], "\u{fffd}b", false);
    }
}
