//! The families of projects, components, alerts and sources.

use super::agents;
use super::names::{self, Family};
use super::writer::Writer;
use crate::model::labels::escape;
use crate::model::project::TASK_DURATION_BOUNDS;
use crate::model::{
    AgentStatus, AlertCounts, ComponentStatus, Health, Level, Project, Snapshot, SourceErrorReason, Time,
};

/// `name="value"`, escaped.
pub(super) fn label(name: &str, value: &str) -> String {
    let mut out = format!("{name}=\"");
    escape(value, &mut out);
    out.push('"');
    out
}

/// A bound as both formats write it.
pub(super) fn bound(bound: f64) -> String {
    if bound.fract() == 0.0 { format!("{bound:.1}") } else { bound.to_string() }
}

/// Writes every family of the fleet.
pub(super) fn write(out: &mut Writer<'_>, fleet: &Snapshot, alerts: &AlertCounts) {
    agents::write(out, fleet);
    if out.is_gone() {
        return;
    }
    projects(out, fleet);
    out.head(&names::COMPONENT_STATUS);
    for component in fleet.components.iter() {
        for status in ComponentStatus::ALL {
            let labels = label("status", status.as_str());
            out.sample(names::COMPONENT_STATUS.name, &component.labels, &labels, (component.status == status).into());
        }
        out.pass();
    }
    each_project(out, fleet, &names::CLUSTER_AGENTS, |out, project| {
        for (status, count) in AgentStatus::ALL.iter().zip(project.by_status) {
            let labels = label("status", status.as_str());
            out.sample(names::CLUSTER_AGENTS.name, &project.labels, &labels, u64::from(count).into());
        }
    });
    each_project(out, fleet, &names::CLUSTER_HEALTH, |out, project| {
        let now = project.health();
        for health in Health::ALL {
            let labels = label("health", health.as_str());
            out.sample(names::CLUSTER_HEALTH.name, &project.labels, &labels, (health == now).into());
        }
    });
    out.head(&names::CLUSTER_ALERTS);
    for (level, count) in Level::ALL.iter().zip(alerts.raised) {
        out.sample(names::CLUSTER_ALERTS.name, "", &label("level", level.as_str()), count.into());
    }
    out.head(&names::ALERTS_ACTIVE);
    for ((project, level, rule), count) in &alerts.active {
        let labels =
            format!("{},{},{}", label("project", project), label("level", level.as_str()), label("rule", rule));
        out.sample(names::ALERTS_ACTIVE.name, "", &labels, u64::from(*count).into());
        out.pass();
    }
    sources(out, fleet);
    out.head(&names::SERIES_DROPPED);
    out.sample(names::SERIES_DROPPED.name, "", "", fleet.series_dropped.into());
}

fn each_project(out: &mut Writer<'_>, fleet: &Snapshot, family: &Family, write: impl Fn(&mut Writer<'_>, &Project)) {
    out.head(family);
    for project in &fleet.projects {
        write(out, project);
        out.pass();
    }
}

fn projects(out: &mut Writer<'_>, fleet: &Snapshot) {
    each_project(out, fleet, &names::TASK_DURATION, |out, project| {
        let durations = &project.task_durations;
        let mut count = 0;
        for (place, limit) in TASK_DURATION_BOUNDS.iter().enumerate() {
            count += durations.buckets.get(place).copied().unwrap_or_default();
            let labels = label("le", &bound(*limit));
            out.sample("orchestrator_task_duration_seconds_bucket", &project.labels, &labels, count.into());
        }
        count += durations.buckets.get(TASK_DURATION_BOUNDS.len()).copied().unwrap_or_default();
        out.sample("orchestrator_task_duration_seconds_bucket", &project.labels, "le=\"+Inf\"", count.into());
        out.sample("orchestrator_task_duration_seconds_sum", &project.labels, "", durations.sum.into());
        out.sample("orchestrator_task_duration_seconds_count", &project.labels, "", count.into());
    });
    each_project(out, fleet, &names::MODEL_TOKENS, |out, project| {
        for (model, totals) in project.models.iter() {
            let labels = format!("{},{}", project.labels, label("model", model));
            agents::tokens(out, names::MODEL_TOKENS.name, &labels, &totals.tokens);
        }
    });
    each_project(out, fleet, &names::MODEL_COST, |out, project| {
        for (model, totals) in project.models.iter() {
            if let Some(cost) = totals.cost_usd.get() {
                out.sample(names::MODEL_COST.name, &project.labels, &label("model", model), cost.into());
            }
        }
    });
}

fn sources(out: &mut Writer<'_>, fleet: &Snapshot) {
    out.head(&names::SOURCE_UP);
    for source in &fleet.sources {
        if let Some(up) = source.up {
            out.sample(names::SOURCE_UP.name, "", &label("source", &source.name), up.into());
        }
    }
    out.head(&names::SOURCE_LAST_SUCCESS);
    for source in &fleet.sources {
        if let Some(at) = source.last_success.map(Time::as_secs_f64) {
            out.sample(names::SOURCE_LAST_SUCCESS.name, "", &label("source", &source.name), at.into());
        }
    }
    out.head(&names::SOURCE_ERRORS);
    for source in &fleet.sources {
        for (reason, count) in SourceErrorReason::ALL.iter().zip(source.errors) {
            let labels = format!("{},{}", label("source", &source.name), label("reason", reason.as_str()));
            out.sample(names::SOURCE_ERRORS.name, "", &labels, count.into());
        }
    }
}
