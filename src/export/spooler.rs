//! The thread that owns the spool: it strips, encodes and compresses what leaves, writes it, and hands it to the senders.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::batch::Splittable;
use super::common::ContentMode;
use super::compress::gzip;
use super::content::Stripper;
use super::counters::{DropReason, LaneCounters};
use super::instance::{Marked, has_passed};
use super::spans::{self, SpanNote, TraceExport};
use super::target::{ExportBatch, TargetSpec};
use crate::clock::Clock;
use crate::decode::inflate::Coding;
use crate::model::Time;
use crate::otlp::wire::{ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest};
use crate::otlp::{OtlpRequest, Signal};
use crate::store::StoreError;
use crate::store::spool::{NewBatch, Spool, SpoolLane, SpoolTotals};

/// How long what arrives is joined before it is written.
const GROUP_TIME: Duration = Duration::from_millis(100);
/// From this size on a group is written at once.
const GROUP_SIZE: usize = super::batch::MAX_PART;
/// How often what is too old is dropped.
const TICK: Duration = Duration::from_secs(5);
/// How long what waits for a target that was not configured at the start either is kept.
const UNKNOWN_AGE: Duration = Duration::from_secs(24 * 3600);
/// Compressed bytes that are kept while the spool can't be written.
const MAX_UNWRITTEN: usize = 16 << 20;
/// Bytes of a request in the spool; only a damaged file has more.
const MAX_INFLATED: usize = 1 << 30;

/// A lane's place among the lanes.
pub(super) type LaneId = usize;

/// What a sender wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// As much as fits in a request.
    Full,
    /// As much as fits in so many bytes.
    Within(u64),
    /// The same batch as before, which ended with this id.
    UpTo(i64),
    /// As little as there is.
    One,
}

/// A batch for a sender.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) batch: ExportBatch,
    /// The last id in it.
    pub(super) last: i64,
    /// How many batches of the spool it is made of.
    pub(super) parts: usize,
}

/// A message to the thread.
pub(super) enum SpoolMessage {
    Traces(Box<TraceExport>),
    /// Of metrics or logs.
    Other(Box<OtlpRequest>),
    /// Replaces the targets; answered with the lanes that there are now.
    Configure(Vec<TargetSpec>, oneshot::Sender<Vec<(LaneId, Arc<LaneCounters>)>>),
    /// Answered as soon as there is something.
    Next(LaneId, Wanted, oneshot::Sender<Taken>),
    /// The target gave its verdict on everything up to this id.
    Settled(LaneId, i64),
    /// The target gave its verdict on the first part of the batch with this id; this request with so many items is left.
    Shrunk(LaneId, i64, Vec<u8>, u64),
    /// Called once what came before is written, or could not be.
    AfterWritten(Box<dyn FnOnce() + Send>),
    Close(oneshot::Sender<()>),
}

/// A signal for a target. It stays once the target is removed, as what waits for it does.
struct ExportLane {
    target: &'static str,
    signal: Signal,
    counters: Arc<LaneCounters>,
    waiting: SpoolTotals,
    /// The last id on which the target gave its verdict.
    settled: i64,
    /// The last id that is deleted.
    removed: i64,
    waiter: Option<(Wanted, oneshot::Sender<Taken>)>,
}

/// What makes encoded requests of targets differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    is_stripped: bool,
    is_annotated: bool,
}

impl Shape {
    fn of(target: &TargetSpec) -> Self {
        Self { is_stripped: target.content == ContentMode::Drop, is_annotated: target.is_annotated }
    }
}

/// Encoded requests that are joined until they are written.
struct Group {
    body: Vec<u8>,
    items: u64,
    at: Time,
}

/// A group that is to be written, with the lanes that it is for.
struct UnwrittenGroup {
    lanes: Vec<LaneId>,
    body: Vec<u8>,
    size: u64,
    items: u64,
    at: Time,
}

