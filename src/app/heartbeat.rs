//! The task of the heartbeat, replaced by a reload.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::supervisor::Supervisor;
use crate::config::Config;
use crate::engine::EngineHandle;
use crate::notify::heartbeat;

/// How long the engine may take to say whether it is well.
const ANSWER: Duration = Duration::from_secs(1);

/// The heartbeat, while one is wanted.
pub(super) struct Heartbeat {
    handle: EngineHandle,
    supervisor: Supervisor,
    running: Mutex<Option<CancellationToken>>,
}

impl Heartbeat {
    pub(super) fn new(handle: EngineHandle, supervisor: Supervisor) -> Self {
        Self { handle, supervisor, running: Mutex::new(None) }
    }

    /// Beats as `config` says from now on.
    pub(super) async fn replace(&self, config: &Config) {
        self.stop().await;
        let handle = self.handle.clone();
        let is_well = move || {
            let handle = handle.clone();
            async move {
                // An engine that does not answer is not well, whatever it would say.
                match tokio::time::timeout(ANSWER, handle.health()).await {
                    Ok(Ok(health)) => health,
                    Ok(Err(stopped)) => Err(stopped.to_string()),
                    Err(_) => Err("the engine does not answer".to_owned()),
                }
            }
        };
        let stop = CancellationToken::new();
        let (beat, stopped) = (heartbeat::beat(config.heartbeat.clone(), is_well), stop.clone());
        let part = self.supervisor.part("the heartbeat");
        tokio::spawn(async move {
            stopped.run_until_cancelled(beat).await;
            // Also when no heartbeat is configured.
            part.done();
        });
        *self.running.lock().await = Some(stop);
    }

    /// Beats no more.
    pub(super) async fn stop(&self) {
        if let Some(stop) = self.running.lock().await.take() {
            stop.cancel();
        }
    }
}
