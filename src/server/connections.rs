//! The limit on open connections: when it is reached, a connection that waits for its peer is evicted for a new one.
//!
//! A connection waits for its peer while it reads a head or a body, sends a response, performs a handshake, or is idle. The
//! peer with the most waiting connections on a listener loses the one that has waited longest. When all connections are
//! busy, a few reserved slots serve health routes only.

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
use super::access::RequestEnds;
use super::pool::SharedPool;

/// How long a new connection is protected from eviction. Otherwise it could be evicted in a flood of connections before its
/// request arrives.
const MIN_HOLD: Duration = Duration::from_millis(100);
/// File descriptors reserved for the store, polls and receivers.
const RESERVED_DESCRIPTORS: usize = 128;
/// Additional connections that serve health routes only.
const RESERVED: usize = 8;
/// How long an export keeps its HTTP/2 stream slot while others wait.
const STREAM_HOLD: Duration = Duration::from_secs(1);
/// How long an export waits for an HTTP/2 stream slot.
const STREAM_WAIT: Duration = Duration::from_secs(3);

/// Maximum size of a request head in bytes.
pub(super) const MAX_HEAD: usize = 32 * 1024;

/// An open connection, shared by its task and its requests.
#[derive(Clone, Debug)]
pub(super) struct Connection(Arc<ConnectionState>);

#[derive(Debug)]
struct ConnectionState {
    surface: Surface,
    peer: IpAddr,
    local: IpAddr,
    is_reserved: bool,
    /// When it was opened or last served a request.
    since: Mutex<Instant>,
    /// Number of requests that are being processed and do not wait for the peer.
    working: AtomicUsize,
    /// Cancelled to evict the connection.
    evicted: CancellationToken,
    /// Cancelled when it begins to send a stream of events.
    streams: CancellationToken,
}

impl Connection {
    /// Waits until the connection is evicted.
    pub(super) async fn evicted(&self) {
        self.0.evicted.cancelled().await;
    }

    /// The token that evicts the connection.
    pub(super) fn eviction(&self) -> CancellationToken {
        self.0.evicted.clone()
    }

    /// From now on it sends a stream of events.
    pub(super) fn begin_stream(&self) {
        self.0.streams.cancel();
    }

    /// Waits until it sends a stream of events.
    pub(super) async fn streams(&self) {
        self.0.streams.cancelled().await;
    }

    /// Its peer and our address.
    pub(super) fn ends(&self) -> RequestEnds {
        RequestEnds { peer: self.0.peer, local: self.0.local }
    }

    /// Whether it serves health routes only.
    pub(super) fn is_reserved(&self) -> bool {
        self.0.is_reserved
    }

    /// Marks a request as being processed until the guard is dropped.
    pub(super) fn serve(&self) -> InFlightRequest {
        self.0.working.fetch_add(1, Ordering::Relaxed);
        InFlightRequest(self.clone())
    }

