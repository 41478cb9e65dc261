//! The tasks that poll the configured sources, replaced as a whole on a reload.

use std::sync::atomic::Ordering;

use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::supervisor::Supervisor;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::EngineHandle;
use crate::engine::runs::RunsHandle;
use crate::ingest;
use crate::ingest::poll::SourceFindings;

/// Maximum number of poll results that are queued for the engine.
const REPORT_QUEUE: usize = 64;

/// The polling tasks.
pub(super) struct Pollers {
    handle: EngineHandle,
    runs: RunsHandle,
    clock: Clock,
    on: watch::Receiver<bool>,
    supervisor: Supervisor,
    running: Mutex<Option<(CancellationToken, TaskTracker)>>,
}

impl Pollers {
    pub(super) fn new(
        handle: EngineHandle,
        runs: RunsHandle,
        clock: Clock,
        on: watch::Receiver<bool>,
        supervisor: Supervisor,
    ) -> Self {
        Self { handle, runs, clock, on, supervisor, running: Mutex::new(None) }
    }

    /// Replaces the tasks by those of the sources in `config`.
    pub(super) async fn replace(&self, config: &Config) -> anyhow::Result<()> {
        self.stop().await;
        let stop = CancellationToken::new();
        let (sender, mut reports) = mpsc::channel::<SourceFindings>(REPORT_QUEUE);
        let (tracker, failed) =
            ingest::poll::start(&config.sources, &self.clock, &sender, &self.on, &stop).map_err(|problems| {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                anyhow::anyhow!(lines.join("\n"))
            })?;
        let (handle, runs) = (self.handle.clone(), self.runs.clone());
        let (stopped, supervisor) = (stop.clone(), self.supervisor.clone());
        let guard = supervisor.watch("pollers");
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = failed.cancelled() => return supervisor.fail("poller"),
                    () = stopped.cancelled() => return guard.done(),
                    report = reports.recv() => match report {
                        // The supervisor reports the end of the engine itself.
                        Some(SourceFindings { report, spans, lost }) => {
                            if !spans.is_empty() {
                                let runs = runs.clone();
                                // Not awaited, so that a slow disk delays no agent's state.
                                tokio::spawn(async move {
                                    if let Err(error) = runs.report(spans).await {
                                        tracing::warn!(%error, "polled runs are not stored yet; they are read again");
                                        lost.store(true, Ordering::Relaxed);
                                    }
                                });
                            }
                            if handle.poll(report).await.is_err() { return guard.done() }
                        }
                        // No source is configured.
                        None => return guard.done(),
                    },
                }
            }
        });
        *self.running.lock().await = Some((stop, tracker));
        Ok(())
    }

    /// Stops the tasks.
    pub(super) async fn stop(&self) {
        if let Some((stop, tracker)) = self.running.lock().await.take() {
            stop.cancel();
            tracker.close();
            tracker.wait().await;
        }
    }
}
