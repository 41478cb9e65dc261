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
fn an_even_pace_is_foretold_by_totals_and_by_increments_alike() {
    let mut increments = World::new(budgeted(), "rules: []");
    let mut totals = World::new(budgeted(), "rules: []");
    // 100 tokens a second: 240,000 s worth of budget would be 2.8 h, gone before the day turns in 12 h.
    totals.push(0, total(0, 0.0));
    increments.usage(0, 0);
    for second in (10..=9_000).step_by(10) {
        totals.push(second, total(second as u64 * 100, 0.0));
        increments.usage(second, 1_000);
    }
    let expected = ["600 DayTokenForecast a warning", "6400 DayTokenForecast a error"];
    assert_eq!(increments.told(&FORECASTS), expected);
    assert_eq!(totals.told(&FORECASTS), expected, "money is not spent, so none is foretold to go");
    // It rests with 100,000 tokens left. A minute later the short window runs out: with 8,333 of 30,000 in it
    // there is an hour left, with 1,666 there are five.
    totals.until(20_000);
    assert_eq!(totals.told(&FORECASTS), ["9286.667 DayTokenForecast a warning", "9353.334 DayTokenForecast a over"]);
}

#[test]
fn money_is_foretold_like_tokens_and_ends_with_the_day() {
    let mut world = World::new(budgeted(), "rules: []");
    // Ten dollars in four hours and ten minutes: from 600 s on within four hours.
    for second in (0..=43_260).step_by(60) {
        world.push(second, total(0, second as f64 / 1_500.0));
    }
    assert_eq!(
        world.told(&FORECASTS),
        [
            "600 DayCostForecast a warning",
            "11400 DayCostForecast a error",
            "15000 DayCostForecast a no data",
            "43200 DayCostForecast a new day"
        ],
        "a budget that is gone can't be foretold to go, and its alert stays until the day turns"
    );
}

#[test]
fn no_forecast_without_a_budget_without_data_for_a_burst_or_beyond_the_day() {
    let mut free = World::new(settings(), "rules: []");
    let mut young = World::new(budgeted(), "rules: []");
    let mut late = World::new(budgeted(), "rules: []");
    let mut over = World::new(budgeted(), "rules: []");
    for second in (0..=3_600).step_by(10) {
        free.usage(second, 5_000);
        // The day turns 12 h after the start, and here it would last 13 h.
        late.usage(second, 213);
        if second < 600 {
            young.usage(second, 1_000);
        }
        over.usage(second, if second == 0 { 1_000_000 } else { 1_000 });
    }
    for world in [&mut free, &mut young, &mut late, &mut over] {
        world.until(43_199);
        assert_eq!(world.told(&FORECASTS), [""; 0]);
    }
    // A burst of a third of the budget is in the short window for less than the rule's `for`.
    let mut burst = World::new(budgeted(), "rules: []");
    for second in (0..=3_600).step_by(10) {
        burst.usage(second, if second == 1_800 { 333_000 } else { 0 });
    }
    let told = burst.told(&FORECASTS);
    let [begins, raised @ .., ends] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((begins.as_str(), raised.len()), ("1800 DayTokenForecast a error", 1), "{told:?}");
    let ends: f64 = ends.strip_suffix(" DayTokenForecast a over").and_then(|second| second.parse().ok()).expect("over");
    assert!(ends < 1_800.0 + 420.0, "{ends}");
    let policies = burst.simulation.rules().policies();
    let forecast = policies.iter().find(|policy| &*policy.name == "DayTokenForecast").expect("a built-in rule");
    assert!(forecast.hold >= Duration::from_secs(420));
}

#[test]
fn a_forecast_is_told_by_the_clock_of_the_budgets_zone() {
    let mut settings = budgeted();
    settings.budgets.time_zone = "Europe/Berlin".to_owned();
    let world = World::new(settings, "rules: []");
    let subject = Subject::Agent { project: "shop".into(), name: "a".into() };
    let zone = world.simulation.fleet().time_zone();
    let now = Time::parse("2026-11-21T11:05:30Z").expect("a time");
    let facts = |value| TemplateData {
        subject: &subject,
        level: Level::Warning,
        value,
        threshold: Some(14_400.0),
        reason: None,
        agents: &[],
        until: None,
        provider: None,
        at: now,
        zone,
    };
    let told = |value| world.simulation.rules().describe("DayTokenForecast", &facts(value)).0;
    assert_eq!(told(Some(4_470.5)), "at this rate a has used up its tokens for today at 13:20, in 1h14m");
    assert_eq!(told(None), "at this rate a has used up its tokens for today at an unknown time, in some time");
    assert_eq!(told(Some(f64::MAX)).matches("unknown time").count(), 1, "no number makes it fail");
}

