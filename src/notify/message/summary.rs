//! Several alerts in one message: one line for each, but one line alone for all that are parts of one incident.

use std::collections::{BTreeMap, BTreeSet};

use super::{LINE_LIMIT, NAME_LIMIT, Tone, one_line};
use crate::model::{Incident, Level, Notice, NoticeKind, Unit};

/// Subjects named in the line of an incident.
const SAMPLE: usize = 5;
/// Longest name in the line of an incident, in bytes.
const SAMPLE_NAME: usize = 60;

/// What has a line of its own.
#[derive(Debug)]
pub(in crate::notify) enum SummaryEntry<'a> {
    /// One alert.
    Alert(&'a Notice),
    /// Parts of one incident that go the same way: what fires, or what is over. Never empty.
    Incident(Vec<&'a Notice>),
}

impl<'a> SummaryEntry<'a> {
    /// The entries of `notices`, in their order; an incident stands where its first part does.
    pub(super) fn of(notices: &[&'a Notice]) -> Vec<Self> {
        let mut places: BTreeMap<(&str, bool), usize> = BTreeMap::new();
        let mut entries: Vec<Self> = Vec::new();
        // Alerts of the rule that were notified before it was an incident belong to it as well.
        let incidents: BTreeSet<(&str, bool)> = notices.iter().filter_map(|notice| group(notice)).collect();
        let of_one = |notice: &'a Notice| {
            let key = (&*notice.rule, notice.kind == NoticeKind::Resolved);
            let is_part = notice.kind.is_of_alert() && notice.kind != NoticeKind::Flapping;
            Some(key).filter(|key| is_part && incidents.contains(key))
        };
        for notice in notices {
            let Some((rule, is_over)) = of_one(notice) else {
                entries.push(Self::Alert(notice));
                continue;
            };
            let place = *places.entry((rule, is_over)).or_insert_with(|| {
                entries.push(Self::Incident(Vec::new()));
                entries.len() - 1
            });
            if let Some(Self::Incident(parts)) = entries.get_mut(place) {
                parts.push(notice);
            }
        }
        entries
    }

    /// The notices in it.
    pub(in crate::notify) fn notices(&self) -> &[&'a Notice] {
        match self {
            Self::Alert(notice) => std::slice::from_ref(notice),
            Self::Incident(parts) => parts,
        }
    }

    /// Its tone: that of the worst in it.
    pub(in crate::notify) fn tone(&self) -> Tone {
        self.notices().iter().map(|notice| Tone::of(notice)).min_by_key(|tone| tone.rank()).unwrap_or(Tone::Test)
    }

    /// It in one line, the level's word first.
    pub(in crate::notify) fn line(&self) -> String {
        match self {
            Self::Alert(notice) => line(notice),
            Self::Incident(parts) => {
                format!("[{}] {}", self.tone().word(), IncidentSummary::of(parts).sentence())
            }
        }
    }
}

/// What a notice is grouped by: its rule, and whether it is over; `None` when it is notified by itself.
pub(super) fn group(notice: &Notice) -> Option<(&str, bool)> {
    notice.part_of.map(|_| (&*notice.rule, notice.kind == NoticeKind::Resolved))
}

/// What the parts of one incident come to.
#[derive(Debug)]
pub(super) struct IncidentSummary<'a> {
    who: String,
    rule: &'a str,
    is_over: bool,
    /// The incident as it was when the last of them became due.
    incident: Incident,
    /// How many at which level, the worst first.
    levels: Vec<(Level, usize)>,
    names: Vec<&'a str>,
    unit: Unit,
    values: Option<(f64, f64)>,
    /// The threshold of the part whose level is lowest.
    threshold: Option<f64>,
    action: &'a str,
}

