//! All kinds of targets, a line each.

use super::config::ExportConfig;
use super::target::TargetSpec;
use super::{clickhouse, otlp};
use crate::http_client::ClientError;

impl ExportConfig {
    /// The configured targets. Reads `ca_file`s from disk.
    pub fn targets(&self) -> Result<Vec<TargetSpec>, ClientError> {
        let targets = [self.otlp.as_ref().map(otlp::target), self.clickhouse.as_ref().map(clickhouse::target)];
        targets.into_iter().flatten().collect()
    }
}
