//! The demo's story on a virtual clock: in each round, every line is followed by the notifications it names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::machine::simulation::{Lasting, Setup};
use crate::machine::{MachineEvent, Simulation};
use crate::model::{
    AgentStatus, AgentUpdate, Batch, Level, Notice, NoticeKind, PollReport, ReceiverPolicy, RecordedInput, SourceError,
    SourceErrorReason, Time,
};
use crate::rules::compile::{RuleSet, RuleSettings};

/// Rounds played: enough for alerts that fire once per round to count as flapping.
const ROUNDS: u64 = 10;

const START: Time = Time::from_millis(1_790_000_000_000);

/// The notifications: seconds since the start, subject, and level.
fn sent(notices: &[Arc<Notice>]) -> Vec<(u64, String, String)> {
    let entry = |notice: &Arc<Notice>| {
        let word = match notice.kind {
            NoticeKind::Resolved => "RESOLVED".to_owned(),
            NoticeKind::Firing | NoticeKind::Escalated | NoticeKind::Deescalated => {
                notice.level.as_str().to_uppercase()
            }
            other => format!("{other:?}"),
        };
        let seconds = notice.at.since(START).as_secs();
        (seconds, notice.subject.name().to_string(), word)
    };
    notices.iter().map(entry).collect()
}

fn world() -> Simulation {
    let mut config = Config::default();
    demo_defaults(&mut config, &Environment::default());
    config.sources.push(orchestrator("127.0.0.1:1".parse().unwrap()).unwrap());
    let settings = RuleSettings { max_idle: config.agents.max_idle, timeout: config.agents.timeout };
    let rules = RuleSet::load(&[("demo rules".to_owned(), RULES.to_owned())], settings).expect("good rules");
    let settings = Lasting {
        fleet: config.fleet_settings(),
        receivers: vec![ReceiverPolicy::new("console", Level::Info)],
        incidents: config.incidents.policy(),
    };
    Simulation::new(START, Setup { rules, settings })
}

fn poll(second: u64, now: Time) -> PollReport {
    let result = match script::page(second, now) {
        Some(page) => {
            let agents = page["bots"].as_array().unwrap().iter().map(|bot| AgentUpdate {
                name: bot["id"].as_str().unwrap().to_owned().into(),
                status: Some(AgentStatus::Running),
                last_activity: Some(now),
                ..AgentUpdate::default()
            });
            Ok(vec![Batch {
                project: "orchestrator".into(),
                complete: true,
                agents: agents.collect(),
                ..Batch::default()
            }])
        }
        None => Err(SourceError { reason: SourceErrorReason::Status, message: "500".to_owned() }),
    };
    PollReport { source: "orchestrator".into(), result }
}

#[test]
fn every_round_sends_the_notifications_of_the_story() {
    let mut simulation = world();
    for second in 0..ROUNDS * script::ROUND {
        let now = START.plus(Duration::from_secs(second));
        simulation.advance(now).expect("no more deadlines than that");
        for body in drive::bodies(12, second, now) {
            let taken = simulation.feed(&RecordedInput::State(body.into())).expect("it can be read");
            assert!(taken.rejected.is_empty(), "{:?}", taken.rejected);
        }
        simulation.take(MachineEvent::Poll(poll(second, now)));
    }
    let sent = sent(simulation.notices());
    for round in 0..ROUNDS - 1 {
        let mut expected: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for scene in script::STORY {
            expected.entry(scene.about).or_default().extend(scene.notified);
        }
        // Alerts that end with a task resolve when the next round begins.
        let from = round * script::ROUND + 5;
        let of_round = || sent.iter().filter(|(at, ..)| (from..from + script::ROUND).contains(at));
        let mut actual: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        of_round().for_each(|(_, about, word)| actual.entry(about).or_default().push(word));
        assert_eq!(actual, expected, "in round {round}: {:?}", of_round().collect::<Vec<_>>());
        for scene in script::STORY {
            let begins = round * script::ROUND + scene.second;
            let mut later = of_round().filter(|(at, about, _)| about == scene.about && *at >= begins);
            let first = later.next().expect("a notification");
            assert_eq!(first.2, scene.notified[0], "after second {begins} of {}", scene.about);
            assert!(first.0 <= begins + 6, "{first:?} comes long after second {begins}");
        }
    }
}

#[test]
fn a_late_step_prints_every_scene_once() {
    let seconds = |from, to| script::scenes(from, to).map(|scene| scene.second).collect::<Vec<_>>();
    assert_eq!(seconds(None, 4), [0_u64; 0]);
    assert_eq!(seconds(None, 5), [5]);
    assert_eq!(seconds(Some(5), 5), [0_u64; 0]);
    assert_eq!(seconds(Some(5), 12), [8, 12]);
    assert_eq!(seconds(Some(58), 66), [5], "of the next round");
}
