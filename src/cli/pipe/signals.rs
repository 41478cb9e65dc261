//! Signals that go to the agent as well, whose last words are waited for: SIGINT ends this program only when it comes
//! twice, SIGTERM after a while, SIGHUP never.
//!
//! That one came is noted by its handler itself, so that it is known before the end of the stream that it led to. Those
//! that are ignored when this program starts, as those of whoever runs in the background or under `nohup`, stay
//! ignored: the agent ignores them, too, and would die when nobody reads it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

/// How long after SIGTERM the stream may go on; agents write their last words in that time.
const GRACE: Duration = Duration::from_secs(5);
/// So long after the end of a stream a signal is taken for its cause: who sends one to several programs may reach the
/// agent first.
const LATE: Duration = Duration::from_millis(50);
/// How often that is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// Which signals are heeded, and whether one of them came.
#[derive(Clone, Debug)]
pub(super) struct Signals {
    came: Arc<AtomicBool>,
    interrupt: bool,
    terminate: bool,
}

impl Signals {
    /// Heeds signals from now on.
    pub(super) fn heed() -> anyhow::Result<Self> {
        let ignored = ignored();
        let is_heeded = |signal: i32| ignored & (1 << (signal - 1)) == 0;
        let came = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| is_heeded(*signal)) {
            signal_hook::flag::register(signal, Arc::clone(&came)).context("heed signals")?;
        }
        Ok(Self { came, interrupt: is_heeded(SIGINT), terminate: is_heeded(SIGTERM) })
    }

    /// Whether one came, or comes so soon that it is why the stream is over.
    pub(super) fn ended_the_stream(&self) -> bool {
        let mut waited = Duration::ZERO;
        while !self.came.load(Ordering::SeqCst) {
            if waited >= LATE {
                return false;
            }
            thread::sleep(LOOK);
            waited += LOOK;
        }
        true
    }

    /// The exit code of this program, once a signal is to end it before the stream does.
    pub(super) async fn exit_code(self) -> anyhow::Result<u8> {
        let listen = |is_heeded: bool, kind| is_heeded.then(|| signal(kind)).transpose();
        let mut interrupt = listen(self.interrupt, SignalKind::interrupt()).context("heed SIGINT")?;
        let mut terminate = listen(self.terminate, SignalKind::terminate()).context("heed SIGTERM")?;
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

/// The signals that are ignored, a bit each, the lowest for the first; none where that can't be read.
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
