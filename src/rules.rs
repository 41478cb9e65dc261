//! Rule files and rule evaluation: changes of the fleet go in, findings come out.
//!
//! It owns the compiled rules, the windows over counters, and the times at which a value changes without a report. It does
//! no I/O and reads no clock: `now` is an argument. A finding is what holds now; the state of alerts belongs to `alerts`.

pub mod compile;
pub mod description;
mod evaluate;
pub mod file;
pub mod indicators;
mod metric;
mod outcome;
mod reevaluation;
pub mod row;
mod text;
mod thresholds;
mod window;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

pub use compile::{BUILT_IN, Rule, RuleSet, built_in};
pub use description::{Description, Measure};
pub use indicators::Indicator;
pub use metric::{MetricSelector, RuleInput};
pub use row::{ForEach, PromQl};
pub use text::{AlertTexts, TemplateData, as_count, as_dollars, as_duration, as_percent, as_short};
pub use thresholds::Comparison;

use crate::model::windows::SavedWindows;
use crate::model::{
    AgentWindows, Changes, Class, Component, Deadlines, Finding, RuleId, RulePolicy, Snapshot, Subject, Time, Unit,
    Window,
};
use evaluate::EvaluatedState;
use indicators::Indicators;
use outcome::Marks;
use window::{Track, TrackSpec, Tracks};

/// The loaded rules, and the state that they keep per subject.
#[derive(Debug)]
pub struct Rules {
    set: RuleSet,
    agents: Vec<AgentState>,
    /// Agents whose windows changed since they were last saved.
    unsaved: Vec<u32>,
    components: Vec<Marks>,
    /// The rules about the absence of a custom metric whose metric a component had.
    known_components: Vec<Marks>,
    sources: Vec<Marks>,
    sidecar_parts: Vec<Marks>,
    projects: Vec<ProjectState>,
    agent_deadlines: Deadlines,
    project_deadlines: Deadlines,
    source_deadlines: Deadlines,
    sidecar_deadlines: Deadlines,
}

/// The state that rules keep of one agent.
#[derive(Clone, Debug, Default)]
struct AgentState {
    marks: Marks,
    tracks: Option<Tracks>,
    /// Whether its windows have to be saved.
    unsaved: bool,
    /// The indicators that had a value, of those whose absence a rule alerts on.
    known: Indicators,
    /// The same of custom metrics.
    known_metrics: Vec<Arc<MetricSelector>>,
    /// The agent as of its last evaluation.
    seen: Option<EvaluatedState>,
}

/// The state that rules keep of one project.
#[derive(Clone, Debug, Default)]
struct ProjectState {
    marks: Marks,
    /// The rules about the absence of a custom metric whose metric it had.
    known: Marks,
    /// Missing agents with an active finding, as (rule, name).
    missing: Vec<(RuleId, Arc<str>)>,
}

impl Rules {
    /// Rules without any state.
    pub fn new(set: RuleSet) -> Self {
        Self {
            set,
            agents: Vec::new(),
            unsaved: Vec::new(),
            components: Vec::new(),
            known_components: Vec::new(),
            sources: Vec::new(),
            sidecar_parts: Vec::new(),
            projects: Vec::new(),
            agent_deadlines: Deadlines::default(),
            project_deadlines: Deadlines::default(),
            source_deadlines: Deadlines::default(),
            sidecar_deadlines: Deadlines::default(),
        }
    }

    /// Replaces the rules. Windows that the new rules use as well are kept; active alerts have to be marked again with
    /// [`Rules::mark_open`].
    pub fn replace(&mut self, set: RuleSet) {
        let before = std::mem::replace(&mut self.set, set).tracks;
        let place = |spec: &TrackSpec| before.iter().position(|known| known == spec);
        let places: Vec<Option<usize>> = self.set.tracks.iter().map(place).collect();
        for state in &mut self.agents {
            state.seen = None;
            let Some(known) = state.tracks.take() else { continue };
            let kept = places.iter().zip(&self.set.tracks).map(|(place, spec)| {
                place.and_then(|place| known.get(place)).cloned().unwrap_or_else(|| Track::new(spec))
            });
            state.tracks = Some(kept.collect());
        }
        self.reset_marks();
    }

    /// Resets marks and deadlines; windows are kept.
    pub fn reset_marks(&mut self) {
        self.agents.iter_mut().for_each(|state| state.marks = Marks::default());
        self.components.clear();
        self.known_components.clear();
        self.sources.clear();
        self.sidecar_parts.clear();
        self.projects.clear();
        self.agent_deadlines = Deadlines::default();
        self.project_deadlines = Deadlines::default();
        self.source_deadlines = Deadlines::default();
        self.sidecar_deadlines = Deadlines::default();
    }

