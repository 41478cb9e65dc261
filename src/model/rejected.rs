//! Rejected input: the kinds of input and the reasons that label `lookout_ingested_total` and `lookout_rejected_total`,
//! and one rejected item.

use serde::{Serialize, Serializer};

/// The kinds of input, as in the label `signal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputKind {
    /// Pushed state.
    State,
    /// Pushed increments of usage.
    Usage,
    /// Hooks of tools.
    Hooks,
    /// Polled sources.
    Poll,
    /// Increments per agent, derived from telemetry.
    Telemetry,
    /// OTLP data points.
    Metrics,
    /// OTLP spans.
    Traces,
    /// OTLP log records.
    Logs,
    /// LiteLLM callbacks.
    Callback,
    /// Runs that began or ended.
    Runs,
    /// Custom metrics.
    Custom,
}

impl InputKind {
    /// All kinds, in the order of the variants.
    pub const ALL: [Self; 11] = [
        Self::State,
        Self::Usage,
        Self::Hooks,
        Self::Poll,
        Self::Telemetry,
        Self::Metrics,
        Self::Traces,
        Self::Logs,
        Self::Callback,
        Self::Runs,
        Self::Custom,
    ];

    /// The label value.
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
            Self::Runs => "runs",
            Self::Custom => "custom",
        }
    }

    /// The reasons for which it may be rejected; their series exist from the start, at 0.
    pub const fn reasons(self) -> &'static [RejectReason] {
        use RejectReason::{
            Buckets, Busy, Conflict, Duplicate, Labels, Late, Limit, Malformed, Name, SeriesCap, Stale, Status,
            Temporality, Time, TooLarge, UsageOwner, Value,
        };
        match self {
            Self::State => {
                &[Malformed, TooLarge, Busy, Name, Status, Value, Limit, SeriesCap, UsageOwner, Late, Conflict, Labels]
            }
            Self::Usage => &[Malformed, TooLarge, Busy, Name, Value, Limit, SeriesCap, UsageOwner, Duplicate],
            Self::Hooks => &[Malformed, TooLarge, Busy, SeriesCap],
            Self::Poll => &[Name, Status, Value, Limit, SeriesCap, UsageOwner, Conflict, Labels],
            Self::Telemetry => &[SeriesCap, UsageOwner],
            Self::Runs => &[SeriesCap],
            Self::Custom => &[Malformed, TooLarge, Busy, Name, Value, Limit, SeriesCap, Conflict, Labels],
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

/// Why something was rejected, as in the label `reason` and in the `reason` field of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The whole body, or one call in it, cannot be parsed.
    Malformed,
    /// The whole body is larger than the limit.
    TooLarge,
    /// The queue was full.
    Busy,
    /// The name is missing or invalid.
    Name,
    /// The status is unknown.
    Status,
    /// The value of a field has the wrong type or is out of range.
    Value,
    /// There are more items than the limit.
    Limit,
    /// The limit of series, agents or projects is reached.
    SeriesCap,
    /// The agent's usage is reported in another way already.
    UsageOwner,
    /// A newer report of the same run was ingested before.
    Late,
    /// It is a duplicate.
    Duplicate,
    /// It is older than the last point of its stream.
    Stale,
    /// Its timestamp is in the future.
    Time,
    /// Its buckets are not a valid histogram, or differ from those of its series.
    Buckets,
    /// Its temporality is unspecified.
    Temporality,
    /// Its metric name is in use with another type.
    Conflict,
    /// It has more labels than the limit.
    Labels,
}

impl RejectReason {
    /// The label value.
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

/// A rejected item of a batch, or a rejected value of an item.
#[derive(Clone, Debug, Serialize)]
pub struct Rejected {
    /// The list that it is in: `agents`, `components` or `usage`; empty for a field of the body itself.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub list: &'static str,
    /// Its index in that list, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The name as sent, truncated.
    pub name: String,
    /// The field whose value was rejected; empty if the whole item was.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub field: &'static str,
    /// The reason.
    pub reason: RejectReason,
    /// What is wrong and what to send instead.
    pub error: String,
}

impl Rejected {
    /// A rejected item of which only the reason is recorded, to be counted.
    pub const fn unnamed(reason: RejectReason) -> Self {
        Self { list: "", index: None, name: String::new(), field: "", reason, error: String::new() }
    }

    /// What was rejected, for the log: `agents[3] w1`.
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
    fn kinds_are_in_order_and_their_reasons_unique() {
        for (place, input) in InputKind::ALL.into_iter().enumerate() {
            assert_eq!(input as usize, place, "{input:?}");
            let reasons = input.reasons();
            assert!(reasons.iter().enumerate().all(|(at, reason)| !reasons[..at].contains(reason)), "{input:?}");
        }
    }
}
