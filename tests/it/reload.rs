//! Another configuration while the program runs: in force when it is valid, and otherwise the old one stays.

use serde_json::json;

use crate::doubles::slack::{Act, Slack};
use crate::program::{Lookout, Setup, eventually};
use crate::slack::{idle, metric, push, receiver};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("reload: a valid file is in force at once, by route and by signal", &[], a_valid_file),
        trial("reload: an invalid file changes nothing and is named", &[], an_invalid_file),
        trial("reload: a rule that is gone owes its resolve", &[], a_rule_that_is_gone),
        trial("reload: a receiver that is gone is owed nothing, the others all", &[], a_receiver_that_is_gone),
    ]
}

const HEAD: &str = "listen: 127.0.0.1:0\nlog: {format: json, level: info}\n";

fn reload(lookout: &Lookout) {
    let answer = lookout.send("POST", "/-/reload", &[], b"");
    assert_eq!((answer.status, answer.text()), (200, r#"{"reloaded":true}"#));
}

fn succeeded(lookout: &Lookout) -> Option<f64> {
    metric(lookout, "lookout_config_last_reload_successful")
}

fn a_valid_file() {
    let slack = Slack::start();
    let receivers = format!("receivers:\n{}", receiver("ops", &slack));
    let setup = Setup::new(&format!("agents: {{max_idle: 10m}}\n{receivers}"));
    let lookout = setup.start();
    assert_eq!(succeeded(&lookout), Some(1.0));
    push(&lookout, &idle("a", 400));
    assert_eq!(lookout.get("/api/alerts").json()["total"], json!(0), "400 s are not 10 min");
    // A lower threshold is broken already: judged at once, with no new state.
    setup.write("lookout.yaml", &format!("{HEAD}agents: {{max_idle: 5m}}\n{receivers}"));
    reload(&lookout);
    assert_eq!(slack.wait(1)[0].title(), "[WARNING] a");
    // A higher one is not.
    setup.write("lookout.yaml", &format!("{HEAD}agents: {{max_idle: 20m}}\n{receivers}"));
    lookout.signal("HUP");
    assert_eq!(slack.wait(2)[1].title(), "[RESOLVED] a");
    assert_eq!(succeeded(&lookout), Some(1.0));
    assert!(lookout.sigterm().success());
    assert_eq!(slack.told(), ["[WARNING] a", "[RESOLVED] a"]);
}

fn an_invalid_file() {
    let slack = Slack::start();
    let receivers = format!("receivers:\n{}", receiver("ops", &slack));
    let setup = Setup::new(&receivers);
    let lookout = setup.start();
    for (text, problem) in [
        ("agents: {max_idel: 5m}\n", "lookout.yaml: agents.max_idel: unknown key; did you mean `max_idle`?"),
        ("receivers: [{name: a}]\n", "lookout.yaml: receivers[0]: no way to it is given"),
        (
            "sources: [{name: s, kind: orchestrator-cc, url: 'http://h', interval: 1ms}]\n",
            "lookout.yaml: sources[0].interval: 1ms is out of range",
        ),
        ("rules: [none.yaml]\n", "none.yaml: "),
        ("agents: [\n", "lookout.yaml: line "),
    ] {
        setup.write("lookout.yaml", &format!("{HEAD}{text}"));
        let answer = lookout.send("POST", "/-/reload", &[], b"");
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == 400 && error.contains(problem), "`{problem}` in {}", answer.text());
        assert_eq!(succeeded(&lookout), Some(0.0), "{text}");
        assert!(!error.contains("hunter2"), "{error}");
        setup.write("lookout.yaml", &format!("{HEAD}{receivers}"));
        reload(&lookout);
        assert_eq!(succeeded(&lookout), Some(1.0));
    }
    // By signal nobody waits for an answer: the log and the metric say it, and the old one stays in force.
    setup.write("lookout.yaml", &format!("{HEAD}agents: {{max_idle: 0s}}\nreceivers: []\n"));
    lookout.signal("HUP");
    eventually("the failure shows", || (succeeded(&lookout) == Some(0.0)).then_some(()));
    let log = lookout.log();
    assert!(log.contains("configuration not reloaded") && log.contains("agents.max_idle: is 0s"), "{log}");
    std::fs::remove_file(setup.path().join("lookout.yaml")).unwrap();
    assert_eq!(lookout.send("POST", "/-/reload", &[], b"").status, 400, "no file is no valid file");
    push(&lookout, &idle("a", 400));
    assert_eq!(slack.wait(1)[0].title(), "[WARNING] a");
}

fn a_rule_that_is_gone() {
    let slack = Slack::start();
    let receivers = format!("receivers:\n{}", receiver("ops", &slack));
    let setup = Setup::new(&format!("rules: [team.yaml]\n{receivers}"));
    let rule = "rules:\n  - {name: Slow, for_each: agent, signal: progress, when: at_most, levels: {warning: 50}, summary: '{{ agent }} is slow'}\n";
    setup.write("team.yaml", rule);
    let lookout = setup.start();
    push(&lookout, &json!({"agents": [{"name": "a", "status": "running", "progress": 10}]}));
    assert!(slack.wait(1)[0].text().contains("a is slow"), "{}", slack.seen()[0].text());
    setup.write("team.yaml", "rules: []\n");
    reload(&lookout);
    let seen = slack.wait(2);
    assert_eq!(seen[1].title(), "[RESOLVED] a");
    assert!(seen[1].text().contains("rule removed"), "{}", seen[1].text());
    // The same for a rule that is gone when the program starts.
    setup.write("team.yaml", rule);
    reload(&lookout);
    push(&lookout, &json!({"agents": [{"name": "b", "status": "running", "progress": 10}]}));
    slack.wait_for("b", |seen| seen.iter().any(|seen| seen.alerts().contains(&"[WARNING] b".to_owned())));
    assert!(lookout.sigterm().success());
    setup.write("team.yaml", "rules: []\n");
    let lookout = setup.start();
    slack.wait_for("its end", |seen| seen.iter().any(|seen| seen.alerts().contains(&"[RESOLVED] b".to_owned())));
    drop(lookout);
}

fn a_receiver_that_is_gone() {
    let (stays, goes) = (Slack::start(), Slack::start());
    goes.always(Act::Answer(500, "", None));
    let both = format!("receivers:\n{}{}", receiver("stays", &stays), receiver("goes", &goes));
    let setup = Setup::new(&both);
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    stays.wait(1);
    goes.wait(1);
    setup.write("lookout.yaml", &format!("{HEAD}receivers:\n{}", receiver("stays", &stays)));
    reload(&lookout);
    let status = lookout.get("/api/status").json();
    assert_eq!((status["receivers"].as_array().unwrap().len(), &status["receivers"][0]["name"]), (1, &json!("stays")));
    assert!(!lookout.get("/metrics").text().contains("receiver=\"goes\""), "a receiver that is gone has no series");
    push(&lookout, &idle("a", 0));
    assert_eq!(stays.wait(2)[1].title(), "[RESOLVED] a");
    assert!(lookout.sigterm().success());
    // What waited for it is not owed any more, also after a start with it.
    goes.always(Act::Take);
    setup.write("lookout.yaml", &format!("{HEAD}{both}"));
    let lookout = setup.start();
    assert!(lookout.sigterm().success());
    assert_eq!(goes.taken().len(), 0, "{:?}", goes.told());
}
