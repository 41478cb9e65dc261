//! Sends the batches of one lane, in their order, each until the target gave its verdict.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::batch::{SplitBody, split};
use super::counters::{DropReason, LaneCounters};
use super::pace::LanePace;
use super::spooler::{LaneId, SpoolMessage, Taken, Wanted};
use super::target::{ExportBatch, ExportTarget, ExportVerdict};
use crate::clock::Clock;

/// Sends to the thread that owns the spool; `false` once it is gone.
pub(super) type SpoolQueue = Arc<dyn Fn(SpoolMessage) -> bool + Send + Sync>;

/// The sender of one lane.
pub(super) struct Sender {
    pub(super) lane: LaneId,
    pub(super) counters: Arc<LaneCounters>,
    /// What sends; `None` while the target is not configured.
    pub(super) transport: watch::Receiver<Option<Arc<dyn ExportTarget>>>,
    pub(super) spool: SpoolQueue,
    pub(super) clock: Clock,
    pub(super) pace: LanePace,
    /// The failure that was logged last.
    pub(super) logged: String,
    /// Most bytes that the target takes at a time, once it has refused more.
    pub(super) limit: Option<usize>,
    /// What is left of a batch whose first part was delivered, in case that the spool could not write it: the same part must
    /// not be sent for ever.
    pub(super) rest: Option<RestOfBatch>,
}

/// What is left of the batch of the spool with this id.
#[derive(Clone)]
pub(super) struct RestOfBatch {
    id: i64,
    body: Vec<u8>,
    items: u64,
}

/// What is sent: a batch of the spool, or the first part of one.
struct ExportPiece {
    batch: ExportBatch,
    /// How many batches of the spool it is made of.
    parts: usize,
    /// Whether less can be sent.
    is_divisible: bool,
    /// What is left of the batch of the spool, encoded, and how many items that is.
    rest: Option<(Vec<u8>, u64)>,
}

impl ExportPiece {
    /// All of it, or as much as the target takes.
    fn of(taken: Taken, limit: Option<usize>) -> Self {
        let Taken { batch, parts, .. } = taken;
        let whole = |batch, is_divisible| Self { batch, parts, is_divisible, rest: None };
        let Some(limit) = limit.filter(|limit| parts == 1 && batch.body.len() > *limit) else {
            return whole(batch, true);
        };
        let Some(SplitBody { head, head_items, rest, rest_items }) = split(batch.signal, &batch.body, limit) else {
            return whole(batch, false);
        };
        // The same part of the same batch has the same key.
        let key = format!("{}-{}-{head_items}", batch.key, batch.items);
        let batch = ExportBatch { body: head, items: head_items, key, ..batch };
        Self { batch, parts, is_divisible: head_items > 1, rest: Some((rest, rest_items)) }
    }
}

/// What follows a verdict.
enum AfterVerdict {
    /// The batch is settled.
    Settled,
    /// It is sent again after a pause.
    Again(std::time::Duration),
    /// Its parts are sent one by one.
    Alone,
    /// Less of it is sent.
    Smaller,
}

