//! Records all input for `lookout replay`: one JSON object per line, written by a thread of its own behind a bounded queue.
//!
//! Bodies are recorded as received, with their time. A full file is renamed to `<file>.1`, replacing an older one. When the
//! queue is full, input is dropped from the recording, and a line with the count is written.
//!
//! ```text
//! {"at":1767225600000,"start":"0.1.0"}                                the program started
//! {"at":1767225600500,"state":{"project":"shop","agents":[…]}}        the body of POST /api/state
//! {"at":1767225601000,"usage":{"project":"shop","usage":[…]}}         the body of POST /api/usage
//! {"at":1767225602000,"hook":{"project":"shop","agent":"a",…}}         a decoded hook
//! {"at":1767225603000,"runs":[{"project":"shop","agent":"a",…}]}       runs that began or ended
//! {"at":1767225605000,"poll":{"source":"orch","states":[…]}}          a poll, in bodies of POST /api/state
//! {"at":1767225610000,"poll":{"source":"orch","error":"timeout","message":"…"}}
//! {"at":1767225610500,"silence":{…}}, {…,"unsilence":{…}}, {…,"ack":{…}}  silences and acknowledgements
//! {"at":1767225611000,"dropped":3}                                    number of inputs dropped before this line
//! {"at":1767225612000,"stop":true}                                    the program stopped
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::StoreError;
use super::health::FileHealth;
use super::queue::{self, QueueSender};
use crate::model::{RecordedInput, Time};

pub mod reader;
mod writer;

pub use reader::{EntryContent, RecordingEntry, RecordingReader};

/// Capacity of the queue in KiB; a single body may be larger.
const QUEUE: u32 = 32 * 1024;
/// Timeout of closing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Handle of the recording. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: QueueSender<RecorderMessage>,
    health: Arc<FileHealth>,
    /// Number of dropped inputs that are not in the recording yet.
    unrecorded_drops: Arc<AtomicU64>,
    /// Number of dropped inputs since the last [`Recorder::take_dropped`].
    uncounted_drops: Arc<AtomicU64>,
}

#[derive(Debug)]
enum RecorderMessage {
    Record(Time, RecordedInput),
    Close(Time, oneshot::Sender<()>),
}

impl Recorder {
    /// Opens the file at `path` for appending and starts its thread. The file and `<path>.1` have at most `max_size` bytes
    /// together. Only their owner may read them.
    pub fn open(path: &Path, max_size: u64, now: Time) -> Result<Self, StoreError> {
        let (queue, end) = queue::bounded(QUEUE);
        let health = Arc::new(FileHealth::new(path, None));
        let (unrecorded_drops, uncounted_drops) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let failed = |action| move |error| StoreError::Io { path: path.to_owned(), action, source: Arc::new(error) };
        let writer = writer::RecordingWriter::open(path, max_size, now).map_err(failed("record into"))?;
        let recorder = Self { queue, health, unrecorded_drops, uncounted_drops };
        let on_thread = recorder.clone();
        let thread = std::thread::Builder::new().name("record".to_owned());
        thread.spawn(move || writer.run(end, &on_thread)).map_err(failed("start a thread for"))?;
        Ok(recorder)
    }

    /// Queues an input without waiting. When the queue is full it is dropped and counted.
    pub fn record(&self, now: Time, input: RecordedInput) {
        let size = match &input {
            RecordedInput::State(body) | RecordedInput::Usage(body) | RecordedInput::Metrics(body) => body.len(),
            RecordedInput::Poll { result, .. } => result.iter().flatten().map(String::len).sum(),
            RecordedInput::Hook(_)
            | RecordedInput::Runs(_)
            | RecordedInput::Silence(_)
            | RecordedInput::Unsilence { .. }
            | RecordedInput::Ack { .. } => 0,
        };
        let weight = u32::try_from(size / 1024).unwrap_or(u32::MAX).clamp(1, QUEUE);
        if self.queue.try_send(RecorderMessage::Record(now, input), weight).is_err() {
            self.drop_one();
        }
    }

    /// Number of dropped inputs since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.uncounted_drops.swap(0, Relaxed)
    }

    /// Writes what is queued and a final line.
    pub async fn close(&self, now: Time) {
        let (reply, done) = oneshot::channel();
        let closing = async {
            if self.queue.send(RecorderMessage::Close(now, reply)).await.is_ok() {
                done.await.unwrap_or_default();
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::warn!(path = %self.health.path().display(), "recording was not closed in time; its last lines may be missing");
        }
    }

    fn drop_one(&self) {
        self.unrecorded_drops.fetch_add(1, Relaxed);
        self.uncounted_drops.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
