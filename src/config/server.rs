//! The sections `auth`, `tls` and `limits`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Who may do what.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// The tokens.
    pub tokens: Vec<TokenConfig>,
}

/// A token.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Its name.
    pub name: String,
    /// The token.
    #[serde(default)]
    pub token: Option<Secret>,
    /// The file that holds the token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
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
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { body: 16 * 1024 * 1024 }
    }
}
