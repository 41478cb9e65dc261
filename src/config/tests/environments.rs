//! Tests of profiles.

use super::*;

const FILE: &str = "agents: {timeout: 60s, max_idle: 7m}\nallowed_hosts: [a]\nlog: {level: info}\n\
                    profiles:\n  development: {log: {level: debug}, allowed_hosts: [b, c]}\n  \
                    production: {agents: {timeout: 30s}}\n  canary:\n";

fn in_environment(file: &str, env: &[(&str, &str)]) -> (String, u64, Vec<String>, String) {
    let config = load(file, env).expect("valid");
    (config.environment.0, config.agents.timeout.as_secs(), config.allowed_hosts, config.log.level)
}

#[test]
fn a_profile_overrides_the_file_and_is_overridden_by_variables() {
    let expected = |name: &str, timeout, hosts: &[&str], level: &str| {
        (name.to_owned(), timeout, hosts.iter().map(|host| (*host).to_owned()).collect(), level.to_owned())
    };
    assert_eq!(in_environment(FILE, &[]), expected("production", 30, &["a"], "info"));
    let development = expected("development", 60, &["b", "c"], "debug");
    assert_eq!(in_environment(&format!("environment: development\n{FILE}"), &[]), development);
    let by_variable = [("LOOKOUT_ENVIRONMENT", "development")];
    assert_eq!(in_environment(&format!("environment: production\n{FILE}"), &by_variable), development);
    let over = [("LOOKOUT_ENVIRONMENT", "production"), ("LOOKOUT_AGENTS__TIMEOUT", "5s")];
    assert_eq!(in_environment(FILE, &over), expected("production", 5, &["a"], "info"));
    assert_eq!(in_environment(FILE, &[("LOOKOUT_ENVIRONMENT", "canary")]), expected("canary", 60, &["a"], "info"));
    assert_eq!(load(FILE, &[]).expect("valid").agents.max_idle.as_secs(), 420, "the section keeps its other keys");
}

#[test]
fn check_prints_the_effective_configuration_of_each_environment() {
    let shown = |name| {
        let printed = load(&format!("environment: {name}\n{FILE}"), &[]).expect("valid").print();
        assert_eq!(load(&printed, &[]).expect("valid").print(), printed, "it reads back");
        let is_of_interest = |line: &&str| {
            ["environment", "allowed", "- ", "log", "  level", "agents", "  timeout"]
                .iter()
                .any(|part| line.starts_with(part))
        };
        printed.lines().filter(is_of_interest).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(shown("development"), @r#"
    environment: development
    allowed_hosts:
    - b
    - c
    log:
      level: debug
      timeout: 6h
    agents:
      timeout: 1m
    "#);
    insta::assert_snapshot!(shown("production"), @r#"
    environment: production
    allowed_hosts:
    - a
    log:
      level: info
      timeout: 6h
    agents:
      timeout: 30s
    "#);
}

#[test]
fn an_unknown_environment_is_an_error_and_all_profiles_are_checked() {
    for (text, problems) in [
        (
            "environment: prodution",
            &["lookout.yaml: environment: `prodution` is unknown; did you mean `production`?"][..],
        ),
        ("environment: [a]", &["lookout.yaml: environment: found a list, expected text"]),
        (
            "profiles: {production: {agents: {timeot: 5s}}, development: {agents: {timeout: 5}}}",
            &[
                "lookout.yaml: profiles.production.agents.timeot: unknown key; did you mean `timeout`?",
                "lookout.yaml: profiles.development.agents.timeout: found 5, expected a duration like 30s, 5m, 1h30m or 30d",
            ],
        ),
        (
            "agents: {timeout: 5}\nprofiles: {production: {}, development: {listn: 1}}",
            &[
                "lookout.yaml: agents.timeout: found 5, expected a duration like 30s, 5m, 1h30m or 30d",
                "lookout.yaml: profiles.development.listn: unknown key; did you mean `listen`?",
            ],
        ),
        (
            "profiles: {production: 3}",
            &["lookout.yaml: profiles.production: found 3, expected keys and values beneath it"],
        ),
        ("profiles: [production]", &["lookout.yaml: profiles: found a list, expected keys and values beneath it"]),
        (
            "profiles: {global: {}}",
            &["lookout.yaml: profiles.global: invalid name of an environment; use lower-case letters, digits and `-`"],
        ),
        (
            "profiles: {production: {environment: x, profiles: {}}}",
            &[
                "lookout.yaml: profiles.production.environment: not allowed in a profile; set it at the top level",
                "lookout.yaml: profiles.production.profiles: not allowed in a profile; set it at the top level",
            ],
        ),
        (
            "profiles: {production: {agents: {timeout: 0s}}}",
            &["lookout.yaml: profiles.production.agents.timeout: is 0s; it must be longer"],
        ),
        ("profiles: {development: {rules: [only-there.yaml]}}", &[]),
    ] {
        match load(text, &[]) {
            Ok(_) => assert!(problems.is_empty(), "{text}"),
            Err(error) => assert_eq!(error.lines().collect::<Vec<_>>(), problems, "{text}"),
        }
    }
    assert_eq!(
        load("", &[("LOOKOUT_ENVIRONMENT", "qa")]).expect_err("unknown environment"),
        "LOOKOUT_ENVIRONMENT: environment: `qa` is unknown; use one of `development`, `staging`, `production`, or add a section for it to `profiles`"
    );
}

#[test]
fn a_named_environment_gives_retention_and_intervals_where_no_key_does() {
    let source = "sources: [{name: a, kind: orchestrator-cc, url: 'http://127.0.0.1:1'}]\n";
    let numbers = |file: &str, env: &[(&str, &str)]| {
        let config = load(&format!("{file}{source}"), env).expect("valid");
        (config.runs.retention.as_secs() / 86_400, config.sources[0].interval.as_secs())
    };
    assert_eq!(numbers("", &[]), (30, 5), "as without environments");
    assert_eq!(numbers("environment: development\n", &[]), (7, 10));
    assert_eq!(numbers("runs:\n", &[("LOOKOUT_ENVIRONMENT", "staging")]), (30, 5));
    assert_eq!(numbers("environment: production\nruns: {max_size: 1000000000}\n", &[]), (90, 5));
    assert_eq!(numbers("environment: production\nruns: {retention: 3d}\n", &[]), (3, 5), "a key given wins");
    let profile = "environment: development\nprofiles: {development: {runs: {retention: 2d}}}\n";
    assert_eq!(numbers(profile, &[]), (2, 10));
    let printed = load("environment: development\n", &[]).expect("valid").print();
    assert!(printed.contains("retention: 7d"), "{printed}");
}
