//! One table of troubles that every kind of receiver goes through, against a double on a loopback port. Which kinds there
//! are is given by [`Kind::samples`], so that a new one is among them.

use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::answer::Success;
use super::config::{Kind, ReceiverConfig};
use super::receiver::Receiver;
pub(super) use super::receivers::SECRET;
use super::receivers::{Sample, ToldBy};
use super::samples::{at, firing, resolved};
use crate::model::{Level, Retry, SendError, SendReason};

/// What a double received, a connection after another.
pub(super) type Transcript = Arc<Mutex<String>>;

/// Serves each connection on a free loopback port with `serve` until the runtime ends.
pub(super) async fn listen<F, S>(serve: S) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(TcpStream) -> F + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Reads one HTTP request; the answer is its body.
pub(super) async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    String::from_utf8(body).ok()
}

/// A receiver that posts to a webhook at `address`.
pub(super) fn slack(name: &str, address: SocketAddr) -> Receiver {
    let url = format!("http://{address}/services/{SECRET}");
    build(serde_json::json!({"name": name, "slack": {"webhook_url": url}}))
}

pub(super) fn build(config: serde_json::Value) -> Receiver {
    build_with(config, "")
}

/// The receiver of a sidecar that others find at `external_url`.
pub(super) fn build_with(config: serde_json::Value, external_url: &str) -> Receiver {
    let mut config: ReceiverConfig = serde_json::from_value(config).expect("a receiver");
    config.common.external_url = external_url.to_owned();
    Receiver::build(&[config]).expect("valid settings").remove(0)
}

/// The receiver with a deadline that a test can wait for.
pub(super) fn build_hurried(config: serde_json::Value) -> Receiver {
    let config: ReceiverConfig = serde_json::from_value(config).expect("a receiver");
    Receiver::build_within(&[config], Some(Duration::from_millis(300))).expect("valid settings").remove(0)
}

/// What the mail double answers when it does what it should.
pub(super) fn friendly(command: &str) -> &'static str {
    match command.split([' ', ':', '\r']).next().unwrap_or_default() {
        "" => "220 mail.example.com ESMTP\r\n",
        "EHLO" => "250-mail.example.com\r\n250-   \r\n250 8BITMIME\r\n",
        "DATA" => "354 go on\r\n",
        "QUIT" => "221 bye\r\n",
        _ => "250 ok\r\n",
    }
}

/// Speaks SMTP as `answer` has it for each command (the first is empty: the greeting); `.` is the end of a mail.
/// An empty answer hangs up. Gives the stream back when STARTTLS was granted.
pub(super) async fn speak_smtp<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    greet: bool,
    received: &Transcript,
    answer: impl Fn(&str) -> String,
) -> Option<S> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut mail) = (String::new(), false);
    let mut reply = if greet { answer("") } else { String::new() };
    loop {
        if reply.is_empty() && (greet || !line.is_empty()) && !mail {
            return None;
        }
        stream.write_all(reply.as_bytes()).await.ok()?;
        mail |= reply.starts_with("354");
        if line.starts_with("STARTTLS") && reply.starts_with("220 ") {
            return Some(stream.into_inner());
        }
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        received.lock().expect("unpoisoned").push_str(&line);
        let over = line == ".\r\n";
        reply = if mail && !over { String::new() } else { answer(&line) };
        mail &= !over;
    }
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    NobodyListens,
    Hang,
    HangUp,
    Garbage,
    Endless,
    Transient,
    Rejected,
    NotOurs,
}

impl Trouble {
    const ALL: [Self; 8] = [
        Self::NobodyListens,
        Self::Hang,
        Self::HangUp,
        Self::Garbage,
        Self::Endless,
        Self::Transient,
        Self::Rejected,
        Self::NotOurs,
    ];

