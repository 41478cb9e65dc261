//! Who gets a mail and how the server is spoken to, against a scripted server.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::model::{Level, Retry};
use crate::notify::receiver::Receiver;
use crate::notify::samples::{at, firing};
use crate::notify::transport_tests::{SECRET, Transcript, build, friendly, listen, speak_smtp};

const PEOPLE: [&str; 3] = ["ann@example.com", "bob@example.com", "cid@example.com"];

fn testdata(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/notify/receivers/email/testdata").join(file)
}

/// The section of a receiver that mails through the server at `address`, with `more` about it.
fn section(to: &[&str], address: SocketAddr, more: &serde_json::Value) -> serde_json::Value {
    let mut smtp = json!({"host": "127.0.0.1", "port": address.port(), "tls": "none"});
    let settings = smtp.as_object_mut().expect("an object");
    settings.extend(more.as_object().cloned().unwrap_or_default());
    json!({"to": to, "from": "lookout@example.com", "smtp": smtp})
}

fn email(to: &[&str], address: SocketAddr, more: &serde_json::Value) -> Receiver {
    build(json!({"name": "ops", "email": section(to, address, more)}))
}

/// Its transport alone.
fn transport(to: &[&str], address: SocketAddr) -> Email {
    let section: EmailConfig = serde_json::from_value(section(to, address, &json!({}))).expect("a section");
    let (words, client) = (Words::default(), &mut None);
    section.transport(Parts { name: "ops", external_url: "", words, client, deadline: None }).expect("a transport")
}

fn notices(agents: &[&str]) -> Vec<Arc<Notice>> {
    agents.iter().map(|agent| Arc::new(firing(agent, Level::Error, 0.0))).collect()
}

/// A server in the clear that answers as `answer` has it, and what it hears.
async fn plain(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> (SocketAddr, Transcript) {
    let (received, answer) = (Transcript::default(), Arc::new(answer));
    let kept = Arc::clone(&received);
    let address = listen(move |stream| {
        let (received, answer) = (Arc::clone(&kept), Arc::clone(&answer));
        async move {
            speak_smtp(stream, true, &received, |command| answer(command)).await;
        }
    })
    .await;
    (address, received)
}

/// What was received since the last call: for each mail its recipients and the start of its subject.
fn mails(received: &Transcript) -> Vec<String> {
    let received = std::mem::take(&mut *received.lock().expect("unpoisoned"));
    let (mut mails, mut to) = (Vec::new(), Vec::new());
    for line in received.lines() {
        if line.starts_with("MAIL") {
            to.clear();
        } else if let Some(address) = line.strip_prefix("RCPT TO:<") {
            to.push(address.split('@').next().unwrap_or_default().to_owned());
        } else if let Some(subject) = line.strip_prefix("Subject: ") {
            let subject = subject.split_once(": no activity").map_or(subject, |(who, _)| who);
            mails.push(format!("{} <- {subject}", to.join(" ")));
        }
    }
    mails
}

#[tokio::test]
async fn a_mail_goes_to_all_in_one_transaction() {
    let (address, received) = plain(|command| friendly(command).to_owned()).await;
    email(&PEOPLE, address, &json!({})).send(at(0.0), &notices(&["a"])).await.expect("sent");
    let said_good_bye = async {
        while !received.lock().expect("unpoisoned").contains("QUIT") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), said_good_bye).await.expect("QUIT");
    let received = received.lock().expect("unpoisoned").clone();
    let commands: Vec<_> = received.lines().take(6).collect();
    let recipients = PEOPLE.map(|person| format!("RCPT TO:<{person}>"));
    let [ann, bob, cid] = recipients.each_ref().map(String::as_str);
    assert_eq!(commands, ["EHLO [127.0.0.1]", "MAIL FROM:<lookout@example.com>", ann, bob, cid, "DATA"]);
    assert!(received.contains("\r\n.\r\nQUIT\r\n"), "{received}");
}

