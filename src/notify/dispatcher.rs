//! One task for each receiver, so that a failing receiver delays no other, and their queues.
//!
//! A list is shared by the dispatcher, which adds to it, and its task, which works it off; a lock is held for a
//! moment and never across an await. When to send what is the list's own business, see `queue`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::model::{DeliveryOutcome, DeliveryReport, Notice, SendError, SendReason, Time, WallClock};

use super::queue::Queue;
use super::receiver::Receiver;

/// How a receiver's delivery stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiverStatus {
    /// Alerts whose notification is pending.
    pub pending: usize,
    /// Since when the oldest of them is due.
    pub oldest: Option<Time>,
    /// The error of the last failed send; `None` once a send succeeded.
    pub last_error: Option<String>,
}

/// Owns the delivery to all receivers. Dropped, it stops at once; what was not delivered stays in the outbox.
#[derive(Debug)]
pub struct Dispatcher {
    clock: Clock,
    reports: mpsc::Sender<DeliveryReport>,
    queues: BTreeMap<Arc<str>, Arc<ReceiverQueue>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Cancelled when the task of a receiver ends without having been stopped.
    broken: CancellationToken,
    _stop_when_dropped: DropGuard,
}

/// Where the dispatcher puts what a receiver's task takes away.
#[derive(Debug)]
struct ReceiverQueue {
    inner: Mutex<Inner>,
    /// Rung when the list, the receiver or `draining` changed.
    bell: Notify,
    status: watch::Sender<ReceiverStatus>,
}

#[derive(Debug)]
struct Inner {
    queue: Queue,
    receiver: Arc<Receiver>,
    /// What it is to be reminded of, as of the last time that this was asked.
    reminder: Option<Vec<Arc<Notice>>>,
    draining: bool,
}

/// What a task does next.
enum Step {
    Report(Vec<DeliveryReport>),
    Send(Arc<Receiver>, Vec<Arc<Notice>>),
    Remind(Arc<Receiver>, Vec<Arc<Notice>>),
    Wait(Option<Duration>),
    Stop,
}

impl Dispatcher {
    /// Starts a task for each of `receivers`. What comes of notices goes to `reports`, which must be read.
    pub fn start(receivers: Vec<Receiver>, clock: Clock, reports: mpsc::Sender<DeliveryReport>) -> Self {
        let stop = CancellationToken::new();
        let mut dispatcher = Self {
            clock,
            reports,
            queues: BTreeMap::new(),
            tasks: TaskTracker::new(),
            _stop_when_dropped: stop.clone().drop_guard(),
            stop,
            broken: CancellationToken::new(),
        };
        dispatcher.replace(receivers);
        dispatcher
    }

    /// Hands `notices` to their receivers, without waiting for anything. One whose receiver does not exist is
    /// given up. Has to be called within the runtime.
    pub fn dispatch(&self, notices: Vec<Arc<Notice>>) {
        let now = self.clock.now();
        let mut by_receiver: BTreeMap<Arc<str>, Vec<Arc<Notice>>> = BTreeMap::new();
        for notice in notices {
            by_receiver.entry(Arc::clone(&notice.receiver)).or_default().push(notice);
        }
        for (receiver, notices) in by_receiver {
            match self.queues.get(&receiver) {
                Some(queue) => queue.change(|inner| {
                    for notice in notices {
                        inner.queue.push(now, notice);
                    }
                }),
                None => self.dead_letter(DeliveryOutcome { receiver, notices, at: now }),
            }
        }
    }

    /// Repeats `standing` to `receiver`, before all that is dispatched later. A repeat that failed is no loss: the next one
    /// has all of it.
    pub fn remind(&self, receiver: &str, standing: Vec<Arc<Notice>>) {
        if let Some(queue) = self.queues.get(receiver) {
            queue.change(|inner| inner.reminder = Some(standing));
        }
    }

