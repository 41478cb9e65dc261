//! The sections `auth`, `tls` and `limits`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::http_client::MAX_PEM;
use crate::model::Problem;
use crate::secret::{Secret, SecretSource, mask};
use crate::text;

/// Access control.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Tokens. Without any, a loopback listener permits everything, and any other one only scraping.
    pub tokens: Vec<TokenConfig>,
    /// The role of callers without a token on a loopback listener. Defaults to all rights until a token or a proxy is
    /// configured.
    pub loopback: Option<Role>,
    /// A proxy that authenticates users.
    pub proxy: Option<ProxyConfig>,
    /// Links to a page with names and states only.
    pub share: Vec<ShareConfig>,
}

/// A proxy that authenticates users and names them in headers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// The addresses from which its headers are accepted, such as `10.0.0.7`, or networks. Each sender there is who it says it is.
    pub from: Vec<String>,
    /// The header with the name of the user.
    pub user_header: String,
    /// The header with the user's role: `read`, `ingest` or `admin`; of several between commas the highest counts.
    #[serde(default)]
    pub role_header: Option<String>,
    /// The role of users that the proxy gives none. Without it such a user has no access.
    #[serde(default)]
    pub default_role: Option<Role>,
}

impl ProxyConfig {
    /// The networks of `from`.
    pub fn networks(&self) -> Vec<IpNet> {
        self.from.iter().filter_map(|text| network(text).ok()).collect()
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut report = |key: String, message: String| problems.push(Problem::new(key, message));
        if self.from.is_empty() {
            let message = "empty, so that no proxy is trusted; list its addresses, such as 10.0.0.7";
            report("auth.proxy.from".to_owned(), message.to_owned());
        }
        for (index, text) in self.from.iter().enumerate() {
            if let Err(message) = network(text) {
                report(format!("auth.proxy.from[{index}]"), message);
            }
        }
        let names = [("user_header", Some(&self.user_header)), ("role_header", self.role_header.as_ref())];
        for (key, name) in names {
            let Some(name) = name else { continue };
            if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                let shown = text::clean(name, 100);
                let message = format!("`{shown}` is not the name of a header; use one such as x-forwarded-user");
                report(format!("auth.proxy.{key}"), message);
            }
        }
        if self.role_header.is_none() && self.default_role.is_none() {
            let message = "missing, and so is role_header, so that no user has a role; set one of them";
            report("auth.proxy.default_role".to_owned(), message.to_owned());
        }
        problems
    }
}

/// Parses a network, or a single address.
fn network(text: &str) -> Result<IpNet, String> {
    let shown = text::clean(text, 100);
    let address = text.parse::<IpAddr>().map(IpNet::from);
    match address.or_else(|_| text.parse::<IpNet>()) {
        Ok(network) if network.prefix_len() == 0 => {
            Err(format!("`{shown}` is every address, so that anyone could name a user; list the proxy's own"))
        }
        Ok(network) => Ok(network.trunc()),
        Err(_) => Err(format!("`{shown}` is not a network; use one such as 10.0.0.0/8, or an address")),
    }
}

/// A link to a page with names and states only.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ShareConfig {
    /// Its name.
    pub name: String,
    /// The secret part of the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The file that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl ShareConfig {
    /// The source of the token, or the problem with the keys.
    pub fn source(&self) -> Result<SecretSource, &'static str> {
        SecretSource::from_pair(&self.token, &self.token_file)?.ok_or("missing token; set `token` or `token_file`")
    }
}

/// The role of a caller; each includes the previous ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read.
    Read,
    /// Read, and push state, usage and telemetry.
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
    /// Its role. There is no default, so that a missing one does not grant everything.
    pub role: Role,
    /// The token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The file that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl TokenConfig {
    /// The source of the token, or the problem with the keys.
    pub fn source(&self) -> Result<SecretSource, &'static str> {
        SecretSource::from_pair(&self.token, &self.token_file)?.ok_or("missing token; set `token` or `token_file`")
    }
}

impl AuthConfig {
    /// Returns the problems of the section.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let tokens = self.tokens.iter().map(|token| (&*token.name, token.source())).collect::<Vec<_>>();
        let shares = self.share.iter().map(|share| (&*share.name, share.source())).collect::<Vec<_>>();
        validate_tokens("auth.tokens", &tokens, &[], &mut problems);
        if let Some(proxy) = &self.proxy {
            problems.extend(proxy.validate());
        }
        validate_tokens("auth.share", &shares, &tokens, &mut problems);
        problems
    }

    /// Whether nothing says who may do what.
    pub fn is_unset(&self) -> bool {
        self.tokens.is_empty() && self.loopback.is_none() && self.proxy.is_none()
    }
}

/// A token as configured: its name, and its source or the problem with it.
type NamedSource<'a> = (&'a str, Result<SecretSource, &'static str>);

