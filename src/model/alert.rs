//! An alert: one rule broken by one subject, from the first sign to the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Ack, Ending, Fingerprint, Label, Level, Subject, Suppressed, Time};

/// Where an alert is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// The rule is broken, not yet for long enough.
    Pending,
    /// It fires.
    Firing,
    /// It is over.
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

/// What a receiver was last told of an alert, and what it is being told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiverState {
    /// The level that it holds to be true; `None` when it was told nothing or that it is over.
    pub level: Option<Level>,
    /// When it was last told of anything firing: where its cooldown runs from. It outlives the resolve.
    pub firing_at: Option<Time>,
    /// Since when the alert is milder than this receiver was told.
    #[serde(default)]
    pub lowered_since: Option<Time>,
    /// How many notices it was sent in this incident.
    pub sequence: u32,
    /// Whether it was told that the alert comes and goes, and not yet that this is over.
    #[serde(default, skip_serializing_if = "is_false")]
    pub flapping: bool,
    /// Whether it was told of the alert as part of an incident only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub folded: bool,
    /// What the receiver calls the message that it was first told with, if it can be edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Arc<str>>,
    /// Why it was last not told, so that this is noted once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(alias = "withheld")]
    pub suppressed: Option<Suppressed>,
    /// What was last given up for it, and not delivered since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undelivered: Option<Undelivered>,
    /// Whether it waits for room among what is pending for the receiver. After a restart there is some.
    #[serde(skip)]
    pub deferred: bool,
}

/// A notice that was given up for a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undelivered {
    /// When it is due again.
    pub until: Time,
    /// The level that it told; `None` for a resolve.
    pub level: Option<Level>,
    /// How many were given up in a row.
    pub attempts: u32,
}

/// The worst that was seen of an alert in one life.
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
    /// Whether it is worse than `other`: at a higher level, or further beyond its threshold.
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

/// An alert as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// The rule's name.
    pub rule: Arc<str>,
    /// What it is about.
    pub subject: Subject,
    /// Where it is in its life.
    pub state: AlertState,
    /// Its level now; the last one when it is resolved.
    pub level: Level,
    /// The worst level of this incident.
    pub peak: Level,
    /// The value and threshold that were worst at that level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<Worst>,
    /// The source of the agent that it is about.
    pub source: Option<Arc<str>>,
    /// The type of the agent that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_type: Option<Arc<str>>,
    /// The value last seen.
    pub value: Option<f64>,
    /// The threshold it broke.
    pub threshold: Option<f64>,
    /// Whether the value is not known at present.
    pub no_data: bool,
    /// Why it is suppressed from receivers: the rule whose alert explains it.
    #[serde(alias = "explained_by")]
    pub inhibited_by: Option<Arc<str>>,
    /// When the rule was first broken, as computed from the cause.
    pub started_at: Time,
    /// When it was first noticed, which tells its incidents apart.
    pub noticed_at: Time,
    /// When it began to fire.
    pub fired_at: Option<Time>,
    /// Since when its value is fine while it waits for `clear_after`.
    pub clearing_since: Option<Time>,
    /// When it was over.
    pub resolved_at: Option<Time>,
    /// When anything of the above last changed.
    pub changed_at: Time,
    /// Why it ended, when it was not that things got better.
    pub ending: Option<Ending>,
    /// When the state that last changed it arrived.
    pub caused_at: Time,
    /// By receiver, what it was told.
    #[serde(alias = "told")]
    pub receivers: BTreeMap<Arc<str>, ReceiverState>,
    /// Who looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
    /// When it last began to fire or ended, oldest first; no more than its rule's `flap` counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flips: Vec<Time>,
    /// Since when it comes and goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flapping_since: Option<Time>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Alert {
    /// One that was noticed at `now` and began at `since`: pending, and nobody was told.
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

    /// What it has for a label that it can be told by.
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

    /// Notes its level, value and threshold if they are the worst so far.
    pub fn note_worst(&mut self) {
        let now = Worst { level: self.level, value: self.value, threshold: self.threshold };
        if self.worst.is_none_or(|worst| now.is_worse_than(&worst)) {
            self.worst = Some(now);
        }
    }

    /// One life of it: `{fingerprint}-{Unix milliseconds at which it was noticed, hex}`.
    pub fn incident(&self) -> Arc<str> {
        Arc::from(format!("{}-{:x}", self.fingerprint, self.noticed_at.as_millis()))
    }
}

/// How many alerts there are, kept as they change.
#[derive(Clone, Debug, Default)]
pub struct AlertCounts {
    /// Firing alerts by (project, level, rule); a source's alerts have the project `""`.
    pub active: BTreeMap<(Arc<str>, Level, Arc<str>), u32>,
    /// Alerts raised since the ledger began, once for each level reached, by [`Level::index`].
    pub raised: [u64; 4],
    /// Alerts that have fired since the ledger began.
    pub fired: u64,
}
/// An alert that is over, as history keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClosedAlert {
    /// The alert in its last state.
    pub alert: Alert,
    /// What was the matter.
    pub message: Arc<str>,
    /// What there was to do about it; may be empty.
    pub action: Arc<str>,
}
