//! OTLP out: to a collector, or to what speaks OTLP as one does.

mod grpc;
mod http;

use std::sync::Arc;

use super::ContentMode;
use super::config::{OtlpExportConfig, OtlpProtocol};
use super::target::{ExportTarget, TargetSpec};
use crate::http_client::ClientError;

/// Collectors take 4 MiB by gRPC and more by HTTP.
const MAX_REQUEST: usize = 2 << 20;

/// The target `export.otlp`.
pub(super) fn target(config: &OtlpExportConfig) -> Result<TargetSpec, ClientError> {
    let transport: Arc<dyn ExportTarget> = match config.protocol {
        OtlpProtocol::HttpProtobuf => Arc::new(http::OtlpHttp::new(config)?),
        OtlpProtocol::Grpc => Arc::new(grpc::OtlpGrpc::new(config)?),
    };
    Ok(TargetSpec {
        name: "otlp",
        signals: config.signals.iter().map(|signal| signal.signal()).collect(),
        content: config.content,
        // What goes on in full goes on as it came.
        is_annotated: config.content == ContentMode::Drop,
        max_spool: config.max_spool,
        max_age: config.max_age,
        max_request: MAX_REQUEST,
        transport,
    })
}
