//! The task that exchanges the registry with a database that is shared with others: it reads the database at the start and
//! every `interval`, and writes what changed here within a second. Out of reach, the local registry goes on; what changed
//! meanwhile is written once the database is back.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::runs::{RunsError, RunsHandle};
use super::{EngineHandle, SilenceError, Stopped};
use crate::clock::Clock;
use crate::metrics::SidecarMetrics;
use crate::model::{Label, Matchers, RegisteredAgent, Silence, Time};
use crate::runs::registry::MAX_AGENTS;
use crate::store::shared_registry::config::MySqlConfig;
use crate::store::shared_registry::{ShareOutcome, SharedRegistry, SharedRegistryError};

/// How often changes are written.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// How long a failed exchange is not tried again, at first and at most.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// How long an agent stays unmonitored unless it is monitored again: a year less an hour, as silences may last a year.
const DISABLED_FOR: Duration = Duration::from_secs((365 * 24 - 1) * 3600);

/// Silences the alerts of an agent whose monitoring is disabled, and ends that when it is enabled. Both are announced.
pub async fn apply_monitoring(
    engine: &EngineHandle,
    now: Time,
    agent: &RegisteredAgent,
    by: String,
) -> Result<Result<(), SilenceError>, Stopped> {
    if agent.monitoring_enabled {
        for id in [Some(&agent.id), agent.sharing.former_id.as_ref()].into_iter().flatten() {
            // Without such a silence there is nothing to end.
            engine.unsilence(format!("monitoring-{id}"), by.clone()).await?.ok();
        }
        return Ok(Ok(()));
    }
    let pairs = [(Label::Project, &agent.project), (Label::AgentName, &agent.name)];
    let matchers = Matchers::new(pairs.into_iter().map(|(label, value)| (label, value.to_string())).collect());
    let matchers = match matchers {
        Ok(matchers) => matchers,
        Err(problem) => return Ok(Err(SilenceError::Invalid(problem.to_string()))),
    };
    let silence = Silence {
        id: Arc::from(format!("monitoring-{}", agent.id)),
        matchers,
        starts_at: now,
        ends_at: now.plus(DISABLED_FOR),
        created_by: Arc::from(by),
        comment: Arc::from("monitoring_enabled was set to false"),
    };
    engine.silence(silence).await
}

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error(transparent)]
    Database(#[from] SharedRegistryError),
    #[error(transparent)]
    Runs(#[from] RunsError),
}

/// The task's state.
#[derive(Debug)]
pub struct SharingTask {
    config: MySqlConfig,
    runs: RunsHandle,
    engine: EngineHandle,
    own: Arc<SidecarMetrics>,
    clock: Clock,
    hasher: RandomState,
    /// Hashes of the rows that were read last.
    seen: HashMap<Arc<str>, u64>,
    invalid: usize,
}

impl SharingTask {
    /// The task with this database.
    pub fn new(
        config: MySqlConfig,
        runs: RunsHandle,
        engine: EngineHandle,
        own: Arc<SidecarMetrics>,
        clock: Clock,
    ) -> Self {
        Self { config, runs, engine, own, clock, hasher: RandomState::new(), seen: HashMap::new(), invalid: 0 }
    }

    /// Exchanges until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.own.registry_up(false);
        let (mut failure, mut pause) = (String::new(), RETRY[0]);
        loop {
            let exchange = self.exchange(&mut failure, &mut pause);
            let Some(Err(error)) = stop.run_until_cancelled(exchange).await else { return };
            self.own.registry_up(false);
            self.own.registry_failed();
            let text = error.to_string();
            if text != failure {
                let message = "the shared registry can't be used; the local one goes on and is reconciled later";
                tracing::warn!(error = text, "{message}");
            }
            failure = text;
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(RETRY[1]);
        }
    }

    /// Connects and exchanges until something fails.
    async fn exchange(&mut self, failure: &mut String, pause: &mut Duration) -> Result<Infallible, ExchangeError> {
        let (mut database, is_new) = SharedRegistry::connect(&self.config, self.hasher.clone()).await?;
        if is_new {
            self.seen.clear();
            self.runs.change_registry(|registry| registry.shared_registry_is_new()).await?;
            tracing::info!("created the table `agents` of the shared registry");
        }
        let mut read_at = Instant::now();
        loop {
            let is_due = Instant::now() >= read_at;
            if is_due {
                self.read(&mut database).await?;
                read_at = Instant::now() + self.config.interval;
            }
            self.write(&mut database, is_due).await?;
            let (pending, refused) = self.runs.registry(|registry| registry.unshared_counts()).await?;
            self.own.registry_up(true);
            self.own.registry_pending(pending, refused);
            if !std::mem::take(failure).is_empty() {
                tracing::info!("the shared registry can be used again");
            }
            *pause = RETRY[0];
            tokio::time::sleep(WRITE_EVERY).await;
        }
    }

    async fn read(&mut self, database: &mut SharedRegistry) -> Result<(), ExchangeError> {
        let changes = database.read(&self.seen).await?;
        if changes.invalid != self.invalid {
            self.invalid = changes.invalid;
            tracing::warn!(rows = changes.invalid, "rows of the shared registry have no valid id, name or project");
        }
        let (now, rows, gone) = (self.clock.wall(), changes.rows, changes.gone);
        let switched = self.runs.change_registry(move |registry| registry.merge(now, rows, &gone)).await?;
        self.seen = changes.seen;
        self.apply(switched).await;
        Ok(())
    }

    async fn write(&mut self, database: &mut SharedRegistry, with_last_use: bool) -> Result<(), ExchangeError> {
        let agents = self.runs.registry(move |registry| registry.unshared(MAX_AGENTS, with_last_use)).await?;
        if agents.is_empty() {
            return Ok(());
        }
        let outcomes = database.write(&agents).await?;
        let now = self.clock.wall();
        let (switched, refused) = self
            .runs
            .change_registry(move |registry| {
                let (mut switched, mut refused) = (Vec::new(), Vec::new());
                for (agent, outcome) in agents.iter().zip(outcomes) {
                    match outcome {
                        ShareOutcome::Written => registry.shared(agent),
                        ShareOutcome::Known(row) => switched.extend(registry.merge(now, vec![*row], &[])),
                        ShareOutcome::Gone => {
                            switched.extend(registry.merge(now, Vec::new(), &[Arc::clone(&agent.id)]));
                        }
                        ShareOutcome::Refused(reason) => {
                            if registry.refused(&agent.id, &reason) {
                                refused.push((Arc::clone(&agent.project), Arc::clone(&agent.name), reason));
                            }
                        }
                    }
                }
                (switched, refused)
            })
            .await?;
        for (project, name, reason) in refused {
            tracing::warn!(project = &*project, agent = &*name, reason, "the shared registry does not take an agent");
        }
        self.apply(switched).await;
        Ok(())
    }

    /// Applies `monitoring_enabled` of agents where another program changed it.
    async fn apply(&self, switched: Vec<RegisteredAgent>) {
        for agent in switched {
            let by = "the shared registry".to_owned();
            if let Ok(Err(error)) = apply_monitoring(&self.engine, self.clock.now(), &agent, by).await {
                tracing::warn!(agent = &*agent.name, %error, "monitoring_enabled of the shared registry can't be applied");
            }
        }
    }
}