    /// The body of a request. While it is awaited, the request waits for the peer.
    pub(super) fn request_body(&self, body: Incoming) -> RequestBody {
        RequestBody { body, connection: self.clone(), is_awaited: false }
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

/// Guard of a request that is being processed.
#[derive(Debug)]
pub(super) struct InFlightRequest(Connection);

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        *self.0.0.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.0.working.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a request.
#[derive(Debug)]
pub(super) struct RequestBody {
    body: Incoming,
    connection: Connection,
    is_awaited: bool,
}

impl RequestBody {
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

impl Body for RequestBody {
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

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.awaited(false);
    }
}

/// Whether a new connection is admitted.
#[derive(Debug)]
pub(super) enum Admission {
    /// It is admitted.
    Admitted(Connection),
    /// At this time a waiting connection may be evicted for it.
    Wait(Instant),
    /// All connections are busy.
    Full,
}

/// The open connections of all listeners.
#[derive(Debug)]
pub struct Connections {
    limit: usize,
    open: Mutex<Vec<Connection>>,
    reserved: Mutex<Vec<Connection>>,
    /// Slots for requests of connections that multiplex, as many as there may be connections.
    streams: Arc<SharedPool>,
}

impl Connections {
    /// Allows this many connections and, in addition, streams of events; returns them with the number of streams. There are
    /// fewer if the limit on file descriptors is lower: without a free descriptor no new connection could be accepted, so
    /// none would be evicted either.
    pub fn new(connections: usize, streams: usize) -> (Self, usize) {
        let descriptors = raise_descriptors(connections.saturating_add(streams).saturating_add(RESERVED_DESCRIPTORS));
        let (allowed, streams_allowed) = within_descriptors(connections, streams, descriptors);
        if allowed < connections || streams_allowed < streams {
            tracing::warn!(
                connections = allowed,
                streams = streams_allowed,
                descriptors,
                "limits.connections and limits.streams exceed the limit on open files and were lowered; raise `ulimit -n`"
            );
        }
        (Self::of(allowed), streams_allowed)
    }

    fn of(limit: usize) -> Self {
        let streams = SharedPool::new(limit, STREAM_HOLD, STREAM_WAIT);
        Self { limit, open: Mutex::default(), reserved: Mutex::default(), streams }
    }

    /// Slots for multiplexed requests, so that connections with many streams take no more memory than those with one request
    /// at a time.
    pub(super) const fn streams(&self) -> &Arc<SharedPool> {
        &self.streams
    }

    /// Admits a new connection from `peer` to our address `local`.
    pub(super) fn admit(&self, surface: Surface, peer: SocketAddr, local: IpAddr, now: Instant) -> Admission {
        let new = |is_reserved| {
            Connection(Arc::new(ConnectionState {
                surface,
                peer: peer.ip().to_canonical(),
                local: local.to_canonical(),
                is_reserved,
                since: Mutex::new(now),
                working: AtomicUsize::new(0),
                evicted: CancellationToken::new(),
                streams: CancellationToken::new(),
            }))
        };
        match find_slot(&self.open, self.limit, now) {
            ConnectionSlot::Free(mut open) => {
                let connection = new(false);
                open.push(connection.clone());
                return Admission::Admitted(connection);
            }
            ConnectionSlot::After(then) => return Admission::Wait(then),
            ConnectionSlot::None if surface != Surface::Main => return Admission::Full,
            ConnectionSlot::None => {}
        }
        // No waiting here, since it would delay connections for which a normal slot becomes free.
        let ConnectionSlot::Free(mut reserved) = find_slot(&self.reserved, RESERVED, now) else {
            return Admission::Full;
        };
        let connection = new(true);
        reserved.push(connection.clone());
        Admission::Admitted(connection)
    }

    /// Releases the slot of a connection.
    pub(super) fn release(&self, connection: &Connection) {
        let places = if connection.is_reserved() { &self.reserved } else { &self.open };
        let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|other| !Arc::ptr_eq(&other.0, &connection.0));
    }
}

/// A slot for a connection.
enum ConnectionSlot<'a> {
    Free(std::sync::MutexGuard<'a, Vec<Connection>>),
    After(Instant),
    None,
}

/// Finds a free slot, evicting a waiting connection if necessary.
fn find_slot(places: &Mutex<Vec<Connection>>, limit: usize, now: Instant) -> ConnectionSlot<'_> {
    let mut open = places.lock().unwrap_or_else(PoisonError::into_inner);
    if open.len() < limit {
        return ConnectionSlot::Free(open);
    }
    let mut crowds: HashMap<(Surface, IpAddr), usize> = HashMap::new();
    for waiting in open.iter().filter(|connection| connection.is_waiting()) {
        *crowds.entry(waiting.group()).or_default() += 1;
    }
    let crowd = |connection: &Connection| crowds.get(&connection.group()).copied().unwrap_or_default();
    let waiting = open.iter().enumerate().filter(|(_, connection)| connection.is_waiting());
    let longest = waiting.min_by_key(|(_, one)| (std::cmp::Reverse(crowd(one)), one.since()));
    let Some((at, connection)) = longest else { return ConnectionSlot::None };
    let held = connection.since() + MIN_HOLD;
    if held > now {
        return ConnectionSlot::After(held);
    }
    open.swap_remove(at).0.evicted.cancel();
    ConnectionSlot::Free(open)
}

