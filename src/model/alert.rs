//! Alerts: the condition of a rule holds for a subject. From pending to resolved, with what each receiver was notified of.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Ack, Ending, Fingerprint, Label, Level, Subject, Suppressed, Time};

/// The state of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// The condition holds, but not yet for as long as the rule's `for`.
    Pending,
    /// The condition has held for as long as the rule's `for`.
    Firing,
    /// The condition no longer holds, or the alert ended for another reason.
    Resolved,
}

impl AlertState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// What a receiver was last notified of an alert. Updated when a notice is created, not when it is delivered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiverState {
    /// The level that it was last notified of; `None` when that was a resolve, or it was not notified.
    pub level: Option<Level>,
    /// When it was last notified of the alert firing: where its cooldown runs from. Kept after the resolve.
    pub firing_at: Option<Time>,
    /// Since when the alert's level is below the one last notified.
    #[serde(default, alias = "lowered_since")]
    pub deescalated_since: Option<Time>,
    /// How many notices of this alert were created for it.
    pub sequence: u32,
    /// Whether it was notified that the alert flaps, and not yet that flapping ended.
    #[serde(default, skip_serializing_if = "is_false")]
    pub flapping: bool,
    /// Whether it was notified of the alert only as part of an incident.
    #[serde(default, skip_serializing_if = "is_false", alias = "folded")]
    pub in_incident: bool,
    /// The receiver's id of the first message about the alert, if it can be edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Arc<str>>,
    /// Why it was last not notified, so that each reason is recorded once.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "withheld")]
    pub suppressed: Option<Suppressed>,
    /// The last dead-lettered notice, until one is delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undelivered: Option<Undelivered>,
    /// Whether the receiver's outbox was full. Not saved: after a restart it is tried again.
    #[serde(skip)]
    pub deferred: bool,
}

/// A notice for a receiver that was dead-lettered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undelivered {
    /// When the next one is due.
    pub until: Time,
    /// Its level; `None` for a resolve.
    pub level: Option<Level>,
    /// How many were dead-lettered in a row.
    pub attempts: u32,
}

/// The peak of an alert: its highest level, with the value furthest beyond the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// The level then.
    pub level: Level,
    /// The value.
    pub value: Option<f64>,
    /// The threshold that it broke.
    pub threshold: Option<f64>,
}

impl Worst {
    /// Whether it is at a higher level than `other`, or at the same level further beyond its threshold.
    fn is_worse_than(&self, other: &Self) -> bool {
        match (self.level.cmp(&other.level), self.value, other.value) {
            (std::cmp::Ordering::Equal, Some(value), Some(known)) => {
                let falls = self.threshold.is_some_and(|threshold| value < threshold);
                if falls { value < known } else { value > known }
            }
            (std::cmp::Ordering::Equal, Some(_), None) => true,
            (order, ..) => order.is_gt(),
        }
    }
}

