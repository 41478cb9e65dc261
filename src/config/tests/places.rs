//! Tests of the location of problems: the same ten in YAML, in TOML and in variables.

use super::*;

const YAML: &str = r#"listn: 127.0.0.1:9797
agents:
  timeout: 30
  max_idel: 5m
allowed_hosts: [a, 7]
log:
  format: xml
budgets:
  tokens_per_day: many
sources:
  - name: shop
    kind: http-jsn
    url: http://localhost
receivers:
  - name: ops
    min_level: warn
    slack: {webhook_url: 4711}
  - name: oncall
    email:
      to: [a@example.com]
      smtp: {}
      from: a@example.com
"#;

const TOML: &str = r#"listn = "127.0.0.1:9797"
allowed_hosts = ["a", 7]

[agents]
timeout = 30
max_idel = "5m"

[log]
format = "xml"

[budgets]
tokens_per_day = "many"

[[sources]]
name = "shop"
kind = "http-jsn"
url = "http://localhost"

[[receivers]]
name = "ops"
min_level = "warn"
slack = { webhook_url = 4711 }

[[receivers]]
name = "oncall"

[receivers.email]
to = ["a@example.com"]
from = "a@example.com"
smtp = {}
"#;

const VARIABLES: [(&str, &str); 8] = [
    ("LOOKOUT_LISTN", "127.0.0.1:9797"),
    ("LOOKOUT_AGENTS__TIMEOUT", "30"),
    ("LOOKOUT_AGENTS__MAX_IDEL", "5m"),
    ("LOOKOUT_ALLOWED_HOSTS", "[a, 7]"),
    ("LOOKOUT_LOG__FORMAT", "xml"),
    ("LOOKOUT_BUDGETS__TOKENS_PER_DAY", "many"),
    ("LOOKOUT_SOURCES", "[{name: shop, kind: http-jsn, url: 'http://localhost'}]"),
    (
        "LOOKOUT_RECEIVERS",
        "[{name: ops, min_level: warn, slack: {webhook_url: 4711}}, \
         {name: oncall, email: {to: [a@example.com], from: a@example.com, smtp: {}}}]",
    ),
];

