//! What one receiver is to be told of one alert, and what came of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Ending, Fingerprint, Level, Matchers, Quiet, Subject, Time, WallClock};

/// Who reads what a receiver is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// People: incidents are told as one, and announcements are told.
    #[default]
    People,
    /// A program that wants each alert and nothing else.
    Program,
}

/// What the life of an alert must know of a receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiverPolicy {
    /// Its name.
    pub name: Arc<str>,
    /// The mildest level it is told of.
    pub min_level: Level,
    /// Whether it is told when an alert is over.
    pub send_resolved: bool,
    /// Who reads it.
    pub audience: Audience,
    /// It is told of what one of these covers; of everything when there are none.
    pub only: Arc<[Matchers]>,
    /// It is not told of what one of these covers.
    pub except: Arc<[Matchers]>,
    /// It is told only of what fires for so long and nobody looks after.
    pub after: Duration,
    /// When it wants quiet.
    pub quiet: Quiet,
}

impl ReceiverPolicy {
    /// One that people read, and that is told of everything from `min_level` on.
    pub fn new(name: impl Into<Arc<str>>, min_level: Level) -> Self {
        Self {
            name: name.into(),
            min_level,
            send_resolved: true,
            audience: Audience::People,
            only: Arc::default(),
            except: Arc::default(),
            after: Duration::ZERO,
            quiet: Arc::default(),
        }
    }
}

/// One rule broken by a large part of the fleet at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// How many of the rule's alerts fire.
    pub firing: u32,
    /// How many agents there are.
    pub agents: u32,
}

/// What a notice says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// It fires.
    Firing,
    /// Its level rose.
    #[serde(alias = "raised")]
    Escalated,
    /// Its level fell, and it still fires.
    #[serde(alias = "lowered")]
    Deescalated,
    /// It still fires.
    Repeat,
    /// It resolved, or its level fell below the receiver's `min_level`.
    Resolved,
    /// It flaps; the next one is sent when that ends.
    Flapping,
    /// It stopped flapping, and fires.
    #[serde(alias = "settled")]
    FlappingEnded,
    /// Something that somebody decided: a silence, an acknowledgement, a stop.
    Announcement,
    /// How things are, once a day.
    Digest,
    /// A test of the delivery path.
    Test,
}

impl NoticeKind {
    /// Whether the receiver holds the alert to be firing after it.
    pub const fn is_firing(self) -> bool {
        !matches!(self, Self::Resolved)
    }

    /// Whether it is about an alert.
    pub const fn is_of_alert(self) -> bool {
        !matches!(self, Self::Announcement | Self::Digest | Self::Test)
    }
}

/// A row of the outbox: written before the send, ticked off after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The idempotency key: `{incident}-{sequence}-{receiver}`; the same when it is sent again.
    pub key: Arc<str>,
    /// The receiver's name.
    pub receiver: Arc<str>,
    /// The alert's identity.
    pub fingerprint: Fingerprint,
    /// One life of the alert, from firing to resolved: `{fingerprint}-{Unix milliseconds at which it was noticed, hex}`.
    pub incident: Arc<str>,
    /// The rule's name.
    pub rule: Arc<str>,
    /// What it is about.
    pub subject: Subject,
    /// The type of the agent that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_type: Option<Arc<str>>,
    /// The incident that it is part of, as it was when this became due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<Incident>,
    /// What the receiver calls the message that it was first told with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Arc<str>>,
    /// What it says.
    pub kind: NoticeKind,
    /// The level now; for a resolve the last one.
    pub level: Level,
    /// The level this receiver was told before.
    pub previous: Option<Level>,
    /// For a resolve the worst level; value and threshold are of then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<Level>,
    /// For a resolve because the level fell below the receiver's `min_level`: the level now.
    pub now_at: Option<Level>,
    /// The value.
    pub value: Option<f64>,
    /// The threshold.
    pub threshold: Option<f64>,
    /// What is the matter, in a sentence.
    pub message: Arc<str>,
    /// What to do about it; may be empty.
    pub action: Arc<str>,
    /// When the rule was first broken.
    pub started_at: Time,
    /// When it began to fire.
    pub fired_at: Time,
    /// When it was over.
    pub resolved_at: Option<Time>,
    /// Why it ended, when it was not that things got better.
    pub ending: Option<Ending>,
    /// When this became due.
    pub at: Time,
    /// When the state that caused it arrived.
    pub caused_at: Time,
}

impl Notice {
    /// The same with the times that people read as `wall` has them.
    pub fn shown(&self, wall: &WallClock) -> Self {
        Self {
            started_at: wall.to_wall(self.started_at),
            fired_at: wall.to_wall(self.fired_at),
            resolved_at: self.resolved_at.map(|at| wall.to_wall(at)),
            at: wall.to_wall(self.at),
            ..self.clone()
        }
    }

