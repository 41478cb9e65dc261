//! `lookout health`: checks whether the sidecar on this machine is ready, for container health checks.
//!
//! Without `--url` it uses the `listen` address of the configuration, in containers usually `LOOKOUT_LISTEN`. An
//! invalid configuration file is not a failure, since the running sidecar keeps the one it has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::client::{parse_url, root_cause};
use super::terminal::print;
use super::{ConfigArgs, warn};
use crate::config::{Environment, Listen};
use crate::http_client;
use crate::secret::mask;

/// Timeout of the request, and most bytes of the answer.
const TIMEOUT: Duration = Duration::from_secs(3);
const MAX_ANSWER: usize = 4096;

/// Arguments of `lookout health`.
#[derive(Args, Clone, Debug, Default)]
pub struct HealthArgs {
    /// Address of the sidecar [env: LOOKOUT_URL] [default: `listen` of the configuration]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The configuration whose `listen` is used
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Sends one request and prints one line.
pub(super) async fn run(args: &HealthArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let target = HealthTarget::new(args, env)?;
    let shown = mask::url(&target.url);
    let client = if target.own_certificate { own_client()? } else { http_client::build(TIMEOUT, None)? };
    let response = match client.get(format!("{}/-/ready", target.url)).send().await {
        Ok(response) => response,
        Err(error) if error.is_timeout() => {
            warn(&format!("no answer from lookout at {shown} within 3s"));
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => {
            let reason = root_cause(&error.without_url());
            warn(&format!("no answer from lookout at {shown}: {reason}"));
            return Ok(ExitCode::FAILURE);
        }
    };
    let status = response.status();
    if status.is_success() {
        print(&format!("ready at {shown}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let body = http_client::read_body(response, MAX_ANSWER).await.unwrap_or_default();
    let answer = crate::text::clean(String::from_utf8_lossy(&body).trim(), 200).into_owned();
    warn(&format!("not ready at {shown}: {} {answer}", status.as_u16()));
    Ok(ExitCode::FAILURE)
}

/// The sidecar to check.
#[derive(Debug, PartialEq, Eq)]
struct HealthTarget {
    /// Its address, without a trailing slash.
    url: String,
    /// Whether it is our own TLS listener, whose certificate need not name this address.
    own_certificate: bool,
}

impl HealthTarget {
    fn new(args: &HealthArgs, env: &Environment) -> anyhow::Result<Self> {
        if let Some(url) = args.url.as_deref().or_else(|| env.get("LOOKOUT_URL")) {
            let url = parse_url(url)?.as_str().trim_end_matches('/').to_owned();
            return Ok(Self { url, own_certificate: false });
        }
        let (Listen(address), tls) = match args.config.source(env).load() {
            Ok(config) => (config.listen, config.tls.cert_file.is_some()),
            Err(_) => {
                (env.get("LOOKOUT_LISTEN").and_then(|text| text.parse().ok()).map(Listen).unwrap_or_default(), false)
            }
        };
        if address.port() == 0 {
            anyhow::bail!("`listen` has port 0, so the sidecar's port is not known; give its address with --url");
        }
        let scheme = if tls { "https" } else { "http" };
        Ok(Self { url: format!("{scheme}://{}", reachable(address)), own_certificate: tls })
    }
}

/// The address to reach a listener on `address` from the same machine.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A client for our own listener. Its certificate is for its public name, not for the loopback address. Any certificate
/// is accepted, since the request has no secret and the answer is only a status.
fn own_client() -> Result<reqwest::Client, http_client::ClientError> {
    let wrong = |error: String| http_client::ClientError::Build(error);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| wrong(error.to_string()))
}

/// Accepts every certificate, but verifies that the handshake is signed with it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listen_address_is_checked_unless_a_url_is_given() {
        for (env, url) in [
            (&[][..], "http://127.0.0.1:9797"),
            (&[("LOOKOUT_LISTEN", "0.0.0.0:8080")], "http://127.0.0.1:8080"),
            (&[("LOOKOUT_LISTEN", "[::]:8080")], "http://[::1]:8080"),
            (&[("LOOKOUT_LISTEN", "127.0.0.2:8080"), ("LOOKOUT_LISTN", "a slip")], "http://127.0.0.2:8080"),
            (&[("LOOKOUT_LISTEN", "127.0.0.2:8080"), ("LOOKOUT_URL", "127.0.0.1:1/")], "http://127.0.0.1:1"),
        ] {
            let env = env.iter().copied().collect();
            assert_eq!(HealthTarget::new(&HealthArgs::default(), &env).expect(url).url, url);
        }
        let env = [("LOOKOUT_LISTEN", "127.0.0.1:0")].into_iter().collect();
        assert!(HealthTarget::new(&HealthArgs::default(), &env).is_err());
    }
}
