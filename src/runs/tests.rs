//! Runs on the virtual clock, with spans in every order.

use std::borrow::Cow;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::StatGroup;

const SECOND: u64 = 1_000_000_000;

mod reports;

fn at(seconds: u64) -> Time {
    Time::from_millis(1_800_000_000_000 + (seconds * 1000).cast_signed())
}

fn nanos(seconds: u64) -> u64 {
    1_800_000_000 * SECOND + seconds * SECOND
}

fn trace(number: u8) -> TraceId {
    TraceId::from_slice(&[number; 16]).expect("an id")
}

fn span_id(number: u8) -> SpanId {
    SpanId::from_slice(&[number; 8]).expect("an id")
}

fn agent(name: &str) -> Arc<AgentIdentity> {
    Arc::new(AgentIdentity { project: "shop".into(), agent: name.into(), agent_type: "custom".into(), is_named: true })
}

/// A span of a second in the trace, `from` seconds after the beginning.
fn span(in_trace: u8, id: u8, parent: Option<u8>, kind: SpanKind, from: u64) -> SpanReport<'static> {
    let mut span = Span::new(trace(in_trace), span_id(id), Cow::Owned(format!("span {id}")), nanos(from));
    span.parent = parent.map(span_id);
    span.kind = kind;
    span.duration = Some(SECOND);
    SpanReport { span, agent: None, caller: None, run: None, response: None, call: None, facts: None }
}

fn root(in_trace: u8, id: u8, parent: Option<u8>, name: &str, from: u64, seconds: u64) -> SpanReport<'static> {
    let mut report = span(in_trace, id, parent, SpanKind::Agent, from);
    report.span.begins_run = true;
    report.span.duration = Some(seconds * SECOND);
    report.agent = Some(agent(name));
    report
}

fn call(in_trace: u8, id: u8, parent: Option<u8>, from: u64, input: u64) -> SpanReport<'static> {
    let mut report = span(in_trace, id, parent, SpanKind::Llm, from);
    report.span.fields = vec![(SpanField::Model, "gpt".into()), (SpanField::Provider, "openai".into())];
    report.span.tokens = Some([input, 1, 0, 0, 0]);
    report.span.cost_usd = Some(0.01);
    report
}

fn tool(in_trace: u8, id: u8, parent: Option<u8>, from: u64) -> SpanReport<'static> {
    let mut report = span(in_trace, id, parent, SpanKind::Tool, from);
    report.span.fields = vec![(SpanField::Tool, "Bash".into())];
    report
}

fn in_session(mut report: SpanReport<'static>, session: &'static str) -> SpanReport<'static> {
    report.span.fields.push((SpanField::Session, session.into()));
    report
}

/// A book and what a store would have of it.
struct Kept {
    book: RunBook,
    runs: BTreeMap<TraceId, Run>,
    spans: Vec<SpanReport<'static>>,
    stats: Contribution,
    ended: Vec<TraceId>,
    /// Traces that were dropped, as no agent had done anything in them yet.
    discarded: usize,
}

impl Kept {
    fn new() -> Self {
        Self {
            book: RunBook::new(Duration::from_secs(6 * 3600)),
            runs: BTreeMap::new(),
            spans: Vec::new(),
            stats: Contribution::new(),
            ended: Vec::new(),
            discarded: 0,
        }
    }

    fn add(&mut self, now: Time, report: SpanReport<'static>) -> SpanOutcome {
        self.bring_back(now, report.span.trace);
        let outcome = self.book.span(now, &report);
        if outcome == SpanOutcome::New {
            self.spans.push(report);
        }
        outcome
    }

    /// What the owner of the store does before it adds a span of a trace.
    fn bring_back(&mut self, now: Time, id: TraceId) {
        if self.book.has_trace(id) {
            return;
        }
        let mut traces = BTreeSet::from([id]);
        let mut runs: BTreeMap<TraceId, Run> = BTreeMap::new();
        loop {
            let found: Vec<Run> = self
                .runs
                .values()
                .filter(|run| !runs.contains_key(&run.id) && run.parts.iter().any(|part| traces.contains(&part.trace)))
                .cloned()
                .collect();
            if found.is_empty() {
                break;
            }
            for run in found {
                traces.extend(run.parts.iter().map(|part| part.trace));
                runs.insert(run.id, run);
            }
        }
        let spans: Vec<_> = self.spans.iter().filter(|it| traces.contains(&it.span.trace)).cloned().collect();
        self.book.restore(now, runs.into_values().collect(), spans);
    }

