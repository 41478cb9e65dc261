//! Families by project, model and component.

use crate::metrics::names::{self, FamilySpec};
use crate::metrics::series::{SeriesWriter, tails};
use crate::model::project::{DurationHistogram, REQUEST_DURATION_BOUNDS, TASK_DURATION_BOUNDS};
use crate::model::{
    AgentRuns, AgentStatus, ComponentStatus, Health, PlatformTotals, Project, RunFact, Snapshot, TokenType,
};

/// Writes all families.
pub(super) fn write(writer: &mut SeriesWriter<'_>, snapshot: &Snapshot) {
    write_durations(writer, snapshot);
    write_models(writer, snapshot);
    write_platforms(writer, snapshot);
    let statuses = tails("status", ComponentStatus::ALL.map(ComponentStatus::as_str));
    writer.family(&names::COMPONENT_STATUS, |series| {
        for component in snapshot.components.iter() {
            series.states(&component.labels, &statuses, component.status as usize);
        }
    });
    let statuses = tails("status", AgentStatus::ALL.map(AgentStatus::as_str));
    writer.family(&names::CLUSTER_AGENTS, |series| {
        for project in &snapshot.projects {
            series.counts(&project.labels, &statuses, project.by_status.map(u64::from));
        }
    });
    let healths = tails("health", Health::ALL.map(Health::as_str));
    writer.family(&names::CLUSTER_HEALTH, |series| {
        for project in &snapshot.projects {
            series.states(&project.labels, &healths, project.health() as usize);
        }
    });
}

fn write_durations(writer: &mut SeriesWriter<'_>, snapshot: &Snapshot) {
    histogram(writer, snapshot, &names::REQUEST_DURATION, &REQUEST_DURATION_BOUNDS, |it| &it.request_durations);
    histogram(writer, snapshot, &names::TASK_DURATION, &TASK_DURATION_BOUNDS, |it| &it.task_durations);
}

fn histogram(
    writer: &mut SeriesWriter<'_>,
    snapshot: &Snapshot,
    family: &FamilySpec,
    bounds: &[f64],
    of: impl Fn(&Project) -> &DurationHistogram,
) {
    // With a fraction, as client libraries write them.
    let bounds: Vec<String> = bounds.iter().map(|bound| format!("{bound:?}")).collect();
    writer.family(family, |series| {
        for project in &snapshot.projects {
            let durations = of(project);
            let mut count = 0;
            for (index, bound) in bounds.iter().map(String::as_str).chain(["+Inf"]).enumerate() {
                count += durations.buckets.get(index).copied().unwrap_or(0);
                series.part("_bucket", &project.labels).label("le", bound).count(count);
            }
            series.part("_sum", &project.labels).number(durations.sum);
            series.part("_count", &project.labels).count(count);
        }
    });
}

fn write_platforms(writer: &mut SeriesWriter<'_>, snapshot: &Snapshot) {
    let platforms = || {
        snapshot.projects.iter().flat_map(|project| project.platforms.iter().map(move |(name, it)| (project, name, it)))
    };
    writer.family(&names::PLATFORM_RUNS, |series| {
        for (project, platform, totals) in platforms() {
            for (status, count) in AgentRuns::STATUSES.into_iter().zip(totals.runs) {
                let line = series.line(&project.labels).label("platform", platform);
                line.label("status", status.as_str()).count(count);
            }
        }
    });
    fn facts(totals: &PlatformTotals) -> impl Iterator<Item = (&'static str, u64, f64)> {
        let facts = RunFact::ALL.into_iter().zip(&totals.facts);
        facts.filter(|(_, (runs, _))| *runs > 0).map(|(fact, (runs, sum))| (fact.as_str(), *runs, *sum))
    }
    writer.family(&names::PLATFORM_REPORTS, |series| {
        for (project, platform, totals) in platforms() {
            for (fact, runs, _) in facts(totals) {
                series.line(&project.labels).label("platform", platform).label("fact", fact).count(runs);
            }
        }
    });
    writer.family(&names::PLATFORM_REPORTED, |series| {
        for (project, platform, totals) in platforms() {
            for (fact, _, sum) in facts(totals) {
                series.line(&project.labels).label("platform", platform).label("fact", fact).number(sum);
            }
        }
    });
}

fn write_models(writer: &mut SeriesWriter<'_>, snapshot: &Snapshot) {
    writer.family(&names::MODEL_TOKENS, |series| {
        for project in &snapshot.projects {
            let used = project.models.iter().filter(|(_, used)| used.tokens.iter().any(|count| count.get().is_some()));
            for (model, used) in used {
                for (kind, count) in TokenType::ALL.into_iter().zip(&used.tokens) {
                    let line = series.line(&project.labels).label("model", model);
                    line.label("token_type", kind.as_str()).count(count.total());
                }
            }
        }
    });
    writer.family(&names::MODEL_COST, |series| {
        for project in &snapshot.projects {
            for (model, used) in project.models.iter() {
                if let Some(cost) = used.cost_usd.get() {
                    series.line(&project.labels).label("model", model).number(cost);
                }
            }
        }
    });
}
