//! The body of the response to an export: partial success or error, in the encoding of the request.

use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use prost::Message as _;
use serde_json::json;
use tonic::Code;
use tonic_types::pb::Status;

use super::decode::Encoding;
use super::outcome::ExportOutcome;
use super::schema::Signal;

/// The body of the response to an export that was decoded: the partial success, if any.
pub fn response(signal: Signal, encoding: Encoding, outcome: &ExportOutcome) -> Vec<u8> {
    let partial = outcome.partial_success();
    match encoding {
        Encoding::Protobuf => {
            // The responses of all signals are the same on the wire.
            let partial_success = partial.map(|(rejected, error_message)| ExportMetricsPartialSuccess {
                rejected_data_points: i64::try_from(rejected).unwrap_or(i64::MAX),
                error_message,
            });
            ExportMetricsServiceResponse { partial_success }.encode_to_vec()
        }
        Encoding::Json => {
            let name = match signal {
                Signal::Metrics => "rejectedDataPoints",
                Signal::Traces => "rejectedSpans",
                Signal::Logs => "rejectedLogRecords",
            };
            let body = match partial {
                // An int64 is text in protobuf's JSON.
                Some((rejected, message)) => {
                    json!({"partialSuccess": {name: rejected.to_string(), "errorMessage": message}})
                }
                None => json!({}),
            };
            body.to_string().into_bytes()
        }
    }
}

/// The body of the response to an export that was rejected as a whole: a `google.rpc.Status`.
pub fn error_response(encoding: Encoding, code: Code, message: &str) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => {
            Status { code: code as i32, message: message.to_owned(), details: Vec::new() }.encode_to_vec()
        }
        Encoding::Json => json!({"code": code as i32, "message": message}).to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RejectReason;

    #[test]
    fn responses_have_the_bytes_of_the_specification() {
        let mut outcome = ExportOutcome::all_accepted(3);
        outcome.reject(RejectReason::Duplicate, 2);
        assert_eq!(response(Signal::Metrics, Encoding::Protobuf, &outcome), b"", "a duplicate is not lost");
        assert_eq!(response(Signal::Metrics, Encoding::Json, &outcome), b"{}");
        outcome.reject(RejectReason::Stale, 2);
        let json = br#"{"partialSuccess":{"errorMessage":"2 rejected: older than the last point of their stream","rejectedDataPoints":"2"}}"#;
        assert_eq!(response(Signal::Metrics, Encoding::Json, &outcome), json);
        let message = b"2 rejected: older than the last point of their stream";
        let expected = [&[0x0a, 4 + message.len() as u8, 0x08, 2, 0x12, message.len() as u8][..], message].concat();
        assert_eq!(response(Signal::Metrics, Encoding::Protobuf, &outcome), expected);
    }

    #[test]
    fn error_responses_are_grpc_statuses() {
        assert_eq!(error_response(Encoding::Protobuf, Code::InvalidArgument, "no"), [0x08, 3, 0x12, 2, b'n', b'o']);
        assert_eq!(error_response(Encoding::Json, Code::Unavailable, "no"), br#"{"code":14,"message":"no"}"#);
    }
}
