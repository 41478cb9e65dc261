//! Private attributes of telemetry: none of them is exposed or stored.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{JSON, receiver, recordings, send_all};

pub(super) fn recordings_stay_private() {
    let receiver = receiver("");
    send_all(&receiver);
    // A secret key in several fields of a push and a metric.
    let key = format!("sk-ant-api03-{}", "Ab1".repeat(12));
    let pushed = receiver.lookout.post(
        "/api/state",
        &json!({"agents": [{"name": "careless", "status": "failed", "reason": format!("curl -H 'x-api-key: {key}' failed"), "task_id": key, "phase": key}],
            "components": [{"name": "gateway", "status": "ERROR", "details": format!("https://bot:{key}@gateway is down")}]}),
    );
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    receiver.json(&format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","description":"{key}","gauge":{{"dataPoints":[{{"asInt":1,"attributes":[{{"key":"used","value":{{"stringValue":"{key}"}}}}]}}]}}}}]}}]}}]}}"#
    ));
    let page = receiver.page();
    assert!(page.contains("used=\"***\""), "the key is masked");
    for label in [
        "session_id",
        "user_id",
        "user_email",
        "prompt",
        "conversation_id",
        "organization",
        "installation_id",
        "hidden_params",
        "requester_metadata",
        "command_args",
    ] {
        assert!(!page.contains(&format!("{label}=")) && !page.contains(&format!("_{label}")), "{label}");
    }
    let mut secrets: BTreeSet<String> =
        ["How many items", "devbox\",process_owner", "dev@", "sk-ant", "sk-proj", "Bearer "]
            .map(str::to_owned)
            .into_iter()
            .collect();
    let (mut private, mut ids) = (secrets.clone(), BTreeSet::new());
    for recording in recordings().into_iter().filter(|recording| recording.encoding == JSON) {
        let tree: Value = serde_json::from_slice(&recording.plain()).expect("JSON");
        collect(&tree, &PRIVATE, &mut private);
        collect(&tree, &IDS, &mut ids);
    }
    secrets.extend(private.iter().chain(&ids).cloned());
    // Gemini CLI has the session's id as the name of a prompt.
    private.retain(|value| !ids.contains(value));
    assert!(secrets.len() > 14, "{secrets:?}");
    let mut places = vec![("/metrics".to_owned(), page.into_bytes())];
    for route in ["/api/status", "/api/metrics", "/api/alerts", "/api/silences"] {
        places.push((route.to_owned(), receiver.lookout.get(route).body));
    }
    // State is saved at the stop.
    places.push(("the log".to_owned(), receiver.lookout.log().into_bytes()));
    assert!(receiver.lookout.sigterm().success());
    let files = std::fs::read_dir(receiver.setup.path()).expect("a folder").map(|file| file.expect("a file").path());
    let databases = files.filter(|file| file.to_string_lossy().contains(".db"));
    places.extend(databases.map(|file| (file.display().to_string(), std::fs::read(&file).expect("a database"))));
    assert!(places.len() > 6, "both databases are there");
    for (place, bytes) in places {
        // Runs are found by session, and a response counts once by its id.
        let of_place = if place.contains(".traces.db") { &private } else { &secrets };
        for secret in of_place {
            let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_there, "{place} has {secret}");
        }
    }
}

/// Texts of the recordings that are content or name a person.
pub(crate) fn contents() -> BTreeSet<String> {
    let mut found: BTreeSet<String> =
        ["How many items", "devbox\",process_owner", "dev@", "sk-ant", "sk-proj", "Bearer "].map(str::to_owned).into();
    let mut ids = BTreeSet::new();
    for recording in recordings().into_iter().filter(|recording| recording.encoding == JSON) {
        let tree: Value = serde_json::from_slice(&recording.plain()).expect("JSON");
        collect(&tree, &PRIVATE, &mut found);
        collect(&tree, &IDS, &mut ids);
    }
    found.retain(|value| !ids.contains(value));
    found
}

/// Attributes about a person, or with prompts and outputs.
const PRIVATE: [&str; 9] = [
    "prompt",
    "email",
    "user.id",
    "account",
    "organization.id",
    "installation.id",
    "arguments",
    "response_text",
    "process.owner",
];

/// Attributes with ids that only runs need.
const IDS: [&str; 3] = ["session.id", "conversation.id", "request_id"];

/// Collects values of attributes whose key has one of these parts.
fn collect(tree: &Value, parts: &[&str], found: &mut BTreeSet<String>) {
    match tree {
        Value::Object(fields) => {
            if let (Some(key), Some(value)) = (fields.get("key").and_then(Value::as_str), fields.get("value"))
                && parts.iter().any(|part| key.contains(part))
                && let Some(text) =
                    value["stringValue"].as_str().filter(|text| text.len() >= 8 && *text != "<REDACTED>")
            {
                found.insert(text.to_owned());
            }
            fields.values().for_each(|value| collect(value, parts, found));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, parts, found)),
        _ => {}
    }
}
