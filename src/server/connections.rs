//! The open connections: at most so many, of which one that waits for its peer makes room for a new one.
//!
//! A connection waits for its peer while it reads a head or a body, sends an answer, shakes hands or idles. The peer with
//! most of such connections on a listener loses one first, the one that has waited longest. Where all are at work,
//! a few places are left, in which only health routes are answered.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Surface;
use super::room::Room;

/// How long a connection has its place whatever it does: where hundreds come in a flood, one that means well would
/// else be shown out before its request arrives.
const HOLD: Duration = Duration::from_millis(100);
/// File descriptors kept for the store, for polls and for receivers.
const OWN_DESCRIPTORS: usize = 128;
/// Connections beside all others that health routes are answered on.
const RESERVED: usize = 8;
/// How long an export may have its place among those of HTTP/2 while others wait for it, and how long they wait.
const STREAM_HOLD: Duration = Duration::from_secs(1);
const STREAM_PATIENCE: Duration = Duration::from_secs(3);

/// The largest request head in bytes.
pub(super) const MAX_HEAD: usize = 32 * 1024;

/// An open connection, as its task and its requests see it.
#[derive(Clone, Debug)]
pub(super) struct Connection(Arc<State>);

#[derive(Debug)]
struct State {
    surface: Surface,
    peer: IpAddr,
    local: IpAddr,
    is_reserved: bool,
    /// When it was opened or last answered a request.
    since: Mutex<Instant>,
    /// How many requests are at work on it, none of which waits for its peer.
    working: AtomicUsize,
    /// Asks its task to end it.
    evicted: CancellationToken,
}

impl Connection {
    /// Waits until the connection is to make room.
    pub(super) async fn evicted(&self) {
        self.0.evicted.cancelled().await;
    }

    /// What ends the connection.
    pub(super) fn eviction(&self) -> CancellationToken {
        self.0.evicted.clone()
    }

    /// The address of ours that it was made to.
    pub(super) fn local(&self) -> IpAddr {
        self.0.local
    }

    /// Whether only health routes are answered on it.
    pub(super) fn is_reserved(&self) -> bool {
        self.0.is_reserved
    }

    /// Marks it as at work until the guard is dropped.
    pub(super) fn serve(&self) -> Work {
        self.0.working.fetch_add(1, Ordering::Relaxed);
        Work(self.clone())
    }

    /// The body of a request on it. While it is awaited, the request is not at work.
    pub(super) fn arriving(&self, body: Incoming) -> Arriving {
        Arriving { body, connection: self.clone(), is_awaited: false }
    }

