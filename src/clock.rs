//! The one source of time: wall-clock time that only moves forward, and a virtual one for tests.
//!
//! Refuses to follow steps of the wall clock: it is read at the start, and from there on a monotonic clock counts, which
//! stands still while the machine is suspended. What the wall says now is told beside it, for those who read and show
//! the times of others: see [`Wall`].

mod time;
mod wall;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

pub use time::Time;
pub use wall::Wall;

/// Tells the time. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Real { anchor: Time, started: Instant },
    Virtual(Arc<Virtual>),
}

#[derive(Debug)]
struct Virtual {
    now: AtomicI64,
    wall: AtomicI64,
}

impl Clock {
    /// A clock anchored to the wall clock now.
    #[expect(clippy::disallowed_methods, reason = "this is where time enters the program")]
    pub fn system() -> Self {
        Self(Kind::Real { anchor: wall(), started: Instant::now() })
    }

    /// A clock that stands at `at` until [`Clock::advance`].
    pub fn at(at: Time) -> Self {
        let (now, wall) = (AtomicI64::new(at.as_millis()), AtomicI64::new(at.as_millis()));
        Self(Kind::Virtual(Arc::new(Virtual { now, wall })))
    }

    /// The time now.
    pub fn now(&self) -> Time {
        match &self.0 {
            Kind::Real { anchor, started } => anchor.plus(started.elapsed()),
            Kind::Virtual(clock) => Time::from_millis(clock.now.load(Ordering::Relaxed)),
        }
    }

    /// What the wall clock says now.
    pub fn wall(&self) -> Time {
        match &self.0 {
            Kind::Real { .. } => wall(),
            Kind::Virtual(clock) => Time::from_millis(clock.wall.load(Ordering::Relaxed)),
        }
    }

    /// How the wall clock stands to this one, to show times by.
    pub fn skew(&self) -> Wall {
        let mut skew = Wall::default();
        skew.note(self.now(), self.wall());
        skew
    }

    /// Moves a virtual clock forward, and the wall clock with it; a real one moves by itself.
    pub fn advance(&self, by: Duration) {
        if let Kind::Virtual(clock) = &self.0 {
            let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            clock.now.fetch_add(millis, Ordering::Relaxed);
            clock.wall.fetch_add(millis, Ordering::Relaxed);
        }
    }

    /// Sets the wall clock beside a virtual clock; that of a real one is set by others.
    pub fn set_wall(&self, to: Time) {
        if let Kind::Virtual(clock) = &self.0 {
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