    fn commit(&mut self, now: Time) {
        let changes = self.book.take_changes(now);
        self.discarded += changes.discarded.len();
        self.spans.retain(|report| !changes.discarded.contains(&report.span.trace));
        for id in changes.removed {
            self.runs.remove(&id);
        }
        for run in changes.runs {
            self.runs.insert(run.id, run);
        }
        for (key, cell) in changes.stats {
            self.stats.entry(key).or_default().add(&cell, 1);
        }
        self.stats.retain(|_, cell| !cell.is_empty());
        self.ended.extend(changes.ended);
    }

    fn only(&self) -> &Run {
        assert_eq!(self.runs.len(), 1, "{:?}", self.runs.keys());
        self.runs.values().next().expect("a run")
    }

    fn totals(&self, name: &str) -> StatCell {
        let of_agent = self.stats.iter().filter(|(key, _)| key.group == StatGroup::Total && &*key.agent == name);
        let mut sum = StatCell::default();
        of_agent.for_each(|(_, cell)| sum.add(cell, 1));
        sum
    }

    /// Statistics are what the runs add up to, and nothing else.
    fn check(&self) {
        let mut expected = Contribution::new();
        for run in self.runs.values() {
            for (key, cell) in contribution(run) {
                expected.entry(key).or_default().add(&cell, 1);
            }
        }
        expected.retain(|_, cell| !cell.is_empty());
        assert_eq!(self.stats, expected);
    }
}

use crate::model::StatCell;

#[test]
fn a_trace_whose_root_comes_last_is_one_run() {
    let mut kept = Kept::new();
    kept.add(at(1), call(1, 2, Some(1), 0, 100));
    kept.add(at(1), tool(1, 3, Some(1), 2));
    kept.commit(at(1));
    assert_eq!((kept.only().status, kept.only().is_rooted), (RunStatus::Running, false));
    kept.add(at(6), root(1, 1, None, "clerk", 0, 5));
    kept.commit(at(6));
    let run = kept.only();
    assert_eq!((run.id, &*run.agent, &*run.name, run.status), (trace(1), "clerk", "span 1", RunStatus::Ok));
    assert_eq!((run.started_at, run.ended_at), (at(0), Some(at(5))));
    assert_eq!((run.totals.spans, run.totals.calls, run.totals.tools), (3, 1, 1));
    assert_eq!((run.totals.tokens, run.totals.cost_usd), (Some([100, 1, 0, 0, 0]), Some(0.01)));
    assert_eq!(kept.ended, [trace(1)]);
    kept.check();
}

#[test]
fn a_span_that_is_sent_again_counts_once() {
    let mut kept = Kept::new();
    for _ in 0..3 {
        kept.add(at(1), root(1, 1, None, "clerk", 0, 5));
        kept.add(at(1), call(1, 2, Some(1), 0, 100));
        kept.commit(at(1));
    }
    assert_eq!(kept.spans.len(), 2);
    let sum = kept.totals("clerk");
    assert_eq!((sum.runs, sum.calls, sum.tokens[0]), (1, 1, 100));
    // An hour later the trace has left memory; it is still known.
    kept.book.tick(at(4000));
    kept.commit(at(4000));
    assert!(!kept.book.has_trace(trace(1)) && !kept.book.has_run(trace(1)));
    assert_eq!(kept.add(at(4001), call(1, 2, Some(1), 0, 100)), SpanOutcome::Duplicate);
    assert_eq!(kept.add(at(4001), call(1, 3, Some(1), 3, 7)), SpanOutcome::New);
    kept.commit(at(4001));
    let sum = kept.totals("clerk");
    assert_eq!((sum.runs, sum.calls, sum.tokens[0]), (1, 2, 107));
    kept.check();
}

