//! The page that Prometheus scrapes: names, the fleet's families written straight from the snapshot, the
//! sidecar's own metrics, metrics that others measured, and the two text formats.
//!
//! Owns what a scrape says and how it is written. Refuses to keep any state of the fleet: what is not in the
//! snapshot has no series, so nothing can go stale here, and no series carries a timestamp.

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
pub use names::{FAMILIES, Family, Kind};
pub use own::Own;
pub use page::{Format, Page};
