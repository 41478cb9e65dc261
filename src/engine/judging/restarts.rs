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
    let restarts = |count| AgentUpdate { restart_count: Some(count), ..a(Running) };
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
    world.trial.learn(&mut world.notes);
    assert_eq!(world.told(&RULES), [""; 0]);
    world.push(30_001, restarts(11));
    assert_eq!(world.told(&RULES), [""; 0]);
}
