//! The tables of the OpenTelemetry collector's exporter: created as its newest version does, read as they are.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::client::{ClickHouse, ClickHouseError, UNKNOWN_DATABASE};
use super::config::ClickHouseConfig;

/// The columns that are inserted, in the collector's order.
pub(super) const COLUMNS: [&str; 22] = [
    "Timestamp",
    "TraceId",
    "SpanId",
    "ParentSpanId",
    "TraceState",
    "SpanName",
    "SpanKind",
    "ServiceName",
    "ResourceAttributes",
    "ScopeName",
    "ScopeVersion",
    "SpanAttributes",
    "Duration",
    "StatusCode",
    "StatusMessage",
    "Events.Timestamp",
    "Events.Name",
    "Events.Attributes",
    "Links.TraceId",
    "Links.SpanId",
    "Links.TraceState",
    "Links.Attributes",
];

/// Those without which spans are of no use.
const NEEDED: [&str; 5] = ["Timestamp", "TraceId", "SpanId", "SpanName", "SpanAttributes"];

/// Statements that create the tables; `{}` is the database and the table.
const CREATE: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS {} (
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    ParentSpanId String CODEC(ZSTD(1)),
    TraceState String CODEC(ZSTD(1)),
    SpanName LowCardinality(String) CODEC(ZSTD(1)),
    SpanKind LowCardinality(String) CODEC(ZSTD(1)),
    ServiceName LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion String CODEC(ZSTD(1)),
    SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    Duration UInt64 CODEC(T64, ZSTD(1)),
    StatusCode LowCardinality(String) CODEC(ZSTD(1)),
    StatusMessage String CODEC(ZSTD(1)),
    Events Nested (Timestamp DateTime64(9), Name LowCardinality(String), Attributes Map(LowCardinality(String), String)) CODEC(ZSTD(1)),
    Links Nested (TraceId String, SpanId String, TraceState String, Attributes Map(LowCardinality(String), String)) CODEC(ZSTD(1)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_res_attr_key mapKeys(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_res_attr_value mapValues(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_span_attr_key mapKeys(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_span_attr_value mapValues(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_duration Duration TYPE minmax GRANULARITY 1
) ENGINE = MergeTree()
PARTITION BY toDate(Timestamp)
PRIMARY KEY (ServiceName, SpanName, toDateTime(Timestamp))
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp), Timestamp)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1",
    "CREATE TABLE IF NOT EXISTS {}_trace_id_ts (
    TraceId String CODEC(ZSTD(1)),
    Start SimpleAggregateFunction(min, DateTime) CODEC(ZSTD(1)),
    End SimpleAggregateFunction(max, DateTime) CODEC(ZSTD(1))
) ENGINE = AggregatingMergeTree()
PARTITION BY toStartOfWeek(Start)
ORDER BY (TraceId)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS {}_trace_id_ts_mv TO {}_trace_id_ts
AS SELECT TraceId, min(Timestamp) as Start, max(Timestamp) as End FROM {} WHERE TraceId != '' GROUP BY TraceId",
];

/// Most bytes of a description.
const MAX_DESCRIPTION: usize = 1 << 20;

/// The columns that a table has of [`COLUMNS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceColumns(BTreeSet<&'static str>);

impl TraceColumns {
    /// Whether the table has a column.
    pub fn has(&self, column: &str) -> bool {
        self.0.contains(column)
    }

    /// The columns that the table lacks.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        COLUMNS.into_iter().filter(|column| !self.has(column)).collect()
    }

    /// Whether the table has the words of the exporter's first versions: `SPAN_KIND_INTERNAL`, `STATUS_CODE_OK`.
    pub(super) fn has_old_words(&self) -> bool {
        !self.has("ScopeName")
    }

    #[cfg(test)]
    pub(super) fn of(columns: &[&'static str]) -> Self {
        Self(columns.iter().copied().collect())
    }
}

/// The table of spans.
#[derive(Clone, Debug)]
pub struct TraceTable {
    database: String,
    name: String,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    #[serde(rename = "type")]
    column_type: String,
    #[serde(default)]
    default_type: String,
}

impl TraceTable {
    /// By the configuration, which has checked the names.
    pub fn new(config: &ClickHouseConfig) -> Self {
        Self { database: format!("`{}`", config.database), name: format!("`{}`.`{}`", config.database, config.table) }
    }

    /// The name for statements.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The columns of the table, which is created if it is missing and `create` is set.
    pub async fn prepare(&self, client: &ClickHouse, create: bool) -> Result<TraceColumns, ClickHouseError> {
        match self.describe(client).await {
            Err(error) if create && error.is_missing() => {
                if error.code == Some(UNKNOWN_DATABASE) {
                    let statement = format!("CREATE DATABASE IF NOT EXISTS {}", self.database);
                    client.query(&statement, &[], &[], MAX_DESCRIPTION).await?;
                }
                for statement in self.statements() {
                    client.query(&statement, &[], &[], MAX_DESCRIPTION).await?;
                }
                self.describe(client).await
            }
            described => described,
        }
    }

    fn statements(&self) -> Vec<String> {
        CREATE.iter().map(|statement| self.fill(statement)).collect()
    }

    /// `{}` is the name; `{}_x` that of the table with the suffix `_x`.
    fn fill(&self, statement: &str) -> String {
        let bare = self.name.trim_end_matches('`');
        let mut parts = statement.split("{}");
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(part.len());
            let (suffix, rest) = part.split_at(end);
            filled += &format!("{bare}{suffix}`{rest}");
        }
        filled
    }

    async fn describe(&self, client: &ClickHouse) -> Result<TraceColumns, ClickHouseError> {
        let statement = format!("DESCRIBE TABLE {} FORMAT JSONEachRow", self.name);
        let lines = client.query(&statement, &[], &[], MAX_DESCRIPTION).await?;
        columns(&lines).map_err(|problem| ClickHouseError::schema(format!("the table {} {problem}", self.name)))
    }

    /// The statement that inserts rows.
    pub(super) fn insert(&self, columns: &TraceColumns) -> String {
        let names: Vec<String> =
            COLUMNS.iter().filter(|name| columns.has(name)).map(|name| format!("`{name}`")).collect();
        format!("INSERT INTO {} ({}) FORMAT JSONEachRow", self.name, names.join(", "))
    }
}