/// An alert as the ledger stores it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// The rule's name.
    pub rule: Arc<str>,
    /// What it is about.
    pub subject: Subject,
    /// Its state.
    pub state: AlertState,
    /// Its level now; the last one when it is resolved.
    pub level: Level,
    /// The highest level since it began.
    pub peak: Level,
    /// The peak with value and threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<Worst>,
    /// The source that reports the agent.
    pub source: Option<Arc<str>>,
    /// The agent's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_type: Option<Arc<str>>,
    /// The value last seen; see [`Alert::value_at`].
    pub value: Option<f64>,
    /// When it was seen, if it has grown by one each second since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grows_since: Option<Time>,
    /// The threshold it broke.
    pub threshold: Option<f64>,
    /// Whether the value is not known at present.
    pub no_data: bool,
    /// The rule whose alert inhibits it.
    #[serde(alias = "explained_by")]
    pub inhibited_by: Option<Arc<str>>,
    /// Since when the condition holds, as computed from its cause.
    pub started_at: Time,
    /// When that was noticed. Part of its key, so that earlier alerts with this fingerprint have other keys.
    pub noticed_at: Time,
    /// When it began to fire.
    pub fired_at: Option<Time>,
    /// Since when the condition does not hold, while `clear_after` has not passed.
    pub clearing_since: Option<Time>,
    /// When it resolved.
    pub resolved_at: Option<Time>,
    /// When anything of the above last changed.
    pub changed_at: Time,
    /// Why it resolved, unless the condition cleared.
    pub ending: Option<Ending>,
    /// When the input that last changed it arrived.
    pub caused_at: Time,
    /// By receiver, what it was last notified of.
    #[serde(alias = "told")]
    pub receivers: BTreeMap<Arc<str>, ReceiverState>,
    /// Its acknowledgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
    /// When it last began to fire or resolved, oldest first; no more than its rule's `flap` counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flips: Vec<Time>,
    /// Since when it flaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flapping_since: Option<Time>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Alert {
    /// A pending alert that was noticed at `now` and whose condition holds since `since`.
    pub fn new(rule: Arc<str>, subject: Subject, level: Level, since: Time, now: Time) -> Self {
        Self {
            fingerprint: Fingerprint::of(&rule, &subject),
            rule,
            subject,
            state: AlertState::Pending,
            level,
            peak: level,
            worst: None,
            source: None,
            agent_type: None,
            value: None,
            grows_since: None,
            threshold: None,
            no_data: false,
            inhibited_by: None,
            started_at: since.min(now),
            noticed_at: now,
            fired_at: None,
            clearing_since: None,
            resolved_at: None,
            changed_at: now,
            ending: None,
            caused_at: now,
            receivers: BTreeMap::new(),
            ack: None,
            flips: Vec::new(),
            flapping_since: None,
        }
    }

    /// The value of a label that matchers can match.
    pub fn label(&self, label: Label) -> Option<&str> {
        match (label, &self.subject) {
            (Label::Rule, _) => Some(&self.rule),
            (Label::Level, _) => Some(self.level.as_str()),
            (Label::Project, subject) => subject.project().map(|project| &**project),
            (Label::AgentName, Subject::Agent { name, .. })
            | (Label::Component, Subject::Component { name, .. })
            | (Label::Source, Subject::Source { name })
            | (Label::Receiver, Subject::Receiver { name }) => Some(name),
            (Label::Type, _) => self.agent_type.as_deref(),
            (Label::Source, _) => self.source.as_deref(),
            _ => None,
        }
    }

    /// The value at `now`: one that grows with time is seen only when it reaches a threshold.
    pub fn value_at(&self, now: Time) -> Option<f64> {
        let grown = self.grows_since.map_or(0.0, |since| now.seconds_since(since));
        self.value.map(|value| value + grown)
    }

    /// Ends the growth of the value, as of `until`, and updates the peak. Returns whether it had grown.
    pub fn end_growth(&mut self, until: Time) -> bool {
        let value = self.value_at(until);
        self.grows_since = None;
        if value == self.value {
            return false;
        }
        self.value = value;
        self.note_worst();
        true
    }

    /// Updates the peak.
    pub fn note_worst(&mut self) {
        let now = Worst { level: self.level, value: self.value, threshold: self.threshold };
        if self.worst.is_none_or(|worst| now.is_worse_than(&worst)) {
            self.worst = Some(now);
        }
    }

    /// Its key, from pending to resolved: `{fingerprint}-{Unix milliseconds at which it was noticed, hex}`.
    pub fn incident(&self) -> Arc<str> {
        Arc::from(format!("{}-{:x}", self.fingerprint, self.noticed_at.as_millis()))
    }
}

/// The number of firing alerts, and totals.
#[derive(Clone, Debug, Default)]
pub struct AlertCounts {
    /// Firing alerts by (project, level, rule); a source's alerts have the project `""`.
    pub active: BTreeMap<(Arc<str>, Level, Arc<str>), u32>,
    /// Total of alerts since the ledger began, once for each level reached, by [`Level::index`].
    pub raised: [u64; 4],
    /// Total of alerts that fired since the ledger began.
    pub fired: u64,
}

/// A resolved alert, as history stores it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClosedAlert {
    /// The alert in its last state.
    pub alert: Alert,
    /// What was wrong.
    pub message: Arc<str>,
    /// What to do about it; may be empty.
    pub action: Arc<str>,
    /// The task that its agent worked on when it fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<Arc<str>>,
}