/// All that is wrong with `text` as a file of this name, and with `env`.
fn problems(name: &str, text: &str, env: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join(name);
    std::fs::write(&path, text).expect("write");
    let error = ConfigSource { file: Some(path), env: env.iter().copied().collect() }.load().expect_err("ten mistakes");
    assert!(!error.to_string().contains("4711"), "{error}");
    error.to_string().replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn problems_are_reported_with_their_lines() {
    insta::assert_snapshot!(problems("lookout.yaml", YAML, &[]), @r#"
    lookout.yaml: line 1, column 1: listn: unknown key; did you mean `listen`?
    lookout.yaml: line 3, column 3: agents.timeout: found 30, expected a duration like 30s, 5m, 1h30m or 30d
    lookout.yaml: line 4, column 3: agents.max_idel: unknown key; did you mean `max_idle`?
    lookout.yaml: line 5, column 20: allowed_hosts[1]: found 7, expected text; put it in quotes
    lookout.yaml: line 7, column 3: log.format: `xml` is unknown; use one of `auto`, `text`, `json`
    lookout.yaml: line 9, column 3: budgets.tokens_per_day: found `many`, expected a whole number, 0 or more
    lookout.yaml: line 12, column 5: sources[0].kind: `http-jsn` is unknown; did you mean `http-json`?
    lookout.yaml: line 16, column 5: receivers[0].min_level: `warn` is unknown; did you mean `warning`?
    lookout.yaml: line 17, column 13: receivers[0].slack.webhook_url: found a number, expected text; put it in quotes
    lookout.yaml: line 21, column 7: receivers[1].email.smtp.host: is missing; it has no default
    "#);
    insta::assert_snapshot!(problems("lookout.toml", TOML, &[]), @r#"
    lookout.toml: line 1, column 1: listn: unknown key; did you mean `listen`?
    lookout.toml: line 2, column 23: allowed_hosts[1]: found 7, expected text; put it in quotes
    lookout.toml: line 5, column 1: agents.timeout: found 30, expected a duration like 30s, 5m, 1h30m or 30d
    lookout.toml: line 6, column 1: agents.max_idel: unknown key; did you mean `max_idle`?
    lookout.toml: line 9, column 1: log.format: `xml` is unknown; use one of `auto`, `text`, `json`
    lookout.toml: line 12, column 1: budgets.tokens_per_day: found `many`, expected a whole number, 0 or more
    lookout.toml: line 16, column 1: sources[0].kind: `http-jsn` is unknown; did you mean `http-json`?
    lookout.toml: line 21, column 1: receivers[0].min_level: `warn` is unknown; did you mean `warning`?
    lookout.toml: line 22, column 11: receivers[0].slack.webhook_url: found a number, expected text; put it in quotes
    lookout.toml: line 30, column 1: receivers[1].email.smtp.host: is missing; it has no default
    "#);
    insta::assert_snapshot!(problems("lookout.yaml", "", &VARIABLES), @r#"
    LOOKOUT_ALLOWED_HOSTS: allowed_hosts[1]: found 7, expected text; put it in quotes
    LOOKOUT_LOG__FORMAT: log.format: `xml` is unknown; use one of `auto`, `text`, `json`
    LOOKOUT_SOURCES: sources[0].kind: `http-jsn` is unknown; did you mean `http-json`?
    LOOKOUT_AGENTS__MAX_IDEL: agents.max_idel: unknown key; did you mean `max_idle`?
    LOOKOUT_AGENTS__TIMEOUT: agents.timeout: `30` is not a duration; write it like 30s, 5m, 1h30m or 30d
    LOOKOUT_BUDGETS__TOKENS_PER_DAY: budgets.tokens_per_day: found `many`, expected a whole number, 0 or more
    LOOKOUT_RECEIVERS: receivers[0].min_level: `warn` is unknown; did you mean `warning`?
    LOOKOUT_RECEIVERS: receivers[0].slack.webhook_url: found a number, expected text; put it in quotes
    LOOKOUT_RECEIVERS: receivers[1].email.smtp.host: is missing; it has no default
    LOOKOUT_LISTN: listn: unknown key; did you mean `listen`?
    "#);
}

#[test]
fn locations_of_merged_and_missing_keys_are_reported() {
    for (text, problem) in [
        ("agents: &a\n  timeout: 5m\nlog:\n  <<: *a\n", "line 4, column 7: log.timeout: unknown key"),
        ("sources:\n- name: a\n  kind: http-json\n", "line 2, column 3: sources[0].url: is missing"),
        ("agents:\n  timeout: 0s\n", "line 2, column 3: agents.timeout: is 0s"),
        (
            "profiles:\n  production:\n    log: {level: loud}\n",
            "line 3, column 11: profiles.production.log.level: `loud`",
        ),
    ] {
        let found = problems("lookout.yaml", text, &[]);
        assert!(found.contains(&format!("lookout.yaml: {problem}")), "{found}");
    }
}

#[test]
fn toml_and_yaml_are_equivalent() {
    let yaml =
        load("agents: {timeout: 90s}\nallowed_hosts: [a]\nbudgets: {tokens_per_day: 5, cost_usd_per_day: 1.5}\n", &[]);
    let toml =
        "allowed_hosts = ['a']\n[agents]\ntimeout = '90s'\n[budgets]\ntokens_per_day = 5\ncost_usd_per_day = 1.5\n";
    let toml = load_file("lookout.toml", toml, &[]);
    assert_eq!(yaml.expect("valid").print(), toml.expect("valid").print());
    let error = load_file("lookout.TOML", "agents = 1\nagents = 2\n", &[]).expect_err("twice");
    assert_eq!(error, "lookout.TOML: line 2, column 1: duplicate key `agents`: keep one");
    let profiles = "environment = 'development'\n[profiles.development.agents]\ntimeout = '5s'\n";
    assert_eq!(load_file("lookout.toml", profiles, &[]).expect("valid").agents.timeout.as_secs(), 5);
}
