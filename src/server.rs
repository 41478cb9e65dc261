//! The listener and its routes: bounded in connections, heads, bodies and time, and closed to strangers.
//!
//! Owns access, limits and the shapes of answers. Refuses to decide anything about agents: it asks the engine.

pub mod access;
mod api;
mod body;
mod callbacks;
mod connections;
mod error;
mod grpc;
mod hooks;
pub mod listener;
mod otlp;
mod pushes;
mod quiet;
mod room;
mod routes;
mod scrape;
mod sending;
mod stalls;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use self::scrape::Scraper;
use self::sending::Sending;

pub use access::Access;
pub use body::Bodies;
pub use connections::Connections;
pub use listener::{Bound, Surface, serve};

/// The one message of a gRPC body and whether it is gzip, for the targets in `fuzz/`.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn grpc_message(body: bytes::Bytes, is_gzip: bool) -> Result<(bool, bytes::Bytes), crate::otlp::OtlpDecodeError> {
    grpc::message(body, is_gzip)
}

use crate::clock::Clock;
use crate::config::server::LimitsConfig;
use crate::enforcement::StopOrders;
use crate::engine::{AlertFilter, AlertView, EngineHandle, telemetry};
use crate::metrics::Own;
use crate::model::{Fingerprint, TimelineEntry};
use crate::otlp::config::AgentRule;

/// An answer that takes its time.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The keys of a reloaded configuration that take effect at the next start only, or what is wrong with it.
pub type Reloaded = Result<Vec<&'static str>, String>;

/// What the routes work with.
#[derive(Clone)]
pub struct Context {
    /// The engine.
    pub engine: EngineHandle,
    /// The orders to stop that answer hooks.
    pub stop_orders: watch::Receiver<Arc<StopOrders>>,
    /// Whom hooks are about that do not name it themselves.
    pub agent_rules: watch::Receiver<Arc<[AgentRule]>>,
    /// The sidecar's own metrics.
    pub own: Arc<Own>,
    /// Who may do what, as of the last reload.
    pub access: watch::Receiver<Arc<Access>>,
    /// What connections may take.
    pub limits: LimitsConfig,
    /// What bodies may take.
    pub bodies: Bodies,
    /// Reads alerts that are over, newest first.
    pub history: Arc<dyn Fn(AlertFilter) -> Later<Vec<AlertView>> + Send + Sync>,
    /// Takes in OTLP.
    pub otlp: telemetry::TelemetryHandle,
    /// The open connections of all listeners.
    pub connections: Arc<Connections>,
    /// Reads the timeline of an alert, oldest entry first.
    pub timeline: Arc<dyn Fn(Fingerprint) -> Later<Vec<TimelineEntry>> + Send + Sync>,
    /// The time.
    pub clock: Clock,
    /// Reloads the configuration.
    pub reload: Arc<dyn Fn() -> Later<Reloaded> + Send + Sync>,
    /// The part of the program that failed, if one did: then the program ends.
    pub failed: Arc<dyn Fn() -> Option<&'static str> + Send + Sync>,
}

/// What handlers behind the router get.
#[derive(Clone, Debug)]
struct Shared {
    context: Context,
    scraper: Arc<Scraper>,
    sending: Sending,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Context").field("limits", &self.limits).finish_non_exhaustive()
    }
}
