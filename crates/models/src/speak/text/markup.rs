//! Markdown as the text that it shows: what a reader of the rendered page would read aloud.
//!
//! Invariants: gives paragraphs that are neither empty nor hold a line end; of a code block it says
//! that it is one; no input takes more than a bounded look ahead a character.

/// How far a closing mark is looked for.
const LOOK_MAX: usize = 1_000;
/// Emphasis in a link in a link.
const DEPTH_MAX: u8 = 3;

/// What stands by itself: a paragraph, a heading, an item, a row.
pub(super) fn paragraphs(text: &str) -> Vec<String> {
    let mut shown = Shown::default();
    for line in text.lines() {
        shown.line(line);
    }
    shown.flush();
    shown.paragraphs
}

#[derive(Default)]
struct Shown {
    paragraphs: Vec<String>,
    current: String,
    /// The mark that ends the code block in which this stands.
    fence: Option<String>,
}

impl Shown {
    fn flush(&mut self) {
        let mut plain = String::new();
        inline(&self.current, &mut plain, DEPTH_MAX);
        let words: Vec<_> = plain.split_whitespace().collect();
        if !words.is_empty() {
            self.paragraphs.push(words.join(" "));
        }
        self.current.clear();
    }

    /// A paragraph of its own.
    fn alone(&mut self, text: &str) {
        self.flush();
        self.current.push_str(text);
        self.flush();
    }

    fn line(&mut self, line: &str) {
        let mut line = line.trim();
        if let Some(fence) = &self.fence {
            if line.starts_with(fence.as_str()) && line.chars().all(|c| fence.contains(c)) {
                self.fence = None;
            }
            return;
        }
        while let Some(quoted) = line.strip_prefix('>') {
            line = quoted.trim_start();
        }
        if let Some(fence) = fence(line) {
            let language = line.trim_start_matches(['`', '~']);
            self.flush();
            self.paragraphs.push(code_block(language));
            self.fence = Some(fence);
        } else if line.is_empty() || is_rule(line) {
            self.flush();
        } else if let Some(title) = heading(line) {
            self.alone(title);
        } else if is_definition(line) {
            self.flush();
        } else if let Some(row) = line.strip_prefix('|') {
            let cells = row.split('|').map(str::trim).filter(|cell| !cell.is_empty());
            let cells: Vec<_> = cells.collect();
            // The row below a table's head is only dashes.
            if !cells.iter().all(|cell| cell.bytes().all(|byte| b"-: ".contains(&byte))) {
                self.alone(&cells.join(", "));
            }
        } else if let Some(item) = item(line) {
            self.flush();
            self.current.push_str(item);
        } else {
            self.current.push(' ');
            self.current.push_str(line);
        }
    }
}

fn fence(line: &str) -> Option<String> {
    let mark = line.chars().next().filter(|mark| ['`', '~'].contains(mark))?;
    let fence: String = line.chars().take_while(|c| *c == mark).collect();
    // Three backticks in a line of text are a code span.
    let is_span = line[fence.len()..].contains('`');
    (fence.len() >= 3 && !is_span).then_some(fence)
}

fn code_block(language: &str) -> String {
    let name = language.split([' ', ',', '{', ':']).find(|word| !word.is_empty()).unwrap_or("");
    let name = match name.to_ascii_lowercase().as_str() {
        "" | "text" | "txt" | "plain" | "plaintext" => return "A code block.".to_owned(),
        "rs" | "rust" => "Rust",
        "py" | "python" | "python3" => "Python",
        "js" | "javascript" | "mjs" | "jsx" => "JavaScript",
        "ts" | "typescript" | "tsx" => "TypeScript",
        "sh" | "bash" | "shell" | "zsh" | "console" => "shell",
        "c++" | "cpp" | "cc" => "C++",
        "cs" | "csharp" => "C#",
        "go" | "golang" => "Go",
        "md" | "markdown" => "Markdown",
        "rb" | "ruby" => "Ruby",
        "c" => "C",
        "java" => "Java",
        "json" => "JSON",
        "yaml" | "yml" => "YAML",
        "toml" => "TOML",
        "html" => "HTML",
        "css" => "CSS",
        "sql" => "SQL",
        "diff" => "differences",
        _ => return "A code block.".to_owned(),
    };
    format!("A code block in {name}.")
}

fn is_rule(line: &str) -> bool {
    let mark = line.chars().next().filter(|mark| "-=*_".contains(*mark));
    let marks = line.chars().filter(|c| !c.is_whitespace());
    mark.is_some_and(|mark| line.len() >= 3 && marks.clone().all(|c| c == mark))
}

