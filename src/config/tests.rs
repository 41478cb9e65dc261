//! Configurations in, problems out, word for word.

use super::*;
use crate::fleet::config::{BudgetAction, BudgetLimit};
use crate::notify::config::Kind;

mod environments;
mod places;
mod receivers;

const SECRET: &str = "hunter2-4711";
/// A webhook, which holds the secret.
const HOOK: &str = "https://hooks.example.com/hunter2-4711";

/// Loads `text` as a file named `name`, with `env`; errors name the file without its folder, and no places in it.
fn load_file(name: &str, text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join(name);
    std::fs::write(&path, text).expect("write");
    std::fs::write(dir.path().join("team.yaml"), "").expect("write");
    let source = ConfigSource { file: Some(path), env: env.iter().copied().collect() };
    source.load().map_err(|mut error| {
        error.problems.iter_mut().for_each(|problem| problem.place = None);
        error.to_string().replace(&format!("{}/", dir.path().display()), "")
    })
}

fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    load_file("lookout.yaml", text, env)
}

fn load_env(env: &[(&str, &str)]) -> Result<Config, String> {
    ConfigSource { file: None, env: env.iter().copied().collect() }.load().map_err(|error| error.to_string())
}

#[track_caller]
fn check_rejected(text: &str, problems: &[&str]) {
    let error = load(text, &[]).expect_err(text);
    assert_eq!(error.lines().collect::<Vec<_>>(), problems, "{text}");
    assert!(!error.contains(SECRET), "{error}");
}

