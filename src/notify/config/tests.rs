//! The keys of a section, and the error of each mistake.

use super::*;

fn check(receiver: serde_json::Value, expected: &[(&str, &str)]) {
    let receiver: ReceiverConfig = serde_json::from_value(receiver).expect("a receiver");
    let problems = validate(&[receiver]);
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    for (problem, (path, message)) in problems.iter().zip(expected) {
        assert_eq!(problem.path, *path);
        assert!(problem.message.contains(message), "{problem:?}");
        assert!(!problem.message.contains("S3CRET"), "{problem:?}");
    }
}

#[test]
fn a_receiver_has_exactly_one_kind() {
    check(serde_json::json!({"name": "ops"}), &[("receivers[0]", "no kind")]);
    let slack = serde_json::json!({"webhook_url": "https://hooks.slack.com/services/S3CRET"});
    check(serde_json::json!({"name": "ops", "slack": slack}), &[]);
    let email = serde_json::json!({"to": ["a@b.c"], "from": "a@b.c", "smtp": {"host": "mail"}});
    check(serde_json::json!({"name": "ops", "slack": slack, "email": email}), &[("receivers[0]", "several kinds")]);
    check(serde_json::json!({"name": "a\nb", "email": email}), &[("receivers[0].name", "`a b` is not a name")]);
}

#[test]
fn a_bot_needs_a_token_and_a_channel_and_no_webhook() {
    let url = "https://hooks.slack.com/services/S3CRET";
    for (slack, expected) in [
        (serde_json::json!({"bot_token": "S3CRET", "channel": "#ops"}), None),
        (serde_json::json!({"bot_token_file": "/run/bot", "channel": "C0123"}), None),
        (serde_json::json!({"bot_token": "S3CRET"}), Some(("receivers[0].slack.channel", "not given"))),
        (serde_json::json!({"channel": "#ops"}), Some(("receivers[0].slack.bot_token", "not given"))),
        (
            serde_json::json!({"bot_token": "S3CRET", "channel": "#ops", "webhook_url": url}),
            Some(("receivers[0].slack.webhook_url", "one of the two")),
        ),
        (
            serde_json::json!({"bot_token": "S3CRET", "channel": "#ops", "api_url": "http://slack.com/api"}),
            Some(("receivers[0].slack.api_url", "https://")),
        ),
    ] {
        let expected: Vec<_> = expected.into_iter().collect();
        check(serde_json::json!({"name": "ops", "slack": slack}), &expected);
    }
}

#[test]
fn a_webhook_is_https_or_loopback_and_never_shown() {
    for (url, message) in [
        ("https://hooks.slack.com/S3CRET", None),
        ("http://127.0.0.1:9/S3CRET", None),
        ("http://[::1]:9/S3CRET", None),
        ("http://localhost/S3CRET", None),
        ("http://hooks.slack.com/S3CRET", Some("https://")),
        ("http://localhost.example.com/S3CRET", Some("https://")),
        ("ftp://127.0.0.1/S3CRET", Some("https://")),
        ("S3CRET", Some("can't be read")),
        (" ", Some("is empty")),
    ] {
        let expected: Vec<_> = message.map(|message| ("receivers[0].slack.webhook_url", message)).into_iter().collect();
        check(serde_json::json!({"name": "ops", "slack": {"webhook_url": url}}), &expected);
    }
    let missing = [("receivers[0].slack.webhook_url", "not given")];
    check(serde_json::json!({"name": "ops", "slack": {}}), &missing);
    let both = serde_json::json!({"webhook_url": "https://a.b/S3CRET", "webhook_url_file": "/x"});
    check(serde_json::json!({"name": "ops", "slack": both}), &[("receivers[0].slack.webhook_url", "not both")]);
}

#[test]
fn mail_addresses_and_the_login_are_checked() {
    let mail = |to: serde_json::Value, smtp: serde_json::Value| serde_json::json!({"name": "ops", "email": {"to": to, "from": "Lookout <l@example.com>", "smtp": smtp}});
    let host = serde_json::json!({"host": "mail.example.com"});
    check(mail(serde_json::json!(["a@example.com", "B <b@example.com>"]), host.clone()), &[]);
    check(mail(serde_json::json!([]), host.clone()), &[("receivers[0].email.to", "0 addresses")]);
    check(mail(serde_json::json!(["a"]), host.clone()), &[("receivers[0].email.to[0]", "`a` is not a mail address")]);
    let sly = serde_json::json!(["a@example.com\r\nBcc: x@example.com"]);
    check(mail(sly, host.clone()), &[("receivers[0].email.to[0]", "control characters")]);
    let twice = serde_json::json!(["a@example.com", "a@example.com"]);
    check(mail(twice, host), &[("receivers[0].email.to[1]", "named twice")]);
    let to = serde_json::json!(["a@example.com"]);
    for (smtp, path, message) in [
        (serde_json::json!({"host": "a b"}), "host", "`a b` is not a host"),
        (serde_json::json!({"host": "m", "port": 0}), "port", "0 is not a port"),
        (serde_json::json!({"host": "m", "username": "u"}), "password", "not given"),
        (serde_json::json!({"host": "m", "password": "S3CRET"}), "username", "give both or none"),
        (serde_json::json!({"host": "m", "password": "S3CRET", "password_file": "/x"}), "password", "not both"),
        (serde_json::json!({"host": "m", "username": "u", "password": "S3CRET", "tls": "none"}), "tls", "in the clear"),
    ] {
        check(mail(to.clone(), smtp), &[(&format!("receivers[0].email.smtp.{path}"), message)]);
    }
}

#[test]
fn the_port_and_tls_follow_from_each_other() {
    let check = |smtp: serde_json::Value, port: u16, tls: SmtpTls| {
        let smtp: SmtpConfig = serde_json::from_value(smtp).expect("a server");
        assert_eq!((smtp.port(), smtp.tls()), (port, tls));
    };
    check(serde_json::json!({"host": "m"}), 587, SmtpTls::Starttls);
    check(serde_json::json!({"host": "m", "port": 465}), 465, SmtpTls::Implicit);
    check(serde_json::json!({"host": "m", "tls": "implicit"}), 465, SmtpTls::Implicit);
    check(serde_json::json!({"host": "m", "port": 25}), 25, SmtpTls::Starttls);
    check(serde_json::json!({"host": "m", "port": 465, "tls": "starttls"}), 465, SmtpTls::Starttls);
}

#[test]
fn names_are_one_of_a_kind() {
    let slack = serde_json::json!({"name": "ops", "slack": {"webhook_url": "https://a.b/c"}});
    let receivers: Vec<ReceiverConfig> = serde_json::from_value(serde_json::json!([slack, slack])).expect("receivers");
    let problems = validate(&receivers);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems.first().map(|problem| &*problem.path), Some("receivers[1].name"));
}
