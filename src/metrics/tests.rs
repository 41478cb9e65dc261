//! Tests of the whole exposition.

mod fleets;
mod parser;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::Arc;

use proptest::prelude::*;

use self::parser::{ParsedFamily, ParsedSample, read};
use super::fleet::write_fleet;
use super::series::{CHUNK, SLACK};
use super::{ExportFigures, ExpositionFormat, ExpositionPage, FAMILIES, FamilyKind, SidecarMetrics};
use crate::model::agent::{MAX_RATE_LIMITS, SERIES_PER_AGENT};
use crate::model::alert::AlertCounts;
use crate::model::labels::project_labels;
use crate::model::telemetry::Telemetry;
use crate::model::{Agent, AgentStatus, ComponentStatus, Health, ModelTotals, RateLimit, Snapshot, Time};

fn fleet_text(snapshot: &Snapshot, alerts: &AlertCounts, format: ExpositionFormat) -> String {
    let (mut page, mut out) = (Vec::new(), Vec::new());
    let complete = write_fleet(snapshot, alerts, format, &mut out, &mut |full| {
        page.append(full);
        true
    });
    assert!(complete);
    page.append(&mut out);
    String::from_utf8(page).expect("text")
}

fn page_text(snapshot: &Snapshot, alerts: &AlertCounts, own: &SidecarMetrics, format: ExpositionFormat) -> String {
    let mut page = Vec::new();
    ExpositionPage { fleet: snapshot, alerts, own, telemetry: &Telemetry::default() }.render(format, &mut |chunk| {
        page.extend_from_slice(&chunk);
        true
    });
    String::from_utf8(page).expect("text")
}

/// The samples of a fleet, parsed from the text format.
fn samples(snapshot: &Snapshot) -> Vec<ParsedSample> {
    let families = read(&fleet_text(snapshot, &AlertCounts::default(), ExpositionFormat::Text), ExpositionFormat::Text);
    families.into_iter().flat_map(|family| family.samples).collect()
}

/// Names of the families that `agents` have.
fn names_of(agents: Vec<Agent>) -> BTreeSet<String> {
    let samples = samples(&fleets::of(agents));
    samples.into_iter().filter(|sample| sample.name.contains("_agent_")).map(|sample| sample.name).collect()
}

fn value(samples: &[ParsedSample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let fits = |sample: &&ParsedSample| {
        sample.name == name && labels.iter().all(|(label, value)| sample.label(label) == Some(value))
    };
    samples.iter().find(fits).map(|sample| sample.value)
}

fn own() -> SidecarMetrics {
    let own = SidecarMetrics::new();
    own.set_receivers(&[], &[Arc::from("ops")]);
    own.registry_up(true);
    let (dropped, last_success_seconds) = (vec![("size", 0)], Some(1.0));
    own.exports("otlp", "traces", &ExportFigures { dropped, last_success_seconds, ..ExportFigures::default() });
    own
}

#[test]
fn names_types_units_and_labels_are_frozen() {
    let (snapshot, alerts) = fleets::full();
    let page =
        read(&page_text(&snapshot, &alerts, &own(), ExpositionFormat::OpenMetrics), ExpositionFormat::OpenMetrics);
    let mut table = String::new();
    for family in FAMILIES {
        let ParsedFamily { kind, unit, samples, .. } = page
            .iter()
            .find(|read| read.name == family.base())
            .unwrap_or_else(|| panic!("{} is not on the page", family.name));
        assert_eq!((kind.as_str(), unit.as_deref()), (family.kind.as_str(), family.unit()), "{}", family.name);
        for sample in samples {
            let labels: Vec<&str> =
                sample.labels.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "le").collect();
            let mut expected = family.labels.to_vec();
            // The client library writes `le` first; otherwise the order is that of the table.
            expected.retain(|label| labels.contains(label));
            assert_eq!(labels, expected, "{}", family.name);
            assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
        }
        let unit = unit.as_deref().unwrap_or("-");
        table.push_str(&format!("{} {} {unit} {}\n", family.name, kind, family.labels.join(",")));
    }
    assert_eq!(page.len(), FAMILIES.len(), "the page has families that the table does not name");
    insta::assert_snapshot!("families", table);
}

