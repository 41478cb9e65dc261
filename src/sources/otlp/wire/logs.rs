//! Logs.

use serde::{Deserialize, Deserializer};

use super::{AnyValue, KeyValue, Resource, Scope, json};

/// The body of an export of logs.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LogsRequest {
    /// By producer.
    #[prost(message, repeated, tag = "1")]
    #[serde(alias = "resource_logs", deserialize_with = "json::or_default")]
    pub resource_logs: Vec<ResourceLogs>,
}

/// The log records of one producer.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourceLogs {
    /// The producer.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// By library.
    #[prost(message, repeated, tag = "2")]
    #[serde(alias = "scope_logs", deserialize_with = "json::or_default")]
    pub scope_logs: Vec<ScopeLogs>,
}

/// The log records of one library.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ScopeLogs {
    /// The library.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// Its records.
    #[prost(message, repeated, tag = "2")]
    #[serde(alias = "log_records", deserialize_with = "json::or_default")]
    pub log_records: Vec<LogRecord>,
}

/// A log record or event.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LogRecord {
    /// When it happened, in nanoseconds; 0 is unknown.
    #[prost(fixed64, tag = "1")]
    #[serde(alias = "time_unix_nano", deserialize_with = "json::loose")]
    pub time_unix_nano: u64,
    /// When it was seen, in nanoseconds.
    #[prost(fixed64, tag = "11")]
    #[serde(alias = "observed_time_unix_nano", deserialize_with = "json::loose")]
    pub observed_time_unix_nano: u64,
    /// From 1, trace, to 24, fatal; 0 is unknown.
    #[prost(int32, tag = "2")]
    #[serde(alias = "severity_number", deserialize_with = "severity")]
    pub severity_number: i32,
    /// What it says.
    #[prost(message, optional, tag = "5")]
    pub body: Option<AnyValue>,
    /// What is known of it.
    #[prost(message, repeated, tag = "6")]
    #[serde(deserialize_with = "json::or_default")]
    pub attributes: Vec<KeyValue>,
    /// The trace that it belongs to.
    #[prost(bytes = "vec", tag = "9")]
    #[serde(alias = "trace_id", deserialize_with = "json::hex")]
    pub trace_id: Vec<u8>,
    /// The span that it belongs to.
    #[prost(bytes = "vec", tag = "10")]
    #[serde(alias = "span_id", deserialize_with = "json::hex")]
    pub span_id: Vec<u8>,
    /// Which event it is.
    #[prost(string, tag = "12")]
    #[serde(alias = "event_name", deserialize_with = "json::or_default")]
    pub event_name: String,
}

fn severity<'de, D: Deserializer<'de>>(input: D) -> Result<i32, D::Error> {
    json::word(input, &["SEVERITY_NUMBER_UNSPECIFIED"])
}
