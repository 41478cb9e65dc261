//! Budget enforcement on a virtual clock: which agents are ordered to stop, and when.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Machine, MachineEvent, at};
use crate::alerts::IncidentPolicy;
use crate::alerts::config::DigestConfig;
use crate::enforcement::{Enforcement, StopOrders};
use crate::fleet::config::{AgentsConfig, BudgetAction, BudgetLimit, BudgetsConfig};
use crate::ingest::decode_usage;
use crate::ingest::hooks::claude_code::TOOL;
use crate::machine::{MachineEffects, MachineSettings, RestoredState};
use crate::model::hook::BlockingHook;
use crate::model::{Agent, Level, Notice, ReceiverPolicy, StopOrder};
use crate::rules::compile::RuleSettings;

fn stops<T>(limit: T) -> Option<BudgetLimit<T>> {
    Some(BudgetLimit { limit, action: BudgetAction::Stop })
}

/// Budgets of 100 tokens for a task, 1000 for a day, two dollars for a day, all of which stop.
fn stopping() -> BudgetsConfig {
    BudgetsConfig {
        tokens_per_task: stops(100),
        tokens_per_day: stops(1_000),
        cost_usd_per_day: stops(2.0),
        ..BudgetsConfig::default()
    }
}

struct EnforcementTest {
    machine: Machine,
    /// The orders as last published.
    orders: Arc<StopOrders>,
    sent: Vec<Arc<Notice>>,
}

impl EnforcementTest {
    fn new(budgets: BudgetsConfig) -> Self {
        Self::restored(0, budgets, Vec::new())
    }

    fn restored(seconds: i64, budgets: BudgetsConfig, agents: Vec<Agent>) -> Self {
        let mut machine = Machine::new(at(seconds), Self::settings(budgets));
        let effects = machine.restore(at(seconds), RestoredState { agents, ..RestoredState::default() });
        let mut test = Self { orders: Arc::new(machine.stop_orders().clone()), machine, sent: Vec::new() };
        test.keep(effects);
        test.step(seconds, MachineEvent::Evaluate);
        test
    }

    fn settings(budgets: BudgetsConfig) -> MachineSettings {
        let rules = RuleSettings { max_idle: Duration::from_secs(300), timeout: Duration::from_secs(60) };
        let agents = AgentsConfig { forget_after: Duration::from_secs(40_000), ..AgentsConfig::default() };
        MachineSettings {
            fleet: crate::fleet::FleetSettings {
                agents,
                expected: Vec::new(),
                budgets,
                max_series: 1_000_000,
                sources: Vec::new(),
            },
            rules: crate::rules::built_in(rules).expect("good rules"),
            incidents: IncidentPolicy::default(),
            digest: DigestConfig::default(),
            receivers: vec![ReceiverPolicy::new("console", Level::Info)],
        }
    }

    /// Restarts with the saved agents.
    fn restart(self, seconds: i64, budgets: BudgetsConfig) -> Self {
        let agents = self.machine.fleet().state().agents.iter().map(|agent| {
            let saved = serde_json::to_string(agent).expect("it is written");
            serde_json::from_str(&saved).expect("it is read")
        });
        let agents = agents.collect();
        Self::restored(seconds, budgets, agents)
    }

    fn step(&mut self, seconds: i64, event: MachineEvent<'_>) {
        let effects = self.machine.step(at(seconds), event);
        self.keep(effects);
    }

    fn keep(&mut self, effects: MachineEffects) {
        if let Some(orders) = effects.stop_orders {
            self.orders = orders;
        }
        self.sent.extend(effects.alerts.into_iter().flat_map(|effects| effects.notices));
    }

    fn reload(&mut self, seconds: i64, budgets: BudgetsConfig) {
        self.step(seconds, MachineEvent::Reload(Box::new(Self::settings(budgets))));
    }

    fn uses(&mut self, seconds: i64, agent: &str, tokens: u64, cost: f64) {
        let body = json!({"project": "shop", "usage": [{"agent": agent, "input": tokens, "cost_usd": cost}]});
        let body = body.to_string();
        self.step(seconds, MachineEvent::Usage(decode_usage(&body).expect("usage")));
    }

    fn order(&self, key: (&Arc<str>, &Arc<str>), moment: BlockingHook) -> Option<StopOrder> {
        self.orders.order(key, moment).cloned()
    }

