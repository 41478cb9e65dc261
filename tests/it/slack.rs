//! What people read in Slack, and what becomes of it when Slack is in trouble.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use lookout::clock::{Clock, Stopwatch};
use serde_json::{Value, json};

use crate::doubles::slack::{Act, SECRET, Seen, Slack};
use crate::program::{Lookout, Setup, eventually};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial(
            "slack: a webhook's URL alone is enough for one notification at once and one when it is resolved",
            &[],
            url_alone,
        ),
        trial("slack: a transient failure delays a message and loses or duplicates none", &[], passing_troubles),
        trial("slack: a failing receiver is reported through another, and so is its recovery", &[], trouble_elsewhere),
        trial("slack: a request without an answer times out and is retried", &[], a_hang_ends),
        trial("slack: a permanent rejection is counted, not retried, and shows no secret", &[], a_refusal_for_good),
        trial("slack: a receiver that hangs delays no other", &[], a_hang_delays_no_other_receiver),
        trial("slack: sixty agents that fail together give a few messages that name all", &[], a_storm),
        trial("slack: proxies of the environment are not used", &[], no_proxy),
        trial("slack: a bot's message is edited in place and has a thread, also after a restart", &[], a_bot),
        trial("slack: texts of agents mention no person and exceed no limit", &[], hostile_words),
    ]
}

/// A batch of one agent that was last active this many seconds ago.
pub(crate) fn idle(name: &str, seconds: u64) -> Value {
    let at = Clock::system().now().as_millis() - i64::try_from(seconds).unwrap() * 1000;
    json!({"project": "shop", "ttl": "1h", "agents": [{"name": name, "status": "running", "last_activity": at}]})
}

