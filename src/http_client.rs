//! The one builder of outgoing HTTP clients: roots, timeouts, no redirects, bodies read up to a cap.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::files;

/// The largest file of certificates or keys that is read, in bytes: all public roots together take a third of it.
pub const MAX_PEM: u64 = 1024 * 1024;

/// Why a client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The extra roots can't be read.
    #[error("read CA file {path}: {reason}")]
    CaFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS or HTTP refused the settings.
    #[error("build HTTP client: {0}")]
    Build(String),
}

/// The roots trusted for outgoing TLS: the machine's own, Mozilla's beside them (a `FROM scratch` image
/// has none of its own), and those in `ca_file`.
pub fn roots(ca_file: Option<&Path>) -> Result<rustls::RootCertStore, ClientError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        roots.extend(certificates(path)?.roots);
    }
    Ok(roots)
}

/// The roots in the file at `path`, of which there must be one at least.
pub fn certificates(path: &Path) -> Result<rustls::RootCertStore, ClientError> {
    let wrong = |reason: String| ClientError::CaFile { path: path.display().to_string(), reason };
    let pem = files::read_blocking(path, MAX_PEM).map_err(|error| wrong(error.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("it holds no certificate in PEM".to_owned())) } else { Ok(roots) }
}

/// A client that follows no redirect, gives up on a connection after `timeout` (at most 10 s) and on the
/// whole exchange after `timeout`. Proxies that the environment names are not used: a variable that was set for another
/// program must not redirect alerts and the secrets in their addresses, nor keep them from a local receiver.
pub fn build(timeout: Duration, ca_file: Option<&Path>) -> Result<reqwest::Client, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Build(error.to_string()))?
        .with_root_certificates(roots(ca_file)?)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .timeout(timeout)
        .user_agent(concat!("lookout/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| ClientError::Build(error.to_string()))
}

/// Why a body was not read.
#[derive(Debug)]
pub enum BodyError {
    /// It is larger than the cap.
    TooLarge,
    /// The exchange broke or took too long.
    Http(reqwest::Error),
}

/// The body of `response`, when it has at most `cap` bytes; reading stops at the cap.
pub async fn read_body(mut response: reqwest::Response, cap: usize) -> Result<Vec<u8>, BodyError> {
    if response.content_length().is_some_and(|length| length > cap as u64) {
        return Err(BodyError::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Http)? {
        if body.len() + chunk.len() > cap {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
