//! The exposition of `/metrics`: metric names and help, the fleet's families, the sidecar's own metrics, metrics received
//! by OTLP, and the two text formats.
//!
//! Keeps no state of the fleet: its series are written from the snapshot, so a removed agent leaves no stale series.

mod fleet;
mod format;
pub mod names;
mod own;
pub mod page;
mod series;
mod telemetry;
#[cfg(test)]
mod tests;

pub use fleet::write_fleet;
pub use names::{FAMILIES, FamilyKind, FamilySpec};
pub use own::{ExportFigures, SidecarMetrics};
pub use page::{ExpositionFormat, ExpositionPage};
