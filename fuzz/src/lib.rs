//! What the targets have in common: a sidecar's memory without its sockets, and a reader of its page.
//!
//! Owns what must hold whatever came in. Refuses clocks and files: an input alone decides what happens.

pub mod page;
pub mod watch;

use lookout::model::Time;

/// When every input begins, in milliseconds: after the times that recorded samples say.
pub const BEGIN: i64 = 1_798_761_600_000;

/// The time at which every input begins.
pub fn begin() -> Time {
    Time::from_millis(BEGIN)
}

/// The parts of an input that stand for bodies sent one after the other; JSON never holds the byte between them.
pub fn bodies(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|byte| *byte == 0).take(MOST_BODIES)
}

/// So many bodies of one input are looked at.
pub const MOST_BODIES: usize = 12;
