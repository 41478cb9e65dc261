//! Tests of the thread without its thread: what is spooled, handed out, replaced and dropped.

use super::super::target::{ExportFuture, ExportTarget, ExportVerdict};
use super::*;
use crate::otlp::wire::{ResourceSpans, ScopeSpans, Span};

#[derive(Debug)]
struct Nowhere;

impl ExportTarget for Nowhere {
    fn send<'a>(&'a self, _: Time, _: &'a ExportBatch) -> ExportFuture<'a> {
        Box::pin(async { ExportVerdict::Delivered })
    }
}

pub(in crate::export) fn target(name: &'static str, is_annotated: bool) -> TargetSpec {
    TargetSpec {
        name,
        address: String::new(),
        signals: vec![Signal::Traces, Signal::Traces],
        content: ContentMode::Drop,
        is_annotated,
        max_spool: 1 << 20,
        max_age: Duration::from_secs(3_600),
        max_request: 1 << 20,
        transport: Arc::new(Nowhere),
    }
}

pub(in crate::export) fn thread(clock: &Clock, targets: Vec<TargetSpec>) -> SpoolThread {
    let spool = Spool::open(None, clock.wall()).expect("opened");
    let mut thread = SpoolThread::new(spool, Arc::default(), clock.clone()).expect("a thread");
    thread.configure(targets);
    thread
}