    /// One for `receiver` that becomes due at `now`, the first of its incident, with nothing said yet.
    pub fn new(
        receiver: &Arc<str>,
        kind: NoticeKind,
        level: Level,
        rule: Arc<str>,
        subject: Subject,
        now: Time,
    ) -> Self {
        let fingerprint = Fingerprint::of(&rule, &subject);
        let incident = format!("{fingerprint}-{:x}", now.as_millis());
        Self {
            key: Arc::from(format!("{incident}-0-{receiver}")),
            receiver: Arc::clone(receiver),
            fingerprint,
            incident: Arc::from(incident),
            rule,
            subject,
            agent_type: None,
            part_of: None,
            reference: None,
            kind,
            level,
            previous: None,
            peak: None,
            now_at: None,
            value: None,
            threshold: None,
            message: Arc::from(""),
            action: Arc::from(""),
            started_at: now,
            fired_at: now,
            resolved_at: None,
            ending: None,
            at: now,
            caused_at: now,
        }
    }
}

/// Why a send failed, as a closed set for the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendReason {
    /// The name could not be resolved, or no connection came about.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke.
    Network,
    /// TLS failed.
    Tls,
    /// The receiver limits our rate.
    RateLimited,
    /// The receiver failed (5xx, SMTP 4xx).
    Server,
    /// The receiver refused the message or the address for good (4xx, SMTP 5xx).
    Refused,
    /// Our credentials were refused.
    Auth,
    /// A secret of the receiver can't be read.
    Secret,
    /// The message can't be built.
    Message,
    /// We dropped it ourselves: too many waited, or the receiver was removed.
    Dropped,
}

impl SendReason {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::Connect,
        Self::Timeout,
        Self::Network,
        Self::Tls,
        Self::RateLimited,
        Self::Server,
        Self::Refused,
        Self::Auth,
        Self::Secret,
        Self::Message,
        Self::Dropped,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Tls => "tls",
            Self::RateLimited => "rate_limited",
            Self::Server => "server",
            Self::Refused => "refused",
            Self::Auth => "auth",
            Self::Secret => "secret",
            Self::Message => "message",
            Self::Dropped => "dropped",
        }
    }
}

/// Whether a send that failed is tried again; what is tried longer is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// Never: the message itself is rejected.
    Never,
    /// For an hour: the receiver rejects us rather than the message, which somebody may fix.
    Limited,
    /// Until it succeeds: the failure is transient.
    Unlimited,
}

/// A send that failed.
#[derive(Clone, Debug)]
pub struct SendError {
    /// Why, as a label.
    pub reason: SendReason,
    /// Whether it is tried again.
    pub retry: Retry,
    /// How long the receiver asked us to wait.
    pub retry_after: Option<Duration>,
    /// Why, in words, without secrets.
    pub message: String,
}

impl SendError {
    /// A failure that may pass.
    pub const fn transient(reason: SendReason, message: String) -> Self {
        Self { reason, retry: Retry::Unlimited, retry_after: None, message }
    }

    /// The receiver rejects us rather than the message.
    pub const fn limited(reason: SendReason, message: String) -> Self {
        Self { reason, retry: Retry::Limited, retry_after: None, message }
    }

    /// The message is rejected, and would be again.
    pub const fn permanent(reason: SendReason, message: String) -> Self {
        Self { reason, retry: Retry::Never, retry_after: None, message }
    }

    /// The same with the pause that the receiver asked for.
    pub fn after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for SendError {}

/// What a receiver's answer brought back.
#[derive(Clone, Debug, Default)]
pub struct Receipt {
    /// By the life of an alert, what the receiver calls the message that tells of it.
    pub references: Vec<Reference>,
    /// What went wrong beside: an instance or a recipient that did not take what another took.
    pub amiss: Option<SendError>,
}

/// What a receiver calls the message that tells of one life of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The alert's identity.
    pub fingerprint: Fingerprint,
    /// Its life.
    pub incident: Arc<str>,
    /// The receiver's name for the message.
    pub name: Arc<str>,
}

/// Notices that are off a receiver's list, for one of the reasons of [`Report`].
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The receiver.
    pub receiver: Arc<str>,
    /// The notices, each of them a row of the outbox.
    pub notices: Vec<Arc<Notice>>,
    /// When the receiver answered, or it was decided.
    pub at: Time,
}

/// What a receiver's delivery tells the owner of the outbox.
#[derive(Clone, Debug)]
pub enum Report {
    /// One message carried these, and the receiver took it.
    Delivered(Outcome, Receipt),
    /// These were not sent: a newer notice of the same alert, already on the list, says it all.
    Superseded(Outcome),
    /// These found no room among what waits for the receiver; they are due again once there is some.
    Deferred(Outcome),
    /// These are given up for good, and why. The level before is the one that the receiver was told in fact.
    GaveUp(Outcome, SendError),
    /// An attempt failed and will be made again.
    Failed {
        /// The receiver.
        receiver: Arc<str>,
        /// What it carried.
        notices: Vec<Arc<Notice>>,
        /// Why it failed.
        error: SendError,
        /// When.
        at: Time,
    },
}
