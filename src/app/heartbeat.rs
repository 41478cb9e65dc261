//! The heartbeat task, replaced on a reload.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::supervisor::Supervisor;
use crate::config::Config;
use crate::engine::EngineHandle;
use crate::notify::heartbeat;

/// Timeout of the engine's health check.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// The heartbeat task, if configured.
pub(super) struct HeartbeatTask {
    handle: EngineHandle,
    supervisor: Supervisor,
    running: Mutex<Option<CancellationToken>>,
}

impl HeartbeatTask {
    pub(super) fn new(handle: EngineHandle, supervisor: Supervisor) -> Self {
        Self { handle, supervisor, running: Mutex::new(None) }
    }

    /// Replaces the task by one with the settings of `config`.
    pub(super) async fn replace(&self, config: &Config) {
        self.stop().await;
        let handle = self.handle.clone();
        let check_health = move || {
            let handle = handle.clone();
            async move {
                // An engine that does not respond is unhealthy.
                match tokio::time::timeout(HEALTH_TIMEOUT, handle.health()).await {
                    Ok(Ok(health)) => health,
                    Ok(Err(stopped)) => Err(stopped.to_string()),
                    Err(_) => Err("the engine does not respond".to_owned()),
                }
            }
        };
        let stop = CancellationToken::new();
        let (beat, stopped) = (heartbeat::beat(config.heartbeat.clone(), check_health), stop.clone());
        let guard = self.supervisor.watch("heartbeat");
        tokio::spawn(async move {
            stopped.run_until_cancelled(beat).await;
            // Ends at once when no heartbeat is configured.
            guard.done();
        });
        *self.running.lock().await = Some(stop);
    }

    /// Stops the task.
    pub(super) async fn stop(&self) {
        if let Some(stop) = self.running.lock().await.take() {
            stop.cancel();
        }
    }
}
