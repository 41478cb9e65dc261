//! The text of a message before a transport formats it: title, facts and lines from the notices that it carries.
//!
//! Nothing is escaped or truncated for a medium here: each transport does that for itself, within its limits.

mod summary;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Incident, Level, Notice, NoticeKind, Time, Unit};
use crate::text;
pub(super) use summary::SummaryEntry;
use summary::{IncidentSummary, common_project, group};

/// Longest name in a title, in bytes.
const NAME_LIMIT: usize = 200;
/// Longest sentence taken from a notice, in bytes.
const SENTENCE_LIMIT: usize = 4_000;
/// Longest sentence in a line of a summary, in bytes.
const LINE_LIMIT: usize = 400;
/// Most actions at the end of a summary, and the longest of them in bytes.
const ACTIONS: usize = 3;
const ACTION_LIMIT: usize = 200;
/// Room that the actions of a summary take at most, in bytes.
pub(super) const ACTIONS_ROOM: usize = ACTIONS * (ACTION_LIMIT + 80);
/// Subjects named in the title of a summary.
const NAMED: usize = 3;
/// Rules counted in the overview of a summary.
const COUNTED: usize = 5;

/// The colour a message has, whatever the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Something fires, at worst at this level.
    Firing(Level),
    /// All of it is resolved.
    Resolved,
    /// An announcement or a digest.
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

/// A message, ready to be formatted.
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
    /// Who, what is wrong and why; the title repeats it unless the receiver has a template of its own.
    pub(super) sentence: String,
    /// What to do about it, if there is anything.
    pub(super) action: Option<String>,
    /// What else is known, by name.
    pub(super) facts: Vec<(&'static str, String)>,
}

impl Details {
    /// The sentence, unless `title` holds it; `is_cut` says that the title is not shown in full.
    pub(super) fn text_below(&self, title: &str, is_cut: bool) -> Option<&str> {
        let is_shown = !is_cut && title.ends_with(&self.sentence);
        Some(&*self.sentence).filter(|sentence| !is_shown && !sentence.is_empty())
    }

    /// The facts in one line.
    pub(super) fn footer(&self) -> String {
        let facts: Vec<String> = self.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        facts.join(" · ")
    }
}

/// Several alerts.
#[derive(Debug)]
pub(super) struct Summary<'a> {
    /// How many of which level and rule.
    pub(super) overview: String,
    /// The alerts, worst first, with the parts of an incident in one.
    pub(super) entries: Vec<SummaryEntry<'a>>,
    /// What to do, by rule; those of the first rules.
    pub(super) actions: Vec<String>,
}

impl Summary<'_> {
    /// The overview, as many of the entries' lines as there is `room` for, of which each takes its `cost`, how many alerts
    /// were left out, and what to do. At least one line, however long.
    pub(super) fn within(
        &self,
        mut room: usize,
        line: impl Fn(&SummaryEntry<'_>) -> String,
        cost: impl Fn(&str) -> usize,
    ) -> String {
        let mut lines = vec![self.overview.clone()];
        let mut shown = 0;
        for entry in &self.entries {
            let line = line(entry);
            let takes = cost(&line);
            if takes > room && shown > 0 {
                break;
            }
            room = room.saturating_sub(takes);
            lines.push(line);
            shown += 1;
        }
        let left: usize = self.entries.iter().skip(shown).map(|entry| entry.notices().len()).sum();
        if left > 0 {
            lines.push(left_out(left));
        }
        lines.extend_from_slice(&self.actions);
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
    let entries = SummaryEntry::of(&sorted);
    if let [SummaryEntry::Incident(parts)] = entries.as_slice() {
        return incident(now, tone, parts);
    }
    let title = format!("[{}] {}", tone.word(), headline(&sorted));
    Message {
        title,
        tone,
        body: Body::Many(Summary { overview: overview(&sorted), entries, actions: actions(&sorted) }),
    }
}

/// A message about one incident and nothing else.
fn incident(now: Time, tone: Tone, parts: &[&Notice]) -> Message<'static> {
    let summary = IncidentSummary::of(parts);
    let sentence = summary.headline();
    let mut facts = vec![("Agents", summary.sample())];
    if !summary.is_over() {
        let since = parts.iter().map(|notice| notice.started_at).min();
        facts.extend(since.map(|since| ("Since", clock(now, since))));
    }
    let action = Some(one_line(summary.action(), SENTENCE_LIMIT)).filter(|it| !it.is_empty() && !summary.is_over());
    let title = format!("[{}] {sentence}", tone.word());
    Message { title, tone, body: Body::One(Details { sentence, action, facts }) }
}

fn one(now: Time, notice: &Notice) -> Message<'static> {
    let tone = Tone::of(notice);
    let action = one_line(&notice.action, SENTENCE_LIMIT);
    let sentence = one_line(&notice.sentence(), SENTENCE_LIMIT);
    let title = format!("[{}] {sentence}", tone.word());
    let body = Body::One(Details {
        facts: facts(now, notice, &sentence),
        sentence,
        action: (!action.is_empty() && notice.kind.is_firing()).then_some(action),
    });
    Message { title, tone, body }
}

/// `text` and then the action, for media that have one line.
pub(super) fn with_action(text: &str, action: Option<&str>) -> String {
    match action {
        Some(action) if text.ends_with(['.', '!', '?', '…']) => format!("{text} {action}"),
        Some(action) => format!("{text}. {action}"),
        None => text.to_owned(),
    }
}

