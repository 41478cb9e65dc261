//! Answers on their way: large ones share a room, so that those who read slowly don't keep the size of an answer each. Where
//! it is full, whoever has been reading for longest gives way.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::body::Held;
use super::connections::Connection;
use super::error::{Refusal, json};
use super::room::Room;
use super::scrape::{acquire, busy};

/// What answers may hold together, in bytes: some of the largest at once.
const ROOM: usize = 32 * 1024 * 1024;
/// The unit in which it is shared, in bytes. Smaller answers need none of it: connections are few enough for those.
const PIECE: usize = 64 * 1024;
/// How long a reader may take while others wait, and how long they wait.
const HOLD: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);
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
        Ok(Body::from(Bytes::from_owner(Held { bytes, _share: share })))
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
