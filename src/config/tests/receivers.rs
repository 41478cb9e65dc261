//! Tests of receivers, sources and secrets in the configuration.

use super::*;

#[test]
fn receivers_and_sources_are_validated() {
    for (text, problem) in [
        (
            "receivers: [{name: a}]",
            "lookout.yaml: receivers[0]: it has no kind; give one of slack, email, webhook, alertmanager, teams, discord, telegram, pagerduty, ntfy, mattermost",
        ),
        (
            "receivers: [{name: a, slack: {webhook_url: hunter2-4711}}]",
            "lookout.yaml: receivers[0].slack.webhook_url: it can't be read; it should look like https://hooks.slack.com/services/…",
        ),
        (
            "receivers: [{name: a, email: {to: [ops], from: a@b.example, smtp: {host: m}}}]",
            "lookout.yaml: receivers[0].email.to[0]: `ops` is not a mail address; write it like ops@example.com",
        ),
        (
            "receivers: [{name: a, slack: {webhook_url_file: /x}}, {name: a, slack: {webhook_url_file: /x}}]",
            "lookout.yaml: receivers[1].name: `a` is the name of an earlier receiver; choose another",
        ),
        (
            "sources: [{name: a, kind: orchestrator-cc, url: 'http://u:hunter2-4711@h'}]",
            "lookout.yaml: sources[0].url: the URL contains credentials, which would be printed; use `basic_auth` with `password_file`",
        ),
        (
            "sources: [{name: a, kind: orchestrator-cc, url: 'http://h', interval: 1ms}]",
            "lookout.yaml: sources[0].interval: 1ms is out of range; use 100ms to 1d",
        ),
    ] {
        check_rejected(text, &[problem]);
    }
    for (env, problem) in [
        (
            &[("SLACK_WEBHOOK_URL", SECRET)][..],
            "SLACK_WEBHOOK_URL: it can't be read; it should look like https://hooks.slack.com/services/…",
        ),
        (
            &[("SMTP_HOST", "m"), ("SMTP_USER", "bot"), ("ALERT_EMAIL_TO", "a@b.example")],
            "SMTP_PASSWORD: it is not given; give it, or `password_file`",
        ),
    ] {
        assert_eq!(load_env(env).expect_err(problem), problem);
    }
}