    /// Takes the rules, for another [`Rules`] without any state.
    pub fn take_set(&mut self) -> RuleSet {
        std::mem::take(&mut self.set)
    }

    /// Whether any window changed since [`Rules::take_windows`].
    pub const fn has_unsaved_windows(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// The windows that changed since the last call, by (project, name) of their agents in `fleet`.
    pub fn take_windows(&mut self, fleet: &Snapshot) -> SavedWindows {
        let mut slots = std::mem::take(&mut self.unsaved);
        // That of a removed agent is no longer marked.
        slots
            .retain(|slot| self.agents.get_mut(*slot as usize).is_some_and(|state| std::mem::take(&mut state.unsaved)));
        let windows = slots.iter().filter_map(|slot| {
            let agent = fleet.agents.get(*slot)?;
            Some(((Arc::clone(&agent.project), Arc::clone(&agent.name)), self.windows(*slot)?))
        });
        windows.collect()
    }

    /// The windows of the agent in `slot`; `None` if there are none.
    pub fn windows(&self, slot: u32) -> Option<AgentWindows> {
        let state = self.agents.get(slot as usize)?;
        let tracks = state.tracks.as_deref().unwrap_or_default();
        let windows: Vec<_> =
            tracks.iter().zip(&self.set.tracks).filter_map(|(track, spec)| track.saved(spec)).collect();
        let is_known = |indicator: &&Indicator| state.known.contains(**indicator);
        let known = Indicator::ALL.iter().filter(is_known).map(|it| Cow::Borrowed(it.name()));
        let metrics = state.known_metrics.iter().map(|it| Cow::Owned(it.text().to_owned()));
        let known: Vec<_> = known.chain(metrics).collect();
        (!windows.is_empty() || !known.is_empty()).then_some(AgentWindows { known, windows })
    }

    /// Restores the saved windows of the agent in `slot` after a `downtime`. Windows that no rule uses any more are dropped.
    pub fn restore_windows(&mut self, now: Time, slot: u32, saved: &AgentWindows, downtime: Duration) {
        let mut tracks: Tracks = self.set.tracks.iter().map(Track::new).collect();
        for (track, spec) in tracks.iter_mut().zip(&self.set.tracks) {
            let is_same = |window: &&Window| {
                *window.indicator == *spec.name()
                    && Duration::from_millis(window.over) == spec.over
                    && window.average == spec.average
            };
            if let Some(window) = saved.windows.iter().find(is_same) {
                track.restore(now, window, downtime);
            }
        }
        let state = entry_of(&mut self.agents, slot);
        state.tracks = Some(tracks);
        saved.known.iter().filter_map(|word| Indicator::parse(word)).for_each(|known| state.known.insert(known));
        let metrics = self.set.rules.iter().filter_map(|rule| rule.metric.as_ref());
        for metric in metrics.filter(|metric| saved.known.iter().any(|word| word == metric.text())) {
            if !state.known_metrics.contains(metric) {
                state.known_metrics.push(Arc::clone(metric));
            }
        }
    }

    /// The policy of each rule, by [`RuleId`].
    pub fn policies(&self) -> Vec<RulePolicy> {
        self.set.rules.iter().map(|rule| rule.policy.clone()).collect()
    }

    /// The rule with this name.
    pub fn id(&self, name: &str) -> Option<RuleId> {
        let place = self.set.rules.iter().position(|rule| *rule.policy.name == *name)?;
        u16::try_from(place).ok().map(RuleId)
    }

    /// The class of the rule with this name; `None` if there is no such rule.
    pub fn class(&self, name: &str) -> Option<Class> {
        self.set.rules.iter().find(|rule| *rule.policy.name == *name).map(|rule| rule.policy.class)
    }

    /// The indicator that the rule with this name reads; `None` if there is no such rule.
    pub fn indicator(&self, name: &str) -> Option<Indicator> {
        self.set.rules.iter().find(|rule| *rule.policy.name == *name).map(|rule| rule.indicator)
    }

    /// Summary and action of an alert. `rule` may have gone since.
    pub fn describe(&self, rule: &str, data: &TemplateData<'_>) -> AlertTexts {
        self.set.texts.render(rule, data)
    }

    /// How the resolve of an alert reads behind the subject's name; `ending` is why it ended, when not because things are
    /// well again.
    pub fn resolution(&self, rule: &str, data: &TemplateData<'_>, ending: Option<&str>) -> String {
        self.set.texts.resolution(rule, data, ending)
    }

    /// The unit of the value of the rule of that name.
    pub fn unit(&self, rule: &str) -> Unit {
        self.set.texts.unit(rule)
    }

    /// Starts missing windows after a restart or a reload, so that counts from now on are increases.
    pub fn seed(&mut self, now: Time, fleet: &Snapshot) {
        for agent in fleet.agents.iter() {
            self.track(now, fleet, agent.slot, Indicators::ALL, false);
        }
    }

    /// Marks an alert of `rule` for `subject` as active, so that its end will be found. `agent` is the slot of the agent that
    /// it is about, if there is one.
    pub fn mark_open(&mut self, fleet: &Snapshot, rule: RuleId, subject: &Subject, agent: Option<u32>) {
        let project = subject.project().and_then(|name| fleet.projects.iter().find(|project| project.name == *name));
        let slot = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        match (subject, project, agent) {
            (Subject::Agent { .. }, _, Some(agent)) => entry_of(&mut self.agents, agent).marks.set(rule, true),
            (Subject::Agent { name, .. }, Some(project), None) => {
                entry_of(&mut self.projects, project.slot).missing.push((rule, Arc::clone(name)));
            }
            (Subject::Component { name, .. }, Some(project), _) => {
                let same = |it: &&Component| it.name == *name && it.project_slot == project.slot;
                if let Some(component) = fleet.components.iter().find(same) {
                    entry_of(&mut self.components, component.slot).set(rule, true);
                }
            }
            (Subject::Source { name }, ..) => {
                if let Some(place) = fleet.sources.iter().position(|source| source.name == *name) {
                    entry_of(&mut self.sources, slot(place)).set(rule, true);
                }
            }
            (Subject::Receiver { .. } | Subject::Sidecar { .. }, ..) => {
                if let Some(place) = fleet.sidecar_parts.iter().position(|part| part.subject() == *subject) {
                    entry_of(&mut self.sidecar_parts, slot(place)).set(rule, true);
                }
            }
            (Subject::Cluster { .. }, Some(project), _) => {
                entry_of(&mut self.projects, project.slot).marks.set(rule, true);
            }
            _ => {}
        }
    }

    /// Evaluates the rules that read anything that changed, for the subjects in `changes`.
    pub fn evaluate(&mut self, now: Time, fleet: &Snapshot, changes: &Changes, out: &mut Vec<Finding>) {
        for removed in &changes.removed_agents {
            self.agent_removed(now, removed, out);
        }
        for removed in &changes.removed_components {
            self.component_removed(now, removed, out);
        }
        for slot in &changes.agents {
            self.evaluate_changed(now, fleet, *slot, (false, changes.new_day), out);
        }
        for slot in &changes.components {
            self.evaluate_component(now, fleet, *slot, out);
        }
        for slot in &changes.sources {
            self.evaluate_source(now, fleet, *slot, out);
        }
        for slot in &changes.sidecar_parts {
            self.evaluate_sidecar_part(now, fleet, *slot, out);
        }
        for slot in &changes.projects {
            self.evaluate_project(now, fleet, *slot, out);
        }
    }

    /// Evaluates all rules for all subjects, as after a reload.
    pub fn evaluate_all(&mut self, now: Time, fleet: &Snapshot, out: &mut Vec<Finding>) {
        for agent in fleet.agents.iter() {
            self.evaluate_changed(now, fleet, agent.slot, (true, false), out);
        }
        let slots = |length: usize| 0..u32::try_from(length).unwrap_or(u32::MAX);
        let changes = Changes {
            components: fleet.components.iter().map(|component| component.slot).collect(),
            projects: slots(fleet.projects.len()).collect(),
            sources: slots(fleet.sources.len()).collect(),
            sidecar_parts: slots(fleet.sidecar_parts.len()).collect(),
            ..Changes::default()
        };
        self.evaluate(now, fleet, &changes, out);
    }

    /// When [`Rules::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Time> {
        let deadlines =
            [&self.agent_deadlines, &self.project_deadlines, &self.source_deadlines, &self.sidecar_deadlines];
        deadlines.into_iter().filter_map(Deadlines::next).min()
    }

    /// Evaluates rules whose value has changed by time alone.
    pub fn tick(&mut self, now: Time, fleet: &Snapshot, out: &mut Vec<Finding>) {
        while let Some(slot) = self.agent_deadlines.pop_due(now) {
            self.evaluate_agent(now, fleet, slot, self.set.timed, false, out);
        }
        while let Some(slot) = self.project_deadlines.pop_due(now) {
            self.evaluate_project(now, fleet, slot, out);
        }
        while let Some(slot) = self.source_deadlines.pop_due(now) {
            self.evaluate_source(now, fleet, slot, out);
        }
        while let Some(slot) = self.sidecar_deadlines.pop_due(now) {
            self.evaluate_sidecar_part(now, fleet, slot, out);
        }
    }
}

/// The entry of `slot` in a table, which is extended if needed.
fn entry_of<T: Clone + Default>(table: &mut Vec<T>, slot: u32) -> &mut T {
    let place = slot as usize;
    if place >= table.len() {
        table.resize(place + 1, T::default());
    }
    &mut table[place]
}
