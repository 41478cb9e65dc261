//! Every built-in rule: the state that breaks it, the level, the second.

use super::*;
use crate::model::AgentStatus::{Completed, Failed, Idle, Paused, Running, WaitingReview};
use crate::model::AgentTelemetry;

fn world() -> World {
    World::new(settings(), "rules: []")
}

/// One that forgets after an hour.
fn forgetful() -> World {
    World::new(FleetSettings { agents: AgentsConfig::default(), ..settings() }, "rules: []")
}

fn active(last: i64) -> AgentUpdate<'static> {
    AgentUpdate { last_activity: Some(at(last)), ..a(Running) }
}

#[test]
fn idle_rises_by_the_clock_alone_and_falls_below_its_hysteresis() {
    let mut world = world();
    world.push(10, active(0)).until(2_000);
    assert_eq!(world.notes.served, 3, "no deadline but those of its levels");
    let rising = ["300 AgentIdle a warning", "600 AgentIdle a error", "900 AgentIdle a critical"];
    assert_eq!(world.told(&["AgentIdle"]), rising);
    // 290 s of idleness is below the threshold and above `clear_below`, 240 s.
    world.push(2_000, active(1_710)).until(2_010).push(2_015, active(1_776)).until(2_100);
    let falling = ["2000 AgentIdle a warning", "2015 AgentIdle a over", "2076 AgentIdle a warning"];
    assert_eq!(world.told(&["AgentIdle"]), falling);
    world.push(2_100, a(Paused));
    assert_eq!(world.told(&["AgentIdle"]), ["2100 AgentIdle a over"]);
    for status in [Idle, Completed, WaitingReview, Failed, Running, Paused] {
        world.push(2_200, a(status));
    }
    let words = ["warning", "over", "warning", "over", "warning", "over"];
    assert_eq!(world.told(&["AgentIdle"]), words.map(|word| format!("2200 AgentIdle a {word}")));
}

#[test]
fn idle_is_found_on_the_very_millisecond() {
    for millis in [1, 17, 123, 333, 667, 999] {
        let mut world = world();
        let last = Time::from_millis(at(0).as_millis() - millis);
        world.push(0, AgentUpdate { last_activity: Some(last), ..a(Running) }).until(1_000);
        let expected: Vec<String> = [(300, "warning"), (600, "error"), (900, "critical")]
            .map(|(second, word)| format!("{} AgentIdle a {word}", f64::from(second * 1000 - millis as i32) / 1000.0))
            .into();
        assert_eq!((world.told(&["AgentIdle"]), world.notes.served), (expected, 3));
    }
}

#[test]
fn restarts_count_for_an_hour() {
    let mut world = world();
    let restarts = |count| AgentUpdate { restart_count: Some(count), ..a(Running) };
    world.push(0, restarts(2)).push(100, restarts(3)).push(200, restarts(5)).push(300, restarts(10)).until(8_000);
    assert_eq!(
        world.told(&["AgentRestarting"]),
        [
            "100 AgentRestarting a warning",
            "200 AgentRestarting a error",
            "300 AgentRestarting a critical",
            "3600 AgentRestarting a error",
            "3900 AgentRestarting a over",
        ]
        .map(str::to_owned)
    );
    world.push(8_000, restarts(1)).push(8_001, restarts(3));
    assert_eq!(
        world.told(&["AgentRestarting"]),
        ["8001 AgentRestarting a warning"],
        "a count that went down began anew"
    );
}

