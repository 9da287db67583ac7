//! Rows for people: aligned, and cut to the width of a terminal where one is read.

use console::{Alignment, Term, measure_text_width, pad_str, truncate_str};

use mtor_types::text;

use crate::output::Out;

/// Between two columns.
const GAP: &str = "  ";
/// A column is not cut shorter than this.
const WIDTH_MIN: usize = 8;

/// One list of things; the head stands above the first row only.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    /// Numbers stand at the right of their column.
    right: Vec<&'static str>,
    /// What may be cut where the terminal is too narrow.
    loose: &'static str,
    rows: Vec<Vec<String>>,
    headless: bool,
}

impl Table {
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            right: Vec::new(),
            loose: "",
            rows: Vec::new(),
            headless: false,
        }
    }

    pub(crate) fn right(mut self, columns: &[&'static str]) -> Self {
        self.right = columns.to_vec();
        self
    }

    pub(crate) fn loose(mut self, column: &'static str) -> Self {
        self.loose = column;
        self
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells =
            cells.into_iter().map(|cell| text::line(&cell.replace(['\n', '\t'], " ")).into_owned());
        self.rows.push(cells.collect());
    }

    /// Forgets what was printed; the head does not come again.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.headless = true;
    }

    pub(crate) fn print(&self, out: Out) {
        if !self.rows.is_empty() {
            for line in self.lines(columns()).into_iter().skip(usize::from(self.headless)) {
                out.words(line);
            }
        }
    }

    fn lines(&self, width_max: Option<usize>) -> Vec<String> {
        let width = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            let widest = cells.map(|cell| measure_text_width(cell)).max().unwrap_or_default();
            widest.max(self.head.get(at).map_or(0, |name| name.len()))
        };
        let mut widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let whole = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        let over = width_max.map_or(0, |max| whole.saturating_sub(max));
        if let Some(at) = self.head.iter().position(|name| *name == self.loose) {
            widths[at] = widths[at].saturating_sub(over).max(WIDTH_MIN.min(widths[at]));
        }
        let head = self.head.iter().map(|name| (*name).to_owned()).collect();
        std::iter::once(&head).chain(&self.rows).map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let columns = self.head.iter().zip(widths).zip(cells);
        let cells = columns.map(|((name, width), cell)| {
            let cell = truncate_str(cell, *width, "…");
            let is_right = self.right.contains(name);
            let side = if is_right { Alignment::Right } else { Alignment::Left };
            pad_str(&cell, *width, side, None).into_owned()
        });
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    }
}

/// The width of the terminal on standard output, if there is one.
fn columns() -> Option<usize> {
    let (_, columns) = Term::stdout().size_checked()?;
    Some(usize::from(columns)).filter(|columns| *columns > 0 && Term::stdout().is_term())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table =
            Table::new(&["intent", "summary", "price"]).right(&["price"]).loose("summary");
        table.row(["chat", "Answers in words,\nas many as you pay.", "5"].map(String::from));
        table.row(["écho", "Back.", "100"].map(String::from));
        table
    }

    #[test]
    fn columns_are_aligned_and_numbers_stand_at_the_right() {
        let lines = [
            "intent  summary                               price",
            "chat    Answers in words, as many as you pay.      5",
            "écho    Back.                                    100",
        ];
        let shown = table().lines(None);
        assert_eq!(shown[1..], lines[1..]);
        assert_eq!(shown[0].len(), measure_text_width(&shown[1]));
    }

    #[test]
    fn what_is_too_wide_is_cut_where_it_may_be() {
        let shown = table().lines(Some(30));
        assert_eq!(shown[1], "chat    Answers in wor…      5");
        assert!(shown.iter().all(|line| measure_text_width(line) <= 30), "{shown:?}");
        assert!(table().lines(Some(3))[1].contains("Answers…"));
    }
}
