//! The columns of the table of indicators in [`super::indicators`].

use std::time::Duration;

use crate::model::sidecar_part::{ReceiverHealth, SidecarHealth};
use crate::model::{Agent, Class, Component, Count, Project, Snapshot, Source, Time, Unit};

/// A time by which every fading value has disappeared, and at which a growing value differs for each start.
const FAR_AHEAD: Time = Time::from_millis(253_402_300_799_000);

/// The value of an indicator, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reading {
    /// The value.
    Value(f64),
    /// Not applicable now, so the rule is clear: there is no open task, no budget, or the agent has ended.
    NotApplicable,
    /// The value is unknown.
    Unknown,
}

impl Reading {
    pub(super) fn of(value: Option<f64>) -> Self {
        value.map_or(Self::Unknown, Self::Value)
    }

    /// Seconds since `began`; not applicable if it is `None`.
    pub(super) fn since(began: Option<Time>, now: Time) -> Self {
        began.map_or(Self::NotApplicable, |began| Self::Value(now.seconds_since(began)))
    }

    /// The reading as a unique number.
    const fn bits(self) -> u64 {
        match self {
            Self::Value(value) => value.to_bits(),
            // Two NaN values.
            Self::NotApplicable => u64::MAX,
            Self::Unknown => u64::MAX - 1,
        }
    }
}

/// A cumulative value of a counter.
#[derive(Clone, Copy, Debug)]
pub(super) struct CounterValue {
    /// The value, if known.
    pub(super) value: Option<f64>,
    /// Whether it was counted from zero under observation, so that its first value is an increase in full.
    pub(super) is_from_zero: bool,
}

impl CounterValue {
    pub(super) fn by(count: &Count) -> Self {
        Self { value: count.get().map(|count| count as f64), is_from_zero: count.is_accumulated() }
    }
}

/// The kind of subject that a rule is evaluated for.
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
    /// Each receiver.
    Receiver,
    /// The sidecar itself.
    Sidecar,
}

/// How time alone changes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drift {
    /// Not at all.
    None,
    /// It grows by one each second.
    Grows,
    /// It falls, which is an improvement, until it disappears.
    Falls,
    /// It rises, which is an improvement, until it disappears.
    Rises,
}

/// How an indicator can be used over a window.
#[derive(Clone, Copy, Debug)]
pub(super) enum Windowed {
    /// Not at all.
    No,
    /// As an average.
    Average,
    /// As the increase of this counter, which is the indicator itself.
    Increase(fn(&Agent, &Snapshot) -> CounterValue),
    /// As the number of its changes, which this counter counts.
    Changes(fn(&Agent, &Snapshot) -> CounterValue),
}

