//! Sums and counts of a project, kept as its agents change and never recounted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::labels::project_labels;
use crate::model::project::TASK_DURATION_BOUNDS;
use crate::model::{Agent, AgentStatus, ComponentStatus, Count, EndedTask, Project, Task, Time};

use super::{Fleet, MAX_PROJECTS};

/// Models told apart in one project; the others are summed as `other`.
const MAX_MODELS: usize = 100;
/// How far `recent_tasks` looks back.
const RECENT: Duration = Duration::from_secs(3600);

/// Where a project's agents and components are.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) agents: HashMap<Arc<str>, u32>,
    pub(super) components: HashMap<Arc<str>, u32>,
    pub(super) tasks: HashMap<Arc<str>, u32>,
    /// Agents that the configuration names.
    pub(super) wanted: Vec<Arc<str>>,
}

impl Index {
    /// Notes that the agent in `slot` holds `task` and no longer `old`.
    pub(super) fn follow_task(&mut self, slot: u32, old: Option<Arc<str>>, task: Option<&Task>) {
        if let Some(old) = old
            && self.tasks.get(&old) == Some(&slot)
        {
            self.tasks.remove(&old);
        }
        if let Some(task) = task {
            self.tasks.insert(Arc::clone(&task.id), slot);
        }
    }
}

/// How one agent counts in its project.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    known: bool,
    status: Option<AgentStatus>,
    up: bool,
    down: bool,
    expected: bool,
    limited: bool,
}

impl Tally {
    /// How `agent` counts; a new one did not count before.
    pub(super) fn of(agent: &Agent, is_new: bool) -> Self {
        if is_new {
            return Self::none();
        }
        Self {
            known: true,
            status: agent.status,
            up: agent.is_up(),
            down: agent.is_down(),
            expected: agent.is_expected(),
            limited: agent.limited.is_some(),
        }
    }

    /// How an agent counts that is not there.
    pub(super) const fn none() -> Self {
        Self { known: false, status: None, up: false, down: false, expected: false, limited: false }
    }

    /// Counts `new` in place of this.
    pub(super) fn replace_with(self, new: Self, project: &mut Project) {
        if self != new {
            self.count(project, u32::wrapping_sub);
            new.count(project, u32::wrapping_add);
        }
    }

    fn count(self, project: &mut Project, step: fn(u32, u32) -> u32) {
        if !self.known {
            return;
        }
        project.agents = step(project.agents, 1);
        project.up = step(project.up, u32::from(self.up));
        project.down = step(project.down, u32::from(self.down));
        project.expected = step(project.expected, u32::from(self.expected));
        project.limited = step(project.limited, u32::from(self.limited));
        match self.status {
            Some(status) => {
                if let Some(count) = project.by_status.get_mut(status as usize) {
                    *count = step(*count, 1);
                }
            }
            None => project.unknown_status = step(project.unknown_status, 1),
        }
    }
}

/// Counts a component under `to` in place of `from`.
pub(super) fn count_component(project: &mut Project, from: Option<ComponentStatus>, to: Option<ComponentStatus>) {
    if let Some(count) = from.and_then(|from| project.components.get_mut(from as usize)) {
        *count -= 1;
    }
    if let Some(count) = to.and_then(|to| project.components.get_mut(to as usize)) {
        *count += 1;
    }
}

/// Counts a task of `agent` that ended at `now`, well or not, and how long it took.
pub(super) fn end_task(now: Time, agent: &mut Agent, project: &mut Project, task: EndedTask) {
    let counts = if task.is_done {
        (&mut agent.tasks_completed, &mut project.totals.tasks_completed)
    } else {
        (&mut agent.tasks_failed, &mut project.totals.tasks_failed)
    };
    counts.0.add(1);
    counts.1.add(1);
    record_task(project, now);
    if let Some(took) = task.took {
        project.task_durations.observe(&TASK_DURATION_BOUNDS, took);
    }
}

/// Notes that a task ended at `now`.
fn record_task(project: &mut Project, now: Time) {
    let minute = Time::from_millis(now.as_millis().div_euclid(60_000) * 60_000);
    let recent = Arc::make_mut(&mut project.recent_tasks);
    recent.retain(|(at, _)| now.since(*at) < RECENT);
    match recent.last_mut() {
        Some((at, count)) if *at == minute => *count += 1,
        _ => recent.push((minute, 1)),
    }
}

/// Adds steps by type; all types are known once one is.
pub(super) fn add_tokens(counts: &mut [Count; 5], steps: &[u64; 5]) {
    for (count, step) in counts.iter_mut().zip(steps) {
        count.add(*step);
    }
}

/// Books use of `model`.
pub(super) fn add_model_usage(project: &mut Project, model: &Arc<str>, tokens: &[u64; 5], cost: Option<f64>) {
    let models = Arc::make_mut(&mut project.models);
    let name = if models.len() < MAX_MODELS || models.contains_key(model) { Arc::clone(model) } else { "other".into() };
    let totals = models.entry(name).or_default();
    add_tokens(&mut totals.tokens, tokens);
    if let Some(cost) = cost {
        totals.cost_usd.add(cost);
    }
}

/// What of a project others follow.
#[derive(Clone, PartialEq)]
pub(super) struct ProjectCounts {
    up: u32,
    down: u32,
    expected: u32,
    limited: u32,
    components: [u32; 4],
    sums: [u64; 5],
    tokens: u64,
    cost: f64,
}

impl Fleet {
    /// The slot of the project `name`, made when there is room.
    pub(super) fn project_slot(&mut self, name: &str) -> Option<u32> {
        if let Some(slot) = self.projects.get(name) {
            return Some(*slot);
        }
        if self.projects.len() >= MAX_PROJECTS {
            return None;
        }
        let slot = u32::try_from(self.state.projects.len()).ok()?;
        let name: Arc<str> = Arc::from(name);
        let project = Project { slot, labels: project_labels(&name), name: Arc::clone(&name), ..Project::default() };
        self.state.projects.push(Arc::new(project));
        self.indexes.push(Index::default());
        self.projects.insert(name, slot);
        Some(slot)
    }

    /// How the project stands, to see later whether that changed.
    pub(super) fn tally(&self, project: u32) -> Option<ProjectCounts> {
        let project = self.state.projects.get(project as usize)?;
        let totals = &project.totals;
        Some(ProjectCounts {
            up: project.up,
            down: project.down,
            expected: project.expected,
            limited: project.limited,
            components: project.components,
            sums: [
                totals.restarts.total(),
                totals.requests.total(),
                totals.request_errors.total(),
                totals.rate_limit_hits.total(),
                totals.retries.total(),
            ],
            tokens: totals.tokens.iter().map(Count::total).fold(0, u64::saturating_add),
            cost: totals.cost_usd.total(),
        })
    }

    /// Brings what follows from the counts up to date, and names the project when it stands differently.
    pub(super) fn settle_project(&mut self, now: Time, slot: u32, before: Option<ProjectCounts>) {
        self.settle_expected(now, slot);
        if self.tally(slot) != before {
            self.project_changed(slot);
        }
    }

    /// Names the project among what changed, once.
    pub(super) fn project_changed(&mut self, slot: u32) {
        if !self.changes.projects.contains(&slot) {
            self.changes.projects.push(slot);
        }
    }
}
