//! Evaluates the rules for one subject.

use std::borrow::Cow;
use std::sync::Arc;

use super::compile::{Expr, Rule};
use super::indicators::{Indicator, Indicators};
use super::outcome::{Marks, outcome_of, rule_id, since};
use super::reevaluation::{grows, grows_of_agent, next_evaluation, next_threshold};
use super::row::{CounterValue, ForEach, Reading, Windowed};
use super::thresholds::Comparison;
use super::window::{Track, Tracks};
use super::{AgentState, ProjectState, Rules, entry_of};
use crate::model::sidecar_part::SidecarPart;
use crate::model::{Agent, AgentStatus, Deadlines, Ending, Finding, Removal, Removed, RuleId, Snapshot, Subject, Time};

impl AgentState {
    /// Whether what `rule` reads had a value.
    fn is_known(&self, rule: &Rule) -> bool {
        match &rule.metric {
            Some(metric) => self.known_metrics.contains(metric),
            None => self.known.contains(rule.indicator),
        }
    }
}

/// An agent as of its last evaluation, for detecting what changed since.
#[derive(Clone, Debug)]
pub(super) struct EvaluatedState {
    scope: RuleScope,
    /// [`super::row::IndicatorRow::basis`] of each indicator that a rule reads, in the order of [`super::RuleSet::read`].
    bases: Box<[u64]>,
}

/// What decides whether a rule applies to an agent: if any of it changes, all rules are evaluated.
#[derive(Clone, Debug, PartialEq)]
struct RuleScope {
    status: Option<AgentStatus>,
    ended: bool,
    stale: bool,
    /// Whether it was reported since our start; before that, only its saved state is known.
    is_reported: bool,
    agent_type: Option<Arc<str>>,
}

impl RuleScope {
    fn is_of(&self, agent: &Agent, fleet: &Snapshot) -> bool {
        let same_type = match (&self.agent_type, &agent.agent_type) {
            (Some(known), Some(new)) => Arc::ptr_eq(known, new) || known == new,
            (known, new) => known.is_none() && new.is_none(),
        };
        let is_reported = agent.last_seen >= fleet.started_at;
        same_type
            && (self.status, self.ended, self.stale, self.is_reported)
                == (agent.status, agent.ended, agent.stale, is_reported)
    }

    fn of(agent: &Agent, fleet: &Snapshot) -> Self {
        Self {
            status: agent.status,
            ended: agent.ended,
            stale: agent.stale,
            is_reported: agent.last_seen >= fleet.started_at,
            agent_type: agent.agent_type.clone(),
        }
    }
}

/// The indicators of `agent` that changed since it was last `seen`, which is updated; all of them at the first time.
fn changed(seen: &mut Option<EvaluatedState>, read: &[Indicator], agent: &Agent, fleet: &Snapshot) -> Indicators {
    let bases = read.iter().map(|indicator| indicator.row().basis(agent, fleet));
    let Some(seen) = seen.as_mut().filter(|seen| seen.bases.len() == read.len()) else {
        *seen = Some(EvaluatedState { scope: RuleScope::of(agent, fleet), bases: bases.collect() });
        return Indicators::ALL;
    };
    let mut changed = Indicators::NONE;
    for ((indicator, known), basis) in read.iter().zip(&mut seen.bases).zip(bases) {
        if std::mem::replace(known, basis) != basis {
            changed.insert(*indicator);
        }
    }
    if seen.scope.is_of(agent, fleet) {
        return changed;
    }
    seen.scope = RuleScope::of(agent, fleet);
    Indicators::ALL
}

