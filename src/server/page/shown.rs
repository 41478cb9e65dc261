//! How the page shows an agent: one word, the worse of its state and of its alerts, and the reason.

use std::collections::HashSet;
use std::time::Duration;

use super::board::{AgentLabels, LabelTable, OpenAlerts};
use crate::machine::AlertView;
use crate::model::{Agent, AgentStatus, AlertState, Level, Snapshot, Time};

/// How long after its last activity an agent that reports no status counts as working.
const ACTIVE: Duration = Duration::from_secs(300);
/// Rules whose agents are down.
const FAILED: [&str; 1] = ["AgentDown"];
/// Rules whose agents a provider refuses.
const LIMITED: [&str; 1] = ["RateLimited"];
/// Rules whose agents make no progress.
const STUCK: [&str; 5] = ["AgentIdle", "TaskLooping", "TaskRunningLong", "ErrorRepeating", "IdleButSpending"];

/// What an agent is, in the order in which it wants attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Shown {
    /// It waits for a person, or an alert says that it wants attention.
    NeedsYou,
    /// It failed, ended unexpectedly, or went silent in the middle of a task.
    Failed,
    /// It is alive, and gets nowhere.
    Stuck,
    /// A provider refuses its requests for a while.
    RateLimited,
    /// At work.
    Working,
    /// Alive, with nothing to do.
    Idle,
    /// Finished.
    Done,
    /// Nothing reports it any more, or nothing says what it does.
    Unknown,
}

impl Shown {
    /// All of them, the most urgent first.
    pub(super) const ALL: [Self; 8] = [
        Self::NeedsYou,
        Self::Failed,
        Self::Stuck,
        Self::RateLimited,
        Self::Working,
        Self::Idle,
        Self::Done,
        Self::Unknown,
    ];

    /// Its name in classes, ids and links.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::NeedsYou => "needs",
            Self::Failed => "failed",
            Self::Stuck => "stuck",
            Self::RateLimited => "limited",
            Self::Working => "working",
            Self::Idle => "idle",
            Self::Done => "done",
            Self::Unknown => "unknown",
        }
    }

    /// The word for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::NeedsYou => "Needs you",
            Self::Failed => "Failed",
            Self::Stuck => "Stuck",
            Self::RateLimited => "Rate-limited",
            Self::Working => "Working",
            Self::Idle => "Idle",
            Self::Done => "Done",
            Self::Unknown => "Unknown",
        }
    }

    /// `count` agents of it in a sentence: `3 need you`, `1 failed`.
    pub(super) fn sentence(self, count: usize) -> String {
        match self {
            Self::NeedsYou if count == 1 => "1 needs you".to_owned(),
            Self::NeedsYou => format!("{count} need you"),
            other => format!("{count} {}", other.word().to_lowercase()),
        }
    }

    /// Whether it wants attention.
    pub(super) fn is_urgent(self) -> bool {
        self <= Self::RateLimited
    }

    /// What the status of a line of history is.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        match word {
            "stale" => return Some(Self::Unknown),
            "ended" => return Some(Self::Done),
            "removed" | "expired" | "" => return None,
            _ => {}
        }
        AgentStatus::parse(word).map(Self::of_status)
    }

    const fn of_status(status: AgentStatus) -> Self {
        match status {
            AgentStatus::Idle | AgentStatus::Paused => Self::Idle,
            AgentStatus::Starting | AgentStatus::Running | AgentStatus::WaitingDependency => Self::Working,
            AgentStatus::WaitingReview | AgentStatus::WaitingQuestion => Self::NeedsYou,
            AgentStatus::Completed => Self::Done,
            AgentStatus::Failed => Self::Failed,
        }
    }
}

/// An agent as it is shown.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    pub(super) agent: &'a Agent,
    pub(super) shown: Shown,
    /// Its worst firing alert.
    pub(super) alert: Option<&'a AlertView>,
    /// Whether the alert, rather than its own state, is why it is shown like this.
    pub(super) is_by_alert: bool,
    /// Since when, by the wall clock.
    pub(super) since: Time,
    pub(super) reason: String,
    pub(super) labels: AgentLabels,
}

