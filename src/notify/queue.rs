//! What is pending for one receiver, and when it is sent: grouping, rate, retries, and what gives way when it is full.
//!
//! Pure: `now` comes in, reports go out. The newest notice of an alert replaces an older one that waits, as the
//! receiver needs to know how things are; so at most one notice waits for each alert. What finds no room is handed back
//! and comes again as a newer notice.

mod pace;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    DeliveryOutcome, DeliveryReceipt, DeliveryReport, Fingerprint, Level, Notice, NoticeKind, Retry, SendError,
    SendReason, Time,
};

pub(super) use pace::{GroupBy, Pace};

/// Messages rejected in a row, after a message was split, that show that it isn't one alert's fault: more than the
/// halvings from [`Pace::capacity`] to one.
const REJECTIONS: u32 = 20;
/// From so many alerts that wait on, it is taken that more are coming, and all are gathered.
const MANY: usize = 10;
/// Messages to people that what waits is spread over at most; what is more is counted in one.
const SPREAD: usize = 8;
/// How long a receiver is tried that rejects us rather than the message.
const REJECTED_FOR: Duration = Duration::from_secs(3600);
/// Longest pause a receiver can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// The list of one receiver.
#[derive(Debug)]
pub(super) struct Queue {
    receiver: Arc<str>,
    pace: Pace,
    waiting: HashMap<Fingerprint, QueuedNotice>,
    /// Who gives way first when the list is full.
    order: BTreeSet<(u8, u64, Fingerprint)>,
    /// The parts of messages that were refused as a whole, each to be sent by itself, before all else.
    pieces: VecDeque<Vec<Fingerprint>>,
    in_flight: Vec<QueuedNotice>,
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
    rejections: u32,
    last_error: Option<String>,
    /// Whether nothing but announcements is sent.
    paused: bool,
    closed: bool,
    reports: Vec<DeliveryReport>,
}

#[derive(Clone, Debug)]
struct QueuedNotice {
    notice: Arc<Notice>,
    arrival: u64,
    /// When the oldest of what it stands for became due.
    since: Time,
    /// Whether a send was begun, so that the receiver may have got it.
    attempted: bool,
    /// Since when the receiver rejects us, as far as this was tried.
    rejected_since: Option<Time>,
}

impl QueuedNotice {
    /// Its rank when the list is full; the lowest gives way. A resolve of what the receiver was never notified of ranks lowest;
    /// one that is due ranks above what warns, below what wakes. Only what is about an alert can come again.
    fn rank(&self) -> u8 {
        match (self.notice.kind, self.notice.level) {
            (kind, _) if !kind.is_of_alert() => 6,
            (NoticeKind::Resolved, _) if self.notice.previous.is_none() => 0,
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
            rejections: 0,
            last_error: None,
            paused: false,
            closed: false,
            reports: Vec::new(),
        }
    }

    /// Takes in what became due. A closed list gives it up at once.
    pub(super) fn push(&mut self, now: Time, notice: Arc<Notice>) {
        if self.closed {
            self.dead_letter(now, vec![notice], removed());
            return;
        }
        self.arrivals += 1;
        self.gathering_since.get_or_insert(now);
        let entry =
            QueuedNotice { since: notice.at, notice, arrival: self.arrivals, attempted: false, rejected_since: None };
        self.insert(now, entry);
        self.defer_excess(now);
    }

    /// Hands back what there is no room for.
    fn defer_excess(&mut self, now: Time) {
        while self.waiting.len() > self.pace.capacity {
            let Some((_, _, fingerprint)) = self.order.first().copied() else { break };
            let Some(entry) = self.remove(fingerprint) else { break };
            if !entry.notice.kind.is_of_alert() {
                let message = format!("more than {} announcements wait for this receiver", self.pace.capacity);
                self.dead_letter(now, vec![entry.notice], SendError::permanent(SendReason::Dropped, message));
                continue;
            }
            match self.reports.last_mut() {
                Some(DeliveryReport::Deferred(outcome)) => outcome.notices.push(entry.notice),
                _ => {
                    let receiver = Arc::clone(&self.receiver);
                    self.reports.push(DeliveryReport::Deferred(DeliveryOutcome {
                        receiver,
                        notices: vec![entry.notice],
                        at: now,
                    }));
                }
            }
        }
    }

