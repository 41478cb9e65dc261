//! Custom metrics: families, limits, counters, and how series leave.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::fleet::SERIES_PER_AGENT;
use crate::model::{CustomFamilies, CustomMetrics, CustomScope, CustomUpdate, RejectReason, Snapshot};

/// A gauge of the project.
fn gauge(name: &str, value: f64) -> CustomUpdate {
    CustomUpdate { project: Some("shop".into()), ..CustomUpdate::plain(name, value).expect("a name") }
}

fn of_agent(agent: &str, update: CustomUpdate) -> CustomUpdate {
    CustomUpdate { agent: Some(agent.into()), ..update }
}

fn labeled(label: &str, value: &str, update: CustomUpdate) -> CustomUpdate {
    CustomUpdate { labels: [(label.into(), value.into())].into(), ..update }
}

impl TestFleet {
    fn metrics(&mut self, seconds: i64, updates: &[CustomUpdate]) -> IngestOutcome {
        self.until(seconds);
        self.fleet.clear_changes();
        self.fleet.metrics(at(seconds), updates)
    }

    /// All series, as `subject name{labels} value`.
    fn series(&self) -> Vec<String> {
        let state = self.fleet.state();
        let shown = |of: &str, metrics: Option<&CustomMetrics>| -> Vec<String> {
            let all = metrics.into_iter().flat_map(CustomMetrics::iter);
            all.map(|series| format!("{of} {} {}", series.shown(), series.value.get())).collect()
        };
        let mut all = Vec::new();
        state.agents.iter().for_each(|it| all.extend(shown(&it.name, it.custom.as_deref())));
        state.components.iter().for_each(|it| all.extend(shown(&it.name, it.custom.as_deref())));
        state.projects.iter().for_each(|it| all.extend(shown(&it.name, it.custom.as_deref())));
        assert_eq!(*state.custom, counted(state), "the families are those of the series");
        all
    }
}

/// The families of all series that there are.
fn counted(state: &Snapshot) -> CustomFamilies {
    let mut families = CustomFamilies::default();
    let mut add = |scope, metrics: Option<&CustomMetrics>| {
        metrics.into_iter().flat_map(CustomMetrics::iter).for_each(|series| families.add(scope, series));
    };
    state.agents.iter().for_each(|it| add(CustomScope::Agent, it.custom.as_deref()));
    state.components.iter().for_each(|it| add(CustomScope::Component, it.custom.as_deref()));
    state.projects.iter().for_each(|it| add(CustomScope::Project, it.custom.as_deref()));
    families
}

