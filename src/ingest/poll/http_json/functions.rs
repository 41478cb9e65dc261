//! `match` and `search`, the two functions of JSONPath (RFC 9535) that take a pattern.
//!
//! Patterns are I-Regexp (RFC 9485). Unlike the library's own functions, these compile a pattern once and cache it, since
//! compiling `\w+` takes most of a millisecond. An invalid pattern matches nothing, as the standard requires.

use std::cell::RefCell;

use regex::{Regex, RegexBuilder};
use serde_json::Value;
use serde_json_path::functions::{LogicalType, ValueType};

use crate::model::BoundedMap;

/// Most memory of a compiled pattern, in bytes.
const MAX_COMPILED: usize = 8 << 20;

/// Patterns that are cached; a path has one or two.
const MAX_CACHED: usize = 16;

thread_local! {
    /// Compiled patterns; `None` for an invalid one.
    static COMPILED: RefCell<BoundedMap<String, Option<Regex>>> = RefCell::new(BoundedMap::new(MAX_CACHED));
}

/// Whether the pattern matches the whole text.
#[serde_json_path::function(name = "match")]
fn whole(text: ValueType, pattern: ValueType) -> LogicalType {
    matches(&text, &pattern, |pattern| format!("(?R)^(?:{pattern})$"))
}

/// Whether the pattern matches a part of the text.
#[serde_json_path::function(name = "search")]
fn part(text: ValueType, pattern: ValueType) -> LogicalType {
    matches(&text, &pattern, |pattern| format!("(?R){pattern}"))
}

fn matches(text: &ValueType<'_>, pattern: &ValueType<'_>, anchored: impl Fn(&str) -> String) -> LogicalType {
    let (Some(Value::String(text)), Some(Value::String(pattern))) = (text.as_value(), pattern.as_value()) else {
        return LogicalType::False;
    };
    COMPILED.with_borrow_mut(|read| {
        let pattern = anchored(pattern);
        if !read.contains(&pattern) {
            let regex = RegexBuilder::new(&pattern).size_limit(MAX_COMPILED).build().ok();
            read.insert(pattern.clone(), regex, ());
        }
        read.get(&pattern).and_then(Option::as_ref).is_some_and(|regex| regex.is_match(text)).into()
    })
}
