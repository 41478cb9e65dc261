//! `match` and `search`, the two functions of JSONPath (RFC 9535) that take a pattern.
//!
//! Owns how a pattern is read: as the I-Regexp of RFC 9485, without its classes `\p{…}`, whose tables would be a
//! twentieth of the program. Refuses nothing: a pattern that can't be read fits no text, as the standard has it.

use regex_lite::Regex;
use serde_json::Value;
use serde_json_path::functions::{LogicalType, ValueType};

/// Whether the whole text fits the pattern.
#[serde_json_path::function(name = "match")]
fn whole(text: ValueType, pattern: ValueType) -> LogicalType {
    fits(&text, &pattern, |pattern| format!("(?R)^(?:{pattern})$"))
}

/// Whether a part of the text fits the pattern.
#[serde_json_path::function(name = "search")]
fn part(text: ValueType, pattern: ValueType) -> LogicalType {
    fits(&text, &pattern, |pattern| format!("(?R){pattern}"))
}

fn fits(text: &ValueType<'_>, pattern: &ValueType<'_>, framed: impl Fn(&str) -> String) -> LogicalType {
    let (Some(Value::String(text)), Some(Value::String(pattern))) = (text.as_value(), pattern.as_value()) else {
        return LogicalType::False;
    };
    Regex::new(&framed(pattern)).is_ok_and(|pattern| pattern.is_match(text)).into()
}
