//! Custom metrics of agents, components and projects: their families, limits and expiry.

use std::sync::Arc;

use crate::model::custom_metric::full_name;
use crate::model::{
    Agent, Component, CustomKind, CustomMetrics, CustomScope, CustomSeries, CustomUpdate, CustomValue, DEFAULT_PROJECT,
    Deadlines, RejectReason, Slab, Time,
};

use super::project::Tally;
use super::{Fleet, IngestOutcome, MAX_PROJECTS, SERIES_PER_AGENT};

/// The maximum number of families.
const MAX_FAMILIES: usize = 1_000;
/// The maximum number of series of one agent or component, and of one project.
const MAX_SERIES: [usize; 3] = [250, 250, 1_000];
/// Custom metrics take at most this part of the series cap, so that they never keep an agent out.
const PART_OF_CAP: usize = 2;

/// Why a metric is rejected: the field, the reason, and what is wrong.
type Refusal = (&'static str, RejectReason, String);

/// Whose series they are, by slot.
type Holder = (CustomScope, u32);

/// The custom metrics of what is in a slot.
fn of_holder<'s>(
    agents: &'s Slab<Agent>,
    components: &'s Slab<Component>,
    projects: &'s [Arc<crate::model::Project>],
    (scope, slot): Holder,
) -> Option<&'s CustomMetrics> {
    match scope {
        CustomScope::Agent => agents.get(slot)?.custom.as_deref(),
        CustomScope::Component => components.get(slot)?.custom.as_deref(),
        CustomScope::Project => projects.get(slot as usize)?.custom.as_deref(),
    }
}

/// The timers of custom metrics that expire, by scope and slot.
#[derive(Debug, Default)]
pub(super) struct CustomDeadlines([Deadlines; 3]);

impl CustomDeadlines {
    fn of(&mut self, scope: CustomScope) -> &mut Deadlines {
        let [agents, components, projects] = &mut self.0;
        match scope {
            CustomScope::Agent => agents,
            CustomScope::Component => components,
            CustomScope::Project => projects,
        }
    }

    /// The earliest of them.
    pub(super) fn next(&self) -> Option<Time> {
        self.0.iter().filter_map(Deadlines::next).min()
    }
}

impl Fleet {
    /// Applies custom metrics that were reported by themselves.
    pub fn metrics(&mut self, now: Time, updates: &[CustomUpdate]) -> IngestOutcome {
        let mut outcome = IngestOutcome::default();
        self.roll_over_day(now);
        for update in updates {
            let name = full_name(&update.name, update.kind);
            let mut update = update.clone();
            if update.agent.is_some() && update.kind == CustomKind::Counter && update.ttl.take().is_some() {
                let error = "a counter of an agent leaves with the agent; send no `ttl`".to_owned();
                outcome.reject_field(("metrics", update.index), &name, "ttl", (RejectReason::Value, error));
            }
            match self.apply_metric(now, &update) {
                Ok(()) => outcome.accepted += 1,
                Err((field, reason, error)) => {
                    outcome.reject_field(("metrics", update.index), &name, field, (reason, error));
                }
            }
        }
        self.mark_changed();
        outcome
    }

    fn apply_metric(&mut self, now: Time, update: &CustomUpdate) -> Result<(), Refusal> {
        let scope = match (&update.agent, &update.component) {
            (Some(_), _) => CustomScope::Agent,
            (None, Some(_)) => CustomScope::Component,
            (None, None) => CustomScope::Project,
        };
        // Checked before an agent is created: a metric that is rejected must leave nothing behind.
        self.check_family(scope, update)?;
        let name = update.project.as_deref().unwrap_or(DEFAULT_PROJECT);
        let no_project =
            || ("project", RejectReason::SeriesCap, format!("the limit of {MAX_PROJECTS} projects is reached"));
        let (slot, is_new) = match (&update.agent, &update.component) {
            (Some(agent), _) => {
                if self.find(name, agent).is_none() {
                    self.check_room(1)?;
                    if !self.has_room(SERIES_PER_AGENT + 1) {
                        self.state.series_dropped += SERIES_PER_AGENT as u64;
                        return Err(("", RejectReason::SeriesCap, self.cap_error()));
                    }
                }
                let project = self.project_slot(name).ok_or_else(no_project)?;
                let source = Arc::clone(&self.metrics);
                match self.agent_slot(now, project, &source, agent) {
                    Some(slot) => slot,
                    None => {
                        self.state.series_dropped += SERIES_PER_AGENT as u64;
                        return Err(("", RejectReason::SeriesCap, self.cap_error()));
                    }
                }
            }
            (None, Some(component)) => {
                let project = self.projects.get(name).and_then(|slot| self.indexes.get(*slot as usize));
                let slot = project.and_then(|index| index.components.get(component)).copied();
                let unknown = "no such component in the project; send its status to /api/state first";
                (slot.ok_or_else(|| ("component", RejectReason::Name, unknown.to_owned()))?, false)
            }
            (None, None) => {
                if !self.projects.contains_key(name) {
                    self.check_room(1)?;
                }
                (self.project_slot(name).ok_or_else(no_project)?, false)
            }
        };
        if scope == CustomScope::Agent {
            self.agent_was_seen(now, slot, is_new);
        }
        self.set_metric(now, (scope, slot), update, false)
    }

