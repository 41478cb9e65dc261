//! What was decided about an alert, and why: the entries of its timeline.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Ending, Fingerprint, Level, NoticeKind, Time};

/// Why a receiver is notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is over, and the receiver was told that it fires.
    Resolved,
    /// The level fell below what the receiver wants to hear of.
    BelowMinLevel,
    /// The receiver has never been told of this alert, or it began anew.
    NewFiring,
    /// It got worse than the receiver was told.
    Raised,
    /// It has been milder than the receiver was told for as long as the cooldown.
    Lowered,
    /// It still lasts, and `repeat` has passed.
    RepeatElapsed,
    /// It comes and goes too often to be told each time.
    Flapping,
    /// It no longer comes and goes.
    Settled,
    /// The incident that it was part of is over, so that it is notified by itself.
    IncidentOpened,
}

/// Why a receiver is not told now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Withheld {
    /// It is not for this receiver.
    NotRouted,
    /// Its level is below the receiver's `min_level`.
    BelowMinLevel {
        /// That level.
        min_level: Level,
    },
    /// It is about the receiver itself.
    OwnTrouble,
    /// Another alert explains it.
    Explained {
        /// That alert's rule.
        by: Arc<str>,
    },
    /// A silence covers it.
    Silenced {
        /// The silence's id.
        silence: Arc<str>,
        /// Whose it is.
        by: Arc<str>,
        /// When it ends.
        until: Time,
    },
    /// These are quiet hours of the receiver or the rule.
    QuietHours {
        /// When they end.
        until: Time,
    },
    /// Somebody looks after it.
    Acknowledged {
        /// Who.
        by: Arc<str>,
    },
    /// The receiver is told only of what lasts this long and nobody looks after.
    NotYetEscalated {
        /// When it is told.
        until: Time,
    },
    /// It was told lately.
    Cooldown {
        /// When it may be told again.
        until: Time,
    },
    /// It got better, which is told once it has lasted.
    FallNotHeld {
        /// When it will have.
        until: Time,
    },
    /// It comes and goes, which was told.
    Flapping {
        /// When it will have settled if nothing more happens.
        until: Time,
    },
    /// Everything was told; it is said again then.
    Told {
        /// When; `None` is never.
        repeat_at: Option<Time>,
    },
    /// The receiver does not want to hear that things are over.
    ResolvedNotWanted,
    /// The last message was given up; another one is sent then.
    Undelivered {
        /// When.
        until: Time,
    },
    /// Too many alerts wait for the receiver already.
    NoRoom,
    /// Monitoring is paused.
    Paused,
}

impl Withheld {
    /// The word for it, as a label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotRouted => "not_routed",
            Self::BelowMinLevel { .. } => "below_min_level",
            Self::OwnTrouble => "own_trouble",
            Self::Explained { .. } => "explained",
            Self::Silenced { .. } => "silenced",
            Self::QuietHours { .. } => "quiet_hours",
            Self::Acknowledged { .. } => "acknowledged",
            Self::NotYetEscalated { .. } => "not_yet_escalated",
            Self::Cooldown { .. } => "cooldown",
            Self::FallNotHeld { .. } => "fall_not_held",
            Self::Flapping { .. } => "flapping",
            Self::Told { .. } => "told",
            Self::ResolvedNotWanted => "resolved_not_wanted",
            Self::Undelivered { .. } => "undelivered",
            Self::NoRoom => "no_room",
            Self::Paused => "paused",
        }
    }

    /// When it ends by itself.
    pub const fn until(&self) -> Option<Time> {
        match self {
            Self::Silenced { until, .. }
            | Self::QuietHours { until }
            | Self::NotYetEscalated { until }
            | Self::Cooldown { until }
            | Self::FallNotHeld { until }
            | Self::Undelivered { until }
            | Self::Flapping { until } => Some(*until),
            Self::Told { repeat_at } => *repeat_at,
            _ => None,
        }
    }
}

/// What happened to an alert, or on its account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// The rule is broken, and has to be for a while.
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
    /// Its value is not known any more; it is held.
    NoData,
    /// Its value is fine, and has to be for a while.
    Clearing {
        /// When it is over.
        until: Time,
    },
    /// Its value was fine for a while, and is not any more.
    NotCleared,
    /// It is over.
    Resolved {
        /// Why, when it was not that things got better.
        ending: Option<Ending>,
    },
    /// Somebody looks after it.
    Acknowledged {
        /// Who.
        by: Arc<str>,
        /// What they said.
        comment: Arc<str>,
    },
    /// A receiver is told.
    Tell {
        /// Which.
        receiver: Arc<str>,
        /// What.
        kind: NoticeKind,
        /// Why.
        why: Why,
        /// The notice's key.
        key: Arc<str>,
        /// How many alerts of its rule fire, when it is told as part of an incident.
        incident: Option<u32>,
    },
    /// A receiver is not told.
    Withhold {
        /// Which.
        receiver: Arc<str>,
        /// Why.
        withheld: Withheld,
    },
    /// A receiver took it.
    Delivered {
        /// Which.
        receiver: Arc<str>,
        /// How many alerts the message told of.
        together: u32,
    },
    /// A receiver did not take it, and is tried again.
    Failed {
        /// Which.
        receiver: Arc<str>,
        /// Why, in words.
        error: Arc<str>,
    },
    /// It was not sent, as a newer notice said it all.
    Superseded {
        /// To whom.
        receiver: Arc<str>,
    },
    /// It was given up.
    GaveUp {
        /// For whom.
        receiver: Arc<str>,
        /// Why, in words.
        error: Arc<str>,
    },
}

/// One entry of an alert's timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The alert.
    pub fingerprint: Fingerprint,
    /// When.
    pub at: Time,
    /// The alert's level then.
    pub level: Level,
    /// Its value then.
    pub value: Option<f64>,
    /// The threshold then.
    pub threshold: Option<f64>,
    /// The version of the rule then: a digest of how it is written.
    pub rule_version: Arc<str>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}
