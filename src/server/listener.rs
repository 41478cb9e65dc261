//! Accepts connections, in the clear or with the certificate in force, bounds what each may take, and drains them at the
//! end.

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
use super::stalls::Stalls;
use super::{Context, grpc, routes};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a head may take on a connection that only health routes are answered on.
const HEALTH_HEAD: Duration = Duration::from_secs(1);

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surface {
    /// Everything, OTLP over HTTP among it.
    Main,
    /// OTLP over HTTP.
    OtlpHttp,
    /// OTLP over gRPC.
    OtlpGrpc,
}

/// The certificate in force.
#[derive(Debug)]
pub struct Certificate(RwLock<Arc<CertifiedKey>>);

impl Certificate {
    /// Shows `key`'s certificate.
    pub const fn new(key: Arc<CertifiedKey>) -> Self {
        Self(RwLock::new(key))
    }

    /// Shows that of `key` to whoever connects from now on.
    pub fn replace(&self, key: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Accepts connections that are encrypted with `certificate` on a listener of that kind.
pub fn acceptor(certificate: &Arc<Certificate>, surface: Surface) -> anyhow::Result<TlsAcceptor> {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(certificate) as Arc<dyn ResolvesServerCert>);
    // Clients of gRPC hang up on a server that does not choose HTTP/2.
    let protocol: &[u8] = if surface == Surface::OtlpGrpc { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A socket that listens, on whatever runtime it is served.
#[derive(Debug)]
pub struct Bound {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Listens at `address`; port 0 picks a free one. The error names `key`, which says another one.
    pub async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen on {address}; set `{key}` to an address that is free"))?;
        let address = listener.local_addr()?;
        Ok(Self { listener: listener.into_std()?, address })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves until `stop`; then lets running requests end within `grace`.
pub async fn serve(
    bound: Bound,
    tls: Option<TlsAcceptor>,
    surface: Surface,
    context: Context,
    stop: CancellationToken,
    grace: Duration,
) {
    let listener = match TcpListener::from_std(bound.listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(error = %error, address = %bound.address, "the listener broke");
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
                    // Out of descriptors, mostly; others need the time to give theirs back.
                    tracing::warn!(error = %error, "connection not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let local = socket.local_addr().map_or(bound.address.ip(), |address| address.ip());
        let admission = loop {
            match connections.admit(surface, peer, local, Instant::now()) {
                // Those behind it wait in the kernel's queue.
                Admission::Wait(until) => tokio::time::sleep_until(until).await,
                admission => break admission,
            }
        };
        let Admission::In(connection) = admission else {
            own.connection_closed("no_place");
            if tls.is_none() && surface != Surface::OtlpGrpc {
                tasks.spawn(turn_away(socket));
            }
            continue;
        };
        // Small answers must not wait for more; where the option is refused they are merely slower.
        drop(socket.set_nodelay(true));
        let (routes, connections, own) = (Arc::clone(&routes), Arc::clone(&connections), Arc::clone(&own));
        let (stop, tls) = (stop.clone(), tls.clone());
        tasks.spawn(async move {
            let serving = async {
                match tls {
                    None => serve_one(socket, surface, &routes, &connection, stop).await,
                    Some(tls) => {
                        if let Ok(Ok(socket)) = tokio::time::timeout(HANDSHAKE, tls.accept(socket)).await {
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
        tracing::warn!("requests still ran when the time to end them was over");
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
    let socket = TokioIo::new(Stalls::new(socket));
    if surface == Surface::OtlpGrpc {
        grpc::serve(socket, routes.context(), connection, stop).await;
        return;
    }
    let service = service_fn(|request: Request<Incoming>| {
        let (routes, connection, work) = (Arc::clone(routes), connection.clone(), connection.serve());
        async move {
            let request = request.map(|body| connection.arriving(body));
            let response: Response<axum::body::Body> = routes::answer(&routes, request, connection).await;
            drop(work);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let head = routes.context().limits.header_timeout;
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(if connection.is_reserved() { HEALTH_HEAD.min(head) } else { head })
        .keep_alive(!connection.is_reserved())
        .max_buf_size(MAX_HEAD)
        .serve_connection(socket, service);
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
