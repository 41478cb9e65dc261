//! Several alerts in one message: one line for each, but one line alone for all that are parts of one incident.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{LINE_LIMIT, NAME_LIMIT, Tone, ending, number, one_line, whole_seconds};
use crate::model::{Incident, Level, Notice, NoticeKind, Time, duration};

/// Subjects named in the line of an incident.
const SAMPLE: usize = 5;
/// Longest name in the line of an incident, in bytes.
const SAMPLE_NAME: usize = 60;

/// What has a line of its own.
#[derive(Debug)]
pub(in crate::notify) enum Entry<'a> {
    /// One alert.
    Alert(&'a Notice),
    /// Parts of one incident that go the same way: what fires, or what is over. Never empty.
    Incident(Vec<&'a Notice>),
}

impl<'a> Entry<'a> {
    /// The entries that tell `notices`, in their order; an incident stands where its first part does.
    pub(super) fn of(notices: &[&'a Notice]) -> Vec<Self> {
        let mut places: BTreeMap<(&str, bool), usize> = BTreeMap::new();
        let mut entries: Vec<Self> = Vec::new();
        // Those of the rule that were told before it was an incident belong to it as well.
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
    pub(in crate::notify) fn line(&self, now: Time) -> String {
        match self {
            Self::Alert(notice) => line(now, notice),
            Self::Incident(parts) => {
                let told = Told::of(parts);
                format!("[{}] {}", self.tone().word(), told.sentence())
            }
        }
    }
}

/// What a notice is folded by: its rule, and whether it is over; `None` when it is told by itself.
pub(super) fn group(notice: &Notice) -> Option<(&str, bool)> {
    notice.part_of.map(|_| (&*notice.rule, notice.kind == NoticeKind::Resolved))
}

/// What parts of one incident come to.
#[derive(Debug)]
pub(super) struct Told<'a> {
    rule: &'a str,
    is_over: bool,
    /// The incident as it was when the last of them became due.
    incident: Incident,
    /// How many at which level, the worst first.
    levels: Vec<(Level, usize)>,
    names: Vec<&'a str>,
    values: Option<(f64, f64)>,
}

impl<'a> Told<'a> {
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
            rule: parts.first().map_or("", |notice| &notice.rule),
            is_over,
            incident: incident.unwrap_or(Incident { firing: 0, agents: 0 }),
            levels: levels.into_iter().map(|(level, count)| (level.0, count)).collect(),
            names: parts.iter().map(|notice| &**notice.subject.name()).collect(),
            values: values.fold(None, |range: Option<(f64, f64)>, value| {
                Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
            }),
        }
    }

    /// How many agents.
    fn agents(&self) -> String {
        let count = self.names.len();
        format!("{count} {}", if count == 1 { "agent" } else { "agents" })
    }

    /// `AgentIdle: 10,000 agents`, for a title.
    pub(super) fn headline(&self) -> String {
        format!("{}: {}", one_line(self.rule, NAME_LIMIT), self.agents())
    }

    /// All of it in a sentence.
    pub(super) fn sentence(&self) -> String {
        let Incident { firing, agents } = self.incident;
        let mut text = one_line(self.rule, NAME_LIMIT);
        let written = if self.is_over {
            write!(text, ": {} recovered, {firing} of {agents} agents still break the rule", self.agents())
        } else {
            write!(text, ": {} ({}); {firing} of {agents} agents break the rule now", self.agents(), self.by_level())
        };
        debug_assert!(written.is_ok(), "a string takes all that is written to it");
        text.push_str("; ");
        text.push_str(&self.sample());
        text
    }

    /// `9000 warning, 1000 error`, the worst first.
    pub(super) fn by_level(&self) -> String {
        self.levels.iter().map(|(level, count)| format!("{count} {level}")).collect::<Vec<_>>().join(", ")
    }

    /// The first names, and how many more there are.
    pub(super) fn sample(&self) -> String {
        let named: Vec<String> = self.names.iter().take(SAMPLE).map(|name| one_line(name, SAMPLE_NAME)).collect();
        let more = self.names.len().saturating_sub(SAMPLE);
        let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{}{rest}", named.join(", "))
    }

    /// The lowest and the highest value.
    pub(super) fn range(&self) -> Option<String> {
        let (low, high) = self.values?;
        Some(if low == high { number(low) } else { format!("{} to {}", number(low), number(high)) })
    }

    /// How many of all agents break the rule now.
    pub(super) fn extent(&self) -> String {
        format!("{} of {}", self.incident.firing, self.incident.agents)
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }
}

/// One alert in one line, the level's word first.
pub(in crate::notify) fn line(now: Time, notice: &Notice) -> String {
    let word = Tone::of(notice).word();
    if !notice.kind.is_of_alert() {
        return format!("[{word}] {}", one_line(&notice.message, LINE_LIMIT));
    }
    let is_over = notice.kind == NoticeKind::Resolved;
    let was = if is_over { "was: " } else { "" };
    let mut line = format!(
        "[{word}] {} · {}: {was}{}",
        one_line(notice.subject.name(), NAME_LIMIT),
        one_line(&notice.rule, NAME_LIMIT),
        one_line(&notice.message, LINE_LIMIT)
    );
    let written = if is_over {
        let end = notice.resolved_at.unwrap_or(notice.at);
        let lasted = duration::display(whole_seconds(end, notice.started_at));
        let ending = ending(notice).map(|ending| format!(", {ending}")).unwrap_or_default();
        write!(line, " (lasted {lasted}{ending})")
    } else {
        let state = match notice.kind {
            NoticeKind::Flapping => ", comes and goes",
            NoticeKind::FlappingEnded => ", no longer comes and goes",
            _ => "",
        };
        write!(line, " (for {}{state})", duration::display(whole_seconds(now, notice.started_at)))
    };
    debug_assert!(written.is_ok(), "a string takes all that is written to it");
    line
}
