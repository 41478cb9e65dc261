//! The open connections: at most so many, and one that does nothing for a while makes room for a new one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a connection has its place whatever it does: where hundreds come in a flood, one that means well would
/// else be shown out before its request arrives.
const HOLD: Duration = Duration::from_millis(100);

/// An open connection, as its task sees it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    since: Instant,
    /// Whether a request is being served on it.
    busy: Arc<AtomicBool>,
    /// Asks its task to end it.
    evicted: CancellationToken,
}

impl Connection {
    /// Waits until the connection is to make room.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// Marks it as busy until the guard is dropped.
    pub(super) fn serve(&self) -> Busy {
        self.busy.store(true, Ordering::Relaxed);
        Busy(Arc::clone(&self.busy))
    }
}

/// While it lives, a request is being served.
#[derive(Debug)]
pub(super) struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// What becomes of a new connection.
#[derive(Debug)]
pub(super) enum Admission {
    /// It has a place.
    In(Connection),
    /// It may have the place of one that does nothing then.
    Wait(Instant),
    /// All serve a request.
    Full,
}

/// All open connections, oldest first. The lock is held for the time of a scan and never across an await.
#[derive(Debug)]
pub(super) struct Connections {
    limit: usize,
    open: Mutex<Vec<Connection>>,
}

impl Connections {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, open: Mutex::new(Vec::new()) }
    }

    /// A place for a new connection. The oldest that serves nothing, such as one that dribbles its header, is ended
    /// to make room.
    pub(super) fn admit(&self, now: Instant) -> Admission {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= self.limit {
            let is_idle = |connection: &Connection| !connection.busy.load(Ordering::Relaxed);
            let Some(idle) = open.iter().position(is_idle) else { return Admission::Full };
            let held = open[idle].since + HOLD;
            if held > now {
                return Admission::Wait(held);
            }
            open.remove(idle).evicted.cancel();
        }
        let connection = Connection { since: now, busy: Arc::default(), evicted: CancellationToken::new() };
        open.push(connection.clone());
        Admission::In(connection)
    }

    /// Gives a place back.
    pub(super) fn release(&self, connection: &Connection) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| !Arc::ptr_eq(&other.busy, &connection.busy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(connections: &Connections, now: Instant) -> Connection {
        match connections.admit(now) {
            Admission::In(connection) => connection,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_that_did_nothing_for_a_while_makes_room_and_a_busy_one_does_not() {
        let connections = Connections::new(2);
        let start = Instant::now();
        let first = admit(&connections, start);
        let second = admit(&connections, start + HOLD / 2);
        let busy = first.serve();
        let third = connections.admit(start + HOLD);
        assert!(matches!(third, Admission::Wait(then) if then == start + HOLD / 2 + HOLD), "{third:?}");
        assert!(!second.evicted.is_cancelled());
        let third = admit(&connections, start + HOLD / 2 + HOLD);
        assert!(second.evicted.is_cancelled() && !first.evicted.is_cancelled());
        let also_busy = third.serve();
        let late = start + HOLD * 10;
        assert!(matches!(connections.admit(late), Admission::Full));
        drop((busy, also_busy));
        connections.release(&first);
        admit(&connections, late);
    }
}