#[test]
fn the_exposition_of_a_fleet_is_unchanged() {
    let (snapshot, alerts) = fleets::full();
    insta::assert_snapshot!("fleet_text", fleet_text(&snapshot, &alerts, ExpositionFormat::Text));
    insta::assert_snapshot!("fleet_openmetrics", fleet_text(&snapshot, &alerts, ExpositionFormat::OpenMetrics));
}

#[test]
fn both_formats_carry_the_same_samples() {
    let (mut snapshot, alerts) = fleets::full();
    snapshot.agents.insert_with(|_| fleets::known("a\"b", "c\\d\ne{🤖}", AgentStatus::Failed));
    let own = own();
    own.rejected(crate::model::InputKind::State, crate::model::RejectReason::Name, 3);
    let [text, open_metrics] = [ExpositionFormat::Text, ExpositionFormat::OpenMetrics].map(|format| {
        let families = read(&page_text(&snapshot, &alerts, &own, format), format);
        families.into_iter().map(|family| {
            let mut samples = family.samples;
            // Families of prometheus-client come in random order, and `process_*` changes between the two.
            samples.sort_by_key(|sample| format!("{sample:?}"));
            if family.name.starts_with("process_") {
                samples.iter_mut().for_each(|sample| sample.value = 0.0);
            }
            (family.name.trim_end_matches("_total").to_owned(), family.kind, samples)
        })
    });
    assert!(text.eq(open_metrics));
}

#[test]
fn names_are_escaped_whatever_they_contain() {
    let names =
        ["a\"b", "back\\slash", "new\nline", "{brace}", "emoji 🤖", "comma,equals=", "\\\"", "\\n", "\r", "# EOF"];
    let mut snapshot = fleets::of(names.map(|name| {
        let mut agent = fleets::known(name, name, AgentStatus::Running);
        (agent.model, agent.agent_type) = (Some(Arc::from(name)), Some(Arc::from(name)));
        agent.rate_limits[0].provider = Arc::from(name);
        agent
    }));
    for name in names {
        let mut project = fleets::project(name);
        project.models = Arc::new([(Arc::from(name), ModelTotals::default())].into_iter().collect());
        snapshot.projects.push(Arc::new(project));
        snapshot.components.insert_with(|_| fleets::component(name, name, ComponentStatus::Ok));
        snapshot.sources.push(Arc::new(fleets::source(name)));
    }
    let samples = samples(&snapshot);
    for name in names {
        let both = [("project", name), ("agent_name", name)];
        assert_eq!(value(&samples, "orchestrator_agent_up", &both), Some(1.0), "{name:?}");
        let info = [("project", name), ("agent_name", name), ("agent_type", name), ("model", name)];
        assert_eq!(value(&samples, "orchestrator_agent_info", &info), Some(1.0), "{name:?}");
        let limit = [("agent_name", name), ("provider", name), ("limit_type", "requests")];
        assert_eq!(value(&samples, "orchestrator_agent_rate_limit_remaining", &limit), Some(12.0), "{name:?}");
        let part = [("component", name), ("status", "OK")];
        assert_eq!(value(&samples, "orchestrator_component_status", &part), Some(1.0), "{name:?}");
        assert_eq!(value(&samples, "lookout_source_up", &[("source", name)]), Some(0.0), "{name:?}");
    }
}