    /// Puts an entry where the newest of its alert stays.
    fn insert(&mut self, now: Time, entry: QueuedNotice) {
        let entry = match self.remove(entry.notice.fingerprint) {
            None => entry,
            Some(other) if other.notice.key == entry.notice.key => {
                QueuedNotice { attempted: entry.attempted || other.attempted, ..entry }
            }
            Some(other) => {
                let newer = (entry.notice.at, entry.arrival) > (other.notice.at, other.arrival);
                let (older, mut newer) = if newer { (other, entry) } else { (entry, other) };
                if !older.attempted {
                    follow(&mut newer, &older.notice);
                }
                newer.since = newer.since.min(older.since);
                newer.rejected_since = older.rejected_since.or(newer.rejected_since);
                let receiver = Arc::clone(&self.receiver);
                self.reports.push(DeliveryReport::Superseded(DeliveryOutcome {
                    receiver,
                    notices: vec![older.notice],
                    at: now,
                }));
                newer
            }
        };
        self.order.insert(entry.place());
        self.waiting.insert(entry.notice.fingerprint, entry);
    }

    fn remove(&mut self, fingerprint: Fingerprint) -> Option<QueuedNotice> {
        let entry = self.waiting.remove(&fingerprint)?;
        self.order.remove(&entry.place());
        Some(entry)
    }

    /// When the next message may leave, maybe in the past; `None` when nothing waits, or one is under way.
    pub(super) fn next_send_at(&self) -> Option<Time> {
        if !self.has_sendable() || !self.in_flight.is_empty() {
            return None;
        }
        let is_free = self.pieces.is_empty() && !self.is_rest;
        let gathered = self.left_at.filter(|_| is_free).map(|at| at.plus(self.pace.group_wait));
        let storm = self.gathering_since.filter(|_| is_free && self.is_storm()).map(|at| at.plus(self.pace.group_wait));
        let ready = self.retry_at.or(gathered.max(storm)).unwrap_or_default();
        Some(ready.max(self.token_at()))
    }

    /// Whether anything waits that may be sent: while monitoring is paused, an announcement.
    fn has_sendable(&self) -> bool {
        self.waiting.values().any(|entry| self.may_send(entry))
    }

    fn may_send(&self, entry: &QueuedNotice) -> bool {
        !self.paused || !entry.notice.kind.is_of_alert()
    }

    /// Pauses or resumes all but announcements. What was kept back waits from now on: it is not late for that.
    pub(super) fn set_paused(&mut self, now: Time, paused: bool) {
        if std::mem::replace(&mut self.paused, paused) && !paused {
            for entry in self.waiting.values_mut() {
                entry.since = entry.since.max(now);
            }
        }
    }

    /// Whether so much waits that more must be coming.
    fn is_storm(&self) -> bool {
        self.waiting.len() >= MANY || self.waiting.values().any(|entry| entry.notice.part_of.is_some())
    }

    /// The same when the program stops: nothing is gathered any more, and what failed is not waited for.
    pub(super) fn last_send_at(&self, now: Time) -> Option<Time> {
        let is_idle = !self.has_sendable() || !self.in_flight.is_empty();
        (!is_idle && self.retry_at.is_none_or(|at| at <= now)).then(|| self.token_at())
    }

    fn token_at(&self) -> Time {
        self.pace.bucket.map_or_else(Time::default, |(each, burst)| self.full_at.minus(each * burst.saturating_sub(1)))
    }

