//! Who is stopped and who is not, on a virtual clock.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Event, Machine, at};
use crate::alerts::IncidentPolicy;
use crate::alerts::config::DigestConfig;
use crate::enforcement::{Enforcement, StopOrders};
use crate::fleet::config::{AgentsConfig, BudgetAction, BudgetLimit, BudgetsConfig};
use crate::ingest::decode_usage;
use crate::ingest::hooks::claude_code::TOOL;
use crate::machine::{Effects, Memory, Settings};
use crate::model::hook::BlockingHook;
use crate::model::{Agent, Level, Notice, ReceiverPolicy, Stop};
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

struct World {
    machine: Machine,
    /// As they were published last.
    orders: Arc<StopOrders>,
    sent: Vec<Arc<Notice>>,
}

impl World {
    fn new(budgets: BudgetsConfig) -> Self {
        Self::restored(0, budgets, Vec::new())
    }

    fn restored(seconds: i64, budgets: BudgetsConfig, agents: Vec<Agent>) -> Self {
        let mut machine = Machine::new(at(seconds), Self::settings(budgets));
        let effects = machine.restore(at(seconds), Memory { agents, ..Memory::default() });
        let mut world = Self { orders: Arc::new(machine.stop_orders().clone()), machine, sent: Vec::new() };
        world.keep(effects);
        world.step(seconds, Event::Evaluate);
        world
    }