    /// The budget in the stop order that answers this hook; empty when there is none.
    fn hook(&mut self, seconds: i64, agent: &str, event: &str, fields: Value) -> String {
        let mut body = json!({"session_id": "s", "hook_event_name": event, "tool_name": "Bash"});
        body.as_object_mut().expect("keys").extend(fields.as_object().cloned().unwrap_or_default());
        let event = TOOL.decode(body.to_string().as_bytes(), at(seconds)).expect("an event");
        let key = (Arc::from("shop"), Arc::from(agent));
        let order = event.moment.and_then(|moment| Some((moment, self.order((&key.0, &key.1), moment)?)));
        let stop = order.as_ref().map(|(_, stop)| stop.clone());
        self.step(seconds, MachineEvent::Hook(event.into_hook(&TOOL, key, stop)));
        let Some((moment, stop)) = order else { return String::new() };
        let answer = (TOOL.stop)(moment, &format!("{agent} {}", stop.why));
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["continue"], false);
        let why = answer["stopReason"].as_str().expect("a reason");
        why.strip_prefix(&format!("stopped by lookout: {agent} used ")).expect(why).to_owned()
    }

    fn is_stopped(&mut self, seconds: i64, agent: &str, event: &str) -> bool {
        !self.hook(seconds, agent, event, Value::Null).is_empty()
    }

    /// The announcements to the one receiver.
    fn announcements(&self) -> Vec<&str> {
        self.sent.iter().filter(|it| &*it.rule == "Announcement").map(|it| &*it.message).collect()
    }

    fn shown(&self, agent: &str) -> String {
        let agent = self.machine.fleet().find("shop", agent).expect("it is known");
        format!("{}: {}", agent.status.expect("a status").as_str(), agent.reason.as_deref().unwrap_or_default())
    }
}

const TASK: &str = "120 of its 100 tokens for this task (budgets.tokens_per_task)";

#[test]
fn without_action_stop_no_agent_is_stopped() {
    let limits = BudgetsConfig {
        tokens_per_task: Some(100.into()),
        tokens_per_day: Some(100.into()),
        cost_usd_per_day: Some(1.0.into()),
        ..BudgetsConfig::default()
    };
    let mut test = EnforcementTest::new(limits);
    test.hook(0, "a", "UserPromptSubmit", Value::Null);
    test.uses(1, "a", 5_000, 50.0);
    assert!(test.orders.is_empty());
    assert!(!test.is_stopped(2, "a", "PreToolUse"));
    assert_eq!(test.announcements(), [""; 0]);
}

#[test]
fn over_its_task_budget_an_agent_is_stopped_at_its_next_tool_until_a_new_prompt() {
    let mut test = EnforcementTest::new(stopping());
    for agent in ["a", "b"] {
        assert_eq!(test.hook(0, agent, "UserPromptSubmit", Value::Null), "");
    }
    test.uses(1, "a", 99, 0.0);
    assert!(!test.is_stopped(2, "a", "PreToolUse"));
    test.uses(3, "a", 21, 0.0);
    for event in ["PermissionRequest", "PostToolUseFailure", "Stop", "Notification", "SubagentStart", "PreCompact"] {
        assert!(!test.is_stopped(4, "other", event), "{event} of another agent");
    }
    assert!(!test.is_stopped(4, "b", "PreToolUse"), "b has used nothing");
    assert_eq!(test.hook(5, "a", "PostToolUse", Value::Null), TASK);
    assert_eq!(test.shown("a"), "paused: stopped by lookout: over its budget of tokens for this task");
    let found = format!("shop/a: stop order sent, used {TASK}");
    assert_eq!(test.announcements(), [&*found]);
    // Tools that were begun together ask together, and each is refused.
    for event in ["PreToolUse", "PreToolUse", "PostToolBatch"] {
        assert_eq!(test.hook(6, "a", event, Value::Null), TASK);
    }
    assert!(!test.is_stopped(7, "a", "PostToolUseFailure"), "this hook can't stop an agent");
    assert_eq!(test.shown("a"), "paused: stopped by lookout: over its budget of tokens for this task");
    // A background task wakes it up: that is no prompt of a person.
    let woken = json!({"prompt": "<task-notification>\n<task-id>1</task-id>"});
    assert_eq!(test.hook(8, "a", "UserPromptSubmit", woken), TASK);
    assert_eq!(test.announcements().len(), 1, "announced once per task");
    assert_eq!(test.hook(9, "a", "UserPromptSubmit", json!({"prompt": "go on"})), "");
    assert!(test.orders.is_empty(), "a new prompt is a new task");
    assert_eq!(test.shown("a"), "running: ");
    test.uses(10, "a", 100, 0.0);
    assert!(test.is_stopped(11, "a", "PreToolUse"), "a budget that is used up to the last token is used up");
    assert_eq!(test.announcements().len(), 2, "announced again for another task");
    let agent = test.machine.fleet().find("shop", "a").expect("it is known");
    assert_eq!((agent.tasks_failed.get(), agent.tasks_completed.get()), (Some(1), None), "the first did not end well");
}

