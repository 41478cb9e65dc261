//! What counting telemetry remembers, so that after a restart nothing counts twice and nothing that grew meanwhile is lost.
//!
//! Plain data: digests and sums, saved in one transaction with the agents whose totals they led to. Refuses to grow with
//! what senders make up: of each kind the oldest go first, and what is not remembered is counted as new.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::AgentTelemetry;

/// Digests of items that wait to be saved at most.
const MAX_SEEN: usize = 65_536;
/// Streams, and groups, that wait to be saved at most.
const MAX_KEPT: usize = 16_384;

/// What exports say of agents, and what is remembered of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TelemetryUpdate {
    /// What is news.
    pub agents: Vec<AgentTelemetry>,
    /// What keeps it from being news again.
    pub counting: CountingState,
}

/// What was remembered anew, or all of it after a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CountingState {
    /// From when on all that cumulative streams count was heard, in nanoseconds since 1970; `None` where nothing is new.
    pub since: Option<u64>,
    /// How digests are made: those that were made otherwise mean nothing.
    pub scheme: u64,
    /// The secret that goes into digests, so that nobody can make two things that are one; `None` where nothing was saved.
    pub key: Option<DigestKey>,
    /// Digests of items that were counted, oldest first.
    pub seen: Vec<u64>,
    /// Streams of data points by their digest.
    pub streams: HashMap<u64, StreamCount>,
    /// Producers and models by their digest.
    pub groups: HashMap<u64, GroupCount>,
}

/// A secret for digests. Nothing shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DigestKey(pub [u64; 2]);

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DigestKey(…)")
    }
}

/// What was counted of a stream of data points. Times are in nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamCount {
    /// Of deltas: the intervals that are counted.
    Deltas(Vec<(u64, u64)>),
    /// Of what grows from a start.
    Totals {
        /// The processes that are told apart.
        runs: Vec<RunCount>,
        /// From when on all of them are known.
        since: u64,
    },
}

impl StreamCount {
    /// When the last process that is known began to count; one whose start is unknown, at its last point at most.
    pub fn last_start(&self) -> u64 {
        match self {
            Self::Deltas(_) => 0,
            Self::Totals { runs, .. } => runs.iter().map(|run| run.start.min(run.time)).max().unwrap_or_default(),
        }
    }
}

/// The last point of one process of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunCount {
    /// When it began to count.
    pub start: u64,
    /// When the point was measured.
    pub time: u64,
    /// Its value. Saved to the last bit: one that came back larger would look as if the next had fallen.
    #[serde(with = "bits")]
    pub value: f64,
}

/// A number by its bits.
mod bits {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
        u64::deserialize(input).map(f64::from_bits)
    }
}

/// Sums of what each signal of a producer said of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupCount {
    /// By signal and library.
    pub meters: Vec<(u64, Vec<f64>)>,
    /// What was counted of it.
    pub counted: Vec<f64>,
    /// By which signal its requests are timed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed_by: Option<u64>,
}

impl CountingState {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.since.is_none() && self.seen.is_empty() && self.streams.is_empty() && self.groups.is_empty()
    }

    /// Adds what was remembered later.
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
        if kept.len() < MAX_KEPT || kept.contains_key(&id) {
            kept.insert(id, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_the_last_word_counts() {
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
        assert_eq!((counting.streams.len(), counting.since), (MAX_KEPT, Some(7)));
        assert_eq!(counting.streams[&0], StreamCount::Deltas(vec![(2, 2)]), "what is known is brought up to date");
    }
}