    fn since(&self) -> Instant {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_waiting(&self) -> bool {
        self.0.working.load(Ordering::Relaxed) == 0
    }

    fn group(&self) -> (Surface, IpAddr) {
        (self.0.surface, self.0.peer)
    }
}

/// While it lives, a request is being served.
#[derive(Debug)]
pub(super) struct Work(Connection);

impl Drop for Work {
    fn drop(&mut self) {
        *self.0.0.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.0.working.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's body.
#[derive(Debug)]
pub(super) struct Arriving {
    body: Incoming,
    connection: Connection,
    is_awaited: bool,
}

impl Arriving {
    fn awaited(&mut self, is_awaited: bool) {
        if is_awaited != self.is_awaited {
            self.is_awaited = is_awaited;
            let working = &self.connection.0.working;
            if is_awaited {
                working.fetch_sub(1, Ordering::Relaxed)
            } else {
                working.fetch_add(1, Ordering::Relaxed)
            };
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.awaited(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.awaited(false);
    }
}

/// What becomes of a new connection.
#[derive(Debug)]
pub(super) enum Admission {
    /// It has a place.
    In(Connection),
    /// It may have the place of one that waits for its peer then.
    Wait(Instant),
    /// All are at work.
    Full,
}

/// All open connections of all listeners. The locks are held for the time of a scan and never across an await.
#[derive(Debug)]
pub struct Connections {
    limit: usize,
    open: Mutex<Vec<Connection>>,
    reserved: Mutex<Vec<Connection>>,
    /// Places for requests of connections that may have many at once: as many as there may be connections.
    streams: Arc<Room>,
}

impl Connections {
    /// Room for `limit` connections, or for as many as the process can have beside its files and its own requests: past
    /// that no new one could be accepted, and none that does nothing would make room.
    pub fn new(limit: usize) -> Self {
        Self::of(within_descriptors(limit))
    }

    fn of(limit: usize) -> Self {
        let streams = Room::new(limit, STREAM_HOLD, STREAM_PATIENCE);
        Self { limit, open: Mutex::default(), reserved: Mutex::default(), streams }
    }

    /// Places for requests beside others of their connection: together such connections take no more memory than those
    /// that have one request at a time.
    pub(super) const fn streams(&self) -> &Arc<Room> {
        &self.streams
    }

    /// A place for a new connection from `peer` to our address `local`.
    pub(super) fn admit(&self, surface: Surface, peer: SocketAddr, local: IpAddr, now: Instant) -> Admission {
        let new = |is_reserved| {
            Connection(Arc::new(State {
                surface,
                peer: peer.ip().to_canonical(),
                local: local.to_canonical(),
                is_reserved,
                since: Mutex::new(now),
                working: AtomicUsize::new(0),
                evicted: CancellationToken::new(),
            }))
        };
        match place(&self.open, self.limit, now) {
            Place::Free(mut open) => {
                let connection = new(false);
                open.push(connection.clone());
                return Admission::In(connection);
            }
            Place::After(then) => return Admission::Wait(then),
            Place::None if surface != Surface::Main => return Admission::Full,
            Place::None => {}
        }
        // Nobody waits here: it would keep those waiting for whom there may be a place by then.
        let Place::Free(mut reserved) = place(&self.reserved, RESERVED, now) else { return Admission::Full };
        let connection = new(true);
        reserved.push(connection.clone());
        Admission::In(connection)
    }

    /// Gives a place back.
    pub(super) fn release(&self, connection: &Connection) {
        let places = if connection.is_reserved() { &self.reserved } else { &self.open };
        let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|other| !Arc::ptr_eq(&other.0, &connection.0));
    }
}

/// A place among `limit`.
enum Place<'a> {
    Free(std::sync::MutexGuard<'a, Vec<Connection>>),
    After(Instant),
    None,
}

/// Looks for a place, and ends a connection that waits for its peer when there is none.
fn place(places: &Mutex<Vec<Connection>>, limit: usize, now: Instant) -> Place<'_> {
    let mut open = places.lock().unwrap_or_else(PoisonError::into_inner);
    if open.len() < limit {
        return Place::Free(open);
    }
    let mut crowds: HashMap<(Surface, IpAddr), usize> = HashMap::new();
    for waiting in open.iter().filter(|connection| connection.is_waiting()) {
        *crowds.entry(waiting.group()).or_default() += 1;
    }
    let crowd = |connection: &Connection| crowds.get(&connection.group()).copied().unwrap_or_default();
    let waiting = open.iter().enumerate().filter(|(_, connection)| connection.is_waiting());
    let longest = waiting.min_by_key(|(_, one)| (std::cmp::Reverse(crowd(one)), one.since()));
    let Some((at, connection)) = longest else { return Place::None };
    let held = connection.since() + HOLD;
    if held > now {
        return Place::After(held);
    }
    open.swap_remove(at).0.evicted.cancel();
    Place::Free(open)
}

/// As many connections as there are descriptors for.
fn within_descriptors(connections: usize) -> usize {
    let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current else { return connections };
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

    fn try_admit(connections: &Connections, surface: Surface, peer: u8, now: Instant) -> Admission {
        connections.admit(surface, SocketAddr::from(([10, 0, 0, peer], 1)), IpAddr::from([10, 0, 0, 1]), now)
    }

    fn admit(connections: &Connections, now: Instant) -> Connection {
        admit_from(connections, Surface::Main, 2, now)
    }

    fn admit_from(connections: &Connections, surface: Surface, peer: u8, now: Instant) -> Connection {
        match try_admit(connections, surface, peer, now) {
            Admission::In(connection) => connection,
            other => panic!("{other:?}"),
        }
    }

    fn is_out(connection: &Connection) -> bool {
        connection.0.evicted.is_cancelled()
    }

    #[test]
    fn one_that_did_nothing_for_a_while_makes_room_and_one_at_work_does_not() {
        let connections = Connections::of(2);
        let start = Instant::now();
        let first = admit(&connections, start);
        let second = admit(&connections, start + HOLD / 2);
        let work = first.serve();
        let third = try_admit(&connections, Surface::Main, 2, start + HOLD);
        assert!(matches!(third, Admission::Wait(then) if then == start + HOLD / 2 + HOLD), "{third:?}");
        assert!(!is_out(&second));
        let third = admit(&connections, start + HOLD / 2 + HOLD);
        assert!(is_out(&second) && !is_out(&first));
        let also_at_work = third.serve();
        let late = start + HOLD * 10;
        assert!(matches!(try_admit(&connections, Surface::OtlpHttp, 2, late), Admission::Full));
        drop((work, also_at_work));
        connections.release(&first);
        admit(&connections, late);
    }

    #[test]
    fn who_has_most_loses_one_first_by_listener_and_peer() {
        let connections = Connections::of(5);
        let start = Instant::now();
        let scraper = admit_from(&connections, Surface::Main, 2, start);
        let neighbour = admit_from(&connections, Surface::OtlpHttp, 3, start);
        let crowd: Vec<_> = (0..3).map(|_| admit_from(&connections, Surface::OtlpHttp, 2, start + HOLD)).collect();
        let late = start + HOLD * 5;
        admit_from(&connections, Surface::Main, 4, late);
        assert_eq!([&scraper, &neighbour].map(is_out), [false; 2], "they are older, and alone");
        assert_eq!(crowd.iter().filter(|connection| is_out(connection)).count(), 1);
    }

    #[test]
    fn what_was_used_last_goes_last() {
        let connections = Connections::of(2);
        let start = Instant::now();
        let (used, idle) = (admit(&connections, start), admit(&connections, start));
        drop(used.serve());
        admit(&connections, Instant::now() + HOLD * 2);
        assert_eq!([is_out(&used), is_out(&idle)], [false, true]);
    }

    #[test]
    fn health_has_places_of_its_own_when_all_are_at_work() {
        let connections = Connections::of(1);
        let start = Instant::now();
        let first = admit(&connections, start);
        let _work = first.serve();
        assert!(matches!(try_admit(&connections, Surface::OtlpGrpc, 2, start), Admission::Full));
        let reserved: Vec<Connection> = (0..RESERVED).map(|_| admit(&connections, start)).collect();
        assert!(!first.is_reserved() && reserved.iter().all(Connection::is_reserved));
        assert!(matches!(try_admit(&connections, Surface::Main, 2, start), Admission::Full), "for the moment");
        let next = admit(&connections, start + HOLD);
        assert_eq!(reserved.iter().filter(|connection| is_out(connection)).count(), 1);
        connections.release(&next);
        admit(&connections, start);
    }
}
