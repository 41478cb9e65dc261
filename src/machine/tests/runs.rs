//! The rules about runs, to the second.

use super::*;
use crate::model::{RunStatus, RunSummary, TraceId};

const RULES: [&str; 3] = ["AgentErrorRate", "RunSlow", "RunCostly"];

/// A run of the agent `a` with this number, which began at `from` and, unless it is running, ended at `to`.
fn run(number: u32, status: RunStatus, [from, to]: [i64; 2]) -> RunSummary {
    let [a, b, c, d] = (number + 1).to_be_bytes();
    let mut id = [0; 16];
    id[..4].copy_from_slice(&[a, b, c, d]);
    RunSummary {
        project: "shop".into(),
        agent: "a".into(),
        agent_type: "custom".into(),
        id: TraceId::from_slice(&id).expect("an id"),
        name: format!("run-{number}").into(),
        status,
        started_at: at(from),
        ended_at: (status != RunStatus::Running).then(|| at(to)),
        cost_usd: None,
        fallbacks: 0,
        platform: None,
        facts: crate::model::RunFacts::default(),
        error: None,
        history: None,
    }
}

fn costing(number: u32, to: i64, cost: f64) -> RunSummary {
    RunSummary { cost_usd: Some(cost), ..run(number, RunStatus::Ok, [to - 10, to]) }
}

impl RuleSimulation {
    fn runs(&mut self, seconds: i64, runs: Vec<RunSummary>) -> &mut Self {
        self.take(seconds, MachineEvent::Runs(runs))
    }
}

fn of_runs() -> RuleSimulation {
    RuleSimulation::new(settings(), "rules: []")
}

#[test]
fn failed_runs_count_for_an_hour_from_ten_on() {
    let mut test = of_runs();
    for number in 0..9 {
        test.runs(i64::from(number) * 60, vec![run(number, RunStatus::Error, [0, i64::from(number) * 60])]);
    }
    assert_eq!(test.findings(&RULES), [""; 0], "nine runs are too few");
    test.runs(600, vec![run(9, RunStatus::Ok, [500, 600])]);
    assert_eq!(test.findings(&RULES), ["600 AgentErrorRate a critical"]);
    for number in 10..40 {
        test.runs(1_200, vec![run(number, RunStatus::Ok, [1_100, 1_200])]);
    }
    assert_eq!(test.findings(&RULES), ["1200 AgentErrorRate a error", "1200 AgentErrorRate a warning"]);
    test.until(10_000);
    // Nine of forty; the failed ones leave the window first: four of 35, then three of 34.
    assert_eq!(test.findings(&RULES), ["3900 AgentErrorRate a resolved"]);
}

#[test]
fn an_error_rate_outlives_a_restart_and_ends_without_runs() {
    let mut test = of_runs();
    for number in 0..20 {
        let status = if number < 4 { RunStatus::Abandoned } else { RunStatus::Ok };
        test.runs(i64::from(number), vec![run(number, status, [0, i64::from(number)])]);
    }
    assert_eq!(
        test.findings(&RULES),
        ["9 AgentErrorRate a error", "16 AgentErrorRate a warning"],
        "abandoned runs failed"
    );
    test.restart(1_000);
    test.until(9_000);
    assert_eq!(
        test.findings(&RULES),
        ["4581 AgentErrorRate a resolved"],
        "the window does not count the downtime of 981 seconds"
    );
}

#[test]
fn a_run_is_slow_while_it_runs_and_until_a_good_one() {
    let mut test = of_runs();
    for number in 0..20 {
        test.runs(200, vec![run(number, RunStatus::Ok, [100, 200])]);
    }
    test.runs(1_000, vec![run(100, RunStatus::Running, [990, 0])]);
    test.until(1_289);
    assert_eq!(test.findings(&RULES), [""; 0]);
    test.until(1_290);
    assert_eq!(test.findings(&RULES), ["1290 RunSlow a warning"], "three times 100 s after it began");
    let open = test.simulation.open();
    assert_eq!(
        open[0].message,
        "run run-100 has been running for 5m (limit 5m), usually at most 1m40s (00000065000000000000000000000000)"
    );
    assert!(open[0].action.contains("`lookout trace show 00000065"), "{}", open[0].action);
    test.runs(1_300, vec![run(101, RunStatus::Ok, [1_250, 1_300])]);
    test.runs(1_500, vec![run(100, RunStatus::Ok, [990, 1_500])]);
    assert_eq!(test.findings(&RULES), [""; 0], "another good run changes nothing, and neither does the end");
    assert!(test.simulation.open()[0].message.starts_with("run run-100 took 8m30s (limit 5m)"));
    test.runs(1_600, vec![run(102, RunStatus::Ok, [1_590, 1_600])]);
    assert_eq!(test.findings(&RULES), ["1600 RunSlow a resolved"]);
    test.runs(5_000, vec![run(103, RunStatus::Error, [4_000, 5_000])]);
    test.until(10_000);
    assert_eq!(test.findings(&RULES), ["5000 RunSlow a warning", "8600 RunSlow a resolved"], "an hour later");
}

