//! The configuration file: YAML, or TOML where its name ends so, read up to a cap.
//!
//! A syntax error is told by line and column, never by quoting the line: it may hold a secret.

use std::path::Path;

use figment::value::{Dict, Tag, Value};

use crate::files;
use crate::written::document::Document;
use crate::written::{toml, yaml};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// What the file at `path` says; the error says what is wrong with it, without its path.
pub(super) fn document(path: &Path) -> Result<Document, String> {
    let text = read(path)?;
    let is_toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    let mut document = if is_toml { toml::parse(&text)? } else { yaml::parse(&text)? };
    match document.value {
        Value::Dict(..) => {}
        Value::Empty(..) => document.value = Value::Dict(Tag::Default, Dict::new()),
        _ => return Err("holds no keys at its top; write them like `listen: 127.0.0.1:9797`".to_owned()),
    }
    Ok(document)
}

/// The text of the file at `path`, up to the cap; the error says what is wrong with it, without its path.
pub(super) fn read(path: &Path) -> Result<String, String> {
    // What the shell or a service manager holds open for us, such as `<(…)`, is read as it comes: nobody waits for us yet,
    // and a reload, which would find it empty, is refused.
    let is_descriptor = ["/dev/stdin", "/dev/fd/", "/proc/self/fd/"].iter().any(|held| path.starts_with(held));
    let bytes = if is_descriptor {
        std::fs::File::open(path).and_then(|file| files::read_all(file, MAX_FILE))
    } else {
        files::read_blocking(path, MAX_FILE)
    };
    let bytes = bytes.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file; check the path".to_owned(),
        std::io::ErrorKind::FileTooLarge => "is larger than 1 MiB; a configuration file should not be".to_owned(),
        _ => format!("can't be read: {error}"),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        format!("is not UTF-8 text: byte {} does not belong there", error.utf8_error().valid_up_to() + 1)
    })
}
