//! What came of deliveries: the ledger learns what each receiver was notified of in fact.

use std::sync::Arc;

use super::{Effects, Machine};
use crate::alerts;
use crate::model::{Decision, Notice, Report, Retry, SendReason, Time, TimelineEvent};

impl Machine {
    /// Takes over what a delivery came to, of which is heard at `now`.
    pub(super) fn delivery(&mut self, now: Time, report: &Report, effects: &mut Effects) {
        match report {
            Report::Delivered(outcome, receipt) => {
                self.sidecar.delivered(outcome, receipt.amiss.as_ref());
                if outcome.notices.is_empty() {
                    return;
                }
                self.alerts.delivered(&outcome.notices);
                receipt.references.iter().for_each(|reference| self.alerts.refer(reference, &outcome.receiver));
                if !receipt.references.is_empty() && !self.is_paused() {
                    let due = self.alerts.tick(now);
                    self.add(now, due, effects);
                }
                let together = u32::try_from(outcome.notices.len()).unwrap_or(u32::MAX);
                note(outcome.at, &outcome.notices, effects, |receiver| TimelineEvent::Delivered { receiver, together });
            }
            Report::Superseded(outcome) => {
                note(outcome.at, &outcome.notices, effects, |receiver| TimelineEvent::Superseded { receiver });
            }
            Report::Deferred(outcome) => {
                let deferred = self.alerts.defer(now, &outcome.notices);
                self.add(now, deferred, effects);
            }
            Report::Failed { receiver, error, notices, at } => {
                self.sidecar.failed(*at, receiver);
                let error: Arc<str> = Arc::from(&*error.message);
                note(*at, notices, effects, |receiver| TimelineEvent::Failed { receiver, error: Arc::clone(&error) });
            }
            Report::GaveUp(outcome, error) => {
                self.sidecar.gave_up(&outcome.receiver, outcome.notices.len());
                let message: Arc<str> = Arc::from(&*error.message);
                note(outcome.at, &outcome.notices, effects, |receiver| TimelineEvent::DeadLettered {
                    receiver,
                    error: Arc::clone(&message),
                });
                if error.reason != SendReason::Dropped {
                    let is_of_message = error.retry == Retry::Never;
                    let due_again = self.alerts.gave_up(now, &outcome.notices, is_of_message);
                    self.add(now, due_again, effects);
                }
            }
        }
    }
}

/// Notes in the timelines of the alerts that `notices` are about what came of them.
fn note(at: Time, notices: &[Arc<Notice>], effects: &mut Effects, event: impl Fn(Arc<str>) -> TimelineEvent) {
    let of_alerts = notices.iter().filter(|notice| notice.kind.is_of_alert());
    let decisions = of_alerts.map(|notice| Decision {
        fingerprint: notice.fingerprint,
        at,
        level: notice.level,
        value: notice.value,
        threshold: notice.threshold,
        rule_version: Arc::from(""),
        event: event(Arc::clone(&notice.receiver)),
    });
    let ledger = alerts::Effects { decisions: decisions.collect(), ..alerts::Effects::default() };
    if !ledger.decisions.is_empty() {
        effects.alerts.push(super::AlertEffects { ledger, ..super::AlertEffects::default() });
    }
}
