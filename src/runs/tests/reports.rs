//! Several reports of one run, and runs that begin or end by requests.

use super::*;

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
    // What a request reported goes on with the span of its run.
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
