//! A mistake in what people wrote, and the words for it: which key, the value, the remedy.
//!
//! Refuses to show the value of a key that holds a secret, which its type says, or text that stands where a section
//! belongs: it is what people paste there.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use crate::secret::{self, mask};
use crate::text::nearest::nearest;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mistake {
    /// The keys and places that lead to it.
    pub(crate) path: Vec<String>,
    /// What it is.
    pub(crate) kind: Kind,
}

impl Mistake {
    /// The same mistake, in the value of `key`.
    pub(super) fn within(mut self, key: &str) -> Self {
        self.path.insert(0, key.to_owned());
        self
    }

    fn of(kind: Kind) -> Self {
        Self { path: Vec::new(), kind }
    }
}

/// What can be wrong with a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A key that is none of these.
    UnknownField(String, &'static [&'static str]),
    /// A key without a default that is not given.
    MissingField(&'static str),
    /// A word that is none of these.
    UnknownVariant(String, &'static [&'static str]),
    /// Another kind of value than what was expected.
    InvalidType(Found, String),
    /// A value that can't be, and what was expected.
    InvalidValue(Found, String),
    /// So many items, and what was expected.
    InvalidLength(usize, String),
    /// In the words of its reader.
    Other(String),
}

/// What was found where something else was expected.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    Nothing,
    Bool(bool),
    Number(String),
    Text(String),
    List,
    Map,
    Else,
}

impl From<Unexpected<'_>> for Found {
    fn from(found: Unexpected<'_>) -> Self {
        match found {
            Unexpected::Unit | Unexpected::Option => Self::Nothing,
            Unexpected::Bool(flag) => Self::Bool(flag),
            Unexpected::Unsigned(number) => Self::Number(number.to_string()),
            Unexpected::Signed(number) => Self::Number(number.to_string()),
            Unexpected::Float(number) => Self::Number(number.to_string()),
            Unexpected::Char(letter) => Self::Text(letter.to_string()),
            Unexpected::Str(text) => Self::Text(text.to_owned()),
            Unexpected::Seq => Self::List,
            Unexpected::Map => Self::Map,
            _ => Self::Else,
        }
    }
}

impl Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::of(Kind::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::of(Kind::InvalidType(found.into(), expected.to_string()))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::of(Kind::InvalidValue(found.into(), expected.to_string()))
    }

    fn invalid_length(found: usize, expected: &dyn Expected) -> Self {
        Self::of(Kind::InvalidLength(found, expected.to_string()))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::of(Kind::UnknownVariant(word.to_owned(), known))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::of(Kind::UnknownField(key.to_owned(), known))
    }

    fn missing_field(key: &'static str) -> Self {
        Self::of(Kind::MissingField(key))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&explain(&self.kind, None))
    }
}

impl std::error::Error for Mistake {}

/// A path as people read it: `sources[0].timeout`.
pub(crate) fn key(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            text.push_str(&format!("[{part}]"));
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            // Between braces a webhook's URL becomes a key.
            text.push_str(if part.contains("://") { "***" } else { part });
        }
    }
    text
}

/// What a reader's complaint about a value means, and what to do about it. `shown` is that value, when it is a scalar.
pub(crate) fn explain(kind: &Kind, shown: Option<&str>) -> String {
    match kind {
        Kind::UnknownField(name, known) => unknown_key(name, known),
        Kind::MissingField(_) => "is missing; it has no default".to_owned(),
        Kind::UnknownVariant(value, known) => {
            format!("`{}` is unknown; {}", mask::url(value), suggestion(value, known, "use one of"))
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let (is_secret, expected) = (expected == secret::EXPECTED, in_words(expected));
            let shown = if is_secret { class(found).to_owned() } else { describe(found, is_section(&expected)) };
            let is_unquoted = expected == "text" && matches!(found, Found::Number(_) | Found::Bool(_));
            format!("found {shown}, expected {expected}{}", if is_unquoted { "; put it in quotes" } else { "" })
        }
        Kind::InvalidLength(found, expected) => format!("found {found} items, expected {}", in_words(expected)),
        Kind::Other(message) => match shown {
            Some(value) if !message.contains(value) => format!("`{}`: {message}", mask::url(value)),
            Some(value) => message.replace(value, &mask::url(value)),
            None => message.clone(),
        },
    }
}

/// The message for a key that is not known where only `known` are.
pub(crate) fn unknown_key(name: &str, known: &[&str]) -> String {
    format!("unknown key; {}", suggestion(name, known, "known here are"))
}

/// What to say of a `word` that is none of `known`: the nearest of them, or all after `list`.
pub(crate) fn suggestion(word: &str, known: &[&str], list: &str) -> String {
    match nearest(word, known) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None if known.is_empty() => "no key is known here".to_owned(),
        None => format!("{list} {}", known.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// What serde expected, in words of people who write files.
fn in_words(expected: &str) -> String {
    match expected {
        secret::EXPECTED | "a string" | "string" | "a borrowed string" | "path string" | "a path" => "text",
        "a boolean" => "true or false",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" | "u128" => "a whole number, 0 or more",
        "i64" | "i32" => "a whole number",
        "f64" | "f32" => "a number",
        "a sequence" => "a list like [a, b]",
        "a map" => SECTION,
        other if other.starts_with("struct ") => SECTION,
        other if other.starts_with("enum ") => "one word",
        other => other,
    }
    .to_owned()
}

const SECTION: &str = "keys and values beneath it";

fn is_section(expected: &str) -> bool {
    expected == SECTION || expected.starts_with("a list")
}

/// What was found; text only where a scalar belongs.
fn describe(found: &Found, section: bool) -> String {
    match found {
        Found::Bool(value) => value.to_string(),
        Found::Number(value) => value.clone(),
        Found::Text(value) if !section => format!("`{}`", mask::url(value)),
        other => class(other).to_owned(),
    }
}

/// What kind of thing was found.
const fn class(found: &Found) -> &'static str {
    match found {
        Found::Bool(_) => "true or false",
        Found::Number(_) => "a number",
        Found::Text(_) => "text",
        Found::Nothing => "nothing",
        Found::List => "a list",
        Found::Map => "keys and values",
        Found::Else => "something else",
    }
}
