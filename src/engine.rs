//! The one loop: an event comes in, fleet → rules → alerts, effects go out; it owns the mutable state.

pub mod handle;
pub mod view;

pub use handle::{Accepted, AlertFilter, Handle, IngestError, Stopped};
pub use view::{AlertView, ReceiverView, View};
