//! Spans into ClickHouse, in the schema of the OpenTelemetry collector's exporter, so that its queries and dashboards work.
//!
//! The table may be one that the collector created, of any version: what it has no column for is left out. A batch that is
//! sent again after a lost answer has the same deduplication token, and readers count a span once, whatever the engine of
//! the table keeps.

pub mod client;
pub mod config;
mod rows;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::Mutex;

use super::compress::gzip;
use super::target::{ExportBatch, ExportFuture, ExportTarget, ExportVerdict, ProbeFuture, TargetSpec};
use crate::http_client::ClientError;
use crate::model::Time;
use crate::otlp::Signal;
use crate::otlp::wire::ExportTraceServiceRequest;
use crate::secret::mask;
use client::{ClickHouse, ClickHouseError, ErrorClass};
use config::ClickHouseConfig;
use schema::TraceColumns;

pub use schema::TraceTable;

/// Most bytes of a batch, as protobuf; rows are about three times as large.
const MAX_REQUEST: usize = 4 << 20;
/// Rows from which an insert makes a part of its own; smaller ones are collected by the server.
const SMALL_INSERT: usize = 1_000;
/// How long the columns of the table are remembered.
const COLUMNS_FOR: Duration = Duration::from_secs(600);

/// The target `export.clickhouse`.
pub(super) fn target(config: &ClickHouseConfig) -> Result<TargetSpec, ClientError> {
    let transport = ClickHouseTarget {
        client: ClickHouse::new(config)?,
        table: TraceTable::new(config),
        create_tables: config.create_tables,
        columns: Mutex::new(None),
    };
    Ok(TargetSpec {
        name: "clickhouse",
        address: mask::url(&config.url).into_owned(),
        signals: vec![Signal::Traces],
        content: config.content,
        is_annotated: true,
        max_spool: config.max_spool,
        max_age: config.max_age,
        max_request: MAX_REQUEST,
        transport: Arc::new(transport),
    })
}

/// Inserts spans.
#[derive(Debug)]
struct ClickHouseTarget {
    client: ClickHouse,
    table: TraceTable,
    create_tables: bool,
    /// The columns of the table, and when they were read.
    columns: Mutex<Option<(Time, Arc<TraceColumns>)>>,
}

impl ClickHouseTarget {
    async fn columns(&self, now: Time) -> Result<Arc<TraceColumns>, ClickHouseError> {
        let mut known = self.columns.lock().await;
        if let Some((_, columns)) = known.as_ref().filter(|(read_at, _)| now.since(*read_at) < COLUMNS_FOR) {
            return Ok(Arc::clone(columns));
        }
        let columns = Arc::new(self.table.prepare(&self.client, self.create_tables).await?);
        *known = Some((now, Arc::clone(&columns)));
        Ok(columns)
    }

    async fn try_send(&self, now: Time, batch: &ExportBatch) -> Result<(), ClickHouseError> {
        let request = ExportTraceServiceRequest::decode(&*batch.body)
            .map_err(|_| ClickHouseError::refused("the batch in the spool is damaged".to_owned()))?;
        let columns = self.columns(now).await?;
        let (body, rows) = rows::json_rows(&request, &columns);
        let mut settings = vec![("wait_end_of_query", "1".to_owned())];
        if rows < SMALL_INSERT {
            settings.extend([("async_insert", "1".to_owned()), ("wait_for_async_insert", "1".to_owned())]);
        } else {
            settings.push(("insert_deduplication_token", batch.key.clone()));
        }
        let statement = self.table.insert(&columns);
        self.client.insert(&statement, &settings, gzip(&body)).await
    }
}

impl ClickHouseTarget {
    async fn try_out(&self) -> Result<String, ClickHouseError> {
        self.client.query("SELECT 1", &[], &[], 1024).await?;
        let columns = match self.table.prepare(&self.client, false).await {
            Err(error) if error.is_missing() && self.create_tables => {
                return Ok(format!("takes traces once it is created: the table {} is missing", self.table.name()));
            }
            described => described?,
        };
        self.client.insert_nothing(&self.table.insert(&columns)).await?;
        let missing = columns.missing();
        let without = if missing.is_empty() { String::new() } else { format!(", without {}", missing.join(", ")) };
        Ok(format!("takes traces into {}{without}", self.table.name()))
    }
}

impl ExportTarget for ClickHouseTarget {
    fn probe(&self, _: Time, _: Signal) -> ProbeFuture<'_> {
        Box::pin(async move { self.try_out().await.map_err(|error| error.to_string()) })
    }

    fn send<'a>(&'a self, now: Time, batch: &'a ExportBatch) -> ExportFuture<'a> {
        Box::pin(async move {
            let Err(failed) = self.try_send(now, batch).await else { return ExportVerdict::Delivered };
            let error = failed.to_string();
            match failed.class {
                ErrorClass::Retry => ExportVerdict::Retry { error, after: failed.after },
                ErrorClass::Access => ExportVerdict::Unauthorized { error, after: failed.after },
                ErrorClass::Schema => {
                    // The table was changed or dropped: it is looked at again.
                    *self.columns.lock().await = None;
                    ExportVerdict::Unauthorized { error, after: failed.after }
                }
                ErrorClass::TooLarge => ExportVerdict::TooLarge { error },
                ErrorClass::Refused => ExportVerdict::Refused { error },
            }
        })
    }
}
