//! The rules about spending: forecasts, velocity, loops, repeated errors, idle spending, to the second.

use proptest::prelude::*;

use super::*;
use crate::model::AgentStatus::{Completed, Failed, Idle, Running, WaitingReview};
use crate::model::Subject;
use crate::rules::TemplateData;

const FORECASTS: [&str; 2] = ["DayTokenForecast", "DayCostForecast"];

fn budgeted() -> FleetSettings {
    let mut settings = settings();
    settings.budgets.tokens_per_day = Some(1_000_000.into());
    settings.budgets.cost_usd_per_day = Some(10.0.into());
    settings
}

/// A state with cumulative tokens and cost.
fn total(input: u64, cost: f64) -> AgentUpdate<'static> {
    AgentUpdate { tokens: [Some(input), None, None, None, None], cost_usd: Some(cost), ..a(Running) }
}

#[test]
fn a_constant_rate_is_forecast_alike_from_totals_and_increments() {
    let mut increments = RuleSimulation::new(budgeted(), "rules: []");
    let mut totals = RuleSimulation::new(budgeted(), "rules: []");
    // 100 tokens a second: 240,000 s worth of budget would be 2.8 h, gone before the day turns in 12 h.
    totals.push(0, total(0, 0.0));
    increments.usage(0, 0);
    for second in (10..=9_000).step_by(10) {
        totals.push(second, total(second as u64 * 100, 0.0));
        increments.usage(second, 1_000);
    }
    let expected = ["600 DayTokenForecast a warning", "6400 DayTokenForecast a error"];
    assert_eq!(increments.findings(&FORECASTS), expected);
    assert_eq!(totals.findings(&FORECASTS), expected, "nothing was spent, so no cost is forecast");
    // It rests with 100,000 tokens left. A minute later the short window runs out: with 8,333 of 30,000 in it
    // there is an hour left, with 1,666 there are five.
    totals.until(20_000);
    assert_eq!(
        totals.findings(&FORECASTS),
        ["9286.667 DayTokenForecast a warning", "9353.334 DayTokenForecast a resolved"]
    );
}

#[test]
fn cost_is_forecast_like_tokens_and_resolves_on_a_new_day() {
    let mut test = RuleSimulation::new(budgeted(), "rules: []");
    // Ten dollars in four hours and ten minutes: from 600 s on within four hours.
    for second in (0..=43_260).step_by(60) {
        test.push(second, total(0, second as f64 / 1_500.0));
    }
    assert_eq!(
        test.findings(&FORECASTS),
        [
            "600 DayCostForecast a warning",
            "11400 DayCostForecast a error",
            "15000 DayCostForecast a no data",
            "43200 DayCostForecast a new day"
        ],
        "a used up budget is not forecast, and its alert stays until the next day"
    );
}

#[test]
fn no_forecast_without_budget_or_data_nor_for_bursts_or_the_next_day() {
    let mut free = RuleSimulation::new(settings(), "rules: []");
    let mut young = RuleSimulation::new(budgeted(), "rules: []");
    let mut late = RuleSimulation::new(budgeted(), "rules: []");
    let mut over = RuleSimulation::new(budgeted(), "rules: []");
    for second in (0..=3_600).step_by(10) {
        free.usage(second, 5_000);
        // The day turns 12 h after the start, and here it would last 13 h.
        late.usage(second, 213);
        if second < 600 {
            young.usage(second, 1_000);
        }
        over.usage(second, if second == 0 { 1_000_000 } else { 1_000 });
    }
    for test in [&mut free, &mut young, &mut late, &mut over] {
        test.until(43_199);
        assert_eq!(test.findings(&FORECASTS), [""; 0]);
    }
    // A burst of a third of the budget is in the short window for less than the rule's `for`.
    let mut burst = RuleSimulation::new(budgeted(), "rules: []");
    for second in (0..=3_600).step_by(10) {
        burst.usage(second, if second == 1_800 { 333_000 } else { 0 });
    }
    let found = burst.findings(&FORECASTS);
    let [begins, raised @ .., ends] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((begins.as_str(), raised.len()), ("1800 DayTokenForecast a error", 1), "{found:?}");
    let ends: f64 =
        ends.strip_suffix(" DayTokenForecast a resolved").and_then(|second| second.parse().ok()).expect("resolved");
    assert!(ends < 1_800.0 + 420.0, "{ends}");
    let policies = burst.simulation.rules().policies();
    let forecast = policies.iter().find(|policy| &*policy.name == "DayTokenForecast").expect("a built-in rule");
    assert!(forecast.hold >= Duration::from_secs(420));
}

