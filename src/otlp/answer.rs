//! What senders are answered: the response of an export and the status of a refusal, in the request's own encoding.

use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use prost::Message as _;
use serde_json::json;
use tonic::Code;
use tonic_types::pb::Status;

use super::decode::Encoding;
use super::schema::Signal;
use super::taken::Taken;

/// The body that tells what came of an export.
pub fn response(signal: Signal, encoding: Encoding, taken: &Taken) -> Vec<u8> {
    let partial = taken.partial();
    match encoding {
        Encoding::Protobuf => {
            // The answers of all signals are the same on the wire.
            let partial_success = partial.map(|(lost, error_message)| ExportMetricsPartialSuccess {
                rejected_data_points: i64::try_from(lost).unwrap_or(i64::MAX),
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
                Some((lost, message)) => {
                    json!({"partialSuccess": {name: lost.to_string(), "errorMessage": message}})
                }
                None => json!({}),
            };
            body.to_string().into_bytes()
        }
    }
}

/// The body that tells why nothing was taken.
pub fn refusal(encoding: Encoding, code: Code, message: &str) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => {
            Status { code: code as i32, message: message.to_owned(), details: Vec::new() }.encode_to_vec()
        }
        Encoding::Json => json!({"code": code as i32, "message": message}).to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::taken::Reason;
    use super::*;

    #[test]
    fn answers_have_the_bytes_of_the_specification() {
        let mut taken = Taken::all(3);
        taken.reject(Reason::Duplicate, 2);
        assert_eq!(response(Signal::Metrics, Encoding::Protobuf, &taken), b"", "what was sent before is not lost");
        assert_eq!(response(Signal::Metrics, Encoding::Json, &taken), b"{}");
        taken.reject(Reason::Stale, 2);
        let json = br#"{"partialSuccess":{"errorMessage":"2 older than what is known of their streams","rejectedDataPoints":"2"}}"#;
        assert_eq!(response(Signal::Metrics, Encoding::Json, &taken), json);
        let told = b"2 older than what is known of their streams";
        let expected = [&[0x0a, 4 + told.len() as u8, 0x08, 2, 0x12, told.len() as u8][..], told].concat();
        assert_eq!(response(Signal::Metrics, Encoding::Protobuf, &taken), expected);
    }

    #[test]
    fn refusals_are_statuses() {
        assert_eq!(refusal(Encoding::Protobuf, Code::InvalidArgument, "no"), [0x08, 3, 0x12, 2, b'n', b'o']);
        assert_eq!(refusal(Encoding::Json, Code::Unavailable, "no"), br#"{"code":14,"message":"no"}"#);
    }
}