    /// A metric of an agent is a sign of life, unless its own reports promise a rhythm.
    fn agent_was_seen(&mut self, now: Time, slot: u32, is_new: bool) {
        let Some(agent) = self.changes.agent(&mut self.state.agents, slot) else { return };
        if agent.ttl.is_none() {
            agent.last_seen = now;
        }
        if !is_new {
            return;
        }
        let project = agent.project_slot;
        let tally = Tally::of(agent, false);
        let before = self.project_counts(project);
        if let Some(totals) = self.state.projects.get_mut(project as usize).map(Arc::make_mut) {
            Tally::none().replace_with(tally, totals);
        }
        // Metrics arrive at no promised interval, so such an agent expires but is never stale.
        self.agent_deadlines.schedule(slot, now.plus(self.settings.agents.forget_after));
        self.refresh_project(now, project, before);
    }

    /// Whether the metric's name means the same elsewhere.
    fn check_family(&self, scope: CustomScope, update: &CustomUpdate) -> Result<(), Refusal> {
        let Some(family) = self.state.custom.get(&update.name) else {
            return if self.state.custom.len() < MAX_FAMILIES {
                Ok(())
            } else {
                Err(("name", RejectReason::Limit, format!("there are {MAX_FAMILIES} names already; use fewer")))
            };
        };
        family.accepts(update.kind, scope, &update.labels).map_err(|it| {
            let known = full_name(&update.name, family.kind);
            ("name", RejectReason::Conflict, format!("`{known}` {it} already; send it alike, or under another name"))
        })
    }

    fn check_room(&mut self, series: usize) -> Result<(), Refusal> {
        let own = self.settings.max_series / PART_OF_CAP;
        if self.state.custom.series() + series <= own && self.has_room(series) {
            return Ok(());
        }
        self.state.series_dropped += series as u64;
        let error = format!(
            "custom metrics have {} series, and with agents and components the cap of {} is reached; raise \
             limits.series (custom metrics take at most half of it) or report fewer",
            self.state.custom.series(),
            self.settings.max_series
        );
        Err(("", RejectReason::SeriesCap, error))
    }

    /// Sets the series of `holder` that `update` is about, and adds it if it is new.
    fn set_metric(
        &mut self,
        now: Time,
        holder: Holder,
        update: &CustomUpdate,
        is_of_state: bool,
    ) -> Result<(), Refusal> {
        self.check_family(holder.0, update)?;
        let default = (holder.0 == CustomScope::Project).then_some(self.settings.agents.forget_after);
        let ttl = update.ttl.or(default);
        let held = of_holder(&self.state.agents, &self.state.components, &self.state.projects, holder);
        let count = held.map_or(0, CustomMetrics::len);
        if !held.is_some_and(|held| held.contains(&update.name, &update.labels)) {
            let most = MAX_SERIES.get(holder.0 as usize).copied().unwrap_or_default();
            if count >= most {
                let error = format!("{most} series already; report fewer names or labels");
                return Err(("", RejectReason::Limit, error));
            }
            self.check_room(1)?;
            let series = CustomSeries {
                name: Arc::clone(&update.name),
                labels: update.labels.clone(),
                value: CustomValue::new(update.kind, update.value),
                seen: now,
                ttl,
                is_of_state,
            };
            Arc::make_mut(&mut self.state.custom).add(holder.0, &series);
            self.change_metrics(holder, |metrics| metrics.insert(series));
        } else {
            // Of a value that is reported again unchanged, rules have nothing to evaluate.
            let has_changed = self.with_metrics(holder, |metrics| {
                let Some(series) = metrics.get_mut(&update.name, &update.labels) else { return false };
                (series.seen, series.ttl, series.is_of_state) = (now, ttl, is_of_state);
                series.value.report(update.value)
            });
            if has_changed == Some(true) {
                self.note_metrics(holder);
            }
        }
        if let Some(ttl) = ttl {
            self.custom_deadlines.of(holder.0).schedule(holder.1, now.plus(ttl));
        }
        Ok(())
    }

    /// Replaces the metrics that came with the last state of the component in `slot` by those of `metrics`.
    pub(super) fn set_component_metrics(
        &mut self,
        now: Time,
        slot: u32,
        metrics: impl Iterator<Item = CustomUpdate>,
    ) -> Vec<(String, Refusal)> {
        let holder = (CustomScope::Component, slot);
        let metrics: Vec<CustomUpdate> = metrics.collect();
        // What is not reported any more leaves first: another kind or other labels of its name may take its place.
        let is_sent = |series: &CustomSeries| {
            let is_it = |update: &CustomUpdate| {
                (&update.name, &update.labels, update.kind) == (&series.name, &series.labels, series.value.kind())
            };
            metrics.iter().any(is_it)
        };
        self.drop_metrics(holder, |series| series.is_of_state && !is_sent(series));
        let mut refused = Vec::new();
        for update in &metrics {
            if let Err(refusal) = self.set_metric(now, holder, update, true) {
                refused.push((full_name(&update.name, update.kind), refusal));
            }
        }
        refused
    }

