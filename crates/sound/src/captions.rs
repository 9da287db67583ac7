//! What was said, as captions: SubRip (`srt`) and WebVTT (`vtt`).
//!
//! Invariant: no words make a caption that was not said, nor marks in a language of marks.

/// How captions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Captions {
    Srt,
    Vtt,
}

/// A stretch of speech.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cue<'a> {
    pub start_ms: u64,
    pub end_ms: u64,
    pub text: &'a str,
}

/// Captions one after the other, as they come.
#[derive(Clone, Copy, Debug)]
pub struct Writing {
    captions: Captions,
    written: u64,
}

impl Writing {
    #[must_use]
    pub fn new(captions: Captions) -> Self {
        Self { captions, written: 0 }
    }

    pub fn cue(&mut self, cue: Cue<'_>) -> String {
        let head = self.head();
        self.written += 1;
        head.to_owned() + &self.captions.cue(self.written, cue)
    }

    /// What a file still needs in which nobody spoke.
    #[must_use]
    pub fn end(&self) -> &'static str {
        self.head()
    }

    fn head(&self) -> &'static str {
        if self.written == 0 { self.captions.head() } else { "" }
    }
}

impl Captions {
    /// What stands before the first caption.
    fn head(self) -> &'static str {
        match self {
            Self::Srt => "",
            Self::Vtt => "WEBVTT\n\n",
        }
    }

    /// One caption; `number` counts from 1.
    fn cue(self, number: u64, cue: Cue<'_>) -> String {
        let text = one_line(cue.text).replace("-->", "→");
        let times = |mark| format!("{} --> {}", clock(cue.start_ms, mark), clock(cue.end_ms, mark));
        match self {
            Self::Srt => format!("{number}\n{}\n{text}\n\n", times(',')),
            Self::Vtt => {
                let marked = text.replace('&', "&amp;").replace('<', "&lt;");
                format!("{}\n{marked}\n\n", times('.'))
            }
        }
    }
}

/// A text with its blanks and line ends as single blanks.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Hours, minutes, seconds, milliseconds.
fn clock(ms: u64, mark: char) -> String {
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    format!("{:02}:{:02}:{seconds:02}{mark}{ms:03}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn captions_have_numbers_and_times() {
        let first = Cue { start_ms: 80, end_ms: 1_900, text: "One\n\ntwo." };
        let second = Cue { start_ms: 3_725_004, end_ms: 3_726_000, text: "a --> <b> & c" };
        let write = |captions: Captions| {
            let mut writing = Writing::new(captions);
            [&writing.cue(first), &writing.cue(second), writing.end()].concat()
        };
        assert_eq!(Writing::new(Captions::Srt).end(), "");
        assert_eq!(Writing::new(Captions::Vtt).end(), "WEBVTT\n\n");
        assert_eq!(
            write(Captions::Srt),
            "1\n00:00:00,080 --> 00:00:01,900\nOne two.\n\n\
             2\n01:02:05,004 --> 01:02:06,000\na → <b> & c\n\n"
        );
        assert_eq!(
            write(Captions::Vtt),
            "WEBVTT\n\n00:00:00.080 --> 00:00:01.900\nOne two.\n\n\
             01:02:05.004 --> 01:02:06.000\na → &lt;b> &amp; c\n\n"
        );
    }

    proptest! {
        #[test]
        fn whatever_was_said_is_one_caption(text in "[ -~\n\r\u{2028}→<&>-]{0,60}") {
            for captions in [Captions::Srt, Captions::Vtt] {
                let cue = captions.cue(7, Cue { start_ms: 1, end_ms: 2, text: &text });
                prop_assert_eq!(cue.matches("-->").count(), 1);
                let lines = if captions == Captions::Srt { 4 } else { 3 };
                prop_assert_eq!(cue.matches('\n').count(), lines);
                prop_assert!(!cue.contains('\r'));
                prop_assert!(captions == Captions::Srt || !cue.contains('<'));
            }
        }
    }
}
