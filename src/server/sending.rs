//! Answers on their way: large ones share a room, so that those who read slowly don't keep the size of an answer each. Where
//! it is full, who reads slowly gives way.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{StatusCode, header};
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::body::{Held, STEP};
use super::connections::Connection;
use super::error::{Refusal, json};
use super::room::{Room, Share};

/// What answers may hold together, in bytes: some of the largest at once.
const ROOM: usize = 32 * 1024 * 1024;
/// The unit in which it is shared, in bytes. Smaller answers need none of it: connections are few enough for those.
const PIECE: usize = 64 * 1024;
/// How long a reader may take for each [`STEP`] while others wait.
const HOLD: Duration = Duration::from_secs(1);
/// How long a reader waits for its turn or for room.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Answers built at once that may be large.
const AT_ONCE: usize = 2;

/// The room of answers, and the turns in which they are built.
#[derive(Clone, Debug)]
pub(super) struct Sending {
    room: Arc<Room>,
    turns: Arc<Semaphore>,
}

impl Sending {
    pub(super) fn new() -> Self {
        Self { room: Room::new(ROOM / PIECE, HOLD, PATIENCE), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// `bytes` as a body for `reader`, once there is room for it.
    pub(super) async fn body(&self, bytes: Bytes, reader: &Connection) -> Result<Body, Refusal> {
        let pieces = bytes.len() / PIECE;
        if pieces == 0 {
            return Ok(Body::from(bytes));
        }
        let mut share = self.room.share(Instant::now(), reader.eviction());
        share.grow(pieces).await.map_err(|_| busy())?;
        let share = Arc::new(share);
        let rest = Bytes::from_owner(Held { bytes, _share: Arc::clone(&share) });
        Ok(Body::new(Steps { rest, share }))
    }

    /// A JSON answer for `reader` that may be large: `build` takes its time, for which no loop must wait.
    pub(super) async fn json(
        &self,
        reader: &Connection,
        build: impl FnOnce() -> String + Send + 'static,
    ) -> Result<Response, Refusal> {
        // Kept until there is room for the answer: those that wait for it are few.
        let _turn = acquire(&self.turns).await?;
        let built = tokio::task::spawn_blocking(|| {
            let mut answer = build();
            answer.shrink_to_fit();
            Bytes::from(answer)
        });
        let answer = built.await;
        let answer =
            answer.map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be built"))?;
        Ok(json(StatusCode::OK, self.body(answer, reader).await?))
    }
}

/// A permit, once others gave theirs back.
pub(super) async fn acquire(permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    match tokio::time::timeout(PATIENCE, Arc::clone(permits).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(busy()),
    }
}

/// Others are asking for the same.
pub(super) fn busy() -> Refusal {
    Refusal {
        header: Some((header::RETRY_AFTER, "1")),
        ..Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many answers of this kind are under way; try again in a second",
        )
    }
}

/// An answer that goes out step by step: each that is asked for shows that its reader got on.
struct Steps {
    rest: Bytes,
    share: Arc<Share>,
}

impl http_body::Body for Steps {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        self.share.progressed();
        let step = self.rest.len().min(STEP);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(step)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt as _;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn an_answer_keeps_its_room_until_the_last_of_it_is_sent() {
        let room = Room::new(8, HOLD, PATIENCE);
        let mut share = room.share(Instant::now(), CancellationToken::new());
        share.grow(3).await.expect("room");
        let (share, bytes) = (Arc::new(share), Bytes::from(vec![7; 2 * STEP + 1]));
        let rest = Bytes::from_owner(Held { bytes: bytes.clone(), _share: Arc::clone(&share) });
        let mut steps = Steps { rest, share };
        assert_eq!(steps.size_hint().exact(), Some(2 * STEP as u64 + 1));
        let mut sent = Vec::new();
        while let Some(frame) = steps.frame().await {
            sent.push(frame.expect("data").into_data().expect("data"));
        }
        assert_eq!(sent.iter().map(Bytes::len).collect::<Vec<_>>(), [STEP, STEP, 1]);
        assert!(sent.concat() == bytes && steps.is_end_stream());
        drop(steps);
        assert_eq!(room.free(), 5, "it is not sent yet");
        drop(sent);
        assert_eq!(room.free(), 8);
    }
}
