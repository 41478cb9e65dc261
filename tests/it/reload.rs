//! Reloads: a valid configuration is applied, and with an invalid one the old one stays active.

use std::process::Command;

use serde_json::json;

use crate::counterparts::{self, Need};
use crate::doubles::slack::{Act, Slack};
use crate::program::{Lookout, Setup, eventually};
use crate::slack::{idle, metric, push, receiver};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("reload: a valid file is applied at once, by route and by signal", &[], a_valid_file),
        trial("reload: an invalid file changes nothing and is named", &[], an_invalid_file),
        trial("reload: a removed rule resolves its alerts", &[], a_rule_that_is_gone),
        trial(
            "reload: a removed receiver loses its pending deliveries, others keep theirs",
            &[],
            a_receiver_that_is_gone,
        ),
        trial("reload: what needs a restart is named, and the rest is applied", &[], what_needs_a_restart),
        trial("reload: a new certificate is served, an invalid one rejected", &[Need::Openssl], another_certificate),
        trial("reload: an unreadable or blocking file is an error and changes nothing", &[], what_blocks),
        trial("reload: rule windows continue, also after a restart", &[], windows_go_on),
    ]
}

const HEAD: &str = "listen: 127.0.0.1:0\nlog: {format: json, level: info}\n";

fn reload(lookout: &Lookout) {
    let answer = lookout.send("POST", "/-/reload", &[], b"");
    assert_eq!((answer.status, answer.text()), (200, r#"{"reloaded":true,"restart_needed":[]}"#));
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
    // The lower threshold is exceeded already: it is evaluated at once, without new state.
    setup.write("lookout.yaml", &format!("{HEAD}agents: {{max_idle: 5m}}\n{receivers}"));
    reload(&lookout);
    assert_eq!(slack.wait(1)[0].title(), "[WARNING] a");
    // A higher one is not.
    setup.write("lookout.yaml", &format!("{HEAD}agents: {{max_idle: 20m}}\n{receivers}"));
    lookout.signal("HUP");
    assert_eq!(slack.wait(2)[1].title(), "[RESOLVED] a");
    assert_eq!(succeeded(&lookout), Some(1.0));
    assert!(lookout.sigterm().success());
    assert_eq!(slack.delivered(), ["[WARNING] a", "[RESOLVED] a"]);
}

fn an_invalid_file() {
    let slack = Slack::start();
    let receivers = format!("receivers:\n{}", receiver("ops", &slack));
    let setup = Setup::new(&receivers);
    let lookout = setup.start();
    for (text, problem) in [
        ("agents: {max_idel: 5m}\n", "agents.max_idel: unknown key; did you mean `max_idle`?"),
        ("receivers: [{name: a}]\n", "receivers[0]: it has no kind"),
        (
            "sources: [{name: s, kind: orchestrator-cc, url: 'http://h', interval: 1ms}]\n",
            "sources[0].interval: 1ms is out of range",
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
    // A signal has no answer: log and metric report it, and the old configuration stays active.
    setup.write("lookout.yaml", &format!("{HEAD}agents: {{max_idle: 0s}}\nreceivers: []\n"));
    lookout.signal("HUP");
    eventually("the failure shows", || (succeeded(&lookout) == Some(0.0)).then_some(()));
    lookout.wait_for_log(&["configuration reload failed", "agents.max_idle: is 0s"]);
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
    assert!(seen[1].text().contains("is no longer covered by the rule Slow"), "{}", seen[1].text());
    // The same for a rule that was removed before the start.
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
    // Its pending deliveries are dropped, also if it is configured again at a later start.
    goes.always(Act::Take);
    setup.write("lookout.yaml", &format!("{HEAD}{both}"));
    let lookout = setup.start();
    assert!(lookout.sigterm().success());
    assert_eq!(goes.taken().len(), 0, "{:?}", goes.delivered());
}

fn what_needs_a_restart() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let restart_needed = |text: &str| {
        setup.write("lookout.yaml", text);
        let answer = lookout.send("POST", "/-/reload", &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["restart_needed"].clone()
    };
    for (text, keys) in [
        ("listen: 127.0.0.1:1\nlog: {format: json}\n", json!(["listen"])),
        (
            &format!(
                "{HEAD}limits: {{body: 1000, connections: 9, streams: 9, header_timeout: 1s, body_timeout: 1s, series: 9000}}\n"
            ),
            json!([
                "limits.body",
                "limits.connections",
                "limits.streams",
                "limits.header_timeout",
                "limits.body_timeout"
            ]),
        ),
        (
            &format!("{HEAD}store: {{path: other.db, retention: 1d}}\nrecord: {{path: r}}\n"),
            json!(["store.path", "record.path"]),
        ),
        ("listen: 127.0.0.1:0\nlog: {format: text, level: info}\n", json!(["log.format"])),
        (&format!("{HEAD}store: {{retention: 1d}}\nagents: {{timeout: 2m}}\nallowed_hosts: [lookout]\n"), json!([])),
    ] {
        assert_eq!(restart_needed(text), keys, "{text}");
    }
    lookout.wait_for_log(&["\"restart_needed\":\"store.path, record.path\""]);
    // The level of the log is in force at once: with `error` not even the reload is logged.
    let count = || lookout.log().matches("configuration reloaded").count();
    eventually("all reloads so far are logged", || (count() == 5).then_some(()));
    assert_eq!(restart_needed("listen: 127.0.0.1:0\nlog: {format: json, level: error}\n"), json!([]));
    assert_eq!(restart_needed(HEAD), json!([]));
    eventually("the second reload is logged", || (count() == 6).then_some(()));
}

/// A self-signed certificate and its key.
fn certify(setup: &Setup, name: &str, certificate: &str, key: &str) {
    let subject = format!("/CN={name}");
    counterparts::run(
        Command::new("openssl")
            .args(["req", "-x509", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-subj", &subject, "-keyout", key, "-out", certificate])
            .current_dir(setup.path()),
    );
}

fn another_certificate() {
    // `lookout health` has to know the port.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "listen: 127.0.0.1:{port}\nlog: {{format: json}}\nstore: {{path: null}}\ntls: {{cert_file: cert.pem, key_file: key.pem}}\n"
    );
    let setup = Setup::new("").env("HTTPS_PROXY", "http://127.0.0.1:9").env("ALL_PROXY", "http://127.0.0.1:9");
    setup.write("lookout.yaml", &config);
    certify(&setup, "one.example.com", "cert.pem", "key.pem");
    let lookout = setup.spawn().unwrap();
    let shown = || {
        let line = format!(
            "openssl s_client -connect {} < /dev/null 2> /dev/null | openssl x509 -noout -subject",
            lookout.address()
        );
        counterparts::run(Command::new("sh").args(["-c", &line]))
    };
    let reloads = |word: &str, count: usize| {
        lookout.signal("HUP");
        eventually(word, || (lookout.log().matches(word).count() == count).then_some(()));
    };
    assert!(shown().contains("one.example.com"));
    let healthy = setup.command(&["health", "--config", "lookout.yaml"]).status().unwrap();
    assert!(healthy.success(), "the proxies of the environment are not used");
    certify(&setup, "two.example.com", "cert.pem", "key.pem");
    reloads("configuration reloaded", 1);
    assert!(shown().contains("two.example.com"), "the same files with another certificate");
    certify(&setup, "three.example.com", "cert.pem", "other.pem");
    reloads("configuration reload failed", 1);
    lookout.wait_for_log(&["key.pem does not match cert.pem"]);
    setup.write("cert.pem", "no certificate");
    reloads("configuration reload failed", 2);
    std::fs::remove_file(setup.path().join("cert.pem")).unwrap();
    reloads("configuration reload failed", 3);
    assert!(shown().contains("two.example.com"), "the old one stays in force");
    let key = std::fs::read_to_string(setup.path().join("key.pem")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!lookout.log().contains(secret), "a key is in the log");
}

fn what_blocks() {
    let setup = Setup::new("").env("LOOKOUT_OTLP__GRPC", "127.0.0.1:0");
    let lookout = setup.start();
    let pipe = |name: &str| counterparts::run(Command::new("mkfifo").arg(name).current_dir(setup.path()));
    pipe("pipe");
    for (text, key) in [
        (
            "auth: {tokens: [{name: a, role: admin, token_file: pipe}]}\n",
            "auth.tokens[0].token_file: read secret file pipe: not a regular file but a named pipe",
        ),
        ("rules: [pipe]\n", "pipe: cannot read the file: not a regular file but a named pipe"),
        ("heartbeat: {url_file: pipe}\n", "heartbeat.url_file: "),
        ("receivers: [{name: a, slack: {webhook_url_file: pipe}}]\n", "receivers[0].slack.webhook_url_file: "),
        (
            "receivers: [{name: a, webhook: {url: 'https://h.example', token_file: gone}}]\n",
            "receivers[0].webhook.token_file: ",
        ),
        (
            "sources: [{name: s, kind: orchestrator-cc, url: 'http://h', bearer_token_file: pipe}]\n",
            "sources[0].bearer_token_file: ",
        ),
        ("sources: [{name: s, kind: orchestrator-cc, url: 'http://h', ca_file: pipe}]\n", "sources[0].ca_file: "),
        ("tls: {cert_file: pipe, key_file: pipe}\n", "tls.cert_file: read pipe: not a regular file but a named pipe"),
        ("listen: 192.0.2.1:80\n", "listen: cannot listen on 192.0.2.1:80"),
        ("store: {path: gone/lookout.db}\n", "store.path: gone/lookout.db: directory does not exist"),
    ] {
        let text = if text.starts_with("listen") { text.to_owned() } else { format!("listen: 127.0.0.1:0\n{text}") };
        setup.write("lookout.yaml", &text);
        let answer = lookout.send("POST", "/-/reload", &[], b"");
        assert!(answer.status == 400 && answer.text().contains(key), "{text}: {}", answer.text());
        // `check` and a start reject the same with the same message.
        for arguments in [&["check", "--config", "lookout.yaml"][..], &["run", "--config", "lookout.yaml"]] {
            let done = setup.command(arguments).output().unwrap();
            let stderr = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.code() == Some(1) && stderr.contains(key), "{arguments:?} {text}: {stderr}");
        }
    }
    // The file itself, and one that a running program reads at each use.
    std::fs::remove_file(setup.path().join("lookout.yaml")).unwrap();
    pipe("lookout.yaml");
    let answer = lookout.send("POST", "/-/reload", &[], b"");
    assert!(answer.status == 400 && answer.text().contains("not a regular file"), "{}", answer.text());
    assert_eq!(lookout.get("/-/ready").status, 200);
    assert!(lookout.sigterm().success());
}

fn windows_go_on() {
    let slack = Slack::start();
    let rules = "rules:\n  - {name: Restarting, for_each: agent, signal: {increase_of: restarts, over: 1h}, when: at_least, levels: {error: 3}, summary: '{{ agent }} restarts'}\n";
    let config = format!("{HEAD}rules: [team.yaml]\nreceivers:\n{}", receiver("ops", &slack));
    let setup = Setup::new("");
    setup.write("team.yaml", rules);
    setup.write("lookout.yaml", &config);
    let mut lookout = setup.start();
    let restarts = |lookout: &Lookout, count: u32| {
        let agent = json!({"name": "a", "status": "running", "restart_count": count});
        push(lookout, &json!({"agents": [agent], "ttl": "1h"}));
    };
    restarts(&lookout, 0);
    restarts(&lookout, 1);
    reload(&lookout);
    restarts(&lookout, 2);
    assert!(lookout.sigterm().success());
    lookout = setup.start();
    restarts(&lookout, 2);
    assert_eq!(lookout.get("/api/alerts?rule=Restarting").json()["total"], json!(0), "two are not three");
    restarts(&lookout, 3);
    let seen = slack.wait(1);
    assert!(seen[0].text().contains("a restarts"), "{}", seen[0].text());
}