fn heading(line: &str) -> Option<&str> {
    let title = line.trim_start_matches('#');
    let level = line.len() - title.len();
    let is_one = (1..=6).contains(&level) && title.starts_with(char::is_whitespace);
    is_one.then(|| title.trim_end_matches('#').trim())
}

/// `[name]: http://…`, which is shown nowhere.
fn is_definition(line: &str) -> bool {
    line.starts_with('[')
        && line
            .split_once("]: ")
            .is_some_and(|(_, to)| to.contains('/') && !to.trim().contains(' '))
}

/// What an item of a list says; an ordered one keeps its number.
fn item(line: &str) -> Option<&str> {
    let mark = line.split(' ').next()?;
    let rest = line[mark.len()..].trim_start();
    if rest.is_empty() {
        return None;
    }
    if ["-", "*", "+", "•", "–"].contains(&mark) {
        let boxes = ["[ ] ", "[x] ", "[X] "];
        return Some(boxes.iter().find_map(|done| rest.strip_prefix(done)).unwrap_or(rest));
    }
    let number = mark.strip_suffix(['.', ')'])?;
    (number.len() <= 3 && super::numbers::is_digits(number)).then_some(line)
}

/// Where the first of these stands, not too far away.
fn find(text: &str, mark: &str) -> Option<usize> {
    let end = text.floor_char_boundary(LOOK_MAX);
    text[..end].find(mark)
}

/// A paragraph's source as what it shows.
fn inline(source: &str, shown: &mut String, depth: u8) {
    let mut rest = source;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let taken = match c {
            '\\' => escaped(after, shown),
            '`' => code(rest, shown),
            '!' if after.starts_with('[') => link(after, shown, depth).map(|taken| taken + 1),
            '[' => link(rest, shown, depth),
            '<' => tag(after, shown).map(|taken| taken + 1),
            '&' => entity(after, shown).map(|taken| taken + 1),
            '*' | '_' | '~' => emphasis(rest, c, before, shown),
            _ => None,
        };
        // What is no mark is shown.
        let taken = taken.unwrap_or_else(|| {
            shown.push(c);
            c.len_utf8()
        });
        before = rest[..taken].chars().next_back().unwrap_or(c);
        rest = &rest[taken..];
    }
}

fn escaped(after: &str, shown: &mut String) -> Option<usize> {
    let next = after.chars().next().filter(char::is_ascii_punctuation)?;
    shown.push(next);
    Some(2)
}

fn code(rest: &str, shown: &mut String) -> Option<usize> {
    let inside = rest.trim_start_matches('`');
    let marks = &rest[..rest.len() - inside.len()];
    let Some(end) = find(inside, marks) else { return Some(marks.len()) };
    shown.push_str(inside[..end].trim());
    Some(marks.len() * 2 + end)
}

/// `[shown](address)`, `[shown][name]`, `[^1]`.
fn link(rest: &str, shown: &mut String, depth: u8) -> Option<usize> {
    let inside = rest.strip_prefix('[')?;
    let end = closing(inside)?;
    let after = &inside[end + 1..];
    if inside.starts_with('^') {
        return Some(end + 2 + usize::from(after.starts_with(':')));
    }
    let to = match after.chars().next() {
        Some('(') => find(after, ")")?,
        Some('[') => find(after, "]")?,
        _ => return None,
    };
    if depth > 0 {
        inline(&inside[..end], shown, depth - 1);
    } else {
        shown.push_str(&inside[..end]);
    }
    Some(end + 2 + to + 1)
}

/// The bracket that closes one that is open already.
fn closing(inside: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, c) in inside.char_indices().take_while(|(at, _)| *at < LOOK_MAX) {
        match c {
            '[' => open += 1,
            ']' if open == 0 => return Some(at),
            ']' => open -= 1,
            _ => {}
        }
    }
    None
}

/// A tag shows nothing, an address in such brackets itself.
fn tag(after: &str, shown: &mut String) -> Option<usize> {
    if let Some(comment) = after.strip_prefix("!--") {
        return Some(find(comment, "-->").map_or(after.len(), |end| 3 + end + 3));
    }
    let end = find(after, ">")?;
    let inside = &after[..end];
    let first = inside.trim_start_matches('/').chars().next()?;
    if !first.is_ascii_alphabetic() || inside.contains('<') {
        return None;
    }
    let is_address =
        !inside.contains(char::is_whitespace) && (inside.contains("://") || inside.contains('@'));
    shown.push_str(if is_address { inside } else { " " });
    Some(end + 1)
}