/// The thread's state.
pub(super) struct SpoolThread {
    spool: Spool,
    instance: String,
    targets: Vec<TargetSpec>,
    /// How long what waits for removed targets is kept.
    former: BTreeMap<&'static str, Duration>,
    lanes: Vec<ExportLane>,
    stripper: Stripper,
    groups: BTreeMap<(&'static str, Shape), Group>,
    unwritten: Vec<UnwrittenGroup>,
    /// Called after the next write.
    after_written: Vec<Box<dyn FnOnce() + Send>>,
    clock: Clock,
    /// Items in the queue, shared with those who send.
    queued: Arc<AtomicUsize>,
    tick_at: Time,
    /// Whether it is known which targets there are.
    is_configured: bool,
    has_warned_of_loop: bool,
    has_warned_of_size: bool,
}

impl SpoolThread {
    /// A thread without targets, see [`SpoolMessage::Configure`].
    pub(super) fn new(mut spool: Spool, queued: Arc<AtomicUsize>, clock: Clock) -> Result<Self, StoreError> {
        let now = clock.wall();
        let instance = spool.saved_or(now, "instance", &new_instance())?;
        Ok(Self {
            spool,
            instance,
            targets: Vec::new(),
            former: BTreeMap::new(),
            lanes: Vec::new(),
            stripper: Stripper::default(),
            groups: BTreeMap::new(),
            unwritten: Vec::new(),
            after_written: Vec::new(),
            clock,
            queued,
            tick_at: now,
            is_configured: false,
            has_warned_of_loop: false,
            has_warned_of_size: false,
        })
    }

    /// Replaces the targets. What waits for one that stays is sent as its new settings say; what waits for one that is gone is
    /// kept for as long as it would have been, in case it comes back.
    fn configure(&mut self, targets: Vec<TargetSpec>) -> Vec<(LaneId, Arc<LaneCounters>)> {
        // What is joined goes to the lanes that it came for.
        self.write(true);
        self.former.extend(self.targets.iter().map(|target| (target.name, target.max_age)));
        self.targets = targets;
        self.is_configured = true;
        self.has_warned_of_size = false;
        let waiting = self.spool.lanes().unwrap_or_else(|error| {
            tracing::warn!(%error, "export spool can't be read; what waits is not counted");
            Vec::new()
        });
        for target in &self.targets {
            for signal in &target.signals {
                if self.lanes.iter().any(|lane| (lane.target, lane.signal) == (target.name, *signal)) {
                    continue;
                }
                let found = waiting.iter().find(|it| (&*it.target, &*it.signal) == (target.name, signal.as_str()));
                self.lanes.push(ExportLane {
                    target: target.name,
                    signal: *signal,
                    counters: Arc::new(LaneCounters::new(target.name, *signal)),
                    waiting: found.map(|found| found.waiting).unwrap_or_default(),
                    settled: 0,
                    removed: 0,
                    waiter: None,
                });
            }
        }
        for left in waiting.iter().filter(|found| found.waiting.items > 0) {
            if self.lane_named(left).is_none_or(|lane| self.spec(lane).is_none()) {
                tracing::warn!(
                    export = left.target,
                    signal = left.signal,
                    items = left.waiting.items,
                    kept_for = ?self.max_age(&left.target),
                    "the spool holds what waits for an export that is not configured any more; it is sent if the export is \
                     configured again, and dropped once it is too old"
                );
            }
        }
        self.bound_sizes(self.clock.wall());
        for lane in 0..self.lanes.len() {
            self.publish(lane);
            self.serve(lane);
        }
        let lanes = self.lanes.iter().enumerate().filter(|(id, _)| self.spec(*id).is_some());
        lanes.map(|(id, lane)| (id, Arc::clone(&lane.counters))).collect()
    }

    /// The target of a lane, if it is configured and gets the signal.
    fn spec(&self, lane: LaneId) -> Option<&TargetSpec> {
        let lane = self.lanes.get(lane)?;
        self.targets.iter().find(|target| target.name == lane.target && target.signals.contains(&lane.signal))
    }

    /// How long what waits for a target is kept, configured or not.
    fn max_age(&self, target: &str) -> Duration {
        let configured = self.targets.iter().find(|spec| spec.name == target).map(|spec| spec.max_age);
        configured.or_else(|| self.former.get(target).copied()).unwrap_or(UNKNOWN_AGE)
    }

