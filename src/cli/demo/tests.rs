//! The demo's story on a virtual clock: every line of it is followed by what it promises, in each round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::engine::trial::{Event, Settings, Trial, Watch};
use crate::model::{
    AgentStatus, AgentUpdate, Arrival, Batch, Level, Notice, NoticeKind, PollReport, ReceiverPolicy, SourceError,
    SourceErrorReason, Time,
};
use crate::rules::compile::{RuleSet, RuleSettings};

/// Rounds that are played: as many as make flapping of what comes once in each.
const ROUNDS: u64 = 10;

/// What people are told: seconds since the start, of whom, and the word of the message.
#[derive(Default)]
struct Told(Vec<(u64, String, String)>);

const START: Time = Time::from_millis(1_790_000_000_000);

impl Watch for Told {
    fn told(&mut self, notice: Arc<Notice>) {
        let word = match notice.kind {
            NoticeKind::Resolved => "RESOLVED".to_owned(),
            NoticeKind::Firing | NoticeKind::Raised | NoticeKind::Lowered => notice.level.as_str().to_uppercase(),
            other => format!("{other:?}"),
        };
        let seconds = notice.at.since(START).as_secs();
        self.0.push((seconds, notice.subject.name().to_string(), word));
    }
}

fn world(watch: &mut Told) -> Trial {
    let mut config = Config::default();
    demo_defaults(&mut config, &Environment::default());
    config.sources.push(polled("127.0.0.1:1".parse().unwrap()).unwrap());
    let settings = RuleSettings { max_idle: config.agents.max_idle, timeout: config.agents.timeout };
    let settings = Settings {
        fleet: config.fleet_settings(),
        rules: RuleSet::load(&[("demo rules".to_owned(), RULES.to_owned())], settings).expect("good rules"),
        receivers: vec![ReceiverPolicy::new("console", Level::Info)],
        incidents: config.incidents.policy(),
    };
    Trial::new(START, settings, watch)
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
fn every_round_tells_what_the_story_says() {
    let mut told = Told::default();
    let mut trial = world(&mut told);
    for second in 0..ROUNDS * script::ROUND {
        let now = START.plus(Duration::from_secs(second));
        trial.advance(now, &mut told).expect("no more deadlines than that");
        for body in drive::bodies(12, second, now) {
            let taken = trial.feed(&Arrival::State(body.into()), &mut told).expect("it can be read");
            assert!(taken.rejected.is_empty(), "{:?}", taken.rejected);
        }
        trial.take(Event::Poll(poll(second, now)), &mut told);
    }
    for round in 0..ROUNDS - 1 {
        let mut expected: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for scene in script::STORY {
            expected.entry(scene.about).or_default().extend(scene.told);
        }
        // What ends with a task ends when the next round begins.
        let from = round * script::ROUND + 5;
        let of_round = || told.0.iter().filter(|(at, ..)| (from..from + script::ROUND).contains(at));
        let mut heard: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        of_round().for_each(|(_, about, word)| heard.entry(about).or_default().push(word));
        assert_eq!(heard, expected, "in round {round}: {:?}", of_round().collect::<Vec<_>>());
        for scene in script::STORY {
            let begins = round * script::ROUND + scene.second;
            let mut later = of_round().filter(|(at, about, _)| about == scene.about && *at >= begins);
            let first = later.next().expect("it is told");
            assert_eq!(first.2, scene.told[0], "after second {begins} of {}", scene.about);
            assert!(first.0 <= begins + 6, "{first:?} comes long after second {begins}");
        }
    }
}

#[test]
fn a_late_step_tells_of_every_scene_once() {
    let seconds = |from, to| script::scenes(from, to).map(|scene| scene.second).collect::<Vec<_>>();
    assert_eq!(seconds(None, 4), [0_u64; 0]);
    assert_eq!(seconds(None, 5), [5]);
    assert_eq!(seconds(Some(5), 5), [0_u64; 0]);
    assert_eq!(seconds(Some(5), 12), [8, 12]);
    assert_eq!(seconds(Some(58), 66), [5], "of the next round");
}
