//! Which runs keep their spans.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::{Run, Sketch};

/// Decides which runs keep their spans: failed ones, slow ones, those of agents with an alert, and a share of the rest.
#[derive(Debug)]
pub(super) struct Sampler {
    pub(super) share: f64,
    pub(super) alerting: HashSet<(Arc<str>, Arc<str>)>,
    /// Durations of the runs of each agent (project, name).
    durations: HashMap<(Arc<str>, Arc<str>), Sketch>,
}

/// Agents whose durations are remembered; beyond it they are forgotten and learnt again.
const MAX_SAMPLED_AGENTS: usize = 10_000;
/// The slowest share of an agent's runs, which keep their spans.
const SLOWEST: f64 = 0.01;

impl Sampler {
    pub(super) fn new(share: f64) -> Self {
        Self { share, alerting: HashSet::new(), durations: HashMap::new() }
    }

    pub(super) fn keeps(&mut self, run: &Run) -> bool {
        if self.share >= 1.0 {
            return true;
        }
        let agent = (Arc::clone(&run.project), Arc::clone(&run.agent));
        if self.durations.len() > MAX_SAMPLED_AGENTS {
            self.durations.clear();
        }
        let ms = run.ended_at.map_or(0.0, |ended| ended.since(run.started_at).as_secs_f64() * 1000.0);
        let durations = self.durations.entry(agent.clone()).or_default();
        let is_slow = durations.quantile(1.0 - SLOWEST).is_some_and(|slow| ms > slow);
        durations.add(ms);
        // The ids are random: their first digits decide.
        let [a, b, c, d, ..] = *run.id.as_bytes();
        let drawn = f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX);
        run.status.is_failure() || is_slow || self.alerting.contains(&agent) || drawn < self.share
    }
}
