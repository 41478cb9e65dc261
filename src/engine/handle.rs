//! The engine's interface: messages into three bounded queues, and their answers.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::live::{CoveredAlerts, LiveQuery};
use super::view::View;
use super::{AlertFilter, AlertView, EngineSettings, SilenceError};
use crate::ingest::{CustomBatch, DecodedPush, UsageBatch};
use crate::machine::AlertExplanation;
use crate::model::{
    Alert, Batch, Fingerprint, Hook, Matchers, PollReport, Rejected, RunSummary, Silence, TelemetryUpdate,
};
use crate::store::StoreError;

/// Sends to the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    bulk: mpsc::Sender<Bulk>,
    control: mpsc::Sender<Control>,
    hooks: mpsc::Sender<Hook>,
}

/// The receiving ends of the queues, for the engine.
#[derive(Debug)]
pub struct Queues {
    /// Pushes, polls and telemetry.
    pub bulk: mpsc::Receiver<Bulk>,
    /// Readers and control.
    pub control: mpsc::Receiver<Control>,
    /// Hooks. They overtake [`Bulk`], and no reader overtakes them.
    pub hooks: mpsc::Receiver<Hook>,
}

/// A push, poll or telemetry update. Handled in order.
#[derive(Debug)]
pub enum Bulk {
    /// A pushed state.
    State(DecodedPush<Batch<'static>>, DecodePermit, oneshot::Sender<Result<Accepted, IngestError>>),
    /// Pushed increments of usage.
    Usage(DecodedPush<UsageBatch<'static>>, DecodePermit, oneshot::Sender<Result<(Accepted, Logged), IngestError>>),
    /// Pushed custom metrics.
    Metrics(DecodedPush<CustomBatch>, DecodePermit, oneshot::Sender<Result<Accepted, IngestError>>),
    /// The outcome of a poll.
    Poll(PollReport),
    /// Runs that began or ended.
    Runs(Vec<RunSummary>),
    /// The agents' part of an export of telemetry, and a channel for when it was applied.
    Telemetry(TelemetryUpdate, oneshot::Sender<()>),
}

/// A read or a change by people. Overtakes [`Bulk`].
#[derive(Debug)]
pub enum Control {
    /// The view of fleet, alerts and receivers.
    View(oneshot::Sender<Arc<View>>),
    /// Whether alerts are evaluated and delivered.
    Health(oneshot::Sender<Result<(), String>>),
    /// The pending and firing alerts that match.
    Alerts(AlertFilter, oneshot::Sender<Vec<AlertView>>),
    /// Alerts for the stream of events.
    Live(LiveQuery),
    /// Resumes (`true`) or pauses evaluation and polling, with the author.
    Monitoring(bool, String, oneshot::Sender<()>),
    /// About silences, acknowledgements, and notifications of an alert.
    Silence(SilenceCommand),
    /// The configuration changed.
    Reload(Box<EngineSettings>, oneshot::Sender<()>),
    /// Panics, for tests of what the program does then.
    #[cfg(test)]
    Panic,
}

pub(super) type SilenceReply<T> = oneshot::Sender<Result<T, SilenceError>>;

/// A request about silences, acknowledgements, or the notifications of an alert.
#[derive(Debug)]
pub enum SilenceCommand {
    /// The active and future silences.
    Silences(oneshot::Sender<Vec<Silence>>),
    /// Create this silence, or change the one with its id.
    Begin(Box<Silence>, SilenceReply<()>),
    /// Expire the silence with this id, with the author.
    End(String, String, SilenceReply<()>),
    /// Acknowledge an alert: its fingerprint, the author, the comment.
    Acknowledge(Fingerprint, String, String, SilenceReply<()>),
    /// What each receiver was notified of an alert.
    NotificationStatuses(Fingerprint, oneshot::Sender<Option<Box<AlertExplanation>>>),
}

/// A permit to decode a large body, held until the update is applied: it bounds the memory of large updates.
pub type DecodePermit = Option<OwnedSemaphorePermit>;

/// Answers once ingested usage is on disk.
pub type Logged = oneshot::Receiver<Result<(), StoreError>>;

/// How long a body of usage may take to be on disk before its sender is answered that it is not.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// What of a body was accepted and rejected.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Accepted {
    /// How many agents, components or increments were accepted.
    pub accepted: usize,
    /// What was rejected, and why; at most 100 are listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejected>,
    /// Whether the store could not write it, so that it is lost when the process ends.
    #[serde(skip)]
    pub in_memory_only: bool,
    /// How many more were rejected.
    #[serde(skip_serializing_if = "is_zero")]
    pub unlisted: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Why a body was rejected.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IngestError {
    /// It would exceed the series limit: 429.
    #[error("{0}")]
    Full(String),
    /// The queue is full: 503.
    #[error("too many updates are waiting; try again in a second")]
    Busy,
    /// The program is shutting down: 503.
    #[error("shutting down")]
    Stopped,
}

/// The engine no longer answers: the program is shutting down.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("shutting down")]
pub struct Stopped;

impl EngineHandle {
    /// A handle and the receiving ends of its queues, with these capacities.
    pub fn new(bulk: usize, control: usize, hooks: usize) -> (Self, Queues) {
        let (bulk, bulk_end) = mpsc::channel(bulk);
        let (control, control_end) = mpsc::channel(control);
        let (hooks, hooks_end) = mpsc::channel(hooks);
        (Self { bulk, control, hooks }, Queues { bulk: bulk_end, control: control_end, hooks: hooks_end })
    }

    /// Sends a hook without waiting; false if its queue is full, or the program is shutting down. A read that begins after
    /// this returned sees its effect.
    pub fn hook(&self, hook: Hook) -> bool {
        self.hooks.try_send(hook).is_ok()
    }

    /// Applies a pushed state. A read that begins after this returned sees its effect.
    pub async fn push_state(
        &self,
        state: DecodedPush<Batch<'static>>,
        turn: DecodePermit,
    ) -> Result<Accepted, IngestError> {
        self.ingest(|reply| Bulk::State(state, turn, reply)).await
    }

    /// Applies pushed usage. A read that begins after this returned sees its effect, and so does the next start, unless the
    /// answer has `in_memory_only`.
    pub async fn push_usage(
        &self,
        usage: DecodedPush<UsageBatch<'static>>,
        turn: DecodePermit,
    ) -> Result<Accepted, IngestError> {
        let (accepted, logged) = self.ingest(|reply| Bulk::Usage(usage, turn, reply)).await?;
        // Increments are sent once: the sender drops them when it is answered.
        let is_logged =
            accepted.accepted == 0 || matches!(tokio::time::timeout(LOG_TIMEOUT, logged).await, Ok(Ok(Ok(()))));
        Ok(Accepted { in_memory_only: !is_logged, ..accepted })
    }

    /// Applies pushed custom metrics. A read that begins after this returned sees their effect.
    pub async fn push_metrics(
        &self,
        metrics: DecodedPush<CustomBatch>,
        turn: DecodePermit,
    ) -> Result<Accepted, IngestError> {
        self.ingest(|reply| Bulk::Metrics(metrics, turn, reply)).await
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

    /// Sends the outcome of a poll; waits while the queue is full.
    pub async fn poll(&self, report: PollReport) -> Result<(), Stopped> {
        self.bulk.send(Bulk::Poll(report)).await.map_err(|_| Stopped)
    }

    /// Sends runs that began or ended without waiting; what does not fit into the queue is returned, to be sent later.
    pub fn runs(&self, runs: Vec<RunSummary>) -> Vec<RunSummary> {
        match self.bulk.try_send(Bulk::Runs(runs)) {
            Err(mpsc::error::TrySendError::Full(Bulk::Runs(runs))) => runs,
            _ => Vec::new(),
        }
    }

    /// Sends the agents' part of telemetry; waits while the queue is full. A read that begins after `done` was answered
    /// sees its effect.
    pub async fn telemetry(&self, distilled: TelemetryUpdate, done: oneshot::Sender<()>) -> Result<(), Stopped> {
        self.bulk.send(Bulk::Telemetry(distilled, done)).await.map_err(|_| Stopped)
    }

    /// The current view.
    pub async fn view(&self) -> Result<Arc<View>, Stopped> {
        self.ask(Control::View).await
    }

    /// Whether alerts are evaluated and can be delivered; the error gives the reason.
    pub async fn health(&self) -> Result<Result<(), String>, Stopped> {
        self.ask(Control::Health).await
    }

    /// The pending and firing alerts, highest level first, then newest first.
    pub async fn alerts(&self, filter: AlertFilter) -> Result<Vec<AlertView>, Stopped> {
        self.ask(|reply| Control::Alerts(filter, reply)).await
    }

    /// These alerts as the API shows them.
    pub async fn alert_views(&self, alerts: Vec<Alert>) -> Result<Vec<AlertView>, Stopped> {
        self.ask(|reply| Control::Live(LiveQuery::Views(alerts, reply))).await
    }

    /// The alerts of these fingerprints that are kept.
    pub async fn alerts_named(&self, fingerprints: Vec<Fingerprint>) -> Result<Vec<AlertView>, Stopped> {
        self.ask(|reply| Control::Live(LiveQuery::Named(fingerprints, reply))).await
    }

    /// What a silence with `matchers` would cover of the alerts there are.
    pub async fn covered_alerts(&self, matchers: Matchers) -> Result<CoveredAlerts, Stopped> {
        self.ask(|reply| Control::Live(LiveQuery::Covered(matchers, reply))).await
    }

    /// Up to `limit` of the pending and firing alerts, highest level first, then newest first.
    pub async fn worst_alerts(&self, limit: usize) -> Result<Vec<Fingerprint>, Stopped> {
        self.ask(|reply| Control::Live(LiveQuery::Worst(limit, reply))).await
    }

    /// The pending and firing alerts, each with the id of the silence that matches it.
    pub async fn silenced(&self) -> Result<Vec<(Fingerprint, Option<Arc<str>>)>, Stopped> {
        self.ask(|reply| Control::Live(LiveQuery::Silenced(reply))).await
    }

    /// Resumes (`true`) or pauses evaluation and polling, on behalf of `by`.
    pub async fn set_monitoring(&self, on: bool, by: String) -> Result<(), Stopped> {
        self.ask(|reply| Control::Monitoring(on, by, reply)).await
    }

    /// The active and future silences, ordered by their end.
    pub async fn silences(&self) -> Result<Vec<Silence>, Stopped> {
        self.ask(|reply| Control::Silence(SilenceCommand::Silences(reply))).await
    }

    /// Creates `silence`, or changes the one with its id; returns once that is on disk.
    pub async fn silence(&self, silence: Silence) -> Result<Result<(), SilenceError>, Stopped> {
        self.ask(|reply| Control::Silence(SilenceCommand::Begin(Box::new(silence), reply))).await
    }

    /// Expires the silence with that id; returns once that is on disk.
    pub async fn unsilence(&self, id: String, by: String) -> Result<Result<(), SilenceError>, Stopped> {
        self.ask(|reply| Control::Silence(SilenceCommand::End(id, by, reply))).await
    }

    /// Acknowledges an alert on behalf of `by`; returns once that is on disk.
    pub async fn acknowledge(
        &self,
        fingerprint: Fingerprint,
        by: String,
        comment: String,
    ) -> Result<Result<(), SilenceError>, Stopped> {
        self.ask(|reply| Control::Silence(SilenceCommand::Acknowledge(fingerprint, by, comment, reply))).await
    }

    /// What each receiver was notified of an alert; `None` when it is not known.
    pub async fn explain(&self, fingerprint: Fingerprint) -> Result<Option<Box<AlertExplanation>>, Stopped> {
        self.ask(|reply| Control::Silence(SilenceCommand::NotificationStatuses(fingerprint, reply))).await
    }

    /// Replaces the settings.
    pub async fn reload(&self, settings: EngineSettings) -> Result<(), Stopped> {
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
    fn a_hook_is_rejected_at_once_when_its_queue_is_full() {
        let (handle, mut queues) = EngineHandle::new(1, 1, 2);
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
        assert!(!hook(), "the engine is gone");
    }
}
