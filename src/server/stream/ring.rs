//! The last events, numbered: each viewer reads them at its own pace, from a position of its own.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::event::{EventTarget, StreamEvent, frame};
use super::filter::StreamFilter;

/// Events that are kept.
const MAX_EVENTS: usize = 10_000;
/// Bytes of events that are kept.
const MAX_BYTES: usize = 32 << 20;
/// Bytes that one read returns, if an event is not larger than that.
const READ_BYTES: usize = 16 << 10;

/// The position was reached by newer events, or belongs to events that were never kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overrun;

/// The ring. Its positions are numbers of events.
#[derive(Debug)]
pub(super) struct EventRing {
    /// What distinguishes this process from those before it.
    start: Arc<str>,
    /// The number of the oldest event, or of the next one if there is none.
    first: u64,
    events: VecDeque<StreamEvent>,
    bytes: usize,
}

/// The id of an event: `<start>-<number>`.
struct EventId<'a>(&'a str, u64);

impl fmt::Display for EventId<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.0, self.1)
    }
}

impl EventRing {
    /// An empty ring; `start` is unique to this process.
    pub(super) fn new(start: impl Into<Arc<str>>) -> Self {
        Self { start: start.into(), first: 1, events: VecDeque::new(), bytes: 0 }
    }

    /// The position after the newest event.
    pub(super) fn head(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The id of the event before a position: what a client names to resume there.
    pub(super) fn id_before(&self, position: u64) -> String {
        EventId(&self.start, position.saturating_sub(1)).to_string()
    }

    /// Adds an event; `data` is its JSON.
    pub(super) fn push(&mut self, target: EventTarget, data: &str) {
        let frame = frame(EventId(&self.start, self.head()), target.kind(), data);
        self.bytes += frame.len();
        self.events.push_back(StreamEvent { target, frame });
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES && self.events.len() > 1 {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.first += 1;
            self.bytes -= event.frame.len();
        }
    }

    /// Drops everything and skips a number, since changes from now on are not recorded: no position so far can be resumed.
    pub(super) fn interrupt(&mut self) {
        self.first = self.head() + 1;
        self.events = VecDeque::new();
        self.bytes = 0;
    }

    /// The position after the event with this id.
    pub(super) fn resume(&self, id: &str) -> Result<u64, Overrun> {
        let number = id.rsplit_once('-').filter(|(start, _)| *start == &*self.start).map(|(_, number)| number);
        let position = number.and_then(|number| number.parse::<u64>().ok()?.checked_add(1)).ok_or(Overrun)?;
        if (self.first..=self.head()).contains(&position) { Ok(position) } else { Err(Overrun) }
    }

    /// Appends what matches from `position` on to `frames`, up to some kilobytes; returns the position after it.
    pub(super) fn read(
        &self,
        mut position: u64,
        filter: &StreamFilter,
        frames: &mut VecDeque<Bytes>,
    ) -> Result<u64, Overrun> {
        let skipped = position.checked_sub(self.first).and_then(|skipped| usize::try_from(skipped).ok());
        let mut bytes = 0;
        for event in self.events.iter().skip(skipped.ok_or(Overrun)?) {
            if filter.matches(&event.target) {
                if bytes > 0 && bytes + event.frame.len() > READ_BYTES {
                    break;
                }
                bytes += event.frame.len();
                frames.push_back(event.frame.clone());
            }
            position += 1;
        }
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> EventTarget {
        EventTarget::Agent { project: "shop".into(), name: name.into(), is_removed: false }
    }

    /// The numbers of what a viewer at `position` reads, and where it is then.
    fn read(ring: &EventRing, position: u64, filter: &StreamFilter) -> Result<(Vec<u64>, u64), Overrun> {
        let mut frames = VecDeque::new();
        let position = ring.read(position, filter, &mut frames)?;
        let number = |frame: &Bytes| {
            let text = std::str::from_utf8(frame).expect("text");
            text.lines().next().and_then(|line| line.rsplit_once('-')?.1.parse().ok()).expect("an id")
        };
        Ok((frames.iter().map(number).collect(), position))
    }

    #[test]
    fn each_viewer_reads_on_from_its_position() {
        let mut ring = EventRing::new("s");
        let all = StreamFilter::default();
        assert_eq!(read(&ring, ring.head(), &all), Ok((vec![], 1)));
        for name in ["a", "b", "a"] {
            ring.push(agent(name), "{}");
        }
        assert_eq!(read(&ring, 1, &all), Ok((vec![1, 2, 3], 4)));
        assert_eq!(read(&ring, 3, &all), Ok((vec![3], 4)));
        let (only, _) = StreamFilter::parse(vec![("agent".into(), "b".into())]).expect("a filter");
        assert_eq!(read(&ring, 1, &only), Ok((vec![2], 4)), "it is past what it does not want");
    }

    #[test]
    fn a_read_is_bounded() {
        let mut ring = EventRing::new("s");
        let data = "x".repeat(READ_BYTES / 3);
        for _ in 0..5 {
            ring.push(agent("a"), &data);
        }
        ring.push(agent("a"), &"x".repeat(READ_BYTES * 2));
        let all = StreamFilter::default();
        assert_eq!(read(&ring, 1, &all), Ok((vec![1, 2], 3)));
        assert_eq!(read(&ring, 5, &all), Ok((vec![5], 6)));
        assert_eq!(read(&ring, 6, &all), Ok((vec![6], 7)), "one that is larger than a read");
    }

    #[test]
    fn a_position_that_is_overrun_is_an_error() {
        let mut ring = EventRing::new("s");
        for _ in 0..MAX_EVENTS + 5 {
            ring.push(agent("a"), "{}");
        }
        let all = StreamFilter::default();
        assert_eq!(read(&ring, 5, &all), Err(Overrun));
        assert!(read(&ring, 6, &all).is_ok());
        assert_eq!(ring.resume("s-4"), Err(Overrun));
        assert_eq!(ring.resume("s-5"), Ok(6));
        assert_eq!(ring.resume(&ring.id_before(ring.head())), Ok(ring.head()));
        let mut large = EventRing::new("s");
        for _ in 0..40 {
            large.push(agent("a"), &"x".repeat(1 << 20));
        }
        assert!(large.bytes <= MAX_BYTES && large.events.len() > 30 && large.first + large.events.len() as u64 == 41);
    }

    #[test]
    fn only_ids_of_this_process_are_resumed() {
        let mut ring = EventRing::new("1a-b");
        ring.push(agent("a"), "{}");
        for id in ["", "1", "1a-b", "1a-b-", "1a-b-x", "1a-b--1", "1a-c-1", "1a-b-2", "1a-b-18446744073709551615"] {
            assert_eq!(ring.resume(id), Err(Overrun), "{id}");
        }
        assert_eq!((ring.resume("1a-b-0"), ring.resume("1a-b-1")), (Ok(1), Ok(2)));
        ring.interrupt();
        assert_eq!(ring.resume("1a-b-1"), Err(Overrun), "what came after it is not known");
        assert_eq!(read(&ring, 2, &StreamFilter::default()), Err(Overrun));
        assert_eq!(ring.resume(&ring.id_before(ring.head())), Ok(3));
    }
}
