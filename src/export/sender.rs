//! Sends the batches of one lane, in their order, each until the target gave its verdict.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::counters::{DropReason, LaneCounters};
use super::pace::LanePace;
use super::spooler::{LaneId, SpoolMessage, Taken, Wanted};
use super::target::{ExportTarget, ExportVerdict};
use crate::clock::Clock;

/// Sends to the thread that owns the spool; `false` once it is gone.
pub(super) type SpoolQueue = Arc<dyn Fn(SpoolMessage) -> bool + Send + Sync>;

/// The sender of one lane.
pub(super) struct Sender {
    pub(super) lane: LaneId,
    pub(super) counters: Arc<LaneCounters>,
    /// What sends; `None` while the target is not configured.
    pub(super) transport: watch::Receiver<Option<Arc<dyn ExportTarget>>>,
    pub(super) spool: SpoolQueue,
    pub(super) clock: Clock,
    pub(super) pace: LanePace,
    /// The failure that was logged last.
    pub(super) logged: String,
}

/// What follows a verdict.
enum AfterVerdict {
    /// The batch is settled.
    Settled,
    /// It is sent again after a pause.
    Again(std::time::Duration),
    /// Its parts are sent one by one.
    Alone,
}

impl Sender {
    /// Sends until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut wanted = Wanted::Full;
        // Parts up to this one are sent alone, as one of them was refused.
        let mut alone_until = i64::MIN;
        loop {
            let Some(transport) = self.transport(&stop).await else { return };
            let (reply, answer) = oneshot::channel();
            if !(self.spool)(SpoolMessage::Next(self.lane, wanted, reply)) {
                return;
            }
            let taken = tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = self.transport.changed() => {
                    self.pace.reset();
                    continue;
                }
                taken = answer => match taken {
                    Ok(taken) => taken,
                    Err(_) => return,
                },
            };
            // A request under way is not broken off by a reload: the target may have taken it.
            let verdict = tokio::select! {
                () = stop.cancelled() => return,
                verdict = transport.send(self.clock.wall(), &taken.batch) => verdict,
            };
            match self.follow(&taken, verdict) {
                AfterVerdict::Settled => {
                    if !(self.spool)(SpoolMessage::Settled(self.lane, taken.last)) {
                        return;
                    }
                    wanted = if taken.last < alone_until { Wanted::One } else { Wanted::Full };
                }
                AfterVerdict::Again(pause) => {
                    wanted = Wanted::UpTo(taken.last);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        Ok(()) = self.transport.changed() => self.pace.reset(),
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                AfterVerdict::Alone => {
                    alone_until = taken.last;
                    wanted = Wanted::One;
                }
            }
        }
    }

    /// What sends, once there is something; `None` on `stop`. What was replaced begins without a back-off.
    async fn transport(&mut self, stop: &CancellationToken) -> Option<Arc<dyn ExportTarget>> {
        loop {
            // It may have changed while a request was under way.
            if self.transport.has_changed().unwrap_or(false) {
                self.pace.reset();
            }
            if let Some(transport) = &*self.transport.borrow_and_update() {
                return Some(Arc::clone(transport));
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                Ok(()) = self.transport.changed() => self.pace.reset(),
            }
        }
    }

    fn follow(&mut self, taken: &Taken, verdict: ExportVerdict) -> AfterVerdict {
        let now = self.clock.wall();
        let (target, signal) = (self.counters.target, self.counters.signal.as_str());
        let items = taken.batch.items;
        match verdict {
            ExportVerdict::Delivered => {
                self.delivered(items);
                AfterVerdict::Settled
            }
            ExportVerdict::PartlyRejected { items: rejected, message } => {
                let rejected = rejected.min(items);
                self.delivered(items - rejected);
                self.counters.rejected_items.fetch_add(rejected, Relaxed);
                tracing::warn!(
                    export = target,
                    signal,
                    rejected,
                    items,
                    reason = message,
                    "target rejected a part of an export"
                );
                AfterVerdict::Settled
            }
            ExportVerdict::Retry { error, after } => {
                let pause = self.pace.failed(after, fastrand::f64());
                self.failed(&error, "export failed; it is tried again");
                AfterVerdict::Again(pause)
            }
            ExportVerdict::Unauthorized { error, after } => {
                match self.pace.refused(now, taken.batch.at, after, fastrand::f64()) {
                    Some(pause) => {
                        self.failed(&error, "export was refused; it is tried again for an hour");
                        AfterVerdict::Again(pause)
                    }
                    None => {
                        self.counters.errors.fetch_add(1, Relaxed);
                        self.counters.drop_items(DropReason::Unauthorized, items);
                        AfterVerdict::Settled
                    }
                }
            }
            ExportVerdict::Refused { error } => {
                self.pace.reset();
                if taken.parts > 1 {
                    self.counters.errors.fetch_add(1, Relaxed);
                    return AfterVerdict::Alone;
                }
                self.failed(&error, "export was refused and is dropped");
                self.counters.drop_items(DropReason::Refused, items);
                AfterVerdict::Settled
            }
        }
    }

    fn delivered(&mut self, items: u64) {
        self.pace.reset();
        if !self.logged.is_empty() {
            let (target, signal) = (self.counters.target, self.counters.signal.as_str());
            tracing::info!(export = target, signal, "exported again");
            self.logged.clear();
            self.counters.set_last_error("");
        }
        self.counters.succeeded(self.clock.wall());
        self.counters.sent_batches.fetch_add(1, Relaxed);
        self.counters.sent_items.fetch_add(items, Relaxed);
    }

    fn failed(&mut self, error: &str, what: &'static str) {
        self.counters.errors.fetch_add(1, Relaxed);
        if self.logged != error {
            let (target, signal) = (self.counters.target, self.counters.signal.as_str());
            tracing::warn!(export = target, signal, error, "{what}");
            self.counters.set_last_error(error);
            error.clone_into(&mut self.logged);
        }
    }
}
