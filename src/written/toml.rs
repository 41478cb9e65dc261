//! Parses TOML into figment's values with the position of each.
//!
//! Dates and times are text, as in YAML. Errors never quote a line, which may contain a secret.

use figment::value::{Dict, Empty, Num, Tag, Value};
use toml::de::{DeInteger, DeTable, DeValue, Error};

use super::document::{Document, Places, duplicate_key};
use crate::model::Position;

/// Parses `text`. The error has line and column.
pub(crate) fn parse(text: &str) -> Result<Document, String> {
    let table = DeTable::parse(text).map_err(|error| located(text, &error))?;
    let lines = LineOffsets::of(text);
    Document::read(|places| value(DeValue::Table(table.into_inner()), &lines, places))
}

fn located(text: &str, error: &Error) -> String {
    let span = error.span().unwrap_or_default();
    let message = match (error.message(), text.get(span.clone())) {
        ("duplicate key", Some(key)) => duplicate_key(key),
        (message, _) => message.to_owned(),
    };
    format!("{}: {message}", LineOffsets::of(text).place(span.start))
}

fn value(read: DeValue<'_>, lines: &LineOffsets<'_>, places: &mut Places) -> Value {
    match read {
        DeValue::String(text) => Value::from(text.into_owned()),
        DeValue::Integer(number) => Value::Num(Tag::Default, integer(&number)),
        DeValue::Float(number) => {
            number.as_str().parse::<f64>().map_or(Value::Empty(Tag::Default, Empty::Unit), Value::from)
        }
        DeValue::Boolean(flag) => Value::from(flag),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(items) => {
            let items = items.into_iter().enumerate().map(|(at, item)| {
                let place = lines.place(item.span().start);
                places.beneath(at.to_string(), place, |places| value(item.into_inner(), lines, places))
            });
            Value::Array(Tag::Default, items.collect())
        }
        DeValue::Table(table) => {
            let entries = table.into_iter().map(|(key, item)| {
                let (place, key) = (lines.place(key.span().start), key.into_inner().into_owned());
                let item = places.beneath(key.clone(), place, |places| value(item.into_inner(), lines, places));
                (key, item)
            });
            Value::Dict(Tag::Default, entries.collect::<Dict>())
        }
    }
}

/// An integer; as a float if it overflows.
fn integer(number: &DeInteger<'_>) -> Num {
    let (text, radix) = (number.as_str(), number.radix());
    u64::from_str_radix(text, radix)
        .map(Num::U64)
        .or_else(|_| i64::from_str_radix(text, radix).map(Num::I64))
        .unwrap_or_else(|_| Num::F64(text.parse().unwrap_or(f64::INFINITY)))
}

/// The offsets of the lines of a text.
struct LineOffsets<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> LineOffsets<'t> {
    fn of(text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// The position of the byte at `offset`.
    fn place(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|line| self.starts.get(line)).copied().unwrap_or_default();
        let before = self.text.get(start..offset).map_or(0, |before| before.chars().count());
        Position { line: line as u64, column: before as u64 + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::written::document::locate;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn values_have_their_toml_types_and_positions() {
        let text = "listen = '[::1]:1'\nday = 1979-05-27\n\n[agents]\n\"é\" = 1\ntimeout = \"5m\"\n\
                    [[sources]]\nname = 'a'\n[[sources]]\nlimit = 0x1f\nshare = -1.5\nall = [true, 9]\n";
        let document = parse(text).expect("TOML");
        let json: serde_json::Value = document.value.deserialize().expect("JSON");
        let expected = serde_json::json!({
            "listen": "[::1]:1", "day": "1979-05-27", "agents": {"é": 1, "timeout": "5m"},
            "sources": [{"name": "a"}, {"limit": 31, "share": -1.5, "all": [true, 9]}],
        });
        assert_eq!(json, expected);
        for (at, line, column) in [
            ("listen", 1, 1),
            ("agents", 4, 2),
            ("agents.é", 5, 1),
            ("agents.timeout.none", 6, 1),
            ("sources.1", 9, 1),
            ("sources.1.all.1", 12, 14),
        ] {
            assert_eq!(document.place(&path(at)), Some(Position { line, column }), "{at}");
        }
        assert_eq!(locate(&document.value, &path("sources.1.limit")), Some(&Value::from(31_u64)));
    }

    #[test]
    fn errors_have_a_position_and_never_quote_the_line() {
        for (text, expected) in [
            ("a = 1\na = 2", "line 2, column 1: duplicate key `a`: keep one"),
            ("a.\"é\" = hunter2", "line 1, column 9: string values must be quoted, expected literal string"),
            ("a = [\n  'hunter2'", "line 2, column 12: unclosed array, expected `]`"),
        ] {
            assert_eq!(parse(text).expect_err(text), expected, "{text}");
        }
        for text in ["hunter2", "a = \"hunter2\\q\"", "a = 'hunter2", "= hunter2", "a = 1 hunter2"] {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with("line 1, column ") && !error.contains("hunter2"), "{text}: {error}");
        }
        parse(&format!("a = {}", "[".repeat(100_000))).expect_err("too deep");
    }
}