    fn dead_letter(&self, outcome: DeliveryOutcome) {
        let (reports, stop) = (self.reports.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let message = format!("there is no receiver {}", outcome.receiver);
            let error = SendError::permanent(SendReason::Dropped, message);
            drop(stop.run_until_cancelled(reports.send(DeliveryReport::DeadLettered(outcome, error))).await);
        });
    }

    /// Puts other receivers in the place of those there are. One that keeps its name keeps its list, and is tried
    /// again without a pause; what is pending for a removed one is dead-lettered.
    pub fn replace(&mut self, receivers: Vec<Receiver>) {
        let now = self.clock.now();
        let mut former = std::mem::take(&mut self.queues);
        for receiver in receivers {
            let (name, receiver) = (Arc::clone(&receiver.name), Arc::new(receiver));
            let queue = match former.remove(&name) {
                Some(queue) => {
                    queue.change(|inner| {
                        inner.queue.reset(receiver.pace);
                        inner.receiver = receiver;
                    });
                    queue
                }
                None => self.open(receiver),
            };
            self.queues.insert(name, queue);
        }
        for queue in former.into_values() {
            queue.change(|inner| inner.queue.close(now));
        }
    }

    fn open(&self, receiver: Arc<Receiver>) -> Arc<ReceiverQueue> {
        let queue = Queue::new(Arc::clone(&receiver.name), receiver.pace);
        let inner = Mutex::new(Inner { queue, receiver, reminder: None, draining: false });
        let queue = Arc::new(ReceiverQueue { inner, bell: Notify::new(), status: watch::Sender::default() });
        let (clock, reports, stop) = (self.clock.clone(), self.reports.clone(), self.stop.clone());
        let served = Arc::clone(&queue);
        let unless_done = self.broken.clone().drop_guard();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(serve(&served, &clock, &reports)).await;
            unless_done.disarm();
        });
        queue
    }

    /// Cancelled when the task of a receiver has panicked.
    pub fn broken(&self) -> CancellationToken {
        self.broken.clone()
    }

    /// How many notices wait for `receiver`; `None` when there is no such receiver.
    pub fn pending(&self, receiver: &str) -> Option<usize> {
        self.queues.get(receiver).map(|queue| queue.lock().queue.len())
    }

    /// Has nothing but announcements sent until this is over.
    pub fn set_paused(&self, is_paused: bool) {
        let now = self.clock.now();
        for queue in self.queues.values() {
            queue.change(|inner| inner.queue.set_paused(now, is_paused));
        }
    }

    /// The receivers that forget what they are not reminded of.
    pub fn forgetful(&self) -> Vec<Arc<str>> {
        let forgets = |queue: &Arc<ReceiverQueue>| queue.lock().receiver.is_forgetful();
        self.queues.iter().filter(|(_, queue)| forgets(queue)).map(|(name, _)| Arc::clone(name)).collect()
    }

    /// How each receiver's delivery stands, from now on.
    pub fn statuses(&self) -> Vec<(Arc<str>, watch::Receiver<ReceiverStatus>)> {
        self.queues.iter().map(|(name, queue)| (Arc::clone(name), queue.status.subscribe())).collect()
    }

    /// Sends what waits without gathering it any longer, except where a retry is not due yet, and stops; at the
    /// latest after `deadline`, with what is under way broken off. Reports must be read meanwhile.
    pub async fn drain(self, deadline: Duration) {
        for queue in self.queues.values() {
            queue.change(|inner| inner.draining = true);
        }
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_err() {
            self.stop.cancel();
            self.tasks.wait().await;
        }
    }
}

impl ReceiverQueue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is on the queue, shows how it stands, and wakes the task.
    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        change(&mut inner);
        let queue = &inner.queue;
        let status =
            ReceiverStatus { pending: queue.len(), oldest: queue.oldest(), last_error: queue.last_error().cloned() };
        self.status.send_replace(status);
        drop(inner);
        self.bell.notify_one();
    }

    fn step(&self, clock: &Clock) -> Step {
        let mut inner = self.lock();
        let reports = inner.queue.take_reports();
        if !reports.is_empty() {
            return Step::Report(reports);
        }
        let now = clock.now();
        // Before what became due after it: a reminder of an alert that ended since would bring it back.
        if let Some(standing) = inner.reminder.take().filter(|_| !inner.draining && !inner.queue.is_closed()) {
            return Step::Remind(Arc::clone(&inner.receiver), standing);
        }
        let next = if inner.draining { inner.queue.last_send_at(now) } else { inner.queue.next_send_at() };
        match next {
            Some(at) if at <= now => {
                let receiver = Arc::clone(&inner.receiver);
                let batch = inner.queue.take_batch(now, |notices| receiver.fitting(now, notices));
                Step::Send(receiver, batch)
            }
            Some(at) => Step::Wait(Some(clock.until(at))),
            None if inner.draining || inner.queue.is_closed() => Step::Stop,
            None => Step::Wait(None),
        }
    }
}

async fn serve(queue: &ReceiverQueue, clock: &Clock, reports: &mpsc::Sender<DeliveryReport>) {
    loop {
        match queue.step(clock) {
            Step::Report(batch) => {
                for report in batch {
                    if reports.send(report).await.is_err() {
                        return;
                    }
                }
            }
            Step::Send(receiver, notices) => {
                let (now, notices) = shown(clock, notices);
                let result = receiver.send(now, &notices).await;
                queue.change(|inner| inner.queue.on_result(clock.now(), fastrand::f64(), result));
            }
            Step::Remind(receiver, standing) => {
                let (now, standing) = shown(clock, standing);
                let result = receiver.remind(now, &standing).await;
                queue.change(|inner| inner.queue.on_reminded(clock.now(), result));
            }
            Step::Wait(None) => queue.bell.notified().await,
            Step::Wait(Some(time)) => {
                tokio::select! {
                    () = queue.bell.notified() => {}
                    () = tokio::time::sleep(time) => {}
                }
            }
            Step::Stop => return,
        }
    }
}

/// The time now and `notices` as the wall clock has them, which may have been set since they were written.
fn shown(clock: &Clock, notices: Vec<Arc<Notice>>) -> (Time, Vec<Arc<Notice>>) {
    let (now, wall) = (clock.now(), clock.wall_clock());
    if wall == WallClock::default() {
        return (now, notices);
    }
    (wall.to_wall(now), notices.iter().map(|notice| Arc::new(notice.shown(&wall))).collect())
}

#[cfg(test)]
mod tests;
