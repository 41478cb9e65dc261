//! Has the engine know which runs began and ended: all that rules and metrics of the fleet need of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::handle::EngineHandle;
use crate::model::{Run, RunSource, RunStatus, RunSummary, Time, TraceId};
use crate::runs::{RunBook, RunChanges};
use crate::store::traces::TraceStore;

/// Runs that began or ended of which the engine does not know yet; of more, the oldest are dropped.
const MAX_WAITING: usize = 10_000;

/// An agent that was silent for as long may have expired, so that the fleet no longer knows what is usual of it.
const SILENCE: Duration = Duration::from_secs(60);
/// Agents whose last report is remembered.
const MAX_AGENTS: usize = 100_000;

/// Summaries that wait for room in the engine's queue.
#[derive(Debug)]
pub(super) struct SummaryQueue {
    engine: Option<EngineHandle>,
    waiting: Vec<RunSummary>,
    /// When an agent (project, name) was last reported.
    reported: HashMap<(Arc<str>, Arc<str>), Time>,
}

impl SummaryQueue {
    /// An empty queue; without an engine nothing is reported.
    pub(super) fn new(engine: Option<EngineHandle>) -> Self {
        Self { engine, waiting: Vec::new(), reported: HashMap::new() }
    }

    /// Reports runs that began or ended. What the engine has no room for is sent with the next call; returns how many
    /// were dropped. `store` does not have these changes yet.
    pub(super) fn report(&mut self, now: Time, book: &RunBook, changes: &RunChanges, store: &TraceStore) -> u64 {
        if self.engine.is_none() {
            return 0;
        }
        let news = self.news(now, book, changes, store);
        self.waiting.extend(news);
        let Some(engine) = self.engine.as_ref().filter(|_| !self.waiting.is_empty()) else { return 0 };
        self.waiting = engine.runs(std::mem::take(&mut self.waiting));
        let excess = self.waiting.len().saturating_sub(MAX_WAITING);
        self.waiting.drain(..excess);
        excess as u64
    }

    /// What the fleet needs to know of the changes, the first of each agent with what is usual of it.
    fn news(&mut self, now: Time, book: &RunBook, changes: &RunChanges, store: &TraceStore) -> Vec<RunSummary> {
        let runs = changes.began.iter().chain(&changes.ended).filter_map(|id| book.run(*id));
        let mut news: Vec<RunSummary> = runs.filter(|run| run.is_rooted).map(summary).collect();
        for summary in &mut news {
            let agent = (Arc::clone(&summary.project), Arc::clone(&summary.agent));
            if self.reported.len() >= MAX_AGENTS && !self.reported.contains_key(&agent) {
                self.reported.clear();
            }
            let last = self.reported.insert(agent, now);
            if last.is_none_or(|last| now.since(last) >= SILENCE) {
                match store.usual_runs(&summary.project, &summary.agent, summary.id) {
                    Ok(usual) => summary.history = (!usual.seconds.is_empty()).then(|| Box::new(usual)),
                    Err(error) => {
                        tracing::warn!(%error, "what runs usually take can't be read; rules wait for new runs")
                    }
                }
            }
        }
        news
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
        platform: run.platform.clone(),
        facts: run.facts,
        history: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::agent_runs::{AgentRuns, MIN_USUAL_RUNS};
    use crate::model::{AgentIdentity, SpanId};
    use crate::runs::{RunEnd, RunStart};
    use crate::store::traces::TraceBatch;

    const DAY: Duration = Duration::from_secs(86_400);

    /// Reports what changed, as the thread does: before it is written.
    fn commit(queue: &mut SummaryQueue, now: Time, book: &mut RunBook, store: &mut TraceStore) -> Vec<RunSummary> {
        let changes = book.take_changes(now);
        let news = queue.news(now, book, &changes, store);
        let batch = TraceBatch { runs: &changes.runs, removed: &[], stats: None, agents: &[] };
        store.write(now, &batch).expect("a store");
        news
    }

    #[test]
    fn an_agent_that_expired_between_its_runs_has_what_is_usual_of_it() {
        let begin = Time::from_millis(1_800_000_000_000);
        let settings = super::super::RunsSettings::new(&Default::default(), &Default::default());
        let mut store = TraceStore::open(None, settings.limits, begin).expect("a store");
        let mut book = RunBook::new(DAY);
        let mut queue = SummaryQueue::new(None);
        let agent = Arc::new(AgentIdentity {
            project: "shop".into(),
            agent: "nightly".into(),
            agent_type: "custom".into(),
            is_named: true,
        });
        for night in 0..30_u32 {
            let from = begin.plus(DAY * night);
            let id = TraceId::from_slice(&[&[7; 12], &night.to_be_bytes()[..]].concat()).expect("an id");
            let start = RunStart {
                id,
                trace: id,
                span: SpanId::from_slice(&[1; 8]).expect("an id"),
                above: None,
                agent: Arc::clone(&agent),
                name: "report".into(),
                source: RunSource::Api,
                parent: None,
                session: None,
                task: None,
                platform: None,
                facts: crate::model::RunFacts::default(),
                at: from,
            };
            book.start(from, &start);
            let began = commit(&mut queue, from, &mut book, &mut store);
            let to = from.plus(Duration::from_secs(30));
            book.end(to, id, RunEnd { status: RunStatus::Ok, cost_usd: Some(0.5), at: to, ..RunEnd::default() });
            let ended = commit(&mut queue, to, &mut book, &mut store);
            assert!(ended[0].history.is_none(), "it was reported just before");
            book.tick(to.plus(Duration::from_secs(3_600)));
            // Each night the fleet begins again.
            let mut runs = AgentRuns::default();
            began.iter().chain(&ended).for_each(|run| runs.record(run.started_at, run.started_at, run));
            let is_known = night as usize + 1 >= MIN_USUAL_RUNS;
            assert_eq!(runs.p95_seconds(), is_known.then_some(30.0), "night {night}");
            assert_eq!(runs.median_cost(), is_known.then_some(0.5), "night {night}");
        }
    }
}
