//! `/api/metrics`: totals and averages of the fleet and of each project. Unknown values are null.

use serde_json::{Map, Value, json};

use crate::engine::View;
use crate::model::{Count, Project, Snapshot, TokenType};

/// The response for `view`.
pub(in crate::server) fn of(view: &View) -> Value {
    let fleet = &view.fleet;
    let projects: Map<String, Value> =
        fleet.projects.iter().map(|project| (project.name.to_string(), sums(&[project], fleet))).collect();
    let all: Vec<&Project> = fleet.projects.iter().map(|project| &**project).collect();
    json!({"monitoring": fleet.monitoring, "metrics": sums(&all, fleet), "projects": projects})
}

/// Totals over projects. `running_agents` includes idle ones, for compatibility with earlier systems.
fn sums(projects: &[&Project], fleet: &Snapshot) -> Value {
    let now = fleet.at;
    let sum = |value: &dyn Fn(&Project) -> u64| -> u64 {
        projects.iter().map(|project| value(project)).fold(0, u64::saturating_add)
    };
    let known = |count: &dyn Fn(&Project) -> Option<u64>| -> Option<u64> {
        projects.iter().filter_map(|project| count(project)).reduce(u64::saturating_add)
    };
    let tokens: Map<String, Value> = TokenType::ALL
        .iter()
        .enumerate()
        .map(|(index, kind)| {
            let count = known(&|project| project.totals.tokens.get(index).and_then(Count::get));
            (kind.as_str().to_owned(), json!(count))
        })
        .collect();
    let total_tokens =
        known(&|project| project.totals.tokens.iter().filter_map(Count::get).reduce(u64::saturating_add));
    let costs: Vec<f64> = projects.iter().filter_map(|project| project.totals.cost_usd.get()).collect();
    let requests = known(&|project| project.totals.requests.get());
    let errors = known(&|project| project.totals.request_errors.get());
    let (completed, failed) =
        (sum(&|project| project.totals.tasks_completed.total()), sum(&|project| project.totals.tasks_failed.total()));
    let (passed, failed_reviews) =
        (sum(&|project| project.totals.reviews_passed.total()), sum(&|project| project.totals.reviews_failed.total()));
    let hour = std::time::Duration::from_secs(3600);
    let recent = |project: &Project| -> u64 {
        project.recent_tasks.iter().filter(|(at, _)| now.since(*at) < hour).map(|(_, count)| u64::from(*count)).sum()
    };
    json!({
        "timestamp": fleet.wall.to_wall(now).as_secs_f64(),
        "total_agents": sum(&|project| project.agents.into()),
        "running_agents": sum(&|project| project.up.into()),
        "idle_agents": sum(&|project| project.by_status.first().copied().unwrap_or_default().into()),
        "unhealthy_agents": sum(&|project| project.down.into()),
        "total_restarts": sum(&|project| project.totals.restarts.total()),
        "tokens": tokens,
        "cost_usd": (!costs.is_empty()).then(|| costs.iter().sum::<f64>()),
        "requests": requests,
        "error_rate": ratio(errors, requests),
        "rate_limit_hits": known(&|project| project.totals.rate_limit_hits.get()),
        "retries": known(&|project| project.totals.retries.get()),
        "tokens_per_request": ratio(total_tokens, requests),
        "tasks_per_hour": sum(&recent),
        "completion_rate": ratio(Some(completed), Some(completed + failed)),
        "review_pass_rate": ratio(Some(passed), Some(passed + failed_reviews)),
    })
}

/// The ratio of two counts; `None` when one is unknown or the divisor is 0.
fn ratio(part: Option<u64>, whole: Option<u64>) -> Option<f64> {
    let (part, whole) = (part?, whole.filter(|whole| *whole > 0)?);
    Some(part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    #[test]
    fn averages_of_unknown_values_are_null() {
        let mut one = Project { name: "a".into(), agents: 3, up: 2, down: 1, ..Project::default() };
        one.totals.requests.add(40);
        one.totals.request_errors.add(1);
        one.totals.tokens[0].add(1_000);
        one.totals.tokens[1].add(600);
        one.totals.tasks_completed.add(3);
        one.totals.tasks_failed.add(1);
        let fleet = Snapshot { at: Time::from_millis(10_000_000), ..Snapshot::default() };
        one.recent_tasks = std::sync::Arc::new(vec![(Time::from_millis(1), 5), (Time::from_millis(9_000_000), 2)]);
        let answer = sums(&[&one, &Project::default()], &fleet);
        for (key, value) in [
            ("total_agents", json!(3)),
            ("running_agents", json!(2)),
            ("unhealthy_agents", json!(1)),
            ("error_rate", json!(0.025)),
            ("tokens_per_request", json!(40.0)),
            ("completion_rate", json!(0.75)),
            ("review_pass_rate", json!(null)),
            ("rate_limit_hits", json!(null)),
            ("cost_usd", json!(null)),
            ("tasks_per_hour", json!(2)),
        ] {
            assert_eq!(answer[key], value, "{key}");
        }
    }
}
