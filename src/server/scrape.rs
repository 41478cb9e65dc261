//! `/metrics`: rendered beside the loop, piece by piece, and compressed once for all who read one snapshot.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use tokio::sync::{Semaphore, mpsc};

use super::error::Refusal;
use crate::engine::{Handle, View};
use crate::metrics::page::accepts_gzip;
use crate::metrics::{Format, Own, Page};
use crate::model::Time;

/// Compressed pages rendered at once; more readers than this wait for their turn.
const GZIP_AT_ONCE: usize = 2;
/// Plain pages under way at once. They go at the pace of their readers, so that more of them are let in.
const PLAIN_AT_ONCE: usize = 32;
/// How long a reader may leave a piece lying. One that does not read must not keep others from their turn.
const STALL: Duration = Duration::from_secs(2);
/// How long a reader waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a compressed page may serve others while nothing changes.
const FRESH: Duration = Duration::from_secs(1);
/// Pieces that may wait for a reader.
const PIECES: usize = 4;

/// A compressed page: its format, and the generation and time of its snapshot, which it does not keep alive.
type Compressed = (Format, u64, Time, Bytes);

/// Renders pages.
#[derive(Debug)]
pub(super) struct Scraper {
    own: Arc<Own>,
    engine: Handle,
    plain_turns: Arc<Semaphore>,
    gzip_turns: Arc<Semaphore>,
    /// The last compressed page of each format, with the snapshot that it shows.
    compressed: Mutex<Vec<Compressed>>,
}

impl Scraper {
    pub(super) fn new(own: Arc<Own>, engine: Handle) -> Self {
        Self {
            own,
            engine,
            plain_turns: Arc::new(Semaphore::new(PLAIN_AT_ONCE)),
            gzip_turns: Arc::new(Semaphore::new(GZIP_AT_ONCE)),
            compressed: Mutex::new(Vec::new()),
        }
    }

    /// The page of `view` in the format and encoding that the reader asks for.
    pub(super) async fn answer(
        self: &Arc<Self>,
        view: Arc<View>,
        accept: Option<&str>,
        encoding: Option<&str>,
    ) -> Result<Response, Refusal> {
        let format = Format::negotiate(accept);
        let gzip = accepts_gzip(encoding);
        let turns = if gzip { &self.gzip_turns } else { &self.plain_turns };
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many scrapes are under way"));
        };
        self.note(&view);
        let scraper = Arc::clone(self);
        let body = if gzip {
            let page = tokio::task::spawn_blocking(move || {
                let page = scraper.compressed(&view, format);
                drop(turn);
                page
            });
            Body::from(page.await.map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the page broke"))?)
        } else {
            let runtime = tokio::runtime::Handle::current();
            let (sender, pieces) = mpsc::channel::<Bytes>(PIECES);
            tokio::task::spawn_blocking(move || {
                let page = Page { fleet: &view.fleet, alerts: &view.alerts, own: &scraper.own };
                page.render(format, &mut |piece| {
                    let sending = async { tokio::time::timeout(STALL, sender.send(piece)).await };
                    matches!(runtime.block_on(sending), Ok(Ok(())))
                });
                drop(turn);
            });
            Body::new(Pieces(pieces))
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
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
    }

    fn compressed(&self, view: &View, format: Format) -> Bytes {
        let (generation, at) = (view.fleet.generation, view.fleet.at);
        let is_fresh = |known: &Compressed| known.1 == generation && at.since(known.2) < FRESH;
        let lock = || self.compressed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().iter().find(|known| known.0 == format && is_fresh(known)) {
            return known.3.clone();
        }
        let page = Page { fleet: &view.fleet, alerts: &view.alerts, own: &self.own };
        let page = Bytes::from(page.render_gzip(format));
        let mut kept = lock();
        kept.retain(|known| known.0 != format && is_fresh(known));
        kept.push((format, generation, at, page.clone()));
        page
    }
}

/// A body of pieces as they are rendered; dropping it ends the rendering.
struct Pieces(mpsc::Receiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
