//! Receivers: of shorthand variables, and checked by the part that they belong to.

use super::*;

#[test]
fn shorthand_variables_are_enough() {
    let config = load_env(&[
        ("SLACK_WEBHOOK_URL", HOOK),
        ("SMTP_HOST", "mail.example.com"),
        ("SMTP_USER", "bot@example.com"),
        ("SMTP_PASSWORD", SECRET),
        ("ALERT_EMAIL_TO", "a@example.com, b@example.com,"),
    ])
    .expect("valid");
    insta::assert_snapshot!(config.print().split_once("receivers:\n").expect("receivers").1, @r#"
    - name: slack
      min_level: warning
      send_resolved: true
      slack:
        webhook_url: "***"
    - name: email
      min_level: warning
      send_resolved: true
      email:
        to:
        - a@example.com
        - b@example.com
        from: bot@example.com
        smtp:
          host: mail.example.com
          port: 587
          tls: starttls
          username: bot@example.com
          password: "***"
    "#);
    let [slack, email] = &config.receivers[..] else { panic!("two receivers") };
    let exposed = slack.slack.as_ref().and_then(|slack| slack.webhook_url.as_ref()).map(|url| url.expose());
    assert_eq!(exposed, Some(HOOK));
    assert_eq!(
        email.email.as_ref().and_then(|email| email.smtp.password.as_ref()).map(|password| password.expose()),
        Some(SECRET)
    );
}

#[test]
fn receivers_and_sources_are_checked_by_their_parts() {
    for (text, problem) in [
        ("receivers: [{name: a}]", "lookout.yaml: receivers[0]: no way to it is given; add slack or email"),
        (
            "receivers: [{name: a, slack: {webhook_url: hunter2-4711}}]",
            "lookout.yaml: receivers[0].slack: webhook_url is not a URL; copy it from Slack, it begins with https://",
        ),
        (
            "receivers: [{name: a, email: {to: [nobody], from: a@b.example, smtp: {host: m}}}]",
            "lookout.yaml: receivers[0].email.to[0]: `nobody` is not a mail address",
        ),
        (
            "receivers: [{name: a, slack: {webhook_url_file: /x}}, {name: a, slack: {webhook_url_file: /x}}]",
            "lookout.yaml: receivers[1].name: `a` is there twice; give each its own name",
        ),
        (
            "sources: [{name: a, kind: orchestrator-cc, url: 'http://u:hunter2-4711@h'}]",
            "lookout.yaml: sources[0].url: it holds credentials, which would be printed with it; use `basic_auth` and its `password_file`",
        ),
        (
            "sources: [{name: a, kind: orchestrator-cc, url: 'http://h', interval: 1ms}]",
            "lookout.yaml: sources[0].interval: 1ms is out of range; use 100ms to 1d",
        ),
    ] {
        refused(text, &[problem]);
    }
    for (env, problem) in [
        (
            &[("SLACK_WEBHOOK_URL", SECRET)][..],
            "SLACK_WEBHOOK_URL: webhook_url is not a URL; copy it from Slack, it begins with https://",
        ),
        (
            &[("SMTP_HOST", "m"), ("SMTP_USER", "bot"), ("ALERT_EMAIL_TO", "a@b.example")],
            "SMTP_USER: username is given without password or password_file; add one of them",
        ),
    ] {
        assert_eq!(load_env(env).expect_err(problem), problem);
    }
}

#[test]
fn mail_from_shorthand_follows_port_and_user() {
    use crate::notify::config::SmtpTls;
    for (env, expected) in [
        (
            &[("SMTP_HOST", "m.example.com"), ("SMTP_PORT", "465"), ("ALERT_EMAIL_TO", "a@b.example")][..],
            Ok(("lookout@m.example.com", 465, SmtpTls::Implicit)),
        ),
        (
            &[
                ("SMTP_HOST", "m.example.com"),
                ("SMTP_PORT", "2525"),
                ("SMTP_USER", "bot"),
                ("SMTP_PASSWORD", SECRET),
                ("ALERT_EMAIL_TO", "a@b.example"),
            ],
            Ok(("lookout@m.example.com", 2525, SmtpTls::Starttls)),
        ),
        (&[("ALERT_EMAIL_TO", "a@b.example")], Err("ALERT_EMAIL_TO: needs a mail server; set SMTP_HOST as well")),
        (
            &[("SMTP_HOST", "m"), ("ALERT_EMAIL_TO", "nobody")],
            Err("ALERT_EMAIL_TO: `nobody` is not an address; write ops@example.com,oncall@example.com"),
        ),
        (
            &[("SMTP_HOST", "m"), ("ALERT_EMAIL_TO", ",")],
            Err("ALERT_EMAIL_TO: names nobody; write ops@example.com,oncall@example.com"),
        ),
        (
            &[("SMTP_HOST", "m"), ("SMTP_PORT", "smtp"), ("ALERT_EMAIL_TO", "a@b.example")],
            Err("SMTP_PORT: `smtp` is not a port; write a number such as 587"),
        ),
    ] {
        match (load_env(env), expected) {
            (Ok(config), Ok((from, port, tls))) => {
                let email = config.receivers[0].email.as_ref().expect("email");
                assert_eq!((email.from.as_str(), email.smtp.port, email.smtp.tls), (from, Some(port), Some(tls)));
            }
            (Err(error), Err(expected)) => assert_eq!(error, expected),
            (got, expected) => panic!("{got:?} for {expected:?}"),
        }
    }
    assert!(
        load_env(&[("SMTP_HOST", "m.example.com"), ("SLACK_WEBHOOK_URL", "")]).expect("valid").receivers.is_empty()
    );
}

#[test]
fn shorthand_variables_yield_to_receivers_of_the_file() {
    let env = [("SLACK_WEBHOOK_URL", HOOK), ("ALERT_EMAIL_TO", "nobody")];
    let file = "receivers: [{name: ops, slack: {webhook_url_file: /run/x}}]";
    let config = load(file, &env).expect("valid");
    assert_eq!(config.receivers.iter().map(|receiver| receiver.name.as_str()).collect::<Vec<_>>(), ["ops"]);
    assert_eq!(load("receivers: []", &env[..1]).expect("valid").receivers[0].name, "slack");
}
