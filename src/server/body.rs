//! Reads request bodies up to a size limit, within a timeout, and within a memory budget that all bodies share. When the
//! budget is exhausted, the slowest body is aborted.

use std::io::Read;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::pool::{PoolShare, SharedPool};
use crate::config::server::LimitsConfig;
use crate::decode::inflate::{Coding, InflateError};
use crate::engine::handle::DecodePermit;

/// The memory budget as a multiple of the largest body.
const LARGEST_AT_ONCE: usize = 4;
/// The unit of the memory budget in bytes. Smaller bodies are read even if it is exhausted.
const PIECE: usize = 16 * 1024;
/// Size of the segments of a body in bytes. Segments are never reallocated, so a body never takes twice its size.
const SEGMENT: usize = 64 * PIECE;
/// How much of a compressed body is inflated at once, before its memory is acquired, in bytes.
const INFLATED: usize = 4 * PIECE;
/// Maximum size of a body that is decoded inline, which takes less than a millisecond.
const INLINE: usize = 64 * 1024;
/// Maximum number of bodies that are inflated concurrently.
const INFLATE_AT_ONCE: usize = 2;

/// How long a body may take for each [`STEP`] while others wait for memory.
const HOLD: Duration = Duration::from_secs(1);
/// Bytes that count as progress.
pub(super) const STEP: usize = 1024 * 1024;
/// How long a body waits for memory.
const PATIENCE: Duration = Duration::from_secs(3);

/// Reads bodies within the limits.
#[derive(Clone, Debug)]
pub struct BodyReader {
    limit: usize,
    timeout: Duration,
    /// The memory budget, in units of [`PIECE`].
    memory: Arc<SharedPool>,
    /// Permits to inflate.
    turns: Arc<Semaphore>,
    /// The permit to decode a large body, held until it is applied.
    decoding: Arc<Semaphore>,
}

impl BodyReader {
    /// A reader with the given limits and a memory budget of `LARGEST_AT_ONCE` bodies.
    pub fn new(limits: &LimitsConfig) -> Self {
        let pieces = limits.body.saturating_mul(LARGEST_AT_ONCE).div_ceil(PIECE);
        let (memory, turns) = (SharedPool::new(pieces, HOLD, PATIENCE), Arc::new(Semaphore::new(INFLATE_AT_ONCE)));
        let decoding = Arc::new(Semaphore::new(1));
        Self { limit: limits.body, timeout: limits.body_timeout, memory, turns, decoding }
    }