fn component(metrics: &[(&'static str, f64)], custom: Vec<CustomUpdate>) -> Batch<'static> {
    let metrics = metrics.iter().map(|(name, value)| ((*name).into(), *value)).collect();
    let db =
        ComponentUpdate { name: "db".into(), index: 0, status: ComponentStatus::Ok, details: None, metrics, custom };
    Batch { project: "shop".into(), components: vec![db], ..Batch::default() }
}

#[test]
fn a_gauge_is_replaced_and_a_counter_never_decreases() {
    let mut test = TestFleet::new(settings());
    for (seconds, size, jobs, expected) in [
        (0, 5.0, 10.0, ["shop jobs_total 10", "shop pool_size 5"]),
        (1, 3.0, 12.0, ["shop jobs_total 12", "shop pool_size 3"]),
        (2, 3.0, 4.0, ["shop jobs_total 16", "shop pool_size 3"]),
    ] {
        let outcome = test.metrics(seconds, &[gauge("pool_size", size), gauge("jobs_total", jobs)]);
        assert_eq!((outcome.accepted, outcome.rejected.len()), (2, 0));
        assert_eq!(test.series(), expected);
    }
}

#[test]
fn a_name_has_one_kind_one_scope_and_one_set_of_labels() {
    let mut test = TestFleet::new(settings());
    test.metrics(0, &[gauge("size", 1.0), labeled("pool", "a", gauge("jobs_total", 1.0))]);
    for (update, part) in [
        (gauge("size_total", 1.0), "`size` is a gauge already"),
        (of_agent("a", gauge("size", 1.0)), "`size` is a metric of projects already"),
        (labeled("pool", "a", gauge("size", 1.0)), "`size` has no labels already"),
        (gauge("jobs_total", 1.0), "`jobs_total` has the label pool already"),
        (labeled("zone", "a", gauge("jobs_total", 1.0)), "`jobs_total` has the label pool already"),
    ] {
        let outcome = test.metrics(1, &[update, gauge("other", 2.0)]);
        assert_eq!(outcome.accepted, 1, "its neighbour is accepted");
        let rejected = &outcome.rejected[0];
        assert_eq!((rejected.list, rejected.index, rejected.reason), ("metrics", Some(0), RejectReason::Conflict));
        assert!(rejected.error.contains(part), "{}", rejected.error);
    }
    assert!(!test.has("a"), "a rejected metric leaves no agent behind");
    assert_eq!(test.series(), ["shop jobs_total{pool=\"a\"} 1", "shop other 2", "shop size 1"]);
}

#[test]
fn series_leave_with_their_agent_or_component() {
    let mut test = TestFleet::new(settings());
    test.push(0, a(AgentStatus::Running));
    test.push_batch(0, component(&[("openConnections", 7.0)], Vec::new()));
    let of_component = CustomUpdate { component: Some("db".into()), ..gauge("lag", 2.0) };
    let outcome = test.metrics(1, &[of_agent("a", gauge("size", 5.0)), of_component]);
    assert_eq!((outcome.accepted, outcome.rejected.len()), (2, 0));
    assert_eq!(test.series(), ["a size 5", "db lag 2", "db open_connections 7"]);
    test.push_batch(2, Batch { project: "shop".into(), complete: true, ..Batch::default() });
    test.fleet.clear_changes();
    assert_eq!(test.series(), ["db lag 2", "db open_connections 7"]);
    test.until(3_600);
    assert_eq!(test.series(), Vec::<String>::new());
    let other = test.metrics(3_601, &[gauge("size_total", 5.0)]);
    assert_eq!(other.accepted, 1, "a name without series may mean something else");
}

#[test]
fn the_next_state_of_a_component_replaces_what_came_with_the_last() {
    let mut test = TestFleet::new(settings());
    test.push_batch(0, component(&[("a", 1.0), ("b", 2.0), ("jobs_total", 5.0)], Vec::new()));
    test.metrics(1, &[CustomUpdate { component: Some("db".into()), ..gauge("posted", 3.0) }]);
    let custom = vec![labeled("pool", "x", gauge("c", 4.0))];
    test.push_batch(2, component(&[("b", 2.5), ("jobs_total", 1.0)], custom));
    assert_eq!(test.series(), ["db b 2.5", "db c{pool=\"x\"} 4", "db jobs_total 6", "db posted 3"]);
    // A name may come to mean something else.
    let outcome = test.push_batch(3, component(&[("b_total", 1.0), ("jobs_total", 2.0)], Vec::new()));
    assert_eq!((outcome.accepted, outcome.rejected.len()), (1, 0));
    assert_eq!(test.series(), ["db b_total 1", "db jobs_total 7", "db posted 3"]);
    // A number whose name means something else elsewhere costs itself.
    let outcome = test.push_batch(4, component(&[("posted_total", 1.0), ("jobs_total", 2.0)], Vec::new()));
    assert_eq!((outcome.accepted, outcome.rejected[0].field), (1, "metrics"));
    assert!(outcome.rejected[0].error.contains("`posted` is a gauge already"), "{}", outcome.rejected[0].error);
    let unknown = test.metrics(5, &[CustomUpdate { component: Some("cache".into()), ..gauge("posted", 3.0) }]);
    assert_eq!((unknown.accepted, unknown.rejected[0].reason), (0, RejectReason::Name));
}

#[test]
fn series_of_no_agent_expire() {
    let mut test = TestFleet::new(settings());
    let short = CustomUpdate { ttl: Some(Duration::from_secs(60)), ..gauge("short", 1.0) };
    let of_a = CustomUpdate { ttl: Some(Duration::from_secs(60)), ..of_agent("a", gauge("of_a", 1.0)) };
    let outcome = test.metrics(0, &[gauge("long", 1.0), short.clone(), of_a]);
    assert_eq!((outcome.accepted, outcome.rejected.len()), (3, 0));
    test.metrics(50, &[short]);
    test.until(59);
    assert_eq!(test.series(), ["a of_a 1", "shop long 1", "shop short 1"]);
    assert_eq!(test.until(60), [60]);
    assert_eq!(test.series(), ["shop long 1", "shop short 1"]);
    test.until(109);
    assert_eq!(test.series(), ["shop long 1", "shop short 1"]);
    test.until(110);
    assert_eq!(test.series(), ["shop long 1"]);
    test.until(3_600);
    assert_eq!(test.series(), Vec::<String>::new());
    let counter = CustomUpdate { ttl: Some(Duration::from_secs(60)), ..of_agent("a", gauge("jobs_total", 1.0)) };
    let outcome = test.metrics(3_601, &[counter]);
    assert_eq!((outcome.accepted, outcome.rejected[0].field), (1, "ttl"), "a counter of an agent never expires alone");
}

#[test]
fn a_metric_makes_its_agent_known_and_keeps_it() {
    let mut test = TestFleet::new(settings());
    test.metrics(0, &[of_agent("a", gauge("size", 1.0))]);
    assert_eq!((&*test.agent("a").source, test.agent("a").ttl, test.project().agents), ("metrics", None, 1));
    test.metrics(3_000, &[of_agent("a", gauge("size", 1.0))]);
    test.until(6_599);
    assert!(test.has("a") && !test.agent("a").stale);
    test.until(6_600);
    assert!(!test.has("a"));
    assert_eq!((test.series(), test.project().agents), (Vec::new(), 0));
}

#[test]
fn custom_metrics_take_at_most_half_of_the_series_cap() {
    let mut test = TestFleet::new(FleetSettings { max_series: 2 * SERIES_PER_AGENT, ..settings() });
    let many: Vec<CustomUpdate> =
        (0..100).map(|number| labeled("n", &number.to_string(), gauge("size", 1.0))).collect();
    let outcome = test.metrics(0, &many);
    assert_eq!((outcome.accepted, outcome.rejected.len()), (SERIES_PER_AGENT, 100 - SERIES_PER_AGENT));
    assert!(outcome.rejected.iter().all(|rejected| rejected.reason == RejectReason::SeriesCap));
    assert_eq!(test.fleet.state().series_dropped, 100 - SERIES_PER_AGENT as u64);
    assert_eq!(test.metrics(1, &many[..1]).accepted, 1, "known series are updated");
    assert_eq!(
        test.push_batch(2, Batch { project: "shop".into(), agents: vec![named("a")], ..Batch::default() }).accepted,
        1
    );
    let elsewhere = CustomUpdate { project: Some("lab".into()), ..gauge("other", 1.0) };
    for update in [of_agent("b", gauge("other", 1.0)), elsewhere.clone(), of_agent("b", elsewhere)] {
        let outcome = test.metrics(3, &[update]);
        assert_eq!((outcome.accepted, outcome.rejected[0].reason), (0, RejectReason::SeriesCap));
    }
    assert_eq!(test.fleet.state().projects.len(), 1, "what is rejected leaves no project behind");
    assert_eq!(test.series().len(), SERIES_PER_AGENT);
}

#[test]
fn each_agent_and_each_name_has_a_limit() {
    let mut test = TestFleet::new(settings());
    let many: Vec<CustomUpdate> =
        (0..251).map(|number| of_agent("a", labeled("n", &number.to_string(), gauge("size", 1.0)))).collect();
    let outcome = test.metrics(0, &many);
    assert_eq!((outcome.accepted, outcome.rejected[0].reason), (250, RejectReason::Limit));
    let names: Vec<CustomUpdate> = (0..1_000).map(|number| gauge(&format!("m{number}"), 1.0)).collect();
    let outcome = test.metrics(0, &names);
    assert_eq!((outcome.accepted, outcome.rejected[0].reason), (999, RejectReason::Limit));
}

/// What a client sends, or what happens.
#[derive(Clone, Debug)]
enum CustomStep {
    Send(CustomUpdate),
    Push(u8),
    Remove,
    Wait(u16),
    Restart,
}

fn steps() -> impl Strategy<Value = CustomStep> {
    let update = (0..4_u8, 0..3_u8, 0..3_u8, 0.0..9.0_f64, proptest::option::of(1..5_000_u64)).prop_map(
        |(name, label, subject, value, ttl)| {
            let name = ["x", "y", "x_total", "y_total"][usize::from(name)];
            let update = CustomUpdate { ttl: ttl.map(Duration::from_secs), ..gauge(name, value.round()) };
            let update = if label > 0 { labeled("l", &label.to_string(), update) } else { update };
            match subject {
                0 => update,
                1 => of_agent("a", update),
                _ => CustomUpdate { component: Some("db".into()), ..update },
            }
        },
    );
    prop_oneof![
        8 => update.prop_map(CustomStep::Send),
        2 => (0..4_u8).prop_map(CustomStep::Push),
        1 => Just(CustomStep::Remove),
        3 => (1..2_000_u16).prop_map(CustomStep::Wait),
        1 => Just(CustomStep::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Families are those of the series, and a counter's series never decreases, whatever happens.
    #[test]
    fn families_are_those_of_the_series(steps in proptest::collection::vec(steps(), 1..40)) {
        let mut test = TestFleet::new(settings());
        let (mut now, mut counters) = (0, BTreeMap::new());
        for step in steps {
            match step {
                CustomStep::Send(update) => _ = test.metrics(now, &[update]),
                CustomStep::Push(count) => {
                    let names: Vec<(&'static str, f64)> =
                        ["x", "y", "x_total"].into_iter().take(count.into()).map(|name| (name, f64::from(count))).collect();
                    test.push_batch(now, component(&names, Vec::new()));
                }
                CustomStep::Remove => {
                    test.push_batch(now, Batch {
                        project: "shop".into(), complete: true, agents: vec![named("a")], ..Batch::default()
                    });
                    test.push_batch(now, Batch { project: "shop".into(), complete: true, ..Batch::default() });
                    test.fleet.clear_changes();
                    counters.retain(|name: &String, _| !name.starts_with("a "));
                }
                CustomStep::Wait(seconds) => {
                    now += i64::from(seconds);
                    test.until(now);
                }
                CustomStep::Restart => {
                    let state = test.fleet.state();
                    let projects: Vec<String> =
                        state.projects.iter().map(|it| serde_json::to_string(&**it).unwrap()).collect();
                    let agents: Vec<String> = state.agents.iter().map(|it| serde_json::to_string(it).unwrap()).collect();
                    let components: Vec<String> =
                        state.components.iter().map(|it| serde_json::to_string(it).unwrap()).collect();
                    let before = test.series();
                    now += 1;
                    let mut fleet = Fleet::new(at(now), settings());
                    fleet.restore(
                        at(now),
                        projects.iter().map(|it| serde_json::from_str(it).unwrap()).collect(),
                        agents.iter().map(|it| serde_json::from_str(it).unwrap()).collect(),
                        components.iter().map(|it| serde_json::from_str(it).unwrap()).collect(),
                        [],
                    );
                    test = TestFleet { fleet };
                    prop_assert_eq!(test.series(), before);
                }
            }
            let series = test.series();
            let mut seen = BTreeMap::new();
            for one in series {
                let (name, value) = one.rsplit_once(' ').expect("a value");
                if !name.contains("_total") {
                    continue;
                }
                let value: f64 = value.parse().expect("a number");
                if let Some(before) = counters.get(name) {
                    prop_assert!(value >= *before, "{} fell from {}", one, before);
                }
                seen.insert(name.to_owned(), value);
            }
            counters = seen;
        }
    }
}
