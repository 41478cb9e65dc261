//! Accepts connections, with or without TLS, serves them within limits, and drains them at shutdown.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{Admission, Connection, MAX_HEAD};
use super::routes::Routes;
use super::write_timeout::WriteTimeout;
use super::{ServerContext, grpc, routes};

/// Timeout of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of a request head on a connection that serves health routes only.
const HEALTH_HEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surface {
    /// All routes, including OTLP over HTTP.
    Main,
    /// OTLP over HTTP.
    OtlpHttp,
    /// OTLP over gRPC.
    OtlpGrpc,
}

/// The current server certificate.
#[derive(Debug)]
pub struct Certificate(RwLock<Arc<CertifiedKey>>);

impl Certificate {
    /// Starts with the certificate of `key`.
    pub const fn new(key: Arc<CertifiedKey>) -> Self {
        Self(RwLock::new(key))
    }

    /// Uses the certificate of `key` for new connections.
    pub fn replace(&self, key: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// A TLS acceptor for a listener of this kind, with the current `certificate`.
pub fn acceptor(certificate: &Arc<Certificate>, surface: Surface) -> anyhow::Result<TlsAcceptor> {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(certificate) as Arc<dyn ResolvesServerCert>);
    // gRPC clients close connections without HTTP/2 in ALPN.
    let protocol: &[u8] = if surface == Surface::OtlpGrpc { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A bound listening socket, not tied to a runtime yet.
#[derive(Debug)]
pub struct BoundListener {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl BoundListener {
    /// Binds `address`; port 0 chooses a free port. The error names the configuration `key`.
    pub async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen on {address}; set `{key}` to a free address"))?;
        let address = listener.local_addr()?;
        Ok(Self { listener: listener.into_std()?, address })
    }

    /// The bound address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves until `stop`, then waits up to `grace` for running requests.
pub async fn serve(
    bound: BoundListener,
    tls: Option<TlsAcceptor>,
    surface: Surface,
    context: ServerContext,
    stop: CancellationToken,
    grace: Duration,
) {
    let listener = match TcpListener::from_std(bound.listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(error = %error, address = %bound.address, "listener failed");
            return;
        }
    };
    let connections = Arc::clone(&context.connections);
    let own = Arc::clone(&context.own);
    let routes = Arc::new(Routes::new(surface, context));
    let tasks = TaskTracker::new();
    loop {
        let (socket, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Usually out of file descriptors; wait until some are released.
                    tracing::warn!(error = %error, "accepting a connection failed; retrying");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let local = socket.local_addr().map_or(bound.address.ip(), |address| address.ip());
        let admission = loop {
            match connections.admit(surface, peer, local, Instant::now()) {
                // Further connections wait in the accept queue of the kernel.
                Admission::Wait(until) => tokio::time::sleep_until(until).await,
                admission => break admission,
            }
        };
        let Admission::Admitted(connection) = admission else {
            own.connection_closed("no_place");
            if tls.is_none() && surface != Surface::OtlpGrpc {
                tasks.spawn(reject(socket));
            }
            continue;
        };
        // Failing to disable Nagle's algorithm only costs latency.
        drop(socket.set_nodelay(true));
        let (routes, connections, own) = (Arc::clone(&routes), Arc::clone(&connections), Arc::clone(&own));
        let (stop, tls) = (stop.clone(), tls.clone());
        tasks.spawn(async move {
            let serving = async {
                match tls {
                    None => serve_one(socket, surface, &routes, &connection, stop).await,
                    Some(tls) => {
                        if let Ok(Ok(socket)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await {
                            serve_one(socket, surface, &routes, &connection, stop).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = serving => {}
                () = connection.evicted() => own.connection_closed("evicted"),
            }
            connections.release(&connection);
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
        tracing::warn!("requests did not complete within the shutdown grace period");
    }
}

/// Serves the requests of one connection.
async fn serve_one(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    surface: Surface,
    routes: &Arc<Routes>,
    connection: &Connection,
    stop: CancellationToken,
) {
    let socket = TokioIo::new(WriteTimeout::new(socket));
    if surface == Surface::OtlpGrpc {
        grpc::serve(socket, routes.context(), connection, stop).await;
        return;
    }
    let (own_routes, own_connection) = (Arc::clone(routes), connection.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (routes, connection, work) = (Arc::clone(&own_routes), own_connection.clone(), own_connection.serve());
        async move {
            let request = request.map(|body| connection.request_body(body));
            let response: Response<axum::body::Body> = routes::answer(&routes, request, connection).await;
            drop(work);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let head = routes.context().limits.header_timeout;
    let mut serving = Box::pin(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(if connection.is_reserved() { HEALTH_HEADER_TIMEOUT.min(head) } else { head })
            .keep_alive(!connection.is_reserved())
            .max_buf_size(MAX_HEAD)
            .serve_connection(socket, service),
    );
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        () = connection.streams() => {
            let rest = async move {
                // It ends with its stream, which ends when the program stops.
                serving.as_mut().graceful_shutdown();
                log_end(serving.await);
            };
            return routes.context().streams.carry(rest).await;
        }
    };
    log_end(ended);
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(error = %error, "connection closed with an error");
    }
}

/// Responds that the limit on connections is reached.
async fn reject(mut socket: TcpStream) {
    let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
                  connection: close\r\ncontent-length: 42\r\n\r\n{\"error\": \"too many connections are open\"}";
    // The client may be gone.
    drop(tokio::time::timeout(Duration::from_secs(1), socket.write_all(answer.as_bytes())).await);
}
