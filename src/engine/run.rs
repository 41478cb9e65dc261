//! The loop itself: restore, serve, drain.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::commit::{Committed, Committer};
use super::digest::Digest;
use super::handle::{Control, Queues};
use super::orphans::Orphans;
use super::output::Unsaved;
use super::reload::{names, policies};
use super::watch::Watch;
use super::{Engine, Settings};
use crate::alerts::Alerts;
use crate::clock::Clock;
use crate::enforcement::Enforcement;
use crate::fleet::Fleet;
use crate::ingest::decode_usage;
use crate::metrics::Own;
use crate::model::{AlertState, Ending, Fingerprint, Hook, Notice, Report, SendReason, Time};
use crate::notify::Dispatcher;
use crate::rules::Rules;
use crate::store::{LostNotice, Recorder, Restored, Saved, SavedWindows, Settled, Store, UsageBody};

/// How often what changed is handed to the store.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// Events of the bulk queue served before others get their turn.
const BURST: usize = 64;
/// The shortest and the longest sleep between two looks at the deadlines.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// How long each step of the end may wait for the disk.
const WRITING: Duration = Duration::from_secs(1);
/// Reports of the dispatcher that may wait.
const REPORTS: usize = 1024;

/// What an engine is made of.
#[derive(Debug)]
pub struct Parts {
    /// The time.
    pub clock: Clock,
    /// Fleet, rules, receivers.
    pub settings: Settings,
    /// The sidecar's own metrics.
    pub own: Arc<Own>,
    /// What outlives the process, and what it knew.
    pub store: Store,
    /// The ledger's memory.
    pub restored: Restored,
    /// The fleet's memory.
    pub saved: Saved,
    /// Tells pollers whether to poll.
    pub monitoring: watch::Sender<bool>,
    /// Where what comes in is recorded, when it is.
    pub recorder: Option<Recorder>,
}

/// Asks the engine to stop: drain within the duration, then answer.
pub type Stop = oneshot::Receiver<Duration>;

/// Gives the windows that were saved to the agents of their names.
pub(super) fn restore_windows(now: Time, fleet: &Fleet, rules: &mut Rules, saved: SavedWindows, downtime: Duration) {
    let agents = fleet.state().agents.iter();
    let slots: HashMap<_, u32> = agents.map(|agent| ((&*agent.project, &*agent.name), agent.slot)).collect();
    for ((project, name), windows) in saved {
        if let Some(slot) = slots.get(&(&*project, &*name)) {
            rules.restore_windows(now, *slot, &windows, downtime);
        }
    }
}

impl Engine {
    /// An engine that remembers what was restored, and where reports of its dispatcher come in.
    pub fn new(parts: Parts) -> (Self, mpsc::Receiver<Report>) {
        let Parts { clock, settings, own, store, restored, saved, monitoring, recorder } = parts;
        let now = clock.now();
        let receiver_policies = policies(&settings.receivers);
        let receivers = names(&receiver_policies);
        let budgets = settings.fleet.budgets.enforced();
        own.set_receivers(&[], &receivers);
        let (reports, reports_end) = mpsc::channel(REPORTS);
        let grace = settings.fleet.agents.timeout;
        let rules = Rules::new(settings.rules);
        let mut alerts = Alerts::new(rules.policies(), receiver_policies);
        alerts.set_incidents(settings.incidents);
        let mut engine = Self {
            fleet: Fleet::new(now, settings.fleet),
            enforcement: Enforcement::default(),
            stop_orders: watch::Sender::default(),
            rules,
            alerts,
            own,
            dispatcher: Some(Dispatcher::start(settings.receivers, clock.clone(), reports)),
            committer: Committer::new(store.ledger.clone(), restored.counts),
            store,
            clock,
            unsaved: Unsaved::default(),
            usage_seq: 0,
            findings: Vec::new(),
            paused_until: None,
            lag: Duration::ZERO,
            looked_at: now,
            receivers,
            monitoring,
            orphans: Orphans::new(grace),
            recorder,
            watch: Watch::default(),
            remind_at: now,
            digest: Digest::new(now, settings.digest, restored.counts.fired),
        };
        engine.restore(now, restored, saved);
        engine.enforcement.configure(engine.fleet.state(), budgets);
        engine.publish_stop_orders();
        (engine, reports_end)
    }