impl Rules {
    /// Updates the windows of an agent for the indicators in `changed`. `in_full` is whether a new agent was observed from the
    /// start, so that its first values are increases.
    pub(super) fn track(&mut self, now: Time, fleet: &Snapshot, slot: u32, changed: Indicators, in_full: bool) {
        if self.set.tracks.is_empty() {
            return;
        }
        let Some(agent) = fleet.agents.get(slot) else { return };
        let state = entry_of(&mut self.agents, slot);
        let tracks = state.tracks.get_or_insert_with(|| self.set.tracks.iter().map(Track::new).collect());
        let is_new = in_full && agent.first_seen >= fleet.started_at;
        let mut changed_any = false;
        for (track, spec) in tracks.iter_mut().zip(&self.set.tracks) {
            if !changed.contains(spec.input.indicator) {
                continue;
            }
            let row = spec.input.indicator.row();
            let custom = agent.custom.as_deref();
            let CounterValue { value, is_from_zero } = match row.windowed {
                _ if let Some(metric) = &spec.input.metric => match spec.average {
                    true => CounterValue { value: metric.mean(custom), is_from_zero: false },
                    false => CounterValue { value: metric.counted(custom), is_from_zero: true },
                },
                Windowed::Increase(count) | Windowed::Changes(count) => count(agent, fleet),
                Windowed::Average | Windowed::No => match row.read(agent, fleet, now) {
                    Reading::Value(value) => CounterValue { value: Some(value), is_from_zero: false },
                    _ => continue,
                },
            };
            if let Some(value) = value {
                // A counter that was accumulated here counts in full; one that was reported starts at its first value.
                changed_any |= track.observe(now, value, in_full && is_from_zero, is_new);
            }
        }
        if changed_any && !std::mem::replace(&mut state.unsaved, true) {
            self.unsaved.push(slot);
        }
    }

    /// Evaluates the rules that read anything that changed about the agent in `slot` since its last evaluation; all rules if
    /// `is_all`.
    pub(super) fn evaluate_changed(
        &mut self,
        now: Time,
        fleet: &Snapshot,
        slot: u32,
        (is_all, new_day): (bool, bool),
        out: &mut Vec<Finding>,
    ) {
        let Some(agent) = fleet.agents.get(slot) else { return };
        let changed = changed(&mut entry_of(&mut self.agents, slot).seen, &self.set.read, agent, fleet);
        let of_the_day = if new_day { self.set.of_the_day } else { Indicators::NONE };
        let changed = if is_all { Indicators::ALL } else { changed.union(of_the_day) };
        if !changed.is_empty() {
            self.evaluate_agent(now, fleet, slot, changed, new_day, out);
        }
    }

    /// Evaluates the rules that read any of `changed` for the agent in `slot`, and schedules its next evaluation.
    pub(super) fn evaluate_agent(
        &mut self,
        now: Time,
        fleet: &Snapshot,
        slot: u32,
        changed: Indicators,
        new_day: bool,
        out: &mut Vec<Finding>,
    ) {
        self.track(now, fleet, slot, changed, true);
        let Some(agent) = fleet.agents.get(slot) else { return };
        let state = entry_of(&mut self.agents, slot);
        // Of an agent that is stale, or not reported since our start, nothing is known but that.
        let is_unreported = agent.stale || agent.last_seen < fleet.started_at;
        let mut due: Option<Time> = None;
        for (place, rule) in self.set.rules.iter().enumerate() {
            let row = rule.indicator.row();
            if rule.for_each != ForEach::Agent || !rule.reads.intersects(changed) || row.is_of_missing_agents {
                continue;
            }
            // A new day needs no report.
            let is_known = row.is_known_while_stale || row.is_of_the_day && new_day;
            if is_unreported && !is_known {
                continue;
            }
            let id = rule_id(place);
            let with_limits = rule.of_agent(agent, now);
            let has_limits = with_limits.is_ok();
            let rule = &*with_limits.unwrap_or(Cow::Borrowed(rule));
            let reading = match &rule.filter {
                Some(filter) if !filter.covers(agent) => Reading::NotApplicable,
                _ if !has_limits => Reading::NotApplicable,
                _ => reading(rule, agent, fleet, state.tracks.as_mut(), now),
            };
            let reading = match reading {
                // A value that was never known is not absent.
                Reading::Unknown
                    if rule.thresholds.when == Comparison::Absent && !state.is_known(rule) && !state.marks.has(id) =>
                {
                    Reading::NotApplicable
                }
                Reading::Value(_) if rule.thresholds.when == Comparison::Absent => {
                    if !state.is_known(rule) {
                        match &rule.metric {
                            Some(metric) => state.known_metrics.push(Arc::clone(metric)),
                            None => state.known.insert(rule.indicator),
                        }
                        if !std::mem::replace(&mut state.unsaved, true) {
                            self.unsaved.push(slot);
                        }
                    }
                    reading
                }
                _ => reading,
            };
            let mut outcome = outcome_of(rule, reading);
            if let Some(least) = row.least.filter(|_| rule.thresholds.when == Comparison::AtLeast) {
                outcome.least = least(agent);
            }
            let open = state.marks.has(id) || outcome.level.is_some();
            if let Some(at) = next_evaluation(rule, agent, fleet, reading, open, state.tracks.as_ref(), now) {
                due = Some(due.map_or(at, |due| due.min(at)));
            }
            let since = since(rule, &outcome, now);
            let subject = || Subject::Agent { project: Arc::clone(&agent.project), name: Arc::clone(&agent.name) };
            if let Some(mut finding) = outcome.finding(id, since, &mut state.marks, subject) {
                finding.source = Some(Arc::clone(&agent.source));
                finding.agent_type.clone_from(&agent.agent_type);
                finding.grows = grows_of_agent(rule, agent, fleet, reading, now);
                if new_day && finding.level.is_none() && row.is_of_the_day {
                    finding.ending = Some(Ending::NewDay);
                }
                out.push(finding);
            }
        }
        if let Some(due) = due {
            self.agent_deadlines.schedule(slot, due);
        }
    }