#[test]
fn over_its_daily_budget_prompts_are_rejected_too_until_the_next_day() {
    let mut test = EnforcementTest::new(stopping());
    test.uses(0, "a", 1_000, 0.0);
    test.uses(0, "b", 0, 2.5);
    let day = "1000 of its 1000 tokens for today (budgets.tokens_per_day)";
    let cost = "$2.50 of its $2.00 for today (budgets.cost_usd_per_day)";
    assert_eq!(test.hook(1, "a", "UserPromptSubmit", Value::Null), day);
    assert_eq!(test.shown("a"), "paused: stopped by lookout: over its budget of tokens for today");
    assert_eq!(test.hook(1, "b", "PreToolUse", Value::Null), cost);
    assert_eq!(test.shown("b"), "paused: stopped by lookout: over its budget of money for today");
    let task = test.machine.fleet().find("shop", "a").expect("it is known").task.clone();
    assert_eq!((task, test.announcements().len()), (None, 2), "what was refused is no task");
    test.uses(30_000, "a", 0, 0.0);
    // The test began at noon.
    test.step(43_199, MachineEvent::Deadline);
    assert!(test.is_stopped(43_199, "a", "UserPromptSubmit"));
    test.step(43_200, MachineEvent::Deadline);
    assert!(test.orders.is_empty());
    assert!(!test.is_stopped(43_200, "a", "UserPromptSubmit"));
    test.uses(43_300, "a", 1_001, 0.0);
    assert!(test.is_stopped(43_301, "a", "PreToolUse"));
    assert_eq!(test.announcements().len(), 3, "announced again for another day");
}

#[test]
fn a_reload_releases_and_stops_and_a_restart_does_neither() {
    let mut test = EnforcementTest::new(stopping());
    test.hook(0, "a", "UserPromptSubmit", Value::Null);
    test.uses(1, "a", 120, 0.0);
    assert_eq!(test.hook(2, "a", "PreToolUse", Value::Null), TASK);
    let mut test = test.restart(60, stopping());
    assert_eq!(test.shown("a"), "paused: stopped by lookout: over its budget of tokens for this task");
    assert_eq!(test.hook(61, "a", "PreToolUse", Value::Null), TASK);
    assert_eq!(test.announcements(), [""; 0], "it was announced before");
    let raised = BudgetsConfig { tokens_per_task: stops(200), ..stopping() };
    test.reload(62, raised.clone());
    assert!(test.orders.is_empty());
    assert!(!test.is_stopped(63, "a", "PreToolUse"));
    assert_eq!(test.shown("a"), "running: ");
    test.uses(64, "a", 80, 0.0);
    assert!(test.is_stopped(65, "a", "PreToolUse"));
    assert_eq!(test.announcements().len(), 1, "announced again for another limit");
    test.reload(66, BudgetsConfig { tokens_per_task: Some(100.into()), ..raised });
    assert!(!test.is_stopped(67, "a", "PreToolUse"), "without the action no agent is stopped");
    test.reload(68, stopping());
    assert!(test.is_stopped(69, "a", "PreToolUse"), "who is over is found at once");
}

#[test]
fn the_order_of_an_expired_agent_is_removed() {
    let mut test = EnforcementTest::new(stopping());
    test.uses(0, "a", 5_000, 0.0);
    assert!(!test.orders.is_empty());
    test.step(40_000, MachineEvent::Deadline);
    assert!(test.machine.fleet().find("shop", "a").is_none() && test.orders.is_empty());
}

