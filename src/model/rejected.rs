//! What of the input is not taken, and why: the closed sets behind `lookout_ingested_total` and
//! `lookout_rejected_total`, and one rejected item with its reason.

use serde::{Serialize, Serializer};

/// The ways by which something comes in: the label `signal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputKind {
    /// States that are pushed.
    State,
    /// Increments of usage that are pushed.
    Usage,
    /// Hooks of tools.
    Hooks,
    /// Sources that are polled.
    Poll,
    /// What telemetry says of agents.
    Telemetry,
    /// OTLP: points of metrics.
    Metrics,
    /// OTLP: spans.
    Traces,
    /// OTLP: log records.
    Logs,
    /// Callbacks of LiteLLM.
    Callback,
}

impl InputKind {
    /// All of them, in the order of the variants.
    pub const ALL: [Self; 9] = [
        Self::State,
        Self::Usage,
        Self::Hooks,
        Self::Poll,
        Self::Telemetry,
        Self::Metrics,
        Self::Traces,
        Self::Logs,
        Self::Callback,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Usage => "usage",
            Self::Hooks => "hooks",
            Self::Poll => "poll",
            Self::Telemetry => "telemetry",
            Self::Metrics => "metrics",
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Callback => "callback",
        }
    }

    /// Why something of it may not be taken: the series that are there from the start, at 0.
    pub const fn reasons(self) -> &'static [RejectReason] {
        use RejectReason::{
            Buckets, Busy, Conflict, Duplicate, Labels, Late, Limit, Malformed, Name, SeriesCap, Stale, Status,
            Temporality, Time, TooLarge, UsageOwner, Value,
        };
        match self {
            Self::State => &[Malformed, TooLarge, Busy, Name, Status, Value, Limit, SeriesCap, UsageOwner, Late],
            Self::Usage => &[Malformed, TooLarge, Busy, Name, Value, Limit, SeriesCap, UsageOwner, Duplicate],
            Self::Hooks => &[Malformed, TooLarge, Busy, SeriesCap],
            Self::Poll => &[Name, Status, Value, Limit, SeriesCap, UsageOwner],
            Self::Telemetry => &[SeriesCap, UsageOwner],
            Self::Metrics => &[
                Malformed,
                TooLarge,
                Busy,
                Duplicate,
                Stale,
                Time,
                Value,
                Buckets,
                Temporality,
                Name,
                Conflict,
                Labels,
                SeriesCap,
            ],
            Self::Traces | Self::Logs | Self::Callback => &[Malformed, TooLarge, Busy],
        }
    }
}

/// Why something is not taken: the label `reason`, and the field of that name in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The whole body can't be read, or one call in it.
    Malformed,
    /// The whole body is larger than is taken.
    TooLarge,
    /// There was no room for the whole body at that moment.
    Busy,
    /// No name, or one that can't be used.
    Name,
    /// A word for a status that is none of ours.
    Status,
    /// A field with a value of the wrong type or out of range.
    Value,
    /// More of something than is taken.
    Limit,
    /// There are as many series, agents or projects as are kept.
    SeriesCap,
    /// The agent's usage comes in on another way already.
    UsageOwner,
    /// A newer report of the same run was there before.
    Late,
    /// It was counted already.
    Duplicate,
    /// It is older than what is known of its stream.
    Stale,
    /// It was measured in the future.
    Time,
    /// Its buckets make no histogram, or are others than those of its series.
    Buckets,
    /// Nothing says what it counts from.
    Temporality,
    /// Its metric's name stands for something else.
    Conflict,
    /// It has more labels than are kept.
    Labels,
}

impl RejectReason {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Name => "name",
            Self::Status => "status",
            Self::Value => "value",
            Self::Limit => "limit",
            Self::SeriesCap => "series_cap",
            Self::UsageOwner => "usage_owner",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::Stale => "stale",
            Self::Time => "time",
            Self::Buckets => "buckets",
            Self::Temporality => "temporality",
            Self::Conflict => "conflict",
            Self::Labels => "labels",
        }
    }
}

impl Serialize for RejectReason {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.as_str())
    }
}

/// An item of a batch, or a value of one, that was rejected, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Rejected {
    /// The list that it stands in: `agents`, `components` or `usage`; empty for a field of the body itself.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub list: &'static str,
    /// Its place in that list, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The name as sent, cut to a readable length.
    pub name: String,
    /// The field with the value that can't be read; empty when it is the item itself.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub field: &'static str,
    /// Why, as a label.
    pub reason: RejectReason,
    /// What is wrong and what would do.
    pub error: String,
}

impl Rejected {
    /// One of which only the reason is kept, to be counted.
    pub const fn unnamed(reason: RejectReason) -> Self {
        Self { list: "", index: None, name: String::new(), field: "", reason, error: String::new() }
    }

    /// What was rejected, for a line of a log: `agents[3] w1`.
    pub fn subject(&self) -> String {
        match (self.list, self.index) {
            ("", _) | (_, None) => self.name.clone(),
            (list, Some(index)) if self.name.is_empty() => format!("{list}[{index}]"),
            (list, Some(index)) => format!("{list}[{index}] {}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_input_is_at_its_place_and_has_each_reason_once() {
        for (place, input) in InputKind::ALL.into_iter().enumerate() {
            assert_eq!(input as usize, place, "{input:?}");
            let reasons = input.reasons();
            assert!(reasons.iter().enumerate().all(|(at, reason)| !reasons[..at].contains(reason)), "{input:?}");
        }
    }
}
