//! Exports in protobuf, framed as over gRPC or not: from the body to the page.
//!
//! An input is a row of exports, each after the four bytes of [`NEXT`] and one that says what it is.

#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lookout::otlp::{Encoding, OtlpConfig, OtlpRequest, Signal, StreamTable, ExportOutcome, decode, response};
use lookout::profiles::Profiles;
use lookout::server::grpc_message;
use lookout_fuzz::watch::Watch;
use lookout_fuzz::{MOST_BODIES, begin};

/// What begins an export; a dictionary knows it.
const NEXT: [u8; 4] = *b"\xfe\xed\xfa\xce";
/// The largest body once it is inflated.
const LIMIT: usize = 64 * 1024;
/// Few enough that an input can reach the cap.
const STREAMS: usize = 300;

fuzz_target!(|input: &[u8]| {
    let config = OtlpConfig { max_series: STREAMS, max_series_per_metric: STREAMS / 2, ..OtlpConfig::default() };
    let (mut table, mut profiles) = (StreamTable::new(7, &config), Profiles::new(begin(), &config));
    let mut watch = Watch::new(input.len() % 2 == 0);
    let mut rest = input;
    for _ in 0..MOST_BODIES {
        let Some((say, after)) = rest.strip_prefix(&NEXT[..]).and_then(<[u8]>::split_first) else { break };
        let end = after.windows(NEXT.len()).position(|four| four == NEXT).unwrap_or(after.len());
        let (body, next) = after.split_at(end);
        rest = next;
        if say & 8 != 0 {
            watch.wait(Duration::from_secs(40));
        }
        let Some(request) = read(*say, body) else { continue };
        let taken = match &request {
            OtlpRequest::Metrics(metrics) => table.apply(watch.now, metrics),
            OtlpRequest::Traces(_) | OtlpRequest::Logs(_) => ExportOutcome::all_accepted(request.items()),
        };
        let rejected: u64 = taken.rejected().map(|(_, count)| count).sum();
        assert_eq!(taken.accepted + rejected, request.items(), "each item is taken or not");
        assert!(!response(Signal::Metrics, Encoding::Json, &taken).is_empty());
        assert!(table.streams() <= STREAMS, "past the cap");
        let said = profiles.extract(watch.now, &request);
        watch.fleet.telemetry(watch.now, &said);
        watch.judge();
        watch.show(&table.snapshot(watch.now));
    }
    // What was sent last is long ago.
    table.expire(watch.now.plus(config.forget_after * 2));
    assert_eq!(table.streams(), 0, "what fell silent is forgotten");
    watch.forget_counts();
    watch.show(&table.snapshot(watch.now));
});

/// The export that `say` makes of `body`.
fn read(say: u8, body: &[u8]) -> Option<OtlpRequest> {
    let signal = *Signal::ALL.get(usize::from(say & 3))?;
    let (is_gzip, body) = if say & 16 == 0 {
        (say & 4 != 0, Bytes::copy_from_slice(body))
    } else {
        grpc_message(Bytes::copy_from_slice(body), say & 4 != 0).ok()?
    };
    decode(signal, Encoding::Protobuf, is_gzip, &body, LIMIT).ok()
}
