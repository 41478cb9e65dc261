//! The one loop: an event comes in, fleet → rules → alerts, effects go out; it owns the mutable state.
//!
//! Owns [`Fleet`], [`Rules`] and [`Alerts`] and the order of things: state is applied and judged before its
//! sender is answered; what people are owed is in the ledger before it is handed to the dispatcher; what
//! must outlive the process is saved within a second. Refuses to wait for disk or network while it does so.

mod commit;
mod digest;
#[cfg(test)]
mod enforcement_tests;
pub mod handle;
mod ingest;
#[cfg(test)]
mod judging;
mod orphans;
mod output;
pub mod quiet;
mod reload;
mod run;
pub mod telemetry;
pub mod trial;
pub mod view;
mod watch;
mod words;

use std::sync::Arc;
use std::time::Duration;

pub use crate::alerts::QuietError;
pub use handle::{Accepted, AlertFilter, Handle, IngestError, Queues, Stopped};
pub use reload::Settings;
pub use run::{Parts, Stop};
pub use trial::Trial;
pub use view::{AlertView, ReceiverView, View};

use crate::alerts::Alerts;
use crate::clock::Clock;
use crate::enforcement::{Enforcement, StopOrders};
use crate::fleet::Fleet;
use crate::metrics::Own;
use crate::model::{Event, Finding, Notice, Outcome, Report, Retry, SendError, SendReason, Time};
use crate::notify::{CAPACITY, Dispatcher};
use crate::rules::Rules;
use crate::store::{Recorder, Settled, Store};
use commit::Committer;
use digest::Digest;
use orphans::Orphans;
use output::Unsaved;
use watch::Watch;

/// Bound of the queue of state that waits.
pub const BULK_QUEUE: usize = 1024;
/// Bound of the queue of readers, outcomes and control.
pub const CONTROL_QUEUE: usize = 1024;
/// Bound of the queue of hooks.
pub const HOOK_QUEUE: usize = 1024;
/// Deferred alerts that are released at once, so that they delay nothing else.
const RELEASED: usize = 2_000;
/// How long judging stays paused before it resumes by itself.
pub const PAUSE: Duration = Duration::from_secs(3600);

/// The engine; see the module's documentation.
#[derive(Debug)]
pub struct Engine {
    clock: Clock,
    fleet: Fleet,
    enforcement: Enforcement,
    stop_orders: tokio::sync::watch::Sender<Arc<StopOrders>>,
    rules: Rules,
    alerts: Alerts,
    own: Arc<Own>,
    store: Store,
    /// Gone once draining has begun.
    dispatcher: Option<Dispatcher>,
    committer: Committer,
    unsaved: Unsaved,
    /// The last body that the log of usage was given.
    usage_seq: u64,
    findings: Vec<Finding>,
    /// Until when judging is paused.
    paused_until: Option<Time>,
    /// How late the last served deadline was.
    lag: Duration,
    /// When it was last looked for deadlines that have come.
    looked_at: Time,
    receivers: Vec<Arc<str>>,
    monitoring: tokio::sync::watch::Sender<bool>,
    orphans: Orphans,
    /// Where what comes in is recorded, when it is.
    recorder: Option<Recorder>,
    watch: Watch,
    digest: Digest,
    /// When forgetful receivers are reminded next.
    remind_at: Time,
}

impl Engine {
    /// The orders to stop that agents are given, as they change.
    pub fn stop_orders(&self) -> tokio::sync::watch::Receiver<Arc<StopOrders>> {
        self.stop_orders.subscribe()
    }

    /// Cancelled when the task of a receiver has panicked.
    pub fn broken(&self) -> Option<tokio_util::sync::CancellationToken> {
        self.dispatcher.as_ref().map(Dispatcher::broken)
    }

    /// Judges what changed and takes care of whatever comes of it.
    fn settle(&mut self, now: Time) {
        self.adopt_orphans();
        if self.paused_until.is_none() {
            self.rules.evaluate(now, self.fleet.state(), self.fleet.changes(), &mut self.findings);
        } else {
            // While paused nothing is judged, yet what is gone is gone: its alerts end and its memory is freed.
            let changes = self.fleet.changes();
            let removals = crate::model::Changes {
                removed_agents: changes.removed_agents.clone(),
                removed_components: changes.removed_components.clone(),
                ..crate::model::Changes::default()
            };
            self.rules.evaluate(now, self.fleet.state(), &removals, &mut self.findings);
        }
        if self.enforcement.follow(self.fleet.state(), self.fleet.changes()) {
            self.publish_stop_orders();
        }
        self.unsaved.note(self.fleet.changes());
        let history = &self.fleet.changes().history;
        if !history.is_empty() {
            self.store.history.record(history.clone());
        }
        self.fleet.clear_changes();
        if !self.findings.is_empty() {
            let findings = std::mem::take(&mut self.findings);
            self.alerts.set_agents(self.fleet.state().agents.len());
            let effects = self.alerts.step(now, findings);
            self.take_effects(now, effects);
        }
    }