#[test]
fn a_runaway_is_found_against_its_own_norm_and_after_a_restart() {
    let mut world = World::new(settings(), "rules: []");
    for minute in 0..60 {
        world.usage(minute * 60, 4_000);
    }
    // 4,000 a minute are its norm; each of these minutes adds more than 17 of it to five.
    world.usage(3_600, 70_000).usage(3_660, 70_000).usage(3_720, 70_000);
    assert_eq!(world.told(&["TokenVelocity"]), ["3660 TokenVelocity a warning", "3720 TokenVelocity a error"]);
    world.until(5_000);
    // A minute's silence is no news; then each minute leaves the window bit by bit. Ten norms are 200,000 tokens,
    // of 210,000 left at 3,960 a seventh of the oldest minute; three are 60,000, the same of the last one.
    assert_eq!(world.told(&["TokenVelocity"]), ["3968.572 TokenVelocity a warning", "4088.572 TokenVelocity a over"]);

    let mut other = World::new(settings(), "rules: []");
    for minute in 0..60 {
        other.usage(minute * 60, 4_000);
    }
    other.restart(3_595);
    let mut world = other;
    world.usage(3_600, 70_000).usage(3_660, 70_000).usage(3_720, 70_000);
    assert_eq!(world.told(&["TokenVelocity"]), ["3660 TokenVelocity a warning", "3720 TokenVelocity a error"]);
}

#[test]
fn tokens_without_progress_are_a_loop_and_progress_ends_it() {
    let mut world = World::new(settings(), "rules: []");
    let said = |input, percent| AgentUpdate { progress: Patch::Set(percent), ..total(input, 0.0) };
    world.push(0, said(0, 10.0)).push(10, said(299_999, 10.0)).push(20, said(300_000, 10.0));
    world.push(30, said(1_000_000, 10.0)).push(40, said(1_500_000, 11.0)).push(50, said(1_799_999, 11.0));
    let told = ["20 TaskLooping a warning", "30 TaskLooping a error", "40 TaskLooping a over"];
    assert_eq!(world.told(&["TaskLooping"]), told, "what led to progress was not in vain");
    // A phase or a task is progress too, and a count that went down began anew.
    world.push(60, said(100, 11.0)).push(70, AgentUpdate { phase: Patch::Set("test".into()), ..total(200, 0.0) });
    world
        .push(80, total(300_199, 0.0))
        .push(90, AgentUpdate { task_id: Patch::Set("u".into()), ..total(300_200, 0.0) });
    world.push(100, total(600_200, 0.0)).push(110, a(Completed));
    let told =
        ["60 TaskLooping a warning", "70 TaskLooping a over", "100 TaskLooping a warning", "110 TaskLooping a over"];
    assert_eq!(world.told(&["TaskLooping"]), told);
    // Of one that never reports progress nothing is known; one phase alone is none.
    let mut silent = World::new(settings(), "rules: []");
    silent.push(0, AgentUpdate { phase: Patch::Set("work".into()), ..total(0, 0.0) }).push(10, total(5_000_000, 0.0));
    assert_eq!(silent.told(&["TaskLooping"]), [""; 0]);
}

#[test]
fn what_was_used_while_we_were_down_is_no_loop_and_what_was_before_still_counts() {
    let said = |input| AgentUpdate { progress: Patch::Set(10.0), ..total(input, 0.0) };
    let mut before = World::new(settings(), "rules: []");
    before.push(0, said(0)).push(10, said(250_000));
    before.restart(3_000);
    let mut world = before;
    world.push(3_010, said(2_000_000)).push(3_020, said(2_049_999));
    assert_eq!(world.told(&["TaskLooping"]), [""; 0]);
    world.push(3_030, said(2_050_000));
    assert_eq!(world.told(&["TaskLooping"]), ["3030 TaskLooping a warning"]);
}

