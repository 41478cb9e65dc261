//! Reads the configuration file: TOML if its name ends in `.toml`, otherwise YAML.
//!
//! A syntax error has line and column but never quotes the line, which may contain a secret.

use std::path::Path;

use figment::value::{Dict, Tag, Value};

use crate::files;
use crate::written::document::Document;
use crate::written::{toml, yaml};

/// Maximum size of the file in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The document in the file at `path`. The error does not contain the path.
pub(super) fn document(path: &Path) -> Result<Document, String> {
    let text = read(path)?;
    let is_toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    let mut document = if is_toml { toml::parse(&text)? } else { yaml::parse(&text)? };
    match document.value {
        Value::Dict(..) => {}
        Value::Empty(..) => document.value = Value::Dict(Tag::Default, Dict::new()),
        _ => return Err("expected keys and values at the top level, such as `listen: 127.0.0.1:9797`".to_owned()),
    }
    Ok(document)
}

/// The text of the file at `path`. The error does not contain the path.
pub(super) fn read(path: &Path) -> Result<String, String> {
    // A descriptor passed by the shell or a service manager, such as `<(…)`, may block. That is fine at startup; a reload of
    // such a file is an error.
    let is_descriptor = ["/dev/stdin", "/dev/fd/", "/proc/self/fd/"].iter().any(|held| path.starts_with(held));
    let bytes = if is_descriptor {
        std::fs::File::open(path).and_then(|file| files::read_all(file, MAX_FILE))
    } else {
        files::read_blocking(path, MAX_FILE)
    };
    let bytes = bytes.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file; check the path".to_owned(),
        std::io::ErrorKind::FileTooLarge => "larger than 1 MiB; split it or check the path".to_owned(),
        _ => format!("cannot read the file: {error}"),
    })?;
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8: invalid byte at offset {}", error.utf8_error().valid_up_to() + 1))
}