    pub(super) fn agent_removed(&mut self, now: Time, removed: &Removed, out: &mut Vec<Finding>) {
        let state = std::mem::take(entry_of(&mut self.agents, removed.slot));
        self.agent_deadlines.cancel(removed.slot);
        let subject = Subject::Agent { project: Arc::clone(&removed.project), name: Arc::clone(&removed.name) };
        out.extend(state.marks.iter().map(|rule| removal_finding(rule, subject.clone(), removed.removal, now)));
    }

    pub(super) fn component_removed(&mut self, now: Time, removed: &Removed, out: &mut Vec<Finding>) {
        let marks = std::mem::take(entry_of(&mut self.components, removed.slot));
        *entry_of(&mut self.known_components, removed.slot) = Marks::default();
        let subject = Subject::Component { project: Arc::clone(&removed.project), name: Arc::clone(&removed.name) };
        out.extend(marks.iter().map(|rule| removal_finding(rule, subject.clone(), removed.removal, now)));
    }

    pub(super) fn evaluate_component(&mut self, now: Time, fleet: &Snapshot, slot: u32, out: &mut Vec<Finding>) {
        let Some(component) = fleet.components.get(slot) else { return };
        let known = entry_of(&mut self.known_components, slot);
        let mut subject = SubjectMarks { slot, marks: entry_of(&mut self.components, slot), deadlines: None };
        for (place, rule) in self.set.rules.iter().enumerate() {
            let Some(read) = rule.reader(ForEach::Component, |row| row.component) else { continue };
            let covered = rule.filter.as_ref().is_none_or(|filter| filter.covers_project(&component.project));
            let reading = match &rule.metric {
                _ if !covered => Reading::NotApplicable,
                Some(metric) => {
                    let reading = metric.read(component.custom.as_deref(), &rule.thresholds);
                    after_presence(rule_id(place), reading, known, subject.marks)
                }
                None => read(component),
            };
            out.extend(subject.evaluate(now, (rule, rule_id(place)), reading, || Subject::Component {
                project: Arc::clone(&component.project),
                name: Arc::clone(&component.name),
            }));
        }
    }

    pub(super) fn evaluate_source(&mut self, now: Time, fleet: &Snapshot, slot: u32, out: &mut Vec<Finding>) {
        let Some(source) = fleet.sources.get(slot as usize) else { return };
        let marks = entry_of(&mut self.sources, slot);
        let mut subject = SubjectMarks { slot, marks, deadlines: Some(&mut self.source_deadlines) };
        for (place, rule) in self.set.rules.iter().enumerate() {
            let Some(read) = rule.reader(ForEach::Source, |row| row.source) else { continue };
            let name = || Subject::Source { name: Arc::clone(&source.name) };
            out.extend(subject.evaluate(now, (rule, rule_id(place)), read(source, now), name));
        }
    }

