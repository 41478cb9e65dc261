//! Has the engine know which runs began and ended: all that rules and metrics of the fleet need of them.

use std::sync::Arc;

use crate::engine::handle::EngineHandle;
use crate::model::{Run, RunSource, RunStatus, RunSummary, Time, TraceId};
use crate::runs::{RunBook, RunChanges};
use crate::store::traces::TraceStore;

/// Runs that began or ended of which the engine does not know yet; of more, the oldest are dropped.
const MAX_WAITING: usize = 10_000;

/// Summaries that wait for room in the engine's queue.
#[derive(Debug)]
pub(super) struct SummaryQueue {
    engine: Option<EngineHandle>,
    waiting: Vec<RunSummary>,
}

impl SummaryQueue {
    /// An empty queue; without an engine nothing is reported.
    pub(super) const fn new(engine: Option<EngineHandle>) -> Self {
        Self { engine, waiting: Vec::new() }
    }

    /// Reports runs that began or ended. What the engine has no room for is sent with the next call; returns how many
    /// were dropped.
    pub(super) fn report(&mut self, book: &RunBook, changes: &RunChanges) -> u64 {
        let Some(engine) = &self.engine else { return 0 };
        let news = changes.began.iter().chain(&changes.ended).filter_map(|id| book.run(*id));
        self.waiting.extend(news.filter(|run| run.is_rooted).map(summary));
        if self.waiting.is_empty() {
            return 0;
        }
        self.waiting = engine.runs(std::mem::take(&mut self.waiting));
        let excess = self.waiting.len().saturating_sub(MAX_WAITING);
        self.waiting.drain(..excess);
        excess as u64
    }

    /// Reports runs that the fleet has in progress and that have ended meanwhile, or of which nothing is known.
    pub(super) fn reconcile(&mut self, now: Time, store: &TraceStore, runs: Vec<(Arc<str>, Arc<str>, TraceId)>) {
        for (project, agent, id) in runs {
            let stored = store.load(id).ok().and_then(|stored| stored.runs.into_iter().find(|run| run.id == id));
            match stored {
                Some(run) if run.status == RunStatus::Running => {}
                Some(run) => self.waiting.push(summary(&run)),
                None => {
                    let unnamed: Arc<str> = Arc::from("");
                    let gone = Run::new(id, [project, agent, Arc::clone(&unnamed)], unnamed, RunSource::Api, now);
                    self.waiting.push(RunSummary { status: RunStatus::Abandoned, ..summary(&gone) });
                }
            }
        }
    }
}

/// What the fleet needs to know of a run.
fn summary(run: &Run) -> RunSummary {
    RunSummary {
        project: Arc::clone(&run.project),
        agent: Arc::clone(&run.agent),
        agent_type: Arc::clone(&run.agent_type),
        id: run.id,
        name: Arc::clone(&run.name),
        status: run.status,
        started_at: run.started_at,
        ended_at: run.ended_at,
        cost_usd: run.totals.cost_usd,
        fallbacks: run.totals.fallbacks,
        error: run.error.clone(),
        history: None,
    }
}
