//! `/api/status`: projects, agents, components, sources and receivers.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::totals;
use crate::engine::{ReceiverView, View};
use crate::export::ExportHandle;
use crate::model::custom_metric::full_name;
use crate::model::{Agent, Component, Count, CustomMetrics, CustomUpdate, RateLimit, Snapshot, Time, TokenType};

/// A list whose elements are built during serialization, since a JSON tree of the whole fleet would need ten times the
/// memory of its text.
struct LazyList<'a, T>(Vec<&'a T>, &'a dyn Fn(&T) -> Value);

impl<T> Serialize for LazyList<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|member| (self.1)(member)))
    }
}

#[derive(Serialize)]
struct ProjectStatus<'a> {
    name: &'a str,
    health: &'static str,
    missing: Vec<&'a str>,
    metrics: Map<String, Value>,
    agents: LazyList<'a, Agent>,
    components: LazyList<'a, Component>,
}

#[derive(Serialize)]
struct StatusResponse<'a> {
    monitoring: bool,
    health: &'static str,
    total_alerts: u64,
    unresolved_alerts: u32,
    last_metrics: Value,
    projects: Vec<ProjectStatus<'a>>,
    sources: Vec<Value>,
    receivers: &'a [ReceiverView],
    exports: Vec<Value>,
    store_ok: bool,
}

/// The state of exports, by target and signal; `now` is by the wall clock.
pub(in crate::server) fn exports(now: Time, handle: &ExportHandle) -> Vec<Value> {
    let Some(counters) = handle.counters() else { return Vec::new() };
    let of_lane = |lane: &std::sync::Arc<crate::export::LaneCounters>| {
        let error = lane.last_error();
        json!({
            "name": lane.target,
            "signal": lane.signal.as_str(),
            "sent": lane.sent_items.load(Relaxed),
            "pending": lane.waiting_items.load(Relaxed),
            "pending_bytes": lane.waiting_bytes.load(Relaxed),
            "oldest_age_seconds": lane.oldest().map(|at| now.since(at).as_secs_f64()),
            "last_success": lane.last_success().map(|at| at.to_string()),
            "last_error": Some(error).filter(|error| !error.is_empty()),
        })
    };
    counters.lanes.iter().map(of_lane).collect()
}

/// The response for `view` and `exports` as JSON text.
pub(super) fn of(view: &View, exports: Vec<Value>) -> String {
    let fleet = &*view.fleet;
    let mut agents: BTreeMap<u32, Vec<&Agent>> = BTreeMap::new();
    for agent in fleet.agents.iter() {
        agents.entry(agent.project_slot).or_default().push(agent);
    }
    let mut components: BTreeMap<u32, Vec<&Component>> = BTreeMap::new();
    for component in fleet.components.iter() {
        components.entry(component.project_slot).or_default().push(component);
    }
    let agent_of = |one: &Agent| agent(one, fleet);
    let component_of = |one: &Component| component(one, fleet);
    let projects: Vec<ProjectStatus<'_>> = fleet
        .projects
        .iter()
        .map(|project| {
            let mut of_project = agents.remove(&project.slot).unwrap_or_default();
            of_project.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            let components = components.remove(&project.slot).unwrap_or_default();
            ProjectStatus {
                name: &project.name,
                health: project.health().as_str(),
                missing: project.missing.iter().map(|(name, _)| &**name).collect(),
                metrics: metrics(project.custom.as_deref()),
                agents: LazyList(of_project, &agent_of),
                components: LazyList(components, &component_of),
            }
        })
        .collect();
    let health = fleet.projects.iter().map(|project| project.health()).max().unwrap_or_default();
    let sources: Vec<Value> = fleet
        .sources
        .iter()
        .map(|source| {
            json!({
                "name": &*source.name,
                "kind": source.kind,
                "up": source.up,
                "last_success": source.last_success.map(|at| fleet.wall.to_wall(at).to_string()),
                "last_error": source.last_error.as_deref(),
            })
        })
        .collect();
    let active: u32 = view.alerts.active.values().sum();
    let response = StatusResponse {
        monitoring: fleet.monitoring,
        health: health.as_str(),
        total_alerts: view.alerts.fired,
        unresolved_alerts: active,
        last_metrics: totals::of(view)["metrics"].take(),
        projects,
        sources,
        receivers: &view.receivers,
        exports,
        store_ok: view.store_ok,
    };
    // Serializing these types does not fail.
    serde_json::to_string(&response).unwrap_or_default()
}

