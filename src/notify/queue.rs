//! What one receiver is still to be told, and when: gathering, rate, retries, and what gives way when it is full.
//!
//! Pure: `now` comes in, reports go out. The newest notice of an alert replaces an older one that waits, as the
//! receiver needs to know how things are; so at most one notice waits for each alert.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Fingerprint, Level, Notice, NoticeKind, Outcome, Report, SendError, SendReason, Time};

/// Messages refused in a row, after a message was split, that show that it isn't one alert's fault: more than the
/// halvings from [`Pace::capacity`] to one.
const REFUSALS: u32 = 20;
/// From so many alerts that wait on, it is taken that more are coming, and all are gathered.
const MANY: usize = 10;
/// Messages that what waits is spread over at most; what is more is counted in one.
const SPREAD: usize = 8;
/// Longest pause a receiver can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// How fast and how much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// After a message has left, how long what follows is gathered into the next.
    pub(super) gather: Duration,
    /// Pause after the first failure; it doubles with each.
    pub(super) first_pause: Duration,
    /// Longest pause we choose.
    pub(super) longest_pause: Duration,
    /// A token each so long, and how many can be saved up; for receivers that limit our rate.
    pub(super) bucket: Option<(Duration, u32)>,
    /// Most alerts that wait, beside those under way.
    pub(super) capacity: usize,
    /// What is told in a message of its own while the rate allows it.
    pub(super) group_by: GroupBy,
    /// Whether a message that failed is sent again as it was, so that its key stays the same.
    pub(super) keeps_batches: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gather: super::GATHER,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(300),
            bucket: None,
            capacity: super::CAPACITY,
            group_by: GroupBy::None,
            keeps_batches: false,
        }
    }
}

/// What is told in a message of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupBy {
    /// Nothing: what is due together is told together.
    #[default]
    None,
    /// Each project.
    Project,
    /// Each rule.
    Rule,
}

impl GroupBy {
    fn of(self, notice: &Notice) -> Option<&Arc<str>> {
        match self {
            Self::None => None,
            Self::Project => notice.subject.project(),
            Self::Rule => Some(&notice.rule),
        }
    }
}

/// The list of one receiver.
#[derive(Debug)]
pub(super) struct Queue {
    receiver: Arc<str>,
    pace: Pace,
    waiting: HashMap<Fingerprint, Entry>,
    /// Who gives way first when the list is full.
    order: BTreeSet<(u8, u64, Fingerprint)>,
    /// The parts of messages that were refused as a whole, each to be sent by itself, before all else.
    pieces: VecDeque<Vec<Fingerprint>>,
    in_flight: Vec<Entry>,
    /// Whether what is in flight is one of the pieces.
    piece: bool,
    arrivals: u64,
    /// When the first of what waits came, if the last message left nothing behind.
    gathering_since: Option<Time>,
    /// Whether the last message left something behind that it had no room for.
    is_rest: bool,
    left_at: Option<Time>,
    /// When the bucket will be full again (the generic cell rate algorithm's theoretical arrival time).
    full_at: Time,
    retry_at: Option<Time>,
    failures: u32,
    refusals: u32,
    last_error: Option<String>,
    closed: bool,
    reports: Vec<Report>,
}

#[derive(Clone, Debug)]
struct Entry {
    notice: Arc<Notice>,
    arrival: u64,
    /// When the oldest of what it stands for became due.
    since: Time,
    /// Whether a send was begun, so that the receiver may have got it.
    attempted: bool,
    /// Whether the receiver can't have been told of the alert at all.
    untold: bool,
}

impl Entry {
    /// Its rank when the list is full; the lowest gives way. A resolve that nobody waits for is the least loss;
    /// one that is owed ranks above what warns, below what wakes.
    fn rank(&self) -> u8 {
        match (self.notice.kind, self.notice.level) {
            (NoticeKind::Resolved, _) if self.untold => 0,
            (NoticeKind::Resolved, _) => 3,
            (_, Level::Info) => 1,
            (_, Level::Warning) => 2,
            (_, Level::Error) => 4,
            (_, Level::Critical) => 5,
        }
    }

