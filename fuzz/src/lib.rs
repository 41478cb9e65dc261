//! Shared code of the targets: a sidecar without sockets, and a strict parser of its exposition. No clock and no files: the
//! input alone determines what happens.

pub mod page;
pub mod watch;

use lookout::model::Time;

/// The start time of every input, in milliseconds: later than the times in recorded samples.
pub const BEGIN: i64 = 1_798_761_600_000;

/// The start time of every input.
pub fn begin() -> Time {
    Time::from_millis(BEGIN)
}

/// The bodies of an input, separated by a byte that JSON never contains.
pub fn bodies(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|byte| *byte == 0).take(MAX_BODIES)
}

/// Most bodies of one input.
pub const MAX_BODIES: usize = 12;
