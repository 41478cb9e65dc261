//! What a message says, before any medium dresses it: title, facts and lines from the notices it carries.
//!
//! Refuses to escape and to truncate for a medium: each transport does that for itself, within its limits.

mod summary;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Incident, Level, Notice, NoticeKind, Subject, Time, duration};
use crate::text;
use crate::text::number::shortest;
pub(super) use summary::Entry;
use summary::{Told, group};

/// Longest name in a title, in bytes.
const NAME_LIMIT: usize = 200;
/// Longest sentence taken from a notice, in bytes.
const SENTENCE_LIMIT: usize = 4_000;
/// Longest sentence in a line of a summary, in bytes.
const LINE_LIMIT: usize = 240;
/// Subjects named in the title of a summary.
const NAMED: usize = 3;
/// Rules counted in the overview of a summary.
const COUNTED: usize = 5;

/// The colour a message has, whatever the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Something fires, at worst at this level.
    Firing(Level),
    /// All of it is over.
    Resolved,
    /// News that need nothing done.
    Note,
    /// A test, and nothing else.
    Test,
}

impl Tone {
    /// The tone of one notice.
    pub(super) const fn of(notice: &Notice) -> Self {
        match notice.kind {
            NoticeKind::Test => Self::Test,
            NoticeKind::Resolved => Self::Resolved,
            NoticeKind::Announcement | NoticeKind::Digest => Self::Note,
            NoticeKind::Firing
            | NoticeKind::Escalated
            | NoticeKind::Deescalated
            | NoticeKind::Repeat
            | NoticeKind::Flapping
            | NoticeKind::FlappingEnded => Self::Firing(notice.level),
        }
    }

    /// The word in brackets that opens a title or a line.
    pub(super) fn word(self) -> String {
        match self {
            Self::Firing(level) => level.as_str().to_uppercase(),
            Self::Resolved => "RESOLVED".to_owned(),
            Self::Note => "NOTE".to_owned(),
            Self::Test => "TEST".to_owned(),
        }
    }

    /// As `#rrggbb`. What is over or a test has the colour of `info`.
    pub(super) const fn colour(self) -> &'static str {
        match self {
            Self::Firing(Level::Critical) => "#990000",
            Self::Firing(Level::Error) => "#ff0000",
            Self::Firing(Level::Warning) => "#ff9900",
            Self::Firing(Level::Info) | Self::Resolved | Self::Note | Self::Test => "#36a64f",
        }
    }

    /// Its place in a summary: the worst first, then what is over, then tests.
    pub(super) const fn rank(self) -> usize {
        match self {
            Self::Firing(level) => Level::Critical.index() - level.index(),
            Self::Resolved => 4,
            Self::Note => 5,
            Self::Test => 6,
        }
    }
}

/// A message, ready to be dressed.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// One line: the mail's subject, the chat's headline.
    pub(super) title: String,
    /// Its colour.
    pub(super) tone: Tone,
    /// The rest.
    pub(super) body: Body<'a>,
}

/// What follows the title.
#[derive(Debug)]
pub(super) enum Body<'a> {
    /// One alert, with all there is to know.
    One(Details),
    /// Several alerts, a line for each.
    Many(Summary<'a>),
}

/// One alert in full.
#[derive(Debug)]
pub(super) struct Details {
    /// What is the matter, in a sentence.
    pub(super) sentence: String,
    /// Names and values, the most telling first.
    pub(super) facts: Vec<(&'static str, String)>,
    /// What to do about it, if there is anything.
    pub(super) action: Option<String>,
}

/// Several alerts.
#[derive(Debug)]
pub(super) struct Summary<'a> {
    /// How many of which level and rule.
    pub(super) overview: String,
    /// The alerts, worst first, with the parts of an incident in one.
    pub(super) entries: Vec<Entry<'a>>,
}

impl Summary<'_> {
    /// The overview, as many of the entries' lines as there is `room` for, of which each takes its `cost`, and how many
    /// alerts were left out. At least one line, however long.
    pub(super) fn within(
        &self,
        mut room: usize,
        line: impl Fn(&Entry<'_>) -> String,
        cost: impl Fn(&str) -> usize,
    ) -> String {
        let mut lines = vec![self.overview.clone()];
        let mut told = 0;
        for entry in &self.entries {
            let line = line(entry);
            let takes = cost(&line);
            if takes > room && told > 0 {
                break;
            }
            room = room.saturating_sub(takes);
            lines.push(line);
            told += 1;
        }
        let left: usize = self.entries.iter().skip(told).map(|entry| entry.notices().len()).sum();
        if left > 0 {
            lines.push(left_out(left));
        }
        lines.join("\n")
    }
}

