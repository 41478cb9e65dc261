//! Logs.

use super::{AnyValue, KeyValue, Resource, Scope};

/// The body of an export of logs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogsRequest {
    /// By producer.
    #[prost(message, repeated, tag = "1")]
    pub resource_logs: Vec<ResourceLogs>,
}

/// The log records of one producer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceLogs {
    /// The producer.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// By library.
    #[prost(message, repeated, tag = "2")]
    pub scope_logs: Vec<ScopeLogs>,
}

/// The log records of one library.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScopeLogs {
    /// The library.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// Its records.
    #[prost(message, repeated, tag = "2")]
    pub log_records: Vec<LogRecord>,
}

/// A log record or event.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogRecord {
    /// When it happened, in nanoseconds; 0 is unknown.
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    /// When it was seen, in nanoseconds.
    #[prost(fixed64, tag = "11")]
    pub observed_time_unix_nano: u64,
    /// From 1, trace, to 24, fatal; 0 is unknown.
    #[prost(int32, tag = "2")]
    pub severity_number: i32,
    /// What it says.
    #[prost(message, optional, tag = "5")]
    pub body: Option<AnyValue>,
    /// What is known of it.
    #[prost(message, repeated, tag = "6")]
    pub attributes: Vec<KeyValue>,
    /// The trace that it belongs to.
    #[prost(bytes = "vec", tag = "9")]
    pub trace_id: Vec<u8>,
    /// The span that it belongs to.
    #[prost(bytes = "vec", tag = "10")]
    pub span_id: Vec<u8>,
    /// Which event it is.
    #[prost(string, tag = "12")]
    pub event_name: String,
}
