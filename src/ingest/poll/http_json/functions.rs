//! `match` and `search`, the two functions of JSONPath (RFC 9535) that take a pattern.
//!
//! Owns how a pattern is read: as the I-Regexp of RFC 9485. Each is read once and kept for the agents that follow, which
//! the library's own functions don't do: reading `\w+` takes most of a millisecond. Refuses nothing: a pattern that can't
//! be read fits no text, as the standard has it.

use std::cell::RefCell;

use regex::{Regex, RegexBuilder};
use serde_json::Value;
use serde_json_path::functions::{LogicalType, ValueType};

use crate::model::BoundedMap;

/// What a pattern may take in memory when it is read.
const MAX_COMPILED: usize = 8 << 20;

/// Patterns that are kept; a path has one or two.
const MAX_KEPT: usize = 16;

thread_local! {
    /// Patterns that were read; `None` for one that can't be.
    static READ: RefCell<BoundedMap<String, Option<Regex>>> = RefCell::new(BoundedMap::new(MAX_KEPT));
}

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
    READ.with_borrow_mut(|read| {
        let pattern = framed(pattern);
        if !read.contains(&pattern) {
            let regex = RegexBuilder::new(&pattern).size_limit(MAX_COMPILED).build().ok();
            read.insert(pattern.clone(), regex, ());
        }
        read.get(&pattern).and_then(Option::as_ref).is_some_and(|regex| regex.is_match(text)).into()
    })
}
