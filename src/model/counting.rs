//! The state behind counters derived from telemetry, saved so that a restart neither counts an item twice nor loses an
//! increase.
//!
//! It is written in one transaction with the agents whose totals it led to. Each list is bounded, whatever senders make
//! up: what does not fit is counted as new later.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::AgentTelemetry;

/// Digests of items that may wait to be saved.
const MAX_SEEN: usize = 65_536;
/// Streams, and groups, that may wait to be saved.
const MAX_PENDING: usize = 16_384;

/// What an export adds to agents, and the counting state that follows from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TelemetryUpdate {
    /// Increments per agent.
    pub agents: Vec<AgentTelemetry>,
    /// What keeps the same items from being counted again.
    pub counting: CountingState,
}

/// New counting state to be saved, or all of it after a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CountingState {
    /// Since when cumulative streams are followed without a gap, in nanoseconds since 1970; `None` if unchanged.
    pub since: Option<u64>,
    /// The version of the digests: those of another version cannot be compared.
    pub scheme: u64,
    /// The secret key of the digests, so that no sender can construct a collision; `None` if nothing was saved.
    pub key: Option<DigestKey>,
    /// Digests of items that were counted, oldest first.
    pub seen: Vec<u64>,
    /// Streams of data points, by digest.
    pub streams: HashMap<u64, StreamCount>,
    /// Producers and models, by digest.
    pub groups: HashMap<u64, GroupCount>,
}

/// The secret key of digests. It is never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DigestKey(pub [u64; 2]);

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DigestKey(…)")
    }
}

/// What was counted of one stream of data points. Times are in nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamCount {
    /// Delta temporality: the intervals that were counted.
    Deltas(Vec<(u64, u64)>),
    /// Cumulative temporality.
    Totals {
        /// The processes that report the stream.
        runs: Vec<RunCount>,
        /// Since when all of them are known.
        since: u64,
    },
}

impl StreamCount {
    /// The latest start of a known process; for a process without a start time, the time of its last point.
    pub fn last_start(&self) -> u64 {
        match self {
            Self::Deltas(_) => 0,
            Self::Totals { runs, .. } => runs.iter().map(|run| run.start.min(run.time)).max().unwrap_or_default(),
        }
    }
}

/// The last data point of one process in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunCount {
    /// When the process began to count.
    pub start: u64,
    /// When the point was measured.
    pub time: u64,
    /// Its value, saved exactly: if rounding made it larger, the next point would look like a counter reset.
    #[serde(with = "bits")]
    pub value: f64,
}

/// Serializes a number as its bits.
mod bits {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
        u64::deserialize(input).map(f64::from_bits)
    }
}

/// What each signal of one producer reported for one model, and what of it was counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupCount {
    /// The sums of each signal, by digest of signal and library.
    pub meters: Vec<(u64, Vec<f64>)>,
    /// What was counted.
    pub counted: Vec<f64>,
    /// The signal that request durations come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed_by: Option<u64>,
}

impl CountingState {
    /// Whether there is nothing to save.
    pub fn is_empty(&self) -> bool {
        self.since.is_none() && self.seen.is_empty() && self.streams.is_empty() && self.groups.is_empty()
    }

    /// Adds newer state to this.
    pub fn merge(&mut self, later: Self) {
        self.since = later.since.or(self.since);
        self.scheme = later.scheme;
        self.key = later.key.or(self.key);
        self.seen.extend(later.seen);
        let over = self.seen.len().saturating_sub(MAX_SEEN);
        self.seen.drain(..over);
        put(&mut self.streams, later.streams);
        put(&mut self.groups, later.groups);
    }
}

fn put<T>(kept: &mut HashMap<u64, T>, later: HashMap<u64, T>) {
    for (id, value) in later {
        if kept.len() < MAX_PENDING || kept.contains_key(&id) {
            kept.insert(id, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_state_is_bounded_and_the_newest_value_is_kept() {
        let mut counting = CountingState::default();
        assert!(counting.is_empty());
        for round in 0..3_u64 {
            let stream = StreamCount::Deltas(vec![(round, round)]);
            let ids = round * 10_000..(round + 1) * 10_000;
            counting.merge(CountingState {
                since: (round == 1).then_some(7),
                scheme: 1,
                key: None,
                seen: (0..40_000).map(|it| round * 40_000 + it).collect(),
                streams: ids.chain([0]).map(|id| (id, stream.clone())).collect(),
                groups: HashMap::new(),
            });
        }
        assert_eq!((counting.seen.len(), counting.seen.last()), (MAX_SEEN, Some(&119_999)));
        assert_eq!((counting.streams.len(), counting.since), (MAX_PENDING, Some(7)));
        assert_eq!(counting.streams[&0], StreamCount::Deltas(vec![(2, 2)]), "known streams are still updated");
    }
}
