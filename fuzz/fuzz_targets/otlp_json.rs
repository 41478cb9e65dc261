//! Exports in JSON against the same ones in protobuf: our decoder and the official encoder must agree.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lookout::otlp::{Encoding, OtlpRequest, Signal, decode, is_read};
use prost::Message;
use serde_json::Value;

/// The largest body.
const LIMIT: usize = 64 * 1024;

fuzz_target!(|input: &[u8]| {
    let Some((flags, body)) = input.split_first() else { return };
    let Some(signal) = Signal::ALL.get(usize::from(flags & 3)).copied() else { return };
    if flags & 4 == 0 {
        let Ok(read) = decode(signal, Encoding::Json, false, body, LIMIT) else { return };
        let written = bytes(&read);
        // The decoded message must survive a round trip.
        let again = decode(signal, Encoding::Protobuf, false, &written, usize::MAX).expect("our own protobuf");
        assert_eq!(bytes(&again), written);
        assert_eq!(again.items(), read.items());
    } else {
        let Ok(ours) = decode(signal, Encoding::Protobuf, false, body, LIMIT) else { return };
        let words = format!("{ours:?}");
        // The official encoder writes NaN and infinity as null, and we ignore indices into string tables.
        if ["NaN", "inf", "Strindex("].iter().any(|word| words.contains(word)) {
            return;
        }
        let Some(json) = official(&ours) else { return };
        let read = match decode(signal, Encoding::Json, false, json.as_bytes(), usize::MAX / 16) {
            Ok(read) => read,
            Err(error) => panic!("{error}\n{json}"),
        };
        assert_eq!(decoded_fields(&official(&read).expect("JSON")), decoded_fields(&json), "{json}");
    }
});

/// The message as the official structs encode it in JSON.
fn official(request: &OtlpRequest) -> Option<String> {
    let json = match request {
        OtlpRequest::Metrics(request) => serde_json::to_string(request),
        OtlpRequest::Traces(request) => serde_json::to_string(request),
        OtlpRequest::Logs(request) => serde_json::to_string(request),
    };
    json.ok()
}

/// The JSON of a message without the fields that are not decoded.
fn decoded_fields(json: &str) -> Value {
    fn clear(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| is_read(name));
                fields.values_mut().for_each(clear);
            }
            Value::Array(values) => values.iter_mut().for_each(clear),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(json).expect("JSON");
    clear(&mut value);
    value
}

fn bytes(request: &OtlpRequest) -> Vec<u8> {
    match request {
        OtlpRequest::Metrics(request) => request.encode_to_vec(),
        OtlpRequest::Traces(request) => request.encode_to_vec(),
        OtlpRequest::Logs(request) => request.encode_to_vec(),
    }
}
