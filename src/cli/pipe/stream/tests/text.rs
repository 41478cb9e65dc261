//! Text by patterns.

use super::*;

#[test]
fn lines_to_keep_depend_on_format_and_patterns() {
    let keep =
        |format, pattern: &str| StreamReader::new(format, vec![Pattern::parse(pattern).expect(pattern)], None).keep();
    for pattern in ["tokens.output=out ([0-9]+)", "cost_usd=\\$(\\S+)"] {
        for format in [StreamFormat::Text, StreamFormat::Auto] {
            assert!(matches!(keep(format, pattern), skim::Keep::Everything), "{pattern}");
        }
        assert!(matches!(keep(StreamFormat::Codex, pattern), skim::Keep::Unless(_)));
    }
    assert!(matches!(keep(StreamFormat::Text, "failed=^panic"), skim::Keep::Nothing));
    assert!(matches!(keep(StreamFormat::Auto, "failed=^panic"), skim::Keep::ObjectsUnless(_)));
}

#[test]
fn patterns_set_status_and_values() {
    let patterns = [
        "waiting_question=(Allow \\w+)\\?",
        "failed=^(panic): ",
        "errors=(?i)error",
        "rate_limited=429",
        "tokens.input=in: ([0-9,]+)",
        "cost_usd=cost: (\\S+)",
        "model=model (\\S+)",
        "progress=(\\d+)%",
        "phase=^== (.*) ==$",
    ];
    let state = text(
        &patterns,
        "model m-1\n== build ==\n10%\r 42%\r\nin: 1,234 cost: $0.50\nERROR 429\nin: 99\n\u{1b}[1mAllow \u{1b}[32mBash\u{1b}[0m? [y/N]\n",
    );
    assert_eq!((state.status, state.reason.as_deref()), (AgentStatus::WaitingQuestion, Some("Allow Bash")));
    assert_eq!(state.counts.whole, [Some(1234), None, None, None, None, None, Some(1), Some(1), None]);
    assert_eq!((state.counts.cost_usd, state.progress), (Some(0.5), Some(42.0)));
    assert_eq!((state.model.as_deref(), state.phase.as_deref()), (Some("m-1"), Some("build")));
    assert_eq!(text(&patterns, "Allow Bash?\nyes\n").status, AgentStatus::Running);
    assert_eq!(text(&patterns, "panic: x\nbacktrace\n").status, AgentStatus::Failed);
    assert_eq!(text(&patterns, "\u{1b}]0;building\u{7}panic: x\n").status, AgentStatus::Failed, "behind a title");
    // Nothing is counted before the first line, and what there is no pattern for stays unknown.
    assert_eq!(text(&["errors=x"], "").counts.whole[6..], [Some(0), None, None]);
}

#[test]
fn a_question_without_a_newline_is_detected() {
    let mut reader = StreamReader::new(
        StreamFormat::Text,
        vec![Pattern::parse("waiting_question=\\[y/N\\]").expect("pattern")],
        None,
    );
    reader.lines(now(), b"working\n");
    reader.open_line(b"Go on? [y/N] ");
    assert_eq!(reader.state().status, AgentStatus::WaitingQuestion);
    reader.lines(now(), b"Go on? [y/N] y\nworking\n");
    assert_eq!(reader.state().status, AgentStatus::Running);
    reader.finish(now(), StreamEnding::Over);
    assert!(reader.state().ended);
}

#[test]
fn the_end_of_text_gives_a_reason() {
    for (lines, ending, status, reason) in [
        ("a\n", StreamEnding::Over, AgentStatus::Running, Some("ended with an unknown result")),
        ("", StreamEnding::Over, AgentStatus::Failed, Some("ended without any output")),
        ("a\n", StreamEnding::Interrupted, AgentStatus::Failed, Some("interrupted")),
        ("a\n", StreamEnding::ReaderGone, AgentStatus::Failed, Some("the reader of its output closed the pipe")),
    ] {
        let mut reader = StreamReader::new(StreamFormat::Auto, Vec::new(), None);
        reader.lines(now(), lines.as_bytes());
        reader.finish(now(), ending);
        assert_eq!((reader.state().status, reader.state().reason.as_deref()), (status, reason));
    }
}

#[test]
fn invalid_patterns_are_rejected_with_a_remedy() {
    for (pattern, error) in [
        ("x", "`x` is not a pattern; use KEY=REGEX, such as 'waiting_question=Allow .*[?]'"),
        ("fialed=x", "unknown key `fialed`; did you mean `failed`?"),
        (
            "tokens.input=[0-9]+",
            "`[0-9]+` has no group for the value of `tokens.input`; put it in parentheses: `([0-9]+)`",
        ),
    ] {
        assert_eq!(Pattern::parse(pattern).expect_err(pattern).to_string(), error);
    }
    let error = Pattern::parse("failed=(").expect_err("half a group").to_string();
    assert!(error.starts_with("`(` is not a regular expression: unclosed group; escape"), "{error}");
    assert!(Pattern::parse(&format!("failed={}", "x".repeat(2000))).is_err());
    assert!(Pattern::parse("failed=((a{1000}){1000}){1000}").is_err());
}