    const fn expected(self) -> (SendReason, Retry) {
        match self {
            Self::NobodyListens => (SendReason::Connect, Retry::Unlimited),
            Self::Hang => (SendReason::Timeout, Retry::Unlimited),
            Self::HangUp | Self::Garbage | Self::Endless => (SendReason::Network, Retry::Unlimited),
            Self::Transient => (SendReason::Server, Retry::Unlimited),
            Self::Rejected => (SendReason::Refused, Retry::Never),
            Self::NotOurs => (SendReason::Refused, Retry::Limited),
        }
    }

    /// Serves one connection; `http` selects one of the two protocols.
    async fn serve(self, stream: TcpStream, http: bool) {
        let (received, mut stream) = (Transcript::default(), stream);
        match self {
            Self::NobodyListens => {}
            Self::Hang => std::future::pending().await,
            Self::HangUp => drop(stream),
            Self::Garbage => drop(stream.write_all(b"\xff\xfe\x00 what?\r\n\r\n").await),
            Self::Endless => {
                let block = [b'x'; 4096];
                for _ in 0..4096 {
                    if stream.write_all(&block).await.is_err() {
                        return;
                    }
                }
            }
            Self::Transient | Self::Rejected | Self::NotOurs if http => {
                let mut stream = BufReader::new(stream);
                read_request(&mut stream).await;
                let answer = match self {
                    Self::Transient => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    Self::Rejected => {
                        "HTTP/1.1 400 Bad Request\r\ncontent-length: 15\r\n\r\ninvalid_payload".to_owned()
                    }
                    _ => format!("HTTP/1.1 302 Found\r\nlocation: /{SECRET}\r\ncontent-length: 6\r\n\r\n{SECRET}"),
                };
                drop(stream.get_mut().write_all(answer.as_bytes()).await);
            }
            Self::Transient | Self::Rejected | Self::NotOurs => {
                let answer = |command: &str| {
                    let refusal = match self {
                        Self::Transient if command.starts_with("MAIL") => "451 try later\r\n",
                        Self::Rejected if command == ".\r\n" => "554 no\r\n",
                        Self::NotOurs if command.is_empty() => "554 no service here\r\n",
                        _ => friendly(command),
                    };
                    refusal.to_owned()
                };
                speak_smtp(stream, true, &received, answer).await;
            }
        }
    }
}