pub(in crate::export) fn request(name: &str) -> ExportTraceServiceRequest {
    let spans = vec![Span { name: name.to_owned(), ..Span::default() }];
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

pub(in crate::export) fn spool(thread: &mut SpoolThread, name: &str) {
    let note = SpanNote { agent_id: Some(Arc::from("agent-1")), parent_trace_id: None };
    thread.traces(request(name), vec![note]);
    thread.write(true);
}

fn taken(thread: &SpoolThread, lane: LaneId, wanted: Wanted) -> Option<(String, usize, String)> {
    let taken = thread.take(lane, wanted)?;
    Some((String::from_utf8_lossy(&taken.batch.body).into_owned(), taken.parts, taken.batch.key))
}

#[test]
fn each_target_has_its_own_copy_and_its_own_place() {
    let clock = Clock::at(Time::from_millis(1_000_000));
    let mut thread = thread(&clock, vec![target("otlp", false), target("clickhouse", true)]);
    assert_eq!(thread.lanes.len(), 2, "a signal is listed once");
    spool(&mut thread, "one");
    spool(&mut thread, "two");
    let (body, parts, key) = taken(&thread, 0, Wanted::Full).expect("a batch");
    assert!(body.contains("one") && body.contains("two") && parts == 2 && !body.contains("agent-1"));
    assert!(taken(&thread, 1, Wanted::Full).expect("a batch").0.contains("agent-1"));
    // What is sent again is the same, whatever came meanwhile.
    let last = thread.take(0, Wanted::Full).expect("a batch").last;
    spool(&mut thread, "three");
    assert_eq!(taken(&thread, 0, Wanted::UpTo(last)).map(|it| (it.1, it.2)), Some((2, key)));
    assert_eq!(taken(&thread, 0, Wanted::One).map(|it| it.1), Some(1));
    thread.settle(0, last);
    assert_eq!(taken(&thread, 0, Wanted::Full).map(|it| it.1), Some(1));
    assert_eq!(taken(&thread, 1, Wanted::Full).map(|it| it.1), Some(3), "the other one still waits for all");
    assert_eq!(thread.lanes[0].counters.waiting_items.load(Relaxed), 1);
    assert_eq!(thread.lanes[1].counters.waiting_items.load(Relaxed), 3);
}

#[test]
fn what_is_too_old_is_dropped_and_counted() {
    let clock = Clock::at(Time::from_millis(1_000_000));
    let mut thread = thread(&clock, vec![target("otlp", false)]);
    spool(&mut thread, "old");
    clock.advance(Duration::from_secs(3_000));
    spool(&mut thread, "new");
    assert_eq!(thread.lanes[0].counters.oldest(), Some(Time::from_millis(1_000_000)));
    clock.advance(Duration::from_secs(700));
    thread.tick();
    let counters = &thread.lanes[0].counters;
    assert_eq!((counters.dropped(DropReason::Age), counters.waiting_items.load(Relaxed)), (1, 1));
    assert_eq!(counters.oldest(), Some(Time::from_millis(4_000_000)));
    let (body, ..) = taken(&thread, 0, Wanted::UpTo(1)).expect("the next, as that one is gone");
    assert!(body.contains("new"));
}

#[test]
fn what_waits_for_a_removed_target_is_kept_until_it_is_too_old() {
    let clock = Clock::at(Time::from_millis(1_000_000));
    let mut thread = thread(&clock, vec![target("otlp", false)]);
    spool(&mut thread, "one");
    clock.advance(Duration::from_secs(60));
    thread.traces(request("two"), Vec::new());
    assert!(thread.configure(Vec::new()).is_empty());
    spool(&mut thread, "to nothing");
    thread.tick();
    assert!(taken(&thread, 0, Wanted::Full).is_none(), "no target takes it");
    assert_eq!(thread.spool.lanes().expect("read")[0].waiting.items, 2, "what was joined is kept as well");
    // It is there again, with less room and for other signals too.
    let again = TargetSpec { signals: vec![Signal::Logs, Signal::Traces], ..target("otlp", false) };
    let lanes: Vec<LaneId> = thread.configure(vec![again]).into_iter().map(|(id, _)| id).collect();
    assert_eq!(lanes, [0, 1], "a lane keeps its place");
    assert!(taken(&thread, 0, Wanted::Full).is_some_and(|(body, ..)| body.contains("one") && body.contains("two")));
    assert_eq!(thread.lanes[0].counters.waiting_items.load(Relaxed), 2);
    thread.configure(Vec::new());
    clock.advance(Duration::from_secs(3_570));
    thread.tick();
    assert_eq!(thread.lanes[0].counters.dropped(DropReason::Age), 1, "the first is older than max_age was");
    clock.advance(Duration::from_secs(60));
    thread.tick();
    assert!(thread.spool.lanes().expect("read").is_empty());
}

#[test]
fn a_batch_of_which_a_part_was_sent_is_replaced_by_the_rest() {
    let clock = Clock::at(Time::from_millis(1_000_000));
    let mut thread = thread(&clock, vec![target("otlp", false)]);
    thread.traces(request("one"), Vec::new());
    thread.traces(request("two"), Vec::new());
    thread.write(true);
    spool(&mut thread, "three");
    let batch = thread.take(0, Wanted::Within(1)).expect("a batch");
    let split = super::super::batch::split(Signal::Traces, &batch.batch.body, 1).expect("two spans");
    thread.shrink(0, batch.last, &split.rest, split.rest_items);
    let (body, parts, _) = taken(&thread, 0, Wanted::Within(1)).expect("the rest");
    assert!(body.contains("two") && !body.contains("one") && parts == 1);
    assert_eq!(thread.lanes[0].counters.waiting_items.load(Relaxed), 2);
    let waiting = thread.spool.lanes().expect("read")[0].waiting;
    assert_eq!(thread.lanes[0].waiting, waiting, "what is counted is what is there");
    thread.shrink(0, 77, b"", 0);
    assert_eq!(thread.lanes[0].waiting, waiting, "a batch that was dropped meanwhile is not counted again");
}

#[test]
fn bounds_that_shrink_hold_at_once() {
    let clock = Clock::at(Time::from_millis(1_000_000));
    let mut thread = thread(&clock, vec![target("otlp", false)]);
    (0..9).for_each(|index| spool(&mut thread, &format!("span {index}")));
    let bytes = thread.lanes[0].waiting.bytes;
    thread.configure(vec![TargetSpec { max_spool: bytes / 2, ..target("otlp", false) }]);
    let counters = &thread.lanes[0].counters;
    assert!(counters.waiting_bytes.load(Relaxed) <= bytes / 2);
    assert_eq!(counters.dropped(DropReason::Size) + counters.waiting_items.load(Relaxed), 9);
}

#[test]
fn the_notes_of_spans_that_came_back_go_with_them() {
    let clock = Clock::at(Time::from_millis(1_000_000));
    let mut thread = thread(&clock, vec![target("otlp", true)]);
    let mut back = request("back");
    back.mark(&thread.instance);
    let mut request = request("fresh");
    request.resource_spans.insert(0, back.resource_spans.remove(0));
    let note = |id: &str| SpanNote { agent_id: Some(Arc::from(id)), parent_trace_id: None };
    thread.traces(request, vec![note("of-back"), note("of-fresh")]);
    thread.write(true);
    let (body, ..) = taken(&thread, 0, Wanted::Full).expect("a batch");
    assert!(body.contains("fresh") && body.contains("of-fresh") && !body.contains("of-back"), "{body}");
    assert_eq!(thread.lanes[0].counters.dropped(DropReason::Loop), 1);
}
