//! Bodies of `POST /hooks/claude-code`, one after the other, from the text to the page.
//!
//! The first body is what the address says: lines of `key=value`. A body that begins with `t` lets time go by.

#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use lookout::model::telemetry::Telemetry;
use lookout::model::{Hook, Time};
use lookout::sources::hooks::{Target, claude_code};
use lookout::sources::otlp::config::AgentRule;
use lookout_fuzz::bodies;
use lookout_fuzz::watch::Watch;

/// What must never be kept or told.
const SAID: &str = "what-was-said-4711";

fuzz_target!(|input: &[u8]| {
    let mut watch = Watch::new(input.len() % 2 == 0);
    let mut bodies = bodies(input);
    let address = String::from_utf8_lossy(bodies.next().unwrap_or_default());
    let target = Target::new(address.lines().filter_map(|line| line.split_once('=')));
    let rules = [AgentRule {
        r#match: BTreeMap::from([("cwd".to_owned(), "*/ruled/*".to_owned())]),
        agent: "ruled".to_owned(),
        project: Some("shop".to_owned()),
    }];
    for body in bodies {
        if let Some((b't', seconds)) = body.split_first() {
            let seconds = std::str::from_utf8(seconds).ok().and_then(|text| text.parse::<u16>().ok());
            watch.wait(Duration::from_secs(seconds.unwrap_or_default().into()));
            continue;
        }
        match claude_code(&target, &rules, body, watch.now) {
            Ok(hook) => {
                unsaid((&target, &rules, watch.now), body, &hook);
                watch.fleet.hook(watch.now, &hook);
            }
            // Its words are ours alone: three sentences and numbers.
            Err(error) => assert!(error.to_string().len() < 100, "{error}"),
        }
        watch.judge();
        watch.show(&Telemetry::default());
    }
});

/// Panics when what a prompt, an argument or an output says makes a difference.
fn unsaid((target, rules, now): (&Target, &[AgentRule], Time), body: &[u8], hook: &Hook) {
    let Ok(serde_json::Value::Object(mut event)) = serde_json::from_slice(body) else { return };
    for key in ["prompt", "tool_input", "tool_response", "last_assistant_message", "transcript_path", "message"] {
        event.insert(key.to_owned(), SAID.into());
    }
    let body = serde_json::Value::Object(event).to_string();
    let other = claude_code(target, rules, body.as_bytes(), now).expect("a hook with more fields is a hook");
    assert_eq!(other, *hook, "{body}");
    assert!(!format!("{other:?}").contains(SAID));
}
