//! Accepts connections, bounds what each may take, and drains them at the end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{Admission, Connection, Connections};
use super::routes::Routes;
use super::stalls::Stalls;
use super::{Context, routes};
use crate::config::server::TlsConfig;

/// The largest request head in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// File descriptors kept for the store, for polls and for receivers.
const OWN_DESCRIPTORS: usize = 128;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A socket that listens.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Listens at `address`; port 0 picks a free one.
    pub async fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen on {address}; set `listen` to an address that is free"))?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The acceptor for the configured certificate; none without one.
pub fn acceptor(tls: &TlsConfig) -> anyhow::Result<Option<TlsAcceptor>> {
    let (Some(certificate), Some(key)) = (&tls.cert_file, &tls.key_file) else { return Ok(None) };
    let read = |path: &Path| format!("read {}", path.display());
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).with_context(|| read(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| read(key))?;
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("tls: the certificate does not fit the key")?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Serves until `stop`; then lets running requests end within `grace`.
pub async fn serve(bound: Bound, tls: Option<TlsAcceptor>, context: Context, stop: CancellationToken, grace: Duration) {
    let connections = Arc::new(Connections::new(within_descriptors(context.limits.connections)));
    let header_timeout = context.limits.header_timeout;
    let routes = Arc::new(Routes::new(context));
    let tasks = TaskTracker::new();
    loop {
        let (socket, _) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = bound.listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, mostly; others need the time to give theirs back.
                    tracing::warn!(error = %error, "connection not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let admission = loop {
            match connections.admit(Instant::now()) {
                // Those behind it wait in the kernel's queue.
                Admission::Wait(until) => tokio::time::sleep_until(until).await,
                admission => break admission,
            }
        };
        let Admission::In(connection) = admission else {
            tasks.spawn(turn_away(socket));
            continue;
        };
        // Small answers must not wait for more; where the option is refused they are merely slower.
        drop(socket.set_nodelay(true));
        let (routes, connections, stop, tls) =
            (Arc::clone(&routes), Arc::clone(&connections), stop.clone(), tls.clone());
        tasks.spawn(async move {
            let serving = async {
                match tls {
                    None => serve_one(socket, &routes, &connection, header_timeout, stop).await,
                    Some(tls) => {
                        if let Ok(Ok(socket)) = tokio::time::timeout(HANDSHAKE, tls.accept(socket)).await {
                            serve_one(socket, &routes, &connection, header_timeout, stop).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = serving => {}
                () = connection.evicted() => {}
            }
            connections.release(&connection);
        });
    }
    drop(bound);
    tasks.close();
    if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
        tracing::warn!("requests still ran when the time to end them was over");
    }
}

/// As many connections as the process can have beside its files and its own requests: past that no new one could be
/// accepted, and none that does nothing would make room.
fn within_descriptors(connections: usize) -> usize {
    let limits = procfs::process::Process::myself().and_then(|process| process.limits());
    let Ok(procfs::process::LimitValue::Value(most)) = limits.map(|limits| limits.max_open_files.soft_limit) else {
        return connections;
    };
    let room = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(OWN_DESCRIPTORS).max(16);
    if room < connections {
        tracing::warn!(
            connections = room,
            descriptors = most,
            "limits.connections does not fit the limit of open files; raise `ulimit -n`"
        );
    }
    connections.min(room)
}

/// Serves the requests of one connection.
async fn serve_one(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: &Arc<Routes>,
    connection: &Connection,
    header_timeout: Duration,
    stop: CancellationToken,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (routes, busy) = (Arc::clone(routes), connection.serve());
        async move {
            let response: Response<axum::body::Body> = routes::answer(&routes, request).await;
            drop(busy);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Stalls::new(socket)), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "connection ended");
    }
}

/// Says that every place is taken.
async fn turn_away(mut socket: TcpStream) {
    let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
                  connection: close\r\ncontent-length: 42\r\n\r\n{\"error\": \"too many connections are open\"}";
    // Whoever does not read it has gone away.
    drop(tokio::time::timeout(Duration::from_secs(1), socket.write_all(answer.as_bytes())).await);
}
