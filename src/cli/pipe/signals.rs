//! Signals: the agent gets them too, and its last output must be passed through. So only a second SIGINT ends this
//! program, SIGTERM ends it after a grace period, and SIGHUP never.
//!
//! A signal is recorded by its handler, so that it is known before the end of the stream that it causes. Signals that
//! are ignored at the start (in the background, under `nohup`) stay ignored: the agent ignores them as well, and would
//! die of SIGPIPE if this program ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

/// Time after SIGTERM in which the agent can finish its output.
const GRACE: Duration = Duration::from_secs(5);
/// A signal this long after the end of the stream still counts as its cause: a signal to the process group may reach
/// the agent first.
const LATE_SIGNAL: Duration = Duration::from_millis(50);
/// The interval of checks for such a signal.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Which signals are handled, and whether one arrived.
#[derive(Clone, Debug)]
pub(super) struct PipeSignals {
    arrived: Arc<AtomicBool>,
    interrupt: bool,
    terminate: bool,
}

impl PipeSignals {
    /// Installs the handlers.
    pub(super) fn install_handlers() -> anyhow::Result<Self> {
        let ignored = ignored();
        let is_handled = |signal: i32| ignored & (1 << (signal - 1)) == 0;
        let arrived = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| is_handled(*signal)) {
            signal_hook::flag::register(signal, Arc::clone(&arrived)).context("handle signals")?;
        }
        Ok(Self { arrived, interrupt: is_handled(SIGINT), terminate: is_handled(SIGTERM) })
    }

    /// Whether a signal arrived before the end of the stream or shortly after, and so caused it.
    pub(super) fn ended_the_stream(&self) -> bool {
        let mut waited = Duration::ZERO;
        while !self.arrived.load(Ordering::SeqCst) {
            if waited >= LATE_SIGNAL {
                return false;
            }
            thread::sleep(CHECK_INTERVAL);
            waited += CHECK_INTERVAL;
        }
        true
    }

    /// Waits until a signal must end this program and returns the exit code.
    pub(super) async fn exit_code(self) -> anyhow::Result<u8> {
        let listen = |is_handled: bool, kind| is_handled.then(|| signal(kind)).transpose();
        let mut interrupt = listen(self.interrupt, SignalKind::interrupt()).context("handle SIGINT")?;
        let mut terminate = listen(self.terminate, SignalKind::terminate()).context("handle SIGTERM")?;
        let (mut is_first, mut deadline) = (true, None);
        loop {
            tokio::select! {
                Some(()) = next(&mut interrupt) => if !std::mem::take(&mut is_first) { return Ok(130) },
                Some(()) = next(&mut terminate) => {
                    deadline.get_or_insert_with(|| Instant::now() + GRACE);
                }
                () = reached(deadline) => return Ok(143),
            }
        }
    }
}

/// The ignored signals as a bit mask, signal 1 in the lowest bit; 0 where it can't be read.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

async fn next(signals: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    match signals {
        Some(signals) => signals.recv().await,
        None => std::future::pending().await,
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
