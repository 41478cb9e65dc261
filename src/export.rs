//! What leaves for other systems: telemetry that came in goes on, and runs that no telemetry reported are sent as spans.
//!
//! A thread strips requests of content, encodes them and writes them to a spool on disk, one copy per target and signal.
//! A second thread sends them: in order, until the target gave its verdict, so that everything arrives at least once.
//! Neither ever delays what comes in; what is too much is dropped and counted.
//!
//! A new target is a file here with an [`ExportTarget`], and a line in `targets`.

mod batch;
pub mod clickhouse;
mod common;
mod compress;
pub mod config;
mod content;
mod counters;
mod handle;
mod instance;
mod otlp;
mod pace;
mod sender;
pub mod spans;
mod spooler;
mod target;
mod targets;

pub use common::ContentMode;
pub use config::ExportConfig;
pub use counters::{DropReason, ExportCounters, LaneCounters};
pub use handle::ExportHandle;
pub use spans::{SpanNote, TraceExport};
pub use target::{ExportBatch, ExportFuture, ExportTarget, ExportVerdict, ProbeFuture, TargetSpec};