impl<'a> IncidentSummary<'a> {
    pub(super) fn of(parts: &[&'a Notice]) -> Self {
        let is_over = parts.first().is_some_and(|notice| notice.kind == NoticeKind::Resolved);
        // Of those that became due together, the last one counted all of them.
        let incident = parts.iter().filter_map(|notice| Some((notice.at, notice.part_of?)));
        let incident = incident.reduce(|a, b| if b.0 >= a.0 { b } else { a }).map(|(_, incident)| incident);
        let mut levels: BTreeMap<std::cmp::Reverse<Level>, usize> = BTreeMap::new();
        for notice in parts {
            *levels.entry(std::cmp::Reverse(notice.level)).or_default() += 1;
        }
        let values = parts.iter().filter_map(|notice| notice.value).filter(|value| value.is_finite());
        Self {
            who: common_project(parts).map_or_else(
                || {
                    let projects: BTreeSet<_> = parts.iter().filter_map(|notice| notice.subject.project()).collect();
                    format!("{} projects", projects.len())
                },
                |project| one_line(project, NAME_LIMIT),
            ),
            rule: parts.first().map_or("", |notice| &notice.rule),
            is_over,
            incident: incident.unwrap_or(Incident { firing: 0, agents: 0 }),
            levels: levels.into_iter().map(|(level, count)| (level.0, count)).collect(),
            names: parts.iter().map(|notice| &**notice.subject.name()).collect(),
            unit: parts.first().map_or(Unit::Count, |notice| notice.unit),
            threshold: parts.iter().min_by_key(|notice| notice.level).and_then(|notice| notice.threshold),
            values: values.fold(None, |range: Option<(f64, f64)>, value| {
                Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
            }),
            action: parts.first().map_or("", |notice| &notice.action),
        }
    }

    /// `shop: AgentIdle fires for 400 of 1000 agents (3 error, 397 warning), 5m to 11m (limit 5m)`, without the names.
    pub(super) fn headline(&self) -> String {
        let (who, rule) = (&self.who, one_line(self.rule, NAME_LIMIT));
        let (count, Incident { firing, agents }) = (self.names.len(), self.incident);
        if self.is_over {
            let noun = if count == 1 { "agent" } else { "agents" };
            return format!("{who}: {count} {noun} recovered from {rule}, {firing} of {agents} still firing");
        }
        let part = if count == firing as usize { String::new() } else { format!(", {count} in this message") };
        let range = self.range().map(|range| format!(", {range}")).unwrap_or_default();
        format!("{who}: {rule} fires for {firing} of {agents} agents{part} ({}){range}", self.by_level())
    }

    /// All of it in a sentence.
    pub(super) fn sentence(&self) -> String {
        format!("{}: {}", self.headline(), self.sample())
    }

    /// `9000 warning, 1000 error`, the worst first.
    fn by_level(&self) -> String {
        self.levels.iter().map(|(level, count)| format!("{count} {level}")).collect::<Vec<_>>().join(", ")
    }

    /// The first names, and how many more there are.
    pub(super) fn sample(&self) -> String {
        let named: Vec<String> = self.names.iter().take(SAMPLE).map(|name| one_line(name, SAMPLE_NAME)).collect();
        let more = self.names.len().saturating_sub(SAMPLE);
        let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{}{rest}", named.join(", "))
    }

    /// The lowest and the highest value against the limit of the lowest level.
    fn range(&self) -> Option<String> {
        let (low, high) = self.values?;
        let (low, high) = (self.unit.show(low)?, self.unit.show(high)?);
        let limit = self.threshold.and_then(|threshold| self.unit.show(threshold));
        let limit = limit.map(|limit| format!(" (limit {limit})")).unwrap_or_default();
        Some(if low == high { format!("{low}{limit}") } else { format!("{low} to {high}{limit}") })
    }

    /// What to do about it.
    pub(super) const fn action(&self) -> &'a str {
        self.action
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }
}

/// The project of all of `notices`, if it is one.
pub(super) fn common_project<'a>(notices: &[&'a Notice]) -> Option<&'a str> {
    let first = notices.first()?.subject.project()?;
    notices.iter().all(|notice| notice.subject.project() == Some(first)).then_some(&**first)
}

/// One alert in one line: the level's word first, the rule last.
pub(in crate::notify) fn line(notice: &Notice) -> String {
    let (word, sentence) = (Tone::of(notice).word(), one_line(&notice.sentence(), LINE_LIMIT));
    if !notice.kind.is_of_alert() {
        return format!("[{word}] {sentence}");
    }
    format!("[{word}] {sentence} · {}", one_line(&notice.rule, NAME_LIMIT))
}
