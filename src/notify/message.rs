//! What a message says, before a medium gives it its form.

use std::sync::Arc;

use crate::model::{Level, Notice, NoticeKind, duration};

/// Subjects named in the title of a message of many.
const NAMED: usize = 3;

/// The colour of a level, as people know it from Slack.
pub(super) const fn colour(level: Level) -> &'static str {
    match level {
        Level::Info => "#36a64f",
        Level::Warning => "#ff9900",
        Level::Error => "#ff0000",
        Level::Critical => "#990000",
    }
}

/// The colour of a message: of its worst alert that fires, else the one of info.
pub(super) fn colour_of(notices: &[Arc<Notice>]) -> &'static str {
    let worst = notices.iter().filter(|notice| notice.kind.is_firing()).map(|notice| notice.level).max();
    colour(worst.unwrap_or(Level::Info))
}

/// The order in which people read: firing before over, worst first, then by name.
pub(super) fn in_order(notices: &[Arc<Notice>]) -> Vec<&Notice> {
    let mut sorted: Vec<&Notice> = notices.iter().map(|notice| &**notice).collect();
    sorted.sort_by(|a, b| {
        let rank = |notice: &Notice| (!notice.kind.is_firing(), std::cmp::Reverse(notice.level));
        rank(a).cmp(&rank(b)).then_with(|| a.subject.name().cmp(b.subject.name()))
    });
    sorted
}

/// `[ERROR]`, `[RESOLVED]`, `[TEST]`.
pub(super) fn tag(notice: &Notice) -> String {
    match notice.kind {
        NoticeKind::Resolved => "[RESOLVED]".to_owned(),
        NoticeKind::Test => "[TEST]".to_owned(),
        _ => format!("[{}]", notice.level.as_str().to_uppercase()),
    }
}

/// The title of a message: `[ERROR] worker-3`, or `[CRITICAL] 12 alerts: a, b, c, …`.
pub(super) fn title(notices: &[Arc<Notice>]) -> String {
    let sorted = in_order(notices);
    match sorted.as_slice() {
        [] => String::new(),
        [one] => format!("{} {}", tag(one), one.subject.name()),
        [first, ..] => {
            let mut names: Vec<&str> = Vec::new();
            for notice in &sorted {
                let name = &**notice.subject.name();
                if names.len() < NAMED && !names.contains(&name) {
                    names.push(name);
                }
            }
            let more = if sorted.len() > names.len() { ", …" } else { "" };
            format!("{} {} alerts: {}{more}", tag(first), sorted.len(), names.join(", "))
        }
    }
}

/// One sentence of what is the matter, or how it ended.
pub(super) fn sentence(notice: &Notice) -> String {
    match (notice.kind, notice.now_at, notice.ending) {
        (NoticeKind::Resolved, Some(now), _) => format!("{} (now {now})", notice.message),
        (NoticeKind::Resolved, None, Some(ending)) => format!("over: {} ({})", notice.message, ending.as_str()),
        (NoticeKind::Resolved, None, None) => format!("over after {}: {}", lasted(notice), notice.message),
        (NoticeKind::Repeat, ..) => format!("{} (still, for {})", notice.message, lasted(notice)),
        (NoticeKind::Raised | NoticeKind::Lowered, ..) => match notice.previous {
            Some(previous) => format!("{} (was {previous})", notice.message),
            None => notice.message.to_string(),
        },
        _ => notice.message.to_string(),
    }
}

/// How long the alert has lasted by the time of the notice.
fn lasted(notice: &Notice) -> String {
    duration::display(notice.resolved_at.unwrap_or(notice.at).since(notice.started_at))
}

/// The line of one alert in a message of many.
pub(super) fn line(notice: &Notice) -> String {
    format!("{} {}: {}", tag(notice), notice.subject.name(), sentence(notice))
}

/// The facts of one alert, as pairs of name and value.
pub(super) fn facts(notice: &Notice) -> Vec<(&'static str, String)> {
    let mut facts = vec![("Level", notice.level.to_string())];
    if let Some(project) = notice.subject.project() {
        facts.push(("Project", project.to_string()));
    }
    let kind = match notice.subject.label() {
        "agent_name" => Some("Agent"),
        "component" => Some("Component"),
        "source" => Some("Source"),
        _ => None,
    };
    if let Some(kind) = kind {
        facts.push((kind, notice.subject.name().to_string()));
    }
    facts.push(("Rule", notice.rule.to_string()));
    facts.push(("Since", notice.started_at.to_string()));
    if let Some(at) = notice.resolved_at.filter(|_| notice.kind == NoticeKind::Resolved) {
        facts.push(("Until", at.to_string()));
    }
    facts
}

/// What to do, unless it is over.
pub(super) fn action(notice: &Notice) -> Option<&str> {
    (notice.kind.is_firing() && !notice.action.is_empty()).then_some(&*notice.action)
}
