//! The configuration file: read up to a cap, as TOML when its name ends so, else as YAML.
//!
//! A syntax error is told by line and column, never by quoting the line: it may hold a secret.

use std::io::Read as _;
use std::path::Path;

use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Value};
use figment::{Metadata, Profile, Provider};

use crate::written::yaml;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// What the file says.
pub(super) struct File<'a> {
    path: &'a Path,
    tree: Dict,
}

impl<'a> File<'a> {
    /// Reads the file at `path`; the error says what is wrong with it, without its path.
    pub(super) fn read(path: &'a Path) -> Result<Self, String> {
        let text = read(path)?;
        let is_toml = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("toml"));
        let value = if is_toml { parse_toml(&text) } else { yaml::parse(&text) }?;
        match value {
            Value::Dict(_, tree) => Ok(Self { path, tree }),
            Value::Empty(..) => Ok(Self { path, tree: Dict::new() }),
            _ => Err("holds no keys at its top; write them like `listen: 127.0.0.1:9797`".to_owned()),
        }
    }
}

impl Provider for File<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::from("file", self.path)
    }

    fn data(&self) -> figment::Result<figment::value::Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.tree.clone()))
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

fn parse_toml(text: &str) -> Result<Value, String> {
    Toml::from_str(text).map_err(|error| {
        let lines = error.message().lines().map(str::trim).filter(|line| !line.is_empty());
        let message = lines.collect::<Vec<_>>().join("; ");
        let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message };
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
        yaml::located(before.matches('\n').count() as u64 + 1, column, &message)
    })
}
