//! Updates that come in: recorded, applied and evaluated by the machine, counted, answered.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::handle::{Bulk, Logged};
use super::{Accepted, Engine, IngestError};
use crate::clock::Stopwatch;
use crate::fleet::Taken;
use crate::ingest::{self, Pushed, UsageBatch};
use crate::machine::Event;
use crate::model::{Arrival, Batch, Distilled, Hook, Input, PollReport, RejectReason, Time};
use crate::store::UsageBody;

impl Engine {
    /// Serves one event of the bulk queue.
    pub(super) fn take_bulk(&mut self, now: Time, event: Bulk) {
        match event {
            Bulk::State(state, turn, reply) => {
                let answer = self.push_state(now, state);
                drop(turn);
                // A sender that has gone away is not waiting for it.
                self.committer.answer(move || drop(reply.send(answer)));
            }
            Bulk::Usage(usage, turn, reply) => {
                let answer = self.push_usage(now, usage);
                drop(turn);
                // A sender that has gone away is not waiting for it.
                self.committer.answer(move || drop(reply.send(answer)));
            }
            Bulk::Poll(report) => self.poll(now, report),
            Bulk::Telemetry(Distilled { said, counting }, done) => {
                self.machine.unsaved().counting.merge(counting);
                let taken = self.update(now, Event::Telemetry(said));
                self.count(Input::Telemetry, &taken);
                for rejected in &taken.rejected {
                    tracing::debug!(name = rejected.name, error = rejected.error, "telemetry not taken");
                }
                // A sender that has gone away is not waiting for it.
                self.committer.answer(move || _ = done.send(()));
            }
        }
    }

    fn push_state(&mut self, now: Time, state: Pushed<Batch<'static>>) -> Result<Accepted, IngestError> {
        if let Some(recorder) = &self.recorder {
            recorder.note(now, Arrival::State(state.body));
        }
        let taken = self.update(now, Event::State(state.update));
        self.answer(Input::State, taken)
    }

    fn push_usage(
        &mut self,
        now: Time,
        Pushed { update, body }: Pushed<UsageBatch<'static>>,
    ) -> Result<(Accepted, Logged), IngestError> {
        if let Some(recorder) = &self.recorder {
            recorder.note(now, Arrival::Usage(body.clone()));
        }
        let taken = self.update(now, Event::Usage(update));
        // Before the next save, which holds its effect and says so.
        let logged = if taken.accepted > 0 {
            self.usage_seq += 1;
            self.store.history.log_usage(UsageBody { seq: self.usage_seq, at: now, body })
        } else {
            oneshot::channel().1
        };
        self.answer(Input::Usage, taken).map(|accepted| (accepted, logged))
    }

    /// Serves one hook, whose sender was answered before.
    pub(super) fn take_hook(&mut self, now: Time, hook: Hook) {
        if let Some(stop) = &hook.stop {
            self.own.stopped(stop.budget.as_str());
        }
        if let Some(recorder) = &self.recorder {
            recorder.note(now, Arrival::Hook(hook.clone()));
        }
        let taken = self.update(now, Event::Hook(hook));
        self.count(Input::Hooks, &taken);
    }

    fn poll(&mut self, now: Time, report: PollReport) {
        if let Err(error) = &report.result {
            tracing::warn!(source = &*report.source, reason = error.reason.as_str(), error = %error, "poll failed");
        }
        if let Some(recorder) = &self.recorder {
            let result = report.result.as_ref().map(|batches| batches.iter().map(ingest::encode_state).collect());
            let result = result.map_err(Clone::clone);
            recorder.note(now, Arrival::Poll { source: Arc::clone(&report.source), result });
        }
        let (source, is_ok) = (Arc::clone(&report.source), report.result.is_ok());
        let before = self.machine.fleet().last_error(&source);
        let taken = self.update(now, Event::Poll(report));
        self.count(Input::Poll, &taken);
        // Once, and again when something else can't be read: the next poll finds the same.
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

    /// Has the machine take an update, under a stopwatch. No update is refused as a whole.
    fn update(&mut self, now: Time, event: Event<'_>) -> Taken {
        let watch = Stopwatch::start();
        let taken = self.step(now, event).unwrap_or_default();
        self.own.evaluated(watch.elapsed());
        taken
    }

    /// Counts what the recording left out.
    pub(super) fn count_unrecorded(&self) {
        if let Some(recorder) = &self.recorder {
            self.own.record_dropped(recorder.take_dropped());
        }
    }

    fn count(&self, input: Input, taken: &Taken) {
        self.own.ingested(input, taken.accepted as u64);
        for (reason, count) in &taken.reasons {
            self.own.rejected(input, *reason, *count);
        }
    }

    /// The answer: what was accepted and what was not; an error only when there was no room for any of it.
    fn answer(&self, input: Input, taken: Taken) -> Result<Accepted, IngestError> {
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