#[test]
fn mail_settings_of_shorthand_variables_follow_port_and_user() {
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
        (&[("ALERT_EMAIL_TO", "a@b.example")], Err("ALERT_EMAIL_TO: requires a mail server; set SMTP_HOST too")),
        (
            &[("SMTP_HOST", "m"), ("ALERT_EMAIL_TO", "ops")],
            Err("ALERT_EMAIL_TO: `ops` is not a mail address; use ops@example.com,oncall@example.com, for example"),
        ),
        (
            &[("SMTP_HOST", "m"), ("ALERT_EMAIL_TO", ",")],
            Err("ALERT_EMAIL_TO: no address; use ops@example.com,oncall@example.com, for example"),
        ),
        (
            &[("SMTP_HOST", "m"), ("SMTP_PORT", "smtp"), ("ALERT_EMAIL_TO", "a@b.example")],
            Err("SMTP_PORT: `smtp` is not a port; use a number such as 587"),
        ),
    ] {
        match (load_env(env), expected) {
            (Ok(config), Ok((from, port, tls))) => {
                let Ok(Kind::Email(email)) = config.receivers[0].kinds.one() else { panic!("{config:?}") };
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
fn configured_receivers_override_shorthand_variables() {
    let env = [("SLACK_WEBHOOK_URL", HOOK), ("ALERT_EMAIL_TO", "ops")];
    let file = "receivers: [{name: ops, slack: {webhook_url_file: /run/x}}]";
    let config = load(file, &env).expect("valid");
    assert_eq!(config.receivers.iter().map(|receiver| receiver.common.name.as_str()).collect::<Vec<_>>(), ["ops"]);
    assert_eq!(load("receivers: []", &env[..1]).expect("valid").receivers[0].common.name, "slack");
}

#[test]
fn no_secret_is_ever_printed() {
    let good = format!(
        "sources: [{{name: a, kind: http-json, url: 'http://localhost/?token={SECRET}', headers: {{X-Key: {SECRET}}}, basic_auth: {{username: u, password: {SECRET}}}, fields: {{agents: '$.a[*]', name: '$.n'}}}}]\n\
         receivers: [{{name: r, slack: {{webhook_url: '{HOOK}'}}}}]\n"
    );
    let config = load(&good, &[]).expect("valid");
    assert!(!config.print().contains(SECRET), "{}", config.print());
    for bad in [
        format!("receivers: [{{name: r, slack: {SECRET}}}]"),
        format!("receivers: [{{name: r, slack: {{webhook_url: [{SECRET}]}}}}]"),
        format!("receivers: [{{name: r, slack: {{webhook_url: {{{SECRET}: 1}}}}}}]"),
        format!("receivers: {SECRET}"),
        format!("receivers: [{SECRET}]"),
        format!("sources: [{{name: a, kind: http-json, url: x, headers: [{SECRET}]}}]"),
        format!("sources: [{{name: a, kind: http-json, url: x, headers: {SECRET}}}]"),
        format!("sources: [{{name: a, kind: http-json, url: x, basic_auth: {SECRET}}}]"),
        format!("auth: {{tokens: {SECRET}}}"),
        format!("auth: {SECRET}"),
    ] {
        let error = load(&bad, &[]).expect_err(&bad);
        assert!(!error.contains(SECRET), "{error}");
    }
    for number in [
        "receivers: [{name: r, slack: {webhook_url: 4711}}]",
        "sources: [{name: a, kind: http-json, url: x, bearer_token: 4711}]",
    ] {
        let error = load(number, &[]).expect_err(number);
        assert!(
            !error.contains("4711") && error.contains("found a number, expected text; put it in quotes"),
            "{error}"
        );
    }
}

#[test]
fn the_printed_configuration_loads_again() {
    let text = "listen: 127.0.0.1:1\nagents: {timeout: 90s}\nrules: [team.yaml]\nbudgets: {cost_usd_per_day: 2.5}\n\
                expected: [{project: 'no', agents: [a, '1'], count: 2}]\nreceivers: [{name: r, slack: {webhook_url_file: /run/x}}]\n";
    let dir = tempfile::tempdir().expect("dir");
    std::fs::write(dir.path().join("team.yaml"), "").expect("write");
    let path = dir.path().join("lookout.yaml");
    let read = |text: &str| {
        std::fs::write(&path, text).expect("write");
        ConfigSource { file: Some(path.clone()), env: Environment::default() }.load().expect("valid").print()
    };
    let printed = read(text);
    assert_eq!(read(&printed), printed);
}

#[test]
fn rule_files_are_compiled_and_their_problems_reported() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("lookout.yaml");
    std::fs::write(&path, "rules: [team.yaml]\nagents: {timeout: 0s}").expect("write");
    std::fs::write(dir.path().join("team.yaml"), "rules: [{name: Mine}, {name: AgentIdle, enabled: false}]")
        .expect("write");
    let source = ConfigSource { file: Some(path.clone()), env: Environment::default() };
    let error = source.load().expect_err("no signal").to_string().replace(&format!("{}/", dir.path().display()), "");
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[0], "lookout.yaml: line 2, column 10: agents.timeout: is 0s; it must be longer");
    assert!(lines[1].starts_with("team.yaml: line 1, column 9: rule Mine: "), "{error}");
    std::fs::write(dir.path().join("team.yaml"), "rules:\n  - nam: X").expect("write");
    let error = source.load().expect_err("no name").to_string();
    assert!(
        error.contains("team.yaml: line 2, column 5: rule #1: nam: unknown key; did you mean `name`?")
            && error.lines().count() == 2,
        "{error}"
    );
    std::fs::write(dir.path().join("team.yaml"), "rules: [{name: AgentIdle, enabled: false}]").expect("write");
    std::fs::write(&path, "rules: [team.yaml]").expect("write");
    let with = source.load().expect("valid").rule_set().expect("valid").len();
    assert_eq!(with + 1, Config::default().rule_set().expect("valid").len());
}

proptest::proptest! {
    #[test]
    fn any_file_is_loaded_and_printed_or_its_problems_are_reported(text in "[a-z:\\[\\]{}&*<\"'#|> \n\t-]{0,80}", value in "\\PC{0,40}", toml in proptest::bool::ANY) {
        let name = if toml { "lookout.toml" } else { "lookout.yaml" };
        let holds = |text: &str, env: &[(&str, &str)]| -> Result<(), proptest::test_runner::TestCaseError> {
            match load_file(name, text, env) {
                Ok(config) => {
                    let printed = config.print();
                    let again = load_file("lookout.yaml", &printed, &[]).map(|config| config.print());
                    proptest::prop_assert_eq!(again, Ok(printed), "{:?} {:?}", text, env);
                }
                Err(error) => {
                    let named = |line: &str| line.starts_with(name) || line.split(':').next().is_some_and(|place| env.iter().any(|(variable, _)| variable.starts_with(place)));
                    proptest::prop_assert!(!error.is_empty() && error.lines().all(named), "{:?} {:?}: {}", text, env, error);
                }
            }
            Ok(())
        };
        for variable in ["LOOKOUT_LISTEN", "LOOKOUT_AGENTS", "LOOKOUT_RECEIVERS", "LOOKOUT_SOURCES__X", "SMTP_PORT"] {
            holds(&text, &[(variable, &value)])?;
        }
        holds(&format!("agents: {value}"), &[])?;
        holds(&format!("receivers: [{value}]"), &[])?;
        holds(&format!("agents: {{timeout: {}s}}", 1 + value.len()), &[])?;
    }
}

#[test]
fn incomplete_or_blank_values_are_reported() {
    let token = |rest: &str| format!("auth: {{tokens: [{{name: a, role: admin, {rest}}}]}}");
    for (text, key, part) in [
        (&*token("token: \"\""), "auth.tokens[0].token", "is empty"),
        (&token("token: \" \\t\\u200b\""), "auth.tokens[0].token", "is empty"),
        (&token("token: \" a\""), "auth.tokens[0].token", "white space"),
        (&token("token_file: \"\""), "auth.tokens[0].token", "path of its `_file` is empty"),
        (&token("token: null"), "auth.tokens[0].token", "missing token"),
        (&token("token: a, token_file: /x"), "auth.tokens[0].token", "not both"),
        ("auth: {tokens: [{name: a, token: x}]}", "auth.tokens[0].role", "is missing"),
        ("auth: {tokens: [{role: read, token: x}]}", "auth.tokens[0].name", "is missing"),
        ("auth: {tokens: [{name: \" \", role: read, token: x}]}", "auth.tokens[0].name", "invalid name"),
        (
            "auth: {tokens: [{name: a, role: read, token: x}, {name: a, role: admin, token: y}]}",
            "auth.tokens[1].name",
            "duplicate",
        ),
        (
            "auth: {tokens: [{name: a, role: read, token: x}, {name: b, role: admin, token: x}]}",
            "auth.tokens[1].token",
            "duplicate",
        ),
        ("auth: {share: [{name: a}]}", "auth.share[0].token", "missing token"),
        ("auth: {share: [{name: a, token: x}, {name: a, token: y}]}", "auth.share[1].name", "duplicate"),
        (
            "auth: {tokens: [{name: a, role: read, token: x}], share: [{name: a, token: x}]}",
            "auth.share[0].token",
            "duplicate token: give each entry of auth.share and auth.tokens its own",
        ),
        ("auth: {proxy: {user_header: x-user, default_role: read}}", "auth.proxy.from", "missing"),
        (
            "auth: {proxy: {from: [], user_header: x-user, default_role: read}}",
            "auth.proxy.from",
            "no proxy is trusted",
        ),
        (
            "auth: {proxy: {from: [10.0.0.0/33], user_header: x-user, default_role: read}}",
            "auth.proxy.from[0]",
            "is not a network",
        ),
        (
            "auth: {proxy: {from: [10.0.0.1, 0.0.0.0/0], user_header: x-user, default_role: read}}",
            "auth.proxy.from[1]",
            "is every address",
        ),
        (
            "auth: {proxy: {from: ['::/0'], user_header: x-user, default_role: read}}",
            "auth.proxy.from[0]",
            "is every address",
        ),
        (
            "auth: {proxy: {from: [10.0.0.1], user_header: 'x user', default_role: read}}",
            "auth.proxy.user_header",
            "is not the name of a header",
        ),
        ("auth: {proxy: {from: [10.0.0.1], user_header: x-user}}", "auth.proxy.default_role", "so is role_header"),
        ("tls: {cert_file: c.pem}", "tls.key_file", "missing, but tls.cert_file is set"),
        ("tls: {key_file: k.pem}", "tls.cert_file", "missing, but tls.key_file is set"),
        ("tls: {cert_file: c.pem, key_file: \"\"}", "tls.key_file", "empty path"),
        ("tls: {cert_file: \" \", key_file: k.pem}", "tls.cert_file", "empty path"),
        ("allowed_hosts: [\"https://lookout.example\"]", "allowed_hosts[0]", "is not a host"),
        ("allowed_hosts: [a, \"*.example\"]", "allowed_hosts[1]", "is not a host"),
        ("allowed_hosts: [\"\"]", "allowed_hosts[0]", "is not a host"),
        ("limits: {connections: 0}", "limits.connections", "must not be 0"),
        ("external_url: https://u:hunter2-4711@h", "external_url", "contains credentials"),
        ("external_url: https://h/?t=hunter2-4711", "external_url", "contains a query"),
        ("heartbeat: {url: \"\"}", "heartbeat.url", "is empty"),
        ("heartbeat: {url_file: \"\"}", "heartbeat.url", "is empty"),
        ("receivers: [{name: a, webhook: {url_file: /x, secret: \"\"}}]", "receivers[0].webhook.secret", "is empty"),
        (
            "receivers: [{name: a, email: {to: [a@b.example], from: a@b.example, smtp: {host: m, username: u}}}]",
            "receivers[0].email.smtp.password",
            "is not given",
        ),
        (
            "receivers: [{name: a, email: {to: [a@b.example], from: a@b.example, smtp: {host: m, username: u, password: \"\"}}}]",
            "receivers[0].email.smtp.password",
            "is empty",
        ),
        (
            "sources: [{name: a, kind: orchestrator-cc, url: http://h, bearer_token: \"\"}]",
            "sources[0].bearer_token",
            "is empty",
        ),
    ] {
        let error = load(text, &[]).expect_err(text);
        assert!(error.starts_with(&format!("lookout.yaml: {key}: ")) && error.contains(part), "{text}: {error}");
        assert!(error.lines().count() == 1 && !error.contains(SECRET), "{text}: {error}");
    }
    for good in [
        "auth: {tokens: [{name: a, role: read, token: x}, {name: b, role: admin, token_file: /nowhere}]}",
        "tls: {cert_file: null, key_file: null}",
        "allowed_hosts: [lookout, lookout.example:8080, 10.0.0.1, \"[::1]:9797\", \"2001:db8::1\"]",
        "external_url: https://h/lookout",
    ] {
        load(good, &[]).expect(good);
    }
}

#[test]
fn a_secret_of_the_wrong_type_is_not_printed() {
    let smtp = |password: &str| {
        format!(
            "receivers: [{{name: a, email: {{to: [a@b.example], from: a@b.example, smtp: {{host: m, username: u, password: {password}}}}}}}]"
        )
    };
    for wrong in ["4711", "47.11", "-4711", "[4711]", "{4711: x}", "{x: 4711}", "[hunter2-4711]", "{hunter2-4711: x}"] {
        for text in [
            smtp(wrong),
            format!("auth: {{tokens: [{{name: a, role: read, token: {wrong}}}]}}"),
            format!("heartbeat: {{url: {wrong}}}"),
            format!("receivers: [{{name: a, webhook: {{url: {wrong}}}}}]"),
            format!("receivers: [{{name: a, webhook: {{url_file: /x, headers: {{x: {wrong}}}}}}}]"),
            format!("receivers: [{{name: a, pagerduty: {{routing_key: {wrong}}}}}]"),
            format!("receivers: [{{name: a, slack: {{webhook_url: {wrong}}}}}]"),
            format!("sources: [{{name: a, kind: orchestrator-cc, url: http://h, headers: {{x: {wrong}}}}}]"),
        ] {
            let error = load(&text, &[]).expect_err(&text);
            assert!(error.contains("expected text") && !error.contains("4711"), "{text}: {error}");
        }
    }
    for text in [
        "receivers: [{name: a, slack: {https://hooks.example.com/hunter2-4711}}]",
        "sources: [{name: a, kind: 'http://u:hunter2-4711@h', url: http://h}]",
        "listen: 'http://u:hunter2-4711/x@h'",
        "receivers: [{name: a, slack: {webhook_url_file: https://hooks.example.com/hunter2-4711}}]",
        "receivers: [{name: a, email: {to: [a@b.example], from: a@b.example, smtp: {host: 'smtp://u:hunter2-4711@m'}}}]",
    ] {
        let error = load(text, &[]).expect_err(text);
        assert!(!error.contains(SECRET), "{text}: {error}");
    }
    for (name, value) in [
        ("LOOKOUT_AUTH__TOKENS", "[{name: a, role: read, token: [hunter2-4711]}]"),
        ("LOOKOUT_AUTH__TOKENS", "hunter2-4711"),
        ("SMTP_HOST", "smtp://u:hunter2-4711@m"),
    ] {
        let error = load_env(&[(name, value), ("ALERT_EMAIL_TO", "a@b.example")]).expect_err(value);
        assert!(!error.contains(SECRET), "{name}: {error}");
    }
}

#[test]
fn credentials_in_any_url_are_not_printed() {
    let config = load(
        "sources: [{name: a, kind: orchestrator-cc, url: 'http://h/?sid=hunter2-4711&hunter2-4711'}]\n\
         receivers:\n- {name: a, alertmanager: {urls: ['http://u:hunter2-4711@h']}}\n\
         - {name: b, slack: {bot_token: hunter2-4711, channel: c, api_url: 'https://u:hunter2-4711@h'}}\n\
         - {name: c, webhook: {url: 'https://h/hunter2-4711', headers: {x: hunter2-4711}}}\n\
         - {name: d, telegram: {bot_token: hunter2-4711, chat_id: '1', api_url: 'https://h?t=hunter2-4711'}}\n",
        &[],
    )
    .expect("valid");
    let (printed, debugged) = (config.print(), format!("{config:?}"));
    assert!(!printed.contains(SECRET) && !debugged.contains(SECRET), "{printed}{debugged}");
    assert!(printed.contains("http://h/?sid=***&***") && printed.contains("http://***@h"), "{printed}");
}

#[test]
fn the_shipped_example_is_valid() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/lookout.example.yaml");
    ConfigSource { file: Some(file), env: Environment::default() }.load().expect("valid");
}
