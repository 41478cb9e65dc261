//! Request bodies, read up to a limit, within a time, and into memory that all of them share. Where that is scarce, the
//! body that arrives slowly gives way.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::Refusal;
use super::room::{Room, Share};
use crate::config::server::LimitsConfig;
use crate::decode::inflate::{Coding, InflateError};
use crate::engine::handle::DecodePermit;

/// How many of the largest bodies are held at once, all connections together.
const LARGEST_AT_ONCE: usize = 4;
/// The unit in which memory is shared, in bytes. What is smaller is read even when others fill the room.
const PIECE: usize = 16 * 1024;
/// In what a body is gathered, in bytes: it never moves as it grows, so that one never takes twice its size.
const SEGMENT: usize = 64 * PIECE;
/// How much of a compressed body is inflated before there is room for it, in bytes.
const INFLATED: usize = 4 * PIECE;
/// A body of at most so many bytes is decoded where it was read: that takes less than a millisecond.
const INLINE: usize = 64 * 1024;
/// How many bodies are inflated at the same moment, so that the processors have time for others.
const INFLATE_AT_ONCE: usize = 2;

/// How long a body may take for each [`STEP`] while others need its memory.
const HOLD: Duration = Duration::from_secs(1);
/// What is not slow: so many bytes in that time.
pub(super) const STEP: usize = 1024 * 1024;
/// How long a body waits for memory.
const PATIENCE: Duration = Duration::from_secs(3);

/// What bodies may take: each by itself, and all of them together.
#[derive(Clone, Debug)]
pub struct Bodies {
    limit: usize,
    timeout: Duration,
    /// Memory, in pieces.
    room: Arc<Room>,
    /// Turns at inflating.
    turns: Arc<Semaphore>,
    /// One turn at decoding a large body, held until it is applied.
    decoding: Arc<Semaphore>,
}

impl Bodies {
    /// None is larger than the limit, and together they hold four times as much.
    pub fn new(limits: &LimitsConfig) -> Self {
        let pieces = limits.body.saturating_mul(LARGEST_AT_ONCE).div_ceil(PIECE);
        let (room, turns) = (Room::new(pieces, HOLD, PATIENCE), Arc::new(Semaphore::new(INFLATE_AT_ONCE)));
        let decoding = Arc::new(Semaphore::new(1));
        Self { limit: limits.body, timeout: limits.body_timeout, room, turns, decoding }
    }