    /// Works until it is closed or no one can send to it any more.
    pub(super) fn run(mut self, inbox: &mpsc::Receiver<SpoolMessage>) {
        loop {
            let now = self.clock.wall();
            let group = self.groups.values().map(|group| group.at.plus(GROUP_TIME)).min();
            let due = group.unwrap_or(self.tick_at).min(self.tick_at);
            match inbox.recv_timeout(due.since(now).min(TICK)) {
                Ok(SpoolMessage::Close(reply)) => {
                    self.write(true);
                    if let Err(error) = self.spool.checkpoint() {
                        tracing::debug!(%error, "export spool not checkpointed");
                    }
                    // The caller may have given up.
                    reply.send(()).ok();
                    return;
                }
                Ok(message) => self.handle(message),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    self.write(true);
                    return;
                }
            }
            self.write(!self.after_written.is_empty());
            std::mem::take(&mut self.after_written).into_iter().for_each(|then| then());
            if self.clock.wall() >= self.tick_at {
                self.tick();
            }
        }
    }

    pub(super) fn handle(&mut self, message: SpoolMessage) {
        match message {
            SpoolMessage::Traces(export) => {
                let TraceExport { request, notes } = *export;
                let queued = notes.len().max(1);
                self.traces(request, notes);
                self.queued.fetch_sub(queued, Relaxed);
            }
            SpoolMessage::Other(request) => {
                let queued = usize::try_from(request.items()).unwrap_or(0).max(1);
                match *request {
                    OtlpRequest::Metrics(request) => self.metrics(request),
                    OtlpRequest::Logs(request) => self.logs(request),
                    OtlpRequest::Traces(request) => self.traces(request, Vec::new()),
                }
                self.queued.fetch_sub(queued, Relaxed);
            }
            SpoolMessage::Configure(targets, reply) => {
                // The caller may have given up.
                reply.send(self.configure(targets)).ok();
            }
            SpoolMessage::Next(lane, wanted, reply) => {
                if let Some(lane) = self.lanes.get_mut(lane) {
                    lane.waiter = Some((wanted, reply));
                }
                self.serve(lane);
            }
            SpoolMessage::Settled(lane, last) => self.settle(lane, last),
            SpoolMessage::Shrunk(lane, id, rest, items) => self.shrink(lane, id, &rest, items),
            SpoolMessage::AfterWritten(then) => self.after_written.push(then),
            SpoolMessage::Close(reply) => {
                reply.send(()).ok();
            }
        }
    }

    fn traces(&mut self, mut request: ExportTraceServiceRequest, mut notes: Vec<SpanNote>) {
        if request.resource_spans.iter().any(|it| has_passed(it.resource.as_ref(), &self.instance)) {
            // The notes of what is removed go with it.
            let mut rest = notes.into_iter();
            notes = Vec::new();
            for resource in &request.resource_spans {
                let spans = resource.scope_spans.iter().map(|scope| scope.spans.len()).sum();
                let own = rest.by_ref().take(spans);
                if has_passed(resource.resource.as_ref(), &self.instance) {
                    own.for_each(drop);
                } else {
                    notes.extend(own);
                }
            }
        }
        self.mark(Signal::Traces, &mut request, |request| {
            request.resource_spans.iter().flat_map(|it| &it.scope_spans).map(|it| it.spans.len() as u64).sum()
        });
        self.encode(Signal::Traces, request, |request, shape, stripper| {
            if shape.is_stripped {
                stripper.traces(request);
            }
            if shape.is_annotated {
                spans::annotate(request, &notes);
            }
        });
    }

    fn metrics(&mut self, mut request: ExportMetricsServiceRequest) {
        self.mark(Signal::Metrics, &mut request, |request| {
            request.resource_metrics.iter().flat_map(|it| &it.scope_metrics).map(|it| it.metrics.len() as u64).sum()
        });
        self.encode(Signal::Metrics, request, |request, shape, stripper| {
            if shape.is_stripped {
                stripper.metrics(request);
            }
        });
    }