#[test]
fn down_is_found_at_once_and_in_numbers() {
    let mut world = world();
    let status = |name: &'static str, status| AgentUpdate { status: Some(status), ..named(name) };
    for (second, name) in [(0, "a"), (1, "b"), (2, "c")] {
        world.push(second, status(name, Failed));
    }
    world.push(3, status("a", Completed)).push(4, status("b", Running)).push(5, status("c", Paused));
    assert_eq!(
        world.told(&["AgentDown", "AgentsDown"]),
        [
            "0 AgentDown a error",
            "0 AgentsDown shop warning",
            "1 AgentDown b error",
            "1 AgentsDown shop error",
            "2 AgentDown c error",
            "2 AgentsDown shop critical",
            "3 AgentDown a over",
            "3 AgentsDown shop error",
            "4 AgentDown b over",
            "4 AgentsDown shop warning",
            "5 AgentDown c over",
            "5 AgentsDown shop over",
        ]
    );
    let batch = Batch {
        project: "shop".into(),
        agents: vec![AgentUpdate { running: Some(false), ..named("d") }],
        ..Batch::default()
    };
    world.push_batch(6, batch);
    assert_eq!(world.told(&["AgentDown"]), ["6 AgentDown d error"], "also when it is first seen so");
    world.push_batch(7, Batch { project: "shop".into(), complete: true, ..Batch::default() });
    assert_eq!(world.told(&["AgentDown", "AgentsDown"]), ["7 AgentDown d removed", "7 AgentsDown shop over"]);
}

#[test]
fn silence() {
    let mut world = forgetful();
    let batch = |ttl: Option<u64>, agent| Batch {
        project: "shop".into(),
        agents: vec![agent],
        ttl: ttl.map(Duration::from_secs),
        ..Batch::default()
    };
    let rules = ["AgentStale", "AgentDown", "AgentIdle", "AgentsDown"];
    world.push_batch(0, batch(None, AgentUpdate { last_activity: Some(at(-300)), ..with_task(Running) }));
    world.push_batch(0, batch(Some(600), AgentUpdate { status: Some(Running), ..named("slow") })).until(1_000);
    assert_eq!(
        world.told(&rules),
        [
            "0 AgentIdle a warning",
            "60 AgentStale a warning",
            "60 AgentDown a error",
            "60 AgentsDown shop warning",
            "600 AgentStale slow warning"
        ],
        "a silent agent's other alerts stay as they are: idle does not rise"
    );
    world.push_batch(1_000, batch(None, AgentUpdate { last_activity: Some(at(300)), ..a(Running) }));
    let back =
        ["1000 AgentIdle a error", "1000 AgentStale a over", "1000 AgentDown a over", "1000 AgentsDown shop over"];
    assert_eq!(world.told(&rules), back);
    world.until(5_000);
    assert_eq!(
        world.told(&rules),
        [
            "1060 AgentStale a warning",
            "1060 AgentDown a error",
            "1060 AgentsDown shop warning",
            "3600 AgentStale slow no longer watched",
            "4600 AgentIdle a no longer watched",
            "4600 AgentStale a no longer watched",
            "4600 AgentDown a no longer watched",
            "4600 AgentsDown shop over",
        ]
    );
}

#[test]
fn who_ended_or_was_paused_may_be_silent() {
    let mut world = world();
    for (second, status) in [(0, Completed), (1_000, Failed), (2_000, Paused)] {
        world.push_batch(second, Batch { project: "shop".into(), agents: vec![a(status)], ..Batch::default() });
        world.until(second + 999);
        assert_eq!(world.told(&["AgentStale"]), [""; 0], "{status:?}");
    }
}

#[test]
fn refused_requests_count_for_ten_minutes() {
    let mut world = world();
    let refused = |count| AgentUpdate { rate_limit_hits: Some(count), ..a(Running) };
    world.push(0, refused(500)).push(60, refused(501)).push(120, refused(504)).until(2_000);
    let expected =
        ["60 RateLimited a warning", "120 RateLimited a error", "660 RateLimited a warning", "720 RateLimited a over"];
    assert_eq!(world.told(&["RateLimited"]), expected, "the first count is a baseline");
}

#[test]
fn error_ratios_need_twenty_requests() {
    let mut world = world();
    let made = |requests, errors| AgentUpdate { requests: Some(requests), request_errors: Some(errors), ..a(Running) };
    world.push(0, made(1_000, 900)).push(10, made(1_019, 919));
    assert_eq!(world.told(&["ErrorRate"]), [""; 0]);
    world.push(20, made(1_020, 919)).push(30, made(1_095, 919)).push(40, made(1_380, 919)).push(50, made(1_480, 919));
    let expected = ["20 ErrorRate a critical", "30 ErrorRate a error", "40 ErrorRate a warning", "50 ErrorRate a over"];
    assert_eq!(world.told(&["ErrorRate"]), expected, "19 of 380 is five in a hundred; 19 of 480 is below four");
}

