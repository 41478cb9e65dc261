//! Bodies of `POST /hooks/claude-code`, one after the other, from the body to the exposition.
//!
//! The first body holds query parameters as lines of `key=value`. A body that begins with `t` advances time.

#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use lookout::ingest::hooks::HookError;
use lookout::ingest::hooks::claude_code::TOOL;
use lookout::model::telemetry::Telemetry;
use lookout::model::{Hook, Time};
use lookout::otlp::config::AgentRule;
use lookout::profiles::identity::SenderIdentity;
use lookout_fuzz::bodies;
use lookout_fuzz::watch::Watch;

/// Text that must never be stored or exposed.
const PRIVATE: &str = "private-text-4711";

fuzz_target!(|input: &[u8]| {
    let mut watch = Watch::new(input.len() % 2 == 0);
    let mut bodies = bodies(input);
    let address = String::from_utf8_lossy(bodies.next().unwrap_or_default());
    let sender = SenderIdentity::new(address.lines().filter_map(|line| line.split_once('=')));
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
        match read((&sender, &rules, watch.now), body) {
            Ok(hook) => {
                check_private((&sender, &rules, watch.now), body, &hook);
                watch.fleet.hook(watch.now, &hook);
            }
            // The message quotes nothing of the body.
            Err(error) => assert!(error.to_string().len() < 100, "{error}"),
        }
        watch.evaluate();
        watch.show(&Telemetry::default());
    }
});

/// The sender of a hook, the rules that name its agent, and its time.
type From<'a> = (&'a SenderIdentity, &'a [AgentRule], Time);

/// Decodes a hook as the server does.
fn read((sender, rules, now): From<'_>, body: &[u8]) -> Result<Hook, HookError> {
    let event = TOOL.decode(body, now)?;
    let agent = sender.identify_hook_agent(rules, TOOL.name, event.cwd.as_deref());
    Ok(event.into_hook(&TOOL, agent, None))
}

/// Panics if a prompt, an argument or an output makes a difference.
fn check_private(from: From<'_>, body: &[u8], hook: &Hook) {
    let Ok(serde_json::Value::Object(mut event)) = serde_json::from_slice(body) else { return };
    for key in ["prompt", "tool_input", "tool_response", "last_assistant_message", "transcript_path", "message"] {
        event.insert(key.to_owned(), PRIVATE.into());
    }
    let body = serde_json::Value::Object(event).to_string();
    let other = read(from, body.as_bytes()).expect("a hook with more fields is a hook");
    assert_eq!(other, *hook, "{body}");
    assert!(!format!("{other:?}").contains(PRIVATE));
}
