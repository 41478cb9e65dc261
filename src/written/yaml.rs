//! YAML as a tree of values.
//!
//! Refuses keys that are given twice, and to quote a line in an error: it may hold a secret.

use figment::value::Value;

/// The tree that `text` says; the error has the line and the column.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    // With strict booleans a project named `no` stays a name, and no line is quoted in an error without snippets.
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| yaml_error(&error))
}

fn yaml_error(error: &serde_saphyr::Error) -> String {
    let location = error.location().map(|at| (at.line(), at.column()));
    let message = match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("key `{key}` is given twice; keep one")
        }
        other => plain(&other.to_string()),
    };
    located(location, &message)
}

/// A parser's message on one line, without the location at its end that we write ourselves.
pub(crate) fn plain(message: &str) -> String {
    let line = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    match line.rfind(" at line ") {
        Some(at) => line.get(..at).unwrap_or_default().to_owned(),
        None => line,
    }
}

/// A message about a line and a column.
pub(crate) fn located(location: Option<(u64, u64)>, message: &str) -> String {
    match location {
        Some((line, column)) if line > 0 => format!("line {line}, column {column}: {message}"),
        _ => message.to_owned(),
    }
}