#[test]
fn invalid_values_are_reported_with_file_key_value_and_remedy() {
    for (text, problem) in [
        ("listn: 1", "lookout.yaml: listn: unknown key; did you mean `listen`?"),
        (
            "listen: localhost",
            "lookout.yaml: listen: `localhost` is not an address with a port; use 127.0.0.1:9797 or [::1]:9797, for example",
        ),
        ("\"listn\\a\": 1", "lookout.yaml: listn: unknown key; did you mean `listen`?"),
        ("agents: {timeot: 5s}", "lookout.yaml: agents.timeot: unknown key; did you mean `timeout`?"),
        (
            "agents: {x: 5s}",
            "lookout.yaml: agents.x: unknown key; known here are `timeout`, `max_ttl`, `max_idle`, `forget_after`",
        ),
        (
            "agents: {timeout: 30}",
            "lookout.yaml: agents.timeout: found 30, expected a duration like 30s, 5m, 1h30m or 30d",
        ),
        (
            "agents: {timeout: soon}",
            "lookout.yaml: agents.timeout: `soon` is not a duration; write it like 30s, 5m, 1h30m or 30d",
        ),
        ("agents: {timeout: 0s}", "lookout.yaml: agents.timeout: is 0s; it must be longer"),
        (
            "agents: {timeout: 5m, forget_after: 1m}",
            "lookout.yaml: agents.forget_after: 1m is less than agents.timeout, 5m; an agent would expire before it is stale; raise it above agents.timeout",
        ),
        ("agents: 5m", "lookout.yaml: agents: found text, expected keys and values beneath it"),
        (
            "budgets: {time_zone: Mars/Base}",
            "lookout.yaml: budgets.time_zone: `Mars/Base` is not a time zone; write its IANA name, such as Europe/Berlin or UTC",
        ),
        (
            "budgets: {cost_usd_per_day: -1.5}",
            "lookout.yaml: budgets.cost_usd_per_day: is -1.5; write an amount above 0, or null for no budget",
        ),
        (
            "budgets: {tokens_per_day: -1}",
            "lookout.yaml: budgets.tokens_per_day: found -1, expected a whole number, 0 or more",
        ),
        (
            "budgets: {tokens_per_day: many}",
            "lookout.yaml: budgets.tokens_per_day: found `many`, expected a whole number, 0 or more",
        ),
        ("budgets: {tokens_per_task: 0}", "lookout.yaml: budgets.tokens_per_task: is 0; write null for no budget"),
        (
            "budgets: {tokens_per_day: 1.5}",
            "lookout.yaml: budgets.tokens_per_day: found 1.5, expected a whole number, 0 or more",
        ),
        (
            "budgets: {tokens_per_day: [1]}",
            "lookout.yaml: budgets.tokens_per_day: found a list, expected a number, or {limit: NUMBER, action: stop}",
        ),
        (
            "budgets: {tokens_per_task: {limit: 0, action: stop}}",
            "lookout.yaml: budgets.tokens_per_task.limit: is 0; write null for no budget",
        ),
        (
            "budgets: {cost_usd_per_day: {limit: .nan, action: stop}}",
            "lookout.yaml: budgets.cost_usd_per_day.limit: is NaN; write an amount above 0, or null for no budget",
        ),
        (
            "budgets: {tokens_per_day: {limit: lots, action: stop}}",
            "lookout.yaml: budgets.tokens_per_day.limit: found `lots`, expected a whole number, 0 or more",
        ),
        (
            "budgets: {tokens_per_day: {limit: 5, action: halt}}",
            "lookout.yaml: budgets.tokens_per_day.action: `halt` is unknown; use one of `alert`, `stop`",
        ),
        (
            "budgets: {tokens_per_day: {limit: 5, acton: stop}}",
            "lookout.yaml: budgets.tokens_per_day.acton: unknown key; did you mean `action`?",
        ),
        (
            "budgets: {tokens_per_day: {action: stop}}",
            "lookout.yaml: budgets.tokens_per_day.limit: is missing; it has no default",
        ),
        (
            "budgets: {count_cache_read: yes}",
            "lookout.yaml: budgets.count_cache_read: found `yes`, expected true or false",
        ),
        ("store: {retention: 0s}", "lookout.yaml: store.retention: must not be 0s; set it to a duration such as 30d"),
        ("log: {format: xml}", "lookout.yaml: log.format: `xml` is unknown; use one of `auto`, `text`, `json`"),
        (
            "log: {level: inof}",
            "lookout.yaml: log.level: `inof` is not a level; use one of off, error, warn, info, debug, trace",
        ),
        ("sources: {name: a}", "lookout.yaml: sources: found keys and values, expected a list like [a, b]"),
        ("sources: [{name: a, kind: orchestrator-cc}]", "lookout.yaml: sources[0].url: is missing; it has no default"),
        (
            "sources: [{name: a, kind: http-jsn, url: x}]",
            "lookout.yaml: sources[0].kind: `http-jsn` is unknown; did you mean `http-json`?",
        ),
        (
            "sources: [{name: a, kind: http-json, url: 'http://h', intervall: 5s}]",
            "lookout.yaml: sources[0].intervall: unknown key; did you mean `interval`?",
        ),
        (
            "expected: [{project: shop, count: 1}, {project: shop, count: 2}]",
            "lookout.yaml: expected[1].project: duplicate project `shop`: merge the two entries",
        ),
        ("expected: [{project: shop}]", "lookout.yaml: expected[0]: expects no agents; set `agents`, `count` or both"),
        (
            "expected: [{project: shop, agents: [a, a]}]",
            "lookout.yaml: expected[0].agents[1]: duplicate agent `a`: keep one",
        ),
        (
            "expected: [{project: \"a\\tb\", count: 1}]",
            "lookout.yaml: expected[0].project: contains control characters or more than 256 bytes; choose a plain, shorter name",
        ),
        ("rules: [mine.yaml]", "mine.yaml: no such file; check the path"),
        (
            "receivers: [{name: 007, slack: {}}]",
            "lookout.yaml: receivers[0].name: found 7, expected text; put it in quotes",
        ),
        (
            "receivers: [{name: a, min_level: warn}]",
            "lookout.yaml: receivers[0].min_level: `warn` is unknown; did you mean `warning`?",
        ),
        (
            "receivers: [{name: a, slack: {webhok_url: hunter2-4711}}]",
            "lookout.yaml: receivers[0].slack.webhok_url: unknown key; did you mean `webhook_url`?",
        ),
        ("- listen", "lookout.yaml: expected keys and values at the top level, such as `listen: 127.0.0.1:9797`"),
    ] {
        check_rejected(text, &[problem]);
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    check_rejected(
        "listn: 1\nagents: {timeout: 30, max_idel: 5m}\nsources: [{name: a}, 3]\n\
         receivers: [{name: ops, min_level: warn, slack: hunter2-4711}, {name: oncall, email: {to: 3, smtp: {}}}]",
        &[
            "lookout.yaml: listn: unknown key; did you mean `listen`?",
            "lookout.yaml: agents.timeout: found 30, expected a duration like 30s, 5m, 1h30m or 30d",
            "lookout.yaml: agents.max_idel: unknown key; did you mean `max_idle`?",
            "lookout.yaml: sources[0].kind: is missing; it has no default",
            "lookout.yaml: sources[1]: found 3, expected keys and values beneath it",
            "lookout.yaml: receivers[0].min_level: `warn` is unknown; did you mean `warning`?",
            "lookout.yaml: receivers[0].slack: found text, expected keys and values beneath it",
            "lookout.yaml: receivers[1].email.smtp.host: is missing; it has no default",
        ],
    );
    let many = format!("receivers: [{}]", "{x: 1},".repeat(5_000));
    assert_eq!(load(&many, &[]).expect_err("many").lines().count(), 100);
}

#[test]
fn syntax_errors_have_line_and_column_and_never_quote_the_line() {
    check_rejected(
        "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n",
        &["lookout.yaml: line 2, column 1: duplicate key `listen`: keep one"],
    );
    for text in ["a: [hunter2-4711", "a: hunter2-4711: b", "a: \"hunter2-4711", "a: *hunter2", "a: &a [*a]"] {
        let error = load(text, &[]).expect_err(text);
        assert!(error.starts_with("lookout.yaml: line 1, column "), "{text}: {error}");
        assert!(!error.contains("hunter2-4711"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn unreadable_files_are_reported() {
    let missing = ConfigSource { file: Some("/nowhere/lookout.yaml".into()), env: Environment::default() }.load();
    assert_eq!(missing.expect_err("missing").to_string(), "/nowhere/lookout.yaml: no such file; check the path");
    let large = format!("# {}", "x".repeat(1024 * 1024));
    check_rejected(&large, &["lookout.yaml: larger than 1 MiB; split it or check the path"]);
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("a.yaml");
    std::fs::write(&path, b"a: \xff").expect("write");
    let error = ConfigSource { file: Some(path), env: Environment::default() }.load().expect_err("rubbish").to_string();
    assert!(error.ends_with("a.yaml: not UTF-8: invalid byte at offset 4"), "{error}");
}

#[test]
fn yaml_values_are_read_by_the_core_schema() {
    let config = load(
        "x: &rhythm {interval: 10s, timeout: 2s}\n\
         sources:\n  - {<<: *rhythm, name: no, kind: orchestrator-cc, url: 'http://localhost/'}\n",
        &[],
    );
    assert_eq!(
        config.expect_err("x is no key"),
        "lookout.yaml: x: unknown key; known here are `environment`, `profiles`, `listen`, `allowed_hosts`, `auth`, `tls`, `limits`, `log`, `store`, `runs`, `registry`, `record`, `sources`, `flows`, `otlp`, `export`, `pipe`, `agents`, `expected`, `budgets`, `rules`, `incidents`, `digest`, `heartbeat`, `external_url`, `receivers`"
    );
    let config = load(
        "sources:\n  - &first {name: no, kind: orchestrator-cc, url: 'http://localhost/', interval: 10s}\n  - {<<: *first, name: off}\n\
         budgets:\nagents: {timeout: 90s}\nstore: {path: null}\n",
        &[],
    )
    .expect("valid");
    assert_eq!(config.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(), ["no", "off"]);
    assert_eq!(config.sources[1].interval, std::time::Duration::from_secs(10));
    assert_eq!(config.agents.timeout, std::time::Duration::from_secs(90));
    assert_eq!(config.budgets.time_zone, "UTC", "a section with nothing beneath it keeps its defaults");
    assert_eq!(config.store.path, None);
    for empty in ["", "# nothing\n", "---\n"] {
        assert_eq!(load(empty, &[]).expect("valid").print(), Config::default().print());
    }
}

#[test]
fn a_budget_with_an_action_is_printed_as_configured() {
    let stops = |limit| Some(BudgetLimit { limit, action: BudgetAction::Stop });
    let file = "budgets: {tokens_per_task: {limit: 200000, action: stop}, tokens_per_day: 5}\n";
    let env = [
        ("LOOKOUT_BUDGETS__TOKENS_PER_DAY__LIMIT", "1000"),
        ("LOOKOUT_BUDGETS__TOKENS_PER_DAY__ACTION", "stop"),
        ("LOOKOUT_BUDGETS__COST_USD_PER_DAY", "{limit: 12, action: alert}"),
    ];
    let config = load(file, &env).expect("valid");
    let budgets = &config.budgets;
    assert_eq!([budgets.tokens_per_task, budgets.tokens_per_day], [stops(200_000), stops(1_000)]);
    assert_eq!(budgets.cost_usd_per_day, Some(12.0.into()));
    let printed = config.print();
    let expected = "budgets:\n  tokens_per_task:\n    limit: 200000\n    action: stop\n  tokens_per_day:\n    \
                    limit: 1000\n    action: stop\n  cost_usd_per_day: 12.0\n";
    assert!(printed.contains(expected), "{printed}");
    assert_eq!(load(&printed, &[]).expect("valid").print(), printed);
    let error = load("", &[("LOOKOUT_BUDGETS__TOKENS_PER_DAY__ACTION", "stop")]).expect_err("no limit");
    let expected =
        "LOOKOUT_BUDGETS__TOKENS_PER_DAY__LIMIT: budgets.tokens_per_day.limit: is missing; it has no default";
    assert_eq!(error, expected);
}

#[test]
fn variables_override_the_file() {
    let file = "agents: {timeout: 60s, max_idle: 7m}\nallowed_hosts: [a]\nstore: {path: x.db}\n";
    let config = load(
        file,
        &[
            ("LOOKOUT_LISTEN", "0.0.0.0:80"),
            ("LOOKOUT_AGENTS__TIMEOUT", "5s"),
            ("LOOKOUT_ALLOWED_HOSTS", "[b, c]"),
            ("LOOKOUT_STORE__PATH", "null"),
            ("LOOKOUT_BUDGETS__TOKENS_PER_DAY", "1000"),
            ("LOOKOUT_LOG__LEVEL", ""),
            ("LOOKOUT_OTLP__HTTP", " \n"),
            ("LOOKOUT_CONFIG", "elsewhere.yaml"),
            ("LOOKOUT_PORT_9797_TCP_ADDR", "10.0.0.1"),
        ],
    )
    .expect("valid");
    assert_eq!(config.listen.0.to_string(), "0.0.0.0:80");
    assert_eq!(config.agents.timeout, std::time::Duration::from_secs(5));
    assert_eq!(config.agents.max_idle, std::time::Duration::from_secs(420));
    assert_eq!(config.allowed_hosts, ["b", "c"]);
    assert_eq!(config.store.path, None);
    assert_eq!(config.budgets.tokens_per_day, Some(1000.into()));
    assert_eq!(config.log.level, "info");
    assert!(config.otlp.http.is_some(), "a blank variable is ignored");
}

#[test]
fn problems_of_a_variable_name_the_variable() {
    for (name, value, problem) in [
        ("LOOKOUT_LISTN", "x", "LOOKOUT_LISTN: listn: unknown key; did you mean `listen`?"),
        ("LOOKOUT_AGENTS__TIMOUT", "5s", "LOOKOUT_AGENTS__TIMOUT: agents.timout: unknown key; did you mean `timeout`?"),
        (
            "LOOKOUT_AGENTS__TIMEOUT",
            "30",
            "LOOKOUT_AGENTS__TIMEOUT: agents.timeout: `30` is not a duration; write it like 30s, 5m, 1h30m or 30d",
        ),
        ("LOOKOUT_AGENTS__TIMEOUT", "0s", "LOOKOUT_AGENTS__TIMEOUT: agents.timeout: is 0s; it must be longer"),
        ("LOOKOUT_RECEIVERS", SECRET, "LOOKOUT_RECEIVERS: receivers: found text, expected a list like [a, b]"),
        (
            "LOOKOUT_RECEIVERS",
            "[{name: a, slack: {webhook_url: 4711}}]",
            "LOOKOUT_RECEIVERS: receivers[0].slack.webhook_url: found a number, expected text; put it in quotes",
        ),
    ] {
        assert_eq!(load("agents: {max_idle: 1m}", &[(name, value)]).expect_err(name), problem);
    }
}

#[test]
fn a_variable_that_replaces_a_value_by_keys_is_reported() {
    for (file, name, value, problem) in [
        (
            "sources: [{name: a, url: 'http://a'}]",
            "LOOKOUT_SOURCES__0__URL",
            "http://b",
            "LOOKOUT_SOURCES: sources: found keys and values, expected a list like [a, b]",
        ),
        (
            "allowed_hosts: [a]",
            "LOOKOUT_ALLOWED_HOSTS",
            "{a: b}",
            "LOOKOUT_ALLOWED_HOSTS: allowed_hosts: found text, expected a list like [a, b]",
        ),
        (
            "agents: {timeout: 5s}",
            "LOOKOUT_AGENTS__TIMEOUT__X",
            "1",
            "LOOKOUT_AGENTS__TIMEOUT: agents.timeout: found keys and values, expected a duration like 30s, 5m, 1h30m or 30d",
        ),
        (
            "agents: {timeout: 5}",
            "LOOKOUT_AGENTS__MAX_IDLE",
            "1m",
            "lookout.yaml: agents.timeout: found 5, expected a duration like 30s, 5m, 1h30m or 30d",
        ),
    ] {
        assert_eq!(load(file, &[(name, value)]).expect_err(name), problem);
    }
}

#[test]
fn text_in_a_variable_is_not_parsed_as_a_number() {
    let config = load_env(&[("LOOKOUT_STORE__PATH", "0042"), ("LOOKOUT_BUDGETS__TIME_ZONE", "UTC")]).expect("valid");
    assert_eq!(config.store.path, Some(PathBuf::from("0042")));
}

#[test]
fn shorthand_variables_configure_receivers() {
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
      after: 0s
      group_by: none
      group_wait: 1s
      slack:
        webhook_url: "***"
    - name: email
      min_level: warning
      send_resolved: true
      after: 0s
      group_by: none
      group_wait: 1s
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
    let (Ok(Kind::Slack(slack)), Ok(Kind::Email(email))) = (slack.kinds.one(), email.kinds.one()) else {
        panic!("{slack:?} {email:?}")
    };
    assert_eq!(slack.webhook_url.as_ref().map(|url| url.expose()), Some(HOOK));
    assert_eq!(email.smtp.password.as_ref().map(|password| password.expose()), Some(SECRET));
}
