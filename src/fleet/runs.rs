//! Applies summaries of runs. They arrive at no fixed interval, so their absence makes no agent stale.

use std::sync::Arc;

use crate::model::agent_runs::RECENT_RUNS;
use crate::model::{AgentRuns, PlatformTotals, RejectReason, RunStatus, RunSummary, Time, TraceId};

use super::project::Tally;
use super::{Fleet, IngestOutcome, SERIES_PER_AGENT};

/// Platforms kept per project; further ones are summed as `other`.
const MAX_PLATFORMS: usize = 20;
const OTHER: &str = "other";

impl Fleet {
    /// Applies runs that began or ended. What ended long ago, of an export of old spans, does not count.
    pub fn runs(&mut self, now: Time, runs: &[RunSummary]) -> IngestOutcome {
        let mut outcome = IngestOutcome::default();
        self.roll_over_day(now);
        for run in runs {
            match self.apply_run(now, run) {
                Ok(()) => outcome.accepted += 1,
                Err(error) => outcome.reject(("", 0), &run.agent, RejectReason::SeriesCap, error),
            }
        }
        self.mark_changed();
        outcome
    }

    fn apply_run(&mut self, now: Time, run: &RunSummary) -> Result<(), String> {
        let last_at = self.state.wall.from_wall(run.ended_at.unwrap_or(run.started_at));
        let is_known = self.find(&run.project, &run.agent).is_some();
        if run.ended_at.is_some() && last_at.plus(RECENT_RUNS) <= now && !is_known {
            return Ok(());
        }
        let Some(project) = self.project_slot(&run.project) else {
            return Err("the limit of projects is reached; use fewer project names".to_owned());
        };
        let before = self.project_counts(project);
        let source = Arc::clone(&self.runs);
        let Some((slot, is_new)) = self.agent_slot(now, project, &source, &run.agent) else {
            self.state.series_dropped += SERIES_PER_AGENT as u64;
            return Err(self.cap_error());
        };
        let started_at = self.state.wall.from_wall(run.started_at).min(now);
        let forget_after = self.settings.agents.forget_after;
        let (Some(agent), Some(totals)) = (
            self.changes.agent(&mut self.state.agents, slot),
            self.state.projects.get_mut(project as usize).map(Arc::make_mut),
        ) else {
            return Ok(());
        };
        let tally = Tally::of(agent, is_new);
        agent.agent_type.get_or_insert_with(|| Arc::clone(&run.agent_type));
        if agent.ttl.is_none() {
            // The liveness of an agent with a `ttl` depends on its own reports only.
            agent.last_seen = now;
        }
        let runs = Arc::make_mut(agent.runs.get_or_insert_default());
        let mut is_counted = false;
        if run.status == RunStatus::Running || last_at.plus(RECENT_RUNS) > now {
            let counted = runs.total();
            runs.record(now, started_at, run);
            is_counted = runs.total() > counted;
        } else {
            runs.forget(run.id);
        }
        let due = runs.expires_at();
        tally.replace_with(Tally::of(agent, false), totals);
        if is_new {
            self.agent_deadlines.schedule(slot, now.plus(forget_after));
        }
        due.into_iter().for_each(|at| self.agent_deadlines.schedule(slot, at));
        if is_counted {
            self.add_platform_run(now, project, run);
        }
        self.refresh_project(now, project, before);
        Ok(())
    }

    /// Counts a run that ended by its platform. A new one displaces the one without a run for the longest time, if that is
    /// as long as after which agents are forgotten; without room it counts as `other`.
    fn add_platform_run(&mut self, now: Time, project: u32, run: &RunSummary) {
        let Some(platform) = &run.platform else { return };
        let Some(status) = AgentRuns::STATUSES.iter().position(|status| *status == run.status) else { return };
        let is_room = self.has_room(PlatformTotals::SERIES);
        let forgotten = now.minus(self.settings.agents.forget_after);
        let Some(project) = self.state.projects.get_mut(project as usize).map(Arc::make_mut) else { return };
        let platforms = Arc::make_mut(&mut project.platforms);
        let before = platforms.len();
        let mut name = Arc::clone(platform);
        if !platforms.contains_key(&name) && (!is_room || platforms.len() >= MAX_PLATFORMS) {
            let oldest = platforms.iter().min_by_key(|(_, totals)| totals.last_at);
            let oldest =
                oldest.filter(|(_, totals)| totals.last_at < Some(forgotten)).map(|(name, _)| Arc::clone(name));
            match oldest {
                Some(oldest) => drop(platforms.remove(&oldest)),
                None => name = OTHER.into(),
            }
        }
        if platforms.contains_key(&name) || is_room || platforms.len() < before {
            platforms.entry(name).or_default().add(now, status, &run.facts);
        } else {
            self.state.series_dropped += PlatformTotals::SERIES as u64;
        }
        self.platforms = self.platforms + platforms.len() - before;
    }

    /// Drops the last run of an agent once it is no longer recent, and schedules when to look again.
    pub(super) fn expire_runs(&mut self, now: Time, slot: u32) {
        let due = |runs: &Arc<AgentRuns>| runs.expires_at();
        let Some(at) = self.state.agents.get(slot).and_then(|agent| agent.runs.as_ref()).and_then(due) else { return };
        if at > now {
            return self.agent_deadlines.schedule(slot, at);
        }
        let Some(agent) = self.changes.agent(&mut self.state.agents, slot) else { return };
        let Some(runs) = &mut agent.runs else { return };
        Arc::make_mut(runs).expire(now);
        let next = runs.expires_at();
        next.into_iter().for_each(|at| self.agent_deadlines.schedule(slot, at));
        self.mark_changed();
    }

    /// The runs in progress, with the project and the name of their agents.
    pub fn runs_in_progress(&self) -> Vec<(Arc<str>, Arc<str>, TraceId)> {
        let agents = self.state.agents.iter().filter_map(|agent| Some((agent, agent.runs.as_ref()?)));
        let of_agent = agents.flat_map(|(agent, runs)| runs.running().iter().map(move |run| (agent, run.id)));
        of_agent.map(|(agent, id)| (Arc::clone(&agent.project), Arc::clone(&agent.name), id)).collect()
    }
}
