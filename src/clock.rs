//! The one source of time: a clock that never steps back, and a virtual one for tests.
//!
//! The wall clock is read once at the start; from then on a monotonic clock counts, which stops while the machine is
//! suspended. So timers never follow a step of the wall clock. Times that other programs report or that people read are
//! converted by [`WallClock`].

mod time;
mod wall;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

pub use time::Time;
pub use wall::WallClock;

/// The program's clock. Cheap to clone and to read.
#[derive(Clone, Debug)]
pub struct Clock(ClockKind);

#[derive(Clone, Debug)]
enum ClockKind {
    Real { anchor: Time, started: Instant },
    Virtual(Arc<VirtualClock>),
}

#[derive(Debug)]
struct VirtualClock {
    now: AtomicI64,
    wall: AtomicI64,
}

impl Clock {
    /// A clock anchored to the wall clock now.
    #[expect(clippy::disallowed_methods, reason = "this is where time enters the program")]
    pub fn system() -> Self {
        Self(ClockKind::Real { anchor: wall(), started: Instant::now() })
    }

    /// A virtual clock that shows `at` until [`Clock::advance`] is called.
    pub fn at(at: Time) -> Self {
        let (now, wall) = (AtomicI64::new(at.as_millis()), AtomicI64::new(at.as_millis()));
        Self(ClockKind::Virtual(Arc::new(VirtualClock { now, wall })))
    }

    /// The current time by this clock, unaffected by steps of the wall clock.
    pub fn now(&self) -> Time {
        match &self.0 {
            ClockKind::Real { anchor, started } => anchor.plus(started.elapsed()),
            ClockKind::Virtual(clock) => Time::from_millis(clock.now.load(Ordering::Relaxed)),
        }
    }

    /// The current time by the wall clock.
    pub fn wall(&self) -> Time {
        match &self.0 {
            ClockKind::Real { .. } => wall(),
            ClockKind::Virtual(clock) => Time::from_millis(clock.wall.load(Ordering::Relaxed)),
        }
    }

    /// The current offset of the wall clock, for converting times that are shown to people.
    pub fn wall_clock(&self) -> WallClock {
        let mut wall_clock = WallClock::default();
        wall_clock.observe(self.now(), self.wall());
        wall_clock
    }

    /// Moves a virtual clock and its wall clock forward; does nothing to a real one.
    pub fn advance(&self, by: Duration) {
        if let ClockKind::Virtual(clock) = &self.0 {
            let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            clock.now.fetch_add(millis, Ordering::Relaxed);
            clock.wall.fetch_add(millis, Ordering::Relaxed);
        }
    }

    /// Sets the wall clock of a virtual clock; does nothing to a real one.
    pub fn set_wall(&self, to: Time) {
        if let ClockKind::Virtual(clock) = &self.0 {
            clock.wall.store(to.as_millis(), Ordering::Relaxed);
        }
    }

    /// How long from now until `deadline`; zero when it has passed.
    pub fn until(&self, deadline: Time) -> Duration {
        deadline.since(self.now())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where time enters the program")]
fn wall() -> Time {
    Time::default().plus(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// A stopwatch for durations that are exported as metrics.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// A stopwatch that starts now.
    #[expect(clippy::disallowed_methods, reason = "this is where time enters the program")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
