//! Recorded streams of the real tools, and lines that mean harm.

mod text;
mod turns;

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::ingest::encode_state;
use crate::model::{Batch, Patch};

fn now() -> Time {
    Time::parse("2026-11-21T02:00:00Z").expect("time")
}

fn sample(name: &str) -> String {
    let file = format!("{}/tests/it/samples/stream/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What is known after each line of a sample, and at its end.
fn watch(format: StreamFormat, text: &str) -> (Vec<(&'static str, String)>, StreamReader) {
    let mut reader = StreamReader::new(format, Vec::new(), None);
    let mut seen: Vec<(&'static str, String)> = Vec::new();
    let mut note = |reader: &StreamReader| {
        let now = (reader.state().status.as_str(), reader.state().reason.clone().unwrap_or_default());
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    };
    for line in text.lines() {
        reader.lines(now(), line.as_bytes());
        note(&reader);
    }
    reader.finish(now(), StreamEnding::Over);
    note(&reader);
    (seen, reader)
}

fn check(name: &str, course: &[(&'static str, &str)], whole: [Option<u64>; 9], cost_usd: Option<f64>) -> StreamReader {
    let (seen, reader) = watch(StreamFormat::Auto, &sample(name));
    let seen: Vec<(&str, &str)> = seen.iter().map(|(status, reason)| (*status, reason.as_str())).collect();
    assert_eq!(seen, course, "{name}");
    let counts = &reader.state().counts;
    assert_eq!(counts.whole, whole, "{name}");
    // Money is read to the last bit but one.
    assert!((counts.cost_usd.unwrap_or(-1.0) - cost_usd.unwrap_or(-1.0)).abs() < 1e-12, "{name}: {counts:?}");
    reader
}

#[test]
fn a_result_of_claude_code_counts_its_cost_without_usage() {
    let init = r#"{"type":"system","subtype":"init","session_id":"s","model":"claude-opus-4-5"}"#;
    let result = r#"{"type":"result","subtype":"success","is_error":false,"session_id":"s","total_cost_usd":0.25,"result":"ok"}"#;
    let (_, reader) = watch(StreamFormat::Auto, &format!("{init}\n{result}\n"));
    assert_eq!(reader.state().counts.cost_usd, Some(0.25));
}

#[test]
fn claude_code_reports_status_and_usage() {
    let reader = check(
        "claude-code-tool",
        &[("running", ""), ("running", "runs Bash"), ("running", ""), ("completed", "")],
        [Some(3748), Some(114), Some(40_960), Some(624), None, Some(2), Some(0), Some(0), Some(0)],
        Some(0.028_584),
    );
    assert_eq!(reader.agent_type(), Some("claude-code"));
    assert_eq!(reader.state().model.as_deref(), Some("claude-opus-5-5"));
    assert_eq!(reader.state().task.as_deref(), Some("b2e5dc67-3ee5-4023-bd64-ff3b053c95a7"));
    // Every answer in pieces as well: each counts once, and what it wrote is known before the result.
    check(
        "claude-code-partial",
        &[
            ("running", ""),
            ("running", "retrying after 429, rate limit, 1 of 10"),
            ("running", "retrying after 429, rate limit, 2 of 10"),
            ("running", ""),
            ("running", "runs Bash"),
            ("running", ""),
            ("completed", ""),
        ],
        [Some(3748), Some(114), Some(40_960), Some(624), None, Some(4), Some(2), Some(2), Some(2)],
        Some(0.04597),
    );
    let text = sample("claude-code-partial");
    let before_result = text.trim_end().rsplit_once('\n').expect("lines").0;
    assert_eq!(watch(StreamFormat::Auto, before_result).1.state().counts.whole[..2], [Some(3748), Some(114)]);
}

#[test]
fn claude_code_waits_for_permission_and_only_the_tool_is_named() {
    let reader = check(
        "claude-code-permission",
        &[
            ("running", ""),
            ("running", "runs Bash"),
            ("waiting_question", "permission to run Bash"),
            ("running", ""),
            ("completed", ""),
        ],
        [Some(3748), Some(114), Some(40_960), Some(624), None, Some(2), Some(0), Some(0), Some(0)],
        Some(0.04597),
    );
    assert_eq!(reader.state().limit, state::LimitState::Unknown);
}

#[test]
fn rate_limits_and_their_end_are_detected() {
    let reader = check(
        "claude-code-429",
        &[
            ("running", ""),
            ("running", "retrying after 429, rate limit, 1 of 10"),
            ("running", "retrying after 429, rate limit, 2 of 10"),
            ("running", ""),
            ("completed", ""),
        ],
        [Some(1874), Some(57), Some(20_480), Some(312), None, Some(3), Some(2), Some(2), Some(2)],
        Some(0.014_292),
    );
    assert_eq!(reader.state().limit, state::LimitState::Lifted);
    let text = sample("claude-code-429");
    let limited: Vec<&str> = text.lines().take(2).collect();
    let (_, reader) = watch(StreamFormat::Auto, &limited.join("\n"));
    let until = Time::from_millis(now().as_millis() + 1203);
    assert_eq!(reader.state().limit, state::LimitState::Until("anthropic", Some(until)));
    assert_eq!(reader.state().reason.as_deref(), Some("ended without a result"));
}

/// What is known at the end of bytes that come as `pipe` gets them, in pieces of `size`.
fn piped(bytes: &[u8], size: usize) -> StreamReader {
    struct DirectLane(StreamReader);
    impl skim::Lane for DirectLane {
        fn offer(&mut self, piece: skim::Piece) -> Option<skim::Piece> {
            if let skim::Piece::Lines(lines) = piece {
                lines.parts().into_iter().for_each(|part| self.0.lines(now(), part));
            }
            None
        }
        fn hand(&mut self, piece: skim::Piece) {
            self.offer(piece);
        }
        fn buffer(&mut self) -> Vec<u8> {
            Vec::new()
        }
        fn needs(&self) -> Option<skim::Keep> {
            None
        }
    }
    let mut reader = DirectLane(StreamReader::new(StreamFormat::Auto, Vec::new(), None));
    let mut skimmer = skim::Skimmer::new(reader.0.keep(), reader.0.reads_documents());
    for piece in bytes.chunks(size) {
        skimmer.take(piece.to_vec(), piece.len(), &mut reader);
    }
    skimmer.finish(&mut reader);
    reader.0.finish(now(), StreamEnding::Over);
    reader.0
}

/// The run of Claude Code whose usage is in its messages.
fn messages(is_error: bool, answer: &str) -> serde_json::Value {
    let usage = serde_json::json!({"input_tokens": 50, "output_tokens": 70});
    serde_json::json!([
        {"type": "system", "subtype": "init", "session_id": "s", "model": "m", "tools": []},
        {"type": "assistant", "message": {"id": "1", "model": "m", "content": [{"type": "text", "text": answer}], "usage": usage}, "session_id": "s"},
        {"type": "result", "subtype": if is_error { "error_during_execution" } else { "success" }, "is_error": is_error, "session_id": "s", "total_cost_usd": 0.1, "usage": usage, "result": answer},
    ])
}

#[test]
fn json_is_parsed_in_any_layout() {
    let long = "what a \"long\" answer, \u{1f916}\n ".repeat(40_000);
    for (is_error, status) in [(false, AgentStatus::Completed), (true, AgentStatus::Failed)] {
        for answer in ["x", "}]\n[{\"", &long] {
            let run = messages(is_error, answer);
            let result = run[2].to_string();
            let pretty = |value: &serde_json::Value| serde_json::to_string_pretty(value).expect("JSON");
            for text in [
                run.to_string(),
                pretty(&run),
                result.clone(),
                pretty(&run[2]),
                format!("\u{feff}{run}"),
                format!("\u{feff}{result}"),
                format!("a warning\n{}\nanother\n", pretty(&run)),
                pretty(&run).replace('\n', "\r\n"),
                format!("{run}\n{run}\n"),
                format!("{}{}", pretty(&run), pretty(&run)),
            ] {
                // A long text in chunks of one byte adds nothing.
                for size in if text.len() > 10_000 { &[128 * 1024][..] } else { &[1, 5, 1 << 20] } {
                    let state = piped(text.as_bytes(), *size).state().clone();
                    let runs = if text.matches("\"result_index").count() == 0 { state.counts.cost_usd } else { None };
                    assert_eq!(state.status, status, "{:.200} {size}", text);
                    assert!(runs.is_some_and(|cost| (0.1..=0.2).contains(&cost)), "{:.200}: {runs:?}", text);
                    assert_eq!(state.counts.whole[1].map(|output| output % 70), Some(0));
                }
            }
        }
    }
}

/// How a run ended, and what it used.
fn ended(text: &str, size: usize) -> (Option<AgentStatus>, Option<u64>) {
    let state = piped(text.as_bytes(), size).state().clone();
    ((!state.ended).then_some(state.status), state.counts.whole[1])
}

#[test]
fn an_invalid_value_costs_only_itself() {
    let bad: [(&str, &[u8]); 6] = [
        ("\"@\"", br#""hi \ud83d there""#),
        ("\"@\"", b"\"a\x01b\tc\x1b[0m\""),
        ("\"@\"", b"\"a\xff\xfe\""),
        ("\"@\"", br#""C:\Users""#),
        ("\"@\"", b"[NaN, -Infinity, 1e999]"),
        ("0.1", b"NaN"),
    ];
    let run = messages(false, "@");
    let pretty = |value: &serde_json::Value| serde_json::to_string_pretty(value).expect("JSON");
    let lines: String = run.as_array().expect("lines").iter().map(|line| format!("{line}\n")).collect();
    let codex = r#"{"type":"thread.started","thread_id":"s","x":"@"}
{"type":"item.completed","item":{"type":"agent_message","text":"@"}}
{"type":"turn.completed","usage":{"input_tokens":50,"output_tokens":70},"error":"@","cost":0.1}
"#;
    let gemini = r#"{"session_id":"s","response":"@","cost":0.1,"stats":{"models":{"m":{"tokens":{"prompt":50,"candidates":70}}}}}"#;
    let skipped = gemini.replace("\"@\"", "\"\",\"x\":\"@\"");
    let gemini_lines = r#"{"type":"init","session_id":"s","model":"auto"}
{"type":"result","status":"success","x":"@","cost":0.1,"error":"@","stats":{"total_tokens":120,"input_tokens":50,"output_tokens":70}}
"#;
    let gemini_pretty = pretty(&serde_json::from_str(gemini).expect("JSON"));
    let texts = [
        run[2].to_string(),
        run.to_string(),
        pretty(&run[2]),
        pretty(&run),
        lines,
        codex.to_owned(),
        gemini.to_owned(),
        skipped,
        gemini_pretty,
        gemini_lines.to_owned(),
    ];
    for text in &texts {
        for (place, value) in bad {
            for mark in ["", "\u{feff}"] {
                let parts: Vec<&[u8]> = text.split(place).map(str::as_bytes).collect();
                let bytes = [mark.as_bytes(), &parts.join(value)].concat();
                for size in [1, 7, 1 << 20] {
                    let state = piped(&bytes, size).state().clone();
                    let shown = String::from_utf8_lossy(&bytes);
                    assert!(!state.ended, "{size}: {shown}");
                    assert_eq!((state.status, state.counts.whole[1]), (AgentStatus::Completed, Some(70)), "{shown}");
                }
            }
        }
    }
    let cursor = br#"{"type":"system","subtype":"init","session_id":"s","model":"Auto"}
{"type":"tool_call","subtype":"started","args":"\ud83d","session_id":"s"}
{"type":"result","subtype":"success","is_error":false,"duration_ms":NaN,"result":"\ud83d","session_id":"s"}
"#;
    let reader = piped(cursor, 7);
    assert_eq!((reader.state().status, reader.agent_type()), (AgentStatus::Completed, Some("cursor")));
}

#[test]
fn the_result_line_decides_how_a_run_ended() {
    use AgentStatus::{Completed, Failed};
    for (fields, expected) in [
        (r#""is_error":"true","subtype":"success""#, Some(Failed)),
        (r#""is_error":"True","subtype":null"#, Some(Failed)),
        (r#""is_error":"false","subtype":"success""#, Some(Completed)),
        (r#""is_error":false"#, Some(Completed)),
        (r#""is_error":null,"subtype":"success""#, Some(Completed)),
        (r#""is_error":null,"subtype":"error_max_turns""#, Some(Failed)),
        (r#""is_error":null,"subtype":null"#, None),
        (r#""is_error":NaN"#, None),
        (r#""is_error":null,"api_error_status":500"#, Some(Failed)),
    ] {
        let result =
            format!("{{\"type\":\"result\",{fields},\"session_id\":\"s\",\"usage\":{{\"output_tokens\":7}}}}\n");
        assert_eq!(ended(&result, 9), (expected, Some(7)), "{fields}");
        let init = "{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s\"}\n";
        assert_eq!(ended(&format!("{result}{init}"), 9).0, Some(Failed), "a run that began after it and has no end");
        let call = "{\"type\":\"tool_call\",\"session_id\":\"s\"}\n";
        if !fields.contains("api_error") {
            assert_eq!(ended(&format!("{init}{call}{result}"), 9).0, expected, "Cursor: {fields}");
        }
    }
    for (fields, expected) in [("\"success\"", Some(Completed)), ("\"error\"", Some(Failed)), ("null", None)] {
        let lines = format!(
            "{{\"type\":\"init\",\"session_id\":\"s\"}}\n{{\"type\":\"result\",\"status\":{fields},\"stats\":{{\"total_tokens\":7,\"output_tokens\":7}}}}\n"
        );
        assert_eq!(ended(&lines, 9), (expected, Some(7)), "Gemini CLI: {fields}");
    }
}

#[test]
fn an_unknown_result_is_neither_success_nor_failure() {
    for text in [
        "hello\n",
        "{\"answer\": 42}\n",
        "{\n  \"answer\": 42\n}\n",
        "[{\"a\": 1}]",
        "[{\"type\": \"result\"",
        "[1, 2]",
    ] {
        let reader = piped(text.as_bytes(), 3);
        let state = reader.state();
        let update = state.update("a", &state.counts, None);
        assert!(update.ended && update.status.is_none(), "{text}");
        assert_eq!(state.reason.as_deref(), Some("ended with an unknown result"));
    }
    // Nor is a run that a format began and did not end a success.
    assert_eq!(
        piped(b"[{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s\"}]", 9).state().status,
        AgentStatus::Failed
    );
}

#[test]
fn gemini_cli_reports_result_and_usage() {
    let stream = r#"{"type":"init","timestamp":"2026-11-29T22:10:59Z","session_id":"s","model":"auto"}
{"type":"message","role":"user","content":"How many?"}
{"type":"tool_use","tool_name":"read_file","tool_id":"1"}
{"type":"tool_result","tool_id":"1","status":"error"}
{"type":"result","status":"success","stats":{"total_tokens":12366,"input_tokens":12243,"output_tokens":87,"cached":8000,"input":4243}}
"#;
    let reader = piped(stream.as_bytes(), 7);
    let (state, tokens) = (reader.state(), [Some(4243), Some(87), Some(8000), Some(0), Some(36)]);
    assert_eq!(
        (state.status, reader.agent_type(), &state.counts.whole[..5]),
        (AgentStatus::Completed, Some("gemini-cli"), &tokens[..])
    );
    let object = r#"{
  "session_id": "s",
  "response": "three",
  "stats": {"models": {"m": {"tokens": {"input": 2121, "prompt": 6121, "candidates": 43, "cached": 4000, "thoughts": 18, "tool": 0}},
    "n": {"tokens": {"prompt": 6122, "candidates": 44, "cached": 4000, "thoughts": 18, "tool": 0}}}}
}"#;
    let reader = piped(object.as_bytes(), 7);
    assert_eq!((reader.state().status, &reader.state().counts.whole[..5]), (AgentStatus::Completed, &tokens[..]));
    let failed = r#"{
  "session_id": "s",
  "error": {"type": "Error", "message": "429 RESOURCE_EXHAUSTED. Please retry in 34s.", "code": 429}
}"#;
    let state = piped(failed.as_bytes(), 7).state().clone();
    let until = Time::from_millis(now().as_millis() + 34_000);
    assert_eq!((state.status, state.limit), (AgentStatus::Failed, state::LimitState::Until("google", Some(until))));
}

#[test]
fn cursor_reports_its_result() {
    let stream = r#"{"type":"system","subtype":"init","apiKeySource":"login","cwd":"/x","session_id":"s","model":"Auto"}
{"type":"tool_call","subtype":"started","call_id":"1","session_id":"s"}
{"type":"result","subtype":"success","is_error":false,"duration_ms":1,"result":"done","session_id":"s","request_id":"r"}
"#;
    let reader = piped(stream.as_bytes(), 7);
    assert_eq!((reader.state().status, reader.agent_type()), (AgentStatus::Completed, Some("cursor")));
}

#[test]
fn the_end_of_a_rate_limit_is_found_in_any_field() {
    // In local time, where no zone is named: that of the tests' machine.
    let local = |text: &str| retry_at(text, now());
    let claude = "You've hit your weekly limit · resets Nov 24, 7am (Europe/Zurich)";
    let result = |more: &str| {
        format!(
            "{{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,{more}\"result\":\"{claude}\",\"session_id\":\"s\",\"total_cost_usd\":0}}"
        )
    };
    let at = |text: &str| Time::parse(text);
    let codex = "You’ve hit your usage limit. Upgrade or try again at Nov 24th, 2026 4:15 AM.";
    let failed = |message: &str| {
        format!(
            "{{\"type\":\"thread.started\",\"thread_id\":\"t\"}}\n{{\"type\":\"turn.failed\",\"error\":{{\"message\":\"{message}\"}}}}"
        )
    };
    let event = "{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\",\"resetsAt\":1795273200},\"session_id\":\"s\"}";
    let synthetic = format!(
        "{{\"type\":\"assistant\",\"message\":{{\"model\":\"<synthetic>\",\"content\":[{{\"type\":\"text\",\"text\":\"{claude}\"}}]}},\"session_id\":\"s\",\"error\":\"rate_limit\"}}"
    );
    for (text, until) in [
        (result("\"api_error_status\":429,"), at("2026-11-24T06:00:00Z")),
        (result("\"api_error\":\"usage_limit_reached\","), at("2026-11-24T06:00:00Z")),
        (result(""), at("2026-11-24T06:00:00Z")),
        (synthetic, at("2026-11-24T06:00:00Z")),
        (
            format!("{event}\n{}", result("\"api_error_status\":429,").replace(claude, "later")),
            at("2026-11-21T15:00:00Z"),
        ),
        (failed(codex), local(codex)),
        (failed("usage limit; try again in 2 days 17 hours 14 minutes."), at("2026-11-23T19:14:00Z")),
        // What tools print for people.
        (claude.to_owned(), at("2026-11-24T06:00:00Z")),
        (format!("thinking\nERROR: {codex}\n\n"), local(codex)),
    ] {
        let state = piped(text.as_bytes(), 11).state().clone();
        let state::LimitState::Until(_, found) = state.limit else { panic!("{text}: {state:?}") };
        assert_eq!((found, found.is_some(), state.status), (until, true, AgentStatus::Failed), "{text}");
    }
    assert_eq!(piped(b"the rate limiter is done\n", 3).state().limit, state::LimitState::Unknown);
}

#[test]
fn an_overloaded_provider_is_not_a_rate_limit() {
    let retry = |status: u32| {
        format!(
            "{{\"type\":\"system\",\"subtype\":\"api_retry\",\"attempt\":1,\"max_retries\":10,\"retry_delay_ms\":600,\"error_status\":{status},\"session_id\":\"s\"}}"
        )
    };
    for (status, hits) in [(429, 1), (529, 0), (500, 0)] {
        let (_, reader) = watch(StreamFormat::Auto, &retry(status));
        assert_eq!(reader.state().counts.whole[5..], [Some(1), Some(1), Some(hits), Some(1)], "{status}");
        assert_eq!(reader.state().limit != state::LimitState::Unknown, hits == 1, "{status}");
    }
}

#[test]
fn the_end_of_codex_limits_is_parsed_from_text() {
    let limit = |text: &str| {
        let line = format!("{{\"type\":\"turn.started\"}}\n{{\"type\":\"error\",\"message\":\"{text}\"}}");
        watch(StreamFormat::Auto, &line).1.state().limit.clone()
    };
    let until = Time::from_millis(now().as_millis() + 20_000);
    assert_eq!(
        limit("Reconnecting... 1/5 (Rate limit reached for m in organization o, try again in 20s)"),
        state::LimitState::Until("openai", Some(until))
    );
    assert_eq!(
        limit("Reconnecting... 1/5 (last status: 429 Too Many Requests)"),
        state::LimitState::Until("openai", None)
    );
    assert_eq!(limit("Reconnecting... 1/5 (stream disconnected)"), state::LimitState::Unknown);
}

#[test]
fn failed_runs_have_a_reason() {
    let failed = |name, reason, whole| {
        let (seen, reader) = watch(StreamFormat::Auto, &sample(name));
        assert_eq!(seen.last(), Some(&("failed", String::from(reason))), "{name}");
        assert_eq!(reader.state().counts.whole[5..], whole, "{name}");
    };
    failed("claude-code-429-hard", "429, rate limit", [Some(2), Some(2), Some(2), Some(1)]);
    failed("claude-code-401-killed", "ended without a result", [Some(7), Some(7), Some(0), Some(7)]);
    failed("codex-429-hard", "429, rate limit", [None, Some(1), Some(1), Some(0)]);
    let line = r#"{"type":"result","subtype":"error_max_turns","is_error":false,"session_id":"s"}"#;
    assert_eq!(watch(StreamFormat::Auto, line).0, [("failed", "error max turns".to_owned())]);
    // An error in free text is none of our words.
    let line = r#"{"type":"result","subtype":"Ada failed","is_error":true,"session_id":"s"}"#;
    assert_eq!(watch(StreamFormat::Auto, line).0, [("failed", "an error".to_owned())]);
}

#[test]
fn totals_include_turns_subagents_and_processes_once() {
    // 11 requests of the model server, 1874 tokens in, 57 out, 20480 read and 312 written each.
    let (_, reader) = watch(StreamFormat::ClaudeCode, &sample("claude-code-subagents"));
    assert_eq!(reader.state().counts.whole[..4], [Some(20_614), Some(627), Some(225_280), Some(3432)]);
    assert!((reader.state().counts.cost_usd.expect("cost") - 0.252_835).abs() < 1e-9);
    // Two turns of one process: the second total contains the first.
    let turns = sample("claude-code-two-turns");
    let (_, reader) = watch(StreamFormat::Auto, &turns);
    assert_eq!(reader.state().counts.whole[..4], [Some(3748), Some(114), Some(40_960), Some(624)]);
    // Three processes in one pipe, as in a loop: whether the session is the same or another one.
    for again in [turns.clone(), turns.replace("eadbec72", "0adbec72")] {
        let (_, reader) = watch(StreamFormat::Auto, &format!("{turns}{again}{turns}"));
        assert_eq!(reader.state().counts.whole[..4], [Some(11_244), Some(342), Some(122_880), Some(1872)]);
        assert!((reader.state().counts.cost_usd.expect("cost") - 0.13791).abs() < 1e-9);
    }
}

#[test]
fn totals_make_up_for_skipped_lines() {
    for name in [
        "claude-code-two-turns",
        "claude-code-subagents",
        "claude-code-partial",
        "claude-code-429",
        "codex-tool",
        "codex-429",
    ] {
        let text = sample(name);
        let whole = watch(StreamFormat::Auto, &text).1;
        let kept: Vec<&str> = text.lines().filter(|line| !is_minor(line.as_bytes())).collect();
        assert!(kept.len() < text.lines().count());
        let sifted = watch(StreamFormat::Auto, &kept.join("\n")).1;
        assert_eq!(sifted.state().counts.whole[..5], whole.state().counts.whole[..5], "{name}");
        assert_eq!(sifted.state().counts.whole[6..], whole.state().counts.whole[6..], "{name}");
        assert_eq!(sifted.state().counts.cost_usd, whole.state().counts.cost_usd, "{name}");
        assert_eq!(sifted.state().status, AgentStatus::Completed, "{name}");
    }
}

#[test]
fn codex_reports_status_and_usage() {
    let reader = check(
        "codex-tool",
        &[("running", ""), ("running", "runs a command"), ("running", ""), ("completed", "")],
        // Cached input is inside its input, reasoning inside its output.
        [Some(2268), Some(96), Some(8192), Some(0), Some(32), None, Some(0), Some(0), Some(0)],
        None,
    );
    assert_eq!(reader.agent_type(), Some("codex"));
    assert_eq!(reader.state().task.as_deref(), Some("01a1fc12-b713-70d2-9c80-4f7868a19397"));
    check(
        "codex-429",
        &[("running", ""), ("running", "retrying after 429, rate limit"), ("running", ""), ("completed", "")],
        [Some(1134), Some(48), Some(4096), Some(0), Some(16), None, Some(1), Some(1), Some(1)],
        None,
    );
    // The total of a resumed thread includes the earlier run, which is counted once in one pipe.
    let run = format!(
        "{}{}",
        sample("codex-tool").replace("01a1fc12-b713-70d2-9c80-4f7868a19397", "01a1fe7c-3244-74c1-9020-7584e6158e01"),
        sample("codex-resumed")
    );
    let (_, reader) = watch(StreamFormat::Codex, &run);
    assert_eq!(reader.state().counts.whole[..5], [Some(3402), Some(144), Some(12_288), Some(0), Some(48)]);
}

#[test]
fn a_given_task_is_not_replaced() {
    let mut reader = StreamReader::new(StreamFormat::Auto, Vec::new(), Some("ticket-7"));
    reader.lines(now(), sample("codex-tool").as_bytes());
    assert_eq!(reader.state().task.as_deref(), Some("ticket-7"));
}

fn text(patterns: &[&str], lines: &str) -> RunState {
    let patterns = patterns.iter().map(|pattern| Pattern::parse(pattern).expect(pattern)).collect();
    let mut reader = StreamReader::new(StreamFormat::Auto, patterns, None);
    reader.lines(now(), lines.as_bytes());
    reader.state.clone()
}

#[test]
fn no_text_of_the_conversation_is_kept() {
    // Words of prompts, answers, arguments and outputs in the samples.
    let private = ["stock", "apples", "echo", "rm -rf", "shop", "srv", "Never", "account", "req_"];
    for name in [
        "claude-code-tool",
        "claude-code-permission",
        "claude-code-subagents",
        "claude-code-429-hard",
        "codex-tool",
        "codex-429",
        "codex-429-hard",
    ] {
        let text = sample(name);
        let mut reader = StreamReader::new(StreamFormat::Auto, Vec::new(), None);
        for line in text.lines() {
            reader.lines(now(), line.as_bytes());
            let update = reader.state().update("a", &reader.state().counts, Some(now()));
            let body = encode_state(&Batch { project: "p".into(), agents: vec![update], ..Batch::default() });
            for word in private {
                assert!(!body.contains(word), "{name}: `{word}` in {body}");
            }
        }
    }
}

#[test]
fn each_count_is_first_reported_as_zero() {
    let mut reported = RunCounts::default();
    let counts = RunCounts { whole: [Some(9), None, None, None, None, Some(2), None, None, None], cost_usd: Some(0.5) };
    let first = counts.after(&reported);
    assert_eq!((first.whole[0], first.whole[1], first.whole[5], first.cost_usd), (Some(0), None, Some(0), Some(0.0)));
    reported.note(&first);
    assert_eq!(counts.after(&reported), counts);
    // A resumed run starts only counts at zero that are not totals of the thread.
    let second = counts.after(&RunCounts::resumed());
    assert_eq!((second.whole[0], second.whole[5], second.cost_usd), (Some(9), Some(0), Some(0.5)));
}

#[test]
fn texts_are_cleaned() {
    let line = "{\"type\":\"control_request\",\"request\":{\"subtype\":\"can_use_tool\",\"tool_name\":\"\\u001b[31mB\\u202eash\\n\"}}";
    let (seen, _) = watch(StreamFormat::ClaudeCode, line);
    assert_eq!(seen[0], ("waiting_question", "permission to run Bash".to_owned()));
    let reader = StreamReader::new(StreamFormat::Auto, Vec::new(), None);
    let reason = reader.state().update("a", &RunCounts::default(), None).reason;
    assert_eq!(reason, Patch::<Cow<'_, str>>::Clear);
}

/// Pieces of real lines, torn and mixed with anything.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<String> =
        ["claude-code-partial", "claude-code-permission", "claude-code-429-hard", "codex-tool", "codex-429"]
            .iter()
            .flat_map(|name| sample(name).lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
    let part = prop_oneof![
        4 => (proptest::sample::select(lines), any::<proptest::sample::Index>(), any::<bool>()).prop_map(|(line, at, whole)| {
            let end = if whole { line.len() } else { at.index(line.len()) };
            [&line.as_bytes()[..end], b"\n"].concat()
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => Just(b"{\"type\":\"result\",\"session_id\":1,\"usage\":[],\"modelUsage\":{\"x\":{\"inputTokens\":1e300,\"outputTokens\":-1}},\"total_cost_usd\":-5}\n".to_vec()),
        1 => Just(b"{\"type\":\"turn.completed\",\"usage\":{\"input_tokens\":18446744073709551615,\"cached_input_tokens\":9007199254740992}}\n".to_vec()),
        1 => Just([b"{\"type\":\"assistant\",\"message\":".as_slice(), &b"[".repeat(5000), b"\n"].concat()),
        1 => Just(b"\0\0\xff\xfe\n\r\r\n".to_vec()),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn passing_lines_over_at_a_glance_changes_nothing(
        blocks in proptest::collection::vec(proptest::collection::vec(proptest::sample::select(vec![
            "used 12", "used 7,000", "used", "panic: disk", "ERR", "[y/N]", "\u{1b}[1m", "us\u{1b}[0med 9", "\r", "\n", "\n",
            " ", "{", "words", "\u{fffd}",
        ]), 0..12), 1..5),
        is_text in any::<bool>(), count in 1..6_usize,
    ) {
        // Letters of the last one are not known, so that with it every line is tried.
        let patterns = || {
            ["tokens.input=used (\\S+)", "failed=^panic: (.*)", "errors=ERR", "waiting_question=(\\[y/N\\])", "retries=\u{fffd}"]
                .map(|text| Pattern::parse(text).expect(text))
        };
        let format = if is_text { StreamFormat::Text } else { StreamFormat::Auto };
        let mut glancing = StreamReader::new(format, patterns()[..count].to_vec(), None);
        let mut trying = StreamReader::new(format, patterns().map(Pattern::without_letters)[..count].to_vec(), None);
        for block in blocks {
            let block = format!("{}\n", block.concat());
            glancing.lines(now(), block.as_bytes());
            trying.lines(now(), block.as_bytes());
            prop_assert_eq!(glancing.state(), trying.state());
            prop_assert_eq!(glancing.is_empty, trying.is_empty);
        }
    }

    #[test]
    fn hostile_lines_do_no_harm(stream in hostile(), format in 0..4_usize) {
        let format = [StreamFormat::Auto, StreamFormat::ClaudeCode, StreamFormat::Codex, StreamFormat::Text][format];
        let patterns = ["failed=panic", "tokens.input=(\\d+)", "phase=(.*)"].map(|text| Pattern::parse(text).expect("pattern"));
        let mut reader = StreamReader::new(format, patterns.to_vec(), None);
        let mut before = RunCounts::default();
        for line in stream.split_inclusive(|byte| *byte == b'\n') {
            reader.lines(now(), line);
            reader.open_line(line);
            // Counts never go down, and every report is accepted by a sidecar.
            let state = reader.state();
            for (now, before) in state.counts.whole.iter().zip(before.whole) {
                prop_assert!(*now >= before);
            }
            prop_assert!(state.counts.cost_usd >= before.cost_usd);
            before = state.counts.clone();
            let update = state.update("a", &state.counts, Some(now()));
            let body = encode_state(&Batch { project: "p".into(), agents: vec![update], ..Batch::default() });
            let read = crate::ingest::decode_state(&body, now()).expect("a body");
            prop_assert!(read.rejected.is_empty(), "{:?} in {}", read.rejected, body);
        }
        reader.finish(now(), StreamEnding::Over);
        prop_assert!(reader.state().ended || reader.state().status.is_over());
    }
}
