//! Streams of events on a thread of their own, so that deriving and sending them never delays the engine.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::supervisor::Supervisor;
use crate::clock::Clock;
use crate::engine::EngineHandle;
use crate::engine::live::LiveFeed;
use crate::metrics::SidecarMetrics;
use crate::server::{StatusReader, StreamHub};

/// The thread of streams. It ends after a stop and its last stream.
pub(super) struct StreamThread {
    /// Cancelled once the main listener has closed its connections.
    stop: CancellationToken,
    done: oneshot::Receiver<()>,
}

impl StreamThread {
    /// Starts the thread, with at most `limit` streams, which end at `stop`.
    pub(super) fn start(
        limit: usize,
        (engine, feed, statuses): (EngineHandle, LiveFeed, StatusReader),
        own: Arc<SidecarMetrics>,
        clock: &Clock,
        stop: &CancellationToken,
        supervisor: &Supervisor,
    ) -> anyhow::Result<(Self, StreamHub)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Two processes may start within a millisecond.
        let start = format!("{:x}{:04x}", clock.wall().as_millis(), fastrand::u16(..));
        let hub = StreamHub::new(limit, &start, (feed.clone(), statuses), own, runtime.handle().clone(), stop.clone());
        let (publisher, thread_stop) = (hub.clone(), CancellationToken::new());
        let (ended, done) = oneshot::channel::<()>();
        let (thread, guard) = (supervisor.watch("stream thread"), supervisor.watch("stream publisher"));
        let stopped = thread_stop.clone();
        let work = move || {
            let _thread = thread;
            runtime.block_on(async {
                let publishing = tokio::spawn(async move {
                    let _guard = guard;
                    publisher.publish_changes(engine, feed).await;
                });
                stopped.cancelled().await;
                drop(publishing.await);
            });
            runtime.shutdown_background();
            drop(ended);
        };
        std::thread::Builder::new().name("streams".to_owned()).spawn(work).context("start the thread of streams")?;
        Ok((Self { stop: thread_stop, done }, hub))
    }

    /// Stops the thread and waits for it.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        // The supervisor reports a panic.
        drop(self.done.await);
    }
}
