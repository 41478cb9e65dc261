//! A task as the API shows it: its runs added up, and how far it is. Where its agent reports no progress, that is
//! estimated, from the runs beneath it that have ended or from how long such runs took before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::view;
use crate::model::run::add_tokens;
use crate::model::{Run, RunStatus, Time, TraceId};

/// Earlier runs that an estimate needs.
const MIN_EARLIER: usize = 3;
/// More than this is estimated of nothing that still runs.
const MAX_ESTIMATE: f64 = 0.99;

/// What an agent reports of the task that it works on.
#[derive(Clone, Debug, Default)]
pub struct ReportedTask {
    /// The agent's project.
    pub project: Arc<str>,
    /// The agent's name.
    pub agent: Arc<str>,
    /// Its status.
    pub status: Option<&'static str>,
    /// When the task began.
    pub started_at: Time,
    /// Seconds at work.
    pub worked_seconds: f64,
    /// Tokens that count against its budget.
    pub tokens: u64,
    /// Its progress, from 0 to 1.
    pub progress: Option<f64>,
    /// When it expects to finish.
    pub estimated_completion: Option<Time>,
}

/// The run whose earlier ones an estimate is based on: the first in progress that no other run of the task started.
pub fn main_run(runs: &[Run]) -> Option<&Run> {
    let ids: BTreeSet<TraceId> = runs.iter().map(|run| run.id).collect();
    let is_top = |run: &&Run| run.parent.is_none_or(|parent| !ids.contains(&parent));
    let running = runs.iter().filter(|run| run.status == RunStatus::Running);
    running.filter(is_top).min_by_key(|run| run.started_at)
}

/// A task at `now`: its runs, what agents report of it, and earlier runs of the agent of [`main_run`].
pub fn task(id: &str, runs: &[Run], reported: &[ReportedTask], earlier: &[Run], now: Time) -> Value {
    let count = |status: RunStatus| runs.iter().filter(|run| run.status == status).count();
    let tokens = runs.iter().fold(None, |sum, run| add_tokens(sum, run.totals.tokens));
    let costs: Vec<f64> = runs.iter().filter_map(|run| run.totals.cost_usd).collect();
    let started = runs.iter().map(|run| run.started_at).chain(reported.iter().map(|task| task.started_at)).min();
    let is_open = count(RunStatus::Running) > 0 || !reported.is_empty();
    let ended = runs.iter().filter_map(|run| run.ended_at).max().filter(|_| !is_open);
    let agents = reported.iter().map(|task| {
        json!({
            "project": task.project,
            "agent_name": task.agent,
            "status": task.status,
            "task_started_at": task.started_at.to_string(),
            "worked_seconds": task.worked_seconds,
            "tokens": task.tokens,
            "progress": task.progress,
            "estimated_completion": task.estimated_completion.map(|at| at.to_string()),
        })
    });
    json!({
        "task_id": id,
        "status": if is_open { "open" } else { "ended" },
        "started_at": started.map(|at| at.to_string()),
        "ended_at": ended.map(|at| at.to_string()),
        "runs": runs.iter().map(view::run).collect::<Vec<_>>(),
        "run_counts": {
            "running": count(RunStatus::Running),
            "ok": count(RunStatus::Ok),
            "error": count(RunStatus::Error),
            "abandoned": count(RunStatus::Abandoned),
        },
        "tokens": tokens.map(view::tokens),
        "cost_usd": (!costs.is_empty()).then(|| costs.iter().sum::<f64>()),
        "progress": if is_open { progress(runs, reported, earlier, now) } else { Value::Null },
        "agents": agents.collect::<Vec<_>>(),
    })
}

