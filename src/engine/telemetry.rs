//! The one owner of the streams: exports wait in a bounded queue, readers overtake them.
//!
//! Refuses to let exports pile up: what finds the queue full is told to come back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::telemetry::Telemetry;
use crate::model::{RejectReason, TelemetryChannels, TelemetryUpdate};
use crate::otlp::config::OtlpConfig;
use crate::otlp::{Encoding, ExportOutcome, OtlpDecodeError, OtlpRequest, Signal, StreamTable, decode_counted};
use crate::profiles::identity::SenderIdentity;
use crate::profiles::{Profiles, callback};

/// Exports that may wait.
const EXPORTS: usize = 256;
/// Readers and settings that may wait.
const READERS: usize = 64;
/// How often streams that fell silent are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// Sends to the owner. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    exports: mpsc::Sender<Export>,
    readers: mpsc::Sender<Reader>,
}

/// The queues' other ends.
#[derive(Debug)]
pub struct Inbox {
    exports: mpsc::Receiver<Export>,
    readers: mpsc::Receiver<Reader>,
}

/// What a body holds.
#[derive(Debug)]
enum Holds {
    /// An export of OTLP, and whether it is gzip.
    Export(Signal, Encoding, bool),
    /// Calls of LiteLLM's callback, and what their sender says of itself.
    Calls(SenderIdentity),
}

/// A body that waits.
#[derive(Debug)]
struct Export {
    holds: Holds,
    body: Bytes,
    reply: oneshot::Sender<Result<(ExportOutcome, Option<Applied>), ExportError>>,
}

/// Is over when it was applied.
type Applied = oneshot::Receiver<()>;

/// What overtakes exports.
#[derive(Debug)]
enum Reader {
    Snapshot(oneshot::Sender<Arc<Telemetry>>),
    Reception(oneshot::Sender<Vec<TelemetryChannels>>),
    Configure(Box<OtlpConfig>),
    /// Panics, for tests of what becomes of the program then.
    #[cfg(test)]
    Panic,
}

/// Why an export was not taken in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExportError {
    /// It can't be read, or is too large.
    #[error(transparent)]
    Decode(#[from] OtlpDecodeError),
    /// Too many wait already.
    #[error("too many exports are waiting; try again in a second")]
    Busy,
    /// The program stops.
    #[error("shutting down")]
    Stopped,
}

impl Handle {
    /// A handle and the queues' other ends.
    pub fn new() -> (Self, Inbox) {
        let (exports, exports_end) = mpsc::channel(EXPORTS);
        let (readers, readers_end) = mpsc::channel(READERS);
        (Self { exports, readers }, Inbox { exports: exports_end, readers: readers_end })
    }

    /// Takes in a body. A read that begins after this returned sees it, its series as well as what it says of agents.
    pub async fn export(
        &self,
        signal: Signal,
        encoding: Encoding,
        is_gzip: bool,
        body: Bytes,
    ) -> Result<ExportOutcome, ExportError> {
        self.take(Holds::Export(signal, encoding, is_gzip), body).await
    }

    /// Takes in the calls that LiteLLM's generic API callback posts.
    pub async fn litellm(&self, sender: SenderIdentity, body: Bytes) -> Result<ExportOutcome, ExportError> {
        self.take(Holds::Calls(sender), body).await
    }

    async fn take(&self, holds: Holds, body: Bytes) -> Result<ExportOutcome, ExportError> {
        let (reply, answer) = oneshot::channel();
        self.exports.try_send(Export { holds, body, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ExportError::Busy,
            mpsc::error::TrySendError::Closed(_) => ExportError::Stopped,
        })?;
        let (taken, applied) = answer.await.unwrap_or(Err(ExportError::Stopped))?;
        match applied {
            Some(applied) => applied.await.map(|()| taken).map_err(|_| ExportError::Stopped),
            None => Ok(taken),
        }
    }

    /// What was received so far; nothing once the program stops.
    pub async fn snapshot(&self) -> Arc<Telemetry> {
        let (reply, answer) = oneshot::channel();
        match self.readers.send(Reader::Snapshot(reply)).await {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => Arc::default(),
        }
    }

