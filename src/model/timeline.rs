//! The entries of an alert's timeline: what happened to it, who was notified of it, and who was not and why.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Ending, Fingerprint, Level, NoticeKind, Time};

/// Why a receiver is notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyReason {
    /// The alert is resolved, and the receiver was notified that it fires.
    Resolved,
    /// The level fell below the receiver's `min_level`.
    BelowMinLevel,
    /// The alert fires, and the receiver was not notified of it since it last resolved.
    NewFiring,
    /// The level is above the one that the receiver was last notified of.
    #[serde(alias = "raised")]
    Escalated,
    /// The level has been below the one last notified for as long as the rule's `cooldown`.
    #[serde(alias = "lowered")]
    Deescalated,
    /// It still fires, and `repeat` has passed.
    RepeatElapsed,
    /// It began to flap: changes are not notified one by one any more.
    Flapping,
    /// It stopped flapping and fires.
    #[serde(alias = "settled")]
    FlappingEnded,
    /// The incident that it was part of is over, so that it is notified by itself.
    #[serde(alias = "incident_opened")]
    IncidentEnded,
}

/// Why a receiver is not notified now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Suppressed {
    /// No route of the receiver matches it.
    NotRouted,
    /// Its level is below the receiver's `min_level`.
    BelowMinLevel {
        /// That level.
        min_level: Level,
    },
    /// It is about the receiver itself, which could not deliver it.
    #[serde(alias = "own_trouble")]
    AboutReceiver,
    /// Another firing alert is its cause.
    #[serde(alias = "explained")]
    Inhibited {
        /// That alert's rule.
        by: Arc<str>,
    },
    /// A silence matches it.
    Silenced {
        /// The silence's id.
        silence: Arc<str>,
        /// Who created it.
        by: Arc<str>,
        /// When it expires.
        until: Time,
    },
    /// Quiet hours of the receiver or the rule.
    QuietHours {
        /// When they end.
        until: Time,
    },
    /// It is acknowledged, at this level or a higher one.
    Acknowledged {
        /// Who.
        by: Arc<str>,
    },
    /// It has not fired unacknowledged for as long as the receiver's `after`.
    #[serde(alias = "not_yet_escalated")]
    After {
        /// When it will have.
        until: Time,
    },
    /// The rule's `cooldown` since the last notification has not passed.
    Cooldown {
        /// When it will have.
        until: Time,
    },
    /// The level fell, which is notified once it has held for the rule's `cooldown`.
    #[serde(alias = "fall_not_held")]
    DeescalationDelay {
        /// When it will have.
        until: Time,
    },
    /// It flaps, which was notified.
    Flapping {
        /// When flapping ends if the alert does not change again.
        until: Time,
    },
    /// The receiver was notified of it as it is.
    #[serde(alias = "told")]
    AlreadyNotified {
        /// When it is repeated; `None` is never.
        repeat_at: Option<Time>,
    },
    /// The receiver's `send_resolved` is off.
    #[serde(alias = "resolved_not_wanted")]
    SendResolved,
    /// The last notification was dead-lettered; the next attempt is then.
    Undelivered {
        /// When.
        until: Time,
    },
    /// Too many notifications are pending for the receiver.
    #[serde(alias = "no_room")]
    OutboxFull,
    /// Monitoring is paused.
    Paused,
}

impl Suppressed {
    /// The values of the label `reason`, in the order of the variants.
    pub const REASONS: [&str; 16] = [
        "not_routed",
        "below_min_level",
        "about_receiver",
        "inhibited",
        "silenced",
        "quiet_hours",
        "acknowledged",
        "after",
        "cooldown",
        "deescalation_delay",
        "flapping",
        "already_notified",
        "send_resolved",
        "undelivered",
        "outbox_full",
        "paused",
    ];

