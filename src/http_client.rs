//! Builds all outgoing HTTP clients: root certificates, timeouts, no redirects, limited bodies.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::clock::Time;
use crate::files;

/// Maximum size of a PEM file in bytes. All public root certificates take a third of it.
pub const MAX_PEM: u64 = 1024 * 1024;
/// The longest pause that is read, in seconds; longer ones mean as much.
const LONGEST_PAUSE: f64 = 86_400.0;

/// Why a client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The additional root certificates can't be read.
    #[error("read CA file {path}: {reason}")]
    CaFile {
        /// The file.
        path: String,
        /// The cause.
        reason: String,
    },
    /// The settings are invalid.
    #[error("build HTTP client: {0}")]
    Build(String),
}

/// The TLS settings of outgoing connections. Trusts the system's root certificates, Mozilla's (a `FROM scratch` image has no
/// others), and the certificates in `ca_file`, which may be authorities or servers.
pub fn tls(ca_file: Option<&Path>) -> Result<rustls::ClientConfig, ClientError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let mut pinned = Vec::new();
    if let Some(path) = ca_file {
        pinned = read_certificates(path)?;
        for certificate in &pinned {
            let wrong = |reason: String| ClientError::CaFile { path: path.display().to_string(), reason };
            roots.add(certificate.clone()).map_err(|error| wrong(error.to_string()))?;
        }
    }
    let wrong = |error: String| ClientError::Build(error);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?;
    let verifier = Arc::new(PinnedVerifier { verifier, pinned });
    Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// The usual verification, except that a self-signed CA certificate in `ca_file`, as `openssl req -x509` creates it, may be
/// used by a server.
#[derive(Debug)]
struct PinnedVerifier {
    verifier: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // Errors with a variant of their own (expired, wrong name, bad signature) stay errors. Only the use of a CA as a
            // server certificate has none.
            Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(_)))
                if self.pinned.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// The root certificates in the file at `path`; at least one.
pub fn certificates(path: &Path) -> Result<rustls::RootCertStore, ClientError> {
    let wrong = |reason: String| ClientError::CaFile { path: path.display().to_string(), reason };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let wrong = |reason: String| ClientError::CaFile { path: path.display().to_string(), reason };
    let pem = files::read_blocking(path, MAX_PEM).map_err(|error| wrong(error.to_string()))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let read = read.map_err(|error| wrong(error.to_string()))?;
    if read.is_empty() { Err(wrong("no PEM certificate in it".to_owned())) } else { Ok(read) }
}

/// A client that follows no redirects, with `timeout` for the whole request and at most 10 s for connecting. Proxy settings
/// of the environment are ignored: a variable set for another program must not redirect notifications and the secrets in
/// their URLs.
pub fn build(timeout: Duration, ca_file: Option<&Path>) -> Result<reqwest::Client, ClientError> {
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls(ca_file)?).http1_only();
    finish(builder, timeout)
}

/// The same for HTTP/2 alone, as gRPC needs it, without the upgrade from HTTP/1.1.
pub fn build_http2(timeout: Duration, ca_file: Option<&Path>) -> Result<reqwest::Client, ClientError> {
    let mut tls = tls(ca_file)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    finish(reqwest::Client::builder().tls_backend_preconfigured(tls).http2_prior_knowledge(), timeout)
}

fn finish(builder: reqwest::ClientBuilder, timeout: Duration) -> Result<reqwest::Client, ClientError> {
    builder
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .timeout(timeout)
        .user_agent(concat!("lookout/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| ClientError::Build(error.to_string()))
}

/// The pause that the header `Retry-After` asks for: seconds, also with a fraction, or a date. A date is held against
/// that of the answer, as the server's clock may differ from ours, else against `now`.
pub fn retry_after(headers: &http::HeaderMap, now: Time) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let asked = text(http::header::RETRY_AFTER)?;
    if let Ok(number) = asked.parse() {
        return pause_of(number);
    }
    let until = httpdate::parse_http_date(asked).ok()?;
    let ours = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(0));
    let from = text(http::header::DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(ours);
    Some(until.duration_since(from).unwrap_or_default())
}

/// A pause of so many seconds, at most a day; `None` for what is no time.
pub fn pause_of(number: f64) -> Option<Duration> {
    // `min` would take NaN for the longest.
    if number.is_nan() { None } else { Duration::try_from_secs_f64(number.min(LONGEST_PAUSE)).ok() }
}

/// Why a body was not read.
#[derive(Debug)]
pub enum BodyError {
    /// It exceeds the limit.
    TooLarge,
    /// The request failed or timed out.
    Http(reqwest::Error),
}

/// The body of `response`, at most `cap` bytes.
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
