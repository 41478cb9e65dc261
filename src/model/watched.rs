//! What of the sidecar itself rules can look at: its receivers, its clockwork and its store.

use super::{Signal, Subject, Time};

/// The value of a signal of the sidecar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gauge {
    /// Seconds since then; nothing is wrong when there is no such time.
    Since(Option<Time>),
    /// A value.
    Value(f64),
}

/// One part of the sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// The part: a receiver, or the sidecar as a whole.
    pub subject: Subject,
    /// Its signals.
    pub gauges: Vec<(Signal, Gauge)>,
}

impl Watched {
    /// The value of `signal`, if the part has it.
    pub fn gauge(&self, signal: Signal) -> Option<Gauge> {
        self.gauges.iter().find(|(known, _)| *known == signal).map(|(_, gauge)| *gauge)
    }
}