    /// Which signals of which agents arrived so far; none once the program stops.
    pub async fn receptions(&self) -> Vec<TelemetryChannels> {
        let (reply, answer) = oneshot::channel();
        match self.readers.send(Reader::Reception(reply)).await {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Takes over other settings; `false` when the program stops.
    pub async fn configure(&self, config: &OtlpConfig) -> bool {
        self.readers.send(Reader::Configure(Box::new(config.clone()))).await.is_ok()
    }

    /// Has the owner panic.
    #[cfg(test)]
    pub(crate) async fn panic(&self) {
        self.readers.send(Reader::Panic).await.expect("an owner");
    }

    /// How many exports wait.
    pub fn waiting(&self) -> usize {
        self.exports.max_capacity() - self.exports.capacity()
    }
}

/// Serves both queues until `stop` or until nobody is left who could send. Bodies of more than `limit` bytes are refused.
///
/// What the exports say of agents goes to `engine`; while its queue is full, exports wait, and then senders. Whoever sent
/// one is answered once that was applied; the next export does not wait for it.
pub async fn run(
    mut inbox: Inbox,
    (mut table, mut profiles): (StreamTable, Profiles),
    engine: super::Handle,
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
                Some(Reader::Snapshot(reply)) => {
                    // A reader that went away needs no answer.
                    drop(reply.send(table.snapshot(clock.now())));
                }
                Some(Reader::Reception(reply)) => drop(reply.send(profiles.receptions())),
                Some(Reader::Configure(config)) => {
                    table.configure(&config);
                    profiles.configure(&config);
                }
                #[cfg(test)]
                Some(Reader::Panic) => panic!("a test of what a panic does"),
                None => return,
            },
            _ = expiry.tick() => table.expire(clock.now()),
            export = inbox.exports.recv() => {
                let Some(export) = export else { return };
                let answer = match take(&mut table, &mut profiles, &clock, limit, &export) {
                    Ok((taken, distilled)) if distilled.agents.is_empty() && distilled.counting.is_empty() => Ok((taken, None)),
                    Ok((taken, distilled)) => {
                        let (done, applied) = oneshot::channel();
                        if engine.telemetry(distilled, done).await.is_err() {
                            return;
                        }
                        Ok((taken, Some(applied)))
                    }
                    Err(error) => Err(error),
                };
                drop(export.reply.send(answer));
                // Others of this thread get their turn between two exports.
                tokio::task::yield_now().await;
            }
        }
    }
}

fn take(
    table: &mut StreamTable,
    profiles: &mut Profiles,
    clock: &Clock,
    limit: usize,
    export: &Export,
) -> Result<(ExportOutcome, TelemetryUpdate), ExportError> {
    let now = clock.now();
    let (signal, encoding, is_gzip) = match &export.holds {
        Holds::Export(signal, encoding, is_gzip) => (*signal, *encoding, *is_gzip),
        Holds::Calls(sender) => {
            let calls = callback::decode(sender.attributes(), &export.body)
                .map_err(|error| OtlpDecodeError::Malformed(error.to_string()))?;
            let mut taken = ExportOutcome::all_accepted(calls.accepted);
            taken.reject(RejectReason::Malformed, calls.malformed);
            let agents = profiles.extract_callback(now, &calls.request);
            return Ok((taken, TelemetryUpdate { agents, counting: profiles.take_counting() }));
        }
    };
    let (request, unread) = decode_counted(signal, encoding, is_gzip, &export.body, limit)?;
    let mut taken = match &request {
        OtlpRequest::Metrics(metrics) => table.apply(now, metrics),
        OtlpRequest::Traces(_) | OtlpRequest::Logs(_) => ExportOutcome::all_accepted(request.items()),
    };
    taken.undecodable_values = unread as u64;
    let agents = profiles.extract(now, &request);
    Ok((taken, TelemetryUpdate { agents, counting: profiles.take_counting() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    #[tokio::test]
    async fn an_export_is_answered_once_its_agents_are_as_it_says() {
        let (handle, inbox) = Handle::new();
        let (engine, mut queues) = super::super::Handle::new(4, 1, 1);
        let now = Time::parse("2026-11-29T12:00:00Z").expect("a time");
        let config = OtlpConfig::default();
        let parts = (StreamTable::new(1, &config), Profiles::new(now, &config));
        let stop = CancellationToken::new();
        let owner = tokio::spawn(run(inbox, parts, engine, Clock::system(), 1_000_000, stop.clone()));
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
        assert!(!early, "nobody has applied it");
        done.send(()).expect("somebody waits");
        assert_eq!(export.await.expect("taken").accepted, 1);
        // Of what nobody can apply any more its sender is not told that it was taken.
        drop(queues);
        let other = body.replace("\"attributes\"", "\"timeUnixNano\": \"1\", \"attributes\"");
        let lost = handle.export(Signal::Logs, Encoding::Json, false, Bytes::from(other)).await;
        assert!(matches!(lost, Err(ExportError::Stopped)), "{lost:?}");
        stop.cancel();
        owner.await.expect("ends");
    }
}
