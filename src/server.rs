//! The HTTP and gRPC server: listeners, limits, access control, routes and responses. Everything about agents is asked of
//! the engine.

pub mod access;
mod api;
mod body;
mod callbacks;
mod connections;
mod error;
mod grpc;
mod hooks;
mod invoke;
pub mod listener;
mod otlp;
mod page;
mod pool;
mod pushes;
mod registry;
mod reports;
mod responses;
mod routes;
mod runs;
mod scrape;
mod silences;
mod stream;
mod tasks;
mod write_timeout;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use self::responses::ResponseSender;
use self::scrape::Scraper;

pub use access::{AccessRules, AccessState};
pub use body::BodyReader;
pub use connections::Connections;
pub use invoke::FlowServers;
pub use listener::{BoundListener, Surface, serve};
pub use page::StatusReader;
pub use stream::StreamHub;

/// The message of a gRPC body and whether it is compressed by gzip, for the targets in `fuzz/`.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn grpc_message(body: bytes::Bytes, is_gzip: bool) -> Result<(bool, bytes::Bytes), crate::otlp::OtlpDecodeError> {
    grpc::message(body, is_gzip)
}

use crate::clock::Clock;
use crate::config::server::LimitsConfig;
use crate::enforcement::StopOrders;
use crate::engine::runs::RunsHandle;
use crate::engine::{AlertFilter, AlertView, EngineHandle, telemetry};
use crate::metrics::SidecarMetrics;
use crate::model::{Fingerprint, TimelineEntry};
use crate::otlp::config::AgentRule;

/// The future of an asynchronous callback.
pub type BoxedFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The result of a reload: the changed keys that take effect only after a restart, or the error message.
pub type ReloadResult = Result<Vec<&'static str>, String>;

/// What became of a test message: delivered, perhaps with a warning, or the error; `None` if there is no such receiver.
pub type TestResult = Option<Result<Option<String>, String>>;

/// What handlers need from the rest of the program.
#[derive(Clone)]
pub struct ServerContext {
    /// The engine.
    pub engine: EngineHandle,
    /// Stop orders, with which hooks are answered.
    pub stop_orders: watch::Receiver<Arc<StopOrders>>,
    /// Rules that name the agent of a hook that does not name it itself.
    pub agent_rules: watch::Receiver<Arc<[AgentRule]>>,
    /// The servers whose flows may be run.
    pub flows: watch::Receiver<Arc<FlowServers>>,
    /// The sidecar's own metrics.
    pub own: Arc<SidecarMetrics>,
    /// The current access rules.
    pub access: watch::Receiver<Arc<AccessRules>>,
    /// Limits of connections.
    pub limits: LimitsConfig,
    /// Reads request bodies within the limits.
    pub bodies: BodyReader,
    /// Reads resolved alerts, newest first.
    pub history: Arc<dyn Fn(AlertFilter) -> BoxedFuture<Vec<AlertView>> + Send + Sync>,
    /// The handle that ingests OTLP.
    pub otlp: telemetry::TelemetryHandle,
    /// Runs of agents, and the registry.
    pub runs: RunsHandle,
    /// Open streams of events.
    pub streams: StreamHub,
    /// Open connections of all listeners.
    pub connections: Arc<Connections>,
    /// Reads the timeline of an alert, oldest entry first.
    pub timeline: Arc<dyn Fn(Fingerprint) -> BoxedFuture<Vec<TimelineEntry>> + Send + Sync>,
    /// Reads the changes of status of an agent, by project and name, newest first.
    pub statuses: StatusReader,
    /// The configuration in force as YAML, without secrets.
    pub configuration: Arc<dyn Fn() -> String + Send + Sync>,
    /// Sends a test message to a receiver.
    pub test_receiver: Arc<dyn Fn(String) -> BoxedFuture<TestResult> + Send + Sync>,
    /// The clock.
    pub clock: Clock,
    /// Reloads the configuration.
    pub reload: Arc<dyn Fn() -> BoxedFuture<ReloadResult> + Send + Sync>,
    /// The task that failed, if any; the process then exits.
    pub failed: Arc<dyn Fn() -> Option<&'static str> + Send + Sync>,
}

/// The state of the router's handlers.
#[derive(Clone, Debug)]
struct HandlerState {
    context: ServerContext,
    scraper: Arc<Scraper>,
    sending: ResponseSender,
    /// Turns to read runs.
    readers: Arc<tokio::sync::Semaphore>,
}

impl std::fmt::Debug for ServerContext {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ServerContext").field("limits", &self.limits).finish_non_exhaustive()
    }
}
