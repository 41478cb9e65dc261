//! The task that owns the telemetry streams: exports wait in a bounded queue, reads overtake them.
//!
//! When the queue is full, exports are rejected as [`ExportError::Busy`], and their senders retry.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::runs::{RunsError, RunsHandle};
use crate::clock::Clock;
use crate::model::telemetry::Telemetry;
use crate::model::{RejectReason, TelemetryChannels, TelemetryUpdate};
use crate::otlp::config::OtlpConfig;
use crate::otlp::{Encoding, ExportOutcome, OtlpDecodeError, OtlpRequest, Signal, StreamTable, decode_counted};
use crate::profiles::identity::SenderIdentity;
use crate::profiles::{Profiles, callback};

/// Capacity of the queue of exports.
const EXPORTS: usize = 256;
/// Capacity of the queue of reads and settings.
const READERS: usize = 64;
/// How often idle streams are expired.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// Sends to the task that owns the streams. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TelemetryHandle {
    exports: mpsc::Sender<Export>,
    readers: mpsc::Sender<TelemetryRequest>,
}

/// The receiving ends of the queues.
#[derive(Debug)]
pub struct Inbox {
    exports: mpsc::Receiver<Export>,
    readers: mpsc::Receiver<TelemetryRequest>,
}

/// The kind of an export.
#[derive(Debug)]
enum ExportKind {
    /// An export of OTLP, and whether it is gzip.
    Export(Signal, Encoding, bool),
    /// Calls that LiteLLM's callback posts, and the identity of their sender.
    Calls(SenderIdentity),
}

/// A body in the queue.
#[derive(Debug)]
struct Export {
    kind: ExportKind,
    body: Bytes,
    reply: oneshot::Sender<ExportReply>,
}

/// Answered when the spans are on disk.
type Stored = oneshot::Receiver<Result<(), RunsError>>;

/// Answered when the update was applied.
type Applied = oneshot::Receiver<()>;

/// What an export is answered with, and what its sender waits for before.
type ExportReply = Result<(ExportOutcome, Option<Applied>, Option<Stored>), ExportError>;

/// A read or a change of settings. Overtakes exports.
#[derive(Debug)]
enum TelemetryRequest {
    Snapshot(oneshot::Sender<Arc<Telemetry>>),
    Reception(oneshot::Sender<Vec<TelemetryChannels>>),
    Configure(Box<OtlpConfig>),
    /// Panics, for tests of what the program does then.
    #[cfg(test)]
    Panic,
}

/// Why an export was rejected as a whole.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExportError {
    /// It is malformed or too large.
    #[error(transparent)]
    Decode(#[from] OtlpDecodeError),
    /// The queue is full.
    #[error("too many exports are waiting; try again in a second")]
    Busy,
    /// Its spans can't be stored now.
    #[error("{0}")]
    Runs(String),
    /// The program is shutting down.
    #[error("shutting down")]
    Stopped,
}

impl From<RunsError> for ExportError {
    fn from(error: RunsError) -> Self {
        match error {
            RunsError::Stopped => Self::Stopped,
            RunsError::Busy => Self::Busy,
            other => Self::Runs(other.to_string()),
        }
    }
}

impl TelemetryHandle {
    /// A handle and the receiving ends of its queues.
    pub fn new() -> (Self, Inbox) {
        let (exports, exports_end) = mpsc::channel(EXPORTS);
        let (readers, readers_end) = mpsc::channel(READERS);
        (Self { exports, readers }, Inbox { exports: exports_end, readers: readers_end })
    }

    /// Ingests a body. A read that begins after this returned sees its series and its effect on agents.
    pub async fn export(
        &self,
        signal: Signal,
        encoding: Encoding,
        is_gzip: bool,
        body: Bytes,
    ) -> Result<ExportOutcome, ExportError> {
        self.take(ExportKind::Export(signal, encoding, is_gzip), body).await
    }

