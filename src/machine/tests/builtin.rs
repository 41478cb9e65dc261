//! Every built-in rule: which state fires it, at which level and second.

use super::*;
use crate::model::AgentStatus::{Completed, Failed, Idle, Paused, Running, WaitingReview};
use crate::model::AgentTelemetry;

fn rule_test() -> RuleSimulation {
    RuleSimulation::new(settings(), "rules: []")
}

/// One whose agents expire after an hour.
fn with_expiry() -> RuleSimulation {
    RuleSimulation::new(FleetSettings { agents: AgentsConfig::default(), ..settings() }, "rules: []")
}

fn active(last: i64) -> AgentUpdate<'static> {
    AgentUpdate { last_activity: Some(at(last)), ..a(Running) }
}

#[test]
fn idle_escalates_by_time_alone_and_resolves_below_clear_below() {
    let mut test = rule_test();
    test.push(10, active(0)).until(2_000);
    assert_eq!(test.notes.served, 3, "no deadline but those of its levels");
    let rising = ["300 AgentIdle a warning", "600 AgentIdle a error", "900 AgentIdle a critical"];
    assert_eq!(test.findings(&["AgentIdle"]), rising);
    // 290 s of idleness is below the threshold and above `clear_below`, 240 s.
    test.push(2_000, active(1_710)).until(2_010).push(2_015, active(1_776)).until(2_100);
    let falling = ["2000 AgentIdle a warning", "2015 AgentIdle a resolved", "2076 AgentIdle a warning"];
    assert_eq!(test.findings(&["AgentIdle"]), falling);
    test.push(2_100, a(Paused));
    assert_eq!(test.findings(&["AgentIdle"]), ["2100 AgentIdle a resolved"]);
    for status in [Idle, Completed, WaitingReview, Failed, Running, Paused] {
        test.push(2_200, a(status));
    }
    let words = ["warning", "resolved", "warning", "resolved", "warning", "resolved"];
    assert_eq!(test.findings(&["AgentIdle"]), words.map(|word| format!("2200 AgentIdle a {word}")));
}

#[test]
fn idle_fires_at_the_exact_millisecond() {
    for millis in [1, 17, 123, 333, 667, 999] {
        let mut test = rule_test();
        let last = Time::from_millis(at(0).as_millis() - millis);
        test.push(0, AgentUpdate { last_activity: Some(last), ..a(Running) }).until(1_000);
        let expected: Vec<String> = [(300, "warning"), (600, "error"), (900, "critical")]
            .map(|(second, word)| format!("{} AgentIdle a {word}", f64::from(second * 1000 - millis as i32) / 1000.0))
            .into();
        assert_eq!((test.findings(&["AgentIdle"]), test.notes.served), (expected, 3));
    }
}

#[test]
fn restarts_count_for_an_hour() {
    let mut test = rule_test();
    let restarts = |count| AgentUpdate { restart_count: Some(count), ..a(Running) };
    test.push(0, restarts(2)).push(100, restarts(3)).push(200, restarts(5)).push(300, restarts(10)).until(8_000);
    assert_eq!(
        test.findings(&["AgentRestarting"]),
        [
            "100 AgentRestarting a warning",
            "200 AgentRestarting a error",
            "300 AgentRestarting a critical",
            "3600 AgentRestarting a error",
            "3900 AgentRestarting a resolved",
        ]
        .map(str::to_owned)
    );
    test.push(8_000, restarts(1)).push(8_001, restarts(3));
    assert_eq!(
        test.findings(&["AgentRestarting"]),
        ["8001 AgentRestarting a warning"],
        "a count that went down is a reset"
    );
}

