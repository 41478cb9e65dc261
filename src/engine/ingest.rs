//! Ingestion: updates are recorded, applied and evaluated by the machine, counted and answered.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::handle::{Bulk, DecodePermit, Logged};
use super::{Accepted, Engine, IngestError};
use crate::clock::Stopwatch;
use crate::fleet::{ChunkedPush, IngestOutcome};
use crate::ingest::{self, CustomBatch, DecodedPush, UsageBatch};
use crate::machine::MachineEvent;
use crate::model::{
    CustomUpdate, Hook, InputKind, PollReport, RecordedInput, RejectReason, TelemetryUpdate, Time, UsageUpdate,
};
use crate::store::UsageBody;

/// Agents, increments or custom metrics that are applied in one part: about a millisecond of work.
const PART: usize = 512;

type IngestReply<T> = oneshot::Sender<Result<T, IngestError>>;

/// A large update that is being applied part by part; hooks, readers and the network are served between two parts.
#[derive(Debug)]
pub(super) enum Applying {
    /// A state.
    State(ChunkedPush<'static>, DecodePermit, IngestReply<Accepted>),
    /// Increments of usage.
    Usage {
        project: Cow<'static, str>,
        rest: std::vec::IntoIter<UsageUpdate<'static>>,
        taken: IngestOutcome,
        body: Bytes,
        turn: DecodePermit,
        reply: IngestReply<(Accepted, Logged)>,
    },
    /// Custom metrics.
    Metrics {
        rest: std::vec::IntoIter<CustomUpdate>,
        taken: IngestOutcome,
        turn: DecodePermit,
        reply: IngestReply<Accepted>,
    },
}

impl Engine {
    /// Handles one event of the bulk queue. Of a large update only the start: it is applied part by part.
    pub(super) fn take_bulk(&mut self, now: Time, event: Bulk) {
        match event {
            Bulk::State(DecodedPush { update, body }, turn, reply) => {
                if let Some(recorder) = &self.recorder {
                    recorder.record(now, RecordedInput::State(body));
                }
                if update.agents.len() > PART {
                    self.applying = Some(Applying::State(update.into(), turn, reply));
                    return;
                }
                let taken = self.update(now, MachineEvent::State(update));
                self.answer_batch(InputKind::State, taken, reply);
            }
            Bulk::Usage(DecodedPush { update, body }, turn, reply) => {
                if let Some(recorder) = &self.recorder {
                    recorder.record(now, RecordedInput::Usage(body.clone()));
                }
                if update.usage.len() > PART {
                    let UsageBatch { project, usage, rejected } = update;
                    let (rest, mut taken) = (usage.into_iter(), IngestOutcome::default());
                    taken.add_rejected(rejected);
                    self.applying = Some(Applying::Usage { project, rest, taken, body, turn, reply });
                    return;
                }
                let taken = self.update(now, MachineEvent::Usage(update));
                self.answer_usage(now, taken, body, reply);
            }
            Bulk::Metrics(DecodedPush { update, body }, turn, reply) => {
                if let Some(recorder) = &self.recorder {
                    recorder.record(now, RecordedInput::Metrics(body));
                }
                if update.metrics.len() > PART {
                    let CustomBatch { metrics, rejected } = update;
                    let (rest, mut taken) = (metrics.into_iter(), IngestOutcome::default());
                    taken.add_rejected(rejected);
                    self.applying = Some(Applying::Metrics { rest, taken, turn, reply });
                    return;
                }
                let taken = self.update(now, MachineEvent::Metrics(update));
                self.answer_batch(InputKind::Custom, taken, reply);
            }
            Bulk::Poll(report) => self.poll(now, report),
            Bulk::Runs(runs) => {
                if let Some(recorder) = &self.recorder {
                    recorder.record(now, RecordedInput::Runs(runs.clone()));
                }
                let taken = self.update(now, MachineEvent::Runs(runs));
                self.count(InputKind::Runs, &taken);
                for rejected in &taken.rejected {
                    tracing::debug!(name = rejected.name, error = rejected.error, "run of an agent rejected");
                }
            }
            Bulk::Telemetry(TelemetryUpdate { agents, counting }, done) => {
                self.machine.note_counting(counting);
                let taken = self.update(now, MachineEvent::Telemetry(agents));
                self.count(InputKind::Telemetry, &taken);
                for rejected in &taken.rejected {
                    tracing::debug!(name = rejected.name, error = rejected.error, "telemetry rejected");
                }
                // The sender may have gone away.
                self.committer.answer(move || _ = done.send(()));
            }
        }
    }