    /// Decodes a body. A large one, which takes many times its size, is decoded on a blocking thread, one at a time; its
    /// permit is returned with the result.
    pub(super) async fn decode<T: Send + 'static>(
        &self,
        body: Bytes,
        decode: impl FnOnce(Bytes) -> T + Send + 'static,
    ) -> Result<(T, DecodePermit), ApiError> {
        if body.len() <= INLINE {
            return Ok((decode(body), None));
        }
        // The semaphore is never closed.
        let turn = Arc::clone(&self.decoding).acquire_owned().await.ok();
        // The permit moves to the thread, so that it is not released early when the client disconnects.
        let decoding = tokio::task::spawn_blocking(move || (decode(body), turn));
        decoding.await.map_err(|error| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("decoding the body failed: {error}"))
        })
    }

    /// Reads the JSON body of a request. Its memory is released when it is dropped. Rejects other content types, bodies above
    /// the limit (before reading if `content-length` is given), slow ones, and those that exceed the memory budget.
    pub(super) async fn read<B>(&self, request: http::Request<B>) -> Result<Bytes, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        if !content_type.is_some_and(is_json) {
            let message = "unsupported content type; send JSON with `content-type: application/json`";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let coding = request.headers().get(header::CONTENT_ENCODING).cloned();
        let body = self.read_raw(request.into_body(), &CancellationToken::new()).await?;
        self.inflated(coding.as_ref().map(HeaderValue::as_bytes), body).await
    }

    /// Inflates a compressed body within the same limits.
    async fn inflated(&self, coding: Option<&[u8]>, body: Bytes) -> Result<Bytes, ApiError> {
        let Some(coding) = Coding::of_body(coding, &body)? else { return Ok(body) };
        let give_way = CancellationToken::new();
        self.bounded(&give_way, self.inflate(coding, body, &give_way)).await
    }

    /// Inflates in small steps on a blocking thread, acquiring memory for each, since a few bytes may inflate to thousands of
    /// times their size.
    async fn inflate(&self, coding: Coding, body: Bytes, give_way: &CancellationToken) -> Result<Bytes, ApiError> {
        let mut assembly = self.assembly(give_way);
        let mut reader = coding.reader(body.reader());
        loop {
            let turn = Arc::clone(&self.turns).acquire_owned().await;
            let inflating = tokio::task::spawn_blocking(move || {
                let mut plain = Vec::new();
                let read = reader.by_ref().take(INFLATED as u64).read_to_end(&mut plain);
                drop(turn);
                (reader, read.map(|_| plain))
            });
            let (rest, plain) = inflating.await.map_err(|error| BodyReadError::Broken(error.to_string()))?;
            let plain = plain.map_err(InflateError::malformed)?;
            let is_last = plain.len() < INFLATED;
            assembly.add(plain.into()).await?;
            if is_last {
                return Ok(assembly.chunks.whole());
            }
            reader = rest;
        }
    }

    /// Reads a body of any content type. Cancelling `give_way` aborts it.
    pub(super) async fn read_raw<B>(&self, body: B, give_way: &CancellationToken) -> Result<Bytes, BodyReadError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        if body.size_hint().lower() > self.limit as u64 {
            return Err(BodyReadError::TooLarge(self.limit));
        }
        let mut reading = pin!(self.frames(body, give_way));
        // A small body usually arrived with its head and needs no timer.
        match std::future::poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await {
            Poll::Ready(read) => read,
            Poll::Pending => self.bounded(give_way, reading).await,
        }
    }

    /// Runs `reading` within the timeout and until `give_way` is cancelled.
    async fn bounded<E: From<BodyReadError>>(
        &self,
        give_way: &CancellationToken,
        reading: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Bytes, E> {
        tokio::select! {
            biased;
            () = give_way.cancelled() => Err(BodyReadError::Slow.into()),
            read = tokio::time::timeout(self.timeout, reading) => read.unwrap_or_else(|_| Err(BodyReadError::Late.into())),
        }
    }

    async fn frames<B>(&self, mut body: B, give_way: &CancellationToken) -> Result<Bytes, BodyReadError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let mut assembly = self.assembly(give_way);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| BodyReadError::Broken(error.to_string()))?.into_data() else {
                continue;
            };
            assembly.add(data).await?;
        }
        Ok(assembly.chunks.whole())
    }

    fn assembly<'a>(&'a self, give_way: &'a CancellationToken) -> BodyAssembly<'a> {
        BodyAssembly { bodies: self, give_way, began: Instant::now(), step: STEP, chunks: BodyChunks::default() }
    }
}

/// A body that is being read or inflated.
struct BodyAssembly<'a> {
    bodies: &'a BodyReader,
    give_way: &'a CancellationToken,
    began: Instant,
    /// The length at which it has made progress again.
    step: usize,
    chunks: BodyChunks,
}

