//! Replays of a recording of the real program: the same rules give the notifications of its outbox, others do not.

use serde_json::{Value, json};

use super::{lookout, text};
use crate::doubles::slack::Slack;
use crate::polling::{Upstream, UpstreamBehavior};
use crate::program::{Lookout, Setup, eventually};
use crate::slack::receiver;
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("replay: the same rules give the notifications of the outbox, other rules their own", &[], replays),
        trial("replay: polls, silences and acknowledgements are replayed", &[], polls_and_quiet),
        trial("replay: nothing is recorded by default", &[], off_by_default),
    ]
}

fn push(lookout: &Lookout, name: &str, status: &str) {
    let body = json!({"project": "shop", "agents": [{"name": name, "status": status, "reason": "line\nend"}]});
    let answer = lookout.send(
        "POST",
        "/api/state",
        &[("content-type", "application/json")],
        serde_json::to_string_pretty(&body).unwrap().as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn replay(setup: &Setup, arguments: &[&str]) -> Value {
    let arguments = [&["replay", "state.record", "--config", "lookout.yaml", "--json"], arguments].concat();
    let output = lookout(setup.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

fn notified<'a>(answer: &'a Value, by: &str) -> Vec<String> {
    let of: Vec<&'a Value> =
        answer["notices"].as_array().unwrap().iter().filter(|notice| notice["notified"] == by).collect();
    let word = |notice: &Value, key: &str| notice[key].as_str().unwrap_or_default().to_owned();
    of.iter()
        .map(|notice| {
            format!("{} {} {}", word(notice, "kind"), word(notice, "rule"), word(notice, "agent_name"))
                .trim()
                .to_owned()
        })
        .collect()
}

fn replays() {
    let slack = Slack::start();
    let setup = Setup::new(&format!("record: {{path: state.record}}\nreceivers:\n{}", receiver("ops", &slack)));
    let program = setup.start();
    push(&program, "a", "failed");
    push(&program, "b", "running");
    let body = json!({"project": "shop", "usage": [{"agent": "b", "input": 5, "id": "one"}]});
    assert_eq!(program.post("/api/usage", &body).status, 200);
    // Rejected input is not recorded.
    assert_eq!(program.send("POST", "/api/state", &[("content-type", "application/json")], b"{").status, 400);
    slack.wait(1);
    assert!(program.sigterm().success());
    // The state survives a restart in the replay as well: no notification is repeated.
    let program = setup.start();
    push(&program, "a", "running");
    slack.wait(2);
    assert!(program.sigterm().success());
    let recorded = std::fs::read_to_string(setup.path().join("state.record")).unwrap();
    assert_eq!(recorded.lines().count(), 8, "two starts, three pushes, one usage, two stops:\n{recorded}");

    let expected = ["firing AgentDown a", "resolved AgentDown a"];
    let same = replay(&setup, &["--store", "lookout.db"]);
    assert_eq!(
        (notified(&same, "both"), &same["arrivals"], &same["starts"]),
        (expected.map(str::to_owned).to_vec(), &json!(4), &json!(2))
    );
    assert_eq!(same["notices"].as_array().unwrap().len(), 2, "{same}");

    setup.write("new.yaml", "rules:\n  - {name: AgentDown, enabled: false}\n  - {name: Broken, for_each: agent, signal: status, when: equals, levels: {critical: failed}}\n");
    for other in
        [replay(&setup, &["--rules", "new.yaml", "--store", "lookout.db"]), replay(&setup, &["--rules", "new.yaml"])]
    {
        assert_eq!(notified(&other, "before"), expected);
        let new = notified(&other, "new");
        assert!(
            new.contains(&"firing Broken a".to_owned()) && new.contains(&"resolved Broken a".to_owned()),
            "{new:?}"
        );
        assert_eq!(notified(&other, "both"), [""; 0]);
    }
    let output = lookout(setup.path(), &["replay", "state.record", "--rules", "new.yaml"]);
    assert!(text(&output).contains("only before"), "{}", text(&output));
    assert_eq!(lookout(setup.path(), &["replay", "none.record", "--rules", "new.yaml"]).status.code(), Some(1));
    assert_eq!(lookout(setup.path(), &["replay", "state.record"]).status.code(), Some(2));
}

fn polls_and_quiet() {
    let (slack, upstream) = (Slack::start(), Upstream::start());
    let page = |state: &str| json!({"bots": {"poll": {"state": state, "progress": 12.5, "task": "t1"}, "other": {"state": "idle"}}});
    upstream.respond_with("/fleet", &page("running"));
    let setup = Setup::new(&format!(
        "record: {{path: state.record}}\nsources:\n  - name: page\n    kind: http-json\n    url: \"{}/fleet\"\n    interval: 100ms\n    \
         fields: {{agents: \"$.bots.*\", name: \"@key\", status: \"$.state\", progress: \"$.progress\", task_id: \"$.task\"}}\n\
         receivers:\n{}",
        upstream.url(),
        receiver("ops", &slack)
    ));
    let program = setup.start();
    let is_there = |agent: &str| program.get("/api/status").text().contains(agent).then_some(());
    eventually("a poll", || is_there("poll"));
    // Silenced alerts and repeats of acknowledged alerts are not notified.
    let silence = json!({"matchers": {"agent_name": "hushed"}, "duration": "1h", "created_by": "ann"});
    assert_eq!(program.post("/api/silences", &silence).status, 200);
    push(&program, "hushed", "failed");
    upstream.respond_with("/fleet", &page("failed"));
    slack
        .wait_for("AgentDown of the polled one", |seen| seen.iter().any(|one| one.alerts().join(" ").contains("poll")));
    let alerts = program.get("/api/alerts?agent=poll&rule=AgentDown").json();
    let fingerprint = alerts["alerts"][0]["fingerprint"].as_str().expect("an alert").to_owned();
    assert_eq!(program.post(&format!("/api/alerts/{fingerprint}/ack"), &json!({"by": "bob"})).status, 200);
    upstream.set("/fleet", UpstreamBehavior::Responds(500, String::new()));
    let source_up = || crate::slack::metric(&program, "lookout_source_up{source=\"page\"}");
    eventually("a failed poll", || (source_up() == Some(0.0)).then_some(()));
    upstream.respond_with("/fleet", &page("running"));
    slack.wait_for("the end", |seen| seen.iter().any(|one| one.alerts().join(" ").contains("RESOLVED")));
    assert!(program.sigterm().success());
    let recorded = std::fs::read_to_string(setup.path().join("state.record")).unwrap();
    for part in
        ["\"silence\":{", "\"ack\":{\"by\":\"bob\"", "\"error\":\"status\"", "\"progress\":12.5", "\"task_id\":\"t1\""]
    {
        assert!(recorded.contains(part), "{part} in {recorded}");
    }
    let same = replay(&setup, &["--store", "lookout.db"]);
    let (both, all) = (notified(&same, "both"), same["notices"].as_array().unwrap().len());
    assert!(all == both.len() && both.iter().filter(|one| one.starts_with("announcement")).count() == 2, "{same:#}");
    assert!(
        both.contains(&"firing AgentDown poll".to_owned()) && both.contains(&"resolved AgentDown poll".to_owned()),
        "{both:?}"
    );
    assert!(!both.iter().any(|one| one.contains("hushed")), "{both:?}");
}

fn off_by_default() {
    let setup = Setup::new("");
    let program = setup.start();
    push(&program, "a", "running");
    let dropped = eventually("the counter", || crate::slack::metric(&program, "lookout_record_dropped_total"));
    assert_eq!(dropped, 0.0);
    assert!(program.sigterm().success());
    let names: Vec<String> =
        std::fs::read_dir(setup.path()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|name| name.contains("record")), "{names:?}");
    // By option as well as by configuration key.
    let setup = Setup::new("").arguments(&["run", "--config", "lookout.yaml", "--record", "by-option"]);
    let program = setup.start();
    push(&program, "a", "running");
    assert!(program.sigterm().success());
    let recorded = std::fs::read_to_string(setup.path().join("by-option")).unwrap();
    assert!(recorded.contains("\"name\": \"a\"") && recorded.lines().count() == 3, "{recorded}");
}
