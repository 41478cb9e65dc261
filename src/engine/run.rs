//! The loop itself: restore, serve, drain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::commit::{Committed, Committer};
use super::handle::Queues;
use super::health::CountedStoreErrors;
use super::{Engine, EngineSettings};
use crate::clock::Clock;
use crate::ingest::{UsageBatch, decode_usage};
use crate::machine::{Machine, MachineEvent, RestoredState, SidecarObservation};
use crate::metrics::SidecarMetrics;
use crate::model::{AlertState, DeliveryReport, Fingerprint, Hook, Notice, SendReason, Time};
use crate::notify::Dispatcher;
use crate::store::{LostNotice, NoticeOutcome, Recorder, RestoredLedger, SavedFleet, Store, UsageBody};

/// How often changes are handed to the store.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// Events of one queue that are handled before other queues are served.
const BURST: usize = 64;
/// Bounds of the sleep until the next deadline.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// How long each step of the shutdown may wait for the disk.
const WRITING: Duration = Duration::from_secs(1);
/// Capacity of the queue of delivery reports.
const REPORTS: usize = 1024;

/// What an engine is built from.
#[derive(Debug)]
pub struct EngineParts {
    /// The clock.
    pub clock: Clock,
    /// Settings of fleet, rules and receivers.
    pub settings: EngineSettings,
    /// The sidecar's own metrics.
    pub own: Arc<SidecarMetrics>,
    /// The store.
    pub store: Store,
    /// What the ledger restored.
    pub restored: RestoredLedger,
    /// What was restored of the fleet.
    pub saved: SavedFleet,
    /// Whether pollers poll.
    pub monitoring: watch::Sender<bool>,
    /// Records inputs, if recording is on.
    pub recorder: Option<Recorder>,
    /// Runs and the registry, which hear of agents that are seen or end.
    pub runs: super::runs::RunsHandle,
    /// What the stream of events is derived from.
    pub live: super::live::LiveFeed,
}

/// Asks the engine to stop: drain within the duration, then answer.
pub type StopSignal = oneshot::Receiver<Duration>;

impl Engine {
    /// An engine with the restored state, and the receiving end of its dispatcher's reports.
    pub fn new(parts: EngineParts) -> (Self, mpsc::Receiver<DeliveryReport>) {
        let EngineParts { clock, settings, own, store, restored, saved, monitoring, recorder, runs, live } = parts;
        let now = clock.now();
        let (settings, receivers) = settings.split();
        let (reports, reports_end) = mpsc::channel(REPORTS);
        let machine = Machine::new(now, settings);
        own.set_receivers(&[], machine.receivers());
        let mut engine = Self {
            machine,
            own,
            dispatcher: Some(Dispatcher::start(receivers, clock.clone(), reports)),
            committer: Committer::new(store.ledger.clone(), restored.counts),
            store,
            clock,
            applying: None,
            held: Vec::new(),
            usage_seq: 0,
            lag: Duration::ZERO,
            looked_at: now,
            monitoring,
            stop_orders: watch::Sender::default(),
            recorder,
            runs,
            live,
            turns: crate::runs::turns::Turns::default(),
            counted: CountedStoreErrors::default(),
            resend_at: now,
        };
        engine.restore(now, restored, saved);
        engine.runs.in_progress(engine.machine.fleet().runs_in_progress());
        engine.stop_orders.send_replace(Arc::new(engine.machine.stop_orders().clone()));
        (engine, reports_end)
    }