impl BodyAssembly<'_> {
    /// Appends `data` once its memory is acquired.
    async fn add(&mut self, data: Bytes) -> Result<(), BodyReadError> {
        let (bodies, chunks) = (self.bodies, &mut self.chunks);
        if chunks.len() + data.len() > bodies.limit {
            return Err(BodyReadError::TooLarge(bodies.limit));
        }
        let missing = chunks.missing(data.len());
        if missing > 0 {
            let share = chunks.share.get_or_insert_with(|| bodies.memory.share(self.began, self.give_way.clone()));
            share.grow(missing).await.map_err(|_| BodyReadError::PoolExhausted)?;
        }
        chunks.add(data);
        if chunks.len() >= self.step {
            chunks.share.iter().for_each(PoolShare::progressed);
            self.step = chunks.len() + STEP;
        }
        Ok(())
    }
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyReadError {
    /// It exceeds this many bytes.
    #[error("the body exceeds limits.body ({0} bytes); send it in parts")]
    TooLarge(usize),
    /// It exceeded the timeout.
    #[error("the body took longer than limits.body_timeout")]
    Late,
    /// It was slow while others waited for memory.
    #[error("the body arrived too slowly while others waited for memory; send it again, or in parts")]
    Slow,
    /// The memory budget is exhausted.
    #[error("too many large bodies at once; try again later")]
    PoolExhausted,
    /// The connection failed.
    #[error("reading the body failed: {0}")]
    Broken(String),
}

impl From<BodyReadError> for ApiError {
    fn from(why: BodyReadError) -> Self {
        let close = Some((header::CONNECTION, "close"));
        let (status, header) = match &why {
            BodyReadError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, close),
            BodyReadError::Late => (StatusCode::REQUEST_TIMEOUT, close),
            BodyReadError::Slow => (StatusCode::SERVICE_UNAVAILABLE, close),
            BodyReadError::PoolExhausted => (StatusCode::SERVICE_UNAVAILABLE, Some((header::RETRY_AFTER, "1"))),
            BodyReadError::Broken(_) => (StatusCode::BAD_REQUEST, None),
        };
        Self { header, ..Self::new(status, why.to_string()) }
    }
}

impl From<InflateError> for ApiError {
    fn from(error: InflateError) -> Self {
        let (status, header) = match &error {
            InflateError::TooLarge(limit) => return BodyReadError::TooLarge(*limit).into(),
            InflateError::Unknown => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, Some((header::ACCEPT_ENCODING, "gzip, deflate")))
            }
            InflateError::Malformed(_) => (StatusCode::BAD_REQUEST, None),
        };
        Self { header, ..Self::new(status, error.to_string()) }
    }
}

/// The received part of a body. Most bodies have one frame, which is not copied.
#[derive(Debug, Default)]
struct BodyChunks {
    first: Bytes,
    /// Segments after the first frame; all but the last are full.
    rest: Vec<BytesMut>,
    len: usize,
    share: Option<PoolShare>,
}

impl BodyChunks {
    const fn len(&self) -> usize {
        self.len
    }

    /// Units of memory to acquire for `more` bytes.
    fn missing(&self, more: usize) -> usize {
        ((self.len + more) / PIECE).saturating_sub(self.share.as_ref().map_or(0, PoolShare::units))
    }

    fn add(&mut self, data: Bytes) {
        self.len += data.len();
        if self.len == data.len() {
            self.first = data;
            return;
        }
        let mut data = data.as_ref();
        while !data.is_empty() {
            match self.rest.last_mut().filter(|last| last.len() < SEGMENT) {
                Some(last) => {
                    let fits = data.len().min(SEGMENT - last.len());
                    last.extend_from_slice(&data[..fits]);
                    data = &data[fits..];
                }
                None => self.rest.push(BytesMut::new()),
            }
        }
    }

    fn whole(self) -> Bytes {
        let body = if self.rest.is_empty() {
            self.first
        } else {
            let mut whole = Vec::with_capacity(self.len);
            whole.extend_from_slice(&self.first);
            self.rest.into_iter().for_each(|segment| whole.extend_from_slice(&segment));
            whole.into()
        };
        match self.share {
            None => body,
            Some(share) => {
                // The body is complete, so it need not give way any more.
                share.exempt();
                Bytes::from_owner(PooledBytes { bytes: body, _share: Arc::new(share) })
            }
        }
    }
}