/// What is known in addition to the `sentence` of an alert.
fn facts(now: Time, notice: &Notice, sentence: &str) -> Vec<(&'static str, String)> {
    if !notice.kind.is_of_alert() {
        return Vec::new();
    }
    let mut facts = vec![("Rule", one_line(&notice.rule, NAME_LIMIT))];
    let value = notice.value.and_then(|value| Some((notice.unit.show(value)?, value)));
    // Unless the rule's own text has it. That a thing is so, or that there is 1 of it, is in the rule's name.
    if let Some((shown, value)) = value
        && notice.kind != NoticeKind::Resolved
        && (notice.unit != Unit::Count || value > 1.0)
        && !sentence.contains(&shown)
    {
        facts.extend(notice.unit.measure(value, notice.threshold).map(|measure| ("Value", measure)));
    }
    if let Some(Incident { firing, agents }) = notice.part_of {
        facts.push(("Incident", format!("{firing} of {agents} agents")));
    }
    if notice.kind == NoticeKind::Resolved {
        let end = notice.resolved_at.unwrap_or(notice.at);
        facts.push(("Fired", format!("{} to {}", clock(now, notice.fired_at), clock(now, end))));
    } else {
        facts.push(("Since", clock(now, notice.started_at)));
        if notice.kind == NoticeKind::Flapping {
            facts.push(("Next", "a message once it is steady or worse".to_owned()));
        }
    }
    facts
}

/// A time of day, with the date where it is not that of `now`.
pub(super) fn clock(now: Time, at: Time) -> String {
    format!("{} UTC", at.on_clock(now, &jiff::tz::TimeZone::UTC))
}

/// How many of `notices`, from the first on, have lines within `room`: `cost` is what a line takes of it, and the
/// line of an incident takes `incident`. At least one, so that what is too long is cut rather than never sent.
pub(super) fn fitting(notices: &[&Notice], mut room: usize, incident: usize, cost: impl Fn(&str) -> usize) -> usize {
    let mut folded = Vec::new();
    for (place, notice) in notices.iter().enumerate() {
        let takes = match group(notice) {
            Some(group) if folded.contains(&group) => 0,
            Some(group) => {
                folded.push(group);
                incident
            }
            None => cost(&SummaryEntry::Alert(notice).line()),
        };
        if takes > room {
            return place.max(1);
        }
        room -= takes;
    }
    notices.len()
}

/// The line in place of those that do not fit.
pub(super) fn left_out(count: usize) -> String {
    format!("… and {count} more; all of them are on /api/alerts")
}

/// Who and how many: `shop: 3 alerts, 1 resolved (c1, c2, w, …)`; of one subject
/// `shop/w: 2 alerts (AgentDown, ErrorRepeating)`.
fn headline(sorted: &[&Notice]) -> String {
    let count = |tone: Tone| sorted.iter().filter(|notice| Tone::of(notice) == tone).count();
    let (resolved, notes) = (count(Tone::Resolved), count(Tone::Note));
    let firing = sorted.len() - resolved - notes;
    let alerts = |count: usize| format!("{count} {}", if count == 1 { "alert" } else { "alerts" });
    let counts = match (firing, resolved) {
        (0, 0) if notes > 0 => format!("{notes} notes"),
        (0, resolved) => format!("{} resolved", alerts(resolved)),
        (firing, 0) => alerts(firing),
        (firing, resolved) => format!("{}, {resolved} resolved", alerts(firing)),
    };
    if let Some(first) = sorted.first()
        && sorted.iter().all(|notice| notice.kind.is_of_alert() && notice.subject == first.subject)
    {
        let rules = names(sorted.iter().map(|it| it.rule.to_string()));
        return format!("{}: {counts} ({rules})", one_line(&first.subject.who(), NAME_LIMIT));
    }
    match common_project(sorted) {
        Some(project) => format!(
            "{}: {counts} ({})",
            one_line(project, NAME_LIMIT),
            names(sorted.iter().map(|it| it.subject.name().to_string()))
        ),
        None => format!("{counts} ({})", names(sorted.iter().map(|it| it.subject.who()))),
    }
}

/// The first few of different `all`.
fn names(all: impl Iterator<Item = String>) -> String {
    let mut named: Vec<String> = Vec::with_capacity(NAMED + 1);
    for name in all {
        let name = one_line(&name, NAME_LIMIT / NAMED);
        if named.contains(&name) {
            continue;
        }
        if named.len() == NAMED {
            named.push("…".to_owned());
            break;
        }
        named.push(name);
    }
    named.join(", ")
}

/// What to do about the first few rules of what fires.
fn actions(sorted: &[&Notice]) -> Vec<String> {
    let firing = sorted.iter().filter(|it| it.kind.is_of_alert() && it.kind.is_firing() && !it.action.is_empty());
    let mut rules: Vec<&str> = Vec::new();
    let mut actions = Vec::new();
    for notice in firing {
        if actions.len() < ACTIONS && !rules.contains(&&*notice.rule) {
            rules.push(&notice.rule);
            let action = one_line(&notice.action, ACTION_LIMIT);
            actions.push(format!("{}: {action}", one_line(&notice.rule, NAME_LIMIT / NAMED)));
        }
    }
    actions
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

#[cfg(test)]
mod tests;