    /// Evaluates rules for the part of the sidecar at `slot`.
    pub(super) fn evaluate_sidecar_part(&mut self, now: Time, fleet: &Snapshot, slot: u32, out: &mut Vec<Finding>) {
        let Some(part) = fleet.sidecar_parts.get(slot as usize) else { return };
        let marks = entry_of(&mut self.sidecar_parts, slot);
        let mut subject = SubjectMarks { slot, marks, deadlines: Some(&mut self.sidecar_deadlines) };
        for (place, rule) in self.set.rules.iter().enumerate() {
            let reading = match &**part {
                SidecarPart::Receiver(receiver) => {
                    rule.reader(ForEach::Receiver, |row| row.receiver).map(|read| read(receiver, now))
                }
                SidecarPart::Sidecar(sidecar) => {
                    rule.reader(ForEach::Sidecar, |row| row.sidecar).map(|read| read(sidecar, now))
                }
            };
            let Some(reading) = reading else { continue };
            out.extend(subject.evaluate(now, (rule, rule_id(place)), reading, || part.subject()));
        }
    }

    pub(super) fn evaluate_project(&mut self, now: Time, fleet: &Snapshot, slot: u32, out: &mut Vec<Finding>) {
        let Some(project) = fleet.projects.get(slot as usize) else { return };
        for place in 0..self.set.rules.len() {
            self.evaluate_missing(now, fleet, slot, place, out);
            let Some(rule) = self.set.rules.get(place) else { continue };
            let Some(read) = rule.reader(ForEach::Cluster, |row| row.project) else { continue };
            let covered = rule.filter.as_ref().is_none_or(|filter| filter.covers_project(&project.name));
            let reading = match &rule.metric {
                _ if !covered => Reading::NotApplicable,
                Some(metric) => {
                    let reading = metric.read(project.custom.as_deref(), &rule.thresholds);
                    let ProjectState { marks, known, .. } = entry_of(&mut self.projects, slot);
                    after_presence(rule_id(place), reading, known, marks)
                }
                None => read(project, now),
            };
            let marks = &mut entry_of(&mut self.projects, slot).marks;
            let mut subject = SubjectMarks { slot, marks, deadlines: Some(&mut self.project_deadlines) };
            let name = || Subject::Cluster { project: Arc::clone(&project.name) };
            out.extend(subject.evaluate(now, (rule, rule_id(place)), reading, name));
        }
    }

    /// Evaluates the rule at `place`, if it is about missing agents, for those of a project.
    fn evaluate_missing(&mut self, now: Time, fleet: &Snapshot, slot: u32, place: usize, out: &mut Vec<Finding>) {
        let (Some(project), Some(rule)) = (fleet.projects.get(slot as usize), self.set.rules.get(place)) else {
            return;
        };
        if rule.for_each != ForEach::Agent || !rule.indicator.row().is_of_missing_agents {
            return;
        }
        let id = rule_id(place);
        let known = &mut entry_of(&mut self.projects, slot).missing;
        let subject = |name: &Arc<str>| Subject::Agent { project: Arc::clone(&project.name), name: Arc::clone(name) };
        for (name, since) in project.missing.iter() {
            let covered = rule.filter.as_ref().is_none_or(|filter| filter.covers_missing(&project.name, name));
            let reading = if covered { Reading::since(Some(*since), now) } else { Reading::NotApplicable };
            let found = known.iter().position(|(rule, missing)| *rule == id && missing == name);
            let mut marks = Marks::default();
            marks.set(id, found.is_some());
            let mut one = SubjectMarks { slot, marks: &mut marks, deadlines: Some(&mut self.project_deadlines) };
            out.extend(one.evaluate(now, (rule, id), reading, || subject(name)));
            match (found, marks.has(id)) {
                (None, true) => known.push((id, Arc::clone(name))),
                (Some(place), false) => {
                    known.swap_remove(place);
                }
                _ => {}
            }
        }
        known.retain(|(missing_rule, name)| {
            let still = *missing_rule != id || project.missing.iter().any(|(missing, _)| missing == name);
            if !still {
                let mut marks = Marks::default();
                marks.set(id, true);
                out.extend(outcome_of(rule, Reading::NotApplicable).finding(id, now, &mut marks, || subject(name)));
            }
            still
        });
    }
}