#[test]
fn exactly_one_status_is_1() {
    let mut snapshot = fleets::of(AgentStatus::ALL.map(|status| fleets::known("p", status.as_str(), status)));
    for status in ComponentStatus::ALL {
        snapshot.components.insert_with(|_| fleets::component("p", status.as_str(), status));
    }
    for health in Health::ALL {
        let mut project = fleets::project(health.as_str());
        project.components = ComponentStatus::ALL.map(|status| u32::from(status.health() == health));
        (project.down, project.expected) = if health == Health::Critical { (1, 1) } else { (0, 1) };
        snapshot.projects.push(Arc::new(project));
    }
    let samples = samples(&snapshot);
    for (family, subject, state, states) in [
        ("orchestrator_agent_status", "agent_name", "status", 9),
        ("orchestrator_component_status", "component", "status", 4),
        ("orchestrator_cluster_health", "project", "health", 4),
    ] {
        let mut set: Vec<&ParsedSample> = samples.iter().filter(|sample| sample.name == family).collect();
        assert_eq!(set.len(), states * states, "{family}");
        set.retain(|sample| sample.value != 0.0);
        assert_eq!(set.len(), states, "{family}");
        for sample in set {
            assert_eq!((sample.value, sample.label(subject)), (1.0, sample.label(state)), "{family}");
        }
    }
}

#[test]
fn unknown_values_have_no_series() {
    let names = |names: &[&str]| names.iter().map(|name| format!("orchestrator_agent_{name}")).collect::<BTreeSet<_>>();
    let base = ["up", "expected", "info", "restarts_total", "tasks_total"];
    assert_eq!(names_of(vec![fleets::unknown("p", "a")]), names(&base));
    let mut agent = fleets::unknown("p", "a");
    agent.tokens[3].report(0);
    agent.reviews_failed.report(0);
    agent.retries.report(0);
    let more = [
        "tokens_total",
        "unpriced_tokens_total",
        "budget_tokens",
        "budget_used_tokens",
        "reviews_total",
        "retries_total",
    ];
    assert_eq!(names_of(vec![agent.clone()]), names(&[&base[..], &more].concat()));
    let samples = samples(&fleets::of([agent]));
    for kind in ["input", "output", "cache_read", "cache_creation", "reasoning"] {
        assert_eq!(value(&samples, "orchestrator_agent_tokens_total", &[("token_type", kind)]), Some(0.0), "{kind}");
    }
    assert_eq!(value(&samples, "orchestrator_agent_reviews_total", &[("result", "passed")]), Some(0.0));
    assert_eq!(value(&samples, "orchestrator_agent_budget_tokens", &[("scope", "task")]), None, "it holds no task");
    assert_eq!(value(&samples, "orchestrator_agent_budget_used_tokens", &[("scope", "day")]), Some(0.0));
}

#[test]
fn an_ended_or_stale_agent_keeps_its_counters() {
    let live = names_of(vec![fleets::known("p", "a", AgentStatus::Running)]);
    let gauges = [
        "idle_time_seconds",
        "progress_ratio",
        "context_window_ratio",
        "estimated_completion_timestamp_seconds",
        "rate_limit_limit",
        "rate_limit_remaining",
        "rate_limit_reset_timestamp_seconds",
        "limited",
        "limited_until_timestamp_seconds",
    ];
    let gauges: BTreeSet<String> = gauges.iter().map(|name| format!("orchestrator_agent_{name}")).collect();
    let stale = Agent { stale: true, ..fleets::known("p", "a", AgentStatus::Running) };
    let over = [AgentStatus::Completed, AgentStatus::Failed].map(|status| fleets::known("p", "a", status));
    for agent in over.into_iter().chain([stale]) {
        let samples = samples(&fleets::of([agent.clone()]));
        let status = agent.status.expect("a status").as_str();
        assert_eq!(live.difference(&names_of(vec![agent])).cloned().collect::<BTreeSet<_>>(), gauges, "{status}");
        assert_eq!(value(&samples, "orchestrator_agent_up", &[]), Some(0.0));
        assert_eq!(value(&samples, "orchestrator_agent_status", &[("status", status)]), Some(1.0));
        assert_eq!(value(&samples, "orchestrator_agent_requests_total", &[]), Some(40.0));
        assert_eq!(
            value(&samples, "orchestrator_agent_last_activity_timestamp_seconds", &[]),
            Some(fleets::NOW.as_secs_f64() - 400.25)
        );
    }
}