    fn restore(&mut self, now: Time, restored: RestoredLedger, saved: SavedFleet) {
        let last_alive = [restored.written_at, saved.saved_at].into_iter().flatten().max();
        let downtime = last_alive.map_or(Duration::ZERO, |at| now.since(at));
        let counts = restored.counts;
        let (agents, alerts) = (saved.agents.len(), restored.alerts.len());
        if agents > 0 || alerts > 0 {
            let (outbox, downtime_seconds) = (restored.outbox.len(), downtime.as_secs());
            tracing::info!(agents, alerts, outbox, downtime_seconds, "state restored");
        }
        self.dead_letter_lost(&restored.lost, restored.unreadable);
        let lost = restored.lost.into_iter();
        let lost = lost.map(|lost| (lost.receiver, Fingerprint::parse(&lost.fingerprint), lost.key));
        let memory = RestoredState {
            downtime,
            projects: saved.projects,
            agents: saved.agents,
            components: saved.components,
            usage_ids: saved.usage_ids,
            usage: self.logged_usage(&saved.usage_log),
            sources: saved.sources,
            windows: saved.windows,
            alerts: restored.alerts,
            silences: restored.silences,
            raised: counts.by_level,
            fired: counts.fired,
            lost: lost.collect(),
            observed: SidecarObservation { store_ok: self.store_ok(), ..SidecarObservation::default() },
        };
        let effects = self.machine.restore(now, memory);
        drop(self.release(effects));
        // Pending notices are sent first, so that the evaluation below finds those alerts notified. Times in the future, of
        // a clock that was ahead, become now, so that they do not look newer than what is sent from now on.
        let pending = restored
            .outbox
            .into_iter()
            .map(|notice| Arc::new(Notice { at: notice.at.min(now), caused_at: notice.caused_at.min(now), ..notice }));
        self.dispatch(pending.collect());
        // Observed with the pending notices of each receiver.
        self.observe(now);
        drop(self.step(now, MachineEvent::Evaluate));
    }

