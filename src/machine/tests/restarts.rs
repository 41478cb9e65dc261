//! Findings after a restart and a reload: none from restored state alone, none twice.

use super::*;
use crate::model::AgentStatus::{Failed, Running};

const RULES: [&str; 5] = ["AgentIdle", "AgentDown", "AgentStale", "AgentRestarting", "DayTokenBudget"];

#[test]
fn a_restored_agent_is_not_idle_before_it_is_seen() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    let idle = AgentUpdate { last_activity: Some(at(0)), ..a(Running) };
    test.push(10, idle.clone());
    test.restart(700);
    test.until(759);
    assert_eq!(test.findings(&RULES), [""; 0]);
    test.push(759, idle).until(1_000);
    assert_eq!(
        test.findings(&RULES),
        ["759 AgentIdle a error", "900 AgentIdle a critical"],
        "reported, without new activity"
    );
}

#[test]
fn an_open_alert_of_a_restored_agent_stays_until_it_is_seen() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    test.push(10, AgentUpdate { last_activity: Some(at(-300)), ..a(Running) });
    test.restart(700);
    test.until(750);
    assert_eq!(test.findings(&RULES), [""; 0]);
    test.push(750, AgentUpdate { last_activity: Some(at(740)), ..a(Running) });
    assert_eq!(test.findings(&RULES), ["750 AgentIdle a resolved"]);
}

#[test]
fn a_restored_failure_still_fires() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    test.push(10, a(Failed));
    test.notes.states.clear();
    test.restart(700);
    assert_eq!(test.findings(&RULES), ["700 AgentDown a error"]);
    test.until(750).push(750, a(Failed)).until(800).push(800, a(Running));
    assert_eq!(test.findings(&RULES), ["800 AgentDown a resolved"]);
}

#[test]
fn a_day_that_ended_during_downtime_resolves_its_alerts() {
    let mut settings = settings();
    settings.budgets.tokens_per_day = Some(100.into());
    let mut test = RuleSimulation::new(settings.clone(), "rules: []");
    test.push(0, a(Running)).usage(1, 100);
    assert_eq!(test.findings(&RULES), ["1 DayTokenBudget a error"]);
    test.restart(44_000);
    assert_eq!(test.findings(&RULES), ["44000 DayTokenBudget a new day"]);
    test.until(44_050);
    assert!(test.notes.states.is_empty());
}

#[test]
fn counts_from_before_a_restart_are_no_increase() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    test.push(0, restarts(2)).push(5_000, restarts(4)).push(10_000, restarts(6)).until(15_000);
    assert_eq!(test.findings(&RULES), [""; 0]);
    test.restart(15_000);
    test.push(15_001, restarts(6)).push(15_002, restarts(8));
    assert_eq!(test.findings(&RULES), [""; 0]);
    test.push(15_003, restarts(9));
    assert_eq!(test.findings(&RULES), ["15003 AgentRestarting a warning"]);
    // A reload replaces the rules and keeps the agents.
    test.until(30_000).findings(&RULES);
    test.reload_same();
    assert_eq!(test.findings(&RULES), [""; 0]);
    test.push(30_001, restarts(11));
    assert_eq!(test.findings(&RULES), [""; 0]);
}

/// Restarts, an average and a ratio, each in a window of ten minutes.
const WINDOWS: &str = "
rules:
  - {name: Restarting, for_each: agent, signal: {increase_of: restarts, over: 10m}, when: at_least, levels: {error: 3}, summary: s}
  - {name: Slow, for_each: agent, signal: {average_of: progress, over: 10m}, when: at_most, levels: {error: 20}, summary: s}
  - {name: Failing, for_each: agent, signal: {ratio_of: [request_errors, requests], over: 10m, min_samples: 4}, when: at_least, levels: {error: 0.5}, summary: s}
";
const WINDOWED: [&str; 3] = ["Restarting", "Slow", "Failing"];

fn restarts(count: u64) -> AgentUpdate<'static> {
    AgentUpdate { restart_count: Some(count), ..a(Running) }
}