    fn settings(budgets: BudgetsConfig) -> Settings {
        let rules = RuleSettings { max_idle: Duration::from_secs(300), timeout: Duration::from_secs(60) };
        let agents = AgentsConfig { forget_after: Duration::from_secs(40_000), ..AgentsConfig::default() };
        Settings {
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

    /// The sidecar ends, and begins anew with what was saved of its agents.
    fn restart(self, seconds: i64, budgets: BudgetsConfig) -> Self {
        let agents = self.machine.fleet().state().agents.iter().map(|agent| {
            let saved = serde_json::to_string(agent).expect("it is written");
            serde_json::from_str(&saved).expect("it is read")
        });
        let agents = agents.collect();
        Self::restored(seconds, budgets, agents)
    }

    fn step(&mut self, seconds: i64, event: Event<'_>) {
        let effects = self.machine.step(at(seconds), event);
        self.keep(effects);
    }

    fn keep(&mut self, effects: Effects) {
        if let Some(orders) = effects.stop_orders {
            self.orders = orders;
        }
        self.sent.extend(effects.alerts.into_iter().flat_map(|effects| effects.notices));
    }

    fn reload(&mut self, seconds: i64, budgets: BudgetsConfig) {
        self.step(seconds, Event::Reload(Box::new(Self::settings(budgets))));
    }

    fn uses(&mut self, seconds: i64, agent: &str, tokens: u64, cost: f64) {
        let body = json!({"project": "shop", "usage": [{"agent": agent, "input": tokens, "cost_usd": cost}]});
        let body = body.to_string();
        self.step(seconds, Event::Usage(decode_usage(&body).expect("usage")));
    }

    fn order(&self, whom: (&Arc<str>, &Arc<str>), moment: BlockingHook) -> Option<Stop> {
        self.orders.order(whom, moment).cloned()
    }

    /// What the agent is told in answer to this event: which budget, or an empty text when it may go on.
    fn hook(&mut self, seconds: i64, agent: &str, event: &str, fields: Value) -> String {
        let mut body = json!({"session_id": "s", "hook_event_name": event, "tool_name": "Bash"});
        body.as_object_mut().expect("keys").extend(fields.as_object().cloned().unwrap_or_default());
        let event = TOOL.decode(body.to_string().as_bytes(), at(seconds)).expect("an event");
        let whom = (Arc::from("shop"), Arc::from(agent));
        let order = event.moment.and_then(|moment| Some((moment, self.order((&whom.0, &whom.1), moment)?)));
        let stop = order.as_ref().map(|(_, stop)| stop.clone());
        self.step(seconds, Event::Hook(event.into_hook(&TOOL, whom, stop)));
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

    /// What the one receiver is told beside alerts.
    fn told(&self) -> Vec<&str> {
        self.sent.iter().filter(|it| &*it.rule == "Announcement").map(|it| &*it.message).collect()
    }

    fn shown(&self, agent: &str) -> String {
        let agent = self.machine.fleet().find("shop", agent).expect("it is known");
        format!("{}: {}", agent.status.expect("a status").as_str(), agent.reason.as_deref().unwrap_or_default())
    }
}

const TASK: &str = "120 of its 100 tokens for this task (budgets.tokens_per_task)";

#[test]
fn without_the_action_nobody_is_stopped() {
    let limits = BudgetsConfig {
        tokens_per_task: Some(100.into()),
        tokens_per_day: Some(100.into()),
        cost_usd_per_day: Some(1.0.into()),
        ..BudgetsConfig::default()
    };
    let mut world = World::new(limits);
    world.hook(0, "a", "UserPromptSubmit", Value::Null);
    world.uses(1, "a", 5_000, 50.0);
    assert!(world.orders.is_empty());
    assert!(!world.is_stopped(2, "a", "PreToolUse"));
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn over_its_task_it_is_stopped_at_its_next_tool_told_once_and_a_new_prompt_is_a_new_task() {
    let mut world = World::new(stopping());
    for agent in ["a", "b"] {
        assert_eq!(world.hook(0, agent, "UserPromptSubmit", Value::Null), "");
    }
    world.uses(1, "a", 99, 0.0);
    assert!(!world.is_stopped(2, "a", "PreToolUse"));
    world.uses(3, "a", 21, 0.0);
    for event in ["PermissionRequest", "PostToolUseFailure", "Stop", "Notification", "SubagentStart", "PreCompact"] {
        assert!(!world.is_stopped(4, "other", event), "{event} of somebody else");
    }
    assert!(!world.is_stopped(4, "b", "PreToolUse"), "b has used nothing");
    assert_eq!(world.hook(5, "a", "PostToolUse", Value::Null), TASK);
    assert_eq!(world.shown("a"), "paused: stopped by lookout: over its budget of tokens for this task");
    let told = format!("lookout told a of shop to stop: it used {TASK}");
    assert_eq!(world.told(), [&*told]);
    // Tools that were begun together ask together, and each is refused.
    for event in ["PreToolUse", "PreToolUse", "PostToolBatch"] {
        assert_eq!(world.hook(6, "a", event, Value::Null), TASK);
    }
    assert!(!world.is_stopped(7, "a", "PostToolUseFailure"), "an answer there stops nobody");
    assert_eq!(world.shown("a"), "paused: stopped by lookout: over its budget of tokens for this task");
    // What it left running wakes it, and that is nothing that a person said.
    let woken = json!({"prompt": "<task-notification>\n<task-id>1</task-id>"});
    assert_eq!(world.hook(8, "a", "UserPromptSubmit", woken), TASK);
    assert_eq!(world.told().len(), 1, "each task is told of once");
    assert_eq!(world.hook(9, "a", "UserPromptSubmit", json!({"prompt": "go on"})), "");
    assert!(world.orders.is_empty(), "a new prompt is a new task");
    assert_eq!(world.shown("a"), "running: ");
    world.uses(10, "a", 100, 0.0);
    assert!(world.is_stopped(11, "a", "PreToolUse"), "a budget that is used up to the last token is used up");
    assert_eq!(world.told().len(), 2, "another task is told of again");
    let agent = world.machine.fleet().find("shop", "a").expect("it is known");
    assert_eq!((agent.tasks_failed.get(), agent.tasks_completed.get()), (Some(1), None), "the first did not end well");
}

#[test]
fn over_its_day_prompts_are_refused_too_until_the_day_turns() {
    let mut world = World::new(stopping());
    world.uses(0, "a", 1_000, 0.0);
    world.uses(0, "b", 0, 2.5);
    let day = "1000 of its 1000 tokens for today (budgets.tokens_per_day)";
    let cost = "$2.50 of its $2.00 for today (budgets.cost_usd_per_day)";
    assert_eq!(world.hook(1, "a", "UserPromptSubmit", Value::Null), day);
    assert_eq!(world.shown("a"), "paused: stopped by lookout: over its budget of tokens for today");
    assert_eq!(world.hook(1, "b", "PreToolUse", Value::Null), cost);
    assert_eq!(world.shown("b"), "paused: stopped by lookout: over its budget of money for today");
    let task = world.machine.fleet().find("shop", "a").expect("it is known").task.clone();
    assert_eq!((task, world.told().len()), (None, 2), "what was refused is no task");
    world.uses(30_000, "a", 0, 0.0);
    // The test began at noon.
    world.step(43_199, Event::Deadline);
    assert!(world.is_stopped(43_199, "a", "UserPromptSubmit"));
    world.step(43_200, Event::Deadline);
    assert!(world.orders.is_empty());
    assert!(!world.is_stopped(43_200, "a", "UserPromptSubmit"));
    world.uses(43_300, "a", 1_001, 0.0);
    assert!(world.is_stopped(43_301, "a", "PreToolUse"));
    assert_eq!(world.told().len(), 3, "another day is told of again");
}

#[test]
fn a_reload_releases_and_stops_and_a_restart_does_neither() {
    let mut world = World::new(stopping());
    world.hook(0, "a", "UserPromptSubmit", Value::Null);
    world.uses(1, "a", 120, 0.0);
    assert_eq!(world.hook(2, "a", "PreToolUse", Value::Null), TASK);
    let mut world = world.restart(60, stopping());
    assert_eq!(world.shown("a"), "paused: stopped by lookout: over its budget of tokens for this task");
    assert_eq!(world.hook(61, "a", "PreToolUse", Value::Null), TASK);
    assert_eq!(world.told(), [""; 0], "it was told of before");
    let raised = BudgetsConfig { tokens_per_task: stops(200), ..stopping() };
    world.reload(62, raised.clone());
    assert!(world.orders.is_empty());
    assert!(!world.is_stopped(63, "a", "PreToolUse"));
    assert_eq!(world.shown("a"), "running: ");
    world.uses(64, "a", 80, 0.0);
    assert!(world.is_stopped(65, "a", "PreToolUse"));
    assert_eq!(world.told().len(), 1, "another limit is told of again");
    world.reload(66, BudgetsConfig { tokens_per_task: Some(100.into()), ..raised });
    assert!(!world.is_stopped(67, "a", "PreToolUse"), "without the action nobody is stopped");
    world.reload(68, stopping());
    assert!(world.is_stopped(69, "a", "PreToolUse"), "who is over is found at once");
}

#[test]
fn who_is_forgotten_is_released() {
    let mut world = World::new(stopping());
    world.uses(0, "a", 5_000, 0.0);
    assert!(!world.orders.is_empty());
    world.step(40_000, Event::Deadline);
    assert!(world.machine.fleet().find("shop", "a").is_none() && world.orders.is_empty());
}

#[test]
fn a_subagent_is_stopped_by_itself_and_the_run_that_ends_so_is_not_down() {
    let mut world = World::new(stopping());
    world.hook(0, "a", "UserPromptSubmit", Value::Null);
    world.hook(1, "a", "SubagentStart", json!({"agent_id": "x"}));
    world.uses(2, "a", 120, 0.0);
    assert_eq!(world.hook(3, "a", "PreToolUse", json!({"agent_id": "x"})), TASK);
    assert_eq!(world.shown("a"), "running: ", "nobody told it to stop so far");
    assert_eq!(world.hook(4, "a", "PreToolUse", Value::Null), TASK);
    // No hook told of the subagent's end, and still it does not seem to work.
    assert_eq!(world.shown("a"), "paused: stopped by lookout: over its budget of tokens for this task");
    assert_eq!(world.hook(5, "a", "SessionEnd", json!({"reason": "other"})), "");
    let agent = world.machine.fleet().find("shop", "a").expect("it is known");
    assert!(!agent.is_up() && !agent.is_down() && agent.task.is_none());
    assert_eq!(agent.tasks_failed.get(), Some(1));
    assert_eq!(world.shown("a"), "completed: stopped by lookout: over its budget of tokens for this task");
    assert!(world.orders.is_empty());
}

#[test]
fn many_are_followed_and_found_by_name() {
    let mut world = World::new(stopping());
    let name = |number: usize| format!("agent-{number}");
    for number in 0..500 {
        world.uses(0, &name(number), 1_000, 0.0);
    }
    assert_eq!(world.orders.len(), 500);
    for number in [0, 250, 499] {
        assert!(world.is_stopped(1, &name(number), "PreToolUse"));
    }
    assert!(!world.is_stopped(1, &name(500), "PreToolUse"));
    let held = Arc::clone(&world.orders);
    world.uses(2, "another", 1_000, 0.0);
    assert_eq!((held.len(), world.orders.len()), (500, 501), "a reader's set is its own");
}

/// Something that may change who is stopped.
#[derive(Clone, Debug)]
enum Turn {
    Uses(u8, u64),
    Hook(u8, usize),
    Wait(i64),
    Reload(u64),
    Restart,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        5 => (0..4u8, 0..400u64).prop_map(|(agent, tokens)| Turn::Uses(agent, tokens)),
        5 => (0..4u8, 0..EVENTS.len()).prop_map(|(agent, event)| Turn::Hook(agent, event)),
        2 => (0..30_000i64).prop_map(Turn::Wait),
        1 => (1..1_000u64).prop_map(Turn::Reload),
        1 => Just(Turn::Restart),
    ];
    proptest::collection::vec(turn, 0..40)
}

const EVENTS: [&str; 6] = ["UserPromptSubmit", "PreToolUse", "PostToolBatch", "Stop", "StopFailure", "SessionEnd"];

/// Everybody in the set, and what they are told.
fn all(orders: &StopOrders) -> Vec<String> {
    let mut all: Vec<String> = orders.iter().map(|(whom, stops)| format!("{whom:?} {stops:?}")).collect();
    all.sort();
    assert_eq!(all.len(), orders.len());
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_is_followed_is_found_by_a_look_at_everybody(turns in turns()) {
            let (mut second, mut budgets) = (0, stopping());
            let mut world = World::new(budgets.clone());
            for turn in turns {
                match turn {
                    Turn::Uses(agent, tokens) => world.uses(second, &agent.to_string(), tokens, tokens as f64 / 300.0),
                    Turn::Hook(agent, event) => drop(world.hook(second, &agent.to_string(), EVENTS[event], Value::Null)),
                    Turn::Wait(seconds) => {
                        second += seconds;
                        world.step(second, Event::Deadline);
                    }
                    Turn::Reload(limit) => {
                        budgets = BudgetsConfig { tokens_per_task: stops(limit), tokens_per_day: stops(limit * 3), ..budgets };
                        world.reload(second, budgets.clone());
                    }
                    Turn::Restart => world = world.restart(second, budgets.clone()),
                }
                let mut anew = Enforcement::default();
                anew.configure(world.machine.fleet().state(), budgets.enforced());
                let followed = all(&world.orders);
                assert_eq!(followed, all(anew.orders()));
            }
    }
}
