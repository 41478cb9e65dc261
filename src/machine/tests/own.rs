//! User-defined rules: filters, absence, lower bounds, and values that do not change.

use super::*;
use crate::model::AgentStatus::{Idle, Running};

fn own(rule: &str) -> RuleSimulation {
    let expected =
        vec![ExpectedConfig { project: "shop".into(), agents: vec!["boss".into(), "aide".into()], count: None }];
    RuleSimulation::new(FleetSettings { expected, ..settings() }, &format!("rules:\n  - {{{rule}}}\n"))
}

#[test]
fn a_filter_follows_the_agents_attributes() {
    let mut test = own(
        "name: Mine, for_each: agent, signal: status, when: equals, levels: {warning: running}, where: {type: \"c*\", agent_name: \"?\"}",
    );
    test.push(0, a(Running)).push(1, AgentUpdate { agent_type: Some("custom".into()), ..named("a") });
    assert_eq!(test.findings(&["Mine"]), ["1 Mine a warning"], "its type alone changed");
    test.push(2, AgentUpdate { agent_type: Some("flowise".into()), ..named("a") });
    test.push(3, AgentUpdate { agent_type: Some("custom".into()), status: Some(Running), ..named("ab") });
    assert_eq!(test.findings(&["Mine"]), ["2 Mine a resolved"]);
}

#[test]
fn a_filter_holds_for_agents_that_are_missing() {
    let mut test = own(
        "name: AgentMissing, for_each: agent, signal: agents_missing, when: at_least, levels: {warning: 30s}, where: {agent_name: boss}",
    );
    test.until(100);
    assert_eq!(test.findings(&["AgentMissing"]), ["30 AgentMissing boss warning"]);
}

#[test]
fn absent_needs_a_value_that_was_known_once() {
    let mut test = own("name: Lost, for_each: agent, signal: progress, when: absent, levels: {warning: true}");
    let progress = |progress| AgentUpdate { progress, ..a(Running) };
    test.push(0, a(Running)).push(1, progress(Patch::Clear));
    assert_eq!(test.findings(&["Lost"]), [""; 0]);
    test.push(2, progress(Patch::Set(10.0))).push(3, progress(Patch::Clear)).push(4, progress(Patch::Set(10.0)));
    assert_eq!(test.findings(&["Lost"]), ["3 Lost a warning", "4 Lost a resolved"]);
}

#[test]
fn a_lower_bound_over_a_window_is_evaluated_once_the_window_is_full() {
    let mut test = own(
        "name: Slow, for_each: agent, signal: {increase_of: requests, over: 1m}, when: at_most, levels: {warning: 2, error: 0}",
    );
    let made = |count| AgentUpdate { requests: Some(count), ..a(Running) };
    test.push(0, made(0)).push(10, made(3)).push(69, made(4)).until(500);
    assert_eq!(test.findings(&["Slow"]), ["70 Slow a warning", "129 Slow a error"]);
}

#[test]
fn a_waiting_task_is_not_evaluated() {
    let mut test = own("name: Long, for_each: agent, signal: task_seconds, when: at_least, levels: {warning: 100s}");
    test.push(0, with_task(Running)).push(99, a(Idle));
    let served = test.notes.served;
    test.until(10_000);
    assert!(test.notes.served - served <= 3, "{}", test.notes.served - served);
    test.push(10_000, a(Running)).until(10_010);
    assert_eq!(test.findings(&["Long"]), ["10001 Long a warning"]);
}
