//! Rate, baseline, velocity and repeated errors.

use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Time {
    Time::from_millis((20_000 * 86_400 + 43_200 + seconds) * 1000)
}

fn usage(seconds: i64, tokens: u64) -> UsageReport {
    UsageReport {
        now: at(seconds),
        started_at: at(0),
        is_total: false,
        tokens,
        cost: tokens as f64 / 1000.0,
        idle_since: None,
    }
}

/// Usage of `tokens` every `every` seconds, through `until`.
fn steady(every: i64, tokens: u64, until: i64) -> Spending {
    let mut spending = Spending::new(false);
    for seconds in (0..=until).step_by(every as usize) {
        spending.record(&usage(seconds, tokens));
    }
    spending
}

fn near(found: Option<f64>, expected: f64) {
    let found = found.expect("it is known");
    assert!((found - expected).abs() <= expected * 0.03, "{found} is not about {expected}");
}

#[test]
fn a_rate_is_known_after_ten_minutes() {
    assert_eq!(steady(10, 100, 590).rate(SpendKind::Tokens, at(590)), None);
    for minutes in [10, 20, 60, 600] {
        let spending = steady(10, 100, minutes * 60);
        near(spending.rate(SpendKind::Tokens, at(minutes * 60)), 10.0);
        near(spending.rate(SpendKind::Cost, at(minutes * 60)), 0.01);
    }
}

#[test]
fn increases_of_rare_totals_are_spread_over_the_time_between() {
    let mut spending = Spending::new(false);
    for step in 0..=12 {
        spending.record(&UsageReport { is_total: true, ..usage(step * 600, if step == 0 { 0 } else { 6_000 }) });
    }
    near(spending.rate(SpendKind::Tokens, at(7_200)), 10.0);
    // Without another report the short window runs out.
    near(spending.rate(SpendKind::Tokens, at(7_410)), 5.0);
    assert_eq!(spending.rate(SpendKind::Tokens, at(7_560)), Some(0.0));
}

#[test]
fn a_burst_leaves_the_short_window_within_seven_minutes() {
    let mut spending = steady(10, 0, 3_600);
    spending.record(&usage(3_610, 1_000_000));
    assert!(spending.rate(SpendKind::Tokens, at(3_610)).expect("known") > 250.0);
    assert!(spending.rate(SpendKind::Tokens, at(4_019)).expect("known") > 0.0);
    assert_eq!(spending.rate(SpendKind::Tokens, at(4_020)), Some(0.0));
}

#[test]
fn velocity_compares_with_active_minutes_only() {
    // 2,000 tokens in every third minute: the idle minutes between do not lower the baseline.
    let mut spending = Spending::new(false);
    for minute in 0..96 {
        spending.record(&usage(minute * 60, if minute % 3 == 0 { 2_000 } else { 0 }));
    }
    assert_eq!(spending.velocity(at(95 * 60)), Velocity::BelowMinimum, "few tokens are never too fast");
    for minute in 96..101 {
        spending.record(&usage(minute * 60, 20_000));
    }
    // Five minutes at ten times the baseline.
    assert_eq!(spending.velocity(at(101 * 60 - 1)), Velocity::Ratio(10.0));
    let mut young = steady(60, 2_000, 60 * 33);
    young.record(&usage(60 * 34, 200_000));
    assert_eq!(young.velocity(at(60 * 34)), Velocity::Unknown, "a baseline needs thirty active minutes");
}

#[test]
fn a_runaway_agent_does_not_raise_its_baseline_quickly() {
    let mut spending = steady(60, 2_000, 60 * 200);
    for minute in 201..231 {
        spending.record(&usage(minute * 60, 40_000));
    }
    let Velocity::Ratio(ratio) = spending.velocity(at(230 * 60 + 59)) else { panic!("it is fast") };
    assert!((10.0..20.0).contains(&ratio), "{ratio}");
}

