//! A recording read back, line by line, the older file first.
//!
//! A line that can't be read is counted and passed over: a crash may have cut one short. Refuses lines without bound.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::writer::before;
use crate::model::{Fingerprint, Hook, RecordedInput, Silence, SourceError, SourceErrorReason, Time};

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 256 << 20;

/// A line of a recording.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it happened.
    pub at: Time,
    /// What.
    pub what: Recorded,
}

/// What a line says.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// The program started.
    Start,
    /// The program stopped.
    Stop,
    /// So many arrivals were left out.
    Dropped(u64),
    /// Something arrived.
    RecordedInput(RecordedInput),
}

/// The lines of a recording.
#[derive(Debug)]
pub struct Reading {
    /// The files that are still to be read, the last one first.
    files: Vec<BufReader<File>>,
    line: Vec<u8>,
    unreadable: u64,
}

#[derive(Deserialize)]
struct Line<'a> {
    at: i64,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    hook: Option<Hook>,
    #[serde(borrow)]
    poll: Option<Poll<'a>>,
    silence: Option<Silence>,
    unsilence: Option<Unsilence>,
    ack: Option<Acknowledged>,
    dropped: Option<u64>,
    start: Option<serde::de::IgnoredAny>,
    stop: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Poll<'a> {
    source: Arc<str>,
    #[serde(borrow)]
    states: Option<Vec<&'a RawValue>>,
    error: Option<SourceErrorReason>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Unsilence {
    id: Arc<str>,
    by: Arc<str>,
}

#[derive(Deserialize)]
struct Acknowledged {
    fingerprint: Fingerprint,
    by: Arc<str>,
    comment: Arc<str>,
}

impl Reading {
    /// Opens the recording at `path`, and the file before it when there is one.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut files = vec![BufReader::new(File::open(path)?)];
        match File::open(before(path)) {
            Ok(older) => files.push(BufReader::new(older)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self { files, line: Vec::new(), unreadable: 0 })
    }

    /// The next line that can be read; `None` at the end.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
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

    /// Lines that could not be read so far.
    pub const fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

fn entry(line: &[u8]) -> Option<Entry> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let body = |body: &RawValue| Bytes::copy_from_slice(body.get().as_bytes());
    let what = match line {
        Line { state: Some(state), .. } => Recorded::RecordedInput(RecordedInput::State(body(state))),
        Line { usage: Some(usage), .. } => Recorded::RecordedInput(RecordedInput::Usage(body(usage))),
        Line { hook: Some(hook), .. } => Recorded::RecordedInput(RecordedInput::Hook(hook)),
        Line { poll: Some(poll), .. } => {
            let result = match (poll.error, poll.states) {
                (Some(reason), _) => Err(SourceError { reason, message: poll.message.unwrap_or_default() }),
                (None, Some(states)) => Ok(states.into_iter().map(|state| state.get().to_owned()).collect()),
                (None, None) => return None,
            };
            Recorded::RecordedInput(RecordedInput::Poll { source: poll.source, result })
        }
        Line { silence: Some(silence), .. } => Recorded::RecordedInput(RecordedInput::Silence(silence)),
        Line { unsilence: Some(Unsilence { id, by }), .. } => {
            Recorded::RecordedInput(RecordedInput::Unsilence { id, by })
        }
        Line { ack: Some(Acknowledged { fingerprint, by, comment }), .. } => {
            Recorded::RecordedInput(RecordedInput::Ack { fingerprint, by, comment })
        }
        Line { dropped: Some(dropped), .. } => Recorded::Dropped(dropped),
        Line { start: Some(_), .. } => Recorded::Start,
        Line { stop: Some(_), .. } => Recorded::Stop,
        _ => return None,
    };
    Some(Entry { at: Time::from_millis(line.at), what })
}
