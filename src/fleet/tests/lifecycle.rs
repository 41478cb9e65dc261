//! How agents appear, go stale, expire and are removed; expected agents; and the day of the budgets.

use super::*;
use crate::model::AgentStatus::{Completed, Failed, Idle, Paused, Running};
use crate::model::update::Ordinal;
use crate::model::{Health, RejectReason, Removal, UsageOwner};

fn batch(complete: bool, names: &[&'static str]) -> Batch<'static> {
    Batch {
        project: "shop".into(),
        complete,
        agents: names.iter().map(|name| named(name)).collect(),
        ..Batch::default()
    }
}

fn names(watch: &TestFleet) -> Vec<String> {
    let mut names: Vec<String> = watch.fleet.state().agents.iter().map(|agent| agent.name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn a_complete_batch_removes_only_missing_agents_of_its_source() {
    let mut watch = TestFleet::new(settings());
    watch.push_batch(0, batch(false, &["a", "b"]));
    watch.push_batch(0, Batch { project: "other".into(), ..batch(false, &["x"]) });
    watch.poll(1, Some(&["p", "q"]));
    watch.usage(2, UsageUpdate { agent: Some("u".into()), ..used(1) });
    watch.push_batch(3, batch(true, &["b", "c"]));
    assert_eq!(names(&watch), ["b", "c", "p", "q", "u", "x"]);
    let gone: Vec<_> =
        watch.fleet.changes().removed_agents.iter().map(|it| (it.name.to_string(), it.removal)).collect();
    assert_eq!(gone, [("a".to_owned(), Removal::Absent)]);
    watch.poll(4, Some(&["q"]));
    assert_eq!(names(&watch), ["b", "c", "q", "u", "x"], "an agent missing from a poll is removed");
    watch.poll(5, None);
    assert_eq!(names(&watch), ["b", "c", "q", "u", "x"], "a failed poll removes no agent");
    watch.poll(6, Some(&["b", "q"]));
    watch.push_batch(7, batch(true, &["c"]));
    assert_eq!(names(&watch), ["b", "c", "q", "u", "x"], "its source is the last to report it");
}

#[test]
fn an_agent_is_stale_after_its_ttl_and_expires_later() {
    let mut watch = TestFleet::new(settings());
    watch.push_batch(0, Batch { ttl: Some(Duration::from_secs(600)), ..batch(false, &["slow"]) });
    watch.push(0, AgentUpdate { task_id: Patch::Set("t".into()), ..a(Running) });
    watch.poll(0, Some(&["p"]));
    watch.usage(0, UsageUpdate { agent: Some("u".into()), ..used(1) });
    watch.until(59);
    assert!(!watch.agent("a").stale);
    assert_eq!(watch.until(60), [60]);
    assert!(watch.agent("a").stale && !watch.agent("a").is_up() && watch.agent("a").is_down());
    assert!(!watch.agent("p").stale, "three polls at 30 s may be missed");
    assert_eq!(watch.until(90), [90]);
    assert!(watch.agent("p").stale && !watch.agent("p").is_down(), "stale without an open task is not down");
    assert_eq!(watch.agent("a").status, Some(Running), "its status is kept");
    assert_eq!(watch.until(599), [0; 0]);
    watch.until(3_599);
    assert!(watch.agent("slow").stale && !watch.agent("u").stale, "increments have no ttl");
    assert_eq!(watch.fleet.state().agents.len(), 4);
    watch.until(3_600);
    assert_eq!(watch.fleet.state().agents.len(), 0);
}

#[test]
fn an_agent_with_a_long_ttl_is_stale_before_it_expires() {
    let month = Duration::from_secs(30 * 86_400);
    for (max_ttl, ttl, stale_at) in [(3_600, month, 3_600), (600, month, 600), (600, Duration::from_secs(90), 90)] {
        let mut config = settings();
        config.agents.max_ttl = Duration::from_secs(max_ttl);
        let mut watch = TestFleet::new(config);
        let batch = Batch { project: "shop".into(), agents: vec![named("a")], ttl: Some(ttl), ..Batch::default() };
        watch.push_batch(0, batch);
        watch.until(stale_at - 1);
        assert!(!watch.agent("a").stale, "{max_ttl} {ttl:?}");
        watch.until(stale_at);
        assert!(watch.agent("a").stale, "stale before it expires: {max_ttl} {ttl:?}");
        watch.until(3_600 + 60);
        assert!(!watch.has("a"), "and expires after that");
    }
}

#[test]
fn an_agent_that_reports_in_time_is_never_stale() {
    let mut watch = TestFleet::new(settings());
    for seconds in (0..7_200).step_by(59) {
        watch.push(seconds, named("a"));
        watch.usage(seconds, UsageUpdate { agent: Some("u".into()), ..used(1) });
        assert!(!watch.agent("a").stale && watch.has("u"));
    }
    watch.until(7_198 + 60);
    assert!(watch.agent("a").stale);
    assert!(!watch.push(7_300, named("a")).stale);
}

#[test]
fn components_expire() {
    let mut watch = TestFleet::new(settings());
    let component = |status| ComponentUpdate {
        name: "db".into(),
        index: 0,
        status,
        details: None,
        metrics: vec![],
        custom: vec![],
    };
    let report = |status| Batch { components: vec![component(status)], ..batch(false, &[]) };
    watch.push_batch(0, report(ComponentStatus::Ok));
    watch.push_batch(100, report(ComponentStatus::Error));
    assert_eq!((watch.project().components, watch.project().health()), ([0, 0, 0, 1], Health::Error));
    watch.until(3_699);
    assert_eq!(watch.fleet.state().components.len(), 1);
    watch.until(3_700);
    assert_eq!((watch.fleet.state().components.len(), watch.project().components), (0, [0; 4]));
    assert_eq!(watch.project().health(), Health::Ok);
}

#[test]
fn downtime_does_not_make_agents_stale() {
    let mut before = TestFleet::new(settings());
    before.push(0, AgentUpdate { task_id: Patch::Set("t".into()), ..a(Running) });
    let saved = serde_json::to_string(before.agent("a")).unwrap();
    let started = at(50_000);
    let mut fleet = Fleet::new(started, settings());
    fleet.restore(started, vec![], vec![serde_json::from_str(&saved).unwrap()], vec![], []);
    let mut watch = TestFleet { fleet };
    watch.until(50_059);
    assert!(!watch.agent("a").stale);
    assert_eq!(watch.agent("a").last_seen, at(0), "the time of its last report is kept");
    watch.until(50_060);
    assert!(watch.agent("a").stale);
    watch.until(53_599);
    assert!(watch.has("a"));
    watch.until(53_600);
    assert!(!watch.has("a"));
}

#[test]
fn expected_agents_are_missing_from_the_time_of_removal() {
    let expected =
        vec![ExpectedConfig { project: "shop".into(), agents: vec!["a".into(), "b".into()], count: Some(2) }];
    let mut watch = TestFleet::new(FleetSettings { expected, ..settings() });
    let missing = |watch: &TestFleet| -> Vec<(String, Time)> {
        watch.project().missing.iter().map(|(name, since)| (name.to_string(), *since)).collect()
    };
    assert_eq!(missing(&watch), [("a".to_owned(), at(0)), ("b".to_owned(), at(0))]);
    assert_eq!(watch.project().too_small_since, Some(at(0)));
    watch.push_batch(10, batch(true, &["a", "x"]));
    assert_eq!(missing(&watch), [("b".to_owned(), at(0))]);
    assert_eq!(watch.project().too_small_since, None, "any two are up");
    watch.push_batch(20, batch(true, &["b"]));
    assert_eq!(missing(&watch), [("a".to_owned(), at(20))]);
    assert_eq!(watch.project().too_small_since, Some(at(20)));
    watch.push(30, a(Failed));
    assert_eq!((missing(&watch), watch.project().too_small_since), (vec![], Some(at(20))), "known, but not up");
    watch.push(40, a(Idle));
    assert_eq!(watch.project().too_small_since, None);
}

#[test]
fn health_is_critical_if_all_expected_agents_are_down() {
    let mut watch = TestFleet::new(settings());
    assert_eq!(watch.push(0, a(Failed)).status, Some(Failed));
    assert_eq!(watch.project().health(), Health::Critical);
    watch.push_batch(1, batch(false, &["b"]));
    assert_eq!(watch.project().health(), Health::Ok, "one agent is up");
    watch.push(2, a(Completed));
    watch
        .push_batch(3, Batch { agents: vec![AgentUpdate { status: Some(Paused), ..named("b") }], ..batch(false, &[]) });
    assert_eq!((watch.project().expected, watch.project().health()), (0, Health::Ok), "no agent should be up");
}

#[test]
fn the_day_ends_at_midnight_in_its_time_zone() {
    // In Berlin, 2026-03-29 has 23 hours and 2026-10-25 has 25.
    for (day, hours) in [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 11, 21), 24)] {
        let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
        let midnight = Time::from_millis(day.to_zoned_datetime(zone).unwrap().timestamp().as_millisecond());
        let budgets = BudgetsConfig { time_zone: "Europe/Berlin".into(), ..BudgetsConfig::default() };
        let mut fleet = Fleet::new(midnight, FleetSettings { budgets, ..settings() });
        let end = midnight.plus(Duration::from_secs(hours * 3600));
        assert_eq!(fleet.next_deadline(), Some(end));
        let increment = UsageUpdate { agent: Some("a".into()), ..used(5) };
        fleet.usage(midnight, "shop", std::slice::from_ref(&increment));
        let last = Time::from_millis(end.as_millis() - 1);
        fleet.usage(last, "shop", std::slice::from_ref(&increment));
        assert_eq!(fleet.find("shop", "a").unwrap().day_tokens, 10);
        assert!(!fleet.changes().new_day);
        fleet.clear_changes();
        fleet.tick(end);
        assert!(fleet.changes().new_day);
        let agent = fleet.find("shop", "a").unwrap();
        assert_eq!((agent.day_tokens, agent.total_tokens()), (0, Some(10)));
    }
}

#[test]
fn a_changed_time_zone_takes_effect_at_once() {
    let mut watch = TestFleet::new(settings());
    watch.usage(0, UsageUpdate { agent: Some("a".into()), ..used(5) });
    let mut other = settings();
    other.budgets.time_zone = "Pacific/Kiritimati".into();
    watch.fleet.configure(at(1), other.clone());
    assert_eq!(watch.agent("a").day_tokens, 0, "it is the next day there");
    watch.usage(2, UsageUpdate { agent: Some("a".into()), ..used(5) });
    watch.fleet.clear_changes();
    watch.fleet.configure(at(3), other);
    assert!(watch.agent("a").day_tokens == 5 && !watch.fleet.changes().new_day, "the same day continues");
}

#[test]
fn a_shorter_expiry_takes_effect_at_reload() {
    let mut watch = TestFleet::new(settings());
    watch.push(0, a(Running));
    let mut shorter = settings();
    shorter.agents.forget_after = Duration::from_secs(70);
    watch.fleet.configure(at(1), shorter);
    watch.until(70);
    assert!(!watch.has("a"));
}

#[test]
fn the_series_cap_rejects_new_agents_and_keeps_known_ones() {
    let mut watch = TestFleet::new(FleetSettings { max_series: 2 * super::super::SERIES_PER_AGENT + 3, ..settings() });
    let outcome = watch.push_batch(0, batch(false, &["a", "b", "c"]));
    assert_eq!((outcome.accepted, outcome.reasons.as_slice()), (2, [(RejectReason::SeriesCap, 1)].as_slice()));
    assert!(outcome.rejected[0].error.ends_with("raise limits.series or report fewer agents"));
    let full = AgentUpdate { tokens: tokens(1, 1, 1), restart_count: Some(1), ..a(Running) };
    assert_eq!(watch.push(1, full).total_tokens(), Some(3), "a known agent loses nothing");
    assert_eq!(
        watch.usage(2, UsageUpdate { agent: Some("d".into()), id: Some("i".into()), ..used(1) }).reasons,
        [(RejectReason::SeriesCap, 1)]
    );
    assert_eq!(watch.fleet.state().series_dropped, 2 * super::super::SERIES_PER_AGENT as u64);
    watch.push_batch(3, batch(true, &["a"]));
    let again = UsageUpdate { agent: Some("d".into()), id: Some("i".into()), ..used(1) };
    assert_eq!(watch.usage(4, again).accepted, 1, "there is room again, and a rejected increment may be retried");
}

#[test]
fn batches_of_too_many_projects_are_rejected() {
    let mut watch = TestFleet::new(settings());
    for number in 0..1_000 {
        watch.push_batch(0, Batch { project: format!("p{number}").into(), ..Batch::default() });
    }
    let component = ComponentUpdate {
        name: "db".into(),
        index: 0,
        status: ComponentStatus::Ok,
        details: None,
        metrics: vec![],
        custom: vec![],
    };
    let outcome = watch.push_batch(1, Batch { components: vec![component], ..batch(false, &["a"]) });
    assert_eq!((outcome.accepted, outcome.reasons.as_slice()), (0, [(RejectReason::SeriesCap, 2)].as_slice()));
}

#[test]
fn a_held_snapshot_never_changes() {
    let mut watch = TestFleet::new(settings());
    watch.push(0, a(Running));
    let held = watch.fleet.snapshot(at(0));
    assert!(std::sync::Arc::ptr_eq(&held, &watch.fleet.snapshot(at(0))), "nothing changed, so it is the same snapshot");
    watch.push(1, AgentUpdate { restart_count: Some(7), ..a(Failed) });
    watch.push_batch(2, batch(true, &["b"]));
    watch.push_batch(3, batch(true, &["c"]));
    assert_eq!(held.agents.len(), 1);
    let agent = held.agents.get(0).unwrap();
    assert_eq!((&*agent.name, agent.status, agent.restarts.get()), ("a", Some(Running), None));
    assert_eq!((held.projects[0].down, held.projects[0].totals.restarts.get()), (0, None));
    assert_eq!(watch.fleet.snapshot(at(3)).agents.iter().map(|agent| &*agent.name).collect::<Vec<_>>(), ["c"]);
}

#[test]
fn a_source_keeps_the_result_of_its_polls() {
    let mut watch = TestFleet::new(settings());
    assert_eq!(watch.fleet.state().sources[0].up, None);
    watch.poll(10, None);
    watch.poll(20, None);
    let source = &watch.fleet.state().sources[0];
    assert_eq!((source.up, source.failing_since, source.last_success), (Some(false), Some(at(10)), None));
    assert_eq!((source.last_error.as_deref(), source.errors.iter().sum::<u64>()), (Some("no answer"), 2));
    watch.poll(30, Some(&[]));
    let source = &watch.fleet.state().sources[0];
    assert_eq!((source.up, source.failing_since, source.last_success), (Some(true), None, Some(at(30))));
}

#[test]
fn a_pushed_agent_that_only_reported_usage_becomes_a_pushed_agent() {
    let mut watch = TestFleet::new(settings());
    watch.usage(0, UsageUpdate { agent: Some("a".into()), ..used(1) });
    watch.push(1, a(Running));
    assert_eq!(watch.agent("a").usage_owner, Some(UsageOwner::Usage));
    watch.push_batch(2, batch(true, &[]));
    assert!(!watch.has("a"));
}

#[test]
fn ids_are_deduplicated_within_an_hour() {
    let mut watch = TestFleet::new(settings());
    let numbered = |id: u64| UsageUpdate { agent: Some("a".into()), id: Some(id.to_string().into()), ..used(1) };
    let mut others = 0;
    watch.usage(1, numbered(0));
    for _ in 0..70 {
        let batch: Vec<UsageUpdate<'_>> = (0..1_000).map(|place| numbered(1 + others + place)).collect();
        others += 1_000;
        assert_eq!(watch.fleet.usage(at(2), "shop", &batch).accepted, 1_000);
    }
    assert_eq!(watch.usage(3_600, numbered(0)).reasons, [(RejectReason::Duplicate, 1)]);
    assert_eq!(watch.usage(3_602, numbered(0)).accepted, 1, "the id has expired");
}

#[test]
fn task_assignment_and_deduplication_survive_a_restart() {
    let mut before = TestFleet::new(settings());
    before.push(0, AgentUpdate { task_id: Patch::Set("t".into()), ..a(Running) });
    let once = UsageUpdate { task_id: Some("t".into()), id: Some("r1".into()), ..used(5) };
    before.usage(1, once.clone());
    let ids = before.fleet.take_usage_ids();
    let mut fleet = Fleet::new(at(10), settings());
    fleet.restore(at(10), vec![], vec![before.agent("a").clone()], vec![], ids);
    let mut watch = TestFleet { fleet };
    assert_eq!(watch.usage(11, once).reasons, [(RejectReason::Duplicate, 1)]);
    watch.usage(12, UsageUpdate { task_id: Some("t".into()), ..used(2) });
    assert_eq!((watch.agent("a").total_tokens(), names(&watch)), (Some(7), vec!["a".to_owned()]));
}

#[test]
fn a_late_report_is_rejected() {
    let mut watch = TestFleet::new(settings());
    let mut push = |name: &'static str, report: Option<(&'static str, u64)>, tokens: u64| {
        let agent = AgentUpdate { tokens: [Some(tokens), None, None, None, None], ..named(name) };
        let ordinal = report.map(|(run, number)| Ordinal { run: run.into(), number });
        let batch = Batch { project: "shop".into(), ordinal, agents: vec![agent], ..Batch::default() };
        let outcome = watch.push_batch(0, batch);
        assert_eq!(outcome.accepted + outcome.rejected.len(), 1);
        let words = outcome.rejected.first().map(|rejected| (rejected.reason, rejected.error.clone()));
        (words, watch.fleet.find("shop", name).expect(name).tokens[0].get())
    };
    assert_eq!(push("a", Some(("x", 1)), 0), (None, Some(0)));
    assert_eq!(push("a", Some(("x", 3)), 30), (None, Some(30)));
    for late in [1, 2, 3] {
        let (rejected, tokens) = push("a", Some(("x", late)), 20);
        let (reason, error) = rejected.expect("a rejection");
        assert!(reason == RejectReason::Late && error.starts_with("a newer report of the same run"), "{error}");
        assert_eq!(tokens, Some(30), "report {late}");
    }
    assert_eq!(push("a", Some(("x", 4)), 40), (None, Some(40)));
    // The next run counts from zero, and further reports of the previous run are late.
    assert_eq!(push("a", Some(("y", 1)), 0), (None, Some(40)));
    let (rejected, tokens) = push("a", Some(("x", 5)), 50);
    assert!(rejected.expect("a rejection").1.starts_with("another run has reported under this name since"));
    assert_eq!((tokens, push("a", Some(("y", 2)), 5)), (Some(40), (None, Some(45))));
    // Reports without a number are accepted in any order, and each agent is numbered separately.
    assert_eq!(push("a", None, 6), (None, Some(46)));
    assert_eq!(push("b", Some(("x", 1)), 7), (None, Some(7)));
}

#[test]
fn a_removed_agent_starts_over_with_its_report_numbers() {
    let mut watch = TestFleet::new(settings());
    let numbered = |number| Batch { ordinal: Some(Ordinal { run: "x".into(), number }), ..batch(false, &["a"]) };
    assert_eq!(watch.push_batch(0, numbered(9)).accepted, 1);
    watch.push_batch(1, batch(true, &["b"]));
    assert_eq!(watch.push_batch(2, numbered(1)).accepted, 1);
    assert_eq!(watch.push_batch(3, numbered(1)).accepted, 0);
}
