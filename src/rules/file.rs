//! The format of rule files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use figment::error::Kind;
use figment::value::Value;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::metric::{MetricSelector, RuleInput, indicator};
use super::row::ForEach;
use super::thresholds::Comparison;
use crate::model::{Agent, Flap, Level, Position, Problem, QuietHours};
use crate::text::clean;
use crate::text::glob::glob;
use crate::written::document::locate;
use crate::written::{mistake, yaml};

/// The maximum printed length of a rule's name or an error, in bytes.
const MAX_SHOWN: usize = 1_000;

/// The only top-level key of a file.
const RULES: &str = "rules";

/// The path of the rule `name` in a problem.
pub(super) fn path_of(name: &str) -> String {
    format!("rule {name}")
}

/// The rules in a file's `text`, and its errors.
pub(super) fn read(text: &str) -> (Vec<RuleEntry>, Vec<Problem>) {
    let of_file = |message: String| (Vec::new(), vec![Problem::new("", message)]);
    let document = match yaml::parse(text) {
        Ok(document) => document,
        Err(problem) => return of_file(problem),
    };
    let tree = match &document.value {
        Value::Dict(_, tree) => tree,
        Value::Empty(..) => return Default::default(),
        _ => return of_file("expected a mapping at the top level; write `rules:` with a list of rules".to_owned()),
    };
    if let Some(key) = tree.keys().find(|key| *key != RULES) {
        return of_file(format!("{}: {}", clean(key, MAX_SHOWN), mistake::unknown_key(key, &[RULES])));
    }
    let rules = match tree.get(RULES) {
        Some(Value::Array(_, rules)) => rules,
        Some(Value::Empty(..)) | None => return Default::default(),
        Some(_) => return of_file("rules: expected a list of rules, like `- name: AgentIdle`".to_owned()),
    };
    let (mut entries, mut mistakes) = (Vec::new(), Vec::new());
    for (at, rule) in rules.iter().enumerate() {
        let place = |path: &[String]| document.place(&[&[RULES.to_owned(), at.to_string()], path].concat());
        match rule.deserialize() {
            Ok(entry) => entries.push(RuleEntry { place: place(&[]), version: version(rule), ..entry }),
            Err(error) => {
                let name = match locate(rule, &["name".to_owned()]) {
                    Some(Value::String(_, name)) => clean(name, MAX_SHOWN).into_owned(),
                    _ => format!("#{}", at + 1),
                };
                let mut path = error.path;
                if let Kind::MissingField(missing) = &error.kind {
                    path.push(missing.to_string());
                }
                let key = mistake::key(&path);
                let colon = if key.is_empty() { "" } else { ": " };
                let message = mistake::explain(&error.kind, None);
                let problem = Problem::new(path_of(&name), clean(&format!("{key}{colon}{message}"), MAX_SHOWN));
                mistakes.push(Problem { place: place(&path), ..problem });
            }
        }
    }
    (entries, mistakes)
}

/// A digest of a rule as written, eight hex digits, which does not depend on its position in the file, the order of its keys
/// or comments.
fn version(rule: &Value) -> Arc<str> {
    let written = serde_json::to_vec(rule).unwrap_or_default();
    let digest = ring::digest::digest(&ring::digest::SHA256, &written);
    Arc::from(hex::encode(digest.as_ref().get(..4).unwrap_or_default()))
}