#[test]
fn buckets_are_cumulative() {
    let mut snapshot = fleets::of([]);
    snapshot.projects.push(Arc::new(fleets::project("p")));
    let samples = samples(&snapshot);
    let bucket = |le| value(&samples, "orchestrator_task_duration_seconds_bucket", &[("project", "p"), ("le", le)]);
    assert_eq!(["10.0", "30.0", "120.0", "86400.0", "+Inf"].map(bucket), [2.0, 2.0, 3.0, 3.0, 4.0].map(Some));
    assert_eq!(value(&samples, "orchestrator_task_duration_seconds_count", &[]), Some(4.0));
    assert_eq!(value(&samples, "orchestrator_task_duration_seconds_sum", &[]), Some(90_090.25 + 0.0));
}

#[test]
fn a_large_page_is_the_same_in_chunks_and_as_gzip() {
    let agents = (0..500).map(|number| fleets::known("shop", &format!("agent-{number}"), AgentStatus::Running));
    let (snapshot, alerts) = (fleets::of(agents), AlertCounts::default());
    let own = own();
    let page = ExpositionPage { fleet: &snapshot, alerts: &alerts, own: &own, telemetry: &Telemetry::default() };
    let mut chunks = Vec::new();
    page.render(ExpositionFormat::OpenMetrics, &mut |chunk| {
        chunks.push(chunk);
        true
    });
    assert!(chunks.len() > 10);
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK + SLACK));
    let plain = chunks.concat();
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&page.render_gzip(ExpositionFormat::OpenMetrics)[..])
        .read_to_string(&mut unpacked)
        .expect("gzip");
    for text in [String::from_utf8(plain).expect("text"), unpacked] {
        let families = read(&text, ExpositionFormat::OpenMetrics);
        let up = families.iter().find(|family| family.name == "orchestrator_agent_up").expect("it");
        assert_eq!(up.samples.len(), 500);
        assert_eq!(families.iter().filter(|family| family.name.starts_with("orchestrator_agent_")).count(), 37);
    }

    let mut taken = 0;
    page.render(ExpositionFormat::OpenMetrics, &mut |_| {
        taken += 1;
        taken < 3
    });
    assert_eq!(taken, 3, "a reader that is gone is given nothing more");
}

#[test]
fn no_agent_has_more_series_than_the_limit_counts() {
    let mut agent = fleets::known("shop", "boss", AgentStatus::WaitingQuestion);
    agent.reason = Some(Arc::from("permission to run Bash"));
    let limit = agent.rate_limits.first().expect("one").clone();
    let limits =
        (0..MAX_RATE_LIMITS).map(|number| RateLimit { limit_type: Arc::from(number.to_string()), ..limit.clone() });
    agent.rate_limits = limits.collect();
    let page = fleet_text(&fleets::of([agent]), &AlertCounts::default(), ExpositionFormat::Text);
    let series = page.lines().filter(|line| line.contains("agent_name=\"boss\"")).count();
    assert_eq!(series, SERIES_PER_AGENT, "{page}");
}

#[test]
fn an_empty_fleet_has_a_valid_page() {
    for format in [ExpositionFormat::Text, ExpositionFormat::OpenMetrics] {
        let page = page_text(&Snapshot::default(), &AlertCounts::default(), &SidecarMetrics::new(), format);
        assert!(read(&page, format).iter().any(|family| family.name.starts_with("orchestrator_cluster_alerts")));
    }
}