/// Pushes a batch, which must be taken.
pub(crate) fn push(lookout: &Lookout, batch: &Value) {
    let answer = lookout.post("/api/state", batch);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The value of the series that begins with `series`, label set included.
pub(crate) fn metric(lookout: &Lookout, series: &str) -> Option<f64> {
    let page = lookout.get("/metrics");
    let line = page.text().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?.to_owned();
    line.split(' ').next()?.parse().ok()
}

/// One receiver in Slack, as configuration.
pub(crate) fn receiver(name: &str, slack: &Slack) -> String {
    format!("  - {{name: {name}, slack: {{webhook_url: '{}'}}}}\n", slack.url())
}

/// A rule of the sidecar's own, without the patience that it has for people.
fn impatient(name: &str, signal: &str, threshold: &str) -> String {
    format!(
        "  - {{name: {name}, for_each: receiver, signal: {signal}, when: at_least, levels: {{error: {threshold}}}, cooldown: 0s, summary: '{name} {{{{ receiver }}}}'}}\n"
    )
}

fn trouble_elsewhere() {
    let (sick, well) = (Slack::start(), Slack::start());
    sick.always(Act::Answer(500, "rollup_error", None));
    let rules = impatient("ReceiverFailing", "receiver_failing_seconds", "100ms")
        + &impatient("AlertsDeadLettered", "dead_lettered", "1");
    let receivers = format!("receivers:\n{}{}", receiver("sick", &sick), receiver("well", &well));
    let setup = Setup::new(&format!("rules: [mine.yaml]\n{receivers}"));
    setup.write("mine.yaml", &format!("rules:\n{rules}"));
    let lookout = setup.start();
    push(&lookout, &idle("boss", 400));
    let is_notified = |slack: &Slack, alert: &str| slack.taken().iter().any(|seen| seen.text().contains(alert));
    eventually("the other receiver is notified", || is_notified(&well, "ReceiverFailing sick").then_some(()));
    // Then it refuses for good, which is another kind of trouble.
    sick.always(Act::Answer(410, "channel_is_archived", None));
    eventually("the other receiver is notified of that, too", || {
        is_notified(&well, "AlertsDeadLettered sick").then_some(())
    });
    sick.always(Act::Take);
    push(&lookout, &idle("clerk", 400));
    well.wait_for("both are over", |seen| {
        let over = |rule: &str| {
            seen.iter().any(|one| one.text().contains("[RESOLVED] Receiver sick") && one.text().contains(rule))
        };
        over("ReceiverFailing") && over("AlertsDeadLettered")
    });
    assert!(!sick.taken().iter().any(|seen| seen.text().contains("ReceiverFailing")), "{:?}", sick.taken());
}

fn url_alone() {
    let slack = Slack::start();
    let setup = Setup::new("").arguments(&[]);
    let setup = setup.env("SLACK_WEBHOOK_URL", &slack.url()).env("LOOKOUT_LISTEN", "127.0.0.1:0");
    let lookout = setup.start();
    push(&lookout, &idle("grand_boss", 400));
    push(&lookout, &idle("grand_boss", 401));
    let seen = slack.wait(1);
    assert_eq!((seen[0].title().as_str(), seen[0].colour()), ("[WARNING] grand_boss", "#ff9900"));
    let text = seen[0].text();
    for part in ["shop/grand_boss: no activity for 6m", "AgentIdle", "Check whether its terminal"] {
        assert!(text.contains(part), "`{part}` in\n{text}");
    }
    push(&lookout, &idle("grand_boss", 650));
    let seen = slack.wait(2);
    assert_eq!((seen[1].title().as_str(), seen[1].colour()), ("[ERROR] grand_boss", "#ff0000"));
    assert!(seen[1].text().contains("escalated from warning"), "{}", seen[1].text());
    push(&lookout, &idle("grand_boss", 0));
    let seen = slack.wait(3);
    assert_eq!((seen[2].title().as_str(), seen[2].colour()), ("[RESOLVED] grand_boss", "#36a64f"));
    assert!(
        !seen[2].text().contains("Check whether its terminal"),
        "nothing is to be done any more: {}",
        seen[2].text()
    );
    // What is due is sent before the end, so that nothing else was due.
    assert!(lookout.sigterm().success());
    assert_eq!(slack.seen().len(), 3, "{:?}", slack.delivered());
}

fn a_bot() {
    let slack = Slack::start();
    slack.always(Act::Answer(200, r#"{"ok":true,"channel":"C1","ts":"1700000000.0001"}"#, None));
    let bot = format!("{{bot_token: xoxb-hunter2, channel: '#ops', api_url: '{}'}}", slack.url());
    let setup = Setup::new(&format!("receivers: [{{name: ops, slack: {bot}}}]\n"));
    let lookout = setup.start();
    push(&lookout, &idle("boss", 400));
    let seen = slack.wait(1);
    assert_eq!((seen[0].title().as_str(), &seen[0].body["channel"]), ("[WARNING] boss", &json!("#ops")));
    assert_eq!((&seen[0].body["ts"], &seen[0].body["thread_ts"]), (&Value::Null, &Value::Null));
    push(&lookout, &idle("boss", 650));
    let message = |seen: &Seen, key: &str| (seen.title(), seen.body["channel"].clone(), seen.body[key].clone());
    let named = |title: &str| (title.to_owned(), json!("C1"), json!("1700000000.0001"));
    let seen = slack.wait(3);
    assert_eq!(message(&seen[1], "ts"), named("[ERROR] boss"), "the message itself is edited");
    assert_eq!(message(&seen[2], "thread_ts"), named("[ERROR] boss"), "its history is in the thread");
    assert_eq!(seen[2].body["reply_broadcast"], json!(true), "an edit alone notifies no person");
    eventually("both deliveries are counted", || {
        (metric(&lookout, "lookout_notifications_total{receiver=\"ops\"}") == Some(2.0)).then_some(())
    });
    assert!(!lookout.log().contains("hunter2"));
    assert!(lookout.sigterm().success());
    let lookout = setup.start();
    push(&lookout, &idle("boss", 0));
    let seen = slack.wait(5);
    assert_eq!(message(&seen[3], "ts"), named("[RESOLVED] boss"));
    assert_eq!(message(&seen[4], "thread_ts"), named("[RESOLVED] boss"));
    assert_eq!(seen[4].body["reply_broadcast"], json!(false));
    assert!(lookout.sigterm().success());
    assert_eq!(slack.seen().len(), 5);
}

fn no_proxy() {
    let slack = Slack::start();
    let mut setup = Setup::new(&format!("store: {{path: null}}\nreceivers:\n{}", receiver("ops", &slack)));
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        setup = setup.env(variable, "http://127.0.0.1:1");
    }
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    assert_eq!(slack.wait(1)[0].title(), "[WARNING] a");
}

fn passing_troubles() {
    let broken = Act::Answer(500, "rollup_error", None);
    // What happens, how it is counted, and the milliseconds that pass at least: as asked for, else the half of 1, 2, 4 s, ….
    for (troubles, reason, wait) in [
        (&[Act::Answer(429, "rate_limited", Some(2))][..], "rate_limited", 2_000),
        (&[Act::Answer(429, "rate_limited", None)], "rate_limited", 500),
        (&[broken, broken], "server", 1_500),
        (&[Act::Answer(200, "<html>please log in</html>", None)], "server", 500),
        (&[Act::Answer(408, "", None)], "server", 500),
        (&[Act::Answer(425, "", Some(2))], "server", 2_000),
        (&[Act::Answer(403, "invalid_token", None)], "auth", 500),
        (&[Act::Answer(404, "no_service", None)], "refused", 500),
        (&[Act::Answer(302, "", None)], "refused", 500),
        (&[Act::Cut], "network", 500),
    ] {
        let slack = Slack::start();
        slack.next(troubles);
        let lookout = Setup::new(&format!("store: {{path: null}}\nreceivers:\n{}", receiver("ops", &slack))).start();
        let watch = Stopwatch::start();
        push(&lookout, &idle("a", 400));
        slack.wait(troubles.len());
        eventually("the failure is counted", || {
            let failed = format!("lookout_notifications_failed_total{{receiver=\"ops\",reason=\"{reason}\"}}");
            (metric(&lookout, &failed) == Some(troubles.len() as f64)).then_some(())
        });
        slack.wait(troubles.len() + 1);
        assert!(watch.elapsed() >= Duration::from_millis(wait), "{troubles:?} was tried again too early");
        eventually("the delivery is counted", || {
            (metric(&lookout, "lookout_notifications_total{receiver=\"ops\"}") == Some(1.0)).then_some(())
        });
        let receiver = &lookout.get("/api/status").json()["receivers"][0];
        assert_eq!((&receiver["pending"], &receiver["last_error"]), (&json!(0), &Value::Null), "{troubles:?}");
        assert!(lookout.sigterm().success());
        assert_eq!((slack.seen().len(), slack.delivered()), (troubles.len() + 1, vec!["[WARNING] a".to_owned()]));
    }
}

fn a_hang_ends() {
    let slack = Slack::start();
    slack.next(&[Act::Hang]);
    let lookout = Setup::new(&format!("store: {{path: null}}\nreceivers:\n{}", receiver("ops", &slack))).start();
    push(&lookout, &idle("a", 400));
    slack.wait(2);
    assert_eq!(slack.delivered(), ["[WARNING] a"]);
    let failed = "lookout_notifications_failed_total{receiver=\"ops\",reason=\"timeout\"}";
    assert_eq!(metric(&lookout, failed), Some(1.0));
}

fn a_refusal_for_good() {
    let (gone, fine) = (Slack::start(), Slack::start());
    gone.always(Act::Answer(410, "channel_is_archived", None));
    let setup = Setup::new(&format!("receivers:\n{}{}", receiver("gone", &gone), receiver("fine", &fine)));
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    let failed = "lookout_notifications_failed_total{receiver=\"gone\",reason=\"refused\"}";
    eventually("the refusal is counted", || (metric(&lookout, failed) == Some(1.0)).then_some(()));
    fine.wait(1);
    let status = lookout.get("/api/status");
    assert!(status.text().contains("410") && status.text().contains("channel_is_archived"), "{}", status.text());
    // The address is freed before the second half, in which the connection itself fails.
    let page = lookout.get("/metrics");
    let printed = output(setup.command(&["check", "--config", "lookout.yaml", "--print"]));
    assert!(printed.contains("webhook_url: '***'") || printed.contains("webhook_url: \"***\""), "{printed}");
    let log = lookout.wait_for_log(&["dead-lettered"]);
    assert!(lookout.sigterm().success());
    assert_eq!(gone.seen().len(), 1, "a refusal for good is not tried again");
    assert_eq!(fine.delivered(), ["[WARNING] a"]);
    // Nor does the next start take it up again.
    let lookout = setup.start();
    let restarted = lookout.log();
    assert!(lookout.sigterm().success());
    assert_eq!(gone.seen().len(), 1, "a dead letter rests");
    for (place, text) in [
        ("/api/status", status.text()),
        ("/metrics", page.text()),
        ("check --print", &printed),
        ("the log", &log),
        ("the second log", &restarted),
    ] {
        assert!(!text.contains("hunter2") && !text.contains(SECRET), "{place} shows the webhook:\n{text}");
    }
    // An error does not print the URL of an unreachable webhook either.
    let nowhere = "receivers: [{name: nowhere, slack: {webhook_url: 'http://127.0.0.1:1/services/hunter2'}}]\nstore: {path: null}\n";
    let lookout = Setup::new(nowhere).start();
    push(&lookout, &idle("a", 400));
    let failed = "lookout_notifications_failed_total{receiver=\"nowhere\",reason=\"connect\"}";
    eventually("the failure is counted", || metric(&lookout, failed).filter(|count| *count >= 1.0));
    let all = lookout.log() + lookout.get("/api/status").text();
    assert!(all.contains("notification failed") && !all.contains("hunter2"), "{all}");
}

/// What a command prints to both streams, however it ends.
pub(crate) fn output(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn a_hang_delays_no_other_receiver() {
    let (stuck, fine) = (Slack::start(), Slack::start());
    stuck.always(Act::Hang);
    let config = format!("store: {{path: null}}\nreceivers:\n{}{}", receiver("stuck", &stuck), receiver("fine", &fine));
    let lookout = Setup::new(&config).start();
    push(&lookout, &idle("a", 400));
    stuck.wait(1);
    // Three messages, each a second after the other, while the first send to the other receiver still hangs.
    fine.wait(1);
    push(&lookout, &idle("a", 650));
    fine.wait(2);
    push(&lookout, &idle("a", 0));
    fine.wait(3);
    assert_eq!(
        stuck.seen().len(),
        1,
        "its first send is still in flight after the other receiver delivered everything"
    );
    assert_eq!(fine.delivered(), ["[WARNING] a", "[ERROR] a", "[RESOLVED] a"]);
    let status = lookout.get("/api/status").json();
    // What is under way, and the newest word on the same alert.
    assert_eq!((&status["receivers"][0]["name"], &status["receivers"][0]["pending"]), (&json!("stuck"), &json!(2)));
    eventually("nothing waits for the other any more", || {
        let status = lookout.get("/api/status").json();
        (status["receivers"][1]["pending"] == json!(0)).then_some(())
    });
}

fn a_storm() {
    let slack = Slack::start();
    let lookout = Setup::new(&format!("store: {{path: null}}\nreceivers:\n{}", receiver("ops", &slack))).start();
    let names: Vec<String> = (0..60).map(|number| format!("worker-{number:02}")).collect();
    let agents: Vec<Value> = names.iter().map(|name| json!({"name": name, "status": "failed"})).collect();
    push(&lookout, &json!({"project": "shop", "agents": agents}));
    slack.wait(1);
    assert!(lookout.sigterm().success());
    let seen = slack.taken();
    assert!((1..=3).contains(&seen.len()), "{} messages", seen.len());
    let all: String = seen.iter().map(|seen| seen.text() + "\n").collect();
    assert!(all.contains("[CRITICAL] shop"), "{all}");
    assert!(all.contains("60 of 60 agents down"), "{all}");
    let named: BTreeSet<&String> = names.iter().filter(|name| all.contains(name.as_str())).collect();
    let more = all.split(' ').zip(all.split(' ').skip(1)).find(|(_, word)| word.starts_with("more"));
    let more: usize = more.map_or(0, |(count, _)| count.parse().unwrap());
    assert_eq!(named.len() + more, 60, "everyone is named or counted:\n{all}");
    assert!(named.len() >= 10, "{all}");
}

fn hostile_words() {
    let slack = Slack::start();
    let lookout = Setup::new(&format!("store: {{path: null}}\nreceivers:\n{}", receiver("ops", &slack))).start();
    let long = "é".repeat(120);
    // What can't be a name is refused.
    let answer = lookout.post("/api/state", &idle("\u{202e}evil\u{1b}[31m\u{7}", 400)).json();
    assert_eq!(answer["accepted"], 0, "{answer}");
    for name in ["<!channel> & *co*", "🤖 \"quoted\" {{ 7*7 }}", &long] {
        push(&lookout, &idle(name, 400));
    }
    slack.wait_for("the three", |seen| seen.iter().flat_map(Seen::alerts).count() == 3);
    let crowd: Vec<Value> = (0..300)
        .map(|number| {
            let batch = idle(&format!("<@U{number:03}> & {}", "&".repeat(150)), 400);
            batch["agents"][0].clone()
        })
        .collect();
    push(&lookout, &json!({"project": "crowd", "agents": crowd}));
    assert!(lookout.sigterm().success());
    let seen = slack.seen();
    for seen in &seen {
        assert_eq!(seen.act, Act::Take, "{}", seen.body);
        let text = seen.text();
        assert!(!text.contains("<!") && !text.contains("<@"), "a person is mentioned:\n{text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}') && !text.contains('\u{7}'), "{text:?}");
    }
    let all: String = seen.iter().map(|seen| seen.text() + "\n").collect();
    assert!(all.contains("&lt;!channel&gt; &amp; ") && all.contains("{{ 7*7 }}"), "{all}");
    assert!(all.contains(" more"), "{all}");
}
