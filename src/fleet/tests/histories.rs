//! Random histories: incrementally updated counts equal a recount, and survive a restart.

use proptest::prelude::*;

use super::*;
use crate::model::{Component, Snapshot};

#[derive(Clone, Debug)]
enum FleetEvent {
    Push { complete: bool, agents: Vec<(u8, u8, u8)>, components: Vec<(u8, u8)>, ttl: u8 },
    Poll(Option<Vec<(u8, u8, u8)>>),
    Usage { name: u8, task: Option<u8>, id: u8 },
    Wait(u16),
    Restart,
}

fn events() -> impl Strategy<Value = Vec<FleetEvent>> {
    let agents = || proptest::collection::vec((0..6u8, 0..12u8, 0..8u8), 0..5);
    let components = proptest::collection::vec((0..3u8, 0..4u8), 0..3);
    let event = prop_oneof![
        5 => (any::<bool>(), agents(), components, 0..4u8)
            .prop_map(|(complete, agents, components, ttl)| FleetEvent::Push { complete, agents, components, ttl }),
        2 => proptest::option::of(agents()).prop_map(FleetEvent::Poll),
        2 => (0..6u8, proptest::option::of(0..4u8), 0..10u8).prop_map(|(name, task, id)| FleetEvent::Usage { name, task, id }),
        3 => (0..4_000u16).prop_map(FleetEvent::Wait),
        1 => Just(FleetEvent::Restart),
    ];
    proptest::collection::vec(event, 1..40)
}

fn updates(agents: &[(u8, u8, u8)]) -> Vec<AgentUpdate<'static>> {
    agents
        .iter()
        .map(|(name, status, rest)| AgentUpdate {
            name: format!("agent{name}").into(),
            status: AgentStatus::ALL.get(usize::from(*status)).copied(),
            running: (*status >= 10).then_some(*status == 10),
            task_id: match rest % 4 {
                0 => Patch::Keep,
                1 => Patch::Clear,
                task => Patch::Set(format!("task{task}").into()),
            },
            restart_count: rest.checked_sub(3).map(u64::from),
            tokens: if rest % 3 == 0 { tokens(u64::from(*rest), 1, 2) } else { [None; 5] },
            cost_usd: (*rest == 6).then_some(0.125),
            ..AgentUpdate::default()
        })
        .collect()
}

/// Recounts everything and compares it with the incremental counts.
fn recount(state: &Snapshot) -> Result<(), TestCaseError> {
    for project in &state.projects {
        let agents = || state.agents.iter().filter(|agent| agent.project_slot == project.slot);
        let count = |which: &dyn Fn(&Agent) -> bool| agents().filter(|agent| which(agent)).count() as u32;
        prop_assert_eq!(project.agents, count(&|_| true));
        prop_assert_eq!(project.up, count(&Agent::is_up));
        prop_assert_eq!(project.down, count(&Agent::is_down));
        prop_assert_eq!(project.expected, count(&Agent::is_expected));
        prop_assert_eq!(project.unknown_status, count(&|agent| agent.status.is_none()));
        for status in AgentStatus::ALL {
            prop_assert_eq!(project.by_status[status as usize], count(&|agent| agent.status == Some(status)));
        }
        for status in ComponentStatus::ALL {
            let is = |it: &&Component| it.project_slot == project.slot && it.status == status;
            prop_assert_eq!(project.components[status as usize], state.components.iter().filter(is).count() as u32);
        }
        let totals = &project.totals;
        prop_assert!(totals.restarts.total() >= agents().map(|agent| agent.restarts.total()).sum());
        let all = totals.tokens.iter().map(crate::model::Count::total).sum::<u64>();
        prop_assert!(all >= agents().filter_map(Agent::total_tokens).sum());
        let enough = project.wanted.is_none_or(|wanted| project.up >= wanted);
        prop_assert_eq!(project.too_small_since.is_none(), enough);
        let there = |name: &str| agents().any(|agent| &*agent.name == name);
        let missing: Vec<&str> = project.missing.iter().map(|(name, _)| &**name).collect();
        let wanted = ["agent0", "agent5"].into_iter().filter(|_| &*project.name == "shop");
        prop_assert_eq!(missing, wanted.filter(|name| !there(name)).collect::<Vec<_>>());
    }
    for agent in state.agents.iter() {
        prop_assert!(agent.day_tokens <= agent.total_tokens().unwrap_or(0));
        prop_assert_eq!(&state.projects[agent.project_slot as usize].name, &agent.project);
    }
    Ok(())
}