    fn place(&self) -> (u8, u64, Fingerprint) {
        (self.rank(), self.arrival, self.notice.fingerprint)
    }
}

impl Queue {
    /// An empty list for `receiver`.
    pub(super) fn new(receiver: Arc<str>, pace: Pace) -> Self {
        Self {
            receiver,
            pace,
            waiting: HashMap::new(),
            order: BTreeSet::new(),
            pieces: VecDeque::new(),
            in_flight: Vec::new(),
            piece: false,
            arrivals: 0,
            gathering_since: None,
            is_rest: false,
            left_at: None,
            full_at: Time::default(),
            retry_at: None,
            failures: 0,
            refusals: 0,
            last_error: None,
            closed: false,
            reports: Vec::new(),
        }
    }

    /// Takes in what became due. A closed list gives it up at once.
    pub(super) fn push(&mut self, now: Time, notice: Arc<Notice>) {
        if self.closed {
            self.give_up(now, vec![notice], removed());
            return;
        }
        self.arrivals += 1;
        self.gathering_since.get_or_insert(now);
        let entry = Entry { since: notice.at, notice, arrival: self.arrivals, attempted: false, untold: false };
        self.insert(now, entry);
        self.shed(now);
    }

    /// Gives up what is too much.
    fn shed(&mut self, now: Time) {
        while self.waiting.len() > self.pace.capacity {
            let Some((_, _, fingerprint)) = self.order.first().copied() else { break };
            let Some(entry) = self.remove(fingerprint) else { break };
            let message = format!("more than {} alerts wait for this receiver", self.pace.capacity);
            self.give_up(now, vec![entry.notice], dropped(message));
        }
    }

    /// Puts an entry where the newest of its alert stays.
    fn insert(&mut self, now: Time, entry: Entry) {
        let entry = match self.remove(entry.notice.fingerprint) {
            None => entry,
            Some(other) if other.notice.key == entry.notice.key => {
                Entry { attempted: entry.attempted || other.attempted, ..entry }
            }
            Some(other) => {
                let newer = (entry.notice.at, entry.arrival) > (other.notice.at, other.arrival);
                let (older, newer) = if newer { (other, entry) } else { (entry, other) };
                let first = older.notice.kind == NoticeKind::Firing && older.notice.previous.is_none();
                let untold = !older.attempted && (older.untold || first);
                let since = older.since.min(newer.since);
                let receiver = Arc::clone(&self.receiver);
                self.reports.push(Report::Superseded(Outcome { receiver, notices: vec![older.notice], at: now }));
                Entry { since, untold, ..newer }
            }
        };
        self.order.insert(entry.place());
        self.waiting.insert(entry.notice.fingerprint, entry);
    }

    fn remove(&mut self, fingerprint: Fingerprint) -> Option<Entry> {
        let entry = self.waiting.remove(&fingerprint)?;
        self.order.remove(&entry.place());
        Some(entry)
    }

    /// When the next message may leave, maybe in the past; `None` when nothing waits, or one is under way.
    pub(super) fn next_send_at(&self) -> Option<Time> {
        if self.waiting.is_empty() || !self.in_flight.is_empty() {
            return None;
        }
        let is_free = self.pieces.is_empty() && !self.is_rest;
        let gathered = self.left_at.filter(|_| is_free).map(|at| at.plus(self.pace.gather));
        let storm = self.gathering_since.filter(|_| is_free && self.is_storm()).map(|at| at.plus(self.pace.gather));
        let ready = self.retry_at.or(gathered.max(storm)).unwrap_or_default();
        Some(ready.max(self.token_at()))
    }

    /// Whether so much waits that more must be coming.
    fn is_storm(&self) -> bool {
        self.waiting.len() >= MANY || self.waiting.values().any(|entry| entry.notice.part_of.is_some())
    }

