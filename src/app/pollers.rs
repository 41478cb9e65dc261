//! The tasks that poll the configured sources, replaced as a whole by a reload.

use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::supervisor::Supervisor;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::EngineHandle;
use crate::ingest;
use crate::model::PollReport;

/// Polls that may wait for the engine.
const REPORTS: usize = 64;

/// The polls of the configured sources.
pub(super) struct Pollers {
    handle: EngineHandle,
    clock: Clock,
    on: watch::Receiver<bool>,
    supervisor: Supervisor,
    running: Mutex<Option<(CancellationToken, TaskTracker)>>,
}

impl Pollers {
    pub(super) fn new(handle: EngineHandle, clock: Clock, on: watch::Receiver<bool>, supervisor: Supervisor) -> Self {
        Self { handle, clock, on, supervisor, running: Mutex::new(None) }
    }

    /// Polls these sources in place of the ones before.
    pub(super) async fn replace(&self, config: &Config) -> anyhow::Result<()> {
        self.stop().await;
        let stop = CancellationToken::new();
        let (sender, mut reports) = mpsc::channel::<PollReport>(REPORTS);
        let (tracker, broken) =
            ingest::poll::start(&config.sources, &self.clock, &sender, &self.on, &stop).map_err(|problems| {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                anyhow::anyhow!(lines.join("\n"))
            })?;
        let (handle, stopped, supervisor) = (self.handle.clone(), stop.clone(), self.supervisor.clone());
        let part = supervisor.part("polls");
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = broken.cancelled() => return supervisor.fail("the poll of a source"),
                    () = stopped.cancelled() => return part.done(),
                    report = reports.recv() => match report {
                        // An engine that has ended is a part of its own.
                        Some(report) => if handle.poll(report).await.is_err() { return part.done() },
                        // There is no source.
                        None => return part.done(),
                    },
                }
            }
        });
        *self.running.lock().await = Some((stop, tracker));
        Ok(())
    }

    /// Polls no more.
    pub(super) async fn stop(&self) {
        if let Some((stop, tracker)) = self.running.lock().await.take() {
            stop.cancel();
            tracker.close();
            tracker.wait().await;
        }
    }
}