    /// What the next message carries, which is in flight from now on. The highest levels come first; `fits` returns how many
    /// of them, in their order, one message has room for.
    pub(super) fn take_batch(&mut self, now: Time, fits: impl Fn(&[&Notice]) -> usize) -> Vec<Arc<Notice>> {
        self.left_at = Some(now);
        self.retry_at = None;
        self.gathering_since = None;
        self.is_rest = false;
        // With no token left after this message, what waits is sent together.
        let may_split = self
            .pace
            .bucket
            .is_none_or(|(each, burst)| burst > 1 && self.full_at.max(now).plus(each) <= now.plus(each * (burst - 1)));
        if let Some((each, _)) = self.pace.bucket {
            self.full_at = self.full_at.max(now).plus(each);
        }
        let mut batch = Vec::new();
        self.piece = false;
        while let Some(piece) = if self.paused { None } else { self.pieces.pop_front() } {
            batch.extend(piece.into_iter().filter_map(|fingerprint| self.remove(fingerprint)));
            self.piece = !batch.is_empty();
            if self.piece {
                break;
            }
        }
        if batch.is_empty() {
            let (taken, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.waiting).into_values().partition(|entry| self.may_send(entry));
            batch = taken;
            self.order.clear();
            kept.into_iter().for_each(|entry| self.insert(now, entry));
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

    /// Leaves in `batch` what one message carries, and returns the rest.
    fn share(
        &self,
        batch: &mut Vec<QueuedNotice>,
        may_split: bool,
        fits: impl Fn(&[&Notice]) -> usize,
    ) -> Vec<QueuedNotice> {
        let mut rest = Vec::new();
        if may_split && let Some(first) = batch.first() {
            let group = self.pace.group_by.of(&first.notice).cloned();
            (*batch, rest) = std::mem::take(batch)
                .into_iter()
                .partition(|entry| self.pace.group_by.of(&entry.notice) == group.as_ref());
        }
        let notices: Vec<&Notice> = batch.iter().map(|entry| &*entry.notice).collect();
        let room = fits(&notices).max(1);
        // What would be a flood of messages to people is one that counts; a program gets each alert.
        if batch.len() > room && (self.pace.keeps_batches || batch.len() <= room.saturating_mul(SPREAD)) {
            rest.extend(batch.split_off(room));
        }
        rest
    }

    /// What came of the message under way. `jitter`, from 0 to 1, shortens the pause by up to a half.
    pub(super) fn on_result(&mut self, now: Time, jitter: f64, result: Result<DeliveryReceipt, SendError>) {
        let batch = std::mem::take(&mut self.in_flight);
        let error = match result {
            Ok(receipt) => {
                (self.failures, self.rejections) = (0, 0);
                self.took(now, batch.into_iter().map(|entry| entry.notice).collect(), receipt);
                return;
            }
            Err(error) => error,
        };
        self.last_error = Some(error.message.clone());
        if self.closed {
            self.dead_letter(now, batch.into_iter().map(|entry| entry.notice).collect(), removed());
        } else if error.retry == Retry::Never {
            self.reject(now, batch, error);
        } else {
            self.try_again(now, jitter, batch, error);
        }
    }

    /// What was under way waits for its next attempt, unless the receiver has rejected us for too long.
    fn try_again(&mut self, now: Time, jitter: f64, mut batch: Vec<QueuedNotice>, error: SendError) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now.plus(self.pause(jitter, error.retry_after)));
        let mut hopeless = Vec::new();
        if error.retry == Retry::Limited {
            for entry in &mut batch {
                entry.rejected_since.get_or_insert(now);
            }
            let is_hopeless =
                |entry: &mut QueuedNotice| entry.rejected_since.is_some_and(|since| now.since(since) >= REJECTED_FOR);
            hopeless = batch.extract_if(.., is_hopeless).map(|entry| entry.notice).collect();
        }
        let notices: Vec<_> = batch.iter().map(|entry| Arc::clone(&entry.notice)).collect();
        self.piece |= self.pace.keeps_batches;
        self.give_back(now, batch, 1);
        if hopeless.is_empty() || !notices.is_empty() {
            self.fail(now, notices, error.clone());
        }
        self.dead_letter(now, hopeless, error);
    }

    /// The outcome of repeating what still fires. A failure is counted and shown; the next repeat has all of it again.
    pub(super) fn on_reminded(&mut self, now: Time, result: Result<DeliveryReceipt, SendError>) {
        match result {
            _ if self.closed => {}
            Ok(receipt) => self.took(now, Vec::new(), receipt),
            Err(error) => {
                self.last_error = Some(error.message.clone());
                self.fail(now, Vec::new(), error);
            }
        }
    }

    /// It accepted `notices`; a partial failure is counted and shown.
    fn took(&mut self, now: Time, notices: Vec<Arc<Notice>>, receipt: DeliveryReceipt) {
        self.last_error = receipt.partial_failure.as_ref().map(|error| error.message.clone());
        let outcome = DeliveryOutcome { receiver: Arc::clone(&self.receiver), notices, at: now };
        self.reports.push(DeliveryReport::Delivered(outcome, receipt));
    }