/// A subject other than an agent: its slot, its marks, and the deadlines of its kind.
struct SubjectMarks<'a> {
    slot: u32,
    marks: &'a mut Marks,
    deadlines: Option<&'a mut Deadlines>,
}

impl SubjectMarks<'_> {
    /// The finding of `rule` for `reading`; schedules the next evaluation of a growing value at its next threshold.
    fn evaluate(
        &mut self,
        now: Time,
        (rule, id): (&Rule, RuleId),
        reading: Reading,
        subject: impl FnOnce() -> Subject,
    ) -> Option<Finding> {
        let outcome = outcome_of(rule, reading);
        if let (Some(deadlines), Some(at)) = (&mut self.deadlines, next_threshold(rule, reading, now)) {
            deadlines.schedule(self.slot, at);
        }
        let since = since(rule, &outcome, now);
        let finding = outcome.finding(id, since, self.marks, subject)?;
        Some(Finding { grows: grows(rule, reading), ..finding })
    }
}

/// The reading of a custom metric: one that its subject never had is not absent.
fn after_presence(rule: RuleId, reading: Reading, known: &mut Marks, active: &Marks) -> Reading {
    match reading {
        Reading::Value(_) => known.set(rule, true),
        Reading::Unknown if !known.has(rule) && !active.has(rule) => return Reading::NotApplicable,
        _ => {}
    }
    reading
}

fn removal_finding(rule: RuleId, subject: Subject, removal: Removal, now: Time) -> Finding {
    let ending = match removal {
        Removal::Absent => Ending::Removed,
        Removal::Expired => Ending::Expired,
    };
    Finding {
        rule,
        subject,
        source: None,
        agent_type: None,
        level: None,
        cleared: true,
        value: None,
        grows: false,
        threshold: None,
        since: now,
        ending: Some(ending),
    }
}

fn reading(rule: &Rule, agent: &Agent, fleet: &Snapshot, tracks: Option<&mut Tracks>, now: Time) -> Reading {
    let mut tracks: Option<&mut [Track]> = tracks.map(|tracks| &mut **tracks);
    // An increase over a window that is not fully observed can reach a threshold, but cannot show that none is reached.
    let partial = |value: f64, covered: bool| {
        let fine = rule.thresholds.level_of(value).is_none();
        if fine && !covered { Reading::Unknown } else { Reading::Value(value) }
    };
    let is_at_most = rule.thresholds.when == Comparison::AtMost;
    match rule.expr {
        Expr::Now => rule.read(agent, fleet, now),
        Expr::Increase(place) | Expr::Rate(place, _) => {
            let Some(track) = track_at(&mut tracks, place) else { return Reading::Unknown };
            if is_at_most && !track.is_full(now) {
                return Reading::Unknown;
            }
            let seconds = if let Expr::Rate(_, seconds) = rule.expr { seconds } else { 1.0 };
            let (increase, covered) = (track.increase(now), track.is_covered(now));
            partial(increase / seconds, covered)
        }
        Expr::Average(place) => match track_at(&mut tracks, place).and_then(|track| track.average(now)) {
            Some(average) => Reading::Value(average),
            None => Reading::Unknown,
        },
        Expr::Ratio { part, whole, min_samples } => {
            let Some((samples, covered)) =
                track_at(&mut tracks, whole).map(|track| (track.increase(now), track.is_covered(now)))
            else {
                return Reading::Unknown;
            };
            let of_them = track_at(&mut tracks, part).map_or(0.0, |track| track.increase(now));
            if samples < min_samples {
                // Too few samples. Without any of the numerator left, an active alert clears as well.
                return if of_them == 0.0 && covered { Reading::NotApplicable } else { Reading::Unknown };
            }
            partial(of_them / samples, covered)
        }
    }
}

fn track_at<'a>(tracks: &'a mut Option<&mut [Track]>, place: usize) -> Option<&'a mut Track> {
    tracks.as_mut()?.get_mut(place)
}