#[test]
fn many_runs_share_a_trace_when_they_inherit_their_callers_context() {
    let mut kept = Kept::new();
    for (number, from) in [(10, 0), (20, 100)] {
        kept.add(at(from), call(1, number + 1, Some(number), from, 5));
        kept.add(at(from), root(1, number, Some(99), "builder", from, 10));
        kept.commit(at(from + 1));
    }
    assert_eq!(kept.runs.len(), 2);
    let ids: Vec<_> = kept.runs.keys().copied().collect();
    assert!(ids.contains(&trace(1)) && ids.contains(&trace(1).of_run(span_id(20))));
    assert!(kept.runs.values().all(|run| run.totals.calls == 1 && run.totals.spans == 2));
    kept.check();
}

#[test]
fn an_agent_below_another_is_a_child_run_and_the_same_agent_is_not() {
    let mut kept = Kept::new();
    for report in [
        root(1, 1, None, "team", 0, 60),
        root(1, 2, Some(1), "writer", 1, 20),
        call(1, 3, Some(2), 2, 10),
        root(1, 4, Some(2), "writer", 3, 2),
        call(1, 5, Some(4), 4, 10),
        call(1, 6, Some(1), 30, 1),
    ] {
        kept.add(at(60), report);
    }
    kept.commit(at(60));
    assert_eq!(kept.runs.len(), 2);
    let [team, writer] =
        ["team", "writer"].map(|name| kept.runs.values().find(|run| &*run.agent == name).expect("a run"));
    assert_eq!((team.id, team.totals.calls, team.parent), (trace(1), 1, None));
    assert_eq!((writer.totals.calls, writer.parent), (2, Some(trace(1))));
    kept.check();
}

#[test]
fn an_inner_agent_that_arrives_before_the_outer_one_gives_the_trace_up() {
    let mut kept = Kept::new();
    kept.add(at(5), root(1, 2, Some(1), "writer", 1, 3));
    kept.add(at(5), call(1, 3, Some(2), 2, 10));
    kept.commit(at(5));
    assert_eq!(&*kept.only().agent, "writer");
    kept.add(at(9), root(1, 1, None, "team", 0, 8));
    kept.commit(at(9));
    let names: BTreeSet<_> = kept.runs.values().map(|run| run.agent.to_string()).collect();
    assert_eq!(names, BTreeSet::from(["team".to_owned(), "writer".to_owned()]));
    assert_eq!(kept.runs.values().map(|run| run.totals.calls).sum::<u64>(), 1);
    kept.check();
}

#[test]
fn a_call_within_a_call_is_the_same_call() {
    let mut kept = Kept::new();
    // The outer one is there first, then last; its report has tokens, then none.
    for (number, outer_first, has_tokens) in [(1, true, true), (2, false, true), (3, true, false), (4, false, false)] {
        let mut outer = call(number, 2, Some(1), 1, 50);
        if !has_tokens {
            outer.span.tokens = None;
            outer.span.cost_usd = None;
        }
        let inner = call(number, 3, Some(2), 1, 50);
        let order = if outer_first { [outer, inner] } else { [inner, outer] };
        for report in order {
            kept.add(at(3), report);
        }
        kept.add(at(3), root(number, 1, None, "clerk", 0, 5));
        kept.commit(at(4));
        let run = &kept.runs[&trace(number)];
        assert_eq!((run.totals.calls, run.totals.tokens), (1, Some([50, 1, 0, 0, 0])), "{number}");
    }
    kept.check();
}

#[test]
fn one_response_that_two_instrumentations_report_counts_once() {
    let mut kept = Kept::new();
    kept.add(at(3), root(1, 1, None, "clerk", 0, 5));
    for number in [2, 3] {
        kept.add(at(3), SpanReport { response: Some(77), ..call(1, number, Some(1), 1, 50) });
    }
    kept.commit(at(4));
    assert_eq!((kept.only().totals.calls, kept.only().totals.tokens), (1, Some([50, 1, 0, 0, 0])));
}

fn started(id: u8, session: Option<&str>, from: u64) -> RunStart {
    RunStart {
        id: trace(id),
        trace: trace(id),
        span: span_id(200),
        above: None,
        agent: agent("clerk"),
        name: "question".into(),
        source: RunSource::Api,
        parent: None,
        session: session.map(Arc::from),
        task: None,
        platform: None,
        facts: RunFacts::default(),
        at: at(from),
    }
}