    /// Ingests the calls that LiteLLM's generic API callback posts.
    pub async fn litellm(&self, sender: SenderIdentity, body: Bytes) -> Result<ExportOutcome, ExportError> {
        self.take(ExportKind::Calls(sender), body).await
    }

    async fn take(&self, kind: ExportKind, body: Bytes) -> Result<ExportOutcome, ExportError> {
        let (reply, answer) = oneshot::channel();
        self.exports.try_send(Export { kind, body, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ExportError::Busy,
            mpsc::error::TrySendError::Closed(_) => ExportError::Stopped,
        })?;
        let (taken, applied, stored) = answer.await.unwrap_or(Err(ExportError::Stopped))?;
        if let Some(applied) = applied {
            applied.await.map_err(|_| ExportError::Stopped)?;
        }
        if let Some(stored) = stored {
            stored.await.unwrap_or(Err(RunsError::Stopped))?;
        }
        Ok(taken)
    }

    /// All series received so far; empty once the program is shutting down.
    pub async fn snapshot(&self) -> Arc<Telemetry> {
        let (reply, answer) = oneshot::channel();
        match self.readers.send(TelemetryRequest::Snapshot(reply)).await {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => Arc::default(),
        }
    }

    /// Which signals of which agents were received so far; empty once the program is shutting down.
    pub async fn receptions(&self) -> Vec<TelemetryChannels> {
        let (reply, answer) = oneshot::channel();
        match self.readers.send(TelemetryRequest::Reception(reply)).await {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Replaces the settings; `false` when the program is shutting down.
    pub async fn configure(&self, config: &OtlpConfig) -> bool {
        self.readers.send(TelemetryRequest::Configure(Box::new(config.clone()))).await.is_ok()
    }

    /// Has the task panic.
    #[cfg(test)]
    pub(crate) async fn panic(&self) {
        self.readers.send(TelemetryRequest::Panic).await.expect("an owner");
    }

    /// The length of the queue of exports.
    pub fn waiting(&self) -> usize {
        self.exports.max_capacity() - self.exports.capacity()
    }
}

/// Serves both queues until `stop`, or until no handle is left. Bodies of more than `limit` bytes are rejected.
///
/// The agents' part of exports goes to `engine`; while its queue is full, exports wait. A sender is answered once its
/// export was applied; the next export does not wait for that.
pub async fn run(
    mut inbox: Inbox,
    (mut table, mut profiles): (StreamTable, Profiles),
    (engine, runs): (super::EngineHandle, RunsHandle),
    clock: Clock,
    limit: usize,
    stop: CancellationToken,
) {
    let mut expiry = tokio::time::interval(EXPIRE_EVERY);
    expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            reader = inbox.readers.recv() => match reader {
                Some(TelemetryRequest::Snapshot(reply)) => {
                    // The reader may have gone away.
                    drop(reply.send(table.snapshot(clock.now())));
                }
                Some(TelemetryRequest::Reception(reply)) => drop(reply.send(profiles.receptions())),
                Some(TelemetryRequest::Configure(config)) => {
                    table.configure(&config);
                    profiles.configure(&config);
                }
                #[cfg(test)]
                Some(TelemetryRequest::Panic) => panic!("a test of what a panic does"),
                None => return,
            },
            _ = expiry.tick() => table.expire(clock.now()),
            export = inbox.exports.recv() => {
                let Some(export) = export else { return };
                let answer = match take(&mut table, &mut profiles, (&clock, &runs), limit, &export) {
                    Ok((taken, distilled, stored)) if distilled.agents.is_empty() && distilled.counting.is_empty() => {
                        Ok((taken, None, stored))
                    }
                    Ok((taken, distilled, stored)) => {
                        let (done, applied) = oneshot::channel();
                        if engine.telemetry(distilled, done).await.is_err() {
                            return;
                        }
                        Ok((taken, Some(applied), stored))
                    }
                    Err(error) => Err(error),
                };
                drop(export.reply.send(answer));
                // Other tasks of this thread run between two exports.
                tokio::task::yield_now().await;
            }
        }
    }
}