    /// What `decode` makes of a body. A large one, which takes many times its size, is decoded beside the runtime's threads
    /// and has to wait for its turn, which it keeps until whoever gets it lets go of it.
    pub(super) async fn decode<T: Send + 'static>(
        &self,
        body: Bytes,
        decode: impl FnOnce(Bytes) -> T + Send + 'static,
    ) -> Result<(T, DecodePermit), Refusal> {
        if body.len() <= INLINE {
            return Ok((decode(body), None));
        }
        // It is never closed, so there is always one.
        let turn = Arc::clone(&self.decoding).acquire_owned().await.ok();
        // The turn goes along: a sender that hangs up meanwhile must not let the next one begin beside it.
        let decoding = tokio::task::spawn_blocking(move || (decode(body), turn));
        decoding.await.map_err(|error| {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the body was not decoded: {error}"))
        })
    }

    /// The JSON body of a request, which gives its room back when it is dropped. Refuses another content type, a body
    /// over the limit before it is read where its length is announced, one that dribbles, and one for which there
    /// is no room now.
    pub(super) async fn read<B>(&self, request: http::Request<B>) -> Result<Bytes, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        if !content_type.is_some_and(is_json) {
            let message = "the body must be JSON; send it with `content-type: application/json`";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let coding = request.headers().get(header::CONTENT_ENCODING).cloned();
        let body = self.gather(request.into_body(), &CancellationToken::new()).await?;
        self.inflated(coding.as_ref().map(HeaderValue::as_bytes), body).await
    }

    /// A body as it was before it was compressed, within the limit, the time and the memory of any other.
    async fn inflated(&self, coding: Option<&[u8]>, body: Bytes) -> Result<Bytes, Refusal> {
        let Some(coding) = Coding::of_body(coding, &body)? else { return Ok(body) };
        let give_way = CancellationToken::new();
        self.bounded(&give_way, self.inflate(coding, body, &give_way)).await
    }

    /// Inflates beside the runtime's threads and bit by bit: a few bytes may become thousands of times as many, and no
    /// more of them are made than there is room for.
    async fn inflate(&self, coding: Coding, body: Bytes, give_way: &CancellationToken) -> Result<Bytes, Refusal> {
        let mut gathering = self.gathering(give_way);
        let mut reader = coding.reader(body.reader());
        loop {
            let turn = Arc::clone(&self.turns).acquire_owned().await;
            let inflating = tokio::task::spawn_blocking(move || {
                let mut plain = Vec::new();
                let read = reader.by_ref().take(INFLATED as u64).read_to_end(&mut plain);
                drop(turn);
                (reader, read.map(|_| plain))
            });
            let (rest, plain) = inflating.await.map_err(|error| Unread::Broken(error.to_string()))?;
            let plain = plain.map_err(InflateError::malformed)?;
            let is_last = plain.len() < INFLATED;
            gathering.take(plain.into()).await?;
            if is_last {
                return Ok(gathering.gathered.whole());
            }
            reader = rest;
        }
    }

    /// A body, whatever it holds, unless it is asked to give way to others.
    pub(super) async fn gather<B>(&self, body: B, give_way: &CancellationToken) -> Result<Bytes, Unread>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        if body.size_hint().lower() > self.limit as u64 {
            return Err(Unread::TooLarge(self.limit));
        }
        self.bounded(give_way, self.frames(body, give_way)).await
    }

    /// `reading`, within the time that a body may take and until it is asked to give way.
    async fn bounded<E: From<Unread>>(
        &self,
        give_way: &CancellationToken,
        reading: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Bytes, E> {
        tokio::select! {
            biased;
            () = give_way.cancelled() => Err(Unread::Slow.into()),
            read = tokio::time::timeout(self.timeout, reading) => read.unwrap_or_else(|_| Err(Unread::Late.into())),
        }
    }

    async fn frames<B>(&self, mut body: B, give_way: &CancellationToken) -> Result<Bytes, Unread>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let mut gathering = self.gathering(give_way);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| Unread::Broken(error.to_string()))?.into_data() else { continue };
            gathering.take(data).await?;
        }
        Ok(gathering.gathered.whole())
    }

    fn gathering<'a>(&'a self, give_way: &'a CancellationToken) -> Gathering<'a> {
        Gathering { bodies: self, give_way, began: Instant::now(), step: STEP, gathered: Gathered::default() }
    }
}

/// A body that arrives, or is inflated.
struct Gathering<'a> {
    bodies: &'a Bodies,
    give_way: &'a CancellationToken,
    began: Instant,
    /// At what length it gets on again.
    step: usize,
    gathered: Gathered,
}

impl Gathering<'_> {
    /// Takes in what comes next, once there is room for it.
    async fn take(&mut self, data: Bytes) -> Result<(), Unread> {
        let (bodies, gathered) = (self.bodies, &mut self.gathered);
        if gathered.len() + data.len() > bodies.limit {
            return Err(Unread::TooLarge(bodies.limit));
        }
        let missing = gathered.missing(data.len());
        if missing > 0 {
            let share = gathered.share.get_or_insert_with(|| bodies.room.share(self.began, self.give_way.clone()));
            share.grow(missing).await.map_err(|_| Unread::NoRoom)?;
        }
        gathered.add(data);
        if gathered.len() >= self.step {
            gathered.share.iter().for_each(Share::progressed);
            self.step = gathered.len() + STEP;
        }
        Ok(())
    }
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// It is larger than so many bytes.
    #[error("the body is larger than limits.body, {0} bytes; send it in parts")]
    TooLarge(usize),
    /// It dribbled.
    #[error("the body took longer than limits.body_timeout")]
    Late,
    /// Others needed its memory.
    #[error("the body arrived slowly while others waited for its memory; send it again, or in parts")]
    Slow,
    /// Others have all the room.
    #[error("too many large bodies arrive at once; try again")]
    NoRoom,
    /// The connection failed.
    #[error("the body could not be read: {0}")]
    Broken(String),
}

impl From<Unread> for Refusal {
    fn from(why: Unread) -> Self {
        let close = Some((header::CONNECTION, "close"));
        let (status, header) = match &why {
            Unread::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, close),
            Unread::Late => (StatusCode::REQUEST_TIMEOUT, close),
            Unread::Slow => (StatusCode::SERVICE_UNAVAILABLE, close),
            Unread::NoRoom => (StatusCode::SERVICE_UNAVAILABLE, Some((header::RETRY_AFTER, "1"))),
            Unread::Broken(_) => (StatusCode::BAD_REQUEST, None),
        };
        Self { status, message: why.to_string(), header }
    }
}