/// Raises the limit on open files to what is `needed`, as far as the system lets it; returns the limit.
fn raise_descriptors(needed: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(now) = current else { return usize::MAX };
    let wanted = u64::try_from(needed).unwrap_or(u64::MAX).min(maximum.unwrap_or(u64::MAX));
    let raised = Rlimit { current: Some(wanted), maximum };
    let limit = if wanted > now && setrlimit(Resource::Nofile, raised).is_ok() { wanted } else { now };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// How many connections and streams there may be with so many file descriptors. Streams leave most to connections.
fn within_descriptors(connections: usize, streams: usize, descriptors: usize) -> (usize, usize) {
    let free = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(16);
    if connections.saturating_add(streams) <= free {
        return (connections, streams);
    }
    let streams = streams.min(free.saturating_sub(connections).max(free / 4));
    (connections.min(free - streams), streams)
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
            Admission::Admitted(connection) => connection,
            other => panic!("{other:?}"),
        }
    }

    fn is_evicted(connection: &Connection) -> bool {
        connection.0.evicted.is_cancelled()
    }

    #[test]
    fn few_descriptors_are_shared_by_connections_and_streams() {
        for (connections, streams, descriptors, expected) in [
            (1024, 1000, usize::MAX, (1024, 1000)),
            (1024, 1000, 1024 + 1000 + 128, (1024, 1000)),
            (1024, 1000, 1024, (672, 224)),
            (100, 1000, 1024, (100, 796)),
            (1024, 10, 1024, (886, 10)),
            (1024, 1000, 100, (12, 4)),
            (8, 0, 100, (8, 0)),
        ] {
            let allowed = within_descriptors(connections, streams, descriptors);
            assert_eq!(allowed, expected, "{connections} {streams} {descriptors}");
        }
    }

    #[test]
    fn a_waiting_connection_is_evicted_and_a_busy_one_is_not() {
        let connections = Connections::of(2);
        let start = Instant::now();
        let first = admit(&connections, start);
        let second = admit(&connections, start + MIN_HOLD / 2);
        let work = first.serve();
        let third = try_admit(&connections, Surface::Main, 2, start + MIN_HOLD);
        assert!(matches!(third, Admission::Wait(then) if then == start + MIN_HOLD / 2 + MIN_HOLD), "{third:?}");
        assert!(!is_evicted(&second));
        let third = admit(&connections, start + MIN_HOLD / 2 + MIN_HOLD);
        assert!(is_evicted(&second) && !is_evicted(&first));
        let also_at_work = third.serve();
        let late = start + MIN_HOLD * 10;
        assert!(matches!(try_admit(&connections, Surface::OtlpHttp, 2, late), Admission::Full));
        drop((work, also_at_work));
        connections.release(&first);
        admit(&connections, late);
    }

    #[test]
    fn the_peer_with_most_connections_on_a_listener_loses_one_first() {
        let connections = Connections::of(5);
        let start = Instant::now();
        let scraper = admit_from(&connections, Surface::Main, 2, start);
        let neighbour = admit_from(&connections, Surface::OtlpHttp, 3, start);
        let many: Vec<_> = (0..3).map(|_| admit_from(&connections, Surface::OtlpHttp, 2, start + MIN_HOLD)).collect();
        let late = start + MIN_HOLD * 5;
        admit_from(&connections, Surface::Main, 4, late);
        assert_eq!(
            [&scraper, &neighbour].map(is_evicted),
            [false; 2],
            "they are older, but the only ones of their peer and listener"
        );
        assert_eq!(many.iter().filter(|connection| is_evicted(connection)).count(), 1);
    }

    #[test]
    fn the_most_recently_used_connection_is_evicted_last() {
        let connections = Connections::of(2);
        let start = Instant::now();
        let (used, idle) = (admit(&connections, start), admit(&connections, start));
        drop(used.serve());
        admit(&connections, Instant::now() + MIN_HOLD * 2);
        assert_eq!([is_evicted(&used), is_evicted(&idle)], [false, true]);
    }

    #[test]
    fn health_routes_have_reserved_slots_when_all_connections_are_busy() {
        let connections = Connections::of(1);
        let start = Instant::now();
        let first = admit(&connections, start);
        let _work = first.serve();
        assert!(matches!(try_admit(&connections, Surface::OtlpGrpc, 2, start), Admission::Full));
        let reserved: Vec<Connection> = (0..RESERVED).map(|_| admit(&connections, start)).collect();
        assert!(!first.is_reserved() && reserved.iter().all(Connection::is_reserved));
        assert!(matches!(try_admit(&connections, Surface::Main, 2, start), Admission::Full), "for the moment");
        let next = admit(&connections, start + MIN_HOLD);
        assert_eq!(reserved.iter().filter(|connection| is_evicted(connection)).count(), 1);
        connections.release(&next);
        admit(&connections, start);
    }
}
