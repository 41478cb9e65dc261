//! Outcomes of deliveries: what alerts, timelines and the sidecar's own health record of them.

use std::sync::Arc;

use super::{Machine, MachineEffects};
use crate::alerts;
use crate::model::{DeliveryReport, Notice, Retry, SendReason, Time, TimelineEntry, TimelineEvent};

impl Machine {
    /// Handles the outcome of a delivery.
    pub(super) fn delivery(&mut self, now: Time, report: &DeliveryReport, effects: &mut MachineEffects) {
        match report {
            DeliveryReport::Delivered(outcome, receipt) => {
                self.sidecar.delivered(outcome, receipt.partial_failure.as_ref());
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
            DeliveryReport::Superseded(outcome) => {
                note(outcome.at, &outcome.notices, effects, |receiver| TimelineEvent::Superseded { receiver });
            }
            DeliveryReport::Deferred(outcome) => {
                let deferred = self.alerts.defer(now, &outcome.notices);
                self.add(now, deferred, effects);
            }
            DeliveryReport::Failed { receiver, error, notices, at } => {
                self.sidecar.failed(*at, receiver, error);
                let error: Arc<str> = Arc::from(&*error.message);
                note(*at, notices, effects, |receiver| TimelineEvent::Failed { receiver, error: Arc::clone(&error) });
            }
            DeliveryReport::DeadLettered(outcome, error) => {
                self.sidecar.dead_lettered(&outcome.receiver, outcome.notices.len(), Some(error));
                let message: Arc<str> = Arc::from(&*error.message);
                note(outcome.at, &outcome.notices, effects, |receiver| TimelineEvent::DeadLettered {
                    receiver,
                    error: Arc::clone(&message),
                });
                if error.reason != SendReason::Dropped {
                    let is_of_message = error.retry == Retry::Never;
                    let due_again = self.alerts.dead_lettered(now, &outcome.notices, is_of_message);
                    self.add(now, due_again, effects);
                }
            }
        }
    }
}

/// Adds an event to the timelines of the alerts that `notices` are about.
fn note(at: Time, notices: &[Arc<Notice>], effects: &mut MachineEffects, event: impl Fn(Arc<str>) -> TimelineEvent) {
    let of_alerts = notices.iter().filter(|notice| notice.kind.is_of_alert());
    let timeline = of_alerts.map(|notice| TimelineEntry {
        fingerprint: notice.fingerprint,
        at,
        level: notice.level,
        value: notice.value,
        threshold: notice.threshold,
        rule_version: Arc::from(""),
        event: event(Arc::clone(&notice.receiver)),
    });
    let ledger = alerts::AlertChanges { timeline: timeline.collect(), ..alerts::AlertChanges::default() };
    if !ledger.timeline.is_empty() {
        effects.alerts.push(super::AlertEffects { ledger, ..super::AlertEffects::default() });
    }
}