/// Reports the problems of the tokens of the list at `key`, which must differ from each other and from the `others`.
fn validate_tokens(key: &str, tokens: &[NamedSource<'_>], others: &[NamedSource<'_>], problems: &mut Vec<Problem>) {
    for (index, (name, source)) in tokens.iter().enumerate() {
        let mut report = |inner: &str, message: &str| {
            problems.push(Problem::new(format!("{key}[{index}].{inner}"), message));
        };
        let earlier = tokens.get(..index).unwrap_or_default();
        if name.trim().is_empty() || !text::is_name(name, MAX_TOKEN_NAME) {
            report("name", "invalid name; use 1 to 100 bytes without control characters");
        } else if earlier.iter().any(|(other, _)| other == name) {
            report("name", "duplicate name: give each token its own");
        }
        match source {
            Err(message) => report("token", message),
            Ok(source) if earlier.iter().chain(others).any(|(_, other)| other.as_ref() == Ok(source)) => {
                let message = match others.is_empty() {
                    true => "duplicate token: give each entry of auth.tokens its own",
                    false => "duplicate token: give each entry of auth.share and auth.tokens its own",
                };
                report(source.key("token", "token_file"), message);
            }
            Ok(SecretSource::Value(secret)) if !is_sendable(secret.expose()) => {
                report(
                    "token",
                    "contains surrounding white space or control characters, which cannot be sent in a header; remove them",
                );
            }
            Ok(_) => {}
        }
    }
}

/// Whether `token` can be sent in a header unchanged.
pub(crate) fn is_sendable(token: &str) -> bool {
    token.trim() == token && !token.chars().any(char::is_control)
}

/// Maximum length of a token name in bytes.
const MAX_TOKEN_NAME: usize = 100;

/// Parses `lookout.example.com` or `lookout.example.com:9797` into lower case without a trailing dot.
pub(crate) fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    if let Some(plain) = plain_host_and_port(text) {
        return Ok(plain);
    }
    let wrong = || {
        let shown = text::clean(&mask::url(text), 100).into_owned();
        format!("`{shown}` is not a host; use a name or an address with or without a port, such as lookout.example.com")
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

/// The same for a name in lower case, as most requests have it; `None` for any other text.
fn plain_host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if !host.starts_with(|letter: char| letter.is_ascii_lowercase())
        || host.ends_with('.')
        || !host.bytes().all(is_plain)
    {
        return None;
    }
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    Some((host.to_owned(), port))
}

/// TLS of all listeners; without a certificate they serve plain HTTP.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain as PEM.
    pub cert_file: Option<PathBuf>,
    /// The private key as PEM.
    pub key_file: Option<PathBuf>,
}

/// The keys of the section.
const CERT_FILE: &str = "tls.cert_file";
const KEY_FILE: &str = "tls.key_file";

impl TlsConfig {
    /// Returns the problems of the section without reading files.
    pub fn validate(&self) -> Vec<Problem> {
        self.files().err().into_iter().collect()
    }

    /// The files of certificate and key, if TLS is configured.
    fn files(&self) -> Result<Option<(&Path, &Path)>, Problem> {
        let is_blank = |file: &&Path| file.as_os_str().as_encoded_bytes().trim_ascii().is_empty();
        let (certificate, key) = (self.cert_file.as_deref(), self.key_file.as_deref());
        for (key, file) in [(CERT_FILE, certificate), (KEY_FILE, key)] {
            if file.as_ref().is_some_and(is_blank) {
                return Err(Problem::new(key, "empty path; set the path of a PEM file, or null for no TLS"));
            }
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            (Some(_), None) => {
                Err(Problem::new(KEY_FILE, "missing, but tls.cert_file is set; set both, or neither for no TLS"))
            }
            (None, Some(_)) => {
                Err(Problem::new(CERT_FILE, "missing, but tls.key_file is set; set both, or neither for no TLS"))
            }
        }
    }

    /// Loads the certificate and its key and checks that they match; `None` without TLS. The error never contains the key.
    pub fn load(&self) -> Result<Option<CertifiedKey>, Problem> {
        let Some((certificate, key)) = self.files()? else { return Ok(None) };
        let read = |name, path: &Path| {
            files::read_blocking(path, MAX_PEM)
                .map_err(|error| Problem::new(name, format!("read {}: {error}", path.display())))
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(CERT_FILE, certificate)?).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
            let message = format!("no certificate in {}; provide the chain as PEM", certificate.display());
            Problem::new(CERT_FILE, message)
        })?;
        let secret = PrivateKeyDer::from_pem_slice(&read(KEY_FILE, key)?).map_err(|_| {
            let message = format!("no private key in {}; provide it as PEM without a password", key.display());
            Problem::new(KEY_FILE, message)
        })?;
        let both = CertifiedKey::from_der(chain, secret, &rustls::crypto::ring::default_provider());
        both.map(Some).map_err(|error| {
            let (certificate, key) = (certificate.display(), key.display());
            let message = format!("{key} does not match {certificate}: {error}; provide a matching pair");
            Problem::new(KEY_FILE, message)
        })
    }
}

/// Limits on requests and series.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Maximum size of a request body in bytes.
    pub body: usize,
    /// Maximum number of open connections.
    pub connections: usize,
    /// Maximum number of open streams of events, which do not count as connections.
    pub streams: usize,
    /// Maximum number of series of agents and components; an agent counts as
    /// [`SERIES_PER_AGENT`](crate::model::agent::SERIES_PER_AGENT).
    pub series: usize,
    /// Timeout of a request head.
    #[serde(with = "crate::model::duration")]
    pub header_timeout: Duration,
    /// Timeout of a request body.
    #[serde(with = "crate::model::duration")]
    pub body_timeout: Duration,
}

impl LimitsConfig {
    /// Returns the problems of the section.
    pub fn validate(&self) -> Vec<Problem> {
        match self.connections {
            0 => vec![Problem::new("limits.connections", "must not be 0, since no client could connect")],
            _ => Vec::new(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            body: 16 * 1024 * 1024,
            connections: 1024,
            streams: 1000,
            series: 1_000_000,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
        }
    }
}