fn proxied(in_trace: u8, caller: Option<TraceId>) -> SpanReport<'static> {
    let mut report = SpanReport { caller, ..call(in_trace, 2, Some(1), 2, 40) };
    report.span.source = RunSource::Proxy;
    report
}

type WalkStep = Box<dyn Fn(&mut Kept)>;

#[test]
fn calls_of_a_proxy_belong_to_the_run_that_their_caller_named_whichever_comes_first() {
    for call_first in [true, false] {
        let mut kept = Kept::new();
        let mut steps: Vec<WalkStep> = vec![
            Box::new(|kept: &mut Kept| {
                kept.book.start(at(1), &started(7, None, 1));
            }),
            Box::new(|kept: &mut Kept| {
                kept.add(at(3), span(9, 1, None, SpanKind::Other, 2));
                kept.add(at(3), proxied(9, Some(trace(7))));
            }),
        ];
        if call_first {
            steps.reverse();
        }
        for step in steps {
            step(&mut kept);
            kept.commit(at(4));
        }
        let end = RunEnd { status: RunStatus::Ok, tokens: Some([1; 5]), at: at(9), ..RunEnd::default() };
        let (_, is_first) = kept.book.end(at(9), trace(7), end.clone()).expect("a run");
        assert!(is_first);
        kept.commit(at(9));
        assert!(!kept.book.end(at(10), trace(7), end).expect("a run").1, "a second end is the same end");
        kept.commit(at(10));
        let run = kept.only();
        assert_eq!((run.id, run.totals.calls, run.totals.tokens), (trace(7), 1, Some([40, 1, 0, 0, 0])));
        assert_eq!(run.parts.len(), 2);
        assert_eq!(kept.totals("clerk").runs, 1);
        kept.check();
    }
}

#[test]
fn tokens_of_the_end_count_where_no_span_has_any() {
    let mut kept = Kept::new();
    kept.book.start(at(1), &started(7, None, 1));
    let end = RunEnd { tokens: Some([9, 8, 0, 0, 0]), cost_usd: Some(0.5), at: at(9), ..RunEnd::default() };
    kept.book.end(at(9), trace(7), end);
    kept.commit(at(9));
    assert_eq!((kept.only().totals.tokens, kept.only().totals.cost_usd), (Some([9, 8, 0, 0, 0]), Some(0.5)));
    let sum = kept.totals("clerk");
    assert_eq!((sum.runs, sum.tokens[0], sum.cost_nanos), (1, 9, 500_000_000));
    kept.check();
}

