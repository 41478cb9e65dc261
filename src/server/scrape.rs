//! `/metrics`: rendered on a blocking thread in chunks; compressed pages are shared by all scrapes of one snapshot.

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
use super::error::ApiError;
use super::pool::{PoolShare, SharedPool};
use super::responses::{MAX_WAIT, ResponseSender, acquire, busy};
use crate::clock::Stopwatch;
use crate::engine::{EngineHandle, View, telemetry};
use crate::metrics::page::accepts_gzip;
use crate::metrics::{ExpositionFormat, ExpositionPage, SidecarMetrics};
use crate::model::Time;
use crate::model::telemetry::Telemetry;

/// Maximum number of pages that are rendered concurrently.
const AT_ONCE: usize = 2;
/// How long a compressed page is reused while nothing changes.
const FRESH: Duration = Duration::from_secs(1);
/// Maximum number of uncompressed pages that are streamed concurrently, each on a thread of its own.
const STREAMS: usize = 32;
/// Timeout for a scraper to accept the next chunk.
const STALL: Duration = Duration::from_secs(5);
/// How long a slow scraper keeps its slot while others wait.
const HOLD: Duration = Duration::from_secs(2);
/// Maximum time for a slow scraper to read a page.
const MAX_READ_TIME: Duration = Duration::from_secs(60);
/// Maximum number of queued chunks per scraper.
const PIECES: usize = 4;

/// A compressed page: format, generations and time of its snapshots, and the bytes.
type CompressedPage = (ExpositionFormat, [u64; 2], Time, Bytes);

/// The snapshots that a page is rendered from.
struct ScrapedSnapshot {
    view: Arc<View>,
    telemetry: Arc<Telemetry>,
}

impl ScrapedSnapshot {
    fn page<'a>(&'a self, own: &'a SidecarMetrics) -> ExpositionPage<'a> {
        ExpositionPage { fleet: &self.view.fleet, alerts: &self.view.alerts, own, telemetry: &self.telemetry }
    }

    fn generation(&self) -> [u64; 2] {
        [self.view.fleet.generation, self.telemetry.generation]
    }
}

/// Renders pages.
#[derive(Debug)]
pub(super) struct Scraper {
    own: Arc<SidecarMetrics>,
    engine: EngineHandle,
    otlp: telemetry::TelemetryHandle,
    turns: Arc<Semaphore>,
    streams: Arc<SharedPool>,
    sending: ResponseSender,
    /// The last compressed page of each format.
    compressed: Mutex<Vec<CompressedPage>>,
}

impl Scraper {
    pub(super) fn new(
        own: Arc<SidecarMetrics>,
        engine: EngineHandle,
        otlp: telemetry::TelemetryHandle,
        sending: ResponseSender,
    ) -> Self {
        let (turns, streams) = (Arc::new(Semaphore::new(AT_ONCE)), SharedPool::new(STREAMS, HOLD, MAX_WAIT));
        Self { own, engine, otlp, turns, streams, sending, compressed: Mutex::new(Vec::new()) }
    }

    /// The page of `view` in the negotiated format and encoding.
    pub(super) async fn answer(
        self: &Arc<Self>,
        view: Arc<View>,
        accept: Option<&str>,
        encoding: Option<&str>,
        reader: &Connection,
    ) -> Result<Response, ApiError> {
        let format = ExpositionFormat::negotiate(accept);
        let is_gzip = accepts_gzip(encoding);
        // The slot is acquired before the permit, so that waiting for a slot does not block rendering.
        let slot = if is_gzip { None } else { Some(self.slot(reader).await?) };
        let turn = acquire(&self.turns).await?;
        self.update_own_metrics(&view);
        let shown = ScrapedSnapshot { view, telemetry: self.otlp.snapshot().await };
        let scraper = Arc::clone(self);
        let body = if is_gzip {
            let page = tokio::task::spawn_blocking(move || (scraper.compressed(&shown, format), turn));
            let page = page
                .await
                .map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "rendering the metrics failed"))?;
            // The permit is held until memory for the page is acquired, which limits the pages that wait for memory.
            let (page, _turn) = page;
            self.sending.body(page, reader).await?
        } else {
            let (sender, pieces) = mpsc::channel::<Bytes>(PIECES);
            let whole = Arc::new(AtomicBool::new(false));
            let body = PageBody { pieces, whole: Arc::clone(&whole) };
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || {
                let is_open = scraper.stream(&shown, format, &sender, turn, &runtime);
                whole.store(is_open, Ordering::Release);
                drop((sender, slot));
            });
            Body::new(body)
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if is_gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }

    /// A slot for streaming. The longest streaming scraper gives way.
    async fn slot(&self, reader: &Connection) -> Result<PoolShare, ApiError> {
        let mut slot = self.streams.share(Instant::now(), reader.eviction());
        slot.grow(1).await.map_err(|_| busy())?;
        Ok(slot)
    }

    /// Renders the page into `sender` and returns whether it was sent completely. While a slow scraper does not read, its
    /// permit is released; one that stalls is aborted.
    fn stream(
        &self,
        shown: &ScrapedSnapshot,
        format: ExpositionFormat,
        sender: &mpsc::Sender<Bytes>,
        turn: OwnedSemaphorePermit,
        runtime: &tokio::runtime::Handle,
    ) -> bool {
        let watch = Stopwatch::start();
        let (mut turn, mut is_open) = (Some(turn), true);
        let page = shown.page(&self.own);
        page.render(format, &mut |piece| {
            is_open = match sender.try_send(piece) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) if watch.elapsed() > MAX_READ_TIME => false,
                Err(TrySendError::Full(piece)) => {
                    turn = None;
                    runtime.block_on(async {
                        let sent = tokio::time::timeout(STALL, sender.send(piece)).await;
                        turn = Arc::clone(&self.turns).acquire_owned().await.ok();
                        matches!(sent, Ok(Ok(()))) && turn.is_some()
                    })
                }
            };
            is_open
        });
        is_open
    }

    /// Updates the sidecar's own metrics of receivers, lag and queues.
    fn update_own_metrics(&self, view: &View) {
        self.own.lag(view.lag_seconds);
        for receiver in &view.receivers {
            self.own.outbox(&receiver.name, receiver.pending, receiver.oldest_age_seconds);
        }
        for (queue, length) in self.engine.queues() {
            self.own.queue(queue, length);
        }
        self.own.queue("otlp", self.otlp.waiting());
    }

    fn compressed(&self, shown: &ScrapedSnapshot, format: ExpositionFormat) -> Bytes {
        let (generation, at) = (shown.generation(), shown.view.fleet.at);
        let is_fresh = |known: &CompressedPage| known.1 == generation && at.since(known.2) < FRESH;
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

/// A body of chunks as they are rendered. Dropping it stops the rendering.
struct PageBody {
    pieces: mpsc::Receiver<Bytes>,
    /// Whether the page is complete. Otherwise the body ends with an error, so that it is not taken for a valid page.
    whole: Arc<AtomicBool>,
}

impl http_body::Body for PageBody {
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