#[tokio::test]
async fn a_refused_recipient_does_not_stop_the_others() {
    let (address, received) = plain(|command| match command {
        "RCPT TO:<bob@example.com>\r\n" => "550 no such user\r\n".to_owned(),
        command => friendly(command).to_owned(),
    })
    .await;
    let receiver = email(&PEOPLE, address, &json!({}));
    let receipt = receiver.send(at(0.0), &notices(&["a"])).await.expect("one recipient got it");
    let partial_failure = receipt.partial_failure.expect("one did not");
    assert_eq!(partial_failure.message, "the mail server answered RCPT bob@example.com with 550 no such user");
    assert_eq!(partial_failure.retry, Retry::Never);
    assert_eq!(mails(&received), ["ann bob cid <- [ERROR] shop/a"]);
    let bob = email(&["bob@example.com"], address, &json!({}));
    let error = bob.send(at(0.0), &notices(&["a"])).await.expect_err("no recipient got it");
    assert_eq!((error.reason, error.retry), (SendReason::Refused, Retry::Never));
    assert_eq!(error.message, "the mail server answered RCPT bob@example.com with 550 no such user");
    assert!(mails(&received).is_empty());
}

#[tokio::test]
async fn who_got_it_does_not_get_it_again_on_retry() {
    let attempts = std::sync::atomic::AtomicUsize::new(0);
    let (address, received) = plain(move |command| match command {
        "RCPT TO:<bob@example.com>\r\n" if attempts.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => {
            "450 mailbox busy\r\n".to_owned()
        }
        command => friendly(command).to_owned(),
    })
    .await;
    let receiver = transport(&PEOPLE, address);
    let error = receiver.send(at(0.0), &notices(&["a"])).await.expect_err("bob lacks it");
    assert_eq!((error.reason, error.retry), (SendReason::Server, Retry::Unlimited));
    assert_eq!(mails(&received), ["ann bob cid <- [ERROR] shop/a"]);
    receiver.send(at(1.0), &notices(&["a", "b"])).await.expect("sent");
    let mut retried = mails(&received);
    retried.sort();
    assert_eq!(retried, ["ann cid <- [ERROR] shop/b", "bob <- [ERROR] shop: 2 alerts (a, b)"]);
    receiver.send(at(2.0), &notices(&["c"])).await.expect("sent");
    assert_eq!(mails(&received), ["ann bob cid <- [ERROR] shop/c"]);
    assert!(receiver.sent_to.lock().expect("unpoisoned").is_empty(), "what is done is forgotten");
}

#[tokio::test]
async fn a_reply_is_read_up_to_a_bound() {
    let line = format!("250-{}\r\n", "x".repeat(900));
    let (address, _) = plain(move |command| match command {
        "EHLO [127.0.0.1]\r\n" => format!("{}250 ok\r\n", line.repeat(1000)),
        command => friendly(command).to_owned(),
    })
    .await;
    let error = email(&PEOPLE, address, &json!({})).send(at(0.0), &notices(&["a"])).await.expect_err("too much");
    assert_eq!(error.message, "the server goes on and on in answer to EHLO");
    assert_eq!((error.reason, error.retry), (SendReason::Network, Retry::Unlimited));
}

#[tokio::test]
async fn lines_that_begin_with_a_dot_arrive_whole() {
    let (address, received) = plain(|command| friendly(command).to_owned()).await;
    let notice = Notice { action: Arc::from(".\r\n. x"), ..firing(".", Level::Error, 0.0) };
    email(&["a@example.com"], address, &json!({})).send(at(0.0), &[Arc::new(notice)]).await.expect("sent");
    let received = received.lock().expect("unpoisoned").clone();
    assert_eq!(received.matches("\r\n.\r\n").count(), 1, "only the end is a dot alone: {received}");
    assert!(received.contains("\r\n..  . x\r\n"), "{received}");
}

