//! A recording of what comes in: one JSON object a line, written by a thread of its own behind a bounded queue.
//!
//! It is there to be replayed against other rules, so it keeps bodies as they arrived, with the time at which they
//! did. When the file is full it becomes `<file>.1`, in place of the one before, and a new one begins. Refuses to slow
//! the engine: what finds no room in the queue is counted and left out, and the file says so.
//!
//! ```text
//! {"at":1767225600000,"start":"0.1.0"}                                the program started
//! {"at":1767225600500,"state":{"project":"shop","agents":[…]}}        the body of POST /api/state
//! {"at":1767225601000,"usage":{"project":"shop","usage":[…]}}         the body of POST /api/usage
//! {"at":1767225602000,"hook":{"project":"shop","agent":"a",…}}         a hook, as far as it was understood
//! {"at":1767225605000,"poll":{"source":"orch","states":[…]}}          a poll, in bodies of POST /api/state
//! {"at":1767225610000,"poll":{"source":"orch","error":"timeout","message":"…"}}
//! {"at":1767225610500,"silence":{…}}, {…,"unsilence":{…}}, {…,"ack":{…}}  quiet on purpose, and its end
//! {"at":1767225611000,"dropped":3}                                    so many were left out before this
//! {"at":1767225612000,"stop":true}                                    the program stopped
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::StoreError;
use super::health::Health;
use super::queue::{self, Sender};
use crate::model::{RecordedInput, Time};

pub mod reader;
mod writer;

pub use reader::{Entry, Reading, Recorded};

/// What may wait for the thread, in KiB; a single body may be of any size.
const QUEUE: u32 = 32 * 1024;
/// How long closing may take.
const CLOSE: Duration = Duration::from_secs(5);

/// The way into the recording. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: Sender<Message>,
    health: Arc<Health>,
    /// Left out since the writer last said so.
    unsaid: Arc<AtomicU64>,
    /// Left out since the last call of [`Recorder::take_dropped`].
    uncounted: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Note(Time, RecordedInput),
    Close(Time, oneshot::Sender<()>),
}

impl Recorder {
    /// Opens the file at `path` to write behind what is there, and starts its thread. The file and the one before it
    /// have `max_size` bytes together at most. Only their owner may read them.
    pub fn open(path: &Path, max_size: u64, now: Time) -> Result<Self, StoreError> {
        let (queue, end) = queue::bounded(QUEUE);
        let health = Arc::new(Health::new(path, None));
        let (unsaid, uncounted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let failed = |action| move |error| StoreError::Io { path: path.to_owned(), action, source: Arc::new(error) };
        let writer = writer::Writer::open(path, max_size, now).map_err(failed("record into"))?;
        let recorder = Self { queue, health, unsaid, uncounted };
        let on_thread = recorder.clone();
        let thread = std::thread::Builder::new().name("record".to_owned());
        thread.spawn(move || writer.run(end, &on_thread)).map_err(failed("start a thread for"))?;
        Ok(recorder)
    }

    /// Notes what arrived, without waiting.
    pub fn note(&self, now: Time, arrival: RecordedInput) {
        let size = match &arrival {
            RecordedInput::State(body) | RecordedInput::Usage(body) => body.len(),
            RecordedInput::Poll { result, .. } => result.iter().flatten().map(String::len).sum(),
            RecordedInput::Hook(_)
            | RecordedInput::Silence(_)
            | RecordedInput::Unsilence { .. }
            | RecordedInput::Ack { .. } => 0,
        };
        let weight = u32::try_from(size / 1024).unwrap_or(u32::MAX).clamp(1, QUEUE);
        if self.queue.try_send(Message::Note(now, arrival), weight).is_err() {
            self.drop_one();
        }
    }

    /// How many arrivals were left out since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.uncounted.swap(0, Relaxed)
    }

    /// Writes what waits and notes the end.
    pub async fn close(&self, now: Time) {
        let (reply, done) = oneshot::channel();
        let closing = async {
            if self.queue.send(Message::Close(now, reply)).await.is_ok() {
                done.await.unwrap_or_default();
            }
        };
        if tokio::time::timeout(CLOSE, closing).await.is_err() {
            tracing::warn!(path = %self.health.path().display(), "recording not closed in time");
        }
    }

    fn drop_one(&self) {
        self.unsaid.fetch_add(1, Relaxed);
        self.uncounted.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