#[test]
fn windows_continue_through_a_reload_and_a_restart() {
    let interrupt: [fn(&mut RuleSimulation); 3] = [
        |_| {},
        |test| test.reload_same(),
        |test| {
            test.restart(220);
        },
    ];
    for (way, interrupt) in interrupt.into_iter().enumerate() {
        let mut test = RuleSimulation::new(settings(), WINDOWS);
        test.push(0, restarts(0)).push(100, restarts(1)).push(200, restarts(2));
        interrupt(&mut test);
        test.push(230, restarts(2));
        assert_eq!(test.findings(&WINDOWED), [""; 0], "{way}");
        test.push(240, restarts(3));
        assert_eq!(test.findings(&WINDOWED), ["240 Restarting a error"], "{way}");
        // The first is out of the window ten minutes after it, and the time of being down is none.
        let down = if way == 2 { 20 } else { 0 };
        test.until(100 + 600 + down - 1).push(100 + 600 + down - 1, restarts(3));
        assert_eq!(test.findings(&WINDOWED), [""; 0], "{way}");
        test.until(100 + 600 + down);
        assert_eq!(test.findings(&WINDOWED), [format!("{} Restarting a resolved", 700 + down)], "{way}");
    }
}

#[test]
fn downtime_neither_fires_nor_resolves_an_alert_over_a_window() {
    for downtime in [5, 300, 5_000] {
        let mut test = RuleSimulation::new(settings(), WINDOWS);
        test.push(0, restarts(0)).push(100, restarts(1)).push(200, restarts(2)).push(210, restarts(3));
        assert_eq!(test.findings(&WINDOWED), ["210 Restarting a error"]);
        test.restart(220 + downtime);
        test.push(230 + downtime, restarts(3)).until(699 + downtime);
        assert_eq!(test.findings(&WINDOWED), [""; 0], "{downtime}");
        test.until(720 + downtime);
        assert_eq!(test.findings(&WINDOWED).len(), 1, "it resolves by its window: {downtime}");
    }
}

#[test]
fn a_new_rule_keeps_the_windows_of_others() {
    let mut test = RuleSimulation::new(settings(), WINDOWS);
    test.push(0, restarts(0)).push(100, restarts(1)).push(200, restarts(2));
    let other = "\n  - {name: First, for_each: agent, signal: {increase_of: restarts, over: 5m}, when: at_least, levels: {error: 1}, summary: s}";
    let text = WINDOWS.replace("rules:", &format!("rules:{other}")).replace("error: 3}", "error: 4}");
    test.reload(&text);
    test.push(230, restarts(3));
    assert_eq!(test.findings(&["Restarting", "First"]), ["230 First a error"], "the new one counts from the reload on");
    test.push(240, restarts(4));
    assert_eq!(
        test.findings(&["Restarting"]),
        ["240 Restarting a error"],
        "with another threshold over the same window"
    );
}

#[test]
fn failing_sources_and_missing_agents_still_fire_after_a_restart() {
    let mut settings = settings();
    let wanted = ExpectedConfig { project: "shop".to_owned(), agents: vec!["boss".to_owned()], count: None };
    settings.expected.push(wanted);
    let mut test = RuleSimulation::new(settings, "rules: []");
    test.poll(0, Err(SourceErrorReason::Timeout)).until(50);
    let rules = ["SourceDown", "AgentMissing"];
    let mut before = test.findings(&rules);
    before.sort_unstable();
    assert_eq!(before, ["30 AgentMissing boss warning", "30 SourceDown orch warning"]);
    test.restart(1_000);
    test.poll(1_001, Err(SourceErrorReason::Timeout)).until(1_020);
    assert_eq!(test.findings(&rules), [""; 0], "neither is over, and the time of being down is no time of failing");
    test.until(1_120);
    assert!(test.findings(&rules).contains(&"1070 SourceDown orch error".to_owned()), "two minutes of failing");
    test.poll(1_130, Ok(vec![Batch { project: "shop".into(), agents: vec![named("boss")], ..Batch::default() }]));
    let mut after = test.findings(&rules);
    after.sort_unstable();
    assert_eq!(after, ["1130 AgentMissing boss resolved", "1130 SourceDown orch resolved"]);
}