#[test]
fn a_forecast_is_shown_in_the_time_zone_of_the_budget() {
    let mut settings = budgeted();
    settings.budgets.time_zone = "Europe/Berlin".to_owned();
    let test = RuleSimulation::new(settings, "rules: []");
    let subject = Subject::Agent { project: "shop".into(), name: "a".into() };
    let zone = test.simulation.fleet().time_zone();
    let now = Time::parse("2026-11-21T11:05:30Z").expect("a time");
    let data = |value| TemplateData {
        value,
        threshold: Some(14_400.0),
        used: Some(120_000.0),
        budget: Some(200_000.0),
        ..TemplateData::new(&subject, Level::Warning, now, zone)
    };
    let summary = |value| test.simulation.rules().describe("DayTokenForecast", &data(value)).summary;
    assert_eq!(
        summary(Some(4_470.5)),
        "token budget for today runs out at 13:20, in 1h14m at the current rate, 120k of 200k tokens used"
    );
    assert!(summary(None).starts_with("token budget for today runs out at an unknown time, in some time"));
    assert_eq!(summary(Some(f64::MAX)).matches("unknown time").count(), 1, "no number makes it fail");
}

#[test]
fn a_spike_fires_against_the_agents_own_baseline_and_after_a_restart() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    for minute in 0..60 {
        test.usage(minute * 60, 4_000);
    }
    // 4,000 a minute are its norm; each of these minutes adds more than 17 of it to five.
    test.usage(3_600, 70_000).usage(3_660, 70_000).usage(3_720, 70_000);
    assert_eq!(test.findings(&["TokenVelocity"]), ["3660 TokenVelocity a warning", "3720 TokenVelocity a error"]);
    test.until(5_000);
    // A minute's silence has no effect; then each minute leaves the window bit by bit. Ten norms are 200,000 tokens,
    // of 210,000 left at 3,960 a seventh of the oldest minute; three are 60,000, the same of the last one.
    assert_eq!(
        test.findings(&["TokenVelocity"]),
        ["3968.572 TokenVelocity a warning", "4088.572 TokenVelocity a resolved"]
    );

    let mut other = RuleSimulation::new(settings(), "rules: []");
    for minute in 0..60 {
        other.usage(minute * 60, 4_000);
    }
    other.restart(3_595);
    let mut test = other;
    test.usage(3_600, 70_000).usage(3_660, 70_000).usage(3_720, 70_000);
    assert_eq!(test.findings(&["TokenVelocity"]), ["3660 TokenVelocity a warning", "3720 TokenVelocity a error"]);
}