/// How far an open task is: as reported, else as estimated, with what that is based on; null if nothing is known.
fn progress(runs: &[Run], reported: &[ReportedTask], earlier: &[Run], now: Time) -> Value {
    let known: Vec<f64> = reported.iter().filter_map(|task| task.progress).collect();
    let expected = reported.iter().filter_map(|task| task.estimated_completion).max();
    if !known.is_empty() {
        let average = known.iter().sum::<f64>() / known.len() as f64;
        return json!({
            "ratio": average, "is_estimate": false, "basis": "reported by its agents",
            "estimated_completion": expected.map(|at| at.to_string()),
        });
    }
    let Some(main) = main_run(runs) else { return Value::Null };
    let taken = now.since(main.started_at);
    let beneath: Vec<&Run> = runs.iter().filter(|run| run.parent == Some(main.id)).collect();
    let done = beneath.iter().filter(|run| run.status != RunStatus::Running).count();
    if done > 0 {
        let ratio = (done as f64 / beneath.len() as f64).min(MAX_ESTIMATE);
        let left = taken.as_secs_f64() * (1.0 - ratio) / ratio;
        let at = expected.or_else(|| Some(now.plus(Duration::try_from_secs_f64(left).ok()?)));
        return json!({
            "ratio": ratio, "is_estimate": true,
            "basis": format!("{done} of {} known subtasks ended", beneath.len()),
            "estimated_completion": at.map(|at| at.to_string()),
        });
    }
    let is_other = |run: &&Run| run.id != main.id && run.status == RunStatus::Ok && run.task != main.task;
    let same_name: Vec<&Run> = earlier.iter().filter(is_other).filter(|run| run.name == main.name).collect();
    let (of_what, sample) = match same_name.len() {
        MIN_EARLIER.. => (format!("named {}", main.name), same_name),
        _ => ("of this agent".to_owned(), earlier.iter().filter(is_other).collect()),
    };
    let mut seconds: Vec<f64> =
        sample.iter().filter_map(|run| Some(run.ended_at?.seconds_since(run.started_at))).collect();
    seconds.sort_by(f64::total_cmp);
    if seconds.len() < MIN_EARLIER {
        return Value::Null;
    }
    let at = |share: f64| seconds[((seconds.len() as f64 * share).ceil() as usize).clamp(1, seconds.len()) - 1];
    let (low, median, high) = (at(0.25), at(0.5), at(0.75));
    if median <= 0.0 {
        return Value::Null;
    }
    let length = Duration::try_from_secs_f64(median).unwrap_or_default();
    json!({
        "ratio": (taken.as_secs_f64() / median).min(MAX_ESTIMATE), "is_estimate": true,
        "basis": format!("median of {} earlier runs {of_what}", seconds.len()),
        "usual_seconds": {"p25": low, "p50": median, "p75": high},
        "estimated_completion": main.started_at.plus(length).max(now).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunSource;

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn run(number: u8, task: &str, [from, to]: [i64; 2]) -> Run {
        let id = TraceId::from_slice(&[number; 16]).expect("an id");
        let mut run =
            Run::new(id, ["shop".into(), "clerk".into(), "custom".into()], "report".into(), RunSource::Api, at(from));
        run.task = Some(task.into());
        if to > 0 {
            (run.status, run.ended_at) = (RunStatus::Ok, Some(at(to)));
        }
        run
    }

    #[test]
    fn progress_is_as_reported_else_by_subtasks_else_by_earlier_runs() {
        let main = run(1, "t", [1_000, 0]);
        let shown = |runs: &[Run], reported: &[ReportedTask], earlier: &[Run]| {
            let shown = task("t", runs, reported, earlier, at(1_060));
            let progress = &shown["progress"];
            (progress["ratio"].clone(), progress["is_estimate"].clone(), progress["basis"].clone())
        };
        let none = (Value::Null, Value::Null, Value::Null);
        assert_eq!(shown(std::slice::from_ref(&main), &[], &[]), none, "nothing is known");
        let earlier: Vec<Run> = (10..15).map(|number| run(number, "old", [0, i64::from(number) * 10])).collect();
        let expected = (json!(0.5), json!(true), json!("median of 5 earlier runs named report"));
        assert_eq!(shown(std::slice::from_ref(&main), &[], &earlier), expected);
        let children = [run(2, "t", [1_000, 1_010]), run(3, "t", [1_010, 0])].map(|mut child| {
            child.parent = Some(main.id);
            child
        });
        let [first, second] = children;
        let expected = (json!(0.5), json!(true), json!("1 of 2 known subtasks ended"));
        assert_eq!(shown(&[main.clone(), first, second], &[], &earlier), expected);
        let reported = ReportedTask { progress: Some(0.25), ..ReportedTask::default() };
        let expected = (json!(0.25), json!(false), json!("reported by its agents"));
        assert_eq!(shown(&[main], &[reported], &earlier), expected);
        let ended = task("t", &[run(1, "t", [1_000, 1_030])], &[], &earlier, at(1_060));
        assert_eq!((&ended["status"], &ended["progress"]), (&json!("ended"), &Value::Null));
    }
}