    fn logs(&mut self, mut request: ExportLogsServiceRequest) {
        self.mark(Signal::Logs, &mut request, |request| {
            request.resource_logs.iter().flat_map(|it| &it.scope_logs).map(|it| it.log_records.len() as u64).sum()
        });
        self.encode(Signal::Logs, request, |request, shape, stripper| {
            if shape.is_stripped {
                stripper.logs(request);
            }
        });
    }

    /// Removes what this sidecar sent before, and marks the rest.
    fn mark<R: Marked>(&mut self, signal: Signal, request: &mut R, count: impl Fn(&R) -> u64) {
        let before = count(request);
        if request.mark(&self.instance) == 0 {
            return;
        }
        let removed = before.saturating_sub(count(request));
        for lane in self.lanes.iter().filter(|lane| lane.signal == signal) {
            lane.counters.drop_items(DropReason::Loop, removed);
        }
        if !std::mem::replace(&mut self.has_warned_of_loop, true) {
            tracing::warn!(
                signal = signal.as_str(),
                items = removed,
                "received telemetry that this sidecar exported: two sidecars or collectors export to each other; it is not \
                 exported again. Remove `export` from one of them"
            );
        }
    }

    /// Encodes a request once for each shape that a target of its signal has.
    fn encode<R: Splittable + Clone>(
        &mut self,
        signal: Signal,
        request: R,
        mut prepare: impl FnMut(&mut R, Shape, &mut Stripper),
    ) {
        let mut shapes: Vec<Shape> = self.lanes_of(signal).map(|(_, shape)| shape).collect();
        shapes.sort_unstable();
        shapes.dedup();
        let at = self.clock.wall();
        let mut request = Some(request);
        while let Some(shape) = shapes.pop() {
            let copy = if shapes.is_empty() { request.take() } else { request.clone() };
            let Some(mut copy) = copy else { return };
            prepare(&mut copy, shape, &mut self.stripper);
            copy.encode_parts(|part, items| {
                let key = (signal.as_str(), shape);
                if self.groups.get(&key).is_some_and(|group| group.body.len() + part.len() > GROUP_SIZE) {
                    self.finish_group(signal, shape);
                }
                // Requests that follow each other are one request with all of their resources.
                let group = self.groups.entry(key).or_insert(Group { body: Vec::new(), items: 0, at });
                group.items += items;
                if group.body.is_empty() {
                    group.body = part;
                } else {
                    group.body.extend_from_slice(&part);
                }
            });
        }
    }

    fn lanes_of(&self, signal: Signal) -> impl Iterator<Item = (LaneId, Shape)> {
        let lanes = self.lanes.iter().enumerate().filter(move |(_, lane)| lane.signal == signal);
        lanes.filter_map(|(id, _)| Some((id, Shape::of(self.spec(id)?))))
    }

    fn finish_group(&mut self, signal: Signal, shape: Shape) {
        let Some(group) = self.groups.remove(&(signal.as_str(), shape)) else { return };
        let lanes: Vec<LaneId> = self.lanes_of(signal).filter(|(_, its)| *its == shape).map(|(id, _)| id).collect();
        let unwritten: usize = self.unwritten.iter().map(|group| group.body.len()).sum();
        if unwritten > MAX_UNWRITTEN {
            for lane in lanes.into_iter().filter_map(|lane| self.lanes.get(lane)) {
                lane.counters.drop_items(DropReason::Disk, group.items);
            }
            return;
        }
        let size = group.body.len() as u64;
        self.unwritten.push(UnwrittenGroup { lanes, body: gzip(&group.body), size, items: group.items, at: group.at });
    }

