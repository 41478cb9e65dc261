//! The shapes of answers that scripts read.

pub(super) mod status;
pub(super) mod telemetry;
pub(super) mod totals;
