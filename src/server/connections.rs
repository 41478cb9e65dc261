//! The open connections: at most so many, and one that does nothing for a while makes room for a new one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a connection has its place whatever it does: where hundreds come in a flood, one that means well would
/// else be shown out before its request arrives.
const HOLD: Duration = Duration::from_millis(100);

/// An open connection, as its task sees it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    since: Instant,
    /// How many requests are being served on it.
    busy: Arc<AtomicUsize>,
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
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(&self.busy))
    }
}

/// While it lives, a request is being served.
#[derive(Debug)]
pub(super) struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// File descriptors kept for the store, for polls and for receivers.
const OWN_DESCRIPTORS: usize = 128;

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
pub struct Connections {
    limit: usize,
    open: Mutex<Vec<Connection>>,
    /// Places for requests of connections that may have many at once: as many as there may be connections.
    streams: Semaphore,
}

impl Connections {
    /// Room for `limit` connections, or for as many as the process can have beside its files and its own requests: past
    /// that no new one could be accepted, and none that does nothing would make room.
    pub fn new(limit: usize) -> Self {
        Self::of(within_descriptors(limit))
    }

    fn of(limit: usize) -> Self {
        Self { limit, open: Mutex::default(), streams: Semaphore::new(limit.min(Semaphore::MAX_PERMITS)) }
    }

    /// A place for a request beside others of its connection, if there is one: together such connections take no more
    /// memory than those that have one request at a time.
    pub(super) fn stream(&self) -> Option<SemaphorePermit<'_>> {
        self.streams.try_acquire().ok()
    }

    /// A place for a new connection. The oldest that serves nothing, such as one that dribbles its header, is ended
    /// to make room.
    pub(super) fn admit(&self, now: Instant) -> Admission {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= self.limit {
            let is_idle = |connection: &Connection| connection.busy.load(Ordering::Relaxed) == 0;
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

/// As many connections as there are descriptors for.
fn within_descriptors(connections: usize) -> usize {
    let limits = procfs::process::Process::myself().and_then(|process| process.limits());
    let Ok(procfs::process::LimitValue::Value(most)) = limits.map(|limits| limits.max_open_files.soft_limit) else {
        return connections;
    };
    let room = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(OWN_DESCRIPTORS).max(16);
    if room < connections {
        tracing::warn!(
            connections = room,
            descriptors = most,
            "limits.connections does not fit the limit of open files; raise `ulimit -n`"
        );
    }
    connections.min(room)
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
        let connections = Connections::of(2);
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

    #[test]
    fn there_are_as_many_streams_as_connections() {
        let connections = Connections::of(2);
        let streams = [connections.stream().expect("a place"), connections.stream().expect("another")];
        assert!(connections.stream().is_none());
        drop(streams);
        assert!(connections.stream().is_some(), "a place again");
    }
}