    /// Has hooks answered by the orders as they are now.
    fn publish_stop_orders(&self) {
        self.stop_orders.send_replace(Arc::new(self.enforcement.orders().clone()));
    }

    /// The time now, with note taken of what the wall clock says.
    fn now(&mut self) -> Time {
        let now = self.clock.now();
        if self.fleet.note_wall(now, self.clock.wall()) {
            let ahead_seconds = self.fleet.state().wall.show(now).as_secs_f64() - now.as_secs_f64();
            tracing::warn!(ahead_seconds, "the wall clock was set, or the machine slept; timers go on as before");
        }
        now
    }

    /// Serves the deadlines that have come.
    fn tick(&mut self, now: Time) {
        if let Some(due) = self.next_deadline() {
            // What was to be done at once, or has been due since before it was known, is not late for that.
            self.lag = now.since(due.max(self.looked_at));
        }
        if self.paused_until.is_some_and(|until| until <= now) {
            self.set_monitoring(now, true, "the end of its time");
        }
        self.end_orphans(now);
        self.send_digest(now);
        self.fleet.tick(now);
        if self.paused_until.is_none() {
            self.rules.tick(now, self.fleet.state(), &mut self.findings);
        }
        self.settle(now);
        if self.paused_until.is_none() {
            let effects = self.alerts.tick(now);
            self.take_effects(now, effects);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let judged = match self.paused_until {
            Some(until) => Some(until),
            None => [self.rules.next_deadline(), self.alerts.next_deadline()].into_iter().flatten().min(),
        };
        [self.fleet.next_deadline(), judged, self.orphans.deadline(), self.digest.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Resumes or pauses judging, or extends the pause; people are told who did. All else is kept from receivers while
    /// it is paused.
    fn set_monitoring(&mut self, now: Time, on: bool, by: &str) {
        let was_on = self.paused_until.is_none();
        self.paused_until = (!on).then(|| now.plus(PAUSE));
        self.fleet.set_monitoring(on);
        self.monitoring.send_replace(on);
        if let Some(dispatcher) = &self.dispatcher {
            dispatcher.set_paused(!on);
        }
        if on && was_on {
            return;
        }
        let text = if on {
            format!("{by} resumed the monitoring")
        } else {
            let what = if was_on { "paused the monitoring" } else { "extended the pause of the monitoring" };
            let until = self.fleet.state().wall.show(now.plus(PAUSE));
            format!("{by} {what}: nobody is told of anything until it resumes, at the latest at {until}")
        };
        let effects = self.alerts.announce(now, "monitoring", &text);
        self.take_effects(now, effects);
        if on {
            // Before anything is sent: what recovered during the pause must not be repeated as firing first.
            self.rules.evaluate_all(now, self.fleet.state(), &mut self.findings);
            self.settle(now);
        }
        let effects = self.alerts.set_paused(now, !on);
        self.take_effects(now, effects);
    }

    /// Hands notices to their receivers.
    fn dispatch(&self, notices: Vec<Arc<Notice>>) {
        if let Some(dispatcher) = self.dispatcher.as_ref().filter(|_| !notices.is_empty()) {
            dispatcher.dispatch(notices);
        }
    }

    /// Takes in what came of a send.
    fn take_report(&mut self, report: Report) {
        // A receiver that a reload took away has no series any more, and its last send must not bring them back.
        let counts = |receiver: &Arc<str>| self.receivers.contains(receiver);
        match report {
            Report::Delivered(outcome, receipt) => {
                self.watch.took(&outcome, receipt.amiss.as_ref());
                let counted = if counts(&outcome.receiver) { &outcome.notices[..] } else { &[] };
                for notice in counted {
                    self.own.delivered(&outcome.receiver, outcome.at.since(notice.caused_at));
                }
                if let Some(error) = &receipt.amiss {
                    self.note_amiss(&outcome, error);
                }
                if outcome.notices.is_empty() {
                    return;
                }
                self.alerts.delivered(&outcome.notices);
                if !receipt.references.is_empty() {
                    receipt.references.iter().for_each(|reference| self.alerts.refer(reference, &outcome.receiver));
                    let effects = self.alerts.tick(outcome.at);
                    self.take_effects(outcome.at, effects);
                }
                tracing::info!(
                    receiver = &*outcome.receiver,
                    notices = outcome.notices.len(),
                    first = &*outcome.notices.first().map_or_else(String::new, |notice| title(notice)),
                    "notification delivered"
                );
                let together = u32::try_from(outcome.notices.len()).unwrap_or(u32::MAX);
                self.note_outcome(outcome.at, &outcome.notices, |notice| Event::Delivered {
                    receiver: notice.receiver.clone(),
                    together,
                });
                self.committer.settle(&outcome.notices, &Settled::Delivered);
            }
            Report::Superseded(outcome) => {
                self.note_outcome(outcome.at, &outcome.notices, |notice| Event::Superseded {
                    receiver: notice.receiver.clone(),
                });
                self.committer.settle(&outcome.notices, &Settled::Superseded);
            }
            Report::Deferred(outcome) => {
                let count = outcome.notices.len();
                tracing::warn!(
                    receiver = &*outcome.receiver,
                    count,
                    "too many alerts wait for the receiver; these are sent once there is room"
                );
                let effects = self.alerts.defer(outcome.at, &outcome.notices);
                self.take_effects(outcome.at, effects);
                self.committer.settle(&outcome.notices, &Settled::Superseded);
            }
            Report::Failed { receiver, error, notices, at } => {
                self.watch.failed(at, &receiver);
                if counts(&receiver) {
                    self.own.failed(&receiver, error.reason.as_str());
                }
                tracing::warn!(receiver = &*receiver, reason = error.reason.as_str(), error = %error, "notification failed; it is tried again");
                let error: Arc<str> = Arc::from(error.message);
                self.note_outcome(at, &notices, |notice| Event::Failed {
                    receiver: notice.receiver.clone(),
                    error: error.clone(),
                });
            }
            Report::GaveUp(outcome, error) => {
                self.watch.gave_up(&outcome.receiver, outcome.notices.len());
                if counts(&outcome.receiver) {
                    self.own.failed(&outcome.receiver, error.reason.as_str());
                }
                tracing::error!(
                    receiver = &*outcome.receiver,
                    notices = outcome.notices.len(),
                    reason = error.reason.as_str(),
                    error = %error,
                    "notification permanently rejected and dead-lettered; check the receiver's settings"
                );
                let message: Arc<str> = Arc::from(&*error.message);
                self.note_outcome(outcome.at, &outcome.notices, |notice| Event::GaveUp {
                    receiver: notice.receiver.clone(),
                    error: message.clone(),
                });
                let is_of_message = error.retry == Retry::Never;
                if error.reason != SendReason::Dropped {
                    let effects = self.alerts.gave_up(outcome.at, &outcome.notices, is_of_message);
                    self.take_effects(outcome.at, effects);
                }
                let dead = Settled::Dead { reason: error.reason, message: error.message };
                self.committer.settle(&outcome.notices, &dead);
            }
        }
    }

    /// Notes that a part of a receiver, an instance or a recipient, did not take what another took.
    fn note_amiss(&self, outcome: &Outcome, error: &SendError) {
        if self.receivers.contains(&outcome.receiver) {
            self.own.failed(&outcome.receiver, error.reason.as_str());
        }
        tracing::warn!(
            receiver = &*outcome.receiver,
            reason = error.reason.as_str(),
            error = %error,
            "notification delivered, but not to all"
        );
    }

    /// Has what found no room among what waits for a receiver sent once there is some.
    fn send_deferred(&mut self, now: Time) {
        let deferred: Vec<Arc<str>> = self.alerts.deferred().map(|(receiver, _)| Arc::clone(receiver)).collect();
        for receiver in deferred {
            // What was released before is on its way through the ledger.
            let is_free = self.committer.undispatched() == 0;
            let pending = self.dispatcher.as_ref().and_then(|dispatcher| dispatcher.pending(&receiver));
            let room = pending.filter(|_| is_free).map_or(0, |pending| (CAPACITY / 2).saturating_sub(pending));
            if room > 0 {
                let effects = self.alerts.make_room(now, &receiver, room.min(RELEASED));
                self.take_effects(now, effects);
            }
        }
    }
}

/// A notice in a few words, for the log.
fn title(notice: &Notice) -> String {
    let word = if notice.kind.is_firing() { notice.level.as_str() } else { "resolved" };
    format!("[{}] {}", word.to_uppercase(), notice.subject.name())
}
