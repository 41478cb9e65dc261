//! The sections `auth`, `tls` and `limits`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::http_client::MAX_PEM;
use crate::model::Problem;
use crate::secret::{Secret, SecretSource, mask};
use crate::text;

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
    /// What its bearer may do. Without a default: who forgets it must not hand out everything.
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
        SecretSource::from_pair(&self.token, &self.token_file)?
            .ok_or("neither `token` nor `token_file` is given; give one of them")
    }
}

impl AuthConfig {
    /// What is wrong with the section.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (place, token) in self.tokens.iter().enumerate() {
            let mut report = |key: &str, message: &str| {
                problems.push(Problem::new(format!("auth.tokens[{place}].{key}"), message));
            };
            let earlier = self.tokens.get(..place).unwrap_or_default();
            if token.name.trim().is_empty() || !text::is_name(&token.name, MAX_TOKEN_NAME) {
                report("name", "is not a name; give it 1 to 100 bytes without control characters");
            } else if earlier.iter().any(|other| other.name == token.name) {
                report("name", "is the name of an earlier token; give each its own");
            }
            match token.source() {
                Err(message) => report("token", message),
                Ok(source) if earlier.iter().any(|other| other.source().as_ref() == Ok(&source)) => {
                    report(source.key("token", "token_file"), "is that of an earlier token; give each its own");
                }
                Ok(SecretSource::Value(secret)) if !is_sendable(secret.expose()) => {
                    report("token", "has white space around it or control characters, which no header carries");
                }
                Ok(_) => {}
            }
        }
        problems
    }
}

/// Whether `token` reaches us as it is when it is sent in a header.
pub(crate) fn is_sendable(token: &str) -> bool {
    token.trim() == token && !token.chars().any(char::is_control)
}

/// Longest name of a token, in bytes.
const MAX_TOKEN_NAME: usize = 100;

/// Reads `lookout.example.com` or `lookout.example.com:9797`, in lower case and without the root's dot.
pub(crate) fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let wrong = || {
        let shown = text::clean(&mask::url(text), 100).into_owned();
        format!(
            "`{shown}` is not a host; write a name or an address, such as lookout.example.com, with or without a port"
        )
    };
    let bare = text.parse::<IpAddr>().map(|ip| (ip.to_canonical().to_string(), None));
    if let Ok(bare) = bare {
        return Ok(bare);
    }
    let authority: http::uri::Authority = text.parse().map_err(|_| wrong())?;
    let host = authority.host().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = authority.as_str().rsplit_once(']').map_or(authority.as_str(), |(_, after)| after);
    let has_odd_port = port.contains(':') && authority.port_u16().is_none();
    if inner.is_empty() || inner.contains('*') || authority.as_str().contains('@') || has_odd_port {
        return Err(wrong());
    }
    let host = inner.parse::<IpAddr>().map_or_else(|_| inner.to_owned(), |ip| ip.to_canonical().to_string());
    Ok((host, authority.port_u16()))
}

/// The certificate of all listeners; without one they serve in the clear.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The chain, PEM.
    pub cert_file: Option<PathBuf>,
    /// The key, PEM.
    pub key_file: Option<PathBuf>,
}

/// The keys of the section.
const CERT_FILE: &str = "tls.cert_file";
const KEY_FILE: &str = "tls.key_file";

impl TlsConfig {
    /// What is wrong with the section, before any file is read.
    pub fn validate(&self) -> Vec<Problem> {
        self.files().err().into_iter().collect()
    }

    /// The files of certificate and key; none without TLS.
    fn files(&self) -> Result<Option<(&Path, &Path)>, Problem> {
        let is_blank = |file: &&Path| file.as_os_str().as_encoded_bytes().trim_ascii().is_empty();
        let (certificate, key) = (self.cert_file.as_deref(), self.key_file.as_deref());
        for (key, file) in [(CERT_FILE, certificate), (KEY_FILE, key)] {
            if file.as_ref().is_some_and(is_blank) {
                return Err(Problem::new(key, "is empty; give the path of a PEM file, or null for no TLS"));
            }
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            (Some(_), None) => {
                Err(Problem::new(KEY_FILE, "is missing beside tls.cert_file; give both, or neither for no TLS"))
            }
            (None, Some(_)) => {
                Err(Problem::new(CERT_FILE, "is missing beside tls.key_file; give both, or neither for no TLS"))
            }
        }
    }

    /// The certificate and its key, read and found to fit; none when none is configured. The error shows nothing of
    /// what the key's file holds.
    pub fn load(&self) -> Result<Option<CertifiedKey>, Problem> {
        let Some((certificate, key)) = self.files()? else { return Ok(None) };
        let read = |name, path: &Path| {
            files::read_blocking(path, MAX_PEM)
                .map_err(|error| Problem::new(name, format!("read {}: {error}", path.display())))
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(CERT_FILE, certificate)?).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
            let message = format!("{} holds no certificate; give its chain in PEM", certificate.display());
            Problem::new(CERT_FILE, message)
        })?;
        let secret = PrivateKeyDer::from_pem_slice(&read(KEY_FILE, key)?).map_err(|_| {
            let message =
                format!("{} holds no private key; give the certificate's in PEM, without a password", key.display());
            Problem::new(KEY_FILE, message)
        })?;
        let both = CertifiedKey::from_der(chain, secret, &rustls::crypto::ring::default_provider());
        both.map(Some).map_err(|error| {
            let (certificate, key) = (certificate.display(), key.display());
            let message =
                format!("{key} is not the key of {certificate}: {error}; give the pair that belongs together");
            Problem::new(KEY_FILE, message)
        })
    }
}

/// What is taken in at most.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// The largest body, in bytes.
    pub body: usize,
    /// Connections open at once.
    pub connections: usize,
    /// Series that agents and components may have together; an agent counts for
    /// [`SERIES_PER_AGENT`](crate::model::agent::SERIES_PER_AGENT).
    pub series: usize,
    /// How long a request's head may take.
    #[serde(with = "crate::model::duration")]
    pub header_timeout: Duration,
    /// How long a request's body may take.
    #[serde(with = "crate::model::duration")]
    pub body_timeout: Duration,
}

impl LimitsConfig {
    /// What is wrong with the section.
    pub fn validate(&self) -> Vec<Problem> {
        match self.connections {
            0 => vec![Problem::new("limits.connections", "is 0; nobody could connect")],
            _ => Vec::new(),
        }
    }
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
