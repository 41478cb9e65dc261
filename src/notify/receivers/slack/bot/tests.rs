//! The life of a message that a bot writes.

use serde_json::Value;

use super::*;
use crate::model::{Level, Retry};
use crate::notify::receiver::Receiver;
use crate::notify::samples::{at, firing, resolved};
use crate::notify::transport_tests::{answering, build};

type PostedBodies = tokio::sync::mpsc::Receiver<String>;

async fn bot(answer: impl Fn(&Value) -> &'static str + Clone + Send + Sync + 'static) -> (Receiver, PostedBodies) {
    let (address, posted) = answering(move |body: &str| {
        ("200 OK".to_owned(), answer(&serde_json::from_str(body).expect("JSON")).to_owned())
    })
    .await;
    (again(address), posted)
}

/// A bot that remembers nothing.
fn again(address: std::net::SocketAddr) -> Receiver {
    let slack = json!({"bot_token": "xoxb-1", "channel": "#ops", "api_url": format!("http://{address}/api")});
    build(json!({"name": "ops", "slack": slack}))
}

const TAKEN: &str = r#"{"ok":true,"channel":"C1","ts":"17.5"}"#;

/// What was called for: `update` or `post`, in a thread or not, whether shown in the channel, and the start of the title.
fn calls(posted: &mut PostedBodies) -> Vec<String> {
    let mut calls = Vec::new();
    while let Ok(body) = posted.try_recv() {
        let body: Value = serde_json::from_str(&body).expect("JSON");
        let title = body.pointer("/attachments/0/blocks/0/text/text").and_then(Value::as_str).expect("a title");
        let split = title.split_once(": no activity").or_else(|| title.split_once(" is active again"));
        let title = split.map_or(title, |(start, _)| start);
        let what = match (body.get("ts"), body.get("thread_ts"), body.get("reply_broadcast")) {
            (Some(_), _, _) => "update",
            (_, Some(_), Some(Value::Bool(true))) => "reply, shown",
            (_, Some(_), _) => "reply",
            _ => "post",
        };
        calls.push(format!("{what}: {title}"));
    }
    calls
}

fn raised(agent: &str, seconds: f64) -> Notice {
    Notice { kind: NoticeKind::Escalated, previous: Some(Level::Warning), ..firing(agent, Level::Error, seconds) }
}

#[tokio::test]
async fn an_alert_is_one_message_edited_in_place_with_its_history_in_the_thread() {
    let (receiver, mut posted) = bot(|_| TAKEN).await;
    let receipt = receiver.send(at(0.0), &[Arc::new(firing("a", Level::Warning, 0.0))]).await.expect("sent");
    assert_eq!(&*receipt.references[0].name, "C1/17.5/1");
    assert_eq!(calls(&mut posted), ["post: [WARNING] shop/a"]);
    receiver.send(at(9.0), &[Arc::new(raised("a", 9.0))]).await.expect("sent");
    assert_eq!(calls(&mut posted), ["update: [ERROR] shop/a", "reply, shown: [ERROR] shop/a"]);
    let receipt = receiver.send(at(20.0), &[Arc::new(resolved("a", 20.0))]).await.expect("sent");
    assert!(receipt.references.is_empty());
    assert_eq!(calls(&mut posted), ["update: [RESOLVED] shop/a", "reply: [RESOLVED] shop/a"]);
}

#[tokio::test]
async fn after_a_restart_the_reference_finds_the_message() {
    let (receiver, mut posted) = bot(|_| TAKEN).await;
    let known = |reference: &str, notice: Notice| Arc::new(Notice { reference: Some(Arc::from(reference)), ..notice });
    receiver.send(at(9.0), &[known("C1/17.5/1", resolved("a", 9.0))]).await.expect("sent");
    assert_eq!(calls(&mut posted), ["update: [RESOLVED] shop/a", "reply: [RESOLVED] shop/a"]);
    // What else a shared message shows is not remembered, so that it can't be written anew.
    receiver.send(at(9.0), &[known("C1/17.6/3", resolved("b", 9.0))]).await.expect("sent");
    assert_eq!(calls(&mut posted), ["reply: [RESOLVED] shop/b"]);
    receiver.send(at(9.0), &[known("nonsense", resolved("c", 9.0))]).await.expect("sent");
    assert_eq!(calls(&mut posted), ["post: [RESOLVED] shop/c"]);
}

