//! Tests of writing and reading a recording.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::model::hook::SessionEvent;
use crate::model::{
    Fingerprint, Hook, Matchers, RunStatus, RunSummary, Silence, SourceError, SourceErrorReason, TraceId,
};

fn at(seconds: i64) -> Time {
    Time::from_millis(1_767_225_600_000 + seconds * 1000)
}

fn state(text: &str) -> RecordedInput {
    RecordedInput::State(text.to_owned().into())
}

/// Every line, as seconds and content.
fn lines(path: &Path) -> (Vec<String>, u64) {
    let mut reading = RecordingReader::open(path).expect("a recording");
    let mut lines = Vec::new();
    while let Some(entry) = reading.next_entry().expect("readable") {
        let text = |body: &[u8]| String::from_utf8(body.to_vec()).expect("text");
        let content = match entry.content {
            EntryContent::Start => "start".to_owned(),
            EntryContent::Stop => "stop".to_owned(),
            EntryContent::Dropped(count) => format!("dropped {count}"),
            EntryContent::Input(RecordedInput::State(body)) => format!("state {}", text(&body)),
            EntryContent::Input(RecordedInput::Usage(body)) => format!("usage {}", text(&body)),
            EntryContent::Input(RecordedInput::Metrics(body)) => format!("metrics {}", text(&body)),
            EntryContent::Input(RecordedInput::Hook(hook)) => {
                format!("hook {} {} {:?}", hook.project, hook.agent, hook.event)
            }
            EntryContent::Input(RecordedInput::Runs(runs)) => {
                let shown = |run: &RunSummary| format!("{} {} {}", run.agent, run.id, run.status.as_str());
                format!("runs {}", runs.iter().map(shown).collect::<Vec<_>>().join(", "))
            }
            EntryContent::Input(RecordedInput::Poll { source, result: Ok(states) }) => {
                format!("poll {source} {}", states.join(" "))
            }
            EntryContent::Input(RecordedInput::Poll { source, result: Err(error) }) => {
                format!("poll {source} {} {}", error.reason.as_str(), error.message)
            }
            EntryContent::Input(RecordedInput::Silence(silence)) => {
                format!("silence {} {} until {}", silence.id, silence.matchers, silence.ends_at)
            }
            EntryContent::Input(RecordedInput::Unsilence { id, by }) => format!("unsilence {id} {by}"),
            EntryContent::Input(RecordedInput::Ack { fingerprint, by, comment }) => {
                format!("ack {fingerprint} {by} {comment}")
            }
        };
        lines.push(format!("{} {content}", entry.at.as_millis().saturating_sub(at(0).as_millis()) / 1000));
    }
    (lines, reading.unreadable())
}