#[test]
fn down_fires_at_once_and_agents_down_by_number() {
    let mut test = rule_test();
    let status = |name: &'static str, status| AgentUpdate { status: Some(status), ..named(name) };
    for (second, name) in [(0, "a"), (1, "b"), (2, "c")] {
        test.push(second, status(name, Failed));
    }
    test.push(3, status("a", Completed)).push(4, status("b", Running)).push(5, status("c", Paused));
    assert_eq!(
        test.findings(&["AgentDown", "AgentsDown"]),
        [
            "0 AgentDown a error",
            "0 AgentsDown shop warning",
            "1 AgentDown b error",
            "1 AgentsDown shop error",
            "2 AgentDown c error",
            "2 AgentsDown shop critical",
            "3 AgentDown a resolved",
            "3 AgentsDown shop error",
            "4 AgentDown b resolved",
            "4 AgentsDown shop warning",
            "5 AgentDown c resolved",
            "5 AgentsDown shop resolved",
        ]
    );
    let batch = Batch {
        project: "shop".into(),
        agents: vec![AgentUpdate { running: Some(false), ..named("d") }],
        ..Batch::default()
    };
    test.push_batch(6, batch);
    assert_eq!(test.findings(&["AgentDown"]), ["6 AgentDown d error"], "also on first sight");
    test.push_batch(7, Batch { project: "shop".into(), complete: true, ..Batch::default() });
    assert_eq!(test.findings(&["AgentDown", "AgentsDown"]), ["7 AgentDown d removed", "7 AgentsDown shop resolved"]);
}

#[test]
fn silence() {
    let mut test = with_expiry();
    let batch = |ttl: Option<u64>, agent| Batch {
        project: "shop".into(),
        agents: vec![agent],
        ttl: ttl.map(Duration::from_secs),
        ..Batch::default()
    };
    let rules = ["AgentStale", "AgentDown", "AgentIdle", "AgentsDown"];
    test.push_batch(0, batch(None, AgentUpdate { last_activity: Some(at(-300)), ..with_task(Running) }));
    test.push_batch(0, batch(Some(600), AgentUpdate { status: Some(Running), ..named("slow") })).until(1_000);
    assert_eq!(
        test.findings(&rules),
        [
            "0 AgentIdle a warning",
            "60 AgentStale a warning",
            "60 AgentDown a error",
            "60 AgentsDown shop warning",
            "600 AgentStale slow warning"
        ],
        "a silent agent's other alerts stay as they are: idle does not rise"
    );
    test.push_batch(1_000, batch(None, AgentUpdate { last_activity: Some(at(300)), ..a(Running) }));
    let back = [
        "1000 AgentIdle a error",
        "1000 AgentStale a resolved",
        "1000 AgentDown a resolved",
        "1000 AgentsDown shop resolved",
    ];
    assert_eq!(test.findings(&rules), back);
    test.until(5_000);
    assert_eq!(
        test.findings(&rules),
        [
            "1060 AgentStale a warning",
            "1060 AgentDown a error",
            "1060 AgentsDown shop warning",
            "3600 AgentStale slow no longer watched",
            "4600 AgentIdle a no longer watched",
            "4600 AgentStale a no longer watched",
            "4600 AgentDown a no longer watched",
            "4600 AgentsDown shop resolved",
        ]
    );
}

#[test]
fn ended_and_paused_agents_are_not_stale() {
    let mut test = rule_test();
    for (second, status) in [(0, Completed), (1_000, Failed), (2_000, Paused)] {
        test.push_batch(second, Batch { project: "shop".into(), agents: vec![a(status)], ..Batch::default() });
        test.until(second + 999);
        assert_eq!(test.findings(&["AgentStale"]), [""; 0], "{status:?}");
    }
}

#[test]
fn rate_limited_requests_count_for_ten_minutes() {
    let mut test = rule_test();
    let refused = |count| AgentUpdate { rate_limit_hits: Some(count), ..a(Running) };
    test.push(0, refused(500)).push(60, refused(501)).push(120, refused(504)).until(2_000);
    let expected = [
        "60 RateLimited a warning",
        "120 RateLimited a error",
        "660 RateLimited a warning",
        "720 RateLimited a resolved",
    ];
    assert_eq!(test.findings(&["RateLimited"]), expected, "the first count is a baseline");
}

#[test]
fn error_ratios_need_twenty_requests() {
    let mut test = rule_test();
    let made = |requests, errors| AgentUpdate { requests: Some(requests), request_errors: Some(errors), ..a(Running) };
    test.push(0, made(1_000, 900)).push(10, made(1_019, 919));
    assert_eq!(test.findings(&["ErrorRate"]), [""; 0]);
    test.push(20, made(1_020, 919)).push(30, made(1_095, 919)).push(40, made(1_380, 919)).push(50, made(1_480, 919));
    let expected =
        ["20 ErrorRate a critical", "30 ErrorRate a error", "40 ErrorRate a warning", "50 ErrorRate a resolved"];
    assert_eq!(test.findings(&["ErrorRate"]), expected, "19 of 380 is five in a hundred; 19 of 480 is below four");
}