#[test]
fn a_subagent_is_stopped_by_itself_and_a_run_that_ends_so_is_not_down() {
    let mut test = EnforcementTest::new(stopping());
    test.hook(0, "a", "UserPromptSubmit", Value::Null);
    test.hook(1, "a", "SubagentStart", json!({"agent_id": "x"}));
    test.uses(2, "a", 120, 0.0);
    assert_eq!(test.hook(3, "a", "PreToolUse", json!({"agent_id": "x"})), TASK);
    assert_eq!(test.shown("a"), "running: ", "it was not ordered to stop so far");
    assert_eq!(test.hook(4, "a", "PreToolUse", Value::Null), TASK);
    // No hook reported the end of the subagent, and yet it is not shown as running.
    assert_eq!(test.shown("a"), "paused: stopped by lookout: over its budget of tokens for this task");
    assert_eq!(test.hook(5, "a", "SessionEnd", json!({"reason": "other"})), "");
    let agent = test.machine.fleet().find("shop", "a").expect("it is known");
    assert!(!agent.is_up() && !agent.is_down() && agent.task.is_none());
    assert_eq!(agent.tasks_failed.get(), Some(1));
    assert_eq!(test.shown("a"), "completed: stopped by lookout: over its budget of tokens for this task");
    assert!(test.orders.is_empty());
}

#[test]
fn orders_of_many_agents_are_found_by_name() {
    let mut test = EnforcementTest::new(stopping());
    let name = |number: usize| format!("agent-{number}");
    for number in 0..500 {
        test.uses(0, &name(number), 1_000, 0.0);
    }
    assert_eq!(test.orders.len(), 500);
    for number in [0, 250, 499] {
        assert!(test.is_stopped(1, &name(number), "PreToolUse"));
    }
    assert!(!test.is_stopped(1, &name(500), "PreToolUse"));
    let held = Arc::clone(&test.orders);
    test.uses(2, "another", 1_000, 0.0);
    assert_eq!((held.len(), test.orders.len()), (500, 501), "a reader's set is its own");
}

/// Something that may change which agents are stopped.
#[derive(Clone, Debug)]
enum EnforcementEvent {
    Uses(u8, u64),
    Hook(u8, usize),
    Wait(i64),
    Reload(u64),
    Restart,
}

fn events() -> impl Strategy<Value = Vec<EnforcementEvent>> {
    let event = prop_oneof![
        5 => (0..4u8, 0..400u64).prop_map(|(agent, tokens)| EnforcementEvent::Uses(agent, tokens)),
        5 => (0..4u8, 0..EVENTS.len()).prop_map(|(agent, event)| EnforcementEvent::Hook(agent, event)),
        2 => (0..30_000i64).prop_map(EnforcementEvent::Wait),
        1 => (1..1_000u64).prop_map(EnforcementEvent::Reload),
        1 => Just(EnforcementEvent::Restart),
    ];
    proptest::collection::vec(event, 0..40)
}

const EVENTS: [&str; 6] = ["UserPromptSubmit", "PreToolUse", "PostToolBatch", "Stop", "StopFailure", "SessionEnd"];

/// All agents in the set with their orders.
fn all(orders: &StopOrders) -> Vec<String> {
    let mut all: Vec<String> = orders.iter().map(|(key, stops)| format!("{key:?} {stops:?}")).collect();
    all.sort();
    assert_eq!(all.len(), orders.len());
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn incremental_orders_equal_those_rebuilt_from_the_whole_fleet(events in events()) {
            let (mut second, mut budgets) = (0, stopping());
            let mut test = EnforcementTest::new(budgets.clone());
            for event in events {
                match event {
                    EnforcementEvent::Uses(agent, tokens) => test.uses(second, &agent.to_string(), tokens, tokens as f64 / 300.0),
                    EnforcementEvent::Hook(agent, event) => drop(test.hook(second, &agent.to_string(), EVENTS[event], Value::Null)),
                    EnforcementEvent::Wait(seconds) => {
                        second += seconds;
                        test.step(second, MachineEvent::Deadline);
                    }
                    EnforcementEvent::Reload(limit) => {
                        budgets = BudgetsConfig { tokens_per_task: stops(limit), tokens_per_day: stops(limit * 3), ..budgets };
                        test.reload(second, budgets.clone());
                    }
                    EnforcementEvent::Restart => test = test.restart(second, budgets.clone()),
                }
                let mut rebuilt = Enforcement::default();
                rebuilt.configure(test.machine.fleet().state(), budgets.enforced());
                let followed = all(&test.orders);
                assert_eq!(followed, all(rebuilt.orders()));
            }
    }
}