/// One rule as written. `enabled: false` alone disables a built-in rule.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleEntry {
    /// Its position in the file.
    #[serde(skip)]
    pub place: Option<Position>,
    /// A digest of the rule as written, by which a change of the rule is detected.
    #[serde(skip)]
    pub version: Arc<str>,
    /// Its name, in CamelCase.
    pub name: String,
    /// Whether it is evaluated.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The kind of subject that it is evaluated for.
    pub for_each: Option<ForEach>,
    /// What it reads: an indicator, plain or over time.
    pub signal: Option<IndicatorExpr>,
    /// How the value is compared with the levels.
    pub when: Option<Comparison>,
    /// The threshold of each level.
    #[serde(default)]
    pub levels: BTreeMap<Level, Threshold>,
    /// How long it must hold before it fires.
    #[serde(default, rename = "for", with = "crate::model::duration::option")]
    pub hold: Option<Duration>,
    /// For `at_least`: an active alert clears only below this value.
    pub clear_below: Option<Threshold>,
    /// For `at_most`: an active alert clears only above this value.
    pub clear_above: Option<Threshold>,
    /// How long it must be clear before it resolves.
    #[serde(default, with = "crate::model::duration::option")]
    pub clear_after: Option<Duration>,
    /// The minimum time between two notifications of the same alert to the same receiver.
    #[serde(default, with = "crate::model::duration::option")]
    pub cooldown: Option<Duration>,
    /// How often a firing alert is repeated; null for never.
    #[serde(default, deserialize_with = "nullable")]
    pub repeat: Repeat,
    /// When the alert is flapping; null for never.
    #[serde(default)]
    pub flap: FlapEntry,
    /// Times at which it is not notified.
    #[serde(default)]
    pub quiet_hours: Vec<QuietHours>,
    /// Which subjects it is evaluated for.
    pub r#where: Option<Where>,
    /// The template of the summary.
    pub summary: Option<String>,
    /// The template of the action.
    pub action: Option<String>,
    /// What is well again once it resolves, as a template that continues the subject's name: `is active again`.
    pub resolved: Option<String>,
    /// How bad it was, as a template that a resolve adds: `idle for up to {{ value | duration }}`.
    pub peak: Option<String>,
}

/// The interval at which a firing alert is repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeat {
    /// Not given.
    #[default]
    Default,
    /// Null.
    Never,
    /// This interval.
    Every(Duration),
}

fn nullable<'de, D: Deserializer<'de>>(input: D) -> Result<Repeat, D::Error> {
    Ok(crate::model::duration::option::deserialize(input)?.map_or(Repeat::Never, Repeat::Every))
}

/// Flap detection; null disables it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlapEntry(pub Option<Flap>);

impl Default for FlapEntry {
    fn default() -> Self {
        Self(Some(Flap::default()))
    }
}

impl<'de> Deserialize<'de> for FlapEntry {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct FlapFields {
            changes: u32,
            #[serde(with = "crate::model::duration")]
            within: Duration,
            #[serde(with = "crate::model::duration")]
            settle: Duration,
        }

        impl Default for FlapFields {
            fn default() -> Self {
                let Flap { changes, within, settle } = Flap::default();
                Self { changes, within, settle }
            }
        }

        let written = Option::<FlapFields>::deserialize(input)?;
        Ok(Self(written.map(|FlapFields { changes, within, settle }| Flap { changes, within, settle })))
    }
}

/// An indicator, plain or over time.
#[derive(Clone, Debug)]
pub enum IndicatorExpr {
    /// The current value.
    Now(RuleInput),
    /// A value computed over a window.
    Over(OverTime),
}

/// Not an untagged enum, since serde would report no specific error for either form.
impl<'de> Deserialize<'de> for IndicatorExpr {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(IndicatorExprVisitor)
    }
}

struct IndicatorExprVisitor;