fn take(
    table: &mut StreamTable,
    profiles: &mut Profiles,
    (clock, runs): (&Clock, &RunsHandle),
    limit: usize,
    export: &Export,
) -> Result<(ExportOutcome, TelemetryUpdate, Option<Stored>), ExportError> {
    let now = clock.now();
    let (signal, encoding, is_gzip) = match &export.kind {
        ExportKind::Export(signal, encoding, is_gzip) => (*signal, *encoding, *is_gzip),
        ExportKind::Calls(sender) => {
            let calls = callback::decode(sender.attributes(), &export.body)
                .map_err(|error| OtlpDecodeError::Malformed(error.to_string()))?;
            let mut taken = ExportOutcome::all_accepted(calls.accepted);
            taken.reject(RejectReason::Malformed, calls.malformed);
            let agents = profiles.extract_callback(now, &calls.request);
            let update = TelemetryUpdate { agents, counting: profiles.take_counting() };
            let stored = runs.export_calls(callback::spans(&calls.request))?;
            return Ok((taken, update, Some(stored)));
        }
    };
    let (request, unread) = decode_counted(signal, encoding, is_gzip, &export.body, limit)?;
    let mut taken = match &request {
        OtlpRequest::Metrics(metrics) => table.apply(now, metrics),
        OtlpRequest::Traces(_) | OtlpRequest::Logs(_) => ExportOutcome::all_accepted(request.items()),
    };
    taken.undecodable_values = unread as u64;
    let agents = profiles.extract(now, &request);
    let update = TelemetryUpdate { agents, counting: profiles.take_counting() };
    // What was counted and then refused is recognised when it is sent again.
    let stored = match request {
        OtlpRequest::Traces(traces) => Some(runs.export(traces)?),
        other => {
            runs.exports().other(other);
            None
        }
    };
    Ok((taken, update, stored))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    #[tokio::test]
    async fn an_export_is_answered_once_its_effect_on_agents_was_applied() {
        let (handle, inbox) = TelemetryHandle::new();
        let (engine, mut queues) = super::super::EngineHandle::new(4, 1, 1);
        let now = Time::parse("2026-11-29T12:00:00Z").expect("a time");
        let config = OtlpConfig::default();
        let parts = (StreamTable::new(1, &config), Profiles::new(now, &config));
        let stop = CancellationToken::new();
        let runs = super::super::runs::in_memory();
        let owner = tokio::spawn(run(inbox, parts, (engine, runs), Clock::system(), 1_000_000, stop.clone()));
        let body = r#"{"resourceLogs": [{"scopeLogs": [{"scope": {"name": "codex_otel.log_only"}, "logRecords": [
            {"attributes": [{"key": "event.name", "value": {"stringValue": "codex.api_request"}}]}]}]}]}"#;
        let export = handle.export(Signal::Logs, Encoding::Json, false, Bytes::from(body));
        tokio::pin!(export);
        let update = tokio::select! {
            answered = &mut export => panic!("answered before: {answered:?}"),
            update = queues.bulk.recv() => update,
        };
        let Some(super::super::handle::Bulk::Telemetry(distilled, done)) = update else { panic!("{update:?}") };
        assert!(!distilled.agents.is_empty());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let early =
            std::future::poll_fn(|context| std::task::Poll::Ready(export.as_mut().poll(context).is_ready())).await;
        assert!(!early, "it was not applied yet");
        done.send(()).expect("the export waits");
        assert_eq!(export.await.expect("taken").accepted, 1);
        // An export that the engine can no longer apply is not answered as accepted.
        drop(queues);
        let other = body.replace("\"attributes\"", "\"timeUnixNano\": \"1\", \"attributes\"");
        let lost = handle.export(Signal::Logs, Encoding::Json, false, Bytes::from(other)).await;
        assert!(matches!(lost, Err(ExportError::Stopped)), "{lost:?}");
        stop.cancel();
        owner.await.expect("ends");
    }
}