#[tokio::test]
async fn recorded_input_is_read_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("lookout.record");
    let recorder = Recorder::open(&path, 1 << 20, at(0)).expect("a recorder");
    recorder.record(at(1), state("{\n  \"agents\": [{\"name\": \"a\\nb\"}]\r\n}"));
    recorder.record(at(2), RecordedInput::Usage(r#"{"usage": []}"#.into()));
    recorder.record(at(2), RecordedInput::Metrics(r#"{"metrics": []}"#.into()));
    let step = SessionEvent::PermissionRequested("Bash".into());
    let (project, agent, agent_type) = ("shop".into(), "a\"b".into(), "claude-code".into());
    let (session, retry_at) = (u64::MAX, None);
    let hook = Hook { project, agent, agent_type, session, subagent: None, event: step, retry_at, stop: None };
    recorder.record(at(2), RecordedInput::Hook(hook));
    let run = RunSummary {
        project: "shop".into(),
        agent: "a\"b".into(),
        agent_type: "vanna".into(),
        id: TraceId::from_slice(&[7; 16]).expect("an id"),
        name: "nightly".into(),
        status: RunStatus::Abandoned,
        started_at: at(1),
        ended_at: Some(at(2)),
        cost_usd: Some(0.5),
        fallbacks: 2,
        platform: None,
        facts: crate::model::RunFacts::default(),
        error: None,
        history: None,
    };
    recorder.record(at(3), RecordedInput::Runs(vec![run]));
    let good = Ok(vec![r#"{"agents":[]}"#.to_owned(), r#"{"project":"q"}"#.to_owned()]);
    recorder.record(at(3), RecordedInput::Poll { source: "o\"r".into(), result: good });
    let error = SourceError { reason: SourceErrorReason::Timeout, message: "too \"late\"".to_owned() };
    recorder.record(at(4), RecordedInput::Poll { source: "orch".into(), result: Err(error) });
    let silence = Silence {
        id: "s-1".into(),
        matchers: Matchers::parse([("rule", "AgentIdle")]).expect("a label"),
        starts_at: at(4),
        ends_at: at(64),
        created_by: "ann".into(),
        comment: "".into(),
    };
    recorder.record(at(4), RecordedInput::Silence(silence));
    recorder.record(at(4), RecordedInput::Unsilence { id: "s-1".into(), by: "ann".into() });
    recorder
        .record(at(4), RecordedInput::Ack { fingerprint: Fingerprint(7), by: "bob".into(), comment: "mine".into() });
    recorder.close(at(5)).await;
    let recorder = Recorder::open(&path, 1 << 20, at(60)).expect("a recorder");
    recorder.close(at(61)).await;
    let expected = [
        "0 start",
        "1 state {   \"agents\": [{\"name\": \"a\\nb\"}]  }",
        "2 usage {\"usage\": []}",
        "2 metrics {\"metrics\": []}",
        "2 hook shop a\"b PermissionRequested(\"Bash\")",
        "3 runs a\"b 07070707070707070707070707070707 abandoned",
        "3 poll o\"r {\"agents\":[]} {\"project\":\"q\"}",
        "4 poll orch timeout too \"late\"",
        "4 silence s-1 rule=AgentIdle until 2026-01-01T00:01:04Z",
        "4 unsilence s-1 ann",
        "4 ack 0000000000000007 bob mine",
        "5 stop",
        "60 start",
        "61 stop",
    ];
    assert_eq!(lines(&path), (expected.map(str::to_owned).to_vec(), 0));
    assert_eq!(
        fs::metadata(&path).expect("a file").permissions().mode() & 0o777,
        0o600,
        "only the owner may read bodies"
    );
    assert_eq!(recorder.take_dropped(), 0);
}

#[tokio::test]
async fn both_files_stay_below_their_maximum() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("lookout.record");
    let recorder = Recorder::open(&path, 2_000, at(0)).expect("a recorder");
    for second in 1..200 {
        recorder.record(at(second), state(&format!("{{\"agents\":[],\"n\":{second}}}")));
    }
    // Larger than one file may be.
    recorder.record(at(200), state(&format!("{{\"x\":\"{}\"}}", "y".repeat(1_000))));
    recorder.record(at(201), state("{}"));
    recorder.close(at(202)).await;
    let size = |path: &Path| fs::metadata(path).expect("a file").len();
    assert!(size(&path) <= 1_000 && size(&dir.path().join("lookout.record.1")) <= 1_000);
    let (lines, unreadable) = lines(&path);
    assert_eq!(unreadable, 0);
    assert_eq!(lines[lines.len() - 3..], ["201 dropped 1", "201 state {}", "202 stop"]);
    let seconds: Vec<i64> =
        lines.iter().map(|line| line.split(' ').next().expect("a time").parse().expect("seconds")).collect();
    assert!(seconds.is_sorted() && seconds.len() > 20, "{lines:?}");
    assert_eq!(recorder.take_dropped(), 1);
    recorder.record(at(203), state("{}"));
    assert_eq!(recorder.take_dropped(), 1, "a closed recorder counts dropped input");
}

#[tokio::test]
async fn a_line_truncated_by_a_crash_is_skipped() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("lookout.record");
    fs::write(&path, "{\"at\":1767225600000,\"state\":{}}\n{\"at\":17672256").expect("a file");
    Recorder::open(&path, 1 << 20, at(9)).expect("a recorder").close(at(9)).await;
    assert_eq!(lines(&path), (["0 state {}", "9 start", "9 stop"].map(str::to_owned).to_vec(), 1));
}

#[test]
fn no_content_makes_the_reader_fail() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("hostile");
    let mut file = b"\xff\xfe\n[]\n{}\n{\"at\":\"x\",\"state\":{}}\n{\"at\":1,\"poll\":{\"source\":\"a\"}}\n".to_vec();
    file.extend(b"{\"at\":1e99,\"state\":{}}\n{\"at\":-9223372036854775808,\"dropped\":18446744073709551615}\n\n\0\n");
    file.extend("[".repeat(100_000).into_bytes());
    fs::write(&path, file).expect("a file");
    let (lines, unreadable) = lines(&path);
    assert_eq!((lines.len(), unreadable), (1, 9), "{lines:?}");
}

#[test]
fn a_missing_directory_is_an_error_with_the_path() {
    let error = Recorder::open(Path::new("/nowhere/at/all"), 1 << 20, at(0)).expect_err("no folder");
    assert!(error.to_string().starts_with("/nowhere/at/all: cannot record into the file"), "{error}");
}

#[tokio::test]
async fn a_file_removed_while_recording_is_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.record");
    let recorder = Recorder::open(&path, 1 << 20, Time::from_millis(1)).unwrap();
    std::fs::remove_file(&path).unwrap();
    recorder.record(Time::from_millis(2), RecordedInput::State("{\"project\":\"shop\"}".into()));
    recorder.close(Time::from_millis(3)).await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "{\"at\":2,\"state\":{\"project\":\"shop\"}}\n{\"at\":3,\"stop\":true}\n");
}
