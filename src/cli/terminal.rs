//! Standard output: its width, whether it takes colours, and the only functions that write to it.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use crate::text::clean_lines;

/// The layout of tables and reports.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutputStyle {
    /// Columns of the terminal; `None` cuts nothing, for output that goes into a pipe or file.
    pub(super) width: Option<usize>,
    /// Whether ANSI colours are used.
    pub(super) colours: bool,
}

impl OutputStyle {
    /// The layout for standard output: the width is `COLUMNS`, else the terminal's; colours follow the terminal,
    /// `NO_COLOR` and `CLICOLOR_FORCE`.
    pub(super) fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let columns =
            std::env::var("COLUMNS").ok().and_then(|text| text.parse::<usize>().ok()).filter(|width| *width > 0);
        let measured = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let colours = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Self { width: columns.or_else(|| terminal.then(measured).flatten()), colours }
    }

    /// `text` in `colour`, if colours are used.
    pub(super) fn paint(self, colour: Option<Colour>, text: &str) -> String {
        match colour {
            Some(colour) if self.colours => {
                let style = colour.style();
                format!("{style}{text}{style:#}")
            }
            _ => text.to_owned(),
        }
    }
}

/// A colour by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    /// Healthy.
    Good,
    /// A warning.
    Warn,
    /// An error.
    Bad,
    /// Critical.
    Worst,
    /// Less important.
    Dim,
    /// A heading.
    Bold,
}

impl Colour {
    /// The colour of a level, of a component's status or of a project's health, by its name.
    pub(super) fn of_severity(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "critical" => Some(Self::Worst),
            "error" => Some(Self::Bad),
            "warning" | "limited" => Some(Self::Warn),
            "ok" => Some(Self::Good),
            _ => None,
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Worst => AnsiColor::Red.on_default().bold(),
            Self::Dim => Style::new().dimmed(),
            Self::Bold => Style::new().bold(),
        }
    }
}

/// Writes an answer of a sidecar unchanged; on a terminal without control characters and escape sequences.
pub(super) fn print_answer(text: &str) -> io::Result<()> {
    print(&shown(text, io::stdout().is_terminal()))
}

fn shown(text: &str, is_terminal: bool) -> Cow<'_, str> {
    if is_terminal { clean_lines(text) } else { Cow::Borrowed(text) }
}

/// Writes `text`, ended by a newline; a closed pipe is not an error.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(end.as_bytes())).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_sends_no_escape_sequences_to_a_terminal() {
        let answer = "{\n\t\"a\": \"\u{1b}]0;owned\u{7}x\u{1b}[2J\u{202e}y\"\n}";
        assert_eq!(shown(answer, true), "{\n\t\"a\": \"xy\"\n}");
        assert_eq!(shown(answer, false), answer);
    }
}
