//! Exports in protobuf, framed as over gRPC or not: from the body to the exposition.
//!
//! An input is a sequence of exports, each after the four bytes of [`NEXT`] and one byte of flags.

#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lookout::otlp::{Encoding, ExportOutcome, OtlpConfig, OtlpRequest, Signal, StreamTable, decode, response};
use lookout::profiles::Profiles;
use lookout::server::grpc_message;
use lookout_fuzz::watch::Watch;
use lookout_fuzz::{MAX_BODIES, begin};

/// The separator of exports.
const NEXT: [u8; 4] = *b"\xfe\xed\xfa\xce";
/// The largest body after decompression.
const LIMIT: usize = 64 * 1024;
/// Most series: few enough that an input can reach the cap.
const STREAMS: usize = 300;

fuzz_target!(|input: &[u8]| {
    let config = OtlpConfig { max_series: STREAMS, max_series_per_metric: STREAMS / 2, ..OtlpConfig::default() };
    let (mut table, mut profiles) = (StreamTable::new(7, &config), Profiles::new(begin(), &config));
    let mut watch = Watch::new(input.len() % 2 == 0);
    let mut rest = input;
    for _ in 0..MAX_BODIES {
        let Some((flags, after)) = rest.strip_prefix(&NEXT[..]).and_then(<[u8]>::split_first) else { break };
        let end = after.windows(NEXT.len()).position(|four| four == NEXT).unwrap_or(after.len());
        let (body, next) = after.split_at(end);
        rest = next;
        if flags & 8 != 0 {
            watch.wait(Duration::from_secs(40));
        }
        let Some(request) = read(*flags, body) else { continue };
        let outcome = match &request {
            OtlpRequest::Metrics(metrics) => table.apply(watch.now, metrics),
            OtlpRequest::Traces(_) | OtlpRequest::Logs(_) => ExportOutcome::all_accepted(request.items()),
        };
        let rejected: u64 = outcome.rejected().map(|(_, count)| count).sum();
        assert_eq!(outcome.accepted + rejected, request.items(), "each item is accepted or rejected");
        assert!(!response(Signal::Metrics, Encoding::Json, &outcome).is_empty());
        assert!(table.streams() <= STREAMS, "past the cap");
        let agents = profiles.extract(watch.now, &request);
        watch.fleet.telemetry(watch.now, &agents);
        watch.evaluate();
        watch.show(&table.snapshot(watch.now));
    }
    // Long after the last export.
    table.expire(watch.now.plus(config.forget_after * 2));
    assert_eq!(table.streams(), 0, "idle streams expire");
    watch.forget_counts();
    watch.show(&table.snapshot(watch.now));
});

/// The export of `body`, by its flags.
fn read(flags: u8, body: &[u8]) -> Option<OtlpRequest> {
    let signal = *Signal::ALL.get(usize::from(flags & 3))?;
    let (is_gzip, body) = if flags & 16 == 0 {
        (flags & 4 != 0, Bytes::copy_from_slice(body))
    } else {
        grpc_message(Bytes::copy_from_slice(body), flags & 4 != 0).ok()?
    };
    decode(signal, Encoding::Protobuf, is_gzip, &body, LIMIT).ok()
}