impl<'de> Visitor<'de> for IndicatorExprVisitor {
    type Value = IndicatorExpr;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(
            "a signal like idle_seconds, one over time like {increase_of: restarts, over: 1h}, or a custom metric like {metric: pool_size}",
        )
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<IndicatorExpr, E> {
        indicator(word).map(|indicator| IndicatorExpr::Now(indicator.into())).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<IndicatorExpr, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            metric: Option<String>,
            labels: Option<BTreeMap<String, String>>,
            increase_of: Option<RuleInput>,
            rate_of: Option<RuleInput>,
            average_of: Option<RuleInput>,
            changes_of: Option<RuleInput>,
            ratio_of: Option<[RuleInput; 2]>,
            #[serde(default, with = "crate::model::duration::option")]
            over: Option<Duration>,
            min_samples: Option<u64>,
        }
        let Fields { metric, labels, increase_of, rate_of, average_of, changes_of, ratio_of, over, min_samples } =
            Fields::deserialize(MapAccessDeserializer::new(map))?;
        let is_over_time = over.is_some()
            || [&increase_of, &rate_of, &average_of, &changes_of].into_iter().any(Option::is_some)
            || ratio_of.is_some()
            || min_samples.is_some();
        let Some(metric) = metric else {
            if labels.is_some() {
                let error = "`labels` are of a custom metric; write them next to `metric`, like {metric: pool_size, labels: {pool: db}}";
                return Err(de::Error::custom(error));
            }
            let over = OverTime { increase_of, rate_of, average_of, changes_of, ratio_of, over, min_samples };
            return Ok(IndicatorExpr::Over(over));
        };
        if is_over_time {
            let error =
                format!("a custom metric over time is written {{increase_of: {{metric: {metric}}}, over: 10m}}");
            return Err(de::Error::custom(error));
        }
        let input = MetricSelector::input(&metric, &labels.unwrap_or_default()).map_err(de::Error::custom)?;
        Ok(IndicatorExpr::Now(input))
    }
}

/// An indicator over time; exactly one of the first five fields is given.
#[derive(Clone, Debug, Default)]
pub struct OverTime {
    /// The increase of a counter.
    pub increase_of: Option<RuleInput>,
    /// The increase of a counter per second.
    pub rate_of: Option<RuleInput>,
    /// The average of a gauge.
    pub average_of: Option<RuleInput>,
    /// The number of changes of a status.
    pub changes_of: Option<RuleInput>,
    /// The ratio of the increases of two counters.
    pub ratio_of: Option<[RuleInput; 2]>,
    /// The length of the window.
    pub over: Option<Duration>,
    /// For `ratio_of`: the minimum increase of the second counter.
    pub min_samples: Option<u64>,
}

/// A threshold as written: a number, duration, status name, percentage, or multiple of a setting.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(untagged, expecting = "a threshold is a number, or text like 5m, 90%, failed, 2 * agents.max_idle")]
pub enum Threshold {
    /// For `absent`.
    Flag(bool),
    /// A plain number.
    Number(f64),
    /// `5m`, `failed`, `90%`, `2 * agents.max_idle`.
    Text(String),
}

/// Which subjects a rule is evaluated for; the patterns are globs.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Where {
    /// The project.
    pub project: Option<String>,
    /// The agent's name.
    pub agent_name: Option<String>,
    /// The agent's type.
    pub r#type: Option<String>,
    /// The agent's status.
    pub status: Option<String>,
}

impl Where {
    /// Whether it covers `agent` as it is now.
    pub(super) fn covers(&self, agent: &Agent) -> bool {
        let fits = |pattern: &Option<String>, text: Option<&str>| {
            pattern.as_ref().is_none_or(|pattern| glob(pattern, text.unwrap_or_default()))
        };
        fits(&self.project, Some(&agent.project))
            && fits(&self.agent_name, Some(&agent.name))
            && fits(&self.r#type, agent.agent_type.as_deref())
            && fits(&self.status, agent.status.map(|status| status.as_str()))
    }

    /// Whether it covers a missing agent, of which only the name is known.
    pub(super) fn covers_missing(&self, project: &str, name: &str) -> bool {
        let fits = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| glob(pattern, text));
        fits(&self.project, project) && fits(&self.agent_name, name) && fits(&self.r#type, "") && fits(&self.status, "")
    }

    /// Whether it covers a subject other than an agent in this project.
    pub(super) fn covers_project(&self, project: &str) -> bool {
        self.project.as_ref().is_none_or(|pattern| glob(pattern, project))
    }
}

const fn yes() -> bool {
    true
}
