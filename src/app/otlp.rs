//! OTLP on a thread of its own, so that decoding never delays the engine: its listeners and the task that owns the streams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::REQUEST_GRACE;
use super::supervisor::Supervisor;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::telemetry::{self, Inbox};
use crate::model::CountingState;
use crate::otlp::StreamTable;
use crate::otlp::config::{DEFAULT_GRPC, DEFAULT_HTTP};
use crate::profiles::Profiles;
use crate::server::listener::Certificate;
use crate::server::{self, AccessRules, AccessState, BoundListener, Surface};
use crate::store::HistoryHandle;

/// How long startup waits for the first write of the counting state.
const FIRST_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// An OTLP listener with its access rules.
pub(super) struct OtlpListener {
    bound: BoundListener,
    surface: Surface,
    tls: Option<TlsAcceptor>,
    access: watch::Receiver<Arc<AccessRules>>,
}

/// Binds the configured addresses and adds the access rules of each listener to `rules`. If the default address is in use,
/// for example by a collector, it logs a warning; for a configured address that is an error.
pub(super) async fn listen(
    config: &Config,
    certificate: Option<&Arc<Certificate>>,
    access_state: &Arc<AccessState>,
    rules: &mut Vec<(SocketAddr, watch::Sender<Arc<AccessRules>>)>,
) -> anyhow::Result<Vec<OtlpListener>> {
    let mut listeners = Vec::new();
    for (key, address, default, surface) in [
        ("otlp.http", config.otlp.http, DEFAULT_HTTP, Surface::OtlpHttp),
        ("otlp.grpc", config.otlp.grpc, DEFAULT_GRPC, Surface::OtlpGrpc),
    ] {
        let Some(address) = address else { continue };
        let bound = match BoundListener::bind(address, key).await {
            Ok(bound) => bound,
            Err(error) if address == default && is_address_in_use(&error) => {
                tracing::warn!(
                    key,
                    address = %address,
                    "OTLP listener not started: default address already in use; set the key to another address, or to null"
                );
                continue;
            }
            Err(error) => return Err(error),
        };
        let tls = certificate.map(|shown| server::listener::acceptor(shown, surface)).transpose()?;
        let access = AccessRules::new(config, bound.address(), access_state)?;
        let (now, access) = watch::channel(Arc::new(access));
        rules.push((bound.address(), now));
        listeners.push(OtlpListener { bound, surface, tls, access });
    }
    Ok(listeners)
}

fn is_address_in_use(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

/// Restores the counting state of telemetry. The time from which telemetry counts is durable before the first export is
/// acknowledged. Otherwise, after a kill, what a process had counted by then would be taken for its baseline.
pub(super) async fn restore_profiles(
    saved: CountingState,
    config: &Config,
    clock: &Clock,
    history: &HistoryHandle,
) -> Profiles {
    let mut profiles = Profiles::new(clock.now(), &config.otlp);
    profiles.restore(saved);
    let fresh = profiles.take_counting();
    if !fresh.is_empty() {
        // The store logs and retries a failed write. A hanging disk must not block startup.
        drop(tokio::time::timeout(FIRST_WRITE_TIMEOUT, history.save_counting(fresh)).await);
    }
    profiles
}

/// The OTLP thread. It ends after a stop and its last request.
pub(super) struct OtlpThread {
    /// Cancelled once all listeners are closed, including the main one, which also serves OTLP.
    stop_owner: CancellationToken,
    done: oneshot::Receiver<()>,
}

impl OtlpThread {
    /// Starts the thread with the restored `profiles`. The listeners serve until `stop`.
    pub(super) fn start(
        (listeners, inbox): (Vec<OtlpListener>, Inbox),
        profiles: Profiles,
        config: &Config,
        clock: Clock,
        context: &server::ServerContext,
        stop: &CancellationToken,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut key = [0; 8];
        let random = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&random, &mut key)
            .map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
        let streams = (StreamTable::new(u64::from_ne_bytes(key), &config.otlp), profiles);
        let engine = (context.engine.clone(), context.runs.clone());
        let (limit, stop_owner) = (config.limits.body, CancellationToken::new());
        let (context, stop, owner_stops) = (context.clone(), stop.clone(), stop_owner.clone());
        let (ended, done) = oneshot::channel::<()>();
        let (thread, owner_guard) = (supervisor.watch("OTLP thread"), supervisor.watch("OTLP streams"));
        let supervisor = supervisor.clone();
        let work = move || {
            let _thread = thread;
            runtime.block_on(async {
                let owner = tokio::spawn(async move {
                    let _guard = owner_guard;
                    telemetry::run(inbox, streams, engine, clock, limit, owner_stops).await;
                });
                let mut serving = tokio::task::JoinSet::new();
                for OtlpListener { bound, surface, tls, access } in listeners {
                    tracing::info!(address = %bound.address(), surface = ?surface, "OTLP listener started");
                    let context = server::ServerContext { access, ..context.clone() };
                    let guard = supervisor.watch("OTLP listener");
                    let served = server::serve(bound, tls, surface, context, stop.clone(), REQUEST_GRACE);
                    serving.spawn(async move {
                        let _guard = guard;
                        served.await;
                    });
                }
                // Listeners have their own shutdown timeout.
                while serving.join_next().await.is_some() {}
                drop(owner.await);
            });
            // Does not wait for blocking threads, which may hang on a file.
            runtime.shutdown_background();
            drop(ended);
        };
        std::thread::Builder::new().name("otlp".to_owned()).spawn(work).context("start the OTLP thread")?;
        Ok(Self { stop_owner, done })
    }

    /// Stops the task that owns the streams and waits for the thread. Everything acknowledged is in the engine's queue then.
    pub(super) async fn stop(self) {
        self.stop_owner.cancel();
        // The supervisor reports a panic.
        drop(self.done.await);
    }
}