    fn pause(&self, jitter: f64, asked: Option<Duration>) -> Duration {
        let doubled = self.pace.first_pause.saturating_mul(1_u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX));
        let ours = doubled.min(self.pace.longest_pause).mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0));
        ours.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }

    /// A message that is rejected is tried again in halves, down to the alert that it is rejected for; unless that is
    /// about us, or everything is rejected.
    fn reject(&mut self, now: Time, batch: Vec<QueuedNotice>, error: SendError) {
        self.failures = 0;
        self.rejections = if self.piece { self.rejections + 1 } else { 1 };
        if self.rejections >= REJECTIONS {
            let mut notices: Vec<Arc<Notice>> = batch.into_iter().map(|entry| entry.notice).collect();
            for fingerprint in std::mem::take(&mut self.pieces).into_iter().flatten() {
                notices.extend(self.remove(fingerprint).map(|entry| entry.notice));
            }
            self.dead_letter(now, notices, error);
        } else if batch.len() > 1 && matches!(error.reason, SendReason::Refused | SendReason::Message) {
            self.piece = true;
            let notices = batch.iter().map(|entry| Arc::clone(&entry.notice)).collect();
            self.give_back(now, batch, 2);
            self.fail(now, notices, error);
        } else {
            self.dead_letter(now, batch.into_iter().map(|entry| entry.notice).collect(), error);
        }
    }

    /// What was under way waits again, ahead of all else and in so many parts if it is a piece.
    fn give_back(&mut self, now: Time, batch: Vec<QueuedNotice>, parts: usize) {
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
        self.defer_excess(now);
    }

    /// From now on everything is given up: the receiver was removed.
    pub(super) fn close(&mut self, now: Time) {
        self.closed = true;
        self.order.clear();
        self.pieces.clear();
        let notices: Vec<_> = self.waiting.drain().map(|(_, entry)| entry.notice).collect();
        self.dead_letter(now, notices, removed());
    }

    /// Tries again without a pause, and for as long as if it were new: the receiver's settings were read anew.
    pub(super) fn reset(&mut self, pace: Pace) {
        self.pace = pace;
        self.failures = 0;
        self.retry_at = None;
        for entry in self.waiting.values_mut().chain(&mut self.in_flight) {
            entry.rejected_since = None;
        }
    }

    fn dead_letter(&mut self, now: Time, notices: Vec<Arc<Notice>>, error: SendError) {
        for notice in &notices {
            // What waits for the same alert follows what the receiver got before this one.
            if let Some(mut newer) = self.remove(notice.fingerprint) {
                follow(&mut newer, notice);
                self.order.insert(newer.place());
                self.waiting.insert(notice.fingerprint, newer);
            }
        }
        if !notices.is_empty() {
            let receiver = Arc::clone(&self.receiver);
            self.reports.push(DeliveryReport::DeadLettered(DeliveryOutcome { receiver, notices, at: now }, error));
        }
    }

    fn fail(&mut self, now: Time, notices: Vec<Arc<Notice>>, error: SendError) {
        self.reports.push(DeliveryReport::Failed { receiver: Arc::clone(&self.receiver), notices, error, at: now });
    }

    /// What has become of notices since the last call.
    pub(super) fn take_reports(&mut self) -> Vec<DeliveryReport> {
        std::mem::take(&mut self.reports)
    }

    /// How many alerts wait or are under way.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// Since when the oldest of them waits; what is kept back by a pause does not count.
    pub(super) fn oldest(&self) -> Option<Time> {
        let waiting = self.waiting.values().filter(|entry| self.may_send(entry));
        waiting.chain(&self.in_flight).map(|entry| entry.since).min()
    }

    /// The error of the last failed send; `None` once one succeeded.
    pub(super) const fn last_error(&self) -> Option<&String> {
        self.last_error.as_ref()
    }

    /// Whether the receiver was removed.
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }
}

/// Notes that `newer` is sent in place of `older`, which the receiver never got: what it got before that one is what it
/// got before this.
fn follow(newer: &mut QueuedNotice, older: &Notice) {
    if newer.notice.previous != older.previous {
        Arc::make_mut(&mut newer.notice).previous = older.previous;
    }
}

fn removed() -> SendError {
    SendError::permanent(SendReason::Dropped, "receiver removed".to_owned())
}

#[cfg(test)]
mod tests;