/// Answers each request with what `answer` makes of its body: a status line with headers, and a body. What was posted
/// comes out.
pub(super) async fn answering(
    answer: impl Fn(&str) -> (String, String) + Clone + Send + Sync + 'static,
) -> (SocketAddr, tokio::sync::mpsc::Receiver<String>) {
    let (bodies, posted) = tokio::sync::mpsc::channel(1_000);
    let address = listen(move |stream| {
        let (bodies, answer) = (bodies.clone(), answer.clone());
        async move {
            let mut stream = BufReader::new(stream);
            while let Some(body) = read_request(&mut stream).await {
                let (head, text) = answer(&body);
                let reply = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                drop(bodies.send(body).await);
                if stream.get_mut().write_all(reply.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (address, posted)
}

async fn check(receiver: &Receiver, trouble: Trouble) {
    let notice = Arc::new(firing("worker-1", Level::Error, 0.0));
    let error: SendError = receiver.send(at(0.0), &[notice]).await.expect_err("trouble");
    let (kind, mut shown) = (receiver.kind(), String::new());
    write!(shown, "{error} {error:?} {receiver:?}").expect("text");
    assert_eq!((error.reason, error.retry), trouble.expected(), "{kind} {trouble:?}: {shown}");
    assert!(!shown.contains(SECRET), "{kind} {trouble:?} leaks: {shown}");
}

/// The configuration of a receiver of a sample's kind.
fn receiver_of(sample: Sample) -> serde_json::Value {
    let section = serde_json::Map::from_iter([(sample.key.to_owned(), sample.section)]);
    let mut config = serde_json::Value::Object(section);
    config["name"] = serde_json::json!("ops");
    config
}

/// Every kind that takes a POST, at `address`, with what it takes for a success.
fn told_by_post(address: SocketAddr) -> Vec<(serde_json::Value, Option<Success>)> {
    let by_post = |sample: Sample| match sample.told_by {
        ToldBy::Post(success) => Some((receiver_of(sample), success)),
        ToldBy::Mail => None,
    };
    let all: Vec<_> = Kind::samples(address).into_iter().filter_map(by_post).collect();
    assert!(all.len() > 7, "{all:?}");
    all
}

/// The same, built.
fn posted(address: SocketAddr) -> Vec<Receiver> {
    told_by_post(address).into_iter().map(|(config, _)| build(config)).collect()
}

#[tokio::test]
async fn every_trouble_has_its_reason_and_leaks_no_secret() {
    for trouble in Trouble::ALL {
        for http in [true, false] {
            let mut address = listen(move |stream| trouble.serve(stream, http)).await;
            if matches!(trouble, Trouble::NobodyListens) {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                address = listener.local_addr().expect("an address");
            }
            let build = if matches!(trouble, Trouble::Hang) { build_hurried } else { build };
            for sample in Kind::samples(address).into_iter().filter(|it| http == (it.told_by != ToldBy::Mail)) {
                check(&build(receiver_of(sample)), trouble).await;
            }
        }
    }
}

#[tokio::test]
async fn slack_gets_one_post_and_says_ok() {
    let (bodies, mut posted) = tokio::sync::mpsc::channel(4);
    let address = listen(move |stream| {
        let bodies = bodies.clone();
        async move {
            let mut stream = BufReader::new(stream);
            if let Some(body) = read_request(&mut stream).await {
                drop(stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await);
                drop(bodies.send(body).await);
            }
        }
    })
    .await;
    let receiver = slack("ops", address);
    let notice = super::test_notice(&receiver, at(0.0), "host-1");
    receiver.send(at(0.0), &[Arc::new(notice)]).await.expect("sent");
    let body: serde_json::Value = serde_json::from_str(&posted.recv().await.expect("a body")).expect("JSON");
    let title = body.pointer("/attachments/0/blocks/0/text/text");
    assert_eq!(title, Some(&serde_json::json!("[TEST] lookout on host-1: this is a test message, nothing is wrong")));
    receiver.send(at(0.0), &[]).await.expect("without notices there is no request");
    assert!(posted.try_recv().is_err());
}

#[tokio::test]
async fn every_kind_is_told_with_one_post_of_json_and_takes_its_pause() {
    let (requests, mut seen) = tokio::sync::mpsc::channel(64);
    let limited = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_limited = Arc::clone(&limited);
    let address = listen(move |stream| {
        let (requests, is_limited) = (requests.clone(), Arc::clone(&is_limited));
        async move {
            let mut stream = BufReader::new(stream);
            let Some(body) = read_request(&mut stream).await else { return };
            let answer: &[u8] = if is_limited.load(std::sync::atomic::Ordering::Relaxed) {
                b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n"
            } else if body.contains("\"channel\"") || body.contains("\"chat_id\"") {
                b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"ok\":true}"
            } else {
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            };
            drop(stream.get_mut().write_all(answer).await);
            drop(requests.send(body).await);
        }
    })
    .await;
    for receiver in posted(address) {
        let notice = [Arc::new(firing("worker-1", Level::Error, 0.0))];
        limited.store(false, std::sync::atomic::Ordering::Relaxed);
        receiver.send(at(0.0), &notice).await.unwrap_or_else(|error| panic!("{}: {error}", receiver.kind()));
        let body = seen.recv().await.expect("a body");
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert!(body.to_string().contains("worker-1"), "{}: {body}", receiver.kind());
        limited.store(true, std::sync::atomic::Ordering::Relaxed);
        let error = receiver.send(at(0.0), &notice).await.expect_err("limited");
        let expected = (SendReason::RateLimited, Retry::Unlimited, Some(Duration::from_secs(7)));
        assert_eq!((error.reason, error.retry, error.retry_after), expected, "{}", receiver.kind());
        seen.recv().await.expect("a body");
    }
}

#[tokio::test]
async fn every_kind_is_given_the_pause_that_it_asks_for() {
    let date = |seconds: u64| {
        let at = std::time::UNIX_EPOCH + Duration::from_secs(1_795_226_400 + seconds);
        format!("\r\nretry-after: {}", httpdate::fmt_http_date(at))
    };
    for (header, body, asked) in [
        ("\r\nretry-after: 30".to_owned(), "", Some(30_000)),
        ("\r\nretry-after: 3.5".to_owned(), "", Some(3_500)),
        (date(40), "", Some(40_000)),
        (String::new(), "", None),
        ("\r\nretry-after: soon".to_owned(), "", None),
        (String::new(), r#"{"retry_after": 1.5}"#, Some(1_500)),
        (String::new(), r#"{"ok": false, "parameters": {"retry_after": 7}}"#, Some(7_000)),
        (String::new(), r#"{"retry_after": -1e300}"#, None),
    ] {
        for status in [429, 503] {
            let head = format!("{status} X{header}");
            let (address, _posted) = answering(move |_: &str| (head.clone(), body.to_owned())).await;
            for receiver in posted(address) {
                let notice = Arc::new(firing("worker-1", Level::Error, 0.0));
                let error = receiver.send(at(0.0), &[notice]).await.expect_err("limited");
                let reason = if status == 429 { SendReason::RateLimited } else { SendReason::Server };
                assert_eq!((error.reason, error.retry), (reason, Retry::Unlimited), "{}", receiver.kind());
                let asked = asked.map(Duration::from_millis);
                assert_eq!(error.retry_after, asked, "{} {status} {header} {body}", receiver.kind());
            }
        }
    }
}

#[tokio::test]
async fn every_kind_takes_a_status_for_what_it_says() {
    for (status, reason, retry) in [
        (301, SendReason::Refused, Retry::Limited),
        (307, SendReason::Refused, Retry::Limited),
        (401, SendReason::Auth, Retry::Limited),
        (403, SendReason::Auth, Retry::Limited),
        (404, SendReason::Refused, Retry::Limited),
        (407, SendReason::Auth, Retry::Limited),
        (408, SendReason::Server, Retry::Unlimited),
        (410, SendReason::Refused, Retry::Never),
        (422, SendReason::Refused, Retry::Never),
        (425, SendReason::Server, Retry::Unlimited),
        (500, SendReason::Server, Retry::Unlimited),
        (502, SendReason::Server, Retry::Unlimited),
        (504, SendReason::Server, Retry::Unlimited),
    ] {
        let head = format!("{status} X\r\nlocation: https://example.invalid/{SECRET}");
        let (address, _posted) = answering(move |_: &str| (head.clone(), SECRET.to_owned())).await;
        for receiver in posted(address) {
            let notice = Arc::new(firing("worker-1", Level::Error, 0.0));
            let error = receiver.send(at(0.0), &[notice]).await.expect_err("no success");
            assert_eq!((error.reason, error.retry), (reason, retry), "{} {status}", receiver.kind());
            assert!(!format!("{error} {error:?} {receiver:?}").contains(SECRET), "{} {status}", receiver.kind());
        }
    }
}

#[tokio::test]
async fn a_page_for_people_is_nobodys_success() {
    let page = format!("<!DOCTYPE html><html><title>Sign in, {SECRET}</title></html>");
    let (address, _posted) =
        answering(move |_: &str| ("200 OK\r\ncontent-type: text/html".to_owned(), page.clone())).await;
    for receiver in posted(address) {
        let notice = Arc::new(firing("worker-1", Level::Error, 0.0));
        let error = receiver.send(at(0.0), &[notice]).await.expect_err("no success");
        assert_eq!((error.reason, error.retry), (SendReason::Server, Retry::Unlimited), "{}", receiver.kind());
        assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
    }
}

#[tokio::test]
async fn a_success_whose_body_breaks_off_or_never_comes_is_one() {
    for hangs in [false, true] {
        let address = listen(move |stream| async move {
            let mut stream = BufReader::new(stream);
            read_request(&mut stream).await;
            drop(stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{\"ok\":").await);
            if hangs {
                std::future::pending::<()>().await;
            }
        })
        .await;
        for (config, _) in told_by_post(address) {
            let receiver = if hangs { build_hurried(config) } else { build(config) };
            let notice = Arc::new(firing("worker-1", Level::Error, 0.0));
            let sent = receiver.send(at(0.0), &[notice]).await;
            assert!(sent.is_ok(), "{} {hangs}: {sent:?}", receiver.kind());
        }
    }
}

#[tokio::test]
async fn an_error_in_the_body_of_a_success_is_one_where_the_kind_has_such() {
    let limited = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with \
                   ContextId tcid=0,server=x,cv=y.";
    use Success::{Acknowledgement, NoError};
    for (body, strict) in [
        (limited, &[NoError, Acknowledgement][..]),
        (r#"{"ok":false,"error_code":429}"#, &[NoError, Acknowledgement]),
        (r#"{"status":"error","error":"bad"}"#, &[NoError, Acknowledgement]),
        ("welcome", &[Acknowledgement]),
        ("", &[]),
    ] {
        let (address, _posted) = answering(move |_: &str| ("200 OK".to_owned(), body.to_owned())).await;
        for (config, success) in told_by_post(address) {
            // A bot's answer names the message that it posted, or is none.
            let Some(success) = success else { continue };
            let (receiver, notice) = (build(config), Arc::new(firing("worker-1", Level::Error, 0.0)));
            let sent = receiver.send(at(0.0), &[notice]).await;
            assert_eq!(sent.is_err(), strict.contains(&success), "{} {body}: {sent:?}", receiver.kind());
            if let Err(error) = sent {
                assert_eq!(error.retry, Retry::Unlimited, "{} {body}", receiver.kind());
                let is_limited = error.reason == SendReason::RateLimited;
                assert_eq!(is_limited, body.contains("429"), "{} {body}", receiver.kind());
            }
        }
    }
}

#[tokio::test]
async fn a_failure_of_the_one_is_no_failure_of_the_other() {
    for fails_on_resolve in [true, false] {
        let answer = move |body: &str| {
            let words = ["RESOLVED", "\"resolve\"", "\"resolved\"", "\"endsAt\":\"2026-11-21T02:00:09"];
            let is_over = words.iter().any(|word| body.contains(word));
            let said = if body.contains("\"channel\"") || body.contains("\"chat_id\"") {
                r#"{"ok":true,"channel":"C1","ts":"1.2"}"#
            } else {
                "ok"
            };
            (if is_over == fails_on_resolve { "500 X" } else { "200 OK" }.to_owned(), said.to_owned())
        };
        let (address, _posted) = answering(answer).await;
        for receiver in posted(address) {
            for (notice, fails) in
                [(firing("a", Level::Error, 0.0), !fails_on_resolve), (resolved("a", 9.0), fails_on_resolve)]
            {
                let result = receiver.send(at(9.0), &[Arc::new(notice)]).await;
                assert_eq!(result.is_err(), fails, "{}: {result:?}", receiver.kind());
                assert!(result.err().is_none_or(|error| error.retry == Retry::Unlimited), "{}", receiver.kind());
            }
        }
    }
}

#[tokio::test]
async fn a_webhook_url_that_cannot_be_read_is_tried_again_later_and_not_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("webhook");
    let receiver = build(serde_json::json!({"name": "ops", "slack": {"webhook_url_file": &path}}));
    let notice = [Arc::new(firing("worker-1", Level::Error, 0.0))];
    for content in [None, Some(SECRET.to_owned()), Some(format!("http://example.com/{SECRET}"))] {
        if let Some(content) = content {
            std::fs::write(&path, content).expect("written");
        }
        let error = receiver.send(at(0.0), &notice).await.expect_err("no URL");
        assert_eq!((error.reason, error.retry), (SendReason::Secret, Retry::Unlimited));
        assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
    }
}
