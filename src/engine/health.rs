//! The sidecar's own health: observed twice a second for rules and metrics, and the answer of the health routes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Engine;
use crate::export::{DropReason, LaneCounters};
use crate::machine::{MachineEvent, SidecarObservation};
use crate::metrics::ExportFigures;
use crate::model::Time;
use crate::notify::{CAPACITY, Dispatcher};

/// How often firing alerts are sent again to an Alertmanager, which resolves them otherwise; as Prometheus does.
const RESEND_EVERY: Duration = Duration::from_secs(60);
/// From this evaluation lag on the sidecar is unhealthy.
const TOO_LATE: Duration = Duration::from_secs(30);
/// With a notification that has been pending for this long the sidecar is unhealthy.
const UNDELIVERED: Duration = Duration::from_secs(300);
/// A batch that waits for less than this to be exported is not late.
const EXPORT_WAIT: Duration = Duration::from_secs(10);
/// The most deferred alerts that are released at once, so that they delay nothing else.
const RELEASED: usize = 2_000;

/// The store's failures that are already counted in metrics.
#[derive(Debug, Default)]
pub(super) struct CountedStoreErrors {
    /// Failed writes of history.
    history_errors: u64,
    /// Rows that history dropped, by reason.
    history_dropped: [u64; 3],
    /// Spans, by outcome.
    spans: [u64; 6],
    /// Runs that ended and runs that were deleted for size.
    runs: [u64; 2],
    /// Failed writes of runs.
    run_errors: u64,
    /// Failed writes of the spool of exports.
    export_errors: u64,
    /// Exports that have series, by target and signal.
    exports: Vec<(&'static str, &'static str)>,
}

impl Engine {
    /// Counts the store's failures, and hands the sidecar's health to the machine.
    pub(super) fn observe(&mut self, now: Time) {
        let history = &self.store.history;
        let errors = history.errors();
        let counted = std::mem::replace(&mut self.counted.history_errors, errors);
        (counted..errors).for_each(|_| self.own.store_error());
        let dropped =
            [("disk", history.dropped()), ("rate", history.rate_limited()), ("size", history.pruned_for_size())];
        for (counted, (reason, count)) in self.counted.history_dropped.iter_mut().zip(dropped) {
            self.own.history_dropped(reason, count.saturating_sub(std::mem::replace(counted, count)));
        }
        self.own.store_size("ledger", self.store.ledger.size());
        self.own.store_size("history", history.size());
        self.observe_runs();
        let waiting = self.observe_exports(now);
        self.save_lost();
        let statuses = self.dispatcher.as_ref().map(Dispatcher::statuses).unwrap_or_default();
        let oldest = statuses.into_iter().map(|(name, status)| (name, status.borrow().oldest)).collect();
        let store_ok = self.store_ok();
        drop(self.step(now, MachineEvent::Observed(SidecarObservation { store_ok, lag: self.lag, oldest, waiting })));
    }

    /// Whether everything that is to be on disk could be written last.
    pub(super) fn store_ok(&self) -> bool {
        self.committer.is_ok() && self.store.history.is_ok() && self.runs.readers().is_ok()
    }

    /// Counts spans and runs.
    fn observe_runs(&mut self) {
        let (counters, readers) = (self.runs.counters(), self.runs.readers());
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let spans = [
            ("stored", count(&counters.stored)),
            ("duplicate", count(&counters.duplicate)),
            ("trace_full", count(&counters.trace_full)),
            ("not_of_agents", count(&counters.not_of_agents)),
            ("sampled_out", count(&counters.sampled_out)),
            ("busy", count(&counters.busy)),
        ];
        for (counted, (outcome, count)) in self.counted.spans.iter_mut().zip(spans) {
            self.own.run_spans(outcome, count.saturating_sub(std::mem::replace(counted, count)));
        }
        let runs = [count(&counters.ended), count(&counters.pruned)];
        let before = std::mem::replace(&mut self.counted.runs, runs);
        let commit = count(&counters.last_commit_ms) as f64 / 1000.0;
        self.own.runs(runs[0].saturating_sub(before[0]), runs[1].saturating_sub(before[1]), commit);
        self.own.registry_agents(count(&counters.agents));
        let errors = readers.errors();
        let counted = std::mem::replace(&mut self.counted.run_errors, errors);
        (counted..errors).for_each(|_| self.own.store_error());
        self.own.store_size("traces", readers.size());
    }

