//! Exports in JSON against the same ones in protobuf: ours and the official messages must mean one thing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lookout::otlp::{Encoding, Request, Signal, decode};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

/// The largest body.
const LIMIT: usize = 64 * 1024;

fuzz_target!(|input: &[u8]| {
    let Some((say, body)) = input.split_first() else { return };
    let Some(signal) = Signal::ALL.get(usize::from(say & 3)).copied() else { return };
    if say & 4 == 0 {
        let Ok(read) = decode(signal, Encoding::Json, false, body, LIMIT) else { return };
        let written = bytes(&read);
        // What was read of the JSON is a message like any other.
        let again = decode(signal, Encoding::Protobuf, false, &written, usize::MAX).expect("our own protobuf");
        assert_eq!(bytes(&again), written);
        assert_eq!(again.items(), read.items());
    } else {
        let Ok(ours) = decode(signal, Encoding::Protobuf, false, body, LIMIT) else { return };
        let Some(json) = official(signal, body) else { return };
        // Numbers that JSON has no words for are null where the official structs write it.
        if ["NaN", "inf"].iter().any(|word| plain(&ours).contains(word)) {
            return;
        }
        let read = match decode(signal, Encoding::Json, false, json.as_bytes(), usize::MAX / 16) {
            Ok(read) => read,
            Err(error) => panic!("{error}\n{json}"),
        };
        assert_eq!(plain(&read), plain(&ours), "{json}");
    }
});

/// The message as the official structs write it in JSON; none when they do not read it.
fn official(signal: Signal, body: &[u8]) -> Option<String> {
    let json = match signal {
        Signal::Metrics => serde_json::to_string(&ExportMetricsServiceRequest::decode(body).ok()?),
        Signal::Traces => serde_json::to_string(&ExportTraceServiceRequest::decode(body).ok()?),
        Signal::Logs => serde_json::to_string(&ExportLogsServiceRequest::decode(body).ok()?),
    };
    json.ok()
}

fn bytes(request: &Request) -> Vec<u8> {
    match request {
        Request::Metrics(request) => request.encode_to_vec(),
        Request::Traces(request) => request.encode_to_vec(),
        Request::Logs(request) => request.encode_to_vec(),
    }
}

/// A request in words.
fn plain(request: &Request) -> String {
    format!("{request:?}")
}
