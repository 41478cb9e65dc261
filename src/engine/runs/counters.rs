//! Counters of the thread of runs, which its metrics show.

use std::sync::atomic::{AtomicBool, AtomicU64};

/// Counters of runs.
#[derive(Debug, Default)]
pub struct RunCounters {
    /// Spans that arrived.
    pub received: AtomicU64,
    /// Spans that were stored.
    pub stored: AtomicU64,
    /// Spans that were sent again.
    pub duplicate: AtomicU64,
    /// Spans over the limit of a trace.
    pub trace_full: AtomicU64,
    /// Spans of no agent.
    pub not_of_agents: AtomicU64,
    /// Spans of runs whose spans are not kept.
    pub sampled_out: AtomicU64,
    /// Messages of hooks and polls that were dropped as too much waited.
    pub busy: AtomicU64,
    /// Whether the alerts of agents matter, as not all runs keep their spans.
    pub samples: AtomicBool,
    /// Agents in the registry.
    pub agents: AtomicU64,
    /// Runs that ended.
    pub ended: AtomicU64,
    /// Runs that were deleted to stay within the limits.
    pub pruned: AtomicU64,
    /// Milliseconds from arrival to disk: of the last group.
    pub last_commit_ms: AtomicU64,
}