/// The columns in the answer of `DESCRIBE TABLE`, or what is wrong with the table.
fn columns(lines: &[u8]) -> Result<TraceColumns, String> {
    let mut found = BTreeSet::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(described) = serde_json::from_slice::<Described>(line) else { continue };
        if described.column_type.starts_with("JSON") || described.column_type.starts_with("Object(") {
            return Err("has columns of the type JSON (`json: true` of the collector's exporter), which are not \
                        supported; name another table in export.clickhouse.table"
                .to_owned());
        }
        let is_computed = matches!(&*described.default_type, "ALIAS" | "MATERIALIZED");
        found.extend(COLUMNS.iter().find(|name| **name == described.name && !is_computed));
    }
    match NEEDED.iter().find(|name| !found.contains(**name)) {
        Some(missing) => Err(format!("has no column {missing}; name another one in export.clickhouse.table")),
        None => Ok(TraceColumns(found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(columns: &[(&str, &str)]) -> Vec<u8> {
        let line = |(name, kind): &(&str, &str)| {
            let default = if *kind == "Array(String)" { "ALIAS" } else { "" };
            format!("{}\n", serde_json::json!({"name": name, "type": kind, "default_type": default}))
        };
        columns.iter().map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn only_the_columns_that_a_table_has_are_inserted() {
        let old = [
            ("Timestamp", "DateTime64(9)"),
            ("TraceId", "String"),
            ("SpanId", "String"),
            ("SpanName", "LowCardinality(String)"),
            ("SpanAttributes", "Map(LowCardinality(String), String)"),
            ("Duration", "Int64"),
            ("SpanAttributeItems", "Array(String)"),
            ("Mine", "String"),
        ];
        let found = columns(&described(&old)).expect("a table");
        assert!(found.has_old_words() && found.has("Duration") && !found.has("Mine"));
        let config = ClickHouseConfig { database: "otel".to_owned(), ..ClickHouseConfig::default() };
        let table = TraceTable::new(&config);
        assert_eq!(
            table.insert(&found),
            "INSERT INTO `otel`.`otel_traces` (`Timestamp`, `TraceId`, `SpanId`, `SpanName`, `SpanAttributes`, `Duration`) \
             FORMAT JSONEachRow"
        );
        let error = columns(&described(&old[..3])).expect_err("no spans");
        assert!(error.contains("no column SpanName"), "{error}");
        let error = columns(&described(&[("SpanAttributes", "JSON")])).expect_err("JSON");
        assert!(error.contains("json: true"), "{error}");
    }

    #[test]
    fn statements_name_all_three_tables() {
        let statements = TraceTable::new(&ClickHouseConfig::default()).statements();
        assert!(statements[0].starts_with("CREATE TABLE IF NOT EXISTS `default`.`otel_traces` ("));
        assert!(statements[1].starts_with("CREATE TABLE IF NOT EXISTS `default`.`otel_traces_trace_id_ts` ("));
        let view = "CREATE MATERIALIZED VIEW IF NOT EXISTS `default`.`otel_traces_trace_id_ts_mv` TO \
                    `default`.`otel_traces_trace_id_ts`";
        assert!(statements[2].starts_with(view) && statements[2].contains("FROM `default`.`otel_traces` WHERE"));
    }
}