impl<'a> Standing<'a> {
    /// The standing of `agent` with those of `alerts` that are about it.
    pub(super) fn new(agent: &'a Agent, fleet: &Snapshot, alerts: &'a OpenAlerts, labels: &LabelTable) -> Self {
        let wants = |alert: &&AlertView| alert.state == AlertState::Firing && alert.inhibited_by.is_none();
        // Two of one level: the one that fires for longer, so that the choice does not change from time to time.
        let rank = |alert: &&AlertView| (alert.level, std::cmp::Reverse((alert.started_at.clone(), alert.fingerprint)));
        let loud = alerts.of(agent).filter(|alert| is_loud(alert)).max_by_key(rank);
        let alert = loud.or_else(|| alerts.of(agent).filter(wants).max_by_key(rank));
        let own = own_state(agent, fleet);
        let by_alert = loud.map(|alert| match &*alert.rule {
            rule if FAILED.contains(&rule) => Shown::Failed,
            rule if LIMITED.contains(&rule) => Shown::RateLimited,
            rule if STUCK.contains(&rule) => Shown::Stuck,
            _ => Shown::NeedsYou,
        });
        // A failure that its own state shows keeps its word; the alert is shown next to it.
        let (shown, is_by_alert) = match by_alert {
            Some(by_alert) if own != Shown::Failed && by_alert < own => (by_alert, true),
            _ => (own, false),
        };
        let status_since = agent.limited.as_ref().filter(|_| own == Shown::RateLimited);
        let own_since = fleet.wall.to_wall(status_since.map_or(agent.status_since, |limited| limited.since));
        let alert_since = alert.and_then(|alert| Time::parse(alert.fired_at.as_deref()?));
        let since = alert_since.filter(|_| is_by_alert).unwrap_or(own_since);
        let reason = match alert {
            Some(alert) if is_by_alert => without_name(&alert.message, agent),
            _ => own_reason(agent, fleet, own),
        };
        Self { agent, shown, alert, is_by_alert, since, reason, labels: labels.of(agent) }
    }

    /// Its project and name, as `shop/ann`.
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.agent.project, self.agent.name)
    }

    /// Text by which it is ordered among those of the same state: of urgent ones the highest level first, then what has
    /// lasted longest.
    pub(super) fn rank(&self) -> String {
        if !self.shown.is_urgent() {
            return self.key();
        }
        let below = Level::Critical as u8 + 1 - self.level().map_or(0, |level| level as u8 + 1);
        format!("{below}{:014}{}", self.since.as_millis().max(0), self.key())
    }

    /// The level of its alert; without one nothing is the matter.
    pub(super) fn level(&self) -> Option<Level> {
        self.alert.map(|alert| alert.level)
    }
}

/// Whether an alert wants attention: it fires at level warning or above, and is neither inhibited nor silenced.
pub(super) fn is_loud(alert: &AlertView) -> bool {
    alert.state == AlertState::Firing
        && alert.level >= Level::Warning
        && alert.inhibited_by.is_none()
        && alert.silenced_by.is_none()
}

/// All agents as they are shown, the most urgent first.
pub(super) fn standings<'a>(fleet: &'a Snapshot, alerts: &'a OpenAlerts, labels: &LabelTable) -> Vec<Standing<'a>> {
    let mut standings: Vec<Standing<'a>> =
        fleet.agents.iter().map(|agent| Standing::new(agent, fleet, alerts, labels)).collect();
    standings.sort_unstable_by(|a, b| {
        let by_name = || (&*a.agent.project, &*a.agent.name).cmp(&(&*b.agent.project, &*b.agent.name));
        if a.shown.is_urgent() && b.shown.is_urgent() {
            (a.shown, b.level(), a.since).cmp(&(b.shown, a.level(), b.since)).then_with(by_name)
        } else {
            a.shown.cmp(&b.shown).then_with(by_name)
        }
    });
    standings
}

