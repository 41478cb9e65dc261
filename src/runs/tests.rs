//! Runs on the virtual clock, with spans in every order.

use std::borrow::Cow;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::StatGroup;

const SECOND: u64 = 1_000_000_000;

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

/// What each source reports of one turn of ten seconds, in the order in which it comes.
fn reports_of_a_turn(session: &'static str, from: u64, ids: u8) -> Vec<Vec<WalkStep>> {
    let (hook, pipe, otlp) = (ids, ids + 1, ids + 2);
    let hashed = turns::session_name(crate::model::hook::session_hash(session));
    let of_hook = move |kept: &mut Kept| {
        let start = RunStart { source: RunSource::Hook, ..started(hook, Some(&hashed), from) };
        kept.book.start(at(from), &start);
    };
    let tool_of_hook = move |kept: &mut Kept| {
        let mut by_hook = tool(hook, 60, Some(200), from + 1);
        by_hook.span.source = RunSource::Hook;
        kept.add(at(from + 2), by_hook);
    };
    let end = |id: u8, tokens| {
        move |kept: &mut Kept| {
            let end = RunEnd { at: at(from + 10), tokens, ..RunEnd::default() };
            kept.book.end(at(from + 10), trace(id), end);
        }
    };
    let of_pipe = move |kept: &mut Kept| {
        let start = RunStart { source: RunSource::Pipe, ..started(pipe, Some(session), from) };
        kept.book.start(at(from), &start);
    };
    let parts_of_pipe = move |kept: &mut Kept| {
        for mut part in [tool(pipe, 70, Some(200), from + 1), call(pipe, 71, Some(200), from + 1, 0)] {
            part.span.source = RunSource::Pipe;
            (part.span.tokens, part.span.cost_usd) = (None, None);
            kept.add(at(from + 2), part);
        }
    };
    let spans = move |kept: &mut Kept| {
        let parts = [
            call(otlp, 2, Some(1), from + 1, 10),
            tool(otlp, 3, Some(1), from + 2),
            root(otlp, 1, None, "clerk", from, 9),
        ];
        for report in parts {
            kept.add(at(from + 10), in_session(report, session));
        }
    };
    vec![
        vec![Box::new(of_hook), Box::new(tool_of_hook), Box::new(end(hook, None))],
        vec![Box::new(of_pipe), Box::new(parts_of_pipe), Box::new(end(pipe, Some([12, 3, 0, 0, 0])))],
        vec![Box::new(spans)],
    ]
}

/// Every order in which the steps of several reporters can come.
fn interleaved(of: &[usize]) -> Vec<Vec<usize>> {
    if of.iter().all(|left| *left == 0) {
        return vec![Vec::new()];
    }
    let mut orders = Vec::new();
    for first in (0..of.len()).filter(|place| of[*place] > 0) {
        let mut left = of.to_vec();
        left[first] -= 1;
        orders.extend(interleaved(&left).into_iter().map(|rest| [vec![first], rest].concat()));
    }
    orders
}

#[test]
fn a_turn_that_hooks_pipe_and_spans_report_is_one_run_in_any_order() {
    let session = "0123456789abcdef-session";
    for sources in [[true, true, true], [true, true, false], [false, true, true], [false, true, false]] {
        let counts: Vec<usize> =
            [3, 3, 1].iter().zip(sources).map(|(count, is_on)| count * usize::from(is_on)).collect();
        for order in interleaved(&counts) {
            let mut kept = Kept::new();
            let mut steps: Vec<_> =
                reports_of_a_turn(session, 0, 50).into_iter().map(|steps| steps.into_iter()).collect();
            for source in &order {
                steps[*source].next().expect("a step")(&mut kept);
                kept.commit(at(10));
            }
            let run = kept.only();
            let about = format!("{order:?}: {run:?}");
            assert_eq!(run.session.as_deref(), Some(session), "{about}");
            assert_eq!((run.status, run.totals.calls, run.totals.tools), (RunStatus::Ok, 1, 1), "{about}");
            // Calls that have tokens come before the totals of the end.
            let tokens = if sources[2] { [10, 1, 0, 0, 0] } else { [12, 3, 0, 0, 0] };
            assert_eq!(run.totals.tokens, Some(tokens), "{about}");
            assert_eq!(kept.totals("clerk").runs, 1, "{about}");
            kept.check();
        }
    }
}

