//! The rule file and its judgement: what changed goes in, findings come out.
//!
//! Owns compiled rules, the windows over counters, and the deadlines at which time alone changes a value.
//! Refuses I/O and clocks: `now` comes in. Keeps no alert: a finding says what is true now, and the life
//! of an alert is the business of `alerts`.

pub mod compile;
pub mod description;
mod evaluate;
pub mod file;
pub mod indicators;
mod outcome;
mod reevaluation;
pub mod row;
mod text;
mod thresholds;
mod window;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use compile::{BUILT_IN, Rule, RuleSet, built_in};
pub use description::{Description, Measure};
pub use indicators::Indicator;
pub use row::{ForEach, PromQl};
pub use text::{TemplateData, as_count, as_duration, as_percent};
pub use thresholds::Comparison;

use crate::model::{
    AgentWindows, Changes, Class, Component, Deadlines, Finding, RuleId, RulePolicy, Snapshot, Subject, Time, Window,
};
use evaluate::EvaluatedState;
use indicators::Indicators;
use outcome::Marks;
use window::{Track, TrackSpec, Tracks};

/// The rules in force and what they remember of each subject.
#[derive(Debug)]
pub struct Rules {
    set: RuleSet,
    agents: Vec<AgentState>,
    /// Agents whose windows changed since they were last taken to be saved.
    unsaved: Vec<u32>,
    components: Vec<Marks>,
    sources: Vec<Marks>,
    sidecar_parts: Vec<Marks>,
    projects: Vec<ProjectState>,
    agent_deadlines: Deadlines,
    project_deadlines: Deadlines,
    source_deadlines: Deadlines,
    sidecar_deadlines: Deadlines,
}

/// What is remembered of one agent.
#[derive(Clone, Debug, Default)]
struct AgentState {
    marks: Marks,
    tracks: Option<Tracks>,
    /// Whether its windows are among those to be saved.
    unsaved: bool,
    /// What had a value, of that whose absence a rule looks for.
    known: Indicators,
    /// What it was when rules were last evaluated for it.
    seen: Option<EvaluatedState>,
}

/// What is remembered of one project.
#[derive(Clone, Debug, Default)]
struct ProjectState {
    marks: Marks,
    /// Expected agents that a rule found missing: (rule, name).
    missing: Vec<(RuleId, Arc<str>)>,
}

impl Rules {
    /// Rules that remember nothing yet.
    pub fn new(set: RuleSet) -> Self {
        Self {
            set,
            agents: Vec::new(),
            unsaved: Vec::new(),
            components: Vec::new(),
            sources: Vec::new(),
            sidecar_parts: Vec::new(),
            projects: Vec::new(),
            agent_deadlines: Deadlines::default(),
            project_deadlines: Deadlines::default(),
            source_deadlines: Deadlines::default(),
            sidecar_deadlines: Deadlines::default(),
        }
    }

    /// Puts other rules in force. A window that rules before and after it look at goes on; what is open has to be marked
    /// anew.
    pub fn replace(&mut self, set: RuleSet) {
        let before = std::mem::replace(&mut self.set, set).tracks;
        let place = |spec: &TrackSpec| before.iter().position(|known| known == spec);
        let places: Vec<Option<usize>> = self.set.tracks.iter().map(place).collect();
        for memory in &mut self.agents {
            memory.seen = None;
            let Some(known) = memory.tracks.take() else { continue };
            let going_on = places.iter().zip(&self.set.tracks).map(|(place, spec)| {
                place.and_then(|place| known.get(place)).cloned().unwrap_or_else(|| Track::new(spec))
            });
            memory.tracks = Some(going_on.collect());
        }
        self.unmark();
    }

    /// Forgets what is open and when it is looked at next; windows go on.
    pub fn unmark(&mut self) {
        self.agents.iter_mut().for_each(|memory| memory.marks = Marks::default());
        self.components.clear();
        self.sources.clear();
        self.sidecar_parts.clear();
        self.projects.clear();
        self.agent_deadlines = Deadlines::default();
        self.project_deadlines = Deadlines::default();
        self.source_deadlines = Deadlines::default();
        self.sidecar_deadlines = Deadlines::default();
    }