#[test]
fn tokens_without_progress_are_a_loop_and_progress_resolves_it() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    let report = |input, percent| AgentUpdate { progress: Patch::Set(percent), ..total(input, 0.0) };
    test.push(0, report(0, 10.0)).push(10, report(299_999, 10.0)).push(20, report(300_000, 10.0));
    test.push(30, report(1_000_000, 10.0)).push(40, report(1_500_000, 11.0)).push(50, report(1_799_999, 11.0));
    let found = ["20 TaskLooping a warning", "30 TaskLooping a error", "40 TaskLooping a resolved"];
    assert_eq!(test.findings(&["TaskLooping"]), found, "tokens that led to progress do not count");
    // A phase or a task is progress too, and a count that went down is a reset.
    test.push(60, report(100, 11.0)).push(70, AgentUpdate { phase: Patch::Set("test".into()), ..total(200, 0.0) });
    test.push(80, total(300_199, 0.0)).push(90, AgentUpdate { task_id: Patch::Set("u".into()), ..total(300_200, 0.0) });
    test.push(100, total(600_200, 0.0)).push(110, a(Completed));
    let found = [
        "60 TaskLooping a warning",
        "70 TaskLooping a resolved",
        "100 TaskLooping a warning",
        "110 TaskLooping a resolved",
    ];
    assert_eq!(test.findings(&["TaskLooping"]), found);
    // Of one that never reports progress nothing is known; one phase alone is none.
    let mut silent = RuleSimulation::new(settings(), "rules: []");
    silent.push(0, AgentUpdate { phase: Patch::Set("work".into()), ..total(0, 0.0) }).push(10, total(5_000_000, 0.0));
    assert_eq!(silent.findings(&["TaskLooping"]), [""; 0]);
}

#[test]
fn usage_during_downtime_is_no_loop_and_usage_before_it_still_counts() {
    let report = |input| AgentUpdate { progress: Patch::Set(10.0), ..total(input, 0.0) };
    let mut before = RuleSimulation::new(settings(), "rules: []");
    before.push(0, report(0)).push(10, report(250_000));
    before.restart(3_000);
    let mut test = before;
    test.push(3_010, report(2_000_000)).push(3_020, report(2_049_999));
    assert_eq!(test.findings(&["TaskLooping"]), [""; 0]);
    test.push(3_030, report(2_050_000));
    assert_eq!(test.findings(&["TaskLooping"]), ["3030 TaskLooping a warning"]);
}

#[test]
fn a_repeated_error_fires_until_it_disappears() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    let fails = |reason: &'static str| AgentUpdate { reason: Patch::Set(reason.into()), ..a(Failed) };
    for (second, reason) in [(0, "429 from api"), (20, "529 from api"), (40, "429 from api")] {
        // Reported repeatedly it is one failure.
        test.push(second, fails(reason)).push(second + 5, fails(reason)).push(second + 10, a(Running));
    }
    assert_eq!(test.findings(&["ErrorRepeating"]), ["40 ErrorRepeating a warning"]);
    // The next task failed before anybody saw it at work.
    let next = |task: &'static str| AgentUpdate { task_id: Patch::Set(task.into()), ..fails("500 from api") };
    test.push(100, next("t")).push(110, next("u")).until(5_000);
    assert_eq!(test.findings(&["ErrorRepeating"]), ["110 ErrorRepeating a error", "3710 ErrorRepeating a resolved"]);
    for second in [6_000, 6_010, 6_020] {
        test.push(second, fails("no disk")).push(second + 5, a(Running));
    }
    test.push(6_100, a(Completed));
    for second in [6_200, 6_210] {
        test.push(second, fails("no disk")).push(second + 5, a(Running));
    }
    test.push(6_300, fails("no memory"));
    assert_eq!(test.findings(&["ErrorRepeating"]), ["6020 ErrorRepeating a warning", "6100 ErrorRepeating a resolved"]);
    // Without a reason it is not known to be the same.
    for second in (7_000..7_100).step_by(10) {
        test.push(second, a(Failed)).push(second + 5, a(Running));
    }
    assert_eq!(test.findings(&["ErrorRepeating"]), [""; 0]);
}

#[test]
fn spending_while_idle_fires_and_late_reports_do_not() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    let rule = ["IdleButSpending"];
    test.push(0, a(Running)).usage(10, 500_000).push(20, a(Idle)).usage(80, 500_000).usage(81, 9_999);
    assert_eq!(test.findings(&rule), [""; 0], "what comes within a minute was used before");
    test.usage(90, 1).push(95, a(WaitingReview)).usage(160, 90_000);
    assert_eq!(
        test.findings(&rule),
        ["90 IdleButSpending a warning", "160 IdleButSpending a error"],
        "waiting is no work"
    );
    test.push(170, a(Running)).usage(300, 500_000).push(310, a(Completed)).usage(380, 10_000);
    assert_eq!(test.findings(&rule), ["170 IdleButSpending a resolved", "380 IdleButSpending a warning"]);
    test.restart(400);
    test.push(405, a(Completed)).usage(410, 89_999).usage(420, 1);
    assert_eq!(test.findings(&rule), ["420 IdleButSpending a error"], "a restart neither loses nor doubles");
}

