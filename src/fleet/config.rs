//! The sections `agents`, `expected`, `budgets` and the fleet's part of `limits`.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{Budgets, Problem, duration};
use crate::text::is_name;

/// When an agent is stale, idle and expired.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentsConfig {
    /// After how long without a report an agent is stale, unless its report contains a `ttl`.
    #[serde(with = "crate::model::duration")]
    pub timeout: Duration,
    /// The maximum `ttl` of a report; longer ones are capped.
    #[serde(with = "crate::model::duration")]
    pub max_ttl: Duration,
    /// How long an agent may be idle: the first threshold of the built-in rule AgentIdle.
    #[serde(with = "crate::model::duration")]
    pub max_idle: Duration,
    /// After how long without a report an agent expires.
    #[serde(with = "crate::model::duration")]
    pub forget_after: Duration,
}

impl Default for AgentsConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            max_ttl: Duration::from_secs(3600),
            max_idle: Duration::from_secs(300),
            forget_after: Duration::from_secs(3600),
        }
    }
}

impl AgentsConfig {
    /// What is wrong with the section.
    pub fn validate(&self) -> Vec<Problem> {
        let times = [("timeout", self.timeout), ("max_ttl", self.max_ttl), ("max_idle", self.max_idle)];
        let zero = times.into_iter().filter(|(_, time)| time.is_zero());
        let mut problems: Vec<Problem> =
            zero.map(|(key, _)| Problem::new(key, "is 0s; it must be longer").under("agents")).collect();
        if self.forget_after < self.timeout {
            let [forget, timeout] = [self.forget_after, self.timeout].map(duration::exact);
            let message = format!(
                "{forget} is less than agents.timeout, {timeout}; an agent would expire before it is stale; raise it above agents.timeout"
            );
            problems.push(Problem::new("agents.forget_after", message));
        }
        problems
    }
}

/// Agents that are expected in a project.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedConfig {
    /// The project.
    pub project: String,
    /// These agents, by name.
    #[serde(default)]
    pub agents: Vec<String>,
    /// This number of agents up, with any names.
    #[serde(default)]
    pub count: Option<u32>,
}

/// The maximum length of a name, in bytes.
const MAX_NAME: usize = 256;

impl ExpectedConfig {
    /// What is wrong with the section.
    pub fn validate(section: &[Self]) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut projects = BTreeSet::new();
        for (index, expected) in section.iter().enumerate() {
            let mut report = |key: &str, message: String| {
                problems.push(Problem::new(key, message).under(&format!("expected[{index}]")));
            };
            if let Err(message) = is_plain(&expected.project) {
                report("project", message);
            }
            if !projects.insert(&expected.project) {
                report("project", format!("duplicate project `{}`: merge the two entries", expected.project));
            }
            if expected.agents.is_empty() && expected.count.unwrap_or(0) == 0 {
                report("", "expects no agents; set `agents`, `count` or both".to_owned());
            }
            let mut agents = BTreeSet::new();
            for (place, agent) in expected.agents.iter().enumerate() {
                let key = format!("agents[{place}]");
                if let Err(message) = is_plain(agent) {
                    report(&key, message);
                }
                if !agents.insert(agent) {
                    report(&key, format!("duplicate agent `{agent}`: keep one"));
                }
            }
        }
        problems
    }
}

/// Whether `name` is valid for a project or an agent; the error gives the reason.
fn is_plain(name: &str) -> Result<(), String> {
    match name {
        "" => Err("is empty; give it a name".to_owned()),
        name if is_name(name, MAX_NAME) => Ok(()),
        _ => Err(format!("contains control characters or more than {MAX_NAME} bytes; choose a plain, shorter name")),
    }
}

/// The budgets of each agent. Null is no budget.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetsConfig {
    /// Tokens per task.
    pub tokens_per_task: Option<BudgetLimit<u64>>,
    /// Tokens per day.
    pub tokens_per_day: Option<BudgetLimit<u64>>,
    /// US dollars per day.
    pub cost_usd_per_day: Option<BudgetLimit<f64>>,
    /// The time zone of the day, by its IANA name.
    pub time_zone: String,
    /// Whether tokens read from a cache count.
    pub count_cache_read: bool,
}

impl BudgetsConfig {
    /// All budgets.
    pub fn limits(&self) -> Budgets {
        self.limits_if(|_| true)
    }

    /// The budgets that are enforced by a stop order.
    pub fn enforced(&self) -> Budgets {
        self.limits_if(|action| action == BudgetAction::Stop)
    }