    /// The word for it, as a label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotRouted => "not_routed",
            Self::BelowMinLevel { .. } => "below_min_level",
            Self::AboutReceiver => "about_receiver",
            Self::Inhibited { .. } => "inhibited",
            Self::Silenced { .. } => "silenced",
            Self::QuietHours { .. } => "quiet_hours",
            Self::Acknowledged { .. } => "acknowledged",
            Self::After { .. } => "after",
            Self::Cooldown { .. } => "cooldown",
            Self::DeescalationDelay { .. } => "deescalation_delay",
            Self::Flapping { .. } => "flapping",
            Self::AlreadyNotified { .. } => "already_notified",
            Self::SendResolved => "send_resolved",
            Self::Undelivered { .. } => "undelivered",
            Self::OutboxFull => "outbox_full",
            Self::Paused => "paused",
        }
    }

    /// When it ends by itself.
    pub const fn until(&self) -> Option<Time> {
        match self {
            Self::Silenced { until, .. }
            | Self::QuietHours { until }
            | Self::After { until }
            | Self::Cooldown { until }
            | Self::DeescalationDelay { until }
            | Self::Undelivered { until }
            | Self::Flapping { until } => Some(*until),
            Self::AlreadyNotified { repeat_at } => *repeat_at,
            _ => None,
        }
    }
}

/// What happened to an alert, or to a notification of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum TimelineEvent {
    /// The rule's condition holds, and has to for the rule's `for`.
    Pending {
        /// When it fires.
        until: Time,
    },
    /// It fires.
    Firing,
    /// Its level changed.
    Level {
        /// From which.
        from: Level,
    },
    /// Its value is unknown; its state is held.
    NoData,
    /// The condition no longer holds, and has to not hold for the rule's `clear_after`.
    Clearing {
        /// When it resolves.
        until: Time,
    },
    /// The condition holds again before it resolved.
    NotCleared,
    /// It resolved.
    Resolved {
        /// Why, when it was not that the condition cleared.
        ending: Option<Ending>,
    },
    /// It was acknowledged.
    Acknowledged {
        /// Who.
        by: Arc<str>,
        /// Their comment.
        comment: Arc<str>,
    },
    /// A notification of it is due to a receiver.
    #[serde(alias = "tell")]
    Notified {
        /// Which.
        receiver: Arc<str>,
        /// What.
        kind: NoticeKind,
        /// Why.
        why: NotifyReason,
        /// The notice's key.
        key: Arc<str>,
        /// How many alerts of its rule fire, when it is notified as part of an incident.
        incident: Option<u32>,
    },
    /// A receiver is not notified of it.
    #[serde(alias = "withhold")]
    Suppressed {
        /// Which.
        receiver: Arc<str>,
        /// Why.
        #[serde(alias = "withheld")]
        suppressed: Suppressed,
    },
    /// A receiver accepted the notification.
    Delivered {
        /// Which.
        receiver: Arc<str>,
        /// How many alerts the message is about.
        together: u32,
    },
    /// An attempt failed, and is retried.
    Failed {
        /// The receiver.
        receiver: Arc<str>,
        /// Why, in words.
        error: Arc<str>,
    },
    /// The notification was not sent, as a newer one of the same alert replaced it.
    Superseded {
        /// The receiver.
        receiver: Arc<str>,
    },
    /// The notification was dead-lettered.
    #[serde(alias = "gave_up")]
    DeadLettered {
        /// The receiver.
        receiver: Arc<str>,
        /// Why, in words.
        error: Arc<str>,
    },
}

/// One entry of an alert's timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// The alert.
    pub fingerprint: Fingerprint,
    /// When.
    pub at: Time,
    /// The alert's level then.
    pub level: Level,
    /// Its value then, if it was known.
    pub value: Option<f64>,
    /// The threshold then.
    pub threshold: Option<f64>,
    /// The version of the rule then: a digest of how it is written.
    pub rule_version: Arc<str>,
    /// What happened.
    #[serde(flatten)]
    pub event: TimelineEvent,
}
