//! Large responses share a memory budget. When it is exhausted, slow readers are aborted.

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

use super::body::{PooledBytes, STEP};
use super::connections::Connection;
use super::error::{ApiError, json};
use super::pool::{PoolShare, SharedPool};

/// The memory budget of responses in bytes.
const MEMORY: usize = 32 * 1024 * 1024;
/// The unit of the memory budget in bytes. Smaller responses do not count.
const PIECE: usize = 64 * 1024;
/// How long a client may take for each [`STEP`] while others wait.
const HOLD: Duration = Duration::from_secs(1);
/// How long a request waits for a permit or for memory.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(10);
/// Maximum number of possibly large responses that are built concurrently.
const AT_ONCE: usize = 2;

/// Builds and sends large responses.
#[derive(Clone, Debug)]
pub(super) struct ResponseSender {
    memory: Arc<SharedPool>,
    turns: Arc<Semaphore>,
}

impl ResponseSender {
    pub(super) fn new() -> Self {
        Self { memory: SharedPool::new(MEMORY / PIECE, HOLD, MAX_WAIT), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// A body of `bytes` for `reader`, once its memory is acquired.
    pub(super) async fn body(&self, bytes: Bytes, reader: &Connection) -> Result<Body, ApiError> {
        let pieces = bytes.len() / PIECE;
        if pieces == 0 {
            return Ok(Body::from(bytes));
        }
        let mut share = self.memory.share(Instant::now(), reader.eviction());
        share.grow(pieces).await.map_err(|_| busy())?;
        let share = Arc::new(share);
        let rest = Bytes::from_owner(PooledBytes { bytes, _share: Arc::clone(&share) });
        Ok(Body::new(SteppedBody { rest, share }))
    }

    /// A JSON response for `reader` that may be large, built on a blocking thread.
    pub(super) async fn json(
        &self,
        reader: &Connection,
        build: impl FnOnce() -> String + Send + 'static,
    ) -> Result<Response, ApiError> {
        // Held until memory for the response is acquired, which limits the responses that wait for memory.
        let _turn = acquire(&self.turns).await?;
        let shrunk = || {
            let mut answer = build();
            answer.shrink_to_fit();
            Bytes::from(answer)
        };
        let answer = on_thread(shrunk).await?;
        Ok(json(StatusCode::OK, self.body(answer, reader).await?))
    }

    /// What `build` makes on a blocking thread, in its turn.
    pub(super) async fn build<T: Send + 'static>(
        &self,
        build: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let _turn = acquire(&self.turns).await?;
        on_thread(build).await
    }
}

async fn on_thread<T: Send + 'static>(build: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let built = tokio::task::spawn_blocking(build).await;
    built.map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "building the response failed"))
}

/// Acquires a permit.
pub(super) async fn acquire(permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    match tokio::time::timeout(MAX_WAIT, Arc::clone(permits).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(busy()),
    }
}

/// The error when too many such requests are running.
pub(super) fn busy() -> ApiError {
    ApiError {
        header: Some((header::RETRY_AFTER, "1")),
        ..ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many concurrent requests of this kind; try again in a second",
        )
    }
}

/// A body that is sent in steps. Each requested step counts as progress of the client.
struct SteppedBody {
    rest: Bytes,
    share: Arc<PoolShare>,
}

impl http_body::Body for SteppedBody {
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
    async fn a_response_holds_its_memory_until_it_is_sent() {
        let pool = SharedPool::new(8, HOLD, MAX_WAIT);
        let mut share = pool.share(Instant::now(), CancellationToken::new());
        share.grow(3).await.expect("pool");
        let (share, bytes) = (Arc::new(share), Bytes::from(vec![7; 2 * STEP + 1]));
        let rest = Bytes::from_owner(PooledBytes { bytes: bytes.clone(), _share: Arc::clone(&share) });
        let mut steps = SteppedBody { rest, share };
        assert_eq!(steps.size_hint().exact(), Some(2 * STEP as u64 + 1));
        let mut sent = Vec::new();
        while let Some(frame) = steps.frame().await {
            sent.push(frame.expect("data").into_data().expect("data"));
        }
        assert_eq!(sent.iter().map(Bytes::len).collect::<Vec<_>>(), [STEP, STEP, 1]);
        assert!(sent.concat() == bytes && steps.is_end_stream());
        drop(steps);
        assert_eq!(pool.free(), 5, "not sent yet");
        drop(sent);
        assert_eq!(pool.free(), 8);
    }
}