    fn limits_if(&self, is_asked: impl Fn(BudgetAction) -> bool) -> Budgets {
        Budgets {
            tokens_per_task: self.tokens_per_task.filter(|it| is_asked(it.action)).map(|it| it.limit),
            tokens_per_day: self.tokens_per_day.filter(|it| is_asked(it.action)).map(|it| it.limit),
            cost_usd_per_day: self.cost_usd_per_day.filter(|it| is_asked(it.action)).map(|it| it.limit),
        }
    }

    /// What is wrong with the section.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut report = |key: &str, message: String| problems.push(Problem::new(key, message).under("budgets"));
        for (key, tokens) in [("tokens_per_task", self.tokens_per_task), ("tokens_per_day", self.tokens_per_day)] {
            if let Some(BudgetLimit { limit: 0, action }) = tokens {
                report(&limit_key(key, action), "is 0; write null for no budget".to_owned());
            }
        }
        let is_amount = |usd: f64| usd.is_finite() && usd > 0.0;
        if let Some(BudgetLimit { limit, action }) = self.cost_usd_per_day.filter(|usd| !is_amount(usd.limit)) {
            let message = format!("is {limit}; write an amount above 0, or null for no budget");
            report(&limit_key("cost_usd_per_day", action), message);
        }
        if self.zone().is_none() {
            let message =
                format!("`{}` is not a time zone; write its IANA name, such as Europe/Berlin or UTC", self.time_zone);
            report("time_zone", message);
        }
        problems
    }

    /// The time zone of the day; `None` if the name is unknown.
    pub(crate) fn zone(&self) -> Option<TimeZone> {
        // Not looked up: the first lookup loads a list of all time zones of this machine, which stays in memory.
        if self.time_zone == "UTC" { Some(TimeZone::UTC) } else { TimeZone::get(&self.time_zone).ok() }
    }
}

impl Default for BudgetsConfig {
    fn default() -> Self {
        Self {
            tokens_per_task: None,
            tokens_per_day: None,
            cost_usd_per_day: None,
            time_zone: "UTC".to_owned(),
            count_cache_read: false,
        }
    }
}

/// What happens when a budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BudgetAction {
    /// Only rules alert on it.
    #[default]
    Alert,
    /// In addition, the answer to the agent's next hook orders it to stop.
    Stop,
}

/// A budget, written as a number or as `{limit: NUMBER, action: stop}`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetLimit<T> {
    /// The limit.
    pub limit: T,
    /// What happens when it is used up.
    pub action: BudgetAction,
}

impl<T> From<T> for BudgetLimit<T> {
    fn from(limit: T) -> Self {
        Self { limit, action: BudgetAction::default() }
    }
}

/// The key of a budget's limit, which depends on the form in which it is written.
fn limit_key(key: &str, action: BudgetAction) -> String {
    if action == BudgetAction::Stop { format!("{key}.limit") } else { key.to_owned() }
}

/// A budget written with its action.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct BudgetFields<T> {
    limit: T,
    #[serde(default)]
    action: BudgetAction,
}

impl<T: Copy + Serialize> Serialize for BudgetLimit<T> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let Self { limit, action } = *self;
        if action == BudgetAction::Alert { limit.serialize(out) } else { BudgetFields { limit, action }.serialize(out) }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for BudgetLimit<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(BudgetLimitVisitor(PhantomData))
    }
}

/// Deserializes a map as [`BudgetFields`], and anything else as a bare limit, so that its type reports errors.
struct BudgetLimitVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BudgetLimitVisitor<T> {
    type Value = BudgetLimit<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a number, or {limit: NUMBER, action: stop}")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<BudgetLimit<T>, E> {
        T::deserialize(number.into_deserializer()).map(BudgetLimit::from)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<BudgetLimit<T>, E> {
        T::deserialize(number.into_deserializer()).map(BudgetLimit::from)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<BudgetLimit<T>, E> {
        T::deserialize(number.into_deserializer()).map(BudgetLimit::from)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<BudgetLimit<T>, E> {
        T::deserialize(text.into_deserializer()).map(BudgetLimit::from)
    }

    fn visit_map<A: MapAccess<'de>>(self, keys: A) -> Result<BudgetLimit<T>, A::Error> {
        BudgetFields::deserialize(MapAccessDeserializer::new(keys))
            .map(|BudgetFields { limit, action }| BudgetLimit { limit, action })
    }
}