    /// Writes the groups that are due, or all of them.
    fn write(&mut self, is_all: bool) {
        let now = self.clock.wall();
        let due: Vec<(Signal, Shape)> = Signal::ALL
            .into_iter()
            .flat_map(|signal| {
                self.groups.iter().filter(move |(key, _)| key.0 == signal.as_str()).map(move |it| (signal, it))
            })
            .filter(|(_, (_, group))| is_all || now.since(group.at) >= GROUP_TIME || group.body.len() >= GROUP_SIZE)
            .map(|(signal, ((_, shape), _))| (signal, *shape))
            .collect();
        for (signal, shape) in due {
            self.finish_group(signal, shape);
        }
        if self.unwritten.is_empty() {
            return;
        }
        let rows = self.unwritten.iter().flat_map(|group| group.lanes.iter().map(move |lane| (group, *lane)));
        let batches: Vec<NewBatch<'_>> = rows
            .filter_map(|(group, lane)| {
                let lane = self.lanes.get(lane)?;
                Some(NewBatch {
                    target: lane.target,
                    signal: lane.signal.as_str(),
                    at: group.at,
                    items: group.items,
                    size: group.size,
                    body: &group.body,
                })
            })
            .collect();
        // The health of the file logs the failure; what waits is written with the next group.
        if self.spool.append(now, &batches).is_err() {
            return;
        }
        for group in std::mem::take(&mut self.unwritten) {
            for id in group.lanes {
                if let Some(lane) = self.lanes.get_mut(id) {
                    lane.waiting.batches += 1;
                    lane.waiting.items += group.items;
                    lane.waiting.bytes += group.body.len() as u64;
                    self.publish(id);
                    self.serve(id);
                }
            }
        }
        self.bound_sizes(now);
    }

    /// Drops the oldest of targets for which too much waits.
    fn bound_sizes(&mut self, now: Time) {
        let bounds: Vec<_> = self.targets.iter().map(|target| (target.name, target.max_spool)).collect();
        for (name, max) in bounds {
            let lanes = self.lanes.iter().filter(|lane| lane.target == name);
            let bytes: u64 = lanes.map(|lane| lane.waiting.bytes).sum();
            if bytes <= max {
                continue;
            }
            // Some more than needed, so that it is not necessary with each batch.
            let dropped = self.spool.drop_bytes(now, name, bytes - max + max / 64);
            self.count_dropped(DropReason::Size, dropped);
            if !std::mem::replace(&mut self.has_warned_of_size, true) {
                tracing::error!(
                    export = name,
                    max_spool = max,
                    "export spool is full; the oldest is dropped. Check the target, or raise max_spool"
                );
            }
        }
    }

    /// Drops what is too old, and deletes what could not be deleted.
    fn tick(&mut self) {
        let now = self.clock.wall();
        self.tick_at = now.plus(TICK);
        for lane in 0..self.lanes.len() {
            if self.lanes.get(lane).is_some_and(|lane| lane.removed < lane.settled) {
                self.remove(lane);
            }
        }
        if !self.is_configured {
            return;
        }
        let found = self.spool.lanes().unwrap_or_default();
        let mut ages: Vec<(&str, Duration)> = found.iter().map(|it| (&*it.target, self.max_age(&it.target))).collect();
        ages.dedup();
        for (name, age) in ages {
            let dropped = self.spool.drop_before(now, name, now.minus(age));
            self.count_dropped(DropReason::Age, dropped);
        }
    }

    fn count_dropped(&mut self, reason: DropReason, dropped: Result<Vec<SpoolLane>, StoreError>) {
        let dropped = match dropped {
            Ok(dropped) => dropped,
            Err(error) => {
                tracing::warn!(%error, "old batches of the export spool could not be dropped");
                return;
            }
        };
        for found in dropped {
            let lane = self.lane_named(&found);
            if lane.is_none_or(|lane| self.spec(lane).is_none()) {
                tracing::warn!(
                    export = found.target,
                    signal = found.signal,
                    items = found.waiting.items,
                    reason = reason.as_str(),
                    "dropped what waited for an export that is not configured any more"
                );
            }
            if let Some(id) = lane {
                self.lanes[id].counters.drop_items(reason, found.waiting.items);
                self.subtract(id, found.waiting);
            }
        }
    }

    fn lane_named(&self, found: &SpoolLane) -> Option<LaneId> {
        self.lanes.iter().position(|lane| lane.signal.as_str() == found.signal && lane.target == found.target)
    }