    /// The usage increments that were acknowledged after the last save.
    fn logged_usage<'a>(&mut self, log: &'a [UsageBody]) -> Vec<UsageBatch<'a>> {
        let mut read = Vec::with_capacity(log.len());
        for UsageBody { seq, body, .. } in log {
            self.usage_seq = *seq;
            match std::str::from_utf8(body).ok().and_then(|text| decode_usage(text).ok()) {
                Some(usage) => read.push(usage),
                None => {
                    tracing::error!(seq, "body in the store's usage log is unreadable and not counted");
                }
            }
        }
        if !log.is_empty() {
            tracing::info!(bodies = log.len(), "usage restored that was acknowledged after the last save");
        }
        read
    }

    /// Dead-letters unreadable notices; alerts that still fire are notified again.
    fn dead_letter_lost(&mut self, lost: &[LostNotice], unreadable: u64) {
        if unreadable > 0 {
            self.own.store_error();
            tracing::error!(rows = unreadable, "rows of the ledger are unreadable and ignored");
        }
        let mut receivers: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for notice in lost {
            let message = "unreadable in the ledger".to_owned();
            let dead = NoticeOutcome::Dead { reason: SendReason::Message, message };
            self.committer.settle_key(Arc::clone(&notice.key), dead);
            *receivers.entry(&notice.receiver).or_default() += 1;
        }
        for (receiver, notices) in receivers {
            if self.machine.receivers().contains(receiver) {
                self.own.failed(receiver, SendReason::Message.as_str());
            }
            tracing::error!(
                receiver = &**receiver,
                notices,
                "pending notifications in the ledger are unreadable and dead-lettered; alerts that still fire are notified again"
            );
        }
    }

    /// Runs until `stop` is received, with the time that draining may take; then drains and returns.
    pub async fn run(mut self, queues: Queues, mut reports: mpsc::Receiver<DeliveryReport>, mut stop: StopSignal) {
        let Queues { mut bulk, mut control, mut hooks } = queues;
        let mut saving = tokio::time::interval(SAVE_EVERY);
        saving.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.looked_at = self.now();
        let within = loop {
            let now = self.now();
            if self.machine.next_deadline().is_some_and(|due| due <= now) {
                self.serve_deadlines(now);
            }
            self.looked_at = now;
            // Sleeps at least a moment: a deadline that is due again at once must not starve the queues.
            let wait = self.machine.next_deadline().map_or(LONGEST_SLEEP, |due| due.since(now).max(SHORTEST_SLEEP));
            tokio::select! {
                biased;
                within = &mut stop => break within.unwrap_or_default(),
                done = self.committer.next() => self.committed(done),
                Some(report) = reports.recv() => self.take_report(report),
                // Before inputs: a flood of them must not delay saving.
                _ = saving.tick() => {
                    let now = self.now();
                    self.observe(now);
                    self.resend_firing(now);
                    self.send_deferred(now);
                    // A half applied update is not saved: if the program ends now, its sender gets no answer and retries.
                    if self.applying.is_none() {
                        self.save(now);
                    }
                    self.count_unrecorded();
                }
                Some(message) = control.recv() => {
                    // A read sees all hooks that were answered before it: those that are queued now.
                    let waiting = hooks.len();
                    self.take_hooks(&mut hooks, waiting);
                    self.take_control(message);
                }
                Some(hook) = hooks.recv() => {
                    let now = self.now();
                    self.take_hook(now, hook);
                    self.take_hooks(&mut hooks, BURST);
                    // A flood of hooks must not starve the bulk queue.
                    if self.applying.is_some() {
                        self.apply_part(now);
                    } else if let Ok(event) = bulk.try_recv() {
                        self.take_bulk(now, event);
                    }
                }
                () = tokio::task::yield_now(), if self.applying.is_some() => {
                    let now = self.now();
                    self.apply_part(now);
                }
                Some(event) = bulk.recv(), if self.applying.is_none() => {
                    let now = self.now();
                    self.take_bulk(now, event);
                    for _ in 1..BURST {
                        if self.applying.is_some() {
                            break;
                        }
                        let Ok(event) = bulk.try_recv() else { break };
                        self.take_bulk(now, event);
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
        };
        // Later messages are rejected, so that no sender is answered as if its update had been accepted.
        bulk.close();
        hooks.close();
        control.close();
        let waiting = hooks.len();
        self.take_hooks(&mut hooks, waiting);
        self.finish_applying();
        while let Ok(event) = bulk.try_recv() {
            let now = self.now();
            self.take_bulk(now, event);
            self.finish_applying();
        }
        while let Ok(message) = control.try_recv() {
            self.take_control(message);
        }
        self.drain(reports, within).await;
    }

    /// Applies the remaining parts of a large update.
    pub(super) fn finish_applying(&mut self) {
        while self.applying.is_some() {
            let now = self.now();
            self.apply_part(now);
        }
    }

    /// Handles queued hooks, at most this many.
    fn take_hooks(&mut self, hooks: &mut mpsc::Receiver<Hook>, most: usize) {
        for _ in 0..most {
            let Ok(hook) = hooks.try_recv() else { break };
            let now = self.now();
            self.take_hook(now, hook);
        }
    }

    /// Releases the notices of a commit, written or not: a failing disk delays no notification.
    fn committed(&mut self, done: Committed) {
        let Committed { result, notices, answers } = done;
        if let Err(error) = result {
            self.own.store_error();
            tracing::error!(error = %error, notices = notices.len(), "ledger not written; notifications are sent anyway, and may repeat after a restart");
        }
        answers.into_iter().for_each(|answer| answer());
        self.dispatch(notices);
    }

    /// Saves all state, delivers pending notices for at most `within`, and stops; what is not delivered by then stays in
    /// the outbox. Each write may take [`WRITING`] beyond that.
    async fn drain(mut self, mut reports: mpsc::Receiver<DeliveryReport>, within: Duration) {
        self.save_all().await;
        self.commit_all().await;
        let dispatcher = self.dispatcher.take();
        let mut draining = Box::pin(async move {
            if let Some(dispatcher) = dispatcher {
                dispatcher.drain(within).await;
            }
        });
        loop {
            tokio::select! {
                biased;
                Some(report) = reports.recv() => self.take_report(report),
                () = &mut draining => break,
            }
        }
        while let Ok(report) = reports.try_recv() {
            self.take_report(report);
        }
        self.commit_all().await;
        if let Some(recorder) = self.recorder.take() {
            drop(tokio::time::timeout(WRITING, recorder.close(self.clock.now())).await);
        }
        let open = self.machine.alerts().open().filter(|alert| alert.state == AlertState::Firing).count();
        match self.store.close(WRITING).await {
            Ok(()) => tracing::info!(agents = self.machine.fleet().state().agents.len(), firing = open, "state saved"),
            Err(error) => tracing::error!(error = %error, "store not closed in time"),
        }
    }

    /// Hands all changes to the store, which may still be busy with earlier saves.
    async fn save_all(&mut self) {
        let saving = async {
            loop {
                let now = self.now();
                self.save(now);
                if self.machine.is_saved() || self.store.history.flush().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(WRITING, saving).await.is_err() {
            tracing::error!(path = %self.store.history.path().display(), "the last changes of agents were not saved in time; does the disk hang?");
        }
    }

    /// Writes pending changes to the ledger. A commit that times out may still be written before the process ends.
    async fn commit_all(&mut self) {
        let committing = async {
            while !self.committer.is_idle() {
                let done = self.committer.next().await;
                self.committed(done);
            }
        };
        if tokio::time::timeout(WRITING, committing).await.is_err() {
            tracing::error!("the ledger was not written in time; does the disk hang?");
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
