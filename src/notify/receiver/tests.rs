//! What settings become.

use serde_json::json;

use super::*;

fn build(config: serde_json::Value) -> Result<Vec<Receiver>, Vec<Problem>> {
    Receiver::build(&serde_json::from_value::<Vec<ReceiverConfig>>(config).expect("a section"))
}

#[test]
fn settings_become_receivers_with_their_defaults() {
    let receivers = build(json!([
        {"name": "ops", "slack": {"webhook_url": "https://hooks.slack.com/services/x"}},
        {"name": "oncall", "min_level": "error", "send_resolved": false,
         "email": {"to": ["a@example.com"], "from": "l@example.com", "smtp": {"host": "mail.example.com"}}},
    ]))
    .expect("valid");
    let seen: Vec<_> =
        receivers.iter().map(|it| (&*it.name, it.kind(), it.policy.min_level, it.policy.send_resolved)).collect();
    assert_eq!(seen, [("ops", "slack", Level::Warning, true), ("oncall", "email", Level::Error, false)]);
    assert_eq!(receivers.first().and_then(|slack| slack.pace.bucket), Some((Duration::from_secs(1), 3)));
    assert!(receivers.last().is_some_and(|email| email.pace.bucket.is_none()));
}

#[test]
fn every_mistake_is_named() {
    let problems = build(json!([
        {"name": "ops"},
        {"name": "mail", "email": {"to": ["a"], "from": "l@example.com", "smtp": {"host": "mail"}}},
    ]))
    .expect_err("two mistakes");
    let paths: Vec<_> = problems.iter().map(|problem| &*problem.path).collect();
    assert_eq!(paths, ["receivers[0]", "receivers[1].email.to[0]"]);
    let smtp = json!({"host": "mail", "ca_file": "/nowhere/ca.pem"});
    let email = json!({"to": ["a@example.com"], "from": "l@example.com", "smtp": smtp});
    let problems = build(json!([{"name": "mail", "email": email}])).expect_err("no such file");
    let [problem] = problems.as_slice() else { panic!("one mistake: {problems:?}") };
    assert_eq!(problem.path, "receivers[0].email.smtp.ca_file");
    assert!(problem.message.contains("/nowhere/ca.pem"), "{problem:?}");
}

#[test]
fn receivers_of_one_webhook_share_its_rate() {
    let configs: Vec<ReceiverConfig> = serde_json::from_str(
        r##"[
        {"name": "a", "slack": {"webhook_url": "https://hooks.example.com/x"}},
        {"name": "b", "slack": {"webhook_url": "https://hooks.example.com/x"}, "min_level": "error"},
        {"name": "c", "slack": {"webhook_url": "https://hooks.example.com/y"}},
        {"name": "d", "slack": {"webhook_url_file": "/run/x"}},
        {"name": "e", "slack": {"bot_token": "xoxb-1", "channel": "#ops"}},
        {"name": "f", "slack": {"bot_token": "xoxb-1", "channel": "#dev"}},
        {"name": "g", "discord": {"webhook_url": "https://discord.example.com/x"}},
        {"name": "h", "discord": {"webhook_url": "https://discord.example.com/x"}},
        {"name": "i", "email": {"to": ["a@example.com"], "from": "b@example.com", "smtp": {"host": "localhost"}}}
        ]"##,
    )
    .expect("receivers");
    let receivers = Receiver::build(&configs).expect("they can be built");
    let buckets: Vec<Option<(u64, u32)>> =
        receivers.iter().map(|it| it.pace.bucket.map(|(each, burst)| (each.as_secs(), burst))).collect();
    let (alone, shared) = (Some((1, 3)), Some((2, 1)));
    assert_eq!(buckets, [shared, shared, alone, alone, alone, alone, shared, shared, None]);
}
