//! What of a worker's JSON is content, which is what a client came for and all that is paid.
//!
//! One pass over text that was read as JSON when it came in. What stands in the places that the
//! manifest names is counted as it reads, not as it is written: no keys, no quotation marks, no
//! escapes, no white space between tokens; a run of white space within a text counts as one byte,
//! and at its begin or end as none. Readers do not agree on a key that stands twice, nor can it be told
//! from one that is written with escapes without reading it: where either stands on the way to a place,
//! nothing of all that text is content, so nobody pays for what another reader would not show.
//!
//! Knows no manifest, no meter and no worker. It never fails: what is not JSON has some content or
//! none, and takes one pass all the same.

use memchr::memchr2;

/// Places of one manifest.
pub const PLACES_MAX: usize = 32;
/// Steps of one place, and so the depth of recursion.
pub const STEPS_MAX: usize = 16;

/// Where content stands, as a tree of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    keys: Vec<(Box<str>, usize)>,
    /// For every item of a list.
    each: Option<usize>,
    is_content: bool,
    is_counted: bool,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Of content.
    pub bytes: u64,
    /// White space stands before the first of them, or after the last: with that of a piece beside
    /// it, it is one run.
    pub begins_white: bool,
    pub ends_white: bool,
    /// Places that are there, and those that hold something.
    pub there: u64,
    pub filled: u64,
    /// Of the counted list.
    pub items: u64,
}

impl Default for Places {
    /// All of it.
    fn default() -> Self {
        Self { nodes: vec![Node { is_content: true, ..Node::default() }] }
    }
}

impl Places {
    /// From JSON pointers in which `*` is every item of a list; without one, all is content.
    /// `items` is a list to be counted. The error is the pointer that is none.
    pub fn new<'a>(pointers: &'a [String], items: Option<&'a str>) -> Result<Self, &'a str> {
        let mut places = Self { nodes: vec![Node::default()] };
        for pointer in pointers {
            let at = places.grow(pointer)?;
            places.nodes.get_mut(at).ok_or(pointer.as_str())?.is_content = true;
        }
        if let Some(pointer) = items {
            let at = places.grow(pointer)?;
            places.nodes.get_mut(at).ok_or(pointer)?.is_counted = true;
        }
        if pointers.is_empty() && items.is_none() {
            return Ok(Self::default());
        }
        if pointers.is_empty() || pointers.len() > PLACES_MAX {
            return Err(pointers.last().map_or("", String::as_str));
        }
        Ok(places)
    }

    fn grow<'a>(&mut self, pointer: &'a str) -> Result<usize, &'a str> {
        let steps = pointer.strip_prefix('/').filter(|rest| !rest.contains(['~', '"', '\\']));
        let steps: Vec<&str> = steps.ok_or(pointer)?.split('/').collect();
        if steps.len() > STEPS_MAX {
            return Err(pointer);
        }
        let mut at = 0;
        for step in steps {
            let next = self.nodes.len();
            let node = self.nodes.get_mut(at).ok_or(pointer)?;
            let known = match step {
                "*" => node.each,
                step => node.keys.iter().find(|(key, _)| **key == *step).map(|(_, at)| *at),
            };
            at = known.unwrap_or(next);
            if known.is_none() {
                match step {
                    "*" => node.each = Some(next),
                    step => node.keys.push((step.into(), next)),
                }
                self.nodes.push(Node::default());
            }
        }
        Ok(at)
    }

    /// Counts what stands in `text`.
    pub fn count(&self, text: &str) -> Found {
        let (at, found, is_clear) = (0, Found::default(), true);
        let mut scan = Scan { places: self, text, at, found, is_clear };
        scan.value(Some(0));
        if scan.is_clear { scan.found } else { Found::default() }
    }
}

/// `null`, or a text, list or object in which nothing stands.
pub fn is_hollow(text: &str) -> bool {
    let text = text.trim_matches(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
    let bare = |open: char, close: char| {
        let inner = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        inner.is_some_and(|inner| inner.bytes().all(|byte| byte.is_ascii_whitespace()))
    };
    matches!(text, "" | "null" | "\"\"") || bare('[', ']') || bare('{', '}')
}

/// Whether it shows nothing: white space, controls, and what is ignored where it cannot be shown
/// (`Default_Ignorable_Code_Point` of Unicode 16), with the empty Braille pattern.
fn is_white(c: char) -> bool {
    let ignored = matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    c.is_whitespace() || c.is_control() || ignored
}

struct Scan<'a> {
    places: &'a Places,
    text: &'a str,
    at: usize,
    found: Found,
    /// Every reader finds the same.
    is_clear: bool,
}