/// Serves SMTP behind TLS, from the first byte or after STARTTLS, with `login` as its EHLO's AUTH line.
async fn encrypted(implicit: bool, login: &'static str, verdict: &'static str) -> (SocketAddr, Transcript) {
    encrypted_with(implicit, login, verdict, verdict).await
}

/// The same with a verdict on PLAIN and another on LOGIN.
async fn encrypted_with(
    implicit: bool,
    login: &'static str,
    on_plain: &'static str,
    verdict: &'static str,
) -> (SocketAddr, Transcript) {
    encrypted_as("server", implicit, login, on_plain, verdict).await
}

/// The same with the certificate of that name.
async fn encrypted_as(
    name: &str,
    implicit: bool,
    login: &'static str,
    on_plain: &'static str,
    verdict: &'static str,
) -> (SocketAddr, Transcript) {
    let certificates = CertificateDer::pem_file_iter(testdata(&format!("{name}.pem"))).expect("a file");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            certificates.collect::<Result<_, _>>().expect("a certificate"),
            PrivateKeyDer::from_pem_file(testdata(&format!("{name}.key"))).expect("a key"),
        )
        .expect("a pair");
    let (acceptor, received) = (TlsAcceptor::from(Arc::new(config)), Transcript::default());
    let kept = Arc::clone(&received);
    let address = listen(move |stream: TcpStream| {
        let (acceptor, received) = (acceptor.clone(), Arc::clone(&kept));
        async move {
            let mut stream = Some(stream);
            if !implicit {
                let before = |command: &str| match command {
                    "EHLO [127.0.0.1]\r\n" => "250-mail\r\n250-AUTH PLAIN LOGIN\r\n250 StartTls\r\n".to_owned(),
                    "STARTTLS\r\n" => "220 go ahead\r\n".to_owned(),
                    command => friendly(command).to_owned(),
                };
                stream = speak_smtp(stream.take().expect("a stream"), true, &received, before).await;
            }
            let Some(stream) = stream else { return };
            let Ok(stream) = acceptor.accept(stream).await else { return };
            received.lock().expect("unpoisoned").push_str("-- TLS\n");
            let after = |command: &str| match command.split([' ', '\r']).next().unwrap_or_default() {
                "EHLO" => format!("250-mail\r\n250 {login}\r\n"),
                "AUTH" if command.starts_with("AUTH LOGIN") => "334 VXNlcm5hbWU6\r\n".to_owned(),
                "AUTH" => on_plain.to_owned(),
                "bG9va291dA==" => "334 UGFzc3dvcmQ6\r\n".to_owned(),
                "UzNDUkVU" => verdict.to_owned(),
                _ => friendly(command).to_owned(),
            };
            speak_smtp(stream, implicit, &received, after).await;
        }
    })
    .await;
    (address, received)
}

fn secure(address: SocketAddr, tls: &str) -> Receiver {
    let login = json!({"tls": tls, "username": "lookout", "password": SECRET, "ca_file": testdata("ca.pem")});
    email(&["a@example.com"], address, &login)
}

#[tokio::test]
async fn the_login_is_what_the_server_offers_and_only_behind_tls() {
    for (tls, offer, expected) in [
        ("starttls", "AUTH PLAIN LOGIN", "AUTH PLAIN AGxvb2tvdXQAUzNDUkVU"),
        ("implicit", "AUTH PLAIN LOGIN", "AUTH PLAIN AGxvb2tvdXQAUzNDUkVU"),
        ("starttls", "AUTH CRAM-MD5 login", "AUTH LOGIN\r\nbG9va291dA==\r\nUzNDUkVU"),
        ("implicit", "AUTH=LOGIN", "AUTH LOGIN\r\nbG9va291dA==\r\nUzNDUkVU"),
    ] {
        let (address, received) = encrypted(tls == "implicit", offer, "235 welcome\r\n").await;
        secure(address, tls).send(at(0.0), &notices(&["a"])).await.expect("sent");
        let received = received.lock().expect("unpoisoned").clone();
        let (before, after) = received.split_once("-- TLS\n").expect("TLS came about");
        assert!(!before.contains("AUTH"), "{received}");
        assert_eq!(before.is_empty(), tls == "implicit", "{received}");
        let login = format!("EHLO [127.0.0.1]\r\n{expected}\r\nMAIL FROM");
        assert!(after.starts_with(&login), "{received}");
    }
}

