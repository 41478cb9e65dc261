//! What people find in their mailbox, through a real mail server.

use serde_json::Value;

use crate::counterparts::Need;
use crate::doubles::smtp::{PASSWORD, Smtp};
use crate::program::{Setup, eventually};
use crate::slack::{idle, metric, output, push};
use crate::{Case, trial};

const NEEDS: &[Need] = &[Need::Aiosmtpd, Need::Openssl];

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("mail: warning, error and recovery arrive over STARTTLS with a login, as one thread", NEEDS, one_thread),
        trial("mail: TLS from the first byte, and a login by LOGIN where PLAIN is not offered", NEEDS, other_ways),
        trial("mail: a name can't add a header", NEEDS, no_header_is_added),
        trial(
            "mail: a wrong password is an error that everybody sees, until it is the right one",
            NEEDS,
            a_wrong_password,
        ),
        trial("mail: no login and no mail without TLS", NEEDS, no_clear_text),
        trial("mail: an unknown authority is not trusted", NEEDS, an_unknown_authority),
        trial("mail: a rejected recipient does not stop the other", NEEDS, a_refused_recipient),
        trial("mail: sending to a busy server is retried", NEEDS, a_busy_server),
        trial("test notify: prints the result of each receiver", NEEDS, test_notify),
    ]
}

/// A receiver `mail` at `server`, as configuration; `smtp` is added to its settings.
fn receiver(server: &Smtp, to: &str, smtp: &str) -> String {
    format!(
        "  - name: mail\n    email:\n      to: [{to}]\n      from: Lookout <lookout@example.com>\n      smtp:\n        \
         {{host: localhost, port: {}, username: lookout, password_file: password{smtp}}}\n",
        server.port
    )
}

fn with_ca(server: &Smtp) -> String {
    format!(", ca_file: '{}'", server.ca_file().display())
}

fn setup(server: &Smtp, to: &str, smtp: &str) -> Setup {
    let setup = Setup::new(&format!("store: {{path: null}}\nreceivers:\n{}", receiver(server, to, smtp)));
    setup.write("password", &format!("{PASSWORD}\n"));
    setup
}

fn one_thread() {
    let server = Smtp::start(&[]);
    let setup = setup(&server, "ops@example.com", &with_ca(&server));
    let lookout = setup.start();
    push(&lookout, &idle("grand_böss", 400));
    server.wait(1);
    push(&lookout, &idle("grand_böss", 650));
    server.wait(2);
    push(&lookout, &idle("grand_böss", 0));
    server.wait(3);
    assert!(lookout.sigterm().success());
    let mails = server.mails();
    let subjects: Vec<&str> = mails.iter().map(|mail| mail.header("Subject")).collect();
    let starts = [
        "[WARNING] shop/grand_böss: no activity",
        "[ERROR] shop/grand_böss: no activity",
        "[RESOLVED] shop/grand_böss is active again. ",
    ];
    assert!(subjects.iter().zip(starts).all(|(subject, start)| subject.starts_with(start)), "{subjects:?}");
    assert_eq!(server.logins().lines().collect::<Vec<_>>(), ["PLAIN True True"; 3], "within TLS, and nowhere else");
    let root = mails[0].header("References");
    assert!(root.starts_with('<') && root.ends_with("@example.com>"), "{root}");
    let ids: std::collections::BTreeSet<&str> = mails.iter().map(|mail| mail.header("Message-Id")).collect();
    assert_eq!(ids.len(), 3, "each mail has an id of its own: {ids:?}");
    for mail in &mails {
        assert_eq!(
            (mail.from.as_str(), mail.to.as_slice()),
            ("lookout@example.com", &["ops@example.com".to_owned()][..])
        );
        assert!(mail.tls);
        assert_eq!(mail.header("From"), "Lookout <lookout@example.com>");
        assert_eq!((mail.part("multipart"), mail.part("defects")), ("multipart/alternative", "[]"));
        for kind in ["text/plain", "text/html"] {
            for part in ["shop/grand_böss", "AgentIdle"] {
                assert!(mail.part(kind).contains(part), "`{part}` in {kind}:\n{}", mail.part(kind));
            }
        }
        assert!(
            mail.header("Date").ends_with("+0000") || mail.header("Date").ends_with("-0000"),
            "{}",
            mail.header("Date")
        );
        assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    }
    for mail in &mails[1..] {
        assert_eq!((mail.header("References"), mail.header("In-Reply-To")), (root, root));
        assert_ne!(mail.header("Message-Id"), root);
    }
    assert!(mails[0].part("text/html").contains("#ff9900") && mails[2].part("text/html").contains("#36a64f"));
    assert!(mails[0].part("text/plain").contains("Check whether its terminal"));
    assert!(!mails[2].part("text/plain").contains("Check whether"));
}

