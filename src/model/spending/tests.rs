//! Pace, norm, and what was spent for nothing, on plain times.

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

/// One that spent `tokens` every `every` seconds, up to and with `until`.
fn steady(every: i64, tokens: u64, until: i64) -> Spending {
    let mut spending = Spending::new(false);
    for seconds in (0..=until).step_by(every as usize) {
        spending.book(&usage(seconds, tokens));
    }
    spending
}

fn near(found: Option<f64>, expected: f64) {
    let found = found.expect("it is known");
    assert!((found - expected).abs() <= expected * 0.03, "{found} is not about {expected}");
}

#[test]
fn a_pace_is_known_after_ten_minutes_and_right() {
    assert_eq!(steady(10, 100, 590).pace(SpendKind::Tokens, at(590)), None);
    for minutes in [10, 20, 60, 600] {
        let spending = steady(10, 100, minutes * 60);
        near(spending.pace(SpendKind::Tokens, at(minutes * 60)), 10.0);
        near(spending.pace(SpendKind::Cost, at(minutes * 60)), 0.01);
    }
}

#[test]
fn totals_that_come_seldom_are_spread_over_the_time_between() {
    let mut spending = Spending::new(false);
    for step in 0..=12 {
        spending.book(&UsageReport { is_total: true, ..usage(step * 600, if step == 0 { 0 } else { 6_000 }) });
    }
    near(spending.pace(SpendKind::Tokens, at(7_200)), 10.0);
    // Without a report it is not known that spending goes on: the short window runs out.
    near(spending.pace(SpendKind::Tokens, at(7_410)), 5.0);
    assert_eq!(spending.pace(SpendKind::Tokens, at(7_560)), Some(0.0));
}

#[test]
fn one_burst_is_out_of_the_short_window_within_seven_minutes() {
    let mut spending = steady(10, 0, 3_600);
    spending.book(&usage(3_610, 1_000_000));
    assert!(spending.pace(SpendKind::Tokens, at(3_610)).expect("known") > 250.0);
    assert!(spending.pace(SpendKind::Tokens, at(4_019)).expect("known") > 0.0);
    assert_eq!(spending.pace(SpendKind::Tokens, at(4_020)), Some(0.0));
}

#[test]
fn velocity_is_against_the_norm_of_active_minutes() {
    // 2,000 tokens in every third minute: the idle minutes between are no norm.
    let mut spending = Spending::new(false);
    for minute in 0..96 {
        spending.book(&usage(minute * 60, if minute % 3 == 0 { 2_000 } else { 0 }));
    }
    assert_eq!(spending.velocity(at(95 * 60)), Velocity::Slow, "few tokens are never too fast");
    for minute in 96..101 {
        spending.book(&usage(minute * 60, 20_000));
    }
    // Five minutes at ten times the norm; the oldest piece but for its part that is gone.
    assert_eq!(spending.velocity(at(101 * 60 - 1)), Velocity::Ratio(10.0));
    let mut young = steady(60, 2_000, 60 * 33);
    young.book(&usage(60 * 34, 200_000));
    assert_eq!(young.velocity(at(60 * 34)), Velocity::Unknown, "thirty active minutes make a norm");
}

#[test]
fn a_runaway_does_not_become_the_norm_at_once() {
    let mut spending = steady(60, 2_000, 60 * 200);
    for minute in 201..231 {
        spending.book(&usage(minute * 60, 40_000));
    }
    let Velocity::Ratio(ratio) = spending.velocity(at(230 * 60 + 59)) else { panic!("it is fast") };
    assert!((10.0..20.0).contains(&ratio), "{ratio}");
}

#[test]
fn downtime_is_neither_spending_nor_progress() {
    let mut spending = steady(10, 100, 3_600);
    spending.moved(true);
    let total =
        |seconds, started, tokens| UsageReport { is_total: true, started_at: at(started), ..usage(seconds, tokens) };
    let mut short = spending.clone();
    short.book(&total(3_620, 3_615, 1_000_000));
    near(short.pace(SpendKind::Tokens, at(3_620)), 9.5);
    assert_eq!(short.since_progress(), Some(0), "nor does a total count that covers downtime");
    short.book(&total(3_630, 3_615, 100));
    assert_eq!(short.since_progress(), Some(100));
    spending.book(&total(10_000, 9_990, 1_000_000));
    assert_eq!(spending.pace(SpendKind::Tokens, at(10_000)), None, "a hole is seen again from its end on");
    // What is increments came in now, whenever it was used.
    let mut increments = steady(10, 100, 3_600);
    increments.moved(true);
    increments.book(&UsageReport { started_at: at(9_990), ..usage(10_000, 70) });
    assert_eq!(increments.since_progress(), Some(70));
}

#[test]
fn an_error_is_the_same_but_for_its_numbers() {
    let mut spending = Spending::new(false);
    assert_eq!(spending.same_errors(at(0)), None);
    spending.failed(at(0), "timeout after 31 s (req_011CS)", true);
    spending.failed(at(10), "timeout after 7 s (req_9x)", true);
    assert_eq!(spending.same_errors(at(10)), Some(2));
    spending.failed(at(15), "timeout after 8 s (req_8x)", false);
    assert_eq!(spending.same_errors(at(15)), Some(2), "it still says the same");
    spending.failed(at(20), "no such model", true);
    assert_eq!(spending.same_errors(at(20)), Some(1), "another error begins anew");
    spending.failed(at(3_619), "no such model", true);
    assert_eq!((spending.same_errors(at(7_218)), spending.same_errors(at(7_219))), (Some(2), None));
    spending.failed(at(7_300), "no such model", true);
    assert_eq!(spending.same_errors(at(7_300)), Some(1));
    spending.succeeded();
    assert_eq!(spending.same_errors(at(7_301)), None);
}

#[test]
fn it_stays_small() {
    assert!(size_of::<Spending>() <= 160, "{}", size_of::<Spending>());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_it_fades_stays_finite_and_reads_back_the_same(
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
            spending.book(&UsageReport { now: at(now), started_at: at(started), is_total, tokens, cost, idle_since: None });
            // Nothing more comes: the pace falls, is never negative, and what is unknown stays so.
            for what in [SpendKind::Tokens, SpendKind::Cost] {
                let mut last = spending.pace(what, at(now));
                for later in [0, 1, 30, 59, 60, 61, 100, 299, 300, 330, 360, 4_000, 90_000] {
                    let pace = spending.pace(what, at(now + later));
                    prop_assert_eq!(pace.is_some(), last.is_some());
                    prop_assert!(pace.is_none_or(|pace| pace.is_finite() && pace >= 0.0), "{:?}", pace);
                    prop_assert!(pace <= last.map(|last| last * (1.0 + 1e-9)), "{:?} after {:?}", pace, last);
                    last = pace;
                }
                prop_assert!(last.is_none_or(|pace| pace == 0.0), "a day later nothing is left");
            }
        }
    }

    #[test]
    fn totals_and_increments_of_one_history_are_one_pace(steps in proptest::collection::vec(0..5_000u64, 100..200)) {
        let mut totals = Spending::new(true);
        let mut increments = Spending::new(true);
        for (place, step) in steps.iter().enumerate() {
            let report = usage(place as i64 * 20, *step);
            increments.book(&report);
            totals.book(&UsageReport { is_total: true, ..report });
        }
        prop_assert_eq!(&totals, &increments);
        prop_assert_eq!(totals.since_progress(), Some(steps.iter().sum()));
    }
}
