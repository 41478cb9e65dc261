//! The thread that writes a recording.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Recorder, RecorderMessage};
use crate::model::{RecordedInput, Time};
use crate::store::error::StoreError;
use crate::store::health::FileOperation;
use crate::store::queue::{QueueEvent, QueueReceiver};

/// How long after the last input the buffer is flushed.
const FLUSH_DELAY: Duration = Duration::from_millis(500);

/// The state of the writing thread.
pub(super) struct RecordingWriter {
    path: PathBuf,
    /// Maximum size of one file: half of the maximum of both.
    max_file_size: u64,
    /// The open file and its size; `None` after an error, until it is opened again.
    out: Option<(BufWriter<File>, u64)>,
    line: Vec<u8>,
}

/// The path of the older file.
pub(super) fn older_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

impl RecordingWriter {
    pub(super) fn open(path: &Path, max_size: u64, now: Time) -> io::Result<Self> {
        let mut writer = Self { path: path.to_owned(), max_file_size: max_size / 2, out: None, line: Vec::new() };
        writer.write(&json!({"at": now.as_millis(), "start": env!("CARGO_PKG_VERSION")}))?;
        writer.flush()?;
        Ok(writer)
    }

    pub(super) fn run(mut self, queue: QueueReceiver<RecorderMessage>, recorder: &Recorder) {
        loop {
            match queue.recv(FLUSH_DELAY) {
                QueueEvent::Item(RecorderMessage::Record(now, input)) => {
                    self.record_drops(now, recorder);
                    self.compose(now, &input);
                    let written = self.put();
                    if written.is_err() {
                        recorder.drop_one();
                    }
                    self.note_outcome(recorder, written);
                }
                QueueEvent::Item(RecorderMessage::Close(now, reply)) => {
                    self.record_drops(now, recorder);
                    let closed = self.write(&json!({"at": now.as_millis(), "stop": true})).and_then(|()| self.flush());
                    self.note_outcome(recorder, closed);
                    // Later input fails to be queued and is counted as dropped.
                    drop(queue);
                    // The caller may have timed out.
                    reply.send(()).unwrap_or_default();
                    return;
                }
                QueueEvent::Timeout => {
                    let flushed = self.flush();
                    self.note_outcome(recorder, flushed);
                }
                QueueEvent::Closed => return,
            }
        }
    }

    /// Records the outcome of a write. After a failure the file is opened again.
    fn note_outcome(&mut self, recorder: &Recorder, outcome: io::Result<()>) {
        if outcome.is_err() {
            self.out = None;
        }
        let path = || self.path.clone();
        let outcome =
            outcome.map_err(|error| StoreError::Io { path: path(), action: "write", source: Arc::new(error) });
        recorder.health.record(FileOperation::Write, &outcome);
    }

    /// Writes the number of dropped inputs.
    fn record_drops(&mut self, now: Time, recorder: &Recorder) {
        let dropped = recorder.unrecorded_drops.swap(0, Relaxed);
        if dropped > 0 && self.write(&json!({"at": now.as_millis(), "dropped": dropped})).is_err() {
            recorder.unrecorded_drops.fetch_add(dropped, Relaxed);
        }
    }

    /// Formats the line of an input.
    fn compose(&mut self, now: Time, input: &RecordedInput) {
        let at = now.as_millis();
        self.line.clear();
        match input {
            RecordedInput::State(body) => self.compose_body(at, "state", body),
            RecordedInput::Usage(body) => self.compose_body(at, "usage", body),
            RecordedInput::Metrics(body) => self.compose_body(at, "metrics", body),
            RecordedInput::Hook(hook) => self.compose_value(&json!({"at": at, "hook": hook})),
            RecordedInput::Runs(runs) => self.compose_value(&json!({"at": at, "runs": runs})),
            RecordedInput::Poll { source, result: Ok(states) } => {
                let source = Value::from(&**source);
                let line =
                    format!("{{\"at\":{at},\"poll\":{{\"source\":{source},\"states\":[{}]}}}}", states.join(","));
                self.line.extend_from_slice(line.as_bytes());
            }
            RecordedInput::Poll { source, result: Err(error) } => {
                let poll = json!({"source": &**source, "error": error.reason, "message": error.message});
                self.compose_value(&json!({"at": at, "poll": poll}));
            }
            RecordedInput::Silence(silence) => self.compose_value(&json!({"at": at, "silence": silence})),
            RecordedInput::Unsilence { id, by } => {
                self.compose_value(&json!({"at": at, "unsilence": {"id": &**id, "by": &**by}}));
            }
            RecordedInput::Ack { fingerprint, by, comment } => {
                let ack = json!({"fingerprint": fingerprint, "by": &**by, "comment": &**comment});
                self.compose_value(&json!({"at": at, "ack": ack}));
            }
        }
    }

    fn compose_body(&mut self, at: i64, kind: &str, body: &[u8]) {
        self.line.extend_from_slice(format!("{{\"at\":{at},\"{kind}\":").as_bytes());
        // Line breaks in JSON are white space, never part of a string.
        self.line.extend(body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        self.line.push(b'}');
    }

    fn compose_value(&mut self, value: &Value) {
        self.line.extend_from_slice(value.to_string().as_bytes());
    }

    fn write(&mut self, value: &Value) -> io::Result<()> {
        self.line.clear();
        self.compose_value(value);
        self.put()
    }

    /// Appends the line, rotating the file first when it is full.
    fn put(&mut self) -> io::Result<()> {
        self.line.push(b'\n');
        let length = self.line.len() as u64;
        if length > self.max_file_size {
            let message = format!("a body of {length} bytes is more than half of record.max_size");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        if self.out.as_ref().is_some_and(|(out, _)| !is_at(out.get_ref(), &self.path)) {
            // The file was removed or rotated by another program; the buffer still belongs to it.
            self.flush()?;
            self.out = None;
        }
        if self.out.is_none() {
            self.out = Some(open(&self.path)?);
        }
        if self.out.as_ref().is_some_and(|(_, size)| size + length > self.max_file_size) {
            self.flush()?;
            self.out = None;
            std::fs::rename(&self.path, older_file(&self.path))?;
            self.out = Some(open(&self.path)?);
        }
        if let Some((out, size)) = &mut self.out {
            out.write_all(&self.line)?;
            *size += length;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), |(out, _)| out.flush())
    }
}

/// Whether `file` is the file at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(file), Ok(there)) if identity(&file) == identity(&there))
}

/// Opens the file for appending. Terminates a last line that a crash truncated.
fn open(path: &Path) -> io::Result<(BufWriter<File>, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut size = file.metadata()?.len();
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != [b'\n'] {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((BufWriter::with_capacity(64 * 1024, file), size))
}