impl<'a> Scan<'a> {
    /// The next byte that is no white space between tokens.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let skipped = rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r'));
        self.at += skipped.unwrap_or(rest.len());
        self.text.as_bytes().get(self.at).copied()
    }

    /// It is no JSON: nothing more is looked at.
    fn stop(&mut self) {
        self.at = self.text.len();
    }

    fn value(&mut self, at: Option<usize>) {
        let places = self.places;
        let Some(node) = at.and_then(|at| places.nodes.get(at)) else { return self.pass(false) };
        let next = self.peek();
        if node.is_content {
            let rest = self.text.get(self.at..).unwrap_or_default();
            self.found.there += u64::from(next.is_some() && !rest.starts_with("null"));
            let before = self.found.bytes;
            self.pass(true);
            self.found.filled += u64::from(self.found.bytes > before);
            return;
        }
        match next {
            Some(b'{') if !node.keys.is_empty() => self.object(node),
            Some(b'[') if node.each.is_some() || node.is_counted => self.list(node),
            Some(_) | None => self.pass(false),
        }
    }

    fn object(&mut self, node: &'a Node) {
        self.at += 1;
        let mut seen = 0_u64;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {}
                b',' => {
                    self.at += 1;
                    continue;
                }
                b'}' => {
                    self.at += 1;
                    return;
                }
                _ => return self.stop(),
            }
            let key = self.string();
            if self.peek() != Some(b':') {
                return self.stop();
            }
            self.at += 1;
            let known = node.keys.iter().position(|(name, _)| **name == *key);
            let bit = known.map_or(0, |index| 1_u64 << (index % 64));
            self.is_clear &= seen & bit == 0 && !key.contains('\\');
            seen |= bit;
            let known = known.and_then(|index| node.keys.get(index));
            self.value_of(known.map(|(_, at)| *at));
        }
    }

    /// A value after a key or in a list; what ends it there is none.
    fn value_of(&mut self, at: Option<usize>) {
        match self.peek() {
            Some(b',' | b':' | b'}' | b']') | None => self.stop(),
            Some(_) => self.value(at),
        }
    }

    fn list(&mut self, node: &'a Node) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            match byte {
                b']' => {
                    self.at += 1;
                    return;
                }
                b',' => self.at += 1,
                _ => {
                    self.found.items += u64::from(node.is_counted);
                    self.value_of(node.each);
                }
            }
        }
    }

    /// Passes over one value, however deep, and counts what stands in it if it is content.
    fn pass(&mut self, is_content: bool) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' if depth == 0 => return self.stop(),
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' if depth == 0 => return self.stop(),
                b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                b'"' => {
                    let text = self.string();
                    let is_key = depth > 0 && self.peek() == Some(b':');
                    if is_content && !is_key {
                        self.read(text);
                    }
                }
                _ => {
                    let word = self.word();
                    if is_content && word != "null" {
                        self.see(word.len());
                    }
                }
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// What stands between two quotation marks, escapes as they are.
    fn string(&mut self) -> &'a str {
        self.at += 1;
        let from = self.at;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let Some(found) = memchr2(b'"', b'\\', rest) else {
                self.stop();
                return self.text.get(from..).unwrap_or_default();
            };
            let to = self.at + found;
            if rest.get(found) == Some(&b'"') {
                self.at = to + 1;
                return self.text.get(from..to).unwrap_or_default();
            }
            self.at = (to + 2).min(self.text.len());
        }
    }

    /// A number, `true`, `false` or `null`: one byte at least.
    fn word(&mut self) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_end = |b: &u8| matches!(b, b',' | b':' | b'}' | b']' | b'"' | b'{' | b'[' | b' ');
        let is_end = |b: &u8| is_end(b) || matches!(b, b'\t' | b'\n' | b'\r');
        let bytes = rest.as_bytes().iter().position(is_end).unwrap_or(rest.len());
        self.at += bytes.max(1);
        rest.get(..bytes).unwrap_or_default()
    }

    /// Counts what a text says.
    fn read(&mut self, text: &str) {
        const BLOCK: usize = 32;
        let is_plain = |byte: &u8| matches!(byte, 0x21..=0x7e) && *byte != b'\\';
        let mut rest = text;
        while !rest.is_empty() {
            // All of it shows: the usual thing in long ones, such as base64.
            if let Some((block, after)) = rest.split_at_checked(BLOCK)
                && block.bytes().all(|byte| is_plain(&byte))
            {
                self.see(BLOCK);
                rest = after;
                continue;
            }
            let mut left = BLOCK;
            while left > 0
                && let Some(c) = rest.chars().next()
            {
                let (shown, width, taken) = match c {
                    '\\' => escaped(rest),
                    c => (!is_white(c), c.len_utf8(), c.len_utf8()),
                };
                if shown {
                    self.see(width)
                } else {
                    self.white()
                }
                rest = rest.get(taken..).unwrap_or_default();
                left = left.saturating_sub(taken);
            }
        }
    }

    fn see(&mut self, bytes: usize) {
        // A run between two words counts as one.
        let run = self.found.ends_white && self.found.bytes > 0;
        self.found.begins_white |= self.found.ends_white && self.found.bytes == 0;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.found.bytes = self.found.bytes.saturating_add(bytes).saturating_add(u64::from(run));
        self.found.ends_white = false;
    }

    fn white(&mut self) {
        self.found.ends_white = true;
    }
}

/// Whether what an escape stands for shows, its bytes, and those of the escape itself.
fn escaped(text: &str) -> (bool, usize, usize) {
    let taken = |bytes: usize| bytes.min(text.len());
    match text.as_bytes().get(1) {
        Some(b'u') => {
            let unit = |at: usize| {
                let hex = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
                u16::from_str_radix(hex, 16).ok()
            };
            let Some(first) = unit(0) else { return (false, 0, taken(2)) };
            let units = [Some(first), unit(6)].into_iter().flatten();
            match char::decode_utf16(units).next() {
                Some(Ok(c)) => (!is_white(c), c.len_utf8(), taken(6 * c.len_utf16())),
                // Half of a pair.
                Some(Err(_)) | None => (true, 2, taken(6)),
            }
        }
        Some(b'"' | b'\\' | b'/') => (true, 1, taken(2)),
        // What is no escape may be any character; the next step takes it.
        Some(b'b' | b'f' | b'n' | b'r' | b't') => (false, 0, taken(2)),
        Some(_) | None => (false, 0, taken(1)),
    }
}

#[cfg(test)]
#[path = "content/tests.rs"]
mod tests;
