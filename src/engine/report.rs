//! What came of deliveries: logged, counted, and ticked off in the outbox.

use super::Engine;
use crate::machine::Event;
use crate::model::{Notice, Report};
use crate::store::NoticeOutcome;

impl Engine {
    /// Takes over what came of a delivery.
    pub(super) fn take_report(&mut self, report: Report) {
        self.count_report(&report);
        let now = self.now();
        drop(self.step(now, Event::Delivery(&report)));
        match report {
            Report::Delivered(outcome, _) => self.committer.settle(&outcome.notices, &NoticeOutcome::Delivered),
            Report::Superseded(outcome) | Report::Deferred(outcome) => {
                self.committer.settle(&outcome.notices, &NoticeOutcome::Superseded);
            }
            Report::GaveUp(outcome, error) => {
                let dead = NoticeOutcome::Dead { reason: error.reason, message: error.message };
                self.committer.settle(&outcome.notices, &dead);
            }
            Report::Failed { .. } => {}
        }
    }

    fn count_report(&self, report: &Report) {
        // A receiver that a reload took away has no series any more, and its last send must not bring them back.
        let counts = |receiver| self.machine.receivers().contains(receiver);
        match report {
            Report::Delivered(outcome, receipt) => {
                if counts(&outcome.receiver) {
                    for notice in &outcome.notices {
                        self.own.delivered(&outcome.receiver, outcome.at.since(notice.caused_at));
                    }
                }
                if let Some(error) = &receipt.amiss {
                    if counts(&outcome.receiver) {
                        self.own.failed(&outcome.receiver, error.reason.as_str());
                    }
                    tracing::warn!(
                        receiver = &*outcome.receiver,
                        reason = error.reason.as_str(),
                        error = %error,
                        "notification delivered, but not to all"
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
            Report::Superseded(_) => {}
            Report::Deferred(outcome) => {
                tracing::warn!(
                    receiver = &*outcome.receiver,
                    count = outcome.notices.len(),
                    "too many alerts wait for the receiver; these are sent once there is room"
                );
            }
            Report::Failed { receiver, error, .. } => {
                if counts(receiver) {
                    self.own.failed(receiver, error.reason.as_str());
                }
                tracing::warn!(receiver = &**receiver, reason = error.reason.as_str(), error = %error, "notification failed; it is tried again");
            }
            Report::GaveUp(outcome, error) => {
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

/// A notice in a few words, for the log.
fn title(notice: &Notice) -> String {
    let word = if notice.kind.is_firing() { notice.level.as_str() } else { "resolved" };
    format!("[{}] {}", word.to_uppercase(), notice.subject.name())
}