    /// Applies the next part of a large update; answers its sender after the last one.
    pub(super) fn apply_part(&mut self, now: Time) {
        let Some(mut applying) = self.applying.take() else { return };
        let event = match &mut applying {
            Applying::State(push, ..) => MachineEvent::StatePart(push, PART),
            Applying::Usage { project, rest, .. } => MachineEvent::Usage(UsageBatch {
                project: project.clone(),
                usage: rest.by_ref().take(PART).collect(),
                rejected: Vec::new(),
            }),
            Applying::Metrics { rest, .. } => {
                MachineEvent::Metrics(CustomBatch { metrics: rest.by_ref().take(PART).collect(), rejected: Vec::new() })
            }
        };
        let watch = Stopwatch::start();
        let mut effects = self.machine.step(now, event);
        self.own.evaluated(watch.elapsed());
        self.held.append(&mut effects.alerts);
        let part = self.release(effects).unwrap_or_default();
        match applying {
            Applying::State(push, turn, reply) if push.is_done() => {
                self.release_held();
                drop(turn);
                self.answer_batch(InputKind::State, push.into_outcome(), reply);
            }
            Applying::Usage { rest, mut taken, body, turn, reply, .. } if rest.len() == 0 => {
                self.release_held();
                drop(turn);
                taken.merge(part);
                self.answer_usage(now, taken, body, reply);
            }
            Applying::Metrics { rest, mut taken, turn, reply } if rest.len() == 0 => {
                self.release_held();
                drop(turn);
                taken.merge(part);
                self.answer_batch(InputKind::Custom, taken, reply);
            }
            mut unfinished => {
                if let Applying::Usage { taken, .. } | Applying::Metrics { taken, .. } = &mut unfinished {
                    taken.merge(part);
                }
                self.applying = Some(unfinished);
            }
        }
    }

    fn release_held(&mut self) {
        for effects in std::mem::take(&mut self.held) {
            self.release_alerts(effects);
        }
    }

    fn answer_batch(&mut self, input: InputKind, taken: IngestOutcome, reply: IngestReply<Accepted>) {
        let answer = self.answer(input, taken);
        // The sender may have gone away.
        self.committer.answer(move || drop(reply.send(answer)));
    }

    fn answer_usage(&mut self, now: Time, taken: IngestOutcome, body: Bytes, reply: IngestReply<(Accepted, Logged)>) {
        // Logged before the next save, which contains its effect and is marked with its sequence number.
        let logged = if taken.accepted > 0 {
            self.usage_seq += 1;
            self.store.history.log_usage(UsageBody { seq: self.usage_seq, at: now, body })
        } else {
            oneshot::channel().1
        };
        let answer = self.answer(InputKind::Usage, taken).map(|accepted| (accepted, logged));
        // The sender may have gone away.
        self.committer.answer(move || drop(reply.send(answer)));
    }

    /// Handles one hook. Its sender was answered already.
    pub(super) fn take_hook(&mut self, now: Time, hook: Hook) {
        if let Some(stop) = &hook.stop {
            self.own.stopped(stop.budget.as_str());
        }
        if let Some(recorder) = &self.recorder {
            recorder.record(now, RecordedInput::Hook(hook.clone()));
        }
        for change in self.turns.apply(self.clock.wall(), &hook) {
            self.runs.turn(change);
        }
        let taken = self.update(now, MachineEvent::Hook(hook));
        self.count(InputKind::Hooks, &taken);
    }

    fn poll(&mut self, now: Time, report: PollReport) {
        if let Err(error) = &report.result {
            tracing::warn!(source = &*report.source, reason = error.reason.as_str(), error = %error, "poll failed");
        }
        if let Some(recorder) = &self.recorder {
            let result = report.result.as_ref().map(|batches| batches.iter().map(ingest::encode_state).collect());
            let result = result.map_err(Clone::clone);
            recorder.record(now, RecordedInput::Poll { source: Arc::clone(&report.source), result });
        }
        let (source, is_ok) = (Arc::clone(&report.source), report.result.is_ok());
        let before = self.machine.fleet().last_error(&source);
        let taken = self.update(now, MachineEvent::Poll(report));
        self.count(InputKind::Poll, &taken);
        // Logged once per error: the next poll would find the same.
        if let Some(error) = self.machine.fleet().last_error(&source).filter(|error| before.as_ref() != Some(error))
            && is_ok
        {
            tracing::warn!(source = &*source, error = &*error, "polled values rejected");
        }
        for rejected in &taken.rejected {
            tracing::debug!(
                source = &*source,
                subject = rejected.subject(),
                error = rejected.error,
                "polled value rejected"
            );
        }
    }

    /// Has the machine handle an update, and measures how long it takes. Updates are never rejected as a whole.
    fn update(&mut self, now: Time, event: MachineEvent<'_>) -> IngestOutcome {
        let watch = Stopwatch::start();
        let taken = self.step(now, event).unwrap_or_default();
        self.own.evaluated(watch.elapsed());
        taken
    }

    /// Counts the inputs that the recording dropped.
    pub(super) fn count_unrecorded(&self) {
        if let Some(recorder) = &self.recorder {
            self.own.record_dropped(recorder.take_dropped());
        }
    }

    fn count(&self, input: InputKind, taken: &IngestOutcome) {
        self.own.ingested(input, taken.accepted as u64);
        for (reason, count) in &taken.reasons {
            self.own.rejected(input, *reason, *count);
        }
    }

    /// The answer: what was accepted and rejected; an error only if all of it was rejected because of the series limit.
    fn answer(&self, input: InputKind, taken: IngestOutcome) -> Result<Accepted, IngestError> {
        self.count(input, &taken);
        match taken.rejected.first() {
            Some(first)
                if taken.accepted == 0
                    && taken.reasons.iter().all(|(reason, _)| *reason == RejectReason::SeriesCap) =>
            {
                Err(IngestError::Full(first.error.clone()))
            }
            _ => {
                let all: u64 = taken.reasons.iter().map(|(_, count)| count).sum();
                let unlisted = all.saturating_sub(taken.rejected.len() as u64);
                Ok(Accepted { accepted: taken.accepted, rejected: taken.rejected, unlisted, in_memory_only: false })
            }
        }
    }
}
