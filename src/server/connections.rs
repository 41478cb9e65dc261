//! The open connections: at most so many, and one that does nothing makes room for a new one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// An open connection, as its task sees it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
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

/// File descriptors kept for the store, for polls and for receivers.
const OWN_DESCRIPTORS: usize = 128;

/// All open connections, oldest first. The lock is held for the time of a scan and never across an await.
#[derive(Debug)]
pub struct Connections {
    limit: usize,
    open: Mutex<Vec<Connection>>,
}

impl Connections {
    /// Room for `limit` connections, or for as many as the process can have beside its files and its own requests: past
    /// that no new one could be accepted, and none that does nothing would make room.
    pub fn new(limit: usize) -> Self {
        Self::of(within_descriptors(limit))
    }

    const fn of(limit: usize) -> Self {
        Self { limit, open: Mutex::new(Vec::new()) }
    }

    /// A place for a new connection; `None` when all are busy. The oldest that serves nothing, such as one
    /// that dribbles its header, is ended to make room.
    pub(super) fn admit(&self) -> Option<Connection> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= self.limit {
            let idle = open.iter().position(|connection| !connection.busy.load(Ordering::Relaxed))?;
            open.remove(idle).evicted.cancel();
        }
        let connection = Connection { busy: Arc::default(), evicted: CancellationToken::new() };
        open.push(connection.clone());
        Some(connection)
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

    #[test]
    fn an_idle_connection_makes_room_and_a_busy_one_does_not() {
        let connections = Connections::of(2);
        let first = connections.admit().expect("room");
        let second = connections.admit().expect("room");
        let busy = first.serve();
        let third = connections.admit().expect("the idle one makes room");
        assert!(second.evicted.is_cancelled() && !first.evicted.is_cancelled());
        let also_busy = third.serve();
        assert!(connections.admit().is_none(), "all are busy");
        drop((busy, also_busy));
        connections.release(&first);
        assert!(connections.admit().is_some());
    }
}
