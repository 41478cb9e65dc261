//! One subject held against the rules that concern it.

use std::sync::Arc;
use std::time::Duration;

use super::compile::{Expr, MAX_RULES, Rule};
use super::file::ForEach;
use super::level::When;
use super::look::{next_look, next_threshold};
use super::read::{self, Reading};
use super::window::{Track, Tracks};
use super::{Rules, grown};
use crate::model::{Agent, Ending, Finding, Level, Removal, Removed, RuleId, Signal, Signals, Snapshot, Subject, Time};

/// Which rules have found something of a subject that is not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks([u64; MAX_RULES / 64]);

impl Marks {
    pub(super) fn set(&mut self, rule: RuleId, open: bool) {
        if let Some(word) = self.0.get_mut(usize::from(rule.0) / 64) {
            let bit = 1 << (rule.0 % 64);
            *word = if open { *word | bit } else { *word & !bit };
        }
    }

    pub(super) fn has(&self, rule: RuleId) -> bool {
        self.0.get(usize::from(rule.0) / 64).is_some_and(|word| word & 1 << (rule.0 % 64) != 0)
    }

    fn iter(&self) -> impl Iterator<Item = RuleId> + '_ {
        (0..MAX_RULES as u16).map(RuleId).filter(|rule| self.has(*rule))
    }
}

/// What a reading means under a rule.
pub(super) struct Verdict {
    pub(super) level: Option<(Level, f64)>,
    pub(super) cleared: bool,
    value: Option<f64>,
}

pub(super) fn verdict(rule: &Rule, reading: Reading) -> Verdict {
    match reading {
        Reading::Value(value) if rule.thresholds.when != When::Absent => {
            let level = rule.thresholds.level_of(value);
            Verdict { level, cleared: level.is_none() && rule.thresholds.is_clear(value), value: Some(value) }
        }
        Reading::Unknown if rule.thresholds.when != When::Absent => {
            Verdict { level: None, cleared: false, value: None }
        }
        Reading::Unknown => Verdict { level: rule.thresholds.lowest(), cleared: false, value: None },
        Reading::Value(_) | Reading::Fine => Verdict { level: None, cleared: true, value: Some(0.0) },
    }
}

impl Verdict {
    /// The finding, when there is something to say: a level reached, or news of one that was.
    pub(super) fn finding(
        self,
        rule: RuleId,
        since: Time,
        marks: &mut Marks,
        subject: impl FnOnce() -> Subject,
    ) -> Option<Finding> {
        let open = marks.has(rule);
        if self.level.is_none() && !open {
            return None;
        }
        marks.set(rule, self.level.is_some() || !self.cleared);
        Some(Finding {
            rule,
            subject: subject(),
            source: None,
            agent_type: None,
            level: self.level.map(|(level, _)| level),
            cleared: self.cleared,
            value: self.value,
            threshold: self.level.map(|(_, threshold)| threshold),
            since,
            ending: None,
        })
    }
}

pub(super) fn rule_id(place: usize) -> RuleId {
    RuleId(u16::try_from(place).unwrap_or(u16::MAX))
}

impl Rules {
    /// Brings the windows of an agent up to date with the signals in `changed`.
    /// `in_full` says that all of a new agent's life was seen, so that what it began with is known.
    pub(super) fn track(&mut self, now: Time, fleet: &Snapshot, slot: u32, changed: Signals, in_full: bool) {
        if self.set.tracks.is_empty() {
            return;
        }
        let Some(agent) = fleet.agents.get(slot) else { return };
        let memory = grown(&mut self.agents, slot);
        let tracks = memory.tracks.get_or_insert_with(|| self.set.tracks.iter().map(Track::new).collect());
        let is_new = in_full && agent.first_seen >= fleet.started_at;
        let mut changed_any = false;
        for (track, spec) in tracks.iter_mut().zip(&self.set.tracks) {
            if !changed.contains(spec.signal) {
                continue;
            }
            let value = if spec.average {
                match read::agent(spec.signal, agent, fleet, now) {
                    Reading::Value(value) => Some(value),
                    _ => None,
                }
            } else {
                read::counter(spec.signal, agent)
            };
            if let Some(value) = value {
                // Restarts that an agent comes with are news, and so is what was counted here; what it was said to have
                // counted before is history.
                let counts_first =
                    spec.signal == Signal::Restarts && is_new || in_full && read::is_counted_here(spec.signal, agent);
                changed_any |= track.observe(now, value, counts_first, is_new);
            }
        }
        if changed_any && !std::mem::replace(&mut memory.unsaved, true) {
            self.unsaved.push(slot);
        }
    }

