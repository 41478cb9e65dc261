//! Notices: one notification of one alert for one receiver, and the outcome of its delivery.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Ending, Fingerprint, Level, Matchers, QuietSchedule, Subject, Time, Unit, WallClock, duration};

/// Who reads the messages of a receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// People: incidents are grouped into one message, and announcements are sent.
    #[default]
    People,
    /// A program: it gets each alert, and no announcements.
    Program,
}

/// The part of a receiver's settings that decides what it is notified of.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiverPolicy {
    /// Its name.
    pub name: Arc<str>,
    /// The lowest level that it is notified of.
    pub min_level: Level,
    /// Whether it is notified when an alert resolves.
    pub send_resolved: bool,
    /// Who reads it.
    pub audience: Audience,
    /// It is notified of alerts that one of these matches; of all when there are none.
    pub only: Arc<[Matchers]>,
    /// It is not notified of alerts that one of these matches.
    pub except: Arc<[Matchers]>,
    /// It is notified only of alerts that have been firing for this long without being acknowledged.
    pub after: Duration,
    /// Its quiet hours.
    pub quiet: QuietSchedule,
}

impl ReceiverPolicy {
    /// A receiver that people read, and that is notified of everything from `min_level` on.
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

/// Alerts of one rule that fire for a large part of the fleet at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// How many of the rule's alerts fire.
    pub firing: u32,
    /// How many agents there are.
    pub agents: u32,
}

/// What a notice is about.
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
    /// What a person or lookout decided: a silence, an acknowledgement, a stop order.
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
    /// The alert's key, see [`Alert::incident`](super::Alert::incident).
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
    /// The receiver's id of the first message about the alert, if it can be edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Arc<str>>,
    /// What it is about.
    pub kind: NoticeKind,
    /// The level now; for a resolve the last one.
    pub level: Level,
    /// The level that this receiver was last notified of.
    pub previous: Option<Level>,
    /// For a resolve, the highest level; value and threshold are those of the peak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<Level>,
    /// For a resolve because the level fell below the receiver's `min_level`: the level now.
    pub now_at: Option<Level>,
    /// The value.
    pub value: Option<f64>,
    /// The threshold.
    pub threshold: Option<f64>,
    /// The unit of value and threshold.
    #[serde(default)]
    pub unit: Unit,
    /// What is wrong, without who; of a resolve what is well again and how bad it was.
    pub message: Arc<str>,
    /// What to do about it; may be empty.
    pub action: Arc<str>,
    /// Since when the condition holds.
    pub started_at: Time,
    /// When it began to fire.
    pub fired_at: Time,
    /// When it resolved.
    pub resolved_at: Option<Time>,
    /// Why it resolved, unless the condition cleared.
    pub ending: Option<Ending>,
    /// When this notice became due.
    pub at: Time,
    /// When the input that caused it arrived.
    pub caused_at: Time,
}

impl Notice {
    /// The same with wall clock times where people read them.
    pub fn shown(&self, wall: &WallClock) -> Self {
        Self {
            started_at: wall.to_wall(self.started_at),
            fired_at: wall.to_wall(self.fired_at),
            resolved_at: self.resolved_at.map(|at| wall.to_wall(at)),
            at: wall.to_wall(self.at),
            ..self.clone()
        }
    }