#[test]
fn an_error_ratio_rises_when_good_requests_leave_the_window() {
    let mut world = world();
    let made = |requests, errors| AgentUpdate { requests: Some(requests), request_errors: Some(errors), ..a(Running) };
    world.push(0, made(0, 0)).push(10, made(1_000, 0)).push(500, made(1_020, 10)).until(2_000);
    let expected = ["610 ErrorRate a critical", "1100 ErrorRate a over"];
    assert_eq!(world.told(&["ErrorRate"]), expected);
}

#[test]
fn a_long_task_is_found_by_the_time_worked_on_it() {
    let mut world = world();
    world.push(0, with_task(Running)).push(3_000, a(WaitingReview)).push(10_000, a(Running)).until(30_000);
    // 3000 s before the pause: an hour is full 600 s after it.
    assert_eq!(world.told(&["TaskRunningLong"]), ["10600 TaskRunningLong a warning", "21400 TaskRunningLong a error"]);
    let served = world.notes.served;
    world.push(30_000, a(Idle)).until(60_000);
    assert!(
        world.notes.served <= served + 2,
        "the time of a task that waits is not watched: {}",
        world.notes.served - served
    );
    world.push(60_000, a(Completed));
    assert_eq!(world.told(&["TaskRunningLong"]), ["60000 TaskRunningLong a over"]);
}

#[test]
fn who_should_be_there_is_missed_after_its_time() {
    let expected = vec![ExpectedConfig { project: "shop".into(), agents: vec!["boss".into()], count: Some(2) }];
    let mut world = World::new(FleetSettings { expected, ..settings() }, "rules: []");
    world.until(400);
    let rules = ["AgentMissing", "FleetTooSmall"];
    let missing = [
        "30 AgentMissing boss warning",
        "30 FleetTooSmall shop warning",
        "300 AgentMissing boss error",
        "300 FleetTooSmall shop error",
    ];
    assert_eq!(world.told(&rules), missing);
    world.push(400, named("boss")).push(410, named("a"));
    assert_eq!(world.told(&rules), ["400 AgentMissing boss over", "410 FleetTooSmall shop over"]);
    world.push_batch(500, Batch { project: "shop".into(), complete: true, ..Batch::default() }).until(531);
    assert_eq!(world.told(&rules), ["530 AgentMissing boss warning", "530 FleetTooSmall shop warning"]);
}

#[test]
fn a_source_that_fails_is_found_after_its_time_and_ends_at_once() {
    let mut world = world();
    world.poll(10, Err(SourceErrorReason::Timeout)).poll(20, Err(SourceErrorReason::Connect)).until(200);
    assert_eq!(world.told(&["SourceDown"]), ["40 SourceDown orch warning", "130 SourceDown orch error"]);
    world.poll(200, Ok(vec![]));
    assert_eq!(world.told(&["SourceDown"]), ["200 SourceDown orch over"]);
    world.poll(210, Err(SourceErrorReason::Status)).poll(239, Ok(vec![])).until(400);
    assert_eq!(world.told(&["SourceDown"]), [""; 0]);
}

#[test]
fn components_and_health_by_their_words() {
    use ComponentStatus::{Error, Limited, Ok, Warning};
    let mut world = forgetful();
    for (second, status) in [(0, Ok), (1, Limited), (2, Warning), (3, Error), (4, Limited), (5, Ok)] {
        world.push_batch(second, component(status));
    }
    let mut told = world.told(&["ComponentStatus", "ClusterHealth"]);
    told.sort();
    let mut expected = [
        "1 ComponentStatus db info",
        "2 ComponentStatus db warning",
        "3 ComponentStatus db error",
        "3 ClusterHealth shop error",
        "4 ComponentStatus db info",
        "4 ClusterHealth shop over",
        "5 ComponentStatus db over",
    ];
    expected.sort_unstable();
    assert_eq!(told, expected);
    world.push(10, a(Failed)).push(20, AgentUpdate { status: Some(Running), ..named("b") });
    assert_eq!(world.told(&["ClusterHealth"]), ["10 ClusterHealth shop critical", "20 ClusterHealth shop over"]);
    world.push_batch(30, component(Error)).until(4_000);
    let forgotten = ["30 ComponentStatus db error", "3630 ComponentStatus db no longer watched"];
    assert_eq!(world.told(&["ComponentStatus"]), forgotten);
}