    /// The same when the program stops: nothing is gathered any more, and what failed is not waited for.
    pub(super) fn last_send_at(&self, now: Time) -> Option<Time> {
        let waits = self.waiting.is_empty() || !self.in_flight.is_empty();
        (!waits && self.retry_at.is_none_or(|at| at <= now)).then(|| self.token_at())
    }

    fn token_at(&self) -> Time {
        self.pace.bucket.map_or_else(Time::default, |(each, burst)| self.full_at.minus(each * burst.saturating_sub(1)))
    }

    /// What the next message carries; it is under way from now on. The worst come first; `fits` says of how many, in
    /// their order, one message has room to tell.
    pub(super) fn take_batch(&mut self, now: Time, fits: impl Fn(&[&Notice]) -> usize) -> Vec<Arc<Notice>> {
        self.left_at = Some(now);
        self.retry_at = None;
        self.gathering_since = None;
        self.is_rest = false;
        // With no token left after this message, what waits is told together.
        let may_split = self
            .pace
            .bucket
            .is_none_or(|(each, burst)| burst > 1 && self.full_at.max(now).plus(each) <= now.plus(each * (burst - 1)));
        if let Some((each, _)) = self.pace.bucket {
            self.full_at = self.full_at.max(now).plus(each);
        }
        let mut batch = Vec::new();
        self.piece = false;
        while let Some(piece) = self.pieces.pop_front() {
            batch.extend(piece.into_iter().filter_map(|fingerprint| self.remove(fingerprint)));
            self.piece = !batch.is_empty();
            if self.piece {
                break;
            }
        }
        if batch.is_empty() {
            self.order.clear();
            batch.extend(self.waiting.drain().map(|(_, entry)| entry));
        }
        batch.sort_by_key(|entry| {
            (entry.notice.kind == NoticeKind::Resolved, std::cmp::Reverse(entry.notice.level), entry.arrival)
        });
        if !self.piece {
            let kept = self.share(&mut batch, may_split, fits);
            self.is_rest = !kept.is_empty();
            for entry in kept {
                self.insert(now, entry);
            }
        }
        for entry in &mut batch {
            entry.attempted = true;
        }
        self.in_flight = batch;
        self.in_flight.iter().map(|entry| Arc::clone(&entry.notice)).collect()
    }

    /// Leaves in `batch` what one message tells, and returns the rest.
    fn share(&self, batch: &mut Vec<Entry>, may_split: bool, fits: impl Fn(&[&Notice]) -> usize) -> Vec<Entry> {
        let mut rest = Vec::new();
        if may_split && let Some(first) = batch.first() {
            let group = self.pace.group_by.of(&first.notice).cloned();
            (*batch, rest) = std::mem::take(batch)
                .into_iter()
                .partition(|entry| self.pace.group_by.of(&entry.notice) == group.as_ref());
        }
        let notices: Vec<&Notice> = batch.iter().map(|entry| &*entry.notice).collect();
        let room = fits(&notices).max(1);
        if batch.len() > room && batch.len() <= room.saturating_mul(SPREAD) {
            rest.extend(batch.split_off(room));
        }
        rest
    }

    /// What came of the message under way. `jitter`, from 0 to 1, shortens the pause by up to a half.
    pub(super) fn on_result(&mut self, now: Time, jitter: f64, result: Result<(), SendError>) {
        let batch = std::mem::take(&mut self.in_flight);
        let error = match result {
            Ok(()) => {
                (self.failures, self.refusals, self.last_error) = (0, 0, None);
                let notices = batch.into_iter().map(|entry| entry.notice).collect();
                let receiver = Arc::clone(&self.receiver);
                self.reports.push(Report::Delivered(Outcome { receiver, notices, at: now }));
                return;
            }
            Err(error) => error,
        };
        self.last_error = Some(error.message.clone());
        if self.closed {
            self.give_up(now, batch.into_iter().map(|entry| entry.notice).collect(), removed());
        } else if error.retryable {
            self.failures = self.failures.saturating_add(1);
            self.retry_at = Some(now.plus(self.pause(jitter, error.retry_after)));
            let notices = batch.iter().map(|entry| Arc::clone(&entry.notice)).collect();
            self.piece |= self.pace.keeps_batches;
            self.give_back(now, batch, 1);
            self.fail(now, notices, error);
        } else {
            self.refuse(now, batch, error);
        }
    }

