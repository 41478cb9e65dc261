//! What there is to say of something that a rule can read: the columns of the table in [`super::indicators`].

use crate::model::sidecar_part::{ReceiverHealth, SidecarHealth};
use crate::model::{Agent, Class, Component, Count, Project, Snapshot, Source, Time};

/// A moment by which whatever fades with time is gone. What grows with time has a different value then for each moment
/// from which it grows.
const FAR_AHEAD: Time = Time::from_millis(253_402_300_799_000);

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reading {
    /// The value.
    Value(f64),
    /// It does not apply now, so nothing is wrong: no open task, no budget, not alive.
    Fine,
    /// The value is not known now.
    Unknown,
}

impl Reading {
    pub(super) fn of(value: Option<f64>) -> Self {
        value.map_or(Self::Unknown, Self::Value)
    }

    /// Seconds since something began; nothing is wrong when there is no such time.
    pub(super) fn since(began: Option<Time>, now: Time) -> Self {
        began.map_or(Self::Fine, |began| Self::Value(now.seconds_since(began)))
    }

    /// A number for each reading.
    const fn bits(self) -> u64 {
        match self {
            Self::Value(value) => value.to_bits(),
            // Two that are no number.
            Self::Fine => u64::MAX,
            Self::Unknown => u64::MAX - 1,
        }
    }
}

/// A cumulative value.
#[derive(Clone, Copy, Debug)]
pub(super) struct CounterValue {
    /// The value, once it is known.
    pub(super) value: Option<f64>,
    /// Whether it was counted from zero before our eyes, so that its first value is an increase in full.
    pub(super) is_from_zero: bool,
}

impl CounterValue {
    pub(super) fn by(count: &Count) -> Self {
        Self { value: count.get().map(|count| count as f64), is_from_zero: count.is_accumulated() }
    }
}

/// What a rule is evaluated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForEach {
    /// Each agent.
    Agent,
    /// Each component.
    Component,
    /// Each polled source.
    Source,
    /// Each project.
    Cluster,
    /// Each receiver of ours.
    Receiver,
    /// The sidecar itself.
    Sidecar,
}

/// What happens to a value while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Motion {
    /// It stays as it is.
    Still,
    /// It grows by one each second.
    Grows,
    /// It falls and gets better by that, until it means nothing any more.
    Falls,
    /// It rises and gets better by that, until it means nothing any more.
    Rises,
}

/// How a value can be taken over a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Windowed {
    /// Not at all.
    No,
    /// As an average.
    Average,
    /// As the increase of this counter, which is the value itself.
    Increase(fn(&Agent, &Snapshot) -> CounterValue),
    /// As the number of its changes, which this counter counts.
    Changes(fn(&Agent, &Snapshot) -> CounterValue),
}

/// What a value is a number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Count,
    Seconds,
    Ratio,
}

impl Unit {
    /// The filter that writes such a value for people.
    pub(super) const fn filter(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Seconds => "duration",
            Self::Ratio => "percent",
        }
    }
}

