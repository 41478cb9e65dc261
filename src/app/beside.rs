//! OTLP on a thread of its own: its listeners and the owner of its streams, so that decoding never keeps the engine waiting.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::GRACE;
use crate::clock::Clock;
use crate::config::Config;
use crate::model::Counting;
use crate::server::{self, Access, Bound, Surface};
use crate::sources::otlp::config::{DEFAULT_GRPC, DEFAULT_HTTP};
use crate::sources::otlp::{self, Inbox, Table};
use crate::sources::profiles::Profiles;

/// Distilled exports that may wait for the engine.
const DISTILLED: usize = 64;

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
        let tls = server::listener::acceptor(&config.tls, surface)?;
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

/// The thread; it ends once told to and after its last request.
pub(super) struct Beside {
    /// Told once all listeners are closed, also the main one, whose requests the owner serves as well.
    stop_owner: CancellationToken,
    done: oneshot::Receiver<()>,
}

impl Beside {
    /// Starts it with what `counting` telemetry remembered: the listeners serve until `stop`.
    pub(super) fn start(
        listeners: Vec<Listener>,
        inbox: Inbox,
        counting: Counting,
        config: &Config,
        clock: Clock,
        context: &server::Context,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut key = [0; 8];
        let random = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&random, &mut key).map_err(|_| anyhow::anyhow!("no random numbers"))?;
        let mut profiles = Profiles::new(clock.now(), &config.otlp);
        profiles.restore(counting);
        let streams = (Table::new(u64::from_ne_bytes(key), &config.otlp), profiles);
        let (said, mut distilled) = tokio::sync::mpsc::channel(DISTILLED);
        let engine = context.engine.clone();
        tokio::spawn(async move {
            while let Some((batch, done)) = distilled.recv().await {
                if engine.telemetry(batch, done).await.is_err() {
                    return;
                }
            }
        });
        let (limit, stop_owner) = (config.limits.body, CancellationToken::new());
        let (context, stop, owner_stops) = (context.clone(), stop.clone(), stop_owner.clone());
        let (ended, done) = oneshot::channel::<()>();
        let work = move || {
            runtime.block_on(async {
                let owner = tokio::spawn(otlp::run(inbox, streams, said, clock, limit, owner_stops));
                let mut serving = tokio::task::JoinSet::new();
                for Listener { bound, surface, tls, access } in listeners {
                    tracing::info!(address = %bound.address(), surface = ?surface, "receiving OTLP");
                    let context = server::Context { access, ..context.clone() };
                    serving.spawn(server::serve(bound, tls, surface, context, stop.clone(), GRACE));
                }
                // They bound their own time.
                serving.join_all().await;
                drop(owner.await);
            });
            drop(ended);
        };
        std::thread::Builder::new().name("otlp".to_owned()).spawn(work).context("start a thread")?;
        Ok(Self { stop_owner, done })
    }

    /// Waits for its end; the listeners were told already.
    pub(super) async fn stop(self) {
        self.stop_owner.cancel();
        // It can only have broken, which the log has told.
        drop(self.done.await);
    }
}