/// The message that carries `notices`, as it reads at `now`; with no notice it is an empty summary.
pub(super) fn compose(now: Time, notices: &[Arc<Notice>]) -> Message<'_> {
    if let [notice] = notices {
        return one(now, notice);
    }
    let mut sorted: Vec<&Notice> = notices.iter().map(|notice| &**notice).collect();
    sorted.sort_by(|left, right| {
        (Tone::of(left).rank(), &left.subject, &left.rule).cmp(&(Tone::of(right).rank(), &right.subject, &right.rule))
    });
    let tone = sorted.first().map_or(Tone::Test, |worst| Tone::of(worst));
    let entries = Entry::of(&sorted);
    if let [Entry::Incident(parts)] = entries.as_slice() {
        return incident(tone, &Told::of(parts));
    }
    let title = format!("[{}] {}: {}", tone.word(), counts(&sorted), names(&sorted));
    Message { title, tone, body: Body::Many(Summary { overview: overview(&sorted), entries }) }
}

/// A message that tells of one incident and nothing else.
fn incident(tone: Tone, told: &Told<'_>) -> Message<'static> {
    let mut facts = vec![("Agents", told.sample()), ("Breaking the rule now", told.extent())];
    if !told.is_over() {
        facts.insert(0, ("Levels", told.by_level()));
        facts.extend(told.range().map(|range| ("Values", range)));
    }
    let body = Body::One(Details { sentence: told.sentence(), facts, action: None });
    Message { title: format!("[{}] {}", tone.word(), told.headline()), tone, body }
}

fn one(now: Time, notice: &Notice) -> Message<'static> {
    let tone = Tone::of(notice);
    let action = one_line(&notice.action, SENTENCE_LIMIT);
    let body = Body::One(Details {
        sentence: match (one_line(&notice.message, SENTENCE_LIMIT), notice.kind) {
            (sentence, NoticeKind::Resolved) if !sentence.is_empty() => format!("Was: {sentence}"),
            (sentence, _) => sentence,
        },
        facts: facts(now, notice),
        action: (!action.is_empty() && notice.kind.is_firing()).then_some(action),
    });
    Message { title: format!("[{}] {}", tone.word(), one_line(notice.subject.name(), NAME_LIMIT)), tone, body }
}

fn facts(now: Time, notice: &Notice) -> Vec<(&'static str, String)> {
    if matches!(notice.kind, NoticeKind::Announcement | NoticeKind::Digest) {
        return Vec::new();
    }
    let mut facts = vec![("Level", level(notice))];
    if let Some(project) = notice.subject.project() {
        facts.push(("Project", one_line(project, NAME_LIMIT)));
    }
    match &notice.subject {
        Subject::Agent { name, .. } => facts.push(("Agent", one_line(name, NAME_LIMIT))),
        Subject::Component { name, .. } => facts.push(("Component", one_line(name, NAME_LIMIT))),
        Subject::Source { name } => facts.push(("Source", one_line(name, NAME_LIMIT))),
        Subject::Receiver { name } => facts.push(("Receiver", one_line(name, NAME_LIMIT))),
        Subject::Sidecar { .. } | Subject::Cluster { .. } => {}
    }
    facts.push(("Rule", one_line(&notice.rule, NAME_LIMIT)));
    if let Some(incident) = notice.part_of {
        let Incident { firing, agents } = incident;
        facts.push(("Incident", format!("{firing} of {agents} agents break the rule now")));
    }
    if notice.kind == NoticeKind::Resolved {
        let end = notice.resolved_at.unwrap_or(notice.at);
        let lasted = duration::display(whole_seconds(end, notice.started_at));
        facts.extend(value(notice).map(|value| ("Peak", value)));
        facts.push(("Lasted", format!("{lasted}, from {} to {end}", notice.started_at)));
        if let Some(ending) = ending(notice) {
            facts.push(("Ended", ending));
        }
    } else {
        facts.extend(value(notice).map(|value| ("Value", value)));
        let age = duration::display(whole_seconds(now, notice.started_at));
        facts.push(("Since", format!("{} ({age} ago)", notice.started_at)));
    }
    facts
}

fn value(notice: &Notice) -> Option<String> {
    let threshold = notice.threshold.map(|threshold| format!(" (threshold {})", number(threshold)));
    Some(format!("{}{}", number(notice.value?), threshold.unwrap_or_default()))
}