#[test]
fn budgets_warn_before_they_are_spent_and_end_with_the_day() {
    let mut settings = settings();
    settings.budgets.tokens_per_task = Some(1_000.into());
    settings.budgets.tokens_per_day = Some(2_000.into());
    settings.budgets.cost_usd_per_day = Some(1.0.into());
    let mut world = World::new(settings, "rules: []");
    world.push(0, with_task(Running)).usage(1, 899).usage(2, 1).usage(3, 100).usage(4, 800).usage(5, 200);
    let rules = ["TaskTokenBudget", "DayTokenBudget", "DayCostBudget"];
    assert_eq!(
        world.told(&rules),
        [
            "2 TaskTokenBudget a warning",
            "3 TaskTokenBudget a error",
            "4 DayTokenBudget a warning",
            "5 DayTokenBudget a error"
        ]
    );
    world.push(10, AgentUpdate { task_id: Patch::Set("u".into()), ..named("a") });
    assert_eq!(world.told(&rules), ["10 TaskTokenBudget a over"], "another task is another budget");
    let cost = |usd| UsageUpdate { agent: Some("a".into()), cost_usd: Some(usd), ..UsageUpdate::default() };
    for (second, usd) in [(20, 0.89), (21, 0.01), (22, 0.2)] {
        world.take(second, increments(vec![cost(usd)]));
    }
    assert_eq!(world.told(&rules), ["21 DayCostBudget a warning", "22 DayCostBudget a error"]);
    world.push(43_000, a(Running)).until(43_200);
    assert_eq!(world.told(&rules), ["43200 DayTokenBudget a new day", "43200 DayCostBudget a new day"]);
}

#[test]
fn the_day_turns_for_the_silent_too() {
    let mut settings = settings();
    settings.budgets.tokens_per_day = Some(100.into());
    let mut world = World::new(settings, "rules: []");
    world.push_batch(0, Batch { project: "shop".into(), agents: vec![a(Running)], ..Batch::default() });
    world.usage(1, 100).until(43_200);
    assert_eq!(world.told(&["DayTokenBudget"]), ["1 DayTokenBudget a error", "43200 DayTokenBudget a new day"]);
}

#[test]
fn changes_of_status_are_found_when_asked_for() {
    // The file's own words, switched on.
    let text = BUILT_IN.iter().find(|(name, _)| *name == "agents.yaml").expect("a built-in file").1;
    let mut world = World::new(settings(), &text.replace("enabled: false", "enabled: true"));
    world.push(0, a(Running)).push(100, a(Idle)).push(130, a(Running)).until(1_000);
    let told = world.told(&["AgentStatusChanged"]);
    assert_eq!(told, ["100 AgentStatusChanged a info", "190 AgentStatusChanged a over"]);
}

/// What telemetry says of `a`: one request, refused or not.
fn request(refused: bool) -> Event<'static> {
    let count = u64::from(refused);
    let said = AgentTelemetry { project: "shop".into(), agent: "a".into(), agent_type: "codex", ..Default::default() };
    Event::Telemetry(vec![AgentTelemetry { requests: 1, request_errors: count, rate_limit_hits: count, ..said }])
}

