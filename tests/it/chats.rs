//! Services that are notified by a POST of JSON: the messages they get, retries, and rejected messages.

use serde_json::json;

use crate::doubles::service::Service;
use crate::program::{Setup, eventually};
use crate::slack::{idle, metric, output, push};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("chats: ntfy is notified by level, again after a rate limit, and of the resolve", &[], ntfy_is_notified),
        trial("chats: what ntfy rejects is dead-lettered and shows no secret", &[], ntfy_rejects),
        trial(
            "chats: Mattermost is notified, again after an error in a 200, and of the resolve",
            &[],
            mattermost_is_notified,
        ),
        trial("chats: what Rocket.Chat rejects is dead-lettered and shows no secret", &[], rocket_chat_rejects),
    ]
}

/// The one receiver of a sidecar with the secrets `hunter2…` in files next to its configuration.
fn setup(receiver: &str) -> Setup {
    let setup = Setup::new(&format!("external_url: https://lookout.example\nreceivers: [{{name: ops, {receiver}}}]\n"));
    setup.write("topic", "hunter2-topic\n");
    setup.write("token", "hunter2-token\n");
    setup
}

/// What no log, page or command may show.
fn assert_no_secret_in(texts: &[String]) {
    assert!(texts.iter().all(|text| !text.contains("hunter2")), "{texts:#?}");
}

/// Rejected for good, an alert is counted, logged and not sent again.
fn is_dead_lettered(setup: &Setup, service: &Service) {
    let lookout = setup.start();
    push(&lookout, &idle("boss", 400));
    let failed = "lookout_notifications_failed_total{receiver=\"ops\",reason=\"refused\"}";
    eventually("the refusal is counted", || (metric(&lookout, failed) == Some(1.0)).then_some(()));
    let pages = lookout.get("/api/status").text().to_owned() + lookout.get("/metrics").text();
    let printed = output(setup.command(&["check", "--config", "lookout.yaml", "--print"]));
    let log = lookout.wait_for_log(&["dead-lettered"]);
    assert!(lookout.sigterm().success());
    assert_eq!(service.requests().len(), 1, "a refusal for good is not tried again");
    assert_no_secret_in(&[pages, printed, log]);
}

fn ntfy(service: &Service) -> String {
    format!("ntfy: {{url: 'http://{}', topic_file: topic, token_file: token}}", service.address)
}

const PUBLISHED: (u16, &str) = (200, r#"{"id":"x","time":1,"event":"message","topic":"t","message":"m"}"#);

fn ntfy_is_notified() {
    let limited = (429, r#"{"code":42901,"http":429,"error":"limit reached: too many requests, please be nice"}"#);
    let service = Service::start(&[PUBLISHED, limited], PUBLISHED);
    let setup = setup(&ntfy(&service));
    let output = output(setup.command(&["test", "notify", "--config", "lookout.yaml"]));
    assert!(output.contains("ops: delivered"), "{output}");
    let test = &service.wait(1)[0];
    assert_eq!((&test.body["priority"], &test.body["tags"]), (&json!(3), &json!(["test_tube"])));
    assert_eq!((&*test.authorization, &test.body["topic"]), ("Bearer hunter2-token", &json!("hunter2-topic")));
    let lookout = setup.start();
    push(&lookout, &idle("boss", 400));
    // The first attempt meets the limit.
    let requests = service.wait(3);
    let title = requests[1].body["title"].as_str().unwrap();
    assert!(title.starts_with("[WARNING] shop/boss: no activity for "), "{title}");
    assert_eq!(requests[1].body["title"], requests[2].body["title"]);
    assert_eq!((&requests[2].body["priority"], &requests[2].body["tags"]), (&json!(3), &json!(["warning"])));
    let click = requests[2].body["click"].as_str().unwrap();
    assert!(click.starts_with("https://lookout.example/api/alerts/") && click.ends_with("/why"), "{click}");
    push(&lookout, &idle("boss", 0));
    let over = &service.wait(4)[3];
    assert!(over.body["title"].as_str().unwrap().starts_with("[RESOLVED] shop/boss is active again. "));
    assert_eq!(over.body["priority"], 2);
    let log = lookout.log();
    assert!(lookout.sigterm().success());
    assert_eq!(service.requests().len(), 4);
    assert_no_secret_in(&[log]);
}

fn ntfy_rejects() {
    let rejected = (400, r#"{"code":40009,"http":400,"error":"invalid request: topic invalid"}"#);
    let service = Service::start(&[], rejected);
    is_dead_lettered(&setup(&ntfy(&service)), &service);
}

fn mattermost(service: &Service) -> String {
    format!("mattermost: {{webhook_url: 'http://{}/hooks/hunter2'}}", service.address)
}

fn mattermost_is_notified() {
    let failure = (200, r#"{"success":false,"error":"a passing trouble"}"#);
    let service = Service::start(&[(200, r#"{"success":true}"#), failure], (200, "ok"));
    let setup = setup(&mattermost(&service));
    let output = output(setup.command(&["test", "notify", "--config", "lookout.yaml"]));
    assert!(output.contains("ops: delivered"), "{output}");
    assert!(service.wait(1)[0].body["text"].as_str().unwrap().starts_with("[TEST] "));
    let lookout = setup.start();
    push(&lookout, &idle("@channel *boss*", 400));
    let requests = service.wait(3);
    for request in &requests[1..] {
        let text = request.body["text"].as_str().unwrap();
        assert!(text.starts_with("[WARNING] shop/@\u{200b}channel \\*boss\\*: no activity"), "{text}");
        assert_eq!(request.body["attachments"][0]["color"], "#ff9900");
    }
    push(&lookout, &idle("@channel *boss*", 0));
    let over = &service.wait(4)[3];
    let text = over.body["text"].as_str().unwrap();
    assert!(text.starts_with("[RESOLVED] shop/@\u{200b}channel \\*boss\\* is active again"), "{text}");
    assert_eq!(over.body["attachments"][0]["color"], "#36a64f");
    let log = lookout.log();
    assert!(lookout.sigterm().success());
    assert_eq!(service.requests().len(), 4);
    assert_no_secret_in(&[log]);
}

fn rocket_chat_rejects() {
    let rejected = (400, r#"{"success":false,"error":"error-invalid-channel"}"#);
    let service = Service::start(&[], rejected);
    is_dead_lettered(&setup(&mattermost(&service)), &service);
}