    fn pause(&self, jitter: f64, asked: Option<Duration>) -> Duration {
        let doubled = self.pace.first_pause.saturating_mul(1_u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX));
        let ours = doubled.min(self.pace.longest_pause).mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0));
        ours.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }

    /// A message refused for good is tried again in halves, down to the alert that it is refused for; unless the
    /// refusal is about us, or everything is refused.
    fn refuse(&mut self, now: Time, batch: Vec<Entry>, error: SendError) {
        self.failures = 0;
        self.refusals = if self.piece { self.refusals + 1 } else { 1 };
        if self.refusals >= REFUSALS {
            let mut notices: Vec<Arc<Notice>> = batch.into_iter().map(|entry| entry.notice).collect();
            for fingerprint in std::mem::take(&mut self.pieces).into_iter().flatten() {
                notices.extend(self.remove(fingerprint).map(|entry| entry.notice));
            }
            self.give_up(now, notices, error);
        } else if batch.len() > 1 && matches!(error.reason, SendReason::Refused | SendReason::Message) {
            self.piece = true;
            let notices = batch.iter().map(|entry| Arc::clone(&entry.notice)).collect();
            self.give_back(now, batch, 2);
            self.fail(now, notices, error);
        } else {
            self.give_up(now, batch.into_iter().map(|entry| entry.notice).collect(), error);
        }
    }

    /// What was under way waits again, ahead of all else and in so many parts if it is a piece.
    fn give_back(&mut self, now: Time, batch: Vec<Entry>, parts: usize) {
        if self.piece {
            let fingerprints: Vec<_> = batch.iter().map(|entry| entry.notice.fingerprint).collect();
            let size = fingerprints.len().div_ceil(parts).max(1);
            for part in fingerprints.chunks(size).rev() {
                self.pieces.push_front(part.to_vec());
            }
        }
        for entry in batch {
            self.insert(now, entry);
        }
        self.shed(now);
    }

    /// From now on everything is given up: the receiver was removed.
    pub(super) fn close(&mut self, now: Time) {
        self.closed = true;
        self.order.clear();
        self.pieces.clear();
        let notices: Vec<_> = self.waiting.drain().map(|(_, entry)| entry.notice).collect();
        self.give_up(now, notices, removed());
    }

    /// Tries again without a pause: the receiver's settings were read anew.
    pub(super) fn reset(&mut self, pace: Pace) {
        self.pace = pace;
        self.failures = 0;
        self.retry_at = None;
    }

    fn give_up(&mut self, now: Time, notices: Vec<Arc<Notice>>, error: SendError) {
        if !notices.is_empty() {
            let receiver = Arc::clone(&self.receiver);
            self.reports.push(Report::GaveUp(Outcome { receiver, notices, at: now }, error));
        }
    }

    fn fail(&mut self, now: Time, notices: Vec<Arc<Notice>>, error: SendError) {
        self.reports.push(Report::Failed { receiver: Arc::clone(&self.receiver), notices, error, at: now });
    }

    /// What has become of notices since the last call.
    pub(super) fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Whether nothing waits, is under way or failed lately.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// How many alerts wait or are under way.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// Since when the oldest of them waits.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.waiting.values().chain(&self.in_flight).map(|entry| entry.since).min()
    }

    /// What the last failed send said; `None` once one succeeded.
    pub(super) const fn last_error(&self) -> Option<&String> {
        self.last_error.as_ref()
    }

    /// Whether the receiver was removed.
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }
}

fn removed() -> SendError {
    dropped("receiver removed".to_owned())
}

const fn dropped(message: String) -> SendError {
    SendError { reason: SendReason::Dropped, retryable: false, retry_after: None, message }
}

#[cfg(test)]
mod tests;
