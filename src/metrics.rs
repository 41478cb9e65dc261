//! The page that Prometheus scrapes: the fleet's families straight from the snapshot, and the sidecar's own.
//!
//! Owns names, formats and compression. Refuses to keep state of the fleet: an agent that is gone from the
//! snapshot is gone from the page.

mod agents;
mod fleet;
pub mod names;
mod own;
pub mod page;
mod process;
mod writer;

#[cfg(test)]
mod tests;

pub use own::Own;
pub use page::{Format, Page};