#[test]
fn the_first_refusal_that_is_ever_heard_of_is_told() {
    let mut world = world();
    world.take(10, request(true)).until(2_000);
    assert_eq!(world.told(&["RateLimited"]), ["10 RateLimited a warning", "610 RateLimited a over"]);
    // Of one that was known, and of which nothing was known of this kind: before a restart, too.
    let mut world = self::world();
    let named = AgentTelemetry { project: "shop".into(), agent: "a".into(), agent_type: "codex", ..Default::default() };
    world.take(0, Event::Telemetry(vec![named])).restart(100);
    world.take(110, request(true));
    world.until(2_000);
    assert_eq!(world.told(&["RateLimited"]), ["110 RateLimited a warning", "710 RateLimited a over"]);
    world.restart(5_000);
    world.until(5_100);
    assert_eq!(world.told(&["RateLimited"]), [""; 0], "what is remembered is no news");
    world.take(5_200, request(false)).take(5_300, request(true));
    assert_eq!(world.told(&["RateLimited"]), ["5300 RateLimited a warning"]);
}

#[test]
fn the_first_errors_and_tokens_that_are_counted_here_are_increases() {
    let rules = "
rules:
  - {name: Burst, for_each: agent, signal: {increase_of: tokens, over: 10m}, when: at_least, levels: {warning: 100}, summary: s, action: a}
  - {name: Failing, for_each: agent, signal: {increase_of: request_errors, over: 10m}, when: at_least, levels: {warning: 1}, summary: s, action: a}
";
    let mut world = World::new(settings(), rules);
    world.usage(10, 150).take(20, request(true));
    assert_eq!(world.told(&["Burst", "Failing"]), ["10 Burst a warning"], "usage has an owner");
    let mut world = World::new(settings(), rules);
    world.take(20, request(true));
    assert_eq!(world.told(&["Burst", "Failing"]), ["20 Failing a warning"]);
    let mut world = World::new(settings(), rules);
    world.push(30, AgentUpdate { tokens: [Some(500), None, None, None, None], request_errors: Some(9), ..a(Running) });
    assert_eq!(world.told(&["Burst", "Failing"]), [""; 0], "what others counted before is history");
}

#[test]
fn who_failed_for_a_limit_is_down_the_moment_the_limit_is_over() {
    let counted = |requests, refused| AgentUpdate {
        requests: Some(requests),
        request_errors: Some(refused),
        rate_limit_hits: Some(refused),
        ..named("a")
    };
    let mut world = World::new(settings(), "rules: []");
    world.push(0, a(Running)).push(1, counted(1, 0)).push(10, a(Failed));
    assert_eq!(world.told(&["AgentDown"]), ["10 AgentDown a error"]);
    world.push(20, counted(2, 1));
    assert_eq!(world.told(&["AgentDown"]), ["20 AgentDown a over"], "a limit is why");
    world.push(30, counted(4, 1));
    assert_eq!(world.told(&["AgentDown"]), ["30 AgentDown a error"], "a request is answered, so that it could go on");
    world.push(40, counted(5, 2)).until(2_000);
    assert_eq!(world.told(&["AgentDown"]), ["40 AgentDown a over", "640 AgentDown a error"], "the limit has ended");
}

#[test]
fn a_context_window_is_nearly_full_from_four_fifths_on() {
    let rules = ["ContextNearlyFull"];
    let mut world = World::new(settings(), "rules: []");
    let full = |ratio| AgentUpdate { context_window_ratio: Patch::Set(ratio), ..a(Running) };
    world.push(0, a(Running)).push(1, full(0.799)).push(2, full(0.8)).push(3, full(0.949)).push(4, full(0.95));
    let levels = ["2 ContextNearlyFull a warning", "4 ContextNearlyFull a error"];
    assert_eq!(world.told(&rules), levels, "of whom nobody tells it, it is unknown and fine");
    world.push(5, full(0.7)).push(6, full(0.699));
    assert_eq!(world.told(&rules), ["5 ContextNearlyFull a warning", "6 ContextNearlyFull a over"]);
    // Unknown holds it, also over a restart; who ended needs none.
    world.push(7, full(0.9)).restart(100);
    world.push(101, AgentUpdate { context_window_ratio: Patch::Clear, ..a(Running) });
    world.push(102, full(0.96)).push(103, a(Completed));
    let expected = ["101 ContextNearlyFull a no data", "102 ContextNearlyFull a error", "103 ContextNearlyFull a over"];
    assert_eq!(world.told(&rules), expected);
}