    /// Judges the rules that read one of `changed` for the agent in `slot`, and schedules its next look.
    pub(super) fn judge_agent(
        &mut self,
        now: Time,
        fleet: &Snapshot,
        slot: u32,
        changed: Signals,
        new_day: bool,
        out: &mut Vec<Finding>,
    ) {
        self.track(now, fleet, slot, changed, true);
        let Some(agent) = fleet.agents.get(slot) else { return };
        let memory = grown(&mut self.agents, slot);
        // Of an agent that is silent, or that we only remember, nothing new is known but its silence.
        let is_silent = agent.stale || agent.last_heard < fleet.started_at;
        let mut due: Option<Time> = None;
        for (place, rule) in self.set.rules.iter().enumerate() {
            if rule.for_each != ForEach::Agent
                || !rule.reads.intersects(changed)
                || rule.signal == Signal::AgentsMissing
            {
                continue;
            }
            // A new day is known without it.
            let of_the_day = read::is_of_the_day(rule.signal);
            let is_known = matches!(rule.signal, Signal::StaleSeconds | Signal::AgentsDown) || of_the_day && new_day;
            if is_silent && !is_known {
                continue;
            }
            let id = rule_id(place);
            let reading = match &rule.filter {
                Some(filter) if !filter.covers(agent) => Reading::Fine,
                _ => reading(rule, agent, fleet, memory.tracks.as_mut(), now),
            };
            let reading = match reading {
                // What was never known is not absent.
                Reading::Unknown
                    if rule.thresholds.when == When::Absent
                        && !memory.known.contains(rule.signal)
                        && !memory.marks.has(id) =>
                {
                    Reading::Fine
                }
                Reading::Value(_) if rule.thresholds.when == When::Absent => {
                    if !memory.known.contains(rule.signal) {
                        memory.known.insert(rule.signal);
                        if !std::mem::replace(&mut memory.unsaved, true) {
                            self.unsaved.push(slot);
                        }
                    }
                    reading
                }
                _ => reading,
            };
            let verdict = verdict(rule, reading);
            let open = memory.marks.has(id) || verdict.level.is_some();
            if let Some(at) = next_look(rule, agent, fleet, reading, open, memory.tracks.as_ref(), now) {
                due = Some(due.map_or(at, |due| due.min(at)));
            }
            let since = since(rule, &verdict, now);
            let subject = || Subject::Agent { project: Arc::clone(&agent.project), name: Arc::clone(&agent.name) };
            if let Some(mut finding) = verdict.finding(id, since, &mut memory.marks, subject) {
                finding.source = Some(Arc::clone(&agent.source));
                finding.agent_type.clone_from(&agent.agent_type);
                if new_day && finding.level.is_none() && of_the_day {
                    finding.ending = Some(Ending::NewDay);
                }
                out.push(finding);
            }
        }
        if let Some(due) = due {
            self.agent_deadlines.schedule(slot, due);
        }
    }

    pub(super) fn agent_gone(&mut self, now: Time, removed: &Removed, out: &mut Vec<Finding>) {
        let memory = std::mem::take(grown(&mut self.agents, removed.slot));
        self.agent_deadlines.cancel(removed.slot);
        let subject = Subject::Agent { project: Arc::clone(&removed.project), name: Arc::clone(&removed.name) };
        out.extend(memory.marks.iter().map(|rule| gone(rule, subject.clone(), removed.removal, now)));
    }

    pub(super) fn component_gone(&mut self, now: Time, removed: &Removed, out: &mut Vec<Finding>) {
        let marks = std::mem::take(grown(&mut self.components, removed.slot));
        let subject = Subject::Component { project: Arc::clone(&removed.project), name: Arc::clone(&removed.name) };
        out.extend(marks.iter().map(|rule| gone(rule, subject.clone(), removed.removal, now)));
    }

