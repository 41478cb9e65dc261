//! How the rest of the program talks to the engine: messages into three bounded queues, answers back.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::view::View;
use super::{AlertFilter, AlertView, QuietError, Settings};
use crate::ingest::{DecodedPush, UsageBatch};
use crate::machine::Explanation;
use crate::model::{Batch, Fingerprint, Hook, PollReport, Rejected, Silence, TelemetryUpdate};
use crate::store::StoreError;

/// Sends to the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    bulk: mpsc::Sender<Bulk>,
    control: mpsc::Sender<Control>,
    hooks: mpsc::Sender<Hook>,
}

/// The queues' other ends, for the engine.
#[derive(Debug)]
pub struct Queues {
    /// State.
    pub bulk: mpsc::Receiver<Bulk>,
    /// Readers and control.
    pub control: mpsc::Receiver<Control>,
    /// Hooks. They overtake [`Bulk`], and no reader overtakes them.
    pub hooks: mpsc::Receiver<Hook>,
}

/// State that comes in. Served in order.
#[derive(Debug)]
pub enum Bulk {
    /// A pushed state.
    State(DecodedPush<Batch<'static>>, Turn, oneshot::Sender<Result<Accepted, IngestError>>),
    /// Pushed increments of usage.
    Usage(DecodedPush<UsageBatch<'static>>, Turn, oneshot::Sender<Result<(Accepted, Logged), IngestError>>),
    /// The outcome of a poll.
    Poll(PollReport),
    /// What an export of telemetry says of agents, and who waits until it was applied.
    Telemetry(TelemetryUpdate, oneshot::Sender<()>),
}

/// What overtakes state that waits.
#[derive(Debug)]
pub enum Control {
    /// A reader wants the picture as it is now.
    View(oneshot::Sender<Arc<View>>),
    /// Whether alerts are judged and told.
    Health(oneshot::Sender<Result<(), String>>),
    /// A reader wants the alerts that are not over.
    Alerts(AlertFilter, oneshot::Sender<Vec<AlertView>>),
    /// Judging and polling are resumed or paused, and by whom.
    Monitoring(bool, String, oneshot::Sender<()>),
    /// About silences, acknowledgements, and why.
    Quiet(Quiet),
    /// The configuration changed.
    Reload(Box<Settings>, oneshot::Sender<()>),
    /// Panics, for tests of what becomes of the program then.
    #[cfg(test)]
    Panic,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, QuietError>>;

/// A question or wish about quiet.
#[derive(Debug)]
pub enum Quiet {
    /// The silences that are not over.
    Silences(oneshot::Sender<Vec<Silence>>),
    /// Begin this silence, or change the one of its id.
    Begin(Box<Silence>, Reply<()>),
    /// End the silence of this id; who says so.
    End(String, String, Reply<()>),
    /// Somebody looks after an alert: which, who, what they say.
    Acknowledge(Fingerprint, String, String, Reply<()>),
    /// How every receiver stands to an alert.
    Explain(Fingerprint, oneshot::Sender<Option<Box<Explanation>>>),
}

/// Held by an update that was decoded from a large body until it is applied: what it takes in memory is not taken twice.
pub type Turn = Option<OwnedSemaphorePermit>;

/// Answers once what was taken in outlives the process.
pub type Logged = oneshot::Receiver<Result<(), StoreError>>;

/// How long a body of usage may take to be on disk before its sender is answered that it is not.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// What of a body was taken in.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Accepted {
    /// Agents, components or increments taken.
    pub accepted: usize,
    /// What was not taken, and why; at most 100 are named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejected>,
    /// Whether it is known that the store could not take it, so that it ends with the process.
    #[serde(skip)]
    pub in_memory_only: bool,
    /// How many more there were.
    #[serde(skip_serializing_if = "is_zero")]
    pub unlisted: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Why a body was not taken in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IngestError {
    /// It would pass the series cap: 429.
    #[error("{0}")]
    Full(String),
    /// The queue is full: 503.
    #[error("too many updates are waiting; try again in a second")]
    Busy,
    /// The program stops: 503.
    #[error("shutting down")]
    Stopped,
}

/// The engine no longer answers: the program stops.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("shutting down")]
pub struct Stopped;

impl Handle {
    /// A handle and the queues' other ends. `bulk`, `control` and `hooks` are the queues' bounds.
    pub fn new(bulk: usize, control: usize, hooks: usize) -> (Self, Queues) {
        let (bulk, bulk_end) = mpsc::channel(bulk);
        let (control, control_end) = mpsc::channel(control);
        let (hooks, hooks_end) = mpsc::channel(hooks);
        (Self { bulk, control, hooks }, Queues { bulk: bulk_end, control: control_end, hooks: hooks_end })
    }

    /// Hands over a hook without waiting for anything; false when too many wait already, or the program stops. A read
    /// that begins after this returned sees what the hook says.
    pub fn hook(&self, hook: Hook) -> bool {
        self.hooks.try_send(hook).is_ok()
    }

    /// Applies a pushed state; a read that begins after this returned sees it.
    pub async fn push_state(&self, state: DecodedPush<Batch<'static>>, turn: Turn) -> Result<Accepted, IngestError> {
        self.ingest(|reply| Bulk::State(state, turn, reply)).await
    }

    /// Applies pushed usage; a read that begins after this returned sees it, and so does the next start, unless the
    /// answer says otherwise.
    pub async fn push_usage(
        &self,
        usage: DecodedPush<UsageBatch<'static>>,
        turn: Turn,
    ) -> Result<Accepted, IngestError> {
        let (accepted, logged) = self.ingest(|reply| Bulk::Usage(usage, turn, reply)).await?;
        // Increments are sent once: whoever is answered need not remember them.
        let is_logged =
            accepted.accepted == 0 || matches!(tokio::time::timeout(LOG_PATIENCE, logged).await, Ok(Ok(Ok(()))));
        Ok(Accepted { in_memory_only: !is_logged, ..accepted })
    }

    async fn ingest<T>(
        &self,
        event: impl FnOnce(oneshot::Sender<Result<T, IngestError>>) -> Bulk,
    ) -> Result<T, IngestError> {
        let (reply, answer) = oneshot::channel();
        self.bulk.try_send(event(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => IngestError::Busy,
            mpsc::error::TrySendError::Closed(_) => IngestError::Stopped,
        })?;
        answer.await.unwrap_or(Err(IngestError::Stopped))
    }

    /// Takes in the outcome of a poll; waits while the queue is full.
    pub async fn poll(&self, report: PollReport) -> Result<(), Stopped> {
        self.bulk.send(Bulk::Poll(report)).await.map_err(|_| Stopped)
    }

    /// Takes in what telemetry says of agents; waits while the queue is full. A read that begins after `done` was sent
    /// sees it.
    pub async fn telemetry(&self, distilled: TelemetryUpdate, done: oneshot::Sender<()>) -> Result<(), Stopped> {
        self.bulk.send(Bulk::Telemetry(distilled, done)).await.map_err(|_| Stopped)
    }

    /// The picture as it is now.
    pub async fn view(&self) -> Result<Arc<View>, Stopped> {
        self.ask(Control::View).await
    }

    /// Whether alerts are judged and can be told; the error says what is amiss.
    pub async fn health(&self) -> Result<Result<(), String>, Stopped> {
        self.ask(Control::Health).await
    }

    /// The alerts that are not over, worst first, then newest first.
    pub async fn alerts(&self, filter: AlertFilter) -> Result<Vec<AlertView>, Stopped> {
        self.ask(|reply| Control::Alerts(filter, reply)).await
    }

    /// Resumes (`true`) or pauses judging and polling; `by` is who says so.
    pub async fn set_monitoring(&self, on: bool, by: String) -> Result<(), Stopped> {
        self.ask(|reply| Control::Monitoring(on, by, reply)).await
    }

    /// The silences that are not over, those that end first in front.
    pub async fn silences(&self) -> Result<Vec<Silence>, Stopped> {
        self.ask(|reply| Control::Quiet(Quiet::Silences(reply))).await
    }

    /// Begins `silence`, or changes the one of its id; returns once that is on disk.
    pub async fn silence(&self, silence: Silence) -> Result<Result<(), QuietError>, Stopped> {
        self.ask(|reply| Control::Quiet(Quiet::Begin(Box::new(silence), reply))).await
    }

    /// Ends the silence of that id; returns once that is on disk.
    pub async fn unsilence(&self, id: String, by: String) -> Result<Result<(), QuietError>, Stopped> {
        self.ask(|reply| Control::Quiet(Quiet::End(id, by, reply))).await
    }

    /// Notes that `by` looks after an alert; returns once that is on disk.
    pub async fn acknowledge(
        &self,
        fingerprint: Fingerprint,
        by: String,
        comment: String,
    ) -> Result<Result<(), QuietError>, Stopped> {
        self.ask(|reply| Control::Quiet(Quiet::Acknowledge(fingerprint, by, comment, reply))).await
    }

    /// How every receiver stands to an alert; `None` when it is not known any more.
    pub async fn explain(&self, fingerprint: Fingerprint) -> Result<Option<Box<Explanation>>, Stopped> {
        self.ask(|reply| Control::Quiet(Quiet::Explain(fingerprint, reply))).await
    }

    /// Takes over other settings.
    pub async fn reload(&self, settings: Settings) -> Result<(), Stopped> {
        self.ask(|reply| Control::Reload(Box::new(settings), reply)).await
    }

    /// Has the engine panic.
    #[cfg(test)]
    pub(crate) async fn panic(&self) {
        self.control.send(Control::Panic).await.expect("an engine");
    }

    /// How many events wait in each queue.
    pub fn queues(&self) -> [(&'static str, usize); 3] {
        let bulk = self.bulk.max_capacity() - self.bulk.capacity();
        let hooks = self.hooks.max_capacity() - self.hooks.capacity();
        [("bulk", bulk), ("control", self.control.max_capacity() - self.control.capacity()), ("hooks", hooks)]
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Control) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.control.send(message(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_that_finds_its_queue_full_is_turned_away_at_once() {
        let (handle, mut queues) = Handle::new(1, 1, 2);
        let stopped = Hook {
            project: "shop".into(),
            agent: "a".into(),
            agent_type: "t".into(),
            session: 1,
            subagent: None,
            event: crate::model::hook::SessionEvent::Alive,
            retry_at: None,
            stop: None,
        };
        let hook = || handle.hook(stopped.clone());
        assert_eq!([hook(), hook(), hook()], [true, true, false]);
        assert_eq!(handle.queues(), [("bulk", 0), ("control", 0), ("hooks", 2)], "the other queues keep their room");
        drop(queues.hooks.try_recv());
        assert_eq!([hook(), hook()], [true, false], "there is room again");
        drop(queues);
        assert!(!hook(), "nobody listens any more");
    }
}