fn other_ways() {
    for (options, tls, login) in
        [(&["implicit"][..], "implicit", "PLAIN True True"), (&["no-plain"], "starttls", "LOGIN True True")]
    {
        let server = Smtp::start(options);
        let setup = setup(&server, "ops@example.com", &format!("{}, tls: {tls}", with_ca(&server)));
        let lookout = setup.start();
        push(&lookout, &idle("grand_boss", 400));
        let mails = server.wait(1);
        assert!(mails[0].header("Subject").starts_with("[WARNING] shop/grand_boss: "), "{options:?}");
        assert!(mails[0].tls, "{options:?}");
        assert_eq!(server.logins().trim_end(), login, "{options:?}");
    }
    // To a server that begins in the clear nothing is sent by who expects TLS.
    let server = Smtp::start(&[]);
    let setup = setup(&server, "ops@example.com", &format!("{}, tls: implicit", with_ca(&server)));
    let lookout = setup.start();
    push(&lookout, &idle("grand_boss", 400));
    eventually("a failed attempt", || {
        let page = lookout.get("/metrics");
        let failed = "lookout_notifications_failed_total{receiver=\"mail\"";
        page.text().lines().any(|line| line.starts_with(failed) && !line.ends_with(" 0")).then_some(())
    });
    assert!(server.mails().is_empty() && server.logins().is_empty());
}

fn no_header_is_added() {
    let server = Smtp::start(&[]);
    let setup = setup(&server, "ops@example.com", &with_ca(&server));
    let lookout = setup.start();
    let evil = "x\r\nBcc: thief@example.com\r\n\r\n<script>";
    // Such a name is refused, or what breaks a line in it is taken out; either way its mail has no new header.
    let answer = lookout.post("/api/state", &idle(evil, 400));
    assert!([200, 400].contains(&answer.status), "{}", answer.text());
    let names = [
        "a\\r\\nBcc: thief@example.com",
        "b\u{2028}Bcc: thief@example.com",
        "=?utf-8?q?=0D=0ABcc:_thief?=",
        "<b>🤖</b>",
    ];
    for name in names {
        lookout.post("/api/state", &idle(name, 400));
    }
    push(&lookout, &idle("last & least", 400));
    assert!(lookout.sigterm().success());
    let mails = server.mails();
    assert!(!mails.is_empty());
    for mail in &mails {
        assert_eq!(mail.to, ["ops@example.com"]);
        assert_eq!(mail.header("Bcc"), "", "{}", mail.raw);
        assert_eq!(mail.part("defects"), "[]", "{}", mail.raw);
        assert!(
            !mail.part("text/html").contains("<script>") && !mail.part("text/html").contains("<b>🤖"),
            "{}",
            mail.raw
        );
    }
    let all: String = mails.iter().map(|mail| mail.part("text/html")).collect();
    assert!(all.contains("&lt;b&gt;🤖&lt;/b&gt;") && all.contains("last &amp; least"), "{all}");
}