    pub(super) fn judge_component(&mut self, now: Time, fleet: &Snapshot, slot: u32, out: &mut Vec<Finding>) {
        let Some(component) = fleet.components.get(slot) else { return };
        let marks = grown(&mut self.components, slot);
        for (place, rule) in self.set.rules.iter().enumerate() {
            if rule.for_each != ForEach::Component {
                continue;
            }
            let covered = rule.filter.as_ref().is_none_or(|filter| filter.covers_project(&component.project));
            let reading = if covered { Reading::Value(f64::from(component.status as u8)) } else { Reading::Fine };
            let subject =
                || Subject::Component { project: Arc::clone(&component.project), name: Arc::clone(&component.name) };
            out.extend(verdict(rule, reading).finding(rule_id(place), now, marks, subject));
        }
    }

    pub(super) fn judge_source(&mut self, now: Time, fleet: &Snapshot, slot: u32, out: &mut Vec<Finding>) {
        let Some(source) = fleet.sources.get(slot as usize) else { return };
        let marks = grown(&mut self.sources, slot);
        for (place, rule) in self.set.rules.iter().enumerate() {
            if rule.for_each != ForEach::Source {
                continue;
            }
            let reading = source.failing_since.map_or(Reading::Fine, |since| Reading::Value(now.seconds_since(since)));
            let verdict = verdict(rule, reading);
            let since = since(rule, &verdict, now);
            let subject = || Subject::Source { name: Arc::clone(&source.name) };
            out.extend(verdict.finding(rule_id(place), since, marks, subject));
            if let Some(at) = next_threshold(rule, reading, now) {
                self.source_deadlines.schedule(slot, at);
            }
        }
    }

    pub(super) fn judge_project(&mut self, now: Time, fleet: &Snapshot, slot: u32, out: &mut Vec<Finding>) {
        let Some(project) = fleet.projects.get(slot as usize) else { return };
        let memory = grown(&mut self.projects, slot);
        for (place, rule) in self.set.rules.iter().enumerate() {
            let id = rule_id(place);
            let since_missing = |since: Time| Reading::Value(now.seconds_since(since));
            if rule.for_each == ForEach::Agent && rule.signal == Signal::AgentsMissing {
                let subject =
                    |name: &Arc<str>| Subject::Agent { project: Arc::clone(&project.name), name: Arc::clone(name) };
                for (name, missing_since) in project.missing.iter() {
                    let covered = rule.filter.as_ref().is_none_or(|filter| filter.covers_missing(&project.name, name));
                    let reading = if covered { since_missing(*missing_since) } else { Reading::Fine };
                    let verdict = verdict(rule, reading);
                    if let Some(at) = next_threshold(rule, reading, now) {
                        self.project_deadlines.schedule(slot, at);
                    }
                    let mut marks = Marks::default();
                    let known = memory.missing.iter().position(|(rule, missing)| *rule == id && missing == name);
                    marks.set(id, known.is_some());
                    let since = since(rule, &verdict, now);
                    out.extend(verdict.finding(id, since, &mut marks, || subject(name)));
                    match (known, marks.has(id)) {
                        (None, true) => memory.missing.push((id, Arc::clone(name))),
                        (Some(place), false) => {
                            memory.missing.swap_remove(place);
                        }
                        _ => {}
                    }
                }
                memory.missing.retain(|(missing_rule, name)| {
                    let still = *missing_rule != id || project.missing.iter().any(|(missing, _)| missing == name);
                    if !still {
                        let mut marks = Marks::default();
                        marks.set(id, true);
                        out.extend(verdict(rule, Reading::Fine).finding(id, now, &mut marks, || subject(name)));
                    }
                    still
                });
                continue;
            }
            if rule.for_each != ForEach::Cluster {
                continue;
            }
            let covered = rule.filter.as_ref().is_none_or(|filter| filter.covers_project(&project.name));
            let reading = match rule.signal {
                _ if !covered => Reading::Fine,
                Signal::AgentsDown => Reading::Value(f64::from(project.down)),
                Signal::AgentsLimited => Reading::Value(f64::from(project.limited)),
                Signal::AgentsMissing => project.too_small_since.map_or(Reading::Fine, since_missing),
                Signal::ClusterHealth => Reading::Value(f64::from(project.health() as u8)),
                _ => Reading::Fine,
            };
            let verdict = verdict(rule, reading);
            if rule.signal == Signal::AgentsMissing
                && let Some(at) = next_threshold(rule, reading, now)
            {
                self.project_deadlines.schedule(slot, at);
            }
            let since = if rule.signal == Signal::AgentsMissing { since(rule, &verdict, now) } else { now };
            out.extend(
                verdict
                    .finding(id, since, &mut memory.marks, || Subject::Cluster { project: Arc::clone(&project.name) }),
            );
        }
    }
}