#[test]
fn the_table_of_names_is_consistent() {
    let names: BTreeSet<&str> = FAMILIES.iter().map(|family| family.base()).collect();
    assert_eq!(names.len(), FAMILIES.len(), "two families of one name");
    for family in FAMILIES {
        assert_eq!(family.kind == FamilyKind::Counter, family.name.ends_with("_total"), "{}", family.name);
        assert!(!family.help.is_empty() && !family.help.contains(['\n', '\\']), "{}", family.name);
        assert!(!family.help.ends_with('.'), "{}: the writer adds the stop", family.name);
        let clash = ["cluster", "env", "service", "type", "job", "instance", "session", "task", "trace", "user"];
        assert!(family.labels.iter().all(|label| !clash.contains(label)), "{}", family.name);
    }
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), Just(1e21), Just(1e-9)]
}

prop_compose! {
    fn any_agent()(
        names in ("\\PC{0,12}|[\"\\\\\n{}=,# ]{0,8}", any::<String>(), any::<String>()),
        status in prop::option::of(0usize..9),
        stale in any::<bool>(),
        floats in (any_float(), any_float(), any_float()),
        counts in any::<[u64; 6]>(),
        times in any::<(Option<i32>, Option<i64>)>(),
        limits in prop::collection::vec((any::<String>(), any::<Option<u64>>()), 0..3),
    ) -> Agent {
        let mut agent = fleets::unknown(&names.0, &names.1);
        agent.model = Some(Arc::from(names.2));
        (agent.status, agent.stale) = (status.map(|place| AgentStatus::ALL[place]), stale);
        (agent.progress, agent.day_cost_usd) = (Some(floats.0), floats.1);
        agent.cost_usd.add(floats.2);
        agent.tokens[0].report(counts[0]);
        (agent.restarts, agent.retries) = Default::default();
        agent.restarts.report(counts[1]);
        agent.reviews_passed.report(counts[2]);
        agent.day_tokens = counts[3];
        agent.last_activity = times.0.map(|seconds| Time::from_millis(i64::from(seconds) * 1000));
        agent.estimated_completion = times.1.map(Time::from_millis);
        for (place, (provider, limit)) in limits.into_iter().enumerate() {
            let (provider, limit_type) = (Arc::from(format!("{place}{provider}")), Arc::from("tokens"));
            agent.rate_limits.push(RateLimit { provider, limit_type, limit, remaining: limit, reset_at: None });
        }
        agent
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_formats_are_valid_for_any_fleet(agents in prop::collection::vec(any_agent(), 0..4)) {
        // Names are unique within a fleet.
        let agents: Vec<Agent> = agents.into_iter().enumerate().map(|(place, mut agent)| {
            agent.labels = crate::model::labels::agent_labels(&agent.project, &format!("{place}{}", agent.name));
            agent
        }).collect();
        let mut snapshot = fleets::of(agents.iter().cloned());
        let mut project = fleets::project("p");
        project.task_durations.sum = agents.first().map_or(0.0, |agent| agent.day_cost_usd);
        project.labels = project_labels(agents.first().map_or("p", |agent| &agent.name));
        snapshot.projects.push(Arc::new(project));
        let [text, open_metrics] = [ExpositionFormat::Text, ExpositionFormat::OpenMetrics].map(|format| {
            let mut page = fleet_text(&snapshot, &AlertCounts::default(), format);
            if format == ExpositionFormat::OpenMetrics {
                page.push_str("# EOF\n");
            }
            let families = read(&page, format);
            families.into_iter().flat_map(|family| family.samples).collect::<Vec<_>>()
        });
        prop_assert_eq!(&text, &open_metrics);
        for (place, agent) in agents.iter().enumerate() {
            let name = format!("{place}{}", agent.name);
            let labels = [("project", &*agent.project), ("agent_name", &name)];
            prop_assert_eq!(value(&text, "orchestrator_agent_up", &labels), Some(f64::from(agent.is_up())));
        }
    }
}
