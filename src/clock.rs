//! The one source of time: wall-clock time that only moves forward, and a virtual one for tests.
//!
//! Refuses to follow steps of the wall clock: it is read once, and from there on a monotonic clock counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::model::Time;

/// Tells the time. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Real { anchor: Time, started: Instant },
    Virtual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock anchored to the wall clock now.
    #[expect(clippy::disallowed_methods, reason = "this is where time enters the program")]
    pub fn system() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(Kind::Real { anchor: Time::default().plus(wall), started: Instant::now() })
    }

    /// A clock that stands at `at` until [`Clock::advance`].
    pub fn at(at: Time) -> Self {
        Self(Kind::Virtual(Arc::new(AtomicI64::new(at.as_millis()))))
    }

    /// The time now.
    pub fn now(&self) -> Time {
        match &self.0 {
            Kind::Real { anchor, started } => anchor.plus(started.elapsed()),
            Kind::Virtual(millis) => Time::from_millis(millis.load(Ordering::Relaxed)),
        }
    }

    /// Moves a virtual clock forward; a real one moves by itself.
    pub fn advance(&self, by: Duration) {
        if let Kind::Virtual(millis) = &self.0 {
            millis.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// How long from now until `deadline`; zero when it has passed.
    pub fn until(&self, deadline: Time) -> Duration {
        deadline.since(self.now())
    }
}

/// A stopwatch for durations that metrics show.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts it.
    #[expect(clippy::disallowed_methods, reason = "this is where time enters the program")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