#[tokio::test]
async fn a_login_that_fails_is_tried_again_for_an_hour_and_longer_when_the_server_says_later() {
    for (offer, verdict, retry) in [
        ("AUTH PLAIN", "535 5.7.8 S3CRET is wrong\r\n", Retry::Limited),
        ("AUTH LOGIN", "535 5.7.8 S3CRET is wrong\r\n", Retry::Limited),
        ("AUTH PLAIN", "454 4.7.0 later\r\n", Retry::Unlimited),
        ("AUTH GSSAPI", "", Retry::Limited),
        ("SIZE 99", "", Retry::Limited),
    ] {
        let (address, _) = encrypted(true, offer, verdict).await;
        let error = secure(address, "implicit").send(at(0.0), &notices(&["a"])).await.expect_err("no login");
        assert_eq!((error.reason, error.retry), (SendReason::Auth, retry), "{error}");
        assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_take_plain_though_it_offers_it_gets_login() {
    for refusal in ["504 5.5.4 Unrecognized authentication type\r\n", "534 too weak\r\n", "535 5.7.3 unsuccessful\r\n"]
    {
        let (address, received) = encrypted_with(true, "AUTH PLAIN LOGIN", refusal, "235 welcome\r\n").await;
        secure(address, "implicit").send(at(0.0), &notices(&["a"])).await.expect("sent");
        let received = received.lock().expect("unpoisoned").clone();
        let login = "AUTH PLAIN AGxvb2tvdXQAUzNDUkVU\r\nAUTH LOGIN\r\nbG9va291dA==\r\nUzNDUkVU\r\nMAIL FROM";
        assert!(received.contains(login), "{received}");
    }
    let (address, received) =
        encrypted_with(true, "AUTH PLAIN LOGIN", "421 4.3.2 closing\r\n", "235 welcome\r\n").await;
    let error = secure(address, "implicit").send(at(0.0), &notices(&["a"])).await.expect_err("it is busy");
    assert_eq!(error.retry, Retry::Unlimited);
    assert!(
        !received.lock().expect("unpoisoned").contains("AUTH LOGIN"),
        "what is transient is no matter of the mechanism"
    );
}

#[tokio::test]
async fn what_a_server_rejects_before_the_mail_is_about_us() {
    for (command, answer, reason, retry) in [
        ("", "554 no service for you\r\n", SendReason::Refused, Retry::Limited),
        ("", "421 too busy\r\n", SendReason::Server, Retry::Unlimited),
        ("EHLO", "550 who are you\r\n", SendReason::Refused, Retry::Limited),
        ("MAIL", "530 5.7.0 authentication required\r\n", SendReason::Refused, Retry::Limited),
        ("MAIL", "550 5.7.1 sender denied\r\n", SendReason::Refused, Retry::Never),
        (".", "554 spam\r\n", SendReason::Refused, Retry::Never),
        (".", "452 full\r\n", SendReason::Server, Retry::Unlimited),
    ] {
        let (address, _) = plain(move |reply| {
            let word = reply.split([' ', ':', '\r']).next().unwrap_or_default();
            (if word == command { answer } else { friendly(reply) }).to_owned()
        })
        .await;
        let error = email(&PEOPLE, address, &json!({})).send(at(0.0), &notices(&["a"])).await.expect_err("rejected");
        assert_eq!((error.reason, error.retry), (reason, retry), "{command} {answer}");
    }
}

#[tokio::test]
async fn the_end_of_a_mail_has_ten_minutes_of_its_own() {
    assert!(Patience::DEFAULT.mail >= Duration::from_secs(600), "RFC 5321, 4.5.3.2.6");
    let (address, received) = plain(|command| match command {
        // A reply that goes on, and never does.
        ".\r\n" => "250-scanning\r\n".to_owned(),
        command => friendly(command).to_owned(),
    })
    .await;
    let mut sender = transport(&["a@example.com"], address);
    sender.patience.mail = Duration::from_millis(50);
    let error = sender.send(at(0.0), &notices(&["a"])).await.expect_err("no answer");
    assert_eq!((error.reason, error.retry), (SendReason::Timeout, Retry::Unlimited));
    assert_eq!(error.message, "the mail server did not answer the mail within 50ms");
    assert_eq!(mails(&received), ["a <- [ERROR] shop/a"]);
}

#[tokio::test]
async fn a_server_that_is_silent_after_quit_delays_nothing() {
    let address = listen(|stream: TcpStream| async move {
        let received = Transcript::default();
        let silent = |command: &str| match command {
            "QUIT\r\n" => "250-\r\n".to_owned(),
            command => friendly(command).to_owned(),
        };
        // What was begun with `250-` is never ended.
        speak_smtp(stream, true, &received, silent).await;
        std::future::pending::<()>().await;
    })
    .await;
    let receiver = email(&["a@example.com"], address, &json!({}));
    let watch = crate::clock::Stopwatch::start();
    receiver.send(at(0.0), &notices(&["a"])).await.expect("sent");
    assert!(watch.elapsed() < Patience::DEFAULT.quit, "QUIT is not waited for");
}

#[tokio::test]
async fn a_self_signed_certificate_that_is_the_ca_file_itself_is_trusted_for_its_name_alone() {
    for (file, host, trusted) in
        [("self", "127.0.0.1", true), ("self", "localhost", false), ("server", "127.0.0.1", false)]
    {
        let (address, _) = encrypted_as(file, true, "AUTH PLAIN", "235 ok\r\n", "235 ok\r\n").await;
        let smtp = json!({"tls": "implicit", "host": host, "ca_file": testdata("self.pem")});
        let sent = email(&["a@example.com"], address, &smtp).send(at(0.0), &notices(&["a"])).await;
        assert_eq!(sent.is_ok(), trusted, "{file} at {host}: {sent:?}");
        assert!(sent.err().is_none_or(|error| error.reason == SendReason::Tls));
    }
}

#[tokio::test]
async fn without_tls_that_can_be_trusted_nothing_is_sent() {
    let check = async |receiver: Receiver, words: &str| {
        let error = receiver.send(at(0.0), &notices(&["a"])).await.expect_err("no TLS");
        assert_eq!((error.reason, error.retry), (SendReason::Tls, Retry::Unlimited), "{error}");
        assert!(error.message.contains(words), "{error}");
    };
    let (address, received) = plain(|command| friendly(command).to_owned()).await;
    check(secure(address, "starttls"), "does not offer STARTTLS").await;
    assert!(!received.lock().expect("unpoisoned").contains("AUTH"));
    let (address, _) = plain(|command| match command {
        "EHLO [127.0.0.1]\r\n" => "250-mail\r\n250 STARTTLS\r\n".to_owned(),
        "STARTTLS\r\n" => "220 go ahead\r\n250 injected\r\n".to_owned(),
        command => friendly(command).to_owned(),
    })
    .await;
    check(secure(address, "starttls"), "went on in the clear").await;
    for implicit in [true, false] {
        let (address, _) = encrypted(implicit, "AUTH PLAIN", "235 welcome\r\n").await;
        let tls = if implicit { "implicit" } else { "starttls" };
        check(email(&["a@example.com"], address, &json!({"tls": tls})), "TLS with 127.0.0.1").await;
    }
    let address = listen(|mut stream| async move {
        drop(stream.write_all(b"220 this is no TLS\r\n").await);
    })
    .await;
    check(secure(address, "implicit"), "TLS with 127.0.0.1").await;
}