impl From<InflateError> for Refusal {
    fn from(error: InflateError) -> Self {
        let (status, header) = match &error {
            InflateError::TooLarge(limit) => return Unread::TooLarge(*limit).into(),
            InflateError::Unknown => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, Some((header::ACCEPT_ENCODING, "gzip, deflate")))
            }
            InflateError::Malformed(_) => (StatusCode::BAD_REQUEST, None),
        };
        Self { header, ..Self::new(status, error.to_string()) }
    }
}

/// What has come of a body. Most come in one frame, which is kept as it is.
#[derive(Debug, Default)]
struct Gathered {
    first: Bytes,
    /// What came after it: all are full but the last.
    rest: Vec<BytesMut>,
    len: usize,
    share: Option<Share>,
}

impl Gathered {
    const fn len(&self) -> usize {
        self.len
    }

    /// How many pieces of memory are missing for `more` bytes.
    fn missing(&self, more: usize) -> usize {
        ((self.len + more) / PIECE).saturating_sub(self.share.as_ref().map_or(0, Share::units))
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
                // From here on it waits for nobody.
                share.settle();
                Bytes::from_owner(Held { bytes: body, _share: Arc::new(share) })
            }
        }
    }
}

/// Bytes with the memory that they hold among others.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    pub(super) _share: Arc<Share>,
}

impl AsRef<[u8]> for Held {
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

    /// A body of these frames, which then ends or says nothing more.
    struct Frames(VecDeque<Bytes>, bool);

    impl Body for Frames {
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

    fn request(frames: &[usize], ends: bool) -> http::Request<Frames> {
        // Each frame has bytes of its own, so that their order shows.
        let frames = frames.iter().enumerate().map(|(number, len)| Bytes::from(vec![number as u8; *len]));
        let request = http::Request::builder().header("content-type", "application/json; charset=utf-8");
        request.body(Frames(frames.collect(), ends)).expect("a request")
    }

    fn bodies(limit: usize) -> Bodies {
        Bodies::new(&LimitsConfig { body: limit, body_timeout: Duration::ZERO, ..LimitsConfig::default() })
    }