    /// What it is about, is wrong and was, in one sentence or two: `shop/worker-1: no activity for 6m40s (limit 5m)`;
    /// of a resolve `shop/worker-1 is active again. Idle for up to 10m50s; fired for 1m55s`.
    pub fn sentence(&self) -> String {
        if !self.kind.is_of_alert() {
            return self.message.to_string();
        }
        let who = self.subject.who();
        if self.kind == NoticeKind::Resolved {
            let fired = duration::display(Duration::from_secs(
                self.resolved_at.unwrap_or(self.at).since(self.fired_at).as_secs(),
            ));
            let joint = if self.message.contains(". ") { "; fired" } else { ". Fired" };
            return format!("{who} {}{joint} for {fired}", self.message);
        }
        let text = about(&who, self.subject.name(), &self.message);
        let state = match (self.kind, self.previous) {
            (NoticeKind::Escalated, Some(previous)) => format!("escalated from {previous}"),
            (NoticeKind::Deescalated, Some(previous)) => format!("de-escalated from {previous}"),
            // A duration is in the text already, and one is enough.
            (NoticeKind::Repeat, _) if self.unit == Unit::Seconds => "still firing".to_owned(),
            (NoticeKind::Repeat, _) => {
                let seconds = Duration::from_secs(self.at.since(self.fired_at).as_secs());
                format!("still firing after {}", duration::display(seconds))
            }
            (NoticeKind::Flapping, _) => "flapping".to_owned(),
            (NoticeKind::FlappingEnded, _) => "no longer flapping, still firing".to_owned(),
            _ => return text,
        };
        let clause = text.get(who.len() + 1..).unwrap_or_default();
        if ![". ", ": ", "; "].iter().any(|mark| clause.contains(mark)) {
            return format!("{text}, {state}");
        }
        let mut letters = state.chars();
        let first = letters.next().into_iter().flat_map(char::to_uppercase);
        format!("{}. {}{}", text.trim_end_matches('.'), first.collect::<String>(), letters.as_str())
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
            unit: Unit::Count,
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

/// `text` as a sentence about `who`. A text that begins with the bare `name` has it replaced: `worker-1 failed` is
/// `shop/worker-1 failed`, and `no activity` is `shop/worker-1: no activity`.
pub fn about(who: &str, name: &str, text: &str) -> String {
    match text.strip_prefix(name) {
        Some(rest) if rest.starts_with([' ', ':', ',', '\'']) => format!("{who}{rest}"),
        _ if text.starts_with(who) => text.to_owned(),
        _ => format!("{who}: {text}"),
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
    /// The connection was lost.
    Network,
    /// TLS failed.
    Tls,
    /// The receiver limits our rate.
    RateLimited,
    /// The receiver failed (5xx, SMTP 4xx).
    Server,
    /// The receiver permanently rejected the message or the address (4xx, SMTP 5xx).
    Refused,
    /// Our credentials were rejected.
    Auth,
    /// A secret of the receiver is unreadable.
    Secret,
    /// The message can't be rendered.
    Message,
    /// Dropped by lookout: the queue was full, or the receiver was removed.
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

/// Whether a failed send is retried; what is retried longer is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// Never: the message itself is rejected.
    Never,
    /// For an hour: the receiver rejects our access rather than the message, which may be fixed.
    Limited,
    /// Until it succeeds: the failure is transient.
    Unlimited,
}

/// A send that failed.
#[derive(Clone, Debug)]
pub struct SendError {
    /// Why, as a label.
    pub reason: SendReason,
    /// Whether it is retried.
    pub retry: Retry,
    /// How long the receiver asked us to wait.
    pub retry_after: Option<Duration>,
    /// Why, in words, without secrets.
    pub message: String,
}

impl SendError {
    /// A transient failure.
    pub const fn transient(reason: SendReason, message: String) -> Self {
        Self { reason, retry: Retry::Unlimited, retry_after: None, message }
    }

    /// The receiver rejects our access rather than the message.
    pub const fn limited(reason: SendReason, message: String) -> Self {
        Self { reason, retry: Retry::Limited, retry_after: None, message }
    }

    /// The message itself is rejected.
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

/// What a receiver's answer contained.
#[derive(Clone, Debug, Default)]
pub struct DeliveryReceipt {
    /// The ids of the messages, by alert.
    pub references: Vec<MessageReference>,
    /// Set when one instance or recipient rejected what another accepted.
    pub partial_failure: Option<SendError>,
}

/// A receiver's id of the message about an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageReference {
    /// The alert's identity.
    pub fingerprint: Fingerprint,
    /// The alert's key.
    pub incident: Arc<str>,
    /// The receiver's id of the message.
    pub name: Arc<str>,
}

/// Notices that left a receiver's queue, for one of the reasons of [`DeliveryReport`].
#[derive(Clone, Debug)]
pub struct DeliveryOutcome {
    /// The receiver.
    pub receiver: Arc<str>,
    /// The notices, each of them a row of the outbox.
    pub notices: Vec<Arc<Notice>>,
    /// When the receiver answered, or it was decided.
    pub at: Time,
}

/// What a receiver's queue reports to the owner of the outbox.
#[derive(Clone, Debug)]
pub enum DeliveryReport {
    /// These were sent in one message, which the receiver accepted.
    Delivered(DeliveryOutcome, DeliveryReceipt),
    /// These were not sent: newer notices of the same alerts in the queue replaced them.
    Superseded(DeliveryOutcome),
    /// These found the queue full; they are due again once there is room.
    Deferred(DeliveryOutcome),
    /// These were dead-lettered, for this reason. Their `previous` is the level that the receiver was last notified of.
    DeadLettered(DeliveryOutcome, SendError),
    /// An attempt failed and is retried.
    Failed {
        /// The receiver.
        receiver: Arc<str>,
        /// The notices in the message.
        notices: Vec<Arc<Notice>>,
        /// Why it failed.
        error: SendError,
        /// When.
        at: Time,
    },
}
