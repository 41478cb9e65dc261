//! `GET /api/monitoring/stream`: what changes, as server-sent events.
//!
//! Events are derived and rendered once for all viewers, into a ring from which each viewer reads at its own pace. While
//! there are no viewers, nothing is derived. All of this, and the sending, is on a thread of its own.
//! The page for browsers reads the same changes in another form, from a ring of its own: as HTML.

mod alerts;
mod changes;
mod event;
mod filter;
mod publisher;
mod render;
mod ring;
mod viewer;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::HandlerState;
use super::connections::Connection;
use super::error::ApiError;
use super::page::{FleetBoard, StatusReader};
use crate::engine::EngineHandle;
use crate::engine::live::LiveFeed;
use crate::metrics::SidecarMetrics;
use filter::{StreamFilter, StreamForm};
use publisher::Publisher;
use render::Draft;
use ring::{EventRing, Overrun};
use viewer::{StreamAccess, Viewer, ViewerBody};

/// How long events are recorded after the last viewer left, for one that comes back.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a new viewer waits for the first snapshot.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two rounds of events, for each viewer and within bounds: what many changes cost grows with neither.
const PACE: Duration = Duration::from_micros(50);
const SHORTEST_PACE: Duration = Duration::from_millis(5);
const LONGEST_PACE: Duration = Duration::from_millis(50);

/// The header by which a browser resumes a stream.
const LAST_EVENT_ID: &str = "last-event-id";
/// The header that asks a proxy not to buffer an answer.
const ACCEL_BUFFERING: &str = "x-accel-buffering";

/// The open streams and their events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StreamHub(Arc<HubState>);

#[derive(Debug)]
struct HubState {
    /// The events as JSON, and those of the page.
    json: Channel,
    page: Channel,
    board: FleetBoard,
    /// Whether changes are recorded.
    is_recording: watch::Sender<bool>,
    limit: usize,
    viewers: AtomicUsize,
    /// Signalled for each new viewer.
    wanted: Notify,
    /// When the last viewer left.
    left_at: Mutex<Instant>,
    own: Arc<SidecarMetrics>,
    runtime: Handle,
    stop: CancellationToken,
}

/// Events in one form.
#[derive(Debug)]
struct Channel {
    ring: Mutex<EventRing>,
    /// The position after the newest event.
    head: watch::Sender<u64>,
}

impl Channel {
    fn new(start: &str) -> Self {
        let ring = EventRing::new(start);
        let head = watch::Sender::new(ring.head());
        Self { ring: Mutex::new(ring), head }
    }

    fn ring(&self) -> MutexGuard<'_, EventRing> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut EventRing)) {
        let mut ring = self.ring();
        change(&mut ring);
        let head = ring.head();
        drop(ring);
        self.head.send_replace(head);
    }
}