#[test]
fn the_same_error_again_and_again_is_found_until_it_goes_away() {
    let mut world = World::new(settings(), "rules: []");
    let fails = |reason: &'static str| AgentUpdate { reason: Patch::Set(reason.into()), ..a(Failed) };
    for (second, reason) in [(0, "429 from api"), (20, "529 from api"), (40, "429 from api")] {
        // Said again and again it is one failure.
        world.push(second, fails(reason)).push(second + 5, fails(reason)).push(second + 10, a(Running));
    }
    assert_eq!(world.told(&["ErrorRepeating"]), ["40 ErrorRepeating a warning"]);
    // The next task failed before anybody saw it at work.
    let next = |task: &'static str| AgentUpdate { task_id: Patch::Set(task.into()), ..fails("500 from api") };
    world.push(100, next("t")).push(110, next("u")).until(5_000);
    assert_eq!(world.told(&["ErrorRepeating"]), ["110 ErrorRepeating a error", "3710 ErrorRepeating a over"]);
    for second in [6_000, 6_010, 6_020] {
        world.push(second, fails("no disk")).push(second + 5, a(Running));
    }
    world.push(6_100, a(Completed));
    for second in [6_200, 6_210] {
        world.push(second, fails("no disk")).push(second + 5, a(Running));
    }
    world.push(6_300, fails("no memory"));
    assert_eq!(world.told(&["ErrorRepeating"]), ["6020 ErrorRepeating a warning", "6100 ErrorRepeating a over"]);
    // Without a reason it is not known to be the same.
    for second in (7_000..7_100).step_by(10) {
        world.push(second, a(Failed)).push(second + 5, a(Running));
    }
    assert_eq!(world.told(&["ErrorRepeating"]), [""; 0]);
}

#[test]
fn idle_and_spending_is_found_and_late_reports_are_not() {
    let mut world = World::new(settings(), "rules: []");
    let rule = ["IdleButSpending"];
    world.push(0, a(Running)).usage(10, 500_000).push(20, a(Idle)).usage(80, 500_000).usage(81, 9_999);
    assert_eq!(world.told(&rule), [""; 0], "what comes within a minute was used before");
    world.usage(90, 1).push(95, a(WaitingReview)).usage(160, 90_000);
    assert_eq!(
        world.told(&rule),
        ["90 IdleButSpending a warning", "160 IdleButSpending a error"],
        "waiting is no work"
    );
    world.push(170, a(Running)).usage(300, 500_000).push(310, a(Completed)).usage(380, 10_000);
    assert_eq!(world.told(&rule), ["170 IdleButSpending a over", "380 IdleButSpending a warning"]);
    world.restart(400);
    world.push(405, a(Completed)).usage(410, 89_999).usage(420, 1);
    assert_eq!(world.told(&rule), ["420 IdleButSpending a error"], "a restart neither loses nor doubles");
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
enum Step {
    Wait(u16),
    Use(u32),
    Say(u8),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..400u16).prop_map(Step::Wait),
        5 => (0..60_000u32).prop_map(Step::Use),
        2 => (0..4u8).prop_map(Step::Say),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Forty minutes of work, with the day's end near.
fn seasoned() -> World {
    let mut settings = budgeted();
    settings.budgets.time_zone = "Etc/GMT-10".to_owned();
    let mut world = World::new(settings, TEXT);
    for minute in 0..40 {
        spend(&mut world, minute * 60, 6_000);
    }
    world
}

fn spend(world: &mut World, second: i64, input: u32) {
    let tokens = [Some(u64::from(input)), None, None, None, None];
    let cost_usd = Some(f64::from(input) / 100_000.0);
    let update = UsageUpdate { agent: Some("a".into()), tokens, cost_usd, ..UsageUpdate::default() };
    world.take(second, increments(vec![update]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_fades_is_found_by_timers_as_by_looking_again_and_again(steps in steps()) {
        let (mut timed, mut watched) = (seasoned(), seasoned());
        let mut second = 2_400;
        for step in &steps {
            match step {
                Step::Wait(by) => {
                    for later in 0..=i64::from(*by) {
                        timed.until(second + later);
                        watched.until(second + later);
                        watched.judge_all();
                        prop_assert_eq!(&timed.notes.standing, &watched.notes.standing, "at second {} of {:?}", second + later, &timed.notes.log);
                    }
                    second += i64::from(*by);
                }
                Step::Use(input) => [&mut timed, &mut watched].into_iter().for_each(|world| spend(world, second, *input)),
                Step::Say(word) => {
                    let (status, reason) = [(Running, ""), (Idle, ""), (Failed, "error 1"), (Failed, "no disk")][usize::from(*word)];
                    for world in [&mut timed, &mut watched] {
                        world.push(second, AgentUpdate { reason: Patch::Set(reason.into()), ..a(status) });
                    }
                }
                Step::Restart => {
                    // A reload makes the rules anew; what an agent spent is not theirs to forget.
                    for world in [&mut timed, &mut watched] {
                        world.learn();
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