#[test]
fn an_error_ratio_rises_when_successful_requests_leave_the_window() {
    let mut test = rule_test();
    let made = |requests, errors| AgentUpdate { requests: Some(requests), request_errors: Some(errors), ..a(Running) };
    test.push(0, made(0, 0)).push(10, made(1_000, 0)).push(500, made(1_020, 10)).until(2_000);
    let expected = ["610 ErrorRate a critical", "1100 ErrorRate a resolved"];
    assert_eq!(test.findings(&["ErrorRate"]), expected);
}

#[test]
fn a_long_task_fires_by_the_time_worked_on_it() {
    let mut test = rule_test();
    test.push(0, with_task(Running)).push(3_000, a(WaitingReview)).push(10_000, a(Running)).until(30_000);
    // 3000 s before the pause: an hour is full 600 s after it.
    assert_eq!(
        test.findings(&["TaskRunningLong"]),
        ["10600 TaskRunningLong a warning", "21400 TaskRunningLong a error"]
    );
    let served = test.notes.served;
    test.push(30_000, a(Idle)).until(60_000);
    assert!(
        test.notes.served <= served + 2,
        "the time of a task that waits is not watched: {}",
        test.notes.served - served
    );
    test.push(60_000, a(Completed));
    assert_eq!(test.findings(&["TaskRunningLong"]), ["60000 TaskRunningLong a resolved"]);
}

#[test]
fn an_expected_agent_is_missing_after_its_timeout() {
    let expected = vec![ExpectedConfig { project: "shop".into(), agents: vec!["boss".into()], count: Some(2) }];
    let mut test = RuleSimulation::new(FleetSettings { expected, ..settings() }, "rules: []");
    test.until(400);
    let rules = ["AgentMissing", "FleetTooSmall"];
    let missing = [
        "30 AgentMissing boss warning",
        "30 FleetTooSmall shop warning",
        "300 AgentMissing boss error",
        "300 FleetTooSmall shop error",
    ];
    assert_eq!(test.findings(&rules), missing);
    test.push(400, named("boss")).push(410, named("a"));
    assert_eq!(test.findings(&rules), ["400 AgentMissing boss resolved", "410 FleetTooSmall shop resolved"]);
    test.push_batch(500, Batch { project: "shop".into(), complete: true, ..Batch::default() }).until(531);
    assert_eq!(test.findings(&rules), ["530 AgentMissing boss warning", "530 FleetTooSmall shop warning"]);
}

#[test]
fn a_failing_source_fires_after_its_threshold_and_resolves_at_once() {
    let mut test = rule_test();
    test.poll(10, Err(SourceErrorReason::Timeout)).poll(20, Err(SourceErrorReason::Connect)).until(200);
    assert_eq!(test.findings(&["SourceDown"]), ["40 SourceDown orch warning", "130 SourceDown orch error"]);
    test.poll(200, Ok(vec![]));
    assert_eq!(test.findings(&["SourceDown"]), ["200 SourceDown orch resolved"]);
    test.poll(210, Err(SourceErrorReason::Status)).poll(239, Ok(vec![])).until(400);
    assert_eq!(test.findings(&["SourceDown"]), [""; 0]);
}