/// Bytes with their share of the memory budget.
pub(super) struct PooledBytes {
    pub(super) bytes: Bytes,
    pub(super) _share: Arc<PoolShare>,
}

impl AsRef<[u8]> for PooledBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn is_json(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/json")
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::Frame;

    use super::*;

    /// A body of these frames, which then ends or stalls.
    struct TestBody(VecDeque<Bytes>, bool);

    impl Body for TestBody {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
                None if self.1 => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn request(frames: &[usize], ends: bool) -> http::Request<TestBody> {
        // Each frame has distinct bytes, to detect a wrong order.
        let frames = frames.iter().enumerate().map(|(number, len)| Bytes::from(vec![number as u8; *len]));
        let request = http::Request::builder().header("content-type", "application/json; charset=utf-8");
        request.body(TestBody(frames.collect(), ends)).expect("a request")
    }

    fn bodies(limit: usize) -> BodyReader {
        BodyReader::new(&LimitsConfig { body: limit, body_timeout: Duration::ZERO, ..LimitsConfig::default() })
    }

    #[tokio::test]
    async fn a_large_body_keeps_its_permit_when_its_client_disconnects() {
        let bodies = bodies(4 * INLINE);
        let large = || Bytes::from(vec![b' '; INLINE + 1]);
        let ((started, starts), (resume, resumed)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let decoder = bodies.clone();
        let first = tokio::spawn(async move {
            let decode = move |_: Bytes| (started.send(()).is_ok(), resumed.recv().is_ok());
            decoder.decode(large(), decode).await
        });
        tokio::task::spawn_blocking(move || starts.recv()).await.expect("no panic").expect("it is being decoded");
        first.abort();
        assert!(first.await.is_err_and(|error| error.is_cancelled()));
        let small = bodies.decode(Bytes::from_static(b"{}"), |body| body.len()).await.expect("decoded at once");
        assert!(small.0 == 2 && small.1.is_none());
        let mut next = Box::pin(bodies.decode(large(), |body| body.len()));
        let is_waiting = std::future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context).is_pending())).await;
        assert!(is_waiting && bodies.decoding.available_permits() == 0, "one at a time");
        resume.send(()).expect("it still decodes");
        let (length, turn) = next.await.expect("its turn has come");
        assert!(length == INLINE + 1 && turn.is_some());
    }

    #[tokio::test]
    async fn bodies_are_complete_for_any_framing() {
        let bodies = bodies(3 * SEGMENT);
        let ways = [&[][..], &[7], &[SEGMENT + 1], &[1, 1, SEGMENT - 1, SEGMENT, 5], &[PIECE, 2 * SEGMENT, 0, 3]];
        for frames in ways {
            let body = bodies.read(request(frames, true)).await.expect("it is read");
            let sent: Vec<u8> = frames.iter().enumerate().flat_map(|(number, len)| vec![number as u8; *len]).collect();
            assert!(body == sent, "{frames:?}");
        }
        let error = bodies.read(request(&[SEGMENT, 2 * SEGMENT, 1], true)).await.expect_err("too large");
        assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE);
        let error = bodies.read(request(&[SEGMENT], false)).await.expect_err("it never ends");
        assert_eq!(error.status, StatusCode::REQUEST_TIMEOUT);
        assert_eq!(bodies.memory.free(), 12 * SEGMENT / PIECE, "all memory was released");
    }

    /// A request of so many zeros, compressed.
    fn compressed(zeros: usize) -> http::Request<TestBody> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &vec![0; zeros]).expect("memory");
        let body = Bytes::from(encoder.finish().expect("memory"));
        assert!(body.len() < PIECE);
        let request = http::Request::builder().header("content-type", "application/json");
        request.header("content-encoding", "gzip").body(TestBody([body].into(), true)).expect("a request")
    }

    #[tokio::test]
    async fn a_compressed_body_is_inflated_within_the_memory_budget() {
        let bodies = BodyReader::new(&LimitsConfig { body: 2 * SEGMENT, ..LimitsConfig::default() });
        for zeros in [0, 1, INFLATED - 1, INFLATED, INFLATED + 1, 2 * SEGMENT] {
            let body = bodies.read(compressed(zeros)).await.expect("it is read");
            assert!(body.len() == zeros && body.iter().all(|byte| *byte == 0), "{zeros}");
            assert_eq!(bodies.memory.free(), 8 * SEGMENT / PIECE - zeros / PIECE, "{zeros}: it holds its memory");
        }
        let error = bodies.read(compressed(2 * SEGMENT + 1)).await.expect_err("too large");
        assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE);
        // Without a permit nothing is inflated, and inflated data waits for memory.
        let turns = bodies.turns.acquire_many(INFLATE_AT_ONCE as u32).await.expect("turns");
        let hasty = BodyReader { timeout: Duration::from_millis(20), ..bodies.clone() };
        let error = hasty.read(compressed(SEGMENT)).await.expect_err("no permit to inflate");
        assert_eq!(error.status, StatusCode::REQUEST_TIMEOUT);
        drop(turns);
        let mut held = Vec::new();
        for _ in 0..LARGEST_AT_ONCE {
            held.push(bodies.read(request(&[2 * SEGMENT], true)).await.expect("memory is available"));
        }
        for zeros in [SEGMENT, 2 * SEGMENT + 1] {
            let error = bodies.read(compressed(zeros)).await.expect_err("the memory budget is exhausted");
            assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE, "the memory budget is exhausted");
        }
        bodies.read(compressed(PIECE - 1)).await.expect("a small body needs none");
    }

    #[tokio::test]
    async fn the_largest_possible_limit_does_not_overflow() {
        for limit in [usize::MAX, usize::MAX / LARGEST_AT_ONCE + 1] {
            bodies(limit).read(request(&[SEGMENT], true)).await.expect("memory is available");
        }
    }

    #[tokio::test]
    async fn large_bodies_share_the_memory_budget_and_small_ones_do_not() {
        let bodies = bodies(SEGMENT);
        let mut held = Vec::new();
        for _ in 0..LARGEST_AT_ONCE {
            held.push(bodies.read(request(&[SEGMENT], true)).await.expect("memory is available"));
        }
        let error = bodies.read(request(&[PIECE], true)).await.expect_err("the memory budget is exhausted");
        assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(error.header, Some((header::RETRY_AFTER, "1")));
        bodies.read(request(&[PIECE - 1], true)).await.expect("a small body needs none");
        held.pop();
        bodies.read(request(&[SEGMENT / 2, SEGMENT / 2], true)).await.expect("memory was released");
    }

    #[tokio::test]
    async fn stalled_large_bodies_give_way_to_others() {
        let limits = LimitsConfig { body: SEGMENT, ..LimitsConfig::default() };
        let memory = SharedPool::new(LARGEST_AT_ONCE * SEGMENT / PIECE, Duration::ZERO, PATIENCE * 100);
        let bodies = BodyReader { memory, ..BodyReader::new(&limits) };
        let stalled: Vec<_> = (0..LARGEST_AT_ONCE)
            .map(|_| {
                let bodies = bodies.clone();
                tokio::spawn(async move { bodies.read(request(&[SEGMENT], false)).await.map(drop) })
            })
            .collect();
        while bodies.memory.free() > 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            bodies.read(request(&[SEGMENT / 2, SEGMENT / 2], true)).await.expect("a slow one gives way");
        }
        let gave_way = stalled.iter().filter(|stalled| stalled.is_finished()).count();
        assert_eq!(gave_way, 1, "no more than were needed");
        for stalled in stalled.into_iter().filter(tokio::task::JoinHandle::is_finished) {
            let error = stalled.await.expect("it ended").expect_err("it never ends");
            assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