/// The saved state, as the store writes it.
fn saved(state: &Snapshot) -> Vec<String> {
    let agents = state.agents.iter().map(|agent| serde_json::to_string(agent).unwrap());
    let components = state.components.iter().map(|component| serde_json::to_string(component).unwrap());
    let projects = state.projects.iter().map(|project| serde_json::to_string(&**project).unwrap());
    let mut all: Vec<String> = agents.chain(components).chain(projects).collect();
    all.sort();
    all
}

fn restarted(now: Time, settings: &FleetSettings, old: &Snapshot) -> Fleet {
    fn again<T: serde::Serialize + serde::de::DeserializeOwned>(item: &T) -> T {
        serde_json::from_str(&serde_json::to_string(item).unwrap()).unwrap()
    }
    let mut fleet = Fleet::new(now, settings.clone());
    fleet.restore(
        now,
        old.projects.iter().map(|project| again(&**project)).collect(),
        old.agents.iter().map(again).collect(),
        old.components.iter().map(again).collect(),
        [],
    );
    fleet
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn incremental_counts_equal_a_recount(events in events()) {
        let expected = vec![ExpectedConfig {
            project: "shop".into(),
            agents: vec!["agent0".into(), "agent5".into()],
            count: Some(3),
        }];
        let room = 4 * super::super::SERIES_PER_AGENT + 8;
        let settings = FleetSettings { expected, max_series: room, ..settings() };
        let mut watch = TestFleet::new(settings.clone());
        let mut seconds = 0;
        let mut first: Option<(std::sync::Arc<Snapshot>, Vec<String>)> = None;
        for event in events {
            match event {
                FleetEvent::Push { complete, agents, components, ttl } => {
                    let components = components.iter().map(|(name, status)| ComponentUpdate {
                        name: format!("part{name}").into(),
                        index: 0,
                        status: ComponentStatus::ALL[usize::from(*status)],
                        details: None,
                        metrics: vec![],
                        custom: vec![],
                    });
                    let ttl = (ttl > 0).then(|| Duration::from_secs(u64::from(ttl) * 40));
                    watch.push_batch(seconds, Batch {
                        project: "shop".into(), complete, ttl, agents: updates(&agents), components: components.collect(),
                        ..Batch::default()
                    });
                }
                FleetEvent::Poll(agents) => {
                    watch.until(seconds);
                    watch.fleet.clear_changes();
                    let error = SourceError { reason: SourceErrorReason::Connect, message: String::new() };
                    let result = agents.map(|agents| vec![Batch {
                        project: "shop".into(), complete: true, agents: updates(&agents), ..Batch::default()
                    }]).ok_or(error);
                    watch.fleet.poll(at(seconds), &mut PollReport { source: "orch".into(), result });
                }
                FleetEvent::Usage { name, task, id } => {
                    let update = UsageUpdate {
                        agent: task.is_none().then(|| format!("agent{name}").into()),
                        task_id: task.map(|task| format!("task{task}").into()),
                        id: (id < 5).then(|| format!("{id}").into()),
                        ..used(3)
                    };
                    watch.usage(seconds, update);
                }
                FleetEvent::Wait(by) => {
                    seconds += i64::from(by);
                    watch.until(seconds);
                }
                FleetEvent::Restart => {
                    let before = watch.fleet.snapshot(at(seconds));
                    let fleet = restarted(at(seconds), &settings, &before);
                    prop_assert_eq!(saved(&before), saved(fleet.state()), "a restart changes nothing");
                    watch = TestFleet { fleet };
                }
            }
            recount(watch.fleet.state())?;
            if first.is_none() && watch.fleet.state().agents.len() > 1 {
                let held = watch.fleet.snapshot(at(seconds));
                let copy = saved(&held);
                first = Some((held, copy));
            }
        }
        if let Some((held, copy)) = first {
            prop_assert_eq!(saved(&held), copy, "a held snapshot never changes");
        }
    }
}
