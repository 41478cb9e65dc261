//! Rules of a user's own: filters, absence, lower bounds, and what stands still.

use super::*;
use crate::model::AgentStatus::{Idle, Running};

fn own(rule: &str) -> World {
    let expected =
        vec![ExpectedConfig { project: "shop".into(), agents: vec!["boss".into(), "aide".into()], count: None }];
    World::new(FleetSettings { expected, ..settings() }, &format!("rules:\n  - {{{rule}}}\n"))
}

#[test]
fn a_filter_follows_what_an_agent_is() {
    let mut world = own(
        "name: Mine, for_each: agent, signal: status, when: equals, levels: {warning: running}, where: {type: \"c*\", agent_name: \"?\"}",
    );
    world.push(0, a(Running)).push(1, AgentUpdate { agent_type: Some("custom".into()), ..named("a") });
    assert_eq!(world.told(&["Mine"]), ["1 Mine a warning"], "its type alone changed");
    world.push(2, AgentUpdate { agent_type: Some("flowise".into()), ..named("a") });
    world.push(3, AgentUpdate { agent_type: Some("custom".into()), status: Some(Running), ..named("ab") });
    assert_eq!(world.told(&["Mine"]), ["2 Mine a over"]);
}

#[test]
fn a_filter_holds_for_agents_that_are_missing() {
    let mut world = own(
        "name: AgentMissing, for_each: agent, signal: agents_missing, when: at_least, levels: {warning: 30s}, where: {agent_name: boss}",
    );
    world.until(100);
    assert_eq!(world.told(&["AgentMissing"]), ["30 AgentMissing boss warning"]);
}

#[test]
fn absent_needs_what_was_once_known() {
    let mut world = own("name: Lost, for_each: agent, signal: progress, when: absent, levels: {warning: true}");
    let progress = |progress| AgentUpdate { progress, ..a(Running) };
    world.push(0, a(Running)).push(1, progress(Patch::Clear));
    assert_eq!(world.told(&["Lost"]), [""; 0]);
    world.push(2, progress(Patch::Set(10.0))).push(3, progress(Patch::Clear)).push(4, progress(Patch::Set(10.0)));
    assert_eq!(world.told(&["Lost"]), ["3 Lost a warning", "4 Lost a over"]);
}

#[test]
fn too_few_in_a_window_is_judged_when_the_window_is_full() {
    let mut world = own(
        "name: Slow, for_each: agent, signal: {increase_of: requests, over: 1m}, when: at_most, levels: {warning: 2, error: 0}",
    );
    let made = |count| AgentUpdate { requests: Some(count), ..a(Running) };
    world.push(0, made(0)).push(10, made(3)).push(69, made(4)).until(500);
    assert_eq!(world.told(&["Slow"]), ["70 Slow a warning", "129 Slow a error"]);
}

#[test]
fn a_task_that_waits_is_not_looked_at() {
    let mut world = own("name: Long, for_each: agent, signal: task_seconds, when: at_least, levels: {warning: 100s}");
    world.push(0, with_task(Running)).push(99, a(Idle));
    let served = world.notes.served;
    world.until(10_000);
    assert!(world.notes.served - served <= 3, "{}", world.notes.served - served);
    world.push(10_000, a(Running)).until(10_010);
    assert_eq!(world.told(&["Long"]), ["10001 Long a warning"]);
}