    fn restore(&mut self, now: Time, restored: Restored, mut saved: Saved) {
        let last_alive = [restored.written_at, saved.saved_at].into_iter().flatten().max();
        let downtime = last_alive.map_or(Duration::ZERO, |at| now.since(at));
        saved.projects.iter_mut().for_each(|project| project.shift(now, downtime));
        self.fleet.restore(now, saved.projects, saved.agents, saved.components, saved.usage_ids);
        self.restore_usage(now, saved.usage_log);
        self.fleet
            .restore_sources(saved.sources.into_iter().map(|(name, since)| (name, since.plus(downtime).min(now))));
        self.restore_watch(now, &restored.alerts);
        restore_windows(now, &self.fleet, &mut self.rules, saved.windows, downtime);
        self.rules.seed(now, self.fleet.state());
        self.watch(now);
        let (counts, agents) = (restored.counts, self.fleet.state().agents.len());
        if agents > 0 || !restored.alerts.is_empty() {
            tracing::info!(
                agents,
                alerts = restored.alerts.len(),
                outbox = restored.outbox.len(),
                downtime_seconds = downtime.as_secs(),
                "state restored"
            );
        }
        self.alerts.restore_silences(restored.silences);
        self.alerts.restore(now, restored.alerts, counts.raised, counts.fired, downtime);
        self.give_up_lost(restored.lost, restored.unreadable);
        self.end_without_rule(now);
        self.mark_open();
        self.find_orphans(now);
        // What was owed when the process ended goes out first; an alert that was on its way is not told again.
        // A clock that was ahead of ours must not make it look newer than what is told from now on.
        let owed = restored
            .outbox
            .into_iter()
            .map(|notice| Arc::new(Notice { at: notice.at.min(now), caused_at: notice.caused_at.min(now), ..notice }));
        self.dispatch(owed.collect());
        // With what each receiver is owed.
        self.watch(now);
        self.judge_all(now);
    }

    /// Counts what was answered after the last save.
    fn restore_usage(&mut self, now: Time, log: Vec<UsageBody>) {
        let bodies = log.len();
        for UsageBody { seq, body, .. } in log {
            self.usage_seq = seq;
            let usage = std::str::from_utf8(&body).ok().and_then(|text| decode_usage(text).ok());
            let Some(usage) = usage else {
                tracing::error!(seq, "a body of the store's log of usage can't be read; it does not count");
                continue;
            };
            self.fleet.usage(now, &usage.project, &usage.usage);
        }
        self.unsaved.note(self.fleet.changes());
        self.fleet.clear_changes();
        if bodies > 0 {
            tracing::info!(bodies, "usage counted that was answered after the last save");
        }
    }

    /// Dead-letters the notices that can't be read back, and makes what they said due again as far as it is known.
    fn give_up_lost(&mut self, lost: Vec<LostNotice>, unreadable: u64) {
        if unreadable > 0 {
            self.own.store_error();
            tracing::error!(rows = unreadable, "rows of the ledger can't be read; they are left where they are");
        }
        let mut receivers: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for notice in lost {
            if let Some(fingerprint) = Fingerprint::parse(&notice.fingerprint) {
                self.alerts.lost(&notice.receiver, fingerprint, &notice.key);
            }
            let message = "it can't be read back from the ledger".to_owned();
            self.committer.settle_key(notice.key, Settled::Dead { reason: SendReason::Message, message });
            *receivers.entry(notice.receiver).or_default() += 1;
        }
        for (receiver, notices) in receivers {
            self.watch.gave_up(&receiver, notices);
            if self.receivers.contains(&receiver) {
                self.own.failed(&receiver, SendReason::Message.as_str());
            }
            tracing::error!(
                receiver = &*receiver,
                notices,
                "pending notifications can't be read back from the ledger and are dead-lettered; what still fires is sent anew"
            );
        }
    }

    /// Ends alerts whose rules were taken away while the program was not running.
    fn end_without_rule(&mut self, now: Time) {
        let rules = &self.rules;
        let effects = self.alerts.end_unless(now, Ending::RuleGone, |alert| rules.id(&alert.rule).is_some());
        self.take_effects(now, effects);
    }