    /// Runs `change` on the metrics of `holder`, which are created if there are none.
    fn with_metrics<T>(&mut self, (scope, slot): Holder, change: impl FnOnce(&mut CustomMetrics) -> T) -> Option<T> {
        let metrics = match scope {
            CustomScope::Agent => &mut self.changes.agent(&mut self.state.agents, slot)?.custom,
            CustomScope::Component => &mut self.state.components.get_mut(slot)?.custom,
            CustomScope::Project => &mut Arc::make_mut(self.state.projects.get_mut(slot as usize)?).custom,
        };
        let done = change(Arc::make_mut(metrics.get_or_insert_default()));
        if metrics.as_ref().is_some_and(|metrics| metrics.is_empty()) {
            *metrics = None;
        }
        Some(done)
    }

    /// The same, for a change that rules have to know.
    fn change_metrics<T>(&mut self, holder: Holder, change: impl FnOnce(&mut CustomMetrics) -> T) -> Option<T> {
        let done = self.with_metrics(holder, change);
        self.note_metrics(holder);
        done
    }

    /// Records that the metrics of `holder` changed.
    fn note_metrics(&mut self, (scope, slot): Holder) {
        self.custom_revision += 1;
        let revision = self.custom_revision;
        let is_there =
            of_holder(&self.state.agents, &self.state.components, &self.state.projects, (scope, slot)).is_some();
        if is_there {
            self.with_metrics((scope, slot), |metrics| metrics.revision = revision);
        }
        match scope {
            CustomScope::Agent => {}
            CustomScope::Component if self.changes.components.last() == Some(&slot) => {}
            CustomScope::Component => self.changes.components.push(slot),
            CustomScope::Project => self.project_changed(slot),
        }
    }

    /// Removes the series of `holder` for which `is_gone`.
    fn drop_metrics(&mut self, holder: Holder, is_gone: impl Fn(&CustomSeries) -> bool) {
        let held = of_holder(&self.state.agents, &self.state.components, &self.state.projects, holder);
        if !held.is_some_and(|held| held.iter().any(&is_gone)) {
            return;
        }
        let gone = self.change_metrics(holder, |metrics| metrics.extract(is_gone)).unwrap_or_default();
        let families = Arc::make_mut(&mut self.state.custom);
        gone.iter().for_each(|series| families.remove(series));
        self.mark_changed();
    }

    /// Uncounts the series of an agent or component that is removed.
    pub(super) fn release_metrics(&mut self, (scope, slot): Holder, metrics: Option<&CustomMetrics>) {
        self.custom_deadlines.of(scope).cancel(slot);
        if let Some(metrics) = metrics {
            let families = Arc::make_mut(&mut self.state.custom);
            metrics.iter().for_each(|series| families.remove(series));
        }
    }

    /// Counts the restored series of an agent, component or project, without those that no longer fit.
    pub(super) fn adopt_metrics(&mut self, now: Time, (scope, slot): Holder) {
        let started_at = self.state.started_at;
        let held = of_holder(&self.state.agents, &self.state.components, &self.state.projects, (scope, slot));
        let Some(held) = held.cloned() else { return };
        let families = Arc::make_mut(&mut self.state.custom);
        let mut adopted = CustomMetrics::default();
        for series in held.iter() {
            let family = families.get(&series.name);
            let fits = family.is_none_or(|it| it.accepts(series.value.kind(), scope, &series.labels).is_ok());
            if !fits || adopted.contains(&series.name, &series.labels) {
                continue;
            }
            let series = CustomSeries { seen: series.seen.min(now), ..series.clone() };
            families.add(scope, &series);
            if let Some(at) = series.expires_at(started_at) {
                self.custom_deadlines.of(scope).schedule(slot, at);
            }
            adopted.insert(series);
        }
        self.change_metrics((scope, slot), |metrics| *metrics = adopted);
    }

    /// Removes the series that have expired.
    pub(super) fn expire_metrics(&mut self, now: Time) {
        let started_at = self.state.started_at;
        for scope in CustomScope::ALL {
            while let Some(slot) = self.custom_deadlines.of(scope).pop_due(now) {
                self.drop_metrics((scope, slot), |series| series.expires_at(started_at).is_some_and(|at| at <= now));
                let held = of_holder(&self.state.agents, &self.state.components, &self.state.projects, (scope, slot));
                let next = held.into_iter().flat_map(|held| held.iter());
                if let Some(at) = next.filter_map(|series| series.expires_at(started_at)).min() {
                    self.custom_deadlines.of(scope).schedule(slot, at);
                }
            }
        }
    }
}