    /// Takes the rules out, for another [`Rules`] that remembers nothing.
    pub fn take_set(&mut self) -> RuleSet {
        std::mem::take(&mut self.set)
    }

    /// The windows that changed since they were last taken, by the slots of their agents.
    pub fn take_windows(&mut self) -> Vec<(u32, AgentWindows)> {
        let slots = std::mem::take(&mut self.unsaved);
        let is_unsaved =
            |slot: &u32| self.agents.get_mut(*slot as usize).is_some_and(|memory| std::mem::take(&mut memory.unsaved));
        let slots: Vec<u32> = slots.into_iter().filter(is_unsaved).collect();
        slots.into_iter().filter_map(|slot| Some((slot, self.windows(slot)?))).collect()
    }

    /// The windows of the agent in `slot`, when it has any.
    pub fn windows(&self, slot: u32) -> Option<AgentWindows> {
        let memory = self.agents.get(slot as usize)?;
        let tracks = memory.tracks.as_deref().unwrap_or_default();
        let windows: Vec<_> =
            tracks.iter().zip(&self.set.tracks).filter_map(|(track, spec)| track.saved(spec.indicator)).collect();
        let is_known = |indicator: &&Indicator| memory.known.contains(**indicator);
        let known: Vec<_> = Indicator::ALL.iter().filter(is_known).map(|it| Arc::from(it.name())).collect();
        (!windows.is_empty() || !known.is_empty()).then_some(AgentWindows { known, windows })
    }

    /// Goes on from the windows that were saved of the agent in `slot` before the program was down for `downtime`. What no
    /// rule looks at any more is left out.
    pub fn restore_windows(&mut self, now: Time, slot: u32, saved: &AgentWindows, downtime: Duration) {
        let mut tracks: Tracks = self.set.tracks.iter().map(Track::new).collect();
        for (track, spec) in tracks.iter_mut().zip(&self.set.tracks) {
            let is_same = |window: &&Window| {
                *window.indicator == *spec.indicator.name()
                    && Duration::from_millis(window.over) == spec.over
                    && window.average == spec.average
            };
            if let Some(window) = saved.windows.iter().find(is_same) {
                track.restore(now, window, downtime);
            }
        }
        let memory = grown(&mut self.agents, slot);
        memory.tracks = Some(tracks);
        saved.known.iter().filter_map(|word| Indicator::parse(word)).for_each(|known| memory.known.insert(known));
    }

    /// The timing of each rule's alerts, by [`RuleId`].
    pub fn policies(&self) -> Vec<RulePolicy> {
        self.set.rules.iter().map(|rule| rule.policy.clone()).collect()
    }

    /// The rule of that name.
    pub fn id(&self, name: &str) -> Option<RuleId> {
        let place = self.set.rules.iter().position(|rule| *rule.policy.name == *name)?;
        u16::try_from(place).ok().map(RuleId)
    }

    /// What the rule of that name is about; `None` when it is gone.
    pub fn class(&self, name: &str) -> Option<Class> {
        self.set.rules.iter().find(|rule| *rule.policy.name == *name).map(|rule| rule.policy.class)
    }

    /// What the rule of that name reads; `None` when it is gone.
    pub fn indicator(&self, name: &str) -> Option<Indicator> {
        self.set.rules.iter().find(|rule| *rule.policy.name == *name).map(|rule| rule.indicator)
    }

    /// What a person is told of a finding: summary and action. `rule` may have gone since.
    pub fn describe(&self, rule: &str, facts: &TemplateData<'_>) -> (String, String) {
        self.set.describe(rule, facts)
    }

    /// Starts the windows that agents have not yet, after a restart or a reload, so that what they count from now on is an
    /// increase.
    pub fn seed(&mut self, now: Time, fleet: &Snapshot) {
        for agent in fleet.agents.iter() {
            self.track(now, fleet, agent.slot, Indicators::ALL, false);
        }
    }