/// An agent in the list of its project.
pub(in crate::server) fn agent(agent: &Agent, fleet: &Snapshot) -> Value {
    let shown = |at: Time| fleet.wall.to_wall(at).to_string();
    let tokens = agent.total_tokens().map(|_| {
        let counts = TokenType::ALL.iter().zip(&agent.tokens);
        counts.map(|(kind, count)| (kind.as_str().to_owned(), json!(count.total()))).collect::<Map<_, _>>()
    });
    let limits = |limit: &RateLimit| {
        json!({
            "provider": &*limit.provider,
            "limit_type": &*limit.limit_type,
            "limit": limit.limit,
            "remaining": limit.remaining,
            "reset_at": limit.reset_at.map(shown),
        })
    };
    json!({
        "name": &*agent.name,
        "type": agent.agent_type.as_deref(),
        "status": agent.status.map(|status| status.as_str()),
        "reason": agent.reason.as_deref(),
        "up": agent.is_up(),
        "stale": agent.stale,
        "down": agent.is_down(),
        "expected": agent.is_expected(),
        "idle_seconds": agent.idle_seconds(fleet.at),
        "last_activity": agent.last_activity.map(shown),
        "last_seen": shown(agent.last_seen),
        "source": &*agent.source,
        "task_id": agent.task.as_ref().map(|task| &*task.id),
        "task_seconds": agent.task.as_ref().map(|task| task.worked_at(fleet.at).as_secs_f64()),
        "phase": agent.phase.as_deref(),
        "progress": agent.progress.map(|ratio| ratio * 100.0),
        "progress_estimate": progress_estimate(agent, fleet),
        "context_window_ratio": agent.context_window_ratio,
        "estimated_completion": agent.estimated_completion.map(shown),
        "model": agent.model.as_deref(),
        "restart_count": agent.restarts.get(),
        "tokens": tokens,
        "cost_usd": agent.cost_usd.get(),
        "unpriced_tokens": count(&agent.unpriced_tokens),
        "usage_owner": agent.usage_owner,
        "requests": count(&agent.requests),
        "request_errors": count(&agent.request_errors),
        "rate_limit_hits": count(&agent.rate_limit_hits),
        "retries": count(&agent.retries),
        "limited": agent.limited.as_ref().map(|limited| json!({
            "provider": limited.provider.as_deref(),
            "since": shown(limited.since),
            "until": limited.until.map(shown),
        })),
        "rate_limits": agent.rate_limits.iter().map(limits).collect::<Vec<_>>(),
        "day_tokens": agent.day_tokens,
        "day_cost_usd": agent.day_cost_usd,
        "metrics": metrics(agent.custom.as_deref()),
    })
}

/// How far the run of an agent is that reports no progress, by what its runs took; null if that is not known.
pub(in crate::server) fn progress_estimate(agent: &Agent, fleet: &Snapshot) -> Value {
    let estimate = agent.runs.as_ref().filter(|_| agent.progress.is_none()).and_then(|runs| runs.estimate(fleet.at));
    estimate.map_or(Value::Null, |estimate| {
        json!({
            "progress": estimate.ratio * 100.0,
            "seconds_left": estimate.seconds_left,
            "basis": format!("median of {} earlier runs", estimate.earlier),
        })
    })
}

fn count(count: &Count) -> Option<u64> {
    count.get()
}

/// The custom metrics by name and labels.
fn metrics(metrics: Option<&CustomMetrics>) -> Map<String, Value> {
    let all = metrics.into_iter().flat_map(CustomMetrics::iter);
    all.map(|series| (series.shown(), json!(series.value.get()))).collect()
}

fn component(component: &Component, fleet: &Snapshot) -> Value {
    // Plain numbers have the names that the component gave them, all others those on `/metrics`.
    let mut metrics = metrics(component.custom.as_deref());
    for (name, value) in &component.metrics {
        if let Some(CustomUpdate { name: family, kind, .. }) = CustomUpdate::plain(name, *value) {
            metrics.remove(&full_name(&family, kind));
        }
        metrics.insert(name.to_string(), json!(value));
    }
    json!({
        "name": &*component.name,
        "status": component.status.as_str(),
        "details": component.details.as_deref(),
        "since": fleet.wall.to_wall(component.status_since).to_string(),
        "metrics": metrics,
    })
}
