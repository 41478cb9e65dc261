//! Secrets: a value, or a file that is read at each use so that rotation works. Never printed.

pub mod kept;
pub(crate) mod mask;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unicode_width::UnicodeWidthChar as _;

pub use mask::SecretUrl;

use crate::files;

/// Maximum size of a secret file in bytes.
const MAX_SECRET: u64 = 64 * 1024;

/// A secret value. `Debug` and `Serialize` show `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, only for the code that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it consists of white space and invisible characters only.
    pub fn is_blank(&self) -> bool {
        let is_invisible = |letter: char| letter.is_whitespace() || letter.width().unwrap_or(0) == 0;
        self.0.chars().all(is_invisible)
    }
}

/// The expected type in errors of serde, by which they are recognized and the value is hidden.
pub(crate) const EXPECTED: &str = "a secret's text";

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_string(SecretVisitor)
    }
}

/// Accepts text only. Errors contain the type of other values but not the value, since a number may be a token.
struct SecretVisitor;

impl Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::invalid_type(Unexpected::Bool(false), &self))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::invalid_type(Unexpected::Signed(0), &self))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::invalid_type(Unexpected::Unsigned(0), &self))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::invalid_type(Unexpected::Float(0.0), &self))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str("***")
    }
}

/// The source of a secret: the pair of keys `x` and `x_file` in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A value.
    Value(Secret),
    /// A file, read at each use without trailing white space.
    File(PathBuf),
}

/// The source of a pair of keys `x` and `x_file`, if one is set, or the problem with `x`.
pub type SecretPair = Result<Option<SecretSource>, &'static str>;

impl SecretSource {
    /// The source of the keys `x` and `x_file`: `Ok(None)` when neither is set, an error when both are set or one is blank. A
    /// blank secret would protect nothing.
    pub fn from_pair(value: &Option<Secret>, file: &Option<PathBuf>) -> SecretPair {
        match (value, file) {
            (Some(_), Some(_)) => Err("set the value or the `_file`, not both"),
            (Some(value), None) if value.is_blank() => Err("is empty; set a value or remove the key"),
            (None, Some(file)) if file.as_os_str().as_encoded_bytes().trim_ascii().is_empty() => {
                Err("the path of its `_file` is empty; set a path or remove the key")
            }
            // Errors contain the path, which here would be a secret URL.
            (None, Some(file)) if file.to_string_lossy().contains("://") => {
                Err("its `_file` is a URL; set the path of a file that contains it")
            }
            (Some(value), None) => Ok(Some(Self::Value(value.clone()))),
            (None, Some(file)) => Ok(Some(Self::File(file.to_owned()))),
            (None, None) => Ok(None),
        }
    }

    /// [`SecretSource::from_pair`] for a required secret.
    pub fn from_required_pair(value: &Option<Secret>, file: &Option<PathBuf>) -> Result<Self, &'static str> {
        Self::from_pair(value, file)?.ok_or("missing; set it or its `_file`")
    }

    /// The key that was set, `x` or `x_file`.
    pub const fn key(&self, value: &'static str, file: &'static str) -> &'static str {
        match self {
            Self::Value(_) => value,
            Self::File(_) => file,
        }
    }

    /// Reads the secret, with a timeout for files. The error contains the path but never the content.
    pub async fn read(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Value(secret) => Ok(secret.clone()),
            Self::File(path) => of_file(path, files::read(path, MAX_SECRET).await),
        }
    }

    /// [`SecretSource::read`] without a timeout, for commands and startup.
    pub fn read_blocking(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Value(secret) => Ok(secret.clone()),
            Self::File(path) => of_file(path, files::read_blocking(path, MAX_SECRET)),
        }
    }
}

/// The secret in the file at `path`.
fn of_file(path: &Path, content: io::Result<Vec<u8>>) -> Result<Secret, SecretError> {
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason);
    let secret = content.and_then(|bytes| {
        let text = String::from_utf8(bytes).map_err(|_| invalid("the file is not UTF-8 text"))?;
        let secret = Secret::new(text.trim_end());
        if secret.is_blank() { Err(invalid("the file is empty; write the secret to it")) } else { Ok(secret) }
    });
    secret.map_err(|source| SecretError { path: path.to_owned(), source })
}

/// A secret file can't be read.
#[derive(Debug, thiserror::Error)]
#[error("read secret file {}", path.display())]
pub struct SecretError {
    path: PathBuf,
    source: std::io::Error,
}

impl SecretError {
    /// Whether reading timed out, so that the secret may be unchanged.
    pub fn is_late(&self) -> bool {
        self.source.kind() == io::ErrorKind::TimedOut
    }

    /// Whether there is no such file.
    fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the file has no content that could be a secret.
    fn is_empty(&self) -> bool {
        self.source.kind() == io::ErrorKind::InvalidData
    }

    fn into_io(self) -> io::Error {
        self.source
    }

    /// The error with its cause in one line.
    pub fn in_full(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).expect("json"), "\"***\"");
    }

    #[tokio::test]
    async fn a_file_is_read_at_each_use() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("token");
        let source = SecretSource::from_pair(&None, &Some(path.clone())).expect("one").expect("some");
        assert!(source.read().await.is_err());
        for value in ["one", "two"] {
            std::fs::write(&path, format!("{value}\n")).expect("write");
            assert_eq!(source.read().await.expect("read").expose(), value);
            assert_eq!(source.read_blocking().expect("read").expose(), value);
        }
    }
}
