//! Reads a recording line by line, the older file first.
//!
//! A line that can't be read, such as one truncated by a crash, is counted and skipped.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::writer::older_file;
use crate::model::{Fingerprint, Hook, RecordedInput, RunSummary, Silence, SourceError, SourceErrorReason, Time};

/// Maximum length of a line in bytes.
const MAX_LINE: u64 = 256 << 20;

/// A decoded line of a recording.
#[derive(Clone, Debug)]
pub struct RecordingEntry {
    /// When it happened.
    pub at: Time,
    /// What happened.
    pub content: EntryContent,
}

/// The content of a line.
#[derive(Clone, Debug)]
pub enum EntryContent {
    /// The program started.
    Start,
    /// The program stopped.
    Stop,
    /// This many inputs were dropped.
    Dropped(u64),
    /// An input.
    Input(RecordedInput),
}

/// An open recording.
#[derive(Debug)]
pub struct RecordingReader {
    /// The files that are still to be read, in reverse order.
    files: Vec<BufReader<File>>,
    line: Vec<u8>,
    unreadable: u64,
}

#[derive(Deserialize)]
struct RecordingLine<'a> {
    at: i64,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    metrics: Option<&'a RawValue>,
    hook: Option<Hook>,
    runs: Option<Vec<RunSummary>>,
    #[serde(borrow)]
    poll: Option<RecordedPoll<'a>>,
    silence: Option<Silence>,
    unsilence: Option<RecordedUnsilence>,
    ack: Option<RecordedAck>,
    dropped: Option<u64>,
    start: Option<serde::de::IgnoredAny>,
    stop: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct RecordedPoll<'a> {
    source: Arc<str>,
    #[serde(borrow)]
    states: Option<Vec<&'a RawValue>>,
    error: Option<SourceErrorReason>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct RecordedUnsilence {
    id: Arc<str>,
    by: Arc<str>,
}

#[derive(Deserialize)]
struct RecordedAck {
    fingerprint: Fingerprint,
    by: Arc<str>,
    comment: Arc<str>,
}

impl RecordingReader {
    /// Opens the recording at `path`, and the older file if it exists.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut files = vec![BufReader::new(File::open(path)?)];
        match File::open(older_file(path)) {
            Ok(older) => files.push(BufReader::new(older)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self { files, line: Vec::new(), unreadable: 0 })
    }

    /// The next readable line; `None` at the end.
    pub fn next_entry(&mut self) -> io::Result<Option<RecordingEntry>> {
        while let Some(file) = self.files.last_mut() {
            self.line.clear();
            let read = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.line)?;
            if read == 0 {
                self.files.pop();
                continue;
            }
            match entry(&self.line) {
                Some(entry) => return Ok(Some(entry)),
                None => self.unreadable += 1,
            }
        }
        Ok(None)
    }

    /// Number of lines so far that could not be read.
    pub const fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

fn entry(line: &[u8]) -> Option<RecordingEntry> {
    let line: RecordingLine<'_> = serde_json::from_slice(line).ok()?;
    let body = |body: &RawValue| Bytes::copy_from_slice(body.get().as_bytes());
    let content = match line {
        RecordingLine { state: Some(state), .. } => EntryContent::Input(RecordedInput::State(body(state))),
        RecordingLine { usage: Some(usage), .. } => EntryContent::Input(RecordedInput::Usage(body(usage))),
        RecordingLine { metrics: Some(metrics), .. } => EntryContent::Input(RecordedInput::Metrics(body(metrics))),
        RecordingLine { hook: Some(hook), .. } => EntryContent::Input(RecordedInput::Hook(hook)),
        RecordingLine { runs: Some(runs), .. } => EntryContent::Input(RecordedInput::Runs(runs)),
        RecordingLine { poll: Some(poll), .. } => {
            let result = match (poll.error, poll.states) {
                (Some(reason), _) => Err(SourceError { reason, message: poll.message.unwrap_or_default() }),
                (None, Some(states)) => Ok(states.into_iter().map(|state| state.get().to_owned()).collect()),
                (None, None) => return None,
            };
            EntryContent::Input(RecordedInput::Poll { source: poll.source, result })
        }
        RecordingLine { silence: Some(silence), .. } => EntryContent::Input(RecordedInput::Silence(silence)),
        RecordingLine { unsilence: Some(RecordedUnsilence { id, by }), .. } => {
            EntryContent::Input(RecordedInput::Unsilence { id, by })
        }
        RecordingLine { ack: Some(RecordedAck { fingerprint, by, comment }), .. } => {
            EntryContent::Input(RecordedInput::Ack { fingerprint, by, comment })
        }
        RecordingLine { dropped: Some(dropped), .. } => EntryContent::Dropped(dropped),
        RecordingLine { start: Some(_), .. } => EntryContent::Start,
        RecordingLine { stop: Some(_), .. } => EntryContent::Stop,
        _ => return None,
    };
    Some(RecordingEntry { at: Time::from_millis(line.at), content })
}