    /// Publishes the numbers of exports. Returns since when the oldest batch waits, and for what.
    fn observe_exports(&mut self, now: Time) -> Option<(Time, Arc<str>)> {
        let exports = self.runs.exports().counters()?;
        self.own.store_size("export", exports.spool.size());
        let wall = self.clock.wall();
        let mut waiting: Option<(Duration, &LaneCounters)> = None;
        for lane in &exports.lanes {
            let count = |counter: &AtomicU64| counter.load(Relaxed);
            let age = lane.oldest().map_or(Duration::ZERO, |at| wall.since(at));
            let figures = ExportFigures {
                batches: count(&lane.sent_batches),
                items: count(&lane.sent_items),
                rejected: count(&lane.rejected_items),
                errors: count(&lane.errors),
                dropped: DropReason::ALL.iter().map(|it| (it.as_str(), lane.dropped(*it))).collect(),
                waiting_bytes: count(&lane.waiting_bytes),
                waiting_items: count(&lane.waiting_items),
                oldest_age_seconds: age.as_secs_f64(),
                last_success_seconds: lane.last_success().map(Time::as_secs_f64),
            };
            self.own.exports(lane.target, lane.signal.as_str(), &figures);
            if age >= EXPORT_WAIT && waiting.is_none_or(|(oldest, _)| age > oldest) {
                waiting = Some((age, lane));
            }
        }
        let lanes: Vec<_> = exports.lanes.iter().map(|lane| (lane.target, lane.signal.as_str())).collect();
        for (target, signal) in std::mem::replace(&mut self.counted.exports, lanes.clone()) {
            if !lanes.contains(&(target, signal)) {
                self.own.remove_export(target, signal, &DropReason::ALL.map(DropReason::as_str));
            }
        }
        let errors = exports.spool.errors();
        let counted = std::mem::replace(&mut self.counted.export_errors, errors);
        (counted..errors).for_each(|_| self.own.store_error());
        waiting.map(|(age, lane)| {
            let mut what = format!("{} ({})", lane.target, lane.signal.as_str());
            let error = lane.last_error();
            if !error.is_empty() {
                what = format!("{what}: {error}");
            }
            (now.minus(age), Arc::from(what))
        })
    }

    /// Whether alerts are evaluated and can be delivered; the error gives the reason.
    pub(super) fn health(&self, now: Time) -> Result<(), String> {
        if self.machine.is_paused() {
            return Err("monitoring is paused".to_owned());
        }
        if self.lag >= TOO_LATE {
            return Err(format!("evaluation is {}s late", self.lag.as_secs()));
        }
        if !self.committer.is_ok() {
            return Err("the ledger is not writable".to_owned());
        }
        let statuses = self.dispatcher.as_ref().map(Dispatcher::statuses).unwrap_or_default();
        let late = |oldest: Option<Time>| oldest.is_some_and(|at| now.since(at) >= UNDELIVERED);
        match statuses.iter().find(|(_, status)| late(status.borrow().oldest)) {
            Some((name, _)) => Err(format!(
                "receiver {name}: a notification has been pending for more than {}s",
                UNDELIVERED.as_secs()
            )),
            None => Ok(()),
        }
    }

    /// Sends firing alerts again to those receivers that resolve what is not sent again.
    pub(super) fn resend_firing(&mut self, now: Time) {
        if self.resend_at > now {
            return;
        }
        self.resend_at = now.plus(RESEND_EVERY);
        let forgetful: Vec<Arc<str>> = self.dispatcher.as_ref().map(Dispatcher::forgetful).unwrap_or_default();
        for receiver in forgetful {
            let firing = self.machine.firing_for(now, &receiver);
            if let Some(dispatcher) = &self.dispatcher {
                dispatcher.remind(&receiver, firing);
            }
        }
    }

    /// Releases deferred alerts of receivers whose queues have room again.
    pub(super) fn send_deferred(&mut self, now: Time) {
        let deferred = self.machine.alerts().deferred();
        let deferred: Vec<Arc<str>> = deferred.map(|(receiver, _)| Arc::clone(receiver)).collect();
        for receiver in deferred {
            // Notices released earlier may still wait for the disk, and are not counted as pending yet.
            let is_free = self.committer.undispatched() == 0;
            let pending = self.dispatcher.as_ref().and_then(|dispatcher| dispatcher.pending(&receiver));
            let room = pending.filter(|_| is_free).map_or(0, |pending| (CAPACITY / 2).saturating_sub(pending));
            if room > 0 {
                drop(self.step(now, MachineEvent::Room { receiver: &receiver, count: room.min(RELEASED) }));
            }
        }
    }
}
