//! Turns of recorded streams, a second between two lines.

use std::fmt::Write as _;
use std::time::Duration;

use super::*;
use crate::cli::pipe::stream::turns::{TurnQueue, TurnReport};
use crate::config::pipe::Pattern;

fn turns(mut reader: StreamReader, text: &str, ending: StreamEnding) -> Vec<TurnReport> {
    let (mut queue, mut at) = (TurnQueue::default(), now());
    reader.start(at);
    for line in text.lines() {
        at = at.plus(Duration::from_secs(1));
        reader.lines(at, line.as_bytes());
        queue.add(reader.take_turns());
    }
    reader.finish(at.plus(Duration::from_secs(1)), ending);
    queue.add(reader.take_turns());
    queue.take()
}

/// Turns in words, with seconds since the stream began.
fn shown(turns: &[TurnReport]) -> String {
    let mut text = String::new();
    let at = |time: Time| time.since(now()).as_secs();
    for turn in turns {
        let end = turn.end.as_ref().expect("an end");
        let tokens = end.tokens.map(|tokens| format!("{tokens:?}")).unwrap_or_default();
        let (session, error) = (turn.session.as_deref().unwrap_or("-"), end.error.as_deref().unwrap_or("ok"));
        let cost = end.cost_usd.map(|cost| format!(" ${cost:.6}")).unwrap_or_default();
        writeln!(
            text,
            "{}-{} {error} {} {tokens}{cost}",
            at(turn.started_at),
            at(end.at),
            session.get(..8).unwrap_or(session)
        )
        .expect("text");
        for span in &turn.spans {
            let kind = span.kind.as_str();
            let error = span.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
            writeln!(
                text,
                "  {}<{} {kind} {} {}-{}{error}",
                span.number,
                span.above,
                span.name,
                at(span.started_at),
                at(span.ended_at)
            )
            .expect("text");
        }
    }
    text
}

fn of_sample(name: &str) -> String {
    shown(&turns(StreamReader::new(StreamFormat::Auto, Vec::new(), None), &sample(name), StreamEnding::Over))
}

#[test]
fn recorded_streams_are_turns_with_calls_tools_waits_and_failures() {
    for name in [
        "claude-code-tool",
        "claude-code-partial",
        "claude-code-two-turns",
        "claude-code-permission",
        "claude-code-429",
        "claude-code-429-hard",
        "claude-code-401-killed",
        "claude-code-subagents",
        "codex-tool",
        "codex-429",
        "codex-429-hard",
    ] {
        insta::assert_snapshot!(name, of_sample(name));
    }
}

#[test]
fn text_and_single_results_are_one_turn_from_the_beginning_of_the_stream() {
    let text = |patterns: &[&str], text: &str, ending| {
        let patterns = patterns.iter().map(|pattern| Pattern::parse(pattern).expect(pattern)).collect();
        shown(&turns(StreamReader::new(StreamFormat::Text, patterns, None), text, ending))
    };
    assert_eq!(text(&[], "working\ndone\n", StreamEnding::Over), "0-3 ok - \n");
    let used = ["failed=^panic: (.*)", "tokens.total=used ([0-9]+)"];
    assert_eq!(text(&used, "used 12\npanic: no disk\n", StreamEnding::Over), "0-2 no disk - [12, 0, 0, 0, 0]\n");
    assert_eq!(text(&[], "working\n", StreamEnding::Interrupted), "0-2 interrupted - \n");
    assert_eq!(text(&[], "", StreamEnding::Over), "0-1 ended without any output - \n");
    // Of a result alone the beginning is known by how long it took.
    let result = r#"{"type":"result","subtype":"success","is_error":false,"session_id":"s","duration_ms":700,"total_cost_usd":0.25,"usage":{"input_tokens":5,"output_tokens":7}}"#;
    let reader = StreamReader::new(StreamFormat::Auto, Vec::new(), None);
    assert_eq!(shown(&turns(reader, result, StreamEnding::Over)), "0-1 ok s [5, 7, 0, 0, 0] $0.250000\n");
    let gemini = concat!(
        r#"{"type":"init","session_id":"g","model":"gemini-3-pro"}"#,
        "\n",
        r#"{"type":"tool_use","tool_name":"read_file","tool_id":"r-1","parameters":{"path":"secret.txt"}}"#,
        "\n",
        r#"{"type":"tool_result","tool_id":"r-1","status":"error","output":"no such file"}"#,
        "\n",
        r#"{"type":"result","status":"success","stats":{"total_tokens":12,"input_tokens":5,"output_tokens":7,"cached":0}}"#,
        "\n",
    );
    let reader = StreamReader::new(StreamFormat::Auto, Vec::new(), None);
    let expected = "1-4 ok g [5, 7, 0, 0, 0]\n  2<1 tool read_file 2-3 (failed)\n";
    assert_eq!(shown(&turns(reader, gemini, StreamEnding::Over)), expected);
}

#[test]
fn what_waits_is_bounded_and_counted() {
    let mut text = String::from("{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s\",\"model\":\"m\"}\n");
    for number in 0..3_000 {
        let call = format!("\"content\":[{{\"type\":\"tool_use\",\"id\":\"t{number}\",\"name\":\"Bash\"}}]");
        let result = format!("\"content\":[{{\"type\":\"tool_result\",\"tool_use_id\":\"t{number}\"}}]");
        writeln!(text, "{{\"type\":\"assistant\",\"session_id\":\"s\",\"message\":{{\"id\":\"m{number}\",{call}}}}}")
            .expect("text");
        writeln!(text, "{{\"type\":\"user\",\"session_id\":\"s\",\"message\":{{{result}}}}}").expect("text");
    }
    let all = turns(StreamReader::new(StreamFormat::Auto, Vec::new(), None), &text, StreamEnding::Over);
    assert_eq!((all.len(), all[0].spans.len(), all[0].dropped), (1, 2_000, 4_000));
}