    #[tokio::test]
    async fn a_large_body_keeps_its_turn_at_decoding_though_its_sender_hangs_up() {
        let bodies = bodies(4 * INLINE);
        let large = || Bytes::from(vec![b' '; INLINE + 1]);
        let ((begun, begins), (go_on, goes_on)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let decoder = bodies.clone();
        let first = tokio::spawn(async move {
            let decode = move |_: Bytes| (begun.send(()).is_ok(), goes_on.recv().is_ok());
            decoder.decode(large(), decode).await
        });
        tokio::task::spawn_blocking(move || begins.recv()).await.expect("no panic").expect("it is being decoded");
        first.abort();
        assert!(first.await.is_err_and(|error| error.is_cancelled()));
        let small = bodies.decode(Bytes::from_static(b"{}"), |body| body.len()).await.expect("decoded at once");
        assert!(small.0 == 2 && small.1.is_none());
        let mut next = Box::pin(bodies.decode(large(), |body| body.len()));
        let is_waiting = std::future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context).is_pending())).await;
        assert!(is_waiting && bodies.decoding.available_permits() == 0, "one at a time");
        go_on.send(()).expect("it still decodes");
        let (length, turn) = next.await.expect("its turn has come");
        assert!(length == INLINE + 1 && turn.is_some());
    }

    #[tokio::test]
    async fn bodies_are_whole_however_they_come() {
        let bodies = bodies(3 * SEGMENT);
        let ways = [&[][..], &[7], &[SEGMENT + 1], &[1, 1, SEGMENT - 1, SEGMENT, 5], &[PIECE, 2 * SEGMENT, 0, 3]];
        for frames in ways {
            let body = bodies.read(request(frames, true)).await.expect("it is read");
            let sent: Vec<u8> = frames.iter().enumerate().flat_map(|(number, len)| vec![number as u8; *len]).collect();
            assert!(body == sent, "{frames:?}");
        }
        let refusal = bodies.read(request(&[SEGMENT, 2 * SEGMENT, 1], true)).await.expect_err("too large");
        assert_eq!(refusal.status, StatusCode::PAYLOAD_TOO_LARGE);
        let refusal = bodies.read(request(&[SEGMENT], false)).await.expect_err("it never ends");
        assert_eq!(refusal.status, StatusCode::REQUEST_TIMEOUT);
        assert_eq!(bodies.room.free(), 12 * SEGMENT / PIECE, "all room was given back");
    }

    /// A request of so many zeros, compressed.
    fn compressed(zeros: usize) -> http::Request<Frames> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &vec![0; zeros]).expect("memory");
        let body = Bytes::from(encoder.finish().expect("memory"));
        assert!(body.len() < PIECE);
        let request = http::Request::builder().header("content-type", "application/json");
        request.header("content-encoding", "gzip").body(Frames([body].into(), true)).expect("a request")
    }

    #[tokio::test]
    async fn a_compressed_body_grows_no_further_than_there_is_room() {
        let bodies = Bodies::new(&LimitsConfig { body: 2 * SEGMENT, ..LimitsConfig::default() });
        for zeros in [0, 1, INFLATED - 1, INFLATED, INFLATED + 1, 2 * SEGMENT] {
            let body = bodies.read(compressed(zeros)).await.expect("it is read");
            assert!(body.len() == zeros && body.iter().all(|byte| *byte == 0), "{zeros}");
            assert_eq!(bodies.room.free(), 8 * SEGMENT / PIECE - zeros / PIECE, "{zeros}: it has room of its own");
        }
        let refusal = bodies.read(compressed(2 * SEGMENT + 1)).await.expect_err("too large");
        assert_eq!(refusal.status, StatusCode::PAYLOAD_TOO_LARGE);
        // Without a turn nothing of it is made, and what is made waits for room.
        let turns = bodies.turns.acquire_many(INFLATE_AT_ONCE as u32).await.expect("turns");
        let hasty = Bodies { timeout: Duration::from_millis(20), ..bodies.clone() };
        let refusal = hasty.read(compressed(SEGMENT)).await.expect_err("nobody inflates it");
        assert_eq!(refusal.status, StatusCode::REQUEST_TIMEOUT);
        drop(turns);
        let mut held = Vec::new();
        for _ in 0..LARGEST_AT_ONCE {
            held.push(bodies.read(request(&[2 * SEGMENT], true)).await.expect("there is room"));
        }
        for zeros in [SEGMENT, 2 * SEGMENT + 1] {
            let refusal = bodies.read(compressed(zeros)).await.expect_err("there is no room");
            assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE, "it ends where the room does");
        }
        bodies.read(compressed(PIECE - 1)).await.expect("a small one needs none");
    }

    #[tokio::test]
    async fn a_limit_without_end_is_one() {
        for limit in [usize::MAX, usize::MAX / LARGEST_AT_ONCE + 1] {
            bodies(limit).read(request(&[SEGMENT], true)).await.expect("there is room");
        }
    }

    #[tokio::test]
    async fn large_bodies_share_their_room_and_small_ones_need_none() {
        let bodies = bodies(SEGMENT);
        let mut held = Vec::new();
        for _ in 0..LARGEST_AT_ONCE {
            held.push(bodies.read(request(&[SEGMENT], true)).await.expect("there is room"));
        }
        let refusal = bodies.read(request(&[PIECE], true)).await.expect_err("there is no room");
        assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refusal.header, Some((header::RETRY_AFTER, "1")));
        bodies.read(request(&[PIECE - 1], true)).await.expect("a small one needs none");
        held.pop();
        bodies.read(request(&[SEGMENT / 2, SEGMENT / 2], true)).await.expect("there is room again");
    }

    #[tokio::test]
    async fn large_bodies_that_stall_give_way_to_those_that_do_not() {
        let limits = LimitsConfig { body: SEGMENT, ..LimitsConfig::default() };
        let room = Room::new(LARGEST_AT_ONCE * SEGMENT / PIECE, Duration::ZERO, PATIENCE * 100);
        let bodies = Bodies { room, ..Bodies::new(&limits) };
        let stalled: Vec<_> = (0..LARGEST_AT_ONCE)
            .map(|_| {
                let bodies = bodies.clone();
                tokio::spawn(async move { bodies.read(request(&[SEGMENT], false)).await.map(drop) })
            })
            .collect();
        while bodies.room.free() > 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            bodies.read(request(&[SEGMENT / 2, SEGMENT / 2], true)).await.expect("a slow one gives way");
        }
        let gave_way = stalled.iter().filter(|stalled| stalled.is_finished()).count();
        assert_eq!(gave_way, 1, "no more than were needed");
        for stalled in stalled.into_iter().filter(tokio::task::JoinHandle::is_finished) {
            let refusal = stalled.await.expect("it ended").expect_err("it never ends");
            assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