    /// Tells that an alert of `rule` for `subject` is open, so that its end is found. `agent` is the slot of
    /// the agent that it is about, if there is one.
    pub fn mark_open(&mut self, fleet: &Snapshot, rule: RuleId, subject: &Subject, agent: Option<u32>) {
        let project = subject.project().and_then(|name| fleet.projects.iter().find(|project| project.name == *name));
        let slot = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        match (subject, project, agent) {
            (Subject::Agent { .. }, _, Some(agent)) => grown(&mut self.agents, agent).marks.set(rule, true),
            (Subject::Agent { name, .. }, Some(project), None) => {
                grown(&mut self.projects, project.slot).missing.push((rule, Arc::clone(name)));
            }
            (Subject::Component { name, .. }, Some(project), _) => {
                let same = |it: &&Component| it.name == *name && it.project_slot == project.slot;
                if let Some(component) = fleet.components.iter().find(same) {
                    grown(&mut self.components, component.slot).set(rule, true);
                }
            }
            (Subject::Source { name }, ..) => {
                if let Some(place) = fleet.sources.iter().position(|source| source.name == *name) {
                    grown(&mut self.sources, slot(place)).set(rule, true);
                }
            }
            (Subject::Receiver { .. } | Subject::Sidecar { .. }, ..) => {
                if let Some(place) = fleet.sidecar_parts.iter().position(|part| part.subject() == *subject) {
                    grown(&mut self.sidecar_parts, slot(place)).set(rule, true);
                }
            }
            (Subject::Cluster { .. }, Some(project), _) => {
                grown(&mut self.projects, project.slot).marks.set(rule, true);
            }
            _ => {}
        }
    }

    /// Evaluates the rules that read what changed, of what `changes` names.
    pub fn evaluate(&mut self, now: Time, fleet: &Snapshot, changes: &Changes, out: &mut Vec<Finding>) {
        for removed in &changes.removed_agents {
            self.agent_gone(now, removed, out);
        }
        for removed in &changes.removed_components {
            self.component_gone(now, removed, out);
        }
        for slot in &changes.agents {
            self.judge_changed(now, fleet, *slot, (false, changes.new_day), out);
        }
        for slot in &changes.components {
            self.judge_component(now, fleet, *slot, out);
        }
        for slot in &changes.sources {
            self.judge_source(now, fleet, *slot, out);
        }
        for slot in &changes.sidecar_parts {
            self.judge_sidecar_part(now, fleet, *slot, out);
        }
        for slot in &changes.projects {
            self.judge_project(now, fleet, *slot, out);
        }
    }

    /// Judges everything, as after a reload.
    pub fn evaluate_all(&mut self, now: Time, fleet: &Snapshot, out: &mut Vec<Finding>) {
        for agent in fleet.agents.iter() {
            self.judge_changed(now, fleet, agent.slot, (true, false), out);
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

    /// When [`Rules::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        let deadlines =
            [&self.agent_deadlines, &self.project_deadlines, &self.source_deadlines, &self.sidecar_deadlines];
        deadlines.into_iter().filter_map(Deadlines::next).min()
    }

    /// Judges what time alone has changed by `now`.
    pub fn tick(&mut self, now: Time, fleet: &Snapshot, out: &mut Vec<Finding>) {
        while let Some(slot) = self.agent_deadlines.pop_due(now) {
            self.judge_agent(now, fleet, slot, self.set.timed, false, out);
        }
        while let Some(slot) = self.project_deadlines.pop_due(now) {
            self.judge_project(now, fleet, slot, out);
        }
        while let Some(slot) = self.source_deadlines.pop_due(now) {
            self.judge_source(now, fleet, slot, out);
        }
        while let Some(slot) = self.sidecar_deadlines.pop_due(now) {
            self.judge_sidecar_part(now, fleet, slot, out);
        }
    }
}

/// The entry of `slot` in a table that is kept beside a slab.
fn grown<T: Clone + Default>(table: &mut Vec<T>, slot: u32) -> &mut T {
    let place = slot as usize;
    if place >= table.len() {
        table.resize(place + 1, T::default());
    }
    &mut table[place]
}