    fn subtract(&mut self, id: LaneId, totals: SpoolTotals) {
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.waiting.batches = lane.waiting.batches.saturating_sub(totals.batches);
            lane.waiting.items = lane.waiting.items.saturating_sub(totals.items);
            lane.waiting.bytes = lane.waiting.bytes.saturating_sub(totals.bytes);
        }
        self.publish(id);
    }

    /// Shows what waits in a lane.
    fn publish(&self, id: LaneId) {
        let Some(lane) = self.lanes.get(id) else { return };
        let oldest = self.spool.oldest((lane.target, lane.signal.as_str()), lane.settled).ok().flatten();
        lane.counters.set_oldest(oldest);
        lane.counters.waiting_bytes.store(lane.waiting.bytes, Relaxed);
        lane.counters.waiting_items.store(lane.waiting.items, Relaxed);
    }

    /// Answers the sender of a lane if there is something for it.
    fn serve(&mut self, id: LaneId) {
        let Some(ExportLane { waiter: Some((wanted, _)), .. }) = self.lanes.get(id) else { return };
        if let Some(taken) = self.take(id, *wanted)
            && let Some((_, reply)) = self.lanes.get_mut(id).and_then(|lane| lane.waiter.take())
        {
            // A sender that is gone has stopped.
            reply.send(taken).ok();
        }
    }

    pub(super) fn take(&self, id: LaneId, wanted: Wanted) -> Option<Taken> {
        let lane = self.lanes.get(id)?;
        let (target, max_request) = (lane.target, self.spec(id)?.max_request as u64);
        let (last, size) = match wanted {
            Wanted::Full => (i64::MAX, max_request),
            Wanted::Within(limit) => (i64::MAX, max_request.min(limit)),
            Wanted::UpTo(last) => (last, u64::MAX),
            Wanted::One => (i64::MAX, 0),
        };
        let name = (target, lane.signal.as_str());
        let read = |last, size| match self.spool.read(name, (lane.settled, last), size) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "export spool can't be read; it is tried again");
                Vec::new()
            }
        };
        let mut found = read(last, size);
        if found.is_empty() && matches!(wanted, Wanted::UpTo(_)) {
            // What was sent before is dropped meanwhile.
            found = read(i64::MAX, max_request);
        }
        let (first, last) = (found.first()?, found.last()?);
        let mut body = Vec::new();
        for part in &found {
            match Coding::Gzip.inflate(&part.body, MAX_INFLATED) {
                Ok(part) => body.extend_from_slice(&part),
                Err(error) => tracing::error!(%error, "a batch of the export spool is damaged and is skipped"),
            }
        }
        let batch = ExportBatch {
            signal: lane.signal,
            body,
            items: found.iter().map(|part| part.items).sum(),
            at: first.at,
            key: format!("{}-{target}-{}-{}", self.instance, first.id, last.id),
        };
        Some(Taken { batch, last: last.id, parts: found.len() })
    }

    fn settle(&mut self, id: LaneId, last: i64) {
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.settled = lane.settled.max(last);
        }
        self.remove(id);
    }

    /// Replaces the batch `batch` by what is left of it. It is sent in parts, so that a restart repeats none of them.
    fn shrink(&mut self, id: LaneId, batch: i64, rest: &[u8], items: u64) {
        match self.spool.shrink(self.clock.wall(), batch, items, rest.len() as u64, &gzip(rest)) {
            Ok(gone) => self.subtract(id, gone),
            Err(error) => {
                tracing::warn!(%error, "a part of a batch could not be removed from the export spool; it is sent again")
            }
        }
    }

    /// Deletes what is settled.
    fn remove(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get(id) else { return };
        let (name, settled) = ((lane.target, lane.signal.as_str()), lane.settled);
        let now = self.clock.wall();
        match self.spool.remove(now, name, settled) {
            Ok(totals) => {
                if let Some(lane) = self.lanes.get_mut(id) {
                    lane.removed = settled;
                }
                self.subtract(id, totals);
            }
            Err(error) => {
                tracing::warn!(%error, "sent batches could not be deleted from the export spool; it is tried again");
                self.publish(id);
            }
        }
    }
}

/// A random id.
fn new_instance() -> String {
    let mut bytes = [0; 8];
    // Without random numbers two sidecars may have the same id, and take what the other sent for their own.
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).ok();
    hex::encode(bytes)
}

#[cfg(test)]
pub(super) mod tests;