/// Alerts that want attention and are about no agent of the fleet: one that is missing, a source, a component, a project.
pub(super) fn loose_alerts<'a>(fleet: &Snapshot, alerts: &'a OpenAlerts) -> Vec<&'a AlertView> {
    let loud: Vec<&AlertView> = alerts.iter().filter(|alert| is_loud(alert)).collect();
    let names: HashSet<(&str, &str)> = loud.iter().filter_map(|alert| names_of(alert)).collect();
    let known: HashSet<(&str, &str)> = if names.is_empty() {
        HashSet::new()
    } else {
        let own = fleet.agents.iter().map(|agent| (&*agent.project, &*agent.name));
        own.filter(|name| names.contains(name)).collect()
    };
    let mut loose: Vec<&AlertView> =
        loud.into_iter().filter(|alert| names_of(alert).is_none_or(|names| !known.contains(&names))).collect();
    loose
        .sort_unstable_by(|a, b| (b.level, &b.started_at, b.fingerprint).cmp(&(a.level, &a.started_at, a.fingerprint)));
    loose
}

/// The project and name of the agent that an alert is about.
fn names_of(alert: &AlertView) -> Option<(&str, &str)> {
    alert.project.as_deref().zip(alert.agent_name.as_deref())
}

fn own_state(agent: &Agent, fleet: &Snapshot) -> Shown {
    if agent.is_down() {
        return Shown::Failed;
    }
    if agent.limited.is_some() {
        return Shown::RateLimited;
    }
    if agent.stale {
        return Shown::Unknown;
    }
    match agent.status {
        Some(status) => Shown::of_status(status),
        None if agent.ended => Shown::Done,
        // Telemetry and runs report no status: what arrives shows that it works.
        None => match agent.last_activity.unwrap_or(agent.last_seen) {
            at if fleet.at.since(at) <= ACTIVE => Shown::Working,
            _ => Shown::Idle,
        },
    }
}

fn own_reason(agent: &Agent, fleet: &Snapshot, own: Shown) -> String {
    if let (Shown::RateLimited, Some(limited)) = (own, &agent.limited) {
        let now = fleet.wall.to_wall(fleet.at);
        let until = limited
            .until
            .map(|until| format!("until {} UTC", fleet.wall.to_wall(until).on_clock(now, &jiff::tz::TimeZone::UTC)));
        let provider = limited.provider.as_deref().map(ToOwned::to_owned);
        let parts: Vec<String> = [provider, until].into_iter().flatten().collect();
        if !parts.is_empty() {
            return parts.join(", ");
        }
    }
    if let Some(reason) = &agent.reason {
        return reason.to_string();
    }
    if agent.stale {
        let silent = crate::model::duration::display(fleet.at.since(agent.last_seen));
        return format!("silent for {silent}");
    }
    let doing =
        [agent.phase.as_deref().map(ToOwned::to_owned), agent.task.as_ref().map(|task| format!("task {}", task.id))];
    let doing: Vec<String> = doing.into_iter().flatten().collect();
    match (agent.status, doing.is_empty()) {
        (_, false) => doing.join(", "),
        (Some(AgentStatus::WaitingReview), _) => "waits for a review".to_owned(),
        (Some(AgentStatus::WaitingQuestion), _) => "waits for an answer".to_owned(),
        (Some(AgentStatus::WaitingDependency), _) => "waits for another task or a service".to_owned(),
        (Some(AgentStatus::Paused), _) => "paused".to_owned(),
        _ => String::new(),
    }
}

/// A message without the agent's name at its start, which the row has already.
fn without_name(message: &str, agent: &Agent) -> String {
    let rest = [format!("{}/{}", agent.project, agent.name), agent.name.to_string()]
        .iter()
        .find_map(|name| message.strip_prefix(&**name))
        .map(|rest| rest.trim_start_matches([':', ' ', '\'', '`']));
    rest.filter(|rest| !rest.is_empty()).unwrap_or(message).to_owned()
}