#[test]
fn a_run_in_progress_becomes_slow_after_a_longer_one_ended() {
    let mut test = of_runs();
    for number in 0..20 {
        test.runs(200, vec![run(number, RunStatus::Ok, [100, 200])]);
    }
    test.runs(1_000, vec![run(50, RunStatus::Running, [1_000, 0])]);
    test.runs(1_100, vec![run(51, RunStatus::Ok, [810, 1_100])]);
    test.until(1_299);
    assert_eq!(test.findings(&RULES), [""; 0]);
    // The p95 of 21 runs of which one took 290 s is still 100 s.
    test.until(1_300);
    assert_eq!(test.findings(&RULES), ["1300 RunSlow a warning"]);
    test.restart(1_400);
    test.until(1_450);
    assert_eq!(test.simulation.open().len(), 1, "it is known from what was saved");
    let gone = RunSummary { status: RunStatus::Abandoned, ..run(50, RunStatus::Running, [1_000, 0]) };
    test.runs(1_500, vec![gone]);
    assert_eq!(test.findings(&RULES), ["1500 RunSlow a resolved"], "of a run that is gone nothing is known");
}

#[test]
fn a_run_that_costs_more_than_usual() {
    let mut test = of_runs();
    for number in 0..19 {
        test.runs(100, vec![costing(number, 100, 0.5)]);
    }
    test.runs(110, vec![costing(20, 110, 100.0)]);
    assert_eq!(test.findings(&RULES), [""; 0], "what is usual needs twenty runs");
    test.runs(200, vec![costing(21, 200, 2.5)]);
    test.runs(210, vec![costing(22, 210, 10.0)]);
    assert_eq!(
        test.simulation.open()[0].message,
        "run run-22 cost $10.00 (limit $10.00), usually $0.50 (00000017000000000000000000000000)"
    );
    test.runs(220, vec![run(23, RunStatus::Ok, [210, 220])]);
    test.runs(230, vec![costing(24, 230, 0.4)]);
    test.runs(300, vec![costing(25, 300, 3.0)]);
    test.until(9_000);
    assert_eq!(
        test.findings(&RULES),
        [
            "200 RunCostly a warning",
            "210 RunCostly a error",
            "230 RunCostly a resolved",
            "300 RunCostly a warning",
            "3900 RunCostly a resolved"
        ],
        "a run of unknown cost is no good one"
    );
}

#[test]
fn old_runs_and_repeated_reports_do_not_count() {
    let mut test = of_runs();
    test.runs(8_000, (0..30).map(|number| run(number, RunStatus::Error, [0, 4_400])).collect());
    assert_eq!(test.findings(&RULES), [""; 0], "they ended an hour ago");
    assert!(test.simulation.fleet().find("shop", "a").is_none());
    let history = crate::model::UsualRuns { seconds: vec![10.0; 20].into(), costs: vec![1.0; 20].into() };
    let begun = RunSummary { history: Some(Box::new(history)), ..run(40, RunStatus::Running, [8_000, 0]) };
    test.runs(8_000, vec![begun.clone(), begun]);
    test.until(8_100);
    assert_eq!(test.findings(&RULES), ["8030 RunSlow a warning"], "what the store knows is usual");
}

#[test]
fn an_agent_that_runs_once_a_night_is_slow_and_costly_against_its_own_nights() {
    let agents = AgentsConfig::default();
    let mut test = RuleSimulation::new(FleetSettings { agents, ..settings() }, "rules: []");
    let mut usual = crate::model::UsualRuns::default();
    let night = |number: u32| i64::from(number) * 86_400;
    for number in 0..22 {
        let from = night(number);
        let (seconds, cost) = if number == 21 { (60, 9.0) } else { (10, 1.0) };
        test.until(from);
        assert!(test.simulation.fleet().find("shop", "a").is_none(), "it expired the day before");
        // What the thread of runs finds in its store.
        let history = (number > 0).then(|| Box::new(usual.clone()));
        test.runs(from, vec![RunSummary { history, ..run(number, RunStatus::Running, [from, 0]) }]);
        test.until(from + seconds);
        let ended = run(number, RunStatus::Ok, [from, from + seconds]);
        test.runs(from + seconds, vec![RunSummary { cost_usd: Some(cost), ..ended }]);
        usual.add(seconds as f64, Some(cost));
    }
    test.until(night(22));
    let last = night(21);
    assert_eq!(
        test.findings(&RULES),
        [
            format!("{} RunSlow a warning", last + 30),
            format!("{} RunCostly a warning", last + 60),
            format!("{} RunSlow a no longer watched", last + 3_660),
            format!("{} RunCostly a no longer watched", last + 3_660),
        ]
    );
}

