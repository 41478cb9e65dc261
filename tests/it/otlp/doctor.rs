//! `lookout doctor` with recorded exports of real tools.

use super::{receiver, recordings};
use crate::program::eventually;

pub(super) fn it_reports_missing_signals() {
    let receiver = receiver("");
    for recording in recordings() {
        let name = recording.file.to_string_lossy().into_owned();
        let is_sent = name.contains("claude-code/success-http-json") && !name.contains("traces");
        if is_sent || name.contains("codex/success-http-json-002-logs") {
            let path = format!("/v1/{}", recording.signal);
            receiver.post(&path, &[("content-type", recording.encoding)], &recording.plain());
        }
    }
    let hook = |agent: &str| {
        let event = serde_json::json!({"session_id": "s", "hook_event_name": "UserPromptSubmit"});
        assert_eq!(receiver.lookout.post(&format!("/hooks/claude-code?agent={agent}"), &event).status, 204);
    };
    hook("hooked");
    let url = receiver.lookout.url();
    let doctor = |arguments: &[&str]| {
        let output =
            receiver.setup.command(&[&["doctor", "--url", &url], arguments].concat()).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let output = eventually("both agents", || {
        let output = doctor(&[]);
        (output.contains("claude-code") && output.contains("codex_exec")).then_some(output)
    });
    for line in [
        "default/claude-code: no spans arrive",
        "default/claude-code: no hooks arrive, so tasks and waiting for a person are unknown; add",
        "default/hooked: hooks arrive but no telemetry, so tokens and cost are unknown; set",
        "default/codex_exec: logs arrive but no metrics, so tokens are taken from logs; set",
        "default/codex_exec: cost is incomplete: 5.3k tokens have no price; add gpt-5.1-codex to `otlp.prices`",
    ] {
        assert!(output.contains(line), "{output}");
    }
    let one = doctor(&["--agent", "claude-code"]);
    assert!(one.contains("claude-code") && !one.contains("codex"), "{one}");
    let json: serde_json::Value = serde_json::from_str(&doctor(&["--json"])).expect("JSON");
    let agents = json["agents"].as_array().expect("a list");
    let brings = |name: &str, signal: &str| {
        let agent = agents.iter().find(|agent| agent["name"] == name).expect("the agent");
        agent["telemetry"][0]["signals"][signal]["brings"].clone()
    };
    assert_eq!(brings("claude-code", "metrics"), serde_json::json!(["tokens", "cost"]));
    assert_eq!(brings("codex_exec", "logs"), serde_json::json!(["tokens", "requests"]));
    assert_eq!(brings("codex_exec", "metrics"), serde_json::Value::Null);
    hook("claude-code");
    let one = doctor(&["--agent", "claude-code"]);
    let last_seen = one.lines().nth(1).expect("a line of a table");
    assert!(
        last_seen.contains("hooks ") && last_seen.contains(" ago  hooks ") && !one.contains("no hooks arrive"),
        "{one}"
    );
    let telemetry = receiver.lookout.get("/api/telemetry").json();
    let of = |name: &str| telemetry["agents"].as_array().unwrap().iter().filter(|it| it["name"] == name).count();
    assert_eq!((of("claude-code"), of("hooked"), &telemetry["total"]), (1, 1, &serde_json::json!(3)));
}
