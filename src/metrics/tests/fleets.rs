//! Fleets for the tests of the exposition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::alert::AlertCounts;
use crate::model::labels::{agent_labels, component_labels, project_labels};
use crate::model::project::{REQUEST_DURATION_BOUNDS, TASK_DURATION_BOUNDS};
use crate::model::snapshot::Budgets;
use crate::model::{
    Agent, AgentRuns, AgentStatus, Component, ComponentStatus, Level, ModelTotals, PlatformTotals, Project, RateLimit,
    RateLimitHit, RunFacts, RunStatus, RunSummary, Snapshot, Source, Task, Time, TraceId,
};

pub(super) const NOW: Time = Time::from_millis(1_795_226_400_000);

/// An agent without any known value.
pub(super) fn unknown(project: &str, name: &str) -> Agent {
    let mut agent = Agent::new(Arc::from(project), Arc::from(name), Arc::from("push"), NOW);
    agent.labels = agent_labels(project, name);
    agent
}

/// An agent with all values.
pub(super) fn known(project: &str, name: &str, status: AgentStatus) -> Agent {
    let mut agent = unknown(project, name);
    agent.agent_type = Some(Arc::from("claude-code"));
    agent.model = Some(Arc::from("claude-opus"));
    agent.status = Some(status);
    agent.ttl = Some(Duration::from_secs(60));
    agent.last_activity = Some(NOW.minus(Duration::from_millis(400_250)));
    agent.progress = Some(0.425);
    agent.context_window_ratio = Some(0.75);
    agent.estimated_completion = Some(NOW.plus(Duration::from_secs(60)));
    agent.task = Some(Task {
        id: Arc::from("task_123"),
        started_at: NOW,
        worked: Duration::ZERO,
        working_since: None,
        tokens: 1_500,
    });
    agent.tokens[0].report(1_000);
    agent.tokens[1].report(500);
    agent.cost_usd.report(0.0123);
    agent.unpriced_tokens.report(7);
    (agent.day_tokens, agent.day_cost_usd) = (1_400, 0.01);
    agent.restarts.report(1);
    agent.requests.report(40);
    agent.request_errors.report(1);
    agent.rate_limit_hits.report(0);
    agent.retries.report(2);
    agent.reviews_passed.report(3);
    agent.tasks_completed.report(5);
    agent.rate_limits.push(RateLimit {
        provider: Arc::from("anthropic"),
        limit_type: Arc::from("requests"),
        limit: Some(50),
        remaining: Some(12),
        reset_at: Some(NOW.plus(Duration::from_millis(30_500))),
    });
    agent
        .record_rate_limit(NOW, &RateLimitHit { provider: None, until: Some(NOW.plus(Duration::from_millis(20_500))) });
    agent.runs = Some(Arc::new(runs()));
    agent
}

/// Enough runs that it is known what is usual, and one in progress.
fn runs() -> AgentRuns {
    let mut runs = AgentRuns::default();
    for number in 0..21_u8 {
        let (status, ended_at) = match number {
            0 => (RunStatus::Error, Some(NOW)),
            20 => (RunStatus::Running, None),
            _ => (RunStatus::Ok, Some(NOW)),
        };
        let started_at = NOW.minus(Duration::from_secs(12));
        let summary = RunSummary {
            project: Arc::from("shop"),
            agent: Arc::from("grand_boss"),
            agent_type: Arc::from("claude-code"),
            id: TraceId::from_slice(&[number + 1; 16]).expect("an id"),
            name: Arc::from("nightly"),
            status,
            started_at,
            ended_at,
            cost_usd: Some(0.25),
            fallbacks: u64::from(number == 1),
            platform: None,
            facts: crate::model::RunFacts::default(),
            error: None,
            history: None,
        };
        runs.record(NOW, started_at, &summary);
    }
    runs
}

/// A project with totals.
pub(super) fn project(name: &str) -> Project {
    let mut project = Project { name: Arc::from(name), labels: project_labels(name), ..Project::default() };
    project.by_status[AgentStatus::Running as usize] = 1;
    project.components[ComponentStatus::Warning as usize] = 1;
    for millis in [9_000, 10_000, 71_250, 90_000_000] {
        project.task_durations.observe(&TASK_DURATION_BOUNDS, Duration::from_millis(millis));
    }
    project.request_durations.observe(&REQUEST_DURATION_BOUNDS, Duration::from_millis(2_250));
    let mut used = ModelTotals::default();
    used.tokens[0].report(1_000);
    used.cost_usd.report(0.5);
    let mut slack = PlatformTotals::default();
    slack.add(NOW, 0, &RunFacts::of_metadata(&serde_json::json!({"response_time_ms": 1500.5, "answered": true})));
    slack.add(NOW, 1, &RunFacts::of_metadata(&serde_json::json!({"answered": false})));
    project.platforms = Arc::new(BTreeMap::from([(Arc::from("slack"), slack)]));
    project.models = Arc::new(BTreeMap::from([(Arc::from("claude-opus"), used)]));
    project
}

/// A component.
pub(super) fn component(project: &str, name: &str, status: ComponentStatus) -> Component {
    Component {
        slot: 0,
        project_slot: 0,
        project: Arc::from(project),
        name: Arc::from(name),
        labels: component_labels(project, name),
        source: Arc::from("push"),
        status,
        status_since: NOW,
        details: None,
        metrics: Vec::new(),
        custom: None,
        last_seen: NOW,
    }
}

/// A source that was polled.
pub(super) fn source(name: &str) -> Source {
    Source {
        name: Arc::from(name),
        kind: "http-json",
        up: Some(false),
        failing_since: Some(NOW),
        last_success: Some(NOW.minus(Duration::from_secs(5))),
        last_error: None,
        errors: [0, 2, 0, 0, 0, 0, 1],
    }
}

/// A fleet of `agents` with all budgets, without projects, components and sources.
pub(super) fn of(agents: impl IntoIterator<Item = Agent>) -> Snapshot {
    let budgets =
        Budgets { tokens_per_task: Some(200_000), tokens_per_day: Some(1_000_000), cost_usd_per_day: Some(12.5) };
    let mut snapshot = Snapshot { at: NOW, budgets, ..Snapshot::default() };
    for agent in agents {
        snapshot.agents.insert_with(|_| agent);
    }
    snapshot
}

/// A fleet with series in every family.
pub(super) fn full() -> (Snapshot, AlertCounts) {
    let mut asker = unknown("shop", "asker");
    (asker.status, asker.reason) = (Some(AgentStatus::WaitingQuestion), Some(Arc::from("permission to run Bash")));
    let mut snapshot = of([known("shop", "grand_boss", AgentStatus::Running), asker]);
    snapshot.projects.push(Arc::new(project("shop")));
    snapshot.components.insert_with(|_| component("shop", "DatabaseManager", ComponentStatus::Warning));
    snapshot.sources.push(Arc::new(source("orchestrator")));
    snapshot.series_dropped = 45;
    let mut alerts = AlertCounts { raised: [0, 2, 1, 0], ..AlertCounts::default() };
    alerts.active.insert((Arc::from("shop"), Level::Warning, Arc::from("AgentIdle")), 1);
    alerts.active.insert((Arc::from(""), Level::Error, Arc::from("SourceDown")), 1);
    (snapshot, alerts)
}