fn level(notice: &Notice) -> String {
    let level = notice.peak.unwrap_or(notice.level);
    match (notice.kind, notice.previous) {
        (NoticeKind::Escalated | NoticeKind::Deescalated, Some(previous)) => format!("{level} (was {previous})"),
        (NoticeKind::Repeat, _) => format!("{level} (still firing)"),
        (NoticeKind::Resolved, _) => format!("was {level}"),
        (NoticeKind::Test, _) => format!("{level} (only a test)"),
        (NoticeKind::Flapping, _) => format!("{level} (comes and goes; you are told once it settles)"),
        (NoticeKind::FlappingEnded, _) => format!("{level} (no longer comes and goes; still firing)"),
        _ => level.to_string(),
    }
}

/// Why a resolve came about, when not because things are well again.
fn ending(notice: &Notice) -> Option<String> {
    match (notice.now_at, notice.ending) {
        (Some(level), _) => Some(format!("now {level}")),
        (None, Some(ending)) => Some(ending.as_str().to_owned()),
        (None, None) => None,
    }
}

/// How many of `notices`, from the first on, have lines within `room`: `cost` says what a line takes of it, and the
/// line of an incident takes `incident`. At least one, so that what is too long is cut and not kept back.
pub(super) fn fitting(
    now: Time,
    notices: &[&Notice],
    mut room: usize,
    incident: usize,
    cost: impl Fn(&str) -> usize,
) -> usize {
    let mut folded = Vec::new();
    for (place, notice) in notices.iter().enumerate() {
        let takes = match group(notice) {
            Some(group) if folded.contains(&group) => 0,
            Some(group) => {
                folded.push(group);
                incident
            }
            None => cost(&Entry::Alert(notice).line(now)),
        };
        if takes > room {
            return place.max(1);
        }
        room -= takes;
    }
    notices.len()
}

/// What stands for the lines that found no room.
pub(super) fn left_out(count: usize) -> String {
    format!("… and {count} more that found no room here; all of them are on /api/alerts")
}

fn counts(sorted: &[&Notice]) -> String {
    let count = |tone: Tone| sorted.iter().filter(|notice| Tone::of(notice) == tone).count();
    let (resolved, notes) = (count(Tone::Resolved), count(Tone::Note));
    let firing = sorted.len() - resolved - notes;
    let alerts = |count: usize| format!("{count} {}", if count == 1 { "alert" } else { "alerts" });
    match (firing, resolved) {
        (0, 0) if notes > 0 => format!("{notes} notes"),
        (0, resolved) => alerts(resolved),
        (firing, 0) => alerts(firing),
        (firing, resolved) => format!("{}, {resolved} resolved", alerts(firing)),
    }
}

fn names(sorted: &[&Notice]) -> String {
    let mut named: Vec<&str> = Vec::with_capacity(NAMED);
    for notice in sorted {
        let name = &**notice.subject.name();
        if named.contains(&name) {
            continue;
        }
        if named.len() == NAMED {
            named.push("…");
            break;
        }
        named.push(name);
    }
    named.iter().map(|name| one_line(name, NAME_LIMIT / NAMED)).collect::<Vec<_>>().join(", ")
}

fn overview(sorted: &[&Notice]) -> String {
    let mut tones: BTreeMap<usize, (Tone, usize)> = BTreeMap::new();
    let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
    for notice in sorted {
        let tone = Tone::of(notice);
        tones.entry(tone.rank()).or_insert((tone, 0)).1 += 1;
        *rules.entry(&notice.rule).or_default() += 1;
    }
    let tones: Vec<String> =
        tones.values().map(|(tone, count)| format!("{count} {}", tone.word().to_lowercase())).collect();
    let mut rules: Vec<(&str, usize)> = rules.into_iter().collect();
    rules.sort_unstable_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(right.0)));
    let mut words: Vec<String> =
        rules.iter().take(COUNTED).map(|(rule, count)| format!("{} {count}", one_line(rule, NAME_LIMIT))).collect();
    if rules.len() > COUNTED {
        words.push(format!("{} more rules", rules.len() - COUNTED));
    }
    format!("{} · {}", tones.join(", "), words.join(", "))
}

/// `words` in one line, without characters that could disturb a terminal, a header or a chat.
pub(super) fn one_line(words: &str, limit: usize) -> String {
    if words.chars().any(|letter| letter.is_whitespace() && letter != ' ') {
        let spaced: String =
            words.chars().map(|letter| if letter.is_whitespace() { ' ' } else { letter }).take(limit).collect();
        return text::clean(&spaced, limit).trim().to_owned();
    }
    text::clean(words, limit).trim().to_owned()
}

/// A number as a person writes it: no more decimals than tell something.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "unknown".to_owned();
    }
    if value == 0.0 || (0.001..1e15).contains(&value.abs()) {
        return shortest(value, 3);
    }
    format!("{value:e}")
}

fn whole_seconds(end: Time, start: Time) -> std::time::Duration {
    std::time::Duration::from_secs(end.since(start).as_secs())
}

#[cfg(test)]
mod tests;