#[test]
fn turns_of_a_session_that_follow_each_other_are_runs_of_their_own() {
    let session = "0123456789abcdef-session";
    // Spans of the first turn come after the second has begun, as exports do.
    for late in [false, true] {
        let mut kept = Kept::new();
        let mut first = reports_of_a_turn(session, 0, 50);
        let spans = first.pop().expect("spans");
        let run_all = |kept: &mut Kept, reports: Vec<Vec<WalkStep>>| {
            for step in reports.into_iter().flatten() {
                step(kept);
                kept.commit(at(30));
            }
        };
        run_all(&mut kept, first);
        let second = reports_of_a_turn(session, 12, 80);
        if late {
            run_all(&mut kept, second);
            run_all(&mut kept, vec![spans]);
        } else {
            run_all(&mut kept, vec![spans]);
            run_all(&mut kept, second);
        }
        let found: Vec<_> =
            kept.runs.values().map(|run| (run.started_at, run.totals.tokens, run.parts.len())).collect();
        let expected = |from: u64| (at(from), Some([10, 1, 0, 0, 0]), 3);
        assert_eq!(found, [expected(0), expected(12)], "{late}");
        kept.check();
    }
}

#[test]
fn agents_whose_sessions_have_the_same_short_name_have_runs_of_their_own() {
    let mut kept = Kept::new();
    kept.book.start(at(0), &started(50, Some("chat-7"), 0));
    let of_writer = RunStart { agent: agent("writer"), source: RunSource::Pipe, ..started(60, Some("chat-7"), 1) };
    assert_eq!(kept.book.start(at(1), &of_writer).id, trace(60));
    let mut by_writer = in_session(call(70, 71, None, 2, 10), "chat-7");
    by_writer.agent = Some(agent("writer"));
    kept.add(at(3), by_writer);
    kept.commit(at(3));
    assert_eq!(kept.book.run(trace(50)).map(|run| run.totals.calls), Some(0));
    assert_eq!(kept.book.run(trace(60)).map(|run| run.totals.calls), Some(1));
    // The same agent's are one.
    let by_pipe = RunStart { source: RunSource::Pipe, ..started(80, Some("chat-7"), 1) };
    assert_eq!(kept.book.start(at(4), &by_pipe).id, trace(50));
}

#[test]
fn a_second_end_of_a_run_by_its_trace_changes_nothing() {
    let mut kept = Kept::new();
    kept.book.start(at(0), &RunStart { trace: trace(9), ..started(50, None, 0) });
    let end = |tokens| RunEnd { at: at(5), tokens, ..RunEnd::default() };
    assert!(kept.book.end(at(5), trace(9), end(None)).is_some_and(|(_, is_first)| is_first));
    let again = kept.book.end(at(6), trace(9), end(Some([1; 5])));
    assert_eq!(again.map(|(run, is_first)| (run.reported_tokens, is_first)), Some((None, false)));
    // The topmost span that its client exports is not a repetition.
    assert_eq!(kept.book.span(at(7), &root(9, 200, None, "clerk", 0, 5)), SpanOutcome::New);
}

#[test]
fn a_later_report_adds_what_the_first_one_did_not_know() {
    let mut kept = Kept::new();
    let session = "0123456789abcdef-session";
    kept.add(at(1), in_session(call(70, 71, None, 1, 10), session));
    let first = RunStart { source: RunSource::Pipe, ..started(50, None, 0) };
    kept.book.start(at(1), &first);
    kept.commit(at(1));
    let facts = RunFacts::of_metadata(&serde_json::json!({"thread_length": 9}));
    let (task, platform) = (Some("42".into()), Some("slack".into()));
    let later = RunStart { session: Some(session.into()), task, platform, facts, ..first };
    for _ in 0..2 {
        assert_eq!(kept.book.start(at(2), &later).id, trace(50));
        kept.commit(at(2));
    }
    // Calls of that session are its own, whenever they come.
    kept.add(at(3), in_session(call(80, 81, None, 2, 20), session));
    kept.commit(at(3));
    let run = kept.book.run(trace(50)).expect("the run");
    assert_eq!(
        (run.session.as_deref(), run.task.as_deref(), run.platform.as_deref()),
        (Some(session), Some("42"), Some("slack"))
    );
    assert_eq!((run.facts, run.totals.calls), (facts, 2));
    kept.check();
}