/// The PromQL equivalent of an indicator. Metric families are given by name, as `metrics` is another module; a test checks
/// that they exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromQl {
    /// There is no metric for it.
    NoMetric,
    /// It cannot be expressed, for this reason.
    Unavailable(&'static str),
    /// A family with a series per agent.
    Family(&'static str),
    /// A family with a series per agent and type, to be summed.
    ByType(&'static str),
    /// A family with a series per agent, unless the agent has ended or is paused.
    UnlessDone(&'static str),
    /// The ratio of two families, with this value of the label `scope`.
    Share {
        /// The family of what was used.
        used: &'static str,
        /// The family of the budget.
        budget: &'static str,
        /// The scope.
        scope: &'static str,
    },
    /// A family with a series per status, in this label.
    Words(&'static str, &'static str),
    /// A family of the sidecar itself.
    OfSidecar(&'static str),
    /// How long this family of sources has been zero.
    SourceDown(&'static str),
    /// How long this family of agents has been zero, unless the agent has ended or is paused.
    SilentSince(&'static str),
    /// Agents for which the first family is below the second.
    Below(&'static str, &'static str),
    /// Agents for which this family is 1: the value of an agent, the count of a project.
    Flag(&'static str),
    /// A family with a series per agent and value of this label, to be summed without that of this value.
    Except(&'static str, &'static str, &'static str),
    /// A custom metric, which the rule names.
    Custom,
    /// A family with a series per agent, and the family of what is usual of it.
    Usual(&'static str, &'static str),
}

type OfAgent = fn(&Agent, &Snapshot, Time) -> Reading;
type OfProject = fn(&Project, Time) -> Reading;
/// What is usual of a value of an agent.
type UsualOf = fn(&Agent, Time) -> Option<f64>;

/// One indicator. There is a reader per kind of subject; rules can be evaluated for the kinds that have one.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndicatorRow {
    /// Its name in rule files.
    pub(super) name: &'static str,
    pub(super) agent: Option<OfAgent>,
    /// Whether it is about missing agents, which only their project knows.
    pub(super) is_of_missing_agents: bool,
    pub(super) component: Option<fn(&Component) -> Reading>,
    pub(super) source: Option<fn(&Source, Time) -> Reading>,
    pub(super) project: Option<OfProject>,
    pub(super) receiver: Option<fn(&ReceiverHealth, Time) -> Reading>,
    pub(super) sidecar: Option<fn(&SidecarHealth, Time) -> Reading>,
    /// The class of alerts about an agent.
    agent_class: Class,
    /// The class of alerts about a component.
    component_class: Class,
    /// The class of alerts about a project.
    project_class: Class,
    pub(super) drift: Drift,
    /// Further state of an agent that the value depends on, as a number that changes with it.
    depends_on: Option<fn(&Agent) -> u64>,
    pub(super) windowed: Windowed,
    /// Whether it is about daily usage, which is reset at the end of the day.
    pub(super) is_of_the_day: bool,
    /// What thresholds may be multiples of: its word, and its value of an agent.
    pub(super) usual: Option<(&'static str, UsualOf)>,
    /// When a growing value that stands still begins to grow.
    pub(super) grows_at: Option<fn(&Agent) -> Option<Time>>,
    /// The ratio of two counters, by name, that it is: numerator, denominator, window, and the least increase of the
    /// denominator.
    pub(super) ratio_of: Option<(&'static str, &'static str, Duration, f64)>,
    /// Below which value of an agent it is not applicable, in place of a lower threshold.
    pub(super) least: Option<fn(&Agent) -> f64>,
    /// Whether it is known while the agent is stale.
    pub(super) is_known_while_stale: bool,
    pub(super) unit: Unit,
    /// The status names that thresholds may be written with; the value is the index.
    pub(super) words: Option<fn() -> Vec<&'static str>>,
    pub(super) promql: PromQl,
}

/// An empty row; the table sets its name.
pub(super) const fn row() -> IndicatorRow {
    IndicatorRow {
        name: "",
        agent: None,
        is_of_missing_agents: false,
        component: None,
        source: None,
        project: None,
        receiver: None,
        sidecar: None,
        agent_class: Class::Agent,
        component_class: Class::Component,
        project_class: Class::Other,
        drift: Drift::None,
        depends_on: None,
        windowed: Windowed::No,
        is_of_the_day: false,
        usual: None,
        grows_at: None,
        ratio_of: None,
        least: None,
        is_known_while_stale: false,
        unit: Unit::Count,
        words: None,
        promql: PromQl::NoMetric,
    }
}

/// An indicator of agents.
pub(super) const fn of_agent(read: OfAgent) -> IndicatorRow {
    IndicatorRow { agent: Some(read), ..row() }
}

/// A counter of agents.
pub(super) const fn counter(count: fn(&Agent, &Snapshot) -> CounterValue) -> IndicatorRow {
    IndicatorRow { windowed: Windowed::Increase(count), ..row() }
}

impl IndicatorRow {
    pub(super) const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    pub(super) const fn of_missing_agents(self) -> Self {
        Self { is_of_missing_agents: true, agent_class: Class::Other, ..self }
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

    pub(super) const fn component_class(self, class: Class) -> Self {
        Self { component_class: class, ..self }
    }

    pub(super) const fn grows(self) -> Self {
        Self { drift: Drift::Grows, unit: Unit::Seconds, ..self }
    }

    /// It fades with time; `depends_on` must cover everything that determines how.
    pub(super) const fn fades(self, drift: Drift, depends_on: fn(&Agent) -> u64) -> Self {
        Self { drift, depends_on: Some(depends_on), ..self }
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

    pub(super) const fn at_least(self, least: fn(&Agent) -> f64) -> Self {
        Self { least: Some(least), ..self }
    }

    pub(super) const fn known_while_stale(self) -> Self {
        Self { is_known_while_stale: true, ..self }
    }

    pub(super) const fn ratio(self) -> Self {
        Self { unit: Unit::Ratio, ..self }
    }

    pub(super) const fn seconds(self) -> Self {
        Self { unit: Unit::Seconds, ..self }
    }

    pub(super) const fn dollars(self) -> Self {
        Self { unit: Unit::Dollars, ..self }
    }

    /// Thresholds may be multiples of what is usual; `depends_on` must cover it.
    pub(super) const fn usual(self, word: &'static str, usual: UsualOf) -> Self {
        Self { usual: Some((word, usual)), ..self }
    }

    pub(super) const fn grows_at(self, at: fn(&Agent) -> Option<Time>) -> Self {
        Self { grows_at: Some(at), ..self }
    }

    /// It is the ratio of two counters over a window.
    pub(super) const fn ratio_of(self, part: &'static str, whole: &'static str, over: Duration, least: f64) -> Self {
        Self { ratio_of: Some((part, whole, over, least)), ..self }
    }

    pub(super) const fn words(self, words: fn() -> Vec<&'static str>) -> Self {
        Self { words: Some(words), unit: Unit::Word, ..self }
    }

    pub(super) const fn promql(self, promql: PromQl) -> Self {
        Self { promql, ..self }
    }

    /// The kinds of subject that a rule reading it can be evaluated for.
    pub(super) fn subjects(&self) -> Vec<ForEach> {
        let is_of_agents = self.agent.is_some() || self.count().is_some() || self.is_of_missing_agents;
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

    /// The class of its alerts for this kind of subject.
    pub(super) const fn class_of(&self, for_each: ForEach) -> Class {
        match for_each {
            ForEach::Agent => self.agent_class,
            ForEach::Cluster => self.project_class,
            ForEach::Source => Class::SourceFailing,
            ForEach::Component => self.component_class,
            ForEach::Receiver | ForEach::Sidecar => Class::Other,
        }
    }

    /// Whether time alone changes its value.
    pub(super) fn is_timed(&self) -> bool {
        self.drift != Drift::None
    }

    /// Its value for `agent`.
    pub(super) fn read(&self, agent: &Agent, fleet: &Snapshot, now: Time) -> Reading {
        match (self.agent, self.windowed) {
            (Some(read), _) => read(agent, fleet, now),
            (None, Windowed::Increase(count)) => Reading::of(count(agent, fleet).value),
            (None, _) => Reading::NotApplicable,
        }
    }

    /// The counter of its value or its changes.
    pub(super) const fn count(&self) -> Option<fn(&Agent, &Snapshot) -> CounterValue> {
        match self.windowed {
            Windowed::Increase(count) | Windowed::Changes(count) => Some(count),
            Windowed::No | Windowed::Average => None,
        }
    }

    /// A number that changes whenever the value for `agent`, now or at any later time, may change.
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

/// Combines two numbers. It is a bijection in each of them, so that a change of one is never missed.
pub(super) const fn mix(one: u64, other: u64) -> u64 {
    (one.rotate_left(5) ^ other).wrapping_mul(0x517c_c1b7_2722_0a95)
}
