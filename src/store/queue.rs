//! A bounded queue from async callers to a plain thread.
//!
//! A semaphore bounds it, so that callers wait for capacity without blocking their thread. The receiver can wait with a
//! timeout, which the thread uses for housekeeping.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::error::StoreError;

/// The reply to a write: whether it is durable.
pub(super) type WriteReply = oneshot::Sender<Result<(), StoreError>>;

type QueuedItem<T> = (T, OwnedSemaphorePermit);

/// The sending half.
#[derive(Debug)]
pub(super) struct QueueSender<T> {
    permits: Arc<Semaphore>,
    capacity: u32,
    items: mpsc::Sender<QueuedItem<T>>,
    /// Closed once the receiver is dropped.
    receiver_alive: watch::Receiver<()>,
}

impl<T> Clone for QueueSender<T> {
    fn clone(&self) -> Self {
        Self {
            permits: Arc::clone(&self.permits),
            capacity: self.capacity,
            items: self.items.clone(),
            receiver_alive: self.receiver_alive.clone(),
        }
    }
}

/// The receiving half.
#[derive(Debug)]
pub(super) struct QueueReceiver<T>(
    mpsc::Receiver<QueuedItem<T>>,
    #[expect(dead_code, reason = "held: dropping it signals the end of the receiver")] watch::Sender<()>,
);

/// The result of waiting for an item.
pub(super) enum QueueEvent<T> {
    /// An item.
    Item(T),
    /// No item arrived in time.
    Timeout,
    /// All senders are gone.
    Closed,
}

/// A queue for items with a total weight of `capacity`.
pub(super) fn bounded<T>(capacity: u32) -> (QueueSender<T>, QueueReceiver<T>) {
    let (items, end) = mpsc::channel();
    let (alive, receiver_alive) = watch::channel(());
    let permits = Arc::new(Semaphore::new(capacity as usize));
    (QueueSender { permits, capacity, items, receiver_alive }, QueueReceiver(end, alive))
}

impl<T> QueueSender<T> {
    /// Sends `item`, waiting for capacity. `Err` returns it when the receiver is gone.
    pub(super) async fn send(&self, item: T) -> Result<(), T> {
        match Arc::clone(&self.permits).acquire_owned().await {
            Ok(permit) => self.items.send((item, permit)).map_err(|error| error.0.0),
            Err(_) => Err(item),
        }
    }

    /// Sends `item` if there is capacity for its `weight` (at least 1). `Err` returns it.
    pub(super) fn try_send(&self, item: T, weight: u32) -> Result<(), T> {
        match self.reserve(weight) {
            Some(capacity) => self.send_reserved(item, capacity),
            None => Err(item),
        }
    }

    /// Capacity for an item of this `weight` (at least 1), if there is any.
    pub(super) fn reserve(&self, weight: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_many_owned(weight.max(1)).ok()
    }

    /// Sends `item` with reserved capacity. `Err` returns it when the receiver is gone.
    pub(super) fn send_reserved(&self, item: T, capacity: OwnedSemaphorePermit) -> Result<(), T> {
        self.items.send((item, capacity)).map_err(|error| error.0.0)
    }

    /// Waits until the receiver is gone.
    pub(super) async fn ended(&self) {
        // No value is ever sent: only closing wakes it.
        while self.receiver_alive.clone().changed().await.is_ok() {}
    }

    /// The total weight of queued items.
    pub(super) fn queued(&self) -> usize {
        (self.capacity as usize).saturating_sub(self.permits.available_permits())
    }
}

impl<T> QueueReceiver<T> {
    /// Waits for the next item.
    pub(super) fn recv(&self, timeout: Duration) -> QueueEvent<T> {
        match self.0.recv_timeout(timeout) {
            Ok((item, _)) => QueueEvent::Item(item),
            Err(mpsc::RecvTimeoutError::Timeout) => QueueEvent::Timeout,
            Err(mpsc::RecvTimeoutError::Disconnected) => QueueEvent::Closed,
        }
    }

    /// The next item, if one is there.
    pub(super) fn try_recv(&self) -> Option<T> {
        self.0.try_recv().ok().map(|(item, _)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_does_not_fit_is_returned() {
        let (sender, receiver) = bounded(3);
        assert_eq!(sender.try_send("two", 2), Ok(()));
        assert_eq!(sender.try_send("two more", 2), Err("two more"));
        assert_eq!(sender.try_send("one", 1), Ok(()));
        assert_eq!(sender.queued(), 3);
        assert_eq!((receiver.try_recv(), receiver.try_recv(), receiver.try_recv()), (Some("two"), Some("one"), None));
        assert_eq!(sender.queued(), 0);
        drop(receiver);
        assert_eq!(sender.try_send("late", 1), Err("late"));
    }

    #[tokio::test]
    async fn the_end_of_the_thread_is_noticed_even_after_a_panic() {
        let (sender, receiver) = bounded::<()>(1);
        let thread = std::thread::spawn(move || {
            let _receiver = receiver;
            panic!("a test of what a panic does");
        });
        sender.ended().await;
        assert!(thread.join().is_err());
    }
}