#[test]
fn downtime_is_neither_spending_nor_progress() {
    let mut spending = steady(10, 100, 3_600);
    spending.record_progress(true);
    let total =
        |seconds, started, tokens| UsageReport { is_total: true, started_at: at(started), ..usage(seconds, tokens) };
    let mut short = spending.clone();
    short.record(&total(3_620, 3_615, 1_000_000));
    near(short.rate(SpendKind::Tokens, at(3_620)), 9.5);
    assert_eq!(short.since_progress(), Some(0), "nor is the increase of a total that includes downtime");
    short.record(&total(3_630, 3_615, 100));
    assert_eq!(short.since_progress(), Some(100));
    spending.record(&total(10_000, 9_990, 1_000_000));
    assert_eq!(spending.rate(SpendKind::Tokens, at(10_000)), None, "after a gap, observation starts over");
    // Increments count when they are reported.
    let mut increments = steady(10, 100, 3_600);
    increments.record_progress(true);
    increments.record(&UsageReport { started_at: at(9_990), ..usage(10_000, 70) });
    assert_eq!(increments.since_progress(), Some(70));
}

#[test]
fn errors_that_differ_in_numbers_are_the_same() {
    let mut spending = Spending::new(false);
    assert_eq!(spending.same_errors(at(0)), None);
    spending.record_failure(at(0), "timeout after 31 s (req_011CS)", true);
    spending.record_failure(at(10), "timeout after 7 s (req_9x)", true);
    assert_eq!(spending.same_errors(at(10)), Some(2));
    spending.record_failure(at(15), "timeout after 8 s (req_8x)", false);
    assert_eq!(spending.same_errors(at(15)), Some(2), "the same failure, reported again");
    spending.record_failure(at(20), "no such model", true);
    assert_eq!(spending.same_errors(at(20)), Some(1), "another error starts over");
    spending.record_failure(at(3_619), "no such model", true);
    assert_eq!((spending.same_errors(at(7_218)), spending.same_errors(at(7_219))), (Some(2), None));
    spending.record_failure(at(7_300), "no such model", true);
    assert_eq!(spending.same_errors(at(7_300)), Some(1));
    spending.record_success();
    assert_eq!(spending.same_errors(at(7_301)), None);
}

#[test]
fn statistics_stay_within_160_bytes() {
    assert!(size_of::<Spending>() <= 160, "{}", size_of::<Spending>());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rates_are_finite_fall_over_time_and_survive_saving(
        reports in proptest::collection::vec((-100i64..2_000, any::<u64>(), 0.0f64..=f64::MAX, any::<bool>(), 0..20u8), 1..60),
    ) {
        let mut spending = Spending::new(true);
        let (mut now, mut started) = (0, 0);
        for (wait, tokens, cost, is_total, more) in reports {
            now += wait;
            let tokens = if more < 18 { tokens % 10_000 } else { tokens };
            let cost = if more < 18 { cost % 1.0 } else { cost };
            if more == 0 {
                started = now;
            }
            let text = serde_json::to_string(&spending).expect("it can be written");
            let again: Spending = serde_json::from_str(&text).expect("it can be read");
            prop_assert_eq!(serde_json::to_string(&again).expect("it can be written"), text);
            spending.record(&UsageReport { now: at(now), started_at: at(started), is_total, tokens, cost, idle_since: None });
            // Without another report the rate falls, is never negative, and stays known or unknown.
            for kind in [SpendKind::Tokens, SpendKind::Cost] {
                let mut last = spending.rate(kind, at(now));
                for later in [0, 1, 30, 59, 60, 61, 100, 299, 300, 330, 360, 4_000, 90_000] {
                    let rate = spending.rate(kind, at(now + later));
                    prop_assert_eq!(rate.is_some(), last.is_some());
                    prop_assert!(rate.is_none_or(|rate| rate.is_finite() && rate >= 0.0), "{:?}", rate);
                    prop_assert!(rate <= last.map(|last| last * (1.0 + 1e-9)), "{:?} after {:?}", rate, last);
                    last = rate;
                }
                prop_assert!(last.is_none_or(|rate| rate == 0.0), "a day later nothing is left");
            }
        }
    }

    #[test]
    fn totals_and_increments_give_the_same_rate(steps in proptest::collection::vec(0..5_000u64, 100..200)) {
        let mut totals = Spending::new(true);
        let mut increments = Spending::new(true);
        for (place, step) in steps.iter().enumerate() {
            let report = usage(place as i64 * 20, *step);
            increments.record(&report);
            totals.record(&UsageReport { is_total: true, ..report });
        }
        prop_assert_eq!(&totals, &increments);
        prop_assert_eq!(totals.since_progress(), Some(steps.iter().sum()));
    }
}