impl StreamHub {
    /// Allows `limit` streams, which are sent on `runtime` and end at `stop`. `start` is unique to this process, and
    /// `statuses` reads the history of agents for the page.
    pub fn new(
        limit: usize,
        start: &str,
        (feed, statuses): (LiveFeed, StatusReader),
        own: Arc<SidecarMetrics>,
        runtime: Handle,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(HubState {
            json: Channel::new(start),
            page: Channel::new(&format!("{start}p")),
            board: FleetBoard::new(feed, statuses),
            is_recording: watch::Sender::new(false),
            limit,
            viewers: AtomicUsize::new(0),
            wanted: Notify::new(),
            left_at: Mutex::new(Instant::now()),
            own,
            runtime,
            stop,
        }))
    }

    /// Publishes events until the program stops. Runs on the runtime of the streams.
    pub async fn publish_changes(self, engine: EngineHandle, feed: LiveFeed) {
        Publisher::new(self, engine, feed).run().await;
    }

    /// Runs `connection`, which sends a stream, on the thread of the streams, and waits for its end.
    pub(super) async fn carry(&self, connection: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.runtime.spawn(connection).await);
    }

    /// What the page knows of the fleet.
    pub(super) fn board(&self) -> &FleetBoard {
        &self.0.board
    }

    /// The id from which a page that is rendered now follows changes; `None` while they are not recorded.
    pub(super) fn page_id(&self) -> Option<String> {
        let ring = self.0.page.ring();
        self.0.is_recording.borrow().then(|| ring.id_before(ring.head()))
    }

    fn channel(&self, form: StreamForm) -> &Channel {
        match form {
            StreamForm::Json => &self.0.json,
            StreamForm::Page => &self.0.page,
        }
    }

    /// A place for another stream; `None` if there are too many.
    fn open(&self) -> Option<OpenStream> {
        let more = |open: usize| (open < self.0.limit).then_some(open + 1);
        if self.0.viewers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_err() {
            self.0.own.stream_refused();
            return None;
        }
        self.0.own.stream_opened();
        self.0.wanted.notify_one();
        Some(OpenStream(self.clone()))
    }

    /// Waits until changes are recorded; `false` if that takes too long.
    async fn is_recording(&self) -> bool {
        let mut recording = self.0.is_recording.subscribe();
        let begun = recording.wait_for(|is_recording| *is_recording);
        matches!(tokio::time::timeout(BEGIN_TIMEOUT, begun).await, Ok(Ok(_)))
    }

    /// The position at which a viewer that names the id `last` begins, the id before it, and whether events are missing.
    fn begin_at(&self, form: StreamForm, last: Option<&str>) -> (u64, String, bool) {
        let ring = self.channel(form).ring();
        let resumed = last.map(|id| ring.resume(id));
        let position = match resumed {
            Some(Ok(position)) => position,
            _ => ring.head(),
        };
        (position, ring.id_before(position), resumed == Some(Err(Overrun)))
    }

    fn id_before(&self, form: StreamForm, position: u64) -> String {
        self.channel(form).ring().id_before(position)
    }

    /// Reads from the ring. The error has the position to go on from.
    fn read(&self, position: u64, filter: &StreamFilter, frames: &mut VecDeque<Bytes>) -> Result<u64, (u64, Overrun)> {
        let ring = self.channel(filter.form()).ring();
        ring.read(position, filter, frames).map_err(|overrun| (ring.head(), overrun))
    }

    fn head(&self, form: StreamForm) -> watch::Receiver<u64> {
        self.channel(form).head.subscribe()
    }

    fn stop_token(&self) -> CancellationToken {
        self.0.stop.clone()
    }

    async fn stopped(&self) {
        self.0.stop.cancelled().await;
    }

    fn sent(&self, events: usize) {
        self.0.own.stream_events(events as u64);
    }

    fn resynced(&self) {
        self.0.own.stream_resynced();
    }

    async fn wait_for_viewers(&self) {
        while self.0.viewers.load(Ordering::SeqCst) == 0 {
            tokio::select! {
                () = self.0.wanted.notified() => {}
                () = self.stopped() => return,
            }
        }
    }

    /// Whether there have been no viewers for so long.
    fn has_been_idle(&self, timeout: Duration) -> bool {
        let left_at = *self.0.left_at.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.viewers.load(Ordering::SeqCst) == 0 && left_at.elapsed() >= timeout
    }

    /// Changes are recorded from now on.
    fn begin(&self) {
        // One that came in the meantime has missed what changed before.
        self.drop_events();
        self.0.is_recording.send_replace(true);
    }

    /// Changes are not recorded any more.
    fn interrupt(&self) {
        self.0.is_recording.send_replace(false);
        self.drop_events();
    }

    fn drop_events(&self) {
        for channel in [&self.0.json, &self.0.page] {
            channel.change(EventRing::interrupt);
        }
    }

    fn publish(&self, form: StreamForm, events: Vec<Draft>) {
        if !events.is_empty() {
            self.channel(form).change(|ring| {
                for (target, data) in events {
                    ring.push(target, &data);
                }
            });
        }
    }

    /// The time between two rounds of events.
    fn pace(&self) -> Duration {
        let viewers = u32::try_from(self.0.viewers.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        PACE.saturating_mul(viewers).clamp(SHORTEST_PACE, LONGEST_PACE)
    }
}

/// The place of an open stream.
#[derive(Debug)]
struct OpenStream(StreamHub);

impl OpenStream {
    const fn hub(&self) -> &StreamHub {
        &self.0
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let hub = &self.0.0;
        *hub.left_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        hub.viewers.fetch_sub(1, Ordering::SeqCst);
        hub.own.stream_closed();
    }
}