#[tokio::test]
async fn alerts_notified_together_share_their_message() {
    let (receiver, mut posted) = bot(|_| TAKEN).await;
    let both = [Arc::new(firing("a", Level::Warning, 0.0)), Arc::new(firing("b", Level::Warning, 0.0))];
    assert_eq!(receiver.send(at(0.0), &both).await.expect("sent").references.len(), 2);
    receiver.send(at(9.0), &[Arc::new(resolved("a", 9.0))]).await.expect("sent");
    let seen = calls(&mut posted);
    assert_eq!(
        seen,
        [
            "post: [WARNING] shop: 2 alerts (a, b)",
            "update: [WARNING] shop: 1 alert, 1 resolved (b, a)",
            "reply: [RESOLVED] shop/a"
        ]
    );
}

#[tokio::test]
async fn a_message_that_is_gone_is_posted_anew() {
    let gone = r#"{"ok":false,"error":"message_not_found"}"#;
    let (receiver, mut posted) = bot(move |body| if body.get("ts").is_some() { gone } else { TAKEN }).await;
    receiver.send(at(0.0), &[Arc::new(firing("a", Level::Warning, 0.0))]).await.expect("sent");
    let receipt = receiver.send(at(9.0), &[Arc::new(raised("a", 9.0))]).await.expect("sent");
    assert_eq!(receipt.references.len(), 1);
    assert_eq!(calls(&mut posted), ["post: [WARNING] shop/a", "update: [ERROR] shop/a", "post: [ERROR] shop/a"]);
}

#[tokio::test]
async fn what_was_sent_before_a_failure_is_not_sent_twice() {
    let failing = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let switch = Arc::clone(&failing);
    let (receiver, mut posted) = bot(move |body| {
        let is_reply = body.get("thread_ts").is_some();
        if is_reply && switch.load(std::sync::atomic::Ordering::SeqCst) {
            return r#"{"ok":false,"error":"ratelimited"}"#;
        }
        TAKEN
    })
    .await;
    receiver.send(at(0.0), &[Arc::new(firing("a", Level::Warning, 0.0))]).await.expect("sent");
    let batch = [Arc::new(firing("b", Level::Error, 9.0)), Arc::new(raised("a", 9.0))];
    let error = receiver.send(at(9.0), &batch).await.expect_err("limited");
    assert_eq!((error.reason, error.retry), (SendReason::RateLimited, Retry::Unlimited));
    failing.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(receiver.send(at(11.0), &batch).await.expect("sent").references.len(), 2);
    let posts = calls(&mut posted).into_iter().filter(|call| call == "post: [ERROR] shop/b").count();
    assert_eq!(posts, 1);
}

#[test]
fn slacks_words_say_whether_it_is_tried_again() {
    let check = |body: &str, expected: (SendReason, Retry)| {
        let body = body.as_bytes().to_vec();
        let answer =
            Answer { host: String::new(), status: 200, retry_after: None, is_page: false, body, is_complete: true };
        let Err(Failure::Other(error)) = meaning("chat.postMessage", &answer) else { panic!("{answer:?}") };
        assert_eq!((error.reason, error.retry), expected, "{answer:?}");
        assert!(!error.message.contains("xoxb"), "{error}");
        let broken = Answer { body: b"{\"ok\":tr".to_vec(), is_complete: false, ..answer };
        assert!(meaning("chat.postMessage", &broken).is_ok(), "a success that breaks off is one");
    };
    check(r#"{"ok":false,"error":"invalid_auth"}"#, (SendReason::Auth, Retry::Limited));
    check(r#"{"ok":false,"error":"channel_not_found"}"#, (SendReason::Refused, Retry::Limited));
    check(r#"{"ok":false,"error":"invalid_blocks"}"#, (SendReason::Refused, Retry::Never));
    check(r#"{"ok":false,"error":"ratelimited"}"#, (SendReason::RateLimited, Retry::Unlimited));
    check(r#"{"ok":false,"error":"internal_error"}"#, (SendReason::Server, Retry::Unlimited));
    check(r#"{"ok":false,"error":"xoxb-1234 is no token"}"#, (SendReason::Server, Retry::Unlimited));
    check("<html>", (SendReason::Server, Retry::Unlimited));
}