fn a_wrong_password() {
    let server = Smtp::start(&[]);
    let setup = setup(&server, "ops@example.com", &with_ca(&server));
    setup.write("password", "hunter2");
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    let failed = "lookout_notifications_failed_total{receiver=\"mail\",reason=\"auth\"}";
    eventually("the failure is counted", || metric(&lookout, failed).filter(|count| *count >= 1.0));
    let status = lookout.get("/api/status").json();
    let error = status["receivers"][0]["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("535"), "{error}");
    assert!(!lookout.log().contains("hunter2"), "{}", lookout.log());
    // The file is read at use: its error is logged, and with the right password every mail is delivered.
    std::fs::remove_file(setup.path().join("password")).unwrap();
    let unread = "read secret file password: No such file or directory";
    eventually("the missing file is named", || lookout.get("/api/status").text().contains(unread).then_some(()));
    setup.write("password", PASSWORD);
    assert!(server.wait(1)[0].header("Subject").starts_with("[WARNING] shop/a: "));
}

fn no_clear_text() {
    let server = Smtp::start(&["no-starttls"]);
    let setup = setup(&server, "ops@example.com", &with_ca(&server));
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    let error = eventually("an error", || {
        let status = lookout.get("/api/status").json();
        status["receivers"][0]["last_error"].as_str().map(str::to_owned)
    });
    assert!(error.to_lowercase().contains("tls"), "{error}");
    assert_eq!((server.logins().as_str(), server.mails().len()), ("", 0), "nothing was sent unencrypted");
    let clear = self::setup(&server, "ops@example.com", ", tls: none");
    let refused = output(clear.command(&["check", "--config", "lookout.yaml"]));
    assert!(refused.contains("would send the password in the clear"), "{refused}");
}

fn an_unknown_authority() {
    let server = Smtp::start(&[]);
    let setup = setup(&server, "ops@example.com", "");
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    let failed = "lookout_notifications_failed_total{receiver=\"mail\",reason=\"tls\"}";
    eventually("the failure is counted", || metric(&lookout, failed).filter(|count| *count >= 1.0));
    let status = lookout.get("/api/status");
    assert!(status.text().contains("UnknownIssuer"), "{}", status.text());
    assert_eq!((server.logins().as_str(), server.mails().len()), ("", 0));
}

fn a_refused_recipient() {
    let server = Smtp::start(&["refuse=gone@example.com"]);
    let to = "a@example.com, gone@example.com, b@example.com";
    let setup = setup(&server, to, &with_ca(&server));
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    server.wait(1);
    let failed = "lookout_notifications_failed_total{receiver=\"mail\",reason=\"refused\"}";
    eventually("the recipient is counted", || (metric(&lookout, failed) == Some(1.0)).then_some(()));
    assert_eq!(metric(&lookout, "lookout_notifications_total{receiver=\"mail\"}"), Some(1.0));
    let shown = lookout.get("/api/status").json()["receivers"][0]["last_error"].clone();
    assert!(shown.as_str().is_some_and(|error| error.contains("RCPT gone@example.com with 550")), "{shown}");
    eventually("it is an alert of its own", || {
        let alerts = lookout.get("/api/alerts?rule=AlertsDeadLettered").json();
        (alerts["alerts"][0]["state"] == "firing").then_some(())
    });
    assert!(lookout.sigterm().success());
    let to: Vec<String> = server.mails().iter().flat_map(|mail| mail.to.clone()).collect();
    assert_eq!(to, ["a@example.com", "b@example.com"]);
}

fn a_busy_server() {
    let server = Smtp::start(&["busy=1"]);
    let setup = setup(&server, "a@example.com, b@example.com", &with_ca(&server));
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    server.wait(1);
    let failed = "lookout_notifications_failed_total{receiver=\"mail\",reason=\"server\"}";
    assert_eq!(metric(&lookout, failed), Some(1.0));
    assert!(lookout.sigterm().success());
    let mut to: Vec<String> = server.mails().iter().flat_map(|mail| mail.to.clone()).collect();
    to.sort();
    assert_eq!(to, ["a@example.com", "b@example.com"], "who has the mail does not get it again");
}

fn test_notify() {
    use crate::doubles::slack::{Act, Slack};
    let (server, slack) = (Smtp::start(&[]), Slack::start());
    let receivers = crate::slack::receiver("chat", &slack) + &receiver(&server, "ops@example.com", &with_ca(&server));
    let setup = Setup::new(&format!("receivers:\n{receivers}"));
    setup.write("password", PASSWORD);
    let run = |arguments: &[&str]| {
        let all = [&["test", "notify", "--config", "lookout.yaml"], arguments].concat();
        let output = setup.command(&all).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    assert_eq!(run(&[]), (Some(0), "chat: delivered\nmail: delivered\n".to_owned()));
    assert_eq!((slack.taken()[0].title().get(..6), slack.taken()[0].colour()), (Some("[TEST]"), "#36a64f"));
    assert!(slack.taken()[0].text().contains("nothing is wrong"), "{}", slack.taken()[0].text());
    assert!(server.wait(1)[0].header("Subject").starts_with("[TEST] "));
    assert_eq!(run(&["--receiver", "mail"]), (Some(0), "mail: delivered\n".to_owned()));
    assert_eq!((slack.seen().len(), server.mails().len()), (1, 2));
    slack.next(&[Act::Answer(403, "invalid_token", None)]);
    let (code, text) = run(&[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("chat: failed: ") && text.contains("invalid_token") && text.contains("mail: delivered\n"),
        "{text}"
    );
    assert!(text.contains("test notification failed for 1 of 2 receivers") && !text.contains("hunter2"), "{text}");
    setup.write("password", "wrong");
    let (code, text) = run(&["--receiver", "mail"]);
    assert!(code == Some(1) && text.contains("mail: failed: auth (") && text.contains("535"), "{text}");
    let (code, text) = run(&["--receiver", "unknown"]);
    assert!(code == Some(1) && text.contains("no receiver is named `unknown`; configured: chat, mail"), "{text}");
    assert!(!setup.path().join("lookout.db").exists(), "a test leaves no store behind");
    assert_eq!(slack.seen().iter().map(|seen| seen.body["attachments"].clone()).filter(Value::is_array).count(), 2);
}
