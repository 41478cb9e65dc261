//! Tables for people: columns padded by display width, cut with `…` where the terminal ends.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::terminal::{Colour, Look};
use crate::text::clean;

/// Columns between two columns.
const GAP: usize = 2;

/// No column that may be cut gets narrower than this.
const NARROWEST: usize = 6;

/// Longest text of a cell, in bytes; the rest is cut before anything is measured.
const MAX_CELL: usize = 1024;

/// A column's title and manners.
#[derive(Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    right: bool,
    cut: bool,
    spare: bool,
}

impl Column {
    /// Text that may be cut.
    pub(super) const fn text(title: &'static str) -> Self {
        Self { title, right: false, cut: true, spare: false }
    }

    /// Text that is left out altogether where there is no room for all.
    pub(super) const fn spare(title: &'static str) -> Self {
        Self { title, right: false, cut: true, spare: true }
    }

    /// A word that is never cut.
    pub(super) const fn word(title: &'static str) -> Self {
        Self { title, right: false, cut: false, spare: false }
    }

    /// A number, on the right and never cut.
    pub(super) const fn number(title: &'static str) -> Self {
        Self { title, right: true, cut: false, spare: false }
    }
}

/// What stands in a row and a column.
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    /// `text`, cleaned of what a terminal would obey, in `colour`.
    pub(super) fn new(text: impl AsRef<str>, colour: Option<Colour>) -> Self {
        Self { text: clean(text.as_ref(), MAX_CELL).into_owned(), colour }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, None)
    }
}

/// Rows under titles.
pub(super) struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub(super) const fn new(columns: [Column; N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row at the end.
    pub(super) fn push(&mut self, row: [Cell; N]) {
        self.rows.push(row);
    }

    /// The table as text, a line for each row and one for the titles.
    pub(super) fn render(&self, look: Look) -> String {
        let widths = self.widths(look.width);
        let mut out = String::new();
        let titles = self.columns.map(|column| Cell::new(column.title, Some(Colour::Bold)));
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            let mut owed = 0;
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(widths) {
                let Some(width) = width else { continue };
                let text = shorten(&cell.text, width);
                let space = width - text.width().min(width);
                let (before, after) = if column.right { (space, 0) } else { (0, space) };
                if !text.is_empty() {
                    line.push_str(&" ".repeat(owed + before));
                    line.push_str(&look.paint(cell.colour, &text));
                    owed = after + GAP;
                } else {
                    owed += width + GAP;
                }
            }
            out.push_str(&line);
            out.push('\n');
        }
        out
    }

    /// Each column's width: what its cells need, less what the widest ones give up until all fit. None for a spare
    /// column for which there is no room.
    fn widths(&self, limit: Option<usize>) -> [Option<usize>; N] {
        let mut widths = self.columns.map(|column| Some(column.title.width()));
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(Some(cell.text.width()));
            }
        }
        let Some(limit) = limit else { return widths };
        let needed = |widths: &[Option<usize>; N]| {
            widths.iter().flatten().map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
        };
        if needed(&widths) > limit {
            for (width, _) in widths.iter_mut().zip(&self.columns).filter(|(_, column)| column.spare) {
                *width = None;
            }
        }
        for _ in limit..needed(&widths) {
            let given = self
                .columns
                .iter()
                .zip(widths.iter_mut())
                .filter_map(|(column, width)| width.as_mut().filter(|width| column.cut && **width > NARROWEST));
            let Some(widest) = given.max_by_key(|width| **width) else { break };
            *widest -= 1;
        }
        widths
    }
}

/// `text` within `width` columns, with `…` in place of what is cut.
fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for letter in text.chars() {
        used += letter.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(letter);
    }
    kept.truncate(kept.trim_end().len());
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<3> {
        let mut table = Table::new([Column::text("NAME"), Column::number("N"), Column::text("WHAT")]);
        table.push(["日本語のエージェント".into(), "12".into(), Cell::new("red \u{1b}[31malert\n", Some(Colour::Bad))]);
        table.push(["b".into(), "".into(), "a much longer text than fits".into()]);
        table
    }

    #[test]
    fn columns_align_by_display_width() {
        insta::assert_snapshot!(table().render(Look { width: None, colours: false }), @"
        NAME                   N  WHAT
        日本語のエージェント  12  red alert
        b                         a much longer text than fits
        ");
    }

    #[test]
    fn the_widest_are_cut_to_fit() {
        let text = table().render(Look { width: Some(30), colours: false });
        insta::assert_snapshot!(text, @"
        NAME           N  WHAT
        日本語のエ…   12  red alert
        b                 a much long…
        ");
        assert!(text.lines().all(|line| line.width() <= 30), "{text}");
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let text = table().render(Look { width: Some(30), colours: true });
        assert!(text.contains("\u{1b}[31mred alert\u{1b}[0m"), "{text:?}");
    }

    #[test]
    fn a_terminal_of_no_width_ends_nothing() {
        for width in 0..20 {
            assert_eq!(table().render(Look { width: Some(width), colours: false }).lines().count(), 3);
        }
    }
}
