//! The configuration file: YAML, read up to a cap.
//!
//! A syntax error is told by line and column, never by quoting the line: it may hold a secret.

use std::io::Read as _;
use std::path::Path;

use crate::written::tree::{Map, Value};
use crate::written::yaml;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// What the file at `path` says; the error says what is wrong with it, without its path.
pub(super) fn tree(path: &Path) -> Result<Value, String> {
    match yaml::parse(&read(path)?)? {
        tree @ Value::Map(_) => Ok(tree),
        Value::Null => Ok(Value::Map(Map::new())),
        _ => Err("holds no keys at its top; write them like `listen: 127.0.0.1:9797`".to_owned()),
    }
}

/// The text of the file at `path`, up to the cap; the error says what is wrong with it, without its path.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let open = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file; check the path".to_owned(),
        _ => format!("can't be opened: {error}"),
    })?;
    let mut bytes = Vec::new();
    open.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err("is larger than 1 MiB; a configuration file should not be".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        format!("is not UTF-8 text: byte {} does not belong there", error.utf8_error().valid_up_to() + 1)
    })
}
