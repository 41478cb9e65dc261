//! Silences and acknowledgements by command and API: announced, explained, and kept over a crash.

use serde_json::{Value, json};

use crate::doubles::slack::Slack;
use crate::program::{Lookout, Setup, eventually};
use crate::slack::{idle, push, receiver};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("quiet: a silence suppresses, is announced and shown, and its end notifies", &[], silence),
        trial("quiet: silences, acknowledgements and timelines survive a crash", &[], a_crash),
        trial("quiet: a pause and its extension are announced, and nothing else is sent meanwhile", &[], a_stop),
        trial("quiet: webhooks get announcements of silences and pauses", &[], programs),
        trial("quiet: the heartbeat is sent only while alerts are evaluated and can be delivered", &[], heartbeat),
        trial("quiet: invalid requests are rejected with a remedy", &[], refusals),
        trial("quiet: commands name what is wrong with an ID", &[], ids),
    ]
}

/// The output of a command that calls this sidecar, and whether it succeeded.
pub(crate) fn run(setup: &Setup, lookout: &Lookout, arguments: &[&str]) -> (bool, String) {
    let url = lookout.url();
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--url", &url]).collect();
    let output = setup.command(&arguments).output().expect("the command runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("text"))
}

fn alert(lookout: &Lookout, agent: &str) -> Option<Value> {
    let answer = lookout.get(&format!("/api/alerts?agent={agent}&rule=AgentIdle")).json();
    answer["alerts"].get(0).cloned()
}

fn id(lookout: &Lookout, agent: &str) -> String {
    alert(lookout, agent).expect("the alert")["fingerprint"].as_str().expect("its id").to_owned()
}

fn silence() {
    let slack = Slack::start();
    let setup = Setup::new(&format!("receivers:\n{}", receiver("ops", &slack))).env("USER", "ann");
    let lookout = setup.start();
    let begin = ["silence", "agent_name=worker-*", "rule=AgentIdle", "--for", "2h", "--comment", "planned <work>"];
    let (ok, output) = run(&setup, &lookout, &begin);
    assert!(ok && output.starts_with("silenced "), "{output}");
    let messages = slack.wait(1);
    assert!(messages[0].text().contains(" silenced rule=AgentIdle, agent_name=worker-*"), "{messages:?}");
    assert!(messages[0].text().contains("planned &lt;work&gt;"), "{messages:?}");
    push(&lookout, &idle("worker-1", 400));
    push(&lookout, &idle("boss", 400));
    let messages = slack.wait(2);
    assert_eq!(messages[1].title(), "[WARNING] boss");
    let silenced = alert(&lookout, "worker-1").expect("it is known all the same");
    assert_eq!(silenced["state"], "firing");
    let listed = lookout.get("/api/silences").json();
    assert_eq!((&listed["total"], &listed["silences"][0]["id"]), (&json!(1), &silenced["silenced_by"]));
    let (_, table) = run(&setup, &lookout, &["alerts"]);
    assert!(table.contains("silenced"), "{table}");
    let (_, why) = run(&setup, &lookout, &["why", &id(&lookout, "worker-1")]);
    for part in
        ["AgentIdle on shop/worker-1: warning, firing for ", "firing at warning: ", "not notifying ops: silenced "]
    {
        assert!(why.contains(part), "{part}: {why}");
    }
    let silence = silenced["silenced_by"].as_str().expect("the silence");
    let (ok, output) = run(&setup, &lookout, &["silence", "--end", silence]);
    assert!(ok, "{output}");
    let worker = "[WARNING] worker-1".to_owned();
    slack.wait_for("worker-1 is notified", |seen| seen.iter().any(|one| one.alerts().contains(&worker)));
    let (_, none) = run(&setup, &lookout, &["silence"]);
    assert!(none.starts_with("no silences; "), "{none}");
    eventually("the timeline shows the delivery", || {
        run(&setup, &lookout, &["why", &id(&lookout, "worker-1")]).1.contains("delivered to ops").then_some(())
    });
}

fn a_crash() {
    let slack = Slack::start();
    let setup = Setup::new(&format!("receivers:\n{}", receiver("ops", &slack)));
    let lookout = setup.start();
    push(&lookout, &idle("worker-1", 400));
    slack.wait(1);
    let fingerprint = id(&lookout, "worker-1");
    let ack = lookout.post(&format!("/api/alerts/{fingerprint}/ack"), &json!({"by": "ann", "comment": "mine"}));
    assert_eq!((ack.status, &ack.json()["acked_by"]), (200, &json!("ann")), "{}", ack.text());
    let silence = json!({"matchers": {"agent_name": "worker-2"}, "duration": "2h", "created_by": "bob"});
    let silence = lookout.post("/api/silences", &silence);
    assert_eq!(silence.status, 200, "{}", silence.text());
    // A timeline that was read is in the history file; an acknowledged change is in the ledger.
    assert_eq!(lookout.get(&format!("/api/alerts/{fingerprint}/why")).status, 200);
    lookout.kill9();
    let lookout = setup.start();
    assert_eq!(alert(&lookout, "worker-1").expect("it fires")["acked_by"], "ann");
    assert_eq!(lookout.get("/api/silences").json()["silences"][0]["id"], silence.json()["id"]);
    push(&lookout, &idle("worker-2", 400));
    push(&lookout, &idle("worker-3", 400));
    let worker = "[WARNING] worker-3".to_owned();
    slack.wait_for("worker-3 is notified", |seen| seen.iter().any(|one| one.alerts().contains(&worker)));
    assert!(slack.seen().iter().all(|seen| !seen.text().contains("worker-2: no activity")), "{:?}", slack.seen());
    let why = lookout.get(&format!("/api/alerts/{fingerprint}/why")).json();
    let words: Vec<&str> =
        why["timeline"].as_array().expect("entries").iter().filter_map(|it| it["text"].as_str()).collect();
    assert!(words.iter().any(|text| text.starts_with("firing at warning")), "{words:?}");
    assert!(words.contains(&"acknowledged by ann: mine"), "{words:?}");
    assert_eq!(why["receivers"][0]["reason"], "acknowledged", "{why}");
    // Deadlines that are due right after a start do not count as late.
    let late = lookout.get("/api/alerts?rule=EvaluationLate").json();
    assert_eq!(late["alerts"], json!([]));
    assert!(slack.seen().iter().all(|seen| !seen.text().contains("evaluated")), "{:?}", slack.seen());
}

fn a_stop() {
    let slack = Slack::start();
    let config = format!(
        "auth: {{tokens: [{{name: ci, role: admin, token: s3cret}}]}}\nreceivers:\n{}",
        receiver("ops", &slack)
    );
    let lookout = Setup::new(&config).start();
    let headers = [("authorization", "Bearer s3cret")];
    assert_eq!(lookout.send("POST", "/api/monitoring/stop", &headers, b"").status, 200);
    let messages = slack.wait(1);
    assert!(messages[0].text().contains("token ci paused monitoring"), "{messages:?}");
    assert!(!format!("{messages:?}").contains("s3cret"));
    assert_eq!(lookout.send("POST", "/api/monitoring/stop", &headers, b"").status, 200);
    let messages = slack.wait(2);
    assert!(messages[1].text().contains("token ci extended the pause"), "{messages:?}");
    let state = serde_json::to_vec(&idle("worker-1", 400)).expect("JSON");
    let json = [headers[0], ("content-type", "application/json")];
    assert_eq!(lookout.send("POST", "/api/state", &json, &state).status, 200);
    assert_eq!(lookout.send("POST", "/api/monitoring/start", &headers, b"").status, 200);
    let worker = "[WARNING] worker-1".to_owned();
    slack.wait_for("worker-1 is notified", |seen| seen.iter().any(|one| one.alerts().contains(&worker)));
    let order: Vec<bool> = slack.seen().iter().map(|seen| seen.text().contains("worker-1")).collect();
    assert_eq!(order[..2], [false, false], "not before the monitoring went on: {:?}", slack.seen());
}

fn programs() {
    let (hook, am, pager) = (Slack::start(), Slack::start(), Slack::start());
    for double in [&hook, &am, &pager] {
        double.always(crate::doubles::slack::Act::Answer(202, r#"{"status":"success"}"#, None));
    }
    let config = format!(
        "receivers:\n  - {{name: hook, webhook: {{url: '{}'}}}}\n  - {{name: am, alertmanager: {{urls: ['{}']}}}}\n  \
         - {{name: pager, pagerduty: {{routing_key: k, api_url: '{}'}}}}\n",
        hook.url(),
        am.url(),
        pager.url()
    );
    let lookout = Setup::new(&config).start();
    let silence = json!({"matchers": {"rule": "*"}, "duration": "2h", "created_by": "the watched agent"});
    assert_eq!(lookout.post("/api/silences", &silence).status, 200);
    assert_eq!(lookout.post("/api/monitoring/stop", &json!({})).status, 200);
    for double in [&hook, &am, &pager] {
        double.wait_for("both are notified", |seen| {
            let messages: String = seen.iter().map(|one| one.body.to_string()).collect();
            messages.contains("the watched agent silenced rule=*") && messages.contains("paused monitoring")
        });
    }
    lookout.wait_for_log(&["the watched agent silenced rule=*"]);
}

fn heartbeat() {
    // The Slack double accepts any request; the test counts them.
    let (heart, slack) = (Slack::start(), Slack::start());
    let config =
        format!("heartbeat: {{url: '{}', interval: 1s}}\nreceivers:\n{}", heart.url(), receiver("ops", &slack));
    let lookout = Setup::new(&config).start();
    let beats = || heart.seen().len();
    eventually("it beats", || (beats() >= 2).then_some(()));
    assert_eq!(lookout.post("/api/monitoring/stop", &json!({})).status, 200);
    eventually("the log shows that it is not called", || {
        lookout.log().contains("not called: monitoring is paused").then_some(())
    });
    let before = beats();
    assert_eq!(lookout.post("/api/monitoring/start", &json!({})).status, 200);
    eventually("it beats again", || (beats() > before).then_some(()));
    assert!(!lookout.log().contains(crate::doubles::slack::SECRET), "the address is a secret");
}

fn refusals() {
    let lookout = Setup::new("").start();
    for (path, body, status, message) in [
        ("/api/silences", json!({"matchers": {"rule": "R"}}), 400, "set either `duration`"),
        ("/api/silences", json!({"matchers": {"agnt": "R"}, "duration": "1h"}), 400, "the nearest is agent_name"),
        ("/api/silences", json!({"matchers": {"rule": "R"}, "duration": "9000d"}), 400, "longer than a year"),
        ("/api/alerts/0123456789abcdef/ack", json!({}), 404, "unknown alert 0123456789abcdef"),
        ("/api/alerts/xyz/ack", json!({}), 400, "invalid fingerprint `xyz`"),
    ] {
        let answer = lookout.post(path, &body);
        let error = answer.json()["error"].as_str().expect("an error").to_owned();
        assert!(answer.status == status && error.contains(message), "{path} {body}: {} {error}", answer.status);
    }
    assert_eq!(lookout.get("/api/alerts/0123456789abcdef/why").status, 404);
    assert_eq!(lookout.send("DELETE", "/api/silences/nothing", &[], b"").status, 404);
}

fn ids() {
    let slack = Slack::start();
    let setup = Setup::new(&format!("receivers:\n{}", receiver("ops", &slack)));
    let lookout = setup.start();
    push(&lookout, &idle("worker-1", 400));
    let id = id(&lookout, "worker-1");
    let fails_with = |arguments: &[&str], expected: &str| {
        let (ok, output) = run(&setup, &lookout, arguments);
        assert!(!ok && output.contains(expected), "{arguments:?}: {output}");
        assert!(
            !output.contains("the address of a lookout sidecar") && !output.contains("start it"),
            "{arguments:?}: {output}"
        );
    };
    let unknown = "0123456789abcdef";
    fails_with(&["ack", unknown], "unknown alert 0123456789abcdef");
    fails_with(&["why", unknown], "unknown alert 0123456789abcdef");
    fails_with(&["silence", "--end", unknown], "there is no silence 0123456789abcdef; it may have expired");
    for command in ["ack", "why"] {
        fails_with(&[command, "AgentIdle"], "is not an alert ID");
        fails_with(&[command, "../status"], "is not an alert ID");
        let none = if id.starts_with("0000") { "ffff" } else { "0000" };
        fails_with(&[command, none], "no alert has an ID that begins with");
    }
    // An expired silence can't be ended, like one that was ended before.
    let short = ["silence", "rule=None", "--for", "10ms"];
    let (ok, output) = run(&setup, &lookout, &short);
    assert!(ok, "{output}");
    let expired = output.split("--end ").nth(1).and_then(|rest| rest.split('`').next()).expect("its ID").to_owned();
    eventually("it expires", || (lookout.get("/api/silences").json()["total"] == 0).then_some(()));
    fails_with(&["silence", "--end", &expired], "it may have expired");
    // The first digits are enough.
    let (ok, output) = run(&setup, &lookout, &["ack", &id[..6], "--by", "ann"]);
    assert!(ok, "{output}");
    assert_eq!(alert(&lookout, "worker-1").expect("it fires")["acked_by"], "ann");
    push(&lookout, &idle("worker-1", 0));
    eventually("it resolves", || (alert(&lookout, "worker-1")?["state"] == "resolved").then_some(()));
    fails_with(&["ack", &id], &format!("alert {id} is not firing any more: resolved at "));
    let (ok, output) = run(&setup, &lookout, &["why", &id]);
    assert!(ok && output.contains("firing at warning"), "{output}");
}
