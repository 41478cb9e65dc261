//! What is found after a restart and after a reload: nothing that is only remembered, nothing twice.

use super::*;
use crate::model::AgentStatus::{Failed, Running};
use crate::model::Subject;

const RULES: [&str; 5] = ["AgentIdle", "AgentDown", "AgentStale", "AgentRestarting", "DayTokenBudget"];

/// The world after a restart at `second`, with the alerts that were open marked so.
pub(super) fn restarted(old: &World, settings: Settings, second: i64) -> World {
    let state = old.fleet.state();
    let mut fleet = Fleet::new(at(second), settings);
    let projects = state.projects.iter().map(|project| (**project).clone()).collect();
    fleet.restore(at(second), projects, state.agents.iter().cloned().collect(), vec![], []);
    let mut rules = rules_of("rules: []");
    for (rule, name) in old.standing.keys() {
        let subject = Subject::Agent { project: "shop".into(), name: name.as_str().into() };
        let slot = fleet.find("shop", name).map(|agent| agent.slot);
        let id = rules.id(rule).expect("a built-in rule");
        rules.mark_open(fleet.state(), id, &subject, slot);
    }
    World::with(fleet, rules, at(second), old.standing.clone())
}

#[test]
fn a_remembered_agent_is_not_idle_before_it_is_heard() {
    let mut before = World::new(settings(), "rules: []");
    let idle = AgentUpdate { last_activity: Some(at(0)), ..a(Running) };
    before.push(10, idle.clone());
    let mut world = restarted(&before, settings(), 700);
    world.until(759);
    assert_eq!(world.told(&RULES), [""; 0]);
    world.push(759, idle).until(1_000);
    assert_eq!(world.told(&RULES), ["759 AgentIdle a error", "900 AgentIdle a critical"], "though it says nothing new");
}

#[test]
fn an_open_alert_of_a_remembered_agent_stays_until_it_is_heard() {
    let mut before = World::new(settings(), "rules: []");
    before.push(10, AgentUpdate { last_activity: Some(at(-300)), ..a(Running) });
    let mut world = restarted(&before, settings(), 700);
    world.until(750);
    assert_eq!(world.told(&RULES), [""; 0]);
    world.push(750, AgentUpdate { last_activity: Some(at(740)), ..a(Running) });
    assert_eq!(world.told(&RULES), ["750 AgentIdle a over"]);
}

#[test]
fn a_remembered_failure_is_still_one() {
    let mut before = World::new(settings(), "rules: []");
    before.push(10, a(Failed));
    before.standing.clear();
    let mut world = restarted(&before, settings(), 700);
    assert_eq!(world.told(&RULES), ["700 AgentDown a error"]);
    world.until(750).push(750, a(Failed)).until(800).push(800, a(Running));
    assert_eq!(world.told(&RULES), ["800 AgentDown a over"]);
}

#[test]
fn a_day_that_turned_while_we_were_down_ends_its_alerts() {
    let mut settings = settings();
    settings.budgets.tokens_per_day = Some(100);
    let mut before = World::new(settings.clone(), "rules: []");
    before.push(0, a(Running)).usage(1, 100);
    assert_eq!(before.told(&RULES), ["1 DayTokenBudget a error"]);
    let mut world = restarted(&before, settings, 44_000);
    assert_eq!(world.told(&RULES), ["44000 DayTokenBudget a new day"]);
    world.until(44_050);
    assert!(world.standing.is_empty());
}

#[test]
fn counts_from_before_are_no_increase() {
    let restarts = |count| AgentUpdate { restart_count: Some(count), ..a(Running) };
    let mut before = World::new(settings(), "rules: []");
    before.push(0, restarts(2)).push(5_000, restarts(4)).push(10_000, restarts(6)).until(15_000);
    assert_eq!(before.told(&RULES), [""; 0]);
    let mut world = restarted(&before, settings(), 15_000);
    world.push(15_001, restarts(6)).push(15_002, restarts(8));
    assert_eq!(world.told(&RULES), [""; 0]);
    world.push(15_003, restarts(9));
    assert_eq!(world.told(&RULES), ["15003 AgentRestarting a warning"]);
    // A reload makes the rules anew, and the agents stay known.
    let fleet = std::mem::replace(&mut before.fleet, Fleet::new(at(0), settings()));
    let mut world = World::with(fleet, rules_of("rules: []"), at(15_000), BTreeMap::new());
    assert_eq!(world.told(&RULES), [""; 0]);
    world.push(15_001, restarts(8));
    assert_eq!(world.told(&RULES), [""; 0]);
}
