//! State that comes in: decoded, applied, judged, answered.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::handle::{Bulk, Logged};
use super::{Accepted, Engine, IngestError};
use crate::clock::Stopwatch;
use crate::decode::lenient;
use crate::enforcement;
use crate::fleet::Taken;
use crate::ingest;
use crate::model::{Arrival, Distilled, Hook, Input, PollReport, RejectReason, Time};
use crate::store::UsageBody;

impl Engine {
    /// Serves one event of the bulk queue.
    pub(super) fn take_bulk(&mut self, now: Time, event: Bulk) {
        match event {
            Bulk::State(body, reply) => {
                let answer = self.push_state(now, &body);
                // A sender that has gone away is not waiting for it.
                self.committer.answer(move || drop(reply.send(answer)));
            }
            Bulk::Usage(body, reply) => {
                let answer = self.push_usage(now, &body);
                // A sender that has gone away is not waiting for it.
                self.committer.answer(move || drop(reply.send(answer)));
            }
            Bulk::Poll(report) => self.poll(now, report),
            Bulk::Telemetry(Distilled { said, counting }, done) => {
                self.unsaved.remember(counting);
                let taken = self.fleet.telemetry(now, &said);
                self.count(Input::Telemetry, &taken);
                for rejected in &taken.rejected {
                    tracing::debug!(name = rejected.name, error = rejected.error, "telemetry not taken");
                }
                self.judge(now);
                // A sender that has gone away is not waiting for it.
                self.committer.answer(move || _ = done.send(()));
            }
        }
    }

    fn push_state(&mut self, now: Time, body: &Bytes) -> Result<Accepted, IngestError> {
        let json = lenient::Body::new(body);
        let wall = self.fleet.state().wall.show(now);
        let mut batch = json.read(|text| ingest::state::decode_state(text, wall)).map_err(|error| {
            self.own.rejected(Input::State, RejectReason::Malformed, 1);
            IngestError::Invalid(error.to_string())
        })?;
        if let Some(recorder) = &self.recorder {
            recorder.note(now, Arrival::State(as_read(&json, body)));
        }
        let taken = self.fleet.push(now, &mut batch);
        self.judge(now);
        self.answer(Input::State, taken)
    }

    fn push_usage(&mut self, now: Time, body: &Bytes) -> Result<(Accepted, Logged), IngestError> {
        let json = lenient::Body::new(body);
        let usage = json.read(ingest::usage::decode_usage).map_err(|error| {
            self.own.rejected(Input::Usage, RejectReason::Malformed, 1);
            IngestError::Invalid(error.to_string())
        })?;
        if let Some(recorder) = &self.recorder {
            recorder.note(now, Arrival::Usage(as_read(&json, body)));
        }
        let mut taken = self.fleet.usage(now, &usage.project, &usage.usage);
        taken.add_rejected(usage.rejected);
        // Before the next save, which holds its effect and says so.
        let logged = if taken.accepted > 0 {
            self.usage_seq += 1;
            self.store.history.log_usage(UsageBody { seq: self.usage_seq, at: now, body: as_read(&json, body) })
        } else {
            oneshot::channel().1
        };
        self.judge(now);
        self.answer(Input::Usage, taken).map(|accepted| (accepted, logged))
    }

    /// Serves one hook, whose sender was answered before.
    pub(super) fn take_hook(&mut self, now: Time, hook: Hook) {
        if let Some(stop) = &hook.stop {
            self.own.stopped(stop.budget.as_str());
        }
        if let Some(news) = enforcement::announcement(self.fleet.find(&hook.project, &hook.agent), &hook) {
            tracing::warn!(news, "an agent was told to stop");
            let effects = self.alerts.announce(now, "brake", &news);
            self.take_effects(now, effects);
        }
        let taken = self.fleet.hook(now, &hook);
        self.count(Input::Hooks, &taken);
        if let Some(recorder) = &self.recorder {
            recorder.note(now, Arrival::Hook(hook));
        }
        self.judge(now);
    }

    fn poll(&mut self, now: Time, mut report: PollReport) {
        if let Err(error) = &report.result {
            tracing::warn!(source = &*report.source, reason = error.reason.as_str(), error = %error, "poll failed");
        }
        if let Some(recorder) = &self.recorder {
            let result = report.result.as_ref().map(|batches| batches.iter().map(ingest::encode_state).collect());
            let result = result.map_err(Clone::clone);
            recorder.note(now, Arrival::Poll { source: Arc::clone(&report.source), result });
        }
        let before = self.fleet.last_error(&report.source);
        let taken = self.fleet.poll(now, &mut report);
        self.count(Input::Poll, &taken);
        // Once, and again when something else can't be read: the next poll finds the same.
        if let Some(error) = self.fleet.last_error(&report.source).filter(|error| before.as_ref() != Some(error))
            && report.result.is_ok()
        {
            tracing::warn!(source = &*report.source, error = &*error, "polled values rejected");
        }
        for rejected in &taken.rejected {
            tracing::debug!(
                source = &*report.source,
                subject = rejected.subject(),
                error = rejected.error,
                "polled value rejected"
            );
        }
        self.judge(now);
    }

    /// Settles what an update changed, under a stopwatch.
    fn judge(&mut self, now: Time) {
        let watch = Stopwatch::start();
        self.settle(now);
        self.own.evaluated(watch.elapsed());
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

/// The body as it was read, for the recording.
fn as_read(json: &lenient::Body<'_>, body: &Bytes) -> Bytes {
    let rewritten = if json.is_strict() { None } else { json.rewritten() };
    rewritten.map_or_else(|| body.clone(), |text| Bytes::copy_from_slice(text.as_bytes()))
}
