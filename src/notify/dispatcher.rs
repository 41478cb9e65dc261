//! One task for each receiver, so that the trouble of one never delays another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::Receiver;
use super::queue::{After, Queue, Waiting};
use crate::clock::Clock;
use crate::model::{Notice, Outcome, Report, SendError, SendReason, Time};

/// Batches that may wait for a task to look at them.
const INBOX: usize = 1024;

/// How a receiver stands.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Its name.
    pub name: Arc<str>,
    /// Alerts that wait to be told.
    pub pending: usize,
    /// When the oldest of them became due.
    pub oldest: Option<Time>,
    /// What the last failed send said; `None` once one succeeded.
    pub last_error: Option<String>,
}

/// Sends notices to their receivers.
#[derive(Debug, Default)]
pub struct Dispatcher {
    clock: Option<Clock>,
    reports: Option<mpsc::Sender<Report>>,
    workers: BTreeMap<Arc<str>, Worker>,
    order: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Worker {
    inbox: mpsc::Sender<Order>,
    /// Orders that found the inbox full; they go first the next time.
    backlog: Vec<Order>,
    status: watch::Receiver<Status>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Order {
    Tell(Vec<Arc<Notice>>),
    Replace(Receiver),
    /// Give back what waits as refused, and end.
    Remove,
    /// Send what waits at once, and end when nothing waits or a send failed.
    Drain,
}

impl Worker {
    fn order(&mut self, order: Order) {
        self.backlog.push(order);
        while let Some(order) = (!self.backlog.is_empty()).then(|| self.backlog.remove(0)) {
            if let Err(mpsc::error::TrySendError::Full(order)) = self.inbox.try_send(order) {
                self.backlog.insert(0, order);
                return;
            }
        }
    }
}

impl Dispatcher {
    /// Starts a task for each receiver; what comes of sends goes to `reports`.
    pub fn start(receivers: Vec<Receiver>, clock: Clock, reports: mpsc::Sender<Report>) -> Self {
        let mut dispatcher =
            Self { clock: Some(clock), reports: Some(reports), workers: BTreeMap::new(), order: Vec::new() };
        dispatcher.replace(receivers);
        dispatcher
    }

    /// Hands over notices. One whose receiver is gone is reported as given up.
    pub fn dispatch(&mut self, notices: Vec<Arc<Notice>>) {
        let mut by_receiver: BTreeMap<Arc<str>, Vec<Arc<Notice>>> = BTreeMap::new();
        for notice in notices {
            by_receiver.entry(Arc::clone(&notice.receiver)).or_default().push(notice);
        }
        for (name, notices) in by_receiver {
            match self.workers.get_mut(&name) {
                Some(worker) => worker.order(Order::Tell(notices)),
                None => self.give_up(name, notices),
            }
        }
    }

    /// Takes over other receivers. One of the same name keeps what waits for it.
    pub fn replace(&mut self, receivers: Vec<Receiver>) {
        let names: Vec<Arc<str>> = receivers.iter().map(|receiver| Arc::clone(receiver.name())).collect();
        for (name, worker) in &mut self.workers {
            if !names.contains(name) {
                worker.order(Order::Remove);
            }
        }
        self.workers.retain(|name, _| names.contains(name));
        self.order.clone_from(&names);
        let (Some(clock), Some(reports)) = (&self.clock, &self.reports) else { return };
        for receiver in receivers {
            let name = Arc::clone(receiver.name());
            match self.workers.get_mut(&name) {
                Some(worker) => worker.order(Order::Replace(receiver)),
                None => {
                    let worker = start(receiver, clock.clone(), reports.clone());
                    self.workers.insert(name, worker);
                }
            }
        }
    }

    /// How each receiver stands, in the configuration's order.
    pub fn statuses(&self) -> Vec<Status> {
        self.order
            .iter()
            .filter_map(|name| self.workers.get(name))
            .map(|worker| worker.status.borrow().clone())
            .collect()
    }

    /// Sends what waits, within `within`, and ends. What is not delivered by then is still owed.
    pub async fn drain(mut self, within: Duration) {
        for worker in self.workers.values_mut() {
            worker.order(Order::Drain);
        }
        let tasks = self.workers.into_values().map(|worker| worker.task);
        let all = async {
            for task in tasks {
                // A task that broke has nothing more to send.
                drop(task.await);
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!(
                "notifications still waited when the time to send them was over; they are sent after the next start"
            );
        }
    }

    fn give_up(&self, receiver: Arc<str>, notices: Vec<Arc<Notice>>) {
        let (Some(clock), Some(reports)) = (&self.clock, self.reports.clone()) else { return };
        let outcome = Outcome { receiver, notices, at: clock.now() };
        tokio::spawn(async move {
            // With nobody to hear the report the program is at its end.
            drop(reports.send(Report::GaveUp(outcome, removed())).await);
        });
    }
}

fn removed() -> SendError {
    SendError {
        reason: SendReason::Refused,
        retryable: false,
        retry_after: None,
        message: "the receiver is no longer configured".to_owned(),
    }
}

fn start(receiver: Receiver, clock: Clock, reports: mpsc::Sender<Report>) -> Worker {
    let (inbox, orders) = mpsc::channel(INBOX);
    let (status, status_end) = watch::channel(Status { name: Arc::clone(receiver.name()), ..Status::default() });
    let state = Task { receiver, clock, reports, status, queue: Queue::default(), last_error: None, draining: false };
    Worker { inbox, backlog: Vec::new(), status: status_end, task: tokio::spawn(state.run(orders)) }
}

/// The task of one receiver.
struct Task {
    receiver: Receiver,
    clock: Clock,
    reports: mpsc::Sender<Report>,
    status: watch::Sender<Status>,
    queue: Queue,
    last_error: Option<String>,
    draining: bool,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut waiting_orders = Vec::new();
        loop {
            self.publish();
            let now = self.clock.now();
            let due = self.queue.next_send(now);
            if self.draining && due.is_none() {
                return;
            }
            match due {
                Some(at) if at <= now || self.draining => {
                    // Orders that come in meanwhile are put aside and served after the send.
                    let batch = self.queue.take(now);
                    let notices: Vec<Arc<Notice>> = batch.iter().map(|waiting| Arc::clone(&waiting.notice)).collect();
                    let result = {
                        let sending = self.receiver.send(&notices);
                        tokio::pin!(sending);
                        loop {
                            tokio::select! {
                                result = &mut sending => break result,
                                Some(order) = orders.recv() => waiting_orders.push(order),
                            }
                        }
                    };
                    let failed = result.is_err();
                    self.settle(batch, result).await;
                    if self.draining && failed {
                        return;
                    }
                }
                due => {
                    let wait = due.map_or(Duration::from_secs(3600), |at| at.since(now));
                    tokio::select! {
                        order = orders.recv() => match order {
                            Some(order) => waiting_orders.push(order),
                            None => return,
                        },
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
            for order in waiting_orders.drain(..) {
                if self.serve(order).await {
                    return;
                }
            }
        }
    }

    /// Serves one order; true ends the task.
    async fn serve(&mut self, order: Order) -> bool {
        match order {
            Order::Tell(notices) => notices.into_iter().for_each(|notice| self.queue.push(notice)),
            Order::Replace(receiver) => self.receiver = receiver,
            Order::Drain => self.draining = true,
            Order::Remove => {
                let given_up = self.queue.drain();
                if !given_up.is_empty() {
                    self.report_given_up(given_up, removed()).await;
                }
                return true;
            }
        }
        false
    }

    async fn settle(&mut self, batch: Vec<Waiting>, result: Result<(), SendError>) {
        let at = self.clock.now();
        match result {
            Ok(()) => {
                self.queue.delivered();
                self.last_error = None;
                let notices = batch.into_iter().flat_map(Waiting::all).collect();
                self.report(Report::Delivered(Outcome { receiver: Arc::clone(self.receiver.name()), notices, at }))
                    .await;
            }
            Err(error) => {
                self.last_error = Some(error.message.clone());
                // Spread by the clock's last digits; nothing here needs better chance.
                let jitter = (at.as_millis() % 997) as f64 / 997.0;
                match self.queue.failed(at, batch, &error, jitter) {
                    After::Again => {
                        let receiver = Arc::clone(self.receiver.name());
                        self.report(Report::Failed { receiver, error }).await;
                    }
                    After::GiveUp(given_up) => self.report_given_up(given_up, error).await,
                }
            }
        }
    }

    async fn report_given_up(&self, given_up: Vec<Waiting>, error: SendError) {
        let notices = given_up.into_iter().flat_map(Waiting::all).collect();
        let outcome = Outcome { receiver: Arc::clone(self.receiver.name()), notices, at: self.clock.now() };
        self.report(Report::GaveUp(outcome, error)).await;
    }

    async fn report(&self, report: Report) {
        // With nobody to hear it the program is at its end; the outbox still has the notices.
        drop(self.reports.send(report).await);
    }

    fn publish(&self) {
        self.status.send_replace(Status {
            name: Arc::clone(self.receiver.name()),
            pending: self.queue.len(),
            oldest: self.queue.oldest(),
            last_error: self.last_error.clone(),
        });
    }
}
