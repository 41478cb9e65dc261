//! The rule file as it is written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use figment::error::Kind;
use figment::value::Value;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::indicators::Indicator;
use super::row::ForEach;
use super::thresholds::Comparison;
use crate::model::{Agent, Flap, Level, Position, Problem, QuietHours};
use crate::text::clean;
use crate::text::glob::glob;
use crate::written::document::locate;
use crate::written::{mistake, yaml};

/// So much of a rule's name or of a mistake is shown, in bytes.
const MAX_SHOWN: usize = 1_000;

/// The one key at the top of a file.
const RULES: &str = "rules";

/// Where the rule `name` is in a file.
pub(super) fn path_of(name: &str) -> String {
    format!("rule {name}")
}

/// The rules that a file's `text` says, and what is wrong with it.
pub(super) fn read(text: &str) -> (Vec<RuleEntry>, Vec<Problem>) {
    let of_file = |message: String| (Vec::new(), vec![Problem::new("", message)]);
    let document = match yaml::parse(text) {
        Ok(document) => document,
        Err(problem) => return of_file(problem),
    };
    let tree = match &document.value {
        Value::Dict(_, tree) => tree,
        Value::Empty(..) => return Default::default(),
        _ => return of_file("holds no keys at its top; write `rules:` and a list beneath it".to_owned()),
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
                let said = mistake::explain(&error.kind, None);
                let problem = Problem::new(path_of(&name), clean(&format!("{key}{colon}{said}"), MAX_SHOWN));
                mistakes.push(Problem { place: place(&path), ..problem });
            }
        }
    }
    (entries, mistakes)
}

/// Eight hex digits that change when the rule is written otherwise, whatever its place in the file, its order of keys
/// and its comments.
fn version(rule: &Value) -> Arc<str> {
    let written = serde_json::to_vec(rule).unwrap_or_default();
    let digest = ring::digest::digest(&ring::digest::SHA256, &written);
    Arc::from(hex::encode(digest.as_ref().get(..4).unwrap_or_default()))
}

/// One rule as written; `enabled: false` alone switches a built-in rule off.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleEntry {
    /// Where it stands in its file.
    #[serde(skip)]
    pub place: Option<Position>,
    /// What tells how it is written from how it was.
    #[serde(skip)]
    pub version: Arc<str>,
    /// Its name, in CamelCase.
    pub name: String,
    /// Whether it is judged.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What it is judged for.
    pub for_each: Option<ForEach>,
    /// What it looks at.
    pub signal: Option<IndicatorExpr>,
    /// How the value is held against the levels.
    pub when: Option<Comparison>,
    /// The threshold of each level.
    #[serde(default)]
    pub levels: BTreeMap<Level, Threshold>,
    /// How long it must hold before it fires.
    #[serde(default, rename = "for", with = "crate::model::duration::option")]
    pub hold: Option<Duration>,
    /// For `at_least`: once firing, it is fine only below this.
    pub clear_below: Option<Threshold>,
    /// For `at_most`: once firing, it is fine only above this.
    pub clear_above: Option<Threshold>,
    /// How long it must be fine before it resolves.
    #[serde(default, with = "crate::model::duration::option")]
    pub clear_after: Option<Duration>,
    /// The same alert tells the same receiver at most once in this time.
    #[serde(default, with = "crate::model::duration::option")]
    pub cooldown: Option<Duration>,
    /// When it is said again while it lasts; null for never.
    #[serde(default, deserialize_with = "nullable")]
    pub repeat: Repeat,
    /// When it counts as coming and going; null for never.
    #[serde(default)]
    pub flap: FlapEntry,
    /// When nobody wants to be told of it.
    #[serde(default)]
    pub quiet_hours: Vec<QuietHours>,
    /// Which subjects it is judged for.
    pub r#where: Option<Where>,
    /// What is the matter, as a template.
    pub summary: Option<String>,
    /// What to do about it, as a template.
    pub action: Option<String>,
}

/// When an alert is said again: by default, never, or after a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeat {
    /// Not given.
    #[default]
    Default,
    /// Null.
    Never,
    /// After this time.
    Every(Duration),
}

fn nullable<'de, D: Deserializer<'de>>(input: D) -> Result<Repeat, D::Error> {
    Ok(crate::model::duration::option::deserialize(input)?.map_or(Repeat::Never, Repeat::Every))
}

/// When an alert counts as coming and going; null is never.
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

/// A signal as it is, or taken over time.
#[derive(Clone, Debug)]
pub enum IndicatorExpr {
    /// As it is.
    Now(Indicator),
    /// Taken over time.
    Over(OverTime),
}

/// By hand, since serde says of neither form what is wrong with it.
impl<'de> Deserialize<'de> for IndicatorExpr {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(IndicatorExprVisitor)
    }
}

struct IndicatorExprVisitor;

impl<'de> Visitor<'de> for IndicatorExprVisitor {
    type Value = IndicatorExpr;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a signal like idle_seconds, or one taken over time like {increase_of: restarts, over: 1h}")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<IndicatorExpr, E> {
        Indicator::parse(word).map(IndicatorExpr::Now).ok_or_else(|| {
            let words: Vec<&str> = Indicator::ALL.iter().map(|indicator| indicator.name()).collect();
            E::custom(format!("`{word}` is no signal; {}", mistake::suggestion(word, &words, "there are")))
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<IndicatorExpr, A::Error> {
        OverTime::deserialize(MapAccessDeserializer::new(map)).map(IndicatorExpr::Over)
    }
}

/// A signal taken over time; exactly one of the first five is given.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OverTime {
    /// By how much a counter rose.
    pub increase_of: Option<Indicator>,
    /// By how much a counter rose, per second.
    pub rate_of: Option<Indicator>,
    /// The average of a gauge.
    pub average_of: Option<Indicator>,
    /// How often a status changed.
    pub changes_of: Option<Indicator>,
    /// The increase of the first by the increase of the second.
    pub ratio_of: Option<[Indicator; 2]>,
    /// Over which time.
    #[serde(with = "crate::model::duration::option")]
    pub over: Option<Duration>,
    /// For `ratio_of`: fewer of the second are not judged.
    pub min_samples: Option<u64>,
}

/// A threshold as written: a number, or a duration, a word, a percentage, or a multiple of a setting.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(untagged, expecting = "a threshold is a number, or text like 5m, 90%, failed, 2 * agents.max_idle")]
pub enum Threshold {
    /// For `absent`.
    Flag(bool),
    /// As it is.
    Number(f64),
    /// `5m`, `failed`, `90%`, `2 * agents.max_idle`.
    Text(String),
}

/// Which subjects a rule is judged for; names are globs.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Where {
    /// Of this project.
    pub project: Option<String>,
    /// Of this name.
    pub agent_name: Option<String>,
    /// Of this type.
    pub r#type: Option<String>,
    /// In this status.
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

    /// Whether it covers an agent of which only the name is known.
    pub(super) fn covers_missing(&self, project: &str, name: &str) -> bool {
        let fits = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| glob(pattern, text));
        fits(&self.project, project) && fits(&self.agent_name, name) && fits(&self.r#type, "") && fits(&self.status, "")
    }

    /// Whether it covers whatever of that project has no name of its own here.
    pub(super) fn covers_project(&self, project: &str) -> bool {
        self.project.as_ref().is_none_or(|pattern| glob(pattern, project))
    }
}

const fn yes() -> bool {
    true
}
