//! The sections `auth`, `tls` and `limits`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::{Secret, SecretSource};

/// Who may do what.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// The tokens. With none, everybody may do everything on a loopback address and only scrape on any other.
    pub tokens: Vec<TokenConfig>,
    /// What callers without a token may do on a loopback address; by default everything until tokens are given.
    pub loopback: Option<Role>,
}

/// What a caller may do; later ones may do what earlier ones may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ask.
    Read,
    /// Ask, and report state and usage.
    Ingest,
    /// Everything.
    Admin,
}

/// A token.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Its name.
    pub name: String,
    /// What its bearer may do.
    #[serde(default = "admin")]
    pub role: Role,
    /// The token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The file that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl TokenConfig {
    /// Where the token comes from; the error says what is wrong with the keys.
    pub fn source(&self) -> Result<SecretSource, &'static str> {
        SecretSource::from_pair(self.token.as_ref(), self.token_file.as_deref())?
            .ok_or("neither `token` nor `token_file` is given; give one of them")
    }
}

const fn admin() -> Role {
    Role::Admin
}

/// The main listener's certificate.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The chain, PEM.
    pub cert_file: Option<PathBuf>,
    /// The key, PEM.
    pub key_file: Option<PathBuf>,
}

/// What is taken in at most.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// The largest body, in bytes.
    pub body: usize,
    /// Connections open at once.
    pub connections: usize,
    /// Series that agents and components may have together; an agent counts for 62.
    pub series: usize,
    /// How long a request's head may take.
    #[serde(with = "crate::model::duration")]
    pub header_timeout: Duration,
    /// How long a request's body may take.
    #[serde(with = "crate::model::duration")]
    pub body_timeout: Duration,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            body: 16 * 1024 * 1024,
            connections: 1024,
            series: 1_000_000,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
        }
    }
}
