//! Polled pages: all versions of orchestrator-cc, and any JSON by the paths of the input.
//!
//! The first line is the configuration of the fields as JSON; the rest are pages, one after the other.

#![no_main]

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use lookout::ingest::config::SourceConfig;
use lookout::ingest::encode_state;
use lookout::ingest::fuzzing::{http_json, orchestrator_cc_agents, orchestrator_cc_teams};
use lookout::ingest::validate;
use lookout::model::telemetry::Telemetry;
use lookout::model::{Batch, PollReport, SourceError};
use lookout_fuzz::bodies;
use lookout_fuzz::watch::Watch;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (fields, pages) = text.split_once('\n').unwrap_or(("", text));
    let source = source(fields);
    let mut watch = Watch::new(input.len() % 2 == 0);
    for page in bodies(pages.as_bytes()) {
        let Ok(page) = std::str::from_utf8(page) else { return };
        let read = match &source {
            Some(source) => http_json(source, page, watch.now).expect("validated paths compile"),
            None if page.starts_with(' ') => orchestrator_cc_agents(page, watch.now),
            None => orchestrator_cc_teams([page; 4], watch.now),
        };
        check(&read);
        let mut report = PollReport { source: Arc::from("polled"), result: read };
        watch.fleet.poll(watch.now, &mut report);
        watch.evaluate();
        watch.show(&Telemetry::default());
        watch.wait(Duration::from_secs(5));
    }
});

/// The source with these fields; `None` if they are invalid.
fn source(fields: &str) -> Option<SourceConfig> {
    let text = format!(
        r#"{{"name": "polled", "kind": "http-json", "url": "http://127.0.0.1:1/",
            "status_map": {{"busy": "running"}}, "fields": {fields}}}"#
    );
    let source: SourceConfig = serde_json::from_str(&text).ok()?;
    validate(std::slice::from_ref(&source)).is_empty().then_some(source)
}

fn check(read: &Result<Vec<Batch<'static>>, SourceError>) {
    match read {
        Ok(batches) => batches.iter().for_each(|batch| {
            // An encoded batch decodes to the same.
            drop(encode_state(batch));
            let unread = batch.rejected.iter().any(|it| it.list == "agents" && matches!(it.field, "" | "name"));
            assert!(!batch.complete || !unread, "who was not read is not gone");
        }),
        Err(error) => {
            assert!(error.message.len() <= 512 && !error.message.contains(char::is_control), "{error}");
        }
    }
}
