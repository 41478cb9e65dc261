//! The thread that writes a recording.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Message, Recorder};
use crate::model::{RecordedInput, Time};
use crate::store::error::StoreError;
use crate::store::health::Step;
use crate::store::queue::{Received, Receiver};

/// After so long without anything new, what was written is handed to the system.
const QUIET: Duration = Duration::from_millis(500);

/// The file and how much is in it.
pub(super) struct Writer {
    path: PathBuf,
    /// A file may grow to half of what both may have.
    half: u64,
    /// `None` after an error, until it can be opened again.
    out: Option<(BufWriter<File>, u64)>,
    line: Vec<u8>,
}

/// The name of the file before this one.
pub(super) fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

impl Writer {
    pub(super) fn open(path: &Path, max_size: u64, now: Time) -> io::Result<Self> {
        let mut writer = Self { path: path.to_owned(), half: max_size / 2, out: None, line: Vec::new() };
        writer.write(&json!({"at": now.as_millis(), "start": env!("CARGO_PKG_VERSION")}))?;
        writer.flush()?;
        Ok(writer)
    }

    pub(super) fn run(mut self, queue: Receiver<Message>, recorder: &Recorder) {
        loop {
            match queue.recv(QUIET) {
                Received::Item(Message::Note(now, arrival)) => {
                    self.say_dropped(now, recorder);
                    self.compose(now, &arrival);
                    let written = self.put();
                    if written.is_err() {
                        recorder.drop_one();
                    }
                    self.tell(recorder, written);
                }
                Received::Item(Message::Close(now, reply)) => {
                    self.say_dropped(now, recorder);
                    let closed = self.write(&json!({"at": now.as_millis(), "stop": true})).and_then(|()| self.flush());
                    self.tell(recorder, closed);
                    // What comes after the answer is refused, and so counted.
                    drop(queue);
                    // Whoever asked has waited long enough when nobody takes the answer.
                    reply.send(()).unwrap_or_default();
                    return;
                }
                Received::Quiet => {
                    let flushed = self.flush();
                    self.tell(recorder, flushed);
                }
                Received::Closed => return,
            }
        }
    }

    /// Notes how a write went; after a failed one the file is opened anew.
    fn tell(&mut self, recorder: &Recorder, outcome: io::Result<()>) {
        if outcome.is_err() {
            self.out = None;
        }
        let path = || self.path.clone();
        let outcome =
            outcome.map_err(|error| StoreError::Io { path: path(), action: "write", source: Arc::new(error) });
        recorder.health.record(Step::Write, &outcome);
    }

    /// Says in the file how much was left out.
    fn say_dropped(&mut self, now: Time, recorder: &Recorder) {
        let dropped = recorder.unsaid.swap(0, Relaxed);
        if dropped > 0 && self.write(&json!({"at": now.as_millis(), "dropped": dropped})).is_err() {
            recorder.unsaid.fetch_add(dropped, Relaxed);
        }
    }

    /// Makes the line of what arrived.
    fn compose(&mut self, now: Time, arrival: &RecordedInput) {
        let at = now.as_millis();
        self.line.clear();
        match arrival {
            RecordedInput::State(body) => self.compose_body(at, "state", body),
            RecordedInput::Usage(body) => self.compose_body(at, "usage", body),
            RecordedInput::Hook(hook) => self.compose_value(&json!({"at": at, "hook": hook})),
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
        // A line's end within JSON is never part of a text.
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

    /// Writes the line at hand, into a new file when this one is full.
    fn put(&mut self) -> io::Result<()> {
        self.line.push(b'\n');
        let length = self.line.len() as u64;
        if length > self.half {
            let message = format!("a body of {length} bytes is more than half of record.max_size");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        if self.out.as_ref().is_some_and(|(out, _)| !is_at(out.get_ref(), &self.path)) {
            // Somebody removed or rotated it; what is in the buffer goes where it belongs.
            self.flush()?;
            self.out = None;
        }
        if self.out.is_none() {
            self.out = Some(open(&self.path)?);
        }
        if self.out.as_ref().is_some_and(|(_, size)| size + length > self.half) {
            self.flush()?;
            self.out = None;
            std::fs::rename(&self.path, before(&self.path))?;
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

/// Whether `file` is what is at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(file), Ok(there)) if identity(&file) == identity(&there))
}

/// Opens the file to write behind what is there, and ends a line that a crash left without its end.
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