#[test]
fn what_a_run_reports_besides_counts_once() {
    let mut kept = Kept::new();
    let facts = |text: &str| RunFacts::of_metadata(&serde_json::from_str(text).expect("JSON"));
    let begins = facts(r#"{"thread_length": 4, "channel": "C1", "answered": true}"#);
    for (id, platform) in [(7, "slack"), (8, "cli")] {
        let start = RunStart { facts: begins, platform: Some(platform.into()), ..started(id, None, 1) };
        kept.book.start(at(1), &start);
        kept.commit(at(1));
        assert!(kept.stats.keys().all(|key| key.group != StatGroup::Fact), "nothing before the end");
    }
    let end = RunEnd { facts: facts(r#"{"thread_length": 6, "review_passed": 0.5}"#), at: at(9), ..RunEnd::default() };
    for _ in 0..3 {
        for id in [7, 8] {
            kept.book.end(at(9), trace(id), end.clone());
            kept.commit(at(9));
        }
    }
    let facts: Vec<_> = kept.stats.iter().filter(|(key, _)| key.group == StatGroup::Fact).collect();
    let shown: Vec<_> = facts.iter().map(|(key, cell)| (&*key.name, cell.runs, cell.cost_nanos)).collect();
    let (one, six, half) = (1_000_000_000, 6_000_000_000, 500_000_000);
    assert_eq!(
        shown,
        [
            ("cli/answered", 1, one),
            ("cli/review_passed", 1, half),
            ("cli/thread_length", 1, six),
            ("slack/answered", 1, one),
            ("slack/review_passed", 1, half),
            ("slack/thread_length", 1, six),
        ]
    );
    kept.check();
}

#[test]
fn traces_of_one_session_that_have_no_root_are_one_run() {
    let mut kept = Kept::new();
    for (number, from) in [(1, 0), (2, 30), (3, 60)] {
        kept.add(at(from + 1), in_session(call(number, 1, None, from, 10), "a-session-of-gemini"));
        kept.commit(at(from + 1));
        kept.book.tick(at(from + 1));
    }
    assert_eq!((kept.only().totals.calls, kept.only().status), (3, RunStatus::Running));
    kept.book.tick(at(200));
    kept.commit(at(200));
    assert_eq!((kept.only().status, kept.only().ended_at), (RunStatus::Ok, Some(at(61))));
    // After a long pause it is another run.
    kept.add(at(2000), in_session(call(4, 1, None, 1999, 10), "a-session-of-gemini"));
    kept.commit(at(2000));
    assert_eq!(kept.runs.len(), 2);
    kept.check();
}

#[test]
fn a_run_that_hooks_and_spans_report_is_one_run() {
    for spans_first in [true, false] {
        let mut kept = Kept::new();
        let session = "0123456789abcdef-session";
        let hooks = |kept: &mut Kept| {
            let start = RunStart { source: RunSource::Hook, ..started(50, Some(session), 0) };
            kept.book.start(at(0), &start);
            kept.commit(at(0));
            let mut by_hook = tool(50, 60, Some(200), 1);
            by_hook.span.source = RunSource::Hook;
            kept.add(at(2), by_hook);
            kept.book.end(at(10), trace(50), RunEnd { at: at(10), ..RunEnd::default() });
            kept.commit(at(10));
        };
        let spans = |kept: &mut Kept| {
            for report in [call(1, 2, Some(1), 1, 10), tool(1, 3, Some(1), 2), root(1, 1, None, "clerk", 0, 9)] {
                kept.add(at(10), in_session(report, session));
                kept.commit(at(10));
            }
        };
        if spans_first {
            spans(&mut kept);
            hooks(&mut kept);
        } else {
            hooks(&mut kept);
            spans(&mut kept);
        }
        if !spans_first {
            let run = kept.only();
            assert_eq!((run.id, run.totals.calls, run.totals.tools), (trace(50), 1, 1), "{spans_first}");
        }
        kept.check();
    }
}

#[test]
fn a_run_whose_end_never_comes_is_abandoned() {
    let mut kept = Kept::new();
    kept.book.start(at(0), &started(7, None, 0));
    kept.commit(at(0));
    let timeout = 6 * 3600;
    kept.book.tick(at(timeout - 1));
    kept.commit(at(timeout - 1));
    assert_eq!(kept.only().status, RunStatus::Running);
    assert!(kept.book.next_deadline().is_some_and(|at_| at_ <= at(timeout)));
    kept.book.tick(at(timeout));
    kept.commit(at(timeout));
    assert_eq!(kept.only().status, RunStatus::Abandoned);
    assert_eq!(kept.totals("clerk").failed_runs, 1);
    // Its end comes after all.
    kept.bring_back(at(timeout + 5), trace(7));
    kept.book.end(at(timeout + 5), trace(7), RunEnd { at: at(timeout + 5), ..RunEnd::default() });
    kept.commit(at(timeout + 5));
    assert_eq!((kept.only().status, kept.totals("clerk").failed_runs), (RunStatus::Ok, 0));
    kept.check();
}

#[test]
fn a_second_model_after_a_failed_call_is_a_fallback() {
    let mut kept = Kept::new();
    let mut failed = call(1, 2, Some(1), 1, 0);
    failed.span.status = SpanStatus::Error;
    let mut other = call(1, 3, Some(1), 2, 30);
    other.span.fields = vec![(SpanField::Model, "claude".into()), (SpanField::Provider, "anthropic".into())];
    for report in [other, failed, root(1, 1, None, "clerk", 0, 5)] {
        kept.add(at(5), report);
    }
    kept.commit(at(5));
    let run = kept.only();
    assert_eq!((run.totals.fallbacks, run.totals.failed_calls, run.model.as_deref()), (1, 1, Some("claude")));
    kept.check();
}

#[test]
fn a_full_trace_refuses_and_memory_is_bounded() {
    let mut kept = Kept::new();
    let id = |number: u32| SpanId::from_slice(&(u64::from(number) + 1).to_be_bytes()).expect("an id");
    for number in 0..MAX_TRACE_SPANS as u32 {
        let mut report = span(1, 1, None, SpanKind::Other, 0);
        report.span.id = id(number);
        assert_eq!(kept.book.span(at(0), &report), SpanOutcome::New);
    }
    let mut report = span(1, 1, None, SpanKind::Other, 0);
    report.span.id = id(MAX_TRACE_SPANS as u32);
    assert_eq!(kept.book.span(at(0), &report), SpanOutcome::TraceFull);
    for number in 2..=4 {
        for inner in 0..MAX_TRACE_SPANS as u32 / 2 {
            let mut report = span(number, 1, None, SpanKind::Other, u64::from(number));
            report.span.id = id(inner);
            kept.book.span(at(u64::from(number)), &report);
        }
    }
    kept.commit(at(5));
    kept.book.tick(at(5));
    assert!(
        kept.book.open_spans() <= MAX_OPEN_SPANS && !kept.book.has_trace(trace(1)) && kept.book.has_trace(trace(4))
    );
}

/// A forest of spans: agents with calls, tools and other agents.
fn forest() -> impl Strategy<Value = Vec<SpanReport<'static>>> {
    proptest::collection::vec((0..3_u8, 0..6_u8, any::<proptest::sample::Index>(), 0..3_u8), 1..25).prop_map(|parts| {
        let mut spans: Vec<SpanReport<'static>> = Vec::new();
        for (number, (in_trace, kind, parent, name)) in parts.into_iter().enumerate() {
            let id = u8::try_from(number).expect("small") + 1;
            let above: Vec<u8> = spans
                .iter()
                .filter(|it| it.span.trace == trace(in_trace + 1))
                .map(|it| it.span.id.as_bytes()[0])
                .collect();
            let parent = if above.is_empty() { None } else { Some(above[parent.index(above.len())]) };
            let from = u64::from(id);
            let name = ["clerk", "writer", "team"][usize::from(name)];
            spans.push(match kind {
                0 => root(in_trace + 1, id, parent, name, from, 5),
                1 | 2 => call(in_trace + 1, id, parent, from, u64::from(id)),
                3 => tool(in_trace + 1, id, parent, from),
                _ => span(in_trace + 1, id, parent, SpanKind::Other, from),
            });
        }
        spans
    })
}

proptest! {
    /// Whatever order spans come in, in however many parts, with repeats and with everything dropped from memory in between,
    /// statistics are the sum of the runs, each span is in one run, and no call counts twice.
    #[test]
    fn order_repeats_and_rests_change_no_sum(
        spans in forest(),
        order in proptest::collection::vec(any::<u32>(), 25),
        breaks in proptest::collection::vec(any::<bool>(), 25),
        rests in proptest::collection::vec(any::<bool>(), 25),
    ) {
        let in_order = |keys: &[u32]| {
            let mut kept = Kept::new();
            let mut places: Vec<usize> = (0..spans.len()).collect();
            places.sort_by_key(|place| keys[*place]);
            let mut now = 100;
            for place in places {
                kept.add(at(now), spans[place].clone());
                kept.add(at(now), spans[place].clone());
                if breaks[place] {
                    kept.commit(at(now));
                }
                if rests[place] {
                    kept.commit(at(now));
                    now += 700;
                    kept.book.tick(at(now));
                    kept.commit(at(now));
                }
            }
            now += 700;
            kept.commit(at(now));
            kept.book.tick(at(now));
            kept.commit(at(now));
            kept
        };
        let kept = in_order(&order);
        kept.check();
        let stored: u64 = kept.runs.values().map(|run| run.totals.spans).sum();
        prop_assert_eq!(stored, kept.spans.len() as u64);
        if kept.discarded > 0 {
            return Ok(());
        }
        // The same calls and tools as in the order of their beginning.
        let straight = in_order(&(0..25).collect::<Vec<_>>());
        let sums = |kept: &Kept| {
            let runs = kept.runs.values();
            runs.fold((0, 0, [0; 5]), |(calls, tools, tokens), run| {
                let own = run.totals.tokens.unwrap_or_default();
                (calls + run.totals.calls, tools + run.totals.tools, std::array::from_fn(|at| tokens[at] + own[at]))
            })
        };
        prop_assert_eq!(sums(&kept), sums(&straight));
    }
}
