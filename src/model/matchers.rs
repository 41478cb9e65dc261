//! Matchers: glob patterns by label that select alerts, for silences, routes and `lookout test route`.
//!
//! Owns which labels can be matched. Unknown labels and empty sets of matchers are errors.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::text::clean;
use crate::text::glob::glob;
use crate::text::nearest::nearest;

/// The longest pattern, in bytes.
pub const PATTERN_LIMIT: usize = 500;

/// A label of an alert that can be matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// The rule's name; `alertname` is read as well.
    #[serde(alias = "alertname")]
    Rule,
    /// The level; `severity` is read as well.
    #[serde(alias = "severity")]
    Level,
    /// The project.
    Project,
    /// The agent's name.
    AgentName,
    /// The agent's type.
    Type,
    /// The component's name.
    Component,
    /// The source that it is about, or that reports the agent.
    Source,
    /// The receiver that it is about.
    Receiver,
}

impl Label {
    /// All labels.
    pub const ALL: [Self; 8] = [
        Self::Rule,
        Self::Level,
        Self::Project,
        Self::AgentName,
        Self::Type,
        Self::Component,
        Self::Source,
        Self::Receiver,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Level => "level",
            Self::Project => "project",
            Self::AgentName => "agent_name",
            Self::Type => "type",
            Self::Component => "component",
            Self::Source => "source",
            Self::Receiver => "receiver",
        }
    }

    /// Reads the word, or the one Alertmanager has for it.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "alertname" => Some(Self::Rule),
            "severity" => Some(Self::Level),
            _ => Self::ALL.into_iter().find(|label| label.as_str() == word),
        }
    }
}

/// Globs that all have to match; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Matchers(BTreeMap<Label, String>);

impl Matchers {
    /// Matchers by label; the error names what is invalid.
    pub fn new(matchers: BTreeMap<Label, String>) -> Result<Self, String> {
        if matchers.is_empty() {
            return Err("there is no matcher; name at least one label, like agent_name".to_owned());
        }
        if let Some((label, _)) = matchers.iter().find(|(_, pattern)| pattern.len() > PATTERN_LIMIT) {
            return Err(format!("the pattern of `{}` is longer than {PATTERN_LIMIT} bytes", label.as_str()));
        }
        if let Some((label, _)) = matchers.iter().find(|(_, pattern)| clean(pattern, PATTERN_LIMIT) != pattern.as_str())
        {
            return Err(format!("the pattern of `{}` has control characters; no name has any", label.as_str()));
        }
        Ok(Self(matchers))
    }

    /// Reads them from words; the error names the nearest label.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut matchers = BTreeMap::new();
        for (word, pattern) in pairs {
            let label = Label::parse(word).ok_or_else(|| unknown(word))?;
            if matchers.insert(label, pattern.to_owned()).is_some() {
                return Err(format!("`{}` is given twice", label.as_str()));
            }
        }
        Self::new(matchers)
    }

    /// Whether they all match the labels that `value` returns; an absent label is empty.
    pub fn matches<'a>(&self, value: impl Fn(Label) -> Option<&'a str>) -> bool {
        self.0.iter().all(|(label, pattern)| glob(pattern, value(*label).unwrap_or_default()))
    }

    /// Whether they may match something of which only these labels are known.
    pub fn may_match<'a>(&self, known: impl Fn(Label) -> Option<&'a str>) -> bool {
        self.0.iter().all(|(label, pattern)| known(*label).is_none_or(|value| glob(pattern, value)))
    }
}

impl fmt::Display for Matchers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (label, pattern)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(out, "{comma}{}={pattern}", label.as_str())?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Matchers {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let words = BTreeMap::<String, String>::deserialize(input)?;
        Self::parse(words.iter().map(|(word, pattern)| (&**word, &**pattern))).map_err(D::Error::custom)
    }
}

fn unknown(word: &str) -> String {
    let labels = Label::ALL.map(Label::as_str);
    let near = nearest(word, &labels).map(|label| format!("the nearest is {label} ")).unwrap_or_default();
    format!("`{}` is no label of an alert; {near}(all: {})", clean(word, 50), labels.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_matchers_have_to_match_and_there_is_one_at_least() {
        let value = |label: Label| match label {
            Label::Rule => Some("AgentIdle"),
            Label::Level => Some("warning"),
            Label::AgentName => Some("worker-7"),
            _ => None,
        };
        for (pairs, expected) in [
            (vec![("rule", "AgentIdle"), ("agent_name", "worker-*")], true),
            (vec![("alertname", "Agent*"), ("severity", "warning")], true),
            (vec![("rule", "AgentIdle"), ("agent_name", "boss")], false),
            (vec![("component", "*")], true),
            (vec![("component", "?*")], false),
        ] {
            assert_eq!(Matchers::parse(pairs.clone()).unwrap().matches(value), expected, "{pairs:?}");
        }
        for (pairs, expected) in [(vec![("component", "db")], true), (vec![("component", "db"), ("rule", "X")], false)]
        {
            assert_eq!(Matchers::parse(pairs.clone()).unwrap().may_match(value), expected, "{pairs:?}");
        }
        assert!(Matchers::parse([]).unwrap_err().contains("at least one"));
        assert!(Matchers::parse([("agent", "x")]).unwrap_err().contains("the nearest is agent_name"));
        assert!(Matchers::parse([("rule", "x"), ("alertname", "y")]).unwrap_err().contains("given twice"));
        let read: Result<Matchers, _> = serde_json::from_str(r#"{"agent_name": "a", "rule": "R"}"#);
        assert_eq!(read.unwrap().to_string(), "rule=R, agent_name=a");
        assert!(serde_json::from_str::<Matchers>("{}").is_err());
        assert!(Matchers::parse([("rule", "a\u{1b}[31m")]).unwrap_err().contains("control characters"));
    }
}
