//! `/metrics`: rendered beside the loop, piece by piece, and compressed once for all who read one snapshot.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::connections::Connection;
use super::error::Refusal;
use super::room::{Room, Share};
use super::sending::{PATIENCE, Sending, acquire, busy};
use crate::clock::Stopwatch;
use crate::engine::{EngineHandle, View, telemetry};
use crate::metrics::page::accepts_gzip;
use crate::metrics::{Format, Own, Page};
use crate::model::Time;
use crate::model::telemetry::Telemetry;

/// Pages rendered at once; more readers than this wait for their turn.
const AT_ONCE: usize = 2;
/// How long a compressed page may serve others while nothing changes.
const FRESH: Duration = Duration::from_secs(1);
/// Pages read piece by piece at once, each on a thread of its own.
const STREAMS: usize = 32;
/// How long a reader may leave a piece where it is.
const STALL: Duration = Duration::from_secs(5);
/// How long a reader keeps its place while others wait for one.
const HOLD: Duration = Duration::from_secs(2);
/// How long a reader may take for a page when it is behind.
const READING: Duration = Duration::from_secs(60);
/// Pieces that may wait for a reader.
const PIECES: usize = 4;

/// A compressed page: its format, and the generations and time of its snapshots, which it does not keep alive.
type Compressed = (Format, [u64; 2], Time, Bytes);

/// What a page shows.
struct Shown {
    view: Arc<View>,
    telemetry: Arc<Telemetry>,
}

impl Shown {
    fn page<'a>(&'a self, own: &'a Own) -> Page<'a> {
        Page { fleet: &self.view.fleet, alerts: &self.view.alerts, own, telemetry: &self.telemetry }
    }

    fn generation(&self) -> [u64; 2] {
        [self.view.fleet.generation, self.telemetry.generation]
    }
}

/// Renders pages.
#[derive(Debug)]
pub(super) struct Scraper {
    own: Arc<Own>,
    engine: EngineHandle,
    otlp: telemetry::TelemetryHandle,
    turns: Arc<Semaphore>,
    streams: Arc<Room>,
    sending: Sending,
    /// The last compressed page of each format, with the snapshot that it shows.
    compressed: Mutex<Vec<Compressed>>,
}

impl Scraper {
    pub(super) fn new(own: Arc<Own>, engine: EngineHandle, otlp: telemetry::TelemetryHandle, sending: Sending) -> Self {
        let (turns, streams) = (Arc::new(Semaphore::new(AT_ONCE)), Room::new(STREAMS, HOLD, PATIENCE));
        Self { own, engine, otlp, turns, streams, sending, compressed: Mutex::new(Vec::new()) }
    }

    /// The page of `view` in the format and encoding that the reader asks for.
    pub(super) async fn answer(
        self: &Arc<Self>,
        view: Arc<View>,
        accept: Option<&str>,
        encoding: Option<&str>,
        reader: &Connection,
    ) -> Result<Response, Refusal> {
        let format = Format::negotiate(accept);
        let is_packed = accepts_gzip(encoding);
        // A place comes before a turn: who waits for slow readers must not keep the others from rendering.
        let place = if is_packed { None } else { Some(self.place(reader).await?) };
        let turn = acquire(&self.turns).await?;
        self.note(&view);
        let shown = Shown { view, telemetry: self.otlp.snapshot().await };
        let scraper = Arc::clone(self);
        let body = if is_packed {
            let page = tokio::task::spawn_blocking(move || (scraper.compressed(&shown, format), turn));
            let page = page.await.map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the page failed"))?;
            // The turn ends when there is room to send the page: pages that wait for it are few.
            let (page, _turn) = page;
            self.sending.body(page, reader).await?
        } else {
            let (sender, pieces) = mpsc::channel::<Bytes>(PIECES);
            let whole = Arc::new(AtomicBool::new(false));
            let body = Pieces { pieces, whole: Arc::clone(&whole) };
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || {
                let goes_on = scraper.stream(&shown, format, &sender, turn, &runtime);
                whole.store(goes_on, Ordering::Release);
                drop((sender, place));
            });
            Body::new(body)
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if is_packed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }

    /// A place among those who read piece by piece. The one that has read for longest gives way.
    async fn place(&self, reader: &Connection) -> Result<Share, Refusal> {
        let mut place = self.streams.share(Instant::now(), reader.eviction());
        place.grow(1).await.map_err(|_| busy())?;
        Ok(place)
    }

    /// Renders the page into `sender`; whether all of it was taken. A reader that is slow gives its turn to others
    /// until it goes on, and one that stops is left.
    fn stream(
        &self,
        shown: &Shown,
        format: Format,
        sender: &mpsc::Sender<Bytes>,
        turn: OwnedSemaphorePermit,
        runtime: &tokio::runtime::Handle,
    ) -> bool {
        let watch = Stopwatch::start();
        let (mut turn, mut goes_on) = (Some(turn), true);
        let page = shown.page(&self.own);
        page.render(format, &mut |piece| {
            goes_on = match sender.try_send(piece) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) if watch.elapsed() > READING => false,
                Err(TrySendError::Full(piece)) => {
                    turn = None;
                    runtime.block_on(async {
                        let sent = tokio::time::timeout(STALL, sender.send(piece)).await;
                        turn = Arc::clone(&self.turns).acquire_owned().await.ok();
                        matches!(sent, Ok(Ok(()))) && turn.is_some()
                    })
                }
            };
            goes_on
        });
        goes_on
    }

    /// Brings what the view knows of receivers and lag into the sidecar's own metrics.
    fn note(&self, view: &View) {
        self.own.lag(view.lag_seconds);
        for receiver in &view.receivers {
            self.own.outbox(&receiver.name, receiver.pending, receiver.oldest_age_seconds);
        }
        for (queue, length) in self.engine.queues() {
            self.own.queue(queue, length);
        }
        self.own.queue("otlp", self.otlp.waiting());
    }

    fn compressed(&self, shown: &Shown, format: Format) -> Bytes {
        let (generation, at) = (shown.generation(), shown.view.fleet.at);
        let is_fresh = |known: &Compressed| known.1 == generation && at.since(known.2) < FRESH;
        let lock = || self.compressed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().iter().find(|known| known.0 == format && is_fresh(known)) {
            return known.3.clone();
        }
        let page = shown.page(&self.own);
        let page = Bytes::from(page.render_gzip(format));
        let mut kept = lock();
        kept.retain(|known| known.0 != format && is_fresh(known));
        kept.push((format, generation, at, page.clone()));
        page
    }
}

/// A body of pieces as they are rendered; dropping it ends the rendering.
struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    /// Whether the last piece is the page's end. Otherwise the body breaks off, so that nobody takes it for a page.
    whole: Arc<AtomicBool>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.pieces.poll_recv(context).map(|piece| match piece {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None if self.whole.load(Ordering::Acquire) => None,
            None => Some(Err(std::io::ErrorKind::UnexpectedEof.into())),
        })
    }
}
