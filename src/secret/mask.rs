//! Masks credentials and query values in URLs.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize, Serializer};

/// A URL that may contain credentials. `Debug` and `Serialize` mask them.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The URL `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The URL itself, only for the code that requests it.
impl Deref for SecretUrl {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", url(&self.0))
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&url(&self.0))
    }
}

/// Masks the parts of a URL that may be secret: everything before the last `@`, since a password may contain an unescaped
/// slash, and the values of its query. Other text is unchanged.
pub(crate) fn url(text: &str) -> Cow<'_, str> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None if text.contains('@') && text.contains(':') => (String::new(), text),
        None => return Cow::Borrowed(text),
    };
    let (address, query) = rest.split_once(['?', '#']).map_or((rest, None), |(address, query)| (address, Some(query)));
    // A password may contain these two as well.
    let is_cut = query.is_some_and(|query| query.contains('@')) && !address.contains(['/', '@']);
    let (address, query) = if is_cut { (rest, None) } else { (address, query) };
    let host = address.rsplit_once('@').map_or_else(|| address.to_owned(), |(_, host)| format!("***@{host}"));
    let query = query.map(|query| format!("?{}", masked_query(query))).unwrap_or_default();
    Cow::Owned(format!("{scheme}{host}{query}"))
}

/// The names of query parameters with masked values. A parameter without a name is masked completely.
fn masked_query(query: &str) -> String {
    let pairs: Vec<String> = query
        .split(['&', ';', '#'])
        .map(|pair| pair.split_once('=').map_or_else(|| "***".to_owned(), |(name, _)| format!("{name}=***")))
        .collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_query_values_are_masked() {
        for (text, shown) in [
            ("http://localhost:8000/status", "http://localhost:8000/status"),
            ("https://ops:hunter2@host/x", "https://***@host/x"),
            ("https://ops:hunter2/3@host/x", "https://***@host/x"),
            ("https://ops:12/hunter2@host", "https://***@host"),
            ("https://ops:hunter2?x@host/y", "https://***@host/y"),
            ("https://ops:hunter2#x@host", "https://***@host"),
            ("https://a@hunter2@host", "https://***@host"),
            ("ops:hunter2@host:587", "***@host:587"),
            ("https://host?api_key=hunter2&page=2", "https://host?api_key=***&page=***"),
            ("https://host/x?hunter2", "https://host/x?***"),
            ("https://host/x?a;b=hunter2#hunter2", "https://host/x?***&b=***&***"),
            ("https://host/x#token=hunter2", "https://host/x?token=***"),
            ("hello", "hello"),
            ("a@example.com", "a@example.com"),
        ] {
            assert_eq!(url(text), shown);
            assert_eq!(format!("{:?}", SecretUrl::new(text)), format!("{shown:?}"));
        }
    }
}
