//! The tasks, against webhooks on loopback ports. When what is due is tested with the list, on plain times.

use std::net::SocketAddr;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::super::samples::{at, firing, resolved};
use super::super::transport_tests::{build, build_hurried, listen, read_request, slack};
use super::*;
use crate::model::{Level, NoticeKind};

/// How long a test waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A webhook that answers with the next of `answers`, then `200 ok` for ever; the bodies come out.
async fn webhook(answers: &[&'static str]) -> (SocketAddr, mpsc::Receiver<String>) {
    let (bodies, bodies_received) = mpsc::channel(100);
    let answers = Arc::new(Mutex::new(answers.iter().rev().copied().collect::<Vec<_>>()));
    let address = listen(move |stream: TcpStream| {
        let (bodies, answers) = (bodies.clone(), Arc::clone(&answers));
        async move {
            let mut stream = BufReader::new(stream);
            while let Some(body) = read_request(&mut stream).await {
                let answer = answers.lock().expect("unpoisoned").pop().unwrap_or("200 OK");
                drop(bodies.send(body).await);
                let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 2\r\n\r\nok");
                if answer == "hang" || stream.get_mut().write_all(text.as_bytes()).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    })
    .await;
    (address, bodies_received)
}

/// A receiver with short pauses, so that a test is over soon.
fn hasty(name: &str, address: SocketAddr) -> Receiver {
    without_pauses(slack(name, address))
}

fn without_pauses(mut receiver: Receiver) -> Receiver {
    receiver.pace.group_wait = Duration::from_millis(300);
    receiver.pace.first_pause = Duration::from_millis(50);
    receiver.pace.bucket = None;
    receiver
}

fn start(receivers: Vec<Receiver>) -> (Dispatcher, mpsc::Receiver<DeliveryReport>) {
    let (reports, inbox) = mpsc::channel(100);
    (Dispatcher::start(receivers, Clock::system(), reports), inbox)
}

fn notice(receiver: &str, agent: &str) -> Arc<Notice> {
    Arc::new(Notice { receiver: Arc::from(receiver), ..firing(agent, Level::Error, 0.0) })
}

async fn soon<T>(future: impl Future<Output = Option<T>>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time").expect("open")
}

/// The next report, in words.
async fn next(inbox: &mut mpsc::Receiver<DeliveryReport>) -> String {
    let agents = |outcome: &DeliveryOutcome| {
        let mut names: Vec<_> = outcome.notices.iter().map(|notice| notice.subject.name().to_string()).collect();
        names.sort();
        format!("{}: {}", outcome.receiver, names.join(" "))
    };
    match soon(inbox.recv()).await {
        DeliveryReport::Delivered(outcome, _) => format!("delivered {}", agents(&outcome)),
        DeliveryReport::Superseded(outcome) => format!("superseded {}", agents(&outcome)),
        DeliveryReport::Deferred(outcome) => format!("deferred {}", agents(&outcome)),
        DeliveryReport::DeadLettered(outcome, error) => format!("gave up ({error}) {}", agents(&outcome)),
        DeliveryReport::Failed { receiver, error, .. } => format!("failed {receiver}: {error}"),
    }
}

#[tokio::test]
async fn what_follows_the_first_message_is_grouped_into_one() {
    let (address, mut bodies_received) = webhook(&[]).await;
    let (dispatcher, mut inbox) = start(vec![hasty("ops", address)]);
    dispatcher.dispatch(vec![notice("ops", "a")]);
    assert!(soon(bodies_received.recv()).await.contains("[ERROR] shop/a: "));
    for agent in ["b", "c", "d"] {
        dispatcher.dispatch(vec![notice("ops", agent)]);
    }
    assert!(soon(bodies_received.recv()).await.contains("[ERROR] shop: 3 alerts (b, c, d)"));
    assert_eq!(next(&mut inbox).await, "delivered ops: a");
    assert_eq!(next(&mut inbox).await, "delivered ops: b c d");
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_no_other_and_is_seen() {
    let (hanging, _heard) = webhook(&["hang"; 9]).await;
    let (address, mut bodies_received) = webhook(&[]).await;
    let url = format!("http://{hanging}/");
    let impatient = build_hurried(serde_json::json!({"name": "hanging", "slack": {"webhook_url": url}}));
    let (dispatcher, mut inbox) = start(vec![without_pauses(impatient), hasty("ops", address)]);
    dispatcher.dispatch(vec![notice("hanging", "a"), notice("ops", "a")]);
    soon(bodies_received.recv()).await;
    assert_eq!(next(&mut inbox).await, "delivered ops: a");
    assert_eq!(next(&mut inbox).await, "failed hanging: slack at 127.0.0.1 did not answer in time");
    let (_, mut status) = dispatcher.statuses().into_iter().find(|(name, _)| &**name == "hanging").expect("a receiver");
    let seen = status.borrow_and_update().clone();
    assert_eq!((seen.pending, seen.oldest), (1, Some(notice("hanging", "a").at)));
    assert_eq!(seen.last_error.as_deref(), Some("slack at 127.0.0.1 did not answer in time"));
}

#[tokio::test]
async fn what_fails_in_passing_is_delivered_later() {
    let (address, mut bodies_received) = webhook(&["500 Oops", "503 Oops"]).await;
    let (dispatcher, mut inbox) = start(vec![hasty("ops", address)]);
    dispatcher.dispatch(vec![notice("ops", "a")]);
    for _ in 0..3 {
        soon(bodies_received.recv()).await;
    }
    assert_eq!(next(&mut inbox).await, "failed ops: slack at 127.0.0.1 answered 500");
    assert_eq!(next(&mut inbox).await, "failed ops: slack at 127.0.0.1 answered 503");
    assert_eq!(next(&mut inbox).await, "delivered ops: a");
    let (_, mut status) = dispatcher.statuses().remove(0);
    assert_eq!(*status.borrow_and_update(), ReceiverStatus::default());
}

#[tokio::test]
async fn a_reload_keeps_what_waits_and_tries_it_at_once() {
    let (broken, mut bodies_received) = webhook(&["429 Slow down\r\nretry-after: 3000"]).await;
    let (mut dispatcher, mut inbox) = start(vec![hasty("ops", broken), hasty("gone", broken)]);
    dispatcher.dispatch(vec![notice("ops", "a")]);
    soon(bodies_received.recv()).await;
    assert_eq!(next(&mut inbox).await, "failed ops: slack at 127.0.0.1 answered 429");
    let (address, mut bodies_received) = webhook(&[]).await;
    dispatcher.replace(vec![hasty("ops", address), hasty("new", address)]);
    assert!(soon(bodies_received.recv()).await.contains("[ERROR] shop/a: "));
    assert_eq!(next(&mut inbox).await, "delivered ops: a");
    dispatcher.dispatch(vec![notice("new", "b"), notice("gone", "c")]);
    let mut reports = [next(&mut inbox).await, next(&mut inbox).await];
    reports.sort();
    assert_eq!(reports, ["delivered new: b", "gave up (there is no receiver gone) gone: c"]);
}

#[tokio::test]
async fn what_a_removed_receiver_waits_for_is_given_up() {
    let (broken, mut bodies_received) = webhook(&["429 Slow down\r\nretry-after: 3000"]).await;
    let (mut dispatcher, mut inbox) = start(vec![hasty("ops", broken)]);
    dispatcher.dispatch(vec![notice("ops", "a")]);
    soon(bodies_received.recv()).await;
    assert_eq!(next(&mut inbox).await, "failed ops: slack at 127.0.0.1 answered 429");
    dispatcher.replace(Vec::new());
    assert_eq!(next(&mut inbox).await, "gave up (receiver removed) ops: a");
    assert!(dispatcher.statuses().is_empty());
}

#[tokio::test]
async fn a_drain_sends_what_is_gathered_and_waits_for_no_retry() {
    let (address, mut bodies_received) = webhook(&[]).await;
    let (failing, mut tried) = webhook(&["429 Slow down\r\nretry-after: 3000"]).await;
    let mut patient = hasty("ops", address);
    patient.pace.group_wait = Duration::from_secs(3000);
    let (dispatcher, mut inbox) = start(vec![patient, hasty("failing", failing)]);
    dispatcher.dispatch(vec![notice("ops", "a"), notice("failing", "a")]);
    soon(bodies_received.recv()).await;
    soon(tried.recv()).await;
    let mut reports = [next(&mut inbox).await, next(&mut inbox).await];
    reports.sort();
    assert_eq!(reports, ["delivered ops: a", "failed failing: slack at 127.0.0.1 answered 429"]);
    dispatcher.dispatch(vec![notice("ops", "b")]);
    tokio::time::timeout(PATIENCE, dispatcher.drain(PATIENCE)).await.expect("it waits for no retry");
    assert_eq!(next(&mut inbox).await, "delivered ops: b");
    assert!(inbox.recv().await.is_none(), "all tasks are gone");
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let (hanging, mut bodies_received) = webhook(&["hang"]).await;
    let (dispatcher, mut inbox) = start(vec![hasty("ops", hanging)]);
    dispatcher.dispatch(vec![notice("ops", "a")]);
    soon(bodies_received.recv()).await;
    tokio::time::timeout(PATIENCE, dispatcher.drain(Duration::from_millis(10))).await.expect("in time");
    assert!(inbox.recv().await.is_none(), "all tasks are gone, and nothing was reported");
}

#[tokio::test]
async fn a_reminder_leaves_before_what_became_due_after_it() {
    let (bodies, mut bodies_received) = mpsc::channel(100);
    let address = listen(move |stream: TcpStream| {
        let bodies = bodies.clone();
        async move {
            let mut stream = BufReader::new(stream);
            while let Some(body) = read_request(&mut stream).await {
                drop(bodies.send(body).await);
                drop(stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await);
            }
        }
    })
    .await;
    let config = serde_json::json!({"name": "am", "alertmanager": {"urls": [format!("http://{address}")]}});
    let (dispatcher, mut inbox) = start(vec![build(config)]);
    let standing = Notice { kind: NoticeKind::Repeat, ..firing("a", Level::Warning, 0.0) };
    let over = Notice { receiver: Arc::from("am"), ..resolved("a", 9.0) };
    // No await between them: the task sees both at once.
    dispatcher.remind("am", vec![Arc::new(standing)]);
    dispatcher.dispatch(vec![Arc::new(over)]);
    let mut ends = Vec::new();
    for _ in 0..2 {
        let body: serde_json::Value = serde_json::from_str(&soon(bodies_received.recv()).await).expect("JSON");
        ends.push(body[0]["endsAt"].as_str().expect("an end") == at(9.0).to_string());
    }
    assert_eq!(ends, [false, true], "the end comes last, or it would fire again");
    assert_eq!(next(&mut inbox).await, "delivered am: ");
    assert_eq!(next(&mut inbox).await, "delivered am: a");
}