#[test]
fn what_the_span_of_a_run_reports_besides_counts_once() {
    let facts = |text: &str| Some(Box::new(RunFacts::of_metadata(&serde_json::from_str(text).expect("JSON"))));
    let mut kept = Kept::new();
    let mut own = root(1, 1, None, "clerk", 0, 5);
    own.facts = facts(r#"{"thread_length": 4, "answered": true}"#);
    own.span.fields.push((SpanField::Platform, "slack".into()));
    for _ in 0..2 {
        kept.add(at(6), own.clone());
        kept.commit(at(6));
    }
    kept.add(at(7), call(1, 2, Some(1), 1, 10));
    kept.commit(at(7));
    let reported: Vec<_> =
        kept.stats.iter().filter(|(key, cell)| key.group == StatGroup::Fact && cell.runs != 0).collect();
    let shown: Vec<_> = reported.iter().map(|(key, cell)| (&*key.name, cell.runs, cell.cost_nanos)).collect();
    assert_eq!(shown, [("slack/answered", 1, 1_000_000_000), ("slack/thread_length", 1, 4_000_000_000)]);
    // What a request said goes on with the span of its run.
    kept.book
        .start(at(8), &RunStart { facts: *facts(r#"{"files": ["a", "b"]}"#).expect("facts"), ..started(50, None, 8) });
    let span = kept.book.root_span(trace(50)).expect("its span");
    assert_eq!(span.attributes, [("files".into(), crate::model::SpanValue::Float(2.0))]);
    kept.check();
}

#[test]
fn each_root_without_a_session_has_that_of_the_first_span_beneath_it() {
    let mut trace = trace::OpenTrace::default();
    let mut names = Default::default();
    for (id, parent, session, from) in [
        (1, None, None, 0),
        (2, Some(1), Some("later"), 5),
        (3, Some(1), Some("first"), 3),
        (4, None, None, 0),
        (5, Some(3), Some("inner"), 4),
    ] {
        let mut report = call(9, id, parent, from, 1);
        if let Some(session) = session {
            report = in_session(report, session);
        }
        trace.insert(span_id(id), trace::Node::new(&report.span, None, None, &mut names));
    }
    let places = [1, 3, 4].map(|id| trace::RootPlace { span: span_id(id), above: None });
    let below = trace.sessions_below(&places);
    let of = |id| below.get(&span_id(id)).map(|session| session.to_string());
    assert_eq!((of(1), of(3), of(4)), (Some("first".to_owned()), Some("inner".to_owned()), None));
}

#[test]
fn a_hook_of_the_end_of_a_session_does_not_end_what_pipe_watches() {
    let session = "0123456789abcdef-session";
    let mut kept = Kept::new();
    let [hooks, pipe, _] = <[Vec<WalkStep>; 3]>::try_from(reports_of_a_turn(session, 0, 50)).ok().expect("sources");
    hooks[0](&mut kept);
    pipe[0](&mut kept);
    let left = RunEnd { status: RunStatus::Abandoned, at: at(9), ..RunEnd::default() };
    kept.book.end(at(9), trace(50), left);
    kept.commit(at(9));
    assert_eq!(kept.only().status, RunStatus::Running);
    let failed =
        RunEnd { status: RunStatus::Error, error: Some("error max turns".into()), at: at(10), ..RunEnd::default() };
    kept.book.end(at(10), trace(51), failed);
    kept.commit(at(10));
    assert_eq!((kept.only().status, kept.only().error.as_deref()), (RunStatus::Error, Some("error max turns")));
    kept.check();
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