/// How PromQL says the same. Families are named, since those who write the page are of another part; a test holds that
/// there are such families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromQl {
    /// There is no metric for it.
    NoMetric,
    /// It can't be said, for this reason.
    Unavailable(&'static str),
    /// A family with a series for each agent.
    Family(&'static str),
    /// A family with a series for each agent and type, of which the sum is meant.
    ByType(&'static str),
    /// A family of the agent, unless it ended or was stopped on purpose.
    UnlessDone(&'static str),
    /// What was used by what there is, in families with a label `scope` that has this value.
    Share {
        /// The family of what was used.
        used: &'static str,
        /// The family of the budget.
        budget: &'static str,
        /// The scope.
        scope: &'static str,
    },
    /// A family with a series for each word, in this label.
    Words(&'static str, &'static str),
    /// A family of the sidecar itself.
    OfSidecar(&'static str),
    /// Since when this family of sources is zero.
    SourceDown(&'static str),
    /// Since when this family of agents is zero, unless the agent ended or was stopped on purpose.
    SilentSince(&'static str),
    /// Agents of which the first family is below the second.
    Below(&'static str, &'static str),
    /// Agents of which this family is one: one agent has the value, a project their number.
    Flag(&'static str),
}

type OfAgent = fn(&Agent, &Snapshot, Time) -> Reading;
type OfProject = fn(&Project, Time) -> Reading;

/// One thing that a rule can read. Each reader is of one kind of subject; a rule is evaluated for those that have one.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndicatorRow {
    /// The word for it in a rule file.
    pub(super) name: &'static str,
    pub(super) agent: Option<OfAgent>,
    /// Whether it is of agents that are expected and not there; their project knows of them.
    pub(super) is_of_missing: bool,
    pub(super) component: Option<fn(&Component) -> Reading>,
    pub(super) source: Option<fn(&Source, Time) -> Reading>,
    pub(super) project: Option<OfProject>,
    pub(super) receiver: Option<fn(&ReceiverHealth, Time) -> Reading>,
    pub(super) sidecar: Option<fn(&SidecarHealth, Time) -> Reading>,
    /// What an agent's and a project's alert is about.
    agent_class: Class,
    project_class: Class,
    pub(super) motion: Motion,
    /// What of an agent the value depends on beside what it is in the end.
    depends_on: Option<fn(&Agent) -> u64>,
    pub(super) windowed: Windowed,
    /// Whether it is about the use of one day, and so over when that is.
    pub(super) is_of_the_day: bool,
    /// Whether it is known of an agent that is silent.
    pub(super) is_known_of_silent: bool,
    pub(super) unit: Unit,
    /// The words that thresholds may be written with, each with its place as the value.
    pub(super) words: Option<fn() -> Vec<&'static str>>,
    pub(super) promql: PromQl,
}

/// A row that says nothing yet; the table puts in its name.
pub(super) const fn row() -> IndicatorRow {
    IndicatorRow {
        name: "",
        agent: None,
        is_of_missing: false,
        component: None,
        source: None,
        project: None,
        receiver: None,
        sidecar: None,
        agent_class: Class::Agent,
        project_class: Class::Other,
        motion: Motion::Still,
        depends_on: None,
        windowed: Windowed::No,
        is_of_the_day: false,
        is_known_of_silent: false,
        unit: Unit::Count,
        words: None,
        promql: PromQl::NoMetric,
    }
}

/// One that is read of agents.
pub(super) const fn of_agent(read: OfAgent) -> IndicatorRow {
    IndicatorRow { agent: Some(read), ..row() }
}

/// One that counts for agents, so that its increase can be taken.
pub(super) const fn counter(count: fn(&Agent, &Snapshot) -> CounterValue) -> IndicatorRow {
    IndicatorRow { windowed: Windowed::Increase(count), ..row() }
}

impl IndicatorRow {
    pub(super) const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    pub(super) const fn of_missing(self) -> Self {
        Self { is_of_missing: true, agent_class: Class::Other, ..self }
    }

    pub(super) const fn of_project(self, class: Class, read: OfProject) -> Self {
        Self { project: Some(read), project_class: class, ..self }
    }

    pub(super) const fn of_component(self, read: fn(&Component) -> Reading) -> Self {
        Self { component: Some(read), ..self }
    }

    pub(super) const fn of_source(self, read: fn(&Source, Time) -> Reading) -> Self {
        Self { source: Some(read), ..self }
    }

    pub(super) const fn of_receiver(self, read: fn(&ReceiverHealth, Time) -> Reading) -> Self {
        Self { receiver: Some(read), ..self }
    }

    pub(super) const fn of_sidecar(self, read: fn(&SidecarHealth, Time) -> Reading) -> Self {
        Self { sidecar: Some(read), ..self }
    }

    pub(super) const fn class(self, class: Class) -> Self {
        Self { agent_class: class, ..self }
    }

    pub(super) const fn grows(self) -> Self {
        Self { motion: Motion::Grows, unit: Unit::Seconds, ..self }
    }

    /// It fades so; what its fading follows from has to be among what it depends on.
    pub(super) const fn fades(self, motion: Motion, depends_on: fn(&Agent) -> u64) -> Self {
        Self { motion, depends_on: Some(depends_on), ..self }
    }

    pub(super) const fn depends_on(self, depends_on: fn(&Agent) -> u64) -> Self {
        Self { depends_on: Some(depends_on), ..self }
    }

    pub(super) const fn averaged(self) -> Self {
        Self { windowed: Windowed::Average, ..self }
    }

    pub(super) const fn changes(self, count: fn(&Agent, &Snapshot) -> CounterValue) -> Self {
        Self { windowed: Windowed::Changes(count), ..self }
    }

    pub(super) const fn of_the_day(self) -> Self {
        Self { is_of_the_day: true, ..self }
    }

    pub(super) const fn known_of_silent(self) -> Self {
        Self { is_known_of_silent: true, ..self }
    }

    pub(super) const fn ratio(self) -> Self {
        Self { unit: Unit::Ratio, ..self }
    }

    pub(super) const fn seconds(self) -> Self {
        Self { unit: Unit::Seconds, ..self }
    }

    pub(super) const fn words(self, words: fn() -> Vec<&'static str>) -> Self {
        Self { words: Some(words), ..self }
    }

    pub(super) const fn promql(self, promql: PromQl) -> Self {
        Self { promql, ..self }
    }

    /// What a rule that reads it can be evaluated for.
    pub(super) fn subjects(&self) -> Vec<ForEach> {
        let is_of_agents = self.agent.is_some() || self.count().is_some() || self.is_of_missing;
        let subjects = [
            (is_of_agents, ForEach::Agent),
            (self.component.is_some(), ForEach::Component),
            (self.source.is_some(), ForEach::Source),
            (self.project.is_some(), ForEach::Cluster),
            (self.receiver.is_some(), ForEach::Receiver),
            (self.sidecar.is_some(), ForEach::Sidecar),
        ];
        subjects.into_iter().filter_map(|(has_reader, subject)| has_reader.then_some(subject)).collect()
    }

    /// What an alert of it for such a subject is about.
    pub(super) const fn class_of(&self, for_each: ForEach) -> Class {
        match for_each {
            ForEach::Agent => self.agent_class,
            ForEach::Cluster => self.project_class,
            ForEach::Source => Class::SourceFailing,
            ForEach::Component => Class::Component,
            ForEach::Receiver | ForEach::Sidecar => Class::Other,
        }
    }

    /// Whether time alone changes its value.
    pub(super) fn is_timed(&self) -> bool {
        self.motion != Motion::Still
    }

    /// Its value for `agent`.
    pub(super) fn read(&self, agent: &Agent, fleet: &Snapshot, now: Time) -> Reading {
        match (self.agent, self.windowed) {
            (Some(read), _) => read(agent, fleet, now),
            (None, Windowed::Increase(count)) => Reading::of(count(agent, fleet).value),
            (None, _) => Reading::Fine,
        }
    }

    /// What counts it, or its changes.
    pub(super) const fn count(&self) -> Option<fn(&Agent, &Snapshot) -> CounterValue> {
        match self.windowed {
            Windowed::Increase(count) | Windowed::Changes(count) => Some(count),
            Windowed::No | Windowed::Average => None,
        }
    }

    /// All that its value for `agent` follows from, now and at any time later, in one number: it differs when any one
    /// of these differs.
    pub(super) fn basis(&self, agent: &Agent, fleet: &Snapshot) -> u64 {
        let mut basis = self.read(agent, fleet, FAR_AHEAD).bits();
        if let Some(depends_on) = self.depends_on {
            basis = mix(basis, depends_on(agent));
        }
        if let Windowed::Changes(count) = self.windowed {
            basis = mix(basis, Reading::of(count(agent, fleet).value).bits());
        }
        basis
    }
}

/// One number of two: a bijection in each of them, so that a change of one never goes unseen.
pub(super) const fn mix(one: u64, other: u64) -> u64 {
    (one.rotate_left(5) ^ other).wrapping_mul(0x517c_c1b7_2722_0a95)
}
