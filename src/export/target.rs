//! The seam between the spool and a system that takes batches.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::common::ContentMode;
use crate::model::Time;
use crate::otlp::Signal;

/// A batch that is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportBatch {
    /// The signal: the body is an `ExportTraceServiceRequest`, `ExportMetricsServiceRequest` or `ExportLogsServiceRequest`.
    pub signal: Signal,
    /// The request, encoded as protobuf.
    pub body: Vec<u8>,
    /// Number of spans, data points or log records in it.
    pub items: u64,
    /// When the oldest of it came.
    pub at: Time,
    /// The same whenever the same batch is sent again, and used by no other.
    pub key: String,
}

/// What the target made of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportVerdict {
    /// It took all of it.
    Delivered,
    /// It took it, but rejected so many items for good.
    PartlyRejected {
        /// How many; zero for a mere warning.
        items: u64,
        /// Why, in the target's words.
        message: String,
    },
    /// It may take it later: it can't be reached or has too much to do.
    Retry {
        /// What happened, with the host and no secret.
        error: String,
        /// The pause that it asks for.
        after: Option<Duration>,
    },
    /// It refuses the sender rather than the batch: credentials or the address are wrong. Tried for an hour, as they may be
    /// corrected meanwhile.
    Unauthorized {
        /// What happened and the remedy, with the host and no secret.
        error: String,
        /// The pause that it asks for.
        after: Option<Duration>,
    },
    /// It takes less at a time.
    TooLarge {
        /// What happened, with the host and no secret.
        error: String,
    },
    /// It will never take it.
    Refused {
        /// What happened and the remedy, with the host and no secret.
        error: String,
    },
}

/// The future of sending one batch.
pub type ExportFuture<'a> = Pin<Box<dyn Future<Output = ExportVerdict> + Send + 'a>>;

/// The future of trying a target: what it takes, else what is wrong and the remedy, without a secret.
pub type ProbeFuture<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

/// Sends batches to one system.
pub trait ExportTarget: fmt::Debug + Send + Sync {
    /// Sends a batch. Must end by itself, with a time limit of its own.
    fn send<'a>(&'a self, now: Time, batch: &'a ExportBatch) -> ExportFuture<'a>;

    /// Tries whether it would take a signal, and changes nothing there: by a request without items.
    fn probe(&self, now: Time, signal: Signal) -> ProbeFuture<'_> {
        Box::pin(async move {
            let batch = ExportBatch { signal, body: Vec::new(), items: 0, at: now, key: String::new() };
            match self.send(now, &batch).await {
                ExportVerdict::Delivered | ExportVerdict::PartlyRejected { .. } => {
                    Ok(format!("takes {}", signal.as_str()))
                }
                ExportVerdict::Retry { error, .. }
                | ExportVerdict::Unauthorized { error, .. }
                | ExportVerdict::TooLarge { error }
                | ExportVerdict::Refused { error } => Err(error),
            }
        })
    }
}

/// A configured target.
#[derive(Clone, Debug)]
pub struct TargetSpec {
    /// Its name in the spool, in metrics and in messages: its key in the section `export`.
    pub name: &'static str,
    /// Its address for people, without secrets.
    pub address: String,
    /// What it gets.
    pub signals: Vec<Signal>,
    /// Whether content is dropped before the spool.
    pub content: ContentMode,
    /// Whether spans get attributes with the ids of their agent and of their run, see [`super::SpanNote`].
    pub is_annotated: bool,
    /// Most bytes that wait for it in the spool; beyond it the oldest are dropped.
    pub max_spool: u64,
    /// What waits longer is dropped.
    pub max_age: Duration,
    /// Most bytes of a request before compression; batches are joined up to that.
    pub max_request: usize,
    /// Sends.
    pub transport: Arc<dyn ExportTarget>,
}