    /// Serves until `stop` says how long draining may take; then drains and returns.
    pub async fn run(mut self, queues: Queues, mut reports: mpsc::Receiver<Report>, mut stop: Stop) {
        let Queues { mut bulk, mut control, mut hooks } = queues;
        let mut saving = tokio::time::interval(SAVE_EVERY);
        saving.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.looked_at = self.now();
        let within = loop {
            let now = self.now();
            if self.next_deadline().is_some_and(|due| due <= now) {
                self.tick(now);
            }
            self.looked_at = now;
            // A deadline that is due again at once must not starve the queues.
            let wait = self.next_deadline().map_or(LONGEST_SLEEP, |due| due.since(now).max(SHORTEST_SLEEP));
            tokio::select! {
                biased;
                within = &mut stop => break within.unwrap_or_default(),
                done = self.committer.next() => self.committed(done),
                Some(report) = reports.recv() => self.take_report(report),
                // Before what comes in: a flood must not keep what it brought from the disk.
                _ = saving.tick() => {
                    let now = self.now();
                    self.watch(now);
                    self.remind(now);
                    self.send_deferred(now);
                    self.save(now);
                    self.count_unrecorded();
                }
                Some(message) = control.recv() => {
                    // Whoever reads after a hook was answered sees what it says: those that wait now, and no later ones.
                    let waiting = hooks.len();
                    self.take_hooks(&mut hooks, waiting);
                    self.take_control(message);
                }
                Some(hook) = hooks.recv() => {
                    let now = self.now();
                    self.take_hook(now, hook);
                    self.take_hooks(&mut hooks, BURST);
                    // A flood of hooks must not starve what waits behind them.
                    if let Ok(event) = bulk.try_recv() {
                        self.take_bulk(now, event);
                    }
                }
                Some(event) = bulk.recv() => {
                    let now = self.now();
                    self.take_bulk(now, event);
                    for _ in 1..BURST {
                        let Ok(event) = bulk.try_recv() else { break };
                        self.take_bulk(now, event);
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
        };
        // What is sent from here on is refused, so that nobody is answered as if it had been taken in.
        bulk.close();
        hooks.close();
        control.close();
        let waiting = hooks.len();
        self.take_hooks(&mut hooks, waiting);
        while let Ok(event) = bulk.try_recv() {
            let now = self.now();
            self.take_bulk(now, event);
        }
        while let Ok(message) = control.try_recv() {
            self.take_control(message);
        }
        self.drain(reports, within).await;
    }

    /// Serves hooks that wait, at most so many.
    fn take_hooks(&mut self, hooks: &mut mpsc::Receiver<Hook>, most: usize) {
        for _ in 0..most {
            let Ok(hook) = hooks.try_recv() else { break };
            let now = self.now();
            self.take_hook(now, hook);
        }
    }

    fn take_control(&mut self, message: Control) {
        let now = self.now();
        // A reader that has gone away is not waiting for the answer.
        match message {
            Control::Health(reply) => drop(reply.send(self.health(now))),
            Control::View(reply) => drop(reply.send(Arc::new(self.view(now)))),
            Control::Alerts(filter, reply) => drop(reply.send(self.list(now, &filter))),
            #[cfg(test)]
            Control::Panic => panic!("a test of what a panic does"),
            Control::Quiet(message) => self.take_quiet(now, message),
            Control::Monitoring(on, by, reply) => {
                self.set_monitoring(now, on, &by);
                reply.send(()).unwrap_or_default();
            }
            Control::Reload(settings, reply) => {
                self.reload(now, *settings);
                reply.send(()).unwrap_or_default();
            }
        }
    }

    /// Releases the sends of a commit, written or not: an alarm is never kept back by a broken disk.
    fn committed(&mut self, done: Committed) {
        let Committed { result, notices, answers } = done;
        if let Err(error) = result {
            self.own.store_error();
            tracing::error!(error = %error, notices = notices.len(), "ledger not written; notifications are sent all the same");
        }
        answers.into_iter().for_each(|answer| answer());
        self.dispatch(notices);
    }

    /// Writes what is known, sends what is due for at most `within`, and stops: what is not delivered by then is still
    /// owed. The disk is waited for beyond that, for [`WRITING`] at each step.
    async fn drain(mut self, mut reports: mpsc::Receiver<Report>, within: Duration) {
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
        let open = self.alerts.open().filter(|alert| alert.state == AlertState::Firing).count();
        match self.store.close(WRITING).await {
            Ok(()) => tracing::info!(agents = self.fleet.state().agents.len(), firing = open, "state saved"),
            Err(error) => tracing::error!(error = %error, "store not closed in time"),
        }
    }

    /// Hands all that changed to the store, which may have its hands full with earlier saves.
    async fn save_all(&mut self) {
        let saving = async {
            loop {
                let now = self.now();
                self.save(now);
                if self.is_saved() || self.store.history.flush().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(WRITING, saving).await.is_err() {
            tracing::error!(path = %self.store.history.path().display(), "the last changes of agents were not saved in time; does the disk hang?");
        }
    }

    /// Writes what the ledger is owed. A commit that does not come to its end in time is still written if the disk takes
    /// it before the process ends.
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