fn gone(rule: RuleId, subject: Subject, removal: Removal, now: Time) -> Finding {
    let ending = match removal {
        Removal::Absent => Ending::Removed,
        Removal::Forgotten => Ending::Forgotten,
    };
    Finding {
        rule,
        subject,
        source: None,
        agent_type: None,
        level: None,
        cleared: true,
        value: None,
        threshold: None,
        since: now,
        ending: Some(ending),
    }
}

fn reading(rule: &Rule, agent: &Agent, fleet: &Snapshot, tracks: Option<&mut Tracks>, now: Time) -> Reading {
    let mut tracks: Option<&mut [Track]> = tracks.map(|tracks| &mut **tracks);
    // A sum that may lack its beginning is enough to raise a level, and not to say that all is well.
    let partial = |value: f64, covered: bool| {
        let fine = rule.thresholds.level_of(value).is_none();
        if fine && !covered { Reading::Unknown } else { Reading::Value(value) }
    };
    let is_at_most = rule.thresholds.when == When::AtMost;
    match rule.expr {
        Expr::Now(signal) => read::agent(signal, agent, fleet, now),
        Expr::Increase(place) | Expr::Rate(place, _) => {
            let Some(track) = window(&mut tracks, place) else { return Reading::Unknown };
            if is_at_most && !track.is_full(now) {
                return Reading::Unknown;
            }
            let seconds = if let Expr::Rate(_, seconds) = rule.expr { seconds } else { 1.0 };
            let (increase, covered) = (track.increase(now), track.is_covered(now));
            partial(increase / seconds, covered)
        }
        Expr::Average(place) => match window(&mut tracks, place).and_then(|track| track.average(now)) {
            Some(average) => Reading::Value(average),
            None => Reading::Unknown,
        },
        Expr::Ratio { part, whole, min_samples } => {
            let Some((samples, covered)) =
                window(&mut tracks, whole).map(|track| (track.increase(now), track.is_covered(now)))
            else {
                return Reading::Unknown;
            };
            let of_them = window(&mut tracks, part).map_or(0.0, |track| track.increase(now));
            if samples < min_samples {
                // Too few to judge; with none of the bad ones left, there is nothing to hold on to either.
                return if of_them == 0.0 && covered { Reading::Fine } else { Reading::Unknown };
            }
            partial(of_them / samples, covered)
        }
    }
}

fn window<'a>(tracks: &'a mut Option<&mut [Track]>, place: usize) -> Option<&'a mut Track> {
    tracks.as_mut()?.get_mut(place)
}

/// Since when the level found is reached: for values that grow, the moment the mildest threshold was crossed.
pub(super) fn since(rule: &Rule, verdict: &Verdict, now: Time) -> Time {
    let is_growing = matches!(rule.expr, Expr::Now(signal) if read::grows(signal)
    || matches!(
        signal,
        Signal::AgentsMissing
            | Signal::SourceFailingSeconds
            | Signal::ReceiverFailingSeconds
            | Signal::UndeliveredSeconds
            | Signal::StoreFailingSeconds
    ));
    match (verdict.level, verdict.value, rule.thresholds.lowest()) {
        (Some(_), Some(value), Some((_, lowest))) if is_growing && rule.thresholds.when == When::AtLeast => {
            now.minus(Duration::try_from_secs_f64((value - lowest).max(0.0)).unwrap_or_default())
        }
        _ => now,
    }
}
