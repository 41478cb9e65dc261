//! Outcomes of deliveries: logged, counted, and marked in the outbox.

use super::Engine;
use crate::machine::MachineEvent;
use crate::model::{DeliveryReport, Notice};
use crate::store::NoticeOutcome;

impl Engine {
    /// Handles the outcome of a delivery.
    pub(super) fn take_report(&mut self, report: DeliveryReport) {
        self.count_report(&report);
        let now = self.now();
        drop(self.step(now, MachineEvent::Delivery(&report)));
        match report {
            DeliveryReport::Delivered(outcome, _) => self.committer.settle(&outcome.notices, &NoticeOutcome::Delivered),
            DeliveryReport::Superseded(outcome) | DeliveryReport::Deferred(outcome) => {
                self.committer.settle(&outcome.notices, &NoticeOutcome::Superseded);
            }
            DeliveryReport::DeadLettered(outcome, error) => {
                let dead = NoticeOutcome::Dead { reason: error.reason, message: error.message };
                self.committer.settle(&outcome.notices, &dead);
            }
            DeliveryReport::Failed { .. } => {}
        }
    }

    fn count_report(&self, report: &DeliveryReport) {
        // A receiver that a reload removed has no series, and the outcome of its last send must not create them again.
        let counts = |receiver| self.machine.receivers().contains(receiver);
        match report {
            DeliveryReport::Delivered(outcome, receipt) => {
                if counts(&outcome.receiver) {
                    for notice in &outcome.notices {
                        self.own.delivered(&outcome.receiver, outcome.at.since(notice.caused_at));
                    }
                }
                if let Some(error) = &receipt.partial_failure {
                    if counts(&outcome.receiver) {
                        self.own.failed(&outcome.receiver, error.reason.as_str());
                    }
                    tracing::warn!(
                        receiver = &*outcome.receiver,
                        reason = error.reason.as_str(),
                        error = %error,
                        "notification partially delivered"
                    );
                }
                if let Some(first) = outcome.notices.first() {
                    tracing::info!(
                        receiver = &*outcome.receiver,
                        notices = outcome.notices.len(),
                        first = title(first),
                        "notification delivered"
                    );
                }
            }
            DeliveryReport::Superseded(_) => {}
            DeliveryReport::Deferred(outcome) => {
                tracing::warn!(
                    receiver = &*outcome.receiver,
                    count = outcome.notices.len(),
                    "outbox of the receiver is full; notifications deferred"
                );
            }
            DeliveryReport::Failed { receiver, error, .. } => {
                if counts(receiver) {
                    self.own.failed(receiver, error.reason.as_str());
                }
                tracing::warn!(receiver = &**receiver, reason = error.reason.as_str(), error = %error, "notification failed; retrying with back-off");
            }
            DeliveryReport::DeadLettered(outcome, error) => {
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
            }
        }
    }
}

/// A notice in short, for the log.
fn title(notice: &Notice) -> String {
    let word = if notice.kind.is_firing() { notice.level.as_str() } else { "resolved" };
    format!("[{}] {}", word.to_uppercase(), notice.subject.name())
}