fn entity(after: &str, shown: &mut String) -> Option<usize> {
    let end = after.bytes().take(8).position(|byte| byte == b';')?;
    let text = match &after[..end] {
        "amp" => "&",
        "lt" => "<",
        "gt" => ">",
        "quot" => "\"",
        "apos" | "#39" => "'",
        "nbsp" => " ",
        "mdash" => "—",
        "ndash" => "–",
        "hellip" => "…",
        "deg" => "°",
        "copy" => "©",
        "euro" => "€",
        _ => return None,
    };
    shown.push_str(text);
    Some(end + 1)
}

/// Marks around words are not shown; those between numbers or spaces are.
fn emphasis(rest: &str, mark: char, before: char, shown: &mut String) -> Option<usize> {
    let inside = rest.trim_start_matches(mark);
    let count = rest.len() - inside.len();
    let after = inside.chars().next().unwrap_or(' ');
    let between_words = before.is_alphanumeric() && after.is_alphanumeric();
    let between_spaces = before.is_whitespace() && after.is_whitespace();
    let is_text = match mark {
        '~' => count != 2,
        '_' => between_words || between_spaces,
        // `2*3` and not `un*frigging*believable`.
        _ => between_spaces || between_words && !(before.is_alphabetic() && after.is_alphabetic()),
    };
    let is_text = is_text || count > 3;
    if is_text {
        shown.push_str(&rest[..count]);
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read() {
        for (source, shown) in [
            ("plain text", &["plain text"][..]),
            ("two\nlines of one", &["two lines of one"]),
            ("one\n\ntwo", &["one", "two"]),
            ("# Title\ntext", &["Title", "text"]),
            ("### Title ###", &["Title"]),
            ("#tag", &["#tag"]),
            ("Title\n=====\ntext", &["Title", "text"]),
            ("a\n\n---\n\nb", &["a", "b"]),
            ("- one\n- two\n  goes on\n* three", &["one", "two goes on", "three"]),
            ("1. mix\n2) bake", &["1. mix", "2) bake"]),
            ("- [ ] open\n- [x] done", &["open", "done"]),
            ("> said\n> so", &["said so"]),
            ("| a | b |\n|---|:-:|\n| 1 | 2 |", &["a, b", "1, 2"]),
            ("```rust\nfn main() {}\n```\nafter", &["A code block in Rust.", "after"]),
            ("before\n~~~\nx\n~~~", &["before", "A code block."]),
            ("```\nnever ends", &["A code block."]),
            ("````md\n```\ninner\n```\n````\nend", &["A code block in Markdown.", "end"]),
            ("**bold**, *em*, __b__, _e_, ~~gone~~, ***both***", &["bold, em, b, e, gone, both"]),
            ("un*frigging*believable", &["unfriggingbelievable"]),
            ("2*3 and 2 * 3 and snake_case_name", &["2*3 and 2 * 3 and snake_case_name"]),
            ("~5 and ~/bin", &["~5 and ~/bin"]),
            ("`code_span` and ``a ` b``", &["code_span and a ` b"]),
            ("`**raw**`", &["**raw**"]),
            ("an `open", &["an open"]),
            ("[shown](http://x/y_z) and [ref][1]", &["shown and ref"]),
            ("[**bold** link](x)", &["bold link"]),
            ("![picture](x.png)", &["picture"]),
            ("a fact[^1]\n\n[^1]: x\n[1]: http://x", &["a fact", "x"]),
            ("[not a link]", &["[not a link]"]),
            ("<http://x.org> <b>bold</b> a<br>b", &["http://x.org bold a b"]),
            ("1 < 2 and a<b", &["1 < 2 and a<b"]),
            ("x <!-- hidden --> y", &["x y"]),
            ("a &amp; b &lt; c &unknown;", &["a & b < c &unknown;"]),
            (r"\*not em\* and C:\new", &[r"*not em* and C:\new"]),
            ("", &[]),
            (" \n\t\n", &[]),
        ] {
            assert_eq!(paragraphs(source), shown, "{source}");
        }
    }

    #[test]
    fn hostile_marks_end() {
        for mark in ["[", "![", "<", "<!--", "`", "*", "_", "&", "\\", ">", "|", "[](", "[[]("] {
            let source = mark.repeat(4_096 / mark.len());
            let _whatever = paragraphs(&source);
        }
    }
}
