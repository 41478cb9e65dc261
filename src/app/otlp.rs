//! OTLP on a thread of its own: its listeners and the owner of its streams, so that decoding never keeps the engine waiting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::GRACE;
use super::supervisor::Supervisor;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::telemetry::{self, Inbox};
use crate::model::CountingState;
use crate::otlp::StreamTable;
use crate::otlp::config::{DEFAULT_GRPC, DEFAULT_HTTP};
use crate::profiles::Profiles;
use crate::server::listener::Certificate;
use crate::server::{self, Access, Bound, Surface};
use crate::store::HistoryHandle;

/// How long the start waits for the disk.
const FIRST_WRITE: Duration = Duration::from_secs(1);

/// A listener of OTLP, and who may use it.
pub(super) struct Listener {
    bound: Bound,
    surface: Surface,
    tls: Option<TlsAcceptor>,
    access: watch::Receiver<Arc<Access>>,
}

/// Listens where the configuration says, and adds who may use each listener to `rules`. An address of ours by default
/// that somebody else uses already, such as a collector, is a warning; one that was chosen is an error.
pub(super) async fn listen(
    config: &Config,
    certificate: Option<&Arc<Certificate>>,
    rules: &mut Vec<(SocketAddr, watch::Sender<Arc<Access>>)>,
) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for (key, address, default, surface) in [
        ("otlp.http", config.otlp.http, DEFAULT_HTTP, Surface::OtlpHttp),
        ("otlp.grpc", config.otlp.grpc, DEFAULT_GRPC, Surface::OtlpGrpc),
    ] {
        let Some(address) = address else { continue };
        let bound = match Bound::bind(address, key).await {
            Ok(bound) => bound,
            Err(error) if address == default && is_taken(&error) => {
                tracing::warn!(
                    key,
                    address = %address,
                    "the default address is in use, so OTLP is not received there; set the key to another address, or to null"
                );
                continue;
            }
            Err(error) => return Err(error),
        };
        let tls = certificate.map(|shown| server::listener::acceptor(shown, surface)).transpose()?;
        let access = Access::new(config, bound.address())?;
        let (now, access) = watch::channel(Arc::new(access));
        rules.push((bound.address(), now));
        listeners.push(Listener { bound, surface, tls, access });
    }
    Ok(listeners)
}

fn is_taken(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

/// Goes on from what was remembered before the start. Since when telemetry is heard is on disk before the first export
/// is answered: else, after a kill, what a process had counted by then would be taken for what it did before anybody
/// listened.
pub(super) async fn remembering(
    saved: CountingState,
    config: &Config,
    clock: &Clock,
    history: &HistoryHandle,
) -> Profiles {
    let mut profiles = Profiles::new(clock.now(), &config.otlp);
    profiles.restore(saved);
    let fresh = profiles.take_counting();
    if !fresh.is_empty() {
        // A disk that fails is logged by the store, which tries again; one that hangs must not keep the program from
        // starting.
        drop(tokio::time::timeout(FIRST_WRITE, history.save_counting(fresh)).await);
    }
    profiles
}

/// The thread; it ends once told to and after its last request.
pub(super) struct OtlpThread {
    /// Told once all listeners are closed, also the main one, whose requests the owner serves as well.
    stop_owner: CancellationToken,
    done: oneshot::Receiver<()>,
}

impl OtlpThread {
    /// Starts it with what `profiles` remember: the listeners serve until `stop`.
    pub(super) fn start(
        (listeners, inbox): (Vec<Listener>, Inbox),
        profiles: Profiles,
        config: &Config,
        clock: Clock,
        context: &server::Context,
        stop: &CancellationToken,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut key = [0; 8];
        let random = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&random, &mut key).map_err(|_| anyhow::anyhow!("no random numbers"))?;
        let streams = (StreamTable::new(u64::from_ne_bytes(key), &config.otlp), profiles);
        let engine = context.engine.clone();
        let (limit, stop_owner) = (config.limits.body, CancellationToken::new());
        let (context, stop, owner_stops) = (context.clone(), stop.clone(), stop_owner.clone());
        let (ended, done) = oneshot::channel::<()>();
        let (thread, owner_part) = (supervisor.part("the OTLP thread"), supervisor.part("the owner of OTLP streams"));
        let supervisor = supervisor.clone();
        let work = move || {
            let _thread = thread;
            runtime.block_on(async {
                let owner = tokio::spawn(async move {
                    let _part = owner_part;
                    telemetry::run(inbox, streams, engine, clock, limit, owner_stops).await;
                });
                let mut serving = tokio::task::JoinSet::new();
                for Listener { bound, surface, tls, access } in listeners {
                    tracing::info!(address = %bound.address(), surface = ?surface, "receiving OTLP");
                    let context = server::Context { access, ..context.clone() };
                    let part = supervisor.part("an OTLP listener");
                    let served = server::serve(bound, tls, surface, context, stop.clone(), GRACE);
                    serving.spawn(async move {
                        let _part = part;
                        served.await;
                    });
                }
                // They bound their own time.
                while serving.join_next().await.is_some() {}
                drop(owner.await);
            });
            // A file that hangs keeps a thread of its own, for which nobody waits.
            runtime.shutdown_background();
            drop(ended);
        };
        std::thread::Builder::new().name("otlp".to_owned()).spawn(work).context("start a thread")?;
        Ok(Self { stop_owner, done })
    }

    /// Waits for its end, with all that was answered handed to the engine; the listeners were told already.
    pub(super) async fn stop(self) {
        self.stop_owner.cancel();
        // An end by panic has been logged.
        drop(self.done.await);
    }
}
