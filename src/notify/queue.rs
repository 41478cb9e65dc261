//! What waits for one receiver, and when it goes: pure, so that every timing can be tested to the millisecond.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Fingerprint, Notice, SendError, SendReason, Time};

/// The first message after quiet leaves at once; what follows within this time goes together. It also keeps
/// within Slack's limit of one message a second.
pub(super) const GATHER: Duration = Duration::from_secs(1);
/// The first wait after a failure; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Of a message that was refused as a whole, so many are tried alone in vain before the rest is given up too.
const TRIED_ALONE: u32 = 3;

/// A notice, and the undelivered ones of the same alert that it made pointless.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) notice: Arc<Notice>,
    pub(super) superseded: Vec<Arc<Notice>>,
    order: u64,
}

impl Waiting {
    /// All of its notices.
    pub(super) fn all(self) -> impl Iterator<Item = Arc<Notice>> {
        self.superseded.into_iter().chain([self.notice])
    }
}

/// What to do after a failed send.
#[derive(Debug)]
pub(super) enum After {
    /// It is tried again later.
    Again,
    /// These are given up.
    GiveUp(Vec<Waiting>),
}

/// The notices that one receiver is owed.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: HashMap<Fingerprint, Waiting>,
    /// Parts of a message that was refused as a whole, each to be tried alone.
    alone: Vec<Waiting>,
    alone_in_vain: u32,
    order: u64,
    last_sent: Option<Time>,
    not_before: Option<Time>,
    failures: u32,
}

impl Queue {
    /// Adds a notice; it takes the place of an undelivered one of the same alert.
    pub(super) fn push(&mut self, notice: Arc<Notice>) {
        self.order += 1;
        let order = self.order;
        match self.waiting.get_mut(&notice.fingerprint) {
            Some(known) => {
                let old = std::mem::replace(&mut known.notice, notice);
                if old.key != known.notice.key {
                    known.superseded.push(old);
                }
            }
            None => {
                self.waiting.insert(notice.fingerprint, Waiting { notice, superseded: Vec::new(), order });
            }
        }
    }

    /// How many alerts wait to be told.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.alone.len()
    }

    /// When the oldest of them became due.
    pub(super) fn oldest(&self) -> Option<Time> {
        let all = self.waiting.values().chain(&self.alone);
        all.flat_map(|waiting| waiting.superseded.iter().chain([&waiting.notice])).map(|notice| notice.at).min()
    }

    /// When the next message goes; `None` while nothing waits.
    pub(super) fn next_send(&self, now: Time) -> Option<Time> {
        if self.len() == 0 {
            return None;
        }
        let gathered = self.last_sent.map(|at| at.plus(GATHER));
        Some([gathered, self.not_before].into_iter().flatten().max().map_or(now, |at| at.max(now)))
    }

    /// Takes out what the next message carries.
    pub(super) fn take(&mut self, now: Time) -> Vec<Waiting> {
        self.last_sent = Some(now);
        if let Some(one) = self.alone.pop() {
            return vec![one];
        }
        let mut batch: Vec<Waiting> = self.waiting.drain().map(|(_, waiting)| waiting).collect();
        batch.sort_by_key(|waiting| waiting.order);
        batch
    }

    /// Notes that the last message was taken.
    pub(super) fn delivered(&mut self) {
        (self.failures, self.not_before, self.alone_in_vain) = (0, None, 0);
    }

    /// Notes that the message of `batch` failed. `jitter` is from 0 to 1.
    pub(super) fn failed(&mut self, now: Time, batch: Vec<Waiting>, error: &SendError, jitter: f64) -> After {
        if error.retryable {
            let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(16)).min(LONGEST_WAIT);
            self.failures += 1;
            // Receivers that failed together must not come back together.
            let wait = wait.mul_f64(1.0 + 0.2 * jitter.clamp(0.0, 1.0));
            self.not_before = Some(now.plus(error.retry_after.unwrap_or(wait)));
            for waiting in batch {
                self.put_back(waiting);
            }
            return After::Again;
        }
        self.failures = 0;
        let about_content = matches!(error.reason, SendReason::Refused | SendReason::Message);
        if batch.len() > 1 && about_content {
            // One poisonous notice must not take the others along.
            self.alone.extend(batch.into_iter().rev());
            return After::Again;
        }
        let mut given_up = batch;
        if !self.alone.is_empty() {
            self.alone_in_vain += 1;
            if self.alone_in_vain >= TRIED_ALONE {
                given_up.append(&mut self.alone);
                self.alone_in_vain = 0;
            }
        }
        After::GiveUp(given_up)
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> Vec<Waiting> {
        let mut all = std::mem::take(&mut self.alone);
        all.extend(self.waiting.drain().map(|(_, waiting)| waiting));
        all
    }

    /// Puts back what was not delivered; a newer notice that came meanwhile stays in front.
    fn put_back(&mut self, old: Waiting) {
        match self.waiting.get_mut(&old.notice.fingerprint) {
            Some(newer) => {
                newer.order = newer.order.min(old.order);
                let mut superseded: Vec<_> = old.all().collect();
                superseded.append(&mut newer.superseded);
                newer.superseded = superseded;
            }
            None => {
                self.waiting.insert(old.notice.fingerprint, old);
            }
        }
    }
}
