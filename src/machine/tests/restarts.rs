//! What is found after a restart and after a reload: nothing that is only remembered, nothing twice.

use super::*;
use crate::model::AgentStatus::{Failed, Running};

const RULES: [&str; 5] = ["AgentIdle", "AgentDown", "AgentStale", "AgentRestarting", "DayTokenBudget"];

#[test]
fn a_remembered_agent_is_not_idle_before_it_is_heard() {
    let mut world = World::new(settings(), "rules: []");
    let idle = AgentUpdate { last_activity: Some(at(0)), ..a(Running) };
    world.push(10, idle.clone());
    world.restart(700);
    world.until(759);
    assert_eq!(world.told(&RULES), [""; 0]);
    world.push(759, idle).until(1_000);
    assert_eq!(world.told(&RULES), ["759 AgentIdle a error", "900 AgentIdle a critical"], "though it says nothing new");
}

#[test]
fn an_open_alert_of_a_remembered_agent_stays_until_it_is_heard() {
    let mut world = World::new(settings(), "rules: []");
    world.push(10, AgentUpdate { last_activity: Some(at(-300)), ..a(Running) });
    world.restart(700);
    world.until(750);
    assert_eq!(world.told(&RULES), [""; 0]);
    world.push(750, AgentUpdate { last_activity: Some(at(740)), ..a(Running) });
    assert_eq!(world.told(&RULES), ["750 AgentIdle a over"]);
}

#[test]
fn a_remembered_failure_is_still_one() {
    let mut world = World::new(settings(), "rules: []");
    world.push(10, a(Failed));
    world.notes.standing.clear();
    world.restart(700);
    assert_eq!(world.told(&RULES), ["700 AgentDown a error"]);
    world.until(750).push(750, a(Failed)).until(800).push(800, a(Running));
    assert_eq!(world.told(&RULES), ["800 AgentDown a over"]);
}

#[test]
fn a_day_that_turned_while_we_were_down_ends_its_alerts() {
    let mut settings = settings();
    settings.budgets.tokens_per_day = Some(100.into());
    let mut world = World::new(settings.clone(), "rules: []");
    world.push(0, a(Running)).usage(1, 100);
    assert_eq!(world.told(&RULES), ["1 DayTokenBudget a error"]);
    world.restart(44_000);
    assert_eq!(world.told(&RULES), ["44000 DayTokenBudget a new day"]);
    world.until(44_050);
    assert!(world.notes.standing.is_empty());
}

#[test]
fn counts_from_before_are_no_increase() {
    let mut world = World::new(settings(), "rules: []");
    world.push(0, restarts(2)).push(5_000, restarts(4)).push(10_000, restarts(6)).until(15_000);
    assert_eq!(world.told(&RULES), [""; 0]);
    world.restart(15_000);
    world.push(15_001, restarts(6)).push(15_002, restarts(8));
    assert_eq!(world.told(&RULES), [""; 0]);
    world.push(15_003, restarts(9));
    assert_eq!(world.told(&RULES), ["15003 AgentRestarting a warning"]);
    // A reload makes the rules anew, and the agents stay known.
    world.until(30_000).told(&RULES);
    world.learn();
    assert_eq!(world.told(&RULES), [""; 0]);
    world.push(30_001, restarts(11));
    assert_eq!(world.told(&RULES), [""; 0]);
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
fn windows_go_on_through_a_reload_and_a_restart() {
    let interrupt: [fn(&mut World); 3] = [
        |_| {},
        |world| world.learn(),
        |world| {
            world.restart(220);
        },
    ];
    for (way, interrupt) in interrupt.into_iter().enumerate() {
        let mut world = World::new(settings(), WINDOWS);
        world.push(0, restarts(0)).push(100, restarts(1)).push(200, restarts(2));
        interrupt(&mut world);
        world.push(230, restarts(2));
        assert_eq!(world.told(&WINDOWED), [""; 0], "{way}");
        world.push(240, restarts(3));
        assert_eq!(world.told(&WINDOWED), ["240 Restarting a error"], "{way}");
        // The first is out of the window ten minutes after it, and the time of being down is none.
        let down = if way == 2 { 20 } else { 0 };
        world.until(100 + 600 + down - 1).push(100 + 600 + down - 1, restarts(3));
        assert_eq!(world.told(&WINDOWED), [""; 0], "{way}");
        world.until(100 + 600 + down);
        assert_eq!(world.told(&WINDOWED), [format!("{} Restarting a over", 700 + down)], "{way}");
    }
}

#[test]
fn an_alert_of_a_window_neither_ends_nor_fires_by_being_down() {
    for downtime in [5, 300, 5_000] {
        let mut world = World::new(settings(), WINDOWS);
        world.push(0, restarts(0)).push(100, restarts(1)).push(200, restarts(2)).push(210, restarts(3));
        assert_eq!(world.told(&WINDOWED), ["210 Restarting a error"]);
        world.restart(220 + downtime);
        world.push(230 + downtime, restarts(3)).until(699 + downtime);
        assert_eq!(world.told(&WINDOWED), [""; 0], "{downtime}");
        world.until(720 + downtime);
        assert_eq!(world.told(&WINDOWED).len(), 1, "it ends when the window says so: {downtime}");
    }
}

#[test]
fn a_rule_that_is_new_leaves_the_windows_of_the_others() {
    let mut world = World::new(settings(), WINDOWS);
    world.push(0, restarts(0)).push(100, restarts(1)).push(200, restarts(2));
    let other = "\n  - {name: First, for_each: agent, signal: {increase_of: restarts, over: 5m}, when: at_least, levels: {error: 1}, summary: s}";
    let text = WINDOWS.replace("rules:", &format!("rules:{other}")).replace("error: 3}", "error: 4}");
    world.reload(&text);
    world.push(230, restarts(3));
    assert_eq!(world.told(&["Restarting", "First"]), ["230 First a error"], "the new one counts from the reload on");
    world.push(240, restarts(4));
    assert_eq!(world.told(&["Restarting"]), ["240 Restarting a error"], "with another threshold over the same window");
}

#[test]
fn what_fails_or_is_missing_still_does_after_a_restart() {
    let mut settings = settings();
    let wanted = ExpectedConfig { project: "shop".to_owned(), agents: vec!["boss".to_owned()], count: None };
    settings.expected.push(wanted);
    let mut world = World::new(settings, "rules: []");
    world.poll(0, Err(SourceErrorReason::Timeout)).until(50);
    let rules = ["SourceDown", "AgentMissing"];
    let mut before = world.told(&rules);
    before.sort_unstable();
    assert_eq!(before, ["30 AgentMissing boss warning", "30 SourceDown orch warning"]);
    world.restart(1_000);
    world.poll(1_001, Err(SourceErrorReason::Timeout)).until(1_020);
    assert_eq!(world.told(&rules), [""; 0], "neither is over, and the time of being down is no time of failing");
    world.until(1_120);
    assert!(world.told(&rules).contains(&"1070 SourceDown orch error".to_owned()), "two minutes of failing");
    world.poll(1_130, Ok(vec![Batch { project: "shop".into(), agents: vec![named("boss")], ..Batch::default() }]));
    let mut after = world.told(&rules);
    after.sort_unstable();
    assert_eq!(after, ["1130 AgentMissing boss over", "1130 SourceDown orch over"]);
}
