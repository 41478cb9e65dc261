//! Alertmanager as a receiver: the real one shows our alerts, keeps them while they last, and drops them at their end.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::counterparts::Need;
use crate::doubles::slack::Slack;
use crate::program::{Lookout, Setup, eventually};
use crate::slack::{idle, metric, push};
use crate::{Case, http, trial};

pub(crate) fn trials() -> Vec<Case> {
    const NEEDS: &[Need] = &[Need::Alertmanager, Need::Amtool];
    vec![
        trial("alertmanager: every instance shows an alert at its level, and drops it at its end", NEEDS, lives),
        trial("alertmanager: an unreachable instance delays nothing and is notified when it is back", NEEDS, away),
        trial("webhook: version 4, signed, each alert with its key, the same when sent again", &[], webhook),
    ]
}

/// A running Alertmanager. Dropping it kills it.
struct Alertmanager {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Alertmanager {
    fn start(address: SocketAddr) -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let config = dir.path().join("alertmanager.yml");
        std::fs::write(&config, "route: {receiver: none}\nreceivers: [{name: none}]\n").expect("a file");
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.path().join("data").display()))
            .args([&format!("--web.listen-address={address}"), "--cluster.listen-address="])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Alertmanager starts");
        let started = Self { child, address, _dir: dir };
        eventually("Alertmanager is ready", || {
            (http::request(address, "GET", "/-/ready", &[], b"").ok()?.status == 200).then_some(())
        });
        started
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `severity agent summary` of each alert that fires, as its own command line shows them.
    fn firing(&self) -> Vec<String> {
        let url = self.url();
        let output = Command::new("amtool")
            .args(["--alertmanager.url", &url, "alert", "query", "-o", "json"])
            .output()
            .expect("amtool runs");
        let alerts: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let mut shown: Vec<String> = alerts
            .as_array()
            .expect("alerts")
            .iter()
            .map(|one| {
                let text = |kind: &str, name: &str| one[kind][name].as_str().unwrap_or_default().to_owned();
                assert!(one["labels"].get("value").is_none(), "a value is no label: {one}");
                format!(
                    "{} {} {}",
                    text("labels", "severity"),
                    text("labels", "agent_name"),
                    text("labels", "alertname")
                )
            })
            .collect();
        shown.sort();
        shown
    }

    fn shows(&self, expected: &[&str]) {
        let mut last = Vec::new();
        eventually(&format!("Alertmanager shows {expected:?}"), || {
            last = self.firing();
            (last == expected).then_some(())
        });
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn start(setup: &Setup) -> Lookout {
    setup.start()
}

fn lives() {
    let (one, two) = (Alertmanager::start(free()), Alertmanager::start(free()));
    let setup = Setup::new(&format!(
        "external_url: https://lookout.example\nreceivers:\n  - {{name: am, alertmanager: {{urls: ['{}', '{}']}}}}\n",
        one.url(),
        two.url()
    ));
    let lookout = start(&setup);
    push(&lookout, &idle("worker-1", 400));
    push(&lookout, &idle("worker-2", 400));
    for instance in [&one, &two] {
        instance.shows(&["warning worker-1 AgentIdle", "warning worker-2 AgentIdle"]);
    }
    // A change of level resolves one alert and fires another.
    push(&lookout, &idle("worker-1", 700));
    one.shows(&["error worker-1 AgentIdle", "warning worker-2 AgentIdle"]);
    // Alertmanager keeps the alert over a crash of lookout, and gets the resolve afterwards.
    lookout.kill9();
    let lookout = start(&setup);
    push(&lookout, &idle("worker-1", 0));
    for instance in [&one, &two] {
        instance.shows(&["warning worker-2 AgentIdle"]);
    }
    push(&lookout, &idle("worker-2", 0));
    for instance in [&one, &two] {
        instance.shows(&[]);
    }
}

fn away() {
    let (here, gone) = (Alertmanager::start(free()), free());
    let setup = Setup::new(&format!(
        "receivers:\n  - {{name: am, alertmanager: {{urls: ['{}', 'http://{gone}']}}}}\n",
        here.url()
    ));
    let lookout = start(&setup);
    push(&lookout, &idle("worker-1", 400));
    here.shows(&["warning worker-1 AgentIdle"]);
    let failed = "lookout_notifications_failed_total{receiver=\"am\",reason=\"connect\"}";
    eventually("the failure of the instance is counted", || metric(&lookout, failed).filter(|count| *count >= 1.0));
    assert_eq!(metric(&lookout, "lookout_notifications_total{receiver=\"am\"}"), Some(1.0));
    let shown = lookout.get("/api/status").json()["receivers"][0].clone();
    assert_eq!(shown["pending"], json!(0), "the other took it: {shown}");
    assert!(shown["last_error"].as_str().is_some_and(|error| error.starts_with("instance 1: ")), "{shown}");
    // Back again, it is notified of alerts that still fire, as it is at the start and each minute.
    let back = Alertmanager::start(gone);
    assert!(lookout.sigterm().success());
    let lookout = start(&setup);
    back.shows(&["warning worker-1 AgentIdle"]);
    push(&lookout, &idle("worker-1", 0));
    back.shows(&[]);
    here.shows(&[]);
}

fn webhook() {
    // The Slack double records every request, also invalid ones.
    let hook = Slack::start();
    let setup = Setup::new(&format!(
        "receivers:\n  - {{name: hook, webhook: {{url: '{}', secret_file: secret}}}}\n",
        hook.url()
    ));
    setup.write("secret", "hunter2hunter2\n");
    let lookout = setup.start();
    push(&lookout, &idle("worker-1", 400));
    eventually("it is posted", || (!hook.seen().is_empty()).then_some(()));
    let payload: Value = serde_json::from_str(
        hook.seen()[0].body.as_str().unwrap_or_default().split_once(": ").map_or("", |(_, raw)| raw),
    )
    .unwrap_or(Value::Null);
    assert_eq!(
        [&payload["version"], &payload["status"], &payload["alerts"][0]["labels"]["agent_name"]],
        [&json!("4"), &json!("firing"), &json!("worker-1")],
        "{:?}",
        hook.seen()
    );
    assert_eq!(payload["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
    assert!(!lookout.log().contains("hunter2"), "{}", lookout.log());
}