/// Thresholds that random spending crosses both ways, also such that no built-in rule has.
const TEXT: &str = r#"
rules:
  - {name: TokenVelocity, for_each: agent, signal: token_velocity_ratio, when: at_least, levels: {warning: 1, error: 3}, clear_below: 0.7}
  - {name: Calm, for_each: agent, signal: token_velocity_ratio, when: at_most, levels: {info: 1.5}}
  - {name: DayTokenForecast, for_each: agent, signal: day_budget_gone_in_seconds, when: at_most, levels: {warning: 2h, error: 30m}, clear_above: 3h}
  - {name: Lasts, for_each: agent, signal: day_cost_gone_in_seconds, when: at_least, levels: {info: 1h}}
  - {name: ErrorRepeating, for_each: agent, signal: same_error_count, when: at_least, levels: {info: 1, warning: 3}}
"#;

#[derive(Clone, Debug)]
enum SpendingStep {
    Wait(u16),
    Use(u32),
    Status(u8),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<SpendingStep>> {
    let step = prop_oneof![
        5 => (0..400u16).prop_map(SpendingStep::Wait),
        5 => (0..60_000u32).prop_map(SpendingStep::Use),
        2 => (0..4u8).prop_map(SpendingStep::Status),
        1 => Just(SpendingStep::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Forty minutes of work, with the day's end near.
fn seasoned() -> RuleSimulation {
    let mut settings = budgeted();
    settings.budgets.time_zone = "Etc/GMT-10".to_owned();
    let mut test = RuleSimulation::new(settings, TEXT);
    for minute in 0..40 {
        spend(&mut test, minute * 60, 6_000);
    }
    test
}

fn spend(test: &mut RuleSimulation, second: i64, input: u32) {
    let tokens = [Some(u64::from(input)), None, None, None, None];
    let cost_usd = Some(f64::from(input) / 100_000.0);
    let update = UsageUpdate { agent: Some("a".into()), tokens, cost_usd, ..UsageUpdate::default() };
    test.take(second, increments(vec![update]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn timers_find_decays_that_repeated_evaluation_finds(steps in steps()) {
        let (mut timed, mut watched) = (seasoned(), seasoned());
        let mut second = 2_400;
        for step in &steps {
            match step {
                SpendingStep::Wait(by) => {
                    for later in 0..=i64::from(*by) {
                        timed.until(second + later);
                        watched.until(second + later);
                        watched.evaluate_all();
                        prop_assert_eq!(&timed.notes.states, &watched.notes.states, "at second {} of {:?}", second + later, &timed.notes.log);
                    }
                    second += i64::from(*by);
                }
                SpendingStep::Use(input) => [&mut timed, &mut watched].into_iter().for_each(|test| spend(test, second, *input)),
                SpendingStep::Status(word) => {
                    let (status, reason) = [(Running, ""), (Idle, ""), (Failed, "error 1"), (Failed, "no disk")][usize::from(*word)];
                    for test in [&mut timed, &mut watched] {
                        test.push(second, AgentUpdate { reason: Patch::Set(reason.into()), ..a(status) });
                    }
                }
                SpendingStep::Restart => {
                    // A reload replaces the rules and keeps what an agent spent.
                    for test in [&mut timed, &mut watched] {
                        test.reload_same();
                    }
                }
            }
        }
        timed.until(second + 5_000);
        let served = timed.notes.served;
        timed.until(second + 30_000);
        prop_assert!(timed.notes.served <= served + 10, "nothing happens, and deadlines go on: {}", timed.notes.served - served);
    }
}
