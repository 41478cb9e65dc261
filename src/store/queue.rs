//! A bounded queue from async callers to a plain thread.
//!
//! The bound is a semaphore, so that a caller waits for room without blocking its thread; the receiving end can
//! wait with a timeout, which is when the thread does its housekeeping.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

type Carried<T> = (T, OwnedSemaphorePermit);

/// The end that puts in.
#[derive(Debug)]
pub(super) struct Sender<T> {
    room: Arc<Semaphore>,
    capacity: u32,
    items: mpsc::Sender<Carried<T>>,
    /// Closed once nobody takes out any more.
    taker: watch::Receiver<()>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            room: Arc::clone(&self.room),
            capacity: self.capacity,
            items: self.items.clone(),
            taker: self.taker.clone(),
        }
    }
}

/// The end that takes out.
#[derive(Debug)]
pub(super) struct Receiver<T>(
    mpsc::Receiver<Carried<T>>,
    #[expect(dead_code, reason = "held: its end tells that this one ended")] watch::Sender<()>,
);

/// What a wait brought.
pub(super) enum Received<T> {
    /// An item.
    Item(T),
    /// Nothing came in time.
    Quiet,
    /// Nothing will come any more.
    Closed,
}

/// A queue that holds items of a total weight of `capacity`.
pub(super) fn bounded<T>(capacity: u32) -> (Sender<T>, Receiver<T>) {
    let (items, end) = mpsc::channel();
    let (alive, taker) = watch::channel(());
    let room = Arc::new(Semaphore::new(capacity as usize));
    (Sender { room, capacity, items, taker }, Receiver(end, alive))
}

impl<T> Sender<T> {
    /// Puts `item` in, waiting for room; `Err` when nobody takes out any more.
    pub(super) async fn send(&self, item: T) -> Result<(), T> {
        match Arc::clone(&self.room).acquire_owned().await {
            Ok(permit) => self.items.send((item, permit)).map_err(|refused| refused.0.0),
            Err(_) => Err(item),
        }
    }

    /// Puts `item` in if there is room for its `weight` (at least 1); `Err` gives it back.
    pub(super) fn try_send(&self, item: T, weight: u32) -> Result<(), T> {
        match Arc::clone(&self.room).try_acquire_many_owned(weight.max(1)) {
            Ok(permit) => self.items.send((item, permit)).map_err(|refused| refused.0.0),
            Err(_) => Err(item),
        }
    }

    /// Waits until nobody takes out any more.
    pub(super) async fn ended(&self) {
        // Nothing is ever sent, so that only the end is a change.
        while self.taker.clone().changed().await.is_ok() {}
    }

    /// The weight that waits.
    pub(super) fn waiting(&self) -> usize {
        (self.capacity as usize).saturating_sub(self.room.available_permits())
    }
}

impl<T> Receiver<T> {
    /// Waits for the next item.
    pub(super) fn recv(&self, timeout: Duration) -> Received<T> {
        match self.0.recv_timeout(timeout) {
            Ok((item, _)) => Received::Item(item),
            Err(mpsc::RecvTimeoutError::Timeout) => Received::Quiet,
            Err(mpsc::RecvTimeoutError::Disconnected) => Received::Closed,
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
    fn what_does_not_fit_comes_back() {
        let (sender, receiver) = bounded(3);
        assert_eq!(sender.try_send("two", 2), Ok(()));
        assert_eq!(sender.try_send("two more", 2), Err("two more"));
        assert_eq!(sender.try_send("one", 1), Ok(()));
        assert_eq!(sender.waiting(), 3);
        assert_eq!((receiver.try_recv(), receiver.try_recv(), receiver.try_recv()), (Some("two"), Some("one"), None));
        assert_eq!(sender.waiting(), 0);
        drop(receiver);
        assert_eq!(sender.try_send("late", 1), Err("late"));
    }

    #[tokio::test]
    async fn the_end_of_the_thread_is_noticed_whatever_ended_it() {
        let (sender, receiver) = bounded::<()>(1);
        let thread = std::thread::spawn(move || {
            let _receiver = receiver;
            panic!("a test of what a panic does");
        });
        sender.ended().await;
        assert!(thread.join().is_err());
    }
}
