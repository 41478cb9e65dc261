//! OTLP out: to a collector, or to what speaks OTLP as one does.

mod grpc;
mod http;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use prost::Message as _;
use reqwest::header::HeaderMap;

use super::ContentMode;
use super::common::{address, header, headers_of_file, unreachable};
use super::config::{Compression, OtlpExportConfig, OtlpProtocol};
use super::target::{ExportTarget, ExportVerdict, TargetSpec};
use crate::http_client::{self, ClientError};
use crate::otlp::wire::ExportTraceServiceResponse;
use crate::secret::{Secret, SecretSource, SecretUrl, mask};
use crate::text::clean;

/// Collectors take 4 MiB by gRPC and more by HTTP.
const MAX_REQUEST: usize = 2 << 20;
/// Most of an answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest message of a target that is repeated, in bytes.
const MAX_MESSAGE: usize = 200;

/// The target `export.otlp`.
pub(super) fn target(config: &OtlpExportConfig) -> Result<TargetSpec, ClientError> {
    let client = match config.protocol {
        OtlpProtocol::HttpProtobuf => http_client::build(config.timeout, config.ca_file.as_deref())?,
        OtlpProtocol::Grpc => http_client::build_http2(config.timeout, config.ca_file.as_deref())?,
    };
    let peer = OtlpPeer {
        client,
        endpoint: config.endpoint.clone(),
        headers: Headers { given: config.headers.clone(), file: config.headers_file.clone() },
        compression: config.compression,
    };
    let transport: Arc<dyn ExportTarget> = match config.protocol {
        OtlpProtocol::HttpProtobuf => Arc::new(http::OtlpHttp(peer)),
        OtlpProtocol::Grpc => Arc::new(grpc::OtlpGrpc(peer)),
    };
    Ok(TargetSpec {
        name: "otlp",
        address: mask::url(&config.endpoint).into_owned(),
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

/// Who is sent to, and with what.
#[derive(Debug)]
struct OtlpPeer {
    client: reqwest::Client,
    endpoint: SecretUrl,
    headers: Headers,
    compression: Compression,
}

/// A request to be sent.
struct OtlpCall {
    url: reqwest::Url,
    /// The host, for messages.
    host: String,
    headers: HeaderMap,
}

impl OtlpPeer {
    /// A request to the endpoint with `path` appended, with the headers as they are now.
    async fn call(&self, path: &str) -> Result<OtlpCall, ExportVerdict> {
        let retry = |error: String| ExportVerdict::Retry { error, after: None };
        let mut url = address(&self.endpoint).map_err(|error| retry(format!("endpoint {error}")))?;
        let path = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let host = url.host_str().unwrap_or_default().to_owned();
        Ok(OtlpCall { url, host, headers: self.headers.read().await.map_err(retry)? })
    }

    async fn post(&self, call: OtlpCall, body: impl Into<reqwest::Body>) -> Result<reqwest::Response, ExportVerdict> {
        let OtlpCall { url, host, headers } = call;
        let sent = self.client.post(url).headers(headers).body(body).send().await;
        sent.map_err(|error| ExportVerdict::Retry { error: unreachable(&host, "endpoint", error), after: None })
    }
}

/// Headers of each request.
#[derive(Clone, Debug)]
struct Headers {
    given: BTreeMap<String, Secret>,
    file: Option<PathBuf>,
}

impl Headers {
    /// The headers as they are now. The error names the file or the header, and no value.
    async fn read(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.given {
            let (name, value) = header(name, value.expose())?;
            headers.insert(name, value);
        }
        let Some(path) = &self.file else { return Ok(headers) };
        let text = SecretSource::File(path.clone()).read().await.map_err(|error| error.in_full())?;
        headers.extend(headers_of_file(path, &text)?);
        Ok(headers)
    }
}

/// What the body of a success says. Other bodies than a response of OTLP are those of servers that are content with a status.
fn taken(body: &[u8]) -> ExportVerdict {
    // The responses of all signals are alike: a partial success with a number and a message.
    let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|response| response.partial_success);
    match partial {
        Some(partial) if partial.rejected_spans != 0 || !partial.error_message.is_empty() => {
            ExportVerdict::PartlyRejected {
                items: u64::try_from(partial.rejected_spans).unwrap_or(0),
                message: clean(&partial.error_message, MAX_MESSAGE).into_owned(),
            }
        }
        _ => ExportVerdict::Delivered,
    }
}