#[test]
fn fallbacks_and_single_runs_can_be_limited() {
    let text = "rules:\n  - {name: Fallbacks, for_each: agent, signal: {increase_of: fallbacks, over: 10m}, when: at_least, levels: {warning: 2}}\n  - {name: Long, for_each: agent, signal: run_seconds, when: at_least, levels: {warning: 1m, error: 2m}}\n";
    let mut test = RuleSimulation::new(settings(), text);
    test.runs(0, vec![RunSummary { fallbacks: 1, ..run(0, RunStatus::Ok, [0, 0]) }]);
    test.runs(10, vec![RunSummary { fallbacks: 1, ..run(1, RunStatus::Ok, [0, 10]) }]);
    test.runs(20, vec![run(2, RunStatus::Running, [20, 0])]);
    test.runs(150, vec![run(2, RunStatus::Ok, [20, 150])]);
    test.until(4_000);
    assert_eq!(
        test.findings(&["Fallbacks", "Long"]),
        [
            "10 Fallbacks a warning",
            "80 Long a warning",
            "140 Long a error",
            "600 Fallbacks a resolved",
            "3750 Long a resolved"
        ]
    );
}

#[test]
fn an_agent_stays_while_a_run_is_in_progress() {
    let agents = AgentsConfig::default();
    let mut test = RuleSimulation::new(FleetSettings { agents, ..settings() }, "rules: []");
    test.runs(0, vec![run(0, RunStatus::Running, [0, 0])]);
    test.until(20_000);
    assert!(test.simulation.fleet().find("shop", "a").is_some());
    test.runs(20_000, vec![run(0, RunStatus::Ok, [0, 20_000])]);
    test.until(23_599);
    assert!(test.simulation.fleet().find("shop", "a").is_some());
    test.until(23_600);
    assert!(test.simulation.fleet().find("shop", "a").is_none(), "an hour after its last report");
}

#[test]
fn multiples_of_what_is_usual_go_with_their_signal_and_not_with_numbers() {
    let refused = |signal: &str, levels: &str| {
        let text = format!(
            "rules:\n  - {{name: Mine, for_each: agent, signal: {signal}, when: at_least, levels: {levels}}}\n"
        );
        let settings = RuleSettings { max_idle: Duration::from_secs(300), timeout: Duration::from_secs(60) };
        RuleSet::load(&[("team.yaml".to_owned(), text)], settings).expect_err("a mistake").remove(0).message
    };
    assert!(
        refused("run_seconds", "{warning: 3 * p95, error: 5m}").contains("either all thresholds are multiples of p95")
    );
    assert!(refused("run_seconds", "{warning: 3 * median}").contains("or p95"));
    assert!(refused("task_seconds", "{warning: 3 * p95}").contains("unknown setting `p95`"));
    assert!(refused("run_seconds", "{warning: 3 * p95, error: 2 * p95}").contains("must increase"));
}

/// The platforms of `shop` with their ended runs.
fn platforms(test: &RuleSimulation) -> Vec<(String, u64)> {
    let snapshot = test.simulation.machine.fleet().state();
    let project = snapshot.projects.iter().find(|project| &*project.name == "shop").expect("the project");
    project.platforms.iter().map(|(name, totals)| (name.to_string(), totals.runs.iter().sum())).collect()
}

#[test]
fn platforms_are_bounded_by_number_and_by_the_series_cap() {
    let on = |number: u32, platform: &str, to: i64| RunSummary {
        platform: Some(platform.into()),
        ..run(number, RunStatus::Ok, [to - 1, to])
    };
    let mut test = of_runs();
    for number in 0..25 {
        test.runs(10, vec![on(number, &format!("typo-{number:02}"), 10)]);
    }
    let names = platforms(&test);
    assert_eq!(names.len(), 21, "20 and the others: {names:?}");
    assert!(names.contains(&("other".to_owned(), 5)), "{names:?}");
    // One without a run for as long as after which agents are forgotten makes room.
    let forgotten = 11 + i64::try_from(settings().agents.forget_after.as_secs()).expect("seconds");
    test.runs(forgotten, vec![on(30, "slack", forgotten)]);
    let names = platforms(&test);
    assert!(names.len() == 21 && names.contains(&("slack".to_owned(), 1)), "{names:?}");

    let mut small = settings();
    small.max_series = 2 * crate::model::agent::SERIES_PER_AGENT;
    let mut test = RuleSimulation::new(small, "rules: []");
    test.runs(10, (0..9).map(|number| on(number, &format!("p{number}"), 10)).collect());
    let room = crate::model::agent::SERIES_PER_AGENT / crate::model::PlatformTotals::SERIES;
    assert_eq!(platforms(&test).len(), room.min(9), "what the agent leaves");
}
