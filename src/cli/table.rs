//! Tables for terminals: columns aligned by display width, fitted to the terminal's width by leaving out optional
//! columns and cutting text with `…`.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::terminal::{Colour, OutputStyle};
use crate::text::clean;

/// Spaces between two columns.
const GAP: usize = 2;

/// No column is cut to less than this.
const MIN_WIDTH: usize = 6;

/// Optional columns are left out before text is cut to less than this.
const COMFORTABLE_WIDTH: usize = 20;

/// Longest text of a cell, in bytes; longer text is cut before it is measured.
const MAX_CELL: usize = 1024;

/// A column's title and layout.
#[derive(Clone, Copy)]
pub(super) struct TableColumn {
    title: &'static str,
    /// Aligned to the right.
    right: bool,
    /// May be cut.
    cut: bool,
    /// May be left out.
    optional: bool,
}

impl TableColumn {
    /// Text that may be cut.
    pub(super) const fn text(title: &'static str) -> Self {
        Self { title, right: false, cut: true, optional: false }
    }

    /// This column, left out where it is empty or the terminal is too narrow; the rightmost ones first.
    pub(super) const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// A word that is never cut.
    pub(super) const fn word(title: &'static str) -> Self {
        Self { title, right: false, cut: false, optional: false }
    }

    /// A number: aligned to the right and never cut.
    pub(super) const fn number(title: &'static str) -> Self {
        Self { title, right: true, cut: false, optional: false }
    }
}

/// The content of one row in one column.
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    /// `text` in `colour`, without control characters and escape sequences.
    pub(super) fn new(text: impl AsRef<str>, colour: Option<Colour>) -> Self {
        Self { text: clean(text.as_ref(), MAX_CELL).into_owned(), colour }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, None)
    }
}

/// Rows with a title line.
pub(super) struct Table<const N: usize> {
    columns: [TableColumn; N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub(super) const fn new(columns: [TableColumn; N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row at the end.
    pub(super) fn push(&mut self, row: [Cell; N]) {
        self.rows.push(row);
    }

    /// The titles of columns that [`Table::render`] leaves out for want of width.
    pub(super) fn left_out(&self, style: OutputStyle) -> Vec<&'static str> {
        let widths = self.widths(style.width);
        let columns = self.columns.iter().enumerate().zip(widths);
        columns
            .filter(|((place, _), width)| width.is_none() && !self.is_empty(*place))
            .map(|((_, column), _)| column.title)
            .collect()
    }

    /// Whether no row has anything in the column at `place`.
    fn is_empty(&self, place: usize) -> bool {
        self.rows.iter().all(|row| row.get(place).is_none_or(|cell| cell.text.is_empty()))
    }

    /// The table as text: a line of titles, then a line for each row.
    pub(super) fn render(&self, style: OutputStyle) -> String {
        let widths = self.widths(style.width);
        let mut out = String::new();
        let titles = self.columns.map(|column| Cell::new(column.title, Some(Colour::Bold)));
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            // Spaces are written only before the next text, so that no line ends with spaces.
            let mut spaces = 0;
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(widths) {
                let Some(width) = width else { continue };
                let text = shorten(&cell.text, width);
                let space = width - text.width().min(width);
                let (before, after) = if column.right { (space, 0) } else { (0, space) };
                if !text.is_empty() {
                    line.push_str(&" ".repeat(spaces + before));
                    line.push_str(&style.paint(cell.colour, &text));
                    spaces = after + GAP;
                } else {
                    spaces += width + GAP;
                }
            }
            out.push_str(&line);
            out.push('\n');
        }
        out
    }

    /// The width of each column, `None` for one that is left out: what its widest cell needs, and where that is too
    /// much in total, the widest columns that may be cut are shortened until all fit.
    fn widths(&self, limit: Option<usize>) -> [Option<usize>; N] {
        let mut widths = self.columns.map(|column| Some(column.title.width()));
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(Some(cell.text.width()));
            }
        }
        for ((place, column), width) in self.columns.iter().enumerate().zip(&mut widths) {
            if column.optional && self.is_empty(place) {
                *width = None;
            }
        }
        let Some(limit) = limit else { return widths };
        let needed = |widths: &[Option<usize>; N]| {
            widths.iter().flatten().map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
        };
        let is_cramped = |widths: &[Option<usize>; N]| {
            let mut comfortable = *widths;
            for (width, column) in comfortable.iter_mut().zip(&self.columns).filter(|(_, column)| column.cut) {
                *width = width.map(|width| width.min(COMFORTABLE_WIDTH.max(column.title.width())));
            }
            needed(&comfortable) > limit
        };
        while is_cramped(&widths) {
            let mut optional = widths.iter_mut().zip(&self.columns).rev();
            let Some((width, _)) = optional.find(|(width, column)| column.optional && width.is_some()) else { break };
            *width = None;
        }
        for _ in limit..needed(&widths) {
            let shortened = self
                .columns
                .iter()
                .zip(widths.iter_mut())
                .filter_map(|(column, width)| width.as_mut().filter(|width| column.cut && **width > MIN_WIDTH));
            let Some(widest) = shortened.max_by_key(|width| **width) else { break };
            *widest -= 1;
        }
        widths
    }
}

/// `text` in at most `width` columns; `…` stands for what is cut.
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
        let mut table = Table::new([TableColumn::text("NAME"), TableColumn::number("N"), TableColumn::text("WHAT")]);
        table.push(["日本語のエージェント".into(), "12".into(), Cell::new("red \u{1b}[31malert\n", Some(Colour::Bad))]);
        table.push(["b".into(), "".into(), "a much longer text than fits".into()]);
        table
    }

    #[test]
    fn columns_align_by_display_width() {
        insta::assert_snapshot!(table().render(OutputStyle { width: None, colours: false }), @"
        NAME                   N  WHAT
        日本語のエージェント  12  red alert
        b                         a much longer text than fits
        ");
    }

    #[test]
    fn the_widest_columns_are_cut_to_fit() {
        let text = table().render(OutputStyle { width: Some(30), colours: false });
        insta::assert_snapshot!(text, @"
        NAME           N  WHAT
        日本語のエ…   12  red alert
        b                 a much long…
        ");
        assert!(text.lines().all(|line| line.width() <= 30), "{text}");
    }

    #[test]
    fn optional_columns_are_left_out_rightmost_first_when_empty_or_without_room() {
        let mut table = Table::new([
            TableColumn::text("AGENT"),
            TableColumn::text("TASK").optional(),
            TableColumn::number("TOKENS").optional(),
            TableColumn::number("COST").optional(),
        ]);
        table.push(["worker-1".into(), "task-1".into(), "12.3k".into(), "".into()]);
        let titles = |width| {
            let style = OutputStyle { width: Some(width), colours: false };
            let titles = table.render(style).lines().next().unwrap_or_default().to_owned();
            (titles, table.left_out(style))
        };
        assert_eq!(titles(80), ("AGENT     TASK    TOKENS".to_owned(), vec![]), "nothing is known of the cost");
        assert_eq!(titles(20), ("AGENT     TASK".to_owned(), vec!["TOKENS"]));
        assert_eq!(titles(10), ("AGENT".to_owned(), vec!["TASK", "TOKENS"]));
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let text = table().render(OutputStyle { width: Some(30), colours: true });
        assert!(text.contains("\u{1b}[31mred alert\u{1b}[0m"), "{text:?}");
    }

    #[test]
    fn a_terminal_without_width_causes_no_panic() {
        for width in 0..20 {
            assert_eq!(table().render(OutputStyle { width: Some(width), colours: false }).lines().count(), 3);
        }
    }
}