#[test]
fn components_and_health_by_their_status() {
    use ComponentStatus::{Error, Limited, Ok, Warning};
    let mut test = with_expiry();
    for (second, status) in [(0, Ok), (1, Limited), (2, Warning), (3, Error), (4, Limited), (5, Ok)] {
        test.push_batch(second, component(status));
    }
    let mut found = test.findings(&["ComponentStatus", "ClusterHealth"]);
    found.sort();
    let mut expected = [
        "1 ComponentStatus db info",
        "2 ComponentStatus db warning",
        "3 ComponentStatus db error",
        "3 ClusterHealth shop error",
        "4 ComponentStatus db info",
        "4 ClusterHealth shop resolved",
        "5 ComponentStatus db resolved",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
    test.push(10, a(Failed)).push(20, AgentUpdate { status: Some(Running), ..named("b") });
    assert_eq!(test.findings(&["ClusterHealth"]), ["10 ClusterHealth shop critical", "20 ClusterHealth shop resolved"]);
    test.push_batch(30, component(Error)).until(4_000);
    let expired = ["30 ComponentStatus db error", "3630 ComponentStatus db no longer watched"];
    assert_eq!(test.findings(&["ComponentStatus"]), expired);
}

#[test]
fn budgets_warn_before_they_are_used_up_and_resolve_on_a_new_day() {
    let mut settings = settings();
    settings.budgets.tokens_per_task = Some(1_000.into());
    settings.budgets.tokens_per_day = Some(2_000.into());
    settings.budgets.cost_usd_per_day = Some(1.0.into());
    let mut test = RuleSimulation::new(settings, "rules: []");
    test.push(0, with_task(Running)).usage(1, 899).usage(2, 1).usage(3, 100).usage(4, 800).usage(5, 200);
    let rules = ["TaskTokenBudget", "DayTokenBudget", "DayCostBudget"];
    assert_eq!(
        test.findings(&rules),
        [
            "2 TaskTokenBudget a warning",
            "3 TaskTokenBudget a error",
            "4 DayTokenBudget a warning",
            "5 DayTokenBudget a error"
        ]
    );
    test.push(10, AgentUpdate { task_id: Patch::Set("u".into()), ..named("a") });
    assert_eq!(test.findings(&rules), ["10 TaskTokenBudget a resolved"], "another task is another budget");
    let cost = |usd| UsageUpdate { agent: Some("a".into()), cost_usd: Some(usd), ..UsageUpdate::default() };
    for (second, usd) in [(20, 0.89), (21, 0.01), (22, 0.2)] {
        test.take(second, increments(vec![cost(usd)]));
    }
    assert_eq!(test.findings(&rules), ["21 DayCostBudget a warning", "22 DayCostBudget a error"]);
    test.push(43_000, a(Running)).until(43_200);
    assert_eq!(test.findings(&rules), ["43200 DayTokenBudget a new day", "43200 DayCostBudget a new day"]);
}

#[test]
fn a_new_day_begins_for_inactive_agents_too() {
    let mut settings = settings();
    settings.budgets.tokens_per_day = Some(100.into());
    let mut test = RuleSimulation::new(settings, "rules: []");
    test.push_batch(0, Batch { project: "shop".into(), agents: vec![a(Running)], ..Batch::default() });
    test.usage(1, 100).until(43_200);
    assert_eq!(test.findings(&["DayTokenBudget"]), ["1 DayTokenBudget a error", "43200 DayTokenBudget a new day"]);
}

#[test]
fn status_changes_fire_when_the_rule_is_enabled() {
    // The file's own words, switched on.
    let text = BUILT_IN.iter().find(|(name, _)| *name == "agents.yaml").expect("a built-in file").1;
    let mut test = RuleSimulation::new(settings(), &text.replace("enabled: false", "enabled: true"));
    test.push(0, a(Running)).push(100, a(Idle)).push(130, a(Running)).until(1_000);
    let found = test.findings(&["AgentStatusChanged"]);
    assert_eq!(found, ["100 AgentStatusChanged a info", "190 AgentStatusChanged a resolved"]);
}

/// Telemetry of `a`: one request, rate-limited or not.
fn request(refused: bool) -> MachineEvent<'static> {
    let count = u64::from(refused);
    let report =
        AgentTelemetry { project: "shop".into(), agent: "a".into(), agent_type: "codex", ..Default::default() };
    MachineEvent::Telemetry(vec![AgentTelemetry {
        requests: 1,
        request_errors: count,
        rate_limit_hits: count,
        ..report
    }])
}

#[test]
fn the_first_rate_limited_request_fires() {
    let mut test = rule_test();
    test.take(10, request(true)).until(2_000);
    assert_eq!(test.findings(&["RateLimited"]), ["10 RateLimited a warning", "610 RateLimited a resolved"]);
    // Of one that was known, and of which nothing was known of this kind: before a restart, too.
    let mut test = self::rule_test();
    let named = AgentTelemetry { project: "shop".into(), agent: "a".into(), agent_type: "codex", ..Default::default() };
    test.take(0, MachineEvent::Telemetry(vec![named])).restart(100);
    test.take(110, request(true));
    test.until(2_000);
    assert_eq!(test.findings(&["RateLimited"]), ["110 RateLimited a warning", "710 RateLimited a resolved"]);
    test.restart(5_000);
    test.until(5_100);
    assert_eq!(test.findings(&["RateLimited"]), [""; 0], "a restored count is no increase");
    test.take(5_200, request(false)).take(5_300, request(true));
    assert_eq!(test.findings(&["RateLimited"]), ["5300 RateLimited a warning"]);
}