/// `GET /api/monitoring/stream`.
pub(super) async fn stream(
    State(shared): State<HandlerState>,
    Extension(connection): Extension<Connection>,
    query: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, message);
    let Query(parameters) = query.map_err(|error| bad(error.body_text()))?;
    let (filter, last) = StreamFilter::parse(parameters).map_err(bad)?;
    let (parts, _) = request.into_parts();
    if parts.method == Method::HEAD {
        return Ok(response(Body::empty()));
    }
    // A browser that reconnects sends the header with a newer id than the address has.
    let header = parts.headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    let last = header.map(ToOwned::to_owned).or(last.filter(|id| !id.is_empty()));
    let unavailable = |message, after| ApiError {
        header: Some((header::RETRY_AFTER, after)),
        ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
    };
    let hub = &shared.context.streams;
    let open = hub.open().ok_or_else(|| unavailable("too many streams are open; see limits.streams", "10"))?;
    if !hub.is_recording().await {
        return Err(unavailable("the stream of events could not begin in time; try again", "1"));
    }
    let access = StreamAccess {
        rules: shared.context.access.clone(),
        request: Request::from_parts(parts, ()),
        ends: connection.ends(),
        opened_at: Instant::now(),
    };
    let viewer = Viewer::new(open, filter, last.as_deref(), access);
    // From now on it counts as a stream in place of a connection.
    shared.context.connections.release(&connection);
    connection.begin_stream();
    Ok(response(Body::new(ViewerBody::new(viewer))))
}

fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::event::EventTarget;
    use super::*;
    use crate::config::Config;
    use crate::server::access::{AccessRules, RequestEnds};

    fn viewer(hub: &StreamHub, last: Option<&str>) -> Option<ViewerBody> {
        let local = std::net::IpAddr::from([127, 0, 0, 1]);
        let rules = AccessRules::unkept(&Config::default(), (local, 9797).into()).expect("rules");
        let ends = RequestEnds { peer: local, local };
        let rules = watch::channel(Arc::new(rules)).1;
        let access = StreamAccess { rules, request: Request::new(()), ends, opened_at: Instant::now() };
        Some(ViewerBody::new(Viewer::new(hub.open()?, StreamFilter::default(), last, access)))
    }

    async fn next(body: &mut ViewerBody) -> Option<String> {
        let frame = body.frame().await?.expect("a frame").into_data().expect("data");
        Some(String::from_utf8(frame.to_vec()).expect("text"))
    }

    fn publish(hub: &StreamHub, count: usize) {
        let target = EventTarget::Agent { project: "shop".into(), name: "ann".into(), is_removed: false };
        hub.publish(StreamForm::Json, vec![(target, "{}".to_owned()); count]);
    }

    #[tokio::test]
    async fn a_viewer_that_falls_behind_resyncs_and_goes_on() {
        let (own, stop) = (Arc::new(SidecarMetrics::new()), CancellationToken::new());
        let statuses: StatusReader = Arc::new(|_, _| Box::pin(async { Vec::new() }));
        let hub = StreamHub::new(2, "s", (LiveFeed::default(), statuses), own, Handle::current(), stop.clone());
        let (mut slow, mut fast) = (viewer(&hub, None).expect("room"), viewer(&hub, None).expect("room"));
        assert!(viewer(&hub, None).is_none(), "there is no more room");
        let first = ": lookout\nretry: 2000\nid: s-0\n\n";
        assert_eq!((next(&mut slow).await.as_deref(), next(&mut fast).await.as_deref()), (Some(first), Some(first)));
        for _ in 0..3 {
            publish(&hub, 5_000);
            for _ in 0..5_000 {
                assert!(next(&mut fast).await.is_some_and(|text| text.contains("event: status")));
            }
        }
        let resync = "id: s-15000\nevent: resync\ndata: {\"reason\": \"too_slow\"}\n\n";
        assert_eq!(next(&mut slow).await.as_deref(), Some(resync));
        publish(&hub, 1);
        for viewer in [&mut slow, &mut fast] {
            assert_eq!(next(viewer).await.as_deref(), Some("id: s-15001\nevent: status\ndata: {}\n\n"));
        }
        drop(fast);
        let mut back = viewer(&hub, Some("s-15000")).expect("room again");
        assert!(next(&mut back).await.is_some_and(|text| text.contains("id: s-15000\n")));
        assert!(next(&mut back).await.is_some_and(|text| text.starts_with("id: s-15001\nevent: status")));
        stop.cancel();
        assert_eq!((next(&mut slow).await, next(&mut back).await), (None, None), "each ends");
    }
}