impl Sender {
    /// Sends until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut wanted = Wanted::Full;
        // Parts up to this one are sent alone, as one of them was refused.
        let mut alone_until = i64::MIN;
        loop {
            let Some(transport) = self.transport(&stop).await else { return };
            let (reply, answer) = oneshot::channel();
            if !(self.spool)(SpoolMessage::Next(self.lane, wanted, reply)) {
                return;
            }
            let taken = tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = self.transport.changed() => {
                    self.begin_again();
                    continue;
                }
                taken = answer => match taken {
                    Ok(taken) => taken,
                    Err(_) => return,
                },
            };
            let last = taken.last;
            let taken = self.without_delivered(taken);
            let piece = ExportPiece::of(taken, self.limit);
            // A request under way is not broken off by a reload: the target may have taken it.
            let verdict = tokio::select! {
                () = stop.cancelled() => return,
                verdict = transport.send(self.clock.wall(), &piece.batch) => verdict,
            };
            match self.follow(&piece, verdict) {
                AfterVerdict::Settled => {
                    let settled = match piece.rest {
                        Some((rest, items)) => {
                            self.rest = Some(RestOfBatch { id: last, body: rest.clone(), items });
                            SpoolMessage::Shrunk(self.lane, last, rest, items)
                        }
                        None => SpoolMessage::Settled(self.lane, last),
                    };
                    if !(self.spool)(settled) {
                        return;
                    }
                    wanted = if last < alone_until { Wanted::One } else { self.much() };
                }
                AfterVerdict::Smaller => wanted = self.much(),
                AfterVerdict::Again(pause) => {
                    wanted = Wanted::UpTo(last);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        Ok(()) = self.transport.changed() => self.begin_again(),
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                AfterVerdict::Alone => {
                    alone_until = last;
                    wanted = Wanted::One;
                }
            }
        }
    }

    /// A batch without the parts of it that were delivered.
    fn without_delivered(&mut self, mut taken: Taken) -> Taken {
        let rest = self.rest.as_ref().filter(|rest| rest.id == taken.last && taken.parts == 1).cloned();
        if let Some(rest) = &rest {
            (taken.batch.body, taken.batch.items) = (rest.body.clone(), rest.items);
        }
        self.rest = rest;
        taken
    }

    /// What sends, once there is something; `None` on `stop`. What was replaced begins without a back-off.
    async fn transport(&mut self, stop: &CancellationToken) -> Option<Arc<dyn ExportTarget>> {
        loop {
            // It may have changed while a request was under way.
            if self.transport.has_changed().unwrap_or(false) {
                self.begin_again();
            }
            if let Some(transport) = &*self.transport.borrow_and_update() {
                return Some(Arc::clone(transport));
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                Ok(()) = self.transport.changed() => self.begin_again(),
            }
        }
    }

    /// After a change of the target, which may be another one.
    fn begin_again(&mut self) {
        self.pace.reset();
        self.limit = None;
    }

    /// As much as the target takes.
    fn much(&self) -> Wanted {
        self.limit.map_or(Wanted::Full, |limit| Wanted::Within(limit as u64))
    }

    fn follow(&mut self, piece: &ExportPiece, verdict: ExportVerdict) -> AfterVerdict {
        let now = self.clock.wall();
        let (target, signal) = (self.counters.target, self.counters.signal.as_str());
        let items = piece.batch.items;
        match verdict {
            ExportVerdict::Delivered => {
                self.delivered(items);
                AfterVerdict::Settled
            }
            ExportVerdict::PartlyRejected { items: rejected, message } => {
                let rejected = rejected.min(items);
                self.delivered(items - rejected);
                self.counters.rejected_items.fetch_add(rejected, Relaxed);
                tracing::warn!(
                    export = target,
                    signal,
                    rejected,
                    items,
                    reason = message,
                    "target rejected a part of an export"
                );
                AfterVerdict::Settled
            }
            ExportVerdict::Retry { error, after } => {
                let pause = self.pace.failed(after, fastrand::f64());
                self.failed(&error, "export failed; it is tried again");
                AfterVerdict::Again(pause)
            }
            ExportVerdict::Unauthorized { error, after } => {
                match self.pace.refused(now, piece.batch.at, after, fastrand::f64()) {
                    Some(pause) => {
                        self.failed(&error, "export was refused; it is tried again for an hour");
                        AfterVerdict::Again(pause)
                    }
                    None => {
                        self.counters.errors.fetch_add(1, Relaxed);
                        self.counters.drop_items(DropReason::Unauthorized, items);
                        AfterVerdict::Settled
                    }
                }
            }
            ExportVerdict::TooLarge { error } => {
                self.pace.reset();
                let size = piece.batch.body.len();
                if piece.is_divisible {
                    self.counters.errors.fetch_add(1, Relaxed);
                    self.limit = Some((size / 2).max(1));
                    tracing::info!(export = target, signal, items, size, error, "request was too large and is split");
                    return AfterVerdict::Smaller;
                }
                let error = format!("{error}: {size} bytes; raise the target's limit, or shorten what is sent");
                self.failed(&error, "an item is too large for the target and is dropped");
                self.counters.drop_items(DropReason::TooLarge, items);
                AfterVerdict::Settled
            }
            ExportVerdict::Refused { error } => {
                self.pace.reset();
                if piece.parts > 1 {
                    self.counters.errors.fetch_add(1, Relaxed);
                    return AfterVerdict::Alone;
                }
                self.failed(&error, "export was refused and is dropped");
                self.counters.drop_items(DropReason::Refused, items);
                AfterVerdict::Settled
            }
        }
    }

    fn delivered(&mut self, items: u64) {
        self.pace.reset();
        if !self.logged.is_empty() {
            let (target, signal) = (self.counters.target, self.counters.signal.as_str());
            tracing::info!(export = target, signal, "exported again");
            self.logged.clear();
            self.counters.set_last_error("");
        }
        self.counters.succeeded(self.clock.wall());
        self.counters.sent_batches.fetch_add(1, Relaxed);
        self.counters.sent_items.fetch_add(items, Relaxed);
    }

    fn failed(&mut self, error: &str, what: &'static str) {
        self.counters.errors.fetch_add(1, Relaxed);
        if self.logged != error {
            let (target, signal) = (self.counters.target, self.counters.signal.as_str());
            tracing::warn!(export = target, signal, error, "{what}");
            self.counters.set_last_error(error);
            error.clone_into(&mut self.logged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spooler::tests::{request, spool, target, thread};
    use super::*;
    use crate::model::Time;
    use crate::otlp::Signal;
    use crate::otlp::wire::ExportTraceServiceRequest;
    use prost::Message as _;
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    /// A target that is away until a time, and loses some answers: it takes those batches all the same.
    struct AwayTarget {
        until: Time,
        verdict: ExportVerdict,
        /// The names of spans that it took, by the key of their batch: the same batch counts once.
        taken: BTreeMap<String, Vec<String>>,
        attempts: Vec<Time>,
    }

    impl AwayTarget {
        fn send(&mut self, now: Time, batch: &ExportBatch) -> ExportVerdict {
            self.attempts.push(now);
            let loses_answer = self.attempts.len() % 7 == 3;
            if now < self.until && !loses_answer {
                return self.verdict.clone();
            }
            let request = ExportTraceServiceRequest::decode(&*batch.body).expect("a request");
            let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
            let names = scopes.flat_map(|scope| &scope.spans).map(|span| span.name.clone()).collect();
            let known = self.taken.insert(batch.key.clone(), names);
            assert!(known.is_none_or(|known| known == self.taken[&batch.key]), "a key names one batch");
            if loses_answer {
                return ExportVerdict::Retry { error: "clickhouse did not answer in time".to_owned(), after: None };
            }
            ExportVerdict::Delivered
        }
    }

    /// An hour without the target, with a span a minute; returns the attempts.
    fn an_hour_away(verdict: ExportVerdict, longest: Duration) -> usize {
        let start = Time::from_millis(1_000_000_000);
        let clock = Clock::at(start);
        let mut thread = thread(&clock, vec![target("clickhouse", true)]);
        let until = start.plus(Duration::from_secs(3_600));
        let mut away = AwayTarget { until, verdict, taken: BTreeMap::new(), attempts: Vec::new() };
        let mut sender = Sender {
            lane: 0,
            counters: Arc::new(LaneCounters::new("clickhouse", Signal::Traces)),
            transport: watch::channel(None).1,
            spool: Arc::new(|_| true),
            clock: clock.clone(),
            pace: LanePace::default(),
            logged: String::new(),
            limit: None,
            rest: None,
        };
        let (mut sent, mut wanted, mut next_span) = (0_u64, Wanted::Full, start);
        let mut advance = |thread: &mut super::super::spooler::SpoolThread, by: Duration, sent: &mut u64| {
            let due = clock.wall().plus(by);
            while next_span <= due && next_span < until {
                spool(thread, &format!("span {sent}"));
                *sent += 1;
                next_span = next_span.plus(Duration::from_secs(60));
            }
            clock.advance(by);
        };
        advance(&mut thread, Duration::from_millis(1), &mut sent);
        while let Some(taken) = thread.take(0, wanted) {
            let last = taken.last;
            let piece = ExportPiece::of(taken, None);
            let verdict = away.send(sender.clock.wall(), &piece.batch);
            match sender.follow(&piece, verdict) {
                AfterVerdict::Settled => {
                    thread.handle(SpoolMessage::Settled(0, last));
                    wanted = Wanted::Full;
                    advance(&mut thread, Duration::from_millis(20), &mut sent);
                    // What comes next may be a minute away.
                    while thread.take(0, wanted).is_none() && sender.clock.wall() < until {
                        advance(&mut thread, Duration::from_secs(10), &mut sent);
                    }
                }
                AfterVerdict::Again(pause) => {
                    assert!(pause <= longest, "{pause:?}");
                    wanted = Wanted::UpTo(last);
                    advance(&mut thread, pause, &mut sent);
                }
                AfterVerdict::Alone | AfterVerdict::Smaller => panic!("neither refused nor too large"),
            }
        }
        let names: Vec<String> = away.taken.into_values().flatten().collect();
        let distinct: BTreeSet<&String> = names.iter().collect();
        assert_eq!((names.len() as u64, distinct.len() as u64), (sent, sent), "all of them, and none twice by its key");
        assert_eq!(sender.counters.sent_items.load(Relaxed), sent);
        assert!(DropReason::ALL.iter().all(|reason| sender.counters.dropped(*reason) == 0));
        let back = away.attempts.iter().find(|at| **at >= until).expect("an attempt");
        assert!(back.since(until) <= longest, "it is tried soon after it is back: {:?}", back.since(until));
        away.attempts.len()
    }

    #[test]
    fn an_hour_away_loses_nothing_and_repeats_nothing() {
        let error = "clickhouse can't be reached".to_owned();
        let attempts = an_hour_away(ExportVerdict::Retry { error, after: None }, Duration::from_secs(30));
        assert!(attempts < 400, "{attempts}");
        let error = "clickhouse answered 503".to_owned();
        let after = Some(Duration::from_secs(90));
        an_hour_away(ExportVerdict::Retry { error, after }, Duration::from_secs(90));
    }

    #[test]
    fn an_hour_of_refusals_is_tried_at_least_every_five_minutes() {
        let error = "clickhouse answered 403".to_owned();
        let attempts = an_hour_away(ExportVerdict::Unauthorized { error, after: None }, Duration::from_secs(300));
        assert!(attempts < 150, "{attempts}");
    }

    #[test]
    fn a_part_of_a_batch_has_a_key_of_its_own() {
        let body = [request("one").encode_to_vec(), request("two").encode_to_vec()].concat();
        let batch =
            ExportBatch { signal: Signal::Traces, body, items: 2, at: Time::from_millis(1), key: "k".to_owned() };
        let of = |limit| ExportPiece::of(Taken { batch: batch.clone(), last: 1, parts: 1 }, limit);
        let whole = of(None);
        assert_eq!((whole.batch.key.as_str(), whole.rest.is_none(), whole.is_divisible), ("k", true, true));
        let part = of(Some(1));
        assert_eq!((part.batch.key.as_str(), part.batch.items, part.is_divisible), ("k-2-1", 1, false));
        assert_eq!(part.rest.map(|(_, items)| items), Some(1));
        let joined = ExportPiece::of(Taken { batch: batch.clone(), last: 2, parts: 2 }, Some(1));
        assert!(joined.rest.is_none() && joined.is_divisible, "fewer batches of the spool come first");
    }

    /// Takes everything, and notes the names of spans.
    #[derive(Debug, Default)]
    struct TakingTarget(std::sync::Mutex<Vec<String>>);

    impl ExportTarget for TakingTarget {
        fn send<'a>(&'a self, _: Time, batch: &'a ExportBatch) -> crate::export::target::ExportFuture<'a> {
            let request = ExportTraceServiceRequest::decode(&*batch.body).expect("a request");
            let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
            let names = scopes.flat_map(|scope| &scope.spans).map(|span| span.name.clone());
            self.0.lock().unwrap().extend(names);
            Box::pin(async { ExportVerdict::Delivered })
        }
    }

    #[tokio::test]
    async fn parts_are_sent_once_although_the_spool_cannot_be_written() {
        let spans = ["one", "two", "three"];
        let body = spans.map(|name| request(name).encode_to_vec()).concat();
        let batch =
            ExportBatch { signal: Signal::Traces, body, items: 3, at: Time::from_millis(1), key: "k".to_owned() };
        let (target, stop) = (Arc::new(TakingTarget::default()), CancellationToken::new());
        let (_transports, transport) = watch::channel(Some(Arc::clone(&target) as Arc<dyn ExportTarget>));
        let settled = stop.clone();
        let spool = move |message| {
            match message {
                SpoolMessage::Next(_, _, reply) if !settled.is_cancelled() => {
                    reply.send(Taken { batch: batch.clone(), last: 1, parts: 1 }).ok();
                }
                SpoolMessage::Settled(_, 1) => settled.cancel(),
                // The disk is full: what is left is not written.
                _ => {}
            }
            true
        };
        let sender = Sender {
            lane: 0,
            counters: Arc::new(LaneCounters::new("otlp", Signal::Traces)),
            transport,
            spool: Arc::new(spool),
            clock: Clock::at(Time::from_millis(1)),
            pace: LanePace::default(),
            logged: String::new(),
            limit: Some(1),
            rest: None,
        };
        sender.run(stop).await;
        assert_eq!(*target.0.lock().unwrap(), spans);
    }
}