#[test]
fn errors_and_tokens_counted_from_zero_are_increases() {
    let rules = "
rules:
  - {name: Burst, for_each: agent, signal: {increase_of: tokens, over: 10m}, when: at_least, levels: {warning: 100}, summary: s, action: a}
  - {name: Failing, for_each: agent, signal: {increase_of: request_errors, over: 10m}, when: at_least, levels: {warning: 1}, summary: s, action: a}
";
    let mut test = RuleSimulation::new(settings(), rules);
    test.usage(10, 150).take(20, request(true));
    assert_eq!(test.findings(&["Burst", "Failing"]), ["10 Burst a warning"], "usage has an owner");
    let mut test = RuleSimulation::new(settings(), rules);
    test.take(20, request(true));
    assert_eq!(test.findings(&["Burst", "Failing"]), ["20 Failing a warning"]);
    let mut test = RuleSimulation::new(settings(), rules);
    test.push(30, AgentUpdate { tokens: [Some(500), None, None, None, None], request_errors: Some(9), ..a(Running) });
    assert_eq!(test.findings(&["Burst", "Failing"]), [""; 0], "what others counted before is history");
}

#[test]
fn an_agent_that_failed_by_a_rate_limit_is_down_once_the_limit_ends() {
    let counted = |requests, refused| AgentUpdate {
        requests: Some(requests),
        request_errors: Some(refused),
        rate_limit_hits: Some(refused),
        ..named("a")
    };
    let mut test = RuleSimulation::new(settings(), "rules: []");
    test.push(0, a(Running)).push(1, counted(1, 0)).push(10, a(Failed));
    assert_eq!(test.findings(&["AgentDown"]), ["10 AgentDown a error"]);
    test.push(20, counted(2, 1));
    assert_eq!(test.findings(&["AgentDown"]), ["20 AgentDown a resolved"], "a limit is why");
    test.push(30, counted(4, 1));
    assert_eq!(test.findings(&["AgentDown"]), ["30 AgentDown a error"], "a successful request ends the limit");
    test.push(40, counted(5, 2)).until(2_000);
    assert_eq!(
        test.findings(&["AgentDown"]),
        ["40 AgentDown a resolved", "640 AgentDown a error"],
        "the limit has ended"
    );
}

#[test]
fn a_context_window_is_nearly_full_from_80_percent_on() {
    let rules = ["ContextNearlyFull"];
    let mut test = RuleSimulation::new(settings(), "rules: []");
    let full = |ratio| AgentUpdate { context_window_ratio: Patch::Set(ratio), ..a(Running) };
    test.push(0, a(Running)).push(1, full(0.799)).push(2, full(0.8)).push(3, full(0.949)).push(4, full(0.95));
    let levels = ["2 ContextNearlyFull a warning", "4 ContextNearlyFull a error"];
    assert_eq!(test.findings(&rules), levels, "unknown for the others, which do not fire");
    test.push(5, full(0.7)).push(6, full(0.699));
    assert_eq!(test.findings(&rules), ["5 ContextNearlyFull a warning", "6 ContextNearlyFull a resolved"]);
    // Unknown holds it, also over a restart; who ended needs none.
    test.push(7, full(0.9)).restart(100);
    test.push(101, AgentUpdate { context_window_ratio: Patch::Clear, ..a(Running) });
    test.push(102, full(0.96)).push(103, a(Completed));
    let expected =
        ["101 ContextNearlyFull a no data", "102 ContextNearlyFull a error", "103 ContextNearlyFull a resolved"];
    assert_eq!(test.findings(&rules), expected);
}

#[test]
fn an_export_that_lags_fires_after_five_minutes_and_resolves_once_nothing_waits() {
    let mut test = rule_test();
    let target = || std::sync::Arc::from("clickhouse (traces): ClickHouse at h can't be reached");
    // The engine observes twice a second; the oldest span waits since the beginning of the hour.
    for second in (0..3_600).step_by(10) {
        let waiting = Some((at(0), target()));
        test.take(second, MachineEvent::Observed(SidecarObservation { waiting, ..SidecarObservation::default() }));
    }
    test.take(3_630, MachineEvent::Observed(SidecarObservation::default())).until(4_000);
    let found = test.findings(&["ExportLagging"]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("300 ") && found[0].ends_with(" warning"), "{found:?}");
    assert!(found[1].starts_with("3630 ") && found[1].ends_with(" resolved"), "{found:?}");
}
