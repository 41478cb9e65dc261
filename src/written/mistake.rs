//! Error messages for invalid files: the key, the value, the remedy.
//!
//! Never shows the value of a secret, which is recognized by its type, nor text in place of a section, which may be a pasted
//! secret.

use figment::error::{Actual, Kind};

use crate::secret::{self, mask};
use crate::text::nearest::{nearest, renamed};

/// A path in messages: `sources[0].timeout`.
pub(crate) fn key(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            text.push_str(&format!("[{part}]"));
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            // In braces, a pasted webhook URL becomes a key.
            text.push_str(if part.contains("://") { "***" } else { part });
        }
    }
    text
}

/// The message for an error of serde. `shown` is the value if it is a scalar.
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
            let is_unquoted = expected == "text" && matches!(class(found), "a number" | "true or false");
            format!("found {shown}, expected {expected}{}", if is_unquoted { "; put it in quotes" } else { "" })
        }
        Kind::InvalidLength(found, expected) => format!("found {found} items, expected {}", in_words(expected)),
        Kind::DuplicateField(name) => format!("duplicate key `{name}`: keep one"),
        Kind::Message(message) => match shown {
            Some(value) if !message.contains(value) => format!("`{}`: {message}", mask::url(value)),
            Some(value) => message.replace(value, &mask::url(value)),
            None => message.clone(),
        },
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) | Kind::Unsupported(_) | Kind::UnsupportedKey(..) => {
            "has an unsupported type".to_owned()
        }
    }
}

/// The message for an unknown key among `known`.
pub(crate) fn unknown_key(name: &str, known: &[&str]) -> String {
    format!("unknown key; {}", suggestion(name, known, "known here are"))
}

/// A suggestion for an unknown `word`: the nearest of `known`, or all of them after `list`.
pub(crate) fn suggestion(word: &str, known: &[&str], list: &str) -> String {
    if let Some(name) = renamed(word, known) {
        return format!("it was renamed to `{name}`");
    }
    match nearest(word, known) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None if known.is_empty() => "no keys are allowed here".to_owned(),
        None => format!("{list} {}", known.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// The type that serde expected, in plain words.
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

/// The found value; text only in place of a scalar.
fn describe(found: &Actual, section: bool) -> String {
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(value) if !section => format!("`{}`", mask::url(value)),
        other => class(other).to_owned(),
    }
}

/// The type of the found value.
const fn class(found: &Actual) -> &'static str {
    match found {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number",
        Actual::Str(_) | Actual::Char(_) => "text",
        Actual::Unit | Actual::Option => "nothing",
        Actual::Seq => "a list",
        Actual::Map => "keys and values",
        _ => "something else",
    }
}
